"""How much is taken: exactly so much, from each alone, for little work, and at every door."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from calllogd.config.tables import LOOPBACK
from calllogd.database.database import Database
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.kommo.webhook import WebhookSecrets
from calllogd.recordings.links import Links
from calllogd.recordings.store import RecordingStore
from calllogd.voip.proof import Tokens
from calllogd.voip.provider.generic import Generic
from calllogd.voip.usecase.hear_kommo import HearKommoUseCase
from calllogd.voip.usecase.save_call_event import SaveCallEventUseCase
from calllogd.voip.usecase.save_call_result import SaveCallResultUseCase
from calllogd.voip.usecase.save_recording import SaveRecordingUseCase
from calllogd.voip.usecase.show_call import ShowCallUseCase
from calllogd.web.app import make_app
from calllogd.web.client_address import TrustedProxies
from calllogd.web.desk import Desk
from calllogd.web.limits import BLAME, BUCKETS_MOST, Buckets, Limits, TooMany, network_of
from calllogd.web.services import KommoServices, RecordingServices, Services, WidgetServices
from tests.fakes import ACCOUNT, START, FakeUnread, ManualClock
from tests.widget_tokens import ORIGIN, token, tokens

TOKEN = "a-token-of-16-characters"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
PATH = f"/voip/generic/{ACCOUNT}"
SECRETS = WebhookSecrets(b"k" * 32)
ENDED: dict[str, Any] = {
    "event": "call.ended", "call_id": "c1", "direction": "inbound", "phone": "+1 212 555 0123",
    "duration": 42, "status": "answered",
}  # fmt: skip
Client = TestClient[web.Request, web.Application]


# --- buckets


@given(
    rate=st.sampled_from([0.1, 0.5, 1, 7, 50, 1000]),
    pauses=st.lists(st.sampled_from([0, 0, 0, 0, 0.001, 0.02, 0.3, 1, 15]) | st.floats(0, 30), max_size=300),
    start=st.sampled_from([0.0, 0.1, START]),
)
@settings(max_examples=300)
def test_never_more_than_the_burst_and_what_flows_in_is_taken(
    rate: float, pauses: Sequence[float], start: float
) -> None:
    burst = 10 * rate
    buckets = Buckets(rate, burst)
    now, taken = start, []
    for pause in pauses:
        now += pause
        wait_s = buckets.take("k", now)
        assert wait_s >= 0
        if not wait_s:
            taken.append(now)
        else:
            assert buckets.wait_s("k", now) == pytest.approx(wait_s, abs=1e-5)
            assert buckets.wait_s("k", now + wait_s + 1e-5) == 0, "not taken when it was said to be"
    for first, at in enumerate(taken):
        for more, later in enumerate(taken[first:], start=1):
            assert more <= max(1, burst) + rate * (later - at) + 0.01


@given(rate=st.sampled_from([0.01, 0.3, 1, 7, 50, 333]), at=st.floats(0, 1e7))
def test_the_whole_burst_is_taken_at_once_and_no_more(rate: float, at: float) -> None:
    buckets = Buckets(rate, 10 * rate)
    taken = sum(not buckets.take("k", at) for _ in range(int(20 * rate) + 20))
    assert taken == max(1, int(10 * rate + 1e-9))


def test_what_was_refused_costs_nothing() -> None:
    buckets = Buckets(1, 1)
    assert not buckets.take("k", 0)
    for _ in range(100):
        assert buckets.take("k", 0.5)
    assert not buckets.take("k", 1)


def test_each_key_has_its_own_bucket() -> None:
    buckets = Buckets(1, 1)
    assert not buckets.take("a", 0)
    assert not buckets.take("b", 0)
    assert buckets.take("a", 0)


def test_rate_nought_is_no_limit() -> None:
    buckets = Buckets(0, 0)
    for _ in range(1000):
        assert not buckets.take("k", 0)
    buckets.charge("k", 0, 1e9)
    assert not buckets.take("k", 0)
    assert len(buckets) == 0


def test_a_debt_is_paid_off_in_a_while() -> None:
    buckets = Buckets(1, 10)
    for _ in range(1000):
        buckets.charge("k", 0, 10)
    assert buckets.take("k", 10)
    assert not buckets.take("k", 11)


def test_memory_is_bounded_and_the_emptiest_buckets_are_kept() -> None:
    buckets = Buckets(0.001, 10)
    for _ in range(10):
        buckets.take("offender", 0)
    assert buckets.take("offender", 0)
    for number in range(5 * BUCKETS_MOST):
        buckets.take(number, 0)
        assert len(buckets) <= BUCKETS_MOST
    assert buckets.take("offender", 0), "a flood of addresses has washed an offender clean"


def test_full_buckets_are_forgotten_first() -> None:
    buckets = Buckets(1, 10)
    for number in range(BUCKETS_MOST):
        buckets.take(number, 0)
    buckets.charge("busy", 100, 5)
    assert len(buckets) == 1


@given(st.lists(st.tuples(st.integers(0, 30_000), st.floats(0, 1), st.booleans()), max_size=50))
def test_memory_is_bounded_whatever_comes(steps: Sequence[tuple[int, float, bool]]) -> None:
    buckets = Buckets(0.01, 10)
    now = 0.0
    for number in range(BUCKETS_MOST - 20):
        buckets.take(-1 - number, now)
    for key, pause, charged in steps:
        now += pause
        if charged:
            buckets.charge(key, now, 3)
        else:
            buckets.take(key, now)
        assert len(buckets) <= BUCKETS_MOST


def test_an_ipv6_sender_has_one_bucket_for_all_his_addresses() -> None:
    same = {network_of(f"2001:db8:1:2:{number:x}::{number:x}") for number in range(100)}
    assert len(same) == 1
    assert network_of("2001:db8:1:3::1") not in same
    assert network_of("203.0.113.1") != network_of("203.0.113.2")
    assert network_of("nonsense:") == "nonsense:"


def test_limits_of_accounts_and_addresses_are_their_own() -> None:
    clock = ManualClock()
    limits = Limits(1, 2, clock.now)
    for _ in range(10):
        limits.admit_account(ACCOUNT)
    with pytest.raises(TooMany) as refused:
        limits.admit_account(ACCOUNT)
    assert refused.value.code == "too_many"
    assert refused.value.retry_after_s == 1
    limits.admit_account(ACCOUNT + 1)
    for _ in range(20):
        limits.admit_address("203.0.113.1")
    with pytest.raises(TooMany):
        limits.admit_address("203.0.113.1")
    limits.admit_address("203.0.113.2")
    limits.blame("203.0.113.1")
    with pytest.raises(TooMany) as refused:
        limits.admit_address("203.0.113.1")
    assert refused.value.retry_after_s == 6  # 10 more requests and this one, at 2 a second
    clock.forward(refused.value.retry_after_s)
    limits.admit_address("203.0.113.1")


def test_limits_cost_microseconds() -> None:
    limits = Limits(100_000, 100_000, time.monotonic)
    began = time.perf_counter()
    for number in range(20_000):
        limits.admit_address(f"2001:db8:{number:x}::1")
        limits.admit_account(ACCOUNT)
    # Measured 2 us; so generous for the machines that tests run on.
    assert (time.perf_counter() - began) / 20_000 < 50e-6


# --- doors


class Doors:
    """An application whose limits the test chooses, and what may be asked of it."""

    def __init__(self, desk: Desk, client: Client, services: Callable[[Limits | None], Services]) -> None:
        self.desk = desk
        self.client = client
        self.services = services

    def limit(self, account_rate: float = 0, address_rate: float = 0) -> ManualClock:
        clock = ManualClock(0)
        self.desk.put(self.services(Limits(account_rate, address_rate, clock.now)))
        return clock

    async def event(self, **headers: str) -> ClientResponse:
        return await self.client.post(PATH, json=ENDED, headers={**AUTHORIZED, **headers})

    async def upload(self, headers: dict[str, str]) -> ClientResponse:
        path = f"{PATH}/recordings/c1"
        return await self.client.put(path, data=b"x", headers={"Content-Type": "audio/mpeg", **headers})

    async def widget(self, method: str = "GET", **changes: Any) -> ClientResponse:
        headers = {"X-Auth-Token": token(**changes), "Origin": ORIGIN}
        return await self.client.request(method, "/widget/v1/calls/c1", headers=headers)

    async def kommo(self, secret: str) -> ClientResponse:
        return await self.client.post(f"/kommo/{ACCOUNT}/{secret}", data={"a": "b"})


class NoNews:
    async def number_appeared(self, account_id: int, phones: Sequence[str], now: float) -> int:
        return 0

    async def lead_sorted(self, *_: object) -> int:
        return 0


@pytest.fixture
async def doors(
    database: Database,
    ledger: LedgerOfCalls,
    clock: ManualClock,
    tmp_path: Any,
    aiohttp_client: Callable[[web.Application], Awaitable[Client]],
) -> Doors:
    store = RecordingStore(tmp_path / "recordings", 1000, 0)
    await store.open()

    def services(limits: Limits | None) -> Services:
        return Services(
            providers={("generic", str(ACCOUNT)): Generic(ACCOUNT, tokens=Tokens({"token": TOKEN}))},
            save_call_event=SaveCallEventUseCase(calls=ledger, unread=FakeUnread(), clock=clock),
            ready=database.ping,
            recordings=RecordingServices(
                store=store,
                links=Links(b"k" * 32, "https://calls.example.com"),
                calls=ledger,
                save=SaveRecordingUseCase(calls=ledger, recordings=store, clock=clock),
            ),
            widget=WidgetServices(
                tokens=tokens(clock),
                save_call_result=SaveCallResultUseCase(calls=ledger, clock=clock),
                show_call=ShowCallUseCase(calls=ledger),
            ),
            kommo=KommoServices(secrets=SECRETS, hear=HearKommoUseCase(calls=NoNews(), clock=clock)),
            limits=limits,
            trusted_proxies=TrustedProxies(LOOPBACK),
        )

    desk = Desk(services(None))
    return Doors(desk, await aiohttp_client(make_app(desk)), services)


async def refused(answer: ClientResponse) -> int:
    """Return the seconds after which the sender may come again."""
    assert answer.status == 429
    document = await answer.json(content_type="application/problem+json")
    assert document["code"] == "too_many"
    seconds = int(answer.headers["Retry-After"])
    assert seconds >= 1
    return seconds


async def test_without_limits_everything_is_taken(doors: Doors) -> None:
    assert {(await doors.event()).status for _ in range(30)} == {202}


async def test_an_account_is_limited_and_may_come_again_when_it_was_told_to(doors: Doors) -> None:
    clock = doors.limit(account_rate=0.5)
    assert [(await doors.event()).status for _ in range(6)] == [202] * 5 + [429]
    clock.forward(await refused(await doors.event()))
    assert (await doors.event()).status == 202


async def test_an_account_has_one_limit_for_all_its_doors(doors: Doors) -> None:
    doors.limit(account_rate=0.4)
    assert (await doors.event()).status == 202
    assert (await doors.widget()).status == 200
    assert (await doors.kommo(SECRETS.secret(ACCOUNT))).status == 200
    assert (await doors.upload(AUTHORIZED)).status != 429
    await refused(await doors.event())
    await refused(await doors.kommo(SECRETS.secret(ACCOUNT)))
    await refused(await doors.upload(AUTHORIZED))
    answer = await doors.widget()
    await refused(answer)
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "retry-after" in answer.headers["Access-Control-Expose-Headers"]


async def test_who_has_not_shown_who_he_is_uses_nothing_up(doors: Doors) -> None:
    doors.limit(account_rate=0.1)
    wrong = {"Authorization": "Bearer wrong"}
    for _ in range(3):
        assert (await doors.client.post(PATH, json=ENDED, headers=wrong)).status == 401
        assert (await doors.upload(wrong)).status == 401
        assert (await doors.kommo("wrong")).status == 404
        assert (await doors.widget(exp=1)).status == 401
    assert (await doors.event()).status == 202


async def test_an_address_is_limited_at_every_door_but_where_we_tell_that_we_live(doors: Doors) -> None:
    doors.limit(address_rate=0.2)
    assert [(await doors.client.get("/nothing")).status for _ in range(3)] == [404, 404, 429]
    for path in ("/", "/login", "/metrics", "/readyz", "/recordings/x", "/oauth/install", "/%ff"):
        await refused(await doors.client.get(path))
    await refused(await doors.event())
    assert (await doors.client.get("/healthz")).status == 200
    answer = await doors.widget()
    await refused(answer)
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Vary"] == "Origin"


async def test_behind_a_proxy_each_client_has_his_own_limit(doors: Doors) -> None:
    doors.limit(address_rate=0.1)
    forwarded = {"X-Forwarded-For": "203.0.113.1"}
    assert (await doors.event(**forwarded)).status == 202
    await refused(await doors.event(**forwarded))
    await refused(await doors.event(**{"X-Forwarded-For": "198.51.100.7, 203.0.113.1"}))
    assert (await doors.event(**{"X-Forwarded-For": "203.0.113.1, 203.0.113.2"})).status == 202


async def test_wrong_proofs_cost_their_address_more_than_right_ones(doors: Doors) -> None:
    clock = doors.limit(address_rate=3.3)
    wrong = {"Authorization": "Bearer wrong"}
    statuses = [(await doors.client.post(PATH, json=ENDED, headers=wrong)).status for _ in range(5)]
    assert statuses == [401] * 3 + [429] * 2
    assert (await doors.event(**{"X-Forwarded-For": "203.0.113.1"})).status == 202
    clock.forward((BLAME + 1) / 3.3)
    statuses = [(await doors.client.post(PATH, json=ENDED, headers=wrong)).status for _ in range(2)]
    assert statuses == [401, 429]


async def test_a_wrong_token_of_the_widget_is_blamed_too(doors: Doors) -> None:
    doors.limit(address_rate=1.1)
    assert [(await doors.widget(exp=1)).status for _ in range(2)] == [401, 429]


async def test_limits_hold_while_the_configuration_is_read_again(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.web.desk.WAIT_S", 0.01)
    doors.limit(address_rate=0.2)
    await doors.desk.clear()
    assert [(await doors.event()).status for _ in range(3)] == [503, 503, 429]


async def test_before_the_first_services_nothing_fails(
    aiohttp_client: Callable[[web.Application], Awaitable[Client]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.web.desk.WAIT_S", 0.01)
    client = await aiohttp_client(make_app(Desk()))
    assert (await client.get("/healthz")).status == 200
    for path in ("/", "/login", "/metrics", "/api/v1/status"):
        assert (await client.get(path)).status == 503
