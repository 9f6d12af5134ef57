"""Control over HTTP below /_sandbox/, so that another process can play Kommo's users and order faults."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from calllogd.sandbox.faults import Fault
from calllogd.sandbox.given import fields_of
from calllogd.sandbox.local import guarded, object_in
from calllogd.sandbox.records import IncomingState

if TYPE_CHECKING:
    from calllogd.sandbox.entries import History
    from calllogd.sandbox.server import SandboxKommo
    from calllogd.sandbox.world import Account

PREFIX: Final = "/_sandbox"
HOOK_TYPES: Final[dict[str, tuple[type, ...]]] = {"account_id": (int, str), "url": (str,)}
OAUTH_TYPES: Final[dict[str, tuple[type, ...]]] = {"account_id": (int, str), "do": (str,), "host": (str,)}


def add_routes(app: web.Application, sandbox: SandboxKommo) -> None:
    """Add the control routes to the server; only clients on the same machine may use them."""
    control = _Control(sandbox)
    app.add_routes(
        [
            web.get(f"{PREFIX}/state", guarded(control.state)),
            web.get(f"{PREFIX}/entries", guarded(control.entries)),
            web.get(f"{PREFIX}/duplicates", guarded(control.duplicates)),
            web.get(f"{PREFIX}/tasks", guarded(control.tasks)),
            web.get(f"{PREFIX}/hooks", guarded(control.hooks)),
            web.post(f"{PREFIX}/hooks", guarded(control.set_hook)),
            web.get(f"{PREFIX}/rules", guarded(control.rules)),
            web.post(f"{PREFIX}/rules", guarded(control.change_rules)),
            web.post(f"{PREFIX}/oauth", guarded(control.oauth)),
            web.post(f"{PREFIX}/contacts", guarded(control.add_contact)),
            web.post(f"{PREFIX}/faults", guarded(control.add_fault)),
            web.delete(f"{PREFIX}/faults", guarded(control.clear_faults)),
            web.post(f"{PREFIX}/unsorted/{{uid}}/{{deed:accept|decline}}", guarded(control.sort_out)),
        ]
    )


class _Control:
    def __init__(self, sandbox: SandboxKommo) -> None:
        self._sandbox = sandbox

    async def state(self, request: web.Request) -> web.Response:
        account = self._account(request.query.get("account_id"))
        return web.json_response(
            {
                "account_id": account.id,
                "counts": _counts(account),
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

    async def duplicates(self, request: web.Request) -> web.Response:
        account = self._account(request.query.get("account_id"))
        return web.json_response(
            {
                "duplicates": {
                    uniq: [asdict(view) for view in views] for uniq, views in account.duplicates().items()
                },
                "history": {uniq: _history(account, it) for uniq, it in account.histories.items()},
            }
        )

    async def tasks(self, request: web.Request) -> web.Response:
        account = self._account(request.query.get("account_id"))
        return web.json_response({"tasks": [asdict(task) for task in account.tasks]})

    async def hooks(self, request: web.Request) -> web.Response:
        account = self._account(request.query.get("account_id"))
        sent = [asdict(it) | {"delivered": it.delivered} for it in self._sandbox.hooks.sent]
        return web.json_response(
            {
                "url": self._sandbox.hooks.destination(account.id),
                "sent": [it for it in sent if it["account_id"] == account.id],
            }
        )

    async def set_hook(self, request: web.Request) -> web.Response:
        given = fields_of(await object_in(request), HOOK_TYPES, "a hook")
        account = self._account(given.get("account_id"))
        self._sandbox.hook(account.id, given.get("url"))
        return web.json_response({"account_id": account.id, "url": given.get("url")})

    async def rules(self, _request: web.Request) -> web.Response:
        return web.json_response(asdict(self._sandbox.rules))

    async def change_rules(self, request: web.Request) -> web.Response:
        self._sandbox.rules.change(await object_in(request))
        return web.json_response(asdict(self._sandbox.rules))

    async def oauth(self, request: web.Request) -> web.Response:
        given = fields_of(await object_in(request), OAUTH_TYPES, "what to do")
        account, status = self._account(given.get("account_id")), None
        match given:
            case {"do": "expire"}:
                self._sandbox.expire(account.id)
            case {"do": "revoke"}:
                self._sandbox.revoke(account.id)
            case {"do": "install"}:
                status = await self._sandbox.install(account.id)
            case {"do": "uninstall"}:
                status = await self._sandbox.uninstall(account.id)
            case {"do": "rename", "host": host}:
                await self._move(account, host)
            case _:
                raise ValueError("do is expire, revoke, install, uninstall, or rename with a host")
        domain = self._sandbox.domain(account.id)
        return web.json_response({"account_id": account.id, "domain": domain, "status": status})

    async def _move(self, account: Account, host: str) -> None:
        # Whoever controls from another process cannot make the sandbox listen there first.
        try:
            await self._sandbox.add_host(host)
        except OSError as exc:
            raise ValueError(f"cannot listen at {host}: {exc.strerror}") from exc
        self._sandbox.rename(account.id, host)

    async def add_contact(self, request: web.Request) -> web.Response:
        body = await object_in(request)
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
        fault = self._sandbox.faults.add(Fault.from_json(await object_in(request)))
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


def _counts(account: Account) -> dict[str, int]:
    return {
        "contacts": len(account.contacts),
        "companies": len(account.companies),
        "leads": len(account.leads),
        "notes": len(account.notes),
        "tasks": len(account.tasks),
        "unsorted": sum(lead.state is IncomingState.OPEN for lead in account.unsorted),
    }


def _history(account: Account, it: History) -> dict[str, Any]:
    doubled = [
        {
            "since": one.since,
            "seconds": (account.now() if one.until is None else one.until) - one.since,
            "requests": one.requests,
            "over": one.until is not None,
        }
        for one in it.doubled
    ]
    return {"entries": it.entries, "peak": it.peak, "doubled": doubled}
