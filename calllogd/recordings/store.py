"""The files of recordings, one for each call: complete or not there at all.

A file's name is a hash of its call, so nothing that a sender writes becomes part of a path. What is being
received is a file of its own, locked by its process, and is renamed when it is whole and on disk; what a dead
process left behind is therefore known by its missing lock.
"""

import asyncio
import fcntl
import hashlib
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from calllogd.domain.call import CallKey
from calllogd.errors import ConfigError, InputRefused, StorageError
from calllogd.recordings.audio import HEAD_BYTES, kind_of

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PIECE_BYTES = 256 * 1024
"""So much is written at once: each piece is a hand-over between threads."""

_PARTIAL = "partial"
"""The folder of what is being received; the folders of what is kept are named by two hexadecimal digits."""

_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A recording that is there: `modified_at` is when it was received, in Unix seconds.

    `tag` differs between any two files that a call ever had.
    """

    path: Path
    size: int
    media_type: str
    modified_at: float
    tag: str


class Reading:
    """An open recording. It can be read to its end even if it is replaced or deleted meanwhile."""

    def __init__(self, found: Found, handle: int) -> None:
        self.found = found
        self._handle = handle

    async def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` on; raises StorageError."""
        return await _on_disk(os.pread, self._handle, count, offset)


class RecordingStore:
    """Keeps recordings in a folder; implements `Recordings`.

    `max_bytes` bounds one recording. `keep_free_bytes` of the disk stay free, for the ledger needs room, too.
    """

    def __init__(self, folder: Path, max_bytes: int, keep_free_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.keep_free_bytes = keep_free_bytes

    async def open(self) -> None:
        """Make the folder, and remove what processes that died had not received to the end.

        Raises ConfigError when the folder cannot be used.
        """
        try:
            await asyncio.to_thread(self._prepare)
        except OSError as error:
            raise ConfigError(f"recordings.path: {self.folder} cannot be used: {error.strerror}") from error

    async def receive(self, key: CallKey, chunks: AsyncIterable[bytes], *, media_type: str | None) -> str:
        """Keep what `chunks` bring as the call's recording, and return its media type, by its content.

        On disk when this returns; else, whatever happens, nothing of it is left and an earlier recording
        stands. Idempotent. `media_type` is what the sender says. Raises InputRefused (`too_large`, or
        `unsupported_media` for what is no sound), StorageError, and what `chunks` raises.
        """
        partial = _Partial(self.folder / _PARTIAL)
        async with aclosing(_pieces(chunks, self.max_bytes)) as pieces:
            first = await anext(pieces, b"")
            kind = kind_of(first[:HEAD_BYTES], declared=media_type)
            if kind is None:
                raise InputRefused("unsupported_media", "the recording is empty or is no sound")
            try:
                await _on_disk(partial.open)
                await _on_disk(partial.append, first, self.keep_free_bytes)
                async for piece in pieces:
                    await _on_disk(partial.append, piece, self.keep_free_bytes)
                await _on_disk(self._keep, partial, key)
            finally:
                await _on_disk(partial.close)
        return kind

    async def find(self, key: CallKey) -> Found | None:
        """Return the call's recording, None if there is none; raises StorageError."""
        async with self.reading(key) as reading:
            return None if reading is None else reading.found

    @asynccontextmanager
    async def reading(self, key: CallKey) -> AsyncIterator[Reading | None]:
        """Open the call's recording while the context lasts, None if there is none; raises StorageError."""
        opened: list[int] = []
        try:
            found = await _on_disk(_open, self._path(name_of(key)), opened)
            yield None if found is None else Reading(found, opened[0])
        finally:
            for handle in opened:
                await _on_disk(os.close, handle)

    async def delete(self, key: CallKey) -> None:
        """Delete the call's recording, if there is one. Idempotent; raises StorageError."""
        await _on_disk(self._path(name_of(key)).unlink, True)

    async def listing(self) -> Mapping[str, float]:
        """Return the name of every recording, and when it was received, in Unix seconds."""
        return await _on_disk(self._list)

    async def delete_named(self, name: str, before: float) -> bool:
        """Delete a recording by its name, unless it was received after `before`; return whether it was."""
        return await _on_disk(_delete_old, self._path(name), before)

    async def free_bytes(self) -> int:
        """Return how much room the disk has."""
        return await _on_disk(_free_bytes, self.folder)

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name

    def _prepare(self) -> None:
        partial = self.folder / _PARTIAL
        self.folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        partial.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
        for path in partial.iterdir():
            _remove_abandoned(path)

    def _keep(self, partial: "_Partial", key: CallKey) -> None:
        path = self._path(name_of(key))
        try:
            path.parent.mkdir(mode=_PRIVATE_FOLDER)
        except FileExistsError:
            pass
        else:
            _sync_folder(self.folder)
        partial.move(path)
        _sync_folder(path.parent)

    def _list(self) -> Mapping[str, float]:
        found: dict[str, float] = {}
        for folder in self.folder.glob("[0-9a-f][0-9a-f]"):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):
                    found[entry.name] = entry.stat(follow_symlinks=False).st_mtime
        return found


def name_of(key: CallKey) -> str:
    """Return the name of the call's file: 64 hexadecimal digits."""
    return hashlib.sha256(f"{key.account_id}:{key.call_id}".encode()).hexdigest()


class _Partial:
    """A file that is being received. Its methods block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._handle: int | None = None

    def open(self) -> None:
        """Create the file and lock it."""
        while True:
            path = self._folder / secrets.token_hex(16)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_FILE)
            self._path, self._handle = path, handle
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:
                return
            self.close()  # another process, which is starting, took it for abandoned before it was locked

    def append(self, piece: bytes, keep_free_bytes: int) -> None:
        """Write a piece; raises StorageError when it would take room that is to stay free."""
        handle = self._opened()
        if _free_bytes(handle) - len(piece) < keep_free_bytes:
            raise StorageError(f"recordings.path: less than {keep_free_bytes} bytes are free")
        view = memoryview(piece)
        while view:
            view = view[os.write(handle, view) :]

    def move(self, path: Path) -> None:
        """Make the file, as it is on disk then, the one at `path`."""
        os.fsync(self._opened())
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


async def _pieces(chunks: AsyncIterable[bytes], max_bytes: int) -> AsyncGenerator[bytes, None]:
    """Bring chunks of any size to pieces of about PIECE_BYTES; raises InputRefused beyond `max_bytes`."""
    size, waiting = 0, bytearray()
    async for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise InputRefused("too_large", f"a recording may have {max_bytes} bytes")
        waiting += chunk
        if len(waiting) >= PIECE_BYTES:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


async def _on_disk(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
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


def _open(path: Path, opened: list[int]) -> Found | None:
    """Open a recording and say what it is; the handle is in `opened` even if whoever asked has gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    opened.append(handle)
    status = os.fstat(handle)
    # What was let in without being sound by its own marks is GSM.
    kind = kind_of(os.pread(handle, HEAD_BYTES, 0), declared="audio/gsm")
    return Found(
        path=path,
        size=status.st_size,
        media_type=kind or "application/octet-stream",
        modified_at=status.st_mtime,
        tag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
    )


def _remove_abandoned(path: Path) -> None:
    """Remove a file that nobody is receiving any more."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        pass
    finally:
        os.close(handle)


def _delete_old(path: Path, before: float) -> bool:
    try:
        if path.stat().st_mtime > before:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _free_bytes(place: Path | int) -> int:
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize


def _sync_folder(folder: Path) -> None:
    """Have the disk know a folder's names."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
