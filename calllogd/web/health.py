"""For those who watch over the daemon: GET /healthz and /readyz."""

from aiohttp import web

from calllogd.errors import CalllogdError
from calllogd.web.desk import DESK_KEY
from calllogd.web.problems import problem


async def healthz(_request: web.Request) -> web.Response:
    """Tell that the process is alive."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """Tell whether the ledger and the queue can be used, after trying both."""
    try:
        with await request.app[DESK_KEY].services() as services:
            await services.ready()
    except CalllogdError as error:
        return problem("not_ready", str(error), headers={"Retry-After": "5"})
    return web.Response(text="ready\n")
