"""Recordings in WAV and GSM, made into MP3: a quarter of most WAV's size, and what every browser plays.

A recording is kept, and can be played, before anything of this begins: nothing waits for it, and nothing is
lost by it. ffmpeg is given the open file and gives the new one through a pipe: it learns no name and writes
no file. The new file takes the old one's place, under the same link, when it is whole, checked and on disk;
players see it by its media type and tag. Whatever fails, the recording stays as it came.
"""

import asyncio
import heapq
import logging
import os
import re
import shutil
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress

from calllogd.errors import CalllogdError, StorageError
from calllogd.ports import Clock
from calllogd.recordings.mp3 import Form, Frames, form_for
from calllogd.recordings.sound import SOUND_BYTES, Sound, sound_of
from calllogd.recordings.store import RecordingStore, Replacement

PROGRAM = "ffmpeg"

CONVERT_S = 600.0
"""How long the conversion of one recording may take."""

UNHEARD_S = 900.0
"""For how long nobody may have listened: players ask for a recording part by part, and pause in between."""

LOOK_S = 3600.0
"""How often recordings are looked through for those that another process has received or left."""

RECENT_S = 2 * 86_400.0
"""What came earlier is left as it is."""

TINY_BYTES = 64 * 1024
"""Below this there is nothing to gain, if browsers play it as it is."""

TINY_S = 1.0

GROWTH_MOST = 5
"""How much larger a file may become that browsers do not play as it is."""

TOLERANCE_S, TOLERANCE = 0.5, 0.01
"""How much longer or shorter the new sound may be; MP3 has whole frames, and silence at its ends."""

NICENESS = 10
_NOT_STARTED = frozenset({125, 126, 127})
"""How nice ends if it cannot start what it is to."""


_PIECE_BYTES = 256 * 1024
_COMPLAINT_BYTES, _COMPLAINT_SIGNS = 4000, 200
_KINDS = frozenset({"audio/wav", "audio/gsm"})
_DECODERS = (
    "pcm_s16le,pcm_u8,pcm_s24le,pcm_s32le,pcm_f32le,pcm_f64le,pcm_alaw,pcm_mulaw,"
    "adpcm_ms,adpcm_ima_wav,gsm,gsm_ms"
)
_PLACES_IN_MEMORY = re.compile(r"\[[^]]*\]\s*")

_log = logging.getLogger(__name__)


class _Failed(CalllogdError):
    """A recording cannot be converted, or not to anything better."""


class _NoProgram(CalllogdError):
    """ffmpeg cannot be started."""


