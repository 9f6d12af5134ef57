"""Vonage: what the event webhooks of its Voice API say of a call's legs.

A conversation holds the legs that talk with each other, and is the call. Every event of a leg says whom it
goes to or comes from; busy, cancelled and the like say why nobody answered, and `completed`, which follows
most of them, how long it lasted. They may come in any order. A leg that is moved to another conversation
ends in the first one, for nothing says that both are one call. Source: Vonage's Voice API reference, webhook
reference and guide to signed webhooks, read 2026-11-23.
"""

import base64
import hashlib
import hmac
import re
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from calllogd.config import Setting
from calllogd.config.values import bearer, phones, text, web_address
from calllogd.domain.call import CallKey, CallStatus, Direction, Leg, Recording, RecordingState, Side
from calllogd.domain.merge import CallEvent
from calllogd.domain.phone import Kind, read, tail
from calllogd.errors import InputRefused
from calllogd.voip.ends import checked_id, extension_of, sip_user
from calllogd.voip.errand import Ask, Errand, ErrandFailed, Got, is_at, json_of
from calllogd.voip.fields import possible_moment
from calllogd.voip.proof import TOKEN, UNPROVEN, BearerToken, Tokens, any_same, same
from calllogd.voip.provider import NotUnderstood, Service, Told, VoipService
from calllogd.voip.webhook import EMPTY, Reply, Webhook

LONGEST_S = 7_200
"""For how long a leg lasts at most. Source: length_timer of Vonage's Voice API."""

TOKEN_S = 900
"""For how long a token that we show to Vonage is good."""

_PAGE, _PAGES_MOST = 100, 1_000
_TALK_MOST_S = 10_000_000
_END_MOST = 255
_KEY_BITS_LEAST = 2_048

_API_HOST = re.compile(r"api(-[a-z]{2}(-[0-9]{1,2})?)?\.(nexmo|vonage)\.com")
_E164 = re.compile("[1-9][0-9]{6,14}")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

_WHAT = {
    "started": "leg.started",
    "ringing": "leg.ringing",
    "answered": "leg.answered",
    "human": "leg.answered",
    "machine": "leg.answered",
    "busy": "leg.ended",
    "cancelled": "leg.ended",
    "unanswered": "leg.ended",
    "timeout": "leg.ended",
    "rejected": "leg.ended",
    "failed": "leg.ended",
    "completed": "leg.ended",
}

_STATUSES = {
    "busy": CallStatus.BUSY,
    "cancelled": CallStatus.CANCELLED,
    "unanswered": CallStatus.NO_ANSWER,
    "timeout": CallStatus.NO_ANSWER,
    "rejected": CallStatus.FAILED,
    "failed": CallStatus.FAILED,
}

_DIRECTIONS = {"inbound": Direction.INBOUND, "outbound": Direction.OUTBOUND}

Text = Annotated[str, msgspec.Meta(max_length=255)]


class _Head(msgspec.Struct):
    alg: str


class _Claims(msgspec.Struct):
    iss: str
    payload_hash: str
    api_key: str | None = None
    application_id: str | None = None


class _Event(msgspec.Struct):
    """The message as it comes; what is not listed here is passed over."""

    status: str | None = None
    uuid: str | None = None
    call_uuid: str | None = None
    conversation_uuid: str | None = None
    conversation_uuid_from: str | None = None
    conversation_uuid_to: str | None = None
    direction: str | None = None
    from_: Any = msgspec.field(name="from", default=None)
    to: Any = None
    from_user: Text | None = None
    to_user: Text | None = None
    timestamp: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    duration: str | float | None = None
    recording_url: Annotated[str, msgspec.Meta(max_length=2000)] | None = None


class _Embedded(msgspec.Struct):
    calls: list[msgspec.Raw] = msgspec.field(default_factory=list)


class _Page(msgspec.Struct):
    embedded: _Embedded = msgspec.field(name="_embedded", default_factory=_Embedded)


class _End(msgspec.Struct, frozen=True):
    """Who is at the other end of a leg: a number, or somebody or something of the company's own."""

    number: str = ""
    is_own: bool = False
    name: str | None = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_claims = msgspec.json.Decoder(_Claims).decode
