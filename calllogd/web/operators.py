"""For operators: the status page, and the same as JSON below /api/v1."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from calllogd.domain.call import CallKey, CallState
from calllogd.domain.phone import digits
from calllogd.errors import InputRefused
from calllogd.voip.fields import checked_call_id
from calllogd.voip.telling import call_json, line_json, status_json, why
from calllogd.web.body import read_body
from calllogd.web.desk import DESK_KEY
from calllogd.web.limits import TooMany
from calllogd.web.metrics import add_metrics
from calllogd.web.operator_access import (
    ACCESS_KEY,
    NOBODY,
    Access,
    let_change,
    let_in,
    log_in,
    log_out,
    operator_of,
    operators_of,
    read_form,
    token_of,
)
from calllogd.web.operator_pages import Overview, login_page, status_page
from calllogd.web.operator_sessions import Session, Sessions
from calllogd.web.plain_page import page
from calllogd.web.problems import PROBLEMS
from calllogd.web.services import OperatorServices

SHOWN = 20
"""Calls in a table of the status page."""

LIMIT, LIMIT_MOST = 50, 1000
"""Calls in one answer."""

_NUMBER = re.compile("[1-9][0-9]{0,14}", re.ASCII)
_CALL = "/api/v1/calls/{account_id}/{call_id:[^/]+}"

_encode = msgspec.json.Encoder().encode


def add_operator_routes(app: web.Application) -> None:
    """Add what is for operators alone."""
    app[ACCESS_KEY] = Access()
    app.router.add_get("/", show_status)
    app.router.add_get("/login", show_login)
    app.router.add_post("/login", receive_login)
    app.router.add_post("/logout", receive_logout)
    app.router.add_post("/retry", receive_retry)
    app.router.add_get("/api/v1/status", tell_status)
    app.router.add_get("/api/v1/calls", list_calls)
    app.router.add_get(_CALL, tell_call)
    app.router.add_post(f"{_CALL}/retry", retry_call)
    app.router.add_post("/api/v1/retry", retry_failed)
    add_metrics(app)


async def show_status(request: web.Request) -> web.Response:
    """Show how everything stands, to whoever is logged in; all others are sent to the login page."""
    with await request.app[DESK_KEY].services() as services:
        operators = operators_of(services)
        if operators.token is None:
            return _nobody()
        operator = operator_of(request, operators)
        if operator is None:
            return _see("/login")
        return status_page(await _overview(operators, operator.session))


async def show_login(request: web.Request) -> web.Response:
    """Show the page on which an operator shows his token."""
    with await request.app[DESK_KEY].services() as services:
        operators = operators_of(services)
        if operators.token is None:
            return _nobody()
        return login_page() if operator_of(request, operators) is None else _see("/")


async def receive_login(request: web.Request) -> web.Response:
    """Begin a session for the admin token; show the login page again for any other."""
    form = read_form(request, await read_body(request))
    with await request.app[DESK_KEY].services() as services:
        operators = operators_of(services)
        try:
            return log_in(request, operators, form)
        except TooMany as error:
            trouble = f"{error.detail[0].upper()}{error.detail[1:]}. Try again in {error.retry_after_s} s."
            answer = login_page(trouble, status=HTTPStatus.TOO_MANY_REQUESTS)
            answer.headers["Retry-After"] = str(error.retry_after_s)
        except InputRefused as error:
            trouble = f"{error.detail[0].upper()}{error.detail[1:]}."
            answer = login_page(trouble, status=PROBLEMS[error.code].status)
            if error.code == "unauthorized":
                answer.headers["WWW-Authenticate"] = 'Bearer realm="calllogd"'
    return answer


async def receive_logout(request: web.Request) -> web.Response:
    """End the session."""
    form = read_form(request, await read_body(request))
    with await request.app[DESK_KEY].services() as services:
        return log_out(request, operators_of(services), form)


async def receive_retry(request: web.Request) -> web.Response:
    """Put back the call that a form of the status page names, or all failed ones; show the page again."""
    form = read_form(request, await read_body(request))
    with await request.app[DESK_KEY].services() as services:
        operators = operators_of(services)
        let_change(request, operators, form)
        named = "account_id" in form or "call_id" in form
        key = _key(form.get("account_id", ""), form.get("call_id", "")) if named else None
        await operators.calls.retry(key, operators.clock.now())
    return _see("/")


async def tell_status(request: web.Request) -> web.Response:
    """Tell what `calllogd status --json` does."""
    with await request.app[DESK_KEY].services() as services:
        operators = operators_of(services)
        let_in(request, operators)
        now = operators.clock.now()
        totals = await operators.calls.totals(now)
        standings, unmapped = await operators.standing(), await operators.unmapped()
        return _answer(status_json(totals, standings, unmapped, now))


async def list_calls(request: web.Request) -> web.Response:
    """Tell what `calllogd calls --json` does, all in one list."""
    with await request.app[DESK_KEY].services() as services:
        operators = operators_of(services)
        let_in(request, operators)
        listing = await operators.calls.listing(**_asked(request.query))
    return _answer({"calls": [call_json(call) for call in listing]})


async def tell_call(request: web.Request) -> web.Response:
    """Tell what `calllogd show --json` does."""
    with await request.app[DESK_KEY].services() as services:
        operators = operators_of(services)
        let_in(request, operators)
        key = _key_of(request)
        call, story = await operators.calls.get(key), await operators.calls.story(key)
    if call is None:
        raise InputRefused("not_found", "no such call is known")
    return _answer({**call_json(call), "why": why(call), "events": [line_json(line) for line in story]})


async def retry_call(request: web.Request) -> web.Response:
    """Put a call back to be tried now; tell whether it was, and in which state it is."""
    form = read_form(request, await read_body(request))
    with await request.app[DESK_KEY].services() as services:
        operators = operators_of(services)
        let_change(request, operators, form)
        key = _key_of(request)
        number = await operators.calls.retry(key, operators.clock.now())
        call = await operators.calls.get(key)
    if call is None:
        raise InputRefused("not_found", "no such call is known")
    return _answer({"retried": number, "state": call.state.value})


async def retry_failed(request: web.Request) -> web.Response:
    """Put all failed calls back to be tried now; tell how many there were."""
    form = read_form(request, await read_body(request))
    with await request.app[DESK_KEY].services() as services:
        operators = operators_of(services)
        let_change(request, operators, form)
        return _answer({"retried": await operators.calls.retry(None, operators.clock.now())})


async def _overview(operators: OperatorServices, session: Session | None) -> Overview:
    now, calls = operators.clock.now(), operators.calls
    sessions = Sessions(token_of(operators), operators.session_key)
    return Overview(
        now=now,
        totals=await calls.totals(now),
        standings=await operators.standing(),
        unmapped=await operators.unmapped(),
        failed=await calls.listing(state=CallState.FAILED, limit=SHOWN),
        newest=await calls.listing(limit=SHOWN),
        csrf=None if session is None else sessions.csrf(session),
    )


def _asked(query: Mapping[str, str]) -> dict[str, Any]:
    """Return what is asked of the ledger's list; raises InputRefused."""
    account, state, phone, limit = (query.get(name) for name in ("account", "state", "phone", "limit"))
    if account is not None and not _NUMBER.fullmatch(account):
        raise InputRefused("invalid", "account should be the id of a Kommo account")
    if state is not None and state not in frozenset(CallState):
        raise InputRefused("invalid", f"state should be one of {', '.join(CallState)}")
    if phone is not None and not digits(phone):
        raise InputRefused("invalid", "phone should have digits")
    if limit is not None and (not _NUMBER.fullmatch(limit) or int(limit) > LIMIT_MOST):
        raise InputRefused("invalid", f"limit should be a whole number from 1 to {LIMIT_MOST}")
    return {
        "account_id": None if account is None else int(account),
        "state": None if state is None else CallState(state),
        "phone": None if phone is None else digits(phone),
        "limit": LIMIT if limit is None else int(limit),
    }


def _key_of(request: web.Request) -> CallKey:
    return _key(request.match_info["account_id"], request.match_info["call_id"])


def _key(account_id: str, call_id: str) -> CallKey:
    """Return a call's key; raises InputRefused."""
    if not _NUMBER.fullmatch(account_id):
        raise InputRefused("not_found", "no such account is known")
    return CallKey(int(account_id), checked_call_id(call_id))


def _nobody() -> web.Response:
    """Return the page that says why nobody can log in."""
    return page("Nobody is let in", f"<p>{NOBODY}.</p>", status=HTTPStatus.FORBIDDEN)


def _see(path: str) -> web.Response:
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": path, "Cache-Control": "no-store"})


def _answer(document: Mapping[str, Any]) -> web.Response:
    return web.Response(
        body=_encode(document),
        content_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )
