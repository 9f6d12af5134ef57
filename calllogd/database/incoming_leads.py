"""Incoming leads as the ledger knows them: one number, one of them, whichever call it was made for.

Everything here runs inside the writer's transactions, of which there is one at a time among all processes. A
call's intent to create an incoming lead, once it is on disk, keeps every other call of the number from having
the same intent; the row of the incoming lead, once its answer is on disk, tells them where to go instead.
"""

import sqlite3
from collections.abc import Collection
from dataclasses import replace

from calllogd.database.intake import ring
from calllogd.database.rows import Regions, find_lead, number_of
from calllogd.domain.call import Call, CallKey, Intent, LeadState
from calllogd.errors import NumberTaken

_INTENDED = (
    "SELECT 1 FROM calls WHERE account_id = ? AND number = ? AND id <> ?"
    " AND intent = 'create_incoming_lead' AND due_at IS NOT NULL"
)
_STANDING = "SELECT 1 FROM calls WHERE account_id = ? AND lead_uid = ? AND id <> ?"
_COMING = "SELECT 1 FROM calls WHERE account_id = ? AND number = ? AND intent_lead_uid = ? AND id <> ?"
_ACCEPTED = "SELECT 1 FROM incoming_leads WHERE account_id = ? AND uid = ? AND state = 'accepted'"
_MARK = "UPDATE incoming_leads SET state = ?, known_at = ? WHERE account_id = ? AND uid = ?"
_WAKE_WAITING = (
    "UPDATE calls SET due_at = ?1 WHERE account_id = ?2 AND number = ?3 AND id <> ?4 AND entity_id IS NULL"
    " AND state = 'pending' AND nobody_at IS NOT NULL AND due_at > ?1 AND lease IS NULL RETURNING call_id"
)
_WAKE_NUMBER = (
    "UPDATE calls SET due_at = ?1, appeared_at = ?1, asked = 0 WHERE account_id = ?2 AND number = ?3"
    " AND entity_id IS NULL AND due_at IS NOT NULL RETURNING call_id"
)
_WAKE_DECLINED = (
    "UPDATE calls SET due_at = ?1, appeared_at = ?1 WHERE account_id = ?2"
    " AND (lead_uid = ?3 OR (number = ?4 AND intent_lead_uid = ?3)) RETURNING call_id"
)


def must_be_free(
    connection: sqlite3.Connection, number: int, row: Call, call: Call, regions: Regions
) -> None:
    """Raise NumberTaken if the call is about to do what another call of its number makes wrong.

    `row` is the call as it stands in the ledger, with what is known of its incoming lead by now.
    """
    doubt, lead = call.doubt, row.lead
    if doubt is None:
        return
    account_id, digits = call.key.account_id, number_of(call, regions)
    if doubt.intent is Intent.CREATE_INCOMING_LEAD:
        if connection.execute(_INTENDED, (account_id, digits, number)).fetchone() is not None:
            raise NumberTaken("another call of the number is getting an incoming lead")
        if lead is not None and lead.state is not LeadState.DECLINED and lead != call.lead:
            raise NumberTaken("another call of the number got an incoming lead")
    elif doubt.lead_uid is not None and (
        lead is None or lead.uid != doubt.lead_uid or lead.state is not LeadState.OPEN
    ):
        raise NumberTaken("the number's incoming lead is open no longer")


def write_lead(
    connection: sqlite3.Connection, number: int, row: Call, saved: Call, *, digits: str | None, now: float
) -> Call:
    """Keep what the holder of a call learnt of its incoming lead; return the call with what is known then.

    Rings for calls of the number that have been waiting for it; `digits` are `number_of(saved, …)`.
    """
    account_id = saved.key.account_id
    entry, lead = saved.entry, saved.lead
    before = row.lead
    if lead is not None and before is not None and lead.uid == before.uid and lead.known_at > before.known_at:
        connection.execute(_MARK, (lead.state, lead.known_at, account_id, lead.uid))
    made = entry is not None and entry.lead_uid is not None and row.entry is None and entry.note_id is None
    if made and entry is not None:
        connection.execute(
            "INSERT OR IGNORE INTO incoming_leads"
            " (account_id, uid, number, lead_id, contact_id, state, made_at, known_at)"
            " VALUES (?, ?, ?, ?, ?, 'open', ?, ?)",
            (account_id, entry.lead_uid, digits or "", entry.entity_id, entry.contact_id, now, now),
        )
    intended = row.doubt is not None and row.doubt.intent is Intent.CREATE_INCOMING_LEAD
    if intended and saved.doubt is None:
        woken = connection.execute(_WAKE_WAITING, (now, account_id, digits, number)).fetchall()
        _ring_all(connection, account_id, woken)
    return replace(saved, lead=find_lead(connection, saved, digits))


def close_lead(
    connection: sqlite3.Connection, number: int, row: Call, digits: str | None, now: float
) -> bool:
    """Mark the incoming lead that the call is leaving as declined; False if other calls stand on it."""
    uid = None if row.leaving is None else row.leaving.lead_uid
    account_id = row.key.account_id
    standing = connection.execute(_STANDING, (account_id, uid, number)).fetchone()
    coming = connection.execute(_COMING, (account_id, digits, uid, number)).fetchone()
    accepted = connection.execute(_ACCEPTED, (account_id, uid)).fetchone()
    if uid is None or standing is not None or coming is not None or accepted is not None:
        return False
    connection.execute(_MARK, (LeadState.DECLINED, now, account_id, uid))
    return True


def wake_numbers(
    connection: sqlite3.Connection, account_id: int, numbers: Collection[str], now: float
) -> int:
    """Make the calls of these numbers that have no entry due, and ring for them; return how many."""
    woken = 0
    for digits in sorted(numbers):
        rows = connection.execute(_WAKE_NUMBER, (now, account_id, digits)).fetchall()
        woken += _ring_all(connection, account_id, rows)
    return woken


def sort_lead(connection: sqlite3.Connection, account_id: int, uid: str, state: LeadState, now: float) -> int:
    """Keep that an incoming lead was accepted or declined, and ring for whom that concerns."""
    row = connection.execute(
        "SELECT number FROM incoming_leads WHERE account_id = ? AND uid = ?", (account_id, uid)
    ).fetchone()
    if row is None:
        return 0
    connection.execute(_MARK, (state, now, account_id, uid))
    if state is not LeadState.DECLINED:
        return wake_numbers(connection, account_id, row, now)
    woken = connection.execute(_WAKE_DECLINED, (now, account_id, uid, row[0])).fetchall()
    return _ring_all(connection, account_id, woken)


def _ring_all(connection: sqlite3.Connection, account_id: int, rows: list[tuple[str]]) -> int:
    for (call_id,) in rows:
        ring(connection, CallKey(account_id, call_id))
    return len(rows)
