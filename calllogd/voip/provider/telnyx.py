"""Telnyx: what the webhooks of its Call Control say of a call's legs.

A session holds the legs that belong to one phone call, and is the call. Only `call.initiated` says which way
a leg goes, only `call.answered` when it was answered, and `call.hangup` when and why it ended: each says what
it knows of its leg, and they may come in any order. Source: Telnyx's API reference (Call Control callbacks,
call recordings, list call events), read 2026-11-23.
"""

import base64
import binascii
import re
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from nacl.bindings import crypto_sign_BYTES, crypto_sign_open
from nacl.exceptions import BadSignatureError

from calllogd.config import Setting
from calllogd.config.values import bearer, phones, text, web_address
from calllogd.domain.call import CallKey, CallStatus, Direction, Leg, Recording, RecordingState, Side
from calllogd.domain.merge import CallEvent
from calllogd.domain.phone import Kind, read, tail
from calllogd.errors import InputRefused
from calllogd.voip.ends import checked_id, extension_of, sip_user
from calllogd.voip.errand import Ask, Errand, ErrandFailed, Got, json_of
from calllogd.voip.fields import possible_moment
from calllogd.voip.proof import TOKEN, UNPROVEN, BearerToken, Tokens
from calllogd.voip.provider import NotUnderstood, Service, Told, VoipService
from calllogd.voip.provider.generic import is_safe
from calllogd.voip.webhook import EMPTY, Reply, Webhook

TOLERANCE_S = 300
"""How far a message's time may be from ours. Source: lib/webhook_verification.py of Telnyx's SDK 4.189.0."""

LISTED_S = 86_400
"""How far back Telnyx lists events."""

LONGEST_S = 14_400
"""For how long a leg lasts at most, unless the application says otherwise: time_limit_secs."""

_CLOCKS_S = 600
_PAGE, _PAGES_MOST = 250, 1_000
_KEY_BYTES = 32

_SECONDS = re.compile("[0-9]{1,12}")
_RECORDING_ID = re.compile("[0-9A-Za-z][0-9A-Za-z_-]{0,127}")

_WHAT = {
    "call.initiated": "leg.started",
    "call.answered": "leg.answered",
    "call.hangup": "leg.ended",
    "call.recording.saved": "recording.ready",
    "conference.recording.saved": "recording.ready",
    "call.recording.error": "recording.failed",
}

_DIRECTIONS = {"incoming": Direction.INBOUND, "outgoing": Direction.OUTBOUND}

_STATUSES = {
    "user_busy": CallStatus.BUSY,
    "no_answer": CallStatus.NO_ANSWER,
    "timeout": CallStatus.NO_ANSWER,
    "originator_cancel": CallStatus.CANCELLED,
    "call_rejected": CallStatus.FAILED,
    "not_found": CallStatus.FAILED,
    "unspecified": CallStatus.FAILED,
}
"""How a leg ended that nobody answered; what ends a talk says nothing: normal_clearing, time_limit."""

_FILTERS = {"leg": "call_leg_id", "session": "call_session_id"}

Text = Annotated[str, msgspec.Meta(max_length=255)]


class _Payload(msgspec.Struct):
    """What an event says; what is not listed here is passed over."""

    call_session_id: str | None = None
    call_leg_id: str | None = None
    direction: str | None = None
    state: str | None = None
    from_: Text | None = msgspec.field(name="from", default=None)
    to: Text | None = None
    start_time: str | None = None
    hangup_cause: str | None = None
    recording_id: str | None = None
    recording_urls: Any = None
    public_recording_urls: Any = None


class _Data(msgspec.Struct):
    event_type: str
    occurred_at: str | None = None
    payload: msgspec.Raw = msgspec.Raw(b"{}")


class _Event(msgspec.Struct):
    data: _Data


class _Connection(msgspec.Struct):
    connection_id: str | None = None


class _Row(msgspec.Struct):
    """An event as Telnyx lists it: `metadata` has the event itself."""

    name: str
    call_session_id: str | None = None
    call_leg_id: str | None = None
    event_timestamp: str | None = None
    metadata: Any = None


class _Meta(msgspec.Struct):
    total_pages: int | None = None


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    meta: _Meta = msgspec.field(default_factory=_Meta)


class _Links(msgspec.Struct):
    mp3: str | None = None
    wav: str | None = None


class _Kept(msgspec.Struct):
    """A recording that Telnyx keeps."""

    id: str = ""
    duration_millis: int | None = None
    download_urls: _Links | None = None


class _One(msgspec.Struct):
    data: _Kept


