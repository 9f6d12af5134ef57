"""The files of recordings, one for each call: complete or not there at all.

A file's name is a hash of its call, so nothing that a sender writes becomes part of a path. What is being
received is a file of its own, locked by its process, and is renamed when it is whole and on disk; what a dead
process left behind is therefore known by its missing lock. Whoever changes what a folder has holds the folder
meanwhile, so that a recording that was deleted or replaced is not brought back by who began with the old one.
"""

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

from calllogd.domain.call import CallKey
from calllogd.errors import ConfigError, InputRefused
from calllogd.recordings.audio import HEAD_BYTES, kind_of
from calllogd.recordings.files import (
    PRIVATE_FOLDER,
    Partial,
    free_bytes,
    held,
    locked,
    on_disk,
    remove_abandoned,
    sync_folder,
)

PIECE_BYTES = 256 * 1024
"""So much is written at once: each piece is a hand-over between threads."""

_PARTIAL = "partial"
"""The folder of what is being received; the folders of what is kept are named by two hexadecimal digits."""

_LISTENERS_S = 3600.0
"""For so long those who have listened are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A recording that is there: `modified_at` is when its file came, in Unix seconds.

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
        self.handle = handle

    async def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` on; raises StorageError."""
        return await on_disk(os.pread, self.handle, count, offset)


class Replacement:
    """A file that is to replace a recording; until it does, the recording stays as it is.

    `handle` is the recording's, open for reading, `size` its bytes, and `came_at` when its file came.
    """

    def __init__(self, store: "RecordingStore", path: Path, handle: int, status: os.stat_result) -> None:
        self.handle = handle
        self.size = status.st_size
        self.came_at = status.st_mtime
        self._store = store
        self._path = path
        self._old = status
        self._partial = Partial(store.folder / _PARTIAL)
        self._begun = False

    async def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes of the recording from `offset` on; raises StorageError."""
        return await on_disk(os.pread, self.handle, count, offset)

    async def append(self, piece: bytes) -> None:
        """Add to the new file; raises StorageError."""
        await on_disk(self._append, piece)

    async def finish(self, unheard_s: float) -> bool:
        """Replace the recording, and return whether that was done; raises StorageError.

        It is not if the recording has been replaced or deleted meanwhile, nor if somebody has listened to it
        in the last `unheard_s` seconds: players ask for a recording part by part.
        """
        return await on_disk(self._finish, unheard_s)

    async def close(self) -> None:
        """Remove the new file if it has not replaced the recording; safe to call twice."""
        await on_disk(self._partial.close)

    def _append(self, piece: bytes) -> None:
        if not self._begun:
            self._partial.open()
            self._begun = True
        self._partial.append(piece, self._store.keep_free_bytes)

    def _finish(self, unheard_s: float) -> bool:
        # Who has the old one's time must not be told that he has this one.
        self._partial.finish(later_than=self.came_at)
        with held(self._path.parent) as folder:
            try:
                there = os.stat(self._path, follow_symlinks=False)
            except FileNotFoundError:
                return False
            if not os.path.samestat(there, self._old) or self._store.unheard_s(self._path.name) < unheard_s:
                return False
            self._partial.move(self._path)
            os.fsync(folder)
        return True


class RecordingStore:
    """Keeps recordings in a folder; implements `Recordings`.

    `max_bytes` bounds one recording. `keep_free_bytes` of the disk stay free, for the ledger needs room, too.
    """

    def __init__(self, folder: Path, max_bytes: int, keep_free_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.keep_free_bytes = keep_free_bytes
        self._listeners = _Listeners()
        self._watchers: list[Callable[[str, str], None]] = []

    async def open(self) -> None:
        """Make the folder, and remove what processes that died had not received to the end.

        Raises ConfigError when the folder cannot be used.
        """
        try:
            await asyncio.to_thread(self._prepare)
        except OSError as error:
            raise ConfigError(f"recordings.path: {self.folder} cannot be used: {error.strerror}") from error

    def watch(self, told: Callable[[str, str], None]) -> None:
        """Have `told` called with the name and media type of each recording that is received from now on."""
        self._watchers.append(told)

    async def receive(self, key: CallKey, chunks: AsyncIterable[bytes], *, media_type: str | None) -> str:
        """Keep what `chunks` bring as the call's recording, and return its media type, by its content.

        On disk when this returns; else, whatever happens, nothing of it is left and an earlier recording
        stands. Idempotent. `media_type` is what the sender says. Raises InputRefused (`too_large`, or
        `unsupported_media` for what is no sound), StorageError, and what `chunks` raises.
        """
        partial = Partial(self.folder / _PARTIAL)
        async with aclosing(_pieces(chunks, self.max_bytes)) as pieces:
            first = await anext(pieces, b"")
            kind = kind_of(first[:HEAD_BYTES], declared=media_type)
            if kind is None:
                raise InputRefused("unsupported_media", "the recording is empty or is no sound")
            try:
                await on_disk(partial.open)
                await on_disk(partial.append, first, self.keep_free_bytes)
                async for piece in pieces:
                    await on_disk(partial.append, piece, self.keep_free_bytes)
                await on_disk(self._keep, partial, key)
            finally:
                await on_disk(partial.close)
        for told in self._watchers:
            told(name_of(key), kind)
        return kind

    async def find(self, key: CallKey) -> Found | None:
        """Return the call's recording, None if there is none; raises StorageError."""
        async with _opened(self._path(name_of(key))) as reading:
            return None if reading is None else reading.found

    @asynccontextmanager
    async def reading(self, key: CallKey) -> AsyncIterator[Reading | None]:
        """Open the call's recording for who listens, None if there is none; raises StorageError."""
        name = name_of(key)
        with self._listeners.one(name):
            async with _opened(self._path(name)) as reading:
                yield reading

    def unheard_s(self, name: str) -> float:
        """Return for how long nobody has listened to a recording in this process, infinity if nobody has."""
        return self._listeners.gone_s(name)

    @asynccontextmanager
    async def replacing(self, name: str) -> AsyncIterator[Replacement | None]:
        """Begin to replace a recording; None if it is not there, or is being replaced by somebody else.

        Raises StorageError.
        """
        path = self._path(name)
        async with _opened(path) as reading:
            if reading is None or not await on_disk(locked, reading.handle):
                yield None
                return
            replacement = Replacement(self, path, reading.handle, await on_disk(os.fstat, reading.handle))
            try:
                yield replacement
            finally:
                await replacement.close()

    async def delete(self, key: CallKey) -> None:
        """Delete the call's recording, if there is one. Idempotent; raises StorageError."""
        await on_disk(_delete, self._path(name_of(key)), inf)

    async def listing(self) -> Mapping[str, float]:
        """Return the name of every recording, and when its file came, in Unix seconds."""
        return await on_disk(self._list)

    async def delete_named(self, name: str, before: float) -> bool:
        """Delete a recording by its name, unless its file came after `before`; return whether it did not."""
        return await on_disk(_delete, self._path(name), before)

    async def free_bytes(self) -> int:
        """Return how much room the disk has."""
        return await on_disk(free_bytes, self.folder)

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name

    def _prepare(self) -> None:
        partial = self.folder / _PARTIAL
        self.folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        partial.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        for path in partial.iterdir():
            remove_abandoned(path)

    def _keep(self, partial: Partial, key: CallKey) -> None:
        path = self._path(name_of(key))
        try:
            path.parent.mkdir(mode=PRIVATE_FOLDER)
        except FileExistsError:
            pass
        else:
            sync_folder(self.folder)
        partial.finish()
        with held(path.parent) as folder:
            partial.move(path)
            os.fsync(folder)

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


