"""Where a message becomes a row: many at a time, for in a busy second a hundred may be waiting.

The usual message is the first about its call. All of those are written by one statement for each table:
every statement is a hand-over between threads, and they, not the disk, are what bounds the pace.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from calllogd.database.journal import count_message, tell_message
from calllogd.database.rows import UPDATE_REPORTED, find, insert, new_row, reported
from calllogd.domain.call import CallKey, CallState
from calllogd.domain.merge import fold
from calllogd.errors import StorageError
from calllogd.ports import Accepted, Message
from calllogd.voip.task.add_call import AddCallTask

QUEUE = "calllogd"
"""Name of the queue in Huey's table."""

_LOOK = (
    "SELECT (SELECT coalesce(max(id), 0) + 1 FROM calls), json_group_array(rows.key)"
    " FROM json_each(?) AS rows CROSS JOIN calls"
    " WHERE calls.account_id = rows.value ->> 0 AND calls.call_id = rows.value ->> 1"
)
"""The next free id, and which of the keys are in the ledger."""

_TELL_MANY = (
    "INSERT INTO journal (call, line, at, last_at, who, what, outcome, body)"
    " SELECT ? + key, 1, value ->> 0, value ->> 0, value ->> 1, value ->> 2, 'new call',"
    " CAST(value ->> 3 AS BLOB) FROM json_each(?)"
)
_RING = "INSERT INTO task (queue, data, priority) VALUES (?, ?, 0)"
_encode = msgspec.json.Encoder().encode


class Arrival(NamedTuple):
    """A message and the Unix second in which it came."""

    message: Message
    now: float


def accept(connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> list[Accepted]:
    """Fold each message into its call, inside the caller's transaction; return what became of each.

    What changes a row rings for it: the schema sees to that. Messages about the same call are folded in the
    order in which they came.
    """
    rows = [new_row(arrival.message.event, arrival.now) for arrival in arrivals]
    number, places = connection.execute(_LOOK, (_text([row[:2] for row in rows]),)).fetchone()
    known = set(msgspec.json.decode(places, type=list[int]))
    seen: set[CallKey] = set()
    first: list[int] = []
    for place, arrival in enumerate(arrivals):
        key = arrival.message.event.key
        if place not in known and key not in seen:
            seen.add(key)
            first.append(place)
    _insert(connection, number, [arrivals[place] for place in first], [rows[place] for place in first])
    new = set(first)
    return [
        Accepted(CallState.PENDING, duplicate=False, new=True)
        if place in new
        else _fold(connection, *arrival)
        for place, arrival in enumerate(arrivals)
    ]


def ring(connection: sqlite3.Connection, key: CallKey) -> None:
    """Ring for a call, inside the caller's transaction."""
    connection.execute(_RING, (QUEUE, AddCallTask(*key).to_json()))


def _insert(
    connection: sqlite3.Connection,
    number: int,
    arrivals: Sequence[Arrival],
    rows: Sequence[tuple[object, ...]],
) -> None:
    """Write calls that nobody has heard of before, with their messages; the first gets the id `number`."""
    if not arrivals:
        return
    told = [
        (now, message.who, message.what, message.body.decode("utf-8", "replace")) for message, now in arrivals
    ]
    values = [value for place, row in enumerate(rows, number) for value in (place, *row)]
    connection.execute(insert(len(rows)), values)
    connection.execute(_TELL_MANY, (number, _text(told)))


def _fold(connection: sqlite3.Connection, message: Message, now: float) -> Accepted:
    """Fold a message into a call that is known."""
    found = find(connection, message.event.key)
    if found is None:
        raise StorageError(f"the row of {message.event.key} has gone")
    number, call = found
    folded = fold(call, message.event, now)
    if folded is call:
        count_message((connection, number), now, message)
        return Accepted(call.state, duplicate=True, new=False)
    connection.execute(UPDATE_REPORTED, (*reported(folded), number))
    tell_message((connection, number), now, message, "changed the call")
    return Accepted(call.state, duplicate=False, new=False)


def _text(rows: Sequence[tuple[object, ...]]) -> str:
    return _encode(rows).decode()
