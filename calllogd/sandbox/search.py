"""How Kommo finds a card by its number, the card of a call, a card by free text, a call's entries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from calllogd.sandbox.records import (
    CALL_NOTE_TYPES,
    Card,
    EntityRef,
    EntityType,
    EntryView,
    IncomingLead,
    IncomingState,
    Lead,
    Note,
)

if TYPE_CHECKING:
    from calllogd.sandbox.view import AccountView

MATCHED_DIGITS: Final = 10
SHORTEST_NUMBER_QUERY: Final = 3


def digits(phone: str) -> str:
    """The ASCII digits of a number, without anything else."""
    return re.sub(r"[^0-9]", "", phone)


def match_key(phone: str) -> str:
    """What the calls search compares: the last ten digits, or all of a shorter number."""
    return digits(phone)[-MATCHED_DIGITS:]


def owner_of(account: AccountView, phone: str) -> Card | None:
    """The card that has the number: the oldest contact, else the oldest company.

    Hidden cards and numbers younger than the search lag are not found. Which of several wins is not
    documented; the oldest is what Kommo's older telephony methods take.
    """
    key = match_key(phone)
    if not key:
        return None
    candidates = [
        card for ref in sorted(account.once_had.get(key, ())) if (card := account.card(ref)) is not None
    ]
    for kind in (EntityType.CONTACTS, EntityType.COMPANIES):
        for card in (one for one in candidates if one.ref.kind is kind):
            known = (number.text for number in card.phones if account.found_by_search(number.since))
            if account.found_by_search(card.shown_at) and key in map(match_key, known):
                return card
    return None


def card_of_call(account: AccountView, phone: str) -> Card | None:
    """The card on which `POST calls` puts a call; None when nobody has the number.

    The owner's lead when exactly one is active, else the owner.
    """
    owner = owner_of(account, phone)
    if owner is None:
        return None
    leads = [
        lead
        for lead in account.linked(owner.ref, EntityType.LEADS)
        if isinstance(lead, Lead) and _is_active(account, lead, owner)
    ]
    return leads[0] if len(leads) == 1 else owner


def _is_active(account: AccountView, lead: Lead, owner: Card) -> bool:
    known = (lead.shown_at, lead.staged_at, account.links[lead.ref][owner.ref])
    return not lead.closed and all(account.found_by_search(since) for since in known)


def matches_query(account: AccountView, card: Card, query: str) -> bool:
    """The free text search finds the card: text within its name, or digits within one of its numbers.

    Prefixes are not normalised: 8 999 does not find +7 999.
    """
    if not account.found_by_search(card.shown_at):
        return False
    in_name = account.found_by_search(card.name.since) and query.casefold() in card.name.text.casefold()
    wanted = digits(query)
    return in_name or (
        len(wanted) >= SHORTEST_NUMBER_QUERY
        and any(wanted in digits(phone.text) for phone in card.phones if account.found_by_search(phone.since))
    )


def entries(account: AccountView, uniq: str) -> list[EntryView]:
    """See `Account.entries`."""
    by_note = {lead.note_id: lead for lead in account.unsorted if lead.note_id is not None}
    found = [
        _note_entry(account, note, by_note.get(note.id))
        for note in account.notes
        if note.note_type in CALL_NOTE_TYPES
        and note.params.get("uniq") == uniq
        and not _stands_for_itself(by_note.get(note.id))
    ]
    waiting = [
        lead for lead in account.unsorted if _stands_for_itself(lead) and lead.metadata.get("uniq") == uniq
    ]
    return found + [view for view in (_incoming_entry(account, lead) for lead in waiting) if view is not None]


def _stands_for_itself(lead: IncomingLead | None) -> bool:
    """The incoming lead is the entry, not its note: it is open, or it was made without a note."""
    if lead is None:
        return False
    return lead.state is IncomingState.OPEN or (lead.state is IncomingState.ACCEPTED and lead.note_id is None)


def _note_entry(account: AccountView, note: Note, lead: IncomingLead | None) -> EntryView:
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
