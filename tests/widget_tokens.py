"""Tokens as Kommo gives them to the widget, right and wrong."""

import base64
import json
from typing import Any

import jwt

from calllogd.voip.widget import WidgetUser
from calllogd.web.tokens import WidgetTokens
from tests.fakes import ACCOUNT, START, ManualClock

SECRET = "s" * 64
CLIENT = "00000000-0000-4000-8000-000000000000"
AUDIENCE = "https://calls.example.com"
ORIGIN = "https://acme.kommo.com"
OTHER_ACCOUNT = 31338
OTHER_ORIGIN = "https://other.kommo.com"
USER = WidgetUser(ACCOUNT, 111, ORIGIN)


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a token; a change to None leaves one out."""
    said = {
        "iss": ORIGIN,
        "aud": AUDIENCE,
        "jti": "4f5a",
        "iat": int(START),
        "nbf": int(START),
        "exp": int(START) + 1800,
        "account_id": ACCOUNT,
        "user_id": 111,
        "subdomain": "acme",
        "client_uuid": CLIENT,
        **changes,
    }
    return {name: value for name, value in said.items() if value is not None}


def token(key: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    """A token as Kommo would sign it, but for the changes."""
    return jwt.encode(claims(**changes), key, algorithm)


def segment(value: Any) -> str:
    """A part of a token."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def forged(header: Any, payload: Any = None, signature: bytes = b"") -> str:
    """A token put together by hand."""
    return ".".join([segment(header), segment(claims() if payload is None else payload), segment(signature)])


def tokens(clock: ManualClock, **changes: Any) -> WidgetTokens:
    """The check of two accounts, but for the changes."""
    parts: dict[str, Any] = {
        "client_id": CLIENT,
        "client_secret": SECRET,
        "redirect_uri": f"{AUDIENCE}/oauth/callback",
        "base_urls": {ACCOUNT: ORIGIN, OTHER_ACCOUNT: OTHER_ORIGIN},
        "clock": clock,
        **changes,
    }
    return WidgetTokens(**parts)
