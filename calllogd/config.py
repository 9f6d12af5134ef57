"""The configuration: every setting on one page, and all mistakes in it at once.

The tables below are the only list of settings: the file is checked against them, `calllogd init` and
etc/calllogd.toml are written from them, and the environment may set any of them.
"""

import base64
import binascii
import ipaddress
import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import phonenumbers

from calllogd.domain.plan import IncomingLeads, Policy
from calllogd.errors import ConfigError

ENVIRONMENT = "CALLLOGD_"
"""Prefix of variables: CALLLOGD_KOMMO__CLIENT_SECRET sets kommo.client_secret."""

REQUIRED = object()
"""Stands for a default where there can be none."""

HIGHEST_PORT = 65535
TOKEN_LEAST, TOKEN_MOST = 16, 512
"""Characters of a token that a sender shows."""

KEY_BYTES_LEAST, KEY_BYTES_MOST = 24, 64
"""Length of a Standard Webhooks secret. Source: the specification of standardwebhooks.com."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key: how its value is read, what it is without one, and what it means.

    `read` returns the value or raises ValueError saying what would be right. `show` is how the manual
    writes it where that is not the default.
    """

    read: Callable[[Any], Any]
    default: Any
    meaning: str
    secret: bool = False
    show: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """Where calllogd listens, and the address under which the world reaches it."""

    listen: tuple[str, int]
    public_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """The Kommo integration, and the pace of requests to Kommo."""

    client_id: str | None
    client_secret: str | None
    redirect_uri: str | None
    rate: float
    rate_total: float
    timeout: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recordings:
    """Where recordings are kept and where they may come from."""

    path: Path
    max_bytes: int
    allow_private: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Where the log goes, and how it looks."""

    file: Path | None
    format: str
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenericVoip:
    """How the generic VoIP service of an account proves who it is."""

    token: str | None = None
    signing_secret: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One Kommo account."""

    id: int
    base_url: str
    region: str | None
    access_token: str | None
    extensions: Mapping[str, int] = field(default_factory=dict)
    generic: GenericVoip = GenericVoip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration, checked."""

    http: Http
    database: Path
    workers: int
    kommo: Integration
    policy: Policy
    recordings: Recordings
    admin_token: str | None
    log: Log
    accounts: Mapping[int, Account]


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of a file and the environment; raises ConfigError with every mistake."""
    try:
        with path.open("rb") as file:
            raw = tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; `calllogd init {path}` writes one") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    return read(raw, environment, folder=path.parent)


def read(raw: Mapping[str, Any], environment: Mapping[str, str], *, folder: Path) -> Settings:
    """Return the settings of a parsed file; raises ConfigError with every mistake.

    `folder` is where relative paths of secret files start, unless systemd passes credentials.
    """
    reader = _Reader(environment, Path(environment.get("CREDENTIALS_DIRECTORY", folder)))
    reader.known("", raw, {*SECTIONS, "accounts"})
    values = {name: reader.table(name, raw.get(name, {}), keys) for name, keys in SECTIONS.items()}
    accounts = reader.accounts(raw.get("accounts", []))
    reader.unused_environment()
    if reader.mistakes:
        raise ConfigError(*reader.mistakes)
    return Settings(
        http=Http(**values["http"]),
        database=values["database"]["url"],
        workers=values["queue"]["workers"],
        kommo=Integration(**values["kommo"]),
        policy=Policy(**values["policy"]),
        recordings=Recordings(**values["recordings"]),
        admin_token=values["admin"]["token"],
        log=Log(**values["log"]),
        accounts={account.id: account for account in accounts},
    )


