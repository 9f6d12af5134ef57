"""Where a message becomes a row: many at a time, for in a busy second a hundred may be waiting.

The usual message is the first about its call. All of those are written by one statement for each table:
every statement is a hand-over between threads, and they, not the disk, are what bounds the pace.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from calllogd.database.journal import count_message, tell_message
from calllogd.database.rows import INSERT_MANY, UPDATE_REPORTED, find, new_row, reported
from calllogd.domain.call import CallKey, CallState
from calllogd.domain.merge import fold
from calllogd.errors import StorageError
from calllogd.ports import Accepted, Message
from calllogd.voip.task.add_call import AddCallTask

QUEUE = "calllogd"
"""Name of the queue in Huey's table."""

_KNOWN = (
    "SELECT json_group_array(rows.key) FROM json_each(?) AS rows CROSS JOIN calls"
    " WHERE calls.account_id = rows.value ->> 0 AND calls.call_id = rows.value ->> 1"
)
_TELL_MANY = (
    "INSERT INTO journal (call, at, last_at, who, what, outcome, body)"
    " SELECT ? + key, value ->> 0, value ->> 0, value ->> 1, value ->> 2, 'new call', CAST(value ->> 3 AS BLOB)"
    " FROM json_each(?)"
)
_RING = "INSERT INTO task (queue, data, priority) VALUES (?, ?, 0)"
_RING_MANY = (
    "INSERT INTO task (queue, data, priority)"
    " SELECT ?, CAST(json_object('account_id', value ->> 0, 'call_id', value ->> 1) AS BLOB), 0 FROM json_each(?)"
)

_encode = msgspec.json.Encoder().encode


class Arrival(NamedTuple):
    """A message and the Unix second in which it came."""

    message: Message
    now: float


def accept(connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> list[Accepted]:
    """Fold each message into its call and ring for it, inside the caller's transaction; return what became of each.

    Messages about the same call are folded in the order in which they came.
    """
    rows = [new_row(arrival.message.event, arrival.now) for arrival in arrivals]
    known = set(msgspec.json.decode(str(_one(connection, _KNOWN, _text(rows))), type=list[int]))
    seen: set[CallKey] = set()
    first: list[int] = []
    for place, arrival in enumerate(arrivals):
        key = arrival.message.event.key
        if place not in known and key not in seen:
            seen.add(key)
            first.append(place)
    _insert(connection, [arrivals[place] for place in first], [rows[place] for place in first])
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
    connection: sqlite3.Connection, arrivals: Sequence[Arrival], rows: Sequence[tuple[object, ...]]
) -> None:
    """Write calls that nobody has heard of before, with their messages and rings."""
    if not arrivals:
        return
    number = _one(connection, "SELECT coalesce(max(id), 0) + 1 FROM calls")
    told = [
        (now, message.who, message.what, message.body.decode("utf-8", "replace")) for message, now in arrivals
    ]
    row_text = _text(rows)
    connection.execute(INSERT_MANY, (number, row_text))
    connection.execute(_TELL_MANY, (number, _text(told)))
    connection.execute(_RING_MANY, (QUEUE, row_text))


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
    ring(connection, call.key)
    return Accepted(call.state, duplicate=False, new=False)


def _one(connection: sqlite3.Connection, statement: str, *values: object) -> int | str:
    (value,) = connection.execute(statement, values).fetchone()
    return value  # type: ignore[no-any-return]  # a column's type is known to its statement only


def _text(rows: Sequence[tuple[object, ...]]) -> str:
    return _encode(rows).decode()
