"""Extensions that nobody had: calls get their user when there is one, whatever happens meanwhile."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from calllogd.sandbox import Fault, FaultKind
from tests.faults.machine import ACCOUNT, KNOWN, Installation, all_of, installation, unknown, until, webhook

EXTENSION, USER, LATER_USER = "103", 113, 114


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path) as it:
        account = it.kommo.account(ACCOUNT)
        for user_id, name in ((USER, "Carol"), (LATER_USER, "Dan")):
            account.add_user(user_id, name)
        it.daemon()
        yield it


async def give(here: Installation, user_id: int) -> None:
    """Save the table of extensions, as an administrator does in the widget."""
    daemon = here.daemons[0]

    async def saved() -> bool:
        async with here.http.put(
            f"{daemon.url}/widget/v1/extensions",
            json={"extensions": {"101": 111, "102": 112, EXTENSION: user_id}},
            headers={"X-Auth-Token": here.widget_token(ACCOUNT), "Origin": here.kommo.url},
        ) as answer:
            assert answer.status in (200, 503), await answer.text()
            return answer.status == 200

    await until(saved, every_s=0.2)


def whose(here: Installation, call_ids: list[str]) -> set[object]:
    """Return whose the calls are in Kommo, each of which stands there once."""
    entries = [here.entries(call_id) for call_id in call_ids]
    assert {len(each) for each in entries} == {1}
    return {entry.params.get("call_responsible") for (entry,) in entries}


def patches(here: Installation) -> int:
    return sum(request.method == "PATCH" for request in here.kommo.requests)


async def test_logged_calls_get_their_user_when_the_table_is_saved(here: Installation) -> None:
    daemon = here.daemons[0]
    await daemon.ready()
    calls = [f"c{number}" for number in range(30)]
    await all_of(
        here.send(webhook(call_id, unknown(number) if number % 3 == 0 else KNOWN, extension=EXTENSION))
        for number, call_id in enumerate(calls)
    )
    await here.settled(len(calls))
    assert whose(here, calls) == {None}
    amending = here.kommo.faults.add(
        Fault(FaultKind.TIMEOUT_AFTER, method="PATCH", path="/notes/[0-9]+$", times=1)
    )
    await give(here, USER)
    await until(lambda: here.kommo.faults.fired(amending), 20)
    daemon.kill()
    await daemon.ready()
    for _ in range(2):
        await until(lambda: whose(here, calls) - {None})
        daemon.kill()
        await daemon.ready()
    await until(lambda: whose(here, calls) == {USER}, 30, every_s=0.1)
    await here.settled(len(calls))
    assert (await here.run("status", "--json")).json["unmapped"] == []

    # What was written stays: the telephone is somebody else's now, the calls are not.
    amended = patches(here)
    await give(here, LATER_USER)
    later = iter(range(100))

    async def is_told_of_the_other() -> bool:
        call_id = f"later-{next(later)}"
        await here.send(webhook(call_id, extension=EXTENSION))
        await until(lambda: here.entries(call_id))
        return whose(here, [call_id]) == {LATER_USER}

    await until(is_told_of_the_other, every_s=0.2)
    await asyncio.sleep(1.5)
    assert whose(here, calls) == {USER}
    assert patches(here) == amended


async def test_the_configuration_may_tell_it_too(here: Installation) -> None:
    daemon = here.daemons[0]
    await daemon.ready()
    await here.send(webhook("c1", extension=EXTENSION))
    await here.settled(1)
    here.accounts[0]["extensions"][EXTENSION] = USER
    here.write(daemon.config)
    daemon.send(signal.SIGHUP)
    await until(lambda: whose(here, ["c1"]) == {USER}, 20)


@pytest.mark.timeout(120)
async def test_a_flood_of_them_does_not_delay_new_calls(here: Installation) -> None:
    """While many calls get their user, at the pace that Kommo allows, a new one is logged at once."""
    daemon = here.daemons[0]
    await daemon.ready()
    calls = [f"c{number}" for number in range(200)]
    await all_of(here.send(webhook(call_id, extension=EXTENSION)) for call_id in calls)
    await here.settled(len(calls), 60)
    assert await daemon.stop() == 0
    here.sections["kommo"]["rate"] = 7
    here.accounts[0]["extensions"][EXTENSION] = USER
    here.write(daemon.config)
    await daemon.ready()
    await until(lambda: USER in whose(here, calls))
    slowest = 0.0
    for number in range(5):
        began = time.monotonic()
        await here.send(webhook(f"new-{number}"))
        await until(lambda: here.entries(f"new-{number}"))  # noqa: B023  awaited here
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.7)
    assert None in whose(here, calls), "it went on meanwhile"
    assert slowest < 3.0
    assert (await here.run("status", "--json")).json["oldest_due_s"] < 10
