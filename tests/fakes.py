"""Stand-ins for the world outside, with a script of mishaps, and examples of what VoIP services say."""

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from calllogd.domain.call import (
    Attribution,
    Call,
    CallKey,
    CallStatus,
    Direction,
    EntityRef,
    EntityType,
    Entry,
    Facts,
    IncomingLead,
    LeadState,
    Outcome,
    Person,
    Recording,
)
from calllogd.domain.merge import CallEvent
from calllogd.domain.user import attribution_of
from calllogd.errors import Gone, KommoError, NobodyHasNumber
from calllogd.ports import Answer, Before, Clock, Crm, Message, Recordings
from calllogd.voip.usecase.save_call_event import UnreadMessages
from calllogd.voip.webhook import Webhook

ACCOUNT = 31337
START = 1_760_000_000.0


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: float = START) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Mishap:
    """What goes wrong with one request: `committed` tells that Kommo carried it out all the same.

    `unsent`: it fails before it is its turn. `hang`: it is never answered.
    """

    error: Exception | None = None
    committed: bool = False
    unsent: bool = False
    hang: bool = False


class ScriptedCrm:
    """Kommo in memory: what stands in it, who has which number, and a script of mishaps for each verb."""

    def __init__(self) -> None:
        self.known = True
        """Whether somebody has the calls' number."""
        self.standing: list[tuple[CallKey, Entry]] = []
        """Every entry that stands; two of one key are a duplicate."""
        self.strangers: set[CallKey] = set()
        """Calls whose number nobody has, whatever `known` says; for batches."""
        self.leads: dict[str, LeadState] = {}
        """What people did with incoming leads; all others are open."""
        self.tasks: list[tuple[EntityRef, int]] = []
        self.handed_over: list[tuple[int | None, EntityRef]] = []
        self.script: defaultdict[str, deque[Mishap]] = defaultdict(deque)
        self.asked: list[str] = []
        """Verbs in the order in which they were called, whether or not they were sent."""
        self.sent: list[str] = []
        self.amended: list[Call] = []
        self.searched_since: list[float] = []
        self.extensions: Mapping[str, int] = {}
        self.on_sent: Callable[[Call], Awaitable[None]] | None = None
        """Awaited at the moment at which a request has left."""
        self.on_turn: Callable[[], Awaitable[None]] | None = None
        """Awaited while a creating request waits for its turn."""
        self._ids = itertools.count(1000)

    def next(self, verb: str, *mishaps: Mishap) -> None:
        """Let these mishaps happen to the next requests of a verb."""
        self.script[verb].extend(mishaps)

    def attribution(self, call: Call) -> Attribution | None:
        return attribution_of(call, self.extensions)

    def entries(self, key: CallKey) -> list[Entry]:
        return [entry for known, entry in self.standing if known == key]

    async def log_call(self, call: Call, before: Before) -> Answer:
        def entry() -> Entry:
            if not self.known:
                raise NobodyHasNumber("nobody has the number", request_id="r-263")
            return Entry(entity_type=EntityType.CONTACTS, entity_id=7, note_id=next(self._ids))

        return await self._create("log_call", call, before, entry)

    async def create_incoming_lead(self, call: Call, before: Before) -> Answer:
        def entry() -> Entry:
            number = next(self._ids)
            return Entry(
                entity_type=EntityType.LEADS, entity_id=number, lead_uid=f"uid-{number}", contact_id=number
            )

        return await self._create("create_incoming_lead", call, before, entry)

    async def log_calls(self, calls: Sequence[Call], before: Before) -> Mapping[CallKey, Answer | KommoError]:
        mishap = self._mishap("log_calls")
        self.asked.append("log_calls")
        await before()
        await self._left("log_calls", calls[0])
        became: dict[CallKey, Answer | KommoError] = {}
        for call in calls:
            if mishap.error is not None and not mishap.committed:
                break
            if not self.known or call.key in self.strangers:
                became[call.key] = NobodyHasNumber("nobody has the number", request_id="r-263")
                continue
            entry = Entry(entity_type=EntityType.CONTACTS, entity_id=7, note_id=next(self._ids))
            self.standing.append((call.key, entry))
            became[call.key] = Answer(entry, "r-log_calls")
        await self._end(mishap)
        return became

    async def add_note(self, call: Call, on: EntityRef, before: Before) -> Answer:
        def entry() -> Entry:
            return Entry(entity_type=on.kind, entity_id=on.id, note_id=next(self._ids))

        return await self._create("add_note", call, before, entry)

    async def add_task(self, call: Call, on: EntityRef, before: Before) -> Answer:
        mishap = self._mishap("add_task")
        self.asked.append("add_task")
        await before()
        await self._left("add_task", call)
        if mishap.error is None or mishap.committed:
            self.tasks.append((on, next(self._ids)))
        await self._end(mishap)
        return Answer(None, "r-add_task", task_id=self.tasks[-1][1])

    async def find(self, call: Call, since: float) -> Answer:
        self.searched_since.append(since)
        await self._meet("find", call)
        return Answer(next(iter(self.entries(call.key)), None), "r-find")

    async def find_note(self, call: Call, on: EntityRef) -> Answer:
        await self._meet("find_note", call)
        on_it = (entry for entry in self.entries(call.key) if entry.entity == on)
        return Answer(next(on_it, None), "r-find_note")

    async def find_task(self, call: Call, on: EntityRef) -> Answer:
        await self._meet("find_task", call)
        on_it = (number for place, number in self.tasks if place == on)
        return Answer(None, "r-find_task", task_id=next(on_it, None))

    async def amend(self, call: Call, before: Before) -> Answer:
        await before()
        await self._meet("amend", call)
        assert call.entry is not None
        self.amended.append(call)
        return Answer(replace(call.entry, note_id=call.entry.note_id or next(self._ids)), "r-amend")

    async def neutralise(self, call: Call, left: Entry) -> Answer:
        await self._meet("neutralise", call)
        self._remove(call.key, left.entity)
        return Answer(left, "r-neutralise")

    async def check_lead(self, call: Call, lead: IncomingLead) -> LeadState:
        await self._meet("check_lead", call)
        return self.leads.get(lead.uid, LeadState.OPEN)

    async def decline(self, call: Call, lead_uid: str) -> Answer:
        await self._meet("decline", call)
        if self.leads.get(lead_uid, LeadState.OPEN) is not LeadState.OPEN:
            raise Gone("no such incoming lead is open")
        self.leads[lead_uid] = LeadState.DECLINED
        self.standing = [one for one in self.standing if f"uid-{one[1].entity_id}" != lead_uid]
        return Answer(None, "r-decline")

    async def hand_over(self, call: Call, contact_id: int | None, to: EntityRef) -> None:
        await self._meet("hand_over", call)
        self.handed_over.append((contact_id, to))

    def _remove(self, key: CallKey, on: EntityRef) -> None:
        self.standing = [one for one in self.standing if one[0] != key or one[1].entity != on]

    async def _create(self, verb: str, call: Call, before: Before, entry: Callable[[], Entry]) -> Answer:
        mishap = self._mishap(verb)
        self.asked.append(verb)
        if mishap.unsent and mishap.error is not None:
            raise mishap.error
        if self.on_turn is not None:
            await self.on_turn()
        await before()
        await self._left(verb, call)
        made: Entry | None = None
        if mishap.error is None or mishap.committed:
            made = entry()
            self.standing.append((call.key, made))
        await self._end(mishap)
        return Answer(made, f"r-{verb}")

    async def _meet(self, verb: str, call: Call) -> None:
        mishap = self._mishap(verb)
        self.asked.append(verb)
        await self._left(verb, call)
        await self._end(mishap)

    async def _left(self, verb: str, call: Call) -> None:
        self.sent.append(verb)
        if self.on_sent is not None:
            await self.on_sent(call)

    def _mishap(self, verb: str) -> Mishap:
        script = self.script[verb]
        return script.popleft() if script else Mishap()

    async def _end(self, mishap: Mishap) -> None:
        if mishap.hang:
            await asyncio.Event().wait()
        if mishap.error is not None:
            raise mishap.error


