"""Messages of VoIP services that are authentic, but could not be understood: kept until they can be."""

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from calllogd.database.database import Database
from calllogd.database.keys import name_of_unread
from calllogd.database.vault import Vault
from calllogd.voip.webhook import Webhook

_KEEP = (
    "INSERT INTO unread (account_id, service, digest, reason, sealed, came_at, last_at)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)"
    " ON CONFLICT DO UPDATE SET times = times + 1, last_at = max(last_at, ?6), reason = ?4"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A kept message: of which service of which account, when it came last, and why it is not understood."""

    id: int
    account_id: int
    service: str
    reason: str
    came_at: float
    last_at: float
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadTotal:
    """How many messages of an account's service are kept, when the newest came, and what is wrong with it."""

    account_id: int
    service: str
    number: int
    last_at: float
    reason: str


class LedgerOfUnread:
    """Messages in SQLite, sealed: they may hold secrets. All methods raise StorageError."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def keep(self, account_id: int, name: str, webhook: Webhook, reason: str, now: float) -> None:
        """Keep a message of the VoIP service of that name; on disk when this returns. Idempotent."""
        content = msgspec.json.encode(
            (
                webhook.method,
                webhook.url.partition("?")[2],
                webhook.headers.get("Content-Type", ""),
                webhook.body.decode("latin-1"),
            )
        )
        digest = hashlib.sha256(content).digest()

        def unit(connection: sqlite3.Connection) -> None:
            sealed = self._vault.seal(name_of_unread(account_id, name), content.decode())
            connection.execute(_KEEP, (account_id, name, digest, reason, sealed, now))

        await self._database.write(unit)

    async def totals(self) -> Sequence[UnreadTotal]:
        """Return what is kept, by account and service."""
        rows = await self._database.read(
            lambda connection: connection.execute(
                "SELECT account_id, service, sum(times), max(last_at), reason FROM unread"
                " GROUP BY account_id, service ORDER BY account_id, service"
            ).fetchall()
        )
        return [
            UnreadTotal(account_id=account_id, service=service, number=number, last_at=last_at, reason=reason)
            for account_id, service, number, last_at, reason in rows
        ]

    async def after(self, last: int) -> tuple[Unread, Webhook] | None:
        """Return the first message that was kept after the one with the id `last`, None if there is none."""

        def unit(connection: sqlite3.Connection) -> tuple[Unread, str] | None:
            row = connection.execute(
                "SELECT id, account_id, service, reason, came_at, last_at, times, sealed FROM unread"
                " WHERE id > ? ORDER BY id LIMIT 1",
                (last,),
            ).fetchone()
            if row is None:
                return None
            number, account_id, service, reason, came_at, last_at, times, sealed = row
            unread = Unread(
                id=number,
                account_id=account_id,
                service=service,
                reason=reason,
                came_at=came_at,
                last_at=last_at,
                times=times,
            )
            return unread, self._vault.unseal(name_of_unread(account_id, service), sealed)

        found = await self._database.read(unit)
        if found is None:
            return None
        method, query, content_type, body = msgspec.json.decode(found[1], type=tuple[str, str, str, str])
        return found[0], Webhook(
            method=method,
            url=f"?{query}" if query else "",
            headers={"Content-Type": content_type},
            body=body.encode("latin-1"),
        )

    async def remove(self, number: int) -> None:
        """Keep a message no longer. Idempotent."""
        await self._database.write(
            lambda connection: connection.execute("DELETE FROM unread WHERE id = ?", (number,))
        )
