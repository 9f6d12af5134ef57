"""Twilio: what the callbacks of its Programmable Voice say of a call's legs, and of recordings.

A call that Twilio's number got, or that its API made, is the parent of the legs that <Dial> adds: the
parent's id is the call's. A parent is `completed` even when nobody answered a leg of it, so the legs have to
be told as well. Source: Twilio's manual (Call and Recording resources, TwiML <Number>, <Client>, <Sip>,
<Record>, webhooks security) and twilio/request_validator.py of its SDK 9.13.0, read 2026-11-23.
"""

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

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
from calllogd.voip.ends import checked_id, extension_of
from calllogd.voip.errand import URL_MOST, Ask, Errand, ErrandFailed, Got, is_at, json_of, with_password
from calllogd.voip.fields import possible_moment
from calllogd.voip.proof import TOKEN, UNPROVEN, BearerToken, Tokens, any_same, key_of, same, sign
from calllogd.voip.provider import NotUnderstood, Service, Told, VoipService
from calllogd.voip.provider.generic import is_safe
from calllogd.voip.webhook import EMPTY, Reply, Webhook, is_form, texts

LONGEST_S = 86_400
"""For how long a call lasts at most, so its last leg began by then."""

_PAGE, _PAGES_MOST = 1000, 1000
_TALK_MOST_S = 10_000_000
_END_MOST = 255

_ACCOUNT = re.compile("AC[0-9a-fA-F]{32}")
_SECONDS = re.compile("[0-9]{1,8}")
_ADDRESS = re.compile(r"(https?)://([^/?#]*?)(:[0-9]+)?([/?#].*)?", re.DOTALL)
_OWN = re.compile(r"(client|sips?|sim):(.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(?:[a-z0-9-]+\.)*twilio\.com(?::443)?", re.IGNORECASE)
_WITHOUT_FORMAT = re.compile("[^?#]*/Recordings/[0-9A-Za-z]+")

_TOKENS, _SHARED_KEYS = ("auth_token", "previous_auth_token"), ("shared_key", "previous_shared_key")
"""Settings that messages are signed with."""

_PORTS = {"https": ":443", "http": ":80"}
_NAMES = ("CallSid", "ConferenceSid", "MessageSid", "SmsSid", "RecordingSid")
"""Ids of which a message of Twilio's has at least one."""

_WHAT = {
    "queued": "leg.started",
    "initiated": "leg.started",
    "ringing": "leg.ringing",
    "in-progress": "leg.answered",
    "completed": "leg.ended",
    "busy": "leg.ended",
    "no-answer": "leg.ended",
    "canceled": "leg.ended",
    "failed": "leg.ended",
}

_STATUSES = {
    "completed": CallStatus.ANSWERED,
    "busy": CallStatus.BUSY,
    "no-answer": CallStatus.NO_ANSWER,
    "canceled": CallStatus.CANCELLED,
    "failed": CallStatus.FAILED,
}

_DIRECTIONS = {
    "inbound": Direction.INBOUND,
    "outbound-api": Direction.OUTBOUND,
    "outbound-dial": Direction.OUTBOUND,
    "trunking-originating": Direction.INBOUND,
    "trunking-terminating": Direction.OUTBOUND,
}


class _Call(msgspec.Struct):
    """A leg as Twilio lists it, to which its callbacks are brought too."""

    sid: str | None = None
    parent_call_sid: str | None = None
    direction: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    status: str | None = None
    duration: str | int | None = None
    start_time: str | None = None
    end_time: str | None = None


class _Page(msgspec.Struct):
    calls: list[msgspec.Raw]
    next_page_uri: str | None = None


