"""Calls as an integrator's own program would tell them; see docs/integrators.md."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from calllogd.voip.simulation import Kind, Scene, Simulation
from calllogd.voip.webhook import Webhook


def _call_id(scene: Scene) -> str:
    return f"simulated-{scene.id}"


def _messages(scene: Scene, url: str, values: Mapping[str, Any], now: float) -> Sequence[Webhook]:
    known = {"call_id": _call_id(scene), "direction": scene.direction, "phone": scene.phone}
    rings = scene.extensions if scene.kind is Kind.RING_GROUP else scene.extensions[:1]
    said: list[dict[str, Any]] = [
        {"event": "call.started", **known, "extension": one, "started_at": scene.started_at} for one in rings
    ]
    if scene.talk:
        said.append({"event": "call.answered", **known, "extension": scene.extension})
    ended = {"event": "call.ended", **known, "duration": scene.talk, "status": scene.status}
    said.append({**ended, "extension": scene.extension, "started_at": scene.started_at})
    if scene.recording is not None:
        ready = {"event": "recording.ready", "call_id": known["call_id"], "recording_url": scene.recording}
        said.insert(0 if scene.kind is Kind.RECORDING_FIRST else len(said), ready)
    headers = {"Authorization": f"Bearer {values['token']}", "Content-Type": "application/json"}
    return [
        Webhook(method="POST", url=url, headers=headers, body=msgspec.json.encode(message))
        for message in said
    ]


SIMULATION = Simulation(messages=_messages, call_id=_call_id)
