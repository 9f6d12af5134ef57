"""A call as the ledger knows it: facts, entry, state."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class CallKey(NamedTuple):
    """Identity of a call: the Kommo account and the VoIP service's own id, unique within the account."""

    account_id: int
    call_id: str


class Direction(StrEnum):
    """Who called: the client (inbound) or the company (outbound)."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class CallStatus(StrEnum):
    """How a call ended; of two reports about one call the one higher up here counts (see `merge`)."""

    ANSWERED = "answered"
    VOICEMAIL = "voicemail"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    CANCELLED = "cancelled"
    FAILED = "failed"


_STATUSES = list(CallStatus)


def status_weight(status: CallStatus) -> int:
    """Return a number that is the greater the more a status says."""
    return -_STATUSES.index(status)


class CallState(StrEnum):
    """Where a call stands; docs/lifecycle.md draws the ways between the states."""

    PENDING = "pending"
    AWAITING_RESULT = "awaiting_result"
    IN_DOUBT = "in_doubt"
    AWAITING_CONTACT = "awaiting_contact"
    LOGGED = "logged"
    EXPIRED = "expired"
    IGNORED = "ignored"
    FAILED = "failed"


class EntityType(StrEnum):
    """Kinds of Kommo's entities, as they stand in paths."""

    LEADS = "leads"
    CONTACTS = "contacts"
    COMPANIES = "companies"
    CUSTOMERS = "customers"


class RecordingState(StrEnum):
    """What is known of a call's recording."""

    NONE = "none"
    EXPECTED = "expected"
    READY = "ready"
    FAILED = "failed"
    NEVER = "never"
    DELETED = "deleted"


class Intent(StrEnum):
    """A creating request that was about to be sent when this was written to the ledger."""

    LOG_CALL = "log_call"
    CREATE_INCOMING_LEAD = "create_incoming_lead"
    ADD_NOTE = "add_note"
    ADD_TASK = "add_task"


class LeadState(StrEnum):
    """What has become of an incoming lead, as far as it is known."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DECLINED = "declined"


class EntityRef(NamedTuple):
    """One entity of the account that is spoken of."""

    kind: EntityType
    id: int


class Person(NamedTuple):
    """Who of the company a message names; a message later in the call has the larger `weight`."""

    weight: int
    extension: str = ""
    user_id: int = 0


class Attribution(NamedTuple):
    """Whose call Kommo is told that it is, and by which extension he was found."""

    extension: str
    user_id: int


class Outcome(NamedTuple):
    """How a call ended: `duration` is talk, in seconds, 0 when nobody answered."""

    status: CallStatus
    duration: int


class Side(StrEnum):
    """Whose connection with the telephone system a leg is."""

    CLIENT = "client"
    STAFF = "staff"


class Leg(NamedTuple):
    """One connection of a call, as far as the VoIP service has told of it; None where it has not.

    `direction` is the call's as seen from this leg, `phone` the client's number and `extension` the company's
    telephone, if this leg tells them. Of a leg without `side` it is not known whether it went to the client
    or to somebody of the company, so it may have the same number as both. Moments are Unix seconds, `talk` is
    in seconds. `status` is how the leg ended; of `ended_at` alone nothing else follows.
    """

    id: str
    side: Side | None = None
    direction: Direction | None = None
    phone: str | None = None
    extension: str | None = None
    started_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    talk: int | None = None
    status: CallStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the VoIP service says of a call; None where it has not said it (yet).

    `phone` is the client's number as it came, `started_at` Unix seconds. `outcome` is known exactly when
    the call has ended.
    """

    direction: Direction | None = None
    phone: str | None = None
    person: Person | None = None
    started_at: float | None = None
    outcome: Outcome | None = None


NO_FACTS = Facts()


class Todo(NamedTuple):
    """What the manager wants to be done, as a task of Kommo's: `complete_till` in Unix seconds."""

    text: str
    complete_till: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a manager saved of a call; `rev` grows with each save, `status` is Kommo's call_status."""

    rev: int
    text: str = ""
    status: int | None = None
    entity: EntityRef | None = None
    todo: Todo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Widget:
    """What the widget says of a call besides its result.

    `facts` stand in for those that the VoIP service has not told. `expected`: a result has been announced;
    `skipped`: the manager declined to give one.
    """

    facts: Facts = NO_FACTS
    expected: bool = False
    skipped: bool = False


