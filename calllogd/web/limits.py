"""How much is taken from one account and from one address, so that one cannot shut out the others.

A bucket is kept as one number: the moment at which it will be full again. That is the past for a bucket
that is full, so such a one need not be kept at all.
"""

import math
import socket
from collections.abc import Callable, Hashable
from heapq import nsmallest
from operator import itemgetter

from calllogd.errors import InputRefused

BUCKETS_MOST = 10_000
"""Buckets that are kept; about 150 bytes each."""

BURST_S = 10.0
"""So many seconds' worth of requests may come at once."""

BLAME = 10
"""What a refused proof of identity costs besides, in requests."""

_ROUNDING_S = 1e-6
"""By so much sums of fractions may be wrong; else the last request of a burst would be turned away."""

_NETWORK_BYTES = 8
"""Of an IPv6 address: everybody has 2**64 of them."""


class TooMany(InputRefused):
    """More came than is taken; it would be taken `retry_after_s` from now."""

    def __init__(self, detail: str, wait_s: float) -> None:
        super().__init__("too_many", detail)
        self.retry_after_s = max(1, math.ceil(wait_s))


class Buckets:
    """One bucket for each key, of `burst` requests, into which `rate` flow each second; rate 0: no limit."""

    def __init__(self, rate: float, burst: float) -> None:
        self._cost_s = 1 / rate if rate else 0.0
        self._deep_s = self._cost_s * max(1.0, burst)
        self._full_at: dict[Hashable, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_s(self, key: Hashable, now: float) -> float:
        """Return for how many seconds nothing is taken, 0 when a request would be."""
        if not self._cost_s:
            return 0.0
        wait_s = max(self._full_at.get(key, now), now) + self._cost_s - self._deep_s - now
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def take(self, key: Hashable, now: float) -> float:
        """Take one request and return 0; or take nothing and return in how many seconds one would be."""
        if not self._cost_s:
            return 0.0
        full_at = self._full_at.get(key)
        after = (now if full_at is None or full_at < now else full_at) + self._cost_s
        if (wait_s := after - now - self._deep_s) > _ROUNDING_S:
            return wait_s
        if full_at is None and len(self._full_at) >= BUCKETS_MOST:
            self._forget(now)
        self._full_at[key] = after
        return 0.0

    def charge(self, key: Hashable, now: float, number: float) -> None:
        """Take that many, of an empty bucket too: it goes into debt, by as much as it holds at most."""
        if not self._cost_s:
            return
        if key not in self._full_at and len(self._full_at) >= BUCKETS_MOST:
            self._forget(now)
        after = max(self._full_at.get(key, now), now) + number * self._cost_s
        self._full_at[key] = min(after, now + 2 * self._deep_s)

    def _forget(self, now: float) -> None:
        """Make room for a while: forget the full buckets or, when those are few, the fullest."""
        full = [key for key, full_at in self._full_at.items() if full_at <= now]
        room = BUCKETS_MOST // 10
        if len(full) < room:
            full = [key for key, _ in nsmallest(room, self._full_at.items(), key=itemgetter(1))]
        for key in full:
            del self._full_at[key]


class Limits:
    """The limits of requests, each in requests a second; ten times as many may come at once."""

    def __init__(self, account_rate: float, address_rate: float, monotonic: Callable[[], float]) -> None:
        self._accounts = Buckets(account_rate, account_rate * BURST_S)
        self._addresses = Buckets(address_rate, address_rate * BURST_S)
        self._monotonic = monotonic

    def admit_account(self, account_id: int) -> None:
        """Return if a request for the account is taken; raises TooMany."""
        if wait_s := self._accounts.take(account_id, self._monotonic()):
            raise TooMany("more comes for this account than is taken", wait_s)

    def admit_address(self, address: str) -> None:
        """Return if a request from the address is taken; raises TooMany."""
        if wait_s := self._addresses.take(network_of(address), self._monotonic()):
            raise TooMany("more comes from this address than is taken", wait_s)

    def blame(self, address: str) -> None:
        """Let an address pay for a refused proof of identity: guessing is slow."""
        self._addresses.charge(network_of(address), self._monotonic(), BLAME)


def network_of(address: str) -> Hashable:
    """Return what stands for an address: itself, of an IPv6 one its /64, which one sender has whole."""
    if ":" not in address:
        return address
    try:
        return socket.inet_pton(socket.AF_INET6, address)[:_NETWORK_BYTES]
    except OSError:
        return address
