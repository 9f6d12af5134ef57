"""Zadarma: forms that tell of a call as a whole, with a signature over a few of their fields.

One pair of key and secret signs messages and lets the API be asked for recordings, and for calls that were
missed. Source: Zadarma's own library user-api-v1 and its OpenAPI description, read 2026-11-23.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote, urlencode
from zoneinfo import ZoneInfo

import msgspec

from calllogd.config import Setting
from calllogd.config.values import bearer, web_address
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
from calllogd.voip.errand import Ask, Errand, ErrandFailed, Got, LocalFile, json_of
from calllogd.voip.fields import checked_call_id, possible_moment
from calllogd.voip.proof import ALLOW_FROM, TOKEN, UNPROVEN, BearerToken, Tokens, any_same, check_address
from calllogd.voip.provider import NotUnderstood, Service, Told, VoipService
from calllogd.voip.provider.generic import is_safe
from calllogd.voip.webhook import EMPTY, Reply, Webhook, texts

_TO_US = ("caller_id", "called_did", "call_start")
_BY_US = ("internal", "destination", "call_start")

_SIGNED = {
    "NOTIFY_START": _TO_US,
    "NOTIFY_INTERNAL": _TO_US,
    "NOTIFY_IVR": _TO_US,
    "NOTIFY_END": _TO_US,
    "NOTIFY_ANSWER": ("caller_id", "destination", "call_start"),
    "NOTIFY_OUT_START": _BY_US,
    "NOTIFY_OUT_END": _BY_US,
    "NOTIFY_RECORD": ("pbx_call_id", "call_id_with_rec"),
}
"""The fields whose texts are signed, one after the other, by the message's event."""

_WHAT: Mapping[str, tuple[str, Direction | None]] = {
    "NOTIFY_START": ("call.started", Direction.INBOUND),
    "NOTIFY_INTERNAL": ("call.ringing", None),
    "NOTIFY_ANSWER": ("call.answered", None),
    "NOTIFY_END": ("call.ended", Direction.INBOUND),
    "NOTIFY_OUT_START": ("call.started", Direction.OUTBOUND),
    "NOTIFY_OUT_END": ("call.ended", Direction.OUTBOUND),
    "NOTIFY_RECORD": ("recording.ready", None),
}
"""What we call an event, and the direction that it tells: extensions ring when any call is handed on."""

_RANG, _LISTED, _MISSED, _ANSWERED, _TALKED = range(1, 6)
"""How much it counts who is named: whom the end of an answered call names more than any who rang."""

_CLIENT = {Direction.INBOUND: "caller_id", Direction.OUTBOUND: "destination"}

_NOT_ANSWERED = {"busy": CallStatus.BUSY, "cancel": CallStatus.CANCELLED, "no answer": CallStatus.NO_ANSWER}
"""Dispositions; all others say why the call could not be made: no money, unallocated number, line limit …"""

_ECHO = re.compile(r"[A-Za-z0-9+/=._:~-]{1,128}")
_SECONDS = re.compile("[0-9]{1,7}")
_INTERNATIONAL = re.compile("[1-9][0-9]{9,14}")
_EXTENSION = re.compile("[0-9]{3,5}")

_PHONE_MOST, _EXTENSION_MOST = 255, 64

_ROWS, _PAGES_MOST = 1000, 100
"""Rows of the statistics that come at once, at most, and how often they are asked for."""

_NOT_THERE, _TOO_OFTEN = 400, 429
_MINUTE_S, _HOUR_S = 60.0, 3600.0
_WRITTEN = "%Y-%m-%d %H:%M:%S"


class _Statistics(msgspec.Struct):
    """What the statistics answer: a row for each call, or for each of its parts."""

    stats: list[msgspec.Raw]


class _Links(msgspec.Struct):
    """What a request for a recording is answered: `links` if the call's id was given."""

    link: str | None = None
    links: list[str] | None = None