_decode_call = msgspec.json.Decoder(_Call).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Twilio(VoipService):
    """Twilio of one account: `values` are those of its settings."""

    reply: Reply | None = EMPTY

    def __init__(self, account_id: int, values: Mapping[str, Any], tokens: Tokens) -> None:
        self._account_id = account_id
        self._tokens = tokens
        # By the algorithm that a message says it is signed with.
        self._keys = {
            "HMAC_SHA1": [key_of(one, "sha1") for one in _given(values, *_TOKENS)],
            "HMAC_SHA256": [key_of(one, "sha256") for one in _given(values, *_SHARED_KEYS)],
        }
        self._account_sid: str | None = values["account_sid"]
        self._auth_token: str | None = values["auth_token"]
        self._api_url: str = values["api_url"]
        self._staff = frozenset(map(tail, values["staff_phones"]))

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if Twilio signed the address, and the fields or the body's hash; else raises InputRefused.

        It signs the address with its port or without: both are tried.
        """
        self._tokens.check_path(webhook, now)
        algorithm = _algorithm(webhook.headers.get("X-Twilio-Webhooks-Signature-Settings", ""))
        keys = self._keys.get(algorithm, [])
        fields, shown = _signed_fields(webhook), webhook.headers.get("X-Twilio-Signature", "")
        for url in _spellings(webhook.url):
            signed = (url + fields).encode("utf-8", "surrogateescape")
            right = [base64.b64encode(sign(key, signed)).decode() for key in keys]
            # How the address was spelt is no secret, so the time that it takes may tell.
            if any_same(right, [shown]):
                return
        raise InputRefused("unauthorized", UNPROVEN)

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what a message says of a leg, or of a recording; raises NotUnderstood."""
        fields = _fields(webhook)
        if "RecordingStatus" in fields:
            return self._recorded(fields)
        if "CallStatus" not in fields:
            if not any(name in fields for name in _NAMES):
                raise NotUnderstood("CallSid is missing")
            return []
        call = _Call(
            sid=fields.get("CallSid"),
            parent_call_sid=fields.get("ParentCallSid"),
            direction=fields.get("Direction"),
            from_=fields.get("From"),
            to=fields.get("To"),
            status=fields["CallStatus"],
            duration=fields.get("CallDuration"),
        )
        recording = self._recording(fields.get("RecordingUrl", ""))
        return [self._told(call, now, at=_moment(fields.get("Timestamp"), now), recording=recording)]

    def find_recording(self, reference: str, now: float) -> Errand[Ask]:
        """Return the request for the recording at an address of Twilio's; raises ErrandFailed.

        Twilio keeps recordings until they are deleted. Source: its manual, "Recordings resource".
        """
        if not is_at(reference, _HOST, self._api_url):
            raise ErrandFailed("the recording is not at an address of Twilio's", is_final=True)
        yield from ()  # nothing has to be asked before
        return self._ask(_as_mp3(reference))

    @property
    def lists_calls(self) -> bool:
        """Whether what it takes to ask for calls is configured."""
        return self._account_sid is not None and self._auth_token is not None

    def list_calls(
        self, since: float, until: float, now: float
    ) -> Generator[Ask | Sequence[Told], Got | None, None]:
        """Yield requests for the account's legs, and then what those of ended calls tell.

        Legs are asked for that began up to LONGEST_S later, so that each call has all of its own. Raises
        ErrandFailed. Source: Twilio's manual, "Call resource", and its SDK, which writes times with seconds.
        """
        calls: dict[str, list[Told]] = defaultdict(list)
        query = {"StartTime>": _written(since), "StartTime<": _written(until + LONGEST_S), "PageSize": _PAGE}
        uri: str | None = f"/2010-04-01/Accounts/{self._account_sid}/Calls.json?{urlencode(query)}"
        seen: set[str] = set()
        while uri and uri not in seen:
            if len(seen) == _PAGES_MOST:
                raise ErrandFailed(f"Twilio lists more than {_PAGES_MOST} pages of calls", is_final=True)
            seen.add(uri)
            page: _Page = json_of((yield self._ask(self._api_url + uri)), _Page)
            for row in map(bytes, page.calls):
                if (told := self._read_row(row, now)) is not None:
                    calls[told.event.key.call_id].append(told)
            uri = self._next(page)
        for call_id, call in calls.items():
            if _is_whole(call_id, call, since, until):
                yield call

    def _next(self, page: _Page) -> str | None:
        """Return where a list goes on, on the API's host; raises ErrandFailed."""
        uri = (page.next_page_uri or "").removeprefix(self._api_url)
        if uri and (not uri.startswith("/") or not uri.isprintable() or " " in uri):
            raise ErrandFailed("Twilio's list goes on at another place than its API")
        return uri or None

    def _read_row(self, row: bytes, now: float) -> Told | None:
        """Return what a listed leg says, None if it cannot be read."""
        try:
            return self._told(_decode_call(row), now, body=row)
        except (*_UNREADABLE, NotUnderstood):
            return None

    def _ask(self, url: str) -> Ask:
        if self._account_sid is None or self._auth_token is None:
            raise ErrandFailed("asking Twilio needs account_sid and auth_token", is_final=True)
        return with_password(url, self._account_sid, self._auth_token)

    def _told(
        self,
        call: _Call,
        now: float,
        *,
        at: float | None = None,
        recording: Recording = NO_RECORDING,
        body: bytes | None = None,
    ) -> Told:
        """Return what is said of a leg, `at` the moment of its status; raises NotUnderstood."""
        status = call.status or ""
        if status not in _WHAT:
            raise NotUnderstood("CallStatus is none that Twilio has")
        what = _WHAT[status]
        leg = Leg(checked_id(call.sid, "CallSid"), started_at=_moment(call.start_time, now))
        leg = self._with_ends(leg, call)
        if what in ("leg.started", "leg.ringing"):
            leg = leg._replace(started_at=leg.started_at or at)
        elif what == "leg.answered":
            leg = leg._replace(answered_at=at)
        else:
            leg = _ended(leg, call, _moment(call.end_time, now) or at)
        key = self._key(call.parent_call_sid or call.sid)
        return Told(what, CallEvent(key=key, legs=(leg,), recording=recording), body)

    def _with_ends(self, leg: Leg, call: _Call) -> Leg:
        """Return a leg with whom it goes to or comes from, if the message says so; raises NotUnderstood."""
        if not call.direction:
            return leg
        direction = _DIRECTIONS.get(call.direction)
        if direction is None:
            raise NotUnderstood("Direction is none that Twilio has")
        came_in = direction is Direction.INBOUND
        caller, called = _checked_end(call.from_, "From"), _checked_end(call.to, "To")
        other = caller if came_in else called
        name = _name(other or "")
        if name is not None and came_in:
            # Somebody of the company calls out with a softphone. Without a number it is the application's id.
            number = None if not called or called.startswith("AP") else called
            return leg._replace(
                side=Side.STAFF, direction=Direction.OUTBOUND, phone=number, extension=extension_of(name)
            )
        if name is not None or tail(other or "") in self._staff:
            return leg._replace(side=Side.STAFF, extension=extension_of(other if name is None else name))
        if came_in:
            return leg._replace(side=Side.CLIENT, direction=direction, phone=other)
        return leg._replace(direction=direction, phone=other, extension=extension_of(other))

    def _recorded(self, fields: Mapping[str, str]) -> Sequence[Told]:
        """Return what a recording's callback says, nothing if it is a conference's, or not done yet."""
        status = fields["RecordingStatus"]
        if status not in ("completed", "absent", "failed"):
            return []
        if "CallSid" not in fields and "ConferenceSid" in fields:
            return []
        key = self._key(fields.get("CallSid"))
        if status != "completed":
            recording = Recording(state=RecordingState.NEVER)
            return [Told("recording.failed", CallEvent(key=key, recording=recording))]
        recording = self._recording(fields.get("RecordingUrl", ""))
        if recording is NO_RECORDING:
            raise NotUnderstood("RecordingUrl is no https address")
        legs = _left(fields) if fields.get("RecordingSource") == "RecordVerb" else ()
        return [Told("recording.ready", CallEvent(key=key, legs=legs, recording=recording))]

    def _recording(self, url: str) -> Recording:
        """Return where a recording is: by reference if we have credentials for it, else by its link."""
        if not url:
            return NO_RECORDING
        if is_at(url, _HOST, self._api_url):
            has_credentials = self._account_sid is not None and self._auth_token is not None
            url = f"twilio:{url}" if has_credentials else _as_mp3(url)
        elif not is_safe(url) or len(url) > URL_MOST:
            return NO_RECORDING
        return Recording(state=RecordingState.EXPECTED, url=url)

    def _key(self, call_sid: str | None) -> CallKey:
        return CallKey(self._account_id, checked_id(call_sid, "CallSid"))


