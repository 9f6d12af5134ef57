"""Calls as Twilio would tell them, by callbacks of a number and of each <Dial>; see docs/voip/twilio.md."""

import base64
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlencode

from calllogd.domain.call import CallStatus, Direction
from calllogd.voip.simulation import Kind, Scene, Simulation
from calllogd.voip.simulation.parts import Part, client_of, staff_of
from calllogd.voip.webhook import Webhook

_ACCOUNT = "AC" + "5" * 32

_EVENTS = ("initiated", "ringing", "in-progress", "completed")
"""What is told of a leg that <Dial> adds, in its order."""

Fields = Mapping[str, str]


def _call_id(scene: Scene) -> str:
    return _sid(scene, 1 if scene.kind is Kind.OUTBOUND else 0)


def _messages(scene: Scene, url: str, values: Mapping[str, Any], now: float) -> Sequence[Webhook]:
    parent, children = client_of(scene), list(staff_of(scene))
    if scene.kind is Kind.OUTBOUND:
        parent, children = children[0], [parent]
    said = [
        _leg(scene, parent, child, event)
        for child in children
        for event in _EVENTS
        if event != "in-progress" or child.answered_at is not None
    ]
    # A number, or a softphone's application, tells of the end alone.
    said.append(_leg(scene, parent, parent, "completed"))
    if scene.recording is not None:
        recorded = {
            "AccountSid": _ACCOUNT,
            "CallSid": _call_id(scene),
            "RecordingSid": f"RE{scene.id}",
            "RecordingUrl": scene.recording,
            "RecordingStatus": "completed",
            "RecordingDuration": str(scene.talk),
            "RecordingChannels": "2",
            "RecordingSource": "DialVerb",
        }
        said.insert(0 if scene.kind is Kind.RECORDING_FIRST else len(said), recorded)
    return [_signed(url, fields, values) for fields in said]


def _leg(scene: Scene, parent: Part, part: Part, event: str) -> Fields:
    is_parent = part == parent
    status, at = event, part.answered_at if event == "in-progress" else part.started_at
    fields = {
        "CallSid": _sid(scene, part.number),
        "AccountSid": _ACCOUNT,
        "ApiVersion": "2010-04-01",
        "CallbackSource": "call-progress-events",
        "SequenceNumber": "0" if is_parent else str(_EVENTS.index(event)),
    }
    if event == "completed":
        status, at = _status(scene, part), part.ended_at
        fields["CallDuration"] = str(part.talk)
    if not is_parent:
        fields["ParentCallSid"] = _sid(scene, parent.number)
    staff = f"client:{part.extension}"
    if scene.direction is Direction.OUTBOUND:
        ends = (staff, scene.line) if is_parent else (scene.line, scene.phone)
    else:
        ends = (scene.phone, scene.line) if is_parent else (scene.phone, staff)
    moment = datetime.fromtimestamp(part.started_at if at is None else at, UTC)
    direction = "inbound" if is_parent else "outbound-dial"
    return {
        **fields,
        "From": ends[0],
        "To": ends[1],
        "CallStatus": status,
        "Direction": direction,
        "Timestamp": format_datetime(moment),
    }


def _status(scene: Scene, part: Part) -> str:
    if part.answered_at is not None:
        return "completed"
    return "no-answer" if scene.status is CallStatus.NO_ANSWER else "canceled"


def _sid(scene: Scene, number: int) -> str:
    return f"CA{number:02x}{scene.id[2:]}"


def _signed(url: str, fields: Fields, values: Mapping[str, Any]) -> Webhook:
    text = url + "".join(name + value for name, value in sorted(fields.items()))
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    key, digest = values["auth_token"] or values["previous_auth_token"], "sha1"
    if key is None:
        key, digest = values["shared_key"] or values["previous_shared_key"], "sha256"
        headers["X-Twilio-Webhooks-Signature-Settings"] = "key=simulated,algorithm=HMAC_SHA256"
    signature = base64.b64encode(hmac.digest(key.encode(), text.encode(), digest)).decode()
    headers["X-Twilio-Signature"] = signature
    return Webhook(method="POST", url=url, headers=headers, body=urlencode(fields).encode())


SIMULATION = Simulation(messages=_messages, call_id=_call_id)
