"""Tokens, the rate limit, latency, and the record of what came."""

import asyncio
from typing import Any

import aiohttp
import pytest

from calllogd.sandbox import Account, SandboxKommo
from tests.sandbox.conftest import ManualClock

PHONE = "+1 (555) 010-0200"


def call() -> list[dict[str, Any]]:
    return [{"direction": "inbound", "duration": 1, "source": "s", "phone": PHONE, "uniq": "c1"}]


async def test_the_token_chooses_the_account(kommo: SandboxKommo, api: aiohttp.ClientSession) -> None:
    other = kommo.account(7, token="other-token")
    other.add_contact("Kim", [PHONE])
    async with api.post("calls", json=call()) as answer:
        assert answer.status == 400, "the contact is the other account's"
    async with api.post("calls", json=call(), headers={"Authorization": "Bearer other-token"}) as answer:
        assert answer.status == 200
        assert (await answer.json(content_type=None))["_embedded"]["calls"][0]["account_id"] == 7
    assert kommo.account(31337).entries("c1") == []
    assert len(other.entries("c1")) == 1


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Basic x", "Bearer \u00fc"])
async def test_an_unknown_token_is_401(kommo: SandboxKommo, api: aiohttp.ClientSession, header: str) -> None:
    async with api.get("account", headers={"Authorization": header}) as answer:
        assert (answer.status, answer.content_type) == (401, "application/problem+json")
    assert [(it.account_id, it.status) for it in kommo.requests] == [(None, 401)]


async def test_a_new_token_ends_the_old_one(kommo: SandboxKommo, api: aiohttp.ClientSession) -> None:
    kommo.account(31337, token="fresh")
    async with api.get("account") as answer:
        assert answer.status == 401
    async with api.get("account", headers={"Authorization": "Bearer fresh"}) as answer:
        assert answer.status == 200


async def test_no_token_opens_no_account(kommo: SandboxKommo, account: Account) -> None:
    account.token = ""
    async with aiohttp.ClientSession() as session, session.get(f"{kommo.url}/api/v4/account") as answer:
        assert answer.status == 401


async def test_seven_requests_in_any_second(
    kommo: SandboxKommo, api: aiohttp.ClientSession, clock: ManualClock
) -> None:
    kommo.rate = 7
    other = kommo.account(7, token="other-token")

    async def statuses(count: int, **more: Any) -> list[int]:
        seen = []
        for _ in range(count):
            async with api.get("account", **more) as answer:
                seen.append(answer.status)
        return seen

    assert await statuses(4) == [200] * 4
    clock.at += 0.6
    assert await statuses(4) == [200] * 3 + [429]
    async with api.get("account") as answer:
        assert answer.content_type == "application/problem+json"
        assert (await answer.json(content_type=None))["retry_after"] == 1
    assert await statuses(1, headers={"Authorization": f"Bearer {other.token}"}) == [200]
    clock.at += 0.5
    assert await statuses(5) == [200] * 4 + [429], (
        "the first four are over a second ago, the next three are not"
    )
    assert kommo.counters["rate_limited"] == 3


async def test_a_refused_request_does_nothing(
    kommo: SandboxKommo, account: Account, api: aiohttp.ClientSession
) -> None:
    kommo.rate = 1
    account.add_contact("Kim", [PHONE])
    for status in (200, 429):
        async with api.post("calls", json=call()) as answer:
            assert answer.status == status
    assert len(account.entries("c1")) == 1


async def test_latency_is_asked_for_before_each_answer(
    kommo: SandboxKommo, api: aiohttp.ClientSession
) -> None:
    asked: list[float] = []

    def latency() -> float:
        asked.append(0.01)
        return asked[-1]

    kommo.latency = latency
    started = asyncio.get_running_loop().time()
    for _ in range(3):
        async with api.get("account") as answer:
            assert answer.status == 200
    assert len(asked) == 3
    assert asyncio.get_running_loop().time() - started >= 0.03


async def test_requests_are_recorded(
    kommo: SandboxKommo, api: aiohttp.ClientSession, clock: ManualClock
) -> None:
    async with api.post("calls?x=1", json=call()) as answer:
        request_id = answer.headers["X-Request-Id"]
    [record] = kommo.requests
    assert (record.at, record.method, record.path, record.account_id) == (clock.at, "POST", "/calls", 31337)
    assert (record.status, record.fault, record.request_id) == (400, None, request_id)
    assert (kommo.counters["requests"], kommo.counters["answered"]) == (1, 1)


async def test_the_world_outlives_a_restart(kommo: SandboxKommo, account: Account) -> None:
    account.add_contact("Kim", [PHONE])
    await kommo.stop()
    with pytest.raises(RuntimeError):
        assert kommo.url
    await kommo.start()
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {account.token}"}) as session,
        session.post(f"{kommo.url}/api/v4/calls", json=call()) as answer,
    ):
        assert answer.status == 200


async def test_a_taken_port_is_an_oserror(kommo: SandboxKommo) -> None:
    second = SandboxKommo()
    with pytest.raises(OSError, match="in use"):
        await second.start(port=int(kommo.url.rpartition(":")[2]))
    await second.stop()
