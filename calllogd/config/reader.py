"""From a file and the environment to settings, with all mistakes at once."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calllogd.config.settings import (
    Account,
    Admin,
    GenericVoip,
    Http,
    Integration,
    Log,
    Recordings,
    Settings,
)
from calllogd.config.tables import ACCOUNT, GENERIC, REQUIRED, SECTIONS, Setting
from calllogd.domain.phone import spellings
from calllogd.domain.plan import Policy
from calllogd.errors import ConfigError

ENVIRONMENT = "CALLLOGD_"
"""Prefix of variables: CALLLOGD_KOMMO__CLIENT_SECRET sets kommo.client_secret."""


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
        database_keys=values["database"]["key"],
        workers=values["queue"]["workers"],
        kommo=Integration(**values["kommo"]),
        policy=_policy(values["policy"], accounts),
        recordings=Recordings(**values["recordings"]),
        admin=Admin(**values["admin"]),
        log=Log(**values["log"]),
        accounts={account.id: account for account in accounts},
    )


def _policy(values: Mapping[str, Any], accounts: Sequence[Account]) -> Policy:
    """Return the policy; a blocked number without a country code is read in the country of each account."""
    regions = {None, *(account.region for account in accounts)}
    blocked = frozenset().union(*(spellings(phone, at) for phone in values["blocked"] for at in regions))
    return Policy(**{**values, "blocked": blocked})


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
