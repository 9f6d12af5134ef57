"""Calls that are nobody's: which extensions they name, and those that have a user by now."""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

from calllogd.database.database import Database
from calllogd.database.journal import tell
from calllogd.domain.user import MAPPED_FOR_S
from calllogd.ports import Unmapped

EXTENSIONS_MOST = 1000
"""Extensions that are looked at, for a VoIP service may send something else as such."""

# Word by word as in the schema: else the index `calls_of_nobody` is not used.
_NOBODYS = (
    "written_user IS NULL AND extension <> '' AND user_id = 0 AND state <> 'pending' AND state <> 'ignored'"
)

_NEXT = (
    f"SELECT account_id, extension FROM calls WHERE {_NOBODYS} AND (account_id, extension) > (?, ?)"
    " ORDER BY account_id, extension LIMIT 1"
)
_COUNT = (
    f"SELECT count(*) FROM calls WHERE {_NOBODYS} AND account_id = ? AND extension = ? AND arrived_at >= ?"
)

# In the order of their numbers, so that the last one is where the next look goes on.
_FOUND = (
    "SELECT calls.id FROM json_each(?) AS given CROSS JOIN calls"
    f" WHERE {_NOBODYS} AND calls.account_id = ? AND calls.extension = given.value AND calls.arrived_at >= ?"
    " AND calls.state = 'logged' AND calls.id > ? ORDER BY calls.id LIMIT ?"
)
_WAITING = (
    "SELECT count(*) FROM (SELECT 1 FROM calls WHERE account_id = ?"
    " AND CASE WHEN entity_id IS NOT NULL THEN 2"
    " WHEN nobody_at IS NOT NULL AND direction = 'inbound' THEN 0 ELSE 1 END = 2"
    " AND due_at <= ? LIMIT ?)"
)
# What is not up to date is due by itself, and gets its user when it is written.
_DUE = (
    "UPDATE calls SET revision = revision + 1, due_at = ?"
    f" WHERE id = ? AND {_NOBODYS} AND state = 'logged' AND written_revision = revision RETURNING extension"
)


class LedgerOfPeople:
    """Whose calls are whose, in SQLite; implements `NobodysCalls`. All methods raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unmapped(self, tables: Mapping[int, Mapping[str, int]], now: float) -> Sequence[Unmapped]:
        """Return the extensions that calls of the last 30 days name and nobody has, the most frequent first.

        `tables` are the extensions of each account. Calls that are still to be logged are not counted, nor
        those that policy leaves out, such as internal ones, nor those that have a user in Kommo, although
        nobody has their extension any more.
        """

        def unit(connection: sqlite3.Connection) -> Sequence[Unmapped]:
            found = []
            for account_id, extension in islice(_named(connection), EXTENSIONS_MOST):
                if extension not in tables.get(account_id, {}):
                    values = (account_id, extension, now - MAPPED_FOR_S)
                    (number,) = connection.execute(_COUNT, values).fetchone()
                    found.append(Unmapped(account_id, extension, number))
            return [one for one in found if one.calls]

        found = await self._database.read(unit)
        return sorted(found, key=lambda one: (-one.calls, one.account_id, one.extension))

    async def attribute(
        self,
        account_id: int,
        extensions: Collection[str],
        *,
        since: float,
        now: float,
        after: int,
        limit: int,
    ) -> int | None:
        """Make logged calls due that are nobody's, and have one of these extensions; see `NobodysCalls`."""

        def look(connection: sqlite3.Connection) -> tuple[int, Sequence[int]]:
            (waiting,) = connection.execute(_WAITING, (account_id, now, limit)).fetchone()
            values = (json.dumps(list(extensions)), account_id, since, after, limit - waiting)
            return limit - waiting, [number for (number,) in connection.execute(_FOUND, values)]

        room, found = await self._database.read(look)
        if found:
            await self._database.write(lambda connection: _make_due(connection, found, now))
        if room == 0:
            return after
        return found[-1] if found else None


def _named(connection: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    """Return the extensions that nobody's calls name, one seek of the index each, however many those are."""
    row = (-1, "")
    while (row := connection.execute(_NEXT, row).fetchone()) is not None:
        yield row


def _make_due(connection: sqlite3.Connection, found: Sequence[int], now: float) -> None:
    for number in found:
        row = connection.execute(_DUE, (now, number)).fetchone()
        if row is not None:
            tell((connection, number), now, who="calllogd", what="attribute", outcome=f"extension {row[0]}")
