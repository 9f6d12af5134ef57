"""API4Com: one JSON message for each stage of a call; that of the hang-up is final.

Nothing is signed: a secret in the address, or in the metadata that API4Com repeats, is the only proof.
Source: public receivers of webhooks of version 1.4, read 2026-11-23; there is no public reference.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from calllogd.config import Setting
from calllogd.domain.call import (
    NO_RECORDING,
    CallKey,
    CallStatus,
    Direction,
    Facts,
    Outcome,
    Person,
    Recording,
    RecordingState,
)
from calllogd.domain.merge import CallEvent
from calllogd.domain.phone import Kind, read
from calllogd.errors import InputRefused
from calllogd.voip.fields import checked_call_id, start_of
from calllogd.voip.proof import ALLOW_FROM, TOKEN, BearerToken, Tokens, check_address, shown_token
from calllogd.voip.provider import NotUnderstood, Service, Told, VoipService
from calllogd.voip.provider.generic import is_safe
from calllogd.voip.webhook import Webhook

_WHAT = {
    "channel-create": ("call.started", 1),
    "channel-answer": ("call.answered", 2),
    "channel-hangup": ("call.ended", 3),
}
"""What we call an event, and how late in the call it names the extension."""

_CAUSES = {
    **dict.fromkeys(
        ("", "NORMAL_CLEARING", "NO_ANSWER", "NO_USER_RESPONSE", "ALLOTTED_TIMEOUT", "SUBSCRIBER_ABSENT"),
        CallStatus.NO_ANSWER,
    ),
    "USER_BUSY": CallStatus.BUSY,
    "ORIGINATOR_CANCEL": CallStatus.CANCELLED,
}
"""FreeSWITCH's words for the end of a call that nobody answered; all others tell of a failure."""

_HOME = "America/Sao_Paulo"
_PHONE_MOST, _EXTENSION_MOST, _TALK_MOST_S = 255, 64, 10_000_000

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Message(msgspec.Struct):
    """The message as it comes; what is not listed here is passed over."""

    event_type: str = msgspec.field(name="eventType")
    id: str | int = ""
    direction: str | None = None
    caller: str | int | None = None
    called: str | int | None = None
    started_at: str | None = msgspec.field(name="startedAt", default=None)
    answered_at: str | None = msgspec.field(name="answeredAt", default=None)
    ended_at: str | None = msgspec.field(name="endedAt", default=None)
    duration: float | str | None = None
    hangup_cause: str | None = msgspec.field(name="hangupCause", default=None)
    record_url: str | None = msgspec.field(name="recordUrl", default=None)


class _Kind(msgspec.Struct):
    event_type: str = msgspec.field(name="eventType")


class _Metadata(msgspec.Struct):
    token: str


class _Proof(msgspec.Struct):
    metadata: _Metadata


_kind = msgspec.json.Decoder(_Kind).decode
_message = msgspec.json.Decoder(_Message).decode
_proof = msgspec.json.Decoder(_Proof).decode
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_metadata = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode


