"""Kommo for all accounts: implements the port `Crm`."""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from calllogd.domain.call import (
    Attribution,
    Call,
    CallKey,
    EntityRef,
    EntityType,
    Entry,
    IncomingLead,
    LeadState,
)
from calllogd.domain.phone import tail
from calllogd.domain.user import User
from calllogd.errors import (
    AccountPaused,
    Gone,
    KommoError,
    NobodyHasNumber,
    OutcomeUnknown,
    PermanentError,
    TransientError,
)
from calllogd.kommo.api import Api, Query, Reply, is_nobody
from calllogd.kommo.words import MOVED, Words, entity_type, note_type, phone_values
from calllogd.ports import Answer, Before

PAGE = 250
PAGES = 20
"""Pages that are searched for an entry before it is said that there are too many to tell."""

GIVE_TRIES = 3
"""How often a number is added to a card that does not show it afterwards."""

_SEARCHED = (EntityType.LEADS, EntityType.CONTACTS, EntityType.COMPANIES)


class KommoAccount:
    """What calllogd does in one Kommo account."""

    def __init__(self, *, api: Api, words: Words) -> None:
        self._api = api
        self._words = words
        self._giving: WeakValueDictionary[EntityRef, asyncio.Lock] = WeakValueDictionary()

    async def open(self) -> None:
        """Prepare for requests."""
        await self._api.open()

    async def close(self) -> None:
        """Let go of connections."""
        await self._api.close()

    async def account(self) -> Reply:
        """Return Kommo's description of the account: id, name, subdomain, and Kommo's time."""
        return await self._api.get("api/v4/account")

    async def users(self) -> Mapping[int, User]:
        """Return the account's users by their ids; only an administrator's token may ask."""
        users: dict[int, User] = {}
        for page in range(1, PAGES + 1):
            found = _embedded((await self._page("api/v4/users", (), page)).body, "users")
            users.update({user.id: user for user in map(_user, found) if user is not None})
            if len(found) < PAGE:
                break
        return users

    def attribution(self, call: Call) -> Attribution | None:
        """Return whose call Kommo would now be told that it is, None: nobody's."""
        return self._words.attribution(call)

    async def readable(self, path: str) -> None:
        """Return if the account's token may read a list; raises a KommoError."""
        await self._api.get(path, [("limit", "1")])

    async def log_call(self, call: Call, before: Before) -> Answer:
        """Create the call where Kommo's own algorithm puts it."""
        reply = await self._api.create("api/v4/calls", [self._words.call(call)], before)
        answer = _logged(call, reply.body, reply.request_id)
        if isinstance(answer, Answer):
            return answer
        # A 2xx without our call proves nothing: it may have been made all the same.
        raise OutcomeUnknown("Kommo's answer does not mention the call", request_id=reply.request_id)

    async def log_calls(self, calls: Sequence[Call], before: Before) -> Mapping[CallKey, Answer | KommoError]:
        """Create calls with one request; return what became of each.

        Which status a batch gets of which only some could be made is not known, nor whether its errors name
        the calls: whatever the status, a call is made only if it is mentioned as made, and is not made for
        certain only if an error names it or there are as many errors as calls that are not mentioned.
        """
        items = [self._words.call(call) for call in calls]
        try:
            reply = await self._api.create("api/v4/calls", items, before)
            body, request_id = reply.body, reply.request_id
        except NobodyHasNumber as error:
            body, request_id = error.answer, error.request_id
        unknown = _without_entity(body, len(calls))
        became: dict[CallKey, Answer | KommoError] = {}
        for call in calls:
            answer = _logged(call, body, request_id)
            if answer is not None:
                became[call.key] = answer
            elif unknown is None or call.key.call_id in unknown:
                became[call.key] = NobodyHasNumber("nobody has the number", request_id=request_id)
            else:
                became[call.key] = OutcomeUnknown(
                    "Kommo's answer does not mention the call", request_id=request_id
                )
        return became

    async def create_incoming_lead(self, call: Call, before: Before) -> Answer:
        """Create an incoming lead with the number and the call."""
        body = [self._words.incoming_lead(call)]
        reply = await self._api.create("api/v4/leads/unsorted/sip", body, before)
        for made in _embedded(reply.body, "unsorted"):
            if str(made.get("request_id")) == call.key.call_id:
                with _readable(OutcomeUnknown, reply):
                    return Answer(_incoming_lead(made), reply.request_id)
        raise OutcomeUnknown("Kommo's answer does not mention the incoming lead", request_id=reply.request_id)

    async def find(self, call: Call, since: float) -> Answer:
        """Return the entry that carries the call's id and was made after `since`, if there is one.

        Incoming leads first: their call notes stand on leads, too, and would be taken for something else.
        """
        found = await self._find_incoming_lead(call, since)
        if found.entry is not None:
            return found
        found = await self._find_note_anywhere(call, since)
        if found.entry is None:
            return found
        # It may be the note of an incoming lead that was made while they were looked through.
        made_since = await self._find_incoming_lead(call, since)
        return found if made_since.entry is None else made_since

    async def amend(self, call: Call, before: Before) -> Answer:
        """Write the call as it is known now into its entry's note, with the full params."""
        entry = call.entry
        if entry is None:
            raise PermanentError("there is no entry to amend")
        if entry.note_id is None:
            entry = await self._with_note(call, entry)
        path = f"api/v4/{entry.entity_type.value}/notes/{entry.note_id}"
        body = {"note_type": note_type(call), "params": self._words.params(call)}
        reply = await self._api.patch(path, body, before)
        return Answer(entry, reply.request_id)

    async def add_note(self, call: Call, on: EntityRef, before: Before) -> Answer:
        """Create the call's note on an entity."""
        path = f"api/v4/{on.kind.value}/notes"
        reply = await self._api.create(path, [self._words.note(call, on.id)], before, on=True)
        for made in _embedded(reply.body, "notes"):
            if str(made.get("request_id")) == call.key.call_id:
                with _readable(OutcomeUnknown, reply):
                    entry = Entry(entity_type=on.kind, entity_id=on.id, note_id=int(made["id"]))
                    return Answer(entry, reply.request_id)
        raise OutcomeUnknown("Kommo's answer does not mention the note", request_id=reply.request_id)

    async def find_note(self, call: Call, on: EntityRef) -> Answer:
        """Return the call's entry on an entity, if there is one; on an entity that is gone there is none."""
        return await self._note_on(call, on)

    async def _note_on(self, call: Call, on: EntityRef, uniq: str | None = None) -> Answer:
        try:
            return await self._find_note(call, f"api/v4/{on.kind.value}/{on.id}/notes", on.kind, 0, uniq)
        except Gone as error:
            return Answer(None, error.request_id)

    async def add_task(self, call: Call, on: EntityRef, before: Before) -> Answer:
        """Create the task of the call's result on an entity."""
        reply = await self._api.create("api/v4/tasks", [self._words.task(call, on)], before, on=True)
        for made in _embedded(reply.body, "tasks"):
            if str(made.get("request_id")) == call.key.call_id:
                with _readable(OutcomeUnknown, reply):
                    return Answer(call.entry, reply.request_id, task_id=int(made["id"]))
        raise OutcomeUnknown("Kommo's answer does not mention the task", request_id=reply.request_id)

    async def find_task(self, call: Call, on: EntityRef) -> Answer:
        """Return the task of the call's result on an entity, told by its text and its time."""
        wanted = self._words.task(call, on)
        query = [
            ("filter[entity_type]", on.kind.value),
            ("filter[entity_id][]", str(on.id)),
            ("order[id]", "desc"),
        ]
        for page in range(1, PAGES + 1):
            reply = await self._page("api/v4/tasks", query, page)
            tasks = _embedded(reply.body, "tasks")
            for task in tasks:
                if all(task.get(name) == wanted[name] for name in ("text", "complete_till")):
                    with _readable(TransientError, reply):
                        return Answer(call.entry, reply.request_id, task_id=int(task["id"]))
            if len(tasks) < PAGE:
                return Answer(None, reply.request_id)
        raise TransientError("there are too many tasks to look through")

    async def neutralise(self, call: Call, left: Entry) -> Answer:
        """Empty the note of an entry that the call has left; a note that is gone has nothing to empty."""
        note = left if left.note_id is not None else await self._on_lead(call, left)
        if note is None:
            # It may have been emptied already, by a request whose answer was lost.
            return Answer(await self._on_lead(call, left, uniq=f"{call.key.call_id}{MOVED}"))
        path = f"api/v4/{note.entity_type.value}/notes/{note.note_id}"
        body = {"note_type": note_type(call), "params": self._words.left_params(call)}
        try:
            reply = await self._api.patch(path, body)
        except PermanentError:
            found = await self.find_note(call, note.entity)
            if found.entry is not None:
                raise
            return found
        return Answer(note, reply.request_id)

    async def check_lead(self, call: Call, lead: IncomingLead) -> LeadState:
        """Return what has become of an incoming lead: open, or else whether its lead is still there."""
        try:
            reply = await self._api.get(f"api/v4/leads/unsorted/{lead.uid}")
            if reply.body.get("uid") == lead.uid:
                return LeadState.OPEN
        except Gone:
            pass
        try:
            reply = await self._api.get(f"api/v4/leads/{lead.lead_id}")
        except Gone:
            return LeadState.DECLINED
        gone = reply.body.get("id") is None or reply.body.get("is_deleted") is True
        return LeadState.DECLINED if gone else LeadState.ACCEPTED

    async def decline(self, lead_uid: str) -> Answer:
        """Decline an incoming lead, in nobody's name."""
        reply = await self._api.delete(f"api/v4/leads/unsorted/{lead_uid}/decline", {"user_id": 0})
        return Answer(None, reply.request_id)

    async def hand_over(self, call: Call, contact_id: int | None, to: EntityRef) -> None:
        """Give the caller's number to a contact or company, or link his contact to a lead."""
        if to.kind in (EntityType.CONTACTS, EntityType.COMPANIES):
            await self._give_number(self._words.phone(call), to)
        elif contact_id is not None:
            link = [{"to_entity_id": contact_id, "to_entity_type": EntityType.CONTACTS.value}]
            await self._api.post(f"api/v4/{to.kind.value}/{to.id}/link", link)

    async def _give_number(self, phone: str, to: EntityRef) -> None:
        """Add a number to those of a contact or company, which Kommo replaces as a whole.

        One at a time, and looked at again afterwards, for another process may be adding another number.
        """
        path = f"api/v4/{to.kind.value}/{to.id}"
        async with self._giving.setdefault(to, asyncio.Lock()):
            for _ in range(GIVE_TRIES):
                values = phone_values((await self._api.get(path)).body)
                if any(tail(value["value"]) == tail(phone) for value in values):
                    return
                fields = [{"field_code": "PHONE", "values": [*values, {"value": phone, "enum_code": "WORK"}]}]
                await self._api.patch(path, {"custom_fields_values": fields})
        raise TransientError(f"the number does not stay on {to.kind.value} {to.id}")

    async def _with_note(self, call: Call, entry: Entry) -> Entry:
        """Return the entry of an incoming lead with the id of its call note, which Kommo does not tell."""
        found = await self._on_lead(call, entry)
        if found is None:
            raise PermanentError("the incoming lead's call note is not there")
        return found

    async def _on_lead(self, call: Call, entry: Entry, *, uniq: str | None = None) -> Entry | None:
        places = [entry.entity]
        if entry.contact_id is not None:
            places.append(EntityRef(EntityType.CONTACTS, entry.contact_id))
        for place in places:
            found = (await self._note_on(call, place, uniq)).entry
            if found is not None:
                return replace(entry, entity_type=place.kind, entity_id=place.id, note_id=found.note_id)
        return None

    async def _find_note_anywhere(self, call: Call, since: float) -> Answer:
        # Notes bear Kommo's time, of which this machine's clock may be ahead.
        since -= max(0.0, self._api.ahead_s)
        found = Answer(None)
        for kind in _SEARCHED:
            found = await self._find_note(call, f"api/v4/{kind.value}/notes", kind, since)
            if found.entry is not None:
                break
        return found

    async def _find_note(
        self, call: Call, path: str, kind: EntityType, since: float, uniq: str | None = None
    ) -> Answer:
        """Return the note with the call's id, or another `uniq`, made or changed after `since`."""
        wanted = uniq or call.key.call_id
        query = [
            ("filter[note_type][]", "call_in"),
            ("filter[note_type][]", "call_out"),
            ("filter[updated_at][from]", str(int(since))),
            ("order[id]", "desc"),
        ]
        reply: Reply | None = None
        for page in range(1, PAGES + 1):
            reply = await self._page(path, query, page)
            notes = _embedded(reply.body, "notes")
            for note in notes:
                if _uniq(note.get("params")) == wanted:
                    with _readable(TransientError, reply):
                        entry = Entry(
                            entity_type=kind, entity_id=int(note["entity_id"]), note_id=int(note["id"])
                        )
                        return Answer(entry, reply.request_id)
            if len(notes) < PAGE:
                return Answer(None, reply.request_id)
        raise TransientError("there are too many call notes to look through")

    async def _find_incoming_lead(self, call: Call, since: float) -> Answer:
        query = [("filter[category][]", "sip"), ("order[created_at]", "desc")]
        for page in range(1, PAGES + 1):
            reply = await self._page("api/v4/leads/unsorted", query, page)
            leads = _embedded(reply.body, "unsorted")
            for lead in leads:
                if _uniq(lead.get("metadata")) == call.key.call_id:
                    with _readable(TransientError, reply):
                        return Answer(_incoming_lead(lead), reply.request_id)
            if len(leads) < PAGE or _number(leads[-1].get("created_at")) < since:
                return Answer(None, reply.request_id)
        raise TransientError("there are too many incoming leads to look through")

    async def _page(self, path: str, query: Query, page: int) -> Reply:
        return await self._api.get(path, [*query, ("limit", str(PAGE)), ("page", str(page))])


