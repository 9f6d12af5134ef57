"""One account and how it changes. No I/O; the clock is given."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final

from calllogd.sandbox.entries import History
from calllogd.sandbox.records import (
    CALL_NOTE_TYPES,
    STATUS_WON,
    Card,
    Deed,
    EntityRef,
    EntityType,
    IncomingLead,
    IncomingState,
    Indexed,
    Lead,
    Note,
    Task,
    User,
)
from calllogd.sandbox.rules import Rules
from calllogd.sandbox.search import match_key
from calllogd.sandbox.view import AccountView

PIPELINE_ID: Final = 7001
STATUS_INCOMING: Final = 7100
STATUS_FIRST: Final = 7101
ROBOT_ID: Final = 0

Watcher = Callable[[Deed, Card | IncomingLead], None]


class Account(AccountView):
    """The world of one account; its methods are both Kommo's own deeds and what people do in the browser."""

    def __init__(
        self,
        account_id: int,
        *,
        token: str,
        now: Callable[[], float],
        search_lag: float,
        list_lag: float,
        rules: Rules | None = None,
    ) -> None:
        super().__init__(
            account_id,
            token=token,
            now=now,
            search_lag=search_lag,
            list_lag=list_lag,
            rules=Rules() if rules is None else rules,
        )
        self.watchers: Final[list[Watcher]] = []
        """Called at each deed, whoever did it; a deed may not be over yet when they are called."""
        # Far apart, so that an id taken for one of another kind is noticed.
        self._ids: Final = {
            EntityType.LEADS: count(10_000_001),
            EntityType.CONTACTS: count(20_000_001),
            EntityType.COMPANIES: count(30_000_001),
        }
        self._note_ids: Final = count(40_000_001)
        self._task_ids: Final = count(50_000_001)

    def add_user(self, user_id: int, name: str, *, is_admin: bool = False, is_active: bool = True) -> User:
        """Add somebody who works in the account."""
        user = User(user_id, name, f"user{user_id}@example.com", is_admin, is_active)
        self.users.append(user)
        return user

    def change_user(
        self,
        user_id: int,
        *,
        name: str | None = None,
        is_admin: bool | None = None,
        is_active: bool | None = None,
    ) -> User:
        """Change of a user what is given. Raises LookupError when nobody has this id."""
        given = {"name": name, "is_admin": is_admin, "is_active": is_active}
        for place, user in enumerate(self.users):
            if user.id == user_id:
                changes: dict[str, Any] = {key: it for key, it in given.items() if it is not None}
                self.users[place] = replace(user, **changes)
                return self.users[place]
        raise LookupError(f"user {user_id}")

    def add_contact(
        self,
        name: str,
        phones: Sequence[str] = (),
        leads: Iterable[Lead] = (),
        *,
        company: Card | None = None,
    ) -> Card:
        """Add a contact, linked with these leads and this company."""
        card = self.make(EntityType.CONTACTS, name=name, phones=phones)
        for other in [*leads, *([company] if company is not None else [])]:
            self.link(card.ref, other.ref)
        return card

    def add_company(self, name: str, phones: Sequence[str] = (), leads: Iterable[Lead] = ()) -> Card:
        """Add a company, linked with these leads."""
        card = self.make(EntityType.COMPANIES, name=name, phones=phones)
        for lead in leads:
            self.link(card.ref, lead.ref)
        return card

    def add_lead(
        self,
        name: str = "Lead",
        *,
        contact: Card | None = None,
        company: Card | None = None,
        closed: bool = False,
    ) -> Lead:
        """Add a lead, active unless `closed`, linked with this contact and this company."""
        lead = self.make_lead(name=name, status_id=STATUS_WON if closed else STATUS_FIRST)
        for card in (contact, company):
            if card is not None:
                self.link(lead.ref, card.ref)
        return lead

    def make(
        self,
        kind: EntityType,
        *,
        name: str,
        phones: Sequence[str] = (),
        hidden: bool = False,
        author: int = ROBOT_ID,
        responsible: int | None = None,
    ) -> Card:
        """Add a contact or a company; a hidden one stays out of lists and searches until `accept`."""
        now = self.now()
        card = Card(
            ref=EntityRef(kind, next(self._ids[kind])),
            name=Indexed(name, now),
            phones=tuple(Indexed(phone, now) for phone in phones),
            created_at=int(now),
            updated_at=int(now),
            created_by=author,
            responsible_user_id=self.users[0].id if responsible is None else responsible,
            shown_at=None if hidden else now,
        )
        self._cards[card.ref] = card
        self._remember_numbers(card)
        self._tell(Deed.ADDED, card)
        return card

    def make_lead(
        self,
        *,
        name: str,
        status_id: int = STATUS_FIRST,
        pipeline_id: int = PIPELINE_ID,
        hidden: bool = False,
        author: int = ROBOT_ID,
        responsible: int | None = None,
    ) -> Lead:
        """Add a lead on this stage."""
        now = self.now()
        ref = EntityRef(EntityType.LEADS, next(self._ids[EntityType.LEADS]))
        lead = Lead(
            ref=ref,
            name=Indexed(name or f"Lead #{ref.id}", now),
            created_at=int(now),
            updated_at=int(now),
            created_by=author,
            responsible_user_id=self.users[0].id if responsible is None else responsible,
            shown_at=None if hidden else now,
            status_id=status_id,
            pipeline_id=pipeline_id,
            staged_at=now,
        )
        self._cards[ref] = lead
        return lead

    def rename(self, card: Card, name: str) -> None:
        """Give the card another name."""
        self.edit(card, name=name)

    def set_phones(self, card: Card, phones: Sequence[str]) -> None:
        """Replace the card's numbers; one that stays keeps its place in the search."""
        self.edit(card, phones=phones)

    def edit(
        self,
        card: Card,
        *,
        name: str | None = None,
        phones: Sequence[str] | None = None,
        responsible: int | None = None,
    ) -> None:
        """Change of a card what is given, in one deed."""
        if name is not None and name != card.name.text:
            card.name = Indexed(name, self.now())
        if phones is not None:
            known = {phone.text: phone for phone in card.phones}
            card.phones = tuple(known.get(phone) or Indexed(phone, self.now()) for phone in phones)
            self._remember_numbers(card)
        if responsible is not None:
            card.responsible_user_id = responsible
        card.updated_at = int(self.now())
        self._tell(Deed.CHANGED, card)

    def set_status(self, lead: Lead, status_id: int) -> None:
        """Move the lead to another stage; 142 and 143 close it."""
        lead.status_id = status_id
        lead.staged_at = self.now()
        lead.updated_at = int(self.now())

    def delete(self, card: Card) -> None:
        """Put the card into the bin; its notes go with it."""
        notes = [note.params.get("uniq") for note in self._notes.values() if note.on == card.ref]
        leads = [lead.metadata.get("uniq") for lead in self.unsorted if lead.lead_id == card.id]
        card.deleted = True
        self._recount(notes + leads)

    def link(self, one: EntityRef, other: EntityRef) -> None:
        """Link two cards; an old link stays as old as it is."""
        for here, there in ((one, other), (other, one)):
            self.links.setdefault(here, {}).setdefault(there, self.now())

    def unlink(self, one: EntityRef, other: EntityRef) -> None:
        """Take the link away, if there is one."""
        for here, there in ((one, other), (other, one)):
            self.links.get(here, {}).pop(there, None)

    def add_note(
        self,
        on: EntityRef,
        note_type: str,
        params: dict[str, Any],
        *,
        created_at: int | None = None,
        created_by: int = ROBOT_ID,
        responsible_user_id: int | None = None,
    ) -> Note:
        """Put a note on a card. Nothing is compared: the same `uniq` twice makes two notes."""
        now = self.now()
        note = Note(
            id=next(self._note_ids),
            on=on,
            note_type=note_type,
            params=dict(params),
            created_at=int(now) if created_at is None else created_at,
            updated_at=int(now),
            written_at=now,
            created_by=created_by,
            responsible_user_id=self.users[0].id if responsible_user_id is None else responsible_user_id,
        )
        self._notes[note.id] = note
        self._remember_uniq(note)
        self._recount([note.params.get("uniq")])
        return note

    def set_params(self, note: Note, params: dict[str, Any]) -> None:
        """Write other params into a note."""
        before, note.params = note.params.get("uniq"), dict(params)
        note.updated_at = int(self.now())
        self._remember_uniq(note)
        self._recount([before, note.params.get("uniq")])

    def delete_note(self, note_id: int) -> None:
        """Delete a note as a person can in the browser; the API cannot."""
        note = self._notes.pop(note_id)
        self._recount([note.params.get("uniq")])

    def add_task(
        self, text: str, complete_till: int, on: EntityRef | None, *, kind: int, responsible: int
    ) -> Task:
        """Add a thing to do."""
        now = self.now()
        task = Task(
            id=next(self._task_ids),
            text=text,
            complete_till=complete_till,
            on=on,
            task_type_id=kind,
            responsible_user_id=responsible,
            created_at=int(now),
            updated_at=int(now),
            written_at=now,
        )
        self.tasks.append(task)
        return task

    def add_incoming(
        self,
        *,
        source_uid: str,
        source_name: str,
        metadata: dict[str, Any],
        lead: Lead,
        contact: Card | None,
        company: Card | None,
        note: Note | None,
        created_at: int,
    ) -> IncomingLead:
        """Add an incoming lead made of these hidden cards."""
        incoming = IncomingLead(
            uid=uuid.uuid4().hex,
            source_uid=source_uid,
            source_name=source_name,
            pipeline_id=lead.pipeline_id,
            metadata=metadata,
            created_at=created_at,
            written_at=self.now(),
            lead_id=lead.id,
            contact_id=None if contact is None else contact.id,
            company_id=None if company is None else company.id,
            note_id=None if note is None else note.id,
        )
        self.incoming[incoming.uid] = incoming
        if note is not None:
            self.made_with[note.id] = incoming
        if isinstance(uniq := metadata.get("uniq"), str):
            self.once_incoming.setdefault(uniq, []).append(incoming.uid)
        self._recount(self._uniqs_of(incoming))
        return incoming

    def accept(self, uid: str, *, status_id: int = STATUS_FIRST) -> IncomingLead:
        """Accept an open incoming lead: its cards become ordinary ones. Raises KeyError when none is open."""
        incoming = self._taken(uid, IncomingState.ACCEPTED)
        self._tell(Deed.ACCEPTED, incoming)
        for card in self.cards_of(incoming):
            card.shown_at = self.now()
            if isinstance(card, Lead):
                self.set_status(card, status_id)
            else:
                self._tell(Deed.ADDED, card)
        self._recount(self._uniqs_of(incoming))
        return incoming

    def decline(self, uid: str) -> IncomingLead:
        """Decline an open incoming lead: its cards go to the bin. Raises KeyError when none is open.

        A contact or company that was linked with another lead, one that people see, stays and is seen from
        now on. Unconfirmed: Kommo says only that "the entities" go to the bin.
        """
        incoming = self._taken(uid, IncomingState.DECLINED)
        for card in self.cards_of(incoming):
            if not isinstance(card, Lead) and self._has_visible_lead(card):
                card.shown_at = self.now()
            else:
                self.delete(card)
        self._recount(self._uniqs_of(incoming))
        self._tell(Deed.DECLINED, incoming)
        return incoming

    def cards_of(self, incoming: IncomingLead) -> list[Card]:
        """The lead, contact and company made with an incoming lead, unless they are in the bin."""
        ids = {
            EntityType.LEADS: incoming.lead_id,
            EntityType.CONTACTS: incoming.contact_id,
            EntityType.COMPANIES: incoming.company_id,
        }
        cards = [self.card(EntityRef(kind, id_)) for kind, id_ in ids.items() if id_ is not None]
        return [card for card in cards if card is not None]

    def _has_visible_lead(self, card: Card) -> bool:
        return any(not lead.hidden for lead in self.linked(card.ref, EntityType.LEADS))

    def _tell(self, deed: Deed, what: Card | IncomingLead) -> None:
        if isinstance(what, Card) and (what.hidden or isinstance(what, Lead)):
            return
        for watcher in self.watchers:
            watcher(deed, what)

    def _uniqs_of(self, incoming: IncomingLead) -> list[object]:
        note = None if incoming.note_id is None else self._notes.get(incoming.note_id)
        return [incoming.metadata.get("uniq"), None if note is None else note.params.get("uniq")]

    def _remember_uniq(self, note: Note) -> None:
        uniq = note.params.get("uniq")
        if note.note_type in CALL_NOTE_TYPES and isinstance(uniq, str):
            self.once_noted.setdefault(uniq, set()).add(note.id)

    def _recount(self, uniqs: Iterable[object]) -> None:
        for uniq in {it for it in uniqs if isinstance(it, str)}:
            if uniq in self.once_noted or uniq in self.once_incoming:
                history = self.histories.setdefault(uniq, History())
                history.count(len(self.entries(uniq)), self.now(), self.asked)

    def _remember_numbers(self, card: Card) -> None:
        for number in card.numbers:
            self.once_had.setdefault(match_key(number), set()).add(card.ref)

    def _taken(self, uid: str, state: IncomingState) -> IncomingLead:
        incoming = self.open_incoming(uid)
        if incoming is None:
            raise KeyError(uid)
        incoming.state = state
        return incoming
