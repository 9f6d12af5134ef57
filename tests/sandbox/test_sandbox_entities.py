"""Leads, contacts, companies, links, tasks, the account and its users."""

from typing import Any

import aiohttp
import pytest

from calllogd.sandbox import Account
from tests.sandbox.conftest import ManualClock

PHONE = "+1 (555) 010-0200"


async def send(
    api: aiohttp.ClientSession, method: str, path: str, body: Any = None
) -> tuple[int, dict[str, Any]]:
    async with api.request(method, path, **({} if body is None else {"json": body})) as answer:
        return answer.status, (await answer.json(content_type=None)) if answer.status != 204 else {}


async def names(api: aiohttp.ClientSession, path: str) -> list[str]:
    status, body = await send(api, "GET", path)
    kind = path.partition("?")[0]
    return [] if status == 204 else [it["name"] for it in body["_embedded"][kind]]


def phone_field(*numbers: str) -> list[dict[str, Any]]:
    return [{"field_code": "PHONE", "values": [{"value": number, "enum_code": "WORK"} for number in numbers]}]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("kim", ["Kim Known"]),
        ("5550100200", ["Kim Known"]),
        ("85550100200", []),
        ("n", ["Kim Known", "Lee Lane"]),
    ],
)
async def test_query_looks_into_names_and_numbers(
    account: Account, api: aiohttp.ClientSession, query: str, found: list[str]
) -> None:
    account.add_contact("Kim Known", [PHONE])
    account.add_contact("Lee Lane", ["+15550100201"])
    assert await names(api, f"contacts?query={query}") == found


async def test_query_finds_what_is_new_only_after_the_lag(
    account: Account, api: aiohttp.ClientSession, clock: ManualClock
) -> None:
    account.search_lag = 4.0
    contact = account.add_contact("Kim", [PHONE])
    assert await names(api, "contacts?query=0100200") == []
    assert await names(api, "contacts") == ["Kim"], "plain lists have no search lag"
    clock.at += 4
    assert await names(api, "contacts?query=0100200") == ["Kim"]
    account.rename(contact, "Kimberly")
    assert await names(api, "contacts?query=kimberly") == []


async def test_linked_leads_come_only_when_asked_for(account: Account, api: aiohttp.ClientSession) -> None:
    lead = account.add_lead("Order")
    contact = account.add_contact("Kim", [PHONE], [lead])
    _, plain = await send(api, "GET", f"contacts/{contact.id}")
    _, full = await send(api, "GET", f"contacts?filter[id][]={contact.id}&with=leads")
    assert "leads" not in plain["_embedded"]
    [shown] = full["_embedded"]["contacts"]
    assert [it["id"] for it in shown["_embedded"]["leads"]] == [lead.id]
    assert shown["custom_fields_values"][0]["values"][0]["value"] == PHONE
    _, shown = await send(api, "GET", f"leads/{lead.id}")
    assert (shown["status_id"], shown["is_deleted"]) == (lead.status_id, False)


async def test_a_contact_is_added_and_its_numbers_replaced(
    account: Account, api: aiohttp.ClientSession
) -> None:
    lead = account.add_lead()
    item = {"first_name": "Kim", "last_name": "New", "custom_fields_values": phone_field(PHONE)}
    status, body = await send(api, "POST", "contacts", [item | {"_embedded": {"leads": [{"id": lead.id}]}}])
    [contact] = account.contacts
    assert (status, body["_embedded"]["contacts"][0]["id"]) == (200, contact.id)
    assert (contact.name.text, contact.numbers) == ("Kim New", [PHONE])
    assert account.linked(contact.ref, lead.ref.kind) == [lead]
    change = {"custom_fields_values": phone_field("+15550100777")}
    assert (await send(api, "PATCH", f"contacts/{contact.id}", change))[0] == 200
    assert (contact.name.text, contact.numbers) == ("Kim New", ["+15550100777"])
    assert (await send(api, "PATCH", "contacts", [{"id": contact.id, "name": "Kim"}]))[0] == 200
    assert contact.name.text == "Kim"
    assert (await send(api, "PATCH", "contacts", [{"id": 1, "name": "Kim"}]))[0] == 400
    assert (await send(api, "PATCH", f"contacts/{contact.id}", {"name": None}))[0] == 400


