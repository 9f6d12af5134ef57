"""What the use cases need of the world outside: each port is small and speaks the domain's words."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from calllogd.domain.call import (
    Attribution,
    Call,
    CallKey,
    CallState,
    EntityRef,
    Entry,
    IncomingLead,
    LeadState,
)
from calllogd.domain.merge import CallEvent
from calllogd.errors import AccountPaused, KommoError

Before = Callable[[], Awaitable[None]]
"""Awaited when it is a request's turn, right before it leaves; what it raises keeps it from leaving."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An authentic message as it came: kept whole in the journal."""

    event: CallEvent
    who: str
    what: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a message: the call's state, and whether it said nothing new, or was the first.

    `rev` is that of the call result that counts now, None if there is none. `change` is a call that was
    known already, before and after the message changed it.
    """

    state: CallState
    duplicate: bool
    new: bool
    rev: int | None = None
    change: tuple[Call, Call] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A line of the journal: what was done about a call, and what came of it.

    `answered` tells that Kommo carried out a request for the account, which ends a pause of it.
    """

    what: str
    outcome: str
    request_id: str | None = None
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Kommo's word on a request: the entry or task it made or found, and Kommo's id of the request."""

    entry: Entry | None
    request_id: str | None = None
    task_id: int | None = None


@dataclass(frozen=True, slots=True)
class JournalLine:
    """A line of a call's story, as `calllogd show` tells it."""

    at: float
    who: str
    what: str
    outcome: str
    request_id: str | None
    times: int
    last_at: float
    body: str | None


@dataclass(frozen=True, slots=True)
class Pause:
    """An account that Kommo does not serve now: since when, why, and when it is tried again."""

    account_id: int
    code: str
    reason: str
    since: float
    probe_at: float


class AccountState(StrEnum):
    """How an account stands with Kommo."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"
    """The integration was removed from it."""

    UNKNOWN = "unknown"
    """It has calls, but is neither configured nor installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How an account stands: `reason` is what a person should know, None when there is nothing.

    `token_until`: Unix seconds at which Kommo stops serving it unless a person acts; None while its tokens
    are renewed by themselves, or when it is not known.
    """

    account_id: int
    name: str
    state: AccountState
    reason: str | None = None
    token_until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts of the ledger at one moment; `oldest_due_at` is Unix seconds, None when nothing is due."""

    states: dict[CallState, int] = field(default_factory=dict)
    queued: int = 0
    due: int = 0
    oldest_due_at: float | None = None


class Unmapped(NamedTuple):
    """An extension that nobody has, and how many calls of the last time named it and are nobody's."""

    account_id: int
    extension: str
    calls: int


class NobodysCalls(Protocol):
    """The calls of the ledger that are nobody's, because nobody had their extension."""

    async def attribute(
        self,
        account_id: int,
        extensions: Collection[str],
        *,
        since: float,
        now: float,
        after: int,
        limit: int,
    ) -> int | None:
        """Make such logged calls due that have one of these extensions now, and were heard of after `since`.

        A round begins with `after` 0, and goes on with what was returned; None ends it. Only so many are made
        due that at most `limit` amendments of the account are. Idempotent: whatever is not written into its
        note yet is not counted twice. Raises StorageError.
        """
        ...


class FilePlace(NamedTuple):
    """How far a file has been read: the digest `head` of its first `head_bytes` tells it from others."""

    inode: int
    offset: int
    head_bytes: int
    head: bytes


class Clock(Protocol):
    """The time."""

    def now(self) -> float:
        """Return Unix seconds, UTC."""
        ...


