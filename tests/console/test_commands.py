"""The commands of an operator: what they tell, in words and as JSON, and how they end."""

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from calllogd.domain.call import CallState
from calllogd.sandbox import Fault, FaultKind
from tests.faults.machine import (
    ACCOUNT,
    KNOWN,
    OTHER_ACCOUNT,
    ROOT,
    Installation,
    all_of,
    command,
    environment,
    free_port,
    installation,
    interruptible,
    run,
    unknown,
    until,
    webhook,
)

EX_OK, EX_FAILED, EX_USAGE, EX_CONFIG = 0, 1, 2, 78

SHOWN = {
    "account_id", "call_id", "state", "revision", "written_revision", "entity_type", "entity_id",
    "note_id", "recording", "attempts", "last_error",
}  # fmt: skip
"""Keys of a call that programs rely on; `show` has `events`, too."""

STRANGER = 999
"""A user whom Kommo does not have: calls that name him are refused for good."""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path) as it:
        it.daemon()
        yield it


async def played(here: Installation) -> None:
    """Have a daemon log calls of every kind, and stop it."""
    here.add_account(OTHER_ACCOUNT)
    here.accounts[0]["extensions"]["199"] = STRANGER
    daemon = here.daemons[0]
    here.write()
    await daemon.ready()
    events = [
        webhook("known", extension="101"),
        webhook("unknown", unknown(1)),
        webhook("dialled", unknown(2), direction="outbound", status="no_answer", duration=0),
        webhook("withheld", "anonymous"),
        webhook("refused", extension="199"),
    ]
    await all_of(here.send(event) for event in events)
    await here.send(webhook("known"), OTHER_ACCOUNT)
    await here.settled(6)
    assert await daemon.stop() == 0


# --- status, calls, show


async def test_status(here: Installation) -> None:
    await played(here)
    status = (await here.run("status", "--json")).json
    assert status["calls"] == {state: 0 for state in CallState} | {
        "logged": 3, "awaiting_contact": 1, "ignored": 1, "failed": 1,
    }  # fmt: skip
    assert status["queue"] == 0
    assert status["oldest_due_s"] == 0
    active = {"state": "active", "reason": None}
    assert status["accounts"] == [{"id": OTHER_ACCOUNT, **active}, {"id": ACCOUNT, **active}]

    told = await here.run("status")
    assert told.code == EX_OK
    assert all(state in told.said for state in CallState)
    assert str(OTHER_ACCOUNT) in told.said
    assert "cannot be logged without help" in told.said


async def test_extensions_that_nobody_has(here: Installation) -> None:
    """Counted and listed; who is given one gets its calls, by the next `--once` too."""
    daemon = here.daemons[0]
    await daemon.ready()
    events = [webhook(f"c{number}", extension="103") for number in range(6)]
    events += [webhook("other", unknown(1), extension="[b]104[/b]"), webhook("known", extension="101")]
    await all_of(here.send(event) for event in events)
    await here.settled(len(events))
    assert await daemon.stop() == 0
    assert (await here.run("status", "--json")).json["unmapped"] == [
        {"account_id": ACCOUNT, "extension": "103", "calls": 6},
        {"account_id": ACCOUNT, "extension": "[b]104[/b]", "calls": 1},
    ]
    told = await here.run("status")
    assert "Extensions that nobody has" in told.said
    assert "[b]104[/b]" in told.said
    checked = await here.run("check")
    assert checked.code == EX_OK, checked.said
    assert "nobody has the extension 103 (6 calls), [b]104[/b] (1 calls)" in checked.said

    here.accounts[0]["extensions"] |= {"103": 112, "[b]104[/b]": 111}
    del here.accounts[0]["extensions"]["102"]
    here.write()
    assert (await here.run("--once")).code == EX_OK
    assert (await here.run("status", "--json")).json["unmapped"] == []
    assert "Extensions that nobody has" not in (await here.run("status")).said
    for event in events:
        (entry,) = here.entries(str(event["call_id"]))
        expected = 112 if event["extension"] == "103" else 111
        assert entry.params["call_responsible"] == expected
    shown = await here.run("show", ACCOUNT, "c1")
    assert "somebody has its extension now" in shown.said


