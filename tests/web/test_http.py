"""The webhook over HTTP: what is acknowledged, and how everything else is refused."""

import asyncio
import gzip
import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calllogd.database.database import Database
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import CallKey, CallStatus, Outcome
from calllogd.errors import StorageError
from calllogd.voip.proof import Tokens
from calllogd.voip.provider.generic import Generic
from calllogd.voip.usecase.save_call_event import SaveCallEventUseCase
from calllogd.web.app import make_app
from calllogd.web.desk import Desk
from calllogd.web.problems import PROBLEMS
from calllogd.web.services import Services
from tests.fakes import ACCOUNT, FakeUnread, ManualClock

TOKEN = "a-token-of-16-characters"
PATH = f"/voip/generic/{ACCOUNT}"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
ENDED: dict[str, Any] = {
    "event": "call.ended",
    "call_id": "c1",
    "direction": "inbound",
    "phone": "+1 212 555 0123",
    "duration": 42,
    "status": "answered",
}
Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client(
    database: Database,
    ledger: LedgerOfCalls,
    clock: ManualClock,
    aiohttp_client: Callable[[web.Application], Awaitable[Client]],
) -> Client:
    services = Services(
        providers={("generic", str(ACCOUNT)): Generic(ACCOUNT, tokens=Tokens({"token": TOKEN}))},
        save_call_event=SaveCallEventUseCase(calls=ledger, unread=FakeUnread(), clock=clock),
        ready=database.ping,
    )
    app = make_app(Desk(services))
    return await aiohttp_client(app)


async def send(client: Client, body: bytes | None = None, **changes: Any) -> ClientResponse:
    return await client.post(
        PATH, data=json.dumps({**ENDED, **changes}).encode() if body is None else body, headers=AUTHORIZED
    )


async def problem_of(answer: ClientResponse) -> dict[str, Any]:
    """Return the problem document of an answer, after looking at its shape."""
    assert answer.content_type == "application/problem+json"
    document: dict[str, Any] = json.loads(await answer.read())
    assert document.keys() == {"type", "title", "status", "detail", "code"}
    assert document["status"] == answer.status == PROBLEMS[document["code"]].status
    assert document["type"] == f"urn:calllogd:problem:{document['code']}"
    assert document["title"] == PROBLEMS[document["code"]].title
    assert isinstance(document["detail"], str)
    assert document["detail"]
    return document


def stored(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return sum(
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("calls", "journal", "task")
        )


async def test_a_message_is_stored_and_acknowledged(client: Client, ledger: LedgerOfCalls) -> None:
    answer = await send(client)
    assert answer.status == 202
    assert answer.content_type == "application/json"
    assert await answer.json() == {"call_id": "c1", "state": "pending", "duplicate": False}
    call = await ledger.get(CallKey(ACCOUNT, "c1"))
    assert call is not None
    assert call.facts.outcome == Outcome(CallStatus.ANSWERED, 42)
    (line,) = await ledger.story(call.key)
    assert (line.who, line.what) == ("voip:generic", "call.ended")
    assert line.body is not None
    assert json.loads(line.body) == ENDED


async def test_the_same_message_again_is_acknowledged_as_a_duplicate(
    client: Client, ledger_path: Path
) -> None:
    await send(client)
    before = stored(ledger_path)
    answer = await send(client)
    assert answer.status == 202
    assert await answer.json() == {"call_id": "c1", "state": "pending", "duplicate": True}
    assert stored(ledger_path) == before


async def test_news_are_no_duplicate(client: Client) -> None:
    await send(client)
    assert (await (await send(client, duration=43)).json())["duplicate"] is False


async def test_two_hundred_at_once(client: Client, ledger_path: Path) -> None:
    answers = await asyncio.gather(*(send(client, call_id=f"c{number % 100}") for number in range(200)))
    assert {answer.status for answer in answers} == {202}
    documents = [await answer.json() for answer in answers]
    assert sum(document["duplicate"] for document in documents) == 100
    with closing(sqlite3.connect(ledger_path)) as connection:
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (100,)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b"\xff", 400, "malformed"),
        (b"{}", 422, "invalid"),
        (b"[]", 422, "invalid"),
        (json.dumps({**ENDED, "duration": -1}).encode(), 422, "invalid"),
        (json.dumps({**ENDED, "call_id": "a\nb"}).encode(), 422, "invalid"),
        (json.dumps({**ENDED, "more": "x" * 70_000}).encode(), 413, "too_large"),
    ],
    ids=lambda it: repr(it[:20]) if isinstance(it, bytes) else str(it),
)
async def test_a_bad_message_is_refused_and_leaves_nothing(
    client: Client, ledger_path: Path, body: bytes, status: int, code: str
) -> None:
    document = await problem_of(await send(client, body))
    assert (document["status"], document["code"]) == (status, code)
    assert stored(ledger_path) == 0