class VoipCalls(Protocol):
    """The ledger of calls."""

    async def get(self, key: CallKey) -> Call | None:
        """Return the call with this id in this Kommo account (the guide's getByCallIdAndKommoAccountId)."""
        ...

    async def accept(self, message: Message, now: float) -> Accepted:
        """Fold a message into its call and ring for it; on disk when this returns.

        Idempotent: the same message again changes nothing but its count in the journal.
        """
        ...

    async def claim(self, key: CallKey, now: float, lease_s: float) -> Call | None:
        """Return the call, held for `lease_s`; None if it is not due, held, or its account is paused.

        Among any number of callers, in any number of processes, one gets the call.
        """
        ...

    async def save(self, call: Call, now: float, lease_s: float, note: Note | None = None) -> Call:
        """Write what the holder of a call did with it, extend the lease, and return the call as it is now.

        What was reported of the call is not written: that is the reporters' to change, also meanwhile. What
        became of `lead` is written for all calls of the number. Raises LeaseLost when the call is held no
        longer, and NumberTaken when it is about to create an incoming lead while another call of the number
        is, or has made one; then nothing is written.
        """
        ...

    async def release(self, call: Call, now: float, note: Note | None = None) -> Call | None:
        """Write like `save` and give the call back; when news came meanwhile it stays held and is returned.

        Raises LeaseLost like `save`.
        """
        ...

    async def claim_many(self, keys: Sequence[CallKey], now: float, lease_s: float) -> Sequence[Call]:
        """Return those of the calls that `claim` would, all with one write."""
        ...

    async def save_many(self, calls: Sequence[Call], now: float, lease_s: float) -> Sequence[Call]:
        """Write like `save`, all with one write or none: raises LeaseLost if one is held no longer."""
        ...

    async def release_many(self, worked: Sequence[tuple[Call, Note]], now: float) -> Sequence[Call]:
        """Write like `release`, all with one write; return those that stay held.

        A call that is held no longer is left out: whoever holds it goes on from its doubt.
        """
        ...

    async def close_lead(self, call: Call, now: float) -> bool:
        """Mark the incoming lead that the call is leaving as declined, unless other calls stand on it.

        Returns whether it may be declined in Kommo. From then on no call is put on it. Idempotent.
        """
        ...

    async def pause(self, account_id: int, cause: AccountPaused, now: float) -> Pause:
        """Hold back an account's calls until a time that grows with each pause in a row."""
        ...

    async def due(self, account_id: int | None, now: float, limit: int) -> Sequence[CallKey]:
        """Return up to `limit` calls that are due and that nobody holds.

        First those that are to become incoming leads, then other new entries, then amendments; of each kind
        the longest waiting. With None for the account: of all, no account taking more than its share.
        """
        ...


class Crm(Protocol):
    """Kommo, for the account that a call's key names.

    All methods that ask Kommo raise the errors under KommoError; none repeats a creating request by itself.
    """

    def attribution(self, call: Call) -> Attribution | None:
        """Return whose call Kommo would be told that it is, were it told now; None: nobody's."""
        ...

    async def log_call(self, call: Call, before: Before) -> Answer:
        """Create the call where Kommo's own algorithm puts it.

        Not idempotent. Raises NobodyHasNumber when no contact and no company has the number.
        """
        ...

    async def log_calls(self, calls: Sequence[Call], before: Before) -> Mapping[CallKey, Answer | KommoError]:
        """Create calls of one account with one request; return what became of each.

        Not idempotent. Raises what concerns them all.
        """
        ...

    async def create_incoming_lead(self, call: Call, before: Before) -> Answer:
        """Create an incoming lead with the number, its call note included. Not idempotent."""
        ...

    async def add_note(self, call: Call, on: EntityRef, before: Before) -> Answer:
        """Create the call's note on an entity. Not idempotent."""
        ...

    async def add_task(self, call: Call, on: EntityRef, before: Before) -> Answer:
        """Create the task of the call's result on an entity. Not idempotent."""
        ...

    async def find(self, call: Call, since: float) -> Answer:
        """Return the entry with the call's id made after Unix second `since`, if there is one."""
        ...

    async def find_note(self, call: Call, on: EntityRef) -> Answer:
        """Return the call's entry on an entity, if there is one."""
        ...

    async def find_task(self, call: Call, on: EntityRef) -> Answer:
        """Return the task of the call's result on an entity, if there is one."""
        ...

    async def amend(self, call: Call, before: Before) -> Answer:
        """Write the call as it is known now into its entry's note, and return the entry.

        Idempotent, but `before` is awaited all the same: what is known now must not overwrite what another
        worker has learnt meanwhile.
        """
        ...

    async def neutralise(self, call: Call, left: Entry) -> Answer:
        """Empty the note of an entry that the call has left, and let it say where to. Idempotent."""
        ...

    async def check_lead(self, call: Call, lead: IncomingLead) -> LeadState:
        """Return what has become of an incoming lead."""
        ...

    async def decline(self, call: Call, lead_uid: str) -> Answer:
        """Decline an incoming lead. Idempotent; raises PermanentError when it is open no longer."""
        ...

    async def hand_over(self, call: Call, contact_id: int | None, to: EntityRef) -> None:
        """Give the caller's number to a contact or company, or link his contact to a lead. Idempotent."""
        ...


class Recordings(Protocol):
    """The files of recordings."""

    async def delete(self, key: CallKey) -> None:
        """Delete the call's recording, if there is one; raises StorageError."""
        ...
