"""The beginning of the widget's work over HTTP: sessions, open calls, and who is let in nowhere any more."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from calllogd import __version__
from calllogd.database.database import Database
from calllogd.domain.call import CallKey, CallState, Direction, EntityType, Entry, Person
from calllogd.domain.merge import CallEvent
from calllogd.ports import Note
from calllogd.sandbox import Fault, FaultKind, SandboxKommo
from calllogd.web.desk import Desk
from calllogd.web.tickets import TICKET_S, Ticket
from tests.fakes import ACCOUNT, START, ManualClock, begun, ended, told
from tests.widget_door import (
    ADMIN,
    SELLER,
    STRANGER,
    Door,
    Headers,
    MakeClient,
    as_other,
    as_user,
    problem_of,
    standing_door,
)
from tests.widget_tokens import ORIGIN, OTHER_ACCOUNT, OTHER_ORIGIN, token

OPEN = "/widget/v1/calls?open=1"
HERS = Person(1, user_id=ADMIN)
DAY_S = 86_400


@pytest.fixture
async def door(
    database: Database, kommo: SandboxKommo, clock: ManualClock, aiohttp_client: MakeClient
) -> AsyncIterator[Door]:
    async with standing_door(database, kommo, clock, aiohttp_client) as door:
        yield door


async def begin(door: Door, headers: Headers | None = None) -> dict[str, Any]:
    answer = await door.session(headers)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Access-Control-Allow-Origin"] == (headers or as_user())["Origin"]
    document: dict[str, Any] = await answer.json()
    return document


async def test_a_session_tells_what_the_widget_needs(door: Door) -> None:
    document = await begin(door)
    ticket = door.tickets.read([document.pop("ticket")])
    assert ticket == Ticket(ACCOUNT, ADMIN, int(START) + TICKET_S)
    assert document == {
        "expires_at": ticket.expires_at,
        "extension": None,
        "is_admin": True,
        "server_time": START,
        "version": __version__,
        "settings": {"result_wait": 120.0},
    }


async def test_a_session_is_its_user_s(door: Door) -> None:
    await door.tables.replace(ACCOUNT, {"102": SELLER})
    await door.tables.replace(OTHER_ACCOUNT, {"777": SELLER})
    for headers, account_id, user_id, extension, is_admin in (
        (as_user(SELLER), ACCOUNT, SELLER, "102", False),
        (as_user(113), ACCOUNT, 113, "103", False),
        (as_user(STRANGER), ACCOUNT, STRANGER, None, False),
        (as_other(SELLER), OTHER_ACCOUNT, SELLER, "777", False),
    ):
        document = await begin(door, headers)
        assert door.tickets.read([document["ticket"]])[:2] == (account_id, user_id)
        assert (document["extension"], document["is_admin"]) == (extension, is_admin)


async def test_what_the_token_says_of_rights_does_not_count(door: Door) -> None:
    assert (await begin(door, as_user(SELLER, is_admin=True)))["is_admin"] is False
    assert (await begin(door, as_user(ADMIN, is_admin=False)))["is_admin"] is True


@pytest.mark.parametrize("kind", [FaultKind.STATUS_BEFORE, FaultKind.RESET_BEFORE, FaultKind.FORBIDDEN])
async def test_a_session_begins_although_kommo_cannot_be_asked(door: Door, kind: FaultKind) -> None:
    door.kommo.faults.add(Fault(kind, path="^/users$"))
    assert (await begin(door))["is_admin"] is None


async def test_a_session_does_not_wait_for_kommo_for_long(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.web.widget_session.LISTED_S", 0.05)
    door.kommo.faults.add(Fault(FaultKind.TIMEOUT_BEFORE, path="^/users$"))
    async with asyncio.timeout(2):
        assert (await begin(door))["is_admin"] is None


@pytest.mark.parametrize("body", [None, b"", b"{}", b"[1]", b"\xff", b"x" * 1000])
async def test_what_is_in_a_session_s_body_is_passed_over(door: Door, body: bytes | None) -> None:
    assert (await door.client.post("/widget/v1/session", data=body, headers=as_user())).status == 200


async def test_a_body_that_is_too_large_is_refused(door: Door) -> None:
    answer = await door.client.post("/widget/v1/session", data=b"x" * 70_000, headers=as_user())
    assert (await problem_of(answer))["code"] == "too_large"


ROUTES = [
    ("POST", "/widget/v1/session"),
    ("GET", OPEN),
    ("GET", "/widget/v1/extensions"),
    ("PUT", "/widget/v1/extensions"),
    ("GET", "/widget/v1/calls/c1"),
    ("PUT", "/widget/v1/calls/c1"),
    ("PUT", "/widget/v1/calls/c1/result"),
    ("POST", "/widget/v1/calls/c1/skip"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_who_is_switched_off_is_let_in_nowhere(door: Door, method: str, path: str) -> None:
    door.account.change_user(SELLER, is_active=False)
    await door.listed()
    answer = await door.client.request(method, path, headers=as_user(SELLER))
    assert (await problem_of(answer))["code"] == "forbidden"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    answer = await door.client.request(method, path, headers=as_other(SELLER))
    assert "switched off" not in await answer.text(), "somebody else has the same id elsewhere"


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", ORIGIN)],
        [("Origin", ORIGIN), ("X-Auth-Token", token()), ("X-Auth-Token", token())],
        [("Origin", OTHER_ORIGIN), ("X-Auth-Token", token())],
        [("X-Auth-Token", token())],
        [("Origin", ORIGIN), ("X-Auth-Token", token(key="f" * 64))],
        [("Origin", ORIGIN), ("X-Auth-Token", token(account_id=4711))],
    ],
)
async def test_who_is_not_known_is_let_in_nowhere(
    door: Door, method: str, path: str, headers: list[tuple[str, str]]
) -> None:
    answer = await door.client.request(method, path, headers=headers)
    assert (await problem_of(answer))["code"] == "unauthorized"
    assert door.asked == 0


async def test_only_a_session_and_administrators_ask_kommo(door: Door) -> None:
    for method, path in ROUTES[4:] + ROUTES[1:2]:
        await door.client.request(method, path, headers=as_user())
    assert door.asked == 0


async def test_who_is_switched_on_again_gets_in_with_his_next_session(door: Door) -> None:
    door.account.change_user(SELLER, is_active=False)
    assert (await problem_of(await door.session(as_user(SELLER))))["code"] == "forbidden"
    door.account.change_user(SELLER, is_active=True)
    door.steady.at += 30
    assert (await door.session(as_user(SELLER))).status == 200
    assert (await door.client.get(OPEN, headers=as_user(SELLER))).status == 200


async def test_without_a_door_there_are_no_sessions(door: Door, aiohttp_client: MakeClient) -> None:
    services = door.services()
    assert services.widget is not None
    door.desk.put(replace(services, widget=replace(services.widget, door=None)))
    for method, path in ROUTES[:4]:
        answer = await door.client.request(method, path, headers=as_user())
        assert (await problem_of(answer))["code"] == "not_found"
    door.desk.put(replace(services, widget=None))
    answer = await door.client.get("/widget/v1/events?ticket=x", headers=as_user())
    assert (await problem_of(answer))["code"] == "not_found"
    assert Desk().widget is None


# Open calls.


async def accept(door: Door, event: CallEvent) -> None:
    await door.ledger.accept(told(event), door.clock.now())


async def bring(door: Door, call_id: str, account_id: int = ACCOUNT, **changes: Any) -> None:
    """Have a worker bring a call to where it is to be."""
    call = await door.ledger.claim(CallKey(account_id, call_id), door.clock.now(), 30.0)
    assert call is not None
    note = Note(what="x", outcome="x")
    await door.ledger.release(replace(call, due_at=None, **changes), door.clock.now(), note)


LOGGED: dict[str, Any] = {
    "state": CallState.LOGGED,
    "entry": Entry(entity_type=EntityType.CONTACTS, entity_id=7, note_id=8),
}


async def opened(door: Door, headers: Headers | None = None) -> list[str]:
    answer = await door.client.get(OPEN, headers=headers or as_user())
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    return [call["call_id"] for call in (await answer.json())["calls"]]


async def test_an_open_call_is_shown_as_it_is_known(door: Door) -> None:
    await accept(door, ended(person=HERS))
    await bring(door, "c1", **LOGGED)
    answer = await door.client.get(OPEN, headers=as_user())
    assert await answer.json() == {
        "calls": [
            {
                "call_id": "c1",
                "direction": "inbound",
                "phone": "+1 212 555 0123",
                "started_at": START - 60,
                "duration": 42,
                "state": "logged",
            }
        ]
    }


@pytest.mark.parametrize("worked_on", [False, True])
async def test_calls_that_want_a_result_are_listed_newest_first(door: Door, worked_on: bool) -> None:
    for age_s in (300, 100, 200, DAY_S - 1, DAY_S + 43):
        await accept(door, ended(f"{age_s}", person=HERS, started_at=START - age_s, duration=1))
        if worked_on:
            await bring(door, f"{age_s}", **LOGGED)
    assert await opened(door) == ["100", "200", "300", f"{DAY_S - 1}"]


async def test_calls_that_want_no_result_are_not_listed(door: Door) -> None:
    for call_id in ("result", "skipped", "ignored"):
        await accept(door, ended(call_id, person=HERS))
    await accept(door, replace(begun("begun"), facts=replace(begun().facts, person=HERS)))
    result = {"rev": 1, "text": ""}
    await door.client.put("/widget/v1/calls/result/result", json=result, headers=as_user())
    await door.client.post("/widget/v1/calls/skipped/skip", headers=as_user())
    await bring(door, "ignored", state=CallState.IGNORED)
    assert await opened(door) == []


async def test_a_call_that_waits_for_its_result_is_listed_however_long_it_does(door: Door) -> None:
    await accept(door, ended(person=HERS, started_at=START - 2 * DAY_S))
    await bring(door, "c1", state=CallState.AWAITING_RESULT)
    assert await opened(door) == ["c1"]


async def test_a_call_that_only_the_widget_knows_is_its_user_s(door: Door) -> None:
    body = {"direction": Direction.OUTBOUND, "phone": "2125550123", "duration": 5}
    for call_id in ("worked", "fresh"):
        await door.client.put(f"/widget/v1/calls/{call_id}", json=body, headers=as_user(SELLER))
    await bring(door, "worked", state=CallState.AWAITING_RESULT)
    assert sorted(await opened(door, as_user(SELLER))) == ["fresh", "worked"]
    assert await opened(door) == []
    # The VoIP service's word counts more.
    await accept(door, ended("fresh", person=Person(1, user_id=113)))
    assert await opened(door, as_user(SELLER)) == ["worked"]


async def test_only_one_s_own_calls_are_listed(door: Door) -> None:
    await door.tables.replace(ACCOUNT, {"102": SELLER, "112": 114})
    await door.tables.replace(OTHER_ACCOUNT, {"102": ADMIN})
    people = {
        "named": Person(1, extension="199", user_id=SELLER),
        "phone": Person(1, extension="102"),
        "phone like a user": Person(1, extension="112"),
        "someone else's phone": Person(1, extension="102", user_id=ADMIN),
        "fixed phone": Person(1, extension="103"),
        "nobody": Person(1),
    }
    for call_id, person in people.items():
        for account_id in (ACCOUNT, OTHER_ACCOUNT):
            await accept(door, ended(f"{call_id} {account_id}", account_id=account_id, person=person))
            if call_id != "phone":
                await bring(door, f"{call_id} {account_id}", account_id, **LOGGED)
    await accept(door, ended(f"no person {ACCOUNT}"))

    async def names(headers: Headers, account_id: int) -> set[str]:
        found = await opened(door, headers)
        assert all(name.endswith(f" {account_id}") for name in found)
        return {name.rpartition(" ")[0] for name in found}

    assert await names(as_user(SELLER), ACCOUNT) == {"named", "phone"}
    assert await names(as_user(ADMIN), ACCOUNT) == {"someone else's phone"}
    assert await names(as_user(113), ACCOUNT) == {"fixed phone"}
    assert await names(as_user(114), ACCOUNT) == {"phone like a user"}
    assert await names(as_other(SELLER), OTHER_ACCOUNT) == {"named"}
    assert await names(as_other(ADMIN), OTHER_ACCOUNT) == {"phone", "someone else's phone"}


async def test_so_many_are_listed_and_no_more(door: Door) -> None:
    for number in range(25):
        await accept(door, ended(f"{number:02}", person=HERS, started_at=START - 1000 + number))
    assert await opened(door) == [f"{number:02}" for number in range(24, 4, -1)]


@pytest.mark.parametrize("query", ["", "?open=0", "?open=1&open=1", "?open=", "?open=2", "?closed=1"])
async def test_there_is_no_other_list(door: Door, query: str) -> None:
    answer = await door.client.get(f"/widget/v1/calls{query}", headers=as_user())
    assert (await problem_of(answer))["code"] == "invalid"
