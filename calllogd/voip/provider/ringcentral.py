"""RingCentral: notifications of telephony sessions, each of which tells of one party of a call.

A party is a connection with the telephone system. `Outbound` is the one who calls, `Inbound` one who is
called; a party with an `extensionId` is the company's, one without is the client. So a client who calls is an
`Outbound` party, and the extensions that ring for him are `Inbound` ones.

When something happened is taken from the envelope's `timestamp`. The `eventTime` in it is "the time of the
event" in the vendor's guide and "the call start" in his reference; in the streams that he has published it is
the former, a tenth of a second before `timestamp`. The latter is right either way, and the same in each
repetition, as the time of receipt would not be.

Sources: RingCentral's guides to telephony session notifications, call time metrics and webhooks, and the
event streams that they refer to, read 2026-11-23.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from calllogd.config import Setting
from calllogd.config.values import token
from calllogd.domain.call import CallKey, CallStatus, Direction, Leg, Side
from calllogd.domain.merge import CallEvent
from calllogd.domain.phone import Kind, read
from calllogd.errors import InputRefused
from calllogd.voip.fields import checked_call_id, start_of
from calllogd.voip.proof import ALLOW_FROM, BearerToken, Tokens, check_address
from calllogd.voip.provider import NotUnderstood, Service, Told, VoipService
from calllogd.voip.webhook import EMPTY, Reply, Webhook

VALIDATION = "Validation-Token"
"""The header that proves a notification, and that is sent back when an address is tried."""

_ECHO_MOST = 512
"""Characters of a header that are sent back: the whole answer may have 1024 bytes."""

_VOICEMAIL = ("voicemail", "vmscreening", "voicemailscreening")
_OVER = ("disconnected", "gone")

_NO_CALLS = ("greetingsrecording", "verificationcall", "testcall")
"""Sessions in which nobody is called."""

_ENDED_AS = {
    "noanswer": CallStatus.NO_ANSWER,
    "timeout": CallStatus.NO_ANSWER,
    "targetbusy": CallStatus.BUSY,
    "rejected": CallStatus.BUSY,
    "cancelled": CallStatus.CANCELLED,
    "callerinputredirect": CallStatus.CANCELLED,
    "voicemail": CallStatus.VOICEMAIL,
    "invalidnumber": CallStatus.FAILED,
    "nosuchuser": CallStatus.FAILED,
    "internationaldisabled": CallStatus.FAILED,
    "destinationblocked": CallStatus.FAILED,
    "notenoughfunds": CallStatus.FAILED,
    "internalerror": CallStatus.FAILED,
}
"""Reasons that say how a party's connection ended. The others say why one that was answered did."""


class _End(msgspec.Struct, rename="camel"):
    """Who is at one end; an extension of the company if it has an id."""

    phone_number: str | None = None
    extension_id: str | None = None


class _Status(msgspec.Struct):
    code: str
    reason: str | None = None


class _Party(msgspec.Struct, rename="camel"):
    id: str
    status: _Status
    direction: str | None = None
    extension_id: str | None = None
    to: _End | None = None
    from_: _End | None = msgspec.field(default=None, name="from")
    missed_call: bool | None = None


class _Origin(msgspec.Struct):
    type: str | None = None


class _Body(msgspec.Struct, rename="camel"):
    telephony_session_id: str
    parties: list[_Party] = []
    event_time: str | None = None
    origin: _Origin | None = None


class _Notification(msgspec.Struct):
    body: _Body
    timestamp: str | None = None


class _Event(msgspec.Struct):
    event: str


_event = msgspec.json.Decoder(_Event).decode
_notification = msgspec.json.Decoder(_Notification).decode


class RingCentral(VoipService):
    """RingCentral as one account uses it."""

    # Anything but 200 ends the subscription.
    reply: Reply | None = EMPTY

    def __init__(self, account_id: int, tokens: Tokens, values: Mapping[str, Any]) -> None:
        self._account_id = account_id
        self._tokens = tokens
        self._allow_from = values["allow_from"]

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if the notification has a good validation token, or its address ends with one."""
        check_address(webhook, self._allow_from)
        in_path = webhook.first_segment
        self._tokens.check(in_path or webhook.headers.get(VALIDATION, ""), now)

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what a notification says of the parties of its session; raises NotUnderstood."""
        try:
            if not _event(webhook.body).event.partition("?")[0].endswith("/telephony/sessions"):
                return []
            notification = _notification(webhook.body)
            call_id = checked_call_id(notification.body.telephony_session_id)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NotUnderstood(f"not what RingCentral's notifications look like: {error}") from error
        except InputRefused as error:
            raise NotUnderstood(error.detail.replace("call_id", "telephonySessionId")) from error
        origin = notification.body.origin
        if origin is not None and (origin.type or "").lower() in _NO_CALLS:
            return []
        key = CallKey(self._account_id, call_id)
        moment, start = _moments(notification, now)
        return [
            Told(_what(party), CallEvent(key=key, legs=(_leg(party, moment, start),)))
            for party in notification.body.parties
        ]


