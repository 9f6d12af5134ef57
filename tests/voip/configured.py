"""Settings with which each VoIP service can be tried; secrets are made each time."""

import base64
import secrets
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_KEY = Ed25519PrivateKey.generate()

_KNOWN: Mapping[str, Mapping[str, Any]] = {
    "asterisk": {"recordings": Path("/var/spool/asterisk")},
    "freeswitch": {
        "username": "fs",
        "password": secrets.token_hex(16),
        "recordings": Path("/var/lib/freeswitch"),
        "token": None,
    },
    "plivo": {"auth_token": secrets.token_hex(16)},
    "telnyx": {
        "public_key": base64.b64encode(_KEY.public_key().public_bytes_raw()).decode(),
        "private_key": base64.b64encode(_KEY.private_bytes_raw()).decode(),
    },
    "twilio": {"auth_token": secrets.token_hex(16)},
    "vonage": {
        "signature_secret": secrets.token_hex(32),
        "application_id": str(uuid.uuid4()),
        "private_key": rsa.generate_private_key(65537, 2048)
        .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        .decode(),
    },
    "mango": {"vpbx_api_key": secrets.token_hex(16), "vpbx_api_salt": secrets.token_hex(16)},
    "zadarma": {
        "key": secrets.token_hex(10),
        "secret": secrets.token_hex(10),
        "timezone": ZoneInfo("Europe/Madrid"),
    },
}


def configured(name: str) -> Mapping[str, Any]:
    """Return the settings of a service, as the configuration would hand them over."""
    return {"token": secrets.token_hex(16), **_KNOWN.get(name, {})}
