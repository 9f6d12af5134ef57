"""The disk is full for a while: nothing is acknowledged that is not stored, and the daemon lives on."""

import asyncio
import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from calllogd.sandbox import SandboxExchange
from tests.faults.machine import (
    ACCEPTED,
    ACCOUNT,
    KNOWN,
    VOIP_TOKEN,
    Daemon,
    Installation,
    Webhook,
    all_of,
    installation,
    unknown,
    until,
    webhook,
)

DISK_MB = 64
PAGE = 4096
FULL_FOR = 300
"""So many webhooks come while there is no room; a few of them still find some."""
SMALL_FILE = 16 * 1024
UNAVAILABLE = 503


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "calllogd-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a disk of its own takes root, and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


@contextlib.contextmanager
def no_room(folder: Path, left: int = 0) -> Iterator[None]:
    """Take the room there is on a disk, but for so many bytes."""
    filler = folder / "filler"
    disk = os.statvfs(folder)
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range((disk.f_bavail * disk.f_frsize - left) // PAGE + (left == 0)):
            file.write(bytes(PAGE))
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def no_large_files(daemon: Daemon) -> Iterator[None]:
    """Let a daemon write to no file beyond a small size, as if the disk ended there."""
    assert daemon.process is not None
    pid, most = daemon.process.pid, resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (SMALL_FILE, most))
    try:
        yield
    finally:
        if daemon.code is None:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


async def answered(here: Installation, event: Webhook) -> int:
    """Post a webhook once; return the status, which says when to come again if it is a refusal."""
    async with here.http.post(
        f"{here.daemons[0].url}/voip/generic/{ACCOUNT}",
        json=event,
        headers={"Authorization": f"Bearer {VOIP_TOKEN}{ACCOUNT}"},
    ) as answer:
        await answer.read()
        assert answer.status in (ACCEPTED, UNAVAILABLE)
        assert (answer.status == UNAVAILABLE) == ("Retry-After" in answer.headers)
        return answer.status


async def lives_through(here: Installation, full: AbstractContextManager[None]) -> None:
    """Fail unless the daemon goes on after a time without room, and nothing that it took was lost."""
    daemon = here.daemons[0]
    before = [webhook(f"before-{place}", unknown(place)) for place in range(20)]
    await all_of(here.send(event) for event in before)
    taken: list[Webhook] = []
    refused: list[Webhook] = []
    with full:
        for place in range(FULL_FOR):
            event = webhook(f"during-{place}", KNOWN if place % 2 else unknown(place))
            (taken if await answered(here, event) == ACCEPTED else refused).append(event)
        assert len(refused) > FULL_FOR / 2, "there was room"
        async with here.http.get(f"{daemon.url}/healthz") as healthy:
            assert healthy.status == 200
    assert daemon.code is None
    stored = {call_id for _, call_id in await here.calls()}
    assert stored == {str(event["call_id"]) for event in before + taken}
    await all_of(here.send(event) for event in refused)
    events = [*before, *taken, *refused]
    await here.settled(len(events), 60)
    await here.each_stands_once((ACCOUNT, str(event["call_id"])) for event in events)
    assert daemon.code is None


@pytest.mark.timeout(90)
async def test_a_full_disk_is_lived_through(tmp_path: Path, disk: Path) -> None:
    async with installation(disk) as here:
        here.sections["log"]["file"] = str(tmp_path / "log")
        await here.daemon().ready()
        await lives_through(here, no_room(disk))


@pytest.mark.timeout(90)
async def test_files_that_may_not_grow_are_lived_through(tmp_path: Path) -> None:
    async with installation(tmp_path) as here:
        here.sections["log"]["file"] = "/dev/null"  # whose size is not limited
        daemon = here.daemon()
        await daemon.ready()
        await lives_through(here, no_large_files(daemon))


async def test_a_recording_that_does_not_fit_leaves_nothing_behind_and_comes_later(
    tmp_path: Path, disk: Path
) -> None:
    async with SandboxExchange(seconds=60) as exchange, installation(disk) as here:
        here.sections["log"]["file"] = str(tmp_path / "log")
        await here.daemon().ready()
        name = "fetched.wav"
        loud = exchange.bytes_of(name)
        await all_of(here.send(webhook(call_id)) for call_id in ("fetched", "uploaded"))
        await here.settled(2)
        with no_room(disk, left=len(loud) // 2):
            address = exchange.recording_url(name)
            await here.send({"event": "recording.ready", "call_id": "fetched", "recording_url": address})
            await until(lambda: exchange.requests)
            assert await uploaded(here, loud) == UNAVAILABLE

            async def is_put_off() -> bool:
                known = (await here.calls())[ACCOUNT, "fetched"]
                return len(files(disk)) == 0 and known["recording"]["state"] == "expected"

            await until(is_put_off)
        assert await here.upload("uploaded", loud) == 201

        async def are_there() -> bool:
            return {call["recording"]["state"] for call in (await here.calls()).values()} == {"ready"}

        await until(are_there, 20, every_s=0.2)
        await here.settled(2)
        for call_id in ("fetched", "uploaded"):
            (entry,) = here.entries(call_id)
            assert await here.played(entry) == loud
        assert len(files(disk)) == 2


async def test_a_log_that_can_be_written_nowhere_holds_nothing_up(tmp_path: Path) -> None:
    async with installation(tmp_path) as here:
        here.sections["log"]["file"] = "/dev/full"
        daemon = here.daemon()
        daemon.program = ("sh", "-c", 'exec "$@" 2>/dev/full', "sh", *daemon.program)
        await daemon.ready()
        assert await answered(here, webhook("c1")) == ACCEPTED
        await until(lambda: here.entries("c1"), 5)
        assert daemon.code is None


async def test_due_calls_do_not_keep_a_full_disk_busy(tmp_path: Path, disk: Path) -> None:
    async with installation(disk) as here:
        log = tmp_path / "log"
        here.sections["log"]["file"] = str(log)
        here.kommo.latency = 0.5
        await here.daemon().ready()
        await all_of(here.send(webhook(f"c{place}")) for place in range(40))
        with no_room(disk):
            await until(lambda: "is full" in log.read_text())
            before = log.read_text().count("put off")
            await asyncio.sleep(1)  # so long it is watched
            assert log.read_text().count("put off") - before < 100
        await here.settled(40)


def files(disk: Path) -> list[Path]:
    """Return every recording, also what there is of one."""
    return [path for path in (disk / "recordings").rglob("*") if path.is_file()]


async def uploaded(here: Installation, sound: bytes) -> int:
    """Upload a recording once; return the status."""
    async with here.http.put(
        f"{here.daemons[0].url}/voip/generic/{ACCOUNT}/recordings/uploaded",
        data=sound,
        headers={"Authorization": f"Bearer {VOIP_TOKEN}{ACCOUNT}", "Content-Type": "audio/wav"},
    ) as answer:
        assert "Retry-After" in answer.headers
        return answer.status
