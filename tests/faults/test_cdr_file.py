"""A CDR file is followed through rotation and kill -9: every line is a call, and none is counted twice."""

import asyncio
import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.faults.machine import Daemon, Installation, installation, until

LINES = 100_000
KILLS, ROTATIONS = 5, 5


def line(number: int) -> str:
    """Return a call of Master.csv as Asterisk writes it, with uniqueid and userfield."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(1_790_000_000 + number))
    client = f"+1212555{number % 10_000:04d}"
    return (
        f'"","{client}","101","from-trunk","""Ann, of"" <{client}>","PJSIP/trunk-{number:08x}",'
        f'"PJSIP/101-{number:08x}","Dial","PJSIP/101,20","{at}","{at}","{at}",7,5,"ANSWERED",'
        f'"DOCUMENTATION","{1_790_000_000 + number}.{number}",""\n'
    )


def rotate(path: Path) -> None:
    """Rotate as logrotate does, which keeps enough of them here."""
    for number in range(2 * ROTATIONS, 0, -1):
        if (there := path.with_name(f"{path.name}.{number}")).exists():
            there.rename(path.with_name(f"{path.name}.{number + 1}"))
    path.rename(path.with_name(f"{path.name}.1"))


def counted(here: Installation) -> tuple[int, int, int]:
    """Return how many calls there are, how many messages were taken, and how many said nothing new."""
    with closing(sqlite3.connect(f"file:{here.ledger}?mode=ro", uri=True)) as ledger:
        (calls,) = ledger.execute("SELECT count(*) FROM calls").fetchone()
        taken, again = ledger.execute(
            "SELECT coalesce(sum(times), 0), coalesce(sum(outcome = 'nothing new'), 0)"
            " FROM journal WHERE who = 'voip:asterisk'"
        ).fetchone()
    return calls, taken, again


async def write(path: Path) -> None:
    """Write as a busy system does: some lines at once, each with an open and a close, as Asterisk does."""
    rotations = {LINES * (number + 1) // (ROTATIONS + 1) for number in range(ROTATIONS)}
    number = 0
    while number < LINES:
        burst = min((1, 10, 200, 1000)[number % 4], LINES - number)
        for _ in range(burst):
            if number in rotations:
                rotate(path)
            with path.open("a") as file:
                file.write(line(number))
            number += 1
        await asyncio.sleep(0.01)


@pytest.mark.timeout(900)
async def test_every_line_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "Master.csv"
    async with installation(tmp_path) as here:
        # What becomes of the calls in Kommo is not looked at here: they wait for further legs.
        here.sections["policy"] |= {"leg_wait": 600}
        here.accounts[0]["voip"]["asterisk"] = {"cdr_file": str(path)}
        daemon = here.daemon()
        await daemon.ready()
        await until(lambda: _is_followed(here))
        writing = asyncio.create_task(write(path))
        for kill in range(KILLS):
            await until(partial(_has, here, LINES * kill // KILLS), 60)
            daemon.kill()
            await daemon.ready()
        await writing
        await until(lambda: counted(here)[0] >= LINES, 300)
        await _quiet(daemon)
        assert counted(here) == (LINES, LINES, 0)


def _has(here: Installation, calls: int) -> bool:
    return counted(here)[0] > calls


def _is_followed(here: Installation) -> bool:
    with closing(sqlite3.connect(f"file:{here.ledger}?mode=ro", uri=True)) as ledger:
        return bool(ledger.execute("SELECT count(*) FROM followed").fetchone() == (1,))


async def _quiet(daemon: Daemon) -> None:
    """Give the daemon the time in which it would read something twice, and stop it."""
    await asyncio.sleep(3)
    assert await daemon.stop() == 0