class _Reader:
    """Collects values and mistakes while it goes through a file."""

    def __init__(self, environment: Mapping[str, str], secrets: Path) -> None:
        self.mistakes: list[str] = []
        self._secrets = secrets
        self._environment = {
            tuple(name.removeprefix(ENVIRONMENT).lower().split("__")): value
            for name, value in environment.items()
            if name.startswith(ENVIRONMENT) and "__" in name
        }

    def known(self, path: str, table: Mapping[str, Any], names: set[str]) -> None:
        """Note every key that is not a setting."""
        for key in table.keys() - names:
            self.mistakes.append(f"{path}{key}: unknown; known here are {', '.join(sorted(names))}")

    def unused_environment(self) -> None:
        """Note every variable that set nothing."""
        for path in self._environment:
            name = ENVIRONMENT + "__".join(path).upper()
            self.mistakes.append(f"{name}: sets nothing; there is no setting {'.'.join(path)}")

    def table(self, path: str, table: Any, settings: Mapping[str, Setting]) -> dict[str, Any]:
        """Return the value of each setting of a table, its default where it is not given."""
        if not isinstance(table, dict):
            self.mistakes.append(f"{path}: should be a table")
            return {}
        files = {f"{key}_file" for key, setting in settings.items() if setting.secret}
        self.known(f"{path}.", table, {*settings, *files})
        return {key: self._value(f"{path}.{key}", table, key, setting) for key, setting in settings.items()}

    def accounts(self, tables: Any) -> Sequence[Account]:
        """Return the accounts of a file."""
        if not isinstance(tables, list):
            self.mistakes.append("accounts: should be written as [[accounts]]")
            return []
        accounts = [self._account(place, table) for place, table in enumerate(tables)]
        found = [account for account in accounts if account is not None]
        for account in found:
            if sum(other.id == account.id for other in found) > 1:
                self.mistakes.append(f"accounts.{account.id}: is there more than once")
        return found

    def _account(self, place: int, table: Any) -> Account | None:
        path = f"accounts[{place}]"
        if not isinstance(table, dict):
            self.mistakes.append(f"{path}: should be a table")
            return None
        before = len(self.mistakes)
        if isinstance(table.get("id"), int):
            path = f"accounts.{table['id']}"
        nested = {"extensions", "voip"}
        values = self.table(path, {key: table[key] for key in table if key not in nested}, ACCOUNT)
        extensions = self._extensions(f"{path}.extensions", table.get("extensions", {}))
        voip = table.get("voip", {})
        if isinstance(voip, dict):
            self.known(f"{path}.voip.", voip, {"generic"})
        generic = self.table(
            f"{path}.voip.generic", voip.get("generic", {}) if isinstance(voip, dict) else voip, GENERIC
        )
        if len(self.mistakes) > before:
            return None
        return Account(**values, extensions=extensions, generic=GenericVoip(**generic))

    def _extensions(self, path: str, table: Any) -> Mapping[str, int]:
        if not isinstance(table, dict):
            self.mistakes.append(f"{path}: should be a table of extensions and Kommo user ids")
            return {}
        for extension, user in table.items():
            if not isinstance(user, int) or isinstance(user, bool) or user < 1:
                self.mistakes.append(f"{path}.{extension}: should be a Kommo user id, a positive integer")
        return dict(table)

    def _value(self, path: str, table: Mapping[str, Any], key: str, setting: Setting) -> Any:
        raw = self._environment.pop(tuple(path.split(".")), None)
        if raw is None and setting.secret and f"{key}_file" in table:
            raw = self._secret(f"{path}_file", table[f"{key}_file"])
            if raw is None:
                return None
        if raw is None:
            raw = table.get(key)
        if raw is None:
            if setting.default is REQUIRED:
                self.mistakes.append(f"{path}: is missing; {setting.meaning}")
            return setting.default
        try:
            return setting.read(raw)
        except (ValueError, TypeError) as error:
            # The value of a secret is not repeated.
            self.mistakes.append(f"{path}: should be {error}" + ("" if setting.secret else f", not {raw!r}"))
            return setting.default

    def _secret(self, path: str, name: Any) -> str | None:
        try:
            return (self._secrets / str(name)).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self.mistakes.append(f"{path}: {self._secrets / str(name)} cannot be read: {error}")
            return None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text")
    return value


