"""The demo: what somebody sees who has just installed calllogd, and that it leaves nothing behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.faults.machine import ROOT, command, environment, interruptible, until

EX_OK, EX_INTERRUPTED = 0, 130
PLAYED_S = 75.0
PROMISES = ("P1", "P2", "P4", "P6", "P7")


class Demo:
    """A running demo in a session of its own, so that all its processes can be found."""

    def __init__(self, folder: Path, *words: str, **env: str) -> None:
        self.folder = folder
        self._said = folder / "said"
        self._temporary = folder / "tmp"
        self._temporary.mkdir(parents=True)
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                command("demo", *words),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=ROOT,
                env=environment(TMPDIR=str(self._temporary), **env),
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """Everything that it has said by now, both streams."""
        return self._said.read_text()

    @property
    def left_behind(self) -> list[str]:
        """What it has left: files, and processes that are not zombies."""
        files = [str(path) for path in self._temporary.iterdir()]
        return files + [f"process {pid}" for pid in self.processes()]

    def processes(self) -> list[int]:
        """Return the processes of the demo's session."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, session, *_ = stat.read_text().rpartition(") ")[2].split()
                if int(session) == self.process.pid and state != "Z":
                    found.append(int(stat.parent.name))
        return found

    async def ended(self, within_s: float = PLAYED_S) -> int:
        """Return the exit code once it has ended."""
        await until(lambda: self.process.poll() is not None, within_s, every_s=0.05)
        assert self.process.returncode is not None
        return self.process.returncode

    def close(self) -> None:
        """Kill what is left of it."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


Start = Callable[..., Demo]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    interruptible()
    demos: list[Demo] = []

    def started(*words: str, **env: str) -> Demo:
        demos.append(Demo(tmp_path / f"demo-{len(demos)}", *words, **env))
        return demos[-1]

    yield started
    for demo in demos:
        demo.close()


def promises(said: str) -> dict[str, str]:
    """Return what the table at the end says of each promise: yes or NO."""
    _, _, table = said.partition("The promises")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if "│" in line]
    return {row[0].split()[0]: row[2] for row in rows if row[0].startswith("P")}


@pytest.mark.timeout(120)
async def test_two_demos_beside_each_other_of_which_one_goes_on(start: Start) -> None:
    plain, kept = start(), start("--keep")
    assert await plain.ended() == EX_OK, plain.said
    assert promises(plain.said) == dict.fromkeys(PROMISES, "yes")
    assert "All promises held." in plain.said
    for call in ("known-1", "unknown-1", "missed-1", "twice-1", "lost-1"):
        assert call in plain.said
    assert "Traceback" not in plain.said
    assert plain.left_behind == []

    await until(lambda: "until Ctrl-C" in kept.said, PLAYED_S)
    assert promises(kept.said) == dict.fromkeys(PROMISES, "yes")
    (curl,) = (line for line in kept.said.splitlines() if line.strip().startswith("curl -H"))
    posted = await asyncio.to_thread(subprocess.run, curl, shell=True, capture_output=True, check=True)  # noqa: S604
    assert b'"call_id":"mine-1"' in posted.stdout
    os.killpg(kept.process.pid, signal.SIGINT)
    assert await kept.ended(15) == EX_OK, kept.said
    assert "Traceback" not in kept.said
    assert kept.left_behind == []


@pytest.mark.timeout(120)
async def test_chaos(start: Start) -> None:
    demo = start("--chaos")
    assert await demo.ended() == EX_OK, demo.said
    assert promises(demo.said) == dict.fromkeys(PROMISES, "yes")
    assert "the daemon was killed 5 times" in demo.said
    assert "Traceback" not in demo.said
    assert demo.left_behind == []


@pytest.mark.parametrize("everybody", [True, False], ids=["the whole terminal", "the demo alone"])
@pytest.mark.parametrize(
    "words", [(), ("--chaos",), ("--keep",)], ids=lambda words: " ".join(words) or "plain"
)
async def test_ctrl_c_ends_it_at_any_time(start: Start, words: tuple[str, ...], *, everybody: bool) -> None:
    demo = start(*words)
    await until(lambda: "a stand-in of Kommo at" in demo.said)
    if everybody:
        os.killpg(demo.process.pid, signal.SIGINT)
    else:
        demo.process.send_signal(signal.SIGINT)
    assert await demo.ended(15) == EX_INTERRUPTED, demo.said
    assert "Traceback" not in demo.said
    assert demo.left_behind == []


async def test_ctrl_c_before_the_daemon_is_ready(start: Start) -> None:
    demo = start()
    await until(lambda: len(demo.processes()) > 1)
    demo.process.send_signal(signal.SIGINT)
    assert await demo.ended(15) == EX_INTERRUPTED, demo.said
    assert "Traceback" not in demo.said
    assert demo.left_behind == []


async def test_it_ends_when_it_is_asked_to_stop(start: Start) -> None:
    """By SIGTERM, as a script or a container does; its daemon must not go on without it."""
    demo = start()
    await until(lambda: "a stand-in of Kommo at" in demo.said)
    demo.process.terminate()
    await demo.ended(15)
    await until(lambda: demo.left_behind == [])


async def test_it_keeps_away_from_the_ledger_of_this_machine(start: Start, tmp_path: Path) -> None:
    """Configured by the environment, as in a container: the demo is a place of its own all the same."""
    ledger, log = tmp_path / "real.db", tmp_path / "real.log"
    demo = start(
        CALLLOGD_DATABASE__URL=f"sqlite:///{ledger}",
        CALLLOGD_LOG__FILE=str(log),
        CALLLOGD_CONFIG=str(tmp_path / "real.toml"),
    )
    await until(lambda: "a stand-in of Kommo at" in demo.said)
    assert not ledger.exists()
    assert not log.exists()
