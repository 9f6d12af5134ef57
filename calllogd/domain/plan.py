"""The heart: what is to be done with a call next.

`plan` looks at the state of the row alone, never at which message brought it there. The order in which
messages come, how often, and what was interrupted where can therefore not matter.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from calllogd.domain.call import (
    Call,
    CallState,
    CallStatus,
    Direction,
    Doubt,
    EntityRef,
    EntityType,
    Entry,
    IncomingLead,
    LeadState,
    RecordingState,
)
from calllogd.domain.phone import Kind, read, tail

END_WAIT_S = 6 * 3600.0
"""A call whose end is never reported is logged with what is known, this long after it was first heard of."""

FRESH_S = 60.0
"""How long Kommo's word that nobody has a number is good enough to create an incoming lead upon."""

LEAD_FRESH_S = 5.0
"""How long Kommo's word that an incoming lead is open is good enough to put another call on it."""

_MORE_LEGS = "another leg of the call may follow"

POLL_FIRST_S = 60.0
POLL_LONGEST_S = 1800.0


class IncomingLeads(StrEnum):
    """Which inbound calls from unknown numbers become incoming leads."""

    ALL = "all"
    ANSWERED = "answered"
    OFF = "off"


class InternalCalls(StrEnum):
    """What becomes of calls from and to extensions and short numbers."""

    IGNORED = "ignored"
    LOGGED = "logged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator decides about all calls; waits in seconds, see etc/calllogd.toml.

    `blocked` has the last ten digits of each number, in each way in which it is written.
    """

    result_wait: float = 120.0
    contact_wait: float = 64800.0
    doubt_wait: float = 60.0
    incoming_leads: IncomingLeads = IncomingLeads.ALL
    leg_wait: float = 10.0
    internal_calls: InternalCalls = InternalCalls.IGNORED
    blocked: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LogCall:
    """Offer the call to Kommo, whose own algorithm picks the entity that has the number."""


@dataclass(frozen=True, slots=True)
class CreateIncomingLead:
    """Create an incoming lead with the number and the call."""


@dataclass(frozen=True, slots=True)
class AddNote:
    """Put the call's note on this entity; an entry that stands elsewhere is left behind."""

    on: EntityRef
    lead_uid: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class AddTask:
    """Create the manager's task on the entity that the call stands on."""

    on: EntityRef


@dataclass(frozen=True, slots=True)
class LookUp:
    """Search Kommo for what an unanswered request may have created."""


@dataclass(frozen=True, slots=True)
class CheckLead:
    """Ask Kommo what has become of an incoming lead."""

    lead: IncomingLead


@dataclass(frozen=True, slots=True)
class LoseEntry:
    """Take note that a person declined the incoming lead on which the entry stood."""


@dataclass(frozen=True, slots=True)
class Amend:
    """Write what has become known since into the entry's note."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Clear away the entry that the call has been moved from."""

    left: Entry
    to: Entry


