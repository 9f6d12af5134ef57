"""Which pages may ask the widget's addresses, and read the answers: those of the configured Kommo accounts.

Without these headers on every answer, errors included, the widget would see no answer at all. Preflights
carry no token. Source: reference/widget.md 3.4, and fetch.spec.whatwg.org.
"""

from http import HTTPStatus

from aiohttp import web

from calllogd.web.desk import DESK_KEY
from calllogd.web.problems import Handler, problem

_ANSWER = {"Access-Control-Expose-Headers": "retry-after, x-request-id"}
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, OPTIONS",
    "Access-Control-Allow-Headers": "content-type, x-auth-token, idempotency-key, last-event-id",
    "Access-Control-Max-Age": "600",
}


@web.middleware
async def cors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer preflights; `add_headers` sees to all other answers."""
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return await handler(request)
    with await request.app[DESK_KEY].services():
        if _known_origin(request) is None:
            return problem("forbidden", "this page does not belong to a configured Kommo account")
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=_PREFLIGHT)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put the headers on an answer, of whatever kind, right before it is sent."""
    # Also where the origin is refused: a cache must not give one page what another was answered.
    response.headers["Vary"] = "Origin"
    origin = _known_origin(request)
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers.update(_ANSWER)


def _known_origin(request: web.Request) -> str | None:
    shown = request.headers.getall("Origin", [])
    known = len(shown) == 1 and shown[0] in request.app[DESK_KEY].origins
    return shown[0] if known else None
