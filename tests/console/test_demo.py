"""The demo: what somebody sees who has just installed calllogd, and that it leaves nothing behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from calllogd.console.demo.acts import Company
from calllogd.console.demo.plays import AT_ONCE, GARDEN, HEARD_LATER, KNOWN, Play
from calllogd.console.demo.promises import Counted, count, is_over, tried
from calllogd.console.demo.stage import Stage, stage
from calllogd.console.ledger import ledger
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import Call, CallKey, CallState
from tests.faults.machine import ROOT, command, environment, interruptible, until

EX_OK, EX_INTERRUPTED = 0, 130
PLAYED_S = 75.0
LINES_MOST = 42
PROMISES = ("P1", "P2", "P3", "P4", "P5", "P6", "P7")


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


@pytest.fixture(autouse=True)
def _unblocked_loop() -> None:
    """The demo may hold up its loop for a moment when it starts a process: it serves nobody."""


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


async def shell(line: str) -> str:
    """Run a line that the demo printed, as somebody does who copies it."""
    ran = await asyncio.to_thread(subprocess.run, line, shell=True, capture_output=True, check=True, cwd=ROOT)  # noqa: S604
    return ran.stdout.decode()


async def until_shown(line: str, *words: str) -> None:
    """Return when the line shows all these words."""

    async def shown() -> bool:
        said = " ".join((await shell(line)).split())
        return all(word in said for word in words)

    await until(shown, every_s=0.3)


@pytest.mark.timeout(120)
async def test_two_demos_beside_each_other_of_which_one_goes_on(start: Start) -> None:
    plain, kept = start(), start("--keep")
    assert await plain.ended() == EX_OK, plain.said
    assert promises(plain.said) == dict.fromkeys(PROMISES, "yes")
    assert "All promises held." in plain.said
    for call in ("known-1", "unknown-1", "moved-1", "expires-1", "lost-1"):
        assert call in plain.said
    calls, _, _ = plain.said.partition("The promises")
    assert len(calls.splitlines()) <= LINES_MOST
    assert "Traceback" not in plain.said
    assert plain.left_behind == []

    await until(lambda: "until Ctrl-C" in kept.said, PLAYED_S)
    assert promises(kept.said) == dict.fromkeys(PROMISES, "yes")
    _, _, lines = kept.said.partition("until Ctrl-C")
    for curl in [line for line in lines.splitlines() if line.startswith("  curl ") and "mine-1" in line]:
        assert '"call_id":"mine-1"' in await shell(curl)
    (show,) = (line for line in lines.splitlines() if " show " in line)
    await until_shown(show, "An offer is wanted", "lead", "the manager chose it", "recording uploaded")
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


def remade(on: Stage, play: Play, **params: object) -> None:
    """Write other params into a call's note, as nobody should."""
    account = on.kommo.account(play.account_id)
    (entry,) = account.entries(play.call_id)
    (note,) = (note for note in account.notes if note.id == entry.note_id)
    account.set_params(note, {**note.params, **params})


def lost(on: Stage, play: Play) -> None:
    account = on.kommo.account(play.account_id)
    (entry,) = account.entries(play.call_id)
    assert entry.note_id is not None
    account.delete_note(entry.note_id)


def doubled(on: Stage, play: Play) -> None:
    account = on.kommo.account(play.account_id)
    account.add_note(account.contacts[0].ref, "call_in", {"uniq": play.call_id})


def spoiled(on: Stage, play: Play) -> None:
    """Change a byte in the middle of every recording."""
    assert play.has_recording
    for path in on.settings.recordings.path.rglob("*"):
        if path.is_file():
            sound = bytearray(path.read_bytes())
            sound[len(sound) // 2] ^= 1
            path.write_bytes(sound)


def put_back(on: Stage, play: Play) -> None:
    """Leave a file behind."""
    (on.settings.recordings.path / play.call_id).write_bytes(b"left")


def ignored(on: Stage, play: Play) -> None:
    """Make a second incoming lead for the number."""
    account = on.kommo.account(play.account_id)
    (first,) = (lead for lead in account.unsorted if lead.metadata["uniq"] == play.call_id)
    account.add_incoming(
        source_uid="x",
        source_name="x",
        metadata={"phone": first.metadata["phone"]},
        lead=account.add_lead("second"),
        contact=None,
        company=None,
        note=None,
        created_at=0,
    )


PLAYED = {
    "a": Play(shows="", call_id="a", phone=KNOWN),
    "moved": Play(shows="", call_id="moved", phone=KNOWN, script=HEARD_LATER, on=GARDEN),
    "unknown": Play(shows="", call_id="unknown", phone="+15550199001"),
    "task": Play(shows="", call_id="task", phone=KNOWN, script=AT_ONCE, todo=True, sent=2),
}


async def held(on: Stage, calls: LedgerOfCalls) -> tuple[dict[CallKey, Call], set[str]]:
    """Return the calls, and which promises are held."""
    plays = list(PLAYED.values())
    found = {call.key: call for call in await calls.listing(limit=100)}
    counted = count(on, found, plays, await tried(on, plays))
    return found, {promise.promise.split()[0] for promise in counted if promise.held}


BREAKS: tuple[tuple[str, str, Callable[[Stage, Play], None]], ...] = (
    ("P1", "a", doubled),
    ("P1", "a", lost),
    ("P3", "moved", lambda on, play: remade(on, play, call_result="something else")),
    ("P3", "task", lambda on, play: on.kommo.account(play.account_id).tasks.clear()),
    ("P4", "unknown", ignored),
    ("P5", "moved", spoiled),
    ("P5", "moved", lambda on, play: remade(on, play, link="http://127.0.0.1:1/nothing")),
    ("P5", "moved", put_back),
)


async def test_the_table_tells_what_is_broken(tmp_path: Path) -> None:
    """Each thing is broken in a demo of its own, after all promises were held in it."""
    for place, (promise, call_id, break_it) in enumerate(BREAKS):
        folder = tmp_path / str(place)
        folder.mkdir()
        async with stage(folder, rate=0) as on, ledger(on.settings) as book:
            calls = book.calls
            await Company(on, calls, chaos=False).play(list(PLAYED.values()))
            await until(partial(all_over, calls))
            found, promised = await held(on, calls)
            assert promised == set(PROMISES)
            break_it(on, PLAYED[call_id])
            _, promised = await held(on, calls)
            assert set(PROMISES) - promised == {promise}, break_it
            if place == 0:
                key = PLAYED["a"].key
                await tells_of_the_ledger(on, {**found, key: replace(found[key], state=CallState.FAILED)})
            assert await asyncio.to_thread(on.daemon.stop) == EX_OK


async def all_over(calls: LedgerOfCalls) -> bool:
    listing = await calls.listing(limit=100)
    return len(listing) == len(PLAYED) and all(map(is_over, listing))


async def tells_of_the_ledger(on: Stage, failed: dict[CallKey, Call]) -> None:
    """What the ledger should not say: a call that failed, one that is not there, one of nobody's."""
    plays = list(PLAYED.values())
    found = await tried(on, plays)
    assert "P6" in broken(count(on, failed, plays, found))
    assert {"P2", "P6"} <= broken(count(on, {}, plays, found))
    assert "P7" in broken(count(on, failed, plays, replace(found, intruded=1)))


def broken(counted: Iterable[Counted]) -> set[str]:
    return {promise.promise.split()[0] for promise in counted if not promise.held}


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
