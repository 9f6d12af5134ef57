"""Whose telephone it is, as the administrators of the accounts say."""

import sqlite3
from collections.abc import Mapping

from calllogd.database.database import Database


class LedgerOfExtensions:
    """Extensions in SQLite; implements `ExtensionTables`. All methods raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tables(self) -> Mapping[int, Mapping[str, int]]:
        """Return the extensions of each account that has any, with the ids of their users."""

        def unit(connection: sqlite3.Connection) -> Mapping[int, Mapping[str, int]]:
            found: dict[int, dict[str, int]] = {}
            for account_id, extension, user_id in connection.execute(
                "SELECT account_id, extension, user_id FROM extensions ORDER BY account_id, extension"
            ):
                found.setdefault(account_id, {})[extension] = user_id
            return found

        return await self._database.read(unit)

    async def table(self, account_id: int) -> Mapping[str, int]:
        """Return the extensions of one account, with the ids of their users."""
        return await self._database.read(lambda connection: _table(connection, account_id))

    async def replace(self, account_id: int, table: Mapping[str, int]) -> bool:
        """Put a table in the place of the account's, as a whole; return whether it is another.

        Idempotent: the same table again is not written, so nothing is built anew for it.
        """

        def unit(connection: sqlite3.Connection) -> bool:
            if _table(connection, account_id) == table:
                return False
            connection.execute("DELETE FROM extensions WHERE account_id = ?", (account_id,))
            connection.executemany(
                "INSERT INTO extensions (account_id, extension, user_id) VALUES (?, ?, ?)",
                [(account_id, extension, user_id) for extension, user_id in table.items()],
            )
            return True

        return await self._database.write(unit)


def _table(connection: sqlite3.Connection, account_id: int) -> dict[str, int]:
    rows = connection.execute(
        "SELECT extension, user_id FROM extensions WHERE account_id = ? ORDER BY extension", (account_id,)
    )
    return dict(rows.fetchall())
