"""What the handlers work with, exchanged as a whole when the configuration is read again.

The server and its connections outlive a reload. A request that comes while nothing is on the desk waits for
what comes next, so that no sender is turned away.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from aiohttp import web

from calllogd.config.settings import Network
from calllogd.domain.call import Call, CallKey, CallState
from calllogd.errors import Overloaded
from calllogd.kommo.domains import Domains
from calllogd.kommo.oauth import KommoOAuth
from calllogd.kommo.users import Users
from calllogd.kommo.webhook import WebhookSecrets
from calllogd.ports import Clock, JournalLine, Standing, Totals, VoipCalls
from calllogd.recordings.links import Links
from calllogd.recordings.store import RecordingStore
from calllogd.voip.usecase.assign_extensions import AssignExtensionsUseCase
from calllogd.voip.usecase.hear_kommo import HearKommoUseCase
from calllogd.voip.usecase.install_account import DisableAccountUseCase, InstallAccountUseCase
from calllogd.voip.usecase.save_call_event import Provider, SaveCallEventUseCase
from calllogd.voip.usecase.save_call_result import SaveCallResultUseCase
from calllogd.voip.usecase.save_recording import SaveRecordingUseCase
from calllogd.voip.usecase.show_call import ShowCallUseCase
from calllogd.web.client_address import TrustedProxies
from calllogd.web.feed import Feed
from calllogd.web.limits import Limits
from calllogd.web.oauth_state import States
from calllogd.web.tickets import Tickets
from calllogd.web.tokens import WidgetTokens

WAIT_S = 10.0
RETRY_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingServices:
    """The parts that requests about recordings use."""

    store: RecordingStore
    links: Links
    calls: VoipCalls
    save: SaveRecordingUseCase


class OpenCalls(Protocol):
    """The ledger, as managers ask it who come back."""

    async def of_user(
        self, account_id: int, user_id: int, extensions: Collection[str], now: float, limit: int
    ) -> Sequence[Call]:
        """Return a user's calls that want a result, the newest first; `extensions` are his."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorServices:
    """The parts that sessions, the event stream and administrators use; `result_wait_s` is the policy's."""

    users: Users
    tickets: Tickets
    feed: Feed
    extensions: AssignExtensionsUseCase
    open_calls: OpenCalls
    result_wait_s: float
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class WidgetServices:
    """The parts that requests of Kommo's widget use; without a `door` there are no sessions."""

    tokens: WidgetTokens
    save_call_result: SaveCallResultUseCase
    show_call: ShowCallUseCase
    door: DoorServices | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KommoServices:
    """The parts that Kommo's own webhooks use."""

    secrets: WebhookSecrets
    hear: HearKommoUseCase


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthServices:
    """The parts that installations use; `fixed` are accounts whose tokens the configuration has."""

    kommo: KommoOAuth
    domains: Domains
    states: States
    install: InstallAccountUseCase
    disable: DisableAccountUseCase
    client_id: str
    consent_url: str
    public_url: str
    fixed: frozenset[int]


class OperatorCalls(Protocol):
    """The ledger, as operators ask it."""

    async def get(self, key: CallKey) -> Call | None:
        """Return a call, None if there is none."""
        ...

    async def story(self, key: CallKey) -> Sequence[JournalLine]:
        """Return everything that arrived and was done about a call, the earliest first."""
        ...

    async def listing(
        self,
        *,
        account_id: int | None = None,
        state: CallState | None = None,
        phone: str | None = None,
        limit: int,
    ) -> Sequence[Call]:
        """Return the newest calls, at most `limit`, of an account, a state, or with digits of a number."""
        ...

    async def totals(self, now: float) -> Totals:
        """Return the counts of the whole ledger."""
        ...

    async def retry(self, key: CallKey | None, now: float) -> int:
        """Put one call, or with None all failed ones, back to be tried now; return how many were."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorServices:
    """The parts that requests of operators use.

    `token` is admin.token, None: nobody is let in. `session_key` are 32 bytes that sessions are signed with;
    with another key all end. Which ones were logged out is known to this process alone, so the key should
    not outlive it. `standing` returns how each account stands.
    """

    token: str | None = field(repr=False)
    session_key: bytes = field(repr=False)
    public_url: str
    metrics_from: Sequence[Network]
    calls: OperatorCalls
    standing: Callable[[], Awaitable[Sequence[Standing]]]
    clock: Clock
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts that requests use.

    `providers` are VoIP services by their name and account id, as both stand in the address. `ready` raises
    a CalllogdError when calllogd cannot work. `limits` None: everything is taken.
    """

    providers: Mapping[tuple[str, str], Provider]
    save_call_event: SaveCallEventUseCase
    ready: Callable[[], Awaitable[None]]
    recordings: RecordingServices | None = None
    widget: WidgetServices | None = None
    kommo: KommoServices | None = None
    oauth: OAuthServices | None = None
    operators: OperatorServices | None = None
    limits: Limits | None = None
    trusted_proxies: TrustedProxies = field(default_factory=TrustedProxies)


class Desk:
    """Holds the services, and knows how many requests use them."""

    def __init__(self, services: Services | None = None) -> None:
        self._services = services
        self._widget = None if services is None else services.widget
        self._origins = _origins(services)
        self._limits = None if services is None else services.limits
        self._trusted = TrustedProxies() if services is None else services.trusted_proxies
        self._users = 0
        self._there = asyncio.Event()
        self._unused = asyncio.Event()

    def put(self, services: Services) -> None:
        """Give the requests their services."""
        self._services = services
        self._widget = services.widget
        self._origins = _origins(services)
        self._limits = services.limits
        self._trusted = services.trusted_proxies
        self._there.set()

    async def clear(self) -> None:
        """Take the services away, and return when nobody uses them any more."""
        self._services = None
        self._there.clear()
        while self._users:
            self._unused.clear()
            await self._unused.wait()

    @property
    def origins(self) -> frozenset[str]:
        """The pages from which browsers may ask: while there are no services, those of the last ones."""
        return self._origins

    @property
    def widget(self) -> WidgetServices | None:
        """What the widget's open streams look at: while there are no services, that of the last ones."""
        return self._widget

    @property
    def limits(self) -> Limits | None:
        """How much is taken: while there are no services, what the last ones take."""
        return self._limits

    @property
    def trusted_proxies(self) -> TrustedProxies:
        """The proxies in front: while there are no services, those of the last ones."""
        return self._trusted

    async def services(self) -> Self:
        """Return what gives the services when entered: `with await desk.services() as services`.

        Waits until they are there; raises Overloaded when they do not come.
        """
        if self._services is None:
            try:
                async with asyncio.timeout(WAIT_S):
                    while self._services is None:
                        await self._there.wait()
            except TimeoutError:
                raise Overloaded(RETRY_S) from None
        return self

    def __enter__(self) -> Services:
        if self._services is None:
            raise Overloaded(RETRY_S)
        self._users += 1
        return self._services

    def __exit__(self, *exception: object) -> None:
        self._users -= 1
        if self._users == 0:
            self._unused.set()


def _origins(services: Services | None) -> frozenset[str]:
    if services is None or services.widget is None:
        return frozenset()
    return services.widget.tokens.origins


DESK_KEY = web.AppKey("DESK_KEY", Desk)