async def test_a_message_as_long_as_may_be_is_taken(client: Client) -> None:
    short = json.dumps({**ENDED, "more": ""})
    body = json.dumps({**ENDED, "more": "x" * (64 * 1024 - len(short))}).encode()
    assert len(body) == 64 * 1024
    assert (await send(client, body)).status == 202
    assert (await send(client, body + b" ")).status == 413


async def test_a_small_message_that_unpacks_into_a_large_one_is_refused(
    client: Client, ledger_path: Path
) -> None:
    packed = gzip.compress(json.dumps({**ENDED, "more": "x" * 5_000_000}).encode())
    answer = await client.post(PATH, data=packed, headers={**AUTHORIZED, "Content-Encoding": "gzip"})
    assert (await problem_of(answer))["code"] == "bad_request"
    assert stored(ledger_path) == 0


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (PATH, {}),
        (PATH, {"Authorization": "Bearer wrong"}),
        (PATH, {"Authorization": f"Basic {TOKEN}"}),
        (PATH, {"Authorization": "Bearer \udce9\udc80".encode("utf-8", "surrogateescape").decode("latin-1")}),
        ("/voip/generic/1", AUTHORIZED),
        ("/voip/generic/abc", AUTHORIZED),
        (f"/voip/generic/0{ACCOUNT}", AUTHORIZED),
        (f"/voip/generic/{ACCOUNT}%00", AUTHORIZED),
    ],
)
async def test_who_is_not_known_learns_nothing_of_which_accounts_there_are(
    client: Client, ledger_path: Path, path: str, headers: dict[str, str]
) -> None:
    right = await problem_of(
        await client.post(PATH, json=ENDED, headers={"Authorization": "Bearer nonsense"})
    )
    answer = await client.post(path, json=ENDED, headers=headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="calllogd"'
    assert await problem_of(answer) == right
    assert TOKEN not in await answer.text()
    assert stored(ledger_path) == 0


async def test_a_bad_body_without_a_token_is_told_nothing_of_its_mistakes(client: Client) -> None:
    answer = await client.post(PATH, data=b"{")
    assert (await problem_of(answer))["code"] == "unauthorized"


@pytest.mark.parametrize("path", ["/voip", "/voip/generic", f"/voip/nobody/{ACCOUNT}", "/%ff", "/../voip"])
async def test_there_is_nothing_at_another_address(client: Client, path: str) -> None:
    answer = await client.post(path, json=ENDED, headers=AUTHORIZED)
    assert (await problem_of(answer))["code"] == "not_found"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_another_method_is_refused_with_the_right_one(client: Client, method: str) -> None:
    answer = await client.request(method, PATH, headers=AUTHORIZED)
    assert (await problem_of(answer))["code"] == "method_not_allowed"
    assert answer.headers["Allow"] == ("POST" if method == "GET" else "GET,POST")


async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(
    client: Client, ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.web.body.BODY_S", 0.05)

    async def never() -> Any:
        yield b'{"event": '
        await asyncio.Event().wait()

    answer = await client.post(PATH, data=never(), headers=AUTHORIZED)
    assert (await problem_of(answer))["code"] == "slow"
    assert stored(ledger_path) == 0


async def test_when_more_comes_than_can_be_stored_the_sender_is_asked_to_come_again(
    client: Client, ledger_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.database.voip_calls.WAITING_LIMIT", 0)
    answer = await send(client)
    assert (await problem_of(answer))["code"] == "overloaded"
    assert int(answer.headers["Retry-After"]) >= 1
    assert stored(ledger_path) == 0
    monkeypatch.undo()
    assert (await send(client)).status == 202


async def test_when_the_ledger_cannot_be_written_nothing_is_acknowledged(
    client: Client, database: Database, ledger_path: Path
) -> None:
    await database.close()
    answer = await send(client)
    document = await problem_of(answer)
    assert document["code"] == "storage"
    assert int(answer.headers["Retry-After"]) >= 1
    assert "calllogd.db" not in document["detail"], "where the file is is nobody's business"
    assert stored(ledger_path) == 0


async def test_a_mistake_of_ours_is_a_problem_document_that_gives_nothing_away(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(LedgerOfCalls, "accept", broken)
    answer = await send(client)
    document = await problem_of(answer)
    assert document["code"] == "internal"
    assert "secret" not in json.dumps(document)
    assert "a secret" in caplog.text


async def test_alive_and_ready(client: Client, database: Database) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await client.get(path)).status == 200
    await database.close()
    assert (await client.get("/healthz")).status == 200
    answer = await client.get("/readyz")
    assert (await problem_of(answer))["code"] == "not_ready"
    assert "Retry-After" in answer.headers


def test_every_code_has_a_status_and_a_meaning() -> None:
    for code, (status, title) in PROBLEMS.items():
        assert code.isidentifier()
        assert 400 <= status < 600
        assert title
    assert {code for code, (status, _) in PROBLEMS.items() if status >= 500} == {
        "internal",
        "overloaded",
        "storage",
        "not_ready",
    }
    assert StorageError.code in PROBLEMS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
BODIES = (
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from([*ENDED, "started_at", "user_id", "extension", "recording_url"]), JSON
    ).map(lambda changes: json.dumps({**ENDED, **changes}).encode())
    | st.tuples(st.integers(0, 120), st.binary(max_size=3)).map(
        lambda cut: json.dumps(ENDED).encode()[: cut[0]] + cut[1] + json.dumps(ENDED).encode()[cut[0] :]
    )
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Content-Type", "X-Any", "Accept", "webhook-id", "webhook-signature", "webhook-timestamp"]
    ),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, blacklist_characters="\x7f"), max_size=30),
)


