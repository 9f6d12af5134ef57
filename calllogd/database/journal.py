"""The journal: every message that arrived about a call and every step that was taken, in order."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from calllogd.domain.call import CallKey
from calllogd.ports import JournalLine, Message

LINES = 200
"""Lines a call's journal has room for; messages that say nothing new are only counted beyond it."""

_TELL = (
    "INSERT INTO journal (call, line, at, last_at, who, what, outcome, request_id, body)"
    " SELECT ?1, 1 + coalesce(max(line), 0), ?2, ?2, ?3, ?4, ?5, ?6, ?7 FROM journal WHERE call = ?1"
)
_TELL_AGAIN = "UPDATE journal SET times = times + 1, last_at = ? WHERE call = ? AND line = ?"

Place = tuple[sqlite3.Connection, int]
"""A connection inside a transaction, and the number of the call's row."""


def tell(
    place: Place, now: float, *, who: str, what: str, outcome: str, request_id: str | None = None
) -> None:
    """Write a line, or count it if it says the same as the one before."""
    connection, number = place
    last = connection.execute(
        "SELECT line, who, what, outcome FROM journal WHERE call = ? ORDER BY line DESC LIMIT 1", (number,)
    ).fetchone()
    if last is not None and last[1:] == (who, what, outcome):
        connection.execute(_TELL_AGAIN, (now, number, last[0]))
    else:
        connection.execute(_TELL, (number, now, who, what, outcome, request_id, None))


def tell_message(place: Place, now: float, message: Message, outcome: str) -> None:
    """Write down a message, word for word."""
    connection, number = place
    connection.execute(_TELL, (number, now, message.who, message.what, outcome, None, message.body))


def count_message(place: Place, now: float, message: Message) -> None:
    """Keep a message that says nothing new: by its count if it came before, word for word."""
    connection, number = place
    same = connection.execute(
        "SELECT line FROM journal WHERE call = ? AND what = ? AND body = ? ORDER BY line LIMIT 1",
        (number, message.what, message.body),
    ).fetchone()
    (last,) = connection.execute("SELECT max(line) FROM journal WHERE call = ?", (number,)).fetchone()
    if same is None and last < LINES:
        tell_message(place, now, message, "nothing new")
    else:
        connection.execute(_TELL_AGAIN, (now, number, last if same is None else same[0]))


def story(connection: sqlite3.Connection, key: CallKey) -> Sequence[JournalLine]:
    """Return all lines of a call, the earliest first."""
    rows = connection.execute(
        "SELECT at, who, what, outcome, request_id, times, last_at, body FROM journal"
        " WHERE call = (SELECT id FROM calls WHERE account_id = ? AND call_id = ?) ORDER BY line",
        key,
    )
    return [_line(row) for row in rows]


def _line(row: Sequence[Any]) -> JournalLine:
    at, who, what, outcome, request_id, times, last_at, body = row
    text = None if body is None else bytes(body).decode("utf-8", "replace")
    return JournalLine(at, who, what, outcome, request_id, times, last_at, text)
