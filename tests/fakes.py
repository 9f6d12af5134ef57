"""Stand-ins for the world outside, with a script of mishaps, and examples of what VoIP services say."""

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from calllogd.domain.call import (
    Call,
    CallKey,
    CallStatus,
    Direction,
    EntityType,
    Entry,
    Facts,
    Outcome,
    Person,
    Recording,
)
from calllogd.domain.merge import CallEvent
from calllogd.errors import KommoError, NobodyHasNumber
from calllogd.ports import Answer, Before, Clock, Crm, Message

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
        """Every entry that was ever made; two of one key are a duplicate."""
        self.script: defaultdict[str, deque[Mishap]] = defaultdict(deque)
        self.asked: list[str] = []
        """Verbs in the order in which they were called, whether or not they were sent."""
        self.sent: list[str] = []
        self.amended: list[Call] = []
        self.searched_since: list[float] = []
        self.on_sent: Callable[[Call], Awaitable[None]] | None = None
        """Awaited at the moment at which a request has left."""
        self.on_turn: Callable[[], Awaitable[None]] | None = None
        """Awaited while a creating request waits for its turn."""
        self._ids = itertools.count(1000)

    def next(self, verb: str, *mishaps: Mishap) -> None:
        """Let these mishaps happen to the next requests of a verb."""
        self.script[verb].extend(mishaps)

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

    async def find(self, call: Call, since: float) -> Answer:
        self.searched_since.append(since)
        await self._meet("find", call)
        return Answer(next(iter(self.entries(call.key)), None), "r-find")

    async def amend(self, call: Call) -> Answer:
        await self._meet("amend", call)
        assert call.entry is not None
        self.amended.append(call)
        return Answer(replace(call.entry, note_id=call.entry.note_id or next(self._ids)), "r-amend")

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


_CLOCK: Clock = ManualClock()
_CRM: Crm = ScriptedCrm()
"""Assigned so that mypy tells when a stand-in and its port drift apart."""


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


def begun(call_id: str = "c1", *, account_id: int = ACCOUNT) -> CallEvent:
    """Return the news that a call has begun."""
    return CallEvent(
        key=CallKey(account_id, call_id),
        facts=Facts(direction=Direction.INBOUND, phone="+1 212 555 0123", started_at=START - 60),
    )


def told(event: CallEvent, body: bytes | None = None, *, what: str = "call.ended") -> Message:
    """Return the message that brings an event; without a body one that is the event's own."""
    return Message(
        event=event, who="voip:generic", what=what, body=repr(event).encode() if body is None else body
    )
