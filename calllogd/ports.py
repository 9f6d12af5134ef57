"""What the use cases need of the world outside: each port is small and speaks the domain's words."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from calllogd.domain.call import Call, CallKey, CallState, Entry
from calllogd.domain.merge import CallEvent
from calllogd.errors import AccountPaused

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
    """What became of a message: the call's state, and whether it said nothing new, or was the first."""

    state: CallState
    duplicate: bool
    new: bool


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
    """Kommo's word on a request: the entry it made or found, and Kommo's id of the request."""

    entry: Entry | None
    request_id: str | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts of the ledger at one moment; `oldest_due_at` is Unix seconds, None when nothing is due."""

    states: dict[CallState, int] = field(default_factory=dict)
    queued: int = 0
    due: int = 0
    oldest_due_at: float | None = None


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

        Facts and revision are not written: they are those who report the call's to change, also meanwhile.
        Raises LeaseLost when the call is held no longer; then nothing is written.
        """
        ...

    async def release(self, call: Call, now: float, note: Note | None = None) -> Call | None:
        """Write like `save` and give the call back; when news came meanwhile it stays held and is returned.

        Raises LeaseLost like `save`.
        """
        ...

    async def pause(self, account_id: int, cause: AccountPaused, now: float) -> Pause:
        """Hold back an account's calls until a time that grows with each pause in a row."""
        ...

    async def due(self, account_id: int | None, now: float, limit: int) -> Sequence[CallKey]:
        """Return up to `limit` calls that are due and that nobody holds, the longest waiting first.

        With None for the account: of all accounts, no account taking more than its share of `limit`.
        """
        ...


class Crm(Protocol):
    """Kommo, for the account that a call's key names.

    All methods raise the errors under KommoError; none repeats a creating request by itself.
    """

    async def log_call(self, call: Call, before: Before) -> Answer:
        """Create the call where Kommo's own algorithm puts it.

        Not idempotent. Raises NobodyHasNumber when no contact and no company has the number.
        """
        ...

    async def create_incoming_lead(self, call: Call, before: Before) -> Answer:
        """Create an incoming lead with the number, its call note included. Not idempotent."""
        ...

    async def find(self, call: Call, since: float) -> Answer:
        """Return the entry with the call's id made after Unix second `since`, if there is one."""
        ...

    async def amend(self, call: Call) -> Answer:
        """Write the call as it is known now into its entry's note, and return the entry. Idempotent."""
        ...
