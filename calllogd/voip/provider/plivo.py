"""Plivo: what the callbacks of its Voice API say of a call's legs, and of recordings.

The hangup URL tells of the leg that came in, or that the API made: it is the A-leg, and its id the call's.
Of the legs that <Dial> adds its callback URL tells. Source: Plivo's manual (XML requests, Dial, Record,
Call resource, hangup causes, signature validation) and plivo/utils/signature_v3.py of its SDK 4.63.0, read
2026-11-23.
"""

import base64
import re
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from calllogd.config import Setting
from calllogd.config.values import bearer, phones, text, web_address
from calllogd.domain.call import (
    NO_RECORDING,
    CallKey,
    CallStatus,
    Direction,
    Leg,
    Recording,
    RecordingState,
    Side,
)
from calllogd.domain.merge import CallEvent
from calllogd.domain.phone import tail
from calllogd.errors import InputRefused
from calllogd.voip.ends import checked_id, extension_of, sip_user
from calllogd.voip.errand import URL_MOST, Ask, Errand, ErrandFailed, Got, is_at, json_of, with_password
from calllogd.voip.fields import possible_moment
from calllogd.voip.proof import TOKEN, UNPROVEN, BearerToken, Tokens, any_same, key_of, sign
from calllogd.voip.provider import NotUnderstood, Service, Told, VoipService
from calllogd.voip.provider.generic import is_safe
from calllogd.voip.webhook import EMPTY, Reply, Webhook, is_form, texts

LONGEST_S = 14_400
"""For how long a call lasts at most, unless it was made with another time_limit."""

ZONES_S = 600.0
"""How far a call's start may be from its session's, which is UTC: zones differ by more."""

_PAGE, _PAGES_MOST = 20, 2_000
_TALK_MOST_S = 10_000_000
_END_MOST = 255

_ACCOUNT = re.compile("[MS]A[0-9A-Z]{18}")
_SECONDS = re.compile("[0-9]{1,8}")
_E164 = re.compile("[1-9][0-9]{6,14}")
_HOST = re.compile(r"(?:[a-z0-9-]+\.)*plivo\.com(?::443)?", re.IGNORECASE)

_OTHERS = ("MessageUUID", "ConferenceName", "ConferenceUUID", "MPCUUID", "StreamID")
"""Ids of which messages have one that are not about a call."""

_WHAT = {
    "queued": "leg.started",
    "initiated": "leg.started",
    "ringing": "leg.ringing",
    "in-progress": "leg.answered",
    "completed": "leg.ended",
    "busy": "leg.ended",
    "failed": "leg.ended",
    "timeout": "leg.ended",
    "no-answer": "leg.ended",
    "cancel": "leg.ended",
}

_STATUSES = {
    "busy": CallStatus.BUSY,
    "failed": CallStatus.FAILED,
    "timeout": CallStatus.NO_ANSWER,
    "no-answer": CallStatus.NO_ANSWER,
    "cancel": CallStatus.CANCELLED,
}

_DIRECTIONS = {"inbound": Direction.INBOUND, "outbound": Direction.OUTBOUND}

_CAUSES = {
    "USER_BUSY": CallStatus.BUSY,
    "3010": CallStatus.BUSY,
    "NO_ANSWER": CallStatus.NO_ANSWER,
    "NO_USER_RESPONSE": CallStatus.NO_ANSWER,
    "3000": CallStatus.NO_ANSWER,
    "6010": CallStatus.NO_ANSWER,
    "ORIGINATOR_CANCEL": CallStatus.CANCELLED,
    "1000": CallStatus.CANCELLED,
    "1010": CallStatus.CANCELLED,
    "1020": CallStatus.CANCELLED,
    "CALL_REJECTED": CallStatus.FAILED,
}
"""Why a leg ended that nobody answered, by HangupCause and HangupCauseCode."""

_FAILED = ("2", "3", "5", "7", "8")
"""What the codes begin with of wrong numbers, rejections and mistakes, of carriers and of XML."""


class _End(NamedTuple):
    """How a leg ended: `status` is Plivo's word, `causes` what it says of it, the first first."""

    status: str
    talk: int | None
    causes: Sequence[str]


