"""The ledger: what it says it has stored is on disk, and a call has one holder."""

import asyncio
import itertools
import sqlite3
import sys
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calllogd.database.database import Database
from calllogd.database.pauses import PROBE_FIRST_S, PROBE_LONGEST_S
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import (
    Call,
    CallKey,
    CallState,
    CallStatus,
    Direction,
    Doubt,
    EntityType,
    Entry,
    Facts,
    Intent,
    Leg,
    Outcome,
    Person,
    Recording,
    RecordingState,
    Side,
)
from calllogd.domain.merge import CallEvent, fold
from calllogd.errors import AccountPaused, ConfigError, LeaseLost, Overloaded, StorageError
from calllogd.ports import Accepted, Note, VoipCalls
from tests.fakes import ACCOUNT, START, begun, ended, told

KEY = CallKey(ACCOUNT, "c1")
LEASE_S = 30.0
ENTRY = Entry(entity_type=EntityType.CONTACTS, entity_id=7, note_id=8)


def rows(path: Path, statement: str = "SELECT count(*) FROM calls") -> int:
    """Ask through a connection of one's own: it sees what has been committed."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(statement).fetchone()[0])


async def known(ledger: LedgerOfCalls, key: CallKey = KEY) -> Call:
    call = await ledger.get(key)
    assert call is not None
    return call


async def held(ledger: LedgerOfCalls, key: CallKey = KEY, now: float = START) -> Call:
    call = await ledger.claim(key, now, LEASE_S)
    assert call is not None
    return call


@pytest.fixture
async def beside(database: Database) -> AsyncIterator[LedgerOfCalls]:
    """Another process's view of the same file."""
    other = Database(database.path)
    await other.open()
    yield LedgerOfCalls(other)
    await other.close()


async def refused(path: Path) -> None:
    """See that a file is refused, and that no thread of a connection is left behind."""
    with pytest.raises(ConfigError, match=r"database\.url"):
        await Database(path).open()
    assert not [thread for thread in threading.enumerate() if "connection_worker" in thread.name]


def test_it_is_what_the_use_cases_need(tmp_path: Path) -> None:
    _: VoipCalls = LedgerOfCalls(Database(tmp_path / "x.db"))


# The file and its schema


async def test_every_change_of_the_schema_is_recorded(ledger_path: Path, database: Database) -> None:
    assert rows(ledger_path, "SELECT min(number) FROM migrations") == 1
    applied = rows(ledger_path, "SELECT count(*) FROM migrations")
    await database.close()
    again = Database(ledger_path)
    await again.open()
    await again.close()
    assert rows(ledger_path, "SELECT count(*) FROM migrations") == applied


async def test_a_ledger_of_an_earlier_schema_is_brought_up_to_date(ledger_path: Path) -> None:
    first = files("calllogd.database.sql") / "0001_ledger.sql"
    with closing(sqlite3.connect(ledger_path)) as connection:
        connection.executescript(first.read_text(encoding="utf-8"))
        connection.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT, applied_at REAL)")
        connection.execute("INSERT INTO migrations VALUES (1, '0001_ledger', 0)")
        connection.execute(
            "INSERT INTO calls (account_id, call_id, arrived_at) VALUES (?, ?, ?)", (*KEY, START)
        )
        connection.commit()
    database = Database(ledger_path)
    await database.open()
    ledger = LedgerOfCalls(database)
    assert (await known(ledger)).part_of is None
    await ledger.accept(told(ended()), START)
    assert (await known(ledger)).facts == ended().facts
    await database.close()


@pytest.mark.usefixtures("database")
async def test_a_file_of_a_newer_calllogd_is_refused_and_left_as_it_is(ledger_path: Path) -> None:
    with closing(sqlite3.connect(ledger_path)) as connection:
        connection.execute("INSERT INTO migrations VALUES (999, '0999_future', 0)")
        connection.commit()
    with pytest.raises(ConfigError, match="999"):
        await Database(ledger_path).open()
    assert rows(ledger_path, "SELECT max(number) FROM migrations") == 999


@pytest.mark.parametrize(
    "content", [b"this is no database, it is a letter to my mother", b"SQLite format 3\0" + b"x" * 5000]
)
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(content)
    await refused(path)


