"""Calls as Vonage would tell them; see docs/voip/vonage.md."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import jwt
import msgspec

from calllogd.domain.call import Direction
from calllogd.voip.simulation import Kind, Scene, Simulation
from calllogd.voip.simulation.parts import Part, client_of, staff_of
from calllogd.voip.webhook import Webhook


def _call_id(scene: Scene) -> str:
    return f"CON-{uuid.UUID(scene.id)}"


def _conversation_at(scene: Scene, at: float) -> str:
    """Return the conversation in which those talk who are there then: who is put through goes to another."""
    if scene.kind is not Kind.TRANSFER or at < _put_through_at(scene):
        return _call_id(scene)
    return f"CON-{uuid.uuid5(uuid.UUID(scene.id), 'room')}"


def _put_through_at(scene: Scene) -> float:
    return staff_of(scene)[-1].started_at


def _messages(scene: Scene, url: str, values: Mapping[str, Any], now: float) -> Sequence[Webhook]:
    said: list[dict[str, Any]] = []
    for part in (client_of(scene), *staff_of(scene)):
        leg = {
            "uuid": str(uuid.uuid5(uuid.UUID(scene.id), str(part.number))),
            "conversation_uuid": _conversation_at(scene, part.started_at),
            **_ends(scene, part),
        }
        said += [
            {**leg, "status": status, "timestamp": _written(part.started_at)}
            for status in ("started", "ringing")
        ]
        if part.answered_at is not None:
            said.append({**leg, "status": "answered", "timestamp": _written(part.answered_at)})
        elif part.extension is not None:
            outcome = "timeout" if scene.kind is Kind.MISSED else "cancelled"
            said.append({**leg, "status": outcome, "timestamp": _written(part.ended_at)})
        if scene.kind is Kind.TRANSFER and part.extension is None:
            at = _put_through_at(scene)
            moved = {
                "conversation_uuid_from": _call_id(scene),
                "conversation_uuid_to": _conversation_at(scene, at),
            }
            said.append({"type": "transfer", "uuid": leg["uuid"], **moved, "timestamp": _written(at)})
            leg["conversation_uuid"] = moved["conversation_uuid_to"]
        completed = {**leg, "status": "completed", "timestamp": _written(part.ended_at), "price": "0.0"}
        if part.answered_at is not None:
            completed |= {"start_time": _written(part.answered_at), "duration": str(part.talk)}
        said.append({**completed, "end_time": _written(part.ended_at)})
    said.sort(key=lambda one: str(one["timestamp"]))
    if scene.recording is not None:
        recorded = {
            "recording_url": scene.recording,
            "recording_uuid": str(uuid.uuid5(uuid.UUID(scene.id), "recording")),
            "conversation_uuid": _call_id(scene),
            "start_time": _written(scene.answered_at),
            "end_time": _written(scene.ended_at),
            "timestamp": _written(scene.ended_at),
            "size": 12222,
        }
        said.insert(0 if scene.kind is Kind.RECORDING_FIRST else len(said), recorded)
    return [_signed(url, one, values, now) for one in said]


def _ends(scene: Scene, part: Part) -> Mapping[str, Any]:
    """Return from where to where a leg goes, as Vonage sees it: numbers have no plus."""
    client, line = scene.phone.removeprefix("+"), scene.line.removeprefix("+")
    if part.extension is not None:
        return {"from": line, "to": "Unknown", "to_user": part.extension, "direction": "outbound"}
    if scene.direction is Direction.OUTBOUND:
        return {"from": line, "to": client, "direction": "outbound"}
    return {"from": client, "to": line, "direction": "inbound"}


def _signed(url: str, said: Mapping[str, Any], values: Mapping[str, Any], now: float) -> Webhook:
    body = msgspec.json.encode(said)
    claims = {
        "iat": int(now),
        "jti": hashlib.sha256(body).hexdigest()[:32],
        "iss": "Vonage",
        "payload_hash": hashlib.sha256(body).hexdigest(),
        "api_key": values["api_key"] or "a1b2c3d4",
        "application_id": values["application_id"] or "00000000-0000-4000-8000-000000000000",
    }
    token = jwt.encode(
        claims, values["signature_secret"] or values["previous_signature_secret"], algorithm="HS256"
    )
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    return Webhook(method="POST", url=url, headers=headers, body=body)


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


SIMULATION = Simulation(messages=_messages, call_id=_call_id, moved=frozenset({Kind.TRANSFER}))