class _Row(msgspec.Struct):
    """A leg as Plivo lists it."""

    call_uuid: str
    parent_call_uuid: str | None = None
    call_direction: str | None = None
    from_number: str | None = None
    to_number: str | None = None
    call_duration: int | str | None = None
    hangup_cause_code: int | str | None = None
    initiation_time: str | None = None
    answer_time: str | None = None
    end_time: str | None = None


class _Page(msgspec.Struct):
    objects: list[msgspec.Raw]


_decode_row = msgspec.json.Decoder(_Row).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Plivo(VoipService):
    """Plivo of one account: `values` are those of its settings."""

    reply: Reply | None = EMPTY

    def __init__(self, account_id: int, values: Mapping[str, Any], tokens: Tokens) -> None:
        self._account_id = account_id
        self._tokens = tokens
        known = [values["auth_token"], values["previous_auth_token"]]
        self._keys = [key_of(secret, "sha256") for secret in known if secret is not None]
        self._auth_id: str | None = values["auth_id"]
        self._auth_token: str | None = values["auth_token"]
        self._api_url: str = values["api_url"]
        self._zone: ZoneInfo = values["timezone"]
        self._staff = frozenset(map(tail, values["staff_phones"]))

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if Plivo signed the address and all fields, by version 3; else raises InputRefused.

        The account that has the number signs, and the main account besides: either token is good. A
        signature of version 2 leaves the fields out, and is no proof.
        """
        self._tokens.check_path(webhook, now)
        nonce = webhook.headers.get("X-Plivo-Signature-V3-Nonce", "")
        shown = [
            signature.strip()
            for header in ("X-Plivo-Signature-V3", "X-Plivo-Signature-Ma-V3")
            for signature in webhook.headers.get(header, "").split(",")
        ]
        signed = f"{_signed(webhook)}.{nonce}".encode("utf-8", "surrogateescape")
        right = [base64.b64encode(sign(key, signed)).decode() for key in self._keys]
        if not any_same(right, shown) or not nonce:
            raise InputRefused("unauthorized", UNPROVEN)

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what a message says of legs, or of a recording; raises NotUnderstood."""
        fields = _fields(webhook)
        if not any(fields.get(name) for name in ("CallUUID", "call_uuid", "DialALegUUID")):
            if any(name in fields for name in _OTHERS):
                return []
            raise NotUnderstood("CallUUID is missing")
        if "DialAction" in fields:
            return self._dialled(fields, now)
        is_end = fields.get("Event") == "Hangup"
        if not is_end and (url := _url_of(fields)):
            return self._recorded(fields, url)
        if "CallStatus" not in fields and not is_end:
            return []
        return [self._of_leg(fields, now)]

    def find_recording(self, reference: str, now: float) -> Errand[Ask]:
        """Return the request for the recording at an address of Plivo's; raises ErrandFailed.

        Plivo keeps recordings until they are deleted. Whether it asks for credentials is an option of the
        account.
        """
        if not is_at(reference, _HOST, self._api_url):
            raise ErrandFailed("the recording is not at an address of Plivo's", is_final=True)
        yield from ()  # nothing has to be asked before
        return self._ask(reference)

    @property
    def lists_calls(self) -> bool:
        """Whether what it takes to ask for calls is configured."""
        return self._auth_id is not None and self._auth_token is not None

    def list_calls(
        self, since: float, until: float, now: float
    ) -> Generator[Ask | Sequence[Told], Got | None, None]:
        """Yield requests for the account's legs, and then what those of ended calls tell.

        Plivo lists legs that have ended, by when they did: they are asked for up to LONGEST_S later. Raises
        ErrandFailed. Source: Plivo's manual, "Retrieve details of all calls": the bounds are UTC.
        """
        calls: dict[str, list[Told]] = defaultdict(list)
        last: list[msgspec.Raw] = []
        for page in range(_PAGES_MOST):
            query = {
                "end_time__gte": _written(since),
                "end_time__lte": _written(until + LONGEST_S),
                "limit": _PAGE,
                "offset": page * _PAGE,
            }
            path = f"/v1/Account/{self._auth_id}/Call/?{urlencode(query)}"
            answer: _Page = json_of((yield self._ask(self._api_url + path)), _Page)
            if answer.objects == last:
                break
            last = answer.objects
            for row in map(bytes, last):
                if (told := self._read_row(row, now)) is not None:
                    calls[told.event.key.call_id].append(told)
            if len(last) < _PAGE:
                break
        else:
            raise ErrandFailed(f"Plivo lists more than {_PAGES_MOST} pages of calls", is_final=True)
        for call_id, call in calls.items():
            if _is_whole(call_id, call, since, until):
                yield call

    def _read_row(self, row: bytes, now: float) -> Told | None:
        """Return what a listed leg says, None if it cannot be read."""
        try:
            known = _decode_row(row)
            leg = Leg(
                checked_id(known.call_uuid, "CallUUID"),
                started_at=self._moment(known.initiation_time, now),
                answered_at=self._moment(known.answer_time, now),
                ended_at=self._moment(known.end_time, now),
            )
            leg = self._with_ends(leg, known.call_direction, known.from_number, known.to_number)
            leg = _ended(leg, _End("completed", _talk(known.call_duration), [str(known.hangup_cause_code)]))
            key = self._key(known.parent_call_uuid or known.call_uuid)
        except (*_UNREADABLE, NotUnderstood):
            return None
        return Told("leg.ended", CallEvent(key=key, legs=(leg,)), row)

    def _ask(self, url: str) -> Ask:
        if self._auth_id is None or self._auth_token is None:
            raise ErrandFailed("asking Plivo needs auth_id and auth_token", is_final=True)
        return with_password(url, self._auth_id, self._auth_token)

    def _of_leg(self, fields: Mapping[str, str], now: float) -> Told:
        """Return what a message of the answer, ring or hangup URL says of its leg; raises NotUnderstood."""
        status = fields.get("CallStatus", "completed")
        if status not in _WHAT:
            raise NotUnderstood("CallStatus is none that Plivo has")
        leg = self._with_times(Leg(checked_id(fields.get("CallUUID"), "CallUUID")), fields, now)
        leg = self._with_ends(leg, fields.get("Direction"), fields.get("From"), fields.get("To"))
        recording = NO_RECORDING
        if _WHAT[status] == "leg.ended":
            causes = [fields.get(name, "") for name in ("HangupCause", "HangupCauseCode")]
            leg = _ended(leg, _End(status, _talk(fields.get("Duration")), causes))
            recording = self._recording(_url_of(fields))
        return Told(_WHAT[status], CallEvent(key=self._key_of(fields), legs=(leg,), recording=recording))

    def _dialled(self, fields: Mapping[str, str], now: float) -> Sequence[Told]:
        """Return what <Dial> says of a leg that it added, and of the one it was added to.

        The other is told as well, if only that there is one: the call has not ended with this leg. That a
        leg was answered is told without a time, when it happens. Raises NotUnderstood.
        """
        what = {"answer": "leg.answered", "connected": "leg.answered", "hangup": "leg.ended"}.get(
            fields["DialAction"]
        )
        if what is None or not fields.get("DialBLegUUID"):
            return []
        first = Leg(checked_id(fields.get("DialALegUUID") or fields.get("CallUUID"), "CallUUID"))
        if fields.get("CallUUID", first.id) == first.id:
            first = self._with_ends(first, fields.get("Direction"), fields.get("From"), fields.get("To"))
        leg = Leg(checked_id(fields["DialBLegUUID"], "CallUUID"))
        leg = self._with_ends(leg, "outbound", fields.get("DialBLegFrom"), fields.get("DialBLegTo"))
        if what == "leg.answered":
            leg = leg._replace(answered_at=now)
        else:
            leg = self._with_times(leg, fields, now)
            causes = [fields.get(name, "") for name in ("DialBLegHangupCause", "DialBLegHangupCauseCode")]
            leg = _ended(leg, _End("completed", _talk(fields.get("DialBLegDuration")), causes))
        return [Told(what, CallEvent(key=self._key_of(fields), legs=(first, leg)))]

    def _with_times(self, leg: Leg, fields: Mapping[str, str], now: float) -> Leg:
        """Return a leg with its times, if they are sure: those of a zone other than `timezone` are not."""
        started_at = self._moment(fields.get("StartTime"), now)
        session_at = fields.get("SessionStart")
        session = self._moment(f"{session_at}+00:00", now) if session_at else None
        if started_at is not None and session is not None and abs(started_at - session) > ZONES_S:
            return leg
        return leg._replace(
            started_at=started_at,
            answered_at=self._moment(fields.get("AnswerTime"), now),
            ended_at=self._moment(fields.get("EndTime"), now),
        )

    def _with_ends(self, leg: Leg, direction: str | None, caller: str | None, called: str | None) -> Leg:
        """Return a leg with whom it goes to or comes from, if the message says so; raises NotUnderstood."""
        if not direction:
            return leg
        if direction not in _DIRECTIONS:
            raise NotUnderstood("Direction is neither inbound nor outbound")
        came_in = _DIRECTIONS[direction] is Direction.INBOUND
        caller, called = _with_plus(caller), _with_plus(called)
        other = caller if came_in else called
        name = sip_user(other or "")
        if name is not None and came_in:
            # Somebody of the company calls out with a softphone.
            return leg._replace(
                side=Side.STAFF,
                direction=Direction.OUTBOUND,
                phone=called or None,
                extension=extension_of(name),
            )
        if name is not None or tail(other or "") in self._staff:
            return leg._replace(side=Side.STAFF, extension=extension_of(name or other))
        if came_in:
            return leg._replace(side=Side.CLIENT, direction=Direction.INBOUND, phone=other)
        return leg._replace(direction=Direction.OUTBOUND, phone=other, extension=extension_of(other))

    def _recorded(self, fields: Mapping[str, str], url: str) -> Sequence[Told]:
        """Return where a recording is, nothing while it is being made; raises NotUnderstood."""
        if fields.get("RecordingDuration", fields.get("recording_duration")) == "-1":
            return []
        recording = self._recording(url)
        if recording is NO_RECORDING:
            raise NotUnderstood("RecordUrl is no https address")
        return [Told("recording.ready", CallEvent(key=self._key_of(fields), recording=recording))]

    def _recording(self, url: str) -> Recording:
        """Return where a recording is: by reference if we have credentials for it, else by its link."""
        if not url:
            return NO_RECORDING
        if is_at(url, _HOST, self._api_url) and self._auth_id is not None and self._auth_token is not None:
            url = f"plivo:{url}"
        elif not is_safe(url) or len(url) > URL_MOST:
            return NO_RECORDING
        return Recording(state=RecordingState.EXPECTED, url=url)

    def _key_of(self, fields: Mapping[str, str]) -> CallKey:
        names = ("ALegUUID", "DialALegUUID", "CallUUID", "call_uuid")
        return self._key(next((fields[name] for name in names if fields.get(name)), None))

    def _key(self, call_uuid: str | None) -> CallKey:
        return CallKey(self._account_id, checked_id(call_uuid, "CallUUID"))

    def _moment(self, at: str | None, now: float) -> float | None:
        """Return Unix seconds of a time, in the account's zone unless it says which; None if it cannot be."""
        if not at:
            return None
        try:
            moment = datetime.fromisoformat(at)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=self._zone)).timestamp()
        except ValueError:
            return None
        return possible_moment(seconds, now)


