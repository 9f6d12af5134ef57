"""A row of the table `calls` and the call it is, both ways; the only place that knows the columns' order."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from calllogd.domain.call import (
    NO_WIDGET,
    Attribution,
    Call,
    CallKey,
    CallState,
    CallStatus,
    Direction,
    Doubt,
    EntityRef,
    EntityType,
    Entry,
    Facts,
    IncomingLead,
    Intent,
    LeadState,
    Lease,
    Leg,
    Outcome,
    Person,
    Recording,
    RecordingState,
    Result,
    Todo,
    Widget,
)
from calllogd.domain.merge import fold
from calllogd.domain.phone import matched
from calllogd.ports import Message

T = TypeVar("T")

Regions = Mapping[int, str | None]
"""The country in which each account's national numbers are read."""

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
    "legs",
    "heard_at",
    "widget",
    "result",
    "recording",
    "recording_url",
    "recording_type",
    "appeared_at",
    "revision",
    "due_at",
)
_WORKED = (
    "entity_type",
    "entity_id",
    "note_id",
    "lead_uid",
    "contact_id",
    "leaving",
    "task_id",
    "shaky_until",
    "number",
    "state",
    "written_revision",
    "written_extension",
    "written_user",
    "attempts",
    "nobody_at",
    "asked",
    "declined",
    "last_error",
    "intent",
    "intent_over_at",
    "intent_revision",
    "intent_type",
    "intent_id",
    "intent_lead_uid",
    "intent_todo",
    "intent_extension",
    "intent_user",
    "looked_at",
)

_NEW = (*_IDENTITY, *_REPORTED, "who", "what", "body")

SELECT = f"SELECT id, lease, lease_until, part_of, {', '.join(_IDENTITY + _REPORTED + _WORKED)} FROM calls"
"""Rows of this are what `call_of` reads."""

UPDATE_REPORTED = f"UPDATE calls SET {', '.join(f'{column} = ?' for column in _REPORTED)} WHERE id = ?"
"""Takes `reported(call)` and the row's id: what those who report a call may change."""

UPDATE_WORKED = (
    f"UPDATE calls SET {', '.join(f'{column} = ?' for column in _WORKED)},"
    " due_at = ?, lease = ?, lease_until = ? WHERE id = ?"
)
"""Takes `worked(call)`, due_at, the lease and the row's id: what the call's holder may change."""


_SELECT_LEAD = "SELECT uid, lead_id, contact_id, state, known_at FROM incoming_leads"


def insert(rows: int) -> str:
    """Return the statement that takes the values of so many `new_row`s."""
    row = f"({', '.join('?' * len(_NEW))})"
    return f"INSERT INTO arrivals ({', '.join(_NEW)}) VALUES {', '.join([row] * rows)}"


def new_row(message: Message, now: float, leg_wait: float = 0.0) -> tuple[Any, ...]:
    """Return the values of a call that is heard of for the first time, and of the message that told of it."""
    call = fold(None, message.event, now, leg_wait)
    return (*call.key, now, *reported(call), message.who, message.what, message.body)


def reported(call: Call) -> tuple[Any, ...]:
    """Return the values that the call's messages decide."""
    facts, recording = call.facts, call.recording
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
        _json(call.legs) if call.legs else None,
        call.heard_at,
        None if call.widget is NO_WIDGET else _json(call.widget),
        None if call.result is None else _json(call.result),
        recording.state,
        recording.url,
        recording.media_type,
        call.appeared_at,
        call.revision,
        call.due_at,
    )


def worked(call: Call, digits: str | None) -> tuple[Any, ...]:
    """Return the values that the call's holder decides; `digits` are `number_of(call, …)`."""
    entry, doubt = call.entry, call.doubt
    target = None if doubt is None else doubt.target
    return (
        None if entry is None else entry.entity_type,
        None if entry is None else entry.entity_id,
        None if entry is None else entry.note_id,
        None if entry is None else entry.lead_uid,
        None if entry is None else entry.contact_id,
        None if call.leaving is None else _json(call.leaving),
        call.task_id,
        call.shaky_until,
        digits,
        call.state,
        call.written_revision,
        *_attributed(call.attribution),
        call.attempts,
        call.nobody_at,
        call.asked,
        call.declined,
        call.last_error,
        None if doubt is None else doubt.intent,
        None if doubt is None else doubt.over_at,
        None if doubt is None else doubt.revision,
        None if target is None else target.kind,
        None if target is None else target.id,
        None if doubt is None else doubt.lead_uid,
        None if doubt is None or doubt.todo is None else _json(doubt.todo),
        *_attributed(None if doubt is None else doubt.attribution),
        None if doubt is None else doubt.looked_at,
    )


def _attributed(whose: Attribution | None) -> tuple[str | None, int | None]:
    return (None, None) if whose is None else whose