@given(BODIES, HEADERS, st.booleans())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_nothing_that_is_sent_gives_a_5xx_and_what_is_refused_leaves_nothing(
    client: Client, ledger_path: Path, body: bytes, headers: dict[str, str], known: bool
) -> None:
    before = stored(ledger_path)
    answer = await client.post(PATH, data=body, headers={**headers, **(AUTHORIZED if known else {})})
    if answer.status == 202:
        assert known
        assert (await answer.json()).keys() == {"call_id", "state", "duplicate"}
    else:
        assert 400 <= (await problem_of(answer))["status"] < 500
        assert stored(ledger_path) == before


async def test_a_request_waits_while_there_is_nothing_to_work_with(database: Database) -> None:
    desk = Desk()
    waiting = asyncio.create_task(_ready(desk))
    await asyncio.sleep(0)
    assert not waiting.done()
    services = Services(providers={}, save_call_event=never(), ready=database.ping)
    desk.put(services)
    assert await waiting is services
    await desk.clear()


async def test_services_are_taken_away_only_when_nobody_uses_them(database: Database) -> None:
    desk = Desk(Services(providers={}, save_call_event=never(), ready=database.ping))
    with await desk.services():
        clearing = asyncio.create_task(desk.clear())
        for _ in range(3):
            await asyncio.sleep(0)
        assert not clearing.done()
    await clearing


async def _ready(desk: Desk) -> Services:
    with await desk.services() as services:
        await services.ready()
        return services


def never() -> SaveCallEventUseCase:
    """A use case that no test here calls."""
    return SaveCallEventUseCase.__new__(SaveCallEventUseCase)
