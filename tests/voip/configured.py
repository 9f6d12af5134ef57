"""Settings with which each VoIP service can be tried; secrets are made each time."""

import secrets
from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

_KNOWN: Mapping[str, Mapping[str, Any]] = {
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
