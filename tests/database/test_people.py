"""Calls that are nobody's: counted, found, and made due once."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from calllogd.database import people as module
from calllogd.database.database import Database
from calllogd.database.people import LedgerOfPeople
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import (
    Attribution,
    Call,
    CallKey,
    CallState,
    Doubt,
    EntityType,
    Entry,
    Intent,
    Person,
)
from calllogd.domain.user import MAPPED_FOR_S
from calllogd.ports import NobodysCalls, Note, Unmapped
from tests.fakes import ACCOUNT, START, ended, told

ENTRY = Entry(entity_type=EntityType.CONTACTS, entity_id=7, note_id=8)
NOTE = Note(what="log_call", outcome="contacts 7")
OTHER = 4242


@pytest.fixture
def people(database: Database) -> LedgerOfPeople:
    return LedgerOfPeople(database)


@pytest.fixture
async def beside(database: Database) -> AsyncIterator[LedgerOfPeople]:
    """Another process's view of the same file."""
    other = Database(database.path)
    await other.open()
    yield LedgerOfPeople(other)
    await other.close()


async def logged(
    ledger: LedgerOfCalls,
    call_id: str,
    extension: str = "105",
    *,
    account_id: int = ACCOUNT,
    user_id: int = 0,
    whose: Attribution | None = None,
    state: CallState = CallState.LOGGED,
    at: float = START,
) -> CallKey:
    """Put a call into the ledger and bring it into a state, written as `whose` call."""
    event = ended(call_id, account_id=account_id, person=Person(3, extension, user_id))
    await ledger.accept(told(event), at)
    held = await ledger.claim(event.key, at, 60)
    assert held is not None
    entry = ENTRY if state is CallState.LOGGED else None
    written = held.revision if entry else 0
    worked = replace(held, state=state, due_at=None, entry=entry, written_revision=written, attribution=whose)
    await ledger.release(worked, at, NOTE)
    return event.key


async def row(ledger: LedgerOfCalls, key: CallKey) -> Call:
    call = await ledger.get(key)
    assert call is not None
    return call


async def attributed(people: LedgerOfPeople, *extensions: str, now: float = START, limit: int = 100) -> None:
    """Go one round."""
    place: int | None = 0
    while place is not None:
        since = now - MAPPED_FOR_S
        place = await people.attribute(
            ACCOUNT, extensions, since=since, now=now, after=place or 0, limit=limit
        )


def test_it_is_what_the_worker_needs(database: Database) -> None:
    _: NobodysCalls = LedgerOfPeople(database)


async def test_what_the_entry_says_is_kept(ledger: LedgerOfCalls) -> None:
    whose = Attribution("105", 111)
    assert (await row(ledger, await logged(ledger, "c1", whose=whose))).attribution == whose
    assert (await row(ledger, await logged(ledger, "c2"))).attribution is None


async def test_what_a_request_says_outlives_a_crash(ledger: LedgerOfCalls) -> None:
    await ledger.accept(told(ended("c1", person=Person(3, "105"))), START)
    held = await ledger.claim(CallKey(ACCOUNT, "c1"), START, 60)
    assert held is not None
    doubt = Doubt(intent=Intent.LOG_CALL, over_at=START, revision=1, attribution=Attribution("105", 111))
    await ledger.save(replace(held, doubt=doubt), START, 60)
    found = await row(ledger, held.key)
    assert found.doubt == doubt
    assert found.attribution is None


async def test_extensions_that_nobody_has_are_counted(ledger: LedgerOfCalls, people: LedgerOfPeople) -> None:
    for number in range(3):
        await logged(ledger, f"a{number}", "106")
    await logged(ledger, "b", "105")
    await logged(ledger, "other", "101", account_id=OTHER)
    await logged(ledger, "waits", "107", state=CallState.AWAITING_CONTACT)
    await logged(ledger, "failed", "107", state=CallState.FAILED)
    await logged(ledger, "internal", "107", state=CallState.IGNORED)
    await logged(ledger, "blocked", "111", state=CallState.IGNORED)
    await logged(ledger, "named", "108", user_id=5)
    await logged(ledger, "his", "108", whose=Attribution("108", 5))
    await logged(ledger, "nowhere", "")
    await logged(ledger, "old", "109", at=START - MAPPED_FOR_S - 1)
    await ledger.accept(told(ended("new", person=Person(3, "110"))), START)
    tables = {ACCOUNT: {"101": 111, "105": 112}}
    assert await people.unmapped(tables, START) == [
        Unmapped(ACCOUNT, "106", 3),
        Unmapped(ACCOUNT, "107", 2),
        Unmapped(OTHER, "101", 1),
    ]
    every = [one.extension for one in await people.unmapped({}, START)]
    assert every == ["106", "107", "101", "105"]