def _signed(webhook: Webhook) -> str:
    """Return what of a message was signed, but for the nonce; raises InputRefused for what was not.

    The question mark stands there without a query too, if there are fields in the body.
    """
    if webhook.body and (webhook.method == "GET" or not is_form(webhook)):
        raise InputRefused("unauthorized", UNPROVEN)
    address, _, query = webhook.url.partition("?")
    if query:
        query = "&".join([f"{name}={value}" for name, value in sorted(webhook.query)])
    form = "".join([name + value for name, value in sorted(webhook.form)]) if webhook.body else ""
    if not form:
        return f"{address}?{query}" if query else address
    return f"{address}?{query}.{form}" if query else f"{address}?{form}"


def _fields(webhook: Webhook) -> Mapping[str, str]:
    """Return the fields that were signed, of several the last one; raises NotUnderstood.

    Some callbacks of the API have theirs as JSON in a field.
    """
    fields = texts(webhook.form if webhook.body else webhook.query)
    if "response" not in fields or "CallUUID" in fields:
        return fields
    try:
        known = _decode_object(fields["response"])
    except _UNREADABLE as error:
        raise NotUnderstood(f"response is no JSON object: {error}") from error
    return {name: str(value) for name, value in known.items() if isinstance(value, str | int)}


def _url_of(fields: Mapping[str, str]) -> str:
    return fields.get("RecordUrl") or fields.get("RecordFile") or fields.get("record_url") or ""


