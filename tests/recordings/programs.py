"""Programs that stand in for ffmpeg, and do what it does, or what it should not."""

import os
import sys
from pathlib import Path

FRAME = b"\xff\xf3\x48\xc4".ljust(144, b"\x55")
"""A frame of the MP3 that is ordered for 8 kHz and one channel."""

FRAME_S = 576 / 16000
RIGHT = "out(frames())"

_PROGRAM = """\
#!{python} -IS
import json, os, sys, time
os.set_inheritable(1, True)
FRAME = {frame!r}
SECONDS = {seconds!r}
def frames(seconds=SECONDS):
    return FRAME * round(seconds / {frame_s!r})
def out(body):
    view = memoryview(body)
    while view:
        view = view[os.write(1, view):]
def note(**what):
    with open({notes!r}, "a") as file:
        file.write(json.dumps(what) + "\\n")
{deed}
"""


def stand_in(folder: Path, deed: str, seconds: float = 10.0) -> Path:
    """Write a program called ffmpeg, and return where it is; what it notes is in `notes` beside it.

    `seconds` is how long a sound it makes.
    """
    path = folder / "bin" / "ffmpeg"
    path.parent.mkdir(exist_ok=True)
    program = _PROGRAM.format(
        python=sys.executable,
        frame=FRAME,
        frame_s=FRAME_S,
        seconds=seconds,
        notes=str(folder / "bin" / "notes"),
        deed=deed,
    )
    new = path.with_name("new")
    new.write_text(program)
    new.chmod(0o755)
    new.replace(path)
    return path


def is_running(pid: int) -> bool:
    """Tell whether a process is there; one that has ended and waits to be asked is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def own_processes() -> list[int]:
    """Return the processes that this one has begun and not yet waited for."""
    return [int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]
