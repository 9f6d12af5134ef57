"""Control from another process: the routes below /_sandbox/ and the program itself."""

import asyncio
import signal
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from calllogd.sandbox import Account, SandboxKommo
from calllogd.sandbox.__main__ import main

PHONE = "+1 (555) 010-0200"
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def control(kommo: SandboxKommo, account: Account) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"{kommo.url}/_sandbox/") as session:
        yield session


async def send(
    session: aiohttp.ClientSession, method: str, path: str, body: Any = None
) -> tuple[int, dict[str, Any]]:
    async with session.request(method, path, **({} if body is None else {"json": body})) as answer:
        return answer.status, (await answer.json()) if answer.status != 204 else {}


def incoming() -> dict[str, Any]:
    return {
        "source_uid": "s",
        "source_name": "s",
        "metadata": {"phone": PHONE, "uniq": "c1", "called_at": 5, "duration": 0, "service_code": "s"},
        "_embedded": {"leads": [{"name": "Call"}]},
    }


async def test_a_contact_added_by_control_gets_calls(
    account: Account, control: aiohttp.ClientSession, api: aiohttp.ClientSession
) -> None:
    status, made = await send(
        control, "POST", "contacts", {"account_id": 31337, "name": "Kim", "phones": [PHONE]}
    )
    assert (status, made) == (201, {"id": account.contacts[0].id})
    call = {"direction": "inbound", "duration": 1, "source": "s", "phone": PHONE, "uniq": "c1"}
    async with api.post("calls", json=[call]) as answer:
        assert answer.status == 200
    status, found = await send(control, "GET", "entries?account_id=31337&uniq=c1")
    assert (status, [it["entity_id"] for it in found["entries"]]) == (200, [made["id"]])
    assert found["entries"][0]["params"]["uniq"] == "c1"
    _, state = await send(control, "GET", "state?account_id=31337")
    assert [it["params"]["uniq"] for it in state["notes"]] == ["c1"]
    assert [(it["path"], it["status"]) for it in state["requests"]] == [("/calls", 200)]
    assert state["contacts"][0]["name"]["text"] == "Kim"


async def test_tasks_are_counted_and_listed(
    account: Account, control: aiohttp.ClientSession, api: aiohttp.ClientSession
) -> None:
    contact = account.add_contact("Kim", [PHONE])
    item = {"text": "Call back", "complete_till": 5, "entity_id": contact.id, "entity_type": "contacts"}
    async with api.post("tasks", json=[item, item]) as answer:
        assert answer.status == 200
    _, state = await send(control, "GET", "state?account_id=31337")
    assert state["counts"] == {
        "contacts": 1,
        "companies": 0,
        "leads": 0,
        "notes": 0,
        "tasks": 2,
        "unsorted": 0,
    }
    status, shown = await send(control, "GET", "tasks?account_id=31337")
    assert (status, [it["text"] for it in shown["tasks"]]) == (200, ["Call back"] * 2)
    assert shown["tasks"][0]["on"] == ["contacts", contact.id]
    assert (await send(control, "GET", "tasks?account_id=1"))[0] == 404


@pytest.mark.parametrize(("deed", "state"), [("accept", "accepted"), ("decline", "declined")])
async def test_incoming_leads_are_sorted_out(
    account: Account, control: aiohttp.ClientSession, api: aiohttp.ClientSession, deed: str, state: str
) -> None:
    async with api.post("leads/unsorted/sip", json=[incoming()]) as answer:
        uid = (await answer.json(content_type=None))["_embedded"]["unsorted"][0]["uid"]
    assert (await send(control, "POST", f"unsorted/{uid}/{deed}"))[0] == 200
    assert account.unsorted[0].state == state
    assert (await send(control, "POST", f"unsorted/{uid}/{deed}"))[0] == 404


