"""A file that another program appends to, read on from where it was left, through rotation.

A file is known by its inode and by how it begins. When what stands at the path is another one, the file that
was being read is looked for beside it: a rotated one keeps its inode, a copied one its beginning. It is read
to its end before the next one is begun. All functions here block.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from calllogd.ports import FilePlace

PIECE_BYTES = 96 * 1024
"""So much is read at once: a few hundred calls, which are written in one transaction."""

HEAD_BYTES = 1024
"""So much of a file's beginning tells it from others."""

QUIET_S = 2.0
"""A file that was rotated away may be written to for so long after it was written to last."""

_PACKED = (".gz", ".xz", ".bz2", ".zst")


class Piece(NamedTuple):
    """What follows a place; `gap`: the file that was being read has gone, and what it had besides with it."""

    at: FilePlace
    content: bytes
    gap: bool = False


class _Open(NamedTuple):
    handle: int
    path: Path
    inode: int
    size: int
    modified_ns: int


def end_of(path: Path) -> FilePlace:
    """Return the place behind all that a file has now; the beginning of one that is still to come.

    Of that the head is the time, in nanoseconds: what was written since belongs to it.
    """
    with _opened(path) as file:
        return FilePlace(0, 0, 0, b"%d" % time.time_ns()) if file is None else _place(file, file.size)


def read_on(path: Path, place: FilePlace) -> Piece:
    """Return what follows a place, nothing if nothing does yet; raises OSError.

    The piece is at another place than the one given when another file follows: then it begins it.
    """
    if place.inode == 0:
        with _opened(_following(path, int(place.head))) as first:
            return Piece(place if first is None else _place(first, 0), b"")
    with _opened(path) as current:
        if current is not None and _is_at(current, place):
            return _piece(current, place)
        before = _found(path, place)
        if before is None:
            if current is None:
                return Piece(place, b"")
            return Piece(_place(current, 0), b"", gap=place.offset > 0)
        with _opened(before) as old:
            if old is None:
                return Piece(place, b"")
            piece = _piece(old, place._replace(inode=old.inode))
            if piece.content or time.time() - old.modified_ns / 1e9 < QUIET_S:
                return piece
        with _opened(_following(path, old.modified_ns, before)) as next_one:
            return piece if next_one is None else Piece(_place(next_one, 0), b"")


def moved(path: Path, at: FilePlace, read_bytes: int) -> FilePlace:
    """Return the place that is reached when so many bytes of a piece have been read; raises OSError."""
    head_bytes = min(HEAD_BYTES, at.offset + read_bytes)
    if head_bytes == at.head_bytes:
        return at._replace(offset=at.offset + read_bytes)
    for candidate in (path, *_beside(path)):
        with _opened(candidate) as file:
            if file is not None and file.inode == at.inode:
                return _place(file, at.offset + read_bytes)
    # It has been removed since: with it goes what would tell it from others.
    return at._replace(offset=at.offset + read_bytes)


@contextmanager
def _opened(path: Path) -> Iterator[_Open | None]:
    """Open a regular file; None if there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            yield None
        else:
            yield _Open(handle, path, status.st_ino, status.st_size, status.st_mtime_ns)
    finally:
        os.close(handle)


def _place(file: _Open, offset: int) -> FilePlace:
    head = os.pread(file.handle, min(HEAD_BYTES, offset), 0)
    return FilePlace(file.inode, offset, len(head), hashlib.sha256(head).digest())


def _piece(file: _Open, place: FilePlace) -> Piece:
    return Piece(place, os.pread(file.handle, PIECE_BYTES, place.offset))


def _is_at(file: _Open, place: FilePlace) -> bool:
    """Tell whether a file is the one that a place is in."""
    return file.inode == place.inode and _begins_alike(file, place)


def _begins_alike(file: _Open, place: FilePlace) -> bool:
    if file.size < place.offset:
        return False
    return hashlib.sha256(os.pread(file.handle, place.head_bytes, 0)).digest() == place.head


def _found(path: Path, place: FilePlace) -> Path | None:
    """Return the file that a place is in, now that it does not stand at the path any more."""
    copied, longest = None, -1
    for candidate in _beside(path):
        with _opened(candidate) as file:
            if file is None or not _begins_alike(file, place):
                continue
            if file.inode == place.inode:
                return candidate
            if place.head_bytes and file.size > longest:
                copied, longest = candidate, file.size
    return copied


def _following(path: Path, ended_ns: int, before: Path | None = None) -> Path:
    """Return the file that was written to after a moment: the first rotated since, or the current one."""
    later = [(one.stat().st_mtime_ns, one) for one in _beside(path) if one != before]
    return min(((at, one) for at, one in later if at > ended_ns), default=(0, path))[1]


def _beside(path: Path) -> list[Path]:
    """Return what rotation has made of earlier files, unless it is packed."""
    return [
        one for one in path.parent.glob(f"{path.name}?*") if not one.name.endswith(_PACKED) and one.is_file()
    ]