class NoRecordings:
    """A folder in which nothing is; tells whose recordings were to be deleted."""

    def __init__(self) -> None:
        self.deleted: list[CallKey] = []

    async def delete(self, key: CallKey) -> None:
        self.deleted.append(key)


_CLOCK: Clock = ManualClock()
_CRM: Crm = ScriptedCrm()
_RECORDINGS: Recordings = NoRecordings()
"""Assigned so that mypy tells when a stand-in and its port drift apart."""


def link_of(key: CallKey) -> str:
    """Return where a call's recording can be played."""
    return f"https://calls.example.com/recordings/{key.call_id}"


def failing(error: KommoError, *, committed: bool = False, unsent: bool = False) -> Mishap:
    """Return the mishap of a request that ends with this error."""
    return Mishap(error=error, committed=committed, unsent=unsent)


def ended(
    call_id: str = "c1",
    *,
    account_id: int = ACCOUNT,
    direction: Direction = Direction.INBOUND,
    phone: str = "+1 212 555 0123",
    status: CallStatus = CallStatus.ANSWERED,
    duration: int = 42,
    started_at: float | None = START - 60,
    person: Person | None = None,
    recording: Recording | None = None,
) -> CallEvent:
    """Return the news that a call has ended."""
    return CallEvent(
        key=CallKey(account_id, call_id),
        facts=Facts(
            direction=direction,
            phone=phone,
            person=person,
            started_at=started_at,
            outcome=Outcome(status, duration),
        ),
        recording=recording or Recording(),
    )


def begun(call_id: str = "c1", *, account_id: int = ACCOUNT, phone: str = "+1 212 555 0123") -> CallEvent:
    """Return the news that a call has begun."""
    return CallEvent(
        key=CallKey(account_id, call_id),
        facts=Facts(direction=Direction.INBOUND, phone=phone, started_at=START - 60),
    )


def told(event: CallEvent, body: bytes | None = None, *, what: str = "call.ended") -> Message:
    """Return the message that brings an event; without a body one that is the event's own."""
    return Message(
        event=event, who="voip:generic", what=what, body=repr(event).encode() if body is None else body
    )


class FakeUnread:
    """Keeps messages that are not understood in memory; implements `UnreadMessages`."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, str, Webhook, str]] = []

    async def keep(self, account_id: int, name: str, webhook: Webhook, reason: str, now: float) -> None:
        self.kept.append((account_id, name, webhook, reason))


_UNREAD: UnreadMessages = FakeUnread()
