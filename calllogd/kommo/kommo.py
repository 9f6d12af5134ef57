"""Kommo for all accounts: implements the port `Crm`."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from calllogd.domain.call import Call, EntityType, Entry
from calllogd.errors import AccountPaused, KommoError, OutcomeUnknown, PermanentError, TransientError
from calllogd.kommo.api import Api, Query, Reply
from calllogd.kommo.words import Words, entity_type, note_type
from calllogd.ports import Answer, Before

PAGE = 250
PAGES = 20
"""Pages that are searched for an entry before it is said that there are too many to tell."""

_SEARCHED = (EntityType.LEADS, EntityType.CONTACTS, EntityType.COMPANIES)


class KommoAccount:
    """What calllogd does in one Kommo account."""

    def __init__(self, *, api: Api, words: Words) -> None:
        self._api = api
        self._words = words

    async def open(self) -> None:
        """Prepare for requests."""
        await self._api.open()

    async def close(self) -> None:
        """Let go of connections."""
        await self._api.close()

    async def account(self) -> Reply:
        """Return Kommo's description of the account: id, name, subdomain, and Kommo's time."""
        return await self._api.get("api/v4/account")

    async def users(self) -> Mapping[int, str]:
        """Return the names of the account's users by their ids; only an administrator's token may ask."""
        users: dict[int, str] = {}
        for page in range(1, PAGES + 1):
            found = _embedded((await self._page("api/v4/users", (), page)).body, "users")
            users.update({int(user["id"]): str(user.get("name")) for user in found})
            if len(found) < PAGE:
                break
        return users

    async def readable(self, path: str) -> None:
        """Return if the account's token may read a list; raises a KommoError."""
        await self._api.get(path, [("limit", "1")])

    async def log_call(self, call: Call, before: Before) -> Answer:
        """Create the call where Kommo's own algorithm puts it."""
        reply = await self._api.create("api/v4/calls", [self._words.call(call)], before)
        for made in _embedded(reply.body, "calls"):
            if str(made.get("request_id")) == call.key.call_id:
                with _readable(OutcomeUnknown, reply):
                    entry = Entry(
                        entity_type=entity_type(made["entity_type"]),
                        entity_id=int(made["entity_id"]),
                        note_id=int(made["id"]),
                    )
                    return Answer(entry, reply.request_id)
        # A 2xx without our call proves nothing: it may have been made all the same.
        raise OutcomeUnknown("Kommo's answer does not mention the call", request_id=reply.request_id)

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
        for kind in _SEARCHED:
            if found.entry is not None:
                return found
            found = await self._find_note(call, f"api/v4/{kind.value}/notes", kind, since)
        return found

    async def amend(self, call: Call) -> Answer:
        """Write the call as it is known now into its entry's note, with the full params."""
        entry = call.entry
        if entry is None:
            raise PermanentError("there is no entry to amend")
        if entry.note_id is None:
            entry = await self._with_note(call, entry)
        path = f"api/v4/{entry.entity_type.value}/notes/{entry.note_id}"
        body = {"note_type": note_type(call), "params": self._words.params(call)}
        reply = await self._api.patch(path, body)
        return Answer(entry, reply.request_id)

    async def _with_note(self, call: Call, entry: Entry) -> Entry:
        """Return the entry of an incoming lead with the id of its call note, which Kommo does not tell."""
        places = [(entry.entity_type, entry.entity_id)]
        if entry.contact_id is not None:
            places.append((EntityType.CONTACTS, entry.contact_id))
        for kind, entity_id in places:
            found = await self._find_note(call, f"api/v4/{kind.value}/{entity_id}/notes", kind, 0)
            if found.entry is not None:
                return replace(entry, entity_type=kind, entity_id=entity_id, note_id=found.entry.note_id)
        raise PermanentError("the incoming lead's call note is not there")

    async def _find_note(self, call: Call, path: str, kind: EntityType, since: float) -> Answer:
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
                if _uniq(note.get("params")) == call.key.call_id:
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

    async def log_call(self, call: Call, before: Before) -> Answer:
        """Create the call where Kommo's own algorithm puts it."""
        return await self._of(call).log_call(call, before)

    async def create_incoming_lead(self, call: Call, before: Before) -> Answer:
        """Create an incoming lead with the number and the call."""
        return await self._of(call).create_incoming_lead(call, before)

    async def find(self, call: Call, since: float) -> Answer:
        """Return the entry that carries the call's id, if there is one."""
        return await self._of(call).find(call, since)

    async def amend(self, call: Call) -> Answer:
        """Write the call as it is known now into its entry's note."""
        return await self._of(call).amend(call)

    def _of(self, call: Call) -> KommoAccount:
        account = self._accounts.get(call.key.account_id)
        if account is None:
            raise AccountPaused("the account is not in the configuration")
        return account


def _embedded(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    embedded = body.get("_embedded")
    rows = embedded.get(name) if isinstance(embedded, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


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