async def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    await refused(tmp_path / "no" / "calllogd.db")


OPEN = """
import asyncio, sys
from pathlib import Path
from calllogd.database.database import Database
async def main():
    database = Database(Path(sys.argv[1]))
    await database.open()
    await database.ping()
    await database.close()
asyncio.run(main())
"""


async def test_processes_that_open_a_new_file_at_once_agree(ledger_path: Path) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", OPEN, str(ledger_path), cwd=Path(__file__).parents[2]
        )
        for _ in range(3)
    ]
    async with asyncio.timeout(20):
        assert [await process.wait() for process in processes] == [0, 0, 0]
    scripts = len([one for one in files("calllogd.database.sql").iterdir() if one.name.endswith(".sql")])
    assert rows(ledger_path, "SELECT count(*) FROM migrations") == scripts


async def test_the_file_is_synced_with_every_commit(database: Database) -> None:
    assert await database.write(lambda connection: connection.execute("PRAGMA synchronous").fetchone()) == (
        2,
    )
    assert await database.read(lambda connection: connection.execute("PRAGMA journal_mode").fetchone()) == (
        "wal",
    )


async def test_a_closed_database_says_so(database: Database, ledger: LedgerOfCalls) -> None:
    await database.close()
    await database.close()
    for request in (ledger.accept(told(ended()), START), ledger.get(KEY), ledger.claim(KEY, START, 1)):
        with pytest.raises(StorageError):
            await request


async def test_what_only_reads_cannot_write(database: Database) -> None:
    with pytest.raises(StorageError):
        await database.read(lambda connection: connection.execute("DELETE FROM calls"))


# What arrives


async def test_a_message_is_on_disk_when_it_is_acknowledged(ledger: LedgerOfCalls, ledger_path: Path) -> None:
    assert await ledger.accept(told(ended()), START) == Accepted(CallState.PENDING, duplicate=False, new=True)
    assert rows(ledger_path) == 1
    assert rows(ledger_path, "SELECT count(*) FROM task") == 1, "and its ring"


async def test_each_of_many_at_once_is_on_disk_when_it_is_acknowledged_and_they_share_commits(
    database: Database, ledger_path: Path
) -> None:
    commits = 0

    def committed() -> None:
        nonlocal commits
        commits += 1

    ledger = LedgerOfCalls(database, rung=committed)
    with closing(sqlite3.connect(ledger_path)) as connection:

        async def one(number: int) -> int:
            await ledger.accept(told(ended(f"c{number}")), START)
            found = connection.execute("SELECT count(*) FROM calls WHERE call_id = ?", (f"c{number}",))
            return int(found.fetchone()[0])

        assert await asyncio.gather(*(one(number) for number in range(300))) == [1] * 300
    assert commits < 30
    assert rows(ledger_path, "SELECT count(*) FROM task") == 300


async def test_the_same_message_many_times_at_once_is_one_call(
    ledger: LedgerOfCalls, beside: LedgerOfCalls, ledger_path: Path
) -> None:
    message = told(ended())
    answers = await asyncio.gather(
        *(one.accept(message, START) for _ in range(20) for one in (ledger, beside))
    )
    assert sum(answer.new for answer in answers) == 1
    assert sum(answer.duplicate for answer in answers) == 39
    assert rows(ledger_path) == 1
    (line,) = await ledger.story(KEY)
    assert line.times == 40
    assert (await known(ledger)).revision == 1


async def test_the_same_id_in_two_accounts_is_two_calls(ledger: LedgerOfCalls, ledger_path: Path) -> None:
    await ledger.accept(told(ended()), START)
    await ledger.accept(told(ended(account_id=7, duration=1)), START)
    assert rows(ledger_path) == 2
    assert (await known(ledger)).facts != (await known(ledger, CallKey(7, "c1"))).facts


async def test_one_call_cannot_have_two_rows(ledger: LedgerOfCalls, database: Database) -> None:
    await ledger.accept(told(ended()), START)
    with pytest.raises(sqlite3.IntegrityError):
        await database.write(
            lambda connection: connection.execute(
                "INSERT INTO calls (account_id, call_id, arrived_at) VALUES (?, ?, 0)", KEY
            )
        )


