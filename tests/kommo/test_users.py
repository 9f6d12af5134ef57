"""The users of an account: asked for seldom, at most once at a time, and never waited for without a limit."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from calllogd.domain.user import User
from calllogd.errors import AccountPaused, KommoError, TransientError
from calllogd.kommo.api import Reply
from calllogd.kommo.kommo import KommoAccount
from calllogd.kommo.users import AGAIN_S, LIST_S, Users
from calllogd.sandbox import Account, Fault, FaultKind, SandboxKommo
from tests.fakes import ACCOUNT
from tests.widget_door import Steady

ANN = User(id=111, name="Ann Admin", is_admin=True, is_active=True)
BOB = User(id=112, name="Bob Seller", is_admin=False, is_active=True)


@pytest.fixture
def steady() -> Steady:
    return Steady()


@pytest.fixture
async def users(crm: KommoAccount, steady: Steady) -> AsyncIterator[Users]:
    users = Users({ACCOUNT: crm}, monotonic=steady)
    yield users
    await users.close()


def asked(kommo: SandboxKommo) -> int:
    return sum(record.path == "/users" for record in kommo.requests)


async def test_users_are_as_kommo_lists_them(users: Users, account: Account) -> None:
    account.add_user(120, "Dan", is_active=False)
    assert await users.user(ACCOUNT, 111) == ANN
    assert await users.user(ACCOUNT, 112) == BOB
    assert await users.user(ACCOUNT, 120) == User(id=120, name="Dan", is_admin=False, is_active=False)
    assert set(await users.everybody(ACCOUNT)) == {111, 112, 113, 120}


@pytest.mark.parametrize(
    ("row", "user"),
    [
        ({"id": 5, "name": "X", "rights": {"is_admin": True, "is_active": True}}, (True, True)),
        ({"id": 5, "name": "X", "rights": {"is_admin": True, "is_active": False}}, (True, False)),
        ({"id": 5, "name": "X"}, (False, True)),
        ({"id": 5, "name": "X", "rights": []}, (False, True)),
        ({"id": 5, "name": "X", "rights": {"is_admin": "true", "is_active": "N"}}, (False, False)),
        ({"id": 5, "name": "X", "rights": {"is_admin": 1, "is_active": 0}}, (False, False)),
        ({"id": 5, "name": "X", "rights": {"is_admin": None, "is_active": None}}, (False, True)),
    ],
)
async def test_odd_rights_make_nobody_an_administrator(
    crm: KommoAccount, monkeypatch: pytest.MonkeyPatch, row: object, user: tuple[bool, bool]
) -> None:
    await _lists(crm, monkeypatch, row)
    found = (await crm.users())[5]
    assert (found.name, found.is_admin, found.is_active) == ("X", *user)


@pytest.mark.parametrize(
    "row", [{}, {"id": None}, {"id": "5"}, {"id": True}, {"id": -1}, {"id": 2**60}, 5, None]
)
async def test_a_row_that_names_nobody_is_passed_over(
    crm: KommoAccount, monkeypatch: pytest.MonkeyPatch, row: object
) -> None:
    await _lists(crm, monkeypatch, row, {"id": 6, "name": "a\ud800b"})
    assert await crm.users() == {6: User(id=6, name="a?b", is_admin=False, is_active=True)}


async def _lists(crm: KommoAccount, monkeypatch: pytest.MonkeyPatch, *rows: object) -> None:
    async def page(*_: object) -> Reply:
        return Reply({"_embedded": {"users": list(rows)}}, None)

    monkeypatch.setattr(crm, "_page", page)


async def test_pages_are_read_to_the_end(users: Users, account: Account, kommo: SandboxKommo) -> None:
    for number in range(1000, 1260):
        account.add_user(number, "x")
    assert len(await users.everybody(ACCOUNT)) == 263
    assert asked(kommo) == 2


async def test_a_list_is_good_for_a_while(users: Users, kommo: SandboxKommo, steady: Steady) -> None:
    for _ in range(3):
        await users.user(ACCOUNT, 111)
    steady.at += LIST_S - 1
    await users.user(ACCOUNT, 111)
    assert asked(kommo) == 1
    steady.at += 1
    await users.user(ACCOUNT, 111)
    assert asked(kommo) == 2


@pytest.mark.parametrize("switched_off", [False, True])
async def test_for_whom_it_does_not_have_a_list_is_asked_for_early_but_seldom(
    users: Users, kommo: SandboxKommo, account: Account, steady: Steady, switched_off: bool
) -> None:
    if switched_off:
        account.add_user(120, "Dan", is_active=False)
    assert not is_active(await users.user(ACCOUNT, 120))
    assert not is_active(await users.user(ACCOUNT, 120))
    assert asked(kommo) == 1
    if switched_off:
        account.change_user(120, is_active=True)
    else:
        account.add_user(120, "Dan")
    steady.at += AGAIN_S - 1
    assert not is_active(await users.user(ACCOUNT, 120))
    assert asked(kommo) == 1
    steady.at += 1
    assert is_active(await users.user(ACCOUNT, 120))
    await users.user(ACCOUNT, 120)
    assert asked(kommo) == 2


def is_active(user: User | None) -> bool:
    return user is not None and user.is_active


async def test_whoever_asks_at_the_same_moment_shares_one_request(users: Users, kommo: SandboxKommo) -> None:
    found = await asyncio.gather(*(users.user(ACCOUNT, 111) for _ in range(50)))
    assert found == [ANN] * 50
    assert asked(kommo) == 1


async def test_one_who_leaves_does_not_take_the_others_along(steady: Steady) -> None:
    slow = Slow()
    users = Users({ACCOUNT: slow}, monotonic=steady)
    first = asyncio.create_task(users.user(ACCOUNT, 111))
    second = asyncio.create_task(users.user(ACCOUNT, 111))
    await slow.begun.wait()
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    slow.may_end.set()
    assert await second == ANN
    assert slow.times == 1


class Slow:
    """An account whose answer waits until it may come."""

    def __init__(self) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.times = 0

    async def users(self) -> Mapping[int, User]:
        self.times += 1
        self.begun.set()
        await self.may_end.wait()
        return {111: ANN}


async def test_nobody_waits_for_ever_and_what_comes_late_is_kept(
    steady: Steady, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow()
    users = Users({ACCOUNT: slow}, monotonic=steady)
    monkeypatch.setattr("calllogd.kommo.users.WAIT_S", 0.01)
    for _ in range(2):
        with pytest.raises(TransientError):
            await users.user(ACCOUNT, 111)
        steady.at += AGAIN_S
    monkeypatch.setattr("calllogd.kommo.users.WAIT_S", 5.0)
    waiting = asyncio.create_task(users.user(ACCOUNT, 111))
    slow.may_end.set()
    assert await waiting == ANN
    assert slow.times == 1


async def test_a_request_that_never_ends_is_given_up(steady: Steady, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calllogd.kommo.users.ASK_S", 0.01)
    users = Users({ACCOUNT: Slow()}, monotonic=steady)
    with pytest.raises(TransientError):
        await users.user(ACCOUNT, 111)


async def test_closing_gives_up_what_is_under_way(steady: Steady) -> None:
    slow = Slow()
    users = Users({ACCOUNT: slow}, monotonic=steady)
    waiting = asyncio.create_task(users.user(ACCOUNT, 111))
    await slow.begun.wait()
    await users.close()
    with pytest.raises(TransientError):
        await waiting


async def test_the_cache_is_looked_into_without_asking(users: Users, kommo: SandboxKommo) -> None:
    assert users.known(ACCOUNT, 111) is None
    assert users.known(4711, 111) is None
    assert asked(kommo) == 0
    await users.user(ACCOUNT, 111)
    assert users.known(ACCOUNT, 111) == ANN
    assert users.known(ACCOUNT, 999) is None
    assert asked(kommo) == 1


async def test_why_kommo_cannot_be_asked_is_told_and_it_is_not_asked_again_at_once(
    users: Users, kommo: SandboxKommo, account: Account, steady: Steady
) -> None:
    account.token_is_admin = False
    for _ in range(3):
        with pytest.raises(AccountPaused, match="rights"):
            await users.user(ACCOUNT, 111)
    assert asked(kommo) == 1
    account.token_is_admin = True
    steady.at += AGAIN_S
    assert await users.user(ACCOUNT, 111) == ANN


async def test_a_list_that_is_too_old_counts_no_more_when_kommo_cannot_be_asked(
    users: Users, kommo: SandboxKommo, steady: Steady
) -> None:
    await users.user(ACCOUNT, 111)
    kommo.faults.add(Fault(FaultKind.STATUS_BEFORE, path="^/users$"))
    steady.at += LIST_S
    with pytest.raises(TransientError):
        await users.user(ACCOUNT, 111)
    assert users.known(ACCOUNT, 111) == ANN, "but whom it has it knows"


async def test_a_good_list_counts_although_kommo_cannot_be_asked_again(
    users: Users, kommo: SandboxKommo, steady: Steady
) -> None:
    await users.user(ACCOUNT, 111)
    kommo.faults.add(Fault(FaultKind.STATUS_BEFORE, path="^/users$"))
    steady.at += AGAIN_S
    assert await users.user(ACCOUNT, 999) is None
    assert await users.user(ACCOUNT, 111) == ANN


async def test_an_unknown_account_has_no_users(users: Users) -> None:
    with pytest.raises(KommoError):
        await users.user(4711, 111)
