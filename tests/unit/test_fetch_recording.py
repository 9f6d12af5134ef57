"""From an announced recording to one that is ready, given up, or not wanted any more."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from calllogd.console.worker.fetch_recording import FetchRecordingWorker
from calllogd.database.database import Database
from calllogd.database.recordings import LedgerOfRecordings
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import CallKey, Recording, RecordingState
from calllogd.domain.merge import CallEvent
from calllogd.errors import StorageError
from calllogd.ports import Recordings
from calllogd.voip.usecase.fetch_recording import (
    TRIES,
    Fetcher,
    FetchRecordingUseCase,
    RecordingNotReady,
    RecordingRefused,
    fetch_wait_s,
)
from tests.fakes import ACCOUNT, START, ManualClock, ended, told

KEY = CallKey(ACCOUNT, "c1")
URL = "https://voip.example/c1.wav"
LEASE_S = 360.0


@dataclass
class ScriptedService:
    """A VoIP service with a script of failures, and the files that were fetched from it."""

    script: deque[Exception] = field(default_factory=deque)
    files: set[CallKey] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    meanwhile: asyncio.Event | None = None
    under_way: int = 0
    most: int = 0

    async def fetch(self, key: CallKey, url: str) -> str:
        self.asked.append(url)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.meanwhile is not None:
                await self.meanwhile.wait()
            if self.script:
                raise self.script.popleft()
        finally:
            self.under_way -= 1
        self.files.add(key)
        return "audio/wav"

    async def delete(self, key: CallKey) -> None:
        self.files.discard(key)


_FETCHER: Fetcher = ScriptedService()
_RECORDINGS: Recordings = ScriptedService()


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@pytest.fixture
def use_case(
    service: ScriptedService, database: Database, ledger: LedgerOfCalls, clock: ManualClock
) -> FetchRecordingUseCase:
    return FetchRecordingUseCase(
        orders=LedgerOfRecordings(database),
        calls=ledger,
        fetcher=service,
        recordings=service,
        clock=clock,
        lease_s=LEASE_S,
        jitter=lambda: 0.0,
    )


@pytest.fixture
async def worker(use_case: FetchRecordingUseCase) -> AsyncIterator[FetchRecordingWorker]:
    worker = FetchRecordingWorker(use_case=use_case, width=3)
    yield worker
    await worker.close(0)


async def announce(ledger: LedgerOfCalls, call_id: str = "c1", url: str = URL) -> None:
    recording = Recording(state=RecordingState.EXPECTED, url=url)
    await ledger.accept(told(ended(call_id, recording=recording)), START)


async def run(use_case: FetchRecordingUseCase) -> bool:
    """Fetch once, if anything is due."""
    order = await use_case.claim()
    if order is not None:
        await use_case.execute(order)
    return order is not None


async def recording(ledger: LedgerOfCalls, key: CallKey = KEY) -> Recording:
    call = await ledger.get(key)
    assert call is not None
    return call.recording


async def test_a_recording_that_is_there_becomes_ready(
    use_case: FetchRecordingUseCase, ledger: LedgerOfCalls, service: ScriptedService
) -> None:
    assert not await run(use_case)
    await announce(ledger)
    before = await ledger.get(KEY)
    assert await run(use_case)
    assert await recording(ledger) == Recording(state=RecordingState.READY, url=URL, media_type="audio/wav")
    assert service.files == {KEY}
    after = await ledger.get(KEY)
    assert before is not None
    assert after is not None
    assert after.revision == before.revision + 1, "the entry is to have a link now"
    line = (await ledger.story(KEY))[-1]
    assert (line.who, line.what) == ("calllogd", "recording ready")
    assert not await run(use_case)


async def test_one_that_is_not_there_yet_is_tried_again_quickly_at_first(
    use_case: FetchRecordingUseCase, ledger: LedgerOfCalls, service: ScriptedService, clock: ManualClock
) -> None:
    await announce(ledger)
    service.script.extend([RecordingNotReady("HTTP 404")] * 3)
    for wait_s in (5, 10, 20):
        assert await run(use_case)
        clock.forward(wait_s - 0.1)
        assert not await run(use_case)
        clock.forward(0.1)
    assert await run(use_case)
    assert (await recording(ledger)).state is RecordingState.READY


def test_the_waits_grow_to_a_quarter_of_an_hour_and_last_a_day() -> None:
    assert [fetch_wait_s(attempts, 0) for attempts in (1, 2, 8, 9, 1000)] == [5, 10, 640, 900, 900]
    assert fetch_wait_s(1, 0.999) > 2.5
    in_mean = sum(fetch_wait_s(attempts, 0.5) for attempts in range(1, TRIES))
    assert 22 * 3600 < in_mean < 26 * 3600


async def test_a_service_may_ask_for_a_longer_wait(
    use_case: FetchRecordingUseCase, ledger: LedgerOfCalls, service: ScriptedService, clock: ManualClock
) -> None:
    await announce(ledger)
    service.script.append(RecordingNotReady("HTTP 429", retry_after_s=100))
    await run(use_case)
    clock.forward(99)
    assert not await run(use_case)
    clock.forward(1)
    assert await run(use_case)


async def test_one_that_never_comes_is_given_up_and_the_journal_says_why(
    use_case: FetchRecordingUseCase, ledger: LedgerOfCalls, service: ScriptedService, clock: ManualClock
) -> None:
    await announce(ledger)
    service.script.extend([RecordingNotReady("HTTP 404")] * TRIES)
    while await run(use_case):
        clock.forward(901)
    assert len(service.asked) == TRIES
    assert await recording(ledger) == Recording(state=RecordingState.FAILED, url=URL)
    line = (await ledger.story(KEY))[-1]
    assert (line.what, line.body) == ("recording failed", f"given up after {TRIES} tries: HTTP 404")


async def test_a_refused_one_is_failed_at_once(
    use_case: FetchRecordingUseCase, ledger: LedgerOfCalls, service: ScriptedService, clock: ManualClock
) -> None:
    await announce(ledger)
    service.script.append(RecordingRefused("HTTP 403"))
    await run(use_case)
    assert await recording(ledger) == Recording(state=RecordingState.FAILED, url=URL)
    assert (await ledger.story(KEY))[-1].body == "HTTP 403"
    clock.forward(1e6)
    assert not await run(use_case)


@pytest.mark.parametrize("error", [RecordingRefused("HTTP 403"), RecordingNotReady("HTTP 404")])
async def test_the_end_of_an_old_address_is_not_the_end_of_a_new_one(
    use_case: FetchRecordingUseCase, ledger: LedgerOfCalls, service: ScriptedService, error: Exception
) -> None:
    await announce(ledger)
    order = await use_case.claim()
    assert order is not None
    await announce(ledger, url=URL + "?2")
    service.script.append(error)
    await use_case.execute(order)
    assert (await recording(ledger)).state is RecordingState.EXPECTED
    assert await run(use_case)
    assert service.asked == [URL, URL + "?2"]
    assert (await recording(ledger)).state is RecordingState.READY


async def test_a_recording_deleted_meanwhile_leaves_no_file(
    use_case: FetchRecordingUseCase, ledger: LedgerOfCalls, service: ScriptedService
) -> None:
    await announce(ledger)
    order = await use_case.claim()
    assert order is not None
    deleted = Recording(state=RecordingState.DELETED)
    await ledger.accept(told(CallEvent(key=KEY, recording=deleted)), START)
    await use_case.execute(order)
    assert (await recording(ledger)).state is RecordingState.DELETED
    assert service.files == set()


async def test_an_upload_meanwhile_is_not_undone_by_a_refusal(
    use_case: FetchRecordingUseCase, ledger: LedgerOfCalls, service: ScriptedService
) -> None:
    await announce(ledger)
    order = await use_case.claim()
    assert order is not None
    uploaded = Recording(state=RecordingState.READY, media_type="audio/mpeg")
    await ledger.accept(told(CallEvent(key=KEY, recording=uploaded)), START)
    service.script.append(RecordingRefused("HTTP 403"))
    await use_case.execute(order)
    assert (await recording(ledger)).state is RecordingState.READY


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_the_worker_fetches_a_few_at_once_and_all_in_the_end(
    worker: FetchRecordingWorker, ledger: LedgerOfCalls, service: ScriptedService
) -> None:
    service.meanwhile = asyncio.Event()
    for number in range(10):
        await announce(ledger, f"c{number}")
    running = asyncio.create_task(worker.run())
    await until(lambda: service.under_way == 3)
    assert worker.busy == 3
    service.meanwhile.set()
    await until(lambda: len(service.files) == 10)
    assert service.most == 3
    service.meanwhile = None
    await announce(ledger, "later")
    worker.ring()
    await until(lambda: len(service.files) == 11)
    running.cancel()
    await asyncio.wait([running])


async def test_the_worker_looks_by_itself(
    worker: FetchRecordingWorker,
    ledger: LedgerOfCalls,
    service: ScriptedService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("calllogd.console.worker.fetch_recording.SWEEP_S", 0.01)
    running = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    await announce(ledger)
    await until(lambda: len(service.files) == 1)
    running.cancel()
    await asyncio.wait([running])


async def test_everything_due_can_be_drained(
    worker: FetchRecordingWorker, ledger: LedgerOfCalls, service: ScriptedService
) -> None:
    await worker.drained()
    for number in range(7):
        await announce(ledger, f"c{number}")
    service.script.append(RecordingNotReady("HTTP 404"))
    await worker.drained()
    assert len(service.files) == 6
    assert worker.busy == 0


async def test_trouble_with_one_is_no_trouble_for_the_others(
    worker: FetchRecordingWorker,
    ledger: LedgerOfCalls,
    service: ScriptedService,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number in range(5):
        await announce(ledger, f"c{number}")
    service.script.extend([ZeroDivisionError("a mistake"), StorageError("locked")])
    await worker.drained()
    assert len(service.files) == 3
    assert "by a mistake of ours" in caplog.text
    assert "put off: locked" in caplog.text


async def test_what_is_under_way_when_the_worker_closes_is_done_again_after_its_lease(
    worker: FetchRecordingWorker,
    use_case: FetchRecordingUseCase,
    ledger: LedgerOfCalls,
    service: ScriptedService,
    clock: ManualClock,
) -> None:
    service.meanwhile = asyncio.Event()
    await announce(ledger)
    assert await worker.sweep() == 1
    await until(lambda: service.under_way == 1)
    await worker.close(0.01)
    assert service.under_way == 0
    assert (await recording(ledger)).state is RecordingState.EXPECTED
    assert await worker.sweep() == 0, "a closed worker begins nothing"
    assert not await run(use_case)
    clock.forward(LEASE_S)
    service.meanwhile.set()
    assert await run(use_case)
    assert (await recording(ledger)).state is RecordingState.READY