class _Several(msgspec.Struct):
    data: list[_Kept]


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_payload = msgspec.json.Decoder(_Payload).decode
_decode_connection = msgspec.json.Decoder(_Connection).decode
_decode_row = msgspec.json.Decoder(_Row).decode

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Telnyx(VoipService):
    """Telnyx of one account: `values` are those of its settings."""

    reply: Reply | None = EMPTY

    def __init__(self, account_id: int, values: Mapping[str, Any], tokens: Tokens) -> None:
        self._account_id = account_id
        self._tokens = tokens
        known = [values["public_key"], values["previous_public_key"]]
        self._keys = [base64.b64decode(key) for key in known if key is not None]
        self._connection_id: str | None = values["connection_id"]
        self._api_key: str | None = values["api_key"]
        self._api_url: str = values["api_url"]
        self._staff = frozenset(map(tail, values["staff_phones"]))

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if Telnyx signed the message within TOLERANCE_S of `now`; else raises InputRefused.

        Its key is the Telnyx account's: with `connection_id` set, what other applications of that account
        tell is refused too, and what names none is taken.
        """
        self._tokens.check_path(webhook, now)
        timestamp = webhook.headers.get("telnyx-timestamp", "")
        if not _SECONDS.fullmatch(timestamp) or abs(now - int(timestamp)) > TOLERANCE_S:
            raise InputRefused("unauthorized", UNPROVEN)
        try:
            signature = binascii.a2b_base64(
                webhook.headers.get("telnyx-signature-ed25519", ""), strict_mode=True
            )
        except (binascii.Error, ValueError):
            raise InputRefused("unauthorized", UNPROVEN) from None
        signed = timestamp.encode() + b"|" + webhook.body
        # Nothing here is secret, so the time that it takes may tell which of the keys was right.
        if not any([_is_signed(key, signature, signed) for key in self._keys]):
            raise InputRefused("unauthorized", UNPROVEN)
        if self._connection_id is not None and _connection_of(webhook.body) not in (
            None,
            self._connection_id,
        ):
            raise InputRefused("forbidden", "the message is of another connection than connection_id")

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what a message says of a leg, or of a recording; raises NotUnderstood."""
        try:
            event = _decode_event(webhook.body).data
            if event.event_type not in _WHAT:
                return []
            payload = _decode_payload(event.payload)
        except _UNREADABLE as error:
            raise NotUnderstood(f"the message is no event of Call Control: {error}") from error
        return [Told(_WHAT[event.event_type], self._read(event.event_type, payload, event.occurred_at, now))]

    def find_recording(self, reference: str, now: float) -> Errand[Ask]:
        """Return the request for a recording by its id, or for the longest of a leg or session.

        The link that Telnyx gives lives ten minutes, on another host, and needs no credentials: it is sent
        none. Source: Telnyx's API reference, "Retrieve a call recording", "List all call recordings".
        """
        kind, _, value = reference.partition("/")
        if kind in _FILTERS and value:
            got = yield self._ask("/v2/recordings?" + urlencode({f"filter[{_FILTERS[kind]}]": value}))
            found = sorted(json_of(got, _Several).data, key=lambda one: (one.duration_millis or 0, one.id))
        elif _RECORDING_ID.fullmatch(reference):
            got = yield self._ask(f"/v2/recordings/{reference}")
            found = [json_of(got, _One).data]
        else:
            raise ErrandFailed("there is no such recording of Telnyx", is_final=True)
        links = found[-1].download_urls if found else None
        url = None if links is None else links.mp3 or links.wav
        if url is None:
            raise ErrandFailed("Telnyx has no link to the recording (yet)")
        if not is_safe(url):
            raise ErrandFailed("Telnyx's link to the recording is no https address", is_final=True)
        return Ask(url=url)

    @property
    def lists_calls(self) -> bool:
        """Whether what it takes to ask for calls is configured."""
        return self._api_key is not None and self._connection_id is not None

    def list_calls(
        self, since: float, until: float, now: float
    ) -> Generator[Ask | Sequence[Told], Got | None, None]:
        """Yield requests for the events of `connection_id`, and then what those of ended calls tell.

        Telnyx lists what it sent, by session and leg, for LISTED_S; of two bounds of time it takes one. A
        call is told once its listed legs have ended, and only if the events themselves are in the list.
        Source: Telnyx's API reference, "List call events": `metadata` includes the raw event, in a form
        that is not described, so each is looked for in it. Raises ErrandFailed, at the end if `since` is
        too long ago, at once if no event holds what was sent.
        """
        if self._connection_id is None:
            raise ErrandFailed("listing calls needs connection_id, beside api_key", is_final=True)
        sessions: dict[str, list[Told]] = defaultdict(list)
        missed = 0
        for row in (yield from self._listed(since - LONGEST_S)):
            if (told := self._read_row(row, now)) is not None:
                sessions[told.event.key.call_id].append(told)
            missed += told is None and b'"call.initiated"' in row
        if missed and not sessions:
            raise ErrandFailed("the events that Telnyx lists do not hold what was sent", is_final=True)
        for session in sessions.values():
            if _is_whole(session, since, until):
                yield session
        if since < now - LISTED_S - _CLOCKS_S:
            raise ErrandFailed("Telnyx lists the last 24 hours only: older calls are missing", is_final=True)

    def _ask(self, path: str) -> Ask:
        if self._api_key is None:
            raise ErrandFailed("asking Telnyx needs api_key", is_final=True)
        return Ask(url=self._api_url + path, headers={"Authorization": f"Bearer {self._api_key}"})

    def _listed(self, since: float) -> Errand[Sequence[bytes]]:
        """Return the events that Telnyx lists; raises ErrandFailed."""
        rows: list[bytes] = []
        last: list[msgspec.Raw] = []
        for page in range(1, _PAGES_MOST + 1):
            query = {
                "filter[connection_id]": self._connection_id or "",
                "filter[type]": "webhook",
                "filter[occurred_at][gte]": datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "page[size]": _PAGE,
                "page[number]": page,
            }
            answer: _Page = json_of((yield self._ask(f"/v2/call_events?{urlencode(query)}")), _Page)
            if answer.data == last:
                return rows
            last = answer.data
            rows.extend(map(bytes, last))
            pages = answer.meta.total_pages
            if len(last) < _PAGE if pages is None else page >= pages:
                return rows
        raise ErrandFailed(f"Telnyx lists more than {_PAGES_MOST} pages of events", is_final=True)

    def _read_row(self, row: bytes, now: float) -> Told | None:
        """Return what a listed event says, None if that is not to be found in it."""
        try:
            listed = _decode_row(row)
            raw = _raw_event(listed.metadata)
            if listed.name not in _WHAT or raw is None:
                return None
            payload: _Payload = msgspec.convert(raw.get("payload", raw), _Payload)
            payload.call_session_id = listed.call_session_id or payload.call_session_id
            payload.call_leg_id = listed.call_leg_id or payload.call_leg_id
            occurred_at = raw.get("occurred_at")
            at = occurred_at if isinstance(occurred_at, str) else listed.event_timestamp
            return Told(_WHAT[listed.name], self._read(listed.name, payload, at, now), body=row)
        except (*_UNREADABLE, NotUnderstood):
            return None

    def _read(self, name: str, payload: _Payload, occurred_at: str | None, now: float) -> CallEvent:
        """Return what an event says; raises NotUnderstood."""
        key = CallKey(self._account_id, checked_id(payload.call_session_id, "call_session_id"))
        if name == "call.recording.error":
            return CallEvent(key=key, recording=Recording(state=RecordingState.NEVER))
        if _WHAT[name] == "recording.ready":
            return CallEvent(key=key, recording=self._recording(payload))
        leg_id = checked_id(payload.call_leg_id, "call_leg_id")
        started_at, at = _moment(payload.start_time, now), _moment(occurred_at, now)
        if name == "call.initiated":
            leg = self._started(Leg(leg_id, started_at=at if started_at is None else started_at), payload)
        elif name == "call.answered":
            if at is None:
                raise NotUnderstood("call.answered has no occurred_at that could be its time")
            leg = Leg(leg_id, started_at=started_at, answered_at=at)
        else:
            status = _STATUSES.get(payload.hangup_cause or "")
            if at is None and status is None:
                raise NotUnderstood("call.hangup has no occurred_at that could be its time")
            leg = Leg(leg_id, started_at=started_at, ended_at=at, status=status)
        return CallEvent(key=key, legs=(leg,))

    def _started(self, leg: Leg, payload: _Payload) -> Leg:
        """Return a leg with whom it goes to or comes from."""
        direction = _DIRECTIONS.get(payload.direction or "")
        if direction is None:
            raise NotUnderstood("call.initiated has a direction other than incoming and outgoing")
        caller, called = payload.from_ or "", payload.to or ""
        if direction is Direction.OUTBOUND and payload.state == "parked":
            # One of the company's own telephones calls out through Telnyx, and waits to be connected.
            own = extension_of(sip_user(caller) or "")
            return leg._replace(side=Side.STAFF, direction=direction, phone=called, extension=own)
        other = caller if direction is Direction.INBOUND else called
        name = sip_user(other)
        if name is not None or (read(other).kind is Kind.OUTSIDE and tail(other) in self._staff):
            return leg._replace(side=Side.STAFF, extension=extension_of(name or other))
        if direction is Direction.INBOUND:
            return leg._replace(side=Side.CLIENT, direction=direction, phone=other)
        return leg._replace(direction=direction, phone=other, extension=extension_of(other))

    def _recording(self, payload: _Payload) -> Recording:
        """Return where a recording is: by reference if Telnyx can be asked for it again, else by its link."""
        if self._api_key is not None:
            if payload.recording_id is not None and _RECORDING_ID.fullmatch(payload.recording_id):
                reference = payload.recording_id
            elif payload.call_leg_id is not None:
                reference = f"leg/{checked_id(payload.call_leg_id, 'call_leg_id')}"
            else:
                reference = f"session/{payload.call_session_id}"
            return Recording(state=RecordingState.EXPECTED, url=f"telnyx:{reference}")
        for links in (payload.public_recording_urls, payload.recording_urls):
            for form in ("mp3", "wav"):
                url = links.get(form) if isinstance(links, dict) else None
                if isinstance(url, str) and is_safe(url):
                    return Recording(state=RecordingState.EXPECTED, url=url)
        raise NotUnderstood("the recording has no https address")


