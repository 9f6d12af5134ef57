"""The files of recordings: whole or not there, whatever is sent and whatever breaks."""

import asyncio
import fcntl
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from math import inf
from pathlib import Path
from typing import Any

import pytest

from calllogd.domain.call import CallKey
from calllogd.errors import ConfigError, InputRefused, StorageError
from calllogd.ports import Recordings
from calllogd.recordings.audio import kind_of
from calllogd.recordings.store import PIECE_BYTES, RecordingStore, name_of
from tests.fakes import ACCOUNT
from tests.recordings.sounds import GSM, NO_SOUNDS, SOUNDS, chunks, torn, wav

KEY = CallKey(ACCOUNT, "c1")
MOST = 3 * PIECE_BYTES
MP3 = (b"\xff\xfb\x90\x64" + bytes(413)) * 3


@pytest.fixture
async def store(tmp_path: Path) -> RecordingStore:
    store = RecordingStore(tmp_path / "recordings", MOST, 0)
    await store.open()
    return store


def files(store: RecordingStore) -> list[Path]:
    """Return every file below the store's folder, partial ones included."""
    return [path for path in store.folder.rglob("*") if path.is_file()]


async def content(store: RecordingStore, key: CallKey = KEY) -> bytes | None:
    async with store.reading(key) as reading:
        return None if reading is None else await reading.read(0, reading.found.size + 1)


def test_the_store_is_what_the_use_cases_take_for_it(tmp_path: Path) -> None:
    _: Recordings = RecordingStore(tmp_path, 1, 0)


@pytest.mark.parametrize(("head", "kind"), SOUNDS.values(), ids=SOUNDS.keys())
async def test_a_sound_is_known_by_its_content(store: RecordingStore, head: bytes, kind: str) -> None:
    assert await store.receive(KEY, chunks(head), media_type="text/html") == kind
    found = await store.find(KEY)
    assert found is not None
    assert (found.media_type, found.size) == (kind, len(head))


@pytest.mark.parametrize("body", NO_SOUNDS.values(), ids=NO_SOUNDS.keys())
async def test_what_is_no_sound_is_refused_whatever_its_sender_says(
    store: RecordingStore, body: bytes
) -> None:
    with pytest.raises(InputRefused) as refused:
        await store.receive(KEY, chunks(body), media_type="audio/mpeg")
    assert refused.value.code == "unsupported_media"
    assert files(store) == []


async def test_gsm_has_to_be_declared_and_to_look_like_it(store: RecordingStore) -> None:
    assert await store.receive(KEY, chunks(GSM), media_type="audio/x-gsm") == "audio/gsm"
    found = await store.find(KEY)
    assert found is not None
    assert found.media_type == "audio/gsm"
    assert kind_of(b"<html>" + GSM, declared="audio/gsm") is None
    with pytest.raises(InputRefused):
        await store.receive(KEY, chunks(GSM * 2, b"\xd4" + bytes(65)), media_type="audio/gsm")
    assert kind_of(b"\xd4", declared="audio/gsm") is None


@pytest.mark.parametrize(
    "parts",
    [
        [wav(100)],
        [bytes([byte]) for byte in wav(100)],
        [b"", wav(100)[:7], b"", wav(100)[7:], b""],
        [wav(PIECE_BYTES), b"\x02" * PIECE_BYTES, b"\x03" * 17],
        [wav(MOST)],
    ],
    ids=["whole", "byte by byte", "with empty parts", "several pieces", "as long as may be"],
)
async def test_what_came_is_what_is_there(store: RecordingStore, parts: list[bytes]) -> None:
    assert await store.receive(KEY, chunks(*parts), media_type=None) == "audio/wav"
    assert await content(store) == b"".join(parts)
    assert len(files(store)) == 1


async def test_one_byte_too_many_is_refused(store: RecordingStore) -> None:
    with pytest.raises(InputRefused) as refused:
        await store.receive(KEY, chunks(wav(MOST), b"!"), media_type=None)
    assert refused.value.code == "too_large"
    assert files(store) == []


async def test_a_body_without_end_is_refused_long_before(store: RecordingStore) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield wav(100)
        while True:
            sent += 1
            yield bytes(10_000)

    with pytest.raises(InputRefused):
        await store.receive(KEY, endless(), media_type=None)
    assert sent <= MOST / 10_000 + 1
    assert files(store) == []


