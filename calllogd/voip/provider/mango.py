"""Mango Office: forms with a JSON text and its signature; the summary of a call is final.

What a message is stands in its body, for the address is not signed. Source: MANGO OFFICE VPBX API, manual of
version 1.9, read 2026-11-23.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from calllogd.config import Setting
from calllogd.config.values import bearer, web_address
from calllogd.domain.call import (
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
from calllogd.voip.errand import Ask, Errand, LocalFile
from calllogd.voip.fields import checked_call_id, start_of
from calllogd.voip.proof import ALLOW_FROM, TOKEN, UNPROVEN, BearerToken, Tokens, any_same, check_address
from calllogd.voip.provider import NotUnderstood, Service, Told, VoipService
from calllogd.voip.webhook import EMPTY, Reply, Webhook, segments

Json = Mapping[str, Any]

_CALL, _SUMMARY, _RECORDING, _STORED = "call", "summary", "recording", "record/added"

_ADDRESSES = {
    "call": _CALL,
    "summary": _SUMMARY,
    "recording": _RECORDING,
    "record/added": _STORED,
    # Topics were recognised in a recording: the same fields, and the recording is there as well.
    "record/tagged": _STORED,
}
"""What is sent to which address below events/."""

_MARKS = {
    "call_state": _CALL,
    "recording_state": _RECORDING,
    "call_direction": _SUMMARY,
    "recording_id": _STORED,
}
"""The fields that tell what a body is, the first of them that it has."""

_REASONS = (
    ("1111", CallStatus.NO_ANSWER),
    ("111", CallStatus.CANCELLED),
    ("1125", CallStatus.CANCELLED),
    ("112", CallStatus.BUSY),
    ("113", CallStatus.FAILED),
    ("114", CallStatus.FAILED),
    ("115", CallStatus.FAILED),
    ("118", CallStatus.CANCELLED),
    ("1193", CallStatus.BUSY),
    ("1", CallStatus.NO_ANSWER),
    ("", CallStatus.FAILED),
)
"""Beginnings of the codes that say why nobody talked: an unknown code means what its class does."""

_RANG, _CONNECTED, _MISSED, _TALKED = range(1, 5)
"""How much it counts who is named: whom the summary of an answered call names more than any who rang."""

_INTERNATIONAL = re.compile("[1-79][0-9]{10,14}")
"""Numbers with their country code; 8 is also what is dialled in Russia before a number without."""

_WHOLE = re.compile("-?[0-9]{1,15}")
_PHONE_MOST, _EXTENSION_MOST, _TALK_MOST_S = 255, 64, 10_000_000

_ZONE_S, _NEAR_S, _DAY_S = 3 * 3600, 600, 86_400


class Mango(VoipService):
    """Mango Office as one account uses it."""

    reply: Reply | None = EMPTY

    def __init__(self, account_id: int, values: Mapping[str, Any], tokens: Tokens) -> None:
        self._account_id = account_id
        self._tokens = tokens
        self._allow_from = values["allow_from"]
        self._api_url = values["api_url"]
        self._key, self._salt = values["vpbx_api_key"], values["vpbx_api_salt"]
        keys = [one for one in (self._key, values["previous_vpbx_api_key"]) if one is not None]
        salts = [one for one in (self._salt, values["previous_vpbx_api_salt"]) if one is not None]
        self._pairs = [(key, salt) for key in keys for salt in salts]

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if the signature is right, and the address has the account's token, if there is one."""
        check_address(webhook, self._allow_from)
        self._tokens.check_path(webhook, now)
        form = dict(webhook.form)
        right = [_sign(key, form.get("json", ""), salt) for key, salt in self._pairs]
        if not any_same(right, [form.get("sign", "")]):
            raise InputRefused("unauthorized", UNPROVEN)

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what a message says of its call; raises NotUnderstood."""
        body = _read(self.told_body(webhook))
        is_at = _ADDRESSES.get(_address(webhook.rest))
        is_a = next((kind for mark, kind in _MARKS.items() if mark in body), None)
        if is_at is not None and is_a != is_at:
            raise NotUnderstood(f"what came to the address of events/{is_at} is none")
        if is_a is None:
            return []
        key = self._key_of(body)
        if is_a == _SUMMARY:
            return [Told("call.ended", CallEvent(key=key, facts=_summary(body, now)))]
        if is_a == _CALL:
            return _leg(key, body)
        return _recorded(key, body)

    def told_body(self, webhook: Webhook) -> bytes:
        """Return the JSON of the form, without key and signature."""
        return dict(webhook.form).get("json", "").encode("utf-8", "surrogateescape")

    def find_recording(self, reference: str, now: float) -> Errand[Ask | LocalFile]:
        """Return the request for a recording: a signed link, which leads to one that holds but once."""
        yield from ()
        recording_id = unquote(reference)
        # A day, for whatever of three hours Mango's clock is off: times are said to be those of UTC+3.
        until = str(int(now) + _DAY_S)
        sign = _sign(self._key, until + recording_id, self._salt)
        path = "/".join((quote(recording_id, safe=""), "download", quote(self._key, safe=""), until, sign))
        return Ask(url=f"{self._api_url}/vpbx/queries/recording/link/{path}")

    def _key_of(self, body: Json) -> CallKey:
        try:
            return CallKey(self._account_id, checked_call_id(_text(body, "entry_id")))
        except InputRefused as error:
            raise NotUnderstood(f"entry_id is missing or no id of a call: {error.detail}") from error


def _make(account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> Mango | None:
    if values["vpbx_api_key"] is None or values["vpbx_api_salt"] is None:
        return None
    return Mango(account_id, values, Tokens(values, made))


def _sign(key: str, text: str, salt: str) -> str:
    return hashlib.sha256(f"{key}{text}{salt}".encode("utf-8", "surrogateescape")).hexdigest()


def _address(rest: str) -> str:
    """Return what stands behind events/ in the address, where the account's token may be in front."""
    _, _, address = "/".join(["", *segments(rest)]).rpartition("/events/")
    return address