def _algorithm(header: str) -> str:
    """Return what a message says it is signed with."""
    for part in header.split(","):
        name, _, value = part.partition("=")
        if name.strip() == "algorithm" and value.strip():
            return value.strip().upper()
    return "HMAC_SHA1"


def _signed_fields(webhook: Webhook) -> str:
    """Return what of the body was signed; raises InputRefused for a body that was not."""
    if is_form(webhook):
        return "".join(name + value for name, value in sorted(set(webhook.form)))
    if webhook.body:
        shown = next((value for name, value in webhook.query if name == "bodySHA256"), "")
        if not same(hashlib.sha256(webhook.body).hexdigest(), shown.lower()):
            raise InputRefused("unauthorized", UNPROVEN)
    return ""


def _spellings(url: str) -> Iterator[str]:
    """Yield an address as it is, and with a port or without, as it is not."""
    yield url
    found = _ADDRESS.fullmatch(url)
    if found is not None:
        scheme, host, port, rest = found.groups("")
        yield f"{scheme}://{host}{'' if port else _PORTS[scheme]}{rest}"


def _fields(webhook: Webhook) -> Mapping[str, str]:
    """Return the fields that were signed, of several the last one; raises NotUnderstood."""
    if webhook.body and not is_form(webhook):
        try:
            known = _decode_object(webhook.body)
        except _UNREADABLE as error:
            raise NotUnderstood(f"the message is neither a form nor a JSON object: {error}") from error
        return {name: str(value) for name, value in known.items() if isinstance(value, str | int)}
    return texts(webhook.form if webhook.body else webhook.query)


