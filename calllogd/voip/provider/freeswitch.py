"""FreeSWITCH: the JSON that mod_json_cdr posts for each leg, or leaves in a file when it cannot.

Source: FreeSWITCH's mod_json_cdr.c, switch_ivr.c, switch_ivr_bridge.c and switch_channel.c at cc93a68, read
2026-11-23.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from calllogd.config import Setting
from calllogd.config.values import path, token
from calllogd.domain.call import NO_RECORDING, CallKey, CallStatus, Leg, Recording
from calllogd.domain.merge import CallEvent
from calllogd.errors import InputRefused
from calllogd.voip.errand import Ask, Errand, LocalFile
from calllogd.voip.fields import checked_call_id
from calllogd.voip.freeswitch_legs import Switch
from calllogd.voip.freeswitch_record import Record
from calllogd.voip.pbx import ON_PREMISES, file_of, names, recording_of
from calllogd.voip.proof import ALLOW_FROM, TOKEN, BearerToken, Tokens, any_same, basic, check_address
from calllogd.voip.provider import NotUnderstood, Service, Told, VoipService
from calllogd.voip.webhook import Webhook

_BODY_MOST = 1024 * 1024
"""A leg's variables come all together, and SIP headers of any length are among them."""

_BASIC = 'Basic realm="calllogd"'
_PERCENT = re.compile(rb"%7b", re.IGNORECASE)
_LIMIT = re.compile(r"\s+\+[0-9]+$")
_OPTIONS = re.compile(r"^\{[^}]*\}")


class Freeswitch(VoipService):
    """FreeSWITCH as one account uses it."""

    def __init__(self, account_id: int, values: Mapping[str, Any], tokens: Tokens) -> None:
        self.error_files: Path | None = values["error_files"]
        self._account_id = account_id
        self._tokens = tokens
        self._allow_from = values["allow_from"]
        passwords = (values["password"], values["previous_password"])
        self._shown = [f"{values['username']}:{password}" for password in passwords if password is not None]
        self._recordings: Path | None = values["recordings"]
        self._switch = Switch(
            values["extension_digits"], frozenset(map(str.lower, values["inbound_contexts"]))
        )

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if name and password are right, or a token is shown; else raises InputRefused."""
        check_address(webhook, self._allow_from)
        try:
            shown = ":".join(basic(webhook))
        except InputRefused:
            shown = ""
        if not any_same(self._shown, [shown]):
            self._tokens.check_any(webhook, now)

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what a leg's record says, nothing of an empty request; raises NotUnderstood."""
        return self._told(_json_of(webhook.body), now) if webhook.body.strip() else ()

    def told_body(self, webhook: Webhook) -> bytes:
        """Return the record, whichever way it was wrapped."""
        try:
            return _json_of(webhook.body)
        except NotUnderstood:
            return super().told_body(webhook)

    def told_of(self, record: bytes, now: float) -> Sequence[Told]:
        """Return what a file says that was left because nobody took its record; raises NotUnderstood."""
        return self._told(_json_of(record), now)

    def find_recording(self, reference: str, now: float) -> Errand[Ask | LocalFile]:
        """Return the file that a record named, without asking anybody; raises ErrandFailed."""
        yield from ()
        return file_of(self._recordings, reference)

    def _told(self, text: bytes, now: float) -> Sequence[Told]:
        record = _record(text)
        try:
            call_id = checked_call_id(record.call_id)
            checked_call_id(record.uuid)
        except InputRefused as error:
            raise NotUnderstood(error.detail) from None
        legs = self._switch.legs(record, now)
        if not legs:
            return ()
        recording = self._recording(record, legs)
        event = CallEvent(key=CallKey(self._account_id, call_id), legs=legs, recording=recording)
        return (Told("leg.ended", event, text),)

    def _recording(self, record: Record, legs: Sequence[Leg]) -> Recording:
        """Return the recording of a leg that was answered: where none was, a file may not have been made."""
        if all(leg.status is not CallStatus.ANSWERED for leg in legs):
            return NO_RECORDING
        told = record.text("calllogd_recording")
        if not told and record.text("record_name"):  # FusionPBX's
            told = "/".join(filter(None, (record.text("record_path"), record.text("record_name"))))
        told = told or _OPTIONS.sub("", _LIMIT.sub("", record.last_of("record_session")))
        return recording_of("freeswitch", self._recordings, told)


def _json_of(body: bytes) -> bytes:
    """Return the JSON that a body holds; raises NotUnderstood.

    What kind of body it is, its first byte tells: with disable-100-continue they are all labelled as forms.
    """
    text = body.strip().removeprefix(b"cdr=")
    if text.startswith(b"{"):
        return text
    if _PERCENT.match(text):
        return unquote_to_bytes(text)
    try:
        text = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        text = b""
    if not text.startswith(b"{"):
        raise NotUnderstood("this is neither a JSON object nor one in percent or base64 encoding after cdr=")
    return text


def _record(text: bytes) -> Record:
    try:
        # Names of callers are put in as they have come, in whatever encoding.
        content = msgspec.json.decode(text.decode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise NotUnderstood("this is not a JSON object") from None
    variables = content.get("variables") if isinstance(content, dict) else None
    if not isinstance(variables, dict):
        raise NotUnderstood("variables are missing: this is no record of mod_json_cdr")
    return Record(content, variables)


def _user(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or ":" in value:
        raise ValueError("a text without a colon")
    return value


def _make(account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> Freeswitch | None:
    tokens = Tokens(values, made)
    if not tokens and values["password"] is None and values["error_files"] is None:
        return None
    return Freeswitch(account_id, values, tokens)


SERVICE = Service(
    title="FreeSWITCH",
    settings={
        "username": Setting(_user, "freeswitch", "name in `cred` of json_cdr.conf"),
        "password": Setting(token, None, "password there", secret=True, show='"…"'),
        "previous_password": Setting(
            token, None, "one that is taken as well, while it is changed", secret=True, show='"…"'
        ),
        **TOKEN,
        **ALLOW_FROM,
        "inbound_contexts": Setting(
            names, ("public",), "contexts in which only calls from outside begin", show='["public"]'
        ),
        **ON_PREMISES,
        "error_files": Setting(
            path,
            None,
            "err-log-dir of json_cdr.conf on this machine, whose files are taken; absent: none",
            show='"/var/log/freeswitch/json_cdr"',
        ),
    },
    make=_make,
    body_most=_BODY_MOST,
    challenge=_BASIC,
)
