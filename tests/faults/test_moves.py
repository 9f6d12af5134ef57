"""Result, recording and webhook with real processes, killed at each step of a move."""

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from calllogd.sandbox import Fault, FaultKind
from tests.faults.machine import ACCOUNT, KNOWN, Installation, installation, unknown, until, webhook

HELD, DONE = FaultKind.TIMEOUT_BEFORE, FaultKind.TIMEOUT_AFTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A request of a move, and how it is held while the daemon is killed; `phone`: where it moves from."""

    name: str
    method: str
    path: str
    kind: FaultKind
    phone: str = KNOWN


def both(name: str, method: str, path: str, phone: str = KNOWN) -> tuple[Moment, Moment]:
    return (
        Moment(name=f"{name}, not carried out", method=method, path=path, kind=HELD, phone=phone),
        Moment(name=f"{name}, carried out", method=method, path=path, kind=DONE, phone=phone),
    )


MOMENTS = (
    *both("note on the chosen lead", "POST", "^/leads/notes$"),
    *both("old note emptied", "PATCH", "^/contacts/notes/[0-9]+$"),
    *both("task made", "POST", "^/tasks$"),
    *both("caller linked to the chosen lead", "POST", "^/leads/[0-9]+/link$", unknown(1)),
    *both("note instead of an incoming lead", "POST", "^/leads/notes$", unknown(2)),
    *both("incoming lead declined", "DELETE", "^/leads/unsorted/.+/decline$", unknown(3)),
)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path) as it:
        yield it


def sound() -> bytes:
    """Return a second of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(16000))
    return file.getvalue()


async def logged(here: Installation, call_id: str, account_id: int = ACCOUNT) -> None:
    await until(lambda: here.entries(call_id, account_id))


@pytest.mark.timeout(120)
async def test_killed_at_each_step_of_a_move(here: Installation) -> None:
    moments = dict(enumerate(MOMENTS, 1000))
    leads, faults = {}, {}
    for account_id, moment in moments.items():
        account = here.add_account(account_id)
        leads[account_id] = account.add_lead("Chosen").id
        fault = Fault(moment.kind, method=moment.method, path=moment.path, account_id=account_id, times=1)
        faults[account_id] = here.kommo.faults.add(fault)
    daemon = here.daemon()
    await daemon.ready()
    for account_id, moment in moments.items():
        await here.send(webhook(moment.name, moment.phone), account_id)
        await logged(here, moment.name, account_id)
        status = await here.save(
            moment.name,
            account_id,
            text="moved",
            entity={"type": "leads", "id": leads[account_id]},
            task={"text": "call back", "complete_till": 1_900_000_000},
        )
        assert status == 200
        await until(lambda: here.kommo.faults.fired(faults[account_id]), every_s=0)  # noqa: B023  awaited here
        daemon.kill()
        await daemon.ready()
    await here.settled(len(moments))
    for account_id, moment in moments.items():
        (entry,) = here.entries(moment.name, account_id)
        assert (entry.entity_type, entry.entity_id) == ("leads", leads[account_id]), moment.name
        assert entry.params["call_result"] == "moved"
        account = here.kommo.account(account_id)
        assert len(account.tasks) == 1, moment.name
        assert all(lead.state.value == "declined" for lead in account.unsorted), moment.name


async def test_everything_at_the_same_instant(here: Installation) -> None:
    """Webhook, result and recording of forty calls, three times each, all at once, with kills meanwhile."""
    daemon = here.daemon()
    await daemon.ready()
    lead = here.kommo.account(ACCOUNT).add_lead("Chosen").id
    calls = [f"at-once-{number}" for number in range(40)]

    async def everything(number: int, call_id: str) -> None:
        phone = KNOWN if number % 2 else unknown(number)
        more: dict[str, Any] = {"entity": {"type": "leads", "id": lead}} if number % 4 < 2 else {}
        await asyncio.gather(
            *(here.send(webhook(call_id, phone)) for _ in range(3)),
            *(here.save(call_id, text=f"talked {number}", **more) for _ in range(3)),
            *(here.upload(call_id, sound()) for _ in range(3)),
        )

    async def kills() -> None:
        for _ in range(3):
            await asyncio.sleep(0.3)
            daemon.kill()
            await daemon.ready()

    await asyncio.gather(kills(), *(everything(number, call_id) for number, call_id in enumerate(calls)))
    await here.settled(len(calls), 60)
    for number, call_id in enumerate(calls):
        (entry,) = here.entries(call_id)
        assert entry.params["call_result"] == f"talked {number}"
        if number % 4 < 2:
            assert (entry.entity_type, entry.entity_id) == ("leads", lead)
        async with here.http.get(str(entry.params["link"]), headers={"Range": "bytes=0-3"}) as answer:
            assert answer.status == 206
            assert await answer.read() == b"RIFF"
    found = await here.calls()
    assert {call["recording"]["state"] for call in found.values()} == {"ready"}


async def test_an_older_result_that_comes_later_changes_nothing(here: Installation) -> None:
    await here.daemon().ready()
    await here.send(webhook("c1"))
    assert await here.save("c1", rev=3, text="third") == 200
    assert await here.save("c1", rev=2, text="second") == 409
    assert await here.save("c1", rev=3, text="third") == 200
    await here.settled(1)
    (entry,) = here.entries("c1")
    assert entry.params["call_result"] == "third"


async def test_a_recording_that_is_forgotten_cannot_be_played_and_leaves_the_note(here: Installation) -> None:
    await here.daemon().ready()
    await here.upload("c1", sound())
    await here.send(webhook("c1"))
    await here.settled(1)
    link = str(here.entries("c1")[0].params["link"])
    assert (await here.run("forget", ACCOUNT, "c1")).code == 0
    async with here.http.get(link) as answer:
        assert answer.status == 404
    await until(lambda: "link" not in here.entries("c1")[0].params)
    assert await here.upload("c1", sound()) == 200
    assert (await here.run("forget", ACCOUNT, "nobody's")).code == 1
    async with here.http.get(link) as answer:
        assert answer.status == 404, "it stays forgotten"


async def test_show_tells_why_the_entry_is_where_it_is(here: Installation) -> None:
    await here.daemon().ready()
    lead = here.kommo.account(ACCOUNT).add_lead("Chosen").id
    await here.send(webhook("c1"))
    await logged(here, "c1")
    await here.save("c1", text="an offer is wanted", entity={"type": "leads", "id": lead})
    await here.settled(1)
    said = (await here.run("show", ACCOUNT, "c1")).said
    assert "the manager chose it in the call result" in said
    assert "an offer is wanted" in said
    assert "cleared the old entry away" in said
