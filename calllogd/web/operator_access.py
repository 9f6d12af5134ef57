"""Who is let in as an operator: whoever shows the admin token, or the cookie that he got for it."""

import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from calllogd.errors import InputRefused
from calllogd.web.client_address import client_address, is_within, read_address
from calllogd.web.desk import DESK_KEY
from calllogd.web.limits import Buckets, TooMany, network_of
from calllogd.web.operator_sessions import SESSION_S, EndedSessions, Session, Sessions
from calllogd.web.services import OperatorServices, Services
from calllogd.web.tokens import origin_of

SECURE_COOKIE, PLAIN_COOKIE = "__Host-calllogd", "calllogd"
"""Browsers take the first from https alone, and from no other host than ours."""

WRONG_AT_ONCE, WRONG_RATE = 5, 0.1
ALL_WRONG_AT_ONCE, ALL_WRONG_RATE = 20, 1.0
"""Wrong tokens that are answered, of one address and of all: at once, and a second from then on."""

FIELDS_MOST = 20

NOBODY = "nobody is let in here before admin.token is set in calllogd's configuration"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who was let in; `session` is None for whoever showed the token itself."""

    session: Session | None = None


class Access:
    """What is remembered of those who came, also when the configuration is read again."""

    def __init__(self) -> None:
        self.ended = EndedSessions()
        self._wrong = Buckets(WRONG_RATE, WRONG_AT_ONCE)
        self._all_wrong = Buckets(ALL_WRONG_RATE, ALL_WRONG_AT_ONCE)

    def check_token(self, request: web.Request, operators: OperatorServices, shown: str) -> None:
        """Return if this is the admin token; else raises InputRefused, TooMany after too many wrong ones.

        While an address has to wait nothing is compared; from any other one the right token always does.
        """
        now = operators.monotonic()
        address = client_address(request, request.app[DESK_KEY].trusted_proxies)
        if wait_s := self._wrong.wait_s(network_of(address), now):
            raise TooMany("too many wrong tokens came from this address", wait_s)
        right = token_of(operators).encode()
        if hmac.compare_digest(right, shown.encode("utf-8", "surrogateescape")):
            return
        _log.warning("login_refused", extra={"facts": {"address": address}})
        self._wrong.take(network_of(address), now)
        if wait_s := self._all_wrong.take(None, now):
            raise TooMany("too many wrong tokens come now", wait_s)
        raise InputRefused("unauthorized", "this is not the admin token")


ACCESS_KEY = web.AppKey("ACCESS_KEY", Access)


def operators_of(services: Services) -> OperatorServices:
    """Return what serves operators; raises InputRefused."""
    if services.operators is None:
        raise InputRefused("not_found", "there is nothing for operators here")
    return services.operators


def token_of(operators: OperatorServices) -> str:
    """Return the admin token; raises InputRefused when there is none."""
    if operators.token is None:
        raise InputRefused("forbidden", NOBODY)
    return operators.token


def bearer_of(request: web.Request) -> str | None:
    """Return the token that a request shows, None if it shows none; a proxy may want another scheme."""
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    return shown.strip() if scheme.lower() == "bearer" else None


def operator_of(request: web.Request, operators: OperatorServices) -> Operator | None:
    """Return who asks, None for whoever shows nothing that is good now; raises InputRefused."""
    sessions = Sessions(token_of(operators), operators.session_key)
    if (shown := bearer_of(request)) is not None:
        request.app[ACCESS_KEY].check_token(request, operators, shown)
        return Operator()
    for name in (SECURE_COOKIE, PLAIN_COOKIE):
        session = sessions.read(request.cookies.get(name, ""), operators.clock.now())
        if session is not None and session not in request.app[ACCESS_KEY].ended:
            return Operator(session)
    return None


def let_in(request: web.Request, operators: OperatorServices) -> Operator:
    """Return who asks; raises InputRefused."""
    operator = operator_of(request, operators)
    if operator is None:
        raise InputRefused("unauthorized", "the admin token is needed, or a session begun at /login")
    return operator


def let_change(request: web.Request, operators: OperatorServices, form: Mapping[str, str]) -> Operator:
    """Return who wants to change something, and means it; raises InputRefused.

    A browser adds the cookie to whatever page's request, but not the token.
    """
    operator = let_in(request, operators)
    if operator.session is not None:
        sessions = Sessions(token_of(operators), operators.session_key)
        shown = request.headers.get("X-CSRF-Token") or form.get("csrf", "")
        if is_from_here(request, operators) is False or not sessions.is_csrf(operator.session, shown):
            raise InputRefused("forbidden", "this was not sent by a page of this session: load it again")
    return operator


def log_in(request: web.Request, operators: OperatorServices, form: Mapping[str, str]) -> web.Response:
    """Return the way to the status page, with the cookie of a new session; raises InputRefused."""
    token = token_of(operators)
    # Else a page of others could log a browser in, and see what is then done there.
    if not is_from_here(request, operators):
        raise InputRefused("forbidden", "this was not sent by the login page: load that again")
    request.app[ACCESS_KEY].check_token(request, operators, form.get("token", ""))
    address = client_address(request, request.app[DESK_KEY].trusted_proxies)
    _log.info("login", extra={"facts": {"address": address}})
    answer = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/"})
    # Through a tunnel the browser speaks plain http with its own machine, and may keep no secure cookie.
    secure = operators.public_url.startswith("https:") and not _origin(request).startswith("http:")
    cookie = Sessions(token, operators.session_key).begin(operators.clock.now())
    _set_cookie(answer, SECURE_COOKIE if secure else PLAIN_COOKIE, cookie, SESSION_S)
    return answer


def log_out(request: web.Request, operators: OperatorServices, form: Mapping[str, str]) -> web.Response:
    """Return the way to the login page, after the session has been ended; raises InputRefused."""
    answer = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/login"})
    if operator_of(request, operators) is not None:
        session = let_change(request, operators, form).session
        if session is not None:
            request.app[ACCESS_KEY].ended.end(session, operators.clock.now())
    for name in (SECURE_COOKIE, PLAIN_COOKIE):
        if name in request.cookies:
            _set_cookie(answer, name, "", 0)
    return answer


def read_form(request: web.Request, body: bytes) -> Mapping[str, str]:
    """Return the fields of a form, none for any other body; raises InputRefused."""
    if request.content_type != "application/x-www-form-urlencoded":
        return {}
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MOST)
    except ValueError:
        raise InputRefused("malformed", f"a form in UTF-8 of at most {FIELDS_MOST} fields is taken") from None
    return {name: values[0] for name, values in fields.items()}


def is_from_here(request: web.Request, operators: OperatorServices) -> bool | None:
    """Tell whether a page of ours sent a request; None when the browser does not say.

    It says so in Sec-Fetch-Site, in Origin, or in both. A page that keeps its address to itself has the
    Origin `null`, as others may have, so that this alone proves nothing.
    """
    sites, origins = (request.headers.getall(name, []) for name in ("Sec-Fetch-Site", "Origin"))
    if any(site != "same-origin" for site in sites):
        return False
    if not origins or (sites and origins == ["null"]):
        return True if sites else None
    ours = {origin_of(operators.public_url)}
    if _is_this_machine(request.host):
        ours.add(f"http://{request.host}")
    return set(origins) <= ours


def is_near(request: web.Request, operators: OperatorServices) -> bool:
    """Tell whether whoever asks may read the metrics without a token."""
    address = read_address(client_address(request, request.app[DESK_KEY].trusted_proxies))
    return address is not None and is_within(address, operators.metrics_from)


def _is_this_machine(host: str) -> bool:
    """Tell whether a host is named as this machine names itself; any other name may lead here, too."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    address = read_address(name)
    return name == "localhost" if address is None else address.is_loopback


def _origin(request: web.Request) -> str:
    return request.headers.get("Origin", "")


def _set_cookie(answer: web.Response, name: str, value: str, seconds: int) -> None:
    answer.set_cookie(
        name,
        value,
        max_age=seconds,
        path="/",
        httponly=True,
        secure=name == SECURE_COOKIE,
        samesite="Strict",
    )
