"""News of a user's calls as they happen: GET /widget/v1/events, server-sent events.

Source: html.spec.whatwg.org, server-sent events; reference/widget.md 3.5. A stream holds nothing of the desk
while it waits, so that it does not keep the services from being exchanged.
"""

import asyncio
import contextlib
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from calllogd.errors import InputRefused
from calllogd.ports import Clock
from calllogd.voip.widget import WidgetUser
from calllogd.web.desk import DESK_KEY, Desk
from calllogd.web.feed import Happening, News, Stream
from calllogd.web.services import Services
from calllogd.web.widget import place_of, reason
from calllogd.web.widget_door import door_of, must_be_active, widget_of

BEAT_S = 15.0
"""A stream is never silent for longer: else nobody could tell it from a dead one."""

LAST_S = 900.0
"""How long a stream goes on after its ticket has expired."""

WRITE_S = 10.0
"""How long a browser may take in nothing of what has been sent."""

_GREETING = b"retry: 3000\n: calllogd\n\n"
_BEAT = b":\n\n"
_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_WITH_REASON = (Happening.LOGGED, Happening.FAILED, Happening.WAITING)

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Watcher:
    """Who watches, until Unix second `until`; `last_id` is that of the event he was sent last."""

    user: WidgetUser
    until: float
    clock: Clock
    last_id: int = 0

    def next_id(self) -> int:
        """Return a number that grows, also from one stream to the next: it begins as the time."""
        self.last_id = max(self.last_id + 1, int(self.clock.now() * 1000))
        return self.last_id


async def stream_events(request: web.Request) -> web.StreamResponse:
    """Send news of the user's calls until the stream is over; 429 when he has too many of them."""
    desk = request.app[DESK_KEY]
    with ExitStack() as opened:
        with await desk.services() as services:
            watcher = _admitted(request, services)
            feed = door_of(widget_of(services)).feed
            stream = opened.enter_context(feed.stream(watcher.user.account_id, watcher.user.user_id))
        return await _sent(request, desk, watcher, stream)


async def end_streams(app: web.Application) -> None:
    """Let the streams go when the server stops: it would wait for them."""
    widget = app[DESK_KEY].widget
    if widget is not None and widget.door is not None:
        widget.door.feed.close()


def _admitted(request: web.Request, services: Services) -> _Watcher:
    """Return whose stream it is, by the ticket and the page; raises InputRefused."""
    widget = widget_of(services)
    door = door_of(widget)
    ticket = door.tickets.read(request.query.getall("ticket", []))
    origin = widget.tokens.origin(ticket.account_id, request.headers.getall("Origin", []))
    if services.limits is not None:
        services.limits.admit_account(ticket.account_id)
    user = WidgetUser(ticket.account_id, ticket.user_id, origin)
    must_be_active(door, user)
    return _Watcher(user, ticket.expires_at + LAST_S, door.clock)


async def _sent(request: web.Request, desk: Desk, watcher: _Watcher, stream: Stream) -> web.StreamResponse:
    response = web.StreamResponse(headers=_HEADERS)
    try:
        await response.prepare(request)
        await _write(response, _GREETING)
        while True:
            news = await stream.take(BEAT_S)
            if stream.closed or not _may_go_on(desk, watcher):
                break
            await _write(response, b"".join(_event(one, watcher) for one in news) or _BEAT)
    except TimeoutError:
        # Else the answer's end would wait as long again.
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass  # the browser has gone
    return response


def _may_go_on(desk: Desk, watcher: _Watcher) -> bool:
    """Tell whether a stream would be opened still, but for its ticket, which may be older."""
    widget, user = desk.widget, watcher.user
    if widget is None or widget.door is None or watcher.clock.now() >= watcher.until:
        return False
    with contextlib.suppress(InputRefused):
        must_be_active(widget.door, user)
        return widget.tokens.serves(user.account_id, user.origin)
    return False


async def _write(response: web.StreamResponse, frames: bytes) -> None:
    async with asyncio.timeout(WRITE_S):
        await response.write(frames)


def _event(news: News, watcher: _Watcher) -> bytes:
    call = news.call
    told: dict[str, Any] = {"call_id": call.key.call_id, "state": call.state}
    if call.entry is not None:
        told["entity"] = place_of(call.entry.entity, watcher.user)
    if news.happening in _WITH_REASON:
        told["reason"] = reason(call)
    head = f"id: {watcher.next_id()}\nevent: {news.happening.value}\ndata: "
    return head.encode() + _encode(told) + b"\n\n"
