"""One worker at a time: how a call is claimed, written and given back, inside the caller's transaction."""

import secrets
import sqlite3
from dataclasses import replace
from typing import NamedTuple

from calllogd.database.incoming_leads import must_be_free, write_lead
from calllogd.database.journal import tell
from calllogd.database.pauses import end_pause, may_be_tried
from calllogd.database.rows import UPDATE_WORKED, Regions, find_with_lead, number_of, worked
from calllogd.domain.call import Call, CallKey, CallState, Doubt, Lease
from calllogd.errors import LeaseLost, StorageError
from calllogd.ports import Note


class Written(NamedTuple):
    """A row before and after it was written, and whether that ended a pause of its account."""

    before: Call
    after: Call
    note: Note | None
    resumed: bool


def claim(
    connection: sqlite3.Connection, key: CallKey, now: float, lease_s: float, regions: Regions
) -> tuple[Call, Call] | None:
    """Hold a call if it may be; return it before and after, None if it may not."""
    lease = Lease(token=secrets.token_hex(8), until=now + lease_s)
    found = find_with_lead(connection, key, regions)
    if found is None:
        return None
    number, call = found
    if call.due_at is None or call.due_at > now or (call.lease is not None and call.lease.until > now):
        return None
    if not may_be_tried(connection, key.account_id, now, lease.until):
        return None
    held = replace(call, lease=lease)
    if call.doubt is not None:
        # Whoever sent the request is gone, and its answer with him.
        held = replace(held, state=CallState.IN_DOUBT)
    _write_worked(connection, number, held, number_of(held, regions), held.due_at)
    return call, held


def save(
    connection: sqlite3.Connection,
    call: Call,
    now: float,
    lease_s: float,
    note: Note | None,
    *,
    regions: Regions,
) -> Written:
    """Write what the holder of a call did with it, and extend the lease; raises LeaseLost and NumberTaken."""
    number, row = must_hold(connection, call, regions)
    lease = replace(_lease(call), until=now + lease_s)
    saved = _as_worked(row, replace(call, lease=lease))
    if _is_new(saved.doubt, row.doubt):
        must_be_free(connection, number, row, call, regions)
    digits = number_of(saved, regions)
    _write_worked(connection, number, saved, digits, row.due_at)
    saved = write_lead(connection, number, row, saved, digits=digits, now=now)
    return Written(row, saved, note, _tell_note(connection, number, call.key, note, now))


def release(
    connection: sqlite3.Connection, call: Call, now: float, note: Note | None, regions: Regions
) -> Written:
    """Write like `save` and give the call back, unless something was reported of it meanwhile."""
    number, row = must_hold(connection, call, regions)
    saved = _as_worked(row, call)
    if _told(row) == _told(call):
        saved = replace(saved, lease=None, due_at=call.due_at)
    digits = number_of(saved, regions)
    _write_worked(connection, number, saved, digits, saved.due_at)
    saved = write_lead(connection, number, row, saved, digits=digits, now=now)
    return Written(row, saved, note, _tell_note(connection, number, call.key, note, now))


def must_hold(connection: sqlite3.Connection, call: Call, regions: Regions) -> tuple[int, Call]:
    """Return the id of a call's row, and the call as it stands there; raises LeaseLost unless it is held."""
    found = find_with_lead(connection, call.key, regions)
    if found is None:
        raise StorageError(f"the row of {call.key} has gone")
    number, row = found
    if row.lease is None or row.lease.token != _lease(call).token:
        raise LeaseLost(f"another worker holds {call.key}")
    return number, row


def _lease(call: Call) -> Lease:
    if call.lease is None:
        raise LeaseLost(f"{call.key} is not held")
    return call.lease


def _is_new(doubt: Doubt | None, before: Doubt | None) -> bool:
    """Tell whether a doubt is an intent that was not on disk before: an old one has been looked up."""
    if doubt is None or doubt.looked_at is not None:
        return False
    return before is None or before.looked_at is not None


def _told(call: Call) -> tuple[object, ...]:
    """Return what was reported of the call."""
    return call.facts, call.legs, call.widget, call.result, call.recording, call.appeared_at, call.revision


def _as_worked(row: Call, call: Call) -> Call:
    """Return the call with its holder's changes, and with what was reported of it meanwhile."""
    return replace(
        call,
        facts=row.facts,
        legs=row.legs,
        heard_at=row.heard_at,
        widget=row.widget,
        result=row.result,
        recording=row.recording,
        appeared_at=row.appeared_at,
        revision=row.revision,
        due_at=row.due_at,
    )


def _write_worked(
    connection: sqlite3.Connection, number: int, call: Call, digits: str | None, due_at: float | None
) -> None:
    lease = call.lease
    connection.execute(
        UPDATE_WORKED,
        (
            *worked(call, digits),
            due_at,
            None if lease is None else lease.token,
            None if lease is None else lease.until,
            number,
        ),
    )


def _tell_note(
    connection: sqlite3.Connection, number: int, key: CallKey, note: Note | None, now: float
) -> bool:
    """Write a step into the journal; return whether it ended a pause of the account."""
    if note is None:
        return False
    tell(
        (connection, number),
        now,
        who="calllogd",
        what=note.what,
        outcome=note.outcome,
        request_id=note.request_id,
    )
    return note.answered and end_pause(connection, key.account_id)