class Api4com(VoipService):
    """API4Com as one account uses it."""

    def __init__(self, account_id: int, values: Mapping[str, Any], tokens: Tokens) -> None:
        self._account_id = account_id
        self._tokens = tokens
        self._allow_from = values["allow_from"]
        self._zone = values["timezone"] or ZoneInfo(_HOME)

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if the request shows the account's token, in its address, its head or its metadata."""
        check_address(webhook, self._allow_from)
        self._tokens.check(shown_token(webhook) or _repeated_token(webhook.body), now)

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what a message says of its call; raises NotUnderstood."""
        try:
            if _kind(webhook.body).event_type not in _WHAT:
                return []
            message = _message(webhook.body)
        except _UNREADABLE as error:
            raise NotUnderstood(f"not what API4Com's messages look like: {error}") from error
        try:
            key = CallKey(self._account_id, checked_call_id(_text(message.id)))
        except InputRefused as error:
            raise NotUnderstood(f"id is missing or no id of a call: {error.detail}") from error
        what, weight = _WHAT[message.event_type]
        direction = _direction(message)
        outcome = self._outcome(message) if what == "call.ended" else None
        answered = outcome is not None and outcome.status is CallStatus.ANSWERED
        inbound = direction is Direction.INBOUND
        facts = Facts(
            direction=direction,
            phone=_text(message.caller if inbound else message.called)[:_PHONE_MOST],
            person=_person(_text(message.called if inbound else message.caller), weight + answered),
            started_at=self._start(message.started_at, now),
            outcome=outcome,
        )
        # There is an address also where there was nothing to record.
        recording = _recording(message.record_url) if answered else NO_RECORDING
        return [Told(what, CallEvent(key=key, facts=facts, recording=recording))]

    def told_body(self, webhook: Webhook) -> bytes:
        """Return the body without the token that its metadata may have."""
        try:
            message = _raw(webhook.body)
            metadata = _metadata(message.get("metadata", b"null"))
        except _UNREADABLE:
            return b""
        if not metadata or metadata.pop("token", None) is None:
            return webhook.body
        return msgspec.json.encode({**message, "metadata": metadata})

    def _outcome(self, message: _Message) -> Outcome:
        cause = (message.hangup_cause or "").strip().upper()
        talk_s = self._talk_s(message)
        # Of some extensions neither the answer nor a cause is told, only for how long they talked.
        if message.answered_at or (not cause and talk_s):
            if talk_s is None:
                raise NotUnderstood("endedAt or duration should tell how long somebody talked")
            return Outcome(CallStatus.ANSWERED, talk_s)
        return Outcome(_CAUSES.get(cause, CallStatus.FAILED), 0)

    def _talk_s(self, message: _Message) -> int | None:
        """Return the seconds from the answer to the end, as `duration` also has them; None if unknown."""
        answered_at, ended_at = self._moment(message.answered_at), self._moment(message.ended_at)
        if answered_at is not None and ended_at is not None and 0 <= ended_at - answered_at <= _TALK_MOST_S:
            return round(ended_at - answered_at)
        try:
            seconds = float("" if message.duration is None else message.duration)
        except ValueError:
            return None
        return round(seconds) if 0 <= seconds <= _TALK_MOST_S else None

    def _moment(self, text: str | None) -> float | None:
        """Return Unix seconds; a time without offset is one of the account's zone."""
        try:
            moment = datetime.fromisoformat(text or "")
            return (moment if moment.tzinfo else moment.replace(tzinfo=self._zone)).timestamp()
        except ValueError:
            return None

    def _start(self, text: str | None, now: float) -> float | None:
        """Return when the call began, None for what cannot be."""
        try:
            return start_of(self._moment(text), now)
        except InputRefused:
            return None


def _timezone(value: Any) -> ZoneInfo:
    try:
        return ZoneInfo(value)
    except (KeyError, OSError, TypeError, ValueError, AttributeError):
        raise ValueError(f"a time zone such as {_HOME}") from None


def _make(account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> Api4com | None:
    tokens = Tokens(values, made)
    return Api4com(account_id, values, tokens) if tokens else None


def _repeated_token(body: bytes) -> str:
    """Return the token that stands in the message; empty if there is none."""
    try:
        return _proof(body).metadata.token
    except _UNREADABLE:
        return ""


def _direction(message: _Message) -> Direction:
    try:
        return Direction(message.direction or "")
    except ValueError:
        raise NotUnderstood("direction should be inbound or outbound") from None


def _person(extension: str, weight: int) -> Person | None:
    """Return who took part; None where the company is named by its own outside number."""
    if not 1 <= len(extension) <= _EXTENSION_MOST or read(extension).kind is Kind.OUTSIDE:
        return None
    return Person(weight, extension)


def _recording(url: str | None) -> Recording:
    """Return where the sound is; it is taken at once, for the address holds for some hours only."""
    return Recording(state=RecordingState.EXPECTED, url=url) if url and is_safe(url) else NO_RECORDING


def _text(value: str | int | None) -> str:
    if isinstance(value, int):
        # Python does not write out numbers of any length.
        return str(value) if abs(value) < 10**20 else ""
    return value or ""


SERVICE = Service(
    title="API4Com",
    settings={
        **TOKEN,
        **ALLOW_FROM,
        "timezone": Setting(
            _timezone, None, f"time zone of times that come without one; absent: {_HOME}", show=f'"{_HOME}"'
        ),
    },
    make=_make,
)
