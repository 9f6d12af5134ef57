"""How many entries a call has, and had."""

from typing import Any

import aiohttp

from calllogd.sandbox import Account, SandboxKommo
from tests.sandbox.conftest import ManualClock

PHONE = "+1 (555) 010-0200"


def params(uniq: str = "c1") -> dict[str, Any]:
    return {"uniq": uniq, "duration": 1, "source": "s", "phone": PHONE}


async def send(api: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> None:
    async with api.request(method, path, **({} if body is None else {"json": body})) as answer:
        assert answer.status in {200, 204}


async def test_a_move_doubles_the_entry_for_one_request(
    account: Account, api: aiohttp.ClientSession, clock: ManualClock
) -> None:
    contact, lead = account.add_contact("Kim", [PHONE]), account.add_lead()
    await send(api, "POST", "calls", [params() | {"direction": "inbound"}])
    [first] = account.notes
    assert (first.on, account.history("c1").peak, account.history("c1").doubled) == (contact.ref, 1, [])
    clock.at += 60
    await send(api, "POST", f"leads/{lead.id}/notes", [{"note_type": "call_in", "params": params()}])
    assert list(account.duplicates()) == ["c1"]
    assert [(it.since, it.until, it.requests) for it in account.history("c1").doubled] == [
        (clock.at, None, None)
    ]
    clock.at += 0.25
    neutral = {"params": params("c1#moved") | {"duration": 0}}
    await send(api, "PATCH", f"contacts/notes/{first.id}", neutral)
    history = account.history("c1")
    assert [entry.entity_id for entry in account.entries("c1")] == [lead.id]
    assert account.duplicates() == {}
    assert (history.peak, history.entries) == (2, 1)
    assert [(it.until, it.requests) for it in history.doubled] == [(clock.at, 1)]
    assert [entry.note_id for entry in account.entries("c1#moved")] == [first.id]


async def test_other_requests_between_are_counted(account: Account, api: aiohttp.ClientSession) -> None:
    contact = account.add_contact("Kim")
    for _ in range(3):
        await send(
            api, "POST", f"contacts/{contact.id}/notes", [{"note_type": "call_in", "params": params()}]
        )
    await send(api, "GET", "account")
    account.delete_note(account.notes[0].id)
    assert [it.until for it in account.history("c1").doubled] == [None], "two still stand"
    await send(api, "PATCH", f"contacts/notes/{account.notes[0].id}", {"params": params("c2")})
    history = account.history("c1")
    assert (history.peak, history.entries, [it.requests for it in history.doubled]) == (3, 1, [3])


async def test_the_uniq_is_compared_exactly(account: Account) -> None:
    contact = account.add_contact("Kim")
    for uniq in ("c1", "c1#moved", "C1", "c1 ", "c", "c1#moved#moved"):
        account.add_note(contact.ref, "call_in", params(uniq))
    account.add_note(contact.ref, "common", {"text": "c1", "uniq": "c1"})
    assert [entry.params["uniq"] for entry in account.entries("c1")] == ["c1"]
    assert account.duplicates() == {}


async def test_an_incoming_lead_and_its_note_are_one_entry_all_along(
    account: Account, api: aiohttp.ClientSession
) -> None:
    item = {
        "source_uid": "s",
        "source_name": "s",
        "metadata": {
            "phone": PHONE,
            "uniq": "c1",
            "called_at": 5,
            "duration": 0,
            "service_code": "s",
            "is_call_event_needed": True,
        },
        "_embedded": {"leads": [{"name": "Call"}]},
    }
    await send(api, "POST", "leads/unsorted/sip", [item])
    assert (account.history("c1").entries, account.history("c1").peak) == (1, 1)
    account.accept(account.unsorted[0].uid)
    assert (account.history("c1").entries, account.history("c1").peak) == (1, 1)
    account.delete(account.leads[0])
    assert (account.history("c1").entries, account.history("c1").peak) == (0, 1)
    await send(api, "POST", "leads/unsorted/sip", [item])
    contact = account.add_contact("Kim")
    await send(api, "POST", "contacts/notes", [_on(contact.id)])
    assert account.history("c1").entries == 2
    await send(api, "DELETE", f"leads/unsorted/{account.unsorted[1].uid}/decline", {"user_id": 111})
    history = account.history("c1")
    assert (history.entries, history.peak, [it.requests for it in history.doubled]) == (1, 2, [1])


def _on(contact_id: int) -> dict[str, Any]:
    return {"entity_id": contact_id, "note_type": "call_in", "params": params()}


async def test_duplicates_are_shown_over_http(
    kommo: SandboxKommo, account: Account, clock: ManualClock
) -> None:
    contact = account.add_contact("Kim")
    for uniq in ("c1", "c2", "c1"):
        account.add_note(contact.ref, "call_in", params(uniq))
    clock.at += 2
    async with (
        aiohttp.ClientSession() as control,
        control.get(f"{kommo.url}/_sandbox/duplicates?account_id=31337") as answer,
    ):
        shown = await answer.json()
    assert [(uniq, len(views)) for uniq, views in shown["duplicates"].items()] == [("c1", 2)]
    assert {uniq: it["peak"] for uniq, it in shown["history"].items()} == {"c1": 2, "c2": 1}
    assert shown["history"]["c1"]["doubled"] == [
        {"since": clock.at - 2, "seconds": 2.0, "requests": None, "over": False}
    ]
