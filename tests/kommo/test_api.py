"""What every way in which a request can go wrong comes out as."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses

from calllogd.errors import (
    AccountPaused,
    Gone,
    KommoError,
    NobodyHasNumber,
    OutcomeUnknown,
    PermanentError,
    TokenRefused,
    TransientError,
)
from calllogd.kommo.access import LongLived
from calllogd.kommo.api import Api, Reply
from calllogd.kommo.limiter import Limiter
from calllogd.sandbox import Fault, SandboxKommo

PHONE = "+12125550123"
TOKEN = "sandbox-token"
CALL = {
    "direction": "inbound",
    "duration": 1,
    "source": "s",
    "phone": PHONE,
    "uniq": "c1",
    "request_id": "c1",
}
VERBS = ["get", "patch", "create"]
Opener = Callable[..., Awaitable[Api]]
Raw = Callable[[bytes], Awaitable[str]]


async def nothing() -> None:
    return None


async def ask(api: Api, verb: str) -> Reply:
    match verb:
        case "get":
            return await api.get("api/v4/account")
        case "patch":
            return await api.patch("api/v4/contacts/notes/1", {"params": {"uniq": "c1"}})
        case _:
            return await api.create("api/v4/calls", [CALL], nothing)


async def error_of(api: Api, verb: str = "create") -> KommoError:
    with pytest.raises(KommoError) as raised:
        await ask(api, verb)
    return raised.value


@pytest.fixture
async def opener() -> AsyncIterator[Opener]:
    """Open an Api of some address."""
    opened: list[Api] = []

    async def open_api(
        url: str, *, token: str | None = TOKEN, limiter: Limiter | None = None, timeout_s: float = 5
    ) -> Api:
        limiters = [limiter or Limiter(0, monotonic=time.monotonic)]
        authentication = LongLived(url, token)
        api = Api(authentication=authentication, limiters=limiters, timeout_s=timeout_s, turn_s=1)
        await api.open()
        opened.append(api)
        return api

    yield open_api
    for api in opened:
        await api.close()


@pytest.fixture
async def raw() -> AsyncIterator[Raw]:
    """Serve these very bytes to every request, then hang up."""
    servers: list[asyncio.Server] = []

    async def serve(answer: bytes) -> str:
        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                pass  # the client has heard enough
            writer.close()

        server = await asyncio.start_server(one, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield serve
    for server in servers:
        server.close()
        await server.wait_closed()


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", "X-Request-Id: r-77", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture
async def api(kommo: SandboxKommo, opener: Opener) -> Api:
    return await opener(kommo.url)


Kinds = dict[str, type[KommoError]]
UNSURE: Kinds = {"get": TransientError, "patch": TransientError, "create": OutcomeUnknown}
NOT_DONE: Kinds = dict.fromkeys(VERBS, TransientError)
PAUSED: Kinds = dict.fromkeys(VERBS, AccountPaused)
NO_TOKEN: Kinds = dict.fromkeys(VERBS, TokenRefused)
REFUSED: Kinds = dict.fromkeys(VERBS, PermanentError)
NOT_KOMMO: Kinds = {"get": PermanentError, "patch": PermanentError, "create": AccountPaused}
NOT_THERE: Kinds = {"get": Gone, "patch": Gone, "create": AccountPaused}

TABLE: list[tuple[Fault, Kinds]] = [
    *((Fault("status_before", status=status), UNSURE) for status in (408, 500, 502, 503, 504, 599)),
    (Fault("status_before", status=502, body="<html>Bad Gateway"), UNSURE),
    (Fault("status_after"), UNSURE),
    (Fault("reset_before"), UNSURE),
    (Fault("reset_after"), UNSURE),
    (Fault("html"), UNSURE),
    (Fault("half_body"), UNSURE),
    (Fault("rate"), NOT_DONE),
    (Fault("rate", seconds=9), NOT_DONE),
    (Fault("rate", body="slow down"), NOT_DONE),
    (Fault("unauthorized"), NO_TOKEN),
    (Fault("unauthorized", body="<html>"), NO_TOKEN),
    (Fault("unpaid"), PAUSED),
    (Fault("forbidden"), PAUSED),
    *((Fault("status_before", status=status), REFUSED) for status in (400, 409, 415, 418, 422)),
    *((Fault("status_before", status=status, body="no JSON"), NOT_DONE) for status in (400, 422)),
    (Fault("status_before", status=404), NOT_THERE),
    (Fault("status_before", status=405), NOT_KOMMO),
    *((Fault("status_before", status=status), PAUSED) for status in (300, 301, 302, 304, 307, 308)),
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("fault", "kinds"), TABLE, ids=lambda it: str(it) if isinstance(it, Fault) else "")
async def test_what_each_fault_comes_out_as(
    kommo: SandboxKommo, api: Api, fault: Fault, kinds: Kinds, verb: str
) -> None:
    kommo.account(31337).add_contact("Kim", [PHONE])
    kommo.faults.add(fault)
    error = await error_of(api, verb)
    assert type(error) is kinds[verb]
    assert error.reason
    assert "sandbox-token" not in error.reason
    # aiohttp itself repeats a GET, and only a GET, once when its connection is reset.
    assert len(kommo.requests) == 1 + (verb == "get" and fault.kind.startswith("reset")), (
        "nothing is repeated"
    )
    if not fault.kind.startswith(("reset", "half")):
        assert error.request_id == kommo.requests[0].request_id


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after"])
async def test_an_answer_that_never_comes(kommo: SandboxKommo, opener: Opener, kind: str, verb: str) -> None:
    kommo.faults.add(Fault(kind))
    error = await error_of(await opener(kommo.url, timeout_s=0.1), verb)
    assert type(error) is UNSURE[verb]


async def test_an_answer(kommo: SandboxKommo, api: Api) -> None:
    reply = await api.get("api/v4/account")
    assert reply.body["id"] == 31337
    assert reply.request_id == kommo.requests[0].request_id


async def test_no_content_is_an_empty_answer(api: Api) -> None:
    assert (await api.get("api/v4/leads", [("page", "1"), ("limit", "5")])).body == {}


async def test_a_number_that_nobody_has_is_told_by_the_body(kommo: SandboxKommo, api: Api) -> None:
    error = await error_of(api)
    assert type(error) is NobodyHasNumber
    assert error.request_id == kommo.requests[0].request_id


async def test_another_400_is_a_refusal_in_kommos_own_words(kommo: SandboxKommo, api: Api) -> None:
    kommo.account(31337).add_contact("Kim", [PHONE])
    with pytest.raises(PermanentError, match=r"direction: .*choice"):
        await api.create("api/v4/calls", [{**CALL, "direction": "sideways"}], nothing)


@pytest.mark.parametrize(
    ("errors", "nobody"),
    [
        ([{"status": 263}], True),
        ([{"status": "263", "title": "Entity not found"}], True),
        ([{"status": 282}, {"status": 263}], True),
        ([{"status": 282}], False),
        ([{"title": "263"}], False),
        ([263], False),
        ({"status": 263}, False),
        ("263", False),
        (None, False),
    ],
)
async def test_only_errors_with_status_263_mean_that_nobody_has_the_number(
    opener: Opener, raw: Raw, errors: Any, *, nobody: bool
) -> None:
    body = json.dumps({"status": 400, "errors": errors}).encode()
    error = await error_of(await opener(await raw(answer(400, body))))
    assert isinstance(error, NobodyHasNumber) is nobody
    assert isinstance(error, PermanentError) is not nobody


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b"<html>", b"\xff\xfe", b"[" * 100_000, b'"263"']
)
async def test_an_answer_that_cannot_be_read(opener: Opener, raw: Raw, body: bytes) -> None:
    good = await opener(await raw(answer(200, body)))
    assert type(await error_of(good, "create")) is OutcomeUnknown
    assert type(await error_of(good, "get")) is TransientError
    bad = await opener(await raw(answer(400, body)))
    assert type(await error_of(bad, "create")) is TransientError


async def test_an_answer_larger_than_any_of_kommos(opener: Opener, raw: Raw) -> None:
    body = b'{"a": "' + b"x" * (5 * 1024 * 1024) + b'"}'
    error = await error_of(await opener(await raw(answer(200, body))))
    assert type(error) is OutcomeUnknown
    assert error.request_id == "r-77"


@pytest.mark.parametrize(
    "bad",
    [b"", b"HTTP/1.1 2", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}"],
)
async def test_a_conversation_that_breaks_off_leaves_doubt(opener: Opener, raw: Raw, bad: bytes) -> None:
    api = await opener(await raw(bad))
    assert type(await error_of(api, "create")) is OutcomeUnknown
    assert type(await error_of(api, "patch")) is TransientError


@pytest.mark.parametrize("status", [400, 422])
async def test_a_refusal_of_several_that_cannot_be_read_leaves_doubt(
    kommo: SandboxKommo, opener: Opener, raw: Raw, status: int
) -> None:
    """Kommo may have made some of them; of a single one the status says that it was not made."""
    for body, kind in (([CALL, CALL], OutcomeUnknown), ([CALL], TransientError)):
        api = await opener(await raw(answer(status, b'{"title": "Bad Req')))
        with pytest.raises(kind) as refused:
            await api.create("api/v4/calls", body, nothing)
        assert type(refused.value) is kind


async def test_a_redirect_is_not_followed(kommo: SandboxKommo, opener: Opener, raw: Raw) -> None:
    elsewhere = await raw(answer(307, b"", f"Location: {kommo.url}/api/v4/calls"))
    error = await error_of(await opener(elsewhere))
    assert type(error) is AccountPaused
    assert kommo.requests == [], "and nobody else gets to see the token"


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        (["Retry-After: 7"], b"", 7),
        (["Retry-After: 7"], b'{"retry_after": 9}', 9),
        ([], b'{"retry_after": "9.5"}', 9.5),
        ([], b"", 1),
        (["Retry-After: Wed, 21 Oct 2026 07:28:00 GMT"], b"", 1),
        (["Retry-After: -5"], b"", 1),
        (["Retry-After: 0"], b"", 1),
        (["Retry-After: inf"], b"", 1),
        (["Retry-After: nan"], b"", 1),
        (["Retry-After: 99999999"], b"", 3600),
        ([], b'{"retry_after": null}', 1),
        ([], b'{"retry_after": [5]}', 1),
    ],
)
async def test_a_429_shuts_the_gate_for_as_long_as_it_says(
    opener: Opener, raw: Raw, headers: list[str], body: bytes, seconds: float
) -> None:
    limiter = Limiter(7, monotonic=lambda: 100.0)
    api = await opener(await raw(answer(429, body, *headers)), limiter=limiter)
    error = await error_of(api, "get")
    assert isinstance(error, TransientError)
    assert error.retry_after_s == seconds
    assert limiter.shut_for_s == seconds


@pytest.mark.parametrize("verb", VERBS)
async def test_nobody_listens_there(opener: Opener, unused_tcp_port: int, verb: str) -> None:
    error = await error_of(await opener(f"http://127.0.0.1:{unused_tcp_port}"), verb)
    assert type(error) is TransientError
    assert "not reached" in error.reason


async def test_a_server_that_does_not_speak_tls_got_nothing(kommo: SandboxKommo, opener: Opener) -> None:
    error = await error_of(await opener(kommo.url.replace("http:", "https:")))
    assert type(error) is TransientError
    assert kommo.requests == []


@pytest.mark.parametrize(
    ("exception", "kind"),
    [
        (aiohttp.ConnectionTimeoutError("connect"), TransientError),
        (aiohttp.SocketTimeoutError("read"), OutcomeUnknown),
        (aiohttp.ServerDisconnectedError(), OutcomeUnknown),
        (aiohttp.ClientOSError(104, "reset"), OutcomeUnknown),
        (aiohttp.ClientPayloadError("half"), OutcomeUnknown),
        (TimeoutError(), OutcomeUnknown),
        (ConnectionResetError(), OutcomeUnknown),
        (OSError(113, "no route"), OutcomeUnknown),
    ],
    ids=lambda it: getattr(it, "__name__", repr(it)),
)
async def test_what_no_server_here_can_do(
    opener: Opener, exception: Exception, kind: type[KommoError]
) -> None:
    api = await opener("https://example.kommo.com")
    with aioresponses() as kommo:
        kommo.post("https://example.kommo.com/api/v4/calls", exception=exception)
        error = await error_of(api)
    assert type(error) is kind
    assert error.reason.strip(": ") not in {"", "no answer from Kommo"}


async def test_what_comes_before_a_request_is_done_when_it_is_its_turn_and_may_stop_it(
    kommo: SandboxKommo, api: Api
) -> None:
    order: list[str] = []

    async def intend() -> None:
        order.append(f"intent, {len(kommo.requests)} requests")

    async def refuse() -> None:
        raise ZeroDivisionError

    with pytest.raises(NobodyHasNumber):
        await api.create("api/v4/calls", [CALL], intend)
    assert order == ["intent, 0 requests"]
    with pytest.raises(ZeroDivisionError):
        await api.create("api/v4/calls", [CALL], refuse)
    assert len(kommo.requests) == 1


async def test_no_turn_means_no_intent_and_no_request(kommo: SandboxKommo, opener: Opener) -> None:
    limiter = Limiter(7, monotonic=time.monotonic)
    limiter.slow_down(60)
    api = await opener(kommo.url, limiter=limiter)

    async def intend() -> None:
        pytest.fail("there is no turn")

    with pytest.raises(TransientError):
        await api.create("api/v4/calls", [CALL], intend)
    assert kommo.requests == []


async def test_an_account_without_a_token_waits(kommo: SandboxKommo, opener: Opener) -> None:
    error = await error_of(await opener(kommo.url, token=None))
    assert type(error) is AccountPaused
    assert kommo.requests == []


async def test_a_wrong_token_pauses_and_is_not_told(kommo: SandboxKommo, opener: Opener) -> None:
    error = await error_of(await opener(kommo.url, token="an-old-token"))
    assert type(error) is TokenRefused
    assert "an-old-token" not in error.reason


async def test_a_closed_api_sends_nothing(kommo: SandboxKommo, api: Api) -> None:
    await api.close()
    await api.close()
    assert isinstance(await error_of(api), KommoError)
    assert kommo.requests == []


async def test_who_asks_is_told(opener: Opener) -> None:
    seen: list[bytes] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer(204))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    async with server:
        api = await opener(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await api.get(
            "api/v4/leads/notes", [("filter[note_type][]", "call_in"), ("filter[note_type][]", "call_out")]
        )
    head = seen[0].decode()
    assert "Authorization: Bearer sandbox-token\r\n" in head
    assert "User-Agent: calllogd/" in head
    assert head.startswith("GET /api/v4/leads/notes?filter")
    assert head.count("note_type") == 2