def _ended(leg: Leg, end: _End) -> Leg:
    """Return a leg with how it ended: it was answered if somebody talked, or if its times say so."""
    talk = end.talk
    if end.status == "completed" and (talk or (talk is None and leg.answered_at is not None)):
        return leg._replace(talk=talk, status=CallStatus.ANSWERED)
    status = _STATUSES.get(end.status) or next(
        (_CAUSES[cause] for cause in end.causes if cause in _CAUSES), None
    )
    if status is None:
        is_failed = any(_SECONDS.fullmatch(cause) and cause.startswith(_FAILED) for cause in end.causes)
        status = CallStatus.FAILED if is_failed else CallStatus.NO_ANSWER
    return leg._replace(answered_at=None, status=status)


def _is_whole(call_id: str, call: Sequence[Told], since: float, until: float) -> bool:
    """Tell whether a call's A-leg is among its listed legs, and began within these bounds."""
    first = next((leg for told in call for leg in told.event.legs if leg.id == call_id), None)
    if first is None:
        return False
    start = next(
        (at for at in (first.started_at, first.answered_at, first.ended_at) if at is not None), since
    )
    return since <= start <= until


def _with_plus(number: str | None) -> str | None:
    """Return a number with a plus, which Plivo leaves out; raises NotUnderstood."""
    if number is not None and len(number) > _END_MOST:
        raise NotUnderstood("From or To is longer than any number or address")
    return f"+{number}" if number is not None and _E164.fullmatch(number) else number