class Zadarma(VoipService):
    """Zadarma as one account uses it; what its answers hold could steer the call, so they are empty."""

    reply: Reply | None = EMPTY

    def __init__(self, account_id: int, values: Mapping[str, Any], tokens: Tokens) -> None:
        self._account_id = account_id
        self._tokens = tokens
        self._key, self._secret = values["key"], values["secret"]
        self._secrets = [one for one in (values["secret"], values["previous_secret"]) if one is not None]
        self._allow_from = values["allow_from"]
        self._zone: ZoneInfo | None = values["timezone"]
        self._api_url = values["api_url"]

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if the address has the account's token, if there is one, and the signature is right.

        An account without an API key signs nothing; then the token is the only proof.
        """
        check_address(webhook, self._allow_from)
        self._tokens.check_path(webhook, now)
        form = dict(webhook.form)
        signed = _SIGNED.get(form.get("event", ""))
        if signed is None:
            # How others are signed is not known. They say nothing, so the token will do.
            proven = bool(self._tokens)
        else:
            text = "".join(form.get(name, "") for name in signed)
            right = [_signature(secret, text) for secret in self._secrets]
            proven = not right or any_same(right, [webhook.headers.get("Signature", "")])
        if not proven:
            raise InputRefused("unauthorized", UNPROVEN)

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what a message says of its call; raises NotUnderstood."""
        form = texts(webhook.form)
        event = form.get("event", "")
        return [self._told(event, form, now)] if event in _WHAT else []

    def find_recording(self, reference: str, now: float) -> Errand[Ask | LocalFile]:
        """Return the request for a recording: a link that the API makes, which needs no credentials."""
        call_id, _, recording_id = reference.partition("/")
        which = {"call_id": unquote(recording_id)} if recording_id else {"pbx_call_id": unquote(call_id)}
        got = yield self._ask("/v1/pbx/record/request/", which)
        if got.status == _NOT_THERE:
            raise ErrandFailed("Zadarma does not have the recording, or not yet: it takes about 40 seconds")
        found = json_of(got, _Links)
        link = found.link or next(reversed(found.links or ()), "")
        if not is_safe(link):
            raise ErrandFailed("Zadarma's answer has no link to the recording")
        return Ask(url=link)

    @property
    def lists_calls(self) -> bool:
        """Whether what it takes to ask for calls is configured."""
        return None not in (self._key, self._secret, self._zone)

    def list_calls(
        self, since: float, until: float, now: float
    ) -> Generator[Ask | Sequence[Told], Got | None, None]:
        """Yield what the statistics of the telephone system tell, a thousand rows at a time."""
        if self._zone is None:
            raise ErrandFailed("timezone is not set, in which Zadarma tells when calls began", is_final=True)
        # An hour more at both ends: when clocks are put back, an hour's local times come twice.
        around = {"start": since - _HOUR_S, "end": until + _HOUR_S}
        window = {name: f"{datetime.fromtimestamp(at, self._zone):{_WRITTEN}}" for name, at in around.items()}
        before: list[bytes] | None = None
        for page in range(_PAGES_MOST):
            params = {**window, "version": 2, "skip": page * _ROWS, "limit": _ROWS}
            got = yield self._ask("/v1/statistics/pbx/", params)
            if got is not None and got.status == _TOO_OFTEN:
                raise ErrandFailed("Zadarma takes three questions a minute", retry_after_s=_MINUTE_S)
            rows = [bytes(row) for row in json_of(got, _Statistics).stats]
            if rows == before:
                return
            yield [told for row in rows for told in self._listed(row, now)]
            if len(rows) < _ROWS:
                return
            before = rows
        raise ErrandFailed(f"Zadarma lists more than {_PAGES_MOST * _ROWS} calls")

    def _listed(self, body: bytes, now: float) -> Sequence[Told]:
        """Return what a row says, as the end's message would; nothing if it is of no call that we log."""
        try:
            row = msgspec.json.decode(body, type=dict[str, Any])
            told = self._told(*_as_form({name: _text(value) for name, value in row.items()}), now, _LISTED)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotUnderstood):
            return []
        return [replace(told, body=body)]

    def _told(self, name: str, form: Mapping[str, str], now: float, weight: int | None = None) -> Told:
        what, direction = _WHAT[name]
        try:
            key = CallKey(self._account_id, checked_call_id(form.get("pbx_call_id", "")))
        except InputRefused as error:
            raise NotUnderstood(f"pbx_call_id is missing or no id of a call: {error.detail}") from error
        if what == "recording.ready":
            return Told(what, CallEvent(key=key, recording=_recording(form)))
        direction = direction or _prefixed(key.call_id)
        outcome = _outcome(form) if what == "call.ended" else None
        facts = Facts(
            direction=direction,
            phone=None if direction is None else form.get(_CLIENT[direction], "")[:_PHONE_MOST],
            person=_person(form.get("internal", ""), weight or _weight(what, outcome)),
            started_at=_start(form.get("call_start", ""), self._zone, now),
            outcome=outcome,
        )
        # Where nobody talked the end alone promises nothing to listen to.
        is_recorded = outcome is not None and outcome.duration > 0 and form.get("is_recorded") == "1"
        recording = _recording(form) if is_recorded else NO_RECORDING
        return Told(what, CallEvent(key=key, facts=facts, recording=recording))

    def _ask(self, path: str, params: Mapping[str, Any]) -> Ask:
        """Return a signed request; raises ErrandFailed if there is nothing to sign it with."""
        if self._key is None or self._secret is None:
            raise ErrandFailed("key and secret of Zadarma's API are not set", is_final=True)
        query = urlencode(sorted({**params, "format": "json"}.items()))
        digest = hashlib.md5(query.encode(), usedforsecurity=False).hexdigest()
        signature = _signature(self._secret, f"{path}{query}{digest}")
        return Ask(
            url=f"{self._api_url}{path}?{query}", headers={"Authorization": f"{self._key}:{signature}"}
        )


def _timezone(value: Any) -> ZoneInfo:
    try:
        return ZoneInfo(value)
    except (KeyError, OSError, TypeError, ValueError, AttributeError):
        raise ValueError("a time zone such as Europe/Madrid") from None


