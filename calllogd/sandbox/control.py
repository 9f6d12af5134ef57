"""Control over HTTP below /_sandbox/, so that another process can play Kommo's users and order faults."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from calllogd.sandbox.faults import Fault

if TYPE_CHECKING:
    from calllogd.sandbox.server import SandboxKommo
    from calllogd.sandbox.world import Account

PREFIX: Final = "/_sandbox"

ControlHandler = Callable[[web.Request], Awaitable[web.Response]]


def add_routes(app: web.Application, sandbox: SandboxKommo) -> None:
    """Add the control routes to the server; only clients on the same machine may use them."""
    control = _Control(sandbox)
    app.add_routes(
        [
            web.get(f"{PREFIX}/state", _guarded(control.state)),
            web.get(f"{PREFIX}/entries", _guarded(control.entries)),
            web.post(f"{PREFIX}/contacts", _guarded(control.add_contact)),
            web.post(f"{PREFIX}/faults", _guarded(control.add_fault)),
            web.delete(f"{PREFIX}/faults", _guarded(control.clear_faults)),
            web.post(f"{PREFIX}/unsorted/{{uid}}/{{deed:accept|decline}}", _guarded(control.sort_out)),
        ]
    )


def _guarded(handler: ControlHandler) -> ControlHandler:
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


class _Control:
    def __init__(self, sandbox: SandboxKommo) -> None:
        self._sandbox = sandbox

    async def state(self, request: web.Request) -> web.Response:
        account = self._account(request.query.get("account_id"))
        return web.json_response(
            {
                "account_id": account.id,
                "contacts": [asdict(card) for card in account.contacts],
                "companies": [asdict(card) for card in account.companies],
                "leads": [asdict(lead) for lead in account.leads],
                "links": [
                    (one, other) for one, others in account.links.items() for other in others if one < other
                ],
                "notes": [asdict(note) for note in account.notes],
                "unsorted": [asdict(lead) for lead in account.unsorted],
                "tasks": [asdict(task) for task in account.tasks],
                "users": [asdict(user) for user in account.users],
                "requests": [asdict(it) for it in self._sandbox.requests if it.account_id == account.id],
                "counters": dict(self._sandbox.counters),
            }
        )

    async def entries(self, request: web.Request) -> web.Response:
        account = self._account(request.query.get("account_id"))
        return web.json_response(
            {"entries": [asdict(it) for it in account.entries(request.query.get("uniq", ""))]}
        )

    async def add_contact(self, request: web.Request) -> web.Response:
        body = await _object_in(request)
        account = self._account(body.get("account_id"))
        name, phones = body.get("name"), body.get("phones", [])
        if (
            not isinstance(name, str)
            or not isinstance(phones, list)
            or not all(isinstance(it, str) for it in phones)
        ):
            raise ValueError("name is a text, phones a list of texts")
        return web.json_response({"id": account.add_contact(name, phones).id}, status=201)

    async def add_fault(self, request: web.Request) -> web.Response:
        fault = self._sandbox.faults.add(Fault.from_json(await _object_in(request)))
        return web.json_response(asdict(fault), status=201)

    async def clear_faults(self, request: web.Request) -> web.Response:
        self._sandbox.faults.clear()
        return web.Response(status=204)

    async def sort_out(self, request: web.Request) -> web.Response:
        uid = request.match_info["uid"]
        for account in self._sandbox.accounts:
            if account.open_incoming(uid) is not None:
                deed = account.accept if request.match_info["deed"] == "accept" else account.decline
                return web.json_response(asdict(deed(uid)))
        raise LookupError(uid)

    def _account(self, account_id: Any) -> Account:
        for account in self._sandbox.accounts:
            if str(account.id) == str(account_id):
                return account
        raise LookupError(f"account {account_id}")


async def _object_in(request: web.Request) -> dict[str, Any]:
    body = json.loads(await request.read())
    if not isinstance(body, dict):
        raise ValueError("the body is an object")  # noqa: TRY004 - answered as every other bad body
    return body