async def test_faults_are_ordered_and_called_off(
    control: aiohttp.ClientSession, api: aiohttp.ClientSession
) -> None:
    status, fault = await send(control, "POST", "faults", {"kind": "unpaid", "path": "^/account$"})
    assert (status, fault["kind"], fault["every"]) == (201, "unpaid", 1)
    async with api.get("account") as answer:
        assert answer.status == 402
    assert (await send(control, "DELETE", "faults"))[0] == 204
    async with api.get("account") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "faults", {"kind": "gremlin"}, 400),
        ("POST", "faults", [], 400),
        ("POST", "faults", None, 400),
        ("POST", "contacts", {"account_id": 31337, "name": "Kim", "phones": "123"}, 400),
        ("POST", "contacts", {"account_id": 1, "name": "Kim"}, 404),
        ("GET", "state", None, 404),
    ],
)
async def test_nonsense_is_refused(
    control: aiohttp.ClientSession, method: str, path: str, body: Any, status: int
) -> None:
    seen, answer = await send(control, method, path, body)
    assert seen == status
    assert answer["error"]


async def start(*options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "calllogd.sandbox",
        *options,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_program_serves_until_asked_to_stop(number: signal.Signals) -> None:
    process = await start(
        "--listen",
        "127.0.0.1:0",
        "--account",
        "77",
        "--mixed-status",
        "400",
        "--no-mixed-request-ids",
        "--merge-params",
        "--refresh-until-used",
        *("--client-id", "an-integration", "--redirect-uri", "http://127.0.0.1:9/callback"),
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(10):
            said = [(await process.stdout.readline()).decode() for _ in range(12)]
        shown = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in said)}
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {shown['access_token']}"}
        ) as session:
            call = {"direction": "inbound", "duration": 1, "source": "s", "phone": "+15550100201"}
            async with session.post(f"{shown['base_url']}/api/v4/calls", json=[call]) as answer:
                made = (await answer.json(content_type=None))["_embedded"]["calls"][0]
            async with session.get(f"{shown['base_url']}/_sandbox/rules") as answer:
                rules = await answer.json()
            async with session.get(said[4].split()[1].replace("NAME", "c1").rstrip(",")) as answer:
                assert (answer.status, answer.content_type) == (200, "audio/mpeg")
            async with session.get(said[5].split()[1]) as answer:
                assert (answer.status, answer.content_type) == (200, "text/html")
                assert "an-integration" in await answer.text()
        assert (shown["account"], made["account_id"], made["entity_type"]) == ("77", 77, "lead")
        assert rules == {
            "mixed_status": 400,
            "mixed_request_ids": False,
            "merge_params": True,
            "refresh_until_used": True,
        }
        kommo = tomllib.loads("".join(said[6:]))["kommo"]
        assert len(kommo.pop("client_secret")) > 40
        assert kommo == {
            "client_id": "an-integration",
            "redirect_uri": "http://127.0.0.1:9/callback",
            "consent_url": f"{shown['base_url']}/oauth",
            "domains": [shown["base_url"].removeprefix("http://")],
        }
        process.send_signal(number)
        async with asyncio.timeout(10):
            _, complaints = await process.communicate()
        assert (process.returncode, complaints) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_taken_port_is_one_line_and_exit_1(kommo: SandboxKommo) -> None:
    address = kommo.url.removeprefix("http://")
    process = await start("--listen", address)
    async with asyncio.timeout(10):
        out, complaints = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert complaints.decode() == f"calllogd.sandbox: cannot listen on {address}: Address already in use\n"


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "8090", "127.0.0.1:x", "127.0.0.1:70000", "example.com:80"])
def test_an_address_outside_the_machine_is_refused(listen: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--listen", listen])
    assert caught.value.code == 2
    assert "--listen" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--client-id", "x"], "needs --redirect-uri"),
        (["--redirect-uri", "http://127.0.0.1/"], "need --client-id"),
        (["--client-id", "x", "--redirect-uri", "ftp://127.0.0.1/"], "redirect_uri is an http address"),
    ],
)
def test_half_an_integration_is_refused(
    options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(options)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


def test_help_tells_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert all(
        flag in told for flag in ("--listen", "--account", "--token", "--rate", "--search-lag", "_sandbox")
    )
