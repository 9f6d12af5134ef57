"""A row of the table `calls` and the call it is, both ways; the only place that knows the columns' order."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from calllogd.domain.call import (
    Call,
    CallKey,
    CallState,
    CallStatus,
    Direction,
    Doubt,
    EntityType,
    Entry,
    Facts,
    Intent,
    Lease,
    Outcome,
    Person,
    Recording,
    RecordingState,
)
from calllogd.ports import Message

_IDENTITY = ("account_id", "call_id", "arrived_at")
_REPORTED = (
    "direction",
    "phone",
    "person_weight",
    "extension",
    "user_id",
    "started_at",
    "status",
    "duration",
    "recording",
    "recording_url",
    "revision",
    "due_at",
)
_WORKED = (
    "entity_type",
    "entity_id",
    "note_id",
    "lead_uid",
    "contact_id",
    "state",
    "written_revision",
    "attempts",
    "nobody_at",
    "asked",
    "last_error",
    "intent",
    "intent_over_at",
    "intent_revision",
    "looked_at",
)

_NEW = (*_IDENTITY, *_REPORTED, "who", "what", "body")

SELECT = f"SELECT id, lease, lease_until, {', '.join(_IDENTITY + _REPORTED + _WORKED)} FROM calls"
"""Rows of this are what `call_of` reads."""

UPDATE_REPORTED = f"UPDATE calls SET {', '.join(f'{column} = ?' for column in _REPORTED)} WHERE id = ?"
"""Takes `reported(call)` and the row's id: what those who report a call may change."""

UPDATE_WORKED = (
    f"UPDATE calls SET {', '.join(f'{column} = ?' for column in _WORKED)},"
    " due_at = ?, lease = ?, lease_until = ? WHERE id = ?"
)
"""Takes `worked(call)`, due_at, the lease and the row's id: what the call's holder may change."""


def insert(rows: int) -> str:
    """Return the statement that takes the values of so many `new_row`s."""
    row = f"({', '.join('?' * len(_NEW))})"
    return f"INSERT INTO arrivals ({', '.join(_NEW)}) VALUES {', '.join([row] * rows)}"


def new_row(message: Message, now: float) -> tuple[Any, ...]:
    """Return the values of a call that is heard of for the first time, and of the message that told of it."""
    event = message.event
    told = _reported(event.facts, event.recording, 1, now)
    return (*event.key, now, *told, message.who, message.what, message.body)


def reported(call: Call) -> tuple[Any, ...]:
    """Return the values that the call's messages decide."""
    return _reported(call.facts, call.recording, call.revision, call.due_at)


def _reported(facts: Facts, recording: Recording, revision: int, due_at: float | None) -> tuple[Any, ...]:
    person, outcome = facts.person, facts.outcome
    return (
        facts.direction,
        facts.phone,
        None if person is None else person.weight,
        None if person is None else person.extension,
        None if person is None else person.user_id,
        facts.started_at,
        None if outcome is None else outcome.status,
        None if outcome is None else outcome.duration,
        recording.state,
        recording.url,
        revision,
        due_at,
    )


def worked(call: Call) -> tuple[Any, ...]:
    """Return the values that the call's holder decides."""
    entry, doubt = call.entry, call.doubt
    return (
        None if entry is None else entry.entity_type,
        None if entry is None else entry.entity_id,
        None if entry is None else entry.note_id,
        None if entry is None else entry.lead_uid,
        None if entry is None else entry.contact_id,
        call.state,
        call.written_revision,
        call.attempts,
        call.nobody_at,
        call.asked,
        call.last_error,
        None if doubt is None else doubt.intent,
        None if doubt is None else doubt.over_at,
        None if doubt is None else doubt.revision,
        None if doubt is None else doubt.looked_at,
    )


def call_of(row: Sequence[Any]) -> tuple[int, Call]:
    """Return the id of a row of SELECT, and its call."""
    value = dict(zip(("id", "lease", "lease_until", *_IDENTITY, *_REPORTED, *_WORKED), row, strict=True))
    call = Call(
        key=CallKey(value["account_id"], value["call_id"]),
        arrived_at=value["arrived_at"],
        facts=_facts(value),
        recording=Recording(state=RecordingState(value["recording"]), url=value["recording_url"]),
        entry=_entry(value),
        state=CallState(value["state"]),
        revision=value["revision"],
        written_revision=value["written_revision"],
        due_at=value["due_at"],
        attempts=value["attempts"],
        doubt=_doubt(value),
        nobody_at=value["nobody_at"],
        asked=value["asked"],
        last_error=value["last_error"],
        lease=None if value["lease"] is None else Lease(token=value["lease"], until=value["lease_until"]),
    )
    return value["id"], call


def _facts(value: dict[str, Any]) -> Facts:
    weight = value["person_weight"]
    return Facts(
        direction=None if value["direction"] is None else Direction(value["direction"]),
        phone=value["phone"],
        person=None if weight is None else Person(weight, value["extension"], value["user_id"]),
        started_at=value["started_at"],
        outcome=None if value["status"] is None else Outcome(CallStatus(value["status"]), value["duration"]),
    )


def _entry(value: dict[str, Any]) -> Entry | None:
    if value["entity_id"] is None:
        return None
    return Entry(
        entity_type=EntityType(value["entity_type"]),
        entity_id=value["entity_id"],
        note_id=value["note_id"],
        lead_uid=value["lead_uid"],
        contact_id=value["contact_id"],
    )


def _doubt(value: dict[str, Any]) -> Doubt | None:
    if value["intent"] is None:
        return None
    return Doubt(
        intent=Intent(value["intent"]),
        over_at=value["intent_over_at"],
        revision=value["intent_revision"],
        looked_at=value["looked_at"],
    )


def find(connection: sqlite3.Connection, key: CallKey) -> tuple[int, Call] | None:
    """Return the id of a call's row, and the call; None if there is none."""
    row = connection.execute(f"{SELECT} WHERE account_id = ? AND call_id = ?", key).fetchone()
    return None if row is None else call_of(row)
