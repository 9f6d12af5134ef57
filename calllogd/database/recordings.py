"""The recordings of the ledger: which are to be fetched, and which are ready.

What becomes of a recording is news like any other and goes through `LedgerOfCalls.accept`; here is only who
fetches it and when.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

from calllogd.database.database import Database
from calllogd.domain.call import CallKey
from calllogd.voip.usecase.fetch_recording import FetchOrder

PAGE = 5000
"""Rows that are looked at in one go, so that other readers do not wait for long."""

_NEXT = (
    "SELECT id, coalesce(fetch_due_at, 0), account_id, call_id, recording_url, fetch_attempts FROM calls"
    " WHERE recording = 'expected' AND recording_url IS NOT NULL ORDER BY fetch_due_at LIMIT 1"
)
_TAKE = "UPDATE calls SET fetch_due_at = ?, fetch_attempts = fetch_attempts + 1 WHERE id = ?"
_ANEW = "UPDATE calls SET fetch_due_at = NULL WHERE recording = 'expected' AND fetch_due_at IS NOT NULL"
_PUT_OFF = (
    "UPDATE calls SET fetch_due_at = ?, fetch_error = ?"
    " WHERE account_id = ? AND call_id = ? AND recording = 'expected' AND fetch_due_at = ?"
)


class LedgerOfRecordings:
    """Recordings in SQLite; implements `FetchOrders` and `CallsWithRecordings`. All raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim_fetch(self, now: float, lease_s: float) -> FetchOrder | None:
        """Return the longest due order, held for `lease_s`; None when none is due.

        Among any number of callers, in any number of processes, one gets the order. A lease that runs out
        makes the order due again, and its attempt counts.
        """
        until = now + lease_s

        def unit(connection: sqlite3.Connection) -> FetchOrder | None:
            row = _next(connection)
            if row is None:
                return None
            number, due_at, account_id, call_id, url, attempts = row
            if due_at > now:
                return None
            connection.execute(_TAKE, (until, number))
            return FetchOrder(key=CallKey(account_id, call_id), url=url, attempts=attempts + 1, until=until)

        # Mostly nothing is due, and then the writer is spared.
        due_at = await self.next_due(now)
        return None if due_at is None or due_at > now else await self._database.write(unit)

    async def put_off(self, order: FetchOrder, due_at: float, reason: str) -> None:
        """Give an order back, to be due at `due_at`; nothing happens when it is held no longer.

        `reason` is what went wrong, for the operator.
        """
        await self._database.write(
            lambda connection: (
                connection.execute(_PUT_OFF, (due_at, reason, *order.key, order.until)).rowcount
            )
        )

    async def fetch_anew(self) -> int:
        """Make all orders due at once; return how many there are.

        For a daemon that starts: those that the one before it held would wait for their leases, and links of
        some services die within minutes. An order that another process holds is fetched twice, which harms
        nobody.
        """
        return await self._database.write(lambda connection: connection.execute(_ANEW).rowcount)

    async def next_due(self, now: float) -> float | None:
        """Return the Unix second at which the next order is due, `now` if one is; None if there is none."""
        row = await self._database.read(_next)
        return None if row is None else max(now, row[1])

    async def ready(self, after: int) -> tuple[Sequence[tuple[CallKey, float]], int | None]:
        """Return the next calls whose recordings are ready, and the Unix seconds of their starts.

        A page may be empty. With it comes what to ask for the following one with, None after the last; begin
        with 0.
        """

        def unit(connection: sqlite3.Connection) -> tuple[Sequence[tuple[CallKey, float]], int | None]:
            rows = connection.execute(
                "SELECT account_id, call_id, coalesce(started_at, arrived_at) FROM calls"
                " WHERE id > ? AND id <= ? AND recording = 'ready'",
                (after, after + PAGE),
            ).fetchall()
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM calls").fetchone()
            page = [(CallKey(account_id, call_id), started_at) for account_id, call_id, started_at in rows]
            return page, after + PAGE if last > after + PAGE else None

        return await self._database.read(unit)


def _next(connection: sqlite3.Connection) -> Sequence[Any] | None:
    """Return the row that is or will be due before all others."""
    row: Sequence[Any] | None = connection.execute(_NEXT).fetchone()
    return row
