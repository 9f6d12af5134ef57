"""How each kind of fault looks on the wire."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from calllogd.sandbox.api import FORBIDDEN, UNAUTHORIZED, Answer, problem
from calllogd.sandbox.faults import Fault, FaultKind

UNPAID: Final = 402
TOO_MANY: Final = 429
SERVER_ERROR: Final = 500
TITLES: Final = {
    UNAUTHORIZED: ("Unauthorized", "The access token is unknown, expired or revoked"),
    UNPAID: ("Payment Required", "The account is not paid for"),
    TOO_MANY: ("Too Many Requests", "Too many requests in a second"),
    SERVER_ERROR: ("ErrInternalServer", "Something went wrong"),
}
HTML_PAGE: Final = (
    "<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
)
# l_onoff 1, l_linger 0: closing sends a reset instead of what is left to send.
LINGER_NOT: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request on its way, and what can be done about it."""

    request: web.Request
    fault: Fault
    commit: Callable[[], Answer]
    """Do what was asked; to be called once at most."""
    commit_later: Callable[[float], None]
    """Do it that many seconds later, whether or not anybody waits for it."""
    stopping: asyncio.Event
    headers: Mapping[str, str]


Delivery = Callable[[Exchange], Awaitable[web.StreamResponse]]


def error(status: int, **more: float) -> Answer:
    """An error that comes from the gate rather than from the rules."""
    title, detail = TITLES.get(status, ("Error", "Something went wrong"))
    return problem(status, title, detail, **more)


def response(answer: Answer, headers: Mapping[str, str]) -> web.Response:
    """The answer as it goes out."""
    more = {**headers, **answer.headers}
    if answer.body is None:
        return web.Response(status=answer.status, headers=more)
    return web.Response(
        status=answer.status, body=answer.encoded(), headers={**more, "Content-Type": answer.content_type}
    )


def abort(request: web.Request) -> web.StreamResponse:
    """Reset the connection; what is returned reaches nobody."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        transport.abort()
    return web.Response()


async def _hold(it: Exchange) -> web.StreamResponse:
    # The server is set to cancel handlers whose client has gone; else the end of the server ends the wait.
    await it.stopping.wait()
    return abort(it.request)


async def _timeout_after(it: Exchange) -> web.StreamResponse:
    it.commit()
    return await _hold(it)


async def _late_commit(it: Exchange) -> web.StreamResponse:
    it.commit_later(it.fault.seconds or 0.0)
    return await _hold(it)


async def _reset_before(it: Exchange) -> web.StreamResponse:
    return abort(it.request)


async def _reset_after(it: Exchange) -> web.StreamResponse:
    it.commit()
    return abort(it.request)


def _error_response(it: Exchange, status: int, **more: float) -> web.Response:
    if it.fault.body is not None:
        return web.Response(status=status, text=it.fault.body, headers=it.headers)
    return response(error(status, **more), it.headers)


async def _status_before(it: Exchange) -> web.StreamResponse:
    return _error_response(it, it.fault.status or SERVER_ERROR)


async def _status_after(it: Exchange) -> web.StreamResponse:
    it.commit()
    return _error_response(it, it.fault.status or SERVER_ERROR)


async def _rate(it: Exchange) -> web.StreamResponse:
    more = {} if it.fault.seconds is None else {"retry_after": it.fault.seconds}
    return _error_response(it, TOO_MANY, **more)


async def _unauthorized(it: Exchange) -> web.StreamResponse:
    return _error_response(it, UNAUTHORIZED)


async def _unpaid(it: Exchange) -> web.StreamResponse:
    return _error_response(it, UNPAID)


def _page(it: Exchange, status: int, title: str) -> web.Response:
    text = HTML_PAGE.format(title=title)
    return web.Response(status=status, text=text, content_type="text/html", headers=it.headers)


async def _forbidden(it: Exchange) -> web.StreamResponse:
    return _page(it, FORBIDDEN, "403 Forbidden")


async def _html(it: Exchange) -> web.StreamResponse:
    it.commit()
    return _page(it, 200, "Just a moment...")


async def _half_body(it: Exchange) -> web.StreamResponse:
    answer = it.commit()
    # An answer without a body is given one, or there would be nothing to halve.
    whole = answer.encoded() or json.dumps({"_embedded": {}}).encode()
    headers = {**it.headers, "Content-Type": answer.content_type, "Content-Length": str(len(whole))}
    half = web.StreamResponse(status=answer.status if answer.body else 200, headers=headers)
    await half.prepare(it.request)
    await half.write(whole[: len(whole) // 2])
    if it.request.transport is not None:
        it.request.transport.close()
    return half


async def _slow(it: Exchange) -> web.StreamResponse:
    answer = it.commit()
    await asyncio.sleep(it.fault.seconds or 0.0)
    return response(answer, it.headers)


DELIVERIES: Final[Mapping[FaultKind, Delivery]] = {
    FaultKind.TIMEOUT_AFTER: _timeout_after,
    FaultKind.TIMEOUT_BEFORE: _hold,
    FaultKind.LATE_COMMIT: _late_commit,
    FaultKind.RESET_BEFORE: _reset_before,
    FaultKind.RESET_AFTER: _reset_after,
    FaultKind.STATUS_BEFORE: _status_before,
    FaultKind.STATUS_AFTER: _status_after,
    FaultKind.RATE: _rate,
    FaultKind.UNAUTHORIZED: _unauthorized,
    FaultKind.UNPAID: _unpaid,
    FaultKind.FORBIDDEN: _forbidden,
    FaultKind.HTML: _html,
    FaultKind.HALF_BODY: _half_body,
    FaultKind.SLOW: _slow,
}
