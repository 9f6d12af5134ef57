"""The page on which a person lets an integration into an account, or does not."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from aiohttp import web

from calllogd.sandbox.integration import PLATFORM

if TYPE_CHECKING:
    from calllogd.sandbox.integration import Integration
    from calllogd.sandbox.server import SandboxKommo

CONSENT_PATH: Final = "/oauth"
ALLOW: Final = "allow"
DENY: Final = "deny"
PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
FORM: Final = """<form method="post" action="/oauth">
<p>{name} ({account_id})
<input type="hidden" name="account_id" value="{account_id}">
{hidden}
<button name="decision" value="allow">Allow</button>
<button name="decision" value="deny">Deny</button></p>
</form>"""


def add_routes(app: web.Application, sandbox: SandboxKommo) -> None:
    """Add the page and what its buttons do."""
    consent = _Consent(sandbox)
    app.add_routes([web.get(CONSENT_PATH, consent.show), web.post(CONSENT_PATH, consent.decide)])


class _Consent:
    def __init__(self, sandbox: SandboxKommo) -> None:
        self._sandbox = sandbox

    async def show(self, request: web.Request) -> web.Response:
        self._integration(request.query.get("client_id", ""))
        # It comes back with the decision. `mode` says which window to open, and here is none.
        kept = {name: request.query[name] for name in ("client_id", "state") if name in request.query}
        hidden = "\n".join(
            f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in kept.items()
        )
        forms = [
            FORM.format(name=escape(account.name), account_id=account.id, hidden=hidden)
            for account in self._sandbox.accounts
        ]
        title = f"May {escape(kept['client_id'])} use your account?"
        return _page(200, title, "\n".join(forms) or "<p>There is no account.</p>")

    async def decide(self, request: web.Request) -> web.Response:
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        integration = self._integration(form.get("client_id", ""))
        account_ids = {str(account.id): account.id for account in self._sandbox.accounts}
        account_id, decision = account_ids.get(form.get("account_id", "")), form.get("decision")
        if account_id is None or decision not in {ALLOW, DENY}:
            return _page(400, "Bad request", "<p>Choose an account, and allow or deny.</p>")
        query = {"client_id": integration.client_id}
        if "state" in form:
            query["state"] = form["state"]
        if decision == ALLOW:
            query["code"] = self._sandbox.code(account_id)
            query["referer"] = self._sandbox.domain(account_id)
            query["platform"] = PLATFORM
        else:
            query["error"] = "access_denied"
        return web.Response(status=302, headers={"Location": str(integration.redirect(query))})

    def _integration(self, client_id: str) -> Integration:
        integration = self._sandbox.integration
        if integration is None:
            raise web.HTTPNotFound
        if client_id != integration.client_id:
            page = _page(400, "Unknown integration", "<p>No integration has this client_id.</p>")
            raise web.HTTPBadRequest(text=page.text, content_type="text/html")
        return integration


def _page(status: int, title: str, body: str) -> web.Response:
    """A page; `title` and `body` are HTML."""
    return web.Response(status=status, text=PAGE.format(title=title, body=body), content_type="text/html")
