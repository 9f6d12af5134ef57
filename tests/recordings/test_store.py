"""The files of recordings: whole or not there, whatever is sent and whatever breaks."""

import asyncio
import fcntl
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

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
