"""How far files of other programs have been read, kept in the transaction that keeps what was read."""

import sqlite3
from pathlib import Path

from calllogd.database.database import Database
from calllogd.errors import LeaseLost
from calllogd.ports import FilePlace

_SAVE = (
    "INSERT INTO followed (account_id, service, path, inode, position, head_bytes, head)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account_id, service) DO UPDATE SET"
    " path = excluded.path, inode = excluded.inode, position = excluded.position,"
    " head_bytes = excluded.head_bytes, head = excluded.head"
)
_READ = "SELECT path, inode, position, head_bytes, head FROM followed WHERE account_id = ? AND service = ?"


class LedgerOfFollowed:
    """Places in SQLite. All methods raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reached(self, account_id: int, service: str, path: Path) -> FilePlace | None:
        """Return how far the file of an account's service has been read; None if it never was."""
        return await self._database.read(lambda connection: _reached(connection, account_id, service, path))

    async def begin(self, account_id: int, service: str, path: Path, at: FilePlace) -> FilePlace:
        """Return how far the file has been read; `at` if it never was, which is so from then on."""

        def unit(connection: sqlite3.Connection) -> FilePlace:
            known = _reached(connection, account_id, service, path)
            if known is None:
                _save(connection, account_id, service, path, at)
            return known or at

        return await self._database.write(unit)


def move(
    connection: sqlite3.Connection,
    account_id: int,
    service: str,
    path: Path,
    *,
    before: FilePlace,
    to: FilePlace,
) -> None:
    """Note how far a file has been read, inside the caller's transaction.

    Raises LeaseLost when somebody else has read on from `before`.
    """
    if _reached(connection, account_id, service, path) != before:
        raise LeaseLost(f"another process follows {path}")
    _save(connection, account_id, service, path, to)


def _reached(connection: sqlite3.Connection, account_id: int, service: str, path: Path) -> FilePlace | None:
    row = connection.execute(_READ, (account_id, service)).fetchone()
    return None if row is None or row[0] != str(path) else FilePlace(*row[1:])


def _save(connection: sqlite3.Connection, account_id: int, service: str, path: Path, at: FilePlace) -> None:
    connection.execute(_SAVE, (account_id, service, str(path), *at))
