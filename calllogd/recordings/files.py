"""Files that are whole or not there at all. What blocks is done by `on_disk`, in a thread."""

import asyncio
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from calllogd.errors import StorageError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


async def on_disk(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Return what `work` returns, done in a thread; raises StorageError for what the disk refuses.

    A thread cannot be stopped, so whoever is cancelled waits for it: else its file would be closed under it.
    """
    working = asyncio.create_task(asyncio.to_thread(work, *arguments))
    cancelled: asyncio.CancelledError | None = None
    while not working.done():
        try:
            await asyncio.wait([working])
        except asyncio.CancelledError as error:
            cancelled = error
    failure = working.exception()
    if cancelled is not None:
        raise cancelled
    if isinstance(failure, OSError):
        raise StorageError(f"recordings.path: {failure.strerror or failure}") from failure
    return working.result()


class Partial:
    """A file that is being written, locked by its process. Its methods block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._handle: int | None = None

    def open(self) -> None:
        """Create the file and lock it."""
        while True:
            path = self._folder / secrets.token_hex(16)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
            self._path, self._handle = path, handle
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:
                return
            self.close()  # another process, which is starting, took it for abandoned before it was locked

    def append(self, piece: bytes, keep_free_bytes: int) -> None:
        """Write a piece; raises StorageError when it would take room that is to stay free."""
        handle = self._opened()
        if free_bytes(handle) - len(piece) < keep_free_bytes:
            raise StorageError(f"recordings.path: less than {keep_free_bytes} bytes are free")
        view = memoryview(piece)
        while view:
            view = view[os.write(handle, view) :]

    def finish(self, *, later_than: float | None = None) -> None:
        """Have the file on disk; its time is in a later second than `later_than`, in Unix seconds."""
        handle = self._opened()
        if later_than is not None and int(os.fstat(handle).st_mtime) <= int(later_than):
            os.utime(handle, (later_than + 1, later_than + 1))
        os.fsync(handle)

    def move(self, path: Path) -> None:
        """Make the file the one at `path`."""
        if self._path is not None:
            self._path.rename(path)
            self._path = None

    def close(self) -> None:
        """Close the file, and remove it unless it has been moved; safe to call twice."""
        path, handle, self._path, self._handle = self._path, self._handle, None, None
        try:
            if path is not None:
                path.unlink(missing_ok=True)
        finally:
            if handle is not None:
                os.close(handle)

    def _opened(self) -> int:
        if self._handle is None:
            raise StorageError("the recording is closed")
        return self._handle


def remove_abandoned(path: Path) -> None:
    """Remove a file that nobody is writing any more."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if locked(handle):
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def locked(handle: int) -> bool:
    """Lock an open file, and return True, unless somebody else has locked it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """Keep everybody else, in whatever process, from holding the folder; its handle is given."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Have the disk know a folder's names."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def free_bytes(place: Path | int) -> int:
    """Return how much room the disk has."""
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize
