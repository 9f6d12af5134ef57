"""The composition root: the only module that knows every part and puts them together."""

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from calllogd.config import Account, Settings
from calllogd.console.worker.add_call import AddCallWorker
from calllogd.console.worker.fetch_recording import FetchRecordingWorker
from calllogd.database.database import Database
from calllogd.database.intake import QUEUE
from calllogd.database.recordings import LedgerOfRecordings
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import CallKey
from calllogd.errors import ConfigError
from calllogd.kommo.api import Api
from calllogd.kommo.kommo import Kommo, KommoAccount
from calllogd.kommo.limiter import Limiter
from calllogd.kommo.webhook import WebhookSecrets
from calllogd.kommo.words import Words
from calllogd.queue.queue import Queue
from calllogd.recordings.fetch import FETCH_S, RecordingFetcher
from calllogd.recordings.links import Links
from calllogd.recordings.retention import Retention
from calllogd.recordings.store import RecordingStore
from calllogd.voip.provider.generic import Generic
from calllogd.voip.usecase.add_call import AddCallUseCase, Timing
from calllogd.voip.usecase.fetch_recording import FetchRecordingUseCase
from calllogd.voip.usecase.hear_kommo import HearKommoUseCase
from calllogd.voip.usecase.save_call_event import Provider, SaveCallEventUseCase
from calllogd.voip.usecase.save_call_result import SaveCallResultUseCase
from calllogd.voip.usecase.save_recording import SaveRecordingUseCase
from calllogd.voip.usecase.show_call import ShowCallUseCase

LEASE_MARGIN_S = 60.0
"""How much longer a recording is held than fetching it may take."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything a process works with, open and ready."""

    settings: Settings
    clock: SystemClock
    timing: Timing
    database: Database
    calls: LedgerOfCalls
    queue: Queue
    kommo: Kommo
    worker: AddCallWorker
    recordings: RecordingStore
    with_recordings: LedgerOfRecordings
    links: Links
    fetch_worker: FetchRecordingWorker
    retention: Retention
    save_call_event: SaveCallEventUseCase
    save_recording: SaveRecordingUseCase
    save_call_result: SaveCallResultUseCase
    show_call: ShowCallUseCase
    hear_kommo: HearKommoUseCase
    webhook_secrets: WebhookSecrets
    providers: dict[tuple[str, str], Provider]


@asynccontextmanager
async def ledger(settings: Settings) -> AsyncIterator[LedgerOfCalls]:
    """Open the ledger alone, for commands that only read or mark calls."""
    database = Database(settings.database)
    await database.open()
    try:
        yield LedgerOfCalls(database)
    finally:
        await database.close()


async def webhook_secrets(settings: Settings) -> WebhookSecrets:
    """Return the secrets of the addresses that Kommo calls."""
    database = Database(settings.database)
    await database.open()
    try:
        return await _webhook_secrets(database)
    finally:
        await database.close()


@asynccontextmanager
async def parts(settings: Settings) -> AsyncIterator[Parts]:
    """Build and open all parts; close them in the reverse order. The queue's threads are not started."""
    make_folder(settings)
    async with AsyncExitStack() as opened:
        database = Database(settings.database)
        await database.open()
        opened.push_async_callback(database.close)
        yield await _built(settings, database, opened)


async def _built(settings: Settings, database: Database, opened: AsyncExitStack) -> Parts:
    clock = SystemClock()
    queue = Queue(settings.database, name=QUEUE, threads=settings.workers, writing=database.writing)
    with_recordings = LedgerOfRecordings(database)
    store = RecordingStore(
        settings.recordings.path, settings.recordings.max_bytes, settings.recordings.keep_free_bytes
    )
    await store.open()
    fetcher = RecordingFetcher(store, settings.recordings.allow_private)
    await fetcher.open()
    opened.push_async_callback(fetcher.close)
    links = Links(await with_recordings.own_key("recordings"), settings.http.public_url)
    timing = Timing(request=settings.kommo.timeout)
    kommo = Kommo(kommo_accounts(settings, timing, links.link))
    await kommo.open()
    opened.push_async_callback(kommo.close)
    calls = LedgerOfCalls(database, rung=queue.wake)
    fetch = FetchRecordingUseCase(
        orders=with_recordings,
        calls=calls,
        fetcher=fetcher,
        recordings=store,
        clock=clock,
        lease_s=FETCH_S + LEASE_MARGIN_S,
        jitter=random.random,
    )
    add_call = AddCallUseCase(
        calls=calls,
        crm=kommo,
        recordings=store,
        clock=clock,
        policy=settings.policy,
        timing=timing,
        jitter=random.random,
    )
    return Parts(
        settings=settings,
        clock=clock,
        timing=timing,
        database=database,
        calls=calls,
        queue=queue,
        kommo=kommo,
        worker=AddCallWorker(use_case=add_call, calls=calls, clock=clock, width=settings.workers),
        recordings=store,
        with_recordings=with_recordings,
        links=links,
        fetch_worker=FetchRecordingWorker(use_case=fetch, width=settings.workers),
        retention=Retention(
            store=store,
            with_recordings=with_recordings,
            calls=calls,
            clock=clock,
            keep_days=settings.recordings.keep_days,
        ),
        save_call_event=SaveCallEventUseCase(calls=calls, clock=clock),
        save_recording=SaveRecordingUseCase(calls=calls, recordings=store, clock=clock),
        save_call_result=SaveCallResultUseCase(calls=calls, clock=clock),
        show_call=ShowCallUseCase(calls=calls),
        hear_kommo=HearKommoUseCase(calls=calls, clock=clock),
        webhook_secrets=await _webhook_secrets(database),
        providers=_providers(settings),
    )


async def _webhook_secrets(database: Database) -> WebhookSecrets:
    return WebhookSecrets(await LedgerOfRecordings(database).own_key("kommo-webhook"))


def kommo_accounts(
    settings: Settings, timing: Timing, link: Callable[[CallKey], str]
) -> dict[int, KommoAccount]:
    """Return the configured Kommo accounts, unopened; `link` tells where a recording can be played."""
    total = Limiter(settings.kommo.rate_total, monotonic=time.monotonic)
    return {
        account.id: _kommo_account(account, settings, timing, total, link)
        for account in settings.accounts.values()
    }


def make_folder(settings: Settings) -> None:
    """Make the folder of the ledger if it is not there; raises ConfigError."""
    try:
        settings.database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"database.url: {settings.database.parent} cannot be made: {error.strerror}"
        ) from error


def _kommo_account(
    account: Account, settings: Settings, timing: Timing, total: Limiter, link: Callable[[CallKey], str]
) -> KommoAccount:
    own = Limiter(settings.kommo.rate, monotonic=time.monotonic)
    api = Api(
        base_url=account.base_url,
        access_token=account.access_token,
        limiters=(own, total),
        timeout_s=timing.request,
        turn_s=timing.turn,
    )
    words = Words(
        source=settings.kommo.source, region=account.region, extensions=account.extensions, link=link
    )
    return KommoAccount(api=api, words=words)


def _providers(settings: Settings) -> dict[tuple[str, str], Provider]:
    return {
        ("generic", str(account.id)): Generic(
            account.id, token=account.generic.token, signing_secret=account.generic.signing_secret
        )
        for account in settings.accounts.values()
        if account.generic.token is not None or account.generic.signing_secret is not None
    }