async def test_messages_of_one_call_in_one_commit_are_folded_in_their_order(ledger: LedgerOfCalls) -> None:
    answers = await asyncio.gather(
        ledger.accept(told(begun()), START),
        ledger.accept(told(ended()), START + 1),
        ledger.accept(told(begun()), START + 2),
    )
    assert [(answer.new, answer.duplicate) for answer in answers] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    call = await known(ledger)
    assert call.facts == ended().facts
    assert (call.revision, call.arrived_at, call.due_at) == (2, START, START + 1)


async def test_one_that_cannot_be_stored_does_not_undo_its_neighbours(
    ledger: LedgerOfCalls, ledger_path: Path
) -> None:
    bad = [told(ended("x" * 300)), told(ended("", account_id=8)), told(ended("big", duration=2**70))]
    good = [told(ended(f"c{number}")) for number in range(20)]
    answers = await asyncio.gather(
        *(ledger.accept(message, START) for message in (*good[:10], *bad, *good[10:])), return_exceptions=True
    )
    assert [isinstance(answer, Exception) for answer in answers] == [False] * 10 + [True] * 3 + [False] * 10
    assert rows(ledger_path) == 20


async def test_a_unit_that_fails_is_undone_alone(database: Database, ledger_path: Path) -> None:
    def insert(connection: sqlite3.Connection, call_id: str) -> None:
        connection.execute("INSERT INTO calls (account_id, call_id, arrived_at) VALUES (1, ?, 0)", (call_id,))

    def fails(connection: sqlite3.Connection) -> None:
        insert(connection, "bad")
        raise ZeroDivisionError

    answers = await asyncio.gather(
        database.write(lambda connection: insert(connection, "a")),
        database.write(fails),
        database.write(lambda connection: insert(connection, "b")),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [type(None), ZeroDivisionError, type(None)]
    assert rows(ledger_path) == 2
    assert rows(ledger_path, "SELECT count(*) FROM calls WHERE call_id = 'bad'") == 0


async def test_whoever_gives_up_waiting_disturbs_nobody(ledger: LedgerOfCalls, ledger_path: Path) -> None:
    tasks = [asyncio.create_task(ledger.accept(told(ended(f"c{number}")), START)) for number in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, Accepted) for answer in answers[1::2])
    await ledger.accept(told(ended("last")), START)
    assert rows(ledger_path) >= 26


FACTS = st.builds(
    Facts,
    direction=st.none() | st.sampled_from(Direction),
    phone=st.none() | st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=64),
    person=st.none()
    | st.builds(Person, st.integers(0, 4), st.text("0123456789é ", max_size=8), st.integers(0, 2**53 - 1)),
    started_at=st.none() | st.floats(946_684_800, 4_102_444_800),
    outcome=st.none() | st.builds(Outcome, st.sampled_from(CallStatus), st.integers(0, 10**7)),
)
RECORDINGS = st.builds(
    Recording, state=st.sampled_from(RecordingState), url=st.none() | st.just("https://voip.example/ü?a=%20")
)


LEGS = st.builds(
    Leg,
    id=st.text(st.characters(blacklist_categories=["Cc", "Cs"]), min_size=1, max_size=64),
    side=st.sampled_from([None, *Side]),
    direction=st.sampled_from([None, *Direction]),
    phone=st.sampled_from([None, "+1 212 555 0123", "ü"]),
    extension=st.sampled_from([None, "101"]),
    started_at=st.none() | st.floats(946_684_800, 4_102_444_800),
    answered_at=st.none() | st.floats(946_684_800, 4_102_444_800),
    ended_at=st.none() | st.floats(946_684_800, 4_102_444_800),
    talk=st.none() | st.integers(0, 10**7),
    status=st.sampled_from([None, *CallStatus]),
)