def _handshake(webhook: Webhook) -> Reply | None:
    """Return the header by which a subscription is made to know that the address wants it.

    Only for the empty request that is sent for this: notifications have a body.
    """
    shown = webhook.headers.get(VALIDATION, "")
    if webhook.body.strip() or not 0 < len(shown) <= _ECHO_MOST:
        return None
    if not shown.isascii() or not shown.isprintable():
        return None
    return Reply(content_type="application/json", headers={VALIDATION: shown})


def _make(account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> RingCentral | None:
    tokens = Tokens(values, made)
    return RingCentral(account_id, tokens, values) if tokens else None


def _moments(notification: _Notification, now: float) -> tuple[float | None, float | None]:
    """Return when it happened, and the earliest moment at which the party is known to have been there."""
    sent = _seconds(notification.timestamp, now)
    happened = _seconds(notification.body.event_time, now)
    known = [moment for moment in (sent, happened) if moment is not None]
    return happened if sent is None else sent, min(known, default=None)


def _seconds(text: str | None, now: float) -> float | None:
    """Return Unix seconds of a time; None for one that cannot be, without which the rest still counts."""
    try:
        return start_of(text, now)
    except InputRefused:
        return None


def _code(party: _Party) -> str:
    return party.status.code.lower()


def _what(party: _Party) -> str:
    code = _code(party)
    if code in _OVER:
        return "leg.ended"
    return "leg.answered" if code == "answered" else "leg.started"


def _leg(party: _Party, moment: float | None, start: float | None) -> Leg:
    """Return what a party is. Being on hold is part of its talk; so is a message that it leaves."""
    if not 1 <= len(party.id) <= 255 or not party.id.isprintable():  # noqa: PLR2004
        raise NotUnderstood("a party should have an id")
    code = _code(party)
    is_staff = bool(party.extension_id)
    talking = code == "answered" or code in _VOICEMAIL
    return Leg(
        id=party.id,
        side=Side.STAFF if is_staff else Side.CLIENT,
        direction=_direction(party, is_staff=is_staff),
        phone=_phone(party, is_staff=is_staff),
        extension=_extension(party),
        started_at=start,
        answered_at=moment if talking else None,
        ended_at=moment if code in _OVER else None,
        status=_status(party, moment),
    )


def _status(party: _Party, moment: float | None) -> CallStatus | None:
    """Return how a connection ended if it was not answered, which is known from its `answered_at`."""
    code = _code(party)
    if code in _VOICEMAIL:
        return CallStatus.VOICEMAIL
    if code not in _OVER:
        return None
    known = _ENDED_AS.get((party.status.reason or "").lower())
    # Without a moment of its end nothing else would say that it has ended.
    if known is None and (party.missed_call or moment is None):
        return CallStatus.NO_ANSWER
    return known


def _calls(party: _Party) -> bool | None:
    """Tell whether a party is the one who calls; None if it does not say so."""
    return {"outbound": True, "inbound": False}.get((party.direction or "").lower())


def _direction(party: _Party, *, is_staff: bool) -> Direction | None:
    """Return the call's direction: whoever of the company makes a call, and whomever else it is made to."""
    calls = _calls(party)
    if calls is None:
        return None
    return Direction.OUTBOUND if calls is is_staff else Direction.INBOUND


def _phone(party: _Party, *, is_staff: bool) -> str | None:
    """Return the client's number, as far as a party tells it; for an extension that is no client."""
    calls = _calls(party)
    # What an extension has dialled is not known to be an outside number before the call is on its way.
    if calls is None or (is_staff and calls and _code(party) == "setup"):
        return None
    # A client's own number stands at his end, that of the one with whom an extension talks at the other.
    end = party.to if calls is is_staff else party.from_
    if end is None:
        return None
    number = end.phone_number
    if not end.extension_id:
        return "anonymous" if number is None else number[:255]
    if number is not None and read(number).kind is not Kind.OUTSIDE:
        return number[:255]
    return f"ext:{end.extension_id[:64]}"


def _extension(party: _Party) -> str | None:
    extension = party.extension_id
    return extension[:64] if extension and extension.isprintable() else None


SERVICE = Service(
    title="RingCentral",
    settings={
        "token": Setting(
            token,
            None,
            "validationToken of the subscription, or secret at the end of its address",
            secret=True,
            show='"…"',
        ),
        "previous_token": Setting(
            token,
            None,
            "one that is taken as well, while a new subscription takes the place of an older one",
            secret=True,
            show='"…"',
        ),
        **ALLOW_FROM,
    },
    make=_make,
    handshake=_handshake,
)
