"""Bytes that are not quite HTTP: no 5xx, no smuggled request, and the daemon goes on."""

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator

import pytest

from calllogd.console import serve
from calllogd.web.desk import Desk
from tests.faults.machine import ACCOUNT, VOIP_TOKEN
from tests.target import Target, fresh, target

VOIP = f"/voip/generic/{ACCOUNT}".encode()
TOKEN = f"Authorization: Bearer {VOIP_TOKEN}{ACCOUNT}\r\n".encode()
HOST = b"Host: calls.example.com\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
"""Follows what is tried: whatever closes the connection before does not answer it."""

ALIVE = b"ok\n"

BROKEN = {
    "no request": b"\r\n\r\n\r\nhello\r\n\r\n",
    "no version": b"GET /healthz\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version of the future": b"GET /healthz HTTP/9.9\r\n" + HOST + b"\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + bytes(160) + b"\r\n\r\n",
    "spaces in the line": b"GET  /healthz   HTTP/1.1\r\n" + HOST + b"\r\n",
    "control character in the address": b"GET /health\x01z HTTP/1.1\r\n" + HOST + b"\r\n",
    "bytes that are no text in the address": b"GET /\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
    "huge address": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "huge header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 10_000 + b"\r\n",
    "NUL in a header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n",
    "NUL in a name": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X\x00Y: a\r\n\r\n",
    "bare CR in a header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\rY: b\r\n\r\n",
    "space before the colon": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n",
    "space in a name": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X Y: a\r\n\r\n",
    "no name": b"GET /healthz HTTP/1.1\r\n" + HOST + b": a\r\n\r\n",
    "no colon": b"GET /healthz HTTP/1.1\r\n" + HOST + b"hello\r\n\r\n",
    "continued header": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "odd host": b"GET /healthz HTTP/1.1\r\nHost: [::1]]:x:%00@evil\r\n\r\n",
    "upgrade": b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + HOST + b"\r\n",
    "trace": b"TRACE /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "address of another machine": b"GET http://evil.example/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "odd cookie": b"GET / HTTP/1.1\r\n" + HOST + b'Cookie: a="\\999\\x; ;;=; \xff=\xfe; calllogd=\r\n\r\n',
    "odd content type": b"POST "
    + VOIP
    + b" HTTP/1.1\r\n"
    + HOST
    + TOKEN
    + b"Content-Type: \xff;;charset=\x80\r\nContent-Length: 2\r\n\r\n{}",
    "odd charset": b"POST /login HTTP/1.1\r\n"
    + HOST
    + b"Content-Type: application/x-www-form-urlencoded; charset=rot13\r\nContent-Length: 7\r\n\r\ntoken=a",
    "odd conditions": b"GET /recordings/1abc HTTP/1.1\r\n"
    + HOST
    + b"If-None-Match: ,,\x80\r\nRange: bytes=9-1,--\r\n"
    + b"If-Modified-Since: Mon, 99 Foo 99999 99:99:99 GMT\r\n\r\n",
}

HIDDEN = b"POST /voip/generic/%d HTTP/1.1\r\n%b%bContent-Length: %d\r\nConnection: close\r\n\r\n%b"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("raw")) as here:
        yield here


@pytest.fixture(autouse=True)
def _goes_on(here: Target) -> Iterator[None]:
    """The daemon serves, and nothing has come into the ledger but what a test expects."""
    yield
    here.is_well()


def statuses(received: bytes) -> list[int]:
    """Return the statuses of all answers that came."""
    return [
        int(status)
        for status in re.findall(rb"(?:^|\r\n\r\n.*?)HTTP/1\.[01] ([0-9]{3})", received, re.DOTALL)
    ]


def event(call_id: str) -> bytes:
    """Return a message that would be taken."""
    said = {"event": "call.ended", "call_id": call_id, "direction": "inbound", "phone": "+12125550100"}
    return json.dumps({**said, "duration": 1, "status": "answered"}).encode()


def hidden(call_id: str) -> bytes:
    """Return a whole request that would be taken, to be hidden in another one's body."""
    body = event(call_id)
    return HIDDEN % (ACCOUNT, HOST, TOKEN, len(body), body)