async def test_status_of_work_that_waits(here: Installation) -> None:
    here.kommo.account(ACCOUNT, token="revoked")
    daemon = here.daemons[0]
    await daemon.ready()
    await here.send(webhook("c1"))

    async def paused() -> Any:
        (account,) = (await here.run("status", "--json")).json["accounts"]
        return account["state"] == "paused" and account["reason"]

    assert "token" in await until(paused)
    daemon.kill()
    status = (await here.run("status", "--json")).json
    assert status["calls"]["pending"] == 1
    assert status["oldest_due_s"] > 0
    told = await here.run("status")
    assert "the access token is wrong, expired or revoked" in told.said


async def test_status_before_the_first_call(here: Installation) -> None:
    status = (await here.run("status", "--json")).json
    assert status == {
        "calls": {state: 0 for state in CallState},
        "queue": 0,
        "oldest_due_s": 0,
        "accounts": [{"id": ACCOUNT, "state": "active", "reason": None}],
        "unmapped": [],
    }
    assert (await here.run("status")).code == EX_OK
    for words in (["calls"], ["calls", "--json"]):
        assert (await here.run(*words)).code == EX_OK


async def test_calls(here: Installation) -> None:
    await played(here)
    every = (await here.run("calls", "--json")).lines
    assert len(every) == 6
    assert all(call.keys() >= SHOWN for call in every)

    async def ids(*words: object) -> list[str]:
        return sorted(call["call_id"] for call in (await here.run("calls", "--json", *words)).lines)

    expected: dict[tuple[object, ...], list[str]] = {
        ("--account", ACCOUNT): ["dialled", "known", "refused", "unknown", "withheld"],
        ("--account", OTHER_ACCOUNT): ["known"],
        ("--account", 1): [],
        ("--state", "failed"): ["refused"],
        ("--state", "logged", "--account", ACCOUNT): ["known", "unknown"],
        ("--state", "in_doubt"): [],
        ("--phone", "(646) 555-0002"): ["dialled"],
        ("--phone", "646555"): ["dialled", "unknown"],
    }
    found = await asyncio.gather(*(ids(*words) for words in expected))
    assert dict(zip(expected, found, strict=True)) == expected
    newest = (await here.run("calls", "--json", "--limit", 2)).lines
    assert newest == every[:2]

    told = await here.run("calls", "--state", "awaiting_contact")
    assert told.code == EX_OK
    assert "dialled" in told.said
    assert "refused" not in told.said


async def test_show(here: Installation) -> None:
    await played(here)
    shown = (await here.run("show", ACCOUNT, "known", "--json")).json
    assert shown.keys() >= SHOWN | {"events"}
    (entry,) = here.entries("known")
    assert (shown["account_id"], shown["call_id"], shown["state"]) == (ACCOUNT, "known", "logged")
    assert (shown["entity_type"], shown["entity_id"], shown["note_id"]) == (
        entry.entity_type, entry.entity_id, entry.note_id,
    )  # fmt: skip
    assert shown["revision"] == shown["written_revision"] == 1
    assert (shown["attempts"], shown["last_error"]) == (0, None)
    arrived, logged = shown["events"]
    assert (arrived["who"], arrived["what"]) == ("voip:generic", "call.ended")
    assert '"call_id"' in arrived["body"]
    assert logged["what"] == "log_call"
    assert logged["request_id"] in {request.request_id for request in here.kommo.requests}
    assert arrived["at"] <= logged["at"]

    told = await here.run("show", ACCOUNT, "known")
    assert told.code == EX_OK
    for words in (
        "State logged",
        f"contact {entry.entity_id}, note {entry.note_id}",
        "Kommo's own algorithm",
    ):
        assert words in told.said

    lead = (await here.run("show", ACCOUNT, "unknown", "--json")).json
    assert lead["entity_type"] == "leads"
    assert [event["what"] for event in lead["events"]] == ["call.ended", "log_call", "create_incoming_lead"]
    assert "incoming lead" in (await here.run("show", ACCOUNT, "unknown")).said

    failed = (await here.run("show", ACCOUNT, "refused", "--json")).json
    assert failed["state"] == "failed"
    assert "responsible_user_id" in failed["last_error"]
    assert failed["last_error"] in (await here.run("show", ACCOUNT, "refused")).said


