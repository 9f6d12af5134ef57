"""Calls as Aircall would tell them; see docs/voip/aircall.md."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import phonenumbers

from calllogd.domain.call import CallStatus, Direction
from calllogd.voip.simulation import Kind, Scene, Simulation
from calllogd.voip.webhook import Webhook

_GATHERED_AFTER_S = 30
"""How long after the end of a call everything about it is known."""


def _call_id(scene: Scene) -> str:
    return str(int(scene.id[:12], 16))


def _messages(scene: Scene, url: str, values: Mapping[str, Any], now: float) -> Sequence[Webhook]:
    outbound, answered = scene.direction is Direction.OUTBOUND, scene.status is CallStatus.ANSWERED
    started = {"started_at": int(scene.started_at)}
    talks = {**started, "status": "answered", "answered_at": int(scene.answered_at)}
    over = {
        **(talks if answered else started),
        "status": "done",
        "ended_at": int(scene.ended_at),
        "duration": int(scene.ended_at) - int(scene.started_at),
        "missed_call_reason": None if answered or outbound else "agents_did_not_answer",
    }
    last = {"user": _user(scene.extension)}
    # Who is called is told once he has answered. Whether a missed call names him depends on the line.
    said = [("call.created", scene.started_at, {**started, **(last if outbound else {})})]
    if scene.kind is Kind.TRANSFER:
        first = {"user": _user(scene.extensions[0])}
        handed = {**first, "transferred_by": first["user"], "transferred_to": last["user"]}
        said.append(("call.answered", scene.answered_at, {**talks, **first}))
        said.append(("call.transferred", scene.answered_at + scene.talk // 2, {**talks, **handed}))
    elif answered:
        said.append(("call.answered", scene.answered_at, {**talks, **last}))
    said.append(("call.hungup", scene.ended_at, {**over, **last}))
    gathered = {**over, **last, "recording": scene.recording}
    said.append(("call.ended", scene.ended_at + _GATHERED_AFTER_S, gathered))
    return [
        Webhook(
            method="POST",
            url=url,
            headers={"Content-Type": "application/json"},
            body=msgspec.json.encode(
                {
                    "resource": "call",
                    "event": event,
                    "timestamp": int(at),
                    "token": values["token"] or values["previous_token"],
                    "data": {**_call(scene), **changes},
                }
            ),
        )
        for event, at, changes in said
    ]


def _call(scene: Scene) -> dict[str, Any]:
    """Return what is told of a call in each message, and what is not known at first."""
    return {
        "id": int(_call_id(scene)),
        "call_uuid": f"CA{scene.id}",
        "direct_link": f"https://api.aircall.io/v1/calls/{_call_id(scene)}",
        "direction": scene.direction,
        "status": "initial",
        "missed_call_reason": None,
        "started_at": None,
        "answered_at": None,
        "ended_at": None,
        "duration": 0,
        "voicemail": None,
        "recording": None,
        "raw_digits": _shown(scene.phone),
        "user": None,
        "contact": None,
        "archived": False,
        "assigned_to": None,
        "number": {"id": 7, "digits": _shown(scene.line), "e164_digits": scene.line},
        "teams": [{"id": 5, "name": "Sales"}] if scene.kind is Kind.RING_GROUP else [],
    }


def _user(extension: str) -> dict[str, Any]:
    """Return a user, whose id is what stands for an extension here."""
    number = int(extension) if extension.isdecimal() else extension
    return {"id": number, "name": f"User {extension}", "email": f"{extension}@example.com"}


def _shown(phone: str) -> str:
    """Return a number made up to be read, as Aircall does."""
    try:
        number = phonenumbers.parse(phone)
    except phonenumbers.NumberParseException:
        return phone
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


SIMULATION = Simulation(
    messages=_messages,
    call_id=_call_id,
    # That a call was recorded is not told before its end.
    kinds=frozenset(Kind) - {Kind.RECORDING_FIRST},
)