_decode_event = msgspec.json.Decoder(_Event).decode

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Vonage(VoipService):
    """The Voice API of one account: `values` are those of its settings."""

    reply: Reply | None = EMPTY

    def __init__(self, account_id: int, values: Mapping[str, Any], tokens: Tokens) -> None:
        self._account_id = account_id
        self._tokens = tokens
        known = [values["signature_secret"], values["previous_signature_secret"]]
        self._secrets = [secret.encode() for secret in known if secret is not None]
        self._api_key: str | None = values["api_key"]
        self._application_id: str | None = values["application_id"]
        key = values["private_key"]
        self._private_key = None if key is None else _loaded(key)
        self._api_url: str = values["api_url"]
        self._staff = frozenset(map(tail, values["staff_phones"]))

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if Vonage signed the body, with a token of HS256; else raises InputRefused.

        The token's age does not count: it is not known whether a message that is sent again is signed again.
        The address is not signed.
        """
        self._tokens.check_path(webhook, now)
        claims = self._claims(webhook)
        body_hash = hashlib.sha256(webhook.body).hexdigest()
        good = [
            claims.iss == "Vonage",
            same(body_hash, claims.payload_hash.lower()),
            self._api_key in (None, claims.api_key),
        ]
        if not all(good):
            raise InputRefused("unauthorized", UNPROVEN)
        if self._application_id not in (None, claims.application_id) and claims.application_id is not None:
            raise InputRefused("forbidden", "the message is of another application than application_id")

    def _claims(self, webhook: Webhook) -> _Claims:
        """Return what a token says that is signed with one of the secrets; raises InputRefused."""
        scheme, _, token = webhook.headers.get("Authorization", "").partition(" ")
        signed, _, signature = token.strip().rpartition(".")
        head, _, claims = signed.partition(".")
        right = [
            _base64url(hmac.digest(secret, signed.encode("utf-8", "surrogateescape"), hashlib.sha256))
            for secret in self._secrets
        ]
        if scheme.lower() == "bearer" and any_same(right, [signature]):
            try:
                if _decode_head(_from_base64url(head)).alg == "HS256":
                    return _decode_claims(_from_base64url(claims))
            except (ValueError, *_UNREADABLE):
                pass
        raise InputRefused("unauthorized", UNPROVEN)

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what a message says of a leg, or of a recording; raises NotUnderstood."""
        try:
            event = _decode_event(webhook.body)
        except _UNREADABLE as error:
            raise NotUnderstood(f"the message is no event of the Voice API: {error}") from error
        if event.status in _WHAT:
            return [Told(_WHAT[event.status], self._leg_event(event, now))]
        if event.recording_url is not None and event.conversation_uuid is not None:
            recording = Recording(state=RecordingState.EXPECTED, url=f"vonage:{event.recording_url}")
            return [
                Told(
                    "recording.ready", CallEvent(key=self._key(event.conversation_uuid), recording=recording)
                )
            ]
        if event.conversation_uuid_from is not None or event.conversation_uuid_to is not None:
            return self._moved(event, now)
        return []

    def find_recording(self, reference: str, now: float) -> Errand[Ask]:
        """Return the request for the recording at an address of Vonage's API; raises ErrandFailed.

        Vonage keeps it for 30 days. Source: its guide "Download a recording".
        """
        if not is_at(reference, _API_HOST, self._api_url):
            raise ErrandFailed("the recording is not at an address of Vonage's API", is_final=True)
        yield from ()  # nothing has to be asked before
        return self._ask(reference, now)

    @property
    def lists_calls(self) -> bool:
        """Whether what it takes to ask for calls is configured."""
        return self._application_id is not None and self._private_key is not None

    def list_calls(
        self, since: float, until: float, now: float
    ) -> Generator[Ask | Sequence[Told], Got | None, None]:
        """Yield requests for the application's legs, and then what those of ended calls tell.

        Legs are asked for that began up to LONGEST_S before or after, so that each call has all of its own.
        Those that did not connect have no times. Raises ErrandFailed. Source: Vonage's Voice API reference,
        "Get details of your calls".
        """
        conversations: dict[str, list[Told]] = defaultdict(list)
        last: list[msgspec.Raw] = []
        for page in range(_PAGES_MOST):
            query = {
                "date_start": _written(since - LONGEST_S),
                "date_end": _written(until + LONGEST_S),
                "page_size": _PAGE,
                "record_index": page * _PAGE,
                "order": "asc",
            }
            got = yield self._ask(f"{self._api_url}/v1/calls?{urlencode(query)}", now)
            answer: _Page = json_of(got, _Page)
            if answer.embedded.calls == last:
                break
            last = answer.embedded.calls
            for item in map(bytes, last):
                if (told := self._read_item(item, now)) is not None:
                    conversations[told.event.key.call_id].append(told)
            if len(last) < _PAGE:
                break
        else:
            raise ErrandFailed(f"Vonage lists more than {_PAGES_MOST} pages of calls", is_final=True)
        for conversation in conversations.values():
            legs = [leg for told in conversation for leg in told.event.legs]
            start = min((leg.started_at for leg in legs if leg.started_at is not None), default=since)
            if since <= start <= until and all(told.what == "leg.ended" for told in conversation):
                yield conversation

    def _read_item(self, item: bytes, now: float) -> Told | None:
        """Return what a listed leg says, None if it cannot be read or placed."""
        try:
            event = _decode_event(item)
            if _WHAT.get(event.status or "") == "leg.ended":
                return Told("leg.ended", self._leg_event(event, now), body=item)
            leg = Leg(checked_id(event.uuid, "uuid"))
            return Told("leg.started", CallEvent(key=self._key(event.conversation_uuid), legs=(leg,)))
        except (*_UNREADABLE, NotUnderstood):
            return None

    def _ask(self, url: str, now: float) -> Ask:
        """Return a request of the application; raises ErrandFailed."""
        if self._application_id is None or self._private_key is None:
            raise ErrandFailed("asking Vonage needs application_id and private_key", is_final=True)
        claims = {
            "application_id": self._application_id,
            "iat": int(now),
            "exp": int(now) + TOKEN_S,
            "jti": hashlib.sha256(f"{now} {url}".encode()).hexdigest()[:32],
        }
        token = jwt.encode(claims, self._private_key, algorithm="RS256")
        return Ask(url=url, headers={"Authorization": f"Bearer {token}"})

    def _key(self, conversation: str | None) -> CallKey:
        return CallKey(self._account_id, checked_id(conversation, "conversation_uuid"))

    def _moved(self, event: _Event, now: float) -> Sequence[Told]:
        """Return that a leg was moved from one conversation to another; first that it was in the former."""
        left, joined = self._key(event.conversation_uuid_from), self._key(event.conversation_uuid_to)
        leg = Leg(checked_id(event.uuid, "uuid"))
        at = _moment(event.timestamp, now)
        if at is None:
            raise NotUnderstood("the transfer has no timestamp that could be its time")
        if left == joined:
            return []
        moved = CallEvent(key=joined, legs=(leg._replace(started_at=at),), moved_from=left)
        return [Told("leg.left", CallEvent(key=left, legs=(leg,))), Told("leg.joined", moved)]

    def _leg_event(self, event: _Event, now: float) -> CallEvent:
        """Return what an event says of a leg, or the list of calls does; raises NotUnderstood."""
        key = self._key(event.conversation_uuid)
        leg = self._with_ends(Leg(checked_id(event.uuid or event.call_uuid, "uuid")), event)
        at = _moment(event.timestamp, now)
        what = _WHAT.get(event.status or "")
        if what in ("leg.started", "leg.ringing"):
            leg = leg._replace(started_at=at)
        elif what == "leg.answered":
            if at is None:
                raise NotUnderstood(f"{event.status} has no timestamp that could be its time")
            leg = leg._replace(answered_at=at)
        elif what == "leg.ended":
            leg = _ended(leg, event, now)
        return CallEvent(key=key, legs=(leg,))

    def _with_ends(self, leg: Leg, event: _Event) -> Leg:
        """Return a leg with whom it goes to or comes from, if the event says so."""
        direction = _DIRECTIONS.get(event.direction or "")
        if direction is None:
            return leg
        inbound = direction is Direction.INBOUND
        end = _end(event.from_ if inbound else event.to, event.from_user if inbound else event.to_user)
        if not end.is_own and read(end.number).kind is Kind.OUTSIDE and tail(end.number) in self._staff:
            end = _End(is_own=True, name=end.number)
        if end.is_own:
            return leg._replace(side=Side.STAFF, extension=extension_of(end.name or ""))
        if inbound:
            return leg._replace(side=Side.CLIENT, direction=direction, phone=end.number)
        return leg._replace(direction=direction, phone=end.number, extension=extension_of(end.number))


