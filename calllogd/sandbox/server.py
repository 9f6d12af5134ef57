"""The stand-in as an HTTP server: tokens, the rate limit, latency, faults, and the record of what came."""

import asyncio
import secrets
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from calllogd.sandbox import consent, control
from calllogd.sandbox.api import UNAUTHORIZED, Answer, ApiRequest
from calllogd.sandbox.delivery import DELIVERIES, TOO_MANY, Exchange, error, response
from calllogd.sandbox.exchange import Recordings
from calllogd.sandbox.faults import Fault, FaultKind, FaultScript
from calllogd.sandbox.hooks import Hooks
from calllogd.sandbox.integration import Integration
from calllogd.sandbox.oauth import SUBDOMAIN_PATH, TOKENS_PATH, OAuth, elsewhere
from calllogd.sandbox.routes import answer as answer_of
from calllogd.sandbox.rules import Rules
from calllogd.sandbox.world import Account

API: Final = "/api/v4"
EXCHANGE: Final = "/_exchange"
RATE: Final = 7
RATE_WINDOW_S: Final = 1.0
RETRY_AFTER_S: Final = 1


@dataclass(slots=True, kw_only=True)
class RequestRecord:
    """One request to the API or to OAuth; `status` is what was answered, None while and if nothing is."""

    at: float
    method: str
    path: str
    """After /api/v4, or of OAuth the whole one; with the slash in front and without the query."""
    account_id: int | None
    """None: the token, or code, is nobody's."""
    request_id: str
    """What X-Request-Id said."""
    status: int | None = None
    fault: str | None = None


