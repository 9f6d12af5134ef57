"""Recordings that a telephone system on this machine has written to a folder of its own."""

import errno
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from calllogd.recordings.files import on_disk
from calllogd.voip.errand import LocalFile
from calllogd.voip.usecase.fetch_recording import RecordingNotReady, RecordingRefused

STILL_S = 5.0
"""What was written to so lately may be written to yet."""

_PIECE_BYTES = 256 * 1024
_ON_THE_WAY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_AT_THE_END = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEVER = frozenset({errno.ELOOP, errno.ENAMETOOLONG})
"""Of a file that is a link, and of a name that none can have."""

_GSM = ".gsm"


@asynccontextmanager
async def reading_local(file: LocalFile, now: float) -> AsyncIterator[AsyncIterator[bytes]]:
    """Open a recording while the context lasts, and give its bytes; `now` is in Unix seconds.

    Raises RecordingRefused for what is no file in the folder, by whatever links, and RecordingNotReady for
    one that is not there yet, may not be read, or is being written to, also while it is read.
    """
    handles: list[int] = []
    try:
        before = await on_disk(_open, file, now, handles)
        yield _chunks(handles[0], before)
    finally:
        for handle in handles:
            await on_disk(os.close, handle)


def declared_of(file: LocalFile) -> str | None:
    """Return the media type that a file's name declares; only GSM needs one."""
    return "audio/x-gsm" if file.path.suffix.lower() == _GSM else None


async def _chunks(handle: int, before: os.stat_result) -> AsyncIterator[bytes]:
    place = 0
    while chunk := await on_disk(_read, handle, place):
        place += len(chunk)
        yield chunk
    after = await on_disk(os.fstat, handle)
    if (place, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _unfinished()


def _open(file: LocalFile, now: float, handles: list[int]) -> os.stat_result:
    """Open a file; the handle is in `handles` even if whoever asked has gone."""
    try:
        handles.append(_opened_inside(file))
    except FileNotFoundError as error:
        raise RecordingNotReady("the recording's file is not there yet") from error
    except ValueError as error:
        raise RecordingRefused("the recording's file is not in the folder of recordings") from error
    except OSError as error:
        failed = RecordingRefused if error.errno in _NEVER else RecordingNotReady
        raise failed(f"the recording's file cannot be opened: {error.strerror}") from error
    status = os.fstat(handles[0])
    if not stat.S_ISREG(status.st_mode):
        raise RecordingRefused("the recording is no file")
    if abs(now - status.st_mtime) < STILL_S:
        raise _unfinished()
    return status


def _opened_inside(file: LocalFile) -> int:
    """Open a file by going down from the folder, where no link leads away; ValueError for one elsewhere."""
    folder = Path(os.path.realpath(file.folder))
    inner = Path(os.path.realpath(file.path.parent)).relative_to(folder)
    here = os.open(folder, _ON_THE_WAY)
    try:
        for part in inner.parts:
            there = os.open(part, _ON_THE_WAY, dir_fd=here)
            os.close(here)
            here = there
        return os.open(file.path.name, _AT_THE_END, dir_fd=here)
    finally:
        os.close(here)


def _read(handle: int, place: int) -> bytes:
    try:
        return os.pread(handle, _PIECE_BYTES, place)
    except OSError as error:
        raise RecordingNotReady(f"the recording's file cannot be read: {error.strerror}") from error


def _unfinished() -> RecordingNotReady:
    return RecordingNotReady("the recording is still being written", retry_after_s=STILL_S)
