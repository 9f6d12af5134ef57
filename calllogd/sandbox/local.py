"""Control routes: for clients on the same machine only, every mistake told in JSON."""

import ipaddress
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

ControlHandler = Callable[[web.Request], Awaitable[web.Response]]


def guarded(handler: ControlHandler) -> ControlHandler:
    """The handler, with 403 for other machines, 400 for its ValueError, 404 for its LookupError."""

    async def serve(request: web.Request) -> web.Response:
        if request.remote is None or not ipaddress.ip_address(request.remote).is_loopback:
            raise web.HTTPForbidden(text="the sandbox is controlled from its own machine only")
        try:
            return await handler(request)
        except ValueError as exc:
            return web.json_response({"error": str(exc)}, status=400)
        except LookupError as exc:
            return web.json_response({"error": f"no such thing: {exc}"}, status=404)

    return serve


async def object_in(request: web.Request) -> dict[str, Any]:
    """The body as one JSON object. Raises ValueError for anything else."""
    body = json.loads(await request.read())
    if not isinstance(body, dict):
        raise ValueError("the body is an object")  # noqa: TRY004 - answered as every other bad body
    return body
