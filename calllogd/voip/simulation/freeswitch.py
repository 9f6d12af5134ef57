"""Calls as FreeSWITCH's mod_json_cdr would post them, a record for each leg; see docs/voip/freeswitch.md."""

import base64
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from calllogd.domain.call import Direction
from calllogd.voip.simulation import Kind, Scene, Simulation
from calllogd.voip.simulation.parts import Part, client_of, staff_of
from calllogd.voip.webhook import Webhook


def _call_id(scene: Scene) -> str:
    return _uuid(scene, 1 if scene.kind is Kind.OUTBOUND else 0)


def _messages(scene: Scene, url: str, values: Mapping[str, Any], now: float) -> Sequence[Webhook]:
    client, staff = client_of(scene), staff_of(scene)
    goes_out = scene.direction is Direction.OUTBOUND
    first, others = (staff[0], [client]) if goes_out else (client, list(staff))
    if not goes_out:
        first = first._replace(
            answered_at=min((one.answered_at for one in others if one.answered_at), default=None)
        )
    records = [(leg, _record(scene, leg, first)) for leg in (*others, first)]
    headers = {"Content-Type": "application/json", "User-Agent": "freeswitch-json/1.0"}
    if values["password"] is not None:
        shown = base64.b64encode(f"{values['username']}:{values['password']}".encode()).decode()
        headers["Authorization"] = f"Basic {shown}"
    return [
        Webhook(
            method="POST",
            url=f"{url}?uuid={_uuid(scene, leg.number)}",
            headers=headers,
            body=msgspec.json.encode(record),
        )
        for leg, record in records
    ]


def _record(scene: Scene, part: Part, first: Part) -> Mapping[str, Any]:
    goes_out, is_first = scene.direction is Direction.OUTBOUND, part.number == first.number
    answered_at, ended_at = part.answered_at, part.ended_at
    together = None if answered_at is None else max(answered_at, scene.answered_at)
    variables: dict[str, Any] = {
        "uuid": _uuid(scene, part.number),
        "call_uuid": _uuid(scene, first.number),
        "calllogd_call": _uuid(scene, first.number),
        "calllogd_direction": "out" if goes_out else "in",
        "start_epoch": round(part.started_at),
        "answer_epoch": round(answered_at or 0),
        "end_epoch": round(ended_at),
        "duration": round(ended_at - part.started_at),
        "billsec": 0 if answered_at is None else round(ended_at - answered_at),
        "hangup_cause": _cause(scene, part),
    }
    if not is_first:
        variables["originating_leg_uuid"] = _uuid(scene, first.number)
    if part.extension is not None:
        variables["user_name" if is_first else "dialed_user"] = part.extension
    elif goes_out:
        variables["sip_gateway_name"] = "provider"
    if scene.recording is not None and is_first and answered_at is not None:
        variables["calllogd_recording"] = scene.recording
    profile = {
        "caller_id_number": (part.extension or scene.line) if goes_out else scene.phone,
        "destination_number": scene.phone if goes_out else (part.extension or scene.line),
        "context": "default" if goes_out else "public",
    }
    times = {"bridged_time": str(round((together or 0) * 1_000_000))}
    return {
        "core-uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, "core")),
        "switchname": "pbx1",
        "channel_data": {"state": "CS_REPORTING", "direction": "inbound" if is_first else "outbound"},
        "variables": {name: quote(str(value), safe="") for name, value in variables.items()},
        "callflow": [{"caller_profile": profile, "times": times}],
    }


def _cause(scene: Scene, part: Part) -> str:
    if part.answered_at is not None:
        return "NORMAL_CLEARING"
    return "NO_ANSWER" if scene.kind is Kind.MISSED else "LOSE_RACE"


def _uuid(scene: Scene, number: int) -> str:
    return str(uuid.uuid5(uuid.UUID(scene.id), str(number)))


SIMULATION = Simulation(
    messages=_messages,
    call_id=_call_id,
    # Its recording is told of with the record.
    kinds=frozenset(Kind) - {Kind.RECORDING_FIRST},
    recorded=frozenset(Kind) - {Kind.MISSED},
)