def _handshake(webhook: Webhook) -> Reply | None:
    """Return the word that Zadarma asks for when the address is saved, if it is a plain one."""
    if webhook.method != "GET":
        return None
    word = dict(webhook.query).get("zd_echo", "")
    if not _ECHO.fullmatch(word):
        return None
    # Whoever asks is answered: no browser may take it for more than a text.
    return Reply(body=word.encode(), headers={"X-Content-Type-Options": "nosniff"})


def _make(account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> Zadarma | None:
    tokens = Tokens(values, made)
    provable = tokens or values["secret"] is not None or values["previous_secret"] is not None
    return Zadarma(account_id, values, tokens) if provable else None


def _signature(secret: str, text: str) -> str:
    """Return Zadarma's signature: the base64 of the digest's hexadecimal digits, not of its bytes."""
    digest = hmac.digest(secret.encode(), text.encode("utf-8", "surrogateescape"), "sha1")
    return base64.b64encode(digest.hex().encode()).decode()


def _prefixed(call_id: str) -> Direction | None:
    """Return the direction that a call's id tells, which stays the same when the call is handed on."""
    return {"in": Direction.INBOUND, "out": Direction.OUTBOUND}.get(call_id.partition("_")[0])


def _as_form(row: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Return a row of the statistics as the message that tells of the call's end; raises NotUnderstood."""
    direction = _prefixed(row.get("pbx_call_id", ""))
    if direction is None:
        raise NotUnderstood("the call was not with the world outside")
    inbound = direction is Direction.INBOUND
    number = row.get("clid" if inbound else "destination", "")
    # An incoming call's destination may be a scenario, which is no person.
    extension = _EXTENSION.fullmatch(row.get("destination" if inbound else "sip", ""))
    return "NOTIFY_END" if inbound else "NOTIFY_OUT_END", {
        "pbx_call_id": row["pbx_call_id"],
        "call_start": row.get("callstart", ""),
        # Here numbers are whole numbers, with their country code and without a plus.
        _CLIENT[direction]: "+" + number if _INTERNATIONAL.fullmatch(number) else number,
        "internal": extension[0] if extension else "",
        "duration": row.get("seconds", ""),
        "disposition": row.get("disposition", ""),
        "is_recorded": "1" if row.get("is_recorded") in ("1", "true") else "0",
        "call_id_with_rec": row.get("call_id", ""),
    }


def _weight(what: str, outcome: Outcome | None) -> int:
    if outcome is not None:
        return _TALKED if outcome.status is CallStatus.ANSWERED else _MISSED
    return _ANSWERED if what == "call.answered" else _RANG


def _person(extension: str, weight: int) -> Person | None:
    return Person(weight, extension) if 1 <= len(extension) <= _EXTENSION_MOST else None


def _start(text: str, zone: ZoneInfo | None, now: float) -> float | None:
    """Return when the call began; None where no zone is known: hours off is worse than some seconds late."""
    if zone is None:
        return None
    try:
        local = datetime.fromisoformat(text)
        seconds = local.replace(tzinfo=zone).timestamp()
    except (ValueError, OverflowError):
        return None
    return possible_moment(seconds, now) if local.tzinfo is None else None


def _outcome(form: Mapping[str, str]) -> Outcome:
    word = form.get("disposition", "").strip().lower()
    if not word:
        raise NotUnderstood("disposition is missing: how the call ended")
    if word != "answered":
        return Outcome(_NOT_ANSWERED.get(word, CallStatus.FAILED), 0)
    seconds = form.get("duration", "")
    if not _SECONDS.fullmatch(seconds):
        raise NotUnderstood("duration is missing or no number of seconds")
    return Outcome(CallStatus.ANSWERED, int(seconds))


def _recording(form: Mapping[str, str]) -> Recording:
    # The greater address counts: of several recordings of a call that of the last, whose id is the greatest.
    parts = [quote(part, safe="") for name in ("pbx_call_id", "call_id_with_rec") if (part := form.get(name))]
    return Recording(state=RecordingState.EXPECTED, url=f"zadarma:{'/'.join(parts)}")


def _text(value: Any) -> str:
    """Return a text, a truth or a whole number as a text.

    Empty for anything else: as a number with a fraction a recording's id has lost its last noughts.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) < 10**20:  # Python does not write out numbers of any length
        return str(value)
    return value if isinstance(value, str) else ""


SERVICE = Service(
    title="Zadarma",
    settings={
        "key": Setting(
            bearer, None, "key of Zadarma's API, for recordings and missed calls", secret=True, show='"…"'
        ),
        "secret": Setting(
            bearer, None, "secret of that key, which also signs the messages", secret=True, show='"…"'
        ),
        "previous_secret": Setting(
            bearer,
            None,
            "one that is taken for signatures as well, while Zadarma is given a new key",
            secret=True,
            show='"…"',
        ),
        **TOKEN,
        **ALLOW_FROM,
        "timezone": Setting(
            _timezone,
            None,
            "time zone of the account at Zadarma, whose times have none",
            show='"Europe/Madrid"',
        ),
        "api_url": Setting(web_address, "https://api.zadarma.com", "Zadarma's API"),
    },
    make=_make,
    handshake=_handshake,
    methods=frozenset({"GET", "POST"}),
)
