"""The composition root: the only module that knows every part and puts them together."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from calllogd.config import Account, Settings
from calllogd.console.accounts import accounts_of, kommo_accounts, oauth_of, providers_of
from calllogd.console.ledger import Ledger, ledger
from calllogd.console.worker.add_call import AddCallWorker
from calllogd.console.worker.attribute_calls import AttributeCallsWorker
from calllogd.console.worker.catch_up import CatchUpWorker
from calllogd.console.worker.error_files import ErrorFilesWorker
from calllogd.console.worker.fetch_recording import FetchRecordingWorker
from calllogd.console.worker.follow_cdr import FollowCdrWorker
from calllogd.console.worker.renew_tokens import RenewTokensWorker
from calllogd.database.accounts import Directory, LedgerOfAccounts
from calllogd.database.caught_up import LedgerOfCaughtUp
from calllogd.database.database import Database
from calllogd.database.followed import LedgerOfFollowed
from calllogd.database.intake import QUEUE
from calllogd.database.keys import LedgerOfKeys
from calllogd.database.people import LedgerOfPeople
from calllogd.database.recordings import LedgerOfRecordings
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import Call
from calllogd.kommo.access import token_until
from calllogd.kommo.authentication import KommoAuthentication
from calllogd.kommo.kommo import Kommo
from calllogd.kommo.oauth import KommoOAuth
from calllogd.kommo.users import Users
from calllogd.kommo.webhook import WebhookSecrets
from calllogd.queue.queue import Queue
from calllogd.recordings.convert import Converter
from calllogd.recordings.fetch import FETCH_S, RecordingFetcher
from calllogd.recordings.links import Links
from calllogd.recordings.outside import Outside
from calllogd.recordings.retention import Retention
from calllogd.recordings.store import RecordingStore
from calllogd.voip.provider import Provider
from calllogd.voip.usecase.add_call import AddCallUseCase
from calllogd.voip.usecase.catch_up import CatchUpUseCase
from calllogd.voip.usecase.fetch_recording import FetchRecordingUseCase
from calllogd.voip.usecase.hear_kommo import HearKommoUseCase
from calllogd.voip.usecase.hold import Timing
from calllogd.voip.usecase.save_call_event import SaveCallEventUseCase
from calllogd.voip.usecase.save_call_result import SaveCallResultUseCase
from calllogd.voip.usecase.save_recording import SaveRecordingUseCase
from calllogd.voip.usecase.show_call import ShowCallUseCase

Teller = Callable[[Mapping[int, Mapping[str, int]]], Callable[[Call, Call], None]]

RENEWAL_PATIENCE_S = 2.0
"""How long a renewal of tokens in flight may take once everything else has been closed."""

LISTING_BYTES = 16 * 1024 * 1024
"""How long a VoIP service's answer may be that lists calls: a page of a thousand has more than 1 MiB."""

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
    keys: LedgerOfKeys
    accounts: LedgerOfAccounts
    directory: Directory
    served: Mapping[int, Account]
    calls: LedgerOfCalls
    queue: Queue
    kommo: Kommo
    users: Users
    oauth: KommoOAuth | None
    renew_worker: RenewTokensWorker
    catch_up_worker: CatchUpWorker
    cdr_worker: FollowCdrWorker
    error_files_worker: ErrorFilesWorker
    worker: AddCallWorker
    people: LedgerOfPeople
    attribute_worker: AttributeCallsWorker
    recordings: RecordingStore
    with_recordings: LedgerOfRecordings
    links: Links
    fetch_worker: FetchRecordingWorker
    converter: Converter | None
    retention: Retention
    save_call_event: SaveCallEventUseCase
    save_recording: SaveRecordingUseCase
    save_call_result: SaveCallResultUseCase
    show_call: ShowCallUseCase
    hear_kommo: HearKommoUseCase
    webhook_secrets: WebhookSecrets
    providers: dict[tuple[str, str], Provider]


async def webhook_secrets(book: Ledger) -> WebhookSecrets:
    """Return the secrets of the addresses that Kommo calls; opens the ledger's keys."""
    await book.keys.open()
    return WebhookSecrets(await book.keys.own_key("kommo-webhook"))


@asynccontextmanager
async def parts(settings: Settings, *, told: Teller | None = None) -> AsyncIterator[Parts]:
    """Build and open all parts; close them in the reverse order. The queue's threads are not started.

    `told` makes, of all accounts' extensions, what is called with each call before and after it changed.
    """
    async with AsyncExitStack() as opened:
        book = await opened.enter_async_context(ledger(settings))
        yield await _built(settings, book, opened, told)


