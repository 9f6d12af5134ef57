"""How Kommo finds a card by its number, the card of a call, a card by free text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from calllogd.sandbox.records import Card, EntityType, Lead

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
