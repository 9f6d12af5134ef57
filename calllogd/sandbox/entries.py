"""The entries of a call, now and in the course of time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from calllogd.sandbox.records import (
    CALL_NOTE_TYPES,
    EntityRef,
    EntityType,
    EntryView,
    IncomingLead,
    IncomingState,
    Note,
)

if TYPE_CHECKING:
    from calllogd.sandbox.view import AccountView


@dataclass(slots=True)
class Doubled:
    """A time during which a uniq had more than one entry."""

    since: float
    until: float | None = None
    """None: they stand still."""
    requests: int | None = None
    """API requests carried out from the one that made the second entry to the one that left one: 1, the very
    next one did. None: they stand still."""


@dataclass(slots=True)
class History:
    """How many entries a uniq had at once."""

    entries: int = 0
    """Now."""
    peak: int = 0
    """At most."""
    doubled: list[Doubled] = field(default_factory=list)
    _asked: int = 0

    def count(self, entries: int, at: float, asked: int) -> None:
        """Take down how many there are now; `asked`: requests carried out so far."""
        if entries > 1 >= self.entries:
            self.doubled.append(Doubled(at))
            self._asked = asked
        elif self.entries > 1 >= entries:
            self.doubled[-1].until = at
            self.doubled[-1].requests = asked - self._asked
        self.entries = entries
        self.peak = max(self.peak, entries)


def entries(account: AccountView, uniq: str) -> list[EntryView]:
    """See `Account.entries`."""
    notes = [account.note(note_id) for note_id in sorted(account.once_noted.get(uniq, ()))]
    found = [
        _note_entry(account, note)
        for note in notes
        if note is not None
        and note.note_type in CALL_NOTE_TYPES
        and note.params.get("uniq") == uniq
        and not _stands_for_itself(account.made_with.get(note.id))
    ]
    leads = [account.incoming[uid] for uid in account.once_incoming.get(uniq, ())]
    waiting = [lead for lead in leads if _stands_for_itself(lead) and _is_of(account, lead, uniq)]
    return found + [view for view in (_incoming_entry(account, lead) for lead in waiting) if view is not None]


def _is_of(account: AccountView, lead: IncomingLead, uniq: str) -> bool:
    """The incoming lead's note says that it is this call's: one that the call was moved from does not."""
    note = None if lead.note_id is None else account.note(lead.note_id)
    return note is None or note.params.get("uniq") == uniq


def _stands_for_itself(lead: IncomingLead | None) -> bool:
    """The incoming lead is the entry, not its note: it is open, or it was made without a note."""
    if lead is None:
        return False
    return lead.state is IncomingState.OPEN or (lead.state is IncomingState.ACCEPTED and lead.note_id is None)


def _note_entry(account: AccountView, note: Note) -> EntryView:
    lead = account.made_with.get(note.id)
    return EntryView(
        entity_type=note.on.kind.value,
        entity_id=note.on.id,
        note_id=note.id,
        lead_uid=None if lead is None else lead.uid,
        params=dict(note.params),
        hidden=_is_hidden(account, note.on),
        created_at=note.created_at,
    )


def _incoming_entry(account: AccountView, lead: IncomingLead) -> EntryView | None:
    ref = EntityRef(EntityType.LEADS, lead.lead_id)
    if account.card(ref) is None:
        return None
    note = None if lead.note_id is None else account.note(lead.note_id)
    params: dict[str, Any] = lead.metadata if note is None else note.params
    return EntryView(
        entity_type=EntityType.LEADS.value,
        entity_id=lead.lead_id,
        note_id=None if note is None else note.id,
        lead_uid=lead.uid,
        params=dict(params),
        hidden=_is_hidden(account, ref),
        created_at=lead.created_at if note is None else note.created_at,
    )


def _is_hidden(account: AccountView, ref: EntityRef) -> bool:
    card = account.card(ref)
    return card is not None and card.hidden
