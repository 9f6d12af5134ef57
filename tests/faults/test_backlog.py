"""What has heaped up during an outage goes out in batches, first what is most urgent."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from calllogd.sandbox import Fault, FaultKind
from tests.faults.machine import ACCOUNT, KNOWN, Installation, all_of, installation, unknown, until, webhook

CALLS = 1000
MOST_REQUESTS = 60


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path) as it:
        yield it


async def heaped(here: Installation, number: int, phone: str | None = KNOWN) -> list[tuple[int, str]]:
    """Let calls arrive while Kommo serves nobody; return them once the account is paused."""
    here.kommo.faults.add(Fault(FaultKind.UNPAID))
    await here.daemon().ready()
    events = [webhook(f"heap-{place}", phone or unknown(place % 10)) for place in range(number)]
    rest = iter(events)

    async def sends() -> None:
        for event in rest:
            await here.send(event)

    await all_of(sends() for _ in range(20))
    return [(ACCOUNT, str(event["call_id"])) for event in events]


async def paid(here: Installation) -> None:
    """Let Kommo serve again: a restart tries at once, else the pause would have to run out."""
    here.kommo.faults.clear()
    await here.daemons[0].stop()
    await here.daemons[0].ready()


@pytest.mark.timeout(120)
async def test_a_thousand_calls_that_waited_take_at_most_sixty_requests(here: Installation) -> None:
    keys = await heaped(here, CALLS)
    before = here.kommo.counters["requests"]
    await paid(here)
    await here.settled(CALLS, 60)
    took = here.kommo.counters["requests"] - before
    assert took <= MOST_REQUESTS
    await here.each_stands_once(keys)


async def test_two_spellings_of_one_number_become_one_incoming_lead(here: Installation) -> None:
    here.accounts[0]["region"] = "AU"
    await here.daemon().ready()
    spellings = ["0412 345 678", "+61 412 345 678", "sip:+61412345678@pbx.example.com;user=phone"]
    await all_of(here.send(webhook(f"c{place}", phone)) for place, phone in enumerate(spellings))
    await here.settled(len(spellings))
    assert here.asked("POST", "/leads/unsorted/sip") == 1
    await here.each_stands_once((ACCOUNT, f"c{place}") for place in range(len(spellings)))


@pytest.mark.timeout(120)
async def test_a_backlog_stands_once_although_answers_are_lost(here: Installation) -> None:
    keys = await heaped(here, 300)
    here.kommo.faults.clear()
    lost = [
        Fault(FaultKind.RESET_AFTER, method="POST", path="^/calls$", every=3, times=1),
        Fault(FaultKind.HALF_BODY, method="POST", path="^/calls$", every=5, times=1),
        Fault(FaultKind.RESET_BEFORE, method="POST", path="^/calls$", every=7, times=1),
    ]
    for fault in lost:
        here.kommo.faults.add(fault)
    daemon = here.daemons[0]
    await daemon.stop()
    await daemon.ready()
    await until(lambda: here.kommo.faults.fired(lost[0]) > 0)
    await here.settled(300, 60)
    await here.each_stands_once(keys)


@pytest.mark.timeout(120)
async def test_a_backlog_that_is_killed_in_the_middle_stands_once(here: Installation) -> None:
    keys = await heaped(here, 300)
    here.kommo.faults.clear()
    daemon = here.daemons[0]
    for _ in range(4):
        daemon.kill()
        before = len(here.kommo.requests)
        await daemon.ready()
        await until(lambda: len(here.kommo.requests) > before, every_s=0)  # noqa: B023  awaited here
        await asyncio.sleep(0.004)
    await here.settled(300, 60)
    await here.each_stands_once(keys)


@pytest.mark.timeout(120)
async def test_a_heap_of_unknown_callers_becomes_one_incoming_lead_for_each_number(
    here: Installation,
) -> None:
    keys = await heaped(here, 100, None)
    await paid(here)
    await here.settled(100, 60)
    account = here.kommo.account(ACCOUNT)
    assert len(account.unsorted) == 10
    for _, call_id in keys:
        assert len(here.entries(call_id)) == 1