class Kommo:
    """All configured accounts; implements `Crm` by the account that a call's key names."""

    def __init__(self, accounts: Mapping[int, KommoAccount]) -> None:
        self._accounts = accounts

    async def open(self) -> None:
        """Prepare all accounts."""
        for account in self._accounts.values():
            await account.open()

    async def close(self) -> None:
        """Let go of all connections."""
        await asyncio.gather(*(account.close() for account in self._accounts.values()))

    def attribution(self, call: Call) -> Attribution | None:
        """Return whose call Kommo would now be told that it is, None: nobody's."""
        account = self._accounts.get(call.key.account_id)
        # Nothing is sent for an account that is not there, so nothing is told either.
        return None if account is None else account.attribution(call)

    async def log_call(self, call: Call, before: Before) -> Answer:
        """Create the call where Kommo's own algorithm puts it."""
        return await self._of(call).log_call(call, before)

    async def log_calls(self, calls: Sequence[Call], before: Before) -> Mapping[CallKey, Answer | KommoError]:
        """Create calls of one account with one request."""
        return await self._of(calls[0]).log_calls(calls, before)

    async def create_incoming_lead(self, call: Call, before: Before) -> Answer:
        """Create an incoming lead with the number and the call."""
        return await self._of(call).create_incoming_lead(call, before)

    async def add_note(self, call: Call, on: EntityRef, before: Before) -> Answer:
        """Create the call's note on an entity."""
        return await self._of(call).add_note(call, on, before)

    async def add_task(self, call: Call, on: EntityRef, before: Before) -> Answer:
        """Create the task of the call's result on an entity."""
        return await self._of(call).add_task(call, on, before)

    async def find(self, call: Call, since: float) -> Answer:
        """Return the entry that carries the call's id, if there is one."""
        return await self._of(call).find(call, since)

    async def find_note(self, call: Call, on: EntityRef) -> Answer:
        """Return the call's entry on an entity, if there is one."""
        return await self._of(call).find_note(call, on)

    async def find_task(self, call: Call, on: EntityRef) -> Answer:
        """Return the task of the call's result on an entity, if there is one."""
        return await self._of(call).find_task(call, on)

    async def amend(self, call: Call, before: Before) -> Answer:
        """Write the call as it is known now into its entry's note."""
        return await self._of(call).amend(call, before)

    async def neutralise(self, call: Call, left: Entry) -> Answer:
        """Empty the note of an entry that the call has left."""
        return await self._of(call).neutralise(call, left)

    async def check_lead(self, call: Call, lead: IncomingLead) -> LeadState:
        """Return what has become of an incoming lead."""
        return await self._of(call).check_lead(call, lead)

    async def decline(self, call: Call, lead_uid: str) -> Answer:
        """Decline an incoming lead."""
        return await self._of(call).decline(lead_uid)

    async def hand_over(self, call: Call, contact_id: int | None, to: EntityRef) -> None:
        """Give the caller's number to a contact or company, or link his contact to a lead."""
        await self._of(call).hand_over(call, contact_id, to)

    def _of(self, call: Call) -> KommoAccount:
        account = self._accounts.get(call.key.account_id)
        if account is None:
            raise AccountPaused("the account is not in the configuration")
        return account