NO_WIDGET = Widget()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The sound of a call: where the VoIP service keeps it, how far we are with it, and what our file is."""

    state: RecordingState = RecordingState.NONE
    url: str | None = None
    media_type: str | None = None


NO_RECORDING = Recording()
"""Nothing is known of a recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingLead:
    """An incoming lead that stands for a number: what it is in Kommo, and what became of it.

    `known_at` is the Unix second at which Kommo last said so.
    """

    uid: str
    lead_id: int
    contact_id: int | None
    state: LeadState
    known_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What stands in Kommo for a call: a call note on an entity, or an incoming lead with its call note.

    `lead_uid` is the incoming lead that the note stands on, if it does. `note_id` is None for the call that
    an incoming lead was created with: Kommo does not say which note it made.
    """

    entity_type: EntityType
    entity_id: int
    note_id: int | None = None
    lead_uid: str | None = None
    contact_id: int | None = None

    @property
    def entity(self) -> EntityRef:
        """The entity that the call stands on."""
        return EntityRef(self.entity_type, self.entity_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A creating request whose answer is not on disk.

    `over_at` is the latest moment at which the request can still have been under way on our side: the
    instant its answer was lost or, until that is known, the end of the lease. `looked_at` is when
    Kommo was last searched for its effect, None: never. Both Unix seconds. `revision` is what it carried;
    `target` the entity it was sent to, None where Kommo chooses it, and `lead_uid` the incoming lead that
    the target is; `todo` the task that was to be made, for the result may want another by now.
    `attribution` is whose call it said that it is, None: nobody's.
    """

    intent: Intent
    over_at: float
    revision: int
    looked_at: float | None = None
    target: EntityRef | None = None
    lead_uid: str | None = None
    todo: Todo | None = None
    attribution: Attribution | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one worker to work on a call, until Unix second `until`."""

    token: str
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One row of the ledger.

    Reported, by whoever tells of the call: `facts`, `widget`, `result`, `recording`, and `appeared_at`,
    when Kommo last told of a contact with the number. `arrived_at` is when the first message came. Where the
    VoIP service tells of `legs`, they make the facts, and `heard_at` is when it last told something new.
    `revision` grows with every change of what should stand in Kommo. `part_of` is the id of the call that
    this one turned out to be a part of: what is told of either is kept there.

    Worked, by the holder of the lease: `entry`; `leaving`, the entry that it replaces and that has not been
    cleared away yet; `task_id`, the manager's task; `written_revision`, what the entry carries;
    `attribution`, whose call it says that it is, None: nobody's;
    `shaky_until`, until when Kommo may still carry out an amendment whose answer is not on disk; `due_at`,
    when the call is to be looked at next, None: never by itself; `doubt`; `nobody_at`, when Kommo last said
    that nobody has the number, and `asked`, how often; `declined`, that a person declined the incoming lead
    on which the entry stood; `attempts`, the failed tries since the last success.

    `lead` is the incoming lead that the entry stands on, else the newest of the call's number, whichever
    call it was made for.
    """

    key: CallKey
    facts: Facts = NO_FACTS
    legs: tuple[Leg, ...] = ()
    heard_at: float | None = None
    arrived_at: float
    widget: Widget = NO_WIDGET
    result: Result | None = None
    recording: Recording = NO_RECORDING
    appeared_at: float | None = None
    part_of: str | None = None
    entry: Entry | None = None
    leaving: Entry | None = None
    task_id: int | None = None
    shaky_until: float | None = None
    state: CallState = CallState.PENDING
    revision: int = 1
    written_revision: int = 0
    attribution: Attribution | None = None
    due_at: float | None = None
    attempts: int = 0
    doubt: Doubt | None = None
    nobody_at: float | None = None
    asked: int = 0
    declined: bool = False
    last_error: str | None = None
    lease: Lease | None = None
    lead: IncomingLead | None = None

    @property
    def known(self) -> Facts:
        """All that is known of the call: as the VoIP service says, else as the widget does."""
        told, seen = self.facts, self.widget.facts
        return Facts(
            direction=told.direction or seen.direction,
            phone=seen.phone if told.phone is None else told.phone,
            person=seen.person if told.person is None else told.person,
            started_at=seen.started_at if told.started_at is None else told.started_at,
            outcome=told.outcome or seen.outcome,
        )

    @property
    def started_at(self) -> float:
        """Unix seconds of the call's start: as it was told, else when we first heard of it."""
        started_at = self.known.started_at
        return self.arrived_at if started_at is None else started_at

    @property
    def ended_at(self) -> float:
        """Unix seconds of the call's end."""
        outcome = self.known.outcome
        return self.started_at + (outcome.duration if outcome else 0)

    @property
    def chosen(self) -> EntityRef | None:
        """The entity that the manager chose."""
        return None if self.result is None else self.result.entity
