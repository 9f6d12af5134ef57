"""Recordings that become smaller: sound and link stay, and whatever fails leaves what was there."""

import asyncio
import json
import logging
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from calllogd.domain.call import CallKey
from calllogd.errors import StorageError
from calllogd.recordings.convert import NICENESS, Converter
from calllogd.recordings.mp3 import Form, Frames
from calllogd.recordings.store import RecordingStore, name_of
from tests.fakes import ACCOUNT
from tests.recordings.programs import FRAME, RIGHT, is_running, own_processes, stand_in
from tests.recordings.services import KEY, left
from tests.recordings.sounds import GSM, chunks, riff, voice, wav

NAME = name_of(KEY)
SOUND = voice(10)
MADE = FRAME * 278
FFMPEG, NICE = shutil.which("ffmpeg"), shutil.which("nice") or ""

needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed; the stand-ins are tested")


class RealClock:
    def now(self) -> float:
        return time.time()


@pytest.fixture
async def store(tmp_path: Path) -> RecordingStore:
    store = RecordingStore(tmp_path / "recordings", 10**8, 0)
    await store.open()
    return store


@pytest.fixture
def converter(store: RecordingStore) -> Converter:
    return Converter(store, RealClock(), unheard_s=0.3, convert_s=20.0)


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Any:
    yield
    assert own_processes() == []


async def keep(store: RecordingStore, body: bytes = SOUND, key: CallKey = KEY) -> None:
    await store.receive(key, chunks(body), media_type="audio/gsm")


async def content(store: RecordingStore, key: CallKey = KEY) -> bytes | None:
    """Return what is there, without listening."""
    found = await store.find(key)
    return None if found is None else found.path.read_bytes()


async def kind(store: RecordingStore, key: CallKey = KEY) -> str | None:
    found = await store.find(key)
    return None if found is None else found.media_type


def noted(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "bin" / "notes").read_text().splitlines()]


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


# with ffmpeg itself


def gsm_in_wav(frames: int) -> bytes:
    """Return WAV's own sort of GSM, silent: two frames in 65 bytes."""
    return riff(0x31, 1, 8000, 0, bytes(65 * frames), byte_rate=1625)


@needs_ffmpeg
@pytest.mark.parametrize(
    ("body", "form", "seconds"),
    [
        (voice(10), Form(16000, 1, 32), 10),
        (voice(10, channels=2), Form(16000, 2, 64), 10),
        (voice(3, 16000), Form(16000, 1, 32), 3),
        (voice(3, 44100, 2), Form(24000, 2, 64), 3),
        (voice(3, 48000), Form(24000, 1, 32), 3),
        (voice(6, 11025, 2), Form(16000, 2, 64), 6),
        (voice(12, 6000), Form(16000, 1, 32), 12),
        (riff(6, 1, 8000, 8, bytes(range(256)) * 400), Form(16000, 1, 32), 12.8),
        (riff(7, 1, 8000, 8, bytes(range(256)) * 400), Form(16000, 1, 32), 12.8),
        (riff(1, 1, 8000, 8, bytes(range(256)) * 400), Form(16000, 1, 32), 12.8),
        (gsm_in_wav(100), Form(16000, 1, 32), 4),
        (GSM * 100, Form(16000, 1, 32), 6),
        (SOUND[:40] + bytes(4) + SOUND[44:], Form(16000, 1, 32), 10),
        (SOUND[:40] + b"\xff" * 4 + SOUND[44:], Form(16000, 1, 32), 10),
        (SOUND[:-60_001], Form(16000, 1, 32), 6.25),
        (SOUND + b"LIST\x08\0\0\0INFOmore", Form(16000, 1, 32), 10),
    ],
)
async def test_a_sound_is_as_long_as_before_and_smaller(
    converter: Converter, store: RecordingStore, body: bytes, form: Form, seconds: float
) -> None:
    await keep(store, body)
    assert FFMPEG is not None
    assert await converter.convert(FFMPEG, NAME)
    assert await kind(store) == "audio/mpeg"
    made = await content(store)
    assert made is not None
    frames = Frames(form)
    frames.feed(made)
    assert frames.is_whole
    assert seconds - 0.01 <= frames.seconds <= seconds + 0.3
    assert len(made) < len(body) or b"\x31\0" in body[:24] or body.startswith(GSM[:1])
    assert len(left(store)) == 1
    assert not await converter.convert(FFMPEG, NAME), "once is enough"
    assert await content(store) == made


