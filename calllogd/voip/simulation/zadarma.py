"""Calls as Zadarma would tell them; see docs/voip/zadarma.md."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any
from urllib.parse import urlencode

from calllogd.domain.call import CallStatus, Direction
from calllogd.voip.simulation import Kind, Scene, Simulation
from calllogd.voip.webhook import Webhook

Form = dict[str, str]

_TO_US = ("caller_id", "called_did", "call_start")
_BY_US = ("internal", "destination", "call_start")

_SIGNED = {
    "NOTIFY_START": _TO_US,
    "NOTIFY_INTERNAL": _TO_US,
    "NOTIFY_END": _TO_US,
    "NOTIFY_ANSWER": ("caller_id", "destination", "call_start"),
    "NOTIFY_OUT_START": _BY_US,
    "NOTIFY_OUT_END": _BY_US,
    "NOTIFY_RECORD": ("pbx_call_id", "call_id_with_rec"),
}


def _call_id(scene: Scene) -> str:
    return f"{'out' if scene.direction is Direction.OUTBOUND else 'in'}_{scene.id}"


def _messages(scene: Scene, url: str, values: Mapping[str, Any], now: float) -> Sequence[Webhook]:
    zone = values["timezone"] or UTC
    said = _to_client(scene, zone) if scene.direction is Direction.OUTBOUND else _to_us(scene, zone)
    if scene.recording is not None:
        ids = {"call_id_with_rec": scene.recording, "pbx_call_id": _call_id(scene)}
        at = -1 if scene.kind is Kind.RECORDING_FIRST else len(said)
        said.insert(at, {"event": "NOTIFY_RECORD", **ids})
    # An account without a key of the API signs nothing.
    secret = values["secret"] or values["previous_secret"]
    return [_sent(form, url, secret) for form in said]


def _to_us(scene: Scene, zone: tzinfo) -> list[Form]:
    called = {"caller_id": scene.phone, "called_did": scene.line.removeprefix("+")}
    known = _known(scene, scene.started_at, zone)
    rings = scene.extensions if scene.kind is Kind.RING_GROUP else scene.extensions[:1]
    said = [{"event": "NOTIFY_START", **known, **called}]
    said += [{"event": "NOTIFY_INTERNAL", **known, **called, "internal": one} for one in rings]
    if scene.status is not CallStatus.ANSWERED:
        return [*said, {"event": "NOTIFY_END", **known, **called, **_outcome(scene)}]
    answer = {"event": "NOTIFY_ANSWER", "caller_id": scene.phone, "destination": called["called_did"]}
    first = scene.extensions[0] if scene.kind is Kind.TRANSFER else scene.extension
    said.append({**answer, **known, "internal": first})
    if scene.kind is Kind.TRANSFER:
        # The call keeps its id; who is called next has a start of his own.
        then = {**_known(scene, scene.answered_at + scene.talk // 2, zone), "internal": scene.extension}
        said += [{"event": "NOTIFY_INTERNAL", **called, **then}, {**answer, **then}]
    ended = {"event": "NOTIFY_END", **known, **called, "internal": scene.extension}
    return [*said, {**ended, **_outcome(scene)}]


def _to_client(scene: Scene, zone: tzinfo) -> list[Form]:
    known = _known(scene, scene.started_at, zone)
    sides = {"destination": scene.phone, "internal": scene.extension}
    caller = {"caller_id": scene.line.removeprefix("+")}
    return [
        {"event": "NOTIFY_OUT_START", **known, **sides},
        {"event": "NOTIFY_ANSWER", **caller, **known, **sides},
        {"event": "NOTIFY_OUT_END", **known, **caller, **sides, **_outcome(scene)},
    ]


def _known(scene: Scene, at: float, zone: tzinfo) -> Form:
    return {
        "call_start": f"{datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M:%S}",
        "pbx_call_id": _call_id(scene),
    }


def _outcome(scene: Scene) -> Form:
    answered = scene.status is CallStatus.ANSWERED
    return {
        "duration": str(scene.talk),
        "disposition": "answered" if answered else "no answer",
        "status_code": "16" if answered else "19",
        "is_recorded": "0" if scene.recording is None else "1",
        "call_id_with_rec": scene.recording or "",
    }


def _sent(form: Form, url: str, secret: str | None) -> Webhook:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if secret is not None:
        text = "".join(form[name] for name in _SIGNED[form["event"]])
        digest = hmac.new(secret.encode(), text.encode(), hashlib.sha1).hexdigest()
        headers["Signature"] = base64.b64encode(digest.encode()).decode()
    return Webhook(method="POST", url=url, headers=headers, body=urlencode(form).encode())


SIMULATION = Simulation(messages=_messages, call_id=_call_id)