def _talk(duration: str | int | None) -> int | None:
    """Return seconds, None where there are none; raises NotUnderstood."""
    if duration is None or duration == "":
        return None
    if not _SECONDS.fullmatch(str(duration)) or int(duration) > _TALK_MOST_S:
        raise NotUnderstood("Duration is no number of seconds")
    return int(duration)


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _zone(value: Any) -> ZoneInfo:
    """Return a time zone."""
    try:
        return ZoneInfo(text(value))
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError("a time zone such as America/Sao_Paulo") from None


def _auth_id(value: Any) -> str:
    """Return an account's id."""
    if not _ACCOUNT.fullmatch(text(value)):
        raise ValueError("the Auth ID: MA or SA, and 18 capital letters and digits")
    return str(value)


def _make(account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> Plivo | None:
    if values["auth_token"] is None and values["previous_auth_token"] is None:
        return None
    return Plivo(account_id, values, Tokens(values, made))


SERVICE = Service(
    title="Plivo",
    settings={
        "auth_token": Setting(
            bearer,
            None,
            "auth token, which signs the callbacks: the main account's, or that of the subaccount",
            secret=True,
            show='"…"',
        ),
        "previous_auth_token": Setting(
            bearer,
            None,
            "one that is taken as well, while Plivo changes to a new one",
            secret=True,
            show='"…"',
        ),
        "auth_id": Setting(
            _auth_id,
            None,
            "Auth ID, to ask Plivo for recordings and missed calls with the auth token;"
            " none: recordings by their link",
            show='"MA…"',
        ),
        "timezone": Setting(_zone, ZoneInfo("UTC"), "time zone that is set in Plivo's console", show='"UTC"'),
        "api_url": Setting(
            web_address,
            "https://api.plivo.com",
            "how Plivo's API is reached",
            show='"https://api.plivo.com"',
        ),
        "staff_phones": Setting(
            phones,
            (),
            'numbers of own people that calls are put through to, such as ["+12125550100"]',
            show="[]",
        ),
        **TOKEN,
    },
    make=_make,
    methods=frozenset({"GET", "POST"}),
)
