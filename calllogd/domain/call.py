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


class Person(NamedTuple):
    """Who of the company a message names; a message later in the call has the larger `weight`."""

    weight: int
    extension: str = ""
    user_id: int = 0


class Outcome(NamedTuple):
    """How a call ended: `duration` is talk, in seconds, 0 when nobody answered."""

    status: CallStatus
    duration: int


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The sound of a call: where the VoIP service keeps it, and how far we are with it."""

    state: RecordingState = RecordingState.NONE
    url: str | None = None


NO_RECORDING = Recording()
"""Nothing is known of a recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What stands in Kommo for a call: a call note on an entity, or an incoming lead with its call note.

    For an incoming lead `entity_type` is leads, `lead_uid` its uid, `contact_id` its hidden contact, and
    `note_id` is None: Kommo does not say which note it made.
    """

    entity_type: EntityType
    entity_id: int
    note_id: int | None = None
    lead_uid: str | None = None
    contact_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A creating request whose answer is not on disk.

    `over_at` is the latest moment at which the request can still have been under way on our side: the
    instant its answer was lost or, until that is known, the end of the lease. `looked_at` is when
    Kommo was last searched for its effect, None: never. Both Unix seconds. `revision` is what it carried.
    """

    intent: Intent
    over_at: float
    revision: int
    looked_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one worker to work on a call, until Unix second `until`."""

    token: str
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One row of the ledger.

    `arrived_at` is when the first message about the call came. `revision` grows with every change of what
    should stand in Kommo, `written_revision` is the one that does. `due_at` is when the call is to be
    looked at next, None: never by itself. `nobody_at` is when Kommo last said that nobody has the number,
    `asked` how often it has said so. `attempts` counts failed tries since the last success.
    """

    key: CallKey
    facts: Facts
    arrived_at: float
    recording: Recording = NO_RECORDING
    entry: Entry | None = None
    state: CallState = CallState.PENDING
    revision: int = 1
    written_revision: int = 0
    due_at: float | None = None
    attempts: int = 0
    doubt: Doubt | None = None
    nobody_at: float | None = None
    asked: int = 0
    last_error: str | None = None
    lease: Lease | None = None

    @property
    def started_at(self) -> float:
        """Unix seconds of the call's start: as the VoIP service says, else when we first heard of it."""
        return self.arrived_at if self.facts.started_at is None else self.facts.started_at

    @property
    def ended_at(self) -> float:
        """Unix seconds of the call's end."""
        return self.started_at + (self.facts.outcome.duration if self.facts.outcome else 0)
