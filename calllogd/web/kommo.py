"""Where Kommo tells of what has changed in an account: POST /kommo/{account_id}/{secret}."""

import asyncio

from aiohttp import web

from calllogd.errors import InputRefused, Overloaded
from calllogd.kommo.webhook import parse
from calllogd.web.body import read_body
from calllogd.web.desk import DESK_KEY, RETRY_S
from calllogd.web.services import KommoServices, Services

BODY_BYTES = 1024 * 1024
BODY_S = 1.0
ANSWER_S = 1.5
"""Kommo waits two seconds, and shuts off an address that is late too often. Source: its webhook guide."""


async def hear_kommo(request: web.Request) -> web.Response:
    """Store what Kommo tells; 200 once it is on disk. Kommo comes again after a 503."""
    try:
        async with asyncio.timeout(ANSWER_S):
            await _hear(request)
    except TimeoutError:
        raise Overloaded(RETRY_S) from None
    return web.Response(text="ok\n")


async def _hear(request: web.Request) -> None:
    desk = request.app[DESK_KEY]
    with await desk.services() as services:
        _, account_id = _let_in(request, services)
        if services.limits is not None:
            services.limits.admit_account(account_id)
    # Only now: who does not know the secret makes us read nothing.
    news = parse(await read_body(request.clone(client_max_size=BODY_BYTES), within_s=BODY_S))
    if not news:
        return
    with await desk.services() as services:
        kommo, account_id = _let_in(request, services)
        await kommo.hear.execute(account_id, news)


def _let_in(request: web.Request, services: Services) -> tuple[KommoServices, int]:
    """Return what serves Kommo, and the account of the address; raises InputRefused."""
    address = request.match_info
    if services.kommo is not None:
        account_id = services.kommo.secrets.account_of(address["account_id"], address["secret"])
        if account_id is not None:
            return services.kommo, account_id
    raise InputRefused("not_found", "there is nothing at this address")
