"""One SQLite file, one writer, and transactions that many requests share."""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from calllogd.database.group_commit import ALONE, Together, Unit, Waiting, commit, settle, share
from calllogd.database.migrations import migrate
from calllogd.errors import ConfigError, StorageError

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

BUSY_S = 10.0
"""How long another process may keep the write lock before a write fails."""

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "cache_size=-8192",
    "wal_autocheckpoint=4000",  # by then `checkpoint` has left little to do
    "temp_store=MEMORY",  # else every statement of many rows makes and removes a temporary file
)


class _Connection(aiosqlite.Connection):
    """aiosqlite's thread and connection, with one hop for a whole transaction.

    Its public methods cost one hop a statement, which is what a group commit is there to save.
    """

    def submit(self, unit: Unit[T]) -> "asyncio.Future[T]":
        """Have `unit` run in the connection's thread, after what was submitted before."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((done, lambda: unit(self._conn)))
        return done


class Database:
    """The ledger's file.

    `writing` is held by whichever thread of this process writes to the file. SQLite's own waiting for the
    write lock sleeps and is unfair, so threads of one process must not meet there; other processes do,
    for at most ten seconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writing = threading.Lock()
        self._waiting: deque[Waiting] = deque()
        self._committing: asyncio.Future[Any] | None = None
        self._writer: _Connection | None = None
        self._reader: _Connection | None = None
        self._keeper: _Connection | None = None
        self._written = False

    async def open(self) -> None:
        """Open the file, creating it or bringing its schema up to date.

        Raises ConfigError when it cannot be used.
        """
        try:
            self._writer = await self._connected()
            await self._writer.submit(self._prepare)
            self._reader = await self._connected()
            await self._reader.submit(lambda connection: connection.execute("PRAGMA query_only=ON"))
            self._keeper = await self._connected()
        except sqlite3.Error as error:
            await self.close()
            raise ConfigError(f"database.url: {self.path} cannot be used: {error}") from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what is waiting and close the file; safe to call twice."""
        while self._committing is not None:
            await asyncio.wait([self._committing])
        for connection in (self._keeper, self._reader, self._writer):
            if connection is not None:
                await connection.close()
        self._keeper = self._reader = self._writer = None

    @property
    def waiting(self) -> int:
        """How many writes are in no transaction yet."""
        return len(self._waiting)

    async def write(self, unit: Unit[T]) -> T:
        """Return what `unit` returns once the transaction that holds it is on disk.

        What comes while a transaction is being written shares the next one; nothing waits for a timer. An
        exception of `unit` undoes that unit alone and is raised here; StorageError says that the file
        could not be written.
        """
        return await self.write_together(ALONE, unit)

    async def write_together(self, together: Together[Item, Result], item: Item) -> Result:
        """Return the item's result once it is on disk, worked on together with others of its kind."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(together, item, done))
        if self._committing is None:
            self._commit_next()
        return await done

    async def read(self, unit: Unit[T]) -> T:
        """Return what `unit` returns, reading what has been committed; raises StorageError."""
        if self._reader is None:
            raise StorageError("the database is closed")
        try:
            return await self._reader.submit(unit)
        except sqlite3.Error as error:
            raise StorageError(f"{self.path.name} cannot be read: {error}") from error

    async def ping(self) -> None:
        """Return if the ledger can be read and written; raises StorageError."""
        await self.read(
            lambda connection: connection.execute("SELECT max(number) FROM migrations").fetchone()
        )
        await self.write(lambda connection: connection.execute("PRAGMA user_version").fetchone())

    async def checkpoint(self) -> None:
        """Move what has been written into the database file, beside the writer; raises StorageError.

        Else a commit would now and then have to do it, and everybody would wait for that commit.
        """
        if self._keeper is None or not self._written:
            return
        self._written = False
        try:
            await self._keeper.submit(
                lambda connection: connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            )
        except sqlite3.Error as error:
            raise StorageError(f"{self.path.name} cannot be checkpointed: {error}") from error

    def _commit_next(self) -> None:
        """Hand what is waiting to the writer's thread, as one transaction."""
        batch = [self._waiting.popleft() for _ in range(share(len(self._waiting)))]
        if self._writer is None:
            settle(batch, StorageError("the database is closed"))
            return
        self._written = True
        self._committing = self._writer.submit(lambda connection: self._transact(connection, batch))
        self._committing.add_done_callback(lambda committed: self._committed(batch, committed))

    def _committed(self, batch: Sequence[Waiting], committed: "asyncio.Future[Any]") -> None:
        """Answer those whose transaction has ended, after the next one is under way."""
        self._committing = None
        if self._waiting:
            self._commit_next()
        if committed.cancelled():
            return
        error = committed.exception()
        if error is None:
            settle(batch, committed.result())
            return
        reason = StorageError(f"{self.path.name} cannot be written: {error}")
        reason.__cause__ = error
        settle(batch, reason)

    def _transact(self, connection: sqlite3.Connection, batch: Sequence[Waiting]) -> list[Any]:
        with self.writing:
            return commit(connection, batch)

    async def _connected(self) -> _Connection:
        # Opened beforehand: aiosqlite would leave a thread behind when it fails.
        opened = await asyncio.to_thread(self._connect)
        connection = _Connection(lambda: opened, iter_chunk_size=64)
        _ = await connection  # aiosqlite's way to start its thread
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
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
