"""The pace of requests, on a loop whose time passes only while everybody waits."""

import asyncio
import itertools
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calllogd.errors import TransientError
from calllogd.kommo.limiter import RECOVERY_S, Limiter


class _NoWaiting(selectors.SelectSelector):
    """Passes the time that it is asked to wait at once."""

    passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is not None:
            self.passed_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop for timers alone."""

    def __init__(self) -> None:
        self._clock = _NoWaiting()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.passed_s


def run(play: Callable[[Callable[[], float]], Coroutine[Any, Any, None]]) -> None:
    """Run a play; it is given the clock."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        runner.run(play(loop.time))


async def burst(
    limiter: Limiter, now: Callable[[], float], number: int, longest_s: float = 1e6
) -> list[float]:
    """Ask for so many turns at once; return when each was given."""

    async def one() -> float:
        await limiter.turn(longest_s)
        return now()

    return list(await asyncio.gather(*(one() for _ in range(number))))


def most_in_a_second(times: list[float]) -> int:
    return max(sum(begin <= other < begin + 1 for other in times) for begin in times)


@pytest.mark.parametrize("rate", [1, 2, 2.5, 3.5, 7, 20])
def test_no_second_ever_sees_more_than_the_rate(rate: float) -> None:
    async def play(now: Callable[[], float]) -> None:
        times = await burst(Limiter(rate, monotonic=now), now, 60)
        assert most_in_a_second(times) <= rate
        assert times[-1] == pytest.approx(60 / math.floor(rate), rel=0.15, abs=1.5), "and none is wasted"

    run(play)


def test_less_than_one_a_second() -> None:
    async def play(now: Callable[[], float]) -> None:
        times = await burst(Limiter(0.5, monotonic=now), now, 5)
        assert all(later - earlier >= 2 for earlier, later in itertools.pairwise(times))

    run(play)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=40), st.lists(st.floats(0, 5), max_size=3))
@settings(max_examples=60)
def test_whenever_they_come_and_whatever_kommo_says_the_rate_is_kept(
    gaps: list[float], refusals: list[float]
) -> None:
    async def play(now: Callable[[], float]) -> None:
        limiter = Limiter(7, monotonic=now)
        times: list[float] = []

        async def one() -> None:
            await limiter.turn(1e6)
            times.append(now())

        async def refuse() -> None:
            for pause in refusals:
                await asyncio.sleep(pause)
                limiter.slow_down(1)

        async with asyncio.TaskGroup() as group:
            group.create_task(refuse())
            for gap in gaps:
                group.create_task(one())
                await asyncio.sleep(gap / 10)
        assert most_in_a_second(times) <= 7

    run(play)


def test_turns_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    async def play(now: Callable[[], float]) -> None:
        limiter = Limiter(2, monotonic=now)
        order: list[int] = []

        async def one(place: int) -> None:
            await limiter.turn(1e6)
            order.append(place)

        await asyncio.gather(*(one(place) for place in range(20)))
        assert order == list(range(20))

    run(play)


def test_rate_zero_is_no_limit_but_a_break_is_kept() -> None:
    async def play(now: Callable[[], float]) -> None:
        limiter = Limiter(0, monotonic=now)
        assert set(await burst(limiter, now, 500)) == {0.0}
        limiter.slow_down(3)
        assert (await burst(limiter, now, 500))[0] == pytest.approx(3)

    run(play)


def test_after_a_429_nothing_goes_until_the_time_named_is_over() -> None:
    async def play(now: Callable[[], float]) -> None:
        limiter = Limiter(7, monotonic=now)
        await burst(limiter, now, 1)
        limiter.slow_down(5)
        assert limiter.shut_for_s == pytest.approx(5)
        times = await burst(limiter, now, 20)
        assert min(times) == pytest.approx(5)
        assert limiter.shut_for_s == 0

    run(play)


def test_a_break_holds_those_who_wait_already_and_a_shorter_one_does_not_end_it() -> None:
    async def play(now: Callable[[], float]) -> None:
        limiter = Limiter(1, monotonic=now)
        await limiter.turn(1)
        waiting = asyncio.create_task(burst(limiter, now, 1))
        await asyncio.sleep(0.5)
        limiter.slow_down(30)
        limiter.slow_down(1)
        assert (await waiting)[0] == pytest.approx(30.5)

    run(play)


def test_a_429_halves_the_rate_and_it_comes_back_step_by_step() -> None:
    async def play(now: Callable[[], float]) -> None:
        limiter = Limiter(8, monotonic=now)
        limiter.slow_down(0.001)
        times = await burst(limiter, now, 400)
        begins = [0.5 + RECOVERY_S * step for step in range(4)]
        width_s = RECOVERY_S - 1
        pace = [sum(begin <= at < begin + width_s for at in times) / width_s for begin in begins]
        assert pace[0] == pytest.approx(4, rel=0.3), "halved"
        assert pace[1] == pytest.approx(6, rel=0.3), "a quarter back"
        assert pace[0] < pace[1] < pace[2]
        assert pace[2] == pytest.approx(8, rel=0.2), "and back"
        assert pace[3] == pytest.approx(8, rel=0.2), "but not beyond"

    run(play)


def test_many_429_do_not_bring_it_to_a_standstill() -> None:
    async def play(now: Callable[[], float]) -> None:
        limiter = Limiter(7, monotonic=now)
        for _ in range(50):
            limiter.slow_down(1)
        times = await burst(limiter, now, 4)
        assert times[-1] < 1 + 4 * 2.5

    run(play)


def test_who_waits_longer_than_he_can_is_told_so() -> None:
    async def play(now: Callable[[], float]) -> None:
        limiter = Limiter(1, monotonic=now)
        await limiter.turn(1)
        with pytest.raises(TransientError, match="no turn") as told:
            await limiter.turn(0.5)
        assert now() == pytest.approx(0.5)
        assert told.value.retry_after_s is not None
        await limiter.turn(1)
        assert now() == pytest.approx(1.05), "and took nobody's turn"

    run(play)


def test_a_break_longer_than_one_can_wait_is_told_at_once() -> None:
    async def play(now: Callable[[], float]) -> None:
        limiter = Limiter(7, monotonic=now)
        limiter.slow_down(60)
        with pytest.raises(TransientError, match="break") as told:
            await limiter.turn(10)
        assert now() == 0
        assert told.value.retry_after_s == pytest.approx(60)

    run(play)


def test_whoever_goes_while_waiting_holds_up_nobody() -> None:
    async def play(now: Callable[[], float]) -> None:
        limiter = Limiter(1, monotonic=now)
        await limiter.turn(1)
        gone = [asyncio.create_task(limiter.turn(100)) for _ in range(5)]
        await asyncio.sleep(0.1)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        await limiter.turn(100)
        assert now() == pytest.approx(1.05)

    run(play)