@pytest.mark.parametrize("words", [["show"], ["show", "--json"], ["retry"]])
async def test_a_call_that_is_not_there(here: Installation, words: list[str]) -> None:
    finished = await here.run(*words, ACCOUNT, "never-heard-of")
    assert finished.code == EX_FAILED
    assert "there is no call never-heard-of" in finished.said
    assert f"account {ACCOUNT}" in finished.said


# --- retry


async def test_a_failed_call_is_retried_and_logged_once(here: Installation) -> None:
    await played(here)
    assert here.entries("refused") == []
    here.accounts[0]["extensions"]["199"] = 112
    here.write()
    retried = await here.run("retry", ACCOUNT, "refused")
    assert retried.code == EX_OK
    assert "1 call(s)" in retried.said
    assert (await here.run("--once")).code == EX_OK
    (entry,) = here.entries("refused")
    assert entry.params["call_responsible"] == 112
    shown = (await here.run("show", ACCOUNT, "refused", "--json")).json
    assert (shown["state"], shown["last_error"]) == ("logged", None)
    assert "operator" in [event["who"] for event in shown["events"]]

    again = await here.run("retry", ACCOUNT, "refused")
    assert again.code == EX_FAILED
    assert "refused is logged" in again.said
    assert (await here.run("--once")).code == EX_OK
    assert len(here.entries("refused")) == 1


async def test_a_running_daemon_takes_up_all_failed_calls(here: Installation) -> None:
    here.accounts[0]["extensions"] |= {str(200 + place): STRANGER + place for place in range(5)}
    here.write()
    await here.daemons[0].ready()
    calls = [f"c{place}" for place in range(5)]
    await all_of(here.send(webhook(f"c{place}", extension=str(200 + place))) for place in range(5))
    await here.settled(5)
    assert {call["state"] for call in (await here.calls()).values()} == {"failed"}
    for place in range(5):
        here.kommo.account(ACCOUNT).add_user(STRANGER + place, "New")
    retried = await here.run("retry", "--state", "failed")
    assert retried.code == EX_OK
    assert "5 call(s)" in retried.said
    await until(lambda: all(here.entries(call_id) for call_id in calls), 5)
    await here.settled(5)
    await here.each_stands_once((ACCOUNT, call_id) for call_id in calls)


async def test_a_retry_of_a_call_that_may_stand_in_kommo_already_creates_nothing(here: Installation) -> None:
    """Killed while it asked, and carried out all the same: a retry is no way round the doubt."""
    here.kommo.faults.add(Fault(FaultKind.TIMEOUT_AFTER, method="POST", times=1))
    daemon = here.daemons[0]
    await daemon.ready()
    await here.send(webhook("c1"))
    await until(lambda: here.entries("c1"))
    daemon.kill()
    retried = await here.run("retry", ACCOUNT, "c1")
    assert retried.code == EX_OK, retried.said

    async def is_done() -> bool:
        return (await here.run("--once")).code == EX_OK

    await until(is_done, 15, every_s=0.2)
    await here.each_stands_once([(ACCOUNT, "c1")])
    assert here.asked("POST", "/calls") == 1


# --- check


def with_the_token_revoked(here: Installation) -> None:
    here.kommo.account(ACCOUNT, token="another")


def with_the_token_of_another_account(here: Installation) -> None:
    here.accounts[0]["access_token"] = here.kommo.account(OTHER_ACCOUNT).token


def without_rights(here: Installation) -> None:
    here.kommo.faults.add(Fault(FaultKind.FORBIDDEN, path="^/leads/unsorted"))


def without_payment(here: Installation) -> None:
    here.kommo.faults.add(Fault(FaultKind.UNPAID))


def at_an_address_where_nobody_is(here: Installation) -> None:
    here.accounts[0]["base_url"] = f"http://127.0.0.1:{free_port()}"


