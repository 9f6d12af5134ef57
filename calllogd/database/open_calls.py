"""The calls of one user that still want a result.

Found by an index that holds calls without a result by whose they are. It leaves out whatever has just
arrived, so that accepting does not pay for it. In an account that is paused calls get no further, so the
newest of those are looked through as well.
"""

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from calllogd.database.database import Database
from calllogd.database.rows import SELECT, call_of
from calllogd.domain.call import Call, CallState

FRESH_S = 86_400.0
"""How long after its end a call without a result is worth asking about."""

LONGEST_S = 43_200.0
"""A call that is announced when it begins ends at most so much later."""

SEEN_MOST = 500
"""Calls that are looked at for one user, the newest: he may have declined to say anything of most."""

# Whose a call is, as `user_of` says; and as in the schema, word by word: else its index is not used.
_WHOSE = (
    "CASE WHEN person_weight IS NULL THEN widget ->> '$.facts.person[2]'"
    " WHEN user_id > 0 THEN user_id ELSE extension END"
)
_WORKED_ON = "(number IS NOT NULL OR state <> 'pending')"

OPEN = (
    f"{SELECT} WHERE account_id = ?1 AND {_WHOSE} = ?2 AND arrived_at > ?3"
    f" AND result IS NULL AND {_WORKED_ON} ORDER BY arrived_at DESC LIMIT ?4"
)
UNTOUCHED = (
    f"{SELECT} WHERE id IN (SELECT id FROM calls WHERE account_id = ?1"
    " AND CASE WHEN entity_id IS NOT NULL THEN 2 WHEN nobody_at IS NOT NULL AND direction = 'inbound' THEN 0"
    " ELSE 1 END = 1 AND due_at <= ?5 ORDER BY due_at DESC LIMIT ?4)"
    f" AND {_WHOSE} = ?2 AND arrived_at > ?3 AND result IS NULL AND NOT {_WORKED_ON}"
)


class LedgerOfOpenCalls:
    """Calls that wait for their managers, in SQLite; raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_user(
        self, account_id: int, user_id: int, extensions: Collection[str], now: float, limit: int
    ) -> Sequence[Call]:
        """Return a user's calls that want a result, the newest first; `extensions` are his."""

        def unit(connection: sqlite3.Connection) -> Sequence[Call]:
            found: dict[int, Call] = {}
            for whose in (user_id, *extensions):
                values = (account_id, whose, now - FRESH_S - LONGEST_S, SEEN_MOST, now)
                found.update(_calls(connection, OPEN, values[:4]))
                found.update(_calls(connection, UNTOUCHED, values))
            return list(found.values())

        calls = [call for call in await self._database.read(unit) if wants_result(call, now)]
        return sorted(calls, key=lambda call: call.started_at, reverse=True)[:limit]


def wants_result(call: Call, now: float) -> bool:
    """Tell whether a manager may still be asked about a call."""
    if call.result is not None or call.widget.skipped or call.state is CallState.IGNORED:
        return False
    if call.state is CallState.AWAITING_RESULT:
        return True
    return call.known.outcome is not None and now - call.ended_at < FRESH_S


def _calls(connection: sqlite3.Connection, question: str, values: Sequence[Any]) -> dict[int, Call]:
    return dict(map(call_of, connection.execute(question, values)))
