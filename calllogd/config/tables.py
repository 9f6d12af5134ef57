"""The only list of settings.

The configuration is checked against these tables; `calllogd init` and etc/calllogd.toml are written from
them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calllogd.config.values import (
    bearer,
    called_address,
    choice,
    database,
    domains,
    listen,
    networks,
    number,
    path,
    phones,
    region,
    sealing_keys,
    signing_secret,
    text,
    token,
    web_address,
)
from calllogd.domain.plan import IncomingLeads, InternalCalls

REQUIRED = object()
"""Stands for a default where there can be none."""


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


LOOPBACK = networks(["127.0.0.0/8", "::1/128"])
"""This machine."""

_SECONDS = number(0, 10_000_000)

SECTIONS: Mapping[str, Mapping[str, Setting]] = {
    "http": {
        "listen": Setting(
            listen,
            ("127.0.0.1", 8080),
            "address and port to listen on; a proxy in front does TLS",
            show='"127.0.0.1:8080"',
        ),
        "public_url": Setting(
            web_address,
            REQUIRED,
            "how Kommo, browsers and VoIP services reach calllogd",
            show='"https://calls.example.com"',
        ),
        "trusted_proxies": Setting(
            networks,
            LOOPBACK,
            "networks of the proxies in front: X-Forwarded-For counts if it comes from there",
            show='["127.0.0.0/8", "::1/128"]',
        ),
        "account_rate": Setting(
            number(0, 100_000),
            50,
            "requests a second that are taken for each account, ten times as many for a moment; 0: no limit",
        ),
        "address_rate": Setting(
            number(0, 100_000),
            100,
            "requests a second that are taken from each address, ten times as many for a moment; 0: no limit",
        ),
    },
    "database": {
        "url": Setting(
            database,
            Path("/var/lib/calllogd/calllogd.db"),
            "the ledger of calls, one SQLite file",
            show='"sqlite:////var/lib/calllogd/calllogd.db"',
        ),
        "key": Setting(
            sealing_keys,
            None,
            "what the ledger's secrets are sealed with; absent: a file beside it, made at the first start",
            secret=True,
            show='"…"',
        ),
    },
    "queue": {
        "url": Setting(choice("embedded"), "embedded", "embedded: Huey in the ledger's own file"),
        "workers": Setting(
            number(1, 16, whole=True),
            4,
            "threads that answer the bell; also calls of one account handled at a time",
        ),
    },
    "kommo": {
        "client_id": Setting(
            text, None, "id of the integration, for OAuth and the widget's tokens", show='"…"'
        ),
        "client_secret": Setting(bearer, None, "secret of the integration", secret=True, show='"…"'),
        "redirect_uri": Setting(
            web_address,
            None,
            "redirect address as entered in the integration",
            show='"https://calls.example.com/oauth/callback"',
        ),
        "consent_url": Setting(
            web_address, "https://www.kommo.com/oauth", "where administrators allow the integration"
        ),
        "domains": Setting(
            domains,
            ("kommo.com", "amocrm.com"),
            "domains whose accounts may be installed by OAuth: they are shown client_secret",
            show='["kommo.com", "amocrm.com"]',
        ),
        "rate": Setting(number(0, 1000), 7, "requests a second for each account; 0: no limit"),
        "rate_total": Setting(number(0, 1000), 0, "requests a second for all accounts together; 0: no limit"),
        "timeout": Setting(number(0.1, 300), 20, "seconds for one request to Kommo"),
        "source": Setting(text, "calllogd", "name under which calls stand in Kommo"),
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
        "leg_wait": Setting(
            number(0, 600),
            10,
            "seconds of quiet after a call's last leg before it is logged, at services that tell of legs",
        ),
        "doubt_wait": Setting(
            _SECONDS, 60, "seconds after a request of unknown outcome before its call is created again"
        ),
        "incoming_leads": Setting(
            lambda value: IncomingLeads(choice(*IncomingLeads)(value)),
            IncomingLeads.ALL,
            "inbound calls from unknown numbers that become incoming leads: all, answered or off",
            show='"all"',
        ),
        "internal_calls": Setting(
            lambda value: InternalCalls(choice(*InternalCalls)(value)),
            InternalCalls.IGNORED,
            "calls from or to extensions and short numbers: ignored, or logged like any other",
            show='"ignored"',
        ),
        "blocked": Setting(
            phones,
            (),
            'numbers whose calls are ignored, best with their country code, such as ["+12125550100"]',
            show="[]",
        ),
    },
    "recordings": {
        "path": Setting(
            path,
            Path("/var/lib/calllogd/recordings"),
            "folder for recordings",
            show='"/var/lib/calllogd/recordings"',
        ),
        "max_bytes": Setting(number(1, 2**40, whole=True), 104857600, "bytes of one recording at most"),
        "keep_days": Setting(
            number(0, 36_500), 0, "days after the call that its recording is kept; 0: for ever"
        ),
        "keep_free_bytes": Setting(
            number(0, 2**50, whole=True),
            500_000_000,
            "bytes of the disk that stay free: no recording is taken that needs them",
        ),
        "allow_private": Setting(
            networks,
            (),
            'private networks that recordings may be fetched from, such as ["10.0.0.0/8"]',
            show="[]",
        ),
        "convert": Setting(
            choice("auto", "off"),
            "auto",
            "auto: WAV and GSM become MP3, if ffmpeg is installed; off: recordings stay as they come",
        ),
    },
    "admin": {
        "token": Setting(token, None, "token of the operator's pages and API", secret=True, show='"…"'),
        "metrics_from": Setting(
            networks,
            LOOPBACK,
            "networks that may read /metrics without the token",
            show='["127.0.0.0/8", "::1/128"]',
        ),
    },
    "log": {
        "file": Setting(
            path,
            None,
            "file to log to, which may be rotated by renaming; absent: standard error",
            show='"/var/log/calllogd/calllogd.log"',
        ),
        "format": Setting(choice("logfmt", "json"), "logfmt", "logfmt or json"),
        "level": Setting(
            choice("debug", "info", "warning", "error"), "info", "debug, info, warning or error"
        ),
    },
}

ACCOUNT: Mapping[str, Setting] = {
    "id": Setting(number(1, 2**53, whole=True), REQUIRED, "id of the Kommo account", show="31337"),
    "base_url": Setting(
        web_address, REQUIRED, "the account's own address", show='"https://example.kommo.com"'
    ),
    "region": Setting(region, None, "country in which national numbers are read", show='"US"'),
    "access_token": Setting(
        bearer,
        None,
        "long-lived token of a private integration; left out when OAuth installs the account",
        secret=True,
        show='"…"',
    ),
}

SERVICE: Mapping[str, Setting] = {
    "url": Setting(
        called_address,
        None,
        "address as it is entered at the service, if a proxy in front makes another of it",
        show='"https://calls.example.com/hooks"',
    ),
}
"""What each VoIP service has besides its own settings."""

GENERIC: Mapping[str, Setting] = {
    "token": Setting(token, None, "bearer token of the generic webhook", secret=True, show='"…"'),
    "signing_secret": Setting(
        signing_secret, None, "or: secret of its Standard Webhooks signature", secret=True, show='"whsec_…"'
    ),
    "previous_token": Setting(
        token,
        None,
        "token that is taken as well, while the VoIP service is given a new one",
        secret=True,
        show='"…"',
    ),
    "previous_signing_secret": Setting(
        signing_secret, None, "secret that is taken as well, likewise", secret=True, show='"whsec_…"'
    ),
}