async def test_a_lead_is_added_and_closed(account: Account, api: aiohttp.ClientSession) -> None:
    contact = account.add_contact("Kim", [PHONE])
    await send(api, "POST", "leads", [{"name": "Order", "_embedded": {"contacts": [{"id": contact.id}]}}])
    [lead] = account.leads
    assert (lead.name.text, lead.closed, account.linked(lead.ref, contact.ref.kind)) == (
        "Order",
        False,
        [contact],
    )
    await send(api, "PATCH", f"leads/{lead.id}", {"status_id": 143})
    assert lead.closed
    status, _ = await send(api, "POST", "leads", [{"_embedded": {"contacts": [{"id": 1}]}}])
    assert (status, len(account.leads)) == (400, 1)


async def test_cards_are_linked_and_unlinked(account: Account, api: aiohttp.ClientSession) -> None:
    lead, company = account.add_lead(), account.add_company("Acme")
    link = [{"to_entity_id": lead.id, "to_entity_type": "leads"}]
    assert (await send(api, "POST", f"companies/{company.id}/link", link))[0] == 200
    assert account.linked(lead.ref, company.ref.kind) == [company]
    assert (await send(api, "POST", f"companies/{company.id}/unlink", link))[0] == 204
    assert account.linked(lead.ref, company.ref.kind) == []
    assert (await send(api, "POST", f"companies/{company.id}/link", [link[0] | {"to_entity_id": 1}]))[
        0
    ] == 400
    assert (await send(api, "POST", "companies/1/link", link))[0] == 404


async def test_tasks_are_added_and_listed(account: Account, api: aiohttp.ClientSession) -> None:
    contact = account.add_contact("Kim")
    item = {
        "text": "Call back",
        "complete_till": 1_760_003_600,
        "entity_id": contact.id,
        "entity_type": "contacts",
    }
    status, body = await send(api, "POST", "tasks", [item, {"text": "Rest", "complete_till": 1_760_003_700}])
    first = body["_embedded"]["tasks"][0]["id"]
    assert status == 200
    _, body = await send(api, "GET", f"tasks?filter[entity_type]=contacts&filter[entity_id][]={contact.id}")
    assert [(it["id"], it["text"], it["entity_id"]) for it in body["_embedded"]["tasks"]] == [
        (first, "Call back", contact.id)
    ]
    for wrong in ({"text": None}, {"entity_id": 1}, {"entity_type": "boats"}, {"responsible_user_id": 999}):
        assert (await send(api, "POST", "tasks", [item | wrong]))[0] == 400
    assert len(account.tasks) == 2


async def test_account_and_users(account: Account, api: aiohttp.ClientSession) -> None:
    _, shown = await send(api, "GET", "account")
    assert (shown["id"], shown["subdomain"], shown["is_unsorted_on"]) == (31337, "sandbox31337", True)
    account.add_user(500, "Dan")
    _, users = await send(api, "GET", "users?limit=250")
    assert users["_total_items"] == 4
    assert [it["id"] for it in users["_embedded"]["users"]] == [111, 112, 113, 500]
    assert shown["current_user_id"] == 111
    assert (await send(api, "GET", "users/500"))[1]["name"] == "Dan"
    assert (await send(api, "GET", "users/501"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "nothing", 404),
        ("GET", "calls", 405),
        ("GET", "contacts/1", 404),
        ("DELETE", "contacts/1", 405),
    ],
)
async def test_what_is_not_there(api: aiohttp.ClientSession, method: str, path: str, status: int) -> None:
    async with api.request(method, path) as answer:
        assert (answer.status, answer.content_type) == (status, "application/problem+json")
        assert (await answer.json(content_type=None))["status"] == status