def _is_signed(key: bytes, signature: bytes, signed: bytes) -> bool:
    if len(signature) != crypto_sign_BYTES:
        # Both are put together: what a longer one has behind its end would be read as what was signed.
        return False
    try:
        crypto_sign_open(signature + signed, key)
    except BadSignatureError:
        return False
    return True


def _connection_of(body: bytes) -> str | None:
    """Return the connection that a message is of, None if it names none; what it is else `parse` finds."""
    try:
        return _decode_connection(_decode_event(body).data.payload).connection_id
    except _UNREADABLE:
        return None


def _raw_event(metadata: Any) -> Mapping[str, Any] | None:
    """Return the event in what is listed with it: it has a payload, or is one."""
    if not isinstance(metadata, dict):
        return None
    for found in (metadata, *(one for one in metadata.values() if isinstance(one, dict))):
        if isinstance(found.get("payload"), dict) or "call_leg_id" in found:
            return found
    return None


def _is_whole(session: Sequence[Told], since: float, until: float) -> bool:
    """Tell whether a call began within these bounds, by its events, and each of its legs has ended."""
    begun = {leg.id for told in session if told.what == "leg.started" for leg in told.event.legs}
    ended = {leg.id for told in session if told.what == "leg.ended" for leg in told.event.legs}
    legs = [leg for told in session for leg in told.event.legs]
    start = min((leg.started_at for leg in legs if leg.started_at is not None), default=None)
    return bool(begun) and begun <= ended and start is not None and since <= start <= until


