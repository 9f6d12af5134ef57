"""Every fault: what the client sees, and whether the request was carried out."""

import asyncio
import errno
import json
from typing import Any

import aiohttp
import pytest

from calllogd.sandbox import Account, Fault, SandboxKommo

PHONE = "+1 (555) 010-0200"


QUIET_S = 0.05


async def post(api: aiohttp.ClientSession) -> tuple[int, str, str]:
    """Log a call; status, content type and text of the answer."""
    item = {"direction": "inbound", "duration": 1, "source": "s", "phone": PHONE, "uniq": "c1"}
    async with api.post("calls", json=[item]) as answer:
        return answer.status, answer.content_type, await answer.text()


async def arrival(kommo: SandboxKommo, count: int = 1) -> None:
    """Wait until so many requests met their fault."""
    async with asyncio.timeout(10):
        while sum(it.fault is not None for it in kommo.requests) < count:
            await asyncio.sleep(0)


async def leave_unanswered(kommo: SandboxKommo, api: aiohttp.ClientSession) -> None:
    """Log a call, see that no answer comes, and leave."""
    waiting = asyncio.create_task(post(api))
    await arrival(kommo)
    answered, _ = await asyncio.wait({waiting}, timeout=QUIET_S)
    assert not answered
    waiting.cancel()
    await asyncio.wait({waiting})


@pytest.fixture(autouse=True)
def contact(account: Account) -> None:
    account.add_contact("Kim", [PHONE])


def committed(account: Account) -> int:
    return len(account.entries("c1"))


@pytest.mark.parametrize(("kind", "count"), [("timeout_after", 1), ("timeout_before", 0)])
async def test_a_timeout_holds_the_connection(
    kommo: SandboxKommo, account: Account, api: aiohttp.ClientSession, kind: str, count: int
) -> None:
    kommo.faults.add(Fault(kind, times=1))
    await leave_unanswered(kommo, api)
    assert committed(account) == count
    assert [(it.status, it.fault) for it in kommo.requests] == [(None, kind)]
    assert (await post(api))[0] == 200
    assert committed(account) == count + 1


async def test_a_late_commit_comes_although_the_client_has_gone(
    kommo: SandboxKommo, account: Account, api: aiohttp.ClientSession
) -> None:
    kommo.faults.add(Fault("late_commit", seconds=1))
    await leave_unanswered(kommo, api)
    assert committed(account) == 0
    await kommo.late_commits()
    assert committed(account) == 1
    assert kommo.counters["late_commits"] == 1


async def test_stop_ends_held_requests_and_drops_late_commits(
    kommo: SandboxKommo, account: Account, api: aiohttp.ClientSession
) -> None:
    kommo.faults.add(Fault("late_commit", seconds=3600))
    async with asyncio.timeout(5):
        waiting = asyncio.create_task(post(api))
        await arrival(kommo)
        await kommo.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await waiting
    assert committed(account) == 0


@pytest.mark.parametrize(("kind", "count"), [("reset_after", 1), ("reset_before", 0)])
async def test_a_reset_is_a_real_one(
    kommo: SandboxKommo, account: Account, api: aiohttp.ClientSession, kind: str, count: int
) -> None:
    kommo.faults.add(Fault(kind))
    with pytest.raises(aiohttp.ClientOSError) as caught:
        await post(api)
    assert caught.value.errno == errno.ECONNRESET
    assert committed(account) == count
    assert [it.status for it in kommo.requests] == [None]