def number_of(call: Call, regions: Regions) -> str | None:
    """Return the digits by which calls of one number are told, None if the number is not known.

    They are those by which Kommo tells it, of the number as Kommo gets it.
    """
    return matched(call.known.phone or "", regions.get(call.key.account_id)) or None


def call_of(row: Sequence[Any]) -> tuple[int, Call]:
    """Return the id of a row of SELECT, and its call, without its incoming lead."""
    value = dict(
        zip(("id", "lease", "lease_until", "part_of", *_IDENTITY, *_REPORTED, *_WORKED), row, strict=True)
    )
    call = Call(
        key=CallKey(value["account_id"], value["call_id"]),
        arrived_at=value["arrived_at"],
        facts=_facts(value),
        legs=_of_json(value["legs"], tuple[Leg, ...]) or (),
        heard_at=value["heard_at"],
        widget=_of_json(value["widget"], Widget) or NO_WIDGET,
        result=_of_json(value["result"], Result),
        recording=Recording(
            state=RecordingState(value["recording"]),
            url=value["recording_url"],
            media_type=value["recording_type"],
        ),
        appeared_at=value["appeared_at"],
        part_of=value["part_of"],
        entry=_entry(value),
        leaving=_of_json(value["leaving"], Entry),
        task_id=value["task_id"],
        shaky_until=value["shaky_until"],
        state=CallState(value["state"]),
        revision=value["revision"],
        written_revision=value["written_revision"],
        attribution=_attribution(value, "written"),
        due_at=value["due_at"],
        attempts=value["attempts"],
        doubt=_doubt(value),
        nobody_at=value["nobody_at"],
        asked=value["asked"],
        declined=bool(value["declined"]),
        last_error=value["last_error"],
        lease=None if value["lease"] is None else Lease(token=value["lease"], until=value["lease_until"]),
    )
    return value["id"], call


def _json(value: tuple[Leg, ...] | Widget | Result | Entry | Todo) -> str:
    return msgspec.json.encode(value).decode()


def _of_json(text: str | None, kind: type[T]) -> T | None:
    return None if text is None else msgspec.json.decode(text, type=kind)


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
    target = None
    if value["intent_id"] is not None:
        target = EntityRef(EntityType(value["intent_type"]), value["intent_id"])
    return Doubt(
        intent=Intent(value["intent"]),
        over_at=value["intent_over_at"],
        revision=value["intent_revision"],
        looked_at=value["looked_at"],
        target=target,
        lead_uid=value["intent_lead_uid"],
        todo=_of_json(value["intent_todo"], Todo),
        attribution=_attribution(value, "intent"),
    )


def _attribution(value: dict[str, Any], what: str) -> Attribution | None:
    user_id = value[f"{what}_user"]
    return None if user_id is None else Attribution(value[f"{what}_extension"], user_id)


def find(connection: sqlite3.Connection, key: CallKey) -> tuple[int, Call] | None:
    """Return the id of a call's row, and the call without its incoming lead; None if there is none."""
    row = connection.execute(f"{SELECT} WHERE account_id = ? AND call_id = ?", key).fetchone()
    return None if row is None else call_of(row)


def find_whole(connection: sqlite3.Connection, key: CallKey) -> tuple[int, Call] | None:
    """Return the id of the row of the call that this one is a part of, or its own, and the call likewise."""
    found = find(connection, key)
    while found is not None and (whole := found[1].part_of) is not None:
        found = find(connection, CallKey(key.account_id, whole))
    return found


def find_with_lead(connection: sqlite3.Connection, key: CallKey, regions: Regions) -> tuple[int, Call] | None:
    """Return the id of a call's row, and the call with its incoming lead; None if there is none."""
    found = find(connection, key)
    if found is None:
        return None
    number, call = found
    lead = find_lead(connection, call, number_of(call, regions))
    return number, call if lead is None else replace(call, lead=lead)


def find_lead(connection: sqlite3.Connection, call: Call, digits: str | None) -> IncomingLead | None:
    """Return the incoming lead on which the call's entry stands, else the newest of its number."""
    uid = None if call.entry is None else call.entry.lead_uid
    if uid is not None:
        row = connection.execute(
            f"{_SELECT_LEAD} WHERE account_id = ? AND uid = ?", (call.key.account_id, uid)
        ).fetchone()
    else:
        row = connection.execute(
            f"{_SELECT_LEAD} WHERE account_id = ? AND number = ? ORDER BY made_at DESC LIMIT 1",
            (call.key.account_id, digits),
        ).fetchone()
    if row is None:
        return None
    uid, lead_id, contact_id, state, known_at = row
    return IncomingLead(
        uid=uid, lead_id=lead_id, contact_id=contact_id, state=LeadState(state), known_at=known_at
    )