def _moment(at: str | None, now: float) -> float | None:
    """Return Unix seconds of a time in ISO 8601; None for one that cannot be, or has no zone."""
    try:
        moment = datetime.fromisoformat(at or "")
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    seconds = moment.timestamp()
    return possible_moment(seconds, now)


def _public_key(value: Any) -> str:
    """Return a public key as Telnyx shows it."""
    right = f"the base64 of {_KEY_BYTES} bytes, as Telnyx shows it under Keys & Credentials"
    try:
        key = base64.b64decode(text(value), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(right) from None
    if len(key) != _KEY_BYTES:
        raise ValueError(right)
    return str(value)


def _make(account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> Telnyx | None:
    if values["public_key"] is None and values["previous_public_key"] is None:
        return None
    return Telnyx(account_id, values, Tokens(values, made))


SERVICE = Service(
    title="Telnyx",
    settings={
        "public_key": Setting(
            _public_key, None, "public key of the Telnyx account, which signs its webhooks", show='"…"'
        ),
        "previous_public_key": Setting(
            _public_key, None, "one that is taken as well, while Telnyx changes to a new one", show='"…"'
        ),
        "connection_id": Setting(
            text,
            None,
            "id of the Voice API application; messages of others are refused, and calls listed for it alone",
            show='"…"',
        ),
        "api_key": Setting(
            bearer,
            None,
            "API key (v2) to ask Telnyx for recordings and missed calls; none: recordings by their link,"
            " which lives ten minutes",
            secret=True,
            show='"…"',
        ),
        "api_url": Setting(
            web_address,
            "https://api.telnyx.com",
            "how Telnyx's API is reached",
            show='"https://api.telnyx.com"',
        ),
        "staff_phones": Setting(
            phones,
            (),
            'numbers of own people that the application calls, such as ["+12125550100"]',
            show="[]",
        ),
        **TOKEN,
    },
    make=_make,
)
