"""Where an administrator of Kommo allows the integration, and where Kommo tells that it was removed.

GET /oauth/install, /oauth/callback and /oauth/disable. Installations that Kommo begins by itself come without
a state; what proves them is the code, which Kommo honours for this integration alone.
"""

import re
from html import escape
from http import HTTPStatus

from aiohttp import web
from yarl import URL

from calllogd.errors import InputRefused, KommoError, PermanentError
from calllogd.voip.usecase.install_account import Installation, Removal
from calllogd.web.desk import DESK_KEY
from calllogd.web.oauth_state import STATE_S
from calllogd.web.plain_page import page, wants_page
from calllogd.web.problems import problem
from calllogd.web.services import OAuthServices, Services

COOKIE = "calllogd_install"
CODE_MOST = 4096
_ACCOUNT_ID = re.compile("[1-9][0-9]{0,15}")
_RETRY_S = "10"


async def install(request: web.Request) -> web.StreamResponse:
    """Send the browser to Kommo, where an administrator allows the integration or does not."""
    with await request.app[DESK_KEY].services() as services:
        oauth = _of(services)
        state, nonce = oauth.states.make()
        consent = URL(oauth.consent_url).update_query(client_id=oauth.client_id, state=state, mode="popup")
        secure = oauth.public_url.startswith("https://")
    answer = web.Response(status=HTTPStatus.FOUND, headers={"Location": str(consent), **_NOT_KEPT})
    answer.set_cookie(
        COOKIE, nonce, max_age=STATE_S, path="/oauth", httponly=True, secure=secure, samesite="Lax"
    )
    return answer


async def callback(request: web.Request) -> web.StreamResponse:
    """Take what Kommo sends the browser back with; say what has come of it and what is to be done next."""
    try:
        with await request.app[DESK_KEY].services() as services:
            oauth = _of(services)
            base_url, code = _admitted(request, oauth)
            installation, new = await oauth.install.execute(base_url, code)
    except InputRefused as error:
        return _failed(request, error.code, error.detail)
    except PermanentError as error:
        detail = (
            f"{error.reason}. The code may have been used already or be older than 20 minutes; or"
            " kommo.client_id, kommo.client_secret or kommo.redirect_uri are not as they stand in Kommo's"
            " integration. Begin anew."
        )
        return _failed(request, "bad_request", detail)
    except KommoError as error:
        return _failed(request, "not_ready", f"{error.reason}. Begin anew in a moment.")
    return _succeeded(oauth, installation, new=new)


async def disable(request: web.Request) -> web.StreamResponse:
    """Stop serving an account that has removed the integration, as Kommo signs it."""
    with await request.app[DESK_KEY].services() as services:
        oauth = _of(services)
        account_id = _removed(request, oauth)
        try:
            removal = await oauth.disable.execute(account_id)
        except KommoError as error:
            return problem("not_ready", error.reason, headers={"Retry-After": _RETRY_S})
    words = {
        Removal.STOPPED: "The account is no longer served; its calls stay.",
        Removal.STILL_ALLOWED: "Kommo still allows the integration in this account: nothing has changed.",
        Removal.NOT_INSTALLED: "The account was not installed.",
    }
    return web.Response(text=f"{words[removal]}\n", headers=_NOT_KEPT)


def _of(services: Services) -> OAuthServices:
    if services.oauth is None:
        raise InputRefused(
            "not_found", "kommo.client_id, kommo.client_secret and kommo.redirect_uri are not configured"
        )
    return services.oauth


def _admitted(request: web.Request, oauth: OAuthServices) -> tuple[str, str]:
    """Return the account's address and the code; raises InputRefused."""
    if _one(request, "error") is not None:
        raise InputRefused("forbidden", "the integration was not allowed in Kommo: nothing has changed")
    if _one(request, "client_id") not in (None, oauth.client_id):
        raise InputRefused("invalid", "this is about another integration than kommo.client_id")
    state = _one(request, "state")
    if state is not None:
        oauth.states.check(state, request.cookies.get(COOKIE))
    code, referer = _one(request, "code"), _one(request, "referer")
    if not code or not referer or len(code) > CODE_MOST:
        raise InputRefused("bad_request", "this page is for Kommo, which sends `code` and `referer`")
    return oauth.domains.base_url_of(referer), code


def _removed(request: web.Request, oauth: OAuthServices) -> int:
    """Return the account that Kommo's signature is about; raises InputRefused."""
    client = _one(request, "client_uuid") or _one(request, "client_id") or ""
    account_id, signature = _one(request, "account_id") or "", _one(request, "signature") or ""
    if not _ACCOUNT_ID.fullmatch(account_id) or not oauth.kommo.has_signed(client, account_id, signature):
        raise InputRefused("unauthorized", "Kommo's signature is needed")
    return int(account_id)


def _one(request: web.Request, name: str) -> str | None:
    """Return the one value of a parameter, None without it; raises InputRefused when there are several."""
    values = request.query.getall(name, [])
    if len(values) > 1:
        raise InputRefused("bad_request", f"{name} is there more than once")
    return values[0] if values else None


def _failed(request: web.Request, code: str, detail: str) -> web.Response:
    """Return what went wrong, as a page for people and as a problem document for programs."""
    answer = problem(code, detail, headers={**_NOT_KEPT, "Vary": "Accept"})
    if wants_page(request):
        sentence = escape(detail[:1].upper() + detail[1:].rstrip("."))
        body = f'<p>{sentence}.</p><p><a href="/oauth/install">Begin anew</a></p>'
        return page("Not connected", body, status=answer.status)
    return answer


def _succeeded(oauth: OAuthServices, installation: Installation, *, new: bool) -> web.Response:
    account_id, name = installation.account_id, escape(installation.name)
    what = "is connected now" if new else "was connected already and has new tokens now"
    body = f"<p>The Kommo account <b>{name}</b> ({account_id}) {what}.</p>"
    if account_id in oauth.fixed:
        body += (
            "<p>The configuration has an <code>access_token</code> for it, which counts more. Take it out of"
            " there to use the tokens of this installation.</p>"
        )
    address = escape(f"{oauth.public_url}/voip/generic/{account_id}")
    body += (
        "<p>Calls that have been waiting for it go out by themselves.</p>"
        "<h2>What to do next</h2><ol>"
        f"<li>At your VoIP service, enter <code>{address}</code> as the address of its webhook.</li>"
        "<li>The bearer token that belongs to it is printed, on the machine that calllogd runs on, by"
        f" <code>calllogd voip-token {account_id}</code>.</li>"
        "<li><code>calllogd check</code> says whether everything is right.</li></ol>"
        "<p>You can close this page.</p>"
    )
    return page("Connected", body)


_NOT_KEPT = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
