"""Which recordings are to be fetched, by whom and when; which are ready; the key of their links."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from calllogd.database.database import Database
from calllogd.database.recordings import _NEXT, LedgerOfRecordings
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import CallKey, Recording, RecordingState
from calllogd.domain.merge import CallEvent
from calllogd.voip.usecase.fetch_recording import FetchOrder, FetchOrders
from tests.fakes import ACCOUNT, START, ended, told

URL = "https://voip.example/c1.wav"
LEASE_S = 60.0


@pytest.fixture
def recordings(database: Database) -> LedgerOfRecordings:
    recordings = LedgerOfRecordings(database)
    _: FetchOrders = recordings
    return recordings


async def announce(ledger: LedgerOfCalls, call_id: str = "c1", url: str = URL) -> CallKey:
    recording = Recording(state=RecordingState.EXPECTED, url=url)
    await ledger.accept(told(ended(call_id, recording=recording)), START)
    return CallKey(ACCOUNT, call_id)


async def say(ledger: LedgerOfCalls, key: CallKey, state: RecordingState) -> None:
    await ledger.accept(told(CallEvent(key=key, recording=Recording(state=state))), START)


async def all_due(recordings: LedgerOfRecordings, now: float) -> Sequence[str]:
    found: list[str] = []
    while (order := await recordings.claim_fetch(now, LEASE_S)) is not None:
        found.append(order.key.call_id)
    return found


async def test_what_is_announced_is_due_at_once_and_held_by_whoever_claims_it(
    recordings: LedgerOfRecordings, ledger: LedgerOfCalls
) -> None:
    assert await recordings.claim_fetch(START, LEASE_S) is None
    assert await recordings.next_due(START) is None
    key = await announce(ledger)
    assert await recordings.next_due(START) == START
    order = await recordings.claim_fetch(START, LEASE_S)
    assert order == FetchOrder(key=key, url=URL, attempts=1, until=START + LEASE_S)
    assert await recordings.claim_fetch(START + LEASE_S - 1, LEASE_S) is None
    assert await recordings.next_due(START) == START + LEASE_S
    again = await recordings.claim_fetch(START + LEASE_S, LEASE_S)
    assert again is not None
    assert again.attempts == 2, "a lease that ran out was an attempt"


async def test_of_many_claims_at_once_and_of_two_processes_each_order_goes_to_one(
    recordings: LedgerOfRecordings, ledger: LedgerOfCalls, ledger_path: Path
) -> None:
    for number in range(20):
        await announce(ledger, f"c{number}")
    other = Database(ledger_path)
    await other.open()
    try:
        second = LedgerOfRecordings(other)
        claims = (each.claim_fetch(START, LEASE_S) for each in (recordings, second) for _ in range(15))
        orders = [order for order in await asyncio.gather(*claims) if order is not None]
    finally:
        await other.close()
    assert len(orders) == 20
    assert len({order.key for order in orders}) == 20


async def test_an_order_that_is_put_off_is_due_when_it_says_so_the_longest_waiting_first(
    recordings: LedgerOfRecordings, ledger: LedgerOfCalls, ledger_path: Path
) -> None:
    for number, wait_s in enumerate([30, 10, 20]):
        await announce(ledger, f"c{number}")
        order = await recordings.claim_fetch(START, LEASE_S)
        assert order is not None
        await recordings.put_off(order, START + wait_s, "HTTP 404")
    assert await recordings.next_due(START) == START + 10
    assert await all_due(recordings, START + 9) == []
    await announce(ledger, "new")
    assert await all_due(recordings, START + 30) == ["new", "c1", "c2", "c0"]
    with closing(sqlite3.connect(ledger_path)) as connection:
        assert connection.execute("SELECT DISTINCT fetch_error FROM calls ORDER BY 1").fetchall() == [
            (None,),
            ("HTTP 404",),
        ]


async def test_who_holds_an_order_no_longer_puts_nothing_off(
    recordings: LedgerOfRecordings, ledger: LedgerOfCalls
) -> None:
    await announce(ledger)
    late = await recordings.claim_fetch(START, LEASE_S)
    holder = await recordings.claim_fetch(START + LEASE_S, LEASE_S)
    assert late is not None
    assert holder is not None
    await recordings.put_off(late, START, "too late")
    assert await recordings.next_due(START) == holder.until


async def test_a_better_address_is_tried_at_once_and_from_the_beginning(
    recordings: LedgerOfRecordings, ledger: LedgerOfCalls
) -> None:
    await announce(ledger)
    old = await recordings.claim_fetch(START, LEASE_S)
    assert old is not None
    await announce(ledger, url=URL + "?2")
    await recordings.put_off(old, START + 900, "HTTP 404")
    new = await recordings.claim_fetch(START, LEASE_S)
    assert new is not None
    assert (new.url, new.attempts) == (URL + "?2", 1)


@pytest.mark.parametrize(
    "state",
    [RecordingState.READY, RecordingState.FAILED, RecordingState.DELETED],
)
async def test_what_is_settled_is_not_fetched(
    recordings: LedgerOfRecordings, ledger: LedgerOfCalls, state: RecordingState
) -> None:
    key = await announce(ledger)
    order = await recordings.claim_fetch(START, LEASE_S)
    assert order is not None
    await say(ledger, key, state)
    await recordings.put_off(order, START, "HTTP 404")
    assert await recordings.claim_fetch(START + 1e6, LEASE_S) is None
    assert await recordings.next_due(START) is None


async def test_nothing_is_sorted_to_find_what_is_due(ledger_path: Path, database: Database) -> None:
    with closing(sqlite3.connect(ledger_path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {_NEXT}").fetchall()
    assert [row[3] for row in plan] == ["SCAN calls USING INDEX calls_to_fetch"]


async def test_calls_with_recordings_are_told_page_by_page(
    recordings: LedgerOfRecordings, ledger: LedgerOfCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await recordings.ready(0) == ([], None)
    monkeypatch.setattr("calllogd.database.recordings.PAGE", 3)
    for number in range(10):
        key = await announce(ledger, f"c{number}")
        if number % 2:
            await say(ledger, key, RecordingState.READY)
    found: list[tuple[CallKey, float]] = []
    after: int | None = 0
    pages = 0
    while after is not None:
        page, after = await recordings.ready(after)
        found.extend(page)
        pages += 1
    assert found == [(CallKey(ACCOUNT, f"c{number}"), START - 60) for number in (1, 3, 5, 7, 9)]
    assert pages == 4


async def test_a_daemon_that_starts_tries_at_once_what_the_one_before_it_held(
    recordings: LedgerOfRecordings, ledger: LedgerOfCalls
) -> None:
    await announce(ledger)
    assert await recordings.claim_fetch(START, LEASE_S) is not None
    assert await recordings.fetch_anew() == 1
    order = await recordings.claim_fetch(START + 1, LEASE_S)
    assert order is not None
    assert order.attempts == 2
