"""Calls as RingCentral would tell them; see docs/voip/ringcentral.md."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import msgspec

from calllogd.domain.call import CallStatus, Direction
from calllogd.voip.simulation import Kind, Scene, Simulation
from calllogd.voip.webhook import Webhook

Party = dict[str, Any]
Moments = list[tuple[float, Party]]
"""The state of a party, at the Unix second at which it has it."""

_UNDERWAY_S = 0.08
"""From when something happens until it is sent, roughly."""


def _call_id(scene: Scene) -> str:
    return f"s-{scene.id}"


def _messages(scene: Scene, url: str, values: Mapping[str, Any], now: float) -> Sequence[Webhook]:
    happened = _to_client(scene) if scene.direction is Direction.OUTBOUND else _to_us(scene)
    headers = {
        "Content-Type": "application/json; charset=UTF-8",
        "Validation-Token": values["token"] or values["previous_token"],
    }
    return [
        Webhook(method="POST", url=url, headers=headers, body=_notification(scene, sequence, at, party))
        for sequence, (at, party) in zip(count(1), happened, strict=False)
    ]


def _to_us(scene: Scene) -> Moments:
    client, company = {"phoneNumber": scene.phone}, {"phoneNumber": scene.line}
    places = {one: place for place, one in enumerate(scene.extensions, start=2)}

    def caller(code: str) -> Party:
        return _party(scene, 1, code, calls=True, to=company, sender=client)

    def rings(extension: str, code: str, sender: Party = client, **more: Any) -> Party:
        called = {**company, "extensionId": extension}
        staff = {"extensionId": extension, **more}
        return _party(scene, places[extension], code, calls=False, to=called, sender=sender, **staff)

    start, answered_at, ended_at = scene.started_at, scene.answered_at, scene.ended_at
    ringing = scene.extensions if scene.kind is Kind.RING_GROUP else scene.extensions[:1]
    said: Moments = [(start, caller("Setup")), (start, caller("Answered"))]
    said += [(start, rings(one, code)) for one in ringing for code in ("Setup", "Proceeding")]
    if scene.status is not CallStatus.ANSWERED:
        missed = [rings(one, "Disconnected", reason="NoAnswer", missedCall=True) for one in ringing]
        return [*said, *((ended_at, one) for one in missed), (ended_at, caller("Disconnected"))]
    first = scene.extensions[0] if scene.kind is Kind.TRANSFER else scene.extension
    said.append((answered_at, rings(first, "Answered")))
    others = [rings(one, "Disconnected", reason="AgentAnswered") for one in ringing if one != first]
    said += [(answered_at, one) for one in others]
    who = client
    if scene.kind is Kind.TRANSFER:
        # He who hands over is at the other end for whoever takes over.
        handed_at, who = answered_at + scene.talk // 2, {"phoneNumber": first, "extensionId": first}
        said.append((handed_at, rings(first, "Disconnected", reason="BlindTransfer")))
        said += [(handed_at, rings(scene.extension, code, who)) for code in ("Proceeding", "Answered")]
    said.append((ended_at, rings(scene.extension, "Disconnected", who)))
    return [*said, (ended_at, caller("Disconnected"))]


def _to_client(scene: Scene) -> Moments:
    staff = {"phoneNumber": scene.line, "extensionId": scene.extension}
    client = {"phoneNumber": scene.phone}

    def dials(code: str) -> Party:
        return _party(scene, 1, code, calls=True, to=client, sender=staff, extensionId=scene.extension)

    def called(code: str) -> Party:
        return _party(scene, 2, code, calls=False, to=client, sender=staff)

    return [
        (scene.started_at, dials("Setup")),
        (scene.started_at, called("Proceeding")),
        (scene.started_at, dials("Proceeding")),
        (scene.answered_at, called("Answered")),
        (scene.answered_at, dials("Answered")),
        (scene.ended_at, dials("Disconnected")),
        (scene.ended_at, called("Disconnected")),
    ]


def _party(
    scene: Scene,
    place: int,
    code: str,
    *,
    calls: bool,
    to: Party,
    sender: Party,
    reason: str | None = None,
    **more: Any,
) -> Party:
    """Return a connection; one without `extensionId` is the client's."""
    return {
        "accountId": "809646016",
        "id": f"p-{scene.id}-{place}",
        "direction": "Outbound" if calls else "Inbound",
        "to": to,
        "from": sender,
        "status": {"code": code, "rcc": False, **({} if reason is None else {"reason": reason})},
        "missedCall": False,
        "standAlone": False,
        "muted": False,
        **more,
    }


def _notification(scene: Scene, sequence: int, at: float, party: Party) -> bytes:
    return msgspec.json.encode(
        {
            "uuid": f"{scene.id}-{sequence}",
            "event": "/restapi/v1.0/account/809646016/telephony/sessions",
            "timestamp": _moment(at),
            "subscriptionId": "8b15306f-0386-4f40-a560-0264a28a7225",
            "ownerId": "62264425016",
            "body": {
                "sequence": sequence,
                "sessionId": str(int(scene.id[:12], 16)),
                "telephonySessionId": _call_id(scene),
                "serverId": "10.13.23.147.TAM",
                "eventTime": _moment(at - _UNDERWAY_S),
                "parties": [party],
                "origin": {"type": "Call"},
            },
        }
    )


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


SIMULATION = Simulation(
    recorded=frozenset(),
    messages=_messages,
    call_id=_call_id,
    # Notifications tell of no recordings at all, so that of a scene is left out.
    kinds=frozenset(Kind) - {Kind.RECORDING_FIRST},
)
