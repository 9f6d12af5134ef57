"""When a failed try is repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calllogd.domain.retry import FIRST_WAIT_S, LONGEST_WAIT_S, backoff_s


def test_the_wait_doubles_from_two_seconds_to_five_minutes() -> None:
    assert [backoff_s(attempts, 0) for attempts in range(1, 11)] == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_the_wait_stays_within_its_limits(attempts: int, jitter: float) -> None:
    assert FIRST_WAIT_S / 2 <= backoff_s(attempts, jitter) <= LONGEST_WAIT_S
    assert backoff_s(attempts, jitter) <= backoff_s(attempts + 1, jitter)


@pytest.mark.parametrize("attempts", [1, 5, 50])
def test_calls_that_failed_together_do_not_come_back_together(attempts: int) -> None:
    waits = [backoff_s(attempts, jitter / 10) for jitter in range(10)]
    assert len(set(waits)) == 10
    assert max(waits) - min(waits) > 0.4 * max(waits)