def at_an_address_of_something_else(here: Installation) -> None:
    here.kommo.faults.add(Fault(FaultKind.HTML))


def with_an_extension_of_a_stranger(here: Installation) -> None:
    here.accounts[0]["extensions"]["199"] = STRANGER


def without_an_account(here: Installation) -> None:
    here.accounts.clear()


def without_a_voip_service(here: Installation) -> None:
    del here.accounts[0]["voip"]


def with_a_ledger_that_is_a_folder(here: Installation) -> None:
    here.ledger.mkdir()


async def test_check_finds_nothing_wrong(here: Installation) -> None:
    checked = await here.run("check")
    assert checked.code == EX_OK, checked.said
    assert "WRONG" not in checked.out
    assert checked.err == ""
    for words in (
        "database",
        "disk",
        "accepts the token",
        "notes and incoming leads",
        "2 extension(s)",
        "clock",
    ):
        assert words in checked.said
    assert not here.kommo.account(ACCOUNT).notes
    assert all(request.method == "GET" for request in here.kommo.requests)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (with_the_token_revoked, [f"account {ACCOUNT}", "token is wrong, expired or revoked"]),
        (with_the_token_of_another_account, [f"account {ACCOUNT}", f"is of account {OTHER_ACCOUNT}"]),
        (without_rights, [f"account {ACCOUNT}", "leads/unsorted cannot be read", "right"]),
        (without_payment, [f"account {ACCOUNT}", "not paid for"]),
        (at_an_address_where_nobody_is, [f"account {ACCOUNT}", "not reached", "base_url"]),
        (at_an_address_of_something_else, [f"account {ACCOUNT}", "base_url"]),
        (with_an_extension_of_a_stranger, [f"account {ACCOUNT}", "no such user: 199 = 999"]),
        (without_an_account, ["accounts: there is none"]),
        (without_a_voip_service, [f"account {ACCOUNT}", "accounts.voip.generic.token"]),
        (with_a_ledger_that_is_a_folder, ["database.url", "cannot be used"]),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
async def test_check_says_what_is_wrong(
    here: Installation, spoil: Callable[[Installation], None], words: list[str]
) -> None:
    spoil(here)
    here.write()
    checked = await here.run("check")
    assert checked.code == EX_FAILED
    (wrong,) = (line for line in checked.out.splitlines() if "WRONG" in line)
    assert [word for word in words if word not in wrong] == []
    assert "1 thing(s) are wrong" in checked.err
    assert here.accounts == [] or str(here.accounts[0]["access_token"]) not in checked.said


async def test_check_looks_at_every_account(here: Installation) -> None:
    here.add_account(OTHER_ACCOUNT)
    here.write()
    with_the_token_revoked(here)
    here.kommo.faults.add(Fault(FaultKind.UNPAID, account_id=OTHER_ACCOUNT))
    checked = await here.run("check")
    assert checked.code == EX_FAILED
    assert "2 thing(s) are wrong" in checked.err
    assert f"account {ACCOUNT}: the access token" in checked.said
    assert f"account {OTHER_ACCOUNT}: the account is not paid for" in checked.said


async def test_check_finds_the_ledger_of_a_newer_version(here: Installation) -> None:
    await here.run("status")
    with contextlib.closing(sqlite3.connect(here.ledger)) as ledger:
        ledger.execute("INSERT INTO migrations VALUES (9999, '9999_to_come', 0)")
        ledger.commit()
    checked = await here.run("check")
    assert checked.code == EX_FAILED
    assert "newer" in checked.said


# --- how they are called


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["--nonsense"],
        ["show"],
        ["show", "31337"],
        ["show", "account", "c1"],
        ["calls", "--state", "nonsense"],
        ["calls", "--account", "x"],
        ["calls", "--limit", "x"],
        ["calls", "--limit", "-1"],
        ["status", "nonsense"],
        ["retry"],
        ["retry", "31337"],
        ["retry", "--state", "logged"],
        ["retry", "31337", "c1", "--state", "failed"],
    ],
    ids=" ".join,
)
async def test_wrong_arguments(here: Installation, words: list[str]) -> None:
    finished = await here.run(*words)
    assert finished.code == EX_USAGE
    assert finished.out == ""
    assert finished.err.startswith("usage: calllogd") or "calllogd" in finished.err


