"""Notes: lists, filters, pages, adding, editing; none is deleted or moved."""

from typing import Any

import aiohttp
import pytest

from calllogd.sandbox import Account
from tests.sandbox.conftest import ManualClock

PHONE = "+1 (555) 010-0200"


CALL = {"uniq": "c1", "duration": 1, "source": "s", "phone": PHONE}


async def send(
    api: aiohttp.ClientSession, method: str, path: str, body: Any = None
) -> tuple[int, dict[str, Any]]:
    async with api.request(method, path, **({} if body is None else {"json": body})) as answer:
        return answer.status, (await answer.json(content_type=None)) if answer.status != 204 else {}


async def ids(api: aiohttp.ClientSession, path: str) -> list[int]:
    status, body = await send(api, "GET", path)
    return [] if status == 204 else [it["id"] for it in body["_embedded"]["notes"]]


async def test_no_notes_are_204_without_a_body(account: Account, api: aiohttp.ClientSession) -> None:
    contact = account.add_contact("Kim")
    for path in ("contacts/notes", f"contacts/{contact.id}/notes"):
        async with api.get(path) as answer:
            assert (answer.status, await answer.read()) == (204, b"")


async def test_the_list_is_filtered(account: Account, api: aiohttp.ClientSession, clock: ManualClock) -> None:
    kim, lee = account.add_contact("Kim"), account.add_contact("Lee")
    start = int(clock.at)
    notes = []
    for on, kind in ((kim, "call_in"), (kim, "common"), (lee, "call_out")):
        notes.append(account.add_note(on.ref, kind, {}, created_at=5).id)
        clock.at += 10
    account.add_note(account.add_lead().ref, "call_in", {})
    a, b, c = notes
    assert await ids(api, "contacts/notes") == [a, b, c]
    assert await ids(api, "contacts/notes?filter[note_type][]=call_in&filter[note_type][]=call_out") == [a, c]
    assert await ids(api, "contacts/notes?filter[note_type]=common") == [b]
    assert await ids(api, f"contacts/notes?filter[entity_id][0]={lee.id}") == [c]
    assert await ids(api, f"contacts/{kim.id}/notes") == [a, b]
    assert await ids(api, f"contacts/notes?filter[id][]={b}") == [b]
    assert await ids(api, f"contacts/notes?filter[updated_at][from]={start + 10}") == [b, c]
    assert await ids(api, f"contacts/notes?filter[updated_at][to]={start + 10}") == [a, b]
    assert await ids(api, f"contacts/notes?filter[updated_at]={start + 10}") == [b]
    assert await ids(api, "contacts/notes?order[id]=desc") == [c, b, a]
    assert await ids(api, "contacts/notes?filter[params]=nonsense") == [a, b, c], "unknown filters do nothing"


async def test_pages_are_linked_until_the_last(account: Account, api: aiohttp.ClientSession) -> None:
    contact = account.add_contact("Kim")
    made = [account.add_note(contact.ref, "common", {"text": str(n)}).id for n in range(5)]
    seen: list[int] = []
    path: str | None = "contacts/notes?limit=2&filter[note_type][]=common"
    while path is not None:
        _, body = await send(api, "GET", path)
        seen += [it["id"] for it in body["_embedded"]["notes"]]
        path = body["_links"].get("next", {}).get("href")
    assert seen == made
    assert await ids(api, "contacts/notes?limit=2&page=4") == []
    _, body = await send(api, "GET", "contacts/notes?limit=5")
    assert "next" not in body["_links"]


@pytest.mark.parametrize("query", ["limit=251", "limit=0", "page=0", "page=x", "filter[id][]=x"])
async def test_an_impossible_list_is_refused(api: aiohttp.ClientSession, query: str) -> None:
    assert (await send(api, "GET", f"contacts/notes?{query}"))[0] == 400


async def test_notes_younger_than_the_list_lag_are_not_listed_but_there(
    account: Account, api: aiohttp.ClientSession, clock: ManualClock
) -> None:
    account.list_lag = 3.0
    note = account.add_note(account.add_contact("Kim").ref, "common", {"text": "x"})
    assert await ids(api, "contacts/notes") == []
    assert (await send(api, "GET", f"contacts/notes/{note.id}"))[0] == 200
    clock.at += 3
    assert await ids(api, "contacts/notes") == [note.id]


