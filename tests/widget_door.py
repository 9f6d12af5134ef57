"""What tests of the widget's door share: calllogd as the widget reaches it, two accounts, and who asks."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient

from calllogd.database.database import Database
from calllogd.database.extensions import LedgerOfExtensions
from calllogd.database.open_calls import LedgerOfOpenCalls
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import Call
from calllogd.kommo.access import LongLived
from calllogd.kommo.api import Api
from calllogd.kommo.kommo import KommoAccount
from calllogd.kommo.limiter import Limiter
from calllogd.kommo.users import Users
from calllogd.kommo.words import Words
from calllogd.sandbox import Account, SandboxKommo
from calllogd.voip.usecase.assign_extensions import AssignExtensionsUseCase
from calllogd.voip.usecase.save_call_event import SaveCallEventUseCase
from calllogd.voip.usecase.save_call_result import SaveCallResultUseCase
from calllogd.voip.usecase.show_call import ShowCallUseCase
from calllogd.web.app import make_app
from calllogd.web.desk import Desk
from calllogd.web.feed import Feed
from calllogd.web.problems import PROBLEMS
from calllogd.web.services import DoorServices, Services, WidgetServices
from calllogd.web.tickets import Tickets
from tests.fakes import ACCOUNT, FakeUnread, ManualClock, link_of
from tests.widget_tokens import ORIGIN, OTHER_ACCOUNT, OTHER_ORIGIN, token, tokens

Client = TestClient[web.Request, web.Application]
MakeClient = Callable[[web.Application], Awaitable[Client]]
Headers = dict[str, str]

ADMIN, SELLER, STRANGER = 111, 112, 999
TICKET_KEY = b"t" * 32
FIXED: Mapping[int, Mapping[str, int]] = {ACCOUNT: {"103": 113}}
OWNERS: Mapping[int, Mapping[str, int]] = {
    ACCOUNT: {"102": SELLER, "103": 113},
    OTHER_ACCOUNT: {"102": ADMIN},
}


class Steady:
    """A steady clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 5.0

    def __call__(self) -> float:
        return self.at


def as_user(user_id: int = ADMIN, **changes: Any) -> Headers:
    """The headers of somebody of the account."""
    return {"X-Auth-Token": token(user_id=user_id, **changes), "Origin": ORIGIN}


def as_other(user_id: int = ADMIN) -> Headers:
    """The headers of somebody of the other account."""
    shown = token(user_id=user_id, iss=OTHER_ORIGIN, account_id=OTHER_ACCOUNT)
    return {"X-Auth-Token": shown, "Origin": OTHER_ORIGIN}


def way_to(kommo: SandboxKommo, shown: str) -> KommoAccount:
    """The way to an account of the stand-in, by its token."""
    api = Api(
        authentication=LongLived(kommo.url, shown),
        limiters=[Limiter(0, monotonic=time.monotonic)],
        timeout_s=5,
        turn_s=1,
    )
    return KommoAccount(api=api, words=Words(source="calllogd", region="US", extensions={}, link=link_of))


class Door:
    """calllogd, with Kommo's stand-in behind it."""

    def __init__(self, database: Database, kommo: SandboxKommo, clock: ManualClock) -> None:
        self.database, self.kommo, self.clock = database, kommo, clock
        self.account: Account = kommo.account(ACCOUNT)
        self.other: Account = kommo.account(OTHER_ACCOUNT, token="other-token")
        self.ways = {
            ACCOUNT: way_to(kommo, "sandbox-token"),
            OTHER_ACCOUNT: way_to(kommo, "other-token"),
        }
        self.steady = Steady()
        self.users = Users(self.ways, monotonic=self.steady)
        self.feed = Feed()
        self.told: Callable[[Call, Call], None] = self.feed.teller(OWNERS)
        self.ledger = LedgerOfCalls(database, told=self.told)
        self.tables = LedgerOfExtensions(database)
        self.tickets = Tickets(TICKET_KEY, clock)
        self.desk = Desk(self.services())
        self.client: Client

    def services(self, **of_tokens: Any) -> Services:
        """What stands on the desk; `of_tokens` change which accounts there are."""
        return Services(
            providers={},
            save_call_event=SaveCallEventUseCase(calls=self.ledger, unread=FakeUnread(), clock=self.clock),
            ready=self.database.ping,
            widget=WidgetServices(
                tokens=tokens(self.clock, **of_tokens),
                save_call_result=SaveCallResultUseCase(calls=self.ledger, clock=self.clock),
                show_call=ShowCallUseCase(calls=self.ledger),
                door=DoorServices(
                    users=self.users,
                    tickets=self.tickets,
                    feed=self.feed,
                    extensions=AssignExtensionsUseCase(tables=self.tables, fixed=FIXED),
                    open_calls=LedgerOfOpenCalls(self.database),
                    result_wait_s=120.0,
                    clock=self.clock,
                ),
            ),
        )

    @property
    def asked(self) -> int:
        """How often Kommo was asked for users."""
        return sum(record.path == "/users" for record in self.kommo.requests)

    async def session(self, headers: Headers | None = None) -> ClientResponse:
        return await self.client.post("/widget/v1/session", headers=as_user() if headers is None else headers)

    async def listed(self) -> None:
        """Have the lists of users asked for."""
        for headers in (as_user(), as_other()):
            assert (await self.session(headers)).status == 200


@asynccontextmanager
async def standing_door(
    database: Database, kommo: SandboxKommo, clock: ManualClock, make_client: MakeClient
) -> AsyncIterator[Door]:
    """Give a door that is open."""
    door = Door(database, kommo, clock)
    for way in door.ways.values():
        await way.open()
    door.client = await make_client(make_app(door.desk))
    yield door
    await door.client.close()
    await door.users.close()
    for way in door.ways.values():
        await way.close()


async def problem_of(answer: ClientResponse) -> dict[str, Any]:
    """Return the problem document of an answer, after looking at its shape."""
    assert answer.content_type == "application/problem+json"
    document: dict[str, Any] = json.loads(await answer.read())
    assert document["status"] == answer.status == PROBLEMS[document["code"]].status
    assert document["detail"]
    return document


async def until(condition: Callable[[], bool]) -> None:
    """Return when a condition holds, which it has to within seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