def _read(text: bytes) -> Json:
    try:
        body = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotUnderstood(f"json cannot be read: {error}") from error
    if not isinstance(body, dict):
        raise NotUnderstood("json should be an object")
    return body


def _summary(body: Json, now: float) -> Facts:
    """Return what the call was; for one that was not answered `to` is the first who missed it."""
    direction, ours, client = _sides(body)
    outcome = _outcome(body)
    extension = _text(ours, "extension")
    weight = _TALKED if outcome.status is CallStatus.ANSWERED else _MISSED
    return Facts(
        direction=direction,
        phone=client,
        person=Person(weight, extension) if 1 <= len(extension) <= _EXTENSION_MOST else None,
        started_at=_start(body, now),
        outcome=outcome,
    )


def _sides(body: Json) -> tuple[Direction, Json, str]:
    """Return a call's direction, who of the company took part, and the client's number."""
    caller, called = _object(body, "from"), _object(body, "to")
    match _text(body, "call_direction"):
        case "1":
            return Direction.INBOUND, called, _phone(caller)
        case "2":
            return Direction.OUTBOUND, caller, _phone(called)
        case "0":
            # Said to be inside even where the colleague is only known by the number of his mobile.
            inside = _text(called, "extension") or f"ext:{_text(called, 'number')}"
            return Direction.OUTBOUND, caller, inside[:_PHONE_MOST]
        case _:
            raise NotUnderstood("call_direction should be 0, 1 or 2")


def _outcome(body: Json) -> Outcome:
    """Return how the call ended; `entry_result` is not asked, it also calls callers in the menu a success."""
    answered_at, ended_at = _whole(body, "talk_time"), _whole(body, "end_time")
    if answered_at is None or ended_at is None:
        raise NotUnderstood("talk_time and end_time should be Unix seconds")
    if answered_at > 0:
        if not 0 <= ended_at - answered_at <= _TALK_MOST_S:
            raise NotUnderstood("end_time should be a time after talk_time")
        return Outcome(CallStatus.ANSWERED, ended_at - answered_at)
    reason = _text(body, "disconnect_reason") or "1"
    return Outcome(next(status for code, status in _REASONS if reason.startswith(code)), 0)


