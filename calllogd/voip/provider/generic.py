"""The generic VoIP service: one JSON object a message, as the integrator's guide describes it."""

import hmac
import ipaddress
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

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
from calllogd.voip.fields import CALL_ID_MOST, checked_call_id, decoded, start_of
from calllogd.voip.provider import standard_webhooks

_NEEDED = {
    "call.started": ("direction", "phone"),
    "call.answered": ("direction", "phone"),
    "call.ended": ("direction", "phone", "duration", "status"),
    "recording.ready": ("recording_url",),
    "recording.failed": (),
}

_WORDS = {"event": tuple(_NEEDED), "direction": tuple(Direction), "status": tuple(CallStatus)}

_WEIGHT = {"call.started": 1, "call.answered": 2, "call.ended": 3}


class _Event(msgspec.Struct):
    """The message as it comes; what is not listed here is passed over."""

    event: Literal["call.started", "call.answered", "call.ended", "recording.ready", "recording.failed"]
    call_id: Annotated[str, msgspec.Meta(min_length=1, max_length=CALL_ID_MOST)]
    direction: Direction | None = None
    # SIP addresses are long: "Ann" <sip:+12125550100@calls.example.com;transport=tls>.
    phone: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    extension: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    user_id: Annotated[int, msgspec.Meta(ge=1, lt=2**53)] | None = None
    started_at: float | str | None = None
    duration: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] | None = None
    status: CallStatus | None = None
    recording_url: Annotated[str, msgspec.Meta(max_length=2000)] | None = None


_decode = msgspec.json.Decoder(_Event).decode


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A token that a sender may show, until Unix second `until`; None: for good."""

    token: str = field(repr=False)
    until: float | None = None


class Generic:
    """The generic VoIP service of one account; several tokens and secrets are good while they are changed."""

    def __init__(
        self, account_id: int, *, tokens: Sequence[BearerToken] = (), signing_secrets: Sequence[str] = ()
    ) -> None:
        self._account_id = account_id
        self._tokens = [(one.token.encode(), math.inf if one.until is None else one.until) for one in tokens]
        self._signing_secrets = signing_secrets

    def verify(self, headers: Mapping[str, str], body: bytes, now: float) -> None:
        """Return if the sender has shown the account's token or a signature; else raises InputRefused."""
        if self._signing_secrets and "webhook-signature" in headers:
            standard_webhooks.verify(self._signing_secrets, headers, body, now)
            return
        scheme, _, shown = headers.get("Authorization", "").partition(" ")
        named = shown.strip().encode("utf-8", "surrogateescape")
        # Each is compared, whichever is right: the time it takes tells nothing.
        good = [hmac.compare_digest(token, named) and now < until for token, until in self._tokens]
        if scheme.lower() != "bearer" or not any(good):
            raise InputRefused("unauthorized", "the account's bearer token or signature is needed")

    def parse(self, body: bytes, now: float) -> tuple[str, CallEvent]:
        """Return the name of a message's event and what it says; raises InputRefused."""
        event = decoded(_decode, body, _WORDS)
        call_id = checked_call_id(event.call_id)
        _check_needed(event)
        return event.event, CallEvent(
            key=CallKey(self._account_id, call_id),
            facts=Facts(
                direction=event.direction,
                phone=event.phone,
                person=_person(event),
                started_at=start_of(event.started_at, now),
                outcome=_outcome(event),
            ),
            recording=_recording(event),
        )


def _check_needed(event: _Event) -> None:
    if missing := [name for name in _NEEDED[event.event] if getattr(event, name) is None]:
        raise InputRefused("invalid", f"{event.event} needs {' and '.join(missing)}")


def _person(event: _Event) -> Person | None:
    if not event.extension and event.user_id is None:
        return None
    weight = _WEIGHT.get(event.event, 0) + (event.status is CallStatus.ANSWERED)
    return Person(weight, event.extension or "", event.user_id or 0)


def _outcome(event: _Event) -> Outcome | None:
    if event.event != "call.ended" or event.status is None or event.duration is None:
        return None
    return Outcome(event.status, event.duration)


def _recording(event: _Event) -> Recording:
    if event.event == "recording.failed":
        return Recording(state=RecordingState.NEVER)
    if event.recording_url is None or event.event not in ("call.ended", "recording.ready"):
        return NO_RECORDING
    if not _is_safe(event.recording_url):
        raise InputRefused("invalid", "recording_url should be an https address (http only to loopback)")
    return Recording(state=RecordingState.EXPECTED, url=event.recording_url)


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        local = host == "localhost" or (
            parts.scheme == "http" and ipaddress.ip_address(host or "").is_loopback
        )
    except ValueError:
        return False
    if not host or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and local)