async def test_an_edit_replaces_the_values_of_the_fields_it_names(
    account: Account, api: aiohttp.ClientSession
) -> None:
    contact = account.add_contact("Kim", [PHONE, "+15550100777"])
    mail = {"field_code": "EMAIL", "values": [{"value": "kim@example.com", "enum_code": "WORK"}]}
    path = f"contacts/{contact.id}"
    assert (await send(api, "PATCH", path, {"custom_fields_values": [mail]}))[0] == 200
    assert contact.numbers == [PHONE, "+15550100777"], "another field's values are not the number's"
    fields = [mail, *phone_field("+15550100888", PHONE)]
    assert (await send(api, "PATCH", path, {"custom_fields_values": fields}))[0] == 200
    assert contact.numbers == ["+15550100888", PHONE]
    by_id = [{"field_id": 1, "values": [{"value": "+15550100999"}]}]
    assert (await send(api, "PATCH", path, {"custom_fields_values": by_id}))[0] == 200
    assert contact.numbers == ["+15550100999"]
    assert (await send(api, "PATCH", path, {"custom_fields_values": phone_field()}))[0] == 200
    assert contact.numbers == []


async def test_a_contact_linked_with_a_lead_brings_its_calls_there(
    account: Account, api: aiohttp.ClientSession
) -> None:
    lead, contact = account.add_lead(), account.add_contact("Kim", [PHONE])
    link = [{"to_entity_id": contact.id, "to_entity_type": "contacts", "metadata": {"is_main": True}}]
    status, body = await send(api, "POST", f"leads/{lead.id}/link", link)
    assert (status, body["_embedded"]["links"][0]["to_entity_id"]) == (200, contact.id)
    assert (await send(api, "POST", f"leads/{lead.id}/link", link))[0] == 200, "again changes nothing"
    assert account.linked(contact.ref, lead.ref.kind) == [lead]
    call = {"direction": "inbound", "duration": 1, "source": "s", "phone": PHONE}
    _, body = await send(api, "POST", "calls", [call])
    assert body["_embedded"]["calls"][0]["entity_id"] == lead.id


async def test_tasks_are_filtered_and_paged(
    account: Account, api: aiohttp.ClientSession, clock: ManualClock
) -> None:
    contact, lead = account.add_contact("Kim"), account.add_lead()

    async def tasks(query: str) -> list[str]:
        seen: list[str] = []
        path: str | None = f"tasks?{query}"
        while path is not None:
            status, body = await send(api, "GET", path)
            assert status in {200, 204}
            seen += [it["text"] for it in body["_embedded"]["tasks"]] if body else []
            path = body["_links"].get("next", {}).get("href") if body else None
        return seen

    for n in range(5):
        on = {"entity_id": contact.id, "entity_type": "contacts"} if n < 3 else {}
        on = {"entity_id": lead.id, "entity_type": "leads"} if n == 3 else on
        item = {"text": f"t{n}", "complete_till": 1_760_000_000 - n, **on, "responsible_user_id": 111 + n % 2}
        assert (await send(api, "POST", "tasks", [item]))[0] == 200
        clock.at += 10
    of_contact = f"filter[entity_type]=contacts&filter[entity_id]={contact.id}"
    assert await tasks(of_contact) == ["t0", "t1", "t2"]
    assert await tasks(f"{of_contact}&limit=2") == ["t0", "t1", "t2"], "over two pages"
    assert await tasks(f"{of_contact}&limit=2&page=2") == ["t2"]
    assert await tasks(f"{of_contact}&order[complete_till]=asc") == ["t2", "t1", "t0"]
    assert await tasks("filter[entity_type]=leads") == ["t3"]
    assert await tasks(f"filter[entity_type]=leads&filter[entity_id]={contact.id}") == []
    assert await tasks("filter[responsible_user_id][]=112") == ["t1", "t3"]
    assert await tasks(f"filter[updated_at][from]={int(clock.at) - 20}") == ["t3", "t4"]
    assert (await send(api, "GET", f"tasks?filter[entity_id]={contact.id}"))[0] == 400
    account.list_lag = 25.0
    assert await tasks("") == ["t0", "t1", "t2"]
