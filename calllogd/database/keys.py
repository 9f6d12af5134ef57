"""Secrets of the ledger: keys that calllogd made for itself, and the sealing of everything secret anew."""

import secrets
import sqlite3
from collections.abc import Iterator

from calllogd.database.database import Database
from calllogd.database.vault import Vault

KEY_BYTES = 32

_TABLES = ("keys", "accounts", "voip_tokens", "unread")
"""Those with something sealed in them."""


def name_of_key(name: str) -> str:
    """Return what a key of calllogd's own is sealed under."""
    return f"key {name}"


def name_of_tokens(account_id: int) -> str:
    """Return what an account's tokens are sealed under."""
    return f"tokens of account {account_id}"


def name_of_voip_token(account_id: int, provider: str) -> str:
    """Return what a VoIP service's token is sealed under."""
    return f"token of {provider} for account {account_id}"


def name_of_unread(account_id: int, service: str) -> str:
    """Return what messages of a VoIP service that are not understood are sealed under."""
    return f"message of {service} for account {account_id}"


class LedgerOfKeys:
    """Keys in SQLite. All methods raise StorageError."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def open(self) -> None:
        """Open the vault; its key is made when nothing is sealed yet. Raises ConfigError."""
        await self._vault.open(fresh=not await self._database.read(_number_sealed))

    async def own_key(self, name: str) -> bytes:
        """Return the secret key of this name: 32 random bytes, made when it is first asked for.

        Idempotent, also between processes: everybody gets the same. Raises ConfigError when it cannot be
        opened.
        """
        sealed_as = name_of_key(name)

        def unit(connection: sqlite3.Connection) -> bytes:
            made = self._vault.seal(sealed_as, secrets.token_hex(KEY_BYTES))
            connection.execute("INSERT OR IGNORE INTO keys (name, sealed) VALUES (?, ?)", (name, made))
            (sealed,) = connection.execute("SELECT sealed FROM keys WHERE name = ?", (name,)).fetchone()
            return bytes.fromhex(self._vault.unseal(sealed_as, sealed))

        return await self._database.write(unit)

    async def seal_anew(self) -> int:
        """Seal every secret with the first key; return how many there are. Raises ConfigError.

        All or none, and daemons may go on meanwhile.
        """

        def unit(connection: sqlite3.Connection) -> int:
            every = list(_all(connection))
            for update, row, name, sealed in every:
                anew = self._vault.seal(name, self._vault.unseal(name, sealed))
                connection.execute(update, (anew, row))
            return len(every)

        return await self._database.write(unit)

    async def give_up(self) -> int:
        """Drop every secret, for whoever has lost their key; return how many there were.

        Accounts have to be installed again, links to recordings and addresses for Kommo's webhooks are new.
        """

        def unit(connection: sqlite3.Connection) -> int:
            number = _number_sealed(connection)
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table}")
            connection.execute("UPDATE directory SET revision = revision + 1")
            return number

        return await self._database.write(unit)


def _number_sealed(connection: sqlite3.Connection) -> int:
    return sum(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _TABLES)


def _all(connection: sqlite3.Connection) -> Iterator[tuple[str, object, str, str]]:
    """Yield every secret: the statement that changes it, its row, its name, and how it is sealed."""
    for name, sealed in connection.execute("SELECT name, sealed FROM keys"):
        yield "UPDATE keys SET sealed = ? WHERE name = ?", name, name_of_key(name), sealed
    for account_id, sealed in connection.execute("SELECT account_id, tokens FROM accounts"):
        update = "UPDATE accounts SET tokens = ? WHERE account_id = ?"
        yield update, account_id, name_of_tokens(account_id), sealed
    for row, account_id, provider, sealed in connection.execute(
        "SELECT id, account_id, provider, sealed FROM voip_tokens"
    ):
        update = "UPDATE voip_tokens SET sealed = ? WHERE id = ?"
        yield update, row, name_of_voip_token(account_id, provider), sealed
    for row, account_id, service, sealed in connection.execute(
        "SELECT id, account_id, service, sealed FROM unread"
    ):
        yield "UPDATE unread SET sealed = ? WHERE id = ?", row, name_of_unread(account_id, service), sealed