class SandboxKommo(OAuth):
    """Kommo for tests, demonstrations and integrators without an account: many accounts behind one address.

    `rate`: requests in any one second for each account, 0 for no limit. `search_lag`, `list_lag`: seconds
    until what was written is found by searches, shown by lists. `latency`: seconds before each answer;
    what was asked is done before it, even if the client leaves meanwhile. Faults keep their own time.
    `rules`: how it behaves where Kommo's behaviour is not known; may be changed at any time.

    `integration`: what may be let into the accounts by OAuth; see `OAuth` for all that comes with it.

    Below /_exchange it is a VoIP service's recording server as well.
    """

    def __init__(
        self,
        *,
        rate: int = RATE,
        search_lag: float = 0.0,
        list_lag: float = 0.0,
        latency: float | Callable[[], float] = 0.0,
        now: Callable[[], float] = time.time,
        rules: Rules | None = None,
        integration: Integration | None = None,
    ) -> None:
        super().__init__(now=now, rules=Rules() if rules is None else rules, integration=integration)
        self.rate = rate
        self.latency = latency
        self.faults: Final = FaultScript()
        self.hooks: Final = Hooks(now)
        self.recordings: Final = Recordings(now=now)
        self.requests: list[RequestRecord] = []
        self.counters: Counter[str] = Counter()
        """`requests`, `answered`, `rate_limited`, `unauthorized`, `elsewhere` (at a host that is not the
        account's), `late_commits`, and `fault:<kind>`."""
        self._search_lag = search_lag
        self._list_lag = list_lag
        self._by_token: dict[str, Account] = {}
        self._admitted: dict[int, deque[float]] = {}
        self._late: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    @property
    def accounts(self) -> list[Account]:
        """Every account there is."""
        return list(self._accounts.values())

    def account(self, account_id: int, *, token: str | None = None) -> Account:
        """The account with this id, made when it is named first.

        `token` becomes its only token; a new account that is given none makes one up.
        """
        account = self._accounts.get(account_id)
        if account is None:
            account = self._accounts[account_id] = Account(
                account_id,
                token=token or secrets.token_urlsafe(32),
                now=self._now,
                search_lag=self._search_lag,
                list_lag=self._list_lag,
                rules=self.rules,
            )
            self.hooks.watch(account)
        if token is not None:
            account.token = token
        return account

    def hook(self, account_id: int, url: str | None) -> None:
        """Send the account's webhooks to this address, or to none. Raises ValueError for a bad one."""
        self.hooks.set(account_id, url)

    def recording_url(self, name: str) -> str:
        """Address of one recording of the VoIP service, for instance of `c1.mp3`."""
        return f"{self.url}{EXCHANGE}/recordings/{name}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one. Raises OSError when the address cannot be had."""
        self._stopping.clear()
        app = web.Application()
        app.router.add_route("*", API + "/{path:.*}", self._serve_api)
        for path in (TOKENS_PATH, SUBDOMAIN_PATH):
            app.router.add_route("*", path, self._serve_oauth)
        consent.add_routes(app, self)
        control.add_routes(app, self)
        self.recordings.add_routes(app, EXCHANGE)
        await self._listener.start(app, host, port)
        self.hooks.open()

    async def stop(self) -> None:
        """Close all connections, drop late commits that are not due; the world stays to be looked at.

        Webhooks that are under way are dropped as well.
        """
        self._stopping.set()
        for task in self._late:
            task.cancel()
        await self.late_commits()
        await self._listener.stop()
        await self.hooks.close()

    async def late_commits(self) -> None:
        """Return when every late commit that was due to come has come. Raises what went wrong in one."""
        waited_for = set(self._late)
        results = await asyncio.gather(*waited_for, return_exceptions=True)
        self._late -= waited_for
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve_api(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request, "/" + request.match_info["path"])
        token = _bearer(request)
        pair = self._grants.opened_by(token)
        account = self._owner_of(token) if pair is None else self._accounts[pair.account_id]
        if account is None:
            self.counters["unauthorized"] += 1
            return await self._answered(request, asked, None, error(UNAUTHORIZED))
        owner = account

        def commit() -> Answer:
            if pair is not None:
                self._grants.use(pair)
            return answer_of(owner, asked)

        refused = self._elsewhere(owner, request) or self._over_rate(owner.id)
        return await self._answered(request, asked, owner, refused or commit)

    async def _serve_oauth(self, request: web.Request) -> web.StreamResponse:
        if self.integration is None:
            raise web.HTTPNotFound
        asked = await _read(request, request.path)
        account = self._owner_of_grant(request, asked)
        refused = None
        if asked.path == TOKENS_PATH and account is not None:
            refused = self._elsewhere(account, request)
        return await self._answered(
            request, asked, account, refused or (lambda: self._oauth_answer(request, asked))
        )

    async def _answered(
        self,
        request: web.Request,
        asked: ApiRequest,
        account: Account | None,
        do: Answer | Callable[[], Answer],
    ) -> web.StreamResponse:
        """Record the request, and refuse it or do what it asks, as well as its fault allows."""
        record = RequestRecord(
            at=self._now(),
            method=asked.method,
            path=asked.path,
            account_id=None if account is None else account.id,
            request_id=uuid.uuid4().hex,
        )
        self.requests.append(record)
        self.counters["requests"] += 1
        sent = await self._sent(request, record, do)
        if record.fault is None:
            await self._lag()
        if sent.prepared or _is_open(request):
            record.status = sent.status
            self.counters["answered"] += 1
        return sent

    async def _sent(
        self, request: web.Request, record: RequestRecord, do: Answer | Callable[[], Answer]
    ) -> web.StreamResponse:
        headers = {"X-Request-Id": record.request_id}
        if isinstance(do, Answer):
            return response(do, headers)
        fault = self.faults.take(record.method, record.path, record.account_id)
        if fault is None:
            return response(do(), headers)
        record.fault = fault.kind
        self.counters[f"fault:{fault.kind}"] += 1
        return await self._deliver(request, do, fault, headers)

    async def _deliver(
        self, request: web.Request, commit: Callable[[], Answer], fault: Fault, headers: dict[str, str]
    ) -> web.StreamResponse:
        async def late(seconds: float) -> None:
            await asyncio.sleep(seconds)
            commit()
            self.counters["late_commits"] += 1

        def commit_later(seconds: float) -> None:
            self._late.add(
                asyncio.create_task(late(seconds), name=f"late commit of {headers['X-Request-Id']}")
            )

        exchange = Exchange(request, fault, commit, commit_later, self._stopping, headers)
        return await DELIVERIES[FaultKind(fault.kind)](exchange)

    async def _lag(self) -> None:
        seconds = self.latency() if callable(self.latency) else self.latency
        if seconds > 0:
            await asyncio.sleep(seconds)

    def _owner_of(self, token: str) -> Account | None:
        """Whose long-lived token it is."""
        if not token:
            return None
        account = self._by_token.get(token)
        if account is not None and account.token == token:
            return account
        # Anybody may have given an account another token.
        self._by_token = {it.token: it for it in self._accounts.values()}
        return self._by_token.get(token)

    def _elsewhere(self, account: Account, request: web.Request) -> Answer | None:
        refused = elsewhere(account, request)
        if refused is not None:
            self.counters["elsewhere"] += 1
        return refused

    def _over_rate(self, account_id: int) -> Answer | None:
        """The refusal when the account asked too often, else None and the request is counted.

        Requests refused are not counted: a client at the very limit would never get through again.
        """
        if self.rate <= 0:
            return None
        now = self._now()
        admitted = self._admitted.setdefault(account_id, deque())
        while admitted and now - admitted[0] >= RATE_WINDOW_S:
            admitted.popleft()
        if len(admitted) >= self.rate:
            self.counters["rate_limited"] += 1
            return error(TOO_MANY, retry_after=RETRY_AFTER_S)
        admitted.append(now)
        return None


async def _read(request: web.Request, path: str) -> ApiRequest:
    return ApiRequest(
        method=request.method, path=path, url=request.url, query=request.query, body=await request.read()
    )


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _is_open(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()
