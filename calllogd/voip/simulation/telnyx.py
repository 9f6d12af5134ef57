"""Calls as Telnyx would tell them by Call Control; see docs/voip/telnyx.md.

Telnyx signs with a key that it alone has, so a trial needs a pair of one's own: its public key in the
configuration, and `private_key`, its seed in base64, beside the service's settings.
"""

import base64
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from calllogd.domain.call import Direction
from calllogd.voip.simulation import Kind, Scene, Simulation
from calllogd.voip.simulation.parts import Part, client_of, staff_of
from calllogd.voip.webhook import Webhook


def _call_id(scene: Scene) -> str:
    return str(uuid.UUID(scene.id))


def _messages(scene: Scene, url: str, values: Mapping[str, Any], now: float) -> Sequence[Webhook]:
    """Return the requests; raises ValueError without a key to sign them with."""
    if not values.get("private_key"):
        raise ValueError(
            "Telnyx's messages need a key of your own to be signed with: see docs/voip/README.md"
        )
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(values["private_key"]))
    said: list[tuple[str, float, dict[str, Any]]] = []
    for part in (client_of(scene), *staff_of(scene)):
        leg = {
            "call_session_id": _call_id(scene),
            "call_leg_id": str(uuid.uuid5(uuid.UUID(scene.id), str(part.number))),
            "call_control_id": f"v3:{scene.id}{part.number}",
            "connection_id": values["connection_id"] or "1494404757140276705",
            **_ends(scene, part),
        }
        started = {"start_time": _written(part.started_at)}
        said.append(("call.initiated", part.started_at, {**leg, "state": _state(scene, part)}))
        if part.answered_at is not None:
            said.append(("call.answered", part.answered_at, {**leg, **started}))
        cause = "normal_clearing" if part.answered_at is not None else _cause(scene)
        ended = {**leg, **started, "hangup_cause": cause, "hangup_source": "caller"}
        said.append(("call.hangup", part.ended_at, ended))
    said.sort(key=lambda one: one[1])
    if scene.recording is not None:
        links: dict[str, Any] = {"recording_urls": {"mp3": scene.recording}, "channels": "dual"}
        leg_id = str(uuid.uuid5(uuid.UUID(scene.id), "0"))
        if "://" not in scene.recording:
            links = {"recording_id": scene.recording, "channels": "dual"}
        recorded = {"call_session_id": _call_id(scene), "call_leg_id": leg_id, **links}
        place = 0 if scene.kind is Kind.RECORDING_FIRST else len(said)
        said.insert(place, ("call.recording.saved", scene.ended_at, recorded))
    return [_signed(url, one, key, now) for one in said]


def _ends(scene: Scene, part: Part) -> Mapping[str, str]:
    """Return from where to where a leg goes, as Telnyx sees it."""
    staff = f"sip:{part.extension}@calls.sip.telnyx.com"
    if part.extension is None:
        if scene.direction is Direction.OUTBOUND:
            return {"from": scene.line, "to": scene.phone, "direction": "outgoing"}
        return {"from": scene.phone, "to": scene.line, "direction": "incoming"}
    if scene.direction is Direction.OUTBOUND:
        return {"from": scene.line, "to": staff, "direction": "outgoing"}
    return {"from": scene.phone, "to": staff, "direction": "outgoing"}


def _state(scene: Scene, part: Part) -> str:
    waits = part.extension is None and scene.direction is Direction.INBOUND
    return "parked" if waits else "bridging"


def _cause(scene: Scene) -> str:
    return "timeout" if scene.kind is Kind.MISSED else "originator_cancel"


def _signed(
    url: str, said: tuple[str, float, Mapping[str, Any]], key: Ed25519PrivateKey, now: float
) -> Webhook:
    name, at, payload = said
    event = {
        "record_type": "event",
        "event_type": name,
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{payload} {name}")),
        "occurred_at": _written(at),
        "payload": payload,
    }
    body = msgspec.json.encode({"data": event, "meta": {"attempt": 1, "delivered_to": url}})
    timestamp = str(int(now))
    signature = base64.b64encode(key.sign(timestamp.encode() + b"|" + body)).decode()
    headers = {
        "Content-Type": "application/json",
        "telnyx-signature-ed25519": signature,
        "telnyx-timestamp": timestamp,
    }
    return Webhook(method="POST", url=url, headers=headers, body=body)


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


SIMULATION = Simulation(messages=_messages, call_id=_call_id)