@dataclass(frozen=True, slots=True)
class DeleteRecording:
    """Delete the recording of a call that nobody can be shown with."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done before Unix second `until`; the call stands in `state` meanwhile."""

    state: CallState
    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to do; the call ends in `state`."""

    state: CallState
    reason: str


Step = (
    LogCall
    | CreateIncomingLead
    | AddNote
    | AddTask
    | LookUp
    | CheckLead
    | LoseEntry
    | Amend
    | Leave
    | DeleteRecording
    | Wait
    | Finish
)


def plan(call: Call, now: float, policy: Policy) -> Step:
    """Return the next step for a call that one worker holds."""
    if call.doubt is not None and (step := _resolve(call.doubt, now, policy)) is not None:
        return step
    if call.entry is not None:
        if call.leaving is not None:
            return Leave(call.leaving, call.entry)
        return _keep(call, call.entry, now, policy)
    step = _place(call, now, policy)
    if isinstance(step, Finish) and call.recording.state in (RecordingState.EXPECTED, RecordingState.READY):
        return DeleteRecording()
    return step


def is_settled(doubt: Doubt, policy: Policy) -> bool:
    """Tell whether it is certain that nothing was created: Kommo was searched after it could have been.

    Only a search that was begun when Kommo could no longer be at work on the request proves anything by
    finding nothing.
    """
    return doubt.looked_at is not None and doubt.looked_at >= doubt.over_at + policy.doubt_wait


def _resolve(doubt: Doubt, now: float, policy: Policy) -> Step | None:
    """Return the step that settles the doubt, None if it is settled.

    Kommo is searched twice: at once, where a lost answer mostly shows, and when a search proves something.
    """
    settled_at = doubt.over_at + policy.doubt_wait
    if is_settled(doubt, policy):
        return None
    if doubt.looked_at is None or now >= settled_at:
        return LookUp()
    return Wait(CallState.IN_DOUBT, settled_at, "Kommo may still carry out a request whose answer was lost")


def _keep(call: Call, entry: Entry, now: float, policy: Policy) -> Step:
    """Return the step for a call that stands in Kommo."""
    if (wait := _wait_to_amend(call, now, policy)) is not None:
        return wait
    lead = call.lead if call.lead is not None and call.lead.uid == entry.lead_uid else None
    if call.chosen is not None and call.chosen != entry.entity:
        return AddNote(call.chosen, None, "the manager chose it")
    if lead is not None and lead.state is LeadState.DECLINED:
        return LoseEntry()
    if call.written_revision < call.revision or call.shaky_until is not None:
        return Amend()
    if call.result is not None and call.result.todo is not None and call.task_id is None:
        return AddTask(entry.entity)
    if lead is not None and lead.state is LeadState.OPEN and call.recording.state is RecordingState.READY:
        # A recording may stay only if the incoming lead was not declined: nobody may have told us.
        expires_at = call.ended_at + policy.contact_wait
        if now < expires_at:
            return Wait(CallState.LOGGED, expires_at, "the entry is up to date; the incoming lead is open")
        if lead.known_at < expires_at:
            return CheckLead(lead)
    return Finish(CallState.LOGGED, "the entry is up to date")


def _wait_to_amend(call: Call, now: float, policy: Policy) -> Wait | None:
    """Return for what an entry has to wait before it is touched, None if for nothing."""
    if call.shaky_until is not None and now < call.shaky_until:
        return Wait(CallState.LOGGED, call.shaky_until, "Kommo may still carry out an older amendment")
    if call.written_revision < call.revision and now < _quiet_at(call, policy):
        return Wait(CallState.LOGGED, _quiet_at(call, policy), _MORE_LEGS)
    return None


def _place(call: Call, now: float, policy: Policy) -> Step:
    """Return the step that brings a call without an entry nearer to one."""
    known = call.known
    if call.part_of is not None:
        return Finish(CallState.IGNORED, f"it is a part of call {call.part_of}")
    if known.direction is None or known.phone is None:
        return _wait_for_facts(call, now, policy)
    if call.chosen is not None:
        return AddNote(call.chosen, None, "the manager chose it")
    if (reason := _left_out(known.phone, policy)) is not None:
        return Finish(CallState.IGNORED, reason)
    if known.outcome is None and call.result is None and now < call.arrived_at + END_WAIT_S:
        return Wait(CallState.PENDING, call.arrived_at + END_WAIT_S, "the call has not ended yet")
    if known.outcome is not None and now < _quiet_at(call, policy):
        return Wait(CallState.PENDING, _quiet_at(call, policy), _MORE_LEGS)
    if call.widget.expected and call.result is None and not call.widget.skipped:
        result_by = call.ended_at + policy.result_wait
        if now < result_by:
            return Wait(CallState.AWAITING_RESULT, result_by, "the manager's call result is expected")
    return _place_by_number(call, now, policy)


def _quiet_at(call: Call, policy: Policy) -> float:
    """Return when enough time will have passed since the last news of a leg: others may follow until then."""
    return -math.inf if call.heard_at is None else call.heard_at + policy.leg_wait


def _left_out(phone: str, policy: Policy) -> str | None:
    """Return why a call with this number is not logged unless the manager chooses where; None if it is."""
    kind, number = read(phone)
    if kind is Kind.WITHHELD:
        return "the number was withheld, so no entity can have it"
    if kind is not Kind.OUTSIDE and (policy.internal_calls is InternalCalls.IGNORED or not number):
        return "an internal call, from or to an extension or a short number"
    if tail(number) in policy.blocked:
        return "the number is blocked by policy.blocked"
    return None


def _wait_for_facts(call: Call, now: float, policy: Policy) -> Step:
    expires_at = call.arrived_at + policy.contact_wait
    if now >= expires_at:
        return Finish(CallState.EXPIRED, "nobody ever said who had called whom")
    return Wait(CallState.PENDING, expires_at, "direction and number are not known yet")


def _place_by_number(call: Call, now: float, policy: Policy) -> Step:
    """Return the step for a call that goes where its number is."""
    lead = call.lead
    if call.known.direction is not Direction.INBOUND or call.declined:
        lead = None
    if lead is not None and lead.state is LeadState.OPEN:
        if now > lead.known_at + LEAD_FRESH_S:
            return CheckLead(lead)
        return AddNote(_lead_ref(lead), lead.uid, "the number has an incoming lead already")
    if call.nobody_at is None or (call.appeared_at is not None and call.nobody_at < call.appeared_at):
        return LogCall()
    if lead is not None and lead.state is LeadState.ACCEPTED and now < lead.known_at + POLL_LONGEST_S:
        # Kommo's search is behind: the contact is there, but not found yet.
        return AddNote(_lead_ref(lead), None, "the number's incoming lead was accepted")
    if becomes_incoming_lead(call, policy):
        return CreateIncomingLead() if now < call.nobody_at + FRESH_S else LogCall()
    expires_at = call.ended_at + policy.contact_wait
    if now >= expires_at and call.nobody_at >= expires_at:
        return Finish(CallState.EXPIRED, "no contact with the number appeared in time")
    poll_at = min(call.nobody_at + poll_s(call), max(expires_at, call.nobody_at))
    if now >= poll_at:
        return LogCall()
    return Wait(CallState.AWAITING_CONTACT, poll_at, "nobody has the number yet")


def becomes_incoming_lead(call: Call, policy: Policy) -> bool:
    """Tell whether a call from a number that nobody has becomes an incoming lead.

    Outbound calls never do: Kommo's incoming leads are for those who call the company. Neither do calls
    whose incoming lead was declined.
    """
    if call.known.direction is not Direction.INBOUND or call.declined:
        return False
    if policy.incoming_leads is IncomingLeads.ANSWERED:
        return call.known.outcome is not None and call.known.outcome.status is CallStatus.ANSWERED
    return policy.incoming_leads is IncomingLeads.ALL


def poll_s(call: Call) -> float:
    """Return the seconds until Kommo is asked again who has the number: longer each time it was asked."""
    return min(POLL_LONGEST_S, POLL_FIRST_S * 2.0 ** min(call.asked - 1, 10))


def _lead_ref(lead: IncomingLead) -> EntityRef:
    return EntityRef(EntityType.LEADS, lead.lead_id)
