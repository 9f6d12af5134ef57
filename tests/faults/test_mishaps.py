"""What went wrong for others: each test a bug that some integration with Kommo really had."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from calllogd.sandbox import Fault, FaultKind
from tests.faults.clock import Clock
from tests.faults.load import sound
from tests.faults.machine import (
    ACCOUNT,
    KNOWN,
    Installation,
    all_of,
    installation,
    unknown,
    until,
    webhook,
)

NEW_LEAD = "^/leads/unsorted/sip$"
LONGEST_WAIT_S = 300.0


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path) as it:
        yield it


async def state(here: Installation, call_id: str) -> str:
    return str((await here.calls())[ACCOUNT, call_id]["state"])


async def test_calls_of_the_same_two_numbers_that_overlap_are_two_entries(here: Installation) -> None:
    await here.daemon().ready()
    same = {"one": KNOWN, "two": KNOWN, "three": unknown(1), "four": unknown(1)}
    began_at = int(time.time()) - 60
    await all_of(
        here.send(webhook(call_id, phone, extension="101", started_at=began_at))
        for call_id, phone in same.items()
    )
    await here.settled(4)
    await here.each_stands_once((ACCOUNT, call_id) for call_id in same)
    assert len(here.kommo.account(ACCOUNT).unsorted) == 1


async def test_the_same_event_four_times_at_once_and_once_more_is_one_entry(here: Installation) -> None:
    await here.daemon().ready()
    event = webhook("c1")
    await all_of(here.send(event) for _ in range(4))
    await here.settled(1)
    await here.send(event)
    await here.settled(1)
    await here.each_stands_once([(ACCOUNT, "c1")])


async def kommo_tells(here: Installation) -> None:
    """Have Kommo tell the daemon of what happens in the account."""
    told = (await here.run("check")).out
    (address,) = [word for word in told.split() if f"/kommo/{ACCOUNT}/" in word]
    here.kommo.hook(ACCOUNT, address)


async def test_a_person_adds_the_contact_before_the_incoming_lead_is_made(here: Installation) -> None:
    """Nobody has the number, the incoming lead cannot be made, and meanwhile a person adds the contact."""
    account = here.kommo.account(ACCOUNT)
    refused = Fault(FaultKind.RATE, method="POST", path=NEW_LEAD, times=2, seconds=0.5)
    here.kommo.faults.add(refused)
    await here.daemon().ready()
    await kommo_tells(here)
    await here.send(webhook("first", unknown(1)))
    await until(lambda: here.kommo.faults.fired(refused))
    contact = account.add_contact("Added by hand", [unknown(1)])
    await here.send(webhook("second", unknown(1)))
    await here.settled(2, 30)
    for call_id in ("first", "second"):
        (entry,) = here.entries(call_id)
        assert (entry.entity_type, entry.entity_id) == ("contacts", contact.id)
    assert account.unsorted == []


async def test_a_person_adds_the_contact_of_an_outbound_call(here: Installation) -> None:
    await here.daemon().ready()
    await kommo_tells(here)
    await here.send(webhook("c1", unknown(1), direction="outbound"))
    await here.settled(1)
    assert await state(here, "c1") == "awaiting_contact"
    contact = here.kommo.account(ACCOUNT).add_contact("Added by hand", [unknown(1)])
    await until(lambda: here.entries("c1"))
    (entry,) = here.entries("c1")
    assert (entry.entity_type, entry.entity_id) == ("contacts", contact.id)


async def test_a_storm_of_429_that_is_longer_than_many_tries(here: Installation) -> None:
    storm = here.kommo.faults.add(Fault(FaultKind.RATE, seconds=0.1))
    clock = Clock(here.folder / "clock")
    daemon = here.daemon()
    daemon.program = clock.program
    await daemon.ready()
    calls = [webhook(f"c{place}", KNOWN if place % 2 else unknown(place)) for place in range(12)]
    await all_of(here.send(call) for call in calls)
    await until(lambda: here.kommo.faults.fired(storm))
    for tries in range(1, 6):  # each is preceded by the longest wait there is, which passes at once
        before = here.kommo.faults.fired(storm)
        clock.set(tries * LONGEST_WAIT_S)
        await until(lambda: here.kommo.faults.fired(storm) > before)  # noqa: B023  awaited here
    assert here.kommo.account(ACCOUNT).notes == []
    here.kommo.faults.clear()
    clock.set(6 * LONGEST_WAIT_S)
    await here.settled(12)
    await here.each_stands_once((ACCOUNT, f"c{place}") for place in range(12))


async def test_an_account_that_is_paid_at_last_goes_on_by_itself(here: Installation) -> None:
    unpaid = here.kommo.faults.add(Fault(FaultKind.UNPAID))
    await here.daemon().ready()
    await all_of(here.send(webhook(f"c{place}")) for place in range(8))
    await until(lambda: here.kommo.faults.fired(unpaid) >= 2, 15)
    here.kommo.faults.clear()
    await here.settled(8, 25)
    await here.each_stands_once((ACCOUNT, f"c{place}") for place in range(8))
    assert (await here.run("status", "--json")).json["accounts"][0]["state"] == "active"


async def test_a_recording_that_comes_when_the_wait_for_a_contact_is_over(here: Installation) -> None:
    here.sections["policy"]["contact_wait"] = 1
    await here.daemon().ready()
    await here.send(webhook("expired", unknown(1), direction="outbound"))
    await here.send(webhook("logged"))

    async def is_expired() -> bool:
        return await state(here, "expired") == "expired"

    await until(is_expired, 20, every_s=0.2)
    await all_of(here.upload(call_id, sound(1)) for call_id in ("expired", "logged"))
    await here.settled(2)
    assert here.entries("expired") == []
    recordings = [path for path in (here.folder / "recordings").rglob("*") if path.is_file()]
    assert len(recordings) == 1, "a recording of a call without a contact is kept"
    (entry,) = here.entries("logged")
    assert await here.played(entry) == sound(1)


async def test_the_chosen_lead_is_deleted_meanwhile(here: Installation) -> None:
    account = here.kommo.account(ACCOUNT)
    await here.daemon().ready()
    gone, there = account.add_lead("Gone"), account.add_lead("There")
    await here.send(webhook("c1"))
    await until(lambda: here.entries("c1"))
    account.delete(gone)
    await here.save("c1", text="first", entity={"type": "leads", "id": gone.id})

    async def has_failed() -> bool:
        return await state(here, "c1") == "failed"

    await until(has_failed)
    assert len(here.entries("c1")) == 1
    await here.save("c1", rev=2, text="second", entity={"type": "leads", "id": there.id})
    await here.settled(1)
    (entry,) = here.entries("c1")
    assert (entry.entity_id, entry.params["call_result"]) == (there.id, "second")


async def test_an_edit_that_kommo_carries_out_late_doubles_nothing(here: Installation) -> None:
    """The answer to an edit is lost, the manager moves the call, and then Kommo carries the edit out."""
    here.sections["kommo"]["timeout"] = 0.5
    here.sections["policy"]["doubt_wait"] = 5
    late = Fault(FaultKind.LATE_COMMIT, method="PATCH", path="^/contacts/notes/", times=1, seconds=3)
    here.kommo.faults.add(late)
    lead = here.kommo.account(ACCOUNT).add_lead("Chosen").id
    await here.daemon().ready()
    await here.send(webhook("c1"))
    await until(lambda: here.entries("c1"))
    await here.save("c1", rev=1, text="first")
    await until(lambda: here.kommo.faults.fired(late))
    await here.save("c1", rev=2, text="second", entity={"type": "leads", "id": lead})
    await until(lambda: here.kommo.counters["late_commits"])
    await here.settled(1)
    (entry,) = here.entries("c1")
    assert (entry.entity_id, entry.params["call_result"]) == (lead, "second")


async def test_an_edit_that_kommo_carries_out_late_does_not_undo_a_newer_one(here: Installation) -> None:
    here.sections["kommo"]["timeout"] = 0.5
    here.sections["policy"]["doubt_wait"] = 5
    late = Fault(FaultKind.LATE_COMMIT, method="PATCH", path="^/contacts/notes/", times=1, seconds=3)
    here.kommo.faults.add(late)
    await here.daemon().ready()
    await here.send(webhook("c1"))
    await until(lambda: here.entries("c1"))
    await here.save("c1", rev=1, text="first")
    await until(lambda: here.kommo.faults.fired(late))
    await here.save("c1", rev=2, text="second")
    await until(lambda: here.kommo.counters["late_commits"])
    await here.settled(1)
    assert here.entries("c1")[0].params["call_result"] == "second"


async def test_a_result_before_an_incoming_lead_that_kommo_lists_late(here: Installation) -> None:
    here.kommo.account(ACCOUNT).list_lag = 0.5
    await here.daemon().ready()
    await here.save("c1", text="talked", direction="inbound", phone=unknown(1), duration=4)
    await here.send(webhook("c1", unknown(1)))
    await here.settled(1)
    await here.each_stands_once([(ACCOUNT, "c1")])
    assert here.entries("c1")[0].params["call_result"] == "talked"


async def test_a_move_from_an_incoming_lead_that_kommo_lists_late(here: Installation) -> None:
    """Another call keeps the incoming lead, so the one that moves has to empty its note."""
    account = here.kommo.account(ACCOUNT)
    lead = account.add_lead("Chosen").id
    await here.daemon().ready()
    account.list_lag = 4
    await here.send(webhook("c1", unknown(1)))
    await until(lambda: here.entries("c1"))
    await here.send(webhook("c2", unknown(1)))
    await until(lambda: here.entries("c2"))
    await here.save("c1", text="moved", entity={"type": "leads", "id": lead})
    await until(lambda: any(entry.entity_id == lead for entry in here.entries("c1")))
    await here.settled(2)
    left = [entry for entry in here.entries("c1") if entry.params["uniq"] == "c1"]
    assert [entry.entity_id for entry in left] == [lead]
