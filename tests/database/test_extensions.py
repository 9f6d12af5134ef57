"""Extensions and open calls in the ledger: what is stored, who sees it, and what it costs."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from calllogd.database.database import Database
from calllogd.database.extensions import LedgerOfExtensions
from calllogd.database.open_calls import FRESH_S, OPEN, UNTOUCHED, LedgerOfOpenCalls, wants_result
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import (
    Call,
    CallKey,
    CallState,
    CallStatus,
    Direction,
    EntityType,
    Entry,
    Facts,
    Outcome,
    Person,
    Result,
    Widget,
)
from calllogd.domain.merge import CallEvent
from calllogd.errors import AccountPaused, StorageError
from calllogd.ports import Note
from calllogd.voip.usecase.assign_extensions import ExtensionTables
from tests.fakes import ACCOUNT, START, ended, told

OTHER = 31338
HERS = Person(1, user_id=111)


@pytest.fixture
def tables(database: Database) -> LedgerOfExtensions:
    return LedgerOfExtensions(database)


async def revision(database: Database) -> int:
    return await database.read(
        lambda connection: int(connection.execute("SELECT revision FROM directory").fetchone()[0])
    )


async def test_a_table_is_stored_and_replaced(database: Database, tables: LedgerOfExtensions) -> None:
    _: ExtensionTables = tables
    assert await tables.tables() == {}
    assert await tables.table(ACCOUNT) == {}
    assert await tables.replace(ACCOUNT, {"101": 111, "102": 112})
    assert await tables.replace(OTHER, {"101": 7})
    assert await tables.tables() == {ACCOUNT: {"101": 111, "102": 112}, OTHER: {"101": 7}}
    assert await tables.replace(ACCOUNT, {"101": 112, "102": 111}), "they may be exchanged"
    assert await tables.table(ACCOUNT) == {"101": 112, "102": 111}
    assert await tables.replace(ACCOUNT, {})
    assert await tables.tables() == {OTHER: {"101": 7}}


async def test_only_a_change_makes_processes_build_anew(
    database: Database, tables: LedgerOfExtensions
) -> None:
    before = await revision(database)
    assert await tables.replace(ACCOUNT, {"101": 111})
    changed = await revision(database)
    assert changed > before
    assert not await tables.replace(ACCOUNT, {"101": 111})
    assert await revision(database) == changed
    assert await tables.replace(ACCOUNT, {})
    assert await revision(database) > changed


@pytest.mark.parametrize("table", [{"": 1}, {"x" * 65: 1}, {"1": 1, "2": 1}])
async def test_an_impossible_table_changes_nothing(
    database: Database, tables: LedgerOfExtensions, table: dict[str, int]
) -> None:
    await tables.replace(ACCOUNT, {"101": 111})
    before = await revision(database)
    with pytest.raises((sqlite3.IntegrityError, StorageError)):
        await tables.replace(ACCOUNT, table)
    assert await tables.table(ACCOUNT) == {"101": 111}
    assert await revision(database) == before


async def test_of_two_tables_at_once_one_is_whole(database: Database, tables: LedgerOfExtensions) -> None:
    every = [{f"{number}{place}": place for place in range(1, 20)} for number in range(10)]
    await asyncio.gather(*(tables.replace(ACCOUNT, table) for table in every))
    assert await tables.table(ACCOUNT) in every


async def test_it_is_on_disk(database: Database, tables: LedgerOfExtensions) -> None:
    await tables.replace(ACCOUNT, {"101": 111})
    with closing(sqlite3.connect(database.path)) as beside:
        assert beside.execute("SELECT * FROM extensions").fetchall() == [(ACCOUNT, "101", 111)]


# Open calls.

ENTRY = Entry(entity_type=EntityType.CONTACTS, entity_id=7, note_id=8)


async def log(ledger: LedgerOfCalls, call_id: str, **changes: Any) -> None:
    call = await ledger.claim(CallKey(ACCOUNT, call_id), START, 30.0)
    assert call is not None
    done = {"state": CallState.LOGGED, "entry": ENTRY, "due_at": None, **changes}
    await ledger.release(replace(call, **done), START, Note(what="x", outcome="x"))


async def opened(database: Database, extensions: Sequence[str] = (), limit: int = 20) -> list[str]:
    calls = await LedgerOfOpenCalls(database).of_user(ACCOUNT, 111, extensions, START, limit)
    return [call.key.call_id for call in calls]


async def test_calls_are_found_wherever_they_stand(database: Database, ledger: LedgerOfCalls) -> None:
    for number, state in enumerate(CallState):
        event = ended(state, person=HERS, phone=f"+1212555{number:04}", started_at=START - 100 + number)
        await ledger.accept(told(event), START)
        await log(ledger, state, state=state)
    await ledger.accept(told(ended("new", person=HERS, started_at=START - 1)), START)
    await ledger.accept(told(ended("withheld", person=HERS, phone="", started_at=START - 2)), START)
    assert set(await opened(database)) == {*CallState, "new", "withheld"} - {CallState.IGNORED}
    assert (await opened(database))[:2] == ["new", "withheld"]
    assert len(await opened(database, limit=3)) == 3


async def test_of_an_account_that_is_paused_calls_are_found(
    database: Database, ledger: LedgerOfCalls
) -> None:
    await ledger.pause(ACCOUNT, AccountPaused("unpaid"), START)
    await ledger.accept(told(ended(person=HERS)), START)
    assert await ledger.claim(CallKey(ACCOUNT, "c1"), START, 30.0) is None
    assert await opened(database) == ["c1"]


async def test_a_user_s_id_is_not_an_extension(database: Database, ledger: LedgerOfCalls) -> None:
    for call_id, person in (("phone", Person(1, extension="111")), ("user", HERS)):
        await ledger.accept(told(ended(call_id, person=person)), START)
        await log(ledger, call_id)
    assert await opened(database) == ["user"]
    assert sorted(await opened(database, ["111"])) == ["phone", "user"]


async def test_open_calls_are_found_by_an_index(database: Database) -> None:
    def plan(question: str, values: int) -> list[str]:
        with closing(sqlite3.connect(database.path)) as beside:
            rows = beside.execute(f"EXPLAIN QUERY PLAN {question}", (1,) * values).fetchall()
            return [row[3].partition(" (")[0] for row in rows]

    assert plan(OPEN, 4) == ["SEARCH calls USING INDEX calls_open"]
    assert plan(UNTOUCHED, 5) == [
        "SEARCH calls USING INTEGER PRIMARY KEY",
        "LIST SUBQUERY 1",
        "SEARCH calls USING INDEX calls_due",
    ]


async def test_accepting_does_not_write_to_the_index(database: Database, ledger: LedgerOfCalls) -> None:
    """Count what the index holds: of calls that have just arrived nothing."""
    where = "result IS NULL AND (number IS NOT NULL OR state <> 'pending')"

    def indexed(connection: sqlite3.Connection) -> int:
        question = f"SELECT count(*) FROM calls INDEXED BY calls_open WHERE {where}"
        return int(connection.execute(question).fetchone()[0])

    for number in range(5):
        await ledger.accept(told(ended(f"c{number}", person=HERS)), START)
    assert await database.read(indexed) == 0
    await log(ledger, "c0")
    assert await database.read(indexed) == 1


DONE = Call(
    key=CallKey(ACCOUNT, "c1"),
    arrived_at=START,
    state=CallState.LOGGED,
    facts=Facts(direction=Direction.INBOUND, started_at=START, outcome=Outcome(CallStatus.ANSWERED, 10)),
)


@pytest.mark.parametrize(
    ("call", "age_s", "wanted"),
    [
        (DONE, 0, True),
        (DONE, FRESH_S - 1, True),
        (DONE, FRESH_S, False),
        (replace(DONE, state=CallState.AWAITING_RESULT), FRESH_S, True),
        (replace(DONE, state=CallState.IGNORED), 0, False),
        (replace(DONE, state=CallState.FAILED), 0, True),
        (replace(DONE, facts=Facts()), 0, False),
        (replace(DONE, result=Result(rev=1)), 0, False),
        (replace(DONE, widget=Widget(skipped=True)), 0, False),
        (replace(DONE, widget=Widget(skipped=True), state=CallState.AWAITING_RESULT), 0, False),
    ],
)
def test_which_calls_want_a_result(call: Call, age_s: float, wanted: bool) -> None:
    assert wants_result(call, START + 10 + age_s) is wanted


async def test_changes_of_known_calls_are_told_and_nothing_else(database: Database) -> None:
    changes: list[tuple[CallState, CallState, int, int]] = []

    def tell(before: Call, after: Call) -> None:
        changes.append((before.state, after.state, before.revision, after.revision))

    ledger = LedgerOfCalls(database, told=tell)
    await ledger.accept(told(ended(person=HERS)), START)
    await ledger.accept(told(ended(person=HERS)), START)
    assert changes == []
    await ledger.accept(told(ended(person=HERS, duration=50), b"news"), START)
    await asyncio.gather(
        ledger.accept(told(CallEvent(key=CallKey(ACCOUNT, "c1"), result=Result(rev=1)), b"1"), START),
        ledger.accept(told(ended("c2")), START),
    )
    pending = CallState.PENDING
    assert changes == [(pending, pending, 1, 2), (pending, pending, 2, 3)]
    await log(ledger, "c1")
    assert changes[2:] == [(pending, CallState.LOGGED, 3, 3)]