def _logged(call: Call, body: Mapping[str, Any], request_id: str | None) -> Answer | OutcomeUnknown | None:
    """Return where an answer says that the call was put, None if it does not mention it as made."""
    for made in _embedded(body, "calls"):
        if str(made.get("request_id")) == call.key.call_id:
            try:
                entry = Entry(
                    entity_type=entity_type(made["entity_type"]),
                    entity_id=int(made["entity_id"]),
                    note_id=int(made["id"]),
                )
            except (LookupError, TypeError, ValueError):
                return OutcomeUnknown("Kommo's answer is unreadable", request_id=request_id)
            return Answer(entry, request_id)
    return None


def _without_entity(body: Mapping[str, Any], number: int) -> Collection[str] | None:
    """Return the ids of the calls of a batch whose number nobody has; None: all that are not made."""
    errors = body.get("errors")
    nobody = [error for error in errors if is_nobody(error)] if isinstance(errors, list) else []
    if len(nobody) + len(_embedded(body, "calls")) >= number:
        return None
    return {str(error["request_id"]) for error in nobody if "request_id" in error}


def _embedded(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    embedded = body.get("_embedded")
    rows = embedded.get(name) if isinstance(embedded, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _user(row: Mapping[str, Any]) -> User | None:
    """Return one of the account's users, None for a row without an id.

    Somebody of whom Kommo does not say so is no administrator; he is active unless it denies it.
    """
    user_id, name, rights = row.get("id"), row.get("name"), row.get("rights")
    if isinstance(user_id, bool) or not isinstance(user_id, int) or not 1 <= user_id < 2**53:
        return None
    may = rights if isinstance(rights, dict) else {}
    return User(
        id=user_id,
        # A name goes on to browsers, in UTF-8.
        name=name.encode(errors="replace").decode() if isinstance(name, str) else "",
        is_admin=may.get("is_admin") is True,
        is_active=may.get("is_active") in (None, True),
    )


@contextmanager
def _readable(kind: type[KommoError], reply: Reply) -> Iterator[None]:
    """Raise `kind` for an answer that names the call but not where it stands: it must not count as none."""
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise kind("Kommo's answer is unreadable", request_id=reply.request_id) from error


def _incoming_lead(made: Mapping[str, Any]) -> Entry:
    leads, contacts = _embedded(made, "leads"), _embedded(made, "contacts")
    uid = made["uid"]
    if not isinstance(uid, str):
        raise TypeError("an incoming lead's uid is a text")
    return Entry(
        entity_type=EntityType.LEADS,
        entity_id=int(leads[0]["id"]),
        lead_uid=uid,
        contact_id=int(contacts[0]["id"]) if contacts else None,
    )


def _uniq(params: object) -> str | None:
    """Return the call id that a note or an incoming lead carries; Kommo may give it back as a number."""
    uniq = params.get("uniq") if isinstance(params, dict) else None
    return None if uniq is None else str(uniq)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