@pytest.mark.parametrize("broken", [ConnectionResetError("gone"), ValueError("?"), asyncio.CancelledError()])
async def test_a_transfer_that_breaks_leaves_nothing_and_an_earlier_recording_stands(
    store: RecordingStore, broken: BaseException
) -> None:
    with pytest.raises(type(broken)):
        await store.receive(KEY, torn([wav(PIECE_BYTES), b"more"], broken), media_type=None)
    assert files(store) == []
    await store.receive(KEY, chunks(wav(50)), media_type=None)
    with pytest.raises(type(broken)):
        await store.receive(KEY, torn([wav(PIECE_BYTES), b"more"], broken), media_type=None)
    assert await content(store) == wav(50)
    assert len(files(store)) == 1


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_whoever_is_cancelled_at_any_moment_leaves_all_or_nothing(
    store: RecordingStore, turns: int
) -> None:
    receiving = asyncio.create_task(
        store.receive(KEY, chunks(wav(PIECE_BYTES), b"more", wav(PIECE_BYTES)), media_type=None)
    )
    for _ in range(turns):
        await asyncio.sleep(0)
    receiving.cancel()
    await asyncio.wait([receiving])
    assert [path.stat().st_size for path in files(store)] in ([], [2 * PIECE_BYTES + 4])
    assert receiving.cancelled() or len(files(store)) == 1
    assert not open_files(store)


def open_files(store: RecordingStore) -> list[str]:
    here = Path("/proc/self/fd")
    return [
        target
        for target in (os.readlink(link) for link in list(here.iterdir()) if link.is_symlink())
        if target.startswith(str(store.folder))
    ]


async def test_received_twice_it_is_replaced_and_who_reads_the_old_one_goes_on(store: RecordingStore) -> None:
    await store.receive(KEY, chunks(wav(100, b"a")), media_type=None)
    async with store.reading(KEY) as old:
        assert old is not None
        first = await old.read(0, 60)
        await store.receive(KEY, chunks(wav(200, b"b")), media_type=None)
        assert first + await old.read(60, 1000) == wav(100, b"a")
        async with store.reading(KEY) as new:
            assert new is not None
            assert new.found.tag != old.found.tag
            await store.delete(KEY)
            assert await new.read(0, 1000) == wav(200, b"b")
    assert files(store) == []
    assert not open_files(store)


async def test_many_receive_the_same_at_once(store: RecordingStore) -> None:
    await asyncio.gather(
        *(store.receive(KEY, chunks(wav(PIECE_BYTES + n)), media_type=None) for n in range(10))
    )
    (file,) = files(store)
    assert file.stat().st_size in range(PIECE_BYTES, PIECE_BYTES + 10)


async def test_nothing_is_there_before_and_deleting_twice_is_deleting_once(store: RecordingStore) -> None:
    assert await store.find(KEY) is None
    assert await content(store) is None
    await store.delete(KEY)
    await store.receive(KEY, chunks(wav(100)), media_type=None)
    await store.delete(KEY)
    await store.delete(KEY)
    assert await store.find(KEY) is None
    assert files(store) == []


@pytest.mark.parametrize(
    "call_id",
    ["../../etc/passwd", "/etc/passwd", "..", ".", "a/b", "a\\b", "\u202egpj", "🙂" * 255, " ", "%2e"],
)
async def test_no_part_of_a_path_comes_from_a_sender(store: RecordingStore, call_id: str) -> None:
    key = CallKey(ACCOUNT, call_id)
    await store.receive(key, chunks(wav(100)), media_type=None)
    (file,) = files(store)
    assert file.parent.parent == store.folder
    assert file.name == name_of(key)
    assert set(file.name) <= set("0123456789abcdef")
    await store.delete(key)
    assert files(store) == []


def test_calls_and_accounts_have_different_files() -> None:
    keys = [CallKey(1, "11"), CallKey(11, "1"), CallKey(1, "1"), CallKey(1, "1 "), CallKey(1, ":1")]
    assert len({name_of(key) for key in keys}) == len(keys)


async def test_folders_and_files_are_for_the_daemon_alone(store: RecordingStore) -> None:
    await store.receive(KEY, chunks(wav(100)), media_type=None)
    (file,) = files(store)
    assert file.stat().st_mode & 0o777 == 0o600
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in store.folder.iterdir()} == {0o700}


async def test_room_that_is_to_stay_free_is_not_taken(tmp_path: Path) -> None:
    store = RecordingStore(tmp_path, MOST, 2**60)
    await store.open()
    with pytest.raises(StorageError, match="free"):
        await store.receive(KEY, chunks(wav(100)), media_type=None)
    assert files(store) == []
    assert await store.free_bytes() > 0


async def test_a_disk_that_takes_no_more_leaves_nothing(store: RecordingStore) -> None:
    await store.receive(KEY, chunks(wav(50)), media_type=None)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PIECE_BYTES + 100, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"recordings\.path"):
            await store.receive(KEY, chunks(wav(2 * PIECE_BYTES)), media_type=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(files(store)) == 1
    assert await content(store) == wav(50)
    assert not open_files(store)


async def test_a_folder_that_has_gone_is_a_storage_error(store: RecordingStore) -> None:
    (store.folder / "partial").rmdir()
    store.folder.rmdir()
    with pytest.raises(StorageError):
        await store.receive(KEY, chunks(wav(100)), media_type=None)
    with pytest.raises(StorageError):
        await store.free_bytes()
    assert await store.find(KEY) is None


async def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"recordings\.path"):
        await RecordingStore(tmp_path / "file" / "recordings", MOST, 0).open()


