"""Recordings that a telephone system on this machine writes: not too early, and nothing else there is."""

import os
import socket
from pathlib import Path

import pytest

from calllogd.errors import InputRefused
from calllogd.recordings.local import STILL_S, declared_of, reading_local
from calllogd.recordings.store import RecordingStore
from calllogd.voip.errand import LocalFile
from calllogd.voip.usecase.fetch_recording import RecordingNotReady, RecordingRefused
from tests.fakes import START
from tests.recordings.services import KEY, MOST, left
from tests.recordings.sounds import GSM, wav

SECRET = b"RIFF\0\0\0\0WAVE of somebody else"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "monitor"
    (folder / "2026").mkdir(parents=True)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return a file beside the folder, whose name begins with the folder's."""
    path = tmp_path / "monitored" / "secret.wav"
    path.parent.mkdir()
    return written(path, SECRET)


def written(path: Path, body: bytes, at: float = START - 60) -> Path:
    path.write_bytes(body)
    os.utime(path, (at, at))
    return path


async def keep(store: RecordingStore, folder: Path, path: Path, now: float = START) -> str:
    file = LocalFile(path=path, folder=folder)
    async with reading_local(file, now) as chunks:
        return await store.receive(KEY, chunks, media_type=declared_of(file))


def opened(*folders: Path) -> list[str]:
    here = Path("/proc/self/fd")
    targets = [os.readlink(link) for link in list(here.iterdir()) if link.is_symlink()]
    return [target for target in targets if target.startswith(tuple(map(str, folders)))]


@pytest.mark.parametrize(
    ("name", "body", "kind"),
    [
        ("1.wav", wav(MOST), "audio/wav"),
        ("2026/1.WAV", wav(100), "audio/wav"),
        ("2026/../1.wav", wav(100), "audio/wav"),
        ("./1.mp3", b"ID3" + bytes(100), "audio/mpeg"),
        ("1.gsm", GSM, "audio/gsm"),
        ("1.GSM", GSM, "audio/gsm"),
        ("é\udcff\n.wav", wav(100), "audio/wav"),
    ],
)
async def test_a_file_is_taken(
    store: RecordingStore, folder: Path, name: str, body: bytes, kind: str
) -> None:
    path = written(folder / name, body)
    assert await keep(store, folder, path) == kind
    async with store.reading(KEY) as reading:
        assert reading is not None
        assert await reading.read(0, MOST + 1) == body
    assert path.read_bytes() == body
    assert not opened(folder)


