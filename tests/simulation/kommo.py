"""Kommo as the calls see it: who has which number, incoming leads, call notes, tasks. No time passes in here.

Lists are behind: what was made shows in them from `shows_at` on, a number is found from `found_at` on.
Whatever must never be in Kommo, not for a moment, is noticed when it is made.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from calllogd.domain.call import (
    Call,
    CallKey,
    CallStatus,
    Direction,
    EntityRef,
    EntityType,
    Entry,
    LeadState,
    RecordingState,
    Todo,
)
from calllogd.domain.phone import matched
from calllogd.errors import Gone, NobodyHasNumber, PermanentError
from calllogd.ports import Answer

REGION = "AU"
"""Where national numbers are read: in Australia their last ten digits are others than abroad."""

NOWHERE = EntityRef(EntityType.LEADS, 404)
"""An entity that is not there."""


class Content(NamedTuple):
    """What a call note says."""

    direction: Direction | None
    number: str
    duration: int
    status: int | None
    text: str
    linked: bool
    user_id: int | None


EMPTY = Content(None, "", 0, None, "moved", linked=False, user_id=None)
"""What a note says that the call has been moved from."""


class Broken(Exception):
    """A promise does not hold."""


@dataclass(slots=True)
class CallNote:
    """A call note; `lead` is the incoming lead that it stands on."""

    id: int
    key: CallKey
    on: EntityRef
    content: Content
    shows_at: float
    lead: "Unsorted | None" = None
    moved: bool = False

    @property
    def stands(self) -> bool:
        """Whether people see the call here: it was not moved, and is not in the bin."""
        return not self.moved and (self.lead is None or self.lead.state is not LeadState.DECLINED)


@dataclass(slots=True)
class Unsorted:
    """An incoming lead; `told`: calllogd was told what had become of it, `closing`: it is declining it."""

    uid: str
    key: CallKey
    number: str
    lead_id: int
    contact_id: int
    made_at: float
    shows_at: float
    state: LeadState = LeadState.OPEN
    sorted_at: float | None = None
    by_person: bool = False
    told: bool = False
    closing: bool = False
    linked: bool = False

    @property
    def lead(self) -> EntityRef:
        """The lead that stands in the pipeline once this is accepted."""
        return EntityRef(EntityType.LEADS, self.lead_id)


class Holder(NamedTuple):
    """Where Kommo puts the calls of a number, from the second on from which its search finds the number."""

    on: EntityRef
    found_at: float


@dataclass(slots=True)
class TaskOnCard:
    """A task that a manager wanted."""

    id: int
    key: CallKey
    on: EntityRef
    text: str
    till: int
    shows_at: float


@dataclass(slots=True)
class Kommo:
    """One account. `note_on_contact`: where an incoming lead's call note stands is not documented."""

    note_on_contact: bool = False
    bin_refuses: bool = True
    holders: dict[str, list[Holder]] = field(default_factory=dict)
    unsorted: dict[str, Unsorted] = field(default_factory=dict)
    notes: list[CallNote] = field(default_factory=list)
    tasks: list[TaskOnCard] = field(default_factory=list)
    on_made: Callable[[Unsorted], None] = lambda made: None
    on_sorted: Callable[[Unsorted, LeadState], None] = lambda lead, state: None
    ids: int = 1000

    def next_id(self) -> int:
        self.ids += 1
        return self.ids

    def holder(self, number: str, now: float) -> EntityRef | None:
        """Return where Kommo's own algorithm puts calls of a number now."""
        for holder in self.holders.get(number, ()):
            if holder.found_at <= now:
                return holder.on
        return None

    def hold(self, number: str, on: EntityRef, found_at: float) -> None:
        """Let somebody have a number."""
        known = self.holders.setdefault(number, [])
        if all(holder.on != on for holder in known):
            known.append(Holder(on, found_at))

    def standing(self, key: CallKey) -> list[CallNote]:
        """Return the notes on which people see a call."""
        return [note for note in self.notes if note.key == key and note.stands]

    def log_call(self, call: Call, now: float, shows_at: float) -> Answer:
        on = self.holder(number_of(call), now)
        if on is None:
            raise NobodyHasNumber("nobody has the number")
        return self._note(call, on, self._unsorted_at(on), shows_at)

    def create_incoming_lead(self, call: Call, now: float, shows_at: float) -> Answer:
        number = number_of(call)
        made = Unsorted(
            uid=f"uid-{self.next_id()}",
            key=call.key,
            number=number,
            lead_id=self.ids,
            contact_id=self.next_id(),
            made_at=now,
            shows_at=shows_at,
        )
        for other in self.unsorted.values():
            if other.number == number and other.state is LeadState.OPEN and not other.closing:
                raise Broken(f"P4: {made.uid} is made for {call.key.call_id} while {other.uid} is open")
            if other.number == number and other.state is LeadState.ACCEPTED and other.told:
                raise Broken(f"P4: {made.uid} is made for {call.key.call_id}, {other.uid} was accepted")
        if call.known.direction is not Direction.INBOUND:
            raise Broken(f"P4: an incoming lead is made for the outbound {call.key.call_id}")
        self.unsorted[made.uid] = made
        on = EntityRef(EntityType.CONTACTS, made.contact_id) if self.note_on_contact else made.lead
        self._note(call, on, made, shows_at, result=False)
        self.on_made(made)
        return Answer(self._entry(made))

    def add_note(self, call: Call, on: EntityRef, shows_at: float) -> Answer:
        lead = self._unsorted_at(on)
        if on == NOWHERE or (lead is not None and lead.state is LeadState.DECLINED and self.bin_refuses):
            raise Gone("the entity is not there")
        return self._note(call, on, lead, shows_at)

    def add_task(self, call: Call, on: EntityRef, shows_at: float) -> Answer:
        todo = _todo(call)
        lead = self._unsorted_at(on)
        if on == NOWHERE or (lead is not None and lead.state is LeadState.DECLINED):
            raise Gone("the entity is not there")
        if any(task.key == call.key for task in self.tasks):
            raise Broken(f"P1: a second task of {call.key.call_id}")
        made = TaskOnCard(self.next_id(), call.key, on, todo.text, todo.complete_till, shows_at)
        self.tasks.append(made)
        return Answer(call.entry, task_id=made.id)

    def find(self, call: Call, now: float) -> Answer:
        for lead in self.unsorted.values():
            if lead.key == call.key and lead.state is LeadState.OPEN and lead.shows_at <= now:
                return Answer(self._entry(lead))
        for note in self._listed(call, now):
            return Answer(Entry(entity_type=note.on.kind, entity_id=note.on.id, note_id=note.id))
        return Answer(None)

    def find_note(self, call: Call, on: EntityRef, now: float) -> Answer:
        for note in self._listed(call, now):
            if note.on == on:
                return Answer(Entry(entity_type=on.kind, entity_id=on.id, note_id=note.id))
        return Answer(None)

    def find_task(self, call: Call, on: EntityRef, now: float) -> Answer:
        todo = _todo(call)
        for task in self.tasks:
            if task.on == on and (task.text, task.till) == todo and task.shows_at <= now:
                return Answer(call.entry, task_id=task.id)
        return Answer(None)

    def amend(self, call: Call, now: float) -> Answer:
        entry = call.entry
        assert entry is not None
        note = self._note_of(call, entry, now)
        if note is None or not note.stands:
            raise PermanentError("the note is not there")
        content = content_of(call)
        if note.content.user_id not in (None, content.user_id):
            raise Broken(
                f"{call.key.call_id} was user {note.content.user_id}'s, and becomes {content.user_id}'s"
            )
        note.content = content
        kind, number = note.on
        found = Entry(
            entity_type=kind,
            entity_id=number,
            note_id=note.id,
            lead_uid=entry.lead_uid,
            contact_id=entry.contact_id,
        )
        return Answer(found)

    def neutralise(self, call: Call, left: Entry, now: float) -> Answer:
        note = self._note_of(call, left, now)
        if note is None:
            return Answer(None)
        note.moved, note.content = True, EMPTY
        return Answer(left)

    def check_lead(self, uid: str) -> LeadState:
        return self.unsorted[uid].state

    def decline(self, uid: str, now: float) -> Answer:
        lead = self.unsorted[uid]
        if lead.state is LeadState.ACCEPTED:
            raise PermanentError("the incoming lead is open no longer")
        if lead.state is LeadState.DECLINED:
            raise Gone("the incoming lead is open no longer")
        for note in self.notes:
            if note.lead is lead and not note.moved and len(self.standing(note.key)) == 1:
                raise Broken(f"P4: {uid} is declined while {note.key.call_id} stands nowhere else")
        self.sort(lead, LeadState.DECLINED, now)
        return Answer(None)

    def sort(self, lead: Unsorted, state: LeadState, now: float) -> None:
        """Accept or decline an incoming lead."""
        lead.state, lead.sorted_at = state, now
        self.on_sorted(lead, state)

    def hand_over(self, call: Call, contact_id: int | None, to: EntityRef, found_at: float) -> None:
        if to == NOWHERE:
            raise Gone("the entity is not there")
        if to.kind in (EntityType.CONTACTS, EntityType.COMPANIES) or contact_id is not None:
            self.hold(number_of(call), to, found_at)

    def _note(
        self, call: Call, on: EntityRef, lead: Unsorted | None, shows_at: float, *, result: bool = True
    ) -> Answer:
        """Make a call note; the only place where one is made."""
        others = self.standing(call.key)
        if len(others) > (0 if call.entry is None else 1):
            where = ", ".join(f"{note.on.kind.value} {note.on.id}" for note in others)
            raise Broken(
                f"P1: {call.key.call_id} is put on {on.kind.value} {on.id} while it stands on {where}"
            )
        content = content_of(call)
        if not result:
            content = content._replace(text="", status=derived_status(call))
        note = CallNote(self.next_id(), call.key, on, content, shows_at, lead)
        self.notes.append(note)
        return Answer(Entry(entity_type=on.kind, entity_id=on.id, note_id=note.id))

    def _listed(self, call: Call, now: float) -> Iterator[CallNote]:
        return (note for note in self.standing(call.key) if note.shows_at <= now)

    def _note_of(self, call: Call, entry: Entry, now: float) -> CallNote | None:
        if entry.note_id is not None:
            return next((note for note in self.notes if note.id == entry.note_id), None)
        places = [entry.entity]
        if entry.contact_id is not None:
            places.append(EntityRef(EntityType.CONTACTS, entry.contact_id))
        return next((note for on in places for note in self._listed(call, now) if note.on == on), None)

    def _unsorted_at(self, on: EntityRef) -> Unsorted | None:
        if on.kind is not EntityType.LEADS:
            return None
        return next((lead for lead in self.unsorted.values() if lead.lead_id == on.id), None)

    def _entry(self, lead: Unsorted) -> Entry:
        return Entry(
            entity_type=EntityType.LEADS,
            entity_id=lead.lead_id,
            lead_uid=lead.uid,
            contact_id=lead.contact_id,
        )


def _todo(call: Call) -> Todo:
    if call.result is None or call.result.todo is None:
        raise ValueError("the call's result has no task")
    return call.result.todo


def number_of(call: Call) -> str:
    """Return the digits by which Kommo compares a call's number, as it gets it."""
    return matched(call.known.phone or "", REGION)


def derived_status(call: Call) -> int | None:
    """Return the call_status of a call without a result."""
    outcome = call.known.outcome
    return None if outcome is None else list(CallStatus).index(outcome.status)


def content_of(call: Call) -> Content:
    """Return what the note of a call says if all is written into it that is known.

    Whose call it is has been put into its `attribution` by who sends it.
    """
    known, result = call.known, call.result
    status = None if result is None else result.status
    return Content(
        direction=known.direction,
        number=number_of(call),
        duration=known.outcome.duration if known.outcome else 0,
        status=derived_status(call) if status is None else status,
        text="" if result is None else result.text,
        linked=call.recording.state is RecordingState.READY,
        user_id=None if call.attribution is None else call.attribution.user_id,
    )