@needs_ffmpeg
async def test_it_sounds_as_before(converter: Converter, store: RecordingStore, tmp_path: Path) -> None:
    """The tone is where it was: what comes out is compared with what went in, by its zero crossings."""
    await keep(store, SOUND)
    assert FFMPEG is not None
    assert await converter.convert(FFMPEG, NAME)
    found = await store.find(KEY)
    assert found is not None
    process = await asyncio.create_subprocess_exec(
        FFMPEG, "-loglevel", "error", "-i", str(found.path), "-ar", "8000", "-f", "s16le", "-",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    heard, _ = await process.communicate()
    for second in range(10):
        middle = second * 16_000 + 6000
        assert crossings(heard[middle:][:8000]) == pytest.approx((300 + 100 * second) / 2, abs=2)


def crossings(samples: bytes) -> int:
    return sum(one < 0 <= other for one, other in pairwise(memoryview(samples).cast("h")))


@needs_ffmpeg
@pytest.mark.parametrize(
    "body",
    [
        SOUND[:44] + b"\xff" * 100 + b"#EXTM3U\nfile:///etc/passwd\n" * 4000,
        b"#EXTM3U\nfile:///etc/passwd\n",
        riff(0x55, 1, 8000, 16, bytes(100_000)),
        riff(1, 1, 8000, 64, bytes(100_000)),
        riff(1, 3, 8000, 16, bytes(100_000)),
        wav(100_000),
        b"ID3" + bytes(100_000),
        b"RIFF\0\0\0\0WAVE" + random.Random(1).randbytes(100_000),  # noqa: S311  not a secret
    ],
)
async def test_whatever_it_is_a_recording_is_there(
    converter: Converter, store: RecordingStore, body: bytes
) -> None:
    with suppress(Exception):
        await keep(store, body)
    before = await content(store)
    assert FFMPEG is not None
    if not await converter.convert(FFMPEG, NAME):
        assert await content(store) == before
    assert len(left(store)) == (before is not None)


@needs_ffmpeg
async def test_ffmpeg_works_for_whoever_runs(
    converter: Converter, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    keys = [CallKey(ACCOUNT, f"c{number}") for number in range(5)]
    running = asyncio.create_task(converter.run())
    for key in keys:
        await keep(store, voice(5), key)
    while {await kind(store, key) for key in keys} != {"audio/mpeg"}:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    assert [one for one in caplog.records if one.levelno > logging.INFO] == []


# with whatever is called ffmpeg


async def test_what_is_made_takes_the_place_of_what_was_there(
    converter: Converter, store: RecordingStore, tmp_path: Path
) -> None:
    await keep(store)
    assert await converter.convert(str(stand_in(tmp_path, RIGHT)), NAME)
    assert await content(store) == MADE
    assert await kind(store) == "audio/mpeg"
    assert len(left(store)) == 1


async def test_the_program_is_given_a_sound_and_nothing_else(
    converter: Converter, store: RecordingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLLOGD_ADMIN__TOKEN", "secret")
    deed = """
        note(
            arguments=sys.argv[1:],
            variables=sorted(os.environ),
            files=sorted(int(n) for n in os.listdir("/proc/self/fd"))[:-1],
            nice=os.nice(0), group=os.getpgrp() == os.getpid(), begins=os.read(0, 4).decode("latin-1"),
            writes=os.access("/proc/self/fd/0", os.W_OK) and os.get_blocking(0),
        )
        import fcntl
        note(flags=fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE)
        out(frames())
    """.replace("\n        ", "\n")
    await keep(store)
    with open(tmp_path / "another", "w", encoding="utf-8") as other:  # noqa: ASYNC230
        os.set_inheritable(other.fileno(), True)
        assert await converter.convert(str(stand_in(tmp_path, deed)), NAME)
    told, more = noted(tmp_path)
    assert set(told["variables"]) <= {"LC_ALL", "LC_CTYPE"}
    assert told["files"] == [0, 1, 2]
    assert told["nice"] == min(os.nice(0) + NICENESS, 19)
    assert told["group"]
    assert told["begins"] == "RIFF"
    assert more["flags"] == os.O_RDONLY
    arguments = " ".join(told["arguments"])
    assert str(tmp_path) not in arguments
    assert NAME not in arguments
    for part in (
        "-nostdin",
        "-protocol_whitelist pipe ",
        "-f wav -i pipe:0",
        "-b:a 32k -ac 1 -ar 16000",
        "-map_metadata -1",
    ):
        assert part in arguments
    assert arguments.endswith("-f mp3 pipe:1")


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("", r"made 0\.0 s of 10\.0 s"),
        ("out(b'<html>' * 100)", "made not a frame"),
        ("out(open('/proc/self/exe', 'rb').read(1000))", "made not a frame"),
        ("out(frames(9.0))", r"made 9\.0 s of 10\.0 s"),
        ("out(frames(11.0))", r"made 11\.0 s of 10\.0 s"),
        ("out(frames()[:-1])", "ended within a frame"),
        ("out(frames() + b'TAG')", "ended within a frame"),
        ("out(frames() + b'TAG of an older kind')", "made not a frame"),
        ("out(frames(20))\nout(frames(20))\nout(frames(20))", "not become smaller"),
        ("while True: out(frames())", "not become smaller"),
        ("out(frames())\nsys.exit(1)", "ffmpeg: ended with 1"),
        ("out(frames())\nos.kill(os.getpid(), 11)", "ffmpeg: ended with -11"),
        (
            "out(frames())\nsys.exit('[mp3 @ 0x5] one\\n[wav @ 0x55] no \\x1b[7mencoder\\n\\n')",
            r"ffmpeg: no \[7mencoder$",
        ),
        ("os.write(2, b'x' * 60000)\nsys.exit(1)", "ffmpeg: x{200}$"),
        ("out(frames())\nos.close(1)\ntime.sleep(60)", "takes more than 0.6 s"),
        ("time.sleep(60)", "takes more than 0.6 s"),
        ("out(frames(5))\ntime.sleep(60)", "takes more than 0.6 s"),
        ("os.write(2, b'x' * 900000)", "takes more than 0.6 s"),
        (
            "import signal\nsignal.signal(15, signal.SIG_IGN)\nos.fork()\ntime.sleep(60)",
            "takes more than 0.6 s",
        ),
    ],
)
async def test_whatever_fails_leaves_what_was_there(
    store: RecordingStore, tmp_path: Path, deed: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    converter = Converter(store, RealClock(), unheard_s=0, convert_s=0.6)
    await keep(store)
    before = await store.find(KEY)
    async with asyncio.timeout(10):
        assert not await converter.convert(str(stand_in(tmp_path, deed)), NAME)
    assert await content(store) == SOUND
    assert await store.find(KEY) == before
    assert len(left(store)) == 1
    (said,) = [one.getMessage() for one in caplog.records if one.name == "calllogd.recordings.convert"]
    assert said.startswith("a recording stays as it came: ")
    assert re.search(reason, said)
    assert NAME not in said


async def test_one_complaint_is_enough(
    converter: Converter, store: RecordingStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = str(stand_in(tmp_path, "sys.exit('Unknown encoder')"))
    for number in range(3):
        key = CallKey(ACCOUNT, f"c{number}")
        await keep(store, key=key)
        assert not await converter.convert(program, name_of(key))
    assert [one.getMessage() for one in caplog.records if one.name.endswith("convert")] == [
        "a recording stays as it came: ffmpeg: Unknown encoder"
    ]


@pytest.mark.parametrize(
    "body",
    [wav(65_535), voice(4), GSM * 16, gsm_in_wav(24), b"ID3" + bytes(200_000), b"OggS" + bytes(200_000)],
    ids=["small", "short", "a second of GSM", "GSM in WAV", "MP3", "Ogg"],
)
async def test_what_is_not_worth_it_is_not_even_tried(
    converter: Converter, store: RecordingStore, tmp_path: Path, body: bytes
) -> None:
    await keep(store, body)
    assert not await converter.convert(str(stand_in(tmp_path, "note(began=True)")), NAME)
    assert not (tmp_path / "bin" / "notes").exists()
    assert await content(store) == body


async def test_what_no_browser_plays_may_grow(
    converter: Converter, store: RecordingStore, tmp_path: Path
) -> None:
    gsm = GSM * 17
    assert len(gsm) < 144 * 28
    await keep(store, gsm)
    assert await converter.convert(str(stand_in(tmp_path, RIGHT, 1.02)), NAME)
    await keep(store, gsm)
    assert not await converter.convert(str(stand_in(tmp_path, "out(frames(3))", 1.02)), NAME)
    assert await content(store) == gsm


async def test_a_recording_that_is_replaced_or_deleted_meanwhile_stays_so(
    converter: Converter, store: RecordingStore, tmp_path: Path
) -> None:
    go_on = tmp_path / "go_on"
    program = str(stand_in(tmp_path, f"{RIGHT}\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.01)"))
    for newer in (voice(11), None):
        await keep(store)
        converting = asyncio.create_task(converter.convert(program, NAME))
        await until(lambda: list((store.folder / "partial").iterdir()))
        if newer is None:
            await store.delete(KEY)
        else:
            await keep(store, newer)
        go_on.touch()
        assert not await converting
        assert await content(store) == newer
        assert len(left(store)) == (newer is not None)
        go_on.unlink()


async def test_who_is_listening_hears_it_to_its_end(
    converter: Converter, store: RecordingStore, tmp_path: Path
) -> None:
    program = str(stand_in(tmp_path, f"note(began=True)\n{RIGHT}"))
    await keep(store)
    async with store.reading(KEY):
        assert not await converter.convert(program, NAME)
    assert not await converter.convert(program, NAME), "he may only have paused"
    assert not (tmp_path / "bin" / "notes").exists(), "it is not tried in vain"
    await asyncio.sleep(0.31)
    assert await converter.convert(program, NAME)


async def test_who_begins_to_listen_meanwhile_too(
    converter: Converter, store: RecordingStore, tmp_path: Path
) -> None:
    program = str(stand_in(tmp_path, f"time.sleep(0.2)\n{RIGHT}"))
    await keep(store)
    converting = asyncio.create_task(converter.convert(program, NAME))
    await asyncio.sleep(0.1)
    async with store.reading(KEY):
        pass
    assert not await converting
    assert await content(store) == SOUND
    assert len(left(store)) == 1


async def test_gsm_is_played_by_nobody(converter: Converter, store: RecordingStore, tmp_path: Path) -> None:
    await keep(store, GSM * 100)
    async with store.reading(KEY) as reading:
        assert reading is not None
        assert await converter.convert(str(stand_in(tmp_path, RIGHT, 6.0)), NAME)
        assert await reading.read(0, 10**6) == GSM * 100


async def test_two_daemons_do_not_both_do_it(
    converter: Converter, store: RecordingStore, tmp_path: Path
) -> None:
    other = Converter(RecordingStore(store.folder, 10**8, 0), RealClock(), unheard_s=0)
    program = str(stand_in(tmp_path, f"note(began=True)\ntime.sleep(0.2)\n{RIGHT}"))
    await keep(store)
    done = await asyncio.gather(converter.convert(program, NAME), other.convert(program, NAME))
    assert sorted(done) == [False, True]
    assert len(noted(tmp_path)) == 1
    assert await content(store) == MADE


async def test_a_full_disk_is_an_error_of_the_store(
    converter: Converter, store: RecordingStore, tmp_path: Path
) -> None:
    await keep(store)
    store.keep_free_bytes = 2**60
    with pytest.raises(StorageError):
        await converter.convert(str(stand_in(tmp_path, "while True: out(FRAME)")), NAME)
    assert await content(store) == SOUND
    assert len(left(store)) == 1


@pytest.mark.parametrize("delay_s", [0.0, 0.002, 0.02, 0.05, 0.08, 0.1, 0.15])
async def test_whoever_is_cancelled_leaves_nothing_behind(
    converter: Converter, store: RecordingStore, tmp_path: Path, delay_s: float
) -> None:
    await keep(store)
    converting = asyncio.create_task(
        converter.convert(str(stand_in(tmp_path, "out(frames(5))\ntime.sleep(60)")), NAME)
    )
    await asyncio.sleep(delay_s)
    converting.cancel()
    await asyncio.wait([converting])
    assert converting.cancelled()
    assert own_processes() == []
    assert await content(store) == SOUND
    assert len(left(store)) == 1


# the worker


@pytest.fixture
async def running(store: RecordingStore) -> AsyncIterator[Callable[..., Converter]]:
    tasks: list[asyncio.Task[None]] = []

    def run(**given: float) -> Converter:
        converter = Converter(store, RealClock(), **{"unheard_s": 0.0, "look_s": 0.05} | given)
        tasks.append(asyncio.create_task(converter.run()))
        return converter

    yield run
    for task in tasks:
        assert not task.done()
        task.cancel()
    await asyncio.wait(tasks)


async def converted(store: RecordingStore, *keys: CallKey) -> None:
    async with asyncio.timeout(10):
        while {await kind(store, key) for key in keys or (KEY,)} != {"audio/mpeg"}:
            await asyncio.sleep(0.01)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let only stand-ins be found."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


async def test_what_is_received_is_converted_and_nothing_is_asked_twice(
    running: Callable[..., Converter], store: RecordingStore, path: Path
) -> None:
    stand_in(path, f"note(began=True)\n{RIGHT}")
    running(look_s=60.0)
    await asyncio.sleep(0.05)
    await keep(store)
    await converted(store)
    await keep(store, key=CallKey(ACCOUNT, "c2"))
    await converted(store, KEY, CallKey(ACCOUNT, "c2"))
    assert len(noted(path)) == 2


async def test_one_at_a_time(running: Callable[..., Converter], store: RecordingStore, path: Path) -> None:
    stand_in(path, f"note(at=time.time())\ntime.sleep(0.1)\n{RIGHT}\nnote(at=time.time())")
    keys = [CallKey(ACCOUNT, f"c{number}") for number in range(4)]
    running()
    for key in keys:
        await keep(store, key=key)
    await converted(store, *keys)
    times = [note["at"] for note in noted(path)]
    assert len(times) == 8
    assert times == sorted(times)


async def test_what_another_process_left_is_found_and_what_failed_is_not_tried_for_ever(
    running: Callable[..., Converter], store: RecordingStore, path: Path
) -> None:
    bad = CallKey(ACCOUNT, "bad")
    await keep(store)
    await keep(store, voice(12), bad)
    stand_in(path, f"note(began=True)\n{RIGHT}")
    running()
    await converted(store)
    await asyncio.sleep(0.3)
    assert len(noted(path)) == 2
    assert await content(store, bad) == voice(12)


async def test_who_listened_before_the_start_is_not_known(
    running: Callable[..., Converter], store: RecordingStore, path: Path
) -> None:
    await keep(store)
    stand_in(path, RIGHT)
    running(unheard_s=0.4)
    await asyncio.sleep(0.3)
    assert await content(store) == SOUND
    await converted(store)


async def test_what_came_long_ago_stays(
    running: Callable[..., Converter], store: RecordingStore, path: Path
) -> None:
    await keep(store)
    await keep(store, key=CallKey(ACCOUNT, "c2"))
    found = await store.find(KEY)
    assert found is not None
    os.utime(found.path, (time.time() - 3 * 86_400,) * 2)
    stand_in(path, RIGHT)
    running()
    await converted(store, CallKey(ACCOUNT, "c2"))
    await asyncio.sleep(0.3)
    assert await content(store) == SOUND


async def test_without_ffmpeg_everything_stays_until_it_is_there(
    running: Callable[..., Converter],
    store: RecordingStore,
    path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    running()
    await keep(store)
    await asyncio.sleep(0.3)
    assert await content(store) == SOUND
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "ffmpeg is not installed: recordings stay as they come")
    ]
    stand_in(path, RIGHT)
    await converted(store)


@pytest.mark.parametrize("nice", [False, True])
async def test_a_program_that_cannot_be_started_is_none(
    running: Callable[..., Converter],
    store: RecordingStore,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    nice: bool,
) -> None:
    program = stand_in(path, RIGHT)
    if nice:
        program.with_name("nice").symlink_to(NICE)
    program.write_text("#!/does/not/exist\n")
    running()
    await keep(store)
    await until(lambda: "ffmpeg cannot be started" in caplog.text)
    assert await content(store) == SOUND
    stand_in(path, RIGHT)
    await converted(store)


async def test_a_full_disk_is_said_and_waited_for(
    running: Callable[..., Converter],
    store: RecordingStore,
    path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await keep(store)
    store.keep_free_bytes = 2**60
    stand_in(path, RIGHT)
    running()
    await until(lambda: "recordings cannot be converted" in caplog.text)
    store.keep_free_bytes = 0
    await converted(store)


async def test_a_mistake_of_ours_stops_nobody_else(
    running: Callable[..., Converter],
    store: RecordingStore,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_head: bytes, size: int) -> None:
        raise ZeroDivisionError(size)

    stand_in(path, RIGHT)
    with monkeypatch.context() as patched:
        patched.setattr("calllogd.recordings.convert.sound_of", broken)
        running()
        await keep(store)
        await until(lambda: "by a mistake of ours" in caplog.text)
    await converted(store)


async def test_whoever_is_stopped_goes_on_after_the_next_start(
    store: RecordingStore, path: Path, running: Callable[..., Converter]
) -> None:
    stand_in(path, "note(pid=os.getpid())\nout(frames(5))\ntime.sleep(60)")
    converter = Converter(store, RealClock(), unheard_s=0)
    first = asyncio.create_task(converter.run())
    await asyncio.sleep(0.05)
    await keep(store)
    await until(lambda: (path / "bin" / "notes").exists() and len(left(store)) == 2)
    first.cancel()
    await asyncio.wait([first])
    (note,) = noted(path)
    assert not is_running(note["pid"])
    assert await content(store) == SOUND
    assert len(left(store)) == 1
    stand_in(path, RIGHT)
    running()
    await converted(store)


# kill -9

KILLED = """
import asyncio, sys, time
from pathlib import Path
from calllogd.recordings.convert import Converter
from calllogd.recordings.store import RecordingStore

class Clock:
    now = staticmethod(time.time)

async def main():
    store = RecordingStore(Path(sys.argv[1]), 10**8, 0)
    await store.open()
    print("ready", flush=True)
    await Converter(store, Clock(), unheard_s=0, look_s=0.01).run()

asyncio.run(main())
"""


async def begun(store: RecordingStore, path: Path) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(store.folder),
        stdout=asyncio.subprocess.PIPE, env={"PATH": str(path / "bin"), "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert await process.stdout.readline() == b"ready\n"
    return process


async def killed(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.communicate()
    assert process.returncode == -signal.SIGKILL


async def test_a_kill_while_ffmpeg_works_leaves_the_recording_and_no_ffmpeg(
    store: RecordingStore, path: Path
) -> None:
    stand_in(path, "note(pid=os.getpid())\nwhile True: out(FRAME); time.sleep(0.01)")
    await keep(store)
    process = await begun(store, path)
    await until(lambda: len(left(store)) == 2)
    await killed(process)
    (note,) = noted(path)
    await until(lambda: not is_running(note["pid"]))
    assert await content(store) == SOUND
    assert len(left(store)) == 2
    await store.open()
    assert len(left(store)) == 1
    assert await Converter(store, RealClock(), unheard_s=0).convert(str(stand_in(path, RIGHT)), NAME)
    assert await content(store) == MADE


async def test_kills_at_any_moment_leave_one_or_the_other(store: RecordingStore, path: Path) -> None:
    keys = [CallKey(ACCOUNT, f"c{number}") for number in range(120)]
    chance = random.Random(7)  # noqa: S311  not a secret
    # Python itself begins too slowly to be killed often.
    stand_in(path, "")
    made = path / "made"
    made.write_bytes(MADE)
    program = path / "bin" / "ffmpeg"
    program.write_text(f"#!/bin/sh\nexec /bin/cat '{made}'\n")
    for key in keys:
        await keep(store, key=key)
    kills = 0
    while len(done := [key for key in keys if await kind(store, key) == "audio/mpeg"]) < len(keys):
        process = await begun(store, path)
        await asyncio.sleep(chance.uniform(0.0, 0.4))
        await killed(process)
        kills += 1
        for key in keys:
            assert await content(store, key) in (SOUND, MADE)
    assert len(done) == len(keys)
    assert kills > 2
    await store.open()
    assert len(left(store)) == len(keys)
