"""What stands in one account, to look at. No I/O; the clock is given."""

from collections.abc import Callable
from typing import Final

from calllogd.sandbox.entries import History, entries
from calllogd.sandbox.records import (
    Card,
    EntityRef,
    EntityType,
    EntryView,
    IncomingLead,
    IncomingState,
    Lead,
    Note,
    Task,
    User,
)
from calllogd.sandbox.rules import Rules

FIRST_USERS: Final = (
    User(111, "Ann Admin", "ann@example.com", is_admin=True),
    User(112, "Bob Seller", "bob@example.com"),
    User(113, "Cleo Seller", "cleo@example.com"),
)


class AccountView:
    """The reading half of `Account`."""

    def __init__(
        self,
        account_id: int,
        *,
        token: str,
        now: Callable[[], float],
        search_lag: float,
        list_lag: float,
        rules: Rules,
    ) -> None:
        self.id: Final = account_id
        self.name = f"Sandbox {account_id}"
        self.subdomain = f"sandbox{account_id}"
        self.token = token
        """A long-lived one; OAuth gives others."""
        self.token_is_admin = True
        """An administrator made the tokens; else they may not see who works in the account."""
        self.country = "US"
        self.host: str | None = None
        """Host without the port at which alone the account is found; None: at any."""
        self.search_lag = search_lag
        self.list_lag = list_lag
        self.now: Final = now
        self.rules: Final = rules
        self.asked = 0
        """API requests carried out so far, those that were refused too."""
        self.users: list[User] = list(FIRST_USERS)
        self.incoming: dict[str, IncomingLead] = {}
        self.links: dict[EntityRef, dict[EntityRef, float]] = {}
        """Of each card those it is linked with, and since when; every link stands here from both ends."""
        self.once_had: dict[str, set[EntityRef]] = {}
        """Of each match key the cards that have or had such a number; spares a walk through all."""
        self.once_noted: dict[str, set[int]] = {}
        """Of each uniq the call notes that carry or carried it."""
        self.once_incoming: dict[str, list[str]] = {}
        """Of each uniq the incoming leads made with it."""
        self.made_with: dict[int, IncomingLead] = {}
        """Of each note that was made with an incoming lead that lead."""
        self.histories: dict[str, History] = {}
        """Of each uniq that ever had an entry how many it had at once."""
        self.tasks: list[Task] = []
        self._cards: dict[EntityRef, Card] = {}
        self._notes: dict[int, Note] = {}

    @property
    def contacts(self) -> list[Card]:
        """Every contact that is not in the bin, hidden ones too."""
        return self.cards(EntityType.CONTACTS)

    @property
    def companies(self) -> list[Card]:
        """Every company that is not in the bin."""
        return self.cards(EntityType.COMPANIES)

    @property
    def leads(self) -> list[Lead]:
        """Every lead that is not in the bin, those of incoming leads too."""
        return [card for card in self.cards(EntityType.LEADS) if isinstance(card, Lead)]

    @property
    def notes(self) -> list[Note]:
        """Every note whose card is not in the bin, oldest first."""
        return [note for note in self._notes.values() if self.card(note.on) is not None]

    @property
    def unsorted(self) -> list[IncomingLead]:
        """Every incoming lead that ever was, oldest first; its `state` says what became of it."""
        return list(self.incoming.values())

    def cards(self, kind: EntityType) -> list[Card]:
        """The cards of one kind that are not in the bin, oldest first."""
        return [card for card in self._cards.values() if card.ref.kind is kind and not card.deleted]

    def card(self, ref: EntityRef) -> Card | None:
        """The card, or None when there is none or it is in the bin."""
        card = self._cards.get(ref)
        return None if card is None or card.deleted else card

    def note(self, note_id: int) -> Note | None:
        """The note, or None when there is none or its card is in the bin."""
        note = self._notes.get(note_id)
        return None if note is None or self.card(note.on) is None else note

    def open_incoming(self, uid: str) -> IncomingLead | None:
        """The incoming lead while it waits to be sorted; afterwards None, like one that never was."""
        lead = self.incoming.get(uid)
        return lead if lead is not None and lead.state is IncomingState.OPEN else None

    def linked(self, ref: EntityRef, kind: EntityType) -> list[Card]:
        """The cards of `kind` that are linked with this one."""
        cards = [self.card(other) for other in sorted(self.links.get(ref, ())) if other.kind is kind]
        return [card for card in cards if card is not None]

    def entries(self, uniq: str) -> list[EntryView]:
        """Every entry that carries this `uniq`; what lies in the bin does not count.

        An incoming lead and the call note made with it are one entry. Once it is accepted only the note's
        own params count, because nothing shows the incoming lead any more. The uniq is compared exactly, so
        a note that was given another one, `c1#moved`, is no entry of `c1`.
        """
        return entries(self, uniq)

    def duplicates(self) -> dict[str, list[EntryView]]:
        """Every uniq that has more than one entry now, with its entries."""
        found = {uniq: self.entries(uniq) for uniq in self.histories}
        return {uniq: views for uniq, views in found.items() if len(views) > 1}

    def history(self, uniq: str) -> History:
        """How many entries the uniq had at once; of an unknown one, none ever."""
        return self.histories.get(uniq, History())

    def found_by_search(self, since: float | None) -> bool:
        """The search knows by now what is so since then (None: it is hidden)."""
        return since is not None and self.now() - since >= self.search_lag

    def listed(self, written_at: float) -> bool:
        """Lists show by now what was written then."""
        return self.now() - written_at >= self.list_lag
