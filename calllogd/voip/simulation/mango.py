"""Calls as Mango Office would tell them; see docs/voip/mango.md."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from calllogd.domain.call import CallStatus, Direction
from calllogd.voip.simulation import Kind, Scene, Simulation
from calllogd.voip.webhook import Webhook

Body = dict[str, Any]

_NORMAL, _NOBODY_ANSWERED = 1100, 1111
"""Why a connection ended."""


def _call_id(scene: Scene) -> str:
    return base64.b64encode("{}:{}".format(*divmod(int(scene.id, 16), 2**32)).encode()).decode()


def _messages(scene: Scene, url: str, values: Mapping[str, Any], now: float) -> Sequence[Webhook]:
    said = [("call", body) for body in _connections(scene)]
    said.append(("summary", _summary(scene)))
    if scene.recording is not None:
        told = [("recording", _recorded(scene)), ("record/added", _stored(scene))]
        at = -1 if scene.kind is Kind.RECORDING_FIRST else len(said)
        said[at:at] = told
    key, salt = values["vpbx_api_key"], values["vpbx_api_salt"]
    return [_sent(body, f"{url}/events/{address}", key, salt) for address, body in said]


def _connections(scene: Scene) -> Iterator[Body]:
    """Yield how each extension rings, talks and leaves."""
    client, inside = _client(scene), {one: _inside(one) for one in scene.extensions}
    line = {"line_number": scene.line.removeprefix("+")}

    def turns(extension: str, state: str, at: float, seq: int, **more: Any) -> Body:
        place = scene.extensions.index(extension) + 1
        sides = {"from": client, "to": {**inside[extension], **line}}
        if scene.direction is Direction.OUTBOUND:
            sides = {"from": inside[extension], "to": client}
        return {
            "entry_id": _call_id(scene),
            "call_id": f"{scene.id[:8]}:{place}",
            "timestamp": int(at),
            "seq": seq,
            "call_state": state,
            "location": "abonent",
            **sides,
            **more,
        }

    rings = scene.extensions if scene.kind is Kind.RING_GROUP else scene.extensions[:1]
    for one in rings:
        yield turns(one, "Appeared", scene.started_at, 1)
    first = scene.extensions[0] if scene.kind is Kind.TRANSFER else scene.extension
    answered = scene.status is CallStatus.ANSWERED
    if answered:
        yield turns(first, "Connected", scene.answered_at, 2)
    for one in rings:
        if not answered or one != first:
            yield turns(one, "Disconnected", scene.answered_at, 2, disconnect_reason=_NOBODY_ANSWERED)
    taken: Body = {}
    if scene.kind is Kind.TRANSFER:
        handed_at = scene.answered_at + scene.talk // 2
        taken = {"from": {**client, "taken_from_call_id": f"{scene.id[:8]}:1"}, "transfer": "blind"}
        yield turns(scene.extension, "Appeared", handed_at, 1, **taken)
        yield turns(first, "Disconnected", handed_at, 3, disconnect_reason=_NORMAL)
        yield turns(scene.extension, "Connected", handed_at, 2, **taken)
    if answered:
        yield turns(scene.extension, "Disconnected", scene.ended_at, 3, **taken, disconnect_reason=_NORMAL)


def _summary(scene: Scene) -> Body:
    """Return what the call was; of a missed one `to` is who missed it."""
    answered, outbound = scene.status is CallStatus.ANSWERED, scene.direction is Direction.OUTBOUND
    sides = [_client(scene), _inside(scene.extension)]
    caller, called = reversed(sides) if outbound else sides
    return {
        "entry_id": _call_id(scene),
        "call_direction": 2 if outbound else 1,
        "from": caller,
        "to": called,
        "line_number": scene.line.removeprefix("+"),
        "create_time": int(scene.started_at),
        "forward_time": int(scene.started_at),
        "talk_time": int(scene.answered_at) if answered else 0,
        "end_time": int(scene.ended_at),
        "entry_result": int(answered),
        "disconnect_reason": _NORMAL if answered else _NOBODY_ANSWERED,
    }


def _recorded(scene: Scene) -> Body:
    return {
        "recording_id": scene.recording,
        "recording_state": "Completed",
        "seq": 2,
        "entry_id": _call_id(scene),
        "call_id": f"{scene.id[:8]}:{scene.extensions.index(scene.extension) + 1}",
        "extension": scene.extension,
        "timestamp": int(scene.ended_at),
        "completion_code": 1000,
        "recipient": "Cloud",
    }


def _stored(scene: Scene) -> Body:
    return {
        "entry_id": _call_id(scene),
        "product_id": 300022532,
        "user_id": 300049012,
        "timestamp": int(scene.ended_at),
        "recording_id": scene.recording,
    }


def _client(scene: Scene) -> Body:
    return {"number": scene.phone.removeprefix("+")}


def _inside(extension: str) -> Body:
    return {"extension": extension, "number": f"sip:{extension}@vpbx.example"}


def _sent(body: Body, url: str, key: str, salt: str) -> Webhook:
    text = msgspec.json.encode(body).decode()
    sign = hashlib.sha256(f"{key}{text}{salt}".encode()).hexdigest()
    return Webhook(
        method="POST",
        url=url,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        body=urlencode({"vpbx_api_key": key, "sign": sign, "json": text}).encode(),
    )


SIMULATION = Simulation(messages=_messages, call_id=_call_id)
