"""Calls as Plivo would tell them, of hangup URLs and <Dial> callbacks; see docs/voip/plivo.md."""

import base64
import hashlib
import hmac
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from calllogd.domain.call import Direction
from calllogd.voip.simulation import Kind, Scene, Simulation
from calllogd.voip.simulation.parts import Part, client_of, staff_of
from calllogd.voip.webhook import Webhook

Fields = Mapping[str, str]


def _call_id(scene: Scene) -> str:
    return _uuid(scene, 1 if scene.kind is Kind.OUTBOUND else 0)


def _messages(scene: Scene, url: str, values: Mapping[str, Any], now: float) -> Sequence[Webhook]:
    first, others = client_of(scene), list(staff_of(scene))
    if scene.kind is Kind.OUTBOUND:
        first, others = others[0], [first]
    said: list[dict[str, str]] = [
        {**_first(scene, first), "Event": "StartApp", "CallStatus": "ringing"},
        *(
            _dialled(scene, first, part, action, values)
            for part in others
            for action in ("answer", "hangup")
            if action == "hangup" or part.answered_at is not None
        ),
        {
            **_first(scene, first),
            "Event": "Hangup",
            "CallStatus": "completed",
            "HangupCause": "NORMAL_CLEARING",
            "HangupSource": "Caller",
            "Duration": str(first.talk),
            "BillDuration": str(60 * -(-first.talk // 60)),
            **_times(first, values),
            "SessionStart": f"{datetime.fromtimestamp(first.started_at, UTC):%Y-%m-%d %H:%M:%S.%f}",
        },
    ]
    if scene.recording is not None:
        recorded = {
            "CallUUID": _call_id(scene),
            "RecordUrl": scene.recording,
            "RecordingID": str(uuid.uuid5(uuid.UUID(scene.id), "recording")),
            "RecordingDuration": str(scene.talk),
        }
        said.insert(0 if scene.kind is Kind.RECORDING_FIRST else len(said), recorded)
    return [_signed(url, fields, values, now) for fields in said]


def _first(scene: Scene, part: Part) -> dict[str, str]:
    goes_out = scene.direction is Direction.OUTBOUND
    return {
        "CallUUID": _uuid(scene, part.number),
        "Direction": "inbound",
        "From": f"sip:{part.extension}@phone.plivo.com" if goes_out else scene.phone.removeprefix("+"),
        "To": (scene.phone if goes_out else scene.line).removeprefix("+"),
    }


def _dialled(scene: Scene, first: Part, part: Part, action: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Return what <Dial> says when a leg that it added is answered, or has ended."""
    staff = f"sip:{part.extension}@phone.plivo.com"
    said = {
        **_first(scene, first),
        "CallStatus": "in-progress",
        "Event": f"Dial{action.capitalize()}",
        "DialAction": action,
        "DialBLegStatus": action,
        "DialALegUUID": _uuid(scene, first.number),
        "DialBLegUUID": _uuid(scene, part.number),
        "DialBLegFrom": (scene.line if part.extension is None else scene.phone).removeprefix("+"),
        "DialBLegTo": scene.phone.removeprefix("+") if part.extension is None else staff,
    }
    if action == "answer":
        return said
    return {
        **said,
        "DialBLegDuration": str(part.talk),
        "DialBLegHangupCause": "NORMAL_CLEARING" if part.answered_at is not None else "NO_ANSWER",
        **_times(part, values),
    }


def _times(part: Part, values: Mapping[str, Any]) -> Fields:
    moments = {"StartTime": part.started_at, "AnswerTime": part.answered_at, "EndTime": part.ended_at}
    return {
        name: datetime.fromtimestamp(at, values["timezone"]).strftime("%Y-%m-%d %H:%M:%S")
        for name, at in moments.items()
        if at is not None
    }


def _uuid(scene: Scene, number: int) -> str:
    return str(uuid.uuid5(uuid.UUID(scene.id), str(number)))


def _signed(url: str, fields: Fields, values: Mapping[str, Any], now: float) -> Webhook:
    nonce = hashlib.sha256(f"{now}{sorted(fields.items())}".encode()).hexdigest()[:20]
    text = f"{url}?{''.join(name + value for name, value in sorted(fields.items()))}.{nonce}"
    key = values["auth_token"] or values["previous_auth_token"]
    signature = base64.b64encode(hmac.digest(key.encode(), text.encode(), "sha256")).decode()
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Plivo-Signature-V3": signature,
        "X-Plivo-Signature-V3-Nonce": nonce,
    }
    return Webhook(method="POST", url=url, headers=headers, body=urlencode(fields).encode())


SIMULATION = Simulation(messages=_messages, call_id=_call_id)