async def test_a_folder_may_be_a_link_and_have_links_to_itself(
    store: RecordingStore, folder: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    (folder / "this-year").symlink_to("2026")
    written(folder / "2026" / "1.wav", wav(100))
    assert await keep(store, link, link / "this-year" / "1.wav") == "audio/wav"
    assert await keep(store, link, folder / "2026" / "1.wav") == "audio/wav"


async def test_one_that_is_not_there_may_come(store: RecordingStore, folder: Path, tmp_path: Path) -> None:
    for path, within in (
        (folder / "1.wav", folder),
        (folder / "2027" / "1.wav", folder),
        (tmp_path / "x" / "1", tmp_path / "x"),
    ):
        with pytest.raises(RecordingNotReady, match="not there yet"):
            await keep(store, within, path)
    written(folder / "1.wav", wav(100))
    assert await keep(store, folder, folder / "1.wav") == "audio/wav"


@pytest.mark.parametrize("age_s", [0.0, 1.0, STILL_S - 0.01, -0.5, 0.01 - STILL_S])
async def test_one_that_was_just_written_to_may_not_be_whole(
    store: RecordingStore, folder: Path, age_s: float
) -> None:
    path = written(folder / "1.wav", wav(100), START - age_s)
    with pytest.raises(RecordingNotReady, match="still being written") as later:
        await keep(store, folder, path)
    assert later.value.retry_after_s == STILL_S
    assert not opened(folder)
    assert await keep(store, folder, path, START - age_s + STILL_S) == "audio/wav"


async def test_one_whose_clock_is_ahead_is_not_waited_for(store: RecordingStore, folder: Path) -> None:
    path = written(folder / "1.wav", wav(100), START + 3600)
    assert await keep(store, folder, path) == "audio/wav"


@pytest.mark.parametrize("change", ["longer", "shorter", "other", "touched"])
async def test_one_that_changes_while_it_is_read_is_read_again_later(
    store: RecordingStore, folder: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = written(folder / "1.wav", wav(50_000))
    monkeypatch.setattr("calllogd.recordings.local._PIECE_BYTES", 20_000)
    real, changed = os.pread, False

    def pread(handle: int, count: int, place: int) -> bytes:
        nonlocal changed
        piece = real(handle, count, place)
        if not changed:
            changed = True
            body = {"longer": wav(60_000), "shorter": wav(40_000), "other": wav(50_000, b"\2")}
            path.write_bytes(body.get(change, wav(50_000)))
            if change == "longer":
                os.utime(path, (START - 60, START - 60))
        return piece

    monkeypatch.setattr("calllogd.recordings.local.os.pread", pread)
    with pytest.raises(RecordingNotReady, match="still being written") as later:
        await keep(store, folder, path)
    assert later.value.retry_after_s == STILL_S
    assert left(store) == []
    assert not opened(folder, store.folder)


async def test_a_file_elsewhere_is_not_touched(
    store: RecordingStore, folder: Path, elsewhere: Path, tmp_path: Path
) -> None:
    (folder / "out").symlink_to(elsewhere.parent)
    (folder / "up").symlink_to("../..")
    (folder / "file.wav").symlink_to(elsewhere)
    (folder / "2026" / "inside.wav").symlink_to(written(folder / "1.wav", wav(100)))
    (folder / "loop").symlink_to("loop")
    for path in (
        elsewhere,
        folder / ".." / "monitored" / "secret.wav",
        folder / "2026" / ".." / ".." / "monitored" / "secret.wav",
        folder / "out" / "secret.wav",
        folder / "up" / tmp_path.name / "monitored" / "secret.wav",
        folder / "file.wav",
        folder / "2026" / "inside.wav",
        folder / "loop",
        Path("/etc/passwd"),
        Path("/proc/self/environ"),
        Path("relative.wav"),
        Path("/"),
        folder,
        folder / "2026" / "..",
        folder / "2026",
        folder / "a\0b.wav",
        folder / "a\0b" / "1.wav",
        folder / "\ud800.wav",
        folder / ("x" * 300),
    ):
        with pytest.raises(RecordingRefused) as refused:
            await keep(store, folder, path)
        assert str(tmp_path) not in str(refused.value)
    assert left(store) == []
    assert not opened(folder, elsewhere.parent, Path("/etc"))


async def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(
    store: RecordingStore, folder: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had been a folder when it was looked at, and were a link when it is opened."""
    (folder / "out").symlink_to(elsewhere.parent)
    monkeypatch.setattr("calllogd.recordings.local.os.path.realpath", str)
    with pytest.raises(RecordingNotReady):
        await keep(store, folder, folder / "out" / "secret.wav")
    assert left(store) == []


async def test_what_is_no_file_is_refused_and_not_waited_for(store: RecordingStore, folder: Path) -> None:
    os.mkfifo(folder / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s"))
        for path, within in ((folder / "pipe.wav", folder), (Path("/dev/zero"), Path("/dev"))):
            with pytest.raises(RecordingRefused, match="no file"):
                await keep(store, within, path)
        with pytest.raises(RecordingNotReady, match="cannot be opened"):
            await keep(store, folder, folder / "s")
    assert not opened(folder, Path("/dev/zero"))


@pytest.mark.parametrize("body", [b"", b"<html>", GSM, wav(MOST + 1)])
async def test_what_is_no_sound_or_too_much_is_refused(
    store: RecordingStore, folder: Path, body: bytes
) -> None:
    with pytest.raises(InputRefused):
        await keep(store, folder, written(folder / "1.wav", body))
    assert left(store) == []
    assert not opened(folder, store.folder)


@pytest.mark.parametrize("call", ["open", "pread"])
async def test_one_that_may_not_be_read_is_tried_again(
    store: RecordingStore, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = written(folder / "1.wav", wav(100))

    def forbidden(*_given: object, **_named: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(f"calllogd.recordings.local.os.{call}", forbidden)
    with pytest.raises(
        RecordingNotReady, match=r"^the recording's file cannot be (opened|read): Permission denied$"
    ):
        await keep(store, folder, path)
    monkeypatch.undo()
    assert left(store) == []
    assert not opened(folder)
