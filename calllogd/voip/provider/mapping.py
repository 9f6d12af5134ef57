"""Any VoIP service that sends JSON or forms, by a mapping in the configuration.

Only what is mapped is read. Messages speak of a call as a whole, and that of its end is final.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from calllogd.config import Setting
from calllogd.config.values import signing_secret, token
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
from calllogd.errors import ConfigError, InputRefused
from calllogd.voip.fields import checked_call_id
from calllogd.voip.mapping import (
    EVENT_WORDS,
    INTERNAL,
    NOTHING,
    STATUS_WORDS,
    Source,
    direction_words,
    duration_of,
    find,
    nothing,
    time_of,
)
from calllogd.voip.mapping_proof import Auth, Proof, claims_of, read_auth
from calllogd.voip.mapping_settings import needs_zone, read_map, read_path, read_skip, read_zone
from calllogd.voip.proof import ALLOW_FROM, BearerToken, check_address
from calllogd.voip.provider import NotUnderstood, Service, Told, VoipService
from calllogd.voip.provider.generic import is_safe
from calllogd.voip.webhook import EMPTY, Reply, Webhook, is_form, texts

RECORDS_MOST = 500
"""Records of one message at most."""

_PHONE_MOST, _EXTENSION_MOST = 255, 64

_PINGS = (b"", b"{}", b"[]")
"""Bodies without a field: some services try an address with them, and want a 2xx."""

_WEIGHT = {"call.started": 1, "call.answered": 2, "call.ended": 3}


class Mapped(VoipService):
    """A VoIP service of one account whose messages the configuration describes."""

    reply: Reply | None = EMPTY

    def __init__(self, account_id: int, values: Mapping[str, Any], proof: Proof) -> None:
        self._account_id = account_id
        self._proof = proof
        self._allow_from = values["allow_from"]
        self._records = values["records"]
        self._skips = values["skip_if"]
        self._zone: ZoneInfo | None = values["timezone"]
        self._map: Mapping[str, Source] = values["map"]
        self._directions = direction_words(self._map["direction"].path)

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if the message is the service's; else raises InputRefused."""
        check_address(webhook, self._allow_from)
        self._proof.check(webhook, now)

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what each record of a message says; raises NotUnderstood for all if it cannot for one."""
        message, is_whole = self._message(webhook), False
        if self._records is not None:
            message = find(message, self._records)
        elif isinstance(message, Mapping):
            is_whole = not self._proof.auth.is_token
        records = message if isinstance(message, list) else [message]
        if len(records) > RECORDS_MOST:
            raise NotUnderstood(f"more than {RECORDS_MOST} records")
        found = [self._told(record, now, is_whole=is_whole) for record in records]
        return [one for one in found if one is not None]

    def _message(self, webhook: Webhook) -> Any:
        """Return what a message holds; of one that is signed the body alone."""
        if self._proof.auth.is_token:
            try:
                return claims_of(webhook)
            except InputRefused as error:
                raise NotUnderstood(error.detail) from error
        body = webhook.body.strip()
        # curl says of whatever it sends that it is a form.
        if body.startswith((b"{", b"[")):
            try:
                return msgspec.json.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise NotUnderstood(f"the body is not JSON: {error}") from error
        if body and not is_form(webhook):
            raise NotUnderstood("the body is neither JSON nor a form")
        if self._proof.auth.covers_body:
            return texts(webhook.form)
        return webhook.fields

    def _told(self, record: Any, now: float, *, is_whole: bool) -> Told | None:
        """Return what one record says, which may be the whole message; None if it is to be passed over."""
        if not isinstance(record, Mapping):
            raise NotUnderstood(f"there is no record at {self._records or 'the top of the message'}")
        if any(skip.applies(record) for skip in self._skips):
            return None
        event = self._event(record, now)
        return None if event is None else Told(event[0], event[1], None if is_whole else _encoded(record))

    def _event(self, record: Any, now: float) -> tuple[str, CallEvent] | None:
        """Return what a record says and its name; None for a call within the company."""
        what = self._text(record, "event", EVENT_WORDS) or "call.ended"
        try:
            key = CallKey(self._account_id, checked_call_id(self._text(record, "call_id") or ""))
        except InputRefused as error:
            raise NotUnderstood(f"{error.detail} ({self._map['call_id'].path})") from error
        recording = self._recording(record)
        if what == "recording.ready":
            if recording is NO_RECORDING:
                raise NotUnderstood("there is no https address of a recording")
            return what, CallEvent(key=key, recording=recording)
        direction = self._direction(record)
        if direction == INTERNAL:
            return None
        return what, CallEvent(
            key=key,
            facts=self._facts(record, what, Direction(direction), now),
            recording=recording if what == "call.ended" else NO_RECORDING,
        )

    def _facts(self, record: Any, what: str, direction: Direction, now: float) -> Facts:
        started_at, outcome = self._start(record, now), None
        if what == "call.ended":
            ended_at = self._time(record, "ended_at", now)
            outcome = self._outcome(record, self._time(record, "answered_at", now), ended_at)
            if started_at is None and ended_at is not None:
                started_at = ended_at - outcome.duration
        phone, other = self._phone(record, direction)
        return Facts(
            direction=direction,
            phone=phone,
            person=self._person(record, other, what, outcome),
            started_at=started_at,
            outcome=outcome,
        )

    def _person(self, record: Any, other: str, what: str, outcome: Outcome | None) -> Person | None:
        extension = self._text(record, "extension") or _extension(other)
        if not extension or len(extension) > _EXTENSION_MOST or not extension.isprintable():
            return None
        weight = _WEIGHT[what] + (outcome is not None and outcome.status is CallStatus.ANSWERED)
        return Person(weight, extension)

    def _outcome(self, record: Any, answered_at: float | None, ended_at: float | None) -> Outcome:
        duration = self._duration(record, answered_at, ended_at)
        status = self._status(record)
        if status is None:
            status = CallStatus.ANSWERED if duration else CallStatus.NO_ANSWER
        # Whatever is counted of a call that nobody answered is its ringing.
        talked = status in (CallStatus.ANSWERED, CallStatus.VOICEMAIL)
        return Outcome(status, duration if talked else 0)

    def _duration(self, record: Any, answered_at: float | None, ended_at: float | None) -> int:
        source = self._map.get("duration")
        if source is not None:
            if source.constant is not None:
                return int(source.constant)
            value = source.find(record)
            if nothing(value):
                if source.default is None:
                    raise NotUnderstood(f"there is no duration at {source.path}")
                return int(source.default)
            try:
                return duration_of(value, source.convert)
            except ValueError as error:
                raise NotUnderstood(f"duration at {source.path} should be {error}") from error
        if answered_at is None:
            return 0
        if ended_at is None or ended_at < answered_at:
            raise NotUnderstood("ended_at should be a time after answered_at")
        return round(ended_at - answered_at)

    def _status(self, record: Any) -> CallStatus | None:
        """Return how a call ended; None if that is for its duration to say."""
        word = self._text(record, "status", STATUS_WORDS)
        return None if word is None else CallStatus(word)

    def _direction(self, record: Any) -> str:
        word = self._text(record, "direction", self._directions)
        if word is None:
            raise NotUnderstood(f"there is no direction at {self._map['direction'].path}")
        return word

    def _phone(self, record: Any, direction: Direction) -> tuple[str, str]:
        """Return the client's number, and whoever is at the other end of the call if that is known."""
        if "phone" in self._map:
            return self._number(record, "phone"), ""
        client, company = "caller", "callee"
        if direction is Direction.OUTBOUND:
            client, company = company, client
        try:
            other = self._text(record, company) or ""
        except NotUnderstood:
            other = ""  # all that ring, for example
        return self._number(record, client), other

    def _number(self, record: Any, target: str) -> str:
        """Return a number as it came; an empty one was withheld, one that is missing was not mapped right."""
        source = self._map[target]
        if source.constant is None and source.default is None and source.find(record) is NOTHING:
            raise NotUnderstood(f"there is no {target} at {source.path}")
        number = self._text(record, target) or ""
        if len(number) > _PHONE_MOST:
            raise NotUnderstood(f"{target} at {source.path} is no number")
        return number

    def _recording(self, record: Any) -> Recording:
        url = self._text(record, "recording") or ""
        # The call counts also if its recording cannot be had.
        return Recording(state=RecordingState.EXPECTED, url=url) if is_safe(url) else NO_RECORDING

    def _start(self, record: Any, now: float) -> float | None:
        """Return when a call began; one that cannot be is left out: the first message's arrival stands in."""
        try:
            return self._time(record, "started_at", now)
        except NotUnderstood:
            return None

    def _time(self, record: Any, target: str, now: float) -> float | None:
        source = self._map.get(target)
        value = NOTHING if source is None else source.find(record)
        if source is None or nothing(value):
            return None
        try:
            return time_of(value, source.convert, self._zone, now)
        except ValueError as error:
            raise NotUnderstood(f"{target} at {source.path} should be {error}") from error

    def _text(self, record: Any, target: str, known: Mapping[str, str | None] | None = None) -> str | None:
        """Return a fact as a text; None if it is not mapped, or nothing is there."""
        source = self._map.get(target)
        return None if source is None else source.text(record, known)


