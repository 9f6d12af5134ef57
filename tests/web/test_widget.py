"""The widget's addresses over HTTP: who is let in, what is stored, what is shown, and to which pages."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from calllogd.database.database import Database
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import (
    Call,
    CallKey,
    CallState,
    CallStatus,
    Direction,
    EntityRef,
    EntityType,
    Entry,
    Facts,
    Outcome,
    Person,
    Recording,
    RecordingState,
    Result,
    Todo,
    Widget,
)
from calllogd.voip.proof import Tokens
from calllogd.voip.provider.generic import Generic
from calllogd.voip.usecase.save_call_event import SaveCallEventUseCase
from calllogd.voip.usecase.save_call_result import SaveCallResultUseCase
from calllogd.voip.usecase.show_call import ShowCallUseCase
from calllogd.web.app import make_app
from calllogd.web.desk import Desk
from calllogd.web.problems import PROBLEMS
from calllogd.web.services import Services, WidgetServices
from calllogd.web.widget import live, reason
from tests.fakes import ACCOUNT, START, FakeUnread, ManualClock
from tests.widget_tokens import ORIGIN, OTHER_ACCOUNT, OTHER_ORIGIN, USER, token, tokens

CALL = "/widget/v1/calls/c1"
RESULT: dict[str, Any] = {
    "rev": 1,
    "text": "Wants an offer",
    "status": 4,
    "entity": {"type": "leads", "id": 5},
    "task": {"text": "Send it", "complete_till": 1_760_100_000},
    "direction": "inbound",
    "phone": "+1 212 555 0123",
    "started_at": 1_760_000_000,
    "duration": 42,
}
SAVED = Result(
    rev=1,
    text="Wants an offer",
    status=4,
    entity=EntityRef(EntityType.LEADS, 5),
    todo=Todo("Send it", 1_760_100_000),
)
SEEN = Facts(
    direction=Direction.INBOUND,
    phone="+1 212 555 0123",
    person=Person(0, user_id=111),
    started_at=START,
    outcome=Outcome(CallStatus.ANSWERED, 42),
)
Client = TestClient[web.Request, web.Application]
Headers = dict[str, str]


def in_name_of(**changes: Any) -> Headers:
    return {"X-Auth-Token": token(**changes), "Origin": changes.get("iss", ORIGIN)}


OTHER = in_name_of(iss=OTHER_ORIGIN, account_id=OTHER_ACCOUNT, user_id=222)


@pytest.fixture
def desk(database: Database, ledger: LedgerOfCalls, clock: ManualClock) -> Desk:
    return Desk(services(database, ledger, clock))


def services(database: Database, ledger: LedgerOfCalls, clock: ManualClock) -> Services:
    return Services(
        providers={("generic", str(ACCOUNT)): Generic(ACCOUNT, tokens=Tokens({"token": "t" * 16}))},
        save_call_event=SaveCallEventUseCase(calls=ledger, unread=FakeUnread(), clock=clock),
        ready=database.ping,
        widget=WidgetServices(
            tokens=tokens(clock),
            save_call_result=SaveCallResultUseCase(calls=ledger, clock=clock),
            show_call=ShowCallUseCase(calls=ledger),
        ),
    )


@pytest.fixture
async def client(desk: Desk, aiohttp_client: Callable[[web.Application], Awaitable[Client]]) -> Client:
    return await aiohttp_client(make_app(desk))


async def put(
    client: Client, path: str = f"{CALL}/result", headers: Headers | None = None, **changes: Any
) -> ClientResponse:
    return await client.put(
        URL(path, encoded=True),
        json={**RESULT, **changes},
        headers=in_name_of() if headers is None else headers,
    )


async def show(client: Client, path: str = CALL, headers: Headers | None = None) -> ClientResponse:
    return await client.get(URL(path, encoded=True), headers=in_name_of() if headers is None else headers)


async def problem_of(answer: ClientResponse) -> dict[str, Any]:
    """Return the problem document of an answer, after looking at its shape."""
    assert answer.content_type == "application/problem+json"
    document: dict[str, Any] = json.loads(await answer.read())
    assert document["status"] == answer.status == PROBLEMS[document["code"]].status
    assert document["detail"]
    return document


async def stored(ledger: LedgerOfCalls, call_id: str = "c1") -> Call:
    call = await ledger.get(CallKey(ACCOUNT, call_id))
    assert call is not None
    return call


async def test_a_result_is_stored_and_acknowledged(client: Client, ledger: LedgerOfCalls) -> None:
    answer = await put(client)
    assert answer.status == 200
    assert answer.content_type == "application/json"
    assert await answer.json() == {"call_id": "c1", "state": "pending", "rev": 1}
    call = await stored(ledger)
    assert call.result == SAVED
    assert call.widget == Widget(facts=SEEN)
    (line,) = await ledger.story(call.key)
    assert (line.who, line.what) == ("widget:user 111", "result")
    assert json.loads(line.body or "") == RESULT


async def test_the_same_result_again_is_acknowledged_again(client: Client, ledger: LedgerOfCalls) -> None:
    first = await put(client)
    call = await stored(ledger)
    again = await put(client)
    assert again.status == 200
    assert await again.json() == await first.json()
    assert await stored(ledger) == call


async def test_a_later_result_replaces_an_earlier_one_and_not_the_other_way_round(
    client: Client, ledger: LedgerOfCalls
) -> None:
    await put(client, text="earlier")
    assert (await put(client, rev=3, text="later")).status == 200
    answer = await put(client, rev=2, text="in between")
    document = await problem_of(answer)
    assert (answer.status, document["code"], document["rev"]) == (409, "conflict", 3)
    assert (await stored(ledger)).result == replace(SAVED, rev=3, text="later")


async def test_of_two_results_of_one_rev_one_counts_and_the_other_is_told_so(
    client: Client, ledger: LedgerOfCalls
) -> None:
    await put(client, rev=0)
    answers = {text: await put(client, rev=1, text=text) for text in ("a", "z", "m")}
    refused = {text for text, answer in answers.items() if answer.status == 409}
    result = (await stored(ledger)).result
    assert result is not None
    assert result.text not in refused
    assert "m" in refused
    assert (await put(client, rev=1, text="m", duration=50)).status == 409, "what else it says is news"


async def test_a_result_comes_after_the_webhook(client: Client, ledger: LedgerOfCalls) -> None:
    webhook = {
        "event": "call.ended",
        "call_id": "c1",
        "direction": "inbound",
        "phone": "+12125550123",
        "duration": 40,
        "status": "answered",
        "user_id": 333,
    }
    bearer = {"Authorization": f"Bearer {'t' * 16}"}
    await client.post(f"/voip/generic/{ACCOUNT}", json=webhook, headers=bearer)
    assert (await put(client)).status == 200
    call = await stored(ledger)
    assert call.result == SAVED
    assert call.known.outcome == Outcome(CallStatus.ANSWERED, 40), "the VoIP service's word counts more"
    assert call.known.person is not None
    assert call.known.person.user_id == 333


async def test_a_declined_result(client: Client, ledger: LedgerOfCalls) -> None:
    answer = await client.post(f"{CALL}/skip", headers=in_name_of())
    assert answer.status == 200
    assert await answer.json() == {"call_id": "c1", "state": "pending"}
    assert (await stored(ledger)).widget == Widget(skipped=True)
    assert (await client.post(f"{CALL}/skip", json={}, headers=in_name_of())).status == 200


async def test_an_announced_call(client: Client, ledger: LedgerOfCalls) -> None:
    answer = await client.put(
        CALL, json={"direction": "outbound", "phone": "2125550123"}, headers=in_name_of()
    )
    assert answer.status == 200
    assert await answer.json() == {"call_id": "c1", "state": "pending"}
    call = await stored(ledger)
    assert call.widget.expected
    assert call.known.direction is Direction.OUTBOUND


@pytest.mark.parametrize(
    ("raw", "call_id"),
    [
        ("a%2Fb", "a/b"),
        ("a%2fresult", "a/result"),
        ("%252F", "%2F"),
        ("%7B1%7D", "{1}"),
        ("x%3F%23%26", "x?#&"),
        ("a+b%20c", "a+b c"),
        ("%E6%BC%A2", "漢"),
        ("%E6%BC%A2" * 255, "漢" * 255),
        ("...", "..."),
    ],
)
async def test_an_id_may_have_any_character(
    client: Client, ledger: LedgerOfCalls, raw: str, call_id: str
) -> None:
    answer = await put(client, f"/widget/v1/calls/{raw}/result")
    assert answer.status == 200
    assert (await answer.json())["call_id"] == call_id
    assert (await stored(ledger, call_id)).result == SAVED
    assert (await (await show(client, f"/widget/v1/calls/{raw}")).json())["call_id"] == call_id
    assert (await client.post(URL(f"/widget/v1/calls/{raw}/skip", encoded=True), headers=in_name_of())).ok


@pytest.mark.parametrize("raw", ["%00", "a%0Ab", "%C2%85", "x" * 256])
async def test_an_impossible_id_is_refused(client: Client, raw: str) -> None:
    for answer in (
        await put(client, f"/widget/v1/calls/{raw}/result"),
        await put(client, f"/widget/v1/calls/{raw}"),
        await client.post(URL(f"/widget/v1/calls/{raw}/skip", encoded=True), headers=in_name_of()),
        await show(client, f"/widget/v1/calls/{raw}"),
    ):
        assert (await problem_of(answer))["code"] == "invalid"


async def test_bytes_that_are_no_text_are_refused(client: Client) -> None:
    assert client.port is not None
    for path in (b"/widget/v1/calls/\xff\xfe", b"/widget/v1/calls/\xed\xa0\x80", b"/kommo/\xff/\xff"):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        method = b"POST" if b"kommo" in path else b"GET"
        head = f"Host: x\r\nOrigin: {ORIGIN}\r\nX-Auth-Token: {token()}\r\nConnection: close\r\n\r\n"
        writer.write(method + b" " + path + b" HTTP/1.1\r\n" + head.encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert 400 <= int(answer.split()[1]) < 500


async def test_a_call_is_shown_as_it_is_known(client: Client) -> None:
    await put(client)
    answer = await show(client)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    lead = {"type": "leads", "id": 5, "url": f"{ORIGIN}/leads/detail/5"}
    assert await answer.json() == {
        "call_id": "c1",
        "state": "pending",
        "rev": 1,
        "direction": "inbound",
        "phone": "+1 212 555 0123",
        "started_at": START,
        "duration": 42,
        "entity": None,
        "reason": "will be logged; goes to lead 5, as chosen",
        "recording": "none",
        "result": {
            "rev": 1,
            "text": "Wants an offer",
            "status": 4,
            "entity": lead,
            "task": {"text": "Send it", "complete_till": 1_760_100_000},
        },
    }


async def test_what_is_not_known_of_a_call_is_null(client: Client, clock: ManualClock) -> None:
    await client.post(f"{CALL}/skip", headers=in_name_of())
    document = await (await show(client)).json()
    assert {name for name, value in document.items() if value is None} == {
        "rev",
        "direction",
        "phone",
        "duration",
        "entity",
        "result",
    }
    assert document["started_at"] == clock.now()


LOGGED = Call(key=CallKey(ACCOUNT, "c1"), arrived_at=START, state=CallState.LOGGED)
ON_CONTACT = Entry(entity_type=EntityType.CONTACTS, entity_id=7, note_id=1)
ON_INCOMING = Entry(entity_type=EntityType.LEADS, entity_id=8, lead_uid="u1")
ON_LEAD = Entry(entity_type=EntityType.LEADS, entity_id=5, note_id=2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (replace(LOGGED, entry=ON_CONTACT), "contact 7, which Kommo found by the number"),
        (replace(LOGGED, entry=ON_INCOMING), "incoming lead"),
        (replace(LOGGED, entry=ON_LEAD, result=SAVED), "lead 5, as chosen"),
        (replace(LOGGED, state=CallState.FAILED, last_error="Kommo refuses it"), "Kommo refuses it"),
        (replace(LOGGED, state=CallState.FAILED), "operator"),
        (replace(LOGGED, state=CallState.PENDING, entry=ON_CONTACT, result=SAVED), "goes to lead 5"),
    ],
)
def test_a_call_says_why_it_is_where_it_is(call: Call, words: str) -> None:
    assert words in reason(call)


@pytest.mark.parametrize("state", CallState)
def test_every_state_has_a_reason(state: CallState) -> None:
    assert reason(replace(LOGGED, state=state))


def test_where_a_call_stands_is_a_link_and_its_recording_has_a_state() -> None:
    ready = Recording(state=RecordingState.READY)
    document = live(replace(LOGGED, entry=ON_CONTACT, recording=ready), USER)
    assert document["entity"] == {"type": "contacts", "id": 7, "url": f"{ORIGIN}/contacts/detail/7"}
    assert document["recording"] == "ready"


async def test_calls_of_other_accounts_are_as_unknown_as_unknown_ones(client: Client) -> None:
    await put(client)
    unknown = await problem_of(await show(client, "/widget/v1/calls/c2"))
    other = await problem_of(await show(client, headers=OTHER))
    assert unknown == other
    assert other["code"] == "not_found"


async def test_what_one_account_says_changes_nothing_in_another(
    client: Client, ledger: LedgerOfCalls
) -> None:
    await put(client)
    call = await stored(ledger)
    assert (await put(client, headers=OTHER, rev=9, text="mine")).status == 200
    assert await stored(ledger) == call


REQUESTS = [
    ("PUT", f"{CALL}/result"),
    ("POST", f"{CALL}/skip"),
    ("PUT", CALL),
    ("GET", CALL),
]


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ([("Origin", ORIGIN)], "one X-Auth-Token"),
        ([("Origin", ORIGIN), ("X-Auth-Token", token()), ("X-Auth-Token", token())], "one X-Auth-Token"),
        ([("Origin", ORIGIN), ("X-Auth-Token", token()), ("X-Auth-Token", "x")], "one X-Auth-Token"),
        ([("X-Auth-Token", token())], "Origin"),
        ([("X-Auth-Token", token()), ("Origin", OTHER_ORIGIN)], "Origin"),
        ([("X-Auth-Token", token()), ("Origin", ORIGIN), ("Origin", ORIGIN)], "Origin"),
        ([("Origin", ORIGIN), ("X-Auth-Token", token(key="f" * 64))], "not signed"),
        ([("Origin", ORIGIN), ("X-Auth-Token", token(exp=int(START) - 60))], "clock"),
        ([("Origin", ORIGIN), ("X-Auth-Token", token(aud="https://evil.org"))], "redirect_uri"),
    ],
)
async def test_who_is_not_known_is_refused_and_leaves_nothing(
    client: Client, ledger: LedgerOfCalls, headers: list[tuple[str, str]], word: str
) -> None:
    for method, path in REQUESTS:
        body = None if method == "GET" else json.dumps(RESULT)
        answer = await client.request(method, path, data=body, headers=CIMultiDict(headers))
        document = await problem_of(answer)
        assert document["code"] == "unauthorized"
        assert word in document["detail"]
    assert await ledger.get(CallKey(ACCOUNT, "c1")) is None


async def test_who_is_not_known_is_told_nothing_of_mistakes_in_the_body(client: Client) -> None:
    answer = await client.put(f"{CALL}/result", data=b"{", headers={"Origin": ORIGIN})
    assert (await problem_of(answer))["code"] == "unauthorized"


async def test_without_a_widget_there_is_nothing(
    database: Database,
    ledger: LedgerOfCalls,
    clock: ManualClock,
    aiohttp_client: Callable[[web.Application], Awaitable[Client]],
) -> None:
    bare = replace(services(database, ledger, clock), widget=None)
    client = await aiohttp_client(make_app(Desk(bare)))
    for method, path in REQUESTS:
        answer = await client.request(method, path, headers=in_name_of())
        assert (await problem_of(answer))["code"] == "not_found"
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"", "malformed"), (b"{", "malformed"), (b"{}", "invalid"), (b"x" * 70_000, "too_large")],
)
async def test_a_bad_body_is_refused(client: Client, body: bytes, code: str) -> None:
    for path in (f"{CALL}/result", CALL):
        answer = await client.put(path, data=body, headers=in_name_of())
        assert (await problem_of(answer))["code"] == code
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


async def test_a_compressed_body_is_refused(client: Client) -> None:
    headers = {**in_name_of(), "Content-Encoding": "gzip"}
    answer = await client.put(f"{CALL}/result", data=b"x", headers=headers)
    assert (await problem_of(answer))["code"] == "bad_request"


async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.web.body.BODY_S", 0.05)

    async def never() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    answer = await client.put(f"{CALL}/result", data=never(), headers=in_name_of())
    assert (await problem_of(answer))["code"] == "slow"


async def test_when_the_ledger_cannot_be_written_nothing_is_acknowledged(
    client: Client, database: Database
) -> None:
    await database.close()
    for answer in (await put(client), await show(client)):
        assert (await problem_of(answer))["code"] == "storage"
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "retry-after" in answer.headers["Access-Control-Expose-Headers"]


# Which pages may ask.

PREFLIGHT = {
    "Access-Control-Request-Method": "PUT",
    "Access-Control-Request-Headers": "content-type,x-auth-token",
}


@pytest.mark.parametrize("path", [CALL, f"{CALL}/result", f"{CALL}/skip", "/widget/v1/session"])
@pytest.mark.parametrize("origin", [ORIGIN, OTHER_ORIGIN])
async def test_a_preflight_is_answered_without_a_token(client: Client, path: str, origin: str) -> None:
    answer = await client.options(path, headers={"Origin": origin, **PREFLIGHT})
    assert answer.status == 204
    there = {name.lower(): value for name, value in answer.headers.items()}
    assert there["access-control-allow-origin"] == origin
    assert there["access-control-allow-methods"] == "GET, POST, PUT, OPTIONS"
    assert (
        there["access-control-allow-headers"] == "content-type, x-auth-token, idempotency-key, last-event-id"
    )
    assert there["access-control-max-age"] == "600"
    assert there["access-control-expose-headers"] == "retry-after, x-request-id"
    assert there["vary"] == "Origin"
    assert "access-control-allow-credentials" not in there


STRANGERS = [
    "https://evil.kommo.com",
    "null",
    "*",
    f"{ORIGIN}/",
    ORIGIN.replace("https", "http"),
    f"{ORIGIN}.evil.org",
    f"{ORIGIN}:443",
    ORIGIN.upper(),
    "",
]


@pytest.mark.parametrize("origin", STRANGERS)
async def test_a_strange_page_may_not_ask(client: Client, origin: str) -> None:
    answer = await client.options(CALL, headers={"Origin": origin, **PREFLIGHT})
    assert (await problem_of(answer))["code"] == "forbidden"
    assert answer.headers["Vary"] == "Origin"
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    answer = await show(client, headers={"X-Auth-Token": token(), "Origin": origin})
    assert (await problem_of(answer))["code"] == "unauthorized"
    assert answer.headers["Vary"] == "Origin"
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


async def test_without_an_origin_no_page_asks(client: Client) -> None:
    answer = await client.options(CALL, headers=PREFLIGHT)
    assert (await problem_of(answer))["code"] == "forbidden"


async def test_every_answer_can_be_read_by_the_page(client: Client) -> None:
    for answer in (
        await put(client),
        await put(client, rev=0),
        await show(client),
        await show(client, headers={"Origin": ORIGIN}),
        await show(client, "/widget/v1/calls/c2"),
        await show(client, "/widget/nothing"),
        await client.delete(CALL, headers=in_name_of()),
        await client.options(CALL, headers={"Origin": ORIGIN}),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Access-Control-Expose-Headers"] == "retry-after, x-request-id"
        assert answer.headers.getall("Vary") == ["Origin"]


async def test_other_addresses_are_for_no_page(client: Client) -> None:
    for path in ("/healthz", f"/voip/generic/{ACCOUNT}", "/"):
        answer = await client.get(path, headers={"Origin": ORIGIN})
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_mistake_of_ours_can_be_read_by_the_page(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(LedgerOfCalls, "accept", broken)
    answer = await put(client)
    assert (await problem_of(answer))["code"] == "internal"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


async def test_pages_are_known_while_the_configuration_is_read_again(
    client: Client, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.web.desk.WAIT_S", 0.01)
    await desk.clear()
    answer = await put(client)
    assert (await problem_of(answer))["code"] == "overloaded"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


async def test_pages_are_waited_for(
    client: Client, desk: Desk, database: Database, ledger: LedgerOfCalls, clock: ManualClock
) -> None:
    await desk.clear()
    headers = {"Origin": ORIGIN, **PREFLIGHT}
    waiting = asyncio.create_task(_status(client.options(CALL, headers=headers)))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    desk.put(services(database, ledger, clock))
    assert await waiting == 204


async def _status(request: Awaitable[ClientResponse]) -> int:
    return (await request).status


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
BODIES = st.binary(max_size=200) | st.dictionaries(st.sampled_from(list(RESULT)), JSON).map(
    lambda changes: json.dumps({**RESULT, **changes}).encode()
)
PIECES = ["a", "/", "%2F", "%25", "%", "%00", "%ff", "%C3%A9", "..", "{", "}", ":", "+", "result"]
PATHS = st.tuples(
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.sampled_from(["", "/result", "/skip", "/more"]),
).map("".join)


@given(
    st.sampled_from(["PUT", "POST", "GET", "DELETE", "OPTIONS"]),
    PATHS,
    BODIES,
    st.sampled_from(
        [in_name_of(), OTHER, {"Origin": "null"}, {**in_name_of(), "Access-Control-Request-Method": "x"}]
    ),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_nothing_that_is_sent_gives_a_5xx(
    client: Client, method: str, call: str, body: bytes, headers: Headers
) -> None:
    path = URL(f"/widget/v1/calls/{call}", encoded=True)
    answer = await client.request(method, path, data=None if method == "GET" else body, headers=headers)
    if answer.status not in (200, 204):
        assert 400 <= (await problem_of(answer))["status"] < 500
    elif answer.status == 200:
        assert cast(str, (await answer.json())["call_id"])