@given(st.lists(LEGS, min_size=1, max_size=3, unique_by=lambda leg: leg.id), LEGS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_legs_are_read_back_with_the_call_that_they_are(
    ledger: LedgerOfCalls, legs: list[Leg], late: Leg
) -> None:
    key = CallKey(ACCOUNT, uuid.uuid4().hex)
    message = told(CallEvent(key=key, legs=tuple(legs)))
    await ledger.accept(message, START)
    call = await known(ledger, key)
    assert call == fold(None, message.event, START)
    assert (await ledger.accept(message, START + 1)).duplicate
    more = CallEvent(key=key, legs=(late,))
    await ledger.accept(told(more), START + 2)
    assert await known(ledger, key) == fold(call, more, START + 2)


@given(FACTS, RECORDINGS, st.floats(946_684_800, 4_102_444_800))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_what_was_told_is_read_back_and_recognised_when_told_again(
    ledger: LedgerOfCalls, facts: Facts, recording: Recording, now: float
) -> None:
    key = CallKey(ACCOUNT, uuid.uuid4().hex)
    message = told(CallEvent(key=key, facts=facts, recording=recording))
    await ledger.accept(message, now)
    call = await known(ledger, key)
    assert (call.facts, call.recording, call.arrived_at, call.due_at) == (facts, recording, now, now)
    assert (await ledger.accept(message, now + 1)).duplicate
    assert (await known(ledger, key)).revision == 1


# Who may work


async def test_among_many_one_gets_the_call(ledger: LedgerOfCalls, beside: LedgerOfCalls) -> None:
    await ledger.accept(told(ended()), START)
    claims = await asyncio.gather(
        *(one.claim(KEY, START, LEASE_S) for _ in range(30) for one in (ledger, beside))
    )
    (winner,) = [claim for claim in claims if claim is not None]
    assert winner.lease is not None
    assert winner.lease.until == START + LEASE_S


async def test_a_call_is_not_given_before_it_is_due_or_while_it_is_held(ledger: LedgerOfCalls) -> None:
    assert await ledger.claim(KEY, START, LEASE_S) is None, "there is none"
    await ledger.accept(told(ended()), START)
    assert await ledger.claim(KEY, START - 1, LEASE_S) is None
    call = await held(ledger)
    assert await ledger.claim(KEY, START + LEASE_S - 0.1, LEASE_S) is None
    assert await ledger.release(replace(call, due_at=START + 60), START) is None
    assert await ledger.claim(KEY, START + 59, LEASE_S) is None
    assert await ledger.claim(KEY, START + 60, LEASE_S) is not None


async def test_a_lease_that_is_over_may_be_taken_and_its_holder_is_told(ledger: LedgerOfCalls) -> None:
    await ledger.accept(told(ended()), START)
    first = await held(ledger)
    second = await held(ledger, now=START + LEASE_S)
    for call in (first, replace(first, lease=None)):
        with pytest.raises(LeaseLost):
            await ledger.save(replace(call, attempts=9), START + LEASE_S, LEASE_S)
        with pytest.raises(LeaseLost):
            await ledger.release(replace(call, attempts=9), START + LEASE_S)
    assert (await known(ledger)).attempts == 0
    assert await ledger.release(second, START + LEASE_S) is None


async def test_what_the_holder_writes_is_kept_and_extends_his_lease(ledger: LedgerOfCalls) -> None:
    await ledger.accept(told(ended()), START)
    call = await held(ledger)
    worked = replace(
        call,
        state=CallState.IN_DOUBT,
        doubt=Doubt(intent=Intent.CREATE_INCOMING_LEAD, over_at=START + 20, revision=1, looked_at=START + 1),
        entry=Entry(entity_type=EntityType.LEADS, entity_id=1, note_id=None, lead_uid="uid", contact_id=2),
        attempts=3,
        asked=2,
        nobody_at=START + 0.5,
        last_error="it 'was' \"so\"",
        written_revision=1,
    )
    saved = await ledger.save(worked, START + 10, LEASE_S)
    assert saved.lease is not None
    assert saved.lease.until == START + 10 + LEASE_S
    assert saved == await known(ledger) == replace(worked, lease=saved.lease, lead=saved.lead)
    assert saved.lead is not None
    assert saved.lead.uid == "uid"


async def test_news_that_came_meanwhile_keep_the_call_in_its_holders_hands(ledger: LedgerOfCalls) -> None:
    await ledger.accept(told(begun()), START)
    call = await held(ledger)
    await ledger.accept(told(ended()), START + 5)
    done = replace(call, state=CallState.LOGGED, entry=ENTRY, written_revision=1, due_at=None)
    back = await ledger.release(done, START + 6)
    assert back is not None
    assert (back.revision, back.written_revision, back.facts) == (2, 1, ended().facts)
    assert back.lease is not None
    assert (await known(ledger)).due_at == START + 5
    assert await ledger.release(replace(back, written_revision=2, due_at=None), START + 7) is None
    call = await known(ledger)
    assert (call.lease, call.due_at, call.written_revision) == (None, None, 2)


async def test_a_leg_that_came_meanwhile_keeps_the_call_in_its_holders_hands(ledger: LedgerOfCalls) -> None:
    leg = Leg("a", Side.CLIENT, Direction.INBOUND, "5550123", ended_at=START)
    await ledger.accept(told(CallEvent(key=KEY, legs=(leg,))), START)
    call = await held(ledger)
    # It tells nothing that Kommo is told, but others may follow it.
    more = Leg("b", Side.STAFF, ended_at=START)
    await ledger.accept(told(CallEvent(key=KEY, legs=(more,))), START + 5)
    back = await ledger.release(replace(call, due_at=None), START + 6)
    assert back is not None
    assert (back.facts, back.legs, back.heard_at) == (call.facts, (leg, more), START + 5)


async def test_nothing_waits_for_moments_from_which_the_clock_was_taken_back(ledger: LedgerOfCalls) -> None:
    late = START + 3600
    leg = Leg("a", Side.CLIENT, Direction.INBOUND, "5550123", ended_at=START)
    await ledger.accept(told(CallEvent(key=KEY, legs=(leg,))), late)
    call = await held(ledger, now=late)
    shaky = replace(call, entry=ENTRY, state=CallState.LOGGED, shaky_until=late + 90, due_at=late + 90)
    await ledger.release(shaky, late)
    assert await ledger.clock_was_set_back(START, LEASE_S, doubt_wait_s=60) == 1
    call = await known(ledger)
    assert (call.due_at, call.heard_at, call.shaky_until) == (START, START, START + LEASE_S + 60)


async def test_a_holder_cannot_overwrite_what_was_reported(ledger: LedgerOfCalls) -> None:
    await ledger.accept(told(ended()), START)
    call = await held(ledger)
    saved = await ledger.save(replace(call, facts=Facts(), revision=9), START, LEASE_S)
    assert (saved.facts, saved.revision) == (ended().facts, 1)


async def test_a_call_whose_worker_died_in_a_request_is_in_doubt(ledger: LedgerOfCalls) -> None:
    await ledger.accept(told(ended()), START)
    call = await held(ledger)
    await ledger.save(
        replace(call, doubt=Doubt(intent=Intent.LOG_CALL, over_at=START + 20, revision=1)), START, LEASE_S
    )
    taken = await held(ledger, now=START + LEASE_S)
    assert taken.state is CallState.IN_DOUBT
    assert taken.doubt is not None
    assert taken.doubt.over_at == START + 20


# Pauses, and whose turn it is


async def test_pauses_grow_and_end_with_an_answer(ledger: LedgerOfCalls) -> None:
    await ledger.accept(told(ended()), START)
    await ledger.accept(told(ended(account_id=7)), START)
    now, waits = START, []
    for _ in range(12):
        pause = await ledger.pause(ACCOUNT, AccountPaused("not paid"), now)
        waits.append(pause.probe_at - now)
        assert pause.since == START
        assert await ledger.claim(KEY, pause.probe_at - 0.1, LEASE_S) is None
        now = pause.probe_at
    assert waits[0] == PROBE_FIRST_S
    assert all(later == min(2 * earlier, PROBE_LONGEST_S) for earlier, later in itertools.pairwise(waits))
    assert await ledger.claim(CallKey(7, "c1"), now, LEASE_S) is not None
    call = await held(ledger, now=now)
    assert [pause.account_id for pause in await ledger.pauses()] == [ACCOUNT]
    await ledger.save(call, now, LEASE_S, Note(what="amend", outcome="no answer"))
    assert await ledger.pauses() != []
    await ledger.release(call, now, Note(what="log_call", outcome="there", answered=True))
    assert await ledger.pauses() == []


async def test_of_a_paused_account_one_call_at_a_time_is_tried(ledger: LedgerOfCalls) -> None:
    for number in range(3):
        await ledger.accept(told(ended(f"c{number}")), START)
    pause = await ledger.pause(ACCOUNT, AccountPaused("not paid"), START)
    assert await ledger.due(None, pause.probe_at - 0.1, 10) == []
    assert len(await ledger.due(None, pause.probe_at, 10)) == 1
    claims = [await ledger.claim(CallKey(ACCOUNT, f"c{n}"), pause.probe_at, LEASE_S) for n in range(3)]
    assert sum(claim is not None for claim in claims) == 1


async def test_the_longest_waiting_go_first_and_held_ones_not_at_all(ledger: LedgerOfCalls) -> None:
    for number in (3, 1, 2):
        await ledger.accept(told(ended(f"c{number}")), START + number)
    assert await ledger.due(ACCOUNT, START, 10) == []
    assert [key.call_id for key in await ledger.due(ACCOUNT, START + 9, 10)] == ["c1", "c2", "c3"]
    assert [key.call_id for key in await ledger.due(ACCOUNT, START + 2, 1)] == ["c1"]
    await held(ledger, now=START + 9)
    assert [key.call_id for key in await ledger.due(ACCOUNT, START + 9, 10)] == ["c2", "c3"]
    assert len(await ledger.due(ACCOUNT, START + 9 + LEASE_S, 10)) == 3


async def test_no_account_takes_more_than_its_share(ledger: LedgerOfCalls) -> None:
    for account_id, number in ((1, 50), (2, 50), (3, 2)):
        for place in range(number):
            await ledger.accept(
                told(ended(f"c{place}", account_id=account_id)), START - (100 if account_id == 1 else 0)
            )
    keys = await ledger.due(None, START, 30)
    shares = [sum(key.account_id == account for key in keys) for account in (1, 2, 3)]
    assert len(keys) <= 30
    assert shares[0] <= 10
    assert shares[1] >= 10
    assert shares[2] == 2
    assert len(await ledger.due(None, START, 1000)) == 102


# The story, and what an operator asks


async def test_the_journal_counts_what_was_heard_before(ledger: LedgerOfCalls) -> None:
    for at, message in enumerate([told(begun()), told(ended()), told(begun()), told(ended()), told(ended())]):
        await ledger.accept(message, START + at)
    story = await ledger.story(KEY)
    assert [(line.outcome, line.times, line.at, line.last_at) for line in story] == [
        ("new call", 2, START, START + 2),
        ("changed the call", 3, START + 1, START + 4),
    ]
    assert story[1].body == repr(ended())
    assert story[0].who == "voip:generic"


async def test_a_journal_does_not_grow_for_ever(ledger: LedgerOfCalls, ledger_path: Path) -> None:
    for number in range(400):
        await ledger.accept(told(ended(), f"another way to say it, {number}".encode()), START)
    assert 1 < rows(ledger_path, "SELECT count(*) FROM journal") <= 201
    assert rows(ledger_path, "SELECT sum(times) FROM journal") == 400


async def test_steps_are_told_with_kommos_request_id(ledger: LedgerOfCalls) -> None:
    await ledger.accept(told(ended()), START)
    call = await held(ledger)
    call = await ledger.save(
        call, START + 1, LEASE_S, Note(what="log_call", outcome="HTTP 500", request_id="r1")
    )
    await ledger.release(call, START + 2, Note(what="wait", outcome="in doubt"))
    assert [(line.who, line.what, line.outcome, line.request_id) for line in await ledger.story(KEY)] == [
        ("voip:generic", "call.ended", "new call", None),
        ("calllogd", "log_call", "HTTP 500", "r1"),
        ("calllogd", "wait", "in doubt", None),
    ]
    assert await ledger.story(CallKey(ACCOUNT, "nobody's")) == []


async def test_counts(ledger: LedgerOfCalls) -> None:
    for number in range(3):
        await ledger.accept(told(ended(f"c{number}")), START + number)
    call = await held(ledger, CallKey(ACCOUNT, "c0"))
    await ledger.release(replace(call, state=CallState.LOGGED, entry=ENTRY, due_at=None), START)
    totals = await ledger.totals(START + 9)
    assert {state: n for state, n in totals.states.items() if n} == {
        CallState.PENDING: 2,
        CallState.LOGGED: 1,
    }
    assert (totals.queued, totals.oldest_due_at) == (3, START + 1)
    assert (await ledger.totals(START)).oldest_due_at is None


async def test_a_listing_by_account_state_and_digits(ledger: LedgerOfCalls) -> None:
    await ledger.accept(told(ended("c1", phone="+1 (212) 555-0123")), START)
    await ledger.accept(told(ended("c2", phone="+1 (212) 555-0999")), START)
    await ledger.accept(told(ended("c3", account_id=7)), START)

    async def found(**which: object) -> list[str]:
        calls = await ledger.listing(limit=10, **which)  # type: ignore[arg-type]  # keywords by name
        return [call.key.call_id for call in calls]

    assert await found() == ["c3", "c2", "c1"]
    assert await found(account_id=ACCOUNT) == ["c2", "c1"]
    assert await found(phone="5550999") == ["c2"]
    assert await found(state=CallState.PENDING) == ["c3", "c2", "c1"]
    assert await found(state=CallState.LOGGED) == []
    assert len(await ledger.listing(limit=1)) == 1


@pytest.mark.parametrize(
    "doubt", [None, Doubt(intent=Intent.LOG_CALL, over_at=START, revision=1, looked_at=START)]
)
async def test_a_failed_call_is_put_back_and_looked_for_if_it_may_stand_in_kommo(
    ledger: LedgerOfCalls, doubt: Doubt | None
) -> None:
    await ledger.accept(told(ended("c1")), START)
    await ledger.accept(told(ended("c2")), START)
    call = await held(ledger)
    await ledger.release(replace(call, state=CallState.FAILED, due_at=None, doubt=doubt, attempts=5), START)
    assert await ledger.retry(None, START + 9) == 1
    call = await known(ledger)
    assert call.state is (CallState.PENDING if doubt is None else CallState.IN_DOUBT)
    assert (call.due_at, call.attempts) == (START + 9, 0)
    assert call.doubt is None or call.doubt.looked_at is None
    assert await ledger.retry(CallKey(ACCOUNT, "nobody's"), START) == 0


# A disk that is full, and more than can be stored


async def test_when_the_file_is_full_nothing_is_acknowledged_and_it_goes_on_when_there_is_room(
    database: Database, ledger: LedgerOfCalls, ledger_path: Path
) -> None:
    await ledger.accept(told(ended("before")), START)
    await database.write(lambda connection: connection.execute("PRAGMA max_page_count = 1").fetchone())
    large = [told(ended(f"c{number}"), b"x" * 60_000) for number in range(40)]
    answers = await asyncio.gather(*(ledger.accept(one, START) for one in large), return_exceptions=True)
    assert any(isinstance(answer, StorageError) for answer in answers)
    assert rows(ledger_path) == 1 + sum(isinstance(answer, Accepted) for answer in answers)
    assert (await known(ledger, CallKey(ACCOUNT, "before"))).state is CallState.PENDING, "it can be read"
    await database.write(lambda connection: connection.execute("PRAGMA max_page_count = 100000").fetchone())
    answers = await asyncio.gather(*(ledger.accept(one, START) for one in large), return_exceptions=True)
    assert all(isinstance(answer, Accepted) for answer in answers)
    assert rows(ledger_path) == 41


async def test_more_than_can_wait_is_refused_before_it_costs_anything(
    ledger: LedgerOfCalls, ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.database.voip_calls.WAITING_LIMIT", 10)
    answers = await asyncio.gather(
        *(ledger.accept(told(ended(f"c{number}")), START) for number in range(50)), return_exceptions=True
    )
    stored = [isinstance(answer, Accepted) for answer in answers]
    assert 10 <= sum(stored) < 50
    assert {type(answer) for answer in answers} == {Accepted, Overloaded}
    assert rows(ledger_path) == sum(stored)
    await ledger.accept(told(ended("later")), START)


async def test_a_broken_file_is_nobody_s_own_error(database: Database) -> None:
    def broken(_: sqlite3.Connection) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with pytest.raises(StorageError):
        await database.write(broken)
