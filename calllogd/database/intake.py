"""Where a message becomes a row: many at a time, for in a busy second a hundred may be waiting.

The usual message is the first about its call. All of those are written by one statement: every statement is a
hand-over between threads, and they, not the disk, are what bounds the pace.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec

from calllogd.database.journal import count_message, tell, tell_message
from calllogd.database.rows import UPDATE_REPORTED, find_whole, insert, new_row, reported
from calllogd.domain.call import Call, CallKey, CallState
from calllogd.domain.joining import as_part, left_behind, may_be_one, may_give_up, told_of
from calllogd.domain.merge import CallEvent, fold
from calllogd.errors import StorageError
from calllogd.ports import Accepted, Message
from calllogd.voip.task.add_call import AddCallTask

QUEUE = "calllogd"
"""Name of the queue in Huey's table."""

_KNOWN = (
    "SELECT json_group_array(keys.key) FROM json_each(?) AS keys CROSS JOIN calls"
    " WHERE calls.account_id = keys.value ->> 0 AND calls.call_id = keys.value ->> 1"
)
_RING = "INSERT INTO task (queue, data, priority) VALUES (?, ?, 0)"
_FETCH_ANEW = "UPDATE calls SET fetch_due_at = NULL, fetch_attempts = 0, fetch_error = NULL WHERE id = ?"
_GIVE_UP = (
    "UPDATE calls SET part_of = ?1, last_error = 'it is a part of call ' || ?1, due_at = ?2,"
    " recording = 'none', recording_url = NULL, fetch_due_at = NULL WHERE id = ?3"
)
_NEW = Accepted(CallState.PENDING, duplicate=False, new=True)


class Arrival(NamedTuple):
    """A message, the Unix second in which it came, and how long news of a leg wait for others, in seconds."""

    message: Message
    now: float
    leg_wait: float = 0.0


def accept(connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> list[Accepted]:
    """Fold each message into its call, inside the caller's transaction; return what became of each.

    What says something new rings for its call: of new calls the schema sees to that. Messages about the same
    call are folded in the order in which they came.
    """
    keys = [arrival.message.event.key for arrival in arrivals]
    (places,) = connection.execute(_KNOWN, (msgspec.json.encode(keys).decode(),)).fetchone()
    known = {keys[place] for place in msgspec.json.decode(places, type=list[int])}
    first = {key: place for place, key in reversed(list(enumerate(keys))) if key not in known}
    new = set(first.values())
    if new:
        _insert(connection, [arrivals[place] for place in sorted(new)])
    return [
        _joined(connection, arrival, _new(arrival) if place in new else _take(connection, arrival))
        for place, arrival in enumerate(arrivals)
    ]


def accept_new(connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> list[Accepted]:
    """Write messages that are each the first about a call, with a single statement.

    Raises sqlite3.IntegrityError, and has done nothing, when one of them is not, or is about two calls.
    """
    if any(arrival.message.event.moved_from is not None for arrival in arrivals):
        raise sqlite3.IntegrityError("what is about two calls needs a transaction")
    _insert(connection, arrivals)
    return [_new(arrival) for arrival in arrivals]


def _insert(connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> None:
    values = [value for arrival in arrivals for value in new_row(*arrival)]
    connection.execute(insert(len(arrivals)), values)


def ring(connection: sqlite3.Connection, key: CallKey) -> None:
    """Ring for a call, inside the caller's transaction."""
    connection.execute(_RING, (QUEUE, AddCallTask(*key).to_json()))


def _new(arrival: Arrival) -> Accepted:
    result = arrival.message.event.result
    return _NEW if result is None else replace(_NEW, rev=result.rev)


def _take(connection: sqlite3.Connection, arrival: Arrival) -> Accepted:
    """Fold a message into the call that is known, or into the one that it is a part of."""
    key = arrival.message.event.key
    found = find_whole(connection, key)
    if found is None:
        raise StorageError(f"the row of {key} has gone")
    event = arrival.message.event
    return _fold(connection, found, arrival, event if found[1].key == key else as_part(event, found[1].key))


def _joined(connection: sqlite3.Connection, arrival: Arrival, accepted: Accepted) -> Accepted:
    """Make one call of the message's and of that from which its legs were moved, unless each has its own.

    Return what became of the message: `accepted`, or of the call in which everything is now.
    """
    event = arrival.message.event
    if event.moved_from is None:
        return accepted
    earlier, later = find_whole(connection, event.moved_from), find_whole(connection, event.key)
    if earlier is None or later is None or earlier[0] == later[0]:
        return accepted
    kept, given_up = (earlier, later) if may_give_up(later[1]) else (later, earlier)
    if not may_give_up(given_up[1]) or not may_be_one(earlier[1], later[1]):
        _fold(connection, earlier, arrival, left_behind(event, earlier[1].key))
        return accepted
    number, part = given_up
    connection.execute(_GIVE_UP, (kept[1].key.call_id, arrival.now, number))
    tell((connection, number), arrival.now, who="calllogd", what="join", outcome=kept[1].key.call_id)
    ring(connection, part.key)
    # That both are one is news, whatever else it says.
    return replace(_fold(connection, kept, arrival, told_of(part, kept[1].key)), duplicate=False)


def _fold(
    connection: sqlite3.Connection, row: tuple[int, Call], arrival: Arrival, event: CallEvent
) -> Accepted:
    """Fold what a message says into the call of a row."""
    (number, call), (message, now, leg_wait) = row, arrival
    folded = fold(call, event, now, leg_wait)
    rev = None if folded.result is None else folded.result.rev
    if folded is call:
        count_message((connection, number), now, message)
        return Accepted(call.state, duplicate=True, new=False, rev=rev)
    connection.execute(UPDATE_REPORTED, (*reported(folded), number))
    if folded.recording.url != call.recording.url:
        connection.execute(_FETCH_ANEW, (number,))
    tell_message((connection, number), now, message, "changed the call")
    ring(connection, folded.key)
    return Accepted(call.state, duplicate=False, new=False, rev=rev, change=(call, folded))