def _start(body: Json, now: float) -> float | None:
    """Return when the call began, None for what cannot be.

    The manual has it that times are "UTC+3", which for Unix seconds means nothing, or three hours too many. A
    summary comes when the call ends: if its end is three hours from now, to ten minutes, they are put right.
    """
    started_at, ended_at = _whole(body, "create_time"), _whole(body, "end_time")
    if started_at is None or ended_at is None:
        return None
    for shift in (_ZONE_S, -_ZONE_S):
        if abs(ended_at - shift - now) <= _NEAR_S:
            started_at -= shift
    try:
        return start_of(started_at, now)
    except InputRefused:
        return None


def _leg(key: CallKey, body: Json) -> Sequence[Told]:
    """Return what the state of one connection tells of the call: who rings or talks, and which client calls.

    Never that the company calls: a colleague who is asked back has the same look, and would count for more
    than the summary.
    """
    state = _text(body, "call_state")
    if state not in ("Appeared", "Connected"):
        return []
    caller, called = _object(body, "from"), _object(body, "to")
    extensions = [one for side in (caller, called) if (one := _text(side, "extension"))]
    person = None
    if len(extensions) == 1 and len(extensions[0]) <= _EXTENSION_MOST:
        person = Person(_CONNECTED if state == "Connected" else _RANG, extensions[0])
    # Where the telephone system calls by itself, it calls its own people first, with the client's number.
    is_made = any(body.get(name) for name in ("command_id", "task_id", "callback_initiator"))
    calls_us = not _text(caller, "extension") and not is_made and not _text(caller, "taken_from_call_id")
    facts = Facts(
        direction=Direction.INBOUND if calls_us else None,
        phone=_phone(caller) if calls_us else None,
        person=person,
    )
    if facts == Facts():
        return []
    what = "call.answered" if state == "Connected" else "call.started"
    return [Told(what, CallEvent(key=key, facts=facts))]


def _recorded(key: CallKey, body: Json) -> Sequence[Told]:
    """Return what is said of a recording, of which a call has one for each who is recorded.

    One that was only sent by mail cannot be had.
    """
    if "recording_state" in body and _text(body, "recording_state") != "Completed":
        return []
    code, recipient = _text(body, "completion_code"), _text(body, "recipient")
    if code not in ("", "1000") or recipient == "Mail":
        return [Told("recording.failed", CallEvent(key=key, recording=Recording(state=RecordingState.NEVER)))]
    recording_id = _text(body, "recording_id")
    if not 1 <= len(recording_id) <= _PHONE_MOST:
        raise NotUnderstood("recording_id is missing")
    url = f"mango:{quote(recording_id, safe='')}"
    recording = Recording(state=RecordingState.EXPECTED, url=url)
    return [Told("recording.ready", CallEvent(key=key, recording=recording))]


def _object(body: Json, name: str) -> Json:
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def _text(body: Json, name: str) -> str:
    """Return a field that may come as a text or as a whole number; empty if it is neither."""
    value = body.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**15:
        return str(value)
    return value if isinstance(value, str) else ""


def _whole(body: Json, name: str) -> int | None:
    text = _text(body, name)
    return int(text) if _WHOLE.fullmatch(text) else None


def _phone(side: Json) -> str:
    """Return a number, with the plus that Mango leaves out; empty for a withheld one."""
    number = _text(side, "number")[:_PHONE_MOST]
    return f"+{number}" if _INTERNATIONAL.fullmatch(number) else number


def _secret(meaning: str) -> Setting:
    return Setting(bearer, None, meaning, secret=True, show='"…"')


SERVICE = Service(
    title="Mango Office",
    settings={
        "vpbx_api_key": _secret("unique code of your telephone system, from the settings of its API"),
        "vpbx_api_salt": _secret("key for signatures, from the same page"),
        "previous_vpbx_api_key": _secret("code that is taken as well, while Mango is given a new one"),
        "previous_vpbx_api_salt": _secret("key for signatures that is taken as well, likewise"),
        **TOKEN,
        **ALLOW_FROM,
        "api_url": Setting(web_address, "https://app.mango-office.ru", "Mango's API, for recordings"),
    },
    make=_make,
)