class Converter:
    """Makes recordings smaller, and such as browsers play, one at a time, if ffmpeg is installed.

    Rests on the files alone: a recording that was begun with and not finished is found again.
    """

    def __init__(
        self,
        store: RecordingStore,
        clock: Clock,
        *,
        unheard_s: float = UNHEARD_S,
        convert_s: float = CONVERT_S,
        look_s: float = LOOK_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._unheard_s = unheard_s
        self._convert_s = convert_s
        self._look_s = look_s
        self._queue: list[tuple[float, str]] = []
        self._queued: set[str] = set()
        self._done: dict[str, float] = {}
        self._offered = asyncio.Event()
        self._said = ""
        store.watch(self._offer)

    async def run(self) -> None:
        """Convert what is received, and what was left before, for ever; without ffmpeg wait for it.

        Whoever is cancelled leaves no process and no file behind.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            until = loop.time() + self._look_s
            program = await asyncio.to_thread(shutil.which, PROGRAM)
            if program is None:
                self._say(logging.INFO, f"{PROGRAM} is not installed: recordings stay as they come")
                # What is offered meanwhile is found when it is.
                self._queue.clear()
                self._queued.clear()
                await asyncio.sleep(self._look_s)
                continue
            try:
                # Who listened before this process began is not known.
                await self.look(began + self._unheard_s)
                await self._work(program, until)
            except StorageError as error:
                _log.error("recordings cannot be converted: %s", error)
                await asyncio.sleep(max(until - loop.time(), 0))
            except _NoProgram as error:
                self._say(logging.WARNING, str(error))
                await asyncio.sleep(max(until - loop.time(), 0))

    async def look(self, due_at: float) -> None:
        """Queue what came lately and has not been dealt with, for `due_at` in the loop's time.

        Raises StorageError.
        """
        after = self._clock.now() - RECENT_S
        recent = {name: at for name, at in (await self._store.listing()).items() if at > after}
        self._done = {name: at for name, at in self._done.items() if recent.get(name) == at}
        for name in recent:
            if name not in self._done and name not in self._queued:
                self._put(name, due_at)

    async def convert(self, program: str, name: str) -> bool:
        """Convert one recording, if that is worth it; return whether it was.

        Idempotent. A recording that somebody is listening to is queued for later. Raises StorageError.
        """
        async with self._store.replacing(name) as new:
            if new is None:
                return False
            sound = sound_of(await new.read(0, SOUND_BYTES), new.size)
            if sound is None or _is_tiny(sound, new.size):
                self._done[name] = new.came_at
                return False
            # What browsers do not play nobody is in the middle of.
            unheard_s = self._unheard_s if sound.plays else 0.0
            if self._store.unheard_s(name) < unheard_s:
                self._put_off(name)
                return False
            try:
                await self._encode(program, sound, new)
            except _Failed as error:
                self._done[name] = new.came_at
                self._say(logging.WARNING, f"a recording stays as it came: {error}")
                return False
            if await new.finish(unheard_s):
                _log.debug("recording %s converted", name)
                return True
            # Replaced, deleted, or listened to meanwhile: whichever it is shows next time.
            self._put_off(name)
            return False

    async def _work(self, program: str, until: float) -> None:
        """Convert what is queued as it becomes due, until then."""
        loop = asyncio.get_running_loop()
        while (now := loop.time()) < until:
            if self._queue and self._queue[0][0] <= now:
                _, name = heapq.heappop(self._queue)
                self._queued.discard(name)
                await self._try(program, name)
                continue
            self._offered.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(until, self._queue[0][0] if self._queue else until)):
                    await self._offered.wait()

    async def _try(self, program: str, name: str) -> None:
        try:
            await self.convert(program, name)
        except (StorageError, _NoProgram):
            raise
        except Exception:  # noqa: BLE001  it stays as it came; the others go on
            _log.critical("a recording was not converted by a mistake of ours", exc_info=True)

    async def _encode(self, program: str, sound: Sound, new: Replacement) -> None:
        """Write what ffmpeg makes of a sound; raises _Failed unless it is what was ordered."""
        form = form_for(sound.rate, sound.channels)
        frames = Frames(form)
        most = new.size - 1 if sound.plays else new.size * GROWTH_MOST
        process = await _started(program, _arguments(sound, form), new.handle)
        try:
            async with asyncio.timeout(self._convert_s):
                size = 0
                while piece := await _some(process):
                    size += len(piece)
                    if size > most:
                        raise _Failed("it would not become smaller")
                    frames.feed(piece)
                    await new.append(piece)
                await _succeeded(process)
        except TimeoutError as error:
            raise _Failed(f"it takes more than {self._convert_s:g} s") from error
        except ValueError as error:
            raise _Failed(f"{PROGRAM} made {error}") from error
        finally:
            await _ended(process)
        if not frames.is_whole:
            raise _Failed(f"{PROGRAM} ended within a frame")
        if abs(frames.seconds - sound.seconds) > TOLERANCE_S + TOLERANCE * sound.seconds:
            raise _Failed(f"{PROGRAM} made {frames.seconds:.1f} s of {sound.seconds:.1f} s")

    def _offer(self, name: str, kind: str) -> None:
        if kind in _KINDS:
            self._put(name, 0.0)

    def _put_off(self, name: str) -> None:
        self._put(name, asyncio.get_running_loop().time() + self._unheard_s)

    def _put(self, name: str, due_at: float) -> None:
        self._queued.add(name)
        heapq.heappush(self._queue, (due_at, name))
        self._offered.set()

    def _say(self, level: int, said: str) -> None:
        """Log once what may go on for long."""
        if said != self._said:
            _log.log(level, "%s", said)
        self._said = said


def _is_tiny(sound: Sound, size: int) -> bool:
    return size < TINY_BYTES if sound.plays else sound.seconds < TINY_S


def _arguments(sound: Sound, form: Form) -> Sequence[str]:
    """Return how ffmpeg is called: what comes in and what goes out is named, and nothing else is opened."""
    # Of the source its sound alone, without its tags: they may tell who called.
    return (
        "-nostdin -hide_banner -loglevel fatal -threads 1"
        f" -protocol_whitelist pipe -codec_whitelist {_DECODERS} -f {sound.form} -i pipe:0"
        " -map 0:a:0 -map_metadata -1 -map_chapters -1"
        f" -c:a libmp3lame -b:a {form.kbits}k -ac {form.channels} -ar {form.rate}"
        " -write_xing 0 -id3v2_version 0 -f mp3 pipe:1"
    ).split()


async def _started(program: str, arguments: Sequence[str], handle: int) -> Process:
    """Start ffmpeg with an open file, behind everybody else; it inherits no variables and no other file.

    Raises _NoProgram.
    """
    # It has threads, so it has to be nice before it begins. Where that is not allowed it begins all the same.
    nice = await asyncio.to_thread(shutil.which, "nice")
    command = (program,) if nice is None else (nice, "-n", str(NICENESS), program)
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            *arguments,
            stdin=handle,
            stdout=PIPE,
            stderr=PIPE,
            env={"LC_ALL": "C"},
            process_group=0,
        )
    except OSError as error:
        raise _NoProgram(f"{PROGRAM} cannot be started: {error.strerror}") from error


async def _some(process: Process) -> bytes:
    return b"" if process.stdout is None else await process.stdout.read(_PIECE_BYTES)


async def _succeeded(process: Process) -> None:
    """Return when the process has ended well; raises _Failed with what it complains of, and _NoProgram."""
    complaint = b"" if process.stderr is None else await process.stderr.read(_COMPLAINT_BYTES)
    code = await process.wait()
    if code in _NOT_STARTED:
        raise _NoProgram(f"{PROGRAM} cannot be started")
    if code != 0:
        lines = _PLACES_IN_MEMORY.sub("", complaint.decode("utf-8", "replace")).split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), f"ended with {code}")
        shown = "".join(sign for sign in last[:_COMPLAINT_SIGNS] if sign.isprintable())
        raise _Failed(f"{PROGRAM}: {shown}")


async def _ended(process: Process) -> None:
    """Kill a process unless it has ended, and wait until nothing of it is left."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.communicate()
