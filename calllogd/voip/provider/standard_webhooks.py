"""Signatures by the specification of standardwebhooks.com, with the clock as an argument."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

from calllogd.errors import InputRefused

TOLERANCE_S = 300.0
"""How far a message's time may be from ours: what was recorded cannot be sent again after this."""


_SECONDS = re.compile("[0-9]{1,12}")


def verify(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Return if one of the message's signatures is right and its time is near; else raises InputRefused.

    `secrets` are whsec_ and base64, each as good as the others; a sender that changes secrets sends a
    signature with each.
    """
    message_id, timestamp = headers.get("webhook-id"), headers.get("webhook-timestamp")
    signatures = headers.get("webhook-signature")
    if not message_id or not timestamp or not signatures:
        raise InputRefused("unauthorized", "webhook-id, webhook-timestamp and webhook-signature are needed")
    if not _SECONDS.fullmatch(timestamp) or abs(now - int(timestamp)) > TOLERANCE_S:
        raise InputRefused("unauthorized", f"webhook-timestamp is not within {TOLERANCE_S:.0f} s of now")
    signed = b".".join((message_id.encode("utf-8", "surrogateescape"), timestamp.encode(), body))
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
    right = [hmac.digest(key, signed, hashlib.sha256) for key in keys]
    shown = _signatures(signatures)
    if not any(hmac.compare_digest(one, signature) for one in right for signature in shown):
        raise InputRefused("unauthorized", "no signature of the message is right")


def _signatures(header: str) -> list[bytes]:
    """Return the signatures of version 1; whatever is not one is passed over."""
    found: list[bytes] = []
    for word in header.split():
        version, _, signature = word.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(signature, validate=True))
            except (binascii.Error, ValueError):
                continue
    return found
