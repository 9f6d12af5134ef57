"""POST calls: which card a call goes to, and what is refused."""

from typing import Any

import aiohttp
import pytest

from calllogd.sandbox import Account
from tests.sandbox.conftest import ManualClock

PHONE = "+1 (555) 010-0200"


def call(uniq: str = "c1", phone: str = PHONE, **more: Any) -> dict[str, Any]:
    return {
        "direction": "inbound",
        "duration": 42,
        "source": "calllogd",
        "phone": phone,
        "uniq": uniq,
        "request_id": uniq,
        **more,
    }


async def post(api: aiohttp.ClientSession, *calls: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with api.post("calls", json=calls) as answer:
        return answer.status, await answer.json(content_type=None)


async def entity_of(api: aiohttp.ClientSession, **more: Any) -> tuple[str, int]:
    status, body = await post(api, call(**more))
    assert status == 200
    made = body["_embedded"]["calls"][0]
    return made["entity_type"], made["entity_id"]


async def test_a_contact_without_leads_gets_the_call(account: Account, api: aiohttp.ClientSession) -> None:
    contact = account.add_contact("Kim", [PHONE])
    status, body = await post(
        api, call(call_result="fine", call_status=4, created_at=1_700_000_000, created_by=112)
    )
    made = body["_embedded"]["calls"][0]
    assert (status, body["_total_items"], body["errors"]) == (200, 1, [])
    assert (made["entity_type"], made["entity_id"], made["request_id"]) == ("contact", contact.id, "c1")
    note = account.note(made["id"])
    assert note is not None
    assert (note.note_type, note.created_at, note.created_by) == ("call_in", 1_700_000_000, 112)
    assert note.params == {
        "uniq": "c1",
        "duration": 42,
        "source": "calllogd",
        "phone": PHONE,
        "call_result": "fine",
        "call_status": 4,
    }


async def test_an_outbound_call_makes_a_call_out_note(account: Account, api: aiohttp.ClientSession) -> None:
    account.add_contact("Kim", [PHONE])
    await post(api, call(direction="outbound"))
    assert [note.note_type for note in account.notes] == ["call_out"]


async def test_the_single_active_lead_gets_the_call(account: Account, api: aiohttp.ClientSession) -> None:
    lead = account.add_lead()
    account.add_contact("Kim", [PHONE], [lead, account.add_lead(closed=True)])
    assert await entity_of(api) == ("lead", lead.id)


async def test_of_two_active_leads_neither_gets_the_call(
    account: Account, api: aiohttp.ClientSession
) -> None:
    contact = account.add_contact("Kim", [PHONE], [account.add_lead(), account.add_lead()])
    assert await entity_of(api) == ("contact", contact.id)


async def test_a_closed_lead_does_not_count(account: Account, api: aiohttp.ClientSession) -> None:
    contact = account.add_contact("Kim", [PHONE], [account.add_lead(closed=True)])
    assert await entity_of(api) == ("contact", contact.id)


async def test_a_company_gets_the_call_when_no_contact_has_the_number(
    account: Account, api: aiohttp.ClientSession
) -> None:
    company = account.add_company("Acme", [PHONE])
    assert await entity_of(api) == ("company", company.id)
    contact = account.add_contact("Kim", [PHONE])
    assert await entity_of(api) == ("contact", contact.id)


@pytest.mark.parametrize(
    ("stored", "called", "found"),
    [
        ("555 010 0200", "+15550100200", True),
        ("+7 555 010 0200", "+15550100200", True),
        ("+15550100201", "+15550100200", False),
        ("101", "101", True),
        ("5550100101", "101", False),
        ("", "anonymous", False),
    ],
)
async def test_the_last_ten_digits_decide(
    account: Account, api: aiohttp.ClientSession, stored: str, called: str, found: bool
) -> None:
    account.add_contact("Kim", [stored])
    status, _ = await post(api, call(phone=called))
    assert (status == 200) is found


async def test_a_number_nobody_has_is_400_in_collection_shape(
    account: Account, api: aiohttp.ClientSession
) -> None:
    status, body = await post(api, call())
    assert (status, body["_total_items"], body["_embedded"]) == (400, 0, {"calls": []})
    assert [(it["status"], it["title"]) for it in body["errors"]] == [(263, "Entity not found")]
    assert "validation-errors" not in body
    assert account.notes == []


async def test_a_mixed_batch_tells_each_call_apart(account: Account, api: aiohttp.ClientSession) -> None:
    account.add_contact("Kim", [PHONE])
    status, body = await post(api, call("known"), call("unknown", "+15550109999"))
    assert (status, body["_total_items"]) == (200, 1)
    assert [it["request_id"] for it in body["_embedded"]["calls"]] == ["known"]
    assert [(it["status"], it["request_id"]) for it in body["errors"]] == [(263, "unknown")]


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"call_result": None}, "call_result"),
        ({"request_id": None}, "request_id"),
        ({"call_responsible": None}, "call_responsible"),
        ({"direction": "sideways"}, "direction"),
        ({"duration": "42"}, "duration"),
        ({"duration": True}, "duration"),
        ({"duration": -1}, "duration"),
        ({"call_status": 8}, "call_status"),
        ({"entity_id": 5}, "entity_id"),
        ({"created_by": 999}, "created_by"),
        ({"phone": ""}, "phone"),
    ],
)
async def test_a_bad_field_is_a_validation_error_and_refuses_the_batch(
    account: Account, api: aiohttp.ClientSession, more: dict[str, Any], path: str
) -> None:
    account.add_contact("Kim", [PHONE])
    status, body = await post(api, call("good"), call() | more)
    assert status == 400
    assert [error["path"] for it in body["validation-errors"] for error in it["errors"]] == [path]
    assert "errors" not in body
    assert account.notes == []


