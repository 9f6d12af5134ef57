"""Calls as API4Com would tell them; see docs/voip/api4com.md."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from calllogd.domain.call import CallStatus, Direction
from calllogd.voip.simulation import Kind, Scene, Simulation
from calllogd.voip.webhook import Webhook


def _call_id(scene: Scene) -> str:
    return str(UUID(int=int(scene.id, 16) % 2**128))


def _messages(scene: Scene, url: str, values: Mapping[str, Any], now: float) -> Sequence[Webhook]:
    zone = values["timezone"] or ZoneInfo("America/Sao_Paulo")

    def moment(at: float) -> str:
        return f"{datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M:%S}"

    sides = [scene.phone.removeprefix("+"), scene.extension]
    caller, called = reversed(sides) if scene.direction is Direction.OUTBOUND else sides
    known = {
        "id": _call_id(scene),
        "domain": "example.api4com.com",
        "direction": scene.direction,
        "caller": caller,
        "called": called,
        "startedAt": moment(scene.started_at),
    }
    answered = scene.status is CallStatus.ANSWERED
    talked = {"answeredAt": moment(scene.answered_at)} if answered else {}
    ended = {
        "endedAt": moment(scene.ended_at),
        "duration": scene.talk,
        "hangupCause": "NORMAL_CLEARING" if answered else "NO_ANSWER",
        "hangupCauseCode": "16" if answered else "19",
        "recordUrl": scene.recording or "",
    }
    said: list[dict[str, Any]] = [{"eventType": "channel-create", **known}]
    if answered:
        said.append({"eventType": "channel-answer", **known, **talked})
    said.append({"eventType": "channel-hangup", **known, **talked, **ended})
    return [
        Webhook(
            method="POST",
            url=url,
            headers={"Content-Type": "application/json"},
            body=msgspec.json.encode({"version": "v1.4", **message, "metadata": {"gateway": "calllogd"}}),
        )
        for message in said
    ]


SIMULATION = Simulation(
    recorded=frozenset(Kind) - {Kind.MISSED},
    messages=_messages,
    call_id=_call_id,
    # How it tells of several extensions that ring, or of a call that is handed on, is not known. Where the
    # recording is counts in the end's message alone.
    kinds=frozenset({Kind.INBOUND, Kind.OUTBOUND, Kind.MISSED}),
)
