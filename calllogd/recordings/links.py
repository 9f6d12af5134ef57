"""Links to recordings: whoever has one may listen, and nobody can make one or turn it into another."""

import base64
import binascii
import hashlib
import hmac

from calllogd.domain.call import CallKey
from calllogd.errors import InputRefused

VERSION = "1"
"""The first character of every token. Another way to make tokens takes another."""

TOKEN_MOST = 1500
"""Characters of a token: call ids have at most 255 characters, of four bytes each."""

_PURPOSE = b"calllogd recording " + VERSION.encode() + b"\0"
_MAC_BYTES = 16
_ACCOUNT_BYTES = 8


class Links:
    """Makes and reads links. The same call has the same link for ever, or until the secret is another."""

    def __init__(self, secret: bytes, public_url: str) -> None:
        self._secret = secret
        self._base = f"{public_url}/recordings/"

    def link(self, key: CallKey) -> str:
        """Return the address of the call's recording."""
        return self._base + self._token(key)

    def key_of(self, token: str) -> CallKey:
        """Return the call that a token was made for; raises InputRefused (`not_found`) for any other text."""
        key = _claimed(token)
        if key is None or not hmac.compare_digest(self._token(key).encode(), token.encode()):
            raise InputRefused("not_found", "there is no such recording")
        return key

    def _token(self, key: CallKey) -> str:
        """Return the call, readable, behind its signature: HMAC-SHA256, of which 128 bits are enough."""
        named = key.account_id.to_bytes(_ACCOUNT_BYTES, "big") + key.call_id.encode()
        mac = hmac.digest(self._secret, _PURPOSE + named, hashlib.sha256)[:_MAC_BYTES]
        return VERSION + base64.urlsafe_b64encode(mac + named).decode().rstrip("=")


def _claimed(token: str) -> CallKey | None:
    """Return the call that a token claims to be for, unproven; None for what cannot be a token."""
    if not token.startswith(VERSION) or len(token) > TOKEN_MOST or not token.isascii():
        return None
    body = token.removeprefix(VERSION)
    try:
        signed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))[_MAC_BYTES:]
        return CallKey(int.from_bytes(signed[:_ACCOUNT_BYTES], "big"), signed[_ACCOUNT_BYTES:].decode())
    except (binascii.Error, UnicodeDecodeError):
        return None