def _ended(leg: Leg, event: _Event, now: float) -> Leg:
    """Return a leg with when and how it ended; raises NotUnderstood."""
    ended_at = _moment(event.end_time, now) or _moment(event.timestamp, now)
    talk = _talk(event.duration) if event.status == "completed" else None
    status = CallStatus.ANSWERED if talk else _STATUSES.get(event.status or "")
    if ended_at is None and status is None:
        raise NotUnderstood("completed has neither a duration nor a time that could be its own")
    started_at = _moment(event.start_time, now)
    return leg._replace(started_at=started_at, ended_at=ended_at, talk=talk, status=status)


def _talk(duration: str | float | None) -> int | None:
    """Return seconds, None where there are none; raises NotUnderstood."""
    if duration is None or duration == "":
        return None
    if isinstance(duration, str) and not _SECONDS.fullmatch(duration):
        raise NotUnderstood("duration is no number of seconds")
    seconds = float(duration)
    if not 0 <= seconds <= _TALK_MOST_S:
        raise NotUnderstood(f"duration is not between 0 and {_TALK_MOST_S} seconds")
    return round(seconds)


def _end(found: Any, user: str | None) -> _End:
    """Return who is meant by an end of a leg, written as a text or as an endpoint; raises NotUnderstood.

    Users, extensions and websockets are the company's own, and so is whoever has a name in his SIP address.
    """
    if user:
        return _End(is_own=True, name=user)
    if isinstance(found, list):
        found = found[0] if found else None
    kind = ""
    if isinstance(found, dict):
        kind = str(found.get("type"))
        found = next((found[one] for one in ("number", "uri", "user", "extension") if one in found), None)
    if found is None:
        return _End()
    if not isinstance(found, str) or len(found) > _END_MOST:
        raise NotUnderstood("from or to is neither a number nor an endpoint")
    if kind == "websocket" or found.startswith(("ws:", "wss:")):
        return _End(is_own=True)
    name = found if kind in ("app", "vbc") else sip_user(found)
    if name is not None:
        return _End(is_own=True, name=name)
    return _End(f"+{found}" if _E164.fullmatch(found) else found)


