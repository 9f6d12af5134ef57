"""One SQLite file, one writer, and transactions that many requests share."""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from calllogd.database.batch import Batches
from calllogd.database.migrations import migrate
from calllogd.errors import ConfigError, StorageError

T = TypeVar("T")
Unit = Callable[[sqlite3.Connection], T]
"""A piece of work inside a transaction. It may be run again after a rollback, so it touches nothing else."""

BATCH = 500
"""Units in one transaction at most: bounds the time a commit can take."""

BUSY_S = 10.0
"""How long another process may keep the write lock before a write fails."""

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-8192")


class _Connection(aiosqlite.Connection):
    """aiosqlite's thread and connection, with one hop for a whole transaction.

    Its public methods cost one hop a statement, which is what a group commit is there to save.
    """

    async def run(self, unit: Unit[T]) -> T:
        """Return what `unit` returns, run in the connection's thread."""
        result: T = await self._execute(unit, self._conn)  # type: ignore[no-untyped-call]
        return result


class Database:
    """The ledger's file.

    `writing` is held by whichever thread of this process writes to the file. SQLite's own waiting for the
    write lock sleeps and is unfair, so threads of one process must not meet there; other processes do,
    for at most ten seconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writing = threading.Lock()
        self._commits: Batches[Unit[Any], Any] = Batches(self._commit, most=BATCH)
        self._writer: _Connection | None = None
        self._reader: _Connection | None = None

    async def open(self) -> None:
        """Open the file, creating it or bringing its schema up to date.

        Raises ConfigError when it cannot be used.
        """
        try:
            self._writer = await self._connected()
            await self._writer.run(self._prepare)
            self._reader = await self._connected()
            await self._reader.run(lambda connection: connection.execute("PRAGMA query_only=ON"))
        except sqlite3.Error as error:
            await self.close()
            raise ConfigError(f"database.url: {self.path} cannot be used: {error}") from error
        except ConfigError:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what is waiting and close the file; safe to call twice."""
        await self._commits.finished()
        for connection in (self._reader, self._writer):
            if connection is not None:
                await connection.close()
        self._reader = self._writer = None

    async def write(self, unit: Unit[T]) -> T:
        """Return what `unit` returns once the transaction that holds it is on disk.

        Units that come while a transaction is being written share the next one. An exception of `unit`
        undoes that unit alone and is raised here; StorageError says that the file could not be written.
        """
        result: T = await self._commits.put(unit)
        return result

    async def read(self, unit: Unit[T]) -> T:
        """Return what `unit` returns, reading what has been committed; raises StorageError."""
        if self._reader is None:
            raise StorageError("the database is closed")
        try:
            return await self._reader.run(unit)
        except sqlite3.Error as error:
            raise StorageError(f"{self.path.name} cannot be read: {error}") from error

    async def ping(self) -> None:
        """Return if the ledger can be read and written; raises StorageError."""
        await self.read(
            lambda connection: connection.execute("SELECT max(number) FROM migrations").fetchone()
        )
        await self.write(lambda connection: connection.execute("PRAGMA user_version").fetchone())

    async def _commit(self, units: Sequence[Unit[Any]]) -> Sequence[Any]:
        """Return the result of each unit, or the exception that undid it; raises StorageError for all."""
        if self._writer is None:
            raise StorageError("the database is closed")
        try:
            return await self._writer.run(lambda connection: self._transact(connection, units))
        except sqlite3.Error as error:
            raise StorageError(f"{self.path.name} cannot be written: {error}") from error

    def _transact(self, connection: sqlite3.Connection, units: Sequence[Unit[Any]]) -> Sequence[Any]:
        """Commit the units in one transaction, leaving out those that fail by themselves.

        An error of the file (full, locked, broken) is nobody's own: it fails them all.
        """
        failed: dict[int, Exception] = {}
        with self.writing:
            while True:
                connection.execute("BEGIN IMMEDIATE")
                results: list[Any] = []
                try:
                    for place, unit in enumerate(units):
                        results.append(failed[place] if place in failed else unit(connection))
                    connection.execute("COMMIT")
                except Exception as error:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    if len(results) == len(units) or isinstance(error, sqlite3.OperationalError):
                        raise
                    failed[len(results)] = error
                else:
                    return results

    async def _connected(self) -> _Connection:
        connection = _Connection(self._connect, iter_chunk_size=64)
        _ = await connection  # aiosqlite's way to open one
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        with self.writing:
            migrate(connection)
