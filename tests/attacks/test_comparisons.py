"""The time that a refusal takes tells nothing: every secret is compared by `hmac.compare_digest`."""

import ast
import hmac
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from calllogd.domain.call import CallKey
from calllogd.errors import InputRefused
from calllogd.kommo.domains import Domains
from calllogd.kommo.oauth import KommoOAuth
from calllogd.kommo.webhook import WebhookSecrets
from calllogd.recordings.links import Links
from calllogd.voip.proof import Tokens
from calllogd.voip.provider.generic import Generic
from calllogd.voip.webhook import Webhook
from calllogd.web.oauth_state import States
from calllogd.web.operator_sessions import Sessions
from calllogd.web.tickets import Tickets
from tests.fakes import ACCOUNT, START, ManualClock

ROOT = Path(__file__).parents[2] / "calllogd"
SECRET = re.compile(
    "(^|_)(tokens?|secrets?|signatures?|mac|digest|csrf|password|nonce|cookie|brought|shown)($|_)"
)
OWN = {
    "files/growing_file.py:_begins_alike",
    "voip/mapping_proof.py:_check_claims",
    "database/holding.py:must_hold",
    "kommo/authentication.py:renewed",
    "voip/usecase/hold.py:bury",
}
"""Where calllogd compares two values of its own, which nobody sends, or the hash of a file or body."""

DECIDES = {
    "kommo/oauth.py:has_signed",
    "kommo/webhook.py:account_of",
    "recordings/links.py:key_of",
    "voip/mapping_proof.py:_check_among",
    "voip/proof.py:same",
    "voip/provider/standard_webhooks.py:verify",
    "web/oauth_state.py:check",
    "web/operator_access.py:check_token",
    "web/operator_sessions.py:is_csrf",
    "web/operator_sessions.py:read",
    "web/tickets.py:read",
}
"""Where it is decided whether somebody has shown a secret; the widget's tokens are PyJWT's to decide."""


def functions() -> Iterator[tuple[str, ast.AST]]:
    """Yield every function of the program with its place; the stand-in of Kommo is for tests alone."""
    for path in ROOT.rglob("*.py"):
        if "sandbox" in path.parts or "demo" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.name}", node


def named(node: ast.AST) -> str:
    """Return the name by which a value is compared, empty for one without."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=ast.Attribute(value=value, attr=name)):
            return f"{named(value)}_{name}"
        case ast.Subscript(value=value, slice=ast.Constant(value=str() as key)):
            return f"{named(value)}_{key}"
        case _:
            return ""


def plainly_compared(function: ast.AST) -> Iterator[str]:
    """Yield comparisons of a secret that end at the first character that differs."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        plain = any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops)
        constant = any(isinstance(side, ast.Constant) for side in sides)
        if plain and not constant and any(SECRET.search(named(side)) for side in sides):
            yield ast.unparse(node)


def test_secrets_are_compared_at_these_places_and_in_constant_time() -> None:
    found = {place for place, node in functions() if "compare_digest" in ast.unparse(node)}
    assert found == DECIDES


def test_no_secret_is_compared_in_any_other_way() -> None:
    found = {place for place, node in functions() if list(plainly_compared(node))}
    assert found == OWN


def test_that_would_be_noticed() -> None:
    for wrong in (
        "shown == self.token",
        "signature != right",
        "self.secret(1) == a",
        "headers['token'] == a",
    ):
        assert list(plainly_compared(ast.parse(wrong))) == [wrong]


def test_the_widgets_tokens_are_compared_so_by_their_library() -> None:
    assert "compare_digest" in inspect.getsource(jwt.algorithms.HMACAlgorithm.verify)


def done(check: Callable[..., None], *arguments: Any) -> bool:
    """Return True once a check has let somebody pass."""
    check(*arguments)
    return True


def refused(ask: Callable[[], Any]) -> bool:
    """Tell whether somebody is not let in."""
    try:
        return ask() in (None, False)
    except InputRefused:
        return True


def test_that_comparison_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, key = ManualClock(), b"k" * 32
    shown = {"Authorization": "Bearer " + "t" * 16}
    bearer = Webhook(method="POST", url="https://x", headers=shown, body=b"")
    generic = Generic(ACCOUNT, tokens=Tokens({"token": "t" * 16}))
    secrets, links, states, tickets = (
        WebhookSecrets(key),
        Links(key, "https://x"),
        States(key, clock),
        Tickets(key, clock),
    )
    sessions = Sessions("t" * 16, key)
    cookie = sessions.begin(START)
    session = sessions.read(cookie, START)
    assert session is not None
    oauth = KommoOAuth(
        client_id="c",
        client_secret="s",
        redirect_uri="https://x",
        domains=Domains([]),
        timeout_s=1,
        clock=clock,
    )
    signature = hmac.new(b"s", b"c|7", "sha256").hexdigest()
    state, nonce = states.make()
    ticket = tickets.issue(ACCOUNT, 111)[0]
    token = links.link(CallKey(ACCOUNT, "c")).rpartition("/")[2]
    secret, csrf = secrets.secret(ACCOUNT), sessions.csrf(session)
    asks: dict[str, Callable[[], Any]] = {
        "bearer": lambda: done(generic.verify, bearer, START),
        "kommo": lambda: secrets.account_of(str(ACCOUNT), secret),
        "link": lambda: links.key_of(token),
        "state": lambda: done(states.check, state, nonce),
        "ticket": lambda: tickets.read([ticket]),
        "session": lambda: sessions.read(cookie, START),
        "csrf": lambda: sessions.is_csrf(session, csrf),
        "removal": lambda: oauth.has_signed("c", "7", signature),
    }
    assert {name for name, ask in asks.items() if refused(ask)} == set()
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: False)
    assert {name for name, ask in asks.items() if not refused(ask)} == set()
