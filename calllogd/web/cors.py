"""Which pages may ask the widget's addresses, and read the answers: those of the configured Kommo accounts.

Without these headers on every answer, errors included, the widget would see no answer at all. Preflights
carry no token. Source: reference/widget.md 3.4, and fetch.spec.whatwg.org.
"""

from http import HTTPStatus

from aiohttp import web

from calllogd.web.desk import DESK_KEY
from calllogd.web.problems import Handler, problem

PREFIX = "/widget/"

_HEADERS = "cors"
_ANSWER = {"Access-Control-Expose-Headers": "retry-after, x-request-id"}
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, OPTIONS",
    "Access-Control-Allow-Headers": "content-type, x-auth-token, idempotency-key, last-event-id",
    "Access-Control-Max-Age": "600",
}


@web.middleware
async def cors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer preflights, and note what `add_headers` is to put on any other answer."""
    if not request.path.startswith(PREFIX):
        return await handler(request)
    # Also where the origin is refused: a cache must not give one page what another was answered.
    request[_HEADERS] = {"Vary": "Origin"}
    shown = request.headers.getall("Origin", [])
    known = len(shown) == 1 and shown[0] in await request.app[DESK_KEY].origins()
    if known:
        request[_HEADERS] = {"Access-Control-Allow-Origin": shown[0], **_ANSWER, "Vary": "Origin"}
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return await handler(request)
    if not known:
        return problem("forbidden", "this page does not belong to a configured Kommo account")
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=_PREFLIGHT)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put the headers on an answer, of whatever kind, right before it is sent."""
    response.headers.update(request.get(_HEADERS, {}))