def _moment(at: str | None, now: float) -> float | None:
    """Return Unix seconds of a time in ISO 8601; None for one that cannot be.

    Vonage's times are UTC; those of its list do not say so.
    """
    try:
        moment = datetime.fromisoformat(at or "")
    except ValueError:
        return None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return possible_moment(seconds, now)


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def _from_base64url(encoded: str) -> bytes:
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))


def _loaded(pem: str) -> RSAPrivateKey:
    """Return a private key; raises ValueError."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey) or key.key_size < _KEY_BITS_LEAST:
        raise ValueError("the application's private key: RSA in PEM, without a password")
    return key


def _private_key(value: Any) -> str:
    """Return a private key as Vonage gives it, once it is sure that it can be read."""
    _loaded(text(value))
    return str(value)


def _make(account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> Vonage | None:
    if values["signature_secret"] is None and values["previous_signature_secret"] is None:
        return None
    return Vonage(account_id, values, Tokens(values, made))


SERVICE = Service(
    title="Vonage",
    settings={
        "signature_secret": Setting(
            bearer,
            None,
            "signature secret of the Vonage account, for signed webhooks",
            secret=True,
            show='"…"',
        ),
        "previous_signature_secret": Setting(
            bearer,
            None,
            "one that is taken as well, while Vonage changes to a new one",
            secret=True,
            show='"…"',
        ),
        "api_key": Setting(
            text, None, "API key of the Vonage account; messages of others are refused", show='"…"'
        ),
        "application_id": Setting(
            text, None, "id of the application; messages of others are refused", show='"…"'
        ),
        "private_key": Setting(
            _private_key,
            None,
            "private key of the application, to ask Vonage for recordings and missed calls",
            secret=True,
            show='"""-----BEGIN PRIVATE KEY-----…"""',
        ),
        "api_url": Setting(
            web_address,
            "https://api.nexmo.com",
            "how Vonage's API is reached, such as https://api-eu.vonage.com",
            show='"https://api.nexmo.com"',
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