async def test_a_missing_field_is_a_validation_error(account: Account, api: aiohttp.ClientSession) -> None:
    account.add_contact("Kim", [PHONE])
    item = call("only")
    del item["source"]
    status, body = await post(api, item)
    assert status == 400
    assert body["validation-errors"][0]["request_id"] == "only"
    assert body["validation-errors"][0]["errors"][0]["path"] == "source"


async def test_a_repeated_uniq_makes_a_second_note(account: Account, api: aiohttp.ClientSession) -> None:
    account.add_contact("Kim", [PHONE])
    await post(api, call())
    await post(api, call())
    assert len(account.entries("c1")) == 2
    assert account.entries("c2") == []


@pytest.mark.parametrize(("count", "status"), [(250, 200), (251, 422)])
async def test_a_batch_has_at_most_250_calls(
    account: Account, api: aiohttp.ClientSession, count: int, status: int
) -> None:
    account.add_contact("Kim", [PHONE])
    assert (await post(api, *[call(f"c{n}") for n in range(count)]))[0] == status
    assert len(account.notes) == (count if status == 200 else 0)


@pytest.mark.parametrize("body", ["", "[", "{}", "[]", "[1]", '"x"', "[" * 100_000])
async def test_what_is_no_list_of_objects_is_a_problem(api: aiohttp.ClientSession, body: str) -> None:
    async with api.post("calls", data=body) as answer:
        assert answer.status == 400
        assert answer.content_type == "application/problem+json"


async def test_the_search_finds_a_number_only_after_the_lag(
    account: Account, api: aiohttp.ClientSession, clock: ManualClock
) -> None:
    account.search_lag = 5.0
    lead = account.add_lead()
    contact = account.add_contact("Kim", [PHONE])
    assert (await post(api, call()))[0] == 400
    clock.at += 5
    assert await entity_of(api) == ("contact", contact.id)
    account.link(contact.ref, lead.ref)
    assert await entity_of(api) == ("contact", contact.id)
    clock.at += 5
    assert await entity_of(api) == ("lead", lead.id)
    account.set_phones(contact, [PHONE, "+15550100777"])
    assert (await post(api, call(phone="+15550100777")))[0] == 400
    assert await entity_of(api) == ("lead", lead.id)


async def test_of_several_contacts_the_oldest_that_still_has_the_number_wins(
    account: Account, api: aiohttp.ClientSession
) -> None:
    first, second = (account.add_contact(name, [PHONE]) for name in ("Kim", "Lee"))
    assert await entity_of(api) == ("contact", first.id)
    account.set_phones(first, ["+15550100999"])
    assert await entity_of(api) == ("contact", second.id)
    account.delete(second)
    assert (await post(api, call()))[0] == 400


async def test_a_batch_of_fifty_makes_fifty_entries_each_named(
    account: Account, api: aiohttp.ClientSession
) -> None:
    contacts = [account.add_contact(f"Kim {n}", [f"+1555020{n:04d}"]) for n in range(50)]
    status, body = await post(api, *[call(f"c{n}", f"+1555020{n:04d}") for n in range(50)])
    made = {it["request_id"]: (it["id"], it["entity_id"]) for it in body["_embedded"]["calls"]}
    assert (status, body["_total_items"], body["errors"]) == (200, 50, [])
    assert list(made) == [f"c{n}" for n in range(50)]
    for n, contact in enumerate(contacts):
        [entry] = account.entries(f"c{n}")
        assert made[f"c{n}"] == (entry.note_id, contact.id)


async def test_every_bad_item_of_a_batch_is_named_and_nothing_is_made(
    account: Account, api: aiohttp.ClientSession
) -> None:
    account.add_contact("Kim", [PHONE])
    batch = [call(f"c{n}") for n in range(50)]
    batch[17]["call_status"] = 99
    del batch[31]["duration"]
    del batch[31]["request_id"]
    status, body = await post(api, *batch)
    assert status == 400
    assert [(it["request_id"], it["errors"][0]["path"]) for it in body["validation-errors"]] == [
        ("c17", "call_status"),
        ("31", "duration"),
    ]
    assert (account.notes, account.histories) == ([], {})
