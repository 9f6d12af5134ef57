"""Kommo's own webhooks: what they say, when they are tried again, and that nothing waits for them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from calllogd.sandbox import Account, HookRecord, SandboxKommo

PHONE = "+1 (555) 010-0200"
OTHER_PHONE = "+1 555 010 0777"
WITHIN_S = 10.0


class Listener:
    """Who is told: keeps what came, answers with the statuses given, then 200; `None`: never."""

    def __init__(self) -> None:
        self.forms: list[dict[str, str]] = []
        self.content_types: list[str] = []
        self.answers: list[int | None] = []
        self.told = asyncio.Event()
        self.server = TestServer(web.Application())
        self.server.app.router.add_post("/kommo/{account_id}/{secret}", self._told)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/kommo/31337/secret"))

    async def _told(self, request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        self.forms.append(dict(parse_qsl(body, keep_blank_values=True, strict_parsing=True)))
        self.content_types.append(request.content_type)
        self.told.set()
        status = self.answers.pop(0) if self.answers else 200
        if status is None:
            await asyncio.Event().wait()
        return web.Response(status=status or 200)


@pytest.fixture
async def listener(kommo: SandboxKommo, account: Account) -> AsyncIterator[Listener]:
    listener = Listener()
    await listener.server.start_server(shutdown_timeout=0.1)
    kommo.hooks.retry_s = 0.01
    kommo.hook(account.id, listener.url)
    yield listener
    await listener.server.close()


async def settled(kommo: SandboxKommo) -> list[HookRecord]:
    async with asyncio.timeout(WITHIN_S):
        await kommo.hooks.settled()
    return kommo.hooks.sent


def phone_field(*numbers: str) -> list[dict[str, Any]]:
    return [{"field_code": "PHONE", "values": [{"value": number, "enum_code": "WORK"} for number in numbers]}]


def incoming(uniq: str = "c1") -> dict[str, Any]:
    return {
        "source_uid": "s",
        "source_name": "s",
        "metadata": {
            "phone": PHONE,
            "uniq": uniq,
            "called_at": 5,
            "duration": 0,
            "service_code": "s",
            "is_call_event_needed": True,
        },
        "_embedded": {
            "leads": [{"name": "Call"}],
            "contacts": [{"name": PHONE, "custom_fields_values": phone_field(PHONE)}],
        },
    }


async def add_incoming(api: aiohttp.ClientSession) -> str:
    async with api.post("leads/unsorted/sip", json=[incoming()]) as answer:
        assert answer.status == 200
        return str((await answer.json(content_type=None))["_embedded"]["unsorted"][0]["uid"])


async def test_a_contact_added_in_the_browser_is_told_with_its_numbers(
    kommo: SandboxKommo, account: Account, listener: Listener
) -> None:
    lead = account.add_lead()
    contact = account.add_contact("Zoë & Söhne", [PHONE, OTHER_PHONE], [lead])
    [record] = await settled(kommo)
    assert (record.account_id, record.url, record.statuses) == (31337, listener.url, [200])
    assert listener.content_types == ["application/x-www-form-urlencoded"]
    [form] = listener.forms
    assert form == record.form
    assert form["contacts[add][0][id]"] == str(contact.id)
    assert form["contacts[add][0][name]"] == "Zoë & Söhne"
    assert form["contacts[add][0][type]"] == "contact"
    assert form["contacts[add][0][custom_fields][0][code]"] == "PHONE"
    assert form["contacts[add][0][custom_fields][0][values][0][value]"] == PHONE
    assert form["contacts[add][0][custom_fields][0][values][1][value]"] == OTHER_PHONE
    assert form[f"contacts[add][0][linked_leads_id][{lead.id}][ID]"] == str(lead.id)
    assert (form["account[id]"], form["account[subdomain]"]) == ("31337", "sandbox31337")


async def test_a_company_comes_as_a_contact_of_type_company(
    kommo: SandboxKommo, account: Account, listener: Listener
) -> None:
    company = account.add_company("Acme")
    await settled(kommo)
    [form] = listener.forms
    assert (form["contacts[add][0][id]"], form["contacts[add][0][type]"]) == (str(company.id), "company")
    assert not [key for key in form if "custom_fields" in key]


async def test_deeds_of_the_api_are_told_once_each(
    kommo: SandboxKommo, account: Account, api: aiohttp.ClientSession, listener: Listener
) -> None:
    items = [{"name": name, "custom_fields_values": phone_field(PHONE)} for name in ("Kim", "Lee")]
    async with api.post("contacts", json=items) as answer:
        assert answer.status == 200
    await settled(kommo)
    assert sorted(form["contacts[add][0][name]"] for form in listener.forms) == ["Kim", "Lee"]
    change = {"name": "Kimberly", "custom_fields_values": phone_field(OTHER_PHONE)}
    async with api.patch(f"contacts/{account.contacts[0].id}", json=change) as answer:
        assert answer.status == 200
    await settled(kommo)
    [form] = listener.forms[2:]
    assert form["contacts[update][0][name]"] == "Kimberly"
    assert form["contacts[update][0][custom_fields][0][values][0][value]"] == OTHER_PHONE
    async with api.patch(f"contacts/{account.contacts[0].id}", json={"name": None}) as answer:
        assert answer.status == 400
    await settled(kommo)
    assert len(listener.forms) == 3, "what was refused is no deed"


@pytest.mark.parametrize("by", ["api", "browser"])
async def test_an_accepted_incoming_lead_is_told_and_then_its_contact(
    kommo: SandboxKommo, account: Account, api: aiohttp.ClientSession, listener: Listener, by: str
) -> None:
    uid = await add_incoming(api)
    assert await settled(kommo) == [], "what nobody sees is not told"
    if by == "browser":
        account.accept(uid)
    else:
        async with api.post(f"leads/unsorted/{uid}/accept", json={"user_id": 111}) as answer:
            assert answer.status == 200
    await settled(kommo)
    first, second = sorted(listener.forms, key=lambda form: "unsorted[delete][0][uid]" not in form)
    [lead], [contact] = account.leads, account.contacts
    assert first["unsorted[delete][0][uid]"] == uid
    assert first["unsorted[delete][0][action]"] == "accept"
    assert first["unsorted[delete][0][category]"] == "sip"
    assert first["unsorted[delete][0][accept_result][leads][0]"] == str(lead.id)
    assert first["unsorted[delete][0][accept_result][contacts][0]"] == str(contact.id)
    assert first["account[id]"] == "31337"
    assert second["contacts[add][0][id]"] == str(contact.id)
    assert second["contacts[add][0][custom_fields][0][values][0][value]"] == PHONE


@pytest.mark.parametrize("by", ["api", "browser"])
async def test_a_declined_incoming_lead_is_told(
    kommo: SandboxKommo, account: Account, api: aiohttp.ClientSession, listener: Listener, by: str
) -> None:
    uid = await add_incoming(api)
    lead = account.leads[0].id
    if by == "browser":
        account.decline(uid)
    else:
        async with api.delete(f"leads/unsorted/{uid}/decline", json={"user_id": 111}) as answer:
            assert answer.status == 200
    await settled(kommo)
    [form] = listener.forms
    assert form["unsorted[delete][0][uid]"] == uid
    assert form["unsorted[delete][0][action]"] == "decline"
    assert form["unsorted[delete][0][decline_result][leads][0]"] == str(lead)
    assert not [key for key in form if "accept_result" in key]


@pytest.mark.parametrize(
    ("answers", "statuses"),
    [
        ([500], [500, 200]),
        ([302], [302, 200]),
        ([503, 404], [503, 404]),
        ([204], [204]),
        ([None], [None, 200]),
    ],
)
async def test_a_failure_is_tried_once_more(
    kommo: SandboxKommo,
    account: Account,
    listener: Listener,
    answers: list[int | None],
    statuses: list[int | None],
) -> None:
    kommo.hooks.timeout_s = 0.2 if None in answers else 2.0
    listener.answers = answers
    account.add_contact("Kim", [PHONE])
    [record] = await settled(kommo)
    assert record.statuses == statuses
    assert record.delivered is (statuses[-1] in {200, 204})
    assert len(listener.forms) == len(statuses)
    assert all(form == listener.forms[0] for form in listener.forms)


async def test_the_api_waits_for_no_listener(
    kommo: SandboxKommo, api: aiohttp.ClientSession, listener: Listener
) -> None:
    listener.answers = [None]
    kommo.hooks.timeout_s = WITHIN_S
    async with asyncio.timeout(WITHIN_S / 2):
        async with api.post("contacts", json=[{"name": "Kim"}]) as answer:
            assert answer.status == 200
        async with api.get("contacts") as answer:
            assert answer.status == 200
    [record] = kommo.hooks.sent
    assert record.statuses == []


async def test_stopping_drops_what_is_under_way(
    kommo: SandboxKommo, account: Account, listener: Listener
) -> None:
    listener.answers = [None]
    kommo.hooks.timeout_s = 60
    account.add_contact("Kim", [PHONE])
    async with asyncio.timeout(WITHIN_S):
        await listener.told.wait()
        await kommo.stop()
    assert [it.statuses for it in await settled(kommo)] == [[]]
    account.add_contact("Lee")
    await kommo.start()
    account.add_contact("Max")
    names = [it.form["contacts[add][0][name]"] for it in await settled(kommo)]
    assert names == ["Kim", "Max"], "what happened while it did not run is told to nobody"


async def test_each_account_has_its_own_listener(
    kommo: SandboxKommo, account: Account, listener: Listener
) -> None:
    other = kommo.account(7)
    other.add_contact("Zoe", [PHONE])
    account.add_contact("Kim")
    assert [it.account_id for it in await settled(kommo)] == [31337]
    kommo.hook(31337, None)
    account.add_contact("Lee")
    assert len(await settled(kommo)) == 1
    with pytest.raises(ValueError, match="http"):
        kommo.hook(31337, "ftp://example.com/x")


async def test_the_destination_is_set_over_http(
    kommo: SandboxKommo, account: Account, listener: Listener
) -> None:
    kommo.hook(account.id, None)
    async with aiohttp.ClientSession(f"{kommo.url}/_sandbox/") as control:
        async with control.post("hooks", json={"account_id": 31337, "url": listener.url}) as answer:
            assert (answer.status, (await answer.json())["url"]) == (200, listener.url)
        account.add_contact("Kim", [PHONE])
        await settled(kommo)
        async with control.get("hooks?account_id=31337") as answer:
            shown = await answer.json()
        assert (shown["url"], [it["delivered"] for it in shown["sent"]]) == (listener.url, [True])
        for wrong, status in (
            ({"account_id": 1, "url": listener.url}, 404),
            ({"account_id": 31337, "url": "nowhere"}, 400),
            ({"account_id": 31337, "url": 5}, 400),
            ({"account_id": 31337, "destination": listener.url}, 400),
        ):
            async with control.post("hooks", json=wrong) as answer:
                assert answer.status == status
        async with control.post("hooks", json={"account_id": 31337, "url": None}) as answer:
            assert answer.status == 200
    assert kommo.hooks.destination(31337) is None
