"""What tests of the operators' doors share: an application with calls of every kind, and who asks it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient

from calllogd.config.tables import LOOPBACK
from calllogd.database.database import Database
from calllogd.database.people import LedgerOfPeople
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import CallKey, CallState, EntityType, Entry
from calllogd.ports import AccountState, Note, Standing, Unmapped
from calllogd.voip.usecase.save_call_event import SaveCallEventUseCase
from calllogd.web.app import make_app
from calllogd.web.client_address import TrustedProxies
from calllogd.web.desk import Desk
from calllogd.web.services import OperatorServices, Services
from tests.fakes import ACCOUNT, START, FakeUnread, ManualClock, ended, told

TOKEN = "the-admin-token-of-this-test"
KEY = b"k" * 32
PUBLIC_URL = "https://calls.example.com"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
HERE = {"Origin": PUBLIC_URL, "Sec-Fetch-Site": "same-origin"}
Client = TestClient[web.Request, web.Application]
MakeClient = Callable[[web.Application], Awaitable[Client]]

STANDINGS = [
    Standing(account_id=ACCOUNT, name="Acme", state=AccountState.ACTIVE, token_until=START + 86_400),
    Standing(account_id=4711, name="Bolt", state=AccountState.PAUSED, reason="the access token is wrong"),
]


ENTRY = Entry(entity_type=EntityType.CONTACTS, entity_id=7, note_id=1001)


def from_address(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


class Office:
    """calllogd as its operators reach it, and its state as the test chooses it."""

    def __init__(self, database: Database, ledger: LedgerOfCalls, clock: ManualClock) -> None:
        self.database = database
        self.ledger = ledger
        self.clock = clock
        self.standings: Sequence[Standing] = STANDINGS
        self.extensions: dict[int, dict[str, int]] = {}
        self.desk = Desk(self.services())
        self.app = make_app(self.desk)
        self.client: Client

    def services(self, **changes: Any) -> Services:
        async def standing() -> Sequence[Standing]:
            return self.standings

        async def unmapped() -> Sequence[Unmapped]:
            return await LedgerOfPeople(self.database).unmapped(self.extensions, self.clock.now())

        operators = OperatorServices(
            token=TOKEN,
            session_key=KEY,
            public_url=PUBLIC_URL,
            metrics_from=LOOPBACK,
            calls=self.ledger,
            standing=standing,
            unmapped=unmapped,
            clock=self.clock,
            monotonic=self.clock.now,
        )
        return Services(
            providers={},
            save_call_event=SaveCallEventUseCase(calls=self.ledger, unread=FakeUnread(), clock=self.clock),
            ready=self.database.ping,
            operators=replace(operators, **changes),
            trusted_proxies=TrustedProxies(LOOPBACK),
        )

    def configure(self, **changes: Any) -> None:
        """Put other services on the desk, as a reload does."""
        self.desk.put(self.services(**changes))

    async def add(
        self, call_id: str, state: CallState = CallState.PENDING, *, error: str | None = None, **facts: Any
    ) -> CallKey:
        """Put a call into the ledger, and bring it into a state."""
        now = self.clock.now()
        event = ended(call_id, **facts)
        await self.ledger.accept(told(event), now)
        if state is not CallState.PENDING:
            held = await self.ledger.claim(event.key, now, 60)
            assert held is not None
            entry = ENTRY if state is CallState.LOGGED else None
            worked = replace(held, state=state, due_at=None, last_error=error, entry=entry)
            await self.ledger.release(worked, now, Note(what="log_call", outcome="refused", request_id="r-1"))
        return event.key

    async def log_in(self, token: str = TOKEN, **headers: str) -> ClientResponse:
        return await self.client.post(
            "/login", data={"token": token}, headers={**HERE, **headers}, allow_redirects=False
        )

    async def session(self) -> str:
        """Return the Cookie header of a new session; the client itself keeps none."""
        answer = await self.log_in()
        assert answer.status == 303
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        self.client.session.cookie_jar.clear()
        return cookie

    async def get(self, path: str, **headers: str) -> ClientResponse:
        return await self.client.get(path, headers=headers, allow_redirects=False)

    async def post(
        self, path: str, fields: dict[str, str] | None = None, /, **headers: str
    ) -> ClientResponse:
        return await self.client.post(path, data=fields, headers=headers, allow_redirects=False)