async def test_both_forms_of_the_path_add_a_note(
    account: Account, api: aiohttp.ClientSession, clock: ManualClock
) -> None:
    contact = account.add_contact("Kim")
    item = {"note_type": "call_in", "params": CALL, "created_at": 1_600_000_000, "request_id": "r"}
    status, body = await send(api, "POST", f"contacts/{contact.id}/notes", [item])
    assert (status, body["_embedded"]["notes"][0]["request_id"]) == (200, "r")
    assert (await send(api, "POST", "contacts/notes", [item | {"entity_id": contact.id}]))[0] == 200
    first = body["_embedded"]["notes"][0]["id"]
    _, note = await send(api, "GET", f"contacts/{contact.id}/notes/{first}")
    assert (note["entity_id"], note["note_type"], note["params"]) == (contact.id, "call_in", CALL)
    assert (note["created_at"], note["updated_at"]) == (1_600_000_000, int(clock.at))
    assert len(account.entries("c1")) == 2


@pytest.mark.parametrize(
    ("path", "more", "wrong"),
    [
        ("contacts/notes", {}, "entity_id"),
        ("contacts/notes", {"entity_id": 1}, "entity_id"),
        ("contacts/{id}/notes", {"entity_id": 1}, "entity_id"),
        ("contacts/{id}/notes", {"note_type": "song"}, "note_type"),
        ("contacts/{id}/notes", {"params": CALL | {"link": None}}, "params.link"),
        ("contacts/{id}/notes", {"params": {"uniq": "c1"}}, "params.duration"),
        ("contacts/{id}/notes", {"params": CALL | {"mood": "good"}}, "params.mood"),
        ("contacts/{id}/notes", {"note_type": "common", "params": {}}, "params"),
    ],
)
async def test_a_bad_note_is_refused(
    account: Account, api: aiohttp.ClientSession, path: str, more: dict[str, Any], wrong: str
) -> None:
    contact = account.add_contact("Kim")
    item = {"note_type": "call_in", "params": CALL} | more
    status, body = await send(api, "POST", path.format(id=contact.id), [item])
    assert status == 400
    assert body["validation-errors"][0]["errors"][0]["path"] == wrong
    assert account.notes == []


@pytest.mark.parametrize("form", ["one", "one of the card", "many", "many of the card"])
async def test_editing_replaces_all_params(
    account: Account, api: aiohttp.ClientSession, clock: ManualClock, form: str
) -> None:
    contact = account.add_contact("Kim")
    note = account.add_note(contact.ref, "call_in", CALL | {"link": "https://rec.example/1"}, created_at=5)
    clock.at += 60
    paths = {
        "one": f"contacts/notes/{note.id}",
        "one of the card": f"contacts/{contact.id}/notes/{note.id}",
        "many": "contacts/notes",
        "many of the card": f"contacts/{contact.id}/notes",
    }
    item = {"params": {"duration": 9}}
    status, body = await send(
        api, "PATCH", paths[form], [item | {"id": note.id}] if form.startswith("many") else item
    )
    changed = body["_embedded"]["notes"][0] if form.startswith("many") else body
    assert (status, changed["id"], changed["updated_at"]) == (200, note.id, int(clock.at))
    assert (note.params, note.created_at, note.updated_at) == ({"duration": 9}, 5, int(clock.at))
    assert account.entries("c1") == []


async def test_a_note_is_neither_moved_nor_retyped(account: Account, api: aiohttp.ClientSession) -> None:
    contact, other = account.add_contact("Kim"), account.add_contact("Lee")
    note = account.add_note(contact.ref, "call_in", CALL)
    for more in ({"entity_id": other.id}, {"note_type": "common"}, {"params": {"duration": None}}):
        assert (await send(api, "PATCH", f"contacts/notes/{note.id}", more))[0] == 400
        assert (await send(api, "PATCH", "contacts/notes", [more | {"id": note.id}]))[0] == 400
    assert (note.on, note.note_type, note.params) == (contact.ref, "call_in", CALL)
    assert (await send(api, "PATCH", "contacts/notes", [{"id": 1, "params": {}}]))[0] == 400
    assert (await send(api, "PATCH", f"leads/notes/{note.id}", {"params": {}}))[0] == 404


async def test_the_api_deletes_no_note(account: Account, api: aiohttp.ClientSession) -> None:
    note = account.add_note(account.add_contact("Kim").ref, "call_in", CALL)
    async with api.delete(f"contacts/notes/{note.id}") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, PATCH"
    assert account.notes == [note]
    account.delete_note(note.id)
    assert account.notes == []
