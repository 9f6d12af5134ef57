"""How a VoIP service that is described by the configuration proves who it is.

Either it shows a secret, in the path, in a header, as bearer token or as password, or it signs what it sends.
A signature covers the body alone, so whoever checks one reads nothing else.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from calllogd.errors import InputRefused
from calllogd.voip.proof import UNPROVEN, BearerToken, Tokens, basic, same
from calllogd.voip.provider import standard_webhooks
from calllogd.voip.webhook import Webhook

TOLERANCE_S = 300.0
"""How far the times of a signature may be from ours."""

_SHOWN = ("path", "header", "bearer", "basic")
_SIGNED = ("hmac", "jwt_hs256", "standard-webhooks")
_ALGORITHMS = ("sha1", "sha256", "sha512")
_ENCODINGS = ("hex", "base64")
_PLACES = ("body", "header")

_KEYS: Mapping[str, Mapping[str, str]] = {
    "path": {},
    "header": {"name": "needed"},
    "bearer": {},
    "basic": {"name": "needed"},
    "hmac": {
        "name": "needed",
        "algorithm": "",
        "prefix": "",
        "encoding": "",
        "timestamp": "",
        "window": "",
        "combined": "",
    },
    "jwt_hs256": {"place": ""},
    "standard-webhooks": {},
}

_HEADER = re.compile("[A-Za-z0-9_-]{1,100}")
_SECONDS = re.compile("[0-9]{1,13}")
_TIME_MOST = 10**12
_MILLISECONDS = 100_000_000_000
"""From here on a time is in milliseconds: in seconds it would be the year 5138."""


@dataclass(frozen=True, slots=True)
class Auth:
    """How a service proves who it is: `name` is that of the header, or of whoever shows a password.

    Of a signature: `timestamp` is the header of its time, which is signed before the body, with a full stop
    between them; `combined` if one header has both, as `t=…,v1=…`.
    """

    kind: str = "path"
    name: str = ""
    algorithm: str = "sha256"
    prefix: str = ""
    encoding: str = "hex"
    timestamp: str = ""
    window: float = TOLERANCE_S
    combined: bool = False
    place: str = "body"

    @property
    def signs(self) -> bool:
        """Whether the secret signs, and is not shown."""
        return self.kind in _SIGNED

    @property
    def covers_body(self) -> bool:
        """Whether nothing but the body is proven to be the service's."""
        return self.signs and not self.is_token

    @property
    def is_token(self) -> bool:
        """Whether the body is a signed token, and what it says the claims of this."""
        return self.kind == "jwt_hs256" and self.place == "body"


class Proof:
    """Proof of one service; of several secrets each is good, while they are changed."""

    def __init__(self, auth: Auth, secrets: Sequence[str], made: Sequence[BearerToken]) -> None:
        self.auth = auth
        self._secrets = secrets
        shown = [] if auth.signs else [BearerToken(secret) for secret in secrets]
        self._tokens = Tokens({}, [*shown, *made])

    def check(self, webhook: Webhook, now: float) -> None:
        """Return if a message is the service's; else raises InputRefused.

        Where the service signs, tokens that were made for it have to stand in its address besides.
        """
        if not self.auth.signs:
            self._check_shown(webhook, now)
            return
        self._tokens.check_path(webhook, now)
        if not webhook.body:
            raise InputRefused("unauthorized", "there is nothing that is signed")
        if self.auth.kind == "standard-webhooks":
            standard_webhooks.verify(self._secrets, webhook.headers, webhook.body, now)
        elif self.auth.kind == "jwt_hs256":
            self._check_token(webhook, now)
        else:
            self._check_signature(webhook, now)

    def _check_shown(self, webhook: Webhook, now: float) -> None:
        name, shown = self.auth.name, ""
        if self.auth.kind == "path":
            shown = webhook.first_segment
        elif self.auth.kind == "header":
            shown = webhook.headers.get(name, "")
        elif self.auth.kind == "bearer":
            shown = _bearer(webhook)
        else:
            named, shown = basic(webhook)
            # The name is no secret: whether it is right may be told.
            if not same(named, name):
                raise InputRefused("unauthorized", UNPROVEN)
        self._tokens.check(shown, now)

    def _check_signature(self, webhook: Webhook, now: float) -> None:
        auth = self.auth
        header = webhook.headers.get(auth.name, "")
        if auth.combined:
            parts = [part.strip().partition("=") for part in header.split(",")]
            time = next((value for name, _, value in parts if name == "t"), "")
            shown = [value for name, _, value in parts if name == "v1"]
        else:
            time = webhook.headers.get(auth.timestamp, "") if auth.timestamp else ""
            shown = [header.removeprefix(auth.prefix)] if header.startswith(auth.prefix) else []
        signed = webhook.body
        if auth.combined or auth.timestamp:
            _check_time(time, auth.window, now)
            signed = b".".join((time.encode(), webhook.body))
        right = [hmac.digest(secret.encode(), signed, auth.algorithm) for secret in self._secrets]
        _check_among(right, [_decoded(one, auth.encoding) for one in shown])

    def _check_token(self, webhook: Webhook, now: float) -> None:
        token = _body_token(webhook) if self.auth.is_token else _bearer(webhook)
        head, _, signature = token.rpartition(".")
        right = [
            hmac.digest(secret.encode(), head.encode("utf-8", "surrogateescape"), "sha256")
            for secret in self._secrets
        ]
        _check_among(right, [_base64url(signature)])
        header, _, claims = head.partition(".")
        if _json(header).get("alg") != "HS256":
            raise InputRefused("unauthorized", "the token should be signed with HS256")
        _check_claims(_json(claims), webhook, now)


