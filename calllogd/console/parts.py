"""The composition root: the only module that knows every part and puts them together."""

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from calllogd.config import Account, Settings
from calllogd.console.worker.add_call import AddCallWorker
from calllogd.database.database import Database
from calllogd.database.intake import QUEUE
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.errors import ConfigError
from calllogd.kommo.api import Api
from calllogd.kommo.kommo import Kommo, KommoAccount
from calllogd.kommo.limiter import Limiter
from calllogd.kommo.words import Words
from calllogd.queue.queue import Queue
from calllogd.voip.provider.generic import Generic
from calllogd.voip.usecase.add_call import AddCallUseCase, Timing
from calllogd.voip.usecase.save_call_event import Provider, SaveCallEventUseCase


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything a process works with, open and ready."""

    settings: Settings
    database: Database
    calls: LedgerOfCalls
    queue: Queue
    kommo: Kommo
    worker: AddCallWorker
    save_call_event: SaveCallEventUseCase
    providers: dict[tuple[str, str], Provider]
    clock: SystemClock


@asynccontextmanager
async def ledger(settings: Settings) -> AsyncIterator[LedgerOfCalls]:
    """Open the ledger alone, for commands that only read or mark calls."""
    database = Database(settings.database)
    await database.open()
    try:
        yield LedgerOfCalls(database)
    finally:
        await database.close()


@asynccontextmanager
async def parts(settings: Settings) -> AsyncIterator[Parts]:
    """Build and open all parts; close them in the reverse order. The queue's threads are not started."""
    clock = SystemClock()
    make_folder(settings)
    database = Database(settings.database)
    queue = Queue(settings.database, name=QUEUE, threads=settings.workers, writing=database.writing)
    calls = LedgerOfCalls(database, rung=queue.wake)
    timing = Timing(request=settings.kommo.timeout)
    kommo = Kommo(kommo_accounts(settings, timing))
    use_case = AddCallUseCase(
        calls=calls, crm=kommo, clock=clock, policy=settings.policy, timing=timing, jitter=random.random
    )
    await database.open()
    try:
        await kommo.open()
        yield Parts(
            settings=settings,
            database=database,
            calls=calls,
            queue=queue,
            kommo=kommo,
            worker=AddCallWorker(use_case=use_case, calls=calls, clock=clock, width=settings.workers),
            save_call_event=SaveCallEventUseCase(calls=calls, clock=clock),
            providers=_providers(settings),
            clock=clock,
        )
    finally:
        await kommo.close()
        await database.close()


def kommo_accounts(settings: Settings, timing: Timing) -> dict[int, KommoAccount]:
    """Return the configured Kommo accounts, unopened."""
    total = Limiter(settings.kommo.rate_total, monotonic=time.monotonic)
    return {
        account.id: _kommo_account(account, settings, timing, total) for account in settings.accounts.values()
    }


def make_folder(settings: Settings) -> None:
    """Make the folder of the ledger if it is not there; raises ConfigError."""
    try:
        settings.database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"database.url: {settings.database.parent} cannot be made: {error.strerror}"
        ) from error


def _kommo_account(account: Account, settings: Settings, timing: Timing, total: Limiter) -> KommoAccount:
    own = Limiter(settings.kommo.rate, monotonic=time.monotonic)
    api = Api(
        base_url=account.base_url,
        access_token=account.access_token,
        limiters=(own, total),
        timeout_s=timing.request,
        turn_s=timing.turn,
    )
    words = Words(source=settings.kommo.source, region=account.region, extensions=account.extensions)
    return KommoAccount(api=api, words=words)


def _providers(settings: Settings) -> dict[tuple[str, str], Provider]:
    return {
        ("generic", str(account.id)): Generic(
            account.id, token=account.generic.token, signing_secret=account.generic.signing_secret
        )
        for account in settings.accounts.values()
        if account.generic.token is not None or account.generic.signing_secret is not None
    }
