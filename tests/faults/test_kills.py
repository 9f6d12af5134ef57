"""One entry for each call, whatever is killed, lost or done twice: with real processes, files and HTTP."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from calllogd.sandbox import Fault, FaultKind
from tests.faults.machine import (
    ACCOUNT,
    KNOWN,
    Daemon,
    Installation,
    Webhook,
    all_of,
    installation,
    unknown,
    until,
    webhook,
)

CALLS = int(os.environ.get("CALLLOGD_TEST_CALLS", "1000"))
KILLS = int(os.environ.get("CALLLOGD_TEST_KILLS", "10"))
SENDERS = 50

CREATED = "^/(calls|leads/unsorted/sip)$"
"""Paths of requests that create something in Kommo."""

LOST = (
    Fault(FaultKind.RESET_AFTER, method="POST", path=CREATED, every=20),
    Fault(FaultKind.TIMEOUT_AFTER, method="POST", path=CREATED, every=20, after=5),
    Fault(FaultKind.STATUS_AFTER, method="POST", path=CREATED, every=20, after=10, status=504),
    Fault(FaultKind.HALF_BODY, method="POST", path=CREATED, every=20, after=15),
)
"""Of every twenty creating requests four are carried out and their answers lost, each in another way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A moment in the life of a call: when Kommo has been asked for `path`, or has answered it.

    `fault` is what makes the moment last, `answered` and `after_s` wait for the answer and a little longer.
    """

    name: str
    path: str = "/calls"
    method: str = "POST"
    phone: str = KNOWN
    faults: tuple[tuple[FaultKind, str], ...] = ()
    answered: bool = False
    after_s: float = 0.0

    def come(self, here: Installation, account_id: int) -> bool:
        return any(
            (request.account_id, request.method, request.path) == (account_id, self.method, self.path)
            and (request.status is not None or not self.answered)
            for request in here.kommo.requests
        )


NEW_LEAD = "/leads/unsorted/sip"
STEPS = (
    Step(name="asked and not carried out", faults=((FaultKind.TIMEOUT_BEFORE, "^/calls$"),)),
    Step(name="asked and carried out", faults=((FaultKind.TIMEOUT_AFTER, "^/calls$"),)),
    Step(name="asked and carried out later", faults=((FaultKind.LATE_COMMIT, "^/calls$"),)),
    Step(
        name="incoming lead asked and not carried out",
        path=NEW_LEAD,
        phone=unknown(1),
        faults=((FaultKind.TIMEOUT_BEFORE, f"^{NEW_LEAD}$"),),
    ),
    Step(
        name="incoming lead asked and carried out",
        path=NEW_LEAD,
        phone=unknown(2),
        faults=((FaultKind.TIMEOUT_AFTER, f"^{NEW_LEAD}$"),),
    ),
    Step(
        name="incoming lead asked and carried out later",
        path=NEW_LEAD,
        phone=unknown(3),
        faults=((FaultKind.LATE_COMMIT, f"^{NEW_LEAD}$"),),
    ),
    Step(
        name="looking for it",
        path="/leads/unsorted",
        method="GET",
        faults=((FaultKind.RESET_AFTER, "^/calls$"), (FaultKind.TIMEOUT_BEFORE, "^/leads/unsorted$")),
    ),
    Step(name="nobody has the number", phone=unknown(4), answered=True),
    Step(name="answered", answered=True),
    Step(name="answered, 2 ms ago", answered=True, after_s=0.002),
    Step(name="answered, 5 ms ago", answered=True, after_s=0.005),
    Step(name="answered, 10 ms ago", answered=True, after_s=0.01),
    Step(name="incoming lead answered", path=NEW_LEAD, phone=unknown(5), answered=True),
    Step(
        name="incoming lead answered, 3 ms ago", path=NEW_LEAD, phone=unknown(6), answered=True, after_s=0.003
    ),
)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path) as it:
        yield it


def crowd(number: int) -> list[Webhook]:
    """Return calls of known and unknown numbers in turn; of the unknown ones each has its own."""
    return [webhook(f"call-{place}", KNOWN if place % 2 else unknown(place)) for place in range(number)]


def keys(events: list[Webhook], account_id: int = ACCOUNT) -> list[tuple[int, str]]:
    return [(account_id, str(event["call_id"])) for event in events]


@pytest.mark.timeout(120)
async def test_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("CALLLOGD_TEST_SEED") or random.randrange(2**32))  # noqa: S311  not a secret
    print(f"to see it again: CALLLOGD_TEST_SEED={seed}")  # noqa: T201  pytest shows it when the test fails
    chance = random.Random(seed)  # noqa: S311
    events = crowd(CALLS)
    posts = events * 2
    chance.shuffle(posts)

    async with installation(tmp_path, workers=16) as here:
        daemon = here.daemon()
        await daemon.ready()

        async def sends(rest: Iterator[Webhook]) -> None:
            for event in rest:
                await here.send(event)

        async def kills() -> None:
            for _ in range(KILLS):
                await asyncio.sleep(chance.uniform(0.05, 0.8))  # any moment will do
                assert daemon.code is None
                daemon.kill()
                await daemon.ready()

        rest = iter(posts)
        await all_of([kills(), *(sends(rest) for _ in range(SENDERS))])
        await here.settled(CALLS, 60)
        await here.each_stands_once(keys(events))


async def test_answers_that_are_lost_after_the_commit_double_nothing(here: Installation) -> None:
    here.sections["queue"]["workers"] = 8
    here.sections["kommo"]["timeout"] = 0.5
    for fault in LOST:
        here.kommo.faults.add(fault)
    await here.daemon().ready()
    events = crowd(200)
    await all_of(here.send(event) for event in events)
    await here.settled(200)
    assert all(here.kommo.faults.fired(fault) > 3 for fault in LOST)
    await here.each_stands_once(keys(events))


async def test_late_commits_double_nothing(here: Installation) -> None:
    here.sections["queue"]["workers"] = 16
    here.sections["kommo"]["timeout"] = 0.4
    here.sections["policy"]["doubt_wait"] = 1.5
    late = [
        Fault(FaultKind.LATE_COMMIT, method="POST", path="^/calls$", every=3, times=8, seconds=1),
        Fault(FaultKind.LATE_COMMIT, method="POST", path=f"^{NEW_LEAD}$", every=2, times=6, seconds=1),
    ]
    for fault in late:
        here.kommo.faults.add(fault)
    await here.daemon().ready()
    events = crowd(30)
    await all_of(here.send(event) for event in events)
    await here.settled(30)
    assert here.kommo.counters["late_commits"] == 14
    await here.each_stands_once(keys(events))


async def test_killed_at_each_step(here: Installation) -> None:
    """Each step has an account of its own, so that its mishaps meet no other call."""
    steps = dict(enumerate(STEPS, 1000))
    for account_id, step in steps.items():
        here.add_account(account_id)
        for kind, path in step.faults:
            seconds = 1.0 if kind is FaultKind.LATE_COMMIT else None
            here.kommo.faults.add(Fault(kind, path=path, account_id=account_id, times=1, seconds=seconds))
    daemon = here.daemon()
    await daemon.ready()
    for account_id, step in steps.items():
        await here.send(webhook(step.name, step.phone), account_id)
        await until(lambda: step.come(here, account_id), every_s=0)  # noqa: B023  awaited here
        await asyncio.sleep(step.after_s)  # the moment is to be hit at random
        daemon.kill()
        await daemon.ready()
    await here.settled(len(steps))
    await here.each_stands_once((account_id, step.name) for account_id, step in steps.items())


async def test_killed_between_nobody_has_the_number_and_the_incoming_lead(here: Installation) -> None:
    here.sections["kommo"]["rate"] = 1.5  # the incoming lead waits two thirds of a second for its turn
    daemon = here.daemon()
    await daemon.ready()
    await here.send(webhook("c1", unknown(1)))
    await until(lambda: any(request.status == 400 for request in here.kommo.requests))
    daemon.kill()
    assert here.asked("POST", NEW_LEAD) == 0
    await daemon.ready()
    await here.settled(1)
    assert here.asked("POST", NEW_LEAD) == 1
    await here.each_stands_once([(ACCOUNT, "c1")])


async def test_killed_when_it_has_just_accepted(here: Installation) -> None:
    daemon = here.daemon()
    await daemon.ready()
    events = crowd(4)
    for event in events:
        await here.send(event)
        daemon.kill()
        await daemon.ready()
    await here.settled(len(events))
    await here.each_stands_once(keys(events))


async def test_once_drains_what_a_killed_daemon_left(here: Installation) -> None:
    here.sections["policy"]["doubt_wait"] = 3
    here.kommo.latency = 0.05
    here.kommo.faults.add(Fault(FaultKind.TIMEOUT_BEFORE, method="POST", path="^/calls$", after=2, times=1))
    daemon = here.daemon()
    await daemon.ready()
    events = crowd(10)
    await all_of(here.send(event) for event in events)
    await until(lambda: here.kommo.counters["fault:timeout_before"])
    daemon.kill()
    first = await here.run("--once")
    assert first.code == 75
    assert "stay due" in first.err

    async def is_done() -> bool:
        code = (await here.run("--once")).code
        assert code in (0, 75)
        return code == 0

    await until(is_done, 20, every_s=0.2)
    await here.each_stands_once(keys(events))
    assert (await here.run("status", "--json")).json["queue"] == 0


async def test_once_beside_a_running_daemon(here: Installation) -> None:
    here.kommo.latency = 0.02
    await here.daemon().ready()
    events = crowd(150)

    async def drains() -> None:
        for _ in range(3):
            assert (await here.run("--once")).code in (0, 75)

    await all_of([drains(), drains(), *(here.send(event) for event in events)])
    await here.settled(150)
    await here.each_stands_once(keys(events))


async def test_two_daemons_on_one_ledger(here: Installation) -> None:
    both = [here.daemon("calllogd"), here.daemon("other")]
    await all_of(daemon.ready() for daemon in both)
    here.kommo.latency = 0.01
    events = crowd(200)

    async def send(event: Webhook, to: Daemon) -> None:
        await here.send(event, to=to)

    await all_of(send(event, daemon) for event in events for daemon in both)
    await here.settled(200)
    await here.each_stands_once(keys(events))


async def test_an_account_in_trouble_holds_up_no_other(here: Installation) -> None:
    revoked, unpaid, limited = 1, 2, 3
    for account_id in (revoked, unpaid, limited):
        here.add_account(account_id)
    here.kommo.account(revoked, token="another")
    here.kommo.faults.add(Fault(FaultKind.UNPAID, account_id=unpaid))
    here.kommo.faults.add(Fault(FaultKind.RATE, account_id=limited, seconds=1))
    await here.daemon().ready()
    events = crowd(20)
    everywhere = (revoked, unpaid, limited, ACCOUNT)
    await all_of(here.send(event, account_id) for account_id in everywhere for event in events)

    def is_logged(account_id: int) -> bool:
        return all(len(here.entries(call_id, account_id)) == 1 for _, call_id in keys(events))

    await until(lambda: is_logged(ACCOUNT), 5)
    status = (await here.run("status", "--json")).json
    states = {account["id"]: account["state"] for account in status["accounts"]}
    assert states == {revoked: "paused", unpaid: "paused", limited: "active", ACCOUNT: "active"}
    reasons = {account["id"]: account["reason"] for account in status["accounts"]}
    assert "token" in reasons[revoked]
    assert "paid" in reasons[unpaid]
    assert status["calls"]["failed"] == 0
    refused = sum(request.account_id in (None, unpaid) for request in here.kommo.requests)
    assert refused <= 2 * (4 + 1), "accounts that are paused were asked again and again"
    assert not here.kommo.account(limited).notes

    here.kommo.account(revoked, token=here.accounts[1]["access_token"])
    here.kommo.faults.clear()
    await here.settled(80, 15)
    await here.each_stands_once(key for account_id in everywhere for key in keys(events, account_id))
    assert {account["state"] for account in (await here.run("status", "--json")).json["accounts"]} == {
        "active"
    }
