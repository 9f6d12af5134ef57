"""A request as VoIP services' modules see it."""

from aiohttp import web

from calllogd.voip.webhook import Webhook
from calllogd.web.client_address import client_address
from calllogd.web.services import Services

_BEHIND = 4
"""Slashes before what stands behind the account's id: /voip/{provider}/{account_id}/…"""


def webhook_of(request: web.Request, body: bytes, services: Services) -> Webhook:
    """Return a request to an address of a VoIP service, under the address that the service has called."""
    path, query = request.rel_url.raw_path, request.rel_url.raw_query_string
    *known, rest = (*path.split("/", _BEHIND), "")[: _BEHIND + 1]
    name, account_id = known[2:]
    called = services.addresses.get((name, account_id)) or f"{services.public_url}/voip/{name}/{account_id}"
    return Webhook(
        method=request.method,
        url=f"{called}{'/' if rest else ''}{rest}{'?' if query else ''}{query}",
        headers=request.headers,
        body=body,
        rest=rest,
        peer=client_address(request, services.trusted_proxies),
    )
