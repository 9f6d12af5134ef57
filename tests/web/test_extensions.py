"""The administrators' table over HTTP: who may see and change it, and what is refused."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calllogd.database.database import Database
from calllogd.sandbox import Fault, FaultKind, SandboxKommo
from tests.fakes import ACCOUNT, ManualClock
from tests.widget_door import (
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
from tests.widget_tokens import ORIGIN, OTHER_ACCOUNT

PATH = "/widget/v1/extensions"
BEFORE = {"101": 111}


@pytest.fixture
async def door(
    database: Database, kommo: SandboxKommo, clock: ManualClock, aiohttp_client: MakeClient
) -> AsyncIterator[Door]:
    async with standing_door(database, kommo, clock, aiohttp_client) as door:
        await door.tables.replace(ACCOUNT, BEFORE)
        await door.tables.replace(OTHER_ACCOUNT, {"999": 113})
        yield door


async def show(door: Door, headers: Headers | None = None) -> ClientResponse:
    return await door.client.get(PATH, headers=headers or as_user())


async def put(door: Door, table: Any, headers: Headers | None = None) -> ClientResponse:
    return await door.client.put(PATH, json={"extensions": table}, headers=headers or as_user())


async def send(door: Door, body: bytes) -> ClientResponse:
    return await door.client.put(PATH, data=body, headers=as_user())


async def nothing_has_changed(door: Door) -> None:
    assert await door.tables.tables() == {ACCOUNT: BEFORE, OTHER_ACCOUNT: {"999": 113}}


def row(user_id: int, name: str, extension: str | None, **more: bool) -> dict[str, Any]:
    return {"user_id": user_id, "name": name, "is_active": True, "extension": extension, **more}


async def test_every_user_is_shown_with_his_extension(door: Door) -> None:
    door.account.add_user(120, "Dan", is_active=False)
    answer = await show(door)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert await answer.json() == {
        "extensions": [
            row(111, "Ann Admin", "101"),
            row(112, "Bob Seller", None),
            row(113, "Cleo Seller", "103", fixed=True),
            {**row(120, "Dan", None), "is_active": False},
        ]
    }


async def test_a_table_is_replaced_as_a_whole(door: Door) -> None:
    answer = await put(door, {"102": 112, "Büro 1": 111})
    assert answer.status == 200
    assert await answer.json() == await (await show(door)).json()
    assert await door.tables.table(ACCOUNT) == {"102": 112, "Büro 1": 111}
    assert await door.tables.table(OTHER_ACCOUNT) == {"999": 113}
    assert (await put(door, {"102": 111, "101": 112})).status == 200
    assert await door.tables.table(ACCOUNT) == {"102": 111, "101": 112}
    assert (await put(door, {})).status == 200
    assert await door.tables.table(ACCOUNT) == {}


async def test_what_is_shown_may_be_given_back(door: Door) -> None:
    shown = (await (await show(door)).json())["extensions"]
    table = {each["extension"]: each["user_id"] for each in shown if each["extension"] is not None}
    assert table == {"101": 111, "103": 113}
    assert (await put(door, table)).status == 200
    await nothing_has_changed(door)


async def test_each_account_has_its_own(door: Door) -> None:
    assert (await put(door, {"101": 112, "103": 111}, as_other())).status == 200
    assert await door.tables.tables() == {ACCOUNT: BEFORE, OTHER_ACCOUNT: {"101": 112, "103": 111}}
    shown = (await (await show(door, as_other())).json())["extensions"]
    assert [each["extension"] for each in shown] == ["103", "101", None]


# Who may.


@pytest.mark.parametrize("user_id", [SELLER, STRANGER])
async def test_only_administrators_may(door: Door, user_id: int) -> None:
    for answer in (
        await show(door, as_user(user_id, is_admin=True)),
        await put(door, {"102": 112}, as_user(user_id, is_admin=True)),
    ):
        document = await problem_of(answer)
        assert document["code"] == "forbidden"
        assert "administrators" in document["detail"]
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    await nothing_has_changed(door)


async def test_an_administrator_of_one_account_is_none_in_another(door: Door) -> None:
    door.other.change_user(SELLER, is_admin=True)
    assert (await show(door, as_other(SELLER))).status == 200
    assert (await problem_of(await show(door, as_user(SELLER))))["code"] == "forbidden"


@pytest.mark.parametrize("active", [True, False])
async def test_an_administrator_may_no_more(door: Door, active: bool) -> None:
    assert (await show(door)).status == 200
    door.account.change_user(111, is_active=active, is_admin=not active)
    door.steady.at += 300
    for answer in (await put(door, {"102": 112}), await show(door)):
        assert (await problem_of(answer))["code"] == "forbidden"
    await nothing_has_changed(door)


async def test_who_has_become_an_administrator_may(door: Door) -> None:
    assert (await show(door, as_user(SELLER))).status == 403
    door.account.change_user(SELLER, is_admin=True)
    door.steady.at += 300
    assert (await put(door, {"102": 112}, as_user(SELLER))).status == 200


async def test_without_the_right_to_read_users_nobody_may_and_is_told_so(door: Door) -> None:
    door.account.token_is_admin = False
    for answer in (await show(door), await put(door, {})):
        document = await problem_of(answer)
        assert document["code"] == "forbidden"
        assert "may not read the account's users" in document["detail"]
    await nothing_has_changed(door)


@pytest.mark.parametrize("kind", [FaultKind.STATUS_BEFORE, FaultKind.RESET_BEFORE, FaultKind.UNAUTHORIZED])
async def test_while_kommo_cannot_be_asked_nobody_may(door: Door, kind: FaultKind) -> None:
    door.kommo.faults.add(Fault(kind, path="^/users$"))
    for answer in (await show(door), await put(door, {})):
        assert (await problem_of(answer))["code"] == "not_ready"
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    await nothing_has_changed(door)


async def test_kommo_is_asked_once_for_many_looks(door: Door) -> None:
    for _ in range(5):
        assert (await show(door)).status == 200
        assert (await put(door, {"101": 111})).status == 200
    assert door.asked == 1


# What is refused.


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"104": 999}, "no user 999"),
        ({"104": 111, "105": 111}, "user 111"),
        ({"": 111}, "1 to 64"),
        ({"x" * 65: 111}, "1 to 64"),
        ({"1\0": 111}, "printable"),
        ({"1\n": 111}, "printable"),
        ({"\u202e1": 111}, "printable"),
        ({"\ud800": 111}, "printable"),
        ({" 1": 111}, "space"),
        ({"1 ": 111}, "space"),
        ({"1": "111"}, "user id"),
        ({"1": 111.0}, "user id"),
        ({"1": True}, "user id"),
        ({"1": None}, "user id"),
        ({"1": 0}, "user id"),
        ({"1": -111}, "user id"),
        ({"1": 10**400}, "user id"),
        ({"1": [111]}, "user id"),
        ({"103": 112}, "configuration file"),
        ({"104": 113}, "user 113"),
        ({f"{number}": 111 for number in range(1001)}, "1001"),
        ([], "extensions"),
        (None, "extensions"),
        ("x", "extensions"),
    ],
)
async def test_a_table_with_a_mistake_is_refused_and_nothing_changes(
    door: Door, table: Any, word: str
) -> None:
    good_too = {"102": 112, **table} if isinstance(table, dict) else table
    for each in (table, good_too):
        document = await problem_of(await put(door, each))
        assert document["code"] == "invalid"
        assert word in document["detail"]
    await nothing_has_changed(door)


@pytest.mark.parametrize(
    "body",
    [
        b'{"extensions": {"102": 112, "102": 113}}',
        b'{"extensions": {"102": 112, "102": 112}}',
        b'{"extensions": {"102": 112, "\\u0031\\u0030\\u0032": 111}}',
        b'{"extensions": {}, "extensions": {"102": 112}}',
        b'{"extensions": {"102": {"a": 1, "a": 2}}}',
    ],
)
async def test_what_stands_there_twice_is_a_mistake(door: Door, body: bytes) -> None:
    document = await problem_of(await send(door, body))
    assert document["code"] == "invalid"
    assert "twice" in document["detail"]
    await nothing_has_changed(door)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"extensions": {"\xed\xa0\x80": 111}}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"extensions": {"1": ' + b"9" * 5000 + b"}}",
        b'{"extensions": {"1": NaN}}',
        b'{"extensions": {"1": -Infinity}}',
        b'{"extensions": {"1\0": 111}}',
        '{"extensions": {}}'.encode("utf-16"),
        b'\xef\xbb\xbf{"extensions": {}}',
    ],
)
async def test_what_is_no_json_is_refused(door: Door, body: bytes) -> None:
    assert (await problem_of(await send(door, body)))["code"] == "malformed"
    await nothing_has_changed(door)


@pytest.mark.parametrize("body", [b"1", b"null", b"[]", b'"x"', b"{}", b'{"extensions": {"1": 1e999}}'])
async def test_what_is_no_table_is_refused(door: Door, body: bytes) -> None:
    assert (await problem_of(await send(door, body)))["code"] == "invalid"
    await nothing_has_changed(door)


async def test_a_body_that_is_too_large_is_refused(door: Door) -> None:
    assert (await problem_of(await send(door, b" " * 70_000)))["code"] == "too_large"


@pytest.mark.parametrize(
    "extension", ["'); DROP TABLE extensions; --", "' OR '1'='1", "?1", "%", '"', "\\", "漢" * 64, "x" * 64]
)
async def test_an_extension_is_only_a_text(door: Door, extension: str) -> None:
    assert (await put(door, {extension: 112})).status == 200
    assert await door.tables.table(ACCOUNT) == {extension: 112}
    assert await door.tables.table(OTHER_ACCOUNT) == {"999": 113}
    shown = (await (await show(door)).json())["extensions"]
    assert [each["extension"] for each in shown] == [None, extension, "103"]


async def test_a_user_who_is_new_in_kommo_can_be_given_one_soon(door: Door) -> None:
    await show(door)
    door.account.add_user(121, "Eve")
    assert (await put(door, {"121": 121})).status == 422
    door.steady.at += 30
    assert (await put(door, {"121": 121})).status == 200


async def test_when_the_ledger_cannot_be_written_nothing_is_acknowledged(door: Door) -> None:
    await show(door)
    await door.database.close()
    for answer in (await put(door, {"102": 112}), await show(door)):
        assert (await problem_of(answer))["code"] == "storage"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
TABLES = st.dictionaries(
    st.text(max_size=70) | st.sampled_from(["101", "102", "103"]),
    ANYTHING | st.sampled_from([111, 112, 113, 999]),
    max_size=4,
)
BODIES = st.binary(max_size=100) | st.one_of(ANYTHING, TABLES).map(
    lambda table: json.dumps({"extensions": table}).encode()
)


@given(BODIES)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_sent_the_table_stays_unique_both_ways(door: Door, body: bytes) -> None:
    answer = await send(door, body)
    table = await door.tables.table(ACCOUNT)
    if answer.status == 200:
        said = json.loads(body)["extensions"]
        assert table == {extension: user for extension, user in said.items() if extension != "103"}
    else:
        assert 400 <= (await problem_of(answer))["status"] < 500
    assert len(set(table.values())) == len(table)
    assert not {"103"} & set(table)
    assert set(table.values()) <= {111, 112}
    assert await door.tables.table(OTHER_ACCOUNT) == {"999": 113}
