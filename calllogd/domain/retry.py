"""When to try again."""

FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 300.0


def backoff_s(attempts: int, jitter: float) -> float:
    """Return the seconds to wait after the `attempts`-th failed try in a row.

    Doubles from 2 s to 5 min. `jitter` in [0, 1) takes up to half of it away, so that calls which failed
    together do not come back together.
    """
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempts - 1, 30))
    return longest * (1 - jitter / 2)
