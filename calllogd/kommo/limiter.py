"""How many requests a second an account may send: fixed at the top, less for a while after a 429."""

import asyncio
import math
from collections import deque
from collections.abc import Callable

from calllogd.errors import TransientError

WINDOW_S = 1.05
"""A second as Kommo may measure it: requests can arrive closer together than they left."""

LOWEST_SHARE = 0.25
RECOVERY_S = 5.0
"""After a 429 the rate halves, down to a quarter; every so long without another it gets a quarter back."""


class Limiter:
    """Lets at most `rate` requests go in any second, in the order in which they asked; 0: no limit."""

    def __init__(self, rate: float, *, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._now_rate = rate
        self._monotonic = monotonic
        self._gone: deque[float] = deque()
        self._shut_until = -math.inf
        self._recovers_at = math.inf
        self._first = asyncio.Lock()

    @property
    def shut_for_s(self) -> float:
        """Seconds until any request may go, after Kommo asked for a break."""
        return max(0.0, self._shut_until - self._monotonic())

    async def turn(self, longest_s: float) -> None:
        """Return when one request may be sent; it has to be sent then.

        Raises TransientError when that would take longer than `longest_s`.
        """
        if self.shut_for_s > longest_s:
            raise TransientError("Kommo asked for a break", retry_after_s=self.shut_for_s)
        try:
            async with asyncio.timeout(longest_s), self._first:
                while (wait_s := self._wait_s()) > 0:
                    await asyncio.sleep(wait_s)
                self._gone.append(self._monotonic())
        except TimeoutError as error:
            raise TransientError(
                "no turn at Kommo within its limit of requests", retry_after_s=1.0
            ) from error

    def slow_down(self, retry_after_s: float) -> None:
        """Take note of a 429: nothing goes for `retry_after_s`, and less than before after that."""
        now = self._monotonic()
        self._shut_until = max(self._shut_until, now + retry_after_s)
        self._now_rate = max(self._rate * LOWEST_SHARE, self._now_rate / 2)
        self._recovers_at = self._shut_until + RECOVERY_S

    def _wait_s(self) -> float:
        """Return the seconds until the next request may go; 0 for at once."""
        now = self._monotonic()
        if self._rate <= 0:
            return max(0.0, self._shut_until - now)
        if now >= self._recovers_at:
            self._now_rate = min(self._rate, self._now_rate + self._rate / 4)
            self._recovers_at = now + RECOVERY_S if self._now_rate < self._rate else math.inf
        number = max(1, math.floor(self._now_rate))
        window_s = WINDOW_S / min(1.0, self._now_rate)
        while self._gone and self._gone[0] <= now - window_s:
            self._gone.popleft()
        full_until = self._gone[-number] + window_s if len(self._gone) >= number else now
        return max(0.0, self._shut_until - now, full_until - now)
