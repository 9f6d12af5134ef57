"""The parts that requests use, door by door."""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from calllogd.config.settings import Network
from calllogd.domain.call import Call, CallKey, CallState
from calllogd.kommo.domains import Domains
from calllogd.kommo.oauth import KommoOAuth
from calllogd.kommo.users import Users
from calllogd.kommo.webhook import WebhookSecrets
from calllogd.ports import Clock, JournalLine, Standing, Totals, Unmapped, VoipCalls
from calllogd.recordings.links import Links
from calllogd.recordings.store import RecordingStore
from calllogd.voip.provider import Provider
from calllogd.voip.usecase.assign_extensions import AssignExtensionsUseCase
from calllogd.voip.usecase.hear_kommo import HearKommoUseCase
from calllogd.voip.usecase.install_account import DisableAccountUseCase, InstallAccountUseCase
from calllogd.voip.usecase.save_call_event import SaveCallEventUseCase
from calllogd.voip.usecase.save_call_result import SaveCallResultUseCase
from calllogd.voip.usecase.save_recording import SaveRecordingUseCase
from calllogd.voip.usecase.show_call import ShowCallUseCase
from calllogd.web.client_address import TrustedProxies
from calllogd.web.feed import Feed
from calllogd.web.limits import Limits
from calllogd.web.oauth_state import States
from calllogd.web.tickets import Tickets
from calllogd.web.tokens import WidgetTokens


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
    not outlive it. `standing` returns how each account stands, `unmapped` which extensions nobody has.
    """

    token: str | None = field(repr=False)
    session_key: bytes = field(repr=False)
    public_url: str
    metrics_from: Sequence[Network]
    calls: OperatorCalls
    standing: Callable[[], Awaitable[Sequence[Standing]]]
    unmapped: Callable[[], Awaitable[Sequence[Unmapped]]]
    clock: Clock
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts that requests use.

    `providers` are VoIP services by their name and account id, as both stand in the address, and `addresses`
    those that are called for them where that is not below `public_url`. `ready` raises a CalllogdError when
    calllogd cannot work. `limits` None: everything is taken.
    """

    providers: Mapping[tuple[str, str], Provider]
    save_call_event: SaveCallEventUseCase
    ready: Callable[[], Awaitable[None]]
    public_url: str = ""
    addresses: Mapping[tuple[str, str], str] = field(default_factory=dict)
    recordings: RecordingServices | None = None
    widget: WidgetServices | None = None
    kommo: KommoServices | None = None
    oauth: OAuthServices | None = None
    operators: OperatorServices | None = None
    limits: Limits | None = None
    trusted_proxies: TrustedProxies = field(default_factory=TrustedProxies)
