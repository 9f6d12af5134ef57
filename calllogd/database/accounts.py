"""Accounts that were installed by OAuth: their tokens, and which process may renew them."""

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from calllogd.database.database import Database
from calllogd.database.keys import name_of_tokens, name_of_voip_token
from calllogd.database.vault import Vault
from calllogd.domain.account import REFRESH_TOKEN_S, Grant, Installed, TokenPair
from calllogd.log import log_disabled, log_installed
from calllogd.voip.usecase.install_account import Installation

_GRANT = (
    "SELECT base_url, tokens, generation, issued_at, expires_at, state FROM accounts WHERE account_id = ?"
)
_INSTALLED = (
    "SELECT account_id, base_url, name, region, state, installed_at, expires_at, issued_at,"
    " trouble, troubled_at FROM accounts ORDER BY account_id"
)
_INSTALL = (
    "INSERT INTO accounts"
    " (account_id, base_url, name, region, state, installed_at, tokens, issued_at, expires_at)"
    " VALUES (?1, ?2, ?3, ?4, 'installed', ?5, ?6, ?7, ?8)"
    " ON CONFLICT (account_id) DO UPDATE SET base_url = ?2, name = ?3, region = ?4, state = 'installed',"
    " installed_at = ?5, tokens = ?6, issued_at = ?7, expires_at = ?8, generation = generation + 1,"
    " trouble = NULL, troubled_at = NULL, lease = NULL, lease_until = NULL"
)
_DISABLE = "UPDATE accounts SET state = 'disabled' WHERE account_id = ? AND state = 'installed'"
_CLAIM = (
    "UPDATE accounts SET lease = ?, lease_until = ? WHERE account_id = ? AND generation = ?"
    " AND state = 'installed' AND (lease_until IS NULL OR lease_until <= ?)"
)
_RENEWED = (
    "UPDATE accounts SET base_url = ?, tokens = ?, issued_at = ?, expires_at = ?,"
    " generation = generation + 1, trouble = NULL, troubled_at = NULL, lease = NULL, lease_until = NULL"
    " WHERE account_id = ? AND generation = ?"
)
_RELEASE = (
    "UPDATE accounts SET lease = NULL, lease_until = NULL, trouble = coalesce(?1, trouble),"
    " troubled_at = CASE WHEN ?1 IS NULL THEN troubled_at ELSE coalesce(troubled_at, ?2) END"
    " WHERE account_id = ?3 AND lease = ?4"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoipToken:
    """A bearer token of a VoIP service, taken until Unix second `until`, None: for good."""

    account_id: int
    provider: str
    token: str = field(repr=False)
    until: float | None


@dataclass(frozen=True, slots=True)
class Directory:
    """Everything about accounts that stands in the ledger, as of one moment."""

    revision: int
    installed: Mapping[int, Installed]
    extensions: Mapping[int, Mapping[str, int]]
    voip_tokens: Sequence[VoipToken]


class LedgerOfAccounts:
    """Accounts in SQLite; implements `Grants` and `Accounts`. All methods raise StorageError."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def revision(self) -> int:
        """Return a number that grows whenever `directory` changes."""
        return await self._database.read(_revision)

    async def directory(self) -> Directory:
        """Return what stands in the ledger about accounts; raises ConfigError if it cannot be opened."""
        return await self._database.read(self._directory)

    async def grant(self, account_id: int) -> Grant | None:
        """Return the account's tokens, None if it was never installed; raises ConfigError."""

        def unit(connection: sqlite3.Connection) -> Grant | None:
            row = connection.execute(_GRANT, (account_id,)).fetchone()
            if row is None:
                return None
            base_url, sealed, generation, issued_at, expires_at, state = row
            tokens = json.loads(self._vault.unseal(name_of_tokens(account_id), sealed))
            pair = TokenPair(
                access_token=tokens["access"],
                refresh_token=tokens["refresh"],
                issued_at=issued_at,
                expires_at=expires_at,
            )
            disabled = state == "disabled"
            return Grant(
                account_id=account_id,
                base_url=base_url,
                pair=pair,
                generation=generation,
                disabled=disabled,
            )

        return await self._database.read(unit)

    async def install(self, installation: Installation, now: float) -> bool:
        """Keep an account's first or newer tokens; return whether it was not installed before."""
        one = installation

        def unit(connection: sqlite3.Connection) -> bool:
            row = connection.execute("SELECT state FROM accounts WHERE account_id = ?", (one.account_id,))
            before = row.fetchone()
            sealed = self._sealed(one.account_id, one.pair)
            times = (one.pair.issued_at, one.pair.expires_at)
            connection.execute(
                _INSTALL, (one.account_id, one.base_url, one.name, one.region, now, sealed, *times)
            )
            # Whatever the account was paused for may be over.
            connection.execute(
                "UPDATE pauses SET probe_at = ?, tried_at = 0, probes = 0 WHERE account_id = ?",
                (now, one.account_id),
            )
            return before is None or before[0] == "disabled"

        new = await self._database.write(unit)
        log_installed(one.account_id, one.base_url)
        return new

    async def disable(self, account_id: int) -> bool:
        """Mark an account as no longer installed; return whether it was. Its calls and tokens stay."""
        was = await self._database.write(
            lambda connection: connection.execute(_DISABLE, (account_id,)).rowcount > 0
        )
        if was:
            log_disabled(account_id)
        return was

    async def claim_refresh(self, grant: Grant, now: float, lease_s: float) -> str | None:
        """Return a lease to renew this very pair; None if another holds it, or the pair is not in force.

        Among any number of callers, in any number of processes, one gets it.
        """
        lease = secrets.token_hex(8)
        values = (lease, now + lease_s, grant.account_id, grant.generation, now)
        claimed = await self._database.write(lambda connection: connection.execute(_CLAIM, values).rowcount)
        return lease if claimed else None

    async def renewed(self, grant: Grant, base_url: str, pair: TokenPair) -> bool:
        """Put a pair in place of the one it was got for; False if another is in force meanwhile."""

        def unit(connection: sqlite3.Connection) -> bool:
            sealed = self._sealed(grant.account_id, pair)
            values = (base_url, sealed, pair.issued_at, pair.expires_at, grant.account_id, grant.generation)
            return connection.execute(_RENEWED, values).rowcount > 0

        return await self._database.write(unit)

    async def release_refresh(self, grant: Grant, lease: str, trouble: str | None, now: float) -> None:
        """Give a lease back; `trouble` is why the pair could not be renewed, None if it may be yet."""
        values = (trouble, now, grant.account_id, lease)
        await self._database.write(lambda connection: connection.execute(_RELEASE, values).rowcount)

    async def add_voip_token(self, account_id: int, provider: str, now: float, keep_s: float) -> str:
        """Return a new token of a VoIP service; those before it are good for `keep_s` more seconds."""
        token = secrets.token_urlsafe(24)

        def unit(connection: sqlite3.Connection) -> str:
            connection.execute("DELETE FROM voip_tokens WHERE until <= ?", (now,))
            connection.execute(
                "UPDATE voip_tokens SET until = min(coalesce(until, ?1), ?1)"
                " WHERE account_id = ?2 AND provider = ?3",
                (now + keep_s, account_id, provider),
            )
            sealed = self._vault.seal(name_of_voip_token(account_id, provider), token)
            connection.execute(
                "INSERT INTO voip_tokens (account_id, provider, sealed, made_at) VALUES (?, ?, ?, ?)",
                (account_id, provider, sealed, now),
            )
            return token

        return await self._database.write(unit)

    def _sealed(self, account_id: int, pair: TokenPair) -> str:
        tokens = json.dumps({"access": pair.access_token, "refresh": pair.refresh_token})
        return self._vault.seal(name_of_tokens(account_id), tokens)

    def _directory(self, connection: sqlite3.Connection) -> Directory:
        # First: what changes while the rest is read is read again for its newer revision.
        revision = _revision(connection)
        extensions: dict[int, dict[str, int]] = {}
        for account_id, extension, user_id in connection.execute(
            "SELECT account_id, extension, user_id FROM extensions ORDER BY account_id, extension"
        ):
            extensions.setdefault(account_id, {})[extension] = user_id
        installed = [_installed(row) for row in connection.execute(_INSTALLED)]
        tokens = [
            VoipToken(
                account_id=account_id,
                provider=provider,
                token=self._vault.unseal(name_of_voip_token(account_id, provider), sealed),
                until=until,
            )
            for account_id, provider, sealed, until in connection.execute(
                "SELECT account_id, provider, sealed, until FROM voip_tokens ORDER BY id DESC"
            )
        ]
        return Directory(revision, {one.account_id: one for one in installed}, extensions, tokens)


def _revision(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT revision FROM directory").fetchone()[0])


def _installed(row: Sequence[Any]) -> Installed:
    account_id, base_url, name, region, state, installed_at, expires_at, issued_at, trouble, troubled_at = row
    return Installed(
        account_id=account_id,
        base_url=base_url,
        name=name,
        region=region,
        disabled=state == "disabled",
        installed_at=installed_at,
        expires_at=expires_at,
        dead_at=max(expires_at, issued_at + REFRESH_TOKEN_S),
        trouble=trouble,
        troubled_at=troubled_at,
    )
