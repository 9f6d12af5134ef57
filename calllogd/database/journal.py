"""The journal: every message that arrived about a call and every step that was taken, in order."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from calllogd.domain.call import CallKey
from calllogd.ports import JournalLine, Message

LINES = 200
"""Lines a call's journal has room for; messages that say nothing new are only counted beyond it."""

_TELL = (
    "INSERT INTO journal (call, at, last_at, who, what, outcome, request_id, body)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_TELL_AGAIN = "UPDATE journal SET times = times + 1, last_at = ? WHERE id = ?"

Place = tuple[sqlite3.Connection, int]
"""A connection inside a transaction, and the number of the call's row."""


def tell(
    place: Place, now: float, *, who: str, what: str, outcome: str, request_id: str | None = None
) -> None:
    """Write a line, or count it if it says the same as the one before."""
    connection, number = place
    last = connection.execute(
        "SELECT id, who, what, outcome FROM journal WHERE call = ? ORDER BY id DESC LIMIT 1", (number,)
    ).fetchone()
    if last is not None and last[1:] == (who, what, outcome):
        connection.execute(_TELL_AGAIN, (now, last[0]))
    else:
        connection.execute(_TELL, (number, now, now, who, what, outcome, request_id, None))


def tell_message(place: Place, now: float, message: Message, outcome: str) -> None:
    """Write down a message, word for word."""
    connection, number = place
    row = (number, now, now, message.who, message.what, outcome, None, message.body)
    connection.execute(_TELL, row)


def count_message(place: Place, now: float, message: Message) -> None:
    """Keep a message that says nothing new: by its count if it came before, word for word."""
    connection, number = place
    same = connection.execute(
        "SELECT id FROM journal WHERE call = ? AND what = ? AND body = ? ORDER BY id LIMIT 1",
        (number, message.what, message.body),
    ).fetchone()
    (last, lines) = connection.execute(
        "SELECT max(id), count(*) FROM journal WHERE call = ?", (number,)
    ).fetchone()
    if same is None and lines < LINES:
        tell_message(place, now, message, "nothing new")
    else:
        connection.execute(_TELL_AGAIN, (now, last if same is None else same[0]))


def story(connection: sqlite3.Connection, key: CallKey) -> Sequence[JournalLine]:
    """Return all lines of a call, the earliest first."""
    rows = connection.execute(
        "SELECT at, who, what, outcome, request_id, times, last_at, body FROM journal"
        " WHERE call = (SELECT id FROM calls WHERE account_id = ? AND call_id = ?) ORDER BY id",
        key,
    )
    return [_line(row) for row in rows]


def _line(row: Sequence[Any]) -> JournalLine:
    at, who, what, outcome, request_id, times, last_at, body = row
    text = None if body is None else bytes(body).decode("utf-8", "replace")
    return JournalLine(at, who, what, outcome, request_id, times, last_at, text)
