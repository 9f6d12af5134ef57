"""Incoming leads: hidden until accepted, gone once declined, one entry with their call note."""

from typing import Any

import aiohttp
import pytest

from calllogd.sandbox import Account
from tests.sandbox.conftest import ManualClock

PHONE = "+1 (555) 010-0200"


def incoming(
    uniq: str = "c1", phone: str = PHONE, name: str = "Call", *, note: bool = True
) -> dict[str, Any]:
    field = {"field_code": "PHONE", "values": [{"value": phone, "enum_code": "WORK"}]}
    return {
        "source_uid": "calllogd-31337",
        "source_name": "calllogd",
        "request_id": uniq,
        "metadata": {
            "phone": phone,
            "uniq": uniq,
            "called_at": 1_700_000_000,
            "duration": 7,
            "service_code": "calllogd",
            "is_call_event_needed": note,
        },
        "_embedded": {
            "leads": [{"name": name}],
            "contacts": [{"name": phone, "custom_fields_values": [field]}],
        },
    }


async def add(api: aiohttp.ClientSession, *items: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with api.post("leads/unsorted/sip", json=items) as answer:
        return answer.status, await answer.json(content_type=None)


async def added(api: aiohttp.ClientSession, *items: dict[str, Any]) -> dict[str, Any]:
    status, body = await add(api, *items)
    assert status == 200
    first: dict[str, Any] = body["_embedded"]["unsorted"][0]
    return first


async def post_call(api: aiohttp.ClientSession) -> int:
    item = {"direction": "inbound", "duration": 1, "source": "s", "phone": PHONE}
    async with api.post("calls", json=[item]) as answer:
        return answer.status


async def status_of(api: aiohttp.ClientSession, method: str, path: str, **more: Any) -> int:
    async with api.request(method, path, **more) as answer:
        return answer.status


async def test_the_answer_names_the_cards_but_not_the_note(
    account: Account, api: aiohttp.ClientSession
) -> None:
    made = await added(api, incoming())
    assert set(made) == {"uid", "account_id", "_links", "_embedded", "request_id"}
    assert made["request_id"] == "c1"
    assert [it["id"] for it in made["_embedded"]["leads"]] == [account.leads[0].id]
    assert [it["id"] for it in made["_embedded"]["contacts"]] == [account.contacts[0].id]


async def test_the_call_note_stands_on_the_lead(account: Account, api: aiohttp.ClientSession) -> None:
    made = await added(api, incoming())
    async with api.get(f"leads/{made['_embedded']['leads'][0]['id']}/notes") as answer:
        notes = (await answer.json(content_type=None))["_embedded"]["notes"]
    assert [(it["note_type"], it["created_at"]) for it in notes] == [("call_in", 1_700_000_000)]
    assert notes[0]["params"] == {
        "uniq": "c1",
        "duration": 7,
        "phone": PHONE,
        "source": "calllogd",
    }


async def test_an_open_incoming_lead_is_hidden_from_lists_and_from_calls(
    account: Account, api: aiohttp.ClientSession
) -> None:
    made = await added(api, incoming())
    assert await status_of(api, "GET", "contacts") == 204
    assert await status_of(api, "GET", "contacts?query=5550100200") == 204
    assert await status_of(api, "GET", "leads") == 204
    assert await post_call(api) == 400
    contact = made["_embedded"]["contacts"][0]["id"]
    async with api.get(f"contacts/{contact}") as answer:
        assert (await answer.json(content_type=None))["is_unsorted"] is True
    assert [entry.hidden for entry in account.entries("c1")] == [True]


async def test_accepting_shows_the_cards_and_takes_it_out_of_the_list(
    account: Account, api: aiohttp.ClientSession
) -> None:
    made = await added(api, incoming())
    path = f"leads/unsorted/{made['uid']}"
    assert await status_of(api, "GET", path) == 200
    assert await status_of(api, "POST", f"{path}/accept", json={"user_id": 111, "status_id": 7102}) == 200
    assert await status_of(api, "GET", path) == 404
    assert await status_of(api, "GET", "leads/unsorted") == 204
    assert await status_of(api, "POST", f"{path}/accept") == 404
    assert await post_call(api) == 200
    assert account.notes[-1].on == account.leads[0].ref
    assert account.leads[0].status_id == 7102
    assert [(it.hidden, it.lead_uid) for it in account.entries("c1")] == [(False, made["uid"])]


async def test_declining_deletes_the_cards(account: Account, api: aiohttp.ClientSession) -> None:
    made = await added(api, incoming())
    lead = made["_embedded"]["leads"][0]["id"]
    path = f"leads/unsorted/{made['uid']}/decline"
    assert await status_of(api, "DELETE", path) == 400, "user_id is needed"
    assert await status_of(api, "DELETE", path, json={"user_id": 111}) == 200
    assert await status_of(api, "GET", f"leads/{lead}") == 404
    assert await status_of(api, "GET", f"leads/{lead}/notes") == 404
    assert await status_of(api, "GET", "leads/notes") == 204
    assert account.contacts == []
    assert account.entries("c1") == []
    assert [it.state for it in account.unsorted] == ["declined"]


async def test_an_identical_open_one_is_refused(account: Account, api: aiohttp.ClientSession) -> None:
    made = await added(api, incoming("c1"))
    status, body = await add(api, incoming("c2", "+7 555 010 0200"))
    assert status == 400
    assert body["validation-errors"][0]["request_id"] == "c2"
    assert len(account.unsorted) == 1
    assert (await add(api, incoming("c3", name="Another call")))[0] == 200
    account.accept(made["uid"])
    assert (await add(api, incoming("c4")))[0] == 200


async def test_identical_ones_within_a_batch_are_refused_together(
    account: Account, api: aiohttp.ClientSession
) -> None:
    assert (await add(api, incoming("c1"), incoming("c2")))[0] == 400
    assert account.unsorted == []
    assert account.leads == []


@pytest.mark.parametrize("missing", ["source_uid", "source_name", "metadata", "_embedded"])
async def test_a_missing_part_is_refused(account: Account, api: aiohttp.ClientSession, missing: str) -> None:
    item = incoming()
    del item[missing]
    status, body = await add(api, item)
    assert status == 400
    assert body["validation-errors"][0]["errors"][0]["path"] == missing
    assert account.leads == []


async def test_a_null_inside_is_refused(account: Account, api: aiohttp.ClientSession) -> None:
    item = incoming()
    item["metadata"]["link"] = None
    status, body = await add(api, item)
    assert status == 400
    assert body["validation-errors"][0]["errors"][0]["path"] == "metadata.link"


async def test_without_a_call_event_the_incoming_lead_itself_is_the_entry(
    account: Account, api: aiohttp.ClientSession
) -> None:
    made = await added(api, incoming(note=False))
    assert account.notes == []
    for _ in range(2):
        [entry] = account.entries("c1")
        assert (entry.note_id, entry.lead_uid, entry.entity_id) == (None, made["uid"], account.leads[0].id)
        if account.open_incoming(made["uid"]):
            account.accept(made["uid"])


async def test_another_note_with_the_same_uniq_is_a_second_entry(
    account: Account, api: aiohttp.ClientSession
) -> None:
    made = await added(api, incoming())
    assert len(account.entries("c1")) == 1
    account.add_note(account.add_contact("Kim").ref, "call_in", {"uniq": "c1"})
    assert len(account.entries("c1")) == 2
    account.decline(made["uid"])
    assert [(entry.entity_type, entry.lead_uid) for entry in account.entries("c1")] == [("contacts", None)]


async def test_a_renamed_note_frees_the_uniq(account: Account, api: aiohttp.ClientSession) -> None:
    """The incoming lead may stay for the other calls on it; its metadata cannot be changed."""
    made = await added(api, incoming())
    account.set_params(account.notes[0], {**account.notes[0].params, "uniq": "c1#moved"})
    assert account.entries("c1") == []
    account.accept(made["uid"])
    assert account.entries("c1") == []


async def test_the_list_is_filtered_ordered_and_paged(
    account: Account, api: aiohttp.ClientSession, clock: ManualClock
) -> None:
    uids = []
    for n in range(3):
        uids.append((await added(api, incoming(f"c{n}", f"+1555010030{n}")))["uid"])
        clock.at += 1

    async def listed(query: str) -> list[str]:
        async with api.get(f"leads/unsorted?{query}") as answer:
            if answer.status == 204:
                assert await answer.read() == b""
                return []
            return [it["uid"] for it in (await answer.json(content_type=None))["_embedded"]["unsorted"]]

    assert await listed("filter[category][]=sip") == uids
    assert await listed("filter[category][]=forms") == []
    assert await listed(f"filter[uid]={uids[1]}") == [uids[1]]
    assert await listed("order[created_at]=desc") == uids[::-1]
    assert await listed("limit=2&page=2") == [uids[2]]
    account.list_lag = 2.5
    assert await listed("") == uids[:1]


CALL = {"uniq": "c1", "duration": 1, "source": "s", "phone": PHONE}


async def test_nothing_is_written_to_what_lies_in_the_bin(
    account: Account, api: aiohttp.ClientSession
) -> None:
    made = await added(api, incoming())
    [note], [lead], [contact] = account.notes, account.leads, account.contacts
    on_contact = account.add_note(contact.ref, "call_in", CALL | {"uniq": "c2"})
    account.decline(made["uid"])
    item = {"note_type": "call_in", "params": CALL}
    for kind, card, old in (("leads", lead.id, note.id), ("contacts", contact.id, on_contact.id)):
        assert await status_of(api, "POST", f"{kind}/{card}/notes", json=[item]) == 404
        assert await status_of(api, "POST", f"{kind}/notes", json=[item | {"entity_id": card}]) == 400
        assert await status_of(api, "PATCH", f"{kind}/notes/{old}", json={"params": CALL}) == 404
        assert await status_of(api, "PATCH", f"{kind}/{card}/notes/{old}", json={"params": CALL}) == 404
        assert await status_of(api, "PATCH", f"{kind}/notes", json=[{"id": old, "params": CALL}]) == 400
        assert await status_of(api, "GET", f"{kind}/notes/{old}") == 404
        assert await status_of(api, "PATCH", f"{kind}/{card}", json={"name": "x"}) == 404
    link = [{"to_entity_id": contact.id, "to_entity_type": "contacts"}]
    assert await status_of(api, "POST", f"leads/{account.add_lead().id}/link", json=link) == 400
    assert (account.notes, account.entries("c1"), account.entries("c2")) == ([], [], [])
    assert (note.params["uniq"], note.params["duration"]) == ("c1", 7), "what lies there is as it was"


async def test_an_accepted_contact_is_found_by_number_only_after_the_search_lag(
    account: Account, api: aiohttp.ClientSession, clock: ManualClock
) -> None:
    account.search_lag = 5.0
    made = await added(api, incoming())
    clock.at += 60
    assert await post_call(api) == 400, "hidden, however long it has been there"
    assert await status_of(api, "POST", f"leads/unsorted/{made['uid']}/accept") == 200
    assert await post_call(api) == 400
    assert await status_of(api, "GET", "contacts?query=5550100200") == 204
    assert await status_of(api, "GET", "contacts") == 200
    clock.at += 5
    assert await post_call(api) == 200
    assert await status_of(api, "GET", "contacts?query=5550100200") == 200


@pytest.mark.parametrize("closed", [False, True])
async def test_a_hidden_contact_linked_with_another_lead_outlives_the_decline(
    account: Account, api: aiohttp.ClientSession, closed: bool
) -> None:
    made = await added(api, incoming())
    contact = made["_embedded"]["contacts"][0]["id"]
    chosen = account.add_lead("Order", closed=closed)
    link = [{"to_entity_id": contact, "to_entity_type": "contacts", "metadata": {"is_main": True}}]
    assert await status_of(api, "POST", f"leads/{chosen.id}/link", json=link) == 200
    assert await post_call(api) == 400, "linked, but hidden still"
    path = f"leads/unsorted/{made['uid']}/decline"
    assert await status_of(api, "DELETE", path, json={"user_id": 111}) == 200
    assert [it.id for it in account.contacts] == [contact]
    assert [it.id for it in account.leads] == [chosen.id]
    assert account.linked(chosen.ref, account.contacts[0].ref.kind) == account.contacts
    assert account.entries("c1") == []
    assert await post_call(api) == 200, "people see the contact now"


@pytest.mark.parametrize("other", ["hidden", "deleted", "unlinked"])
async def test_a_lead_that_nobody_sees_saves_no_contact(
    account: Account, api: aiohttp.ClientSession, other: str
) -> None:
    made = await added(api, incoming())
    contact = account.contacts[0]
    if other == "hidden":
        await added(api, incoming("c2", "+15550100333"))
    lead = account.leads[-1] if other == "hidden" else account.add_lead()
    account.link(lead.ref, contact.ref)
    if other == "deleted":
        account.delete(lead)
    if other == "unlinked":
        account.unlink(lead.ref, contact.ref)
    account.decline(made["uid"])
    assert contact.deleted
