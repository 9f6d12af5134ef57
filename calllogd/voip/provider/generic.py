"""The generic VoIP service: one JSON object a message, as the integrator's guide describes it."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from calllogd.config import GENERIC
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
from calllogd.voip.proof import BearerToken, Tokens
from calllogd.voip.provider import Service, Told, VoipService, standard_webhooks
from calllogd.voip.webhook import Webhook

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


class Generic(VoipService):
    """The generic VoIP service of one account; several tokens and secrets are good while they are changed."""

    def __init__(self, account_id: int, *, tokens: Tokens, signing_secrets: Sequence[str] = ()) -> None:
        self._account_id = account_id
        self._tokens = tokens
        self._signing_secrets = signing_secrets

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if the sender has shown the account's token or a signature; else raises InputRefused."""
        if self._signing_secrets and "webhook-signature" in webhook.headers:
            standard_webhooks.verify(self._signing_secrets, webhook.headers, webhook.body, now)
            return
        self.verify_upload(webhook, now)

    def verify_upload(self, webhook: Webhook, now: float) -> None:
        """Return if the sender has shown the account's token; else raises InputRefused."""
        scheme, _, shown = webhook.headers.get("Authorization", "").partition(" ")
        self._tokens.check(shown.strip() if scheme.lower() == "bearer" else "", now)

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what a message says; raises InputRefused."""
        event = decoded(_decode, webhook.body, _WORDS)
        call_id = checked_call_id(event.call_id)
        _check_needed(event)
        facts = Facts(
            direction=event.direction,
            phone=event.phone,
            person=_person(event),
            started_at=start_of(event.started_at, now),
            outcome=_outcome(event),
        )
        key = CallKey(self._account_id, call_id)
        return [Told(event.event, CallEvent(key=key, facts=facts, recording=_recording(event)))]


def _make(account_id: int, values: Mapping[str, Any], made: Sequence[BearerToken]) -> Generic | None:
    tokens = Tokens(values, made)
    secrets = [values[name] for name in ("signing_secret", "previous_signing_secret")]
    found = [one for one in secrets if one is not None]
    return Generic(account_id, tokens=tokens, signing_secrets=found) if tokens or found else None


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
    if not is_safe(event.recording_url):
        raise InputRefused("invalid", "recording_url should be an https address (http only to loopback)")
    return Recording(state=RecordingState.EXPECTED, url=event.recording_url)


def is_safe(url: str) -> bool:
    """Tell whether an address is one that a recording may be fetched from: https, or http to this machine."""
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


SERVICE = Service(title="Generic JSON", settings=GENERIC, make=_make)
