"""Asking VoIP services for calls: what they tell is taken, and no day is left out."""

from collections.abc import Generator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import CallKey
from calllogd.voip.errand import Ask, ErrandFailed, Got, ListsCalls
from calllogd.voip.provider import Told
from calllogd.voip.usecase.catch_up import WINDOW_S, CatchUpUseCase, windows
from tests.fakes import ACCOUNT, START, ManualClock, ended


class Listing:
    """A service with two pages of calls."""

    lists_calls = True

    def __init__(self, *pages: Sequence[str]) -> None:
        self.pages = pages
        self.answers: list[Got | None] = []

    def list_calls(
        self, since: float, until: float, now: float
    ) -> Generator[Ask | Sequence[Told], Got | None, None]:
        for number, page in enumerate(self.pages):
            self.answers.append((yield Ask(url=f"https://voip.example/{number}?{since:.0f}-{until:.0f}")))
            self.answers.append((yield [Told("call.listed", ended(call_id), b"{}") for call_id in page]))


class Service:
    """Answers what is asked, until it fails."""

    def __init__(self, fails_at: int = 99) -> None:
        self.asked: list[str] = []
        self.fails_at = fails_at

    async def ask(self, ask: Ask) -> Got:
        if len(self.asked) == self.fails_at:
            raise ErrandFailed("the service is too slow")
        self.asked.append(ask.url)
        return Got(status=200, body=b"")


_LISTS: ListsCalls = Listing()


async def test_every_page_is_asked_for_and_taken(ledger: LedgerOfCalls, clock: ManualClock) -> None:
    lists, service = Listing(["a", "b"], [], ["b", "c"]), Service()
    use_case = CatchUpUseCase(calls=ledger, asker=service, clock=clock)
    assert await use_case.execute("zadarma", lists, START, START + 10) == (4, 3)
    assert [url.rpartition("/")[2] for url in service.asked] == [
        f"{number}?{START:.0f}-{START + 10:.0f}" for number in range(3)
    ]
    assert [None if got is None else got.status for got in lists.answers] == [200, None] * 3
    for call_id in "abc":
        (line, *_) = await ledger.story(CallKey(ACCOUNT, call_id))
        assert (line.who, line.what, line.body) == ("voip:zadarma", "call.listed", "{}")
    assert await use_case.execute("zadarma", lists, START, START + 10) == (4, 0)


async def test_what_came_before_a_failure_is_kept(ledger: LedgerOfCalls, clock: ManualClock) -> None:
    use_case = CatchUpUseCase(calls=ledger, asker=Service(fails_at=1), clock=clock)
    with pytest.raises(ErrandFailed):
        await use_case.execute("zadarma", Listing(["a"], ["b"]), START, START + 10)
    assert await ledger.get(CallKey(ACCOUNT, "a")) is not None
    assert await ledger.get(CallKey(ACCOUNT, "b")) is None


@given(st.floats(0, 4e9), st.floats(0, 40 * WINDOW_S))
def test_windows_leave_nothing_out(since: float, length: float) -> None:
    found = list(windows(since, since + length))
    edges: list[Any] = [since, *(end for _, end in found)]
    assert edges[-1] == since + length
    assert [start for start, _ in found] == edges[:-1]
    assert all(0 < end - start <= WINDOW_S + 1e-3 for start, end in found)