async def test_a_service_that_sends_anything_as_extensions_holds_nobody_up(
    ledger: LedgerOfCalls, people: LedgerOfPeople, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXTENSIONS_MOST", 3)
    for number in range(5):
        await logged(ledger, f"c{number}", f"'{number}\0\"; --")
    assert len(await people.unmapped({}, START)) == 3


async def test_a_call_of_nobody_is_made_due_once(
    ledger: LedgerOfCalls, people: LedgerOfPeople, beside: LedgerOfPeople
) -> None:
    key = await logged(ledger, "c1")
    await asyncio.gather(*(attributed(each, "105", "106") for each in (people, beside) * 3))
    call = await row(ledger, key)
    assert (call.revision, call.written_revision, call.due_at) == (2, 1, START)
    story = [line for line in await ledger.story(key) if line.what == "attribute"]
    assert [(line.outcome, line.times) for line in story] == [("extension 105", 1)]


@pytest.mark.parametrize(
    "more",
    [
        {"whose": Attribution("105", 111)},
        {"user_id": 5},
        {"extension": "106"},
        {"extension": ""},
        {"account_id": OTHER},
        {"at": START - MAPPED_FOR_S - 1},
        {"state": CallState.EXPIRED},
        {"state": CallState.IGNORED},
        {"state": CallState.AWAITING_CONTACT},
        {"state": CallState.FAILED},
    ],
    ids=str,
)
async def test_all_others_are_left_alone(
    ledger: LedgerOfCalls, people: LedgerOfPeople, more: dict[str, Any]
) -> None:
    key = await logged(ledger, "c1", **more)
    before = await row(ledger, key)
    await attributed(people, "105")
    assert await row(ledger, key) == before


async def test_who_holds_the_call_learns_of_it(ledger: LedgerOfCalls, people: LedgerOfPeople) -> None:
    key = await logged(ledger, "c1")
    await ledger.accept(told(ended("c1", duration=50, person=Person(3, "105")), b"longer"), START)
    held = await ledger.claim(key, START, 60)
    assert held is not None
    amended = await ledger.save(replace(held, written_revision=held.revision), START, 60)
    await attributed(people, "105")
    kept = await ledger.release(replace(amended, due_at=None), START, NOTE)
    assert kept is not None, "it goes on"
    assert kept.written_revision < kept.revision


async def test_only_so_many_are_due_at_a_time(ledger: LedgerOfCalls, people: LedgerOfPeople) -> None:
    keys = [await logged(ledger, f"c{number}", f"10{number % 3}") for number in range(10)]
    place: int | None = 0
    seen = []
    while place is not None:
        place = await people.attribute(
            ACCOUNT, ["100", "101", "102"], since=0, now=START, after=place or 0, limit=4
        )
        due = await ledger.due(ACCOUNT, START, 100)
        assert len(due) <= 4
        if len(due) == 4:
            full = await people.attribute(ACCOUNT, ["100"], since=0, now=START, after=5, limit=4)
            assert full == 5, "there is no room, so nothing is passed by"
        for key in due:
            held = await ledger.claim(key, START, 60)
            assert held is not None
            whose = Attribution("10", 111)
            done = replace(held, written_revision=held.revision, due_at=None, attribution=whose)
            await ledger.release(done, START, NOTE)
            seen.append(key)
    assert sorted(seen) == sorted(keys), "each of them, once"


async def test_new_calls_go_before(ledger: LedgerOfCalls, people: LedgerOfPeople) -> None:
    for number in range(5):
        await logged(ledger, f"c{number}", at=START - 100)
    await attributed(people, "105")
    await ledger.accept(told(ended("new")), START + 50)
    assert await ledger.due(ACCOUNT, START + 50, 1) == [CallKey(ACCOUNT, "new")]


async def test_what_has_arrived_is_not_written_into_the_index(
    ledger: LedgerOfCalls, database: Database
) -> None:
    """Accepting, and working on a call whose extension somebody has, writes nothing there."""
    await ledger.accept(told(ended("c1", person=Person(3, "105"))), START)
    await ledger.claim(CallKey(ACCOUNT, "c1"), START, 60)
    await logged(ledger, "c2", whose=Attribution("105", 111))
    with closing(sqlite3.connect(database.path)) as connection:
        indexed = f"SELECT count(*) FROM calls INDEXED BY calls_of_nobody WHERE {module._NOBODYS}"
        assert connection.execute(indexed).fetchone() == (0,)
        plans = [
            connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()[place][3]
            for statement, values, place in (
                (module._NEXT, (0, ""), 0),
                (module._COUNT, (0, "", 0), 0),
                (module._FOUND, ("[]", 0, 0, 0, 0), 1),
            )
        ]
    assert all("USING COVERING INDEX calls_of_nobody" in plan for plan in plans), plans
