"""Calls as the dialplan of docs/voip/asterisk.md would post them: a record for each.

It names who was dialled last: he who has answered, or to whom the call was handed over.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from calllogd.domain.call import CallStatus, Direction
from calllogd.voip.simulation import Kind, Scene, Simulation
from calllogd.voip.webhook import Webhook


def _call_id(scene: Scene) -> str:
    return f"{int(scene.started_at)}.{int(scene.id[:8], 16)}"


def _messages(scene: Scene, url: str, values: Mapping[str, Any], now: float) -> Sequence[Webhook]:
    goes_out, answered = scene.direction is Direction.OUTBOUND, scene.status is CallStatus.ANSWERED
    trunks = values["trunks"] or ("PJSIP/provider",)
    staff, trunk = f"PJSIP/{scene.extension}-{scene.id[:8]}", f"{trunks[0]}-{scene.id[8:16]}"
    record = {
        "uniqueid": _call_id(scene),
        "linkedid": _call_id(scene),
        "channel": staff if goes_out else trunk,
        "dstchannel": trunk if goes_out else staff,
        "src": scene.extension if goes_out else scene.phone,
        "dst": scene.phone if goes_out else scene.line,
        "direction": "" if goes_out else "in",
        "start": round(scene.started_at),
        "end": round(scene.ended_at),
        "billsec": scene.talk,
        "disposition": "ANSWERED" if answered else "NOANSWER",
        "recordingfile": scene.recording or "",
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return [Webhook(method="POST", url=url, headers=headers, body=urlencode(record).encode())]


SIMULATION = Simulation(
    messages=_messages,
    call_id=_call_id,
    # Its recording is told of with the record, and counts only if somebody has answered.
    kinds=frozenset(Kind) - {Kind.RECORDING_FIRST},
    recorded=frozenset(Kind) - {Kind.MISSED, Kind.RECORDING_FIRST},
)
