"""A file that grows is read on, every line once, whatever rotation does to it."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from calllogd.files import growing_file
from calllogd.files.growing_file import PIECE_BYTES, end_of, moved, read_on
from calllogd.ports import FilePlace

START = FilePlace(0, 0, 0, b"0")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(growing_file, "QUIET_S", 0.0)
    return tmp_path / "Master.csv"


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


class Follower:
    """Reads whole lines only, as calllogd does; it could be killed after each step."""

    def __init__(self, path: Path, place: FilePlace = START) -> None:
        self.path = path
        self.place = place
        self.lines: list[str] = []
        self.gaps = 0

    def step(self) -> bool:
        piece = read_on(self.path, self.place)
        self.gaps += piece.gap
        whole = piece.content[: piece.content.rfind(b"\n") + 1]
        if not whole and piece.at == self.place:
            return False
        self.place = moved(self.path, piece.at, len(whole))
        self.lines += whole.decode().splitlines()
        return True

    def read(self) -> list[str]:
        while self.step():
            pass
        return self.lines


def older(path: Path, by_s: float) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - int(by_s * 1e9)))


def rename(path: Path) -> None:
    """Rotate as logrotate does by default."""
    for number in range(60, 0, -1):
        if (there := path.with_name(f"{path.name}.{number}")).exists():
            there.rename(path.with_name(f"{path.name}.{number + 1}"))
    for one in path.parent.glob(f"{path.name}*"):
        older(one, 10)
    path.rename(path.with_name(f"{path.name}.1"))


def copy_and_truncate(path: Path) -> None:
    """Rotate as logrotate does with copytruncate."""
    for number in range(60, 0, -1):
        if (there := path.with_name(f"{path.name}.{number}")).exists():
            there.rename(path.with_name(f"{path.name}.{number + 1}"))
    for one in path.parent.glob(f"{path.name}?*"):
        older(one, 10)
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    older(path.with_name(f"{path.name}.1"), 5)
    os.truncate(path, 0)


def test_a_file_that_is_not_there_yet_is_read_from_its_beginning(path: Path) -> None:
    follower = Follower(path, end_of(path))
    assert follower.read() == []
    append(path, "a", "b")
    assert follower.read() == ["a", "b"]


def test_what_a_file_has_already_is_left_out(path: Path) -> None:
    append(path, "old")
    follower = Follower(path, end_of(path))
    append(path, "new")
    assert follower.read() == ["new"]


def test_half_a_line_waits_for_its_other_half(path: Path) -> None:
    follower = Follower(path)
    path.write_text("whole\nhal")
    assert follower.read() == ["whole"]
    append(path, "f")
    assert follower.read() == ["whole", "half"]


def test_more_than_a_piece(path: Path) -> None:
    lines = [f"line {number}" for number in range(PIECE_BYTES // 4)]
    append(path, *lines)
    assert Follower(path).read() == lines


@pytest.mark.parametrize("rotate", [rename, copy_and_truncate])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_rotation_while_nobody_read(path: Path, rotate: Callable[[Path], None], times: int) -> None:
    append(path, "a", "b")
    follower = Follower(path)
    assert follower.read() == ["a", "b"]
    wanted = ["a", "b"]
    for number in range(times):
        append(path, f"before {number}")
        wanted.append(f"before {number}")
        rotate(path)
    append(path, "after")
    assert follower.read() == [*wanted, "after"]
    assert follower.gaps == 0


@pytest.mark.parametrize("rotate", [rename, copy_and_truncate])
def test_rotation_before_the_new_file_is_there(path: Path, rotate: Callable[[Path], None]) -> None:
    append(path, "a")
    follower = Follower(path)
    follower.read()
    append(path, "b")
    rotate(path)
    assert follower.read() == ["a", "b"]
    append(path, "c")
    assert follower.read() == ["a", "b", "c"]


def test_a_truncated_file_that_has_grown_again_is_another_one(path: Path) -> None:
    append(path, "a" * 50)
    follower = Follower(path)
    follower.read()
    path.write_text("b" * 60 + "\n")
    assert follower.read() == ["a" * 50, "b" * 60]
    assert follower.gaps == 1


def test_a_rotated_file_may_be_written_to_for_a_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing_file, "QUIET_S", 60.0)
    append(path, "a")
    follower = Follower(path)
    follower.read()
    rotated = path.with_name("Master.csv.1")
    path.rename(rotated)
    append(path, "c")
    assert follower.read() == ["a"]
    append(rotated, "b")
    assert follower.read() == ["a", "b"]
    older(rotated, 61)
    assert follower.read() == ["a", "b", "c"]


def test_a_packed_file_is_a_gap_that_is_told(path: Path) -> None:
    append(path, "a")
    follower = Follower(path)
    follower.read()
    path.rename(path.with_name("Master.csv.1.gz"))
    append(path, "b")
    assert follower.read() == ["a", "b"]
    assert follower.gaps == 1


def test_a_copy_that_somebody_made_is_not_read_again(path: Path) -> None:
    append(path, "a")
    follower = Follower(path)
    follower.read()
    shutil.copyfile(path, path.with_name("Master.csv.bak"))
    append(path, "b")
    rename(path)
    append(path, "c")
    assert follower.read() == ["a", "b", "c"]


def test_what_is_no_file_is_passed_over(path: Path) -> None:
    path.mkdir()
    assert Follower(path).read() == []


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_each_line_is_read_once(path: Path, seed: int) -> None:
    chance, number, wanted = random.Random(seed), 0, list[str]()  # noqa: S311
    if seed % 2:
        path.touch()
    # The files here are made older than they are.
    follower = Follower(path, end_of(path) if seed % 2 else START)
    for _ in range(60):
        for _ in range(chance.choice([0, 1, 3])):
            append(path, f"{number}")
            wanted.append(f"{number}")
            number += 1
        event = chance.random()
        if event < 0.15 and path.exists() and path.stat().st_size:
            # What is copied before anything was read of it cannot be told from what is still to come.
            chance.choice([rename, copy_and_truncate] if follower.place.offset else [rename])(path)
        elif event < 0.5:
            follower.step()
        elif event < 0.6:
            follower = _killed(follower)
    assert follower.read() == wanted


def _killed(follower: Follower) -> Follower:
    """Return who goes on after a kill: he knows what is on disk."""
    heir = Follower(follower.path, follower.place)
    heir.lines = follower.lines
    return heir
