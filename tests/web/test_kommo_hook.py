"""Kommo's own webhooks over HTTP: what reaches the ledger, and that nobody else gets in."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calllogd.database.database import Database
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import LeadState
from calllogd.errors import StorageError
from calllogd.kommo.webhook import WebhookSecrets
from calllogd.voip.usecase.hear_kommo import HearKommoUseCase, KommoNews, LeadSorted, NumberAppeared
from calllogd.voip.usecase.save_call_event import SaveCallEventUseCase
from calllogd.web.app import make_app
from calllogd.web.desk import Desk
from calllogd.web.services import KommoServices, Services
from tests.fakes import ACCOUNT, START, FakeUnread, ManualClock

SECRETS = WebhookSecrets(b"k" * 32)
PATH = f"/kommo/{ACCOUNT}/{SECRETS.secret(ACCOUNT)}"
AT = "contacts[add][0][custom_fields][0]"
CONTACT = {f"{AT}[values][0][value]": "+12125550123", f"{AT}[code]": "PHONE"}
ACCEPTED = {"unsorted[delete][0][uid]": "u1", "unsorted[delete][0][action]": "accept"}
Client = TestClient[web.Request, web.Application]


class HeardNews:
    """A ledger that keeps what it is told, and can be in trouble."""

    def __init__(self) -> None:
        self.numbers: list[tuple[int, tuple[str, ...], float]] = []
        self.leads: list[tuple[int, str, LeadState, float]] = []
        self.told: list[str] = []
        self.error: Exception | None = None
        self.hangs = False

    async def number_appeared(self, account_id: int, phones: Sequence[str], now: float) -> int:
        await self._meet("number")
        self.numbers.append((account_id, tuple(phones), now))
        return len(phones)

    async def lead_sorted(self, account_id: int, uid: str, state: LeadState, now: float) -> int:
        await self._meet("lead")
        self.leads.append((account_id, uid, state, now))
        return 1

    async def _meet(self, what: str) -> None:
        self.told.append(what)
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


@pytest.fixture
def heard() -> HeardNews:
    return HeardNews()


def desk(calls: KommoNews, clock: ManualClock) -> Desk:
    async def ready() -> None:
        pass

    return Desk(
        Services(
            providers={},
            save_call_event=SaveCallEventUseCase.__new__(SaveCallEventUseCase),
            ready=ready,
            kommo=KommoServices(secrets=SECRETS, hear=HearKommoUseCase(calls=calls, clock=clock)),
        )
    )


@pytest.fixture
async def client(
    heard: HeardNews,
    clock: ManualClock,
    aiohttp_client: Callable[[web.Application], Awaitable[Client]],
) -> Client:
    return await aiohttp_client(make_app(desk(heard, clock)))


async def tell(client: Client, *forms: dict[str, str], path: str = PATH) -> ClientResponse:
    return await client.post(
        path,
        data="&".join(map(urlencode, forms)).encode(),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )


async def code_of(answer: ClientResponse) -> str:
    assert answer.content_type == "application/problem+json"
    code: str = (await answer.json(content_type=None))["code"]
    return code


async def test_what_kommo_tells_reaches_the_ledger(client: Client, heard: HeardNews) -> None:
    answer = await tell(client, CONTACT, ACCEPTED)
    assert answer.status == 200
    assert heard.numbers == [(ACCOUNT, ("+12125550123",), START)]
    assert heard.leads == [(ACCOUNT, "u1", LeadState.ACCEPTED, START)]
    assert heard.told == ["lead", "number"], "what is done about a number depends on its incoming lead"


@pytest.mark.parametrize("body", [b"", b"leads[note][0][note][text]=x", b"\xff", b"{}", b"&" * 1000])
async def test_what_matters_to_nobody_is_acknowledged(client: Client, heard: HeardNews, body: bytes) -> None:
    assert (await client.post(PATH, data=body)).status == 200
    assert heard.told == []


async def test_many_numbers_are_told_in_pieces_each_once(client: Client, heard: HeardNews) -> None:
    forms = [
        {
            f"contacts[update][{place}][custom_fields][0][values][0][value]": f"{place % 450}",
            f"contacts[update][{place}][custom_fields][0][code]": "PHONE",
        }
        for place in range(900)
    ]
    assert (await tell(client, *forms)).status == 200
    assert [len(phones) for _, phones, _ in heard.numbers] == [200, 200, 50]
    assert len({phone for _, phones, _ in heard.numbers for phone in phones}) == 450


@pytest.mark.parametrize(
    "path",
    [
        f"/kommo/{ACCOUNT}/{'0' * 64}",
        f"/kommo/{ACCOUNT}/x",
        f"/kommo/{ACCOUNT}/%ff",
        f"/kommo/{ACCOUNT}/%C3%A9",
        f"/kommo/{ACCOUNT + 1}/{SECRETS.secret(ACCOUNT)}",
        f"/kommo/0{ACCOUNT}/{SECRETS.secret(ACCOUNT)}",
        f"/kommo/x/{SECRETS.secret(ACCOUNT)}",
        f"/kommo/{ACCOUNT}",
        f"{PATH}/more",
    ],
)
async def test_whoever_does_not_know_the_secret_finds_nothing(
    client: Client, heard: HeardNews, path: str
) -> None:
    answer = await tell(client, CONTACT, path=path)
    assert answer.status == 404
    assert await code_of(answer) == "not_found"
    assert heard.told == []


async def test_only_kommos_method_is_taken(client: Client) -> None:
    answer = await client.get(PATH)
    assert await code_of(answer) == "method_not_allowed"


async def test_without_its_services_there_is_nothing(
    database: Database,
    ledger: LedgerOfCalls,
    clock: ManualClock,
    aiohttp_client: Callable[[web.Application], Awaitable[Client]],
) -> None:
    bare = Services(
        providers={},
        save_call_event=SaveCallEventUseCase(calls=ledger, unread=FakeUnread(), clock=clock),
        ready=database.ping,
    )
    client = await aiohttp_client(make_app(Desk(bare)))
    assert await code_of(await tell(client, CONTACT)) == "not_found"


async def test_a_large_form_is_read_to_its_end_and_a_larger_one_is_refused(
    client: Client, heard: HeardNews
) -> None:
    form = urlencode(CONTACT).encode()
    filled = b"leads[x]=" + b"y" * (1024 * 1024 - len(form) - 10) + b"&" + form
    assert len(filled) == 1024 * 1024
    assert (await client.post(PATH, data=BytesIO(filled))).status == 200
    assert len(heard.numbers) == 1
    assert await code_of(await client.post(PATH, data=BytesIO(filled + b"&"))) == "too_large"
    assert len(heard.numbers) == 1


async def test_a_compressed_form_is_refused(client: Client) -> None:
    answer = await client.post(PATH, data=b"x", headers={"Content-Encoding": "gzip"})
    assert await code_of(answer) == "bad_request"


async def test_when_the_ledger_is_in_trouble_kommo_comes_again(client: Client, heard: HeardNews) -> None:
    heard.error = StorageError("the disk is full")
    answer = await tell(client, CONTACT)
    assert answer.status == 503
    assert await code_of(answer) == "storage"
    assert "Retry-After" in answer.headers
    heard.error = None
    assert (await tell(client, CONTACT)).status == 200


async def test_kommo_is_not_kept_waiting(
    client: Client, heard: HeardNews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.web.kommo.ANSWER_S", 0.05)
    heard.hangs = True
    answer = await tell(client, CONTACT)
    assert answer.status == 503
    assert await code_of(answer) == "overloaded"


async def test_a_form_that_does_not_come_is_not_waited_for(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.web.kommo.BODY_S", 0.05)

    async def never() -> Any:
        yield b"contacts"
        await asyncio.Event().wait()

    assert await code_of(await client.post(PATH, data=never())) == "slow"


async def test_the_ledger_takes_what_kommo_tells(
    ledger: LedgerOfCalls,
    clock: ManualClock,
    aiohttp_client: Callable[[web.Application], Awaitable[Client]],
) -> None:
    client = await aiohttp_client(make_app(desk(ledger, clock)))
    assert (await tell(client, CONTACT, ACCEPTED)).status == 200
    hear = HearKommoUseCase(calls=ledger, clock=clock)
    odd = [
        NumberAppeared("withheld"),
        NumberAppeared("\u0665\u0665"),
        NumberAppeared("\x00"),
        NumberAppeared("\ufffd"),
    ]
    assert await hear.execute(ACCOUNT, [*odd, LeadSorted("nobody's", LeadState.DECLINED)]) == 0


WORDS = "contacts unsorted add update delete 0 custom_fields values value code uid action PHONE accept 1 é"
PARTS = st.sampled_from([*WORDS.split(), "[", "]", "%5B", "&", "=", "\x00", "%", "][", "["])


@given(st.binary(max_size=200) | st.lists(PARTS, max_size=40).map(lambda parts: "".join(parts).encode()))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_told_is_acknowledged(client: Client, body: bytes) -> None:
    assert (await client.post(PATH, data=body)).status == 200