async def _built(settings: Settings, book: Ledger, opened: AsyncExitStack, told: Teller | None) -> Parts:
    clock = SystemClock()
    await book.keys.open()
    directory = await book.accounts.directory()
    accounts = accounts_of(settings, directory)
    providers = providers_of(accounts, directory)
    writing = book.database.writing
    queue = Queue(settings.database, name=QUEUE, threads=settings.workers, writing=writing)
    with_recordings = LedgerOfRecordings(book.database)
    store = RecordingStore(
        settings.recordings.path, settings.recordings.max_bytes, settings.recordings.keep_free_bytes
    )
    await store.open()
    fetcher = RecordingFetcher(store, settings.recordings.allow_private, providers=providers, clock=clock)
    await fetcher.open()
    opened.push_async_callback(fetcher.close)
    outside = Outside(settings.recordings.allow_private, answer_bytes=LISTING_BYTES)
    await outside.open()
    opened.push_async_callback(outside.close)
    links = Links(await book.keys.own_key("recordings"), settings.http.public_url)
    timing = Timing(request=settings.kommo.timeout)
    oauth = oauth_of(settings, timing, clock)
    if oauth is not None:
        await oauth.open()
        opened.push_async_callback(oauth.close)
    ways = kommo_accounts(
        settings,
        accounts,
        oauth=oauth,
        grants=book.accounts,
        clock=clock,
        timing=timing,
        link=links.link,
    )
    kommo = Kommo(ways.accounts)
    await kommo.open()
    opened.push_async_callback(kommo.close)
    opened.push_async_callback(_close_all, ways.authentications.values())
    users = Users(ways.accounts)
    opened.push_async_callback(users.close)
    extensions = {account.id: account.extensions for account in accounts.values()}
    calls = LedgerOfCalls(
        book.database,
        regions={account.id: account.region for account in accounts.values()},
        leg_wait=settings.policy.leg_wait,
        rung=queue.wake,
        told=None if told is None else told(extensions),
    )
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
        database=book.database,
        keys=book.keys,
        accounts=book.accounts,
        directory=directory,
        served=accounts,
        calls=calls,
        queue=queue,
        kommo=kommo,
        users=users,
        oauth=oauth,
        catch_up_worker=CatchUpWorker(
            providers=providers,
            use_case=CatchUpUseCase(calls=calls, asker=outside, clock=clock),
            caught_up=LedgerOfCaughtUp(book.database),
            clock=clock,
        ),
        cdr_worker=FollowCdrWorker(
            providers=providers,
            calls=calls,
            followed=LedgerOfFollowed(book.database),
            unread=book.unread,
            clock=clock,
        ),
        error_files_worker=ErrorFilesWorker(
            providers=providers, calls=calls, unread=book.unread, clock=clock
        ),
        renew_worker=RenewTokensWorker(
            list(ways.authentications.values()),
            calls=calls,
            clock=clock,
            ends={account.id: token_until(account.access_token or "") for account in accounts.values()},
        ),
        worker=AddCallWorker(use_case=add_call, calls=calls, clock=clock, width=settings.workers),
        people=book.people,
        attribute_worker=AttributeCallsWorker(
            calls=book.people, extensions=extensions, clock=clock, width=settings.workers
        ),
        recordings=store,
        with_recordings=with_recordings,
        links=links,
        fetch_worker=FetchRecordingWorker(use_case=fetch, width=settings.workers),
        converter=Converter(store, clock) if settings.recordings.convert == "auto" else None,
        retention=Retention(
            store=store,
            with_recordings=with_recordings,
            calls=calls,
            clock=clock,
            keep_days=settings.recordings.keep_days,
        ),
        save_call_event=SaveCallEventUseCase(calls=calls, unread=book.unread, clock=clock),
        save_recording=SaveRecordingUseCase(calls=calls, recordings=store, clock=clock),
        save_call_result=SaveCallResultUseCase(calls=calls, clock=clock),
        show_call=ShowCallUseCase(calls=calls),
        hear_kommo=HearKommoUseCase(calls=calls, clock=clock),
        webhook_secrets=await webhook_secrets(book),
        providers=providers,
    )


async def _close_all(authentications: Iterable[KommoAuthentication]) -> None:
    await asyncio.gather(*(each.close(RENEWAL_PATIENCE_S) for each in authentications))
