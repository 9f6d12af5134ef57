"""The ledger's file, open, with its parts beside each other."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from calllogd.config import Settings
from calllogd.database.accounts import LedgerOfAccounts
from calllogd.database.database import Database
from calllogd.database.keys import LedgerOfKeys
from calllogd.database.people import LedgerOfPeople
from calllogd.database.unread import LedgerOfUnread
from calllogd.database.vault import Vault
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What stands in the file. `keys` has to be opened before anything secret is read or written."""

    database: Database
    vault: Vault
    keys: LedgerOfKeys
    calls: LedgerOfCalls
    accounts: LedgerOfAccounts
    unread: LedgerOfUnread
    people: LedgerOfPeople


@asynccontextmanager
async def ledger(settings: Settings, *, rung: Callable[[], None] = lambda: None) -> AsyncIterator[Ledger]:
    """Open the ledger; close it in the end. Raises ConfigError.

    `rung` is called after each commit that put rings into the queue.
    """
    _make_folder(settings)
    database = Database(settings.database)
    await database.open()
    vault = Vault(settings.database_keys, settings.database.with_suffix(".key"))
    try:
        yield Ledger(
            database=database,
            vault=vault,
            keys=LedgerOfKeys(database, vault),
            calls=LedgerOfCalls(database, rung=rung),
            accounts=LedgerOfAccounts(database, vault),
            unread=LedgerOfUnread(database, vault),
            people=LedgerOfPeople(database),
        )
    finally:
        await database.close()


def _make_folder(settings: Settings) -> None:
    try:
        settings.database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"database.url: {settings.database.parent} cannot be made: {error.strerror}"
        ) from error
