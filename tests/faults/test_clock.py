"""The machine's clock is wrong, or is set while the daemon runs."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from calllogd.sandbox import Fault, FaultKind
from tests.faults.clock import Clock
from tests.faults.machine import (
    ACCOUNT,
    KNOWN,
    Daemon,
    Installation,
    all_of,
    installation,
    unknown,
    until,
    webhook,
)

HOUR, DAY = 3600.0, 86_400.0
CREATED = "^/(calls|leads/unsorted/sip)$"
LOST = (
    Fault(FaultKind.RESET_AFTER, method="POST", path=CREATED, every=5),
    Fault(FaultKind.TIMEOUT_BEFORE, method="POST", path=CREATED, every=7),
    Fault(FaultKind.STATUS_AFTER, method="POST", path=CREATED, every=9),
)


@dataclass(frozen=True, slots=True)
class Place:
    """An installation whose only daemon has a clock of its own."""

    here: Installation
    daemon: Daemon
    clock: Clock


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with installation(tmp_path) as here:
        clock = Clock(tmp_path / "clock")
        daemon = here.daemon()
        daemon.program = clock.program
        yield Place(here, daemon, clock)


def timeless(call_id: str) -> dict[str, object]:
    """Return a webhook of a VoIP service that does not say when the call began."""
    return {name: value for name, value in webhook(call_id).items() if name != "started_at"}


async def stand_once(here: Installation, number: int) -> None:
    await here.each_stands_once((ACCOUNT, f"c{place}") for place in range(number))


@pytest.mark.parametrize("ahead_s", [HOUR, -HOUR, DAY, -DAY])
async def test_a_clock_that_is_wrong_doubles_nothing(place: Place, ahead_s: float) -> None:
    here = place.here
    place.clock.set(ahead_s)
    here.kommo.faults.add(Fault(FaultKind.RESET_AFTER, method="POST", path="^/calls$", times=3))
    await place.daemon.ready()
    await all_of(here.send(timeless(f"c{number}")) for number in range(3))
    await here.settled(3)
    await stand_once(here, 3)


async def test_the_clock_is_set_to_and_fro_and_nothing_is_lost_or_doubled(place: Place) -> None:
    here, daemon = place.here, place.daemon
    for fault in LOST:
        here.kommo.faults.add(fault)
    await daemon.ready()
    number, account = 0, here.kommo.account(ACCOUNT)
    for ahead_s in (0, -HOUR, DAY, DAY - HOUR, 2 * DAY):
        place.clock.set(ahead_s)
        phones = [KNOWN if one % 2 else unknown(one) for one in range(number, number + 12)]
        await all_of(here.send(webhook(f"c{number + one}", phone)) for one, phone in enumerate(phones))
        number += 12
        await until(lambda: len(account.notes) >= number / 3)  # noqa: B023  awaited here
        daemon.kill()
        await daemon.ready()
    here.kommo.faults.clear()
    place.clock.set(3 * DAY)  # by then every wait is over that began before the clock was set back
    await here.settled(number, 40)
    await stand_once(here, number)


STILL = {
    1: FaultKind.RATE,
    2: FaultKind.TIMEOUT_BEFORE,
    3: FaultKind.UNPAID,
}
"""Accounts, and what comes of it: a call waits for its next try, for the end of a doubt, for its account."""


async def stuck(place: Place, ahead_s: float, *, killed: bool) -> None:
    """Have a call of each account wait, or be held by a worker that is killed, when the clock is set."""
    here, daemon = place.here, place.daemon
    for account_id, kind in STILL.items():
        here.add_account(account_id)
        mishap = FaultKind.TIMEOUT_BEFORE if killed else kind
        # Long enough that all three are put off at the same moment.
        seconds = 6.0 if mishap is FaultKind.RATE else None
        here.kommo.faults.add(
            Fault(mishap, method="POST", path="^/calls$", account_id=account_id, times=1, seconds=seconds)
        )
    here.write()
    await daemon.ready()
    await all_of(here.send(webhook("c0"), account_id) for account_id in STILL)
    await until(lambda: here.asked("POST", "/calls") == len(STILL))
    if killed:
        daemon.kill()
    else:
        await until(lambda: here.put_off() == len(STILL))
    place.clock.set(ahead_s)
    if killed:
        await daemon.ready()


@pytest.mark.parametrize("killed", [False, True], ids=["waiting", "killed"])
async def test_nothing_stands_still_for_the_hour_that_the_clock_is_set_back(
    place: Place, *, killed: bool
) -> None:
    await stuck(place, -HOUR, killed=killed)
    # Five seconds, for the account that did not pay, when the clock is left alone.
    await until(lambda: all(place.here.entries("c0", account_id) for account_id in STILL), 9)


@pytest.mark.parametrize("killed", [False, True], ids=["waiting", "killed"])
async def test_what_stands_still_goes_on_when_the_clock_is_right_again(place: Place, *, killed: bool) -> None:
    await stuck(place, -HOUR, killed=killed)
    await place.here.send(webhook("c1"))
    await until(lambda: place.here.entries("c1"))
    place.clock.set(DAY)
    await place.here.settled(len(STILL) + 1)
    await place.here.each_stands_once([(ACCOUNT, "c1"), *((account_id, "c0") for account_id in STILL)])