def _ended(leg: Leg, call: _Call, ended_at: float | None) -> Leg:
    """Return a leg with when and how it ended; raises NotUnderstood.

    What lasted no second was not answered.
    """
    status = _STATUSES[call.status or ""]
    talk = _talk(call.duration) if status is CallStatus.ANSWERED else None
    if talk == 0:
        status = CallStatus.NO_ANSWER
    started_at = leg.started_at
    if started_at is None and talk and ended_at is not None:
        # Only the end may be asked for: it began when it was answered, or shortly before.
        started_at = ended_at - talk
    return leg._replace(started_at=started_at, ended_at=ended_at, talk=talk, status=status)


def _left(fields: Mapping[str, str]) -> tuple[Leg, ...]:
    """Return what a caller said to <Record>, as a leg that left a message with the company."""
    duration = fields.get("RecordingDuration", "")
    talk = int(duration) if _SECONDS.fullmatch(duration) else None
    leg_id = checked_id(fields.get("RecordingSid"), "RecordingSid")
    return (Leg(leg_id, Side.STAFF, talk=talk, status=CallStatus.VOICEMAIL),)


def _as_mp3(url: str) -> str:
    """Return a recording's address with the format, which is sound that is not compressed otherwise."""
    return f"{url}.mp3" if _WITHOUT_FORMAT.fullmatch(url) else url


def _is_whole(call_id: str, call: Sequence[Told], since: float, until: float) -> bool:
    """Tell whether a call's parent is among its listed legs and began within these bounds, and all ended."""
    if not all(told.what == "leg.ended" for told in call):
        return False
    parents = [leg for told in call for leg in told.event.legs if leg.id == call_id]
    start = min((leg.started_at for leg in parents if leg.started_at is not None), default=since)
    return bool(parents) and since <= start <= until


def _name(address: str) -> str | None:
    """Return who of the company a softphone's address names, None for a number."""
    found = _OWN.fullmatch(address)
    if found is not None and found[1].lower() in ("client", "sim"):
        return found[2]
    # The list has SIP addresses without their scheme.
    sip = found[2] if found is not None else address if "@" in address else None
    if sip is None:
        return None
    return sip.partition("@")[0] if "@" in sip else ""


def _talk(duration: str | int | None) -> int | None:
    """Return seconds, None where there are none; raises NotUnderstood."""
    if duration is None or duration == "":
        return None
    if not _SECONDS.fullmatch(str(duration)) or int(duration) > _TALK_MOST_S:
        raise NotUnderstood("CallDuration is no number of seconds")
    return int(duration)


def _checked_end(found: str | None, name: str) -> str | None:
    """Return a number or address; raises NotUnderstood."""
    if found is not None and len(found) > _END_MOST:
        raise NotUnderstood(f"{name} is longer than any number or address")
    return found


def _moment(at: str | None, now: float) -> float | None:
    """Return Unix seconds of a time in RFC 2822; None for one that cannot be. Twilio's times are UTC."""
    if not at:
        return None
    try:
        moment = parsedate_to_datetime(at)
        seconds = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return possible_moment(seconds, now)


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _given(values: Mapping[str, Any], *names: str) -> Sequence[str]:
    return [values[name] for name in names if values[name] is not None]


def _account_sid(value: Any) -> str:
    """Return an account's SID."""
    if not _ACCOUNT.fullmatch(text(value)):
        raise ValueError("the Account SID: AC and 32 hexadecimal digits")
    return str(value)


def _make(account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> Twilio | None:
    if not _given(values, *_TOKENS, *_SHARED_KEYS):
        return None
    return Twilio(account_id, values, Tokens(values, made))


SERVICE = Service(
    title="Twilio",
    settings={
        "auth_token": Setting(
            bearer,
            None,
            "auth token of the Twilio account, which signs its callbacks",
            secret=True,
            show='"…"',
        ),
        "previous_auth_token": Setting(
            bearer,
            None,
            "one that is taken as well, while the account changes to its secondary token",
            secret=True,
            show='"…"',
        ),
        "shared_key": Setting(
            bearer,
            None,
            "secret of the SharedKey, if the account signs its callbacks with one (HMAC_SHA256)",
            secret=True,
            show='"…"',
        ),
        "previous_shared_key": Setting(
            bearer, None, "one that is taken as well, while the key is changed", secret=True, show='"…"'
        ),
        "account_sid": Setting(
            _account_sid,
            None,
            "Account SID, to ask Twilio for recordings and missed calls with the auth token;"
            " none: recordings by their link",
            show='"AC…"',
        ),
        "api_url": Setting(
            web_address,
            "https://api.twilio.com",
            "how Twilio's API is reached",
            show='"https://api.twilio.com"',
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