def _extension(number: str) -> str:
    """Return the number at the company's end if it is an extension, and not one of the company's lines."""
    kind, digits = read(number)
    return digits if kind is Kind.INTERNAL else ""


def _encoded(record: Any) -> bytes:
    try:
        return msgspec.json.encode(record)
    except RecursionError as error:
        raise NotUnderstood("a record has too many levels") from error


def _handshake(webhook: Webhook) -> Reply | None:
    """Return 200 for a message without any field, by which a service tries the address."""
    return EMPTY if webhook.body.strip() in _PINGS and not webhook.query else None


def _make(account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> Mapped | None:
    """Return the service; raises ConfigError for settings that do not go together."""
    auth: Auth = values["auth"]
    secrets = [one for one in (values["secret"], values["previous_secret"]) if one is not None]
    if not secrets and (auth.signs or not made):
        return None
    mistakes = _mistakes(values, auth, secrets)
    if mistakes:
        raise ConfigError(*(f"accounts.{account_id}.voip.mapping.{mistake}" for mistake in mistakes))
    return Mapped(account_id, values, Proof(auth, secrets, made))


def _mistakes(values: Mapping[str, Any], auth: Auth, secrets: Sequence[str]) -> Sequence[str]:
    if values["map"] is None:
        return ["map: is missing; it says where in a message each fact stands"]
    mistakes = []
    local = needs_zone(values["map"])
    if local is not None and values["timezone"] is None:
        mistakes.append(f"timezone: is missing; {local} comes without its zone")
    if auth.kind == "standard-webhooks":
        try:
            for secret in secrets:
                signing_secret(secret)
        except ValueError as error:
            mistakes.append(f"secret: should be {error}")
    return mistakes


SERVICE = Service(
    title="Mapping",
    settings={
        "auth": Setting(
            read_auth,
            Auth(),
            "how it proves who it is: path, header, bearer, basic, hmac, jwt_hs256 or standard-webhooks",
            # Whoever writes a secret into it by mistake does not find it in the log.
            secret=True,
            show='{ kind = "path" }',
        ),
        "secret": Setting(token, None, "what it shows, or what it signs with", secret=True, show='"…"'),
        "previous_secret": Setting(
            token,
            None,
            "one that is taken as well, while the service is given a new one",
            secret=True,
            show='"…"',
        ),
        "map": Setting(
            read_map,
            None,
            "where in a message each fact stands: a dotted path, or a table with path, values, as, default",
            show='{ call_id = "id", direction = "dir", caller = "from", callee = "to", duration = "talk" }',
        ),
        "records": Setting(
            read_path, None, "path of the list of records, of messages with several", show='"data.calls"'
        ),
        "skip_if": Setting(
            read_skip,
            (),
            "messages that are passed over: path, and in or not_in",
            show='{ path = "event", not_in = ["call_end"] }',
        ),
        "timezone": Setting(
            read_zone, None, "zone of times that come without one", show='"America/Sao_Paulo"'
        ),
        **ALLOW_FROM,
    },
    make=_make,
    handshake=_handshake,
    methods=frozenset({"GET", "POST"}),
    body_most=256 * 1024,
    # Those who show a password may wait to be asked for it.
    challenge='Basic realm="calllogd"',
)
