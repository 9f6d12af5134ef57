"""Catching up: a service is asked by one at a time, from where its calls are complete; an import goes on."""

import pytest

from calllogd.database.caught_up import LedgerOfCaughtUp, Range, Trouble
from calllogd.database.database import Database
from tests.fakes import ACCOUNT, START

HOUR_S = 3600.0


@pytest.fixture
def caught_up(database: Database) -> LedgerOfCaughtUp:
    return LedgerOfCaughtUp(database)


async def test_the_past_of_a_new_service_is_not_asked_for(caught_up: LedgerOfCaughtUp) -> None:
    assert await caught_up.claim(ACCOUNT, "zadarma", START, START + HOUR_S) is None
    assert await caught_up.claim(ACCOUNT, "zadarma", START + HOUR_S - 1, START + 2 * HOUR_S) is None
    assert await caught_up.claim(ACCOUNT, "zadarma", START + HOUR_S, START + 2 * HOUR_S) == START


async def test_one_asks_at_a_time(caught_up: LedgerOfCaughtUp) -> None:
    await caught_up.claim(ACCOUNT, "zadarma", START, START + HOUR_S)
    later = START + HOUR_S
    claims = [await caught_up.claim(ACCOUNT, "zadarma", later, later + HOUR_S) for _ in range(3)]
    assert claims == [START, None, None]


async def test_it_goes_on_from_where_calls_are_complete_and_tells_what_keeps_it(
    caught_up: LedgerOfCaughtUp,
) -> None:
    await caught_up.claim(ACCOUNT, "zadarma", START, START + HOUR_S)
    await caught_up.reached(ACCOUNT, "zadarma", START + 50)
    await caught_up.reached(ACCOUNT, "zadarma", START + 20)
    await caught_up.failed(ACCOUNT, "zadarma", "too slow", START + 70)
    assert await caught_up.troubles() == [Trouble(ACCOUNT, "zadarma", START + 50, "too slow")]
    assert await caught_up.claim(ACCOUNT, "zadarma", START + 70, START + HOUR_S) == START + 50
    await caught_up.reached(ACCOUNT, "zadarma", START + 70)
    assert await caught_up.troubles() == []


async def test_an_import_goes_on_until_its_end_or_is_given_up(caught_up: LedgerOfCaughtUp) -> None:
    asked = Range(ACCOUNT, "zadarma", START, START + 100)
    assert await caught_up.unfinished(ACCOUNT, "zadarma") is None
    await caught_up.came_to(asked, START + 40)
    await caught_up.came_to(asked, START + 60)
    assert await caught_up.unfinished(ACCOUNT, "zadarma") == (asked, START + 60)
    assert await caught_up.unfinished(2, "zadarma") is None
    await caught_up.came_to(asked, START + 100)
    assert await caught_up.unfinished(ACCOUNT, "zadarma") is None
    await caught_up.came_to(asked, START + 40)
    await caught_up.give_up(ACCOUNT, "zadarma")
    assert await caught_up.unfinished(ACCOUNT, "zadarma") is None
