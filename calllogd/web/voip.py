"""Where a webhook becomes a row: POST /voip/{provider}/{account_id}, and GET for services that send by it."""

import msgspec
from aiohttp import web

from calllogd.errors import InputRefused
from calllogd.voip.proof import UNPROVEN
from calllogd.voip.provider import Service, services
from calllogd.voip.usecase.save_call_event import Saved
from calllogd.voip.webhook import Reply
from calllogd.web.body import read_body
from calllogd.web.desk import DESK_KEY
from calllogd.web.services import Services
from calllogd.web.webhook import webhook_of

SERVICES = services()
"""Those that have an address; found here, where nobody waits for the files to be read."""

_encode = msgspec.json.Encoder().encode


async def receive_event(request: web.Request) -> web.Response:
    """Store an event of a VoIP service; 202, or what the service needs, once it is on disk."""
    name = request.match_info["provider"]
    service = SERVICES.get(name)
    if service is None:
        raise InputRefused("not_found", "there is no such VoIP service")
    if request.method not in service.methods:
        raise web.HTTPMethodNotAllowed(request.method, service.methods)
    body = await read_body(request, most=service.body_most)
    try:
        with await request.app[DESK_KEY].services() as desk:
            return await _received(request, service, body, desk)
    except InputRefused as error:
        error.challenge = service.challenge
        raise


async def _received(request: web.Request, service: Service, body: bytes, desk: Services) -> web.Response:
    name, account_id = request.match_info["provider"], request.match_info["account_id"]
    webhook = webhook_of(request, body, desk)
    reply = service.handshake(webhook)
    if reply is not None:
        return _answer(reply)
    provider = desk.providers.get((name, account_id))
    if provider is None:
        # The same as for a wrong token: nobody learns which accounts there are.
        raise InputRefused("unauthorized", UNPROVEN)
    number = int(account_id)

    def admit() -> None:
        if desk.limits is not None:
            desk.limits.admit_account(number)

    saved = await desk.save_call_event.execute(name, number, provider, webhook, admit)
    return _said(saved) if provider.reply is None else _answer(provider.reply)


def _said(saved: Saved) -> web.Response:
    if saved.not_understood is not None:
        answer: dict[str, object] = {"kept": True, "not_understood": saved.not_understood}
    elif saved.calls:
        key, accepted = saved.calls[0]
        answer = {"call_id": key.call_id, "state": accepted.state, "duplicate": accepted.duplicate}
    else:
        answer = {"ignored": True}
    return web.Response(status=202, body=_encode(answer), content_type="application/json")


def _answer(reply: Reply) -> web.Response:
    return web.Response(
        status=reply.status, body=reply.body, content_type=reply.content_type, headers=reply.headers
    )
