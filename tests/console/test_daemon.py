"""The daemon as systemd and operators meet it: signals, exit codes, readiness, log."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from calllogd.sandbox import Fault, FaultKind
from tests.faults.machine import (
    ACCESS_TOKEN,
    ACCOUNT,
    KNOWN,
    OTHER_ACCOUNT,
    VOIP_TOKEN,
    Daemon,
    Finished,
    Installation,
    all_of,
    environment,
    installation,
    run,
    unknown,
    until,
    webhook,
)

EX_CONFIG = 78


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path) as it:
        yield it


class Systemd:
    """The socket on which systemd hears of a service."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def listen(self) -> None:
        """Take in what has been said since."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard += self._socket.recv(4096).decode().splitlines()

    def times(self, word: str) -> int:
        """Return how often something has been said by now."""
        self.listen()
        return self.heard.count(word)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    systemd = Systemd(tmp_path / "notify")
    yield systemd
    systemd.close()


async def reloaded(daemon: Daemon, systemd: Systemd) -> None:
    """Have a daemon reload, and return when it says that it is ready again."""
    before = systemd.times("READY=1")
    daemon.send(signal.SIGHUP)
    await until(lambda: systemd.times("READY=1") > before)


# --- to stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_signal_stops_it_and_what_is_in_flight_is_finished(
    here: Installation, number: signal.Signals
) -> None:
    here.kommo.latency = 0.8
    daemon = here.daemon()
    await daemon.ready()
    calls = [f"c{place}" for place in range(8)]
    await all_of(here.send(webhook(call_id)) for call_id in calls)
    await until(lambda: here.asked("POST", "/calls") == 4)
    asked_at = time.monotonic()
    daemon.send(number)
    assert await daemon.ended() == 0
    assert time.monotonic() - asked_at < 10
    in_flight = len(here.kommo.requests)
    assert all(request.status == 200 for request in here.kommo.requests), "a request was cut off"
    states = [call["state"] for call in (await here.calls()).values()]
    assert sorted(states) == ["logged"] * in_flight + ["pending"] * (8 - in_flight)

    here.kommo.latency = 0
    await daemon.ready()
    await here.settled(8)
    await here.each_stands_once((ACCOUNT, call_id) for call_id in calls)
    assert daemon.errors == ""


async def test_it_stops_in_time_although_kommo_and_senders_keep_it_waiting(here: Installation) -> None:
    here.sections["kommo"]["timeout"] = 60
    here.kommo.faults.add(Fault(FaultKind.TIMEOUT_AFTER, method="POST", times=1))
    daemon = here.daemon()
    await daemon.ready()
    port = int(daemon.url.rpartition(":")[2])
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    head = f"POST /voip/generic/{ACCOUNT} HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n"
    for (_, writer), said in zip(slow, ("", head[:30], head + '{"event":'), strict=True):
        writer.write(said.encode())
        await writer.drain()
    await here.send(webhook("c1"))
    await until(lambda: here.asked("POST", "/calls"))
    assert await daemon.stop() == 0
    assert (await here.calls())[ACCOUNT, "c1"]["state"] != "logged"
    assert len(here.entries("c1")) == 1
    for _, writer in slow:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_it_can_be_asked_to_stop_twice(here: Installation) -> None:
    here.kommo.latency = 0.5
    daemon = here.daemon()
    await daemon.ready()
    await here.send(webhook("c1"))
    await until(lambda: here.asked("POST", "/calls"))
    daemon.send(signal.SIGTERM)
    daemon.send(signal.SIGINT)
    assert await daemon.ended() == 0
    assert (await here.calls())[ACCOUNT, "c1"]["state"] == "logged"


# --- to reload


async def test_a_reload_takes_the_configuration_over(here: Installation, systemd: Systemd) -> None:
    daemon = here.daemon()
    await daemon.ready(NOTIFY_SOCKET=str(systemd.path))
    assert await here.post(webhook("new", unknown(1)), OTHER_ACCOUNT) == 401
    here.add_account(OTHER_ACCOUNT)
    here.write()
    await reloaded(daemon, systemd)
    assert await here.post(webhook("new", unknown(1)), OTHER_ACCOUNT) == 202
    assert await here.post(webhook("old", unknown(1))) == 202
    await here.settled(2)
    await here.each_stands_once([(ACCOUNT, "old"), (OTHER_ACCOUNT, "new")])
    assert systemd.heard.count("RELOADING=1") == 1


def without_public_url(here: Installation) -> None:
    del here.sections["http"]["public_url"]


def with_a_table_nobody_knows(here: Installation) -> None:
    here.sections["nonsense"] = {"answer": 42}


def with_a_ledger_in_no_folder(here: Installation) -> None:
    here.sections["database"]["url"] = "sqlite:////proc/calllogd/calllogd.db"


def with_a_log_in_no_folder(here: Installation) -> None:
    here.sections["log"]["file"] = "/proc/calllogd/calllogd.log"


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (without_public_url, "http.public_url"),
        (with_a_table_nobody_knows, "nonsense"),
        (with_a_ledger_in_no_folder, "database.url"),
        (with_a_log_in_no_folder, "log.file"),
    ],
)
async def test_a_reload_refuses_a_wrong_configuration_and_keeps_the_old_one(
    here: Installation, systemd: Systemd, spoil: Callable[[Installation], None], named: str
) -> None:
    daemon = here.daemon()
    await daemon.ready(NOTIFY_SOCKET=str(systemd.path))
    spoil(here)
    here.write()
    daemon.send(signal.SIGHUP)
    await until(lambda: systemd.times("READY=1") == 2 or daemon.code is not None)
    assert daemon.code is None, f"the reload ended the daemon with {daemon.code}: {daemon.errors}"
    assert named in here.log
    assert await here.post(webhook("c1")) == 202
    await until(lambda: here.entries("c1"))


async def test_no_sender_is_turned_away_by_a_reload(here: Installation, systemd: Systemd) -> None:
    daemon = here.daemon()
    await daemon.ready(NOTIFY_SOCKET=str(systemd.path))
    sent: list[str] = []
    failed: list[str] = []
    stop = asyncio.Event()

    async def sends(name: str) -> None:
        """Post on a connection of its own each time, as VoIP services do."""
        connector = aiohttp.TCPConnector(force_close=True)
        headers = {"Authorization": f"Bearer {VOIP_TOKEN}{ACCOUNT}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
            while not stop.is_set():
                call_id = f"{name}-{len(sent)}"
                try:
                    async with http.post(
                        f"{daemon.url}/voip/generic/{ACCOUNT}", json=webhook(call_id)
                    ) as answer:
                        assert answer.status == 202
                        sent.append(call_id)
                except aiohttp.ClientError as error:
                    failed.append(repr(error))

    async def reloads() -> None:
        for _ in range(3):
            before = len(sent)
            await until(lambda: len(sent) > before + 20)  # noqa: B023  awaited here
            await reloaded(daemon, systemd)
        stop.set()

    await all_of([reloads(), *(sends(f"s{place}") for place in range(4))])
    assert failed == []
    await here.settled(len(sent))
    await here.each_stands_once((ACCOUNT, call_id) for call_id in sent)


async def test_webhooks_are_answered_during_a_reload_although_kommo_hangs(
    here: Installation, systemd: Systemd
) -> None:
    here.sections["kommo"]["timeout"] = 60
    here.kommo.faults.add(Fault(FaultKind.TIMEOUT_AFTER, method="POST", times=1))
    daemon = here.daemon()
    await daemon.ready(NOTIFY_SOCKET=str(systemd.path))
    await here.send(webhook("c1"))
    await until(lambda: here.asked("POST", "/calls"))
    daemon.send(signal.SIGHUP)
    took: list[float] = []
    while systemd.times("READY=1") < 2:
        began_at = time.monotonic()
        await here.send(webhook(f"meanwhile-{len(took)}"))
        took.append(time.monotonic() - began_at)
        async with here.http.get(f"{daemon.url}/readyz") as answer:
            assert answer.status == 200, "it takes webhooks, so no proxy should look for another"
    assert max(took) < 3, "senders were kept waiting"


# --- to start


def mistakes(daemon: Finished) -> list[str]:
    assert daemon.code == EX_CONFIG
    assert daemon.out == ""
    return daemon.err.splitlines()


async def test_each_mistake_in_the_configuration_is_told(here: Installation) -> None:
    here.sections["http"] = {"listen": "everywhere"}
    here.sections["queue"]["workers"] = 99
    here.sections["colour"] = {"of": "the log"}
    here.accounts[0]["region"] = "us"
    here.write()
    told = mistakes(await here.run())
    assert len(told) == 5
    for key in ("http.listen", "http.public_url", "queue.workers", "colour", f"accounts.{ACCOUNT}.region"):
        assert sum(line.startswith(f"calllogd: {key}: ") for line in told) == 1, told
    assert not here.ledger.exists()


async def test_a_file_that_is_not_toml_is_told(here: Installation) -> None:
    here.config.write_text("http = {")
    (told,) = mistakes(await here.run())
    assert f"{here.config}: is not TOML" in told


async def test_without_a_configuration_it_says_how_to_get_one(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    (told,) = mistakes(await run(env=environment(CALLLOGD_CONFIG=str(path))))
    assert str(path) in told
    assert "calllogd init" in told


async def test_a_taken_port_is_told(here: Installation) -> None:
    await here.daemon().ready()
    (told,) = mistakes(await here.run())
    assert "http.listen" in told
    assert "in use" in told


async def test_a_ledger_that_cannot_be_made_is_told(here: Installation) -> None:
    with_a_ledger_in_no_folder(here)
    here.daemon()
    (told,) = mistakes(await here.run())
    assert told.startswith("calllogd: database.url: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_without_rights_is_told(here: Installation) -> None:
    folder = here.folder / "locked"
    folder.mkdir(mode=0o500)
    here.sections["database"]["url"] = f"sqlite:///{folder}/calllogd.db"
    here.daemon()
    (told,) = mistakes(await here.run())
    assert told.startswith("calllogd: database.url: ")


async def test_a_ledger_that_is_something_else_is_told(here: Installation) -> None:
    here.ledger.write_text("Dear diary,\n" * 1000)
    here.daemon()
    (told,) = mistakes(await here.run())
    assert told.startswith("calllogd: database.url: ")
    assert "not a database" in told
    assert here.ledger.read_text().startswith("Dear diary")


async def test_a_log_that_cannot_be_written_is_told(here: Installation) -> None:
    with_a_log_in_no_folder(here)
    here.daemon()
    (told,) = mistakes(await here.run())
    assert told.startswith("calllogd: log.file: ")


async def test_the_ledger_of_a_newer_version_is_left_alone(here: Installation) -> None:
    daemon = here.daemon()
    await daemon.ready()
    await daemon.stop()
    with contextlib.closing(sqlite3.connect(here.ledger)) as ledger:
        ledger.execute("INSERT INTO migrations VALUES (9999, '9999_to_come', 0)")
        ledger.commit()
    for words in ([], ["--once"], ["status"]):
        (told,) = mistakes(await here.run(*words))
        assert "9999" in told
        assert "newer" in told


# --- to live with systemd


async def test_systemd_is_told_how_it_goes(here: Installation, systemd: Systemd) -> None:
    daemon = here.daemon()
    daemon.start(NOTIFY_SOCKET=str(systemd.path), WATCHDOG_USEC="400000")
    began_at = time.monotonic()
    await until(lambda: systemd.times("READY=1"))
    assert time.monotonic() - began_at < 5
    async with here.http.get(f"{daemon.url}/readyz") as answer:
        assert answer.status == 200, "it said that it is ready before it was"
    await until(lambda: systemd.times("WATCHDOG=1") >= 5, 3)
    assert await daemon.stop() == 0
    systemd.listen()
    assert systemd.heard[0] == "READY=1"
    assert systemd.heard.count("STOPPING=1") == 1


async def test_systemd_hears_nothing_from_a_daemon_whose_ledger_is_locked(
    here: Installation, systemd: Systemd
) -> None:
    await here.daemon().ready(NOTIFY_SOCKET=str(systemd.path), WATCHDOG_USEC="400000")
    await until(lambda: systemd.times("WATCHDOG=1"))
    with contextlib.closing(sqlite3.connect(here.ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(0.5)  # a ping may have been under way
        before = systemd.times("WATCHDOG=1")
        await asyncio.sleep(1)  # nothing is to come for this long
        assert systemd.times("WATCHDOG=1") == before
        other.execute("ROLLBACK")
    await until(lambda: systemd.times("WATCHDOG=1") > before)


async def test_a_socket_of_systemd_that_has_gone_is_no_reason_to_die(here: Installation) -> None:
    daemon = here.daemon()
    await daemon.ready(NOTIFY_SOCKET=str(here.folder / "gone"))
    assert await daemon.stop() == 0


# --- to read its log


def fields(line: str) -> dict[str, str]:
    """Return the fields of a line of the log, JSON or logfmt, as far as they have no blanks."""
    if line.startswith("{"):
        return {key: str(value) for key, value in json.loads(line).items()}
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


@pytest.mark.parametrize("form", ["logfmt", "json"])
async def test_the_log_tells_the_story_of_a_call(here: Installation, form: str) -> None:
    here.sections["log"]["format"] = form
    here.kommo.faults.add(Fault(FaultKind.RESET_AFTER, method="POST", path="^/calls$", times=1))
    await here.daemon().ready()
    await here.send(webhook("c1"))
    await here.send(webhook("c2", direction="outbound", phone=unknown(1)))
    await here.settled(2)
    grep = {"logfmt": "call_id={} ", "json": '"call_id": "{}"'}[form]
    stories = {
        call_id: [fields(line) for line in here.log.splitlines() if grep.format(call_id) in line]
        for call_id in ("c1", "c2")
    }
    assert [line["state"] for line in stories["c1"]] == ["pending", "in_doubt", "logged"]
    assert [line["state"] for line in stories["c2"]] == ["pending", "awaiting_contact"]
    assert all(line["account_id"] == str(ACCOUNT) for story in stories.values() for line in story)
    times = [fields(line)["ts"] for line in here.log.splitlines()]
    assert times == sorted(times)


async def test_the_log_tells_no_secrets_and_no_numbers(here: Installation) -> None:
    here.sections["log"]["level"] = "debug"
    here.sections["kommo"] |= {"client_secret": "client-secret-client-secret"}
    here.sections["admin"] = {"token": "admin-token-admin-token"}
    here.accounts[0]["extensions"]["199"] = 999
    for place, kind in enumerate((FaultKind.HTML, FaultKind.RESET_AFTER, FaultKind.RATE)):
        here.kommo.faults.add(Fault(kind, method="POST", path="^/calls$", after=place, times=1, seconds=1))
    daemon = here.daemon()
    await daemon.ready()
    events = [
        webhook("known"),
        webhook("unknown", unknown(4711)),
        webhook("strange", "tel:+1-646-555-4711;ext=9"),
        webhook("refused", extension="199"),
        webhook("outbound", unknown(4711), direction="outbound"),
    ]
    await all_of(here.send(event) for event in events)
    for body in (b"{", b'{"event": "call.ended", "call_id": "x", "phone": "+16465554711"}'):
        for token in (f"{VOIP_TOKEN}{ACCOUNT}", "wrong-token-wrong-token"):
            headers = {"Authorization": f"Bearer {token}"}
            async with here.http.post(
                f"{daemon.url}/voip/generic/{ACCOUNT}", data=body, headers=headers
            ) as answer:
                assert 400 <= answer.status < 500
    await here.settled(5)
    here.kommo.account(ACCOUNT, token="revoked")
    await here.send(webhook("paused"))
    await until(lambda: "account_paused" in here.log)
    assert await daemon.stop() == 0
    said = here.log + daemon.errors
    assert "*4711" in said
    secrets = ("client-secret", "admin-token", ACCESS_TOKEN, VOIP_TOKEN, "wrong-token")
    numbers = ("6465554711", "646-555", "2125550100", KNOWN)
    assert [word for word in (*secrets, *numbers) if word in said] == []


async def test_the_log_goes_on_in_a_new_file_when_it_is_renamed(here: Installation, systemd: Systemd) -> None:
    daemon = here.daemon()
    await daemon.ready(NOTIFY_SOCKET=str(systemd.path))
    await here.send(webhook("first"))
    await until(lambda: "state=logged" in here.log)
    log = here.folder / "calllogd.log"
    first = log.rename(here.folder / "calllogd.log.1")
    await here.send(webhook("second"))
    await until(lambda: log.exists() and "call_id=second" in here.log)
    await until(lambda: "state=logged" in here.log)
    second = log.rename(here.folder / "calllogd.log.2")
    await reloaded(daemon, systemd)
    await here.send(webhook("third"))
    await until(lambda: "call_id=third" in here.log)
    assert [name for name in ("first", "second", "third") if f"call_id={name} " in first.read_text()] == [
        "first"
    ]
    assert [name for name in ("first", "second", "third") if f"call_id={name} " in second.read_text()] == [
        "second"
    ]
    assert "call_id=second" not in here.log


async def test_calls_are_logged_although_the_folder_of_the_log_has_gone(here: Installation) -> None:
    folder = here.folder / "log"
    folder.mkdir()
    here.sections["log"]["file"] = f"{folder}/calllogd.log"
    daemon = here.daemon()
    await daemon.ready()
    folder.rename(here.folder / "gone")
    await all_of(here.send(webhook(f"c{place}", unknown(place))) for place in range(5))
    await here.settled(5)
    await here.each_stands_once((ACCOUNT, f"c{place}") for place in range(5))
    assert daemon.code is None


async def test_without_a_file_the_log_goes_to_standard_error(here: Installation) -> None:
    del here.sections["log"]["file"]
    daemon = here.daemon()
    await daemon.ready()
    await here.send(webhook("c1"))
    await until(lambda: "call_id=c1" in daemon.errors and "state=logged" in daemon.errors)