def is_known(here: Target, call_id: str) -> bool:
    return here.ask("GET", f"/widget/v1/calls/{call_id}", here.widget()).status == 200


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_quite_http_gives_no_5xx(here: Target, name: str) -> None:
    before = here.counts()
    received = here.raw(BROKEN[name] + LAST)
    assert received, "whoever sends nonsense is told so"
    assert max(statuses(received)) < 500, received
    assert here.counts() == before


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 5_0\r\n",
        b"Content-Length: \xb2\r\n",
        b"Content-Length: 99999999999999999999999999\r\n",
        b"Content-Length : 5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: chunked\r\n X: y\r\n",
    ],
)
def test_a_body_whose_end_is_in_dispute_hides_no_request(here: Target, framing: bytes) -> None:
    call_id = fresh("smuggled")
    head = b"POST " + VOIP + b" HTTP/1.1\r\n" + HOST + TOKEN + framing + b"\r\n"
    # Read as chunks this is an empty body and then a request; read by its length it is neither.
    with contextlib.suppress(TimeoutError):
        received = here.raw(head + b"0\r\n\r\n" + hidden(call_id), within_s=0.7)
        assert received
        assert max(statuses(received)) < 500, received
    assert not is_known(here, call_id), "the hidden request was carried out"


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"-1\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n",
        b"3\r\nabcdef\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nabc\r\n",
        b"\r\n\r\n",
    ],
)
def test_bad_chunks_hide_no_request(here: Target, chunks: bytes) -> None:
    call_id = fresh("chunked")
    head = b"POST " + VOIP + b" HTTP/1.1\r\n" + HOST + TOKEN + b"Transfer-Encoding: chunked\r\n\r\n"
    with contextlib.suppress(TimeoutError):
        received = here.raw(head + chunks + hidden(call_id), within_s=0.7)
        assert received
        assert max(statuses(received)) < 500, received
    assert not is_known(here, call_id)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        (b"POST", VOIP, b"Content-Encoding: gzip\r\n" + TOKEN),
        (b"POST", b"/voip/other/1", TOKEN),
        (b"PUT", VOIP + b"/recordings/a", b"Content-Type: audio/wav\r\n"),
        (b"PUT", VOIP + b"/recordings/a", b"Content-Type: text/plain\r\n" + TOKEN),
        (b"POST", b"/kommo/31337/wrong", b""),
        (b"POST", b"/nothing", b""),
        (b"DELETE", VOIP, b""),
        (b"GET", b"/healthz", b""),
    ],
)
def test_a_request_in_the_body_of_a_refused_one_is_not_carried_out(
    here: Target, method: bytes, path: bytes, headers: bytes
) -> None:
    """The body was never read: it must be passed over, or the connection closed, before anything follows."""
    call_id = fresh("hidden")
    inner = hidden(call_id)
    head = method + b" " + path + b" HTTP/1.1\r\n" + HOST + headers
    received = here.raw(head + b"Content-Length: %d\r\n\r\n" % len(inner) + inner + LAST)
    answers = statuses(received)
    assert len(answers) <= 2
    assert max(answers) < 500
    assert not is_known(here, call_id)


def test_the_same_request_alone_is_carried_out(here: Target) -> None:
    call_id = fresh("alone")
    assert statuses(here.raw(hidden(call_id))) == [202]
    assert is_known(here, call_id)


def test_a_body_that_is_too_large_is_not_waited_for(here: Target) -> None:
    head = b"POST " + VOIP + b" HTTP/1.1\r\n" + HOST + TOKEN + b"Content-Length: 999999999\r\n\r\n"
    started = time.monotonic()
    with socket.create_connection(here.address, timeout=5) as connection:
        connection.sendall(head + b"a" * 70_000)
        assert statuses(connection.recv(65536)) == [413]
    assert time.monotonic() - started < 5


def test_hundreds_who_dawdle_keep_nobody_else_out(here: Target) -> None:
    with contextlib.ExitStack() as opened:
        for number in range(300):
            connection = opened.enter_context(socket.create_connection(here.address, timeout=5))
            # A third sends nothing, a third half a head, a third half a body.
            head = b"POST " + VOIP + b" HTTP/1.1\r\n" + HOST + TOKEN
            pieces = (b"", head, head + b"Content-Length: 50\r\n\r\n{")
            connection.sendall(pieces[number % 3])
        started = time.monotonic()
        assert here.report(fresh("patient")).status == 202
        assert time.monotonic() - started < 3


def test_a_sender_who_leaves_in_the_middle_of_a_body_is_no_mistake_of_ours(here: Target) -> None:
    head = b" HTTP/1.1\r\n" + HOST + b"Content-Length: 50\r\n\r\n{"
    for path in (
        b"POST " + VOIP,
        b"PUT /widget/v1/calls/a/result",
        b"POST /login",
        b"POST /widget/v1/session",
    ):
        with socket.create_connection(here.address, timeout=5) as connection:
            connection.sendall(path + head)
    # `_goes_on` looks into the log, to which the daemon has written by the time it answers.
    assert here.ask("GET", "/healthz").status == 200


def test_a_body_that_comes_a_byte_at_a_time_is_cut_off(here: Target) -> None:
    head = b"POST " + VOIP + b" HTTP/1.1\r\n" + HOST + TOKEN + b"Content-Length: 60000\r\n\r\n"
    with socket.create_connection(here.address, timeout=0.5) as connection:
        connection.sendall(head)
        started, received = time.monotonic(), b""
        while not received:
            assert time.monotonic() - started < 15, "the body may take ten seconds"
            with contextlib.suppress(ConnectionError):
                connection.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                received = connection.recv(65536)
    assert statuses(received) == [408]
    assert time.monotonic() - started > 9


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nHost", LAST.replace(b"close", b"keep-alive")]
)
async def test_a_connection_that_brings_no_request_is_closed(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "IDLE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        runner = await serve._listen(Desk(), listening)
        try:
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(sent)
            async with asyncio.timeout(5):
                received = await reader.read()
            writer.close()
        finally:
            await runner.cleanup()
    assert statuses(received) == ([200] if b"keep-alive" in sent else [])
