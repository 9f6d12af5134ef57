"""Asterisk, and what is built on it: call detail records, posted by the dialplan or read from Master.csv.

Asterisk itself posts nothing, so the fields are those that docs/voip/asterisk.md has the dialplan send.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from calllogd.config import Setting
from calllogd.config.values import path
from calllogd.domain.call import NO_RECORDING, CallKey, CallStatus
from calllogd.domain.merge import CallEvent
from calllogd.voip.cdr import Cdr, cdr_of, columns, fields_of
from calllogd.voip.cdr_parties import Parties
from calllogd.voip.errand import Ask, Errand, LocalFile
from calllogd.voip.pbx import ON_PREMISES, file_of, names, recording_of
from calllogd.voip.proof import ALLOW_FROM, TOKEN, BearerToken, Tokens, check_address
from calllogd.voip.provider import NotUnderstood, Service, Told, VoipService
from calllogd.voip.webhook import Webhook, texts

_INBOUND_CONTEXTS = (
    *("from-trunk", "from-pstn", "from-pstn-toheader", "from-dahdi", "from-zaptel", "from-analog"),
    *("from-did-direct", "from-outside", "ext-did", "ext-did-0001", "ext-did-0002"),
)
"""Where calls from outside begin; most are FreePBX's."""

_decode = msgspec.json.Decoder(dict[str, str | int | float | bool | None]).decode


class Asterisk(VoipService):
    """Asterisk as one account uses it."""

    def __init__(self, account_id: int, values: Mapping[str, Any], tokens: Tokens) -> None:
        self.cdr_file: Path | None = values["cdr_file"]
        self._account_id = account_id
        self._tokens = tokens
        self._allow_from = values["allow_from"]
        self._columns: Sequence[str] = values["cdr_columns"]
        self._zone: ZoneInfo = values["timezone"]
        self._recordings: Path | None = values["recordings"]
        self._parties = Parties(
            values["extension_digits"],
            frozenset(map(str.lower, values["inbound_contexts"])),
            tuple(map(str.lower, values["trunks"])),
        )

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if the account's token is shown, from where it may be; else raises InputRefused."""
        check_address(webhook, self._allow_from)
        self._tokens.check_any(webhook, now)

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what a record says, nothing of an empty request; raises NotUnderstood."""
        fields = _posted(webhook)
        return self._told(cdr_of(fields, self._zone, now), is_all_told=False) if fields else ()

    def told_of(self, record: bytes, now: float) -> Sequence[Told]:
        """Return what a line of Master.csv says; raises NotUnderstood."""
        cdr = cdr_of(fields_of(record, self._columns), self._zone, now)
        return self._told(cdr, is_all_told=bool(cdr.linkedid))

    def find_recording(self, reference: str, now: float) -> Errand[Ask | LocalFile]:
        """Return the file that a record named, without asking anybody; raises ErrandFailed."""
        yield from ()
        return file_of(self._recordings, reference)

    def _told(self, cdr: Cdr, *, is_all_told: bool) -> Sequence[Told]:
        legs = self._parties.legs(cdr, is_all_told=is_all_told)
        if not legs:
            return ()
        recording = NO_RECORDING
        if cdr.status is CallStatus.ANSWERED:
            recording = recording_of("asterisk", self._recordings, cdr.recording)
        event = CallEvent(key=CallKey(self._account_id, cdr.call_id), legs=legs, recording=recording)
        return (Told("leg.ended", event),)


def _posted(webhook: Webhook) -> Mapping[str, str]:
    """Return the fields of a form or a JSON object, whatever the body is said to be; raises NotUnderstood.

    CURL() does not say that it sends a form once it was given any header.
    """
    if not webhook.body.lstrip().startswith(b"{"):
        return {name.lower(): value for name, value in texts((*webhook.query, *webhook.form)).items()}
    try:
        fields = _decode(webhook.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotUnderstood("this is not a JSON object of texts and numbers") from None
    return {name.lower(): str(value) for name, value in fields.items() if value is not None}


def _timezone(value: Any) -> ZoneInfo:
    try:
        return ZoneInfo(value)
    except (ValueError, TypeError, OSError, LookupError):
        raise ValueError("a time zone such as America/Sao_Paulo") from None


def _make(account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> Asterisk | None:
    tokens = Tokens(values, made)
    return Asterisk(account_id, values, tokens) if tokens or values["cdr_file"] is not None else None


SERVICE = Service(
    title="Asterisk",
    settings={
        **TOKEN,
        **ALLOW_FROM,
        "timezone": Setting(_timezone, ZoneInfo("UTC"), "zone of times that have none", show='"UTC"'),
        "inbound_contexts": Setting(
            names,
            _INBOUND_CONTEXTS,
            "contexts of the dialplan in which only calls from outside are",
            show='["from-trunk", "from-pstn"]',
        ),
        "trunks": Setting(
            names,
            (),
            "channels that lead outside, every one of them; none: numbers tell who is outside",
            show='["PJSIP/provider"]',
        ),
        **ON_PREMISES,
        "cdr_file": Setting(
            path,
            None,
            "Master.csv on this machine, which is followed; absent: none",
            show='"/var/log/asterisk/cdr-csv/Master.csv"',
        ),
        "cdr_columns": Setting(
            columns,
            (),
            "its columns; none: those that Asterisk writes by itself",
            show='["uniqueid", "src", "dst", "disposition"]',
        ),
    },
    make=_make,
)
