"""Calls and their accounts told: in plain words, and as JSON whose keys programs rely on."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from calllogd.domain.call import Call, CallState, Direction, EntityType, Entry, RecordingState, Result
from calllogd.ports import JournalLine, Standing, Totals, Unmapped

UNMAPPED_MOST = 20
"""Extensions that nobody has are told up to this many, those of the most calls."""

_KINDS = {
    EntityType.LEADS: "lead",
    EntityType.CONTACTS: "contact",
    EntityType.COMPANIES: "company",
    EntityType.CUSTOMERS: "customer",
}

_STATES = {
    CallState.PENDING: "waits to be logged",
    CallState.AWAITING_RESULT: "waits for the manager's call result",
    CallState.IN_DOUBT: "a request's answer was lost; Kommo is searched before anything is repeated",
    CallState.AWAITING_CONTACT: "nobody has the number; logged when a contact with it appears",
    CallState.LOGGED: "stands in Kommo",
    CallState.EXPIRED: "no contact with the number appeared in time",
    CallState.IGNORED: "left out by policy, or a part of another call",
    CallState.FAILED: "cannot be logged without help",
}

_STEPS = {
    "log_call": "offered to Kommo, which picks the entity by the number",
    "create_incoming_lead": "asked Kommo for an incoming lead",
    "add_note": "asked Kommo for a note on the entity",
    "log_calls": "offered to Kommo together with others",
    "add_task": "asked Kommo for the manager's task",
    "check_lead": "asked Kommo what became of the number's incoming lead",
    "lose_entry": "lost its entry",
    "hand_over": "gave the caller's number to the chosen entity",
    "leave": "cleared the old entry away",
    "look_up": "searched Kommo for what a lost request may have made",
    "amend": "wrote what had changed into the note",
    "attribute": "somebody has its extension now",
    "wait": "waits",
    "finish": "finished",
    "retry": "put back by the operator",
    "add_call": "stumbled",
    "join": "turned out to be a part of call",
}


def moment(seconds: float | None) -> str:
    """Return a time in the zone of this machine."""
    if seconds is None:
        return "never"
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def place(entry: Entry | None) -> str:
    """Return where an entry stands."""
    if entry is None:
        return "nowhere"
    where = f"{_KINDS[entry.entity_type]} {entry.entity_id}"
    if entry.lead_uid is not None:
        return f"incoming {where}"
    return where if entry.note_id is None else f"{where}, note {entry.note_id}"


def meaning(state: CallState) -> str:
    """Return what a state means."""
    return _STATES[state]


def why(call: Call) -> str:
    """Return why the entry is where it is, or why there is none."""
    entry = call.entry
    if entry is None:
        return call.last_error or meaning(call.state)
    if call.chosen == entry.entity:
        return "the manager chose it in the call result"
    if entry.lead_uid is not None and entry.note_id is not None:
        return "nobody had the number, and it had an incoming lead already, from another call"
    if entry.lead_uid is not None:
        return "nobody had the number and the client called, so the call became an incoming lead"
    return "Kommo's own algorithm picked it by the last ten digits of the number"


def told(call: Call) -> str:
    """Return in a line what is known of a call."""
    facts = call.known
    words = [facts.direction.value if facts.direction else "direction unknown"]
    if facts.phone is not None:
        words.append(
            ("from " if facts.direction is Direction.INBOUND else "to ")
            + (facts.phone or "a withheld number")
        )
    words.append(
        "not ended"
        if facts.outcome is None
        else f"{facts.outcome.status.value}, {facts.outcome.duration} s of talk"
    )
    if facts.person is not None and facts.person.extension:
        words.append(f"extension {facts.person.extension}")
    return ", ".join(words)


def listened(call: Call) -> str | None:
    """Return in a line what is known of the recording, None if there is nothing to tell."""
    recording = call.recording
    if recording.state is RecordingState.NONE:
        return None
    return recording.state.value if recording.url is None else f"{recording.state.value}: {recording.url}"


def concluded(call: Call) -> str | None:
    """Return in a line what the manager made of the call, None if there is nothing to tell."""
    result = call.result
    if result is None:
        return "declined" if call.widget.skipped else None
    words = [f"revision {result.rev}", json.dumps(result.text, ensure_ascii=False)]
    if result.entity is not None:
        words.append(f"on {_KINDS[result.entity.kind]} {result.entity.id}")
    if result.todo is not None:
        made = "not made yet" if call.task_id is None else f"made as {call.task_id}"
        words.append(f"with a task, {made}")
    return ", ".join(words)


def step(line: JournalLine) -> str:
    """Return a line of the journal as a sentence."""
    if line.body is not None:
        said = f"{line.who} sent {line.what}: {line.outcome}"
    else:
        said = f"{_STEPS.get(line.what, line.what)}: {line.outcome}"
    if line.times > 1:
        said += f" ({line.times} times, last at {moment(line.last_at)})"
    return said + (f" [Kommo request {line.request_id}]" if line.request_id else "")


def call_json(call: Call) -> dict[str, Any]:
    """Return a call as one JSON object; the keys are fixed, programs rely on them."""
    facts, entry, result = call.known, call.entry, call.result
    return {
        "account_id": call.key.account_id,
        "call_id": call.key.call_id,
        "state": call.state.value,
        "direction": facts.direction.value if facts.direction else None,
        "phone": facts.phone,
        "extension": facts.person.extension if facts.person else None,
        "started_at": call.started_at,
        "status": facts.outcome.status.value if facts.outcome else None,
        "duration": facts.outcome.duration if facts.outcome else None,
        "revision": call.revision,
        "written_revision": call.written_revision,
        "entity_type": entry.entity_type.value if entry else None,
        "entity_id": entry.entity_id if entry else None,
        "note_id": entry.note_id if entry else None,
        "lead_uid": entry.lead_uid if entry else None,
        "contact_id": entry.contact_id if entry else None,
        "recording": {"state": call.recording.state.value, "url": call.recording.url},
        "result": None if result is None else _result_json(result),
        "skipped": call.widget.skipped,
        "task_id": call.task_id,
        "due_at": call.due_at,
        "attempts": call.attempts,
        "last_error": call.last_error,
    }


def _result_json(result: Result) -> dict[str, Any]:
    entity, todo = result.entity, result.todo
    return {
        "rev": result.rev,
        "text": result.text,
        "status": result.status,
        "entity": None if entity is None else {"type": entity.kind.value, "id": entity.id},
        "task": None if todo is None else {"text": todo.text, "complete_till": todo.complete_till},
    }


def line_json(line: JournalLine) -> dict[str, Any]:
    """Return a line of the journal as one JSON object."""
    return {
        "at": line.at,
        "who": line.who,
        "what": line.what,
        "outcome": line.outcome,
        "request_id": line.request_id,
        "times": line.times,
        "last_at": line.last_at,
        "body": line.body,
    }


def status_json(
    totals: Totals, standings: Sequence[Standing], unmapped: Sequence[Unmapped], now: float
) -> dict[str, Any]:
    """Return how everything stands as one JSON object; the keys are fixed, programs rely on them."""
    return {
        "calls": {state.value: totals.states.get(state, 0) for state in CallState},
        "queue": totals.queued,
        "oldest_due_s": oldest_due_s(totals, now),
        "accounts": [standing_json(standing) for standing in standings],
        "unmapped": [one._asdict() for one in unmapped[:UNMAPPED_MOST]],
    }


def standing_json(standing: Standing) -> dict[str, Any]:
    """Return how an account stands as one JSON object."""
    return {"id": standing.account_id, "state": standing.state.value, "reason": standing.reason}


def oldest_due_s(totals: Totals, now: float) -> float:
    """Return for how many seconds the oldest due call has been due, 0 when none is."""
    return 0 if totals.oldest_due_at is None else round(max(0.0, now - totals.oldest_due_at), 3)