@pytest.mark.parametrize(
    ("fault", "status", "content_type", "count"),
    [
        (Fault("status_before"), 500, "application/problem+json", 0),
        (Fault("status_after"), 500, "application/problem+json", 1),
        (Fault("status_before", status=503), 503, "application/problem+json", 0),
        (Fault("status_after", status=504, body="upstream"), 504, "text/plain", 1),
        (Fault("rate"), 429, "application/problem+json", 0),
        (Fault("rate", body="slow down"), 429, "text/plain", 0),
        (Fault("unauthorized"), 401, "application/problem+json", 0),
        (Fault("unpaid"), 402, "application/problem+json", 0),
        (Fault("forbidden"), 403, "text/html", 0),
        (Fault("html"), 200, "text/html", 1),
    ],
)
async def test_an_answer_that_is_not_the_true_one(  # noqa: PLR0917 - the row of the table
    kommo: SandboxKommo, api: aiohttp.ClientSession, fault: Fault, status: int, content_type: str, count: int
) -> None:
    kommo.faults.add(fault)
    seen = await post(api)
    assert seen[:2] == (status, content_type)
    if fault.body is not None:
        assert seen[2] == fault.body
    assert committed(kommo.account(31337)) == count
    assert [(it.status, it.fault) for it in kommo.requests] == [(status, fault.kind)]
    assert kommo.counters[f"fault:{fault.kind}"] == 1


@pytest.mark.parametrize(("seconds", "told"), [(300, 300), (None, None)])
async def test_429_may_say_when_to_come_back(
    kommo: SandboxKommo, api: aiohttp.ClientSession, seconds: float | None, told: float | None
) -> None:
    kommo.faults.add(Fault("rate", seconds=seconds))
    assert json.loads((await post(api))[2]).get("retry_after") == told


async def test_half_a_body(kommo: SandboxKommo, account: Account, api: aiohttp.ClientSession) -> None:
    kommo.faults.add(Fault("half_body"))
    with pytest.raises(aiohttp.ClientPayloadError):
        await post(api)
    assert committed(account) == 1


async def test_slow_commits_first_and_answers_in_the_end(
    kommo: SandboxKommo, account: Account, api: aiohttp.ClientSession
) -> None:
    fault = kommo.faults.add(Fault("slow", seconds=0.5))
    waiting = asyncio.create_task(post(api))
    await arrival(kommo)
    assert committed(account) == 1
    assert not waiting.done()
    assert (await waiting)[0] == 200
    waiting = asyncio.create_task(post(api))
    await arrival(kommo, 2)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert committed(account) == 2, "whether or not the client stays"
    assert kommo.faults.fired(fault) == 2


async def test_every_after_and_times_count_the_requests_that_match(
    kommo: SandboxKommo, api: aiohttp.ClientSession
) -> None:
    kommo.faults.add(
        Fault("status_before", method="post", path="^/calls$", after=1, every=2, times=2, status=503)
    )
    seen = []
    for _ in range(9):
        seen.append((await post(api))[0])
        async with api.get("account") as answer:
            assert answer.status == 200, "another path is not counted"
    assert seen == [200, 200, 503, 200, 503, 200, 200, 200, 200]


async def test_the_first_fault_that_fires_wins(kommo: SandboxKommo, api: aiohttp.ClientSession) -> None:
    kommo.faults.add(Fault("unpaid", every=2))
    kommo.faults.add(Fault("forbidden"))
    assert [(await post(api))[0] for _ in range(4)] == [403, 402, 403, 402]
    kommo.faults.clear()
    assert (await post(api))[0] == 200


async def test_a_fault_may_be_for_one_account(kommo: SandboxKommo, api: aiohttp.ClientSession) -> None:
    kommo.account(7, token="other-token")
    kommo.faults.add(Fault("unpaid", account_id=7))
    async with api.get("account", headers={"Authorization": "Bearer other-token"}) as answer:
        assert answer.status == 402
    async with api.get("account") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"kind": "gremlin"}, "gremlin"),
        ({"kind": "rate", "path": "("}, "regular expression"),
        ({"kind": "rate", "every": 0}, "every"),
        ({"kind": "rate", "times": 0}, "times"),
        ({"kind": "rate", "after": -1}, "after"),
        ({"kind": "slow"}, "needs seconds"),
        ({"kind": "late_commit"}, "needs seconds"),
        ({"kind": "rate", "seconds": -1}, "negative"),
        ({"kind": "status_before", "status": 99}, "status"),
        ({"kind": "rate", "methode": "GET"}, "methode"),
        ({"kind": "rate", "method": 5}, "method"),
        ({"method": "GET"}, "kind is missing"),
        (["rate"], "an object"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Fault.from_json(wrong)
