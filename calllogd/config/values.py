"""How each kind of value is read; for what is wrong ValueError says what would be right."""

import base64
import binascii
import ipaddress
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import phonenumbers

from calllogd.domain.phone import read

HIGHEST_PORT = 65535
TOKEN_LEAST, TOKEN_MOST = 16, 512
"""Characters of a token that a sender shows."""

KEY_BYTES_LEAST, KEY_BYTES_MOST = 24, 64
"""Length of a Standard Webhooks secret. Source: the specification of standardwebhooks.com."""


SEALING_KEY_BYTES = 32


def text(value: Any) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text")
    return value


def choice(*words: str) -> Callable[[Any], str]:
    """Return a reader of one of these words."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return str(value)

    return read


def number(least: float, most: float, *, whole: bool = False) -> Callable[[Any], Any]:
    """Return a reader of a number within these bounds, which the environment may give as a text."""
    kind = "a whole number" if whole else "a number"

    def read(value: Any) -> float | int:
        number = _as_number(value)
        if number is None or not least <= number <= most or (whole and number != int(number)):
            raise ValueError(f"{kind} from {_plain(least)} to {_plain(most)}")
        return int(number) if whole else number

    return read


def _as_number(value: Any) -> float | int | None:
    """Return a number, or one that the environment gives as a text; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if right else None


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def listen(value: Any) -> tuple[str, int]:
    """Return host and port."""
    host, colon, port = text(value).rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > HIGHEST_PORT:
        raise ValueError("an address and a port, such as 127.0.0.1:8080 or [::1]:8080")
    return host.strip("[]"), int(port)


def web_address(value: Any) -> str:
    """Return an address under which something is reached by HTTPS, without a slash at the end."""
    address = called_address(value)
    if address.startswith("http:") and not _is_loopback(urlsplit(address).hostname or ""):
        raise ValueError("an https address; plain http only for a loopback address")
    return address


def called_address(value: Any) -> str:
    """Return an address under which others reach us, with or without TLS, without a slash at the end."""
    example = "a web address, such as https://calls.example.com"
    address = text(value)
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(example) from None
    if not host or port == 0 or not address.isprintable() or " " in address:
        raise ValueError(example)
    if parts.scheme not in ("https", "http") or parts.username or parts.query or parts.fragment:
        raise ValueError(example)
    return address.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def database(value: Any) -> Path:
    """Return the path of the ledger's file."""
    scheme, _, path = text(value).partition(":///")
    if scheme != "sqlite" or not path.startswith("/"):
        raise ValueError("sqlite:/// and an absolute path, such as sqlite:////var/lib/calllogd/calllogd.db")
    return Path(unquote(path))


def path(value: Any) -> Path:
    """Return an absolute path."""
    path = Path(text(value))
    if not path.is_absolute():
        raise ValueError("an absolute path")
    return path


def networks(value: Any) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Return the networks of a list."""
    right = 'a list of networks, such as ["10.0.0.0/8"]'
    # A number would be read as an address: 10 as 0.0.0.10.
    if not isinstance(value, list | tuple) or not all(isinstance(network, str) for network in value):
        raise ValueError(right)
    try:
        return tuple(map(ipaddress.ip_network, value))
    except ValueError:
        raise ValueError(right) from None


def domains(value: Any) -> tuple[str, ...]:
    """Return the domains of a list: names, or a loopback address with its port for a stand-in."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(_DOMAINS)
    return tuple(map(_domain, value))


_DOMAINS = 'a list of domains, such as ["kommo.com"]'


def _domain(value: Any) -> str:
    """Return a domain; of an address, or of localhost, only the very host and port are meant."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9.:\[\]-]{1,253}", value):
        raise ValueError(_DOMAINS)
    try:
        host, port = urlsplit(f"//{value}").hostname, urlsplit(f"//{value}").port
    except ValueError:
        raise ValueError(_DOMAINS) from None
    if not host or (port is not None and not _is_loopback(host)):
        raise ValueError(_DOMAINS)
    return value


def region(value: Any) -> str:
    """Return a country, as phonenumbers knows it."""
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("a country's two capital letters, such as US or BR")
    return str(value)


def phones(value: Any) -> tuple[str, ...]:
    """Return the phone numbers of a list, as they are written."""
    if not isinstance(value, list | tuple) or not all(
        isinstance(one, str) and read(one).number for one in value
    ):
        raise ValueError('a list of phone numbers, such as ["+12125550100"]')
    return tuple(value)


def token(value: Any) -> str:
    """Return a token that a sender shows to us."""
    if (
        not isinstance(value, str)
        or not TOKEN_LEAST <= len(value) <= TOKEN_MOST
        or not value.isascii()
        or not value.isprintable()
    ):
        raise ValueError(f"{TOKEN_LEAST} to {TOKEN_MOST} printable ASCII characters")
    return value


def bearer(value: Any) -> str:
    """Return a token that we show to Kommo."""
    if (
        not isinstance(value, str)
        or not value.isascii()
        or not value.isprintable()
        or " " in value
        or not value
    ):
        raise ValueError("a token of printable ASCII characters, without spaces")
    return value


def sealing_keys(value: Any) -> tuple[str, ...]:
    """Return keys of Fernet, one a line: the first seals, all open."""
    keys = tuple(str(value).split()) if isinstance(value, str) else ()
    try:
        lengths = {len(base64.b64decode(key, altchars=b"-_", validate=True)) for key in keys}
    except (binascii.Error, ValueError):
        lengths = set()
    if lengths != {SEALING_KEY_BYTES}:
        raise ValueError("one or more lines with 32 bytes in URL-safe base64, as `calllogd rotate-key` makes")
    return keys


def signing_secret(value: Any) -> str:
    """Return a secret of Standard Webhooks."""
    right = f"whsec_ and the base64 of {KEY_BYTES_LEAST} to {KEY_BYTES_MOST} bytes"
    if not isinstance(value, str) or not value.startswith("whsec_"):
        raise ValueError(right)
    try:
        key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError(right) from None
    if not KEY_BYTES_LEAST <= len(key) <= KEY_BYTES_MOST:
        raise ValueError(right)
    return value