async def test_what_dead_processes_left_is_removed_and_what_is_being_received_is_not(
    store: RecordingStore,
) -> None:
    abandoned = store.folder / "partial" / "0123"
    abandoned.write_bytes(b"half")
    received = store.folder / "partial" / "4567"
    with received.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        await store.open()
        assert not abandoned.exists()
        assert received.exists()
    await store.open()
    assert files(store) == []


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from calllogd.domain.call import CallKey
from calllogd.recordings.store import RecordingStore
from tests.recordings.sounds import wav

async def chunks():
    for _ in range(3):
        yield wav(300_000)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    store = RecordingStore(Path(sys.argv[1]), 10**9, 0)
    await store.receive(CallKey(1, "c1"), chunks(), media_type=None)

asyncio.run(main())
"""


async def test_a_kill_in_the_middle_leaves_what_the_next_start_removes(store: RecordingStore) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(store.folder))
    async with asyncio.timeout(30):
        assert await process.wait() == -signal.SIGKILL
    (left,) = files(store)
    assert left.parent.name == "partial"
    await store.open()
    assert files(store) == []


async def test_files_are_listed_and_deleted_by_name_unless_they_are_newer(store: RecordingStore) -> None:
    assert await store.listing() == {}
    await store.receive(KEY, chunks(wav(100)), media_type=None)
    found = await store.find(KEY)
    assert found is not None
    assert await store.listing() == {name_of(KEY): found.modified_at}
    assert not await store.delete_named(name_of(KEY), found.modified_at - 1)
    assert len(files(store)) == 1
    assert await store.delete_named(name_of(KEY), found.modified_at)
    assert not await store.delete_named(name_of(KEY), found.modified_at)
    assert await store.listing() == {}


async def replace(
    store: RecordingStore, body: bytes, name: str = name_of(KEY), unheard_s: float = 0.0
) -> bool:
    async with store.replacing(name) as new:
        assert new is not None
        await new.append(body[:50])
        await new.append(body[50:])
        return await new.finish(unheard_s)


async def test_a_recording_is_replaced_by_another_file(store: RecordingStore) -> None:
    await store.receive(KEY, chunks(wav(5000)), media_type=None)
    async with store.reading(KEY) as old:
        assert old is not None
        assert await replace(store, MP3)
        assert await old.read(0, 9000) == wav(5000), "who is listening goes on with what he began with"
        found = await store.find(KEY)
        assert found is not None
        assert (found.media_type, found.size) == ("audio/mpeg", len(MP3))
        assert found.tag != old.found.tag
        assert int(found.modified_at) > int(old.found.modified_at), "times are told in seconds"
    assert await content(store) == MP3
    (file,) = files(store)
    assert file.stat().st_mode & 0o777 == 0o600
    assert not open_files(store)


async def test_a_time_that_is_told_is_never_told_again(store: RecordingStore) -> None:
    await store.receive(KEY, chunks(wav(5000)), media_type=None)
    (file,) = files(store)
    for at in (1_000_000_000.75, 4_000_000_000.25):
        os.utime(file, (at, at))
        assert await replace(store, MP3)
        found = await store.find(KEY)
        assert found is not None
        assert int(found.modified_at) > int(at)


async def test_until_then_it_stays(store: RecordingStore) -> None:
    await store.receive(KEY, chunks(wav(5000)), media_type=None)
    async with store.replacing(name_of(KEY)) as new:
        assert new is not None
        assert (new.size, await new.read(4, 1000)) == (5000, wav(5000)[4:1004])
        await new.append(MP3)
        assert len(files(store)) == 2
        await new.close()
        await new.close()
    assert await content(store) == wav(5000)

    async def broken() -> None:
        async with store.replacing(name_of(KEY)) as new:
            assert new is not None
            await new.append(MP3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken()
    async with store.replacing(name_of(KEY)) as new:
        assert new is not None
    assert await content(store) == wav(5000)
    assert len(files(store)) == 1
    assert not open_files(store)


@pytest.mark.parametrize(
    "meanwhile", ["received", "deleted", "deleted by name", "received once more", "gone"]
)
async def test_what_happens_meanwhile_counts_more(store: RecordingStore, meanwhile: str) -> None:
    await store.receive(KEY, chunks(wav(5000)), media_type=None)
    async with store.replacing(name_of(KEY)) as new:
        assert new is not None
        await new.append(MP3)
        if meanwhile.startswith("deleted"):
            await (store.delete(KEY) if meanwhile == "deleted" else store.delete_named(name_of(KEY), 2e10))
        if meanwhile == "gone":
            await store.delete(KEY)
            (store.folder / name_of(KEY)[:2]).rmdir()
            with pytest.raises(StorageError):
                await new.finish(0.0)
            return
        if meanwhile.startswith("received"):
            await store.receive(KEY, chunks(wav(5000 + meanwhile.count("once"), b"b")), media_type=None)
        assert not await new.finish(0.0)
    there = await content(store)
    assert there == (None if meanwhile.startswith("deleted") else wav(5000 + meanwhile.count("once"), b"b"))
    assert len(files(store)) == (there is not None)


async def test_one_replaces_it_at_a_time(store: RecordingStore) -> None:
    assert await store.find(KEY) is None
    async with store.replacing(name_of(KEY)) as nothing:
        assert nothing is None
    await store.receive(KEY, chunks(wav(5000)), media_type=None)
    other = RecordingStore(store.folder, MOST, 0)
    async with store.replacing(name_of(KEY)) as one:
        assert one is not None
        for who in (store, other):
            async with who.replacing(name_of(KEY)) as two:
                assert two is None
    async with other.replacing(name_of(KEY)) as three:
        assert three is not None


async def test_who_listens_is_not_disturbed(store: RecordingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("calllogd.recordings.store.time.monotonic", lambda: now)
    name = name_of(KEY)
    await store.receive(KEY, chunks(wav(5000)), media_type=None)
    await store.find(KEY)
    assert store.unheard_s(name) == inf, "who only looks does not listen"
    async with store.reading(KEY), store.reading(KEY):
        assert store.unheard_s(name) == 0.0
        assert not await replace(store, MP3, unheard_s=0.1)
    async with store.reading(KEY):
        async with store.reading(KEY):
            pass
        now += 50
        assert store.unheard_s(name) == 0.0
    now += 59
    assert store.unheard_s(name) == 59
    assert not await replace(store, MP3, unheard_s=60)
    now += 1
    async with store.reading(CallKey(ACCOUNT, "another")):
        pass
    assert await replace(store, MP3, unheard_s=60)
    now += 4000
    async with store.reading(CallKey(ACCOUNT, "a third")):
        pass
    assert store.unheard_s(name) == inf, "nobody is remembered for ever"
    for call_id, wait_s in (("a", 1), ("b", 3000), ("a", 700), ("c", 0)):
        async with store.reading(CallKey(ACCOUNT, call_id)):
            pass
        now += wait_s
    assert [store.unheard_s(name_of(CallKey(ACCOUNT, call_id))) for call_id in "abc"] == [700, inf, 0]


async def test_a_full_disk_leaves_the_old_one(store: RecordingStore) -> None:
    await store.receive(KEY, chunks(wav(5000)), media_type=None)
    store.keep_free_bytes = 2**60
    with pytest.raises(StorageError, match="free"):
        await replace(store, MP3)
    assert len(files(store)) == 1
    assert await content(store) == wav(5000)


async def test_who_watches_is_told_of_what_is_kept(store: RecordingStore) -> None:
    told: list[tuple[str, str]] = []
    store.watch(lambda name, kind: told.append((name, kind)))
    await store.receive(KEY, chunks(wav(100)), media_type=None)
    with pytest.raises(InputRefused):
        await store.receive(KEY, chunks(b"<html>"), media_type=None)
    with pytest.raises(ZeroDivisionError):
        await store.receive(KEY, torn([wav(100)], ZeroDivisionError()), media_type=None)
    await store.receive(KEY, chunks(GSM), media_type="audio/gsm")
    assert told == [(name_of(KEY), "audio/wav"), (name_of(KEY), "audio/gsm")]


@pytest.mark.parametrize("work", ["receive", "delete", "delete_named", "finish"])
async def test_whoever_changes_a_folder_holds_it(store: RecordingStore, work: str) -> None:
    """Another process may be between looking and renaming."""
    await store.receive(KEY, chunks(wav(5000)), media_type=None)
    name = name_of(KEY)
    doing: Mapping[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "receive": lambda: store.receive(KEY, chunks(wav(100)), media_type=None),
        "delete": lambda: store.delete(KEY),
        "delete_named": lambda: store.delete_named(name, 2e10),
        "finish": lambda: replace(store, MP3),
    }
    folder = os.open(store.folder / name[:2], os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        task = asyncio.create_task(doing[work]())
        _, pending = await asyncio.wait([task], timeout=0.2)
        assert pending
        assert await content(store) == wav(5000)
    finally:
        os.close(folder)
    await task
    assert await content(store) != wav(5000)
