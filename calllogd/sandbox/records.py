"""What an account holds: cards (leads, contacts, companies), notes, incoming leads, tasks, users."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

STATUS_WON: Final = 142
STATUS_LOST: Final = 143
CLOSED: Final = frozenset({STATUS_WON, STATUS_LOST})

CALL_NOTE_TYPES: Final = frozenset({"call_in", "call_out"})


class EntityType(StrEnum):
    """Kinds of cards, in the plural as they stand in paths."""

    LEADS = "leads"
    CONTACTS = "contacts"
    COMPANIES = "companies"

    @property
    def singular(self) -> str:
        """The word that the answer of `POST calls` uses for the same kind."""
        return {"leads": "lead", "contacts": "contact", "companies": "company"}[self.value]


class EntityRef(NamedTuple):
    """Identity of a card inside its account; ids are unique within one kind only."""

    kind: EntityType
    id: int


@dataclass(frozen=True, slots=True)
class Indexed:
    """A text and since when it is as it is; the search knows it `search_lag` seconds later."""

    text: str
    since: float


@dataclass(slots=True, kw_only=True)
class Card:
    """A contact or a company."""

    ref: EntityRef
    name: Indexed
    phones: tuple[Indexed, ...] = ()
    created_at: int
    updated_at: int
    created_by: int
    responsible_user_id: int
    shown_at: float | None
    """Since when people see it; None while it hides in an incoming lead nobody has accepted."""
    deleted: bool = False

    @property
    def id(self) -> int:
        """The number that Kommo gave it."""
        return self.ref.id

    @property
    def hidden(self) -> bool:
        """It belongs to an incoming lead that nobody has accepted yet."""
        return self.shown_at is None

    @property
    def numbers(self) -> list[str]:
        """Its phone numbers as they were written."""
        return [phone.text for phone in self.phones]


@dataclass(slots=True, kw_only=True)
class Lead(Card):
    """A lead: a card that stands on a stage of a pipeline."""

    status_id: int
    pipeline_id: int
    staged_at: float

    @property
    def closed(self) -> bool:
        """It was won or lost."""
        return self.status_id in CLOSED


@dataclass(slots=True, kw_only=True)
class Note:
    """A note on a card; `created_at` is the client's claim, `written_at` and `updated_at` are the truth."""

    id: int
    on: EntityRef
    note_type: str
    params: dict[str, Any]
    created_at: int
    updated_at: int
    written_at: float
    created_by: int
    responsible_user_id: int


class Deed(StrEnum):
    """What those who watch an account are told of."""

    ADDED = "added"
    """A contact or company is there, for everybody to see."""
    CHANGED = "changed"
    """Such a one has another name, other numbers or another owner."""
    ACCEPTED = "accepted"
    """An incoming lead became an ordinary one."""
    DECLINED = "declined"
    """An incoming lead went to the bin."""


class IncomingState(StrEnum):
    """What became of an incoming lead."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DECLINED = "declined"


@dataclass(slots=True, kw_only=True)
class IncomingLead:
    """An unsorted lead of category sip, with the cards and the call note that were made with it."""

    uid: str
    source_uid: str
    source_name: str
    pipeline_id: int
    metadata: dict[str, Any]
    created_at: int
    written_at: float
    lead_id: int
    contact_id: int | None
    company_id: int | None
    note_id: int | None
    state: IncomingState = IncomingState.OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A thing to do, on a card or on none."""

    id: int
    text: str
    complete_till: int
    on: EntityRef | None
    task_type_id: int
    responsible_user_id: int
    created_at: int
    updated_at: int
    written_at: float


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who works in the account."""

    id: int
    name: str
    email: str
    is_admin: bool = False
    is_active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryView:
    """One entry of a call: a call note, or an incoming lead together with the note made with it."""

    entity_type: str
    entity_id: int
    note_id: int | None
    lead_uid: str | None
    params: dict[str, Any] = field(hash=False)
    hidden: bool
    """The entry stands in an incoming lead that nobody has accepted yet."""
    created_at: int