class _Listeners:
    """Who listens to which recording, and who has listened lately."""

    def __init__(self) -> None:
        self._here: Counter[str] = Counter()
        self._left_at: dict[str, float] = {}

    @contextmanager
    def one(self, name: str) -> Iterator[None]:
        """Somebody listens while the context lasts."""
        self._here[name] += 1
        try:
            yield
        finally:
            self._here[name] -= 1
            if not self._here[name]:
                del self._here[name]
            now = time.monotonic()
            # Those who left last stand last.
            self._left_at.pop(name, None)
            self._left_at[name] = now
            while self._left_at[first := next(iter(self._left_at))] < now - _LISTENERS_S:
                del self._left_at[first]

    def gone_s(self, name: str) -> float:
        """Return for how long nobody has listened, infinity if nobody ever has; safe in any thread."""
        return 0.0 if name in self._here else time.monotonic() - self._left_at.get(name, -inf)


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


@asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[Reading | None]:
    handles: list[int] = []
    try:
        found = await on_disk(_open, path, handles)
        yield None if found is None else Reading(found, handles[0])
    finally:
        for handle in handles:
            await on_disk(os.close, handle)


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


def _delete(path: Path, before: float) -> bool:
    """Delete a file, unless it came after `before`; return whether it was there."""
    with suppress(FileNotFoundError), held(path.parent):
        if path.stat().st_mtime <= before:
            path.unlink()
            return True
    return False
