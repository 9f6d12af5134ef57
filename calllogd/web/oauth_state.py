"""The state of an installation: proves that the browser which comes back from Kommo was sent there by us."""

import base64
import binascii
import hashlib
import hmac
import secrets

from calllogd.errors import InputRefused
from calllogd.ports import Clock

STATE_S = 1200
"""How long consenting may take; Kommo's code lives as long. Source: reference/kommo-api.md 7.1."""

STATE_MOST = 200
_PURPOSE = b"calllogd oauth state 1\0"
_NONCE_BYTES, _TIME_BYTES, _MAC_BYTES = 16, 8, 16


class States:
    """Makes states and knows them again; `key` has 32 bytes."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def make(self) -> tuple[str, str]:
        """Return a state, and what the browser has to bring along with it."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        said = int(self._clock.now() + STATE_S).to_bytes(_TIME_BYTES, "big") + nonce
        return base64.urlsafe_b64encode(said + self._mac(said)).decode().rstrip("="), nonce.hex()

    def check(self, state: str, brought: str | None) -> None:
        """Return for a state of ours that this browser was given; else raises InputRefused."""
        raw = _decoded(state)
        said, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        right = len(said) == _TIME_BYTES + _NONCE_BYTES and hmac.compare_digest(self._mac(said), mac)
        if not right or int.from_bytes(said[:_TIME_BYTES], "big") <= self._clock.now():
            raise InputRefused(
                "forbidden", "the installation took too long, or was not begun here: begin anew"
            )
        nonce = said[_TIME_BYTES:].hex().encode()
        if not hmac.compare_digest(nonce, (brought or "").encode("utf-8", "surrogatepass")):
            raise InputRefused(
                "forbidden", "the installation was begun in another browser: begin anew in this"
            )

    def _mac(self, said: bytes) -> bytes:
        return hmac.digest(self._key, _PURPOSE + said, hashlib.sha256)[:_MAC_BYTES]


def _decoded(state: str) -> bytes:
    if len(state) > STATE_MOST or not state.isascii():
        return b""
    try:
        return base64.b64decode(state + "=" * (-len(state) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return b""
