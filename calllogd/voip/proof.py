"""How VoIP services prove who they are, where it is not by a signature of their own.

Secrets are compared in constant time, and each that is good is compared whichever is right: the time that it
takes tells nothing.
"""

import base64
import binascii
import hmac
import ipaddress
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from calllogd.config import Setting
from calllogd.config.settings import Network
from calllogd.config.values import networks, token
from calllogd.errors import InputRefused
from calllogd.voip.webhook import Webhook

UNPROVEN = "the account's token or signature is needed"
"""Said to whoever has not proved who he is; the same where there is no such account."""


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A token that a sender may show, until Unix second `until`; None: for good."""

    token: str = field(repr=False)
    until: float | None = None


TOKEN: Mapping[str, Setting] = {
    "token": Setting(
        token,
        None,
        "secret at the end of the address that is entered at the service",
        secret=True,
        show='"…"',
    ),
    "previous_token": Setting(
        token,
        None,
        "one that is taken as well, while the service is given a new one",
        secret=True,
        show='"…"',
    ),
}
"""Settings of every service whose address may end with a secret."""

ALLOW_FROM: Mapping[str, Setting] = {
    "allow_from": Setting(
        networks, (), "networks that the service sends from; none: any", show='["192.0.2.0/24"]'
    ),
}
"""Setting of every service that can be known by its addresses."""


class Tokens:
    """Tokens that are good while they are changed: those of the settings and those that were made."""

    def __init__(self, values: Mapping[str, Any], made: Sequence[BearerToken] = ()) -> None:
        configured = [values.get("token"), values.get("previous_token")]
        tokens = [*(BearerToken(one) for one in configured if one is not None), *made]
        self._tokens = [(one.token, math.inf if one.until is None else one.until) for one in tokens]

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def check(self, shown: str, now: float) -> None:
        """Return if a token is good; else raises InputRefused."""
        good = [same(token, shown) and now < until for token, until in self._tokens]
        if not any(good):
            raise InputRefused("unauthorized", UNPROVEN)

    def check_any(self, webhook: Webhook, now: float) -> None:
        """Return if the address ends with a good token, or if one is shown as bearer, password or X-Token."""
        self.check(shown_token(webhook), now)

    def check_path(self, webhook: Webhook, now: float) -> None:
        """Return if there are no tokens, or the address has a good one; for services that sign besides."""
        if self._tokens:
            self.check(webhook.first_segment, now)


def shown_token(webhook: Webhook) -> str:
    """Return the token that a sender shows, in whatever way; empty if he shows none."""
    scheme, _, shown = webhook.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return shown.strip()
    if scheme.lower() == "basic":
        return basic(webhook)[1]
    return webhook.headers.get("X-Token") or webhook.first_segment


def basic(webhook: Webhook) -> tuple[str, str]:
    """Return the name and password that a sender shows; raises InputRefused."""
    scheme, _, shown = webhook.headers.get("Authorization", "").partition(" ")
    try:
        if scheme.lower() == "basic":
            name, _, password = (
                base64.b64decode(shown, validate=True).decode("utf-8", "surrogateescape").partition(":")
            )
            return name, password
    except (binascii.Error, ValueError):
        pass
    raise InputRefused("unauthorized", "name and password are needed")


def check_address(webhook: Webhook, allowed: Iterable[Network]) -> None:
    """Return if a request comes from one of the networks, or if none is named; else raises InputRefused."""
    allowed = tuple(allowed)
    if not allowed:
        return
    try:
        address = ipaddress.ip_address(webhook.peer)
    except ValueError:
        address = None
    if address is None or not any(address in network for network in allowed):
        raise InputRefused("forbidden", "the address is not one that the service sends from")


def key_of(secret: str, algorithm: str) -> hmac.HMAC:
    """Return a secret made ready to sign with: that takes longer than signing does."""
    return hmac.new(secret.encode(), digestmod=algorithm)


def sign(key: hmac.HMAC, text: bytes) -> bytes:
    """Return the signature of a text."""
    signature = key.copy()
    signature.update(text)
    return signature.digest()


def same(one: str, other: str) -> bool:
    """Compare two secrets in constant time."""
    return hmac.compare_digest(
        one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape")
    )


def any_same(right: Iterable[str], shown: Iterable[str]) -> bool:
    """Tell whether one of the secrets is among those shown; each is compared with each."""
    shown = tuple(shown)
    return any([same(one, other) for one in right for other in shown])