@pytest.mark.parametrize(
    "words", [["status"], ["calls", "--json"], ["show", "1", "c1"], ["retry", "1", "c"], ["check"]]
)
async def test_without_a_configuration_commands_say_how_to_get_one(tmp_path: Path, words: list[str]) -> None:
    path = tmp_path / "none.toml"
    finished = await run(*words, "--config", path)
    assert finished.code == EX_CONFIG
    assert finished.out == ""
    assert f"{path}: there is no such file" in finished.err
    assert "calllogd init" in finished.err


async def test_where_the_configuration_is_looked_for(here: Installation, tmp_path: Path) -> None:
    named = environment(CALLLOGD_CONFIG=str(here.config))
    assert (await run("status", env=named)).code == EX_OK
    assert (await run("--config", here.config, "status")).code == EX_OK
    other = await run("status", "--config", tmp_path / "none.toml", env=named)
    assert other.code == EX_CONFIG, "the command line goes before the environment"


async def test_each_command_has_help() -> None:
    top = await run("--help")
    assert top.code == EX_OK
    commands = ("init", "demo", "status", "calls", "show", "retry", "check")
    for name in commands:
        assert f"    {name} " in top.out
    helped = await asyncio.gather(*(run(name, "--help") for name in commands))
    for name, told in zip(commands, helped, strict=True):
        assert told.code == EX_OK
        assert told.out.startswith(f"usage: calllogd {name}")
        assert len(told.out.splitlines()) > 4
    assert (await run("--version")).out.startswith("calllogd ")


@pytest.mark.parametrize(
    "words", [["calls", "--json", "--limit", "2000"], ["calls", "--limit", "2000"], ["status"]]
)
async def test_nobody_has_to_read_to_the_end(here: Installation, words: list[str]) -> None:
    await here.daemons[0].ready()
    await all_of(here.send(webhook(f"call-{place}", "anonymous")) for place in range(300))

    def head() -> tuple[bytes, int, bytes]:
        """Read one line and go, as `head -1` does."""
        with subprocess.Popen(
            [*command(*words), "--config", here.config],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            process.stdout.close()
            return line, process.wait(), process.stderr.read()

    line, code, errors = await asyncio.to_thread(head)
    assert line
    assert errors == b""
    assert code in (EX_OK, EX_FAILED)


@pytest.mark.parametrize("words", [["status"], ["--once"]], ids=" ".join)
async def test_ctrl_c_while_the_ledger_is_locked(here: Installation, words: list[str]) -> None:
    assert (await here.run("status")).code == EX_OK
    interruptible()
    errors = here.folder / "errors"
    with contextlib.closing(sqlite3.connect(here.ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with errors.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *command("--config", here.config, *words), stderr=stderr, cwd=ROOT, env=environment()
            )
        try:
            threads = Path(f"/proc/{process.pid}/task")
            await until(lambda: len(list(threads.iterdir())) > 1)  # that of the ledger has been started
            process.send_signal(signal.SIGINT)
            other.execute("ROLLBACK")
            async with asyncio.timeout(5):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 130
    assert errors.read_text() == ""


async def test_a_call_id_may_be_anything(here: Installation) -> None:
    strange = ("--json", "a b", "[bold]x[/bold]", "Ünïcödé", "1", "'; DROP TABLE calls; --", "x" * 255)
    await here.daemons[0].ready()
    await all_of(here.send(webhook(call_id, KNOWN)) for call_id in strange)
    await here.settled(len(strange))
    await here.each_stands_once((ACCOUNT, call_id) for call_id in strange)
    shown = await asyncio.gather(*(here.run("show", "--json", ACCOUNT, "--", name) for name in strange))
    assert [one.json["call_id"] for one in shown] == list(strange)
    listing = await run("calls", "--config", here.config, env=environment(COLUMNS="500"))
    assert listing.code == EX_OK
    assert [call_id for call_id in strange[:-1] if call_id not in listing.said] == []
