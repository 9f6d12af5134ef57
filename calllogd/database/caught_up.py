"""Until when the calls of VoIP services are complete, and imports that have not come to their end."""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from calllogd.database.database import Database

_CLAIM = (
    "UPDATE caught_up SET due_at = ?3 WHERE account_id = ?1 AND service = ?2 AND due_at <= ?4 RETURNING until"
)
_BEGIN = "INSERT OR IGNORE INTO caught_up (account_id, service, until, due_at) VALUES (?, ?, ?, ?)"
_REACHED = (
    "UPDATE caught_up SET until = max(until, ?3), trouble = NULL WHERE account_id = ?1 AND service = ?2"
)
_TROUBLE = "UPDATE caught_up SET trouble = ?3, due_at = ?4 WHERE account_id = ?1 AND service = ?2"

_IMPORT = "account_id = ? AND service = ? AND since = ? AND until = ?"


class Trouble(NamedTuple):
    """A service that cannot be asked for its calls: since when they may be incomplete, and why."""

    account_id: int
    service: str
    until: float
    reason: str


class Range(NamedTuple):
    """What an import is to take: calls of an account's service that began between these Unix seconds."""

    account_id: int
    service: str
    since: float
    until: float


class LedgerOfCaughtUp:
    """How far catching up has come, in SQLite. All methods raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, account_id: int, service: str, now: float, next_at: float) -> float | None:
        """Return until when a service's calls are complete if it is to be asked, else None.

        The next time is `next_at`. Among any number of callers one is told. What happened before a service
        was first claimed is not caught up with.
        """

        def unit(connection: sqlite3.Connection) -> float | None:
            connection.execute(_BEGIN, (account_id, service, now, next_at))
            row = connection.execute(_CLAIM, (account_id, service, next_at, now)).fetchone()
            return None if row is None else float(row[0])

        return await self._database.write(unit)

    async def reached(self, account_id: int, service: str, until: float) -> None:
        """Note that a service's calls are complete until then."""
        await self._database.write(
            lambda connection: connection.execute(_REACHED, (account_id, service, until))
        )

    async def failed(self, account_id: int, service: str, reason: str, due_at: float) -> None:
        """Note why a service could not be asked, and when it is to be asked again."""
        values = (account_id, service, reason, due_at)
        await self._database.write(lambda connection: connection.execute(_TROUBLE, values))

    async def troubles(self) -> Sequence[Trouble]:
        """Return the services that could not be asked the last time."""
        rows = await self._database.read(
            lambda connection: connection.execute(
                "SELECT account_id, service, until, trouble FROM caught_up WHERE trouble IS NOT NULL"
                " ORDER BY account_id, service"
            ).fetchall()
        )
        return [Trouble(*row) for row in rows]

    async def unfinished(self, account_id: int, service: str) -> tuple[Range, float] | None:
        """Return the last import of a service that has not come to its end, and how far it has come."""
        row = await self._database.read(
            lambda connection: connection.execute(
                "SELECT account_id, service, since, until, reached FROM imports"
                " WHERE account_id = ? AND service = ? ORDER BY until DESC LIMIT 1",
                (account_id, service),
            ).fetchone()
        )
        return None if row is None else (Range(*row[:4]), float(row[4]))

    async def came_to(self, asked: Range, reached: float) -> None:
        """Note how far an import has come; one that has come to its end is forgotten."""

        def unit(connection: sqlite3.Connection) -> None:
            connection.execute(f"DELETE FROM imports WHERE {_IMPORT}", asked)
            if reached < asked.until:
                connection.execute("INSERT INTO imports VALUES (?, ?, ?, ?, ?)", (*asked, reached))

        await self._database.write(unit)

    async def give_up(self, account_id: int, service: str) -> None:
        """Forget the imports of a service that have not come to their end."""
        await self._database.write(
            lambda connection: connection.execute(
                "DELETE FROM imports WHERE account_id = ? AND service = ?", (account_id, service)
            )
        )