def claims_of(webhook: Webhook) -> Mapping[str, Any]:
    """Return what a body says that is a signed token, which has been checked before; raises InputRefused."""
    return _json(_body_token(webhook).partition(".")[2].partition(".")[0])


def read_auth(value: Any) -> Auth:
    """Return how a service proves who it is; raises ValueError saying what would be right."""
    if not isinstance(value, dict) or value.get("kind") not in tuple(_KEYS):
        raise ValueError(f"a table with a kind, one of {', '.join(_KEYS)}")
    kind, keys = value["kind"], _KEYS[value["kind"]]
    if unknown := sorted(value.keys() - {"kind", *keys}):
        known = f"; {kind} has {', '.join(keys)}" if keys else f"; {kind} has nothing else"
        raise ValueError(f"a table without {unknown[0]}{known} (secrets stand in secret)")
    if missing := [key for key, needed in keys.items() if needed and key not in value]:
        raise ValueError(f"a table with {missing[0]}, which {kind} needs")
    for key, given in value.items():
        if key != "kind":
            _check_key(kind, key, given)
    if value.get("combined") and ("timestamp" in value or "prefix" in value):
        raise ValueError("a table without timestamp and prefix, which a combined header has itself")
    if "window" in value and not (value.get("combined") or "timestamp" in value):
        raise ValueError("a table with timestamp, of which window is, or without window")
    return Auth(**value)


def _check_key(kind: str, key: str, given: Any) -> None:
    choices = {"algorithm": _ALGORITHMS, "encoding": _ENCODINGS, "place": _PLACES}
    if key in choices:
        if given not in choices[key]:
            raise ValueError(f"a table in which {key} is one of {', '.join(choices[key])}")
    elif key == "combined":
        if not isinstance(given, bool):
            raise ValueError("a table in which combined is true or false")
    elif key == "window":
        if not isinstance(given, int | float) or isinstance(given, bool) or not 1 <= given <= 86_400:  # noqa: PLR2004
            raise ValueError("a table in which window is a number of seconds from 1 to 86400")
    elif not isinstance(given, str) or not given or not given.isprintable():
        raise ValueError(f"a table in which {key} is a text")
    elif (key == "timestamp" or (key == "name" and kind != "basic")) and not _HEADER.fullmatch(given):
        raise ValueError(f"a table in which {key} is a header's name, such as X-Signature")


def _check_time(time: str, window: float, now: float) -> None:
    if not _SECONDS.fullmatch(time):
        raise InputRefused("unauthorized", "the signature should have its time")
    seconds = int(time) / (1_000 if int(time) >= _MILLISECONDS else 1)
    if abs(now - seconds) > window:
        raise InputRefused("unauthorized", f"the signature's time is not within {window:g} s of now")


def _check_among(right: Iterable[bytes], shown: Sequence[bytes]) -> None:
    """Return if a signature is right; each is compared with each, so that the time it takes tells nothing."""
    if not any([hmac.compare_digest(one, signature) for one in right for signature in shown]):
        raise InputRefused("unauthorized", UNPROVEN)


def _check_claims(claims: Mapping[str, Any], webhook: Webhook, now: float) -> None:
    """Return if a token holds now, and for this body if it says for which."""
    for name, sign in (("exp", 1), ("nbf", -1)):
        at = claims.get(name)
        if at is None:
            continue
        if not isinstance(at, int | float) or abs(at) > _TIME_MOST or sign * (now - at) > TOLERANCE_S:
            raise InputRefused("unauthorized", f"the token does not hold now, says its {name}")
    digest = claims.get("payload_hash")
    if digest is not None and digest != hashlib.sha256(webhook.body).hexdigest():
        raise InputRefused("unauthorized", "the token is not for this body")


def _bearer(webhook: Webhook) -> str:
    scheme, _, shown = webhook.headers.get("Authorization", "").partition(" ")
    return shown.strip() if scheme.lower() == "bearer" else ""


def _body_token(webhook: Webhook) -> str:
    return webhook.body.decode("utf-8", "surrogateescape").strip()


def _decoded(signature: str, encoding: str) -> bytes:
    """Return the bytes of a signature; none if it is not one."""
    try:
        if encoding == "hex":
            return binascii.unhexlify(signature.strip())
        return base64.b64decode(signature.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _base64url(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _json(part: str) -> Mapping[str, Any]:
    try:
        decoded = msgspec.json.decode(_base64url(part))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        raise InputRefused("unauthorized", "the token should be a JSON Web Token")
    return decoded
