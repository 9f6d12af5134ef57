"""Recordings over HTTP: VoIP services upload them, players read them by their links, also in ranges."""

import asyncio
import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from calllogd.domain.call import CallKey, RecordingState
from calllogd.errors import InputRefused, StorageError
from calllogd.recordings.store import Found, Reading
from calllogd.web.desk import DESK_KEY
from calllogd.web.problems import problem
from calllogd.web.services import RecordingServices, Services
from calllogd.web.webhook import webhook_of

UPLOAD_S = 600.0
"""How long an upload may take."""

SILENCE_S = 30.0
"""How long a sender may send, or a player may take, nothing."""

SEND_BYTES = 64 * 1024

_RANGE = re.compile("bytes=([0-9]{0,30})-([0-9]{0,30})", re.IGNORECASE)
_HEADERS = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private",
    "Content-Disposition": "inline",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range, ETag",
}
"""The widget plays recordings from Kommo's pages; who has the link may listen, from wherever."""

_encode = msgspec.json.Encoder().encode


class Span(NamedTuple):
    """Bytes of a file, from `start` up to but not including `end`."""

    start: int
    end: int


async def receive_recording(request: web.Request) -> web.Response:
    """Keep a recording that a VoIP service uploads; 201, or 200 for a further one, once it is on disk."""
    name, account_id = request.match_info["provider"], request.match_info["account_id"]
    with await request.app[DESK_KEY].services() as services:
        recordings = _of(services)
        key = recordings.save.admit(
            services.providers.get((name, account_id)),
            webhook_of(request, b"", services),
            account_id,
            request.match_info["call_id"],
        )
        if services.limits is not None:
            services.limits.admit_account(key.account_id)
        store = recordings.store
    # Nothing of the desk is held meanwhile: an upload takes minutes, and a reload waits for those who do.
    _check_body(request, store.max_bytes)
    media_type = await store.receive(key, _chunks(request), media_type=request.content_type)
    with await request.app[DESK_KEY].services() as services:
        state, recording, new = await _of(services).save.execute(f"voip:{name}", key, media_type)
    answer = {"call_id": key.call_id, "state": state, "recording": recording}
    status = HTTPStatus.CREATED if new else HTTPStatus.OK
    return web.Response(status=status, body=_encode(answer), content_type="application/json")


async def play_recording(request: web.Request) -> web.StreamResponse:
    """Give out the recording of a link, or the range of it that is asked for."""
    with await request.app[DESK_KEY].services() as services:
        recordings = _of(services)
        key = recordings.links.key_of(request.match_info["token"])
        await _must_be_ready(services, key)
        store = recordings.store
    async with store.reading(key) as reading:
        if reading is None:
            raise _nothing()
        return await _give_out(request, reading)


def _of(services: Services) -> RecordingServices:
    if services.recordings is None:
        raise _nothing()
    return services.recordings


async def _must_be_ready(services: Services, key: CallKey) -> None:
    call = await _of(services).calls.get(key)
    if call is None or call.recording.state is not RecordingState.READY:
        raise _nothing()


def _nothing() -> InputRefused:
    return InputRefused("not_found", "there is no such recording")


def _check_body(request: web.Request, max_bytes: int) -> None:
    """Raise InputRefused for a body that will not be taken, before it comes."""
    if "Content-Encoding" in request.headers:
        raise InputRefused("bad_request", "a compressed body is not taken")
    if not request.content_type.startswith("audio/"):
        raise InputRefused("unsupported_media", "the Content-Type should be audio/…")
    if (request.content_length or 0) > max_bytes:
        raise InputRefused("too_large", f"a recording may have {max_bytes} bytes")


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    """Return the body as it comes; raises InputRefused when it comes too slowly or not to its end."""
    until = asyncio.get_running_loop().time() + UPLOAD_S
    while True:
        try:
            async with asyncio.timeout_at(min(until, asyncio.get_running_loop().time() + SILENCE_S)):
                chunk = await request.content.readany()
        except TimeoutError:
            raise InputRefused("slow", "the recording does not come in time") from None
        except (ClientError, HttpProcessingError, ConnectionError) as error:
            raise InputRefused("bad_request", "the recording did not come to its end") from error
        if not chunk:
            return
        yield chunk


async def _give_out(request: web.Request, reading: Reading) -> web.StreamResponse:
    """Answer a request for a recording that is there."""
    found = reading.found
    if _has_changed(request, found):
        return problem("changed", "there is a newer recording", headers=_CORS)
    headers = {
        **_HEADERS,
        **_CORS,
        "Content-Type": found.media_type,
        "ETag": f'"{found.tag}"',
        "Last-Modified": formatdate(found.modified_at, usegmt=True),
    }
    if _is_known(request, found):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    asked = _asked(request, found)
    if asked is not None and asked.start >= asked.end:
        there = {**_CORS, "Content-Range": f"bytes */{found.size}"}
        return problem("unsatisfiable", f"the recording has {found.size} bytes", headers=there)
    response = web.StreamResponse(headers=headers)
    if asked is not None:
        response.set_status(HTTPStatus.PARTIAL_CONTENT)
        response.headers["Content-Range"] = f"bytes {asked.start}-{asked.end - 1}/{found.size}"
    span = asked or Span(0, found.size)
    response.content_length = span.end - span.start
    await response.prepare(request)
    if request.method != "HEAD":
        await _send(request, response, reading, span)
    return response


async def _send(request: web.Request, response: web.StreamResponse, reading: Reading, span: Span) -> None:
    """Send a part of the recording; the connection is cut when that cannot be done to the end."""
    try:
        for start in range(span.start, span.end, SEND_BYTES):
            piece = await reading.read(start, min(SEND_BYTES, span.end - start))
            async with asyncio.timeout(SILENCE_S):
                await response.write(piece)
    except (TimeoutError, ConnectionError, StorageError):
        # The head has been sent, so nothing but a cut can tell the player that this is not the end.
        if request.transport is not None:
            request.transport.abort()


def _has_changed(request: web.Request, found: Found) -> bool:
    """Tell whether the sender wants no other file than one that is there no longer (RFC 9110, 13.1)."""
    if request.if_match is not None:
        return not any(tag.value in (found.tag, "*") for tag in request.if_match if not tag.is_weak)
    since = request.if_unmodified_since
    return since is not None and int(found.modified_at) > since.timestamp()


def _is_known(request: web.Request, found: Found) -> bool:
    """Tell whether the sender has this file already."""
    if request.if_none_match is not None:
        return any(tag.value in (found.tag, "*") for tag in request.if_none_match)
    since = request.if_modified_since
    return since is not None and int(found.modified_at) <= since.timestamp()


def _asked(request: web.Request, found: Found) -> Span | None:
    """Return the range that is asked for, an empty one if it is not there; None for the whole recording.

    Ranges are for GET alone; several at once, and what cannot be read, are passed over, as RFC 9110 (14.2)
    allows: who asks for them is given everything.
    """
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    if match is None or request.method != "GET" or not _is_still(request.headers.get("If-Range"), found):
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1, found.size) if last else found.size
        return None if last and int(last) < start else Span(start, end)
    return Span(max(0, found.size - int(last)), found.size) if last else None


def _is_still(condition: str | None, found: Found) -> bool:
    """Tell whether a range may be given to who has a part already: of this very file, or of any."""
    return condition is None or condition in (
        f'"{found.tag}"',
        formatdate(found.modified_at, usegmt=True),
    )
