"""Calls as the dialplan of docs/voip/asterisk.md would post them, a record for each who talked."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from calllogd.domain.call import Direction
from calllogd.voip.simulation import Kind, Scene, Simulation
from calllogd.voip.simulation.parts import Part, staff_of
from calllogd.voip.webhook import Webhook


def _call_id(scene: Scene) -> str:
    return f"{int(scene.started_at)}.{int(scene.id[:8], 16)}"


def _messages(scene: Scene, url: str, values: Mapping[str, Any], now: float) -> Sequence[Webhook]:
    # A ring group is one dial: its record names who answered.
    parts = [part for part in staff_of(scene) if scene.kind is not Kind.RING_GROUP or part.answered_at]
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return [
        Webhook(method="POST", url=url, headers=headers, body=urlencode(_record(scene, part, place)).encode())
        for place, part in enumerate(parts)
    ]


def _record(scene: Scene, part: Part, place: int) -> Mapping[str, Any]:
    goes_out = scene.direction is Direction.OUTBOUND
    staff, trunk = f"PJSIP/{part.extension}-{place:08x}", f"PJSIP/trunk-{scene.id[:8]}"
    answered_at = scene.answered_at if goes_out else part.answered_at
    return {
        "uniqueid": _call_id(scene),
        "linkedid": _call_id(scene),
        "sequence": place,
        "channel": staff if goes_out else trunk,
        "dstchannel": trunk if goes_out else staff,
        "src": part.extension if goes_out else scene.phone,
        "dst": scene.phone if goes_out else part.extension,
        "direction": "out" if goes_out else "in",
        "start": round(part.started_at),
        "answer": "" if answered_at is None else round(answered_at),
        "end": round(part.ended_at),
        "billsec": 0 if answered_at is None else round(part.ended_at - answered_at),
        "disposition": "NO ANSWER" if answered_at is None else "ANSWERED",
        "recordingfile": (scene.recording or "") if place == 0 else "",
    }


SIMULATION = Simulation(
    messages=_messages,
    call_id=_call_id,
    # Its recording is told of with the record.
    kinds=frozenset(Kind) - {Kind.RECORDING_FIRST},
    recorded=frozenset(Kind) - {Kind.MISSED},
)
