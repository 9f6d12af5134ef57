"""The settings, checked and frozen."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calllogd.domain.plan import Policy

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """Where calllogd listens, the address under which the world reaches it, and how much it takes."""

    listen: tuple[str, int]
    public_url: str
    trusted_proxies: tuple[Network, ...]
    account_rate: float
    address_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """The Kommo integration, and the pace of requests to Kommo."""

    client_id: str | None
    client_secret: str | None = field(repr=False)
    redirect_uri: str | None
    consent_url: str
    domains: tuple[str, ...]
    rate: float
    rate_total: float
    timeout: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recordings:
    """Where recordings are kept and for how long, where they may come from, and whether they become MP3.

    `keep_days` is 0 for ever; `convert` is auto or off.
    """

    path: Path
    max_bytes: int
    keep_days: float
    keep_free_bytes: int
    allow_private: tuple[Network, ...]
    convert: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """Who may see everything: whoever has the token; and who may read the metrics without it."""

    token: str | None = field(repr=False)
    metrics_from: tuple[Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Where the log goes, and how it looks."""

    file: Path | None
    format: str
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One Kommo account; `voip` are the settings of each of its VoIP services, by the service's name."""

    id: int
    base_url: str
    region: str | None
    access_token: str | None = field(repr=False)
    extensions: Mapping[str, int] = field(default_factory=dict)
    voip: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration, checked. Secrets are left out where it is printed."""

    http: Http
    database: Path
    database_keys: tuple[str, ...] | None = field(repr=False)
    workers: int
    kommo: Integration
    policy: Policy
    recordings: Recordings
    admin: Admin
    log: Log
    accounts: Mapping[int, Account]
