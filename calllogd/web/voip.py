"""Where a webhook becomes a row: POST /voip/{provider}/{account_id}."""

import msgspec
from aiohttp import web

from calllogd.errors import InputRefused
from calllogd.web.body import read_body
from calllogd.web.desk import DESK_KEY
from calllogd.web.limits import LimitedProvider

PROVIDERS = frozenset({"generic"})
"""Names of the VoIP services that have an address."""

_encode = msgspec.json.Encoder().encode


async def receive_event(request: web.Request) -> web.Response:
    """Store an event of a VoIP service; 202 once it is on disk."""
    name, account_id = request.match_info["provider"], request.match_info["account_id"]
    if name not in PROVIDERS:
        raise InputRefused("not_found", "there is no such VoIP service")
    body = await read_body(request)
    with await request.app[DESK_KEY].services() as services:
        provider = services.providers.get((name, account_id))
        if provider is None:
            # The same as for a wrong token: nobody learns which accounts there are.
            raise InputRefused("unauthorized", "the account's bearer token or signature is needed")
        if services.limits is not None:
            provider = LimitedProvider(provider, services.limits, int(account_id))
        key, accepted = await services.save_call_event.execute(
            f"voip:{name}", provider, request.headers, body
        )
    answer = {"call_id": key.call_id, "state": accepted.state, "duplicate": accepted.duplicate}
    return web.Response(status=202, body=_encode(answer), content_type="application/json")
