"""Webhooks, results and recordings of several hundred calls, with kills, mishaps and many at work.

CALLLOGD_TEST_KILLS=50 kills more often than by default; CALLLOGD_TEST_SEED plays a run again.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from calllogd.sandbox import Mishap, MishapKind, SandboxExchange
from tests.faults.clock import Clock
from tests.faults.load import FAULTS, Load
from tests.faults.machine import ACCOUNT, Installation, all_of, installation, until

CALLS = 300
KILLS = int(os.environ.get("CALLLOGD_TEST_KILLS", "10"))
KINDS = 8
"""So many kinds of mishaps come at the least."""

FETCH_LEASE_S = 400.0
"""So long a recording is left alone whose fetching was killed, and a little longer."""


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("CALLLOGD_TEST_SEED") or random.randrange(2**32))  # noqa: S311  not a secret
    print(f"to see it again: CALLLOGD_TEST_SEED={seed}")  # noqa: T201  pytest shows it when the test fails
    return random.Random(seed)  # noqa: S311


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path, workers=8) as it:
        it.sections["policy"]["doubt_wait"] = 2
        it.kommo.account(ACCOUNT).search_lag = 0.2
        yield it


@pytest.fixture
async def exchange() -> AsyncIterator[SandboxExchange]:
    async with SandboxExchange(seconds=0.2) as it:
        yield it


@pytest.mark.timeout(240)
async def test_kills_lose_nothing_of_what_was_said_and_double_nothing(
    here: Installation, exchange: SandboxExchange, chance: random.Random
) -> None:
    load = Load(here, exchange, chance, CALLS)
    for fault in FAULTS:
        here.kommo.faults.add(fault)
    for kind in (MishapKind.MISSING, MishapKind.HALF, MishapKind.ERROR):
        exchange.add(Mishap(kind, times=8))
    exchange.add(Mishap(MishapKind.STALL, times=8, seconds=0.3))
    clock = Clock(here.folder / "clock")
    daemon = here.daemon()
    daemon.program = clock.program
    await daemon.ready()

    async def kill() -> None:
        await asyncio.sleep(chance.uniform(0.02, 0.6))  # any moment will do
        assert daemon.code is None
        daemon.kill()
        await daemon.ready()

    deeds = load.deeds
    for place in range(KILLS):
        await all_of([kill(), *(deed(daemon) for deed in deeds[place::KILLS])])
    here.kommo.faults.clear()
    await here.settled(CALLS, 60)
    came = {fault.kind for fault in FAULTS if here.kommo.counters[f"fault:{fault.kind}"]}
    assert len(came) >= KINDS, f"only {came} came"
    clock.set(FETCH_LEASE_S)
    await until(load.recordings_are_there, 30, every_s=0.3)
    await here.settled(CALLS, 30)
    await load.each_stands_as_it_should()


@pytest.mark.timeout(120)
async def test_two_daemons_and_once_share_everything_that_is_said(
    here: Installation, exchange: SandboxExchange, chance: random.Random
) -> None:
    load = Load(here, exchange, chance, CALLS)
    for fault in FAULTS:
        here.kommo.faults.add(fault)
    both = [here.daemon("calllogd"), here.daemon("other")]
    await all_of(daemon.ready() for daemon in both)
    deeds = iter(load.deeds)
    said = asyncio.Event()

    async def says() -> None:
        for deed in deeds:
            await deed(chance.choice(both))

    async def says_all() -> None:
        await all_of(says() for _ in range(12))
        said.set()

    async def drains() -> None:
        while not said.is_set():
            assert (await here.run("--once")).code in (0, 75)

    await all_of([says_all(), drains()])
    here.kommo.faults.clear()
    await here.settled(CALLS, 60)
    await until(load.recordings_are_there, 30, every_s=0.3)
    await here.settled(CALLS, 30)
    await load.each_stands_as_it_should()
