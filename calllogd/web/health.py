"""For those who watch over the daemon: GET /healthz and /readyz."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from calllogd.errors import CalllogdError
from calllogd.web.problems import problem

Ready = Callable[[], Awaitable[None]]
"""Raises a CalllogdError when calllogd cannot work."""

READY_KEY: web.AppKey[Ready] = web.AppKey("READY_KEY")


async def healthz(_request: web.Request) -> web.Response:
    """Tell that the process is alive."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """Tell whether the ledger and the queue can be used, after trying both."""
    try:
        await request.app[READY_KEY]()
    except CalllogdError as error:
        return problem("not_ready", str(error), headers={"Retry-After": "5"})
    return web.Response(text="ready\n")
