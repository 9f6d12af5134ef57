"""Aircall: what its webhooks say of a call, the end of which is final.

`call.hungup` comes at once and `call.ended` about half a minute later, when everything about the call has
been gathered; only the latter says how the call ended. Source: Aircall's webhooks guide and call object,
read 2026-11-23.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from calllogd.config import Setting
from calllogd.config.values import bearer
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
from calllogd.errors import InputRefused
from calllogd.voip.fields import start_of
from calllogd.voip.proof import ALLOW_FROM, UNPROVEN, BearerToken, Tokens, any_same, check_address
from calllogd.voip.provider import NotUnderstood, Service, Told, VoipService
from calllogd.voip.provider.generic import is_safe
from calllogd.voip.webhook import EMPTY, Reply, Webhook

_WHAT = {
    "call.created": ("call.started", 1),
    "call.answered": ("call.answered", 2),
    "call.hungup": ("call.hungup", 2),
    "call.transferred": ("call.transferred", 2),
    "call.ended": ("call.ended", 3),
}
"""What we call an event, and how late in the call it names the user."""

_GAVE_UP = ("short_abandoned", "abandoned_in_ivr", "abandoned_in_classic")
"""Reasons of missed calls that are the client's own."""

_TALK_MOST_S = 10_000_000


class _User(msgspec.Struct):
    id: int


class _Call(msgspec.Struct):
    """A call as Aircall describes it; times are Unix seconds. `raw_digits` is the outside number."""

    id: int
    direction: str | None = None
    raw_digits: str | None = None
    started_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    duration: float | None = None
    user: _User | None = None
    missed_call_reason: str | None = None
    recording: str | None = None
    voicemail: str | None = None


class _Event(msgspec.Struct):
    event: str


class _Message(msgspec.Struct):
    data: _Call


class _Proof(msgspec.Struct):
    token: str


# Integers may come as texts.
_event = msgspec.json.Decoder(_Event).decode
_message = msgspec.json.Decoder(_Message, strict=False).decode
_proof = msgspec.json.Decoder(_Proof).decode

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Aircall(VoipService):
    """Aircall as one account uses it."""

    reply: Reply | None = EMPTY

    def __init__(self, account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> None:
        self._account_id = account_id
        self._tokens = [one for one in (values["token"], values["previous_token"]) if one is not None]
        self._path_tokens = Tokens({}, made)
        self._allow_from = values["allow_from"]

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if the message has the webhook's token, and its address the account's if one was made."""
        check_address(webhook, self._allow_from)
        self._path_tokens.check_path(webhook, now)
        if self._tokens and not any_same(self._tokens, [_token_of(webhook.body)]):
            raise InputRefused("unauthorized", UNPROVEN)

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what a message says of its call; raises NotUnderstood."""
        try:
            name = _event(webhook.body).event
            if name == "call.voicemail_left":
                return [self._left(_message(webhook.body).data)]
            if name not in _WHAT:
                return []
            return [self._told(name, _message(webhook.body).data, now)]
        except _UNREADABLE as error:
            raise NotUnderstood(f"not what Aircall's messages look like: {error}") from error

    def told_body(self, webhook: Webhook) -> bytes:
        """Return the body without the token that stands in it."""
        try:
            body = msgspec.json.decode(webhook.body)
        except _UNREADABLE:
            return b""
        if isinstance(body, dict):
            body.pop("token", None)
        return msgspec.json.encode(body)

    def _told(self, name: str, call: _Call, now: float) -> Told:
        what, weight = _WHAT[name]
        ended = name == "call.ended"
        outcome = _outcome(call) if ended else None
        weight += outcome is not None and outcome.status is CallStatus.ANSWERED
        facts = Facts(
            direction=_direction(call),
            phone=_phone(call),
            person=None if call.user is None else Person(weight, str(call.user.id)),
            started_at=_start(call, now),
            outcome=outcome,
        )
        recording = _recording(call) if ended else NO_RECORDING
        return Told(what, CallEvent(key=self._key(call), facts=facts, recording=recording))

    def _left(self, call: _Call) -> Told:
        """Return that a message was left: its sound may be told before the call's end is."""
        return Told("recording.ready", CallEvent(key=self._key(call), recording=_recording(call)))

    def _key(self, call: _Call) -> CallKey:
        # Numbers, so that nothing else has to be looked for in them.
        call_id = str(call.id)
        if not (call_id.isascii() and call_id.isdigit() and len(call_id) <= 20):  # noqa: PLR2004
            raise NotUnderstood("data.id should be the number of a call")
        return CallKey(self._account_id, call_id)


def _make(account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> Aircall | None:
    provable = values["token"] is not None or values["previous_token"] is not None or made
    return Aircall(account_id, values, made) if provable else None


def _token_of(body: bytes) -> str:
    try:
        return _proof(body).token
    except _UNREADABLE:
        return ""


def _direction(call: _Call) -> Direction:
    try:
        return Direction(call.direction or "")
    except ValueError:
        raise NotUnderstood("data.direction should be inbound or outbound") from None


def _phone(call: _Call) -> str:
    """Return the client's number, which is made up to be read: "+1 202-555-0143", or anonymous."""
    if call.raw_digits is None or len(call.raw_digits) > 255:  # noqa: PLR2004
        raise NotUnderstood("data.raw_digits should be the outside number")
    return call.raw_digits


def _start(call: _Call, now: float) -> float | None:
    """Return when the call began; None for what cannot be, which is no reason to leave the call out."""
    try:
        return start_of(call.started_at, now)
    except InputRefused:
        return None


def _outcome(call: _Call) -> Outcome:
    """Return how a call ended; `duration` has the ringing in it, so talk is counted from the answer."""
    if call.answered_at is not None:
        return Outcome(CallStatus.ANSWERED, _talk_s(call, call.answered_at))
    if call.voicemail is not None:
        return Outcome(CallStatus.VOICEMAIL, 0)
    return Outcome(CallStatus.CANCELLED if call.missed_call_reason in _GAVE_UP else CallStatus.NO_ANSWER, 0)


def _talk_s(call: _Call, answered_at: float) -> int:
    ended_at = call.ended_at
    if ended_at is None and call.started_at is not None and call.duration is not None:
        ended_at = call.started_at + call.duration
    if ended_at is None or not 0 <= ended_at - answered_at <= _TALK_MOST_S:
        raise NotUnderstood("data.ended_at should be a time after data.answered_at")
    return round(ended_at - answered_at)


def _recording(call: _Call) -> Recording:
    """Return where the sound is, a signed link that holds for an hour and needs nothing else."""
    url = call.recording or call.voicemail
    if url is None or not is_safe(url):
        return NO_RECORDING
    return Recording(state=RecordingState.EXPECTED, url=url)


SERVICE = Service(
    title="Aircall",
    settings={
        "token": Setting(
            bearer, None, "token of the webhook, which Aircall shows when it is made", secret=True, show='"…"'
        ),
        "previous_token": Setting(
            bearer,
            None,
            "one that is taken as well, while a new webhook takes the place of an older one",
            secret=True,
            show='"…"',
        ),
        **ALLOW_FROM,
    },
    make=_make,
    body_most=256 * 1024,
)
