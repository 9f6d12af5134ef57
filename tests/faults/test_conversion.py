"""Recordings that become MP3 while the daemon runs, is stopped and is killed: each plays from its link."""

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.machine import Installation, installation, until, webhook
from tests.recordings.programs import FRAME, RIGHT, is_running, stand_in
from tests.recordings.sounds import voice

SOUND, MADE = voice(10), FRAME * 278
HANGS = "note(pid=os.getpid())\nout(frames(5))\ntime.sleep(60)"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path) as here:
        yield here


def files(here: Installation) -> list[bytes]:
    return [path.read_bytes() for path in (here.folder / "recordings").rglob("*") if path.is_file()]


async def begun(here: Installation, deed: str, convert: str = "auto") -> None:
    """Start a daemon for which this is ffmpeg, and have a call with a recording logged."""
    here.sections["recordings"]["convert"] = convert
    await here.daemon().ready(PATH=str(stand_in(here.folder, deed).parent))
    await here.send(webhook("c1"))
    assert await here.upload("c1", SOUND) == 201
    await here.settled(1)


async def played(here: Installation) -> bytes | None:
    (entry,) = here.entries("c1")
    return await here.played(entry)


async def test_a_recording_becomes_mp3_under_its_link(here: Installation) -> None:
    await begun(here, RIGHT)
    await until(lambda: files(here) == [MADE])
    (entry,) = here.entries("c1")
    assert await played(here) == MADE
    async with here.http.get(str(entry.params["link"]), headers={"Range": "bytes=144-287"}) as part:
        assert (part.status, part.content_type, await part.read()) == (206, "audio/mpeg", FRAME)
    assert await here.daemons[0].stop() == 0


async def test_it_stays_as_it_came_if_the_operator_wants_that(here: Installation) -> None:
    await begun(here, "note(began=True)", "off")
    assert await played(here) == SOUND
    assert await here.daemons[0].stop() == 0
    assert not (here.folder / "bin" / "notes").exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
async def test_whatever_ends_the_daemon_ends_the_conversion_and_nothing_else(
    here: Installation, how: signal.Signals
) -> None:
    await begun(here, HANGS)
    await until(lambda: len(files(here)) == 2)
    pid = int(json.loads((here.folder / "bin" / "notes").read_text())["pid"])
    daemon = here.daemons[0]
    daemon.send(how)
    if how is signal.SIGTERM:
        assert await daemon.ended() == 0
    if how is signal.SIGKILL:
        assert await daemon.ended() == -signal.SIGKILL
        # It sleeps where ffmpeg would write, and find that nobody reads.
        assert is_running(pid)
    else:
        await until(lambda: not is_running(pid))
        await until(lambda: files(here) == [SOUND])
    if how is not signal.SIGHUP:
        await daemon.ready()
    assert await played(here) == SOUND
    assert files(here) == [SOUND]
    assert await daemon.stop() == 0
