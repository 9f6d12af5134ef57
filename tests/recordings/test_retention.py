"""Which recordings are deleted, and which never."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from calllogd.database.database import Database
from calllogd.database.recordings import LedgerOfRecordings
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import CallKey, Recording, RecordingState
from calllogd.domain.merge import CallEvent
from calllogd.recordings.retention import DAY_S, Retention, Swept, is_over, orphans
from calllogd.recordings.store import RecordingStore, name_of
from tests.fakes import ACCOUNT, ManualClock, ended, told
from tests.recordings.sounds import chunks, wav

READY = Recording(state=RecordingState.READY, media_type="audio/wav")


def test_a_recordings_time_is_over_after_so_many_days() -> None:
    assert is_over(0, 10 * DAY_S + 1, 10)
    assert not is_over(0, 10 * DAY_S, 10)
    assert not is_over(0, 10_000 * DAY_S, 0), "0 is for ever"
    assert is_over(0, 0.5 * DAY_S + 1, 0.5)


def test_a_file_that_no_call_wants_is_an_orphan_once_it_is_old() -> None:
    files = {"old": 1.0, "older": 0.0, "wanted": 0.0, "new": 5.0}
    assert orphans(files, {"wanted"}, 5.0) == ["older", "old"]
    assert orphans({}, {"wanted"}, 5.0) == []


class Place:
    """A ledger and a folder with recordings of several ages."""

    def __init__(self, folder: Path, database: Database, ledger: LedgerOfCalls, clock: ManualClock) -> None:
        self.store = RecordingStore(folder, 10_000, 0)
        self.ledger = ledger
        self.clock = clock
        self.with_recordings = LedgerOfRecordings(database)

    def retention(self, *, keep_days: float = 0, store: RecordingStore | None = None) -> Retention:
        return Retention(
            store=store or self.store,
            with_recordings=self.with_recordings,
            calls=self.ledger,
            clock=self.clock,
            keep_days=keep_days,
        )

    async def put(self, call_id: str, *, age_s: float, recording: Recording | None = READY) -> CallKey:
        """Keep a recording received so long ago, of a call that began then, or of no call."""
        key = CallKey(ACCOUNT, call_id)
        await self.store.receive(key, chunks(wav(100)), media_type=None)
        at = self.clock.now() - age_s
        found = await self.store.find(key)
        assert found is not None
        os.utime(found.path, (at, at))
        if recording is not None:
            await self.ledger.accept(told(ended(call_id, started_at=at, recording=recording)), at)
        return key

    async def kept(self) -> set[str]:
        names = await self.store.listing()
        return {f"c{n}" for n in range(20) if name_of(CallKey(ACCOUNT, f"c{n}")) in names}

    async def state(self, key: CallKey) -> RecordingState:
        call = await self.ledger.get(key)
        assert call is not None
        return call.recording.state


@pytest.fixture
async def place(tmp_path: Path, database: Database, ledger: LedgerOfCalls, clock: ManualClock) -> Place:
    place = Place(tmp_path / "recordings", database, ledger, clock)
    await place.store.open()
    return place


async def test_for_ever_is_for_ever(place: Place) -> None:
    await place.put("c1", age_s=10_000 * DAY_S)
    await place.put("c2", age_s=0)
    assert await place.retention().sweep() == Swept()
    assert await place.kept() == {"c1", "c2"}


async def test_what_is_old_is_deleted_and_the_ledger_says_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.database.recordings.PAGE", 2)
    old = [await place.put(f"c{n}", age_s=31 * DAY_S) for n in range(5)]
    new = [await place.put(f"c{n}", age_s=29 * DAY_S) for n in range(5, 10)]
    assert await place.retention(keep_days=30).sweep() == Swept(old=5)
    assert await place.kept() == {"c5", "c6", "c7", "c8", "c9"}
    assert {await place.state(key) for key in old} == {RecordingState.DELETED}
    assert {await place.state(key) for key in new} == {RecordingState.READY}
    line = (await place.ledger.story(old[0]))[-1]
    assert (line.who, line.what, line.body) == ("calllogd", "recording deleted", "older than 30 days")
    assert await place.retention(keep_days=30).sweep() == Swept()


async def test_so_many_at_a_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calllogd.recordings.retention.AT_ONCE", 2)
    for number in range(3):
        await place.put(f"c{number}", age_s=31 * DAY_S)
    assert await place.retention(keep_days=30).sweep() == Swept(old=2)
    assert await place.retention(keep_days=30).sweep() == Swept(old=1)


async def test_a_file_of_no_call_is_deleted_after_a_day(place: Place) -> None:
    await place.put("c1", age_s=DAY_S + 60, recording=None)
    await place.put("c2", age_s=DAY_S - 60, recording=None)
    await place.put("c3", age_s=DAY_S + 60, recording=Recording(state=RecordingState.FAILED))
    await place.put("c4", age_s=DAY_S + 60, recording=Recording(state=RecordingState.DELETED))
    await place.put("c5", age_s=DAY_S + 60)
    assert await place.retention().sweep() == Swept(orphans=3)
    assert await place.kept() == {"c2", "c5"}


async def test_a_full_disk_costs_orphans_their_patience_and_no_call_its_recording(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    await place.put("c1", age_s=DAY_S / 2, recording=None)
    await place.put("c2", age_s=60, recording=None)
    await place.put("c3", age_s=1000 * DAY_S)
    retention = place.retention(store=RecordingStore(place.store.folder, 10_000, 2**60))
    assert await retention.sweep() == Swept(orphans=1)
    assert await place.kept() == {"c2", "c3"}
    assert "short" not in caplog.text
    assert await retention.sweep() == Swept()
    assert "short of recordings.keep_free_bytes" in caplog.text


async def test_what_becomes_ready_during_a_sweep_keeps_its_file(place: Place) -> None:
    key = await place.put("c1", age_s=2 * DAY_S, recording=None)

    class Late:
        """The recording comes once more, just after the ledger was asked."""

        async def ready(self, after: int) -> tuple[Sequence[tuple[CallKey, float]], int | None]:
            page = await place.with_recordings.ready(after)
            await place.store.receive(key, chunks(wav(200)), media_type=None)
            await place.ledger.accept(told(CallEvent(key=key, recording=READY)), place.clock.now())
            return page

    retention = Retention(
        store=place.store, with_recordings=Late(), calls=place.ledger, clock=place.clock, keep_days=0
    )
    assert await retention.sweep() == Swept()
    assert await place.kept() == {"c1"}