def _choice(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return str(value)

    return read


def _number(least: float, most: float, *, whole: bool = False) -> Callable[[Any], Any]:
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


def _listen(value: Any) -> tuple[str, int]:
    host, colon, port = _text(value).rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > HIGHEST_PORT:
        raise ValueError("an address and a port, such as 127.0.0.1:8080 or [::1]:8080")
    return host.strip("[]"), int(port)


def _web_address(value: Any) -> str:
    example = "a web address, such as https://calls.example.com"
    text = _text(value)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(example) from None
    if not host or port == 0 or not text.isprintable() or " " in text:
        raise ValueError(example)
    if parts.scheme not in ("https", "http") or parts.username or parts.query or parts.fragment:
        raise ValueError(example)
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("an https address; plain http only for a loopback address")
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _database(value: Any) -> Path:
    scheme, _, path = _text(value).partition(":///")
    if scheme != "sqlite" or not path.startswith("/"):
        raise ValueError("sqlite:/// and an absolute path, such as sqlite:////var/lib/calllogd/calllogd.db")
    return Path(unquote(path))


def _path(value: Any) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError("an absolute path")
    return path


def _networks(value: Any) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(ipaddress.ip_network(network) for network in value)
    except (ValueError, TypeError):
        raise ValueError('a list of networks, such as ["10.0.0.0/8"]') from None


def _region(value: Any) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("a country's two capital letters, such as US or BR")
    return str(value)


def _token(value: Any) -> str:
    if (
        not isinstance(value, str)
        or not TOKEN_LEAST <= len(value) <= TOKEN_MOST
        or not value.isascii()
        or not value.isprintable()
    ):
        raise ValueError(f"{TOKEN_LEAST} to {TOKEN_MOST} printable ASCII characters")
    return value


def _bearer(value: Any) -> str:
    if (
        not isinstance(value, str)
        or not value.isascii()
        or not value.isprintable()
        or " " in value
        or not value
    ):
        raise ValueError("a token of printable ASCII characters, without spaces")
    return value


def _signing_secret(value: Any) -> str:
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


_SECONDS = _number(0, 10_000_000)

SECTIONS: Mapping[str, Mapping[str, Setting]] = {
    "http": {
        "listen": Setting(
            _listen,
            ("127.0.0.1", 8080),
            "address and port to listen on; a proxy in front does TLS",
            show='"127.0.0.1:8080"',
        ),
        "public_url": Setting(
            _web_address,
            REQUIRED,
            "how Kommo, browsers and VoIP services reach calllogd",
            show='"https://calls.example.com"',
        ),
    },
    "database": {
        "url": Setting(
            _database,
            Path("/var/lib/calllogd/calllogd.db"),
            "the ledger of calls, one SQLite file",
            show='"sqlite:////var/lib/calllogd/calllogd.db"',
        ),
    },
    "queue": {
        "url": Setting(_choice("embedded"), "embedded", "embedded: Huey in the ledger's own file"),
        "workers": Setting(
            _number(1, 16, whole=True),
            4,
            "threads that answer the bell; also calls of one account handled at a time",
        ),
    },
    "kommo": {
        "client_id": Setting(
            _text, None, "id of the integration, for OAuth and the widget's tokens", show='"…"'
        ),
        "client_secret": Setting(_bearer, None, "secret of the integration", secret=True, show='"…"'),
        "redirect_uri": Setting(
            _web_address,
            None,
            "redirect address as entered in the integration",
            show='"https://calls.example.com/oauth/callback"',
        ),
        "rate": Setting(_number(0, 1000), 7, "requests a second for each account; 0: no limit"),
        "rate_total": Setting(
            _number(0, 1000), 0, "requests a second for all accounts together; 0: no limit"
        ),
        "timeout": Setting(_number(0.1, 300), 20, "seconds for one request to Kommo"),
        "source": Setting(_text, "calllogd", "name under which calls stand in Kommo"),
    },
    "policy": {
        "result_wait": Setting(
            _SECONDS, 120, "seconds to wait for an announced call result after the call's end"
        ),
        "contact_wait": Setting(
            _SECONDS,
            64800,
            "seconds after the call's end in which a contact with its number may appear (18 hours)",
        ),
        "doubt_wait": Setting(
            _SECONDS, 60, "seconds after a request of unknown outcome before its call is created again"
        ),
        "incoming_leads": Setting(
            lambda value: IncomingLeads(_choice(*IncomingLeads)(value)),
            IncomingLeads.ALL,
            "inbound calls from unknown numbers that become incoming leads: all, answered or off",
            show='"all"',
        ),
    },
    "recordings": {
        "path": Setting(
            _path,
            Path("/var/lib/calllogd/recordings"),
            "folder for recordings",
            show='"/var/lib/calllogd/recordings"',
        ),
        "max_bytes": Setting(_number(1, 2**40, whole=True), 104857600, "bytes of one recording at most"),
        "allow_private": Setting(
            _networks,
            (),
            'private networks that recordings may be fetched from, such as ["10.0.0.0/8"]',
            show="[]",
        ),
    },
    "admin": {
        "token": Setting(_token, None, "token of the operator's pages and API", secret=True, show='"…"'),
    },
    "log": {
        "file": Setting(
            _path,
            None,
            "file to log to, which may be rotated by renaming; absent: standard error",
            show='"/var/log/calllogd/calllogd.log"',
        ),
        "format": Setting(_choice("logfmt", "json"), "logfmt", "logfmt or json"),
        "level": Setting(
            _choice("debug", "info", "warning", "error"), "info", "debug, info, warning or error"
        ),
    },
}

ACCOUNT: Mapping[str, Setting] = {
    "id": Setting(_number(1, 2**53, whole=True), REQUIRED, "id of the Kommo account", show="31337"),
    "base_url": Setting(
        _web_address, REQUIRED, "the account's own address", show='"https://example.kommo.com"'
    ),
    "region": Setting(_region, None, "country in which national numbers are read", show='"US"'),
    "access_token": Setting(
        _bearer,
        None,
        "long-lived token of a private integration; left out when OAuth installs the account",
        secret=True,
        show='"…"',
    ),
}

GENERIC: Mapping[str, Setting] = {
    "token": Setting(_token, None, "bearer token of the generic webhook", secret=True, show='"…"'),
    "signing_secret": Setting(
        _signing_secret, None, "or: secret of its Standard Webhooks signature", secret=True, show='"whsec_…"'
    ),
}
