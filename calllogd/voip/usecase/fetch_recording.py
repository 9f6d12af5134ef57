"""The recording that a VoIP service keeps, into our own files."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from calllogd.domain.call import CallKey, Recording, RecordingState
from calllogd.domain.merge import CallEvent
from calllogd.errors import CalllogdError
from calllogd.ports import Clock, Message, Recordings, VoipCalls

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 900.0

TRIES = 130
"""Tries before a recording is given up: they take about a day."""


class RecordingRefused(CalllogdError):
    """There will never be a recording at the address: refused, no sound, too large, or a forbidden place."""

    code = "recording_refused"


class RecordingNotReady(CalllogdError):
    """The recording cannot be fetched now; it is worth trying again, after `retry_after_s` if given."""

    code = "recording_not_ready"

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOrder:
    """A recording to be fetched for the `attempts`-th time, by whoever holds the order until `until`.

    `url` is its web address, or `NAME:REFERENCE` for what the VoIP service of that name can find.
    """

    key: CallKey
    url: str
    attempts: int
    until: float


class FetchOrders(Protocol):
    """The ledger's recordings that are to be fetched."""

    async def claim_fetch(self, now: float, lease_s: float) -> FetchOrder | None:
        """Return the longest due order, held for `lease_s`; None when none is due.

        Among any number of callers, in any number of processes, one gets the order.
        """
        ...

    async def put_off(self, order: FetchOrder, due_at: float, reason: str) -> None:
        """Give an order back, to be due at `due_at`; nothing happens when it is held no longer."""
        ...


class Fetcher(Protocol):
    """The way to recordings at VoIP services."""

    async def fetch(self, key: CallKey, url: str) -> str:
        """Keep what is at `url`, or what it refers to, as the call's recording, and return its media type.

        Idempotent. Raises RecordingRefused and RecordingNotReady, which tell of an address its host alone.
        """
        ...


class FetchRecordingUseCase:
    """Fetches recordings. `lease_s` outlives every fetch; `jitter` returns numbers in [0, 1)."""

    def __init__(
        self,
        *,
        orders: FetchOrders,
        calls: VoipCalls,
        fetcher: Fetcher,
        recordings: Recordings,
        clock: Clock,
        lease_s: float,
        jitter: Callable[[], float],
    ) -> None:
        self._orders = orders
        self._calls = calls
        self._fetcher = fetcher
        self._recordings = recordings
        self._clock = clock
        self._lease_s = lease_s
        self._jitter = jitter

    async def claim(self) -> FetchOrder | None:
        """Return the next order that is due, None when none is; raises StorageError."""
        return await self._orders.claim_fetch(self._clock.now(), self._lease_s)

    async def execute(self, order: FetchOrder) -> None:
        """Fetch a recording, and tell the ledger what came of it.

        Idempotent. Whoever is stopped in the middle leaves the order to be claimed again after its lease.
        Raises StorageError and Overloaded, with the same effect.
        """
        try:
            media_type = await self._fetcher.fetch(order.key, order.url)
        except RecordingNotReady as error:
            if order.attempts < TRIES:
                wait_s = max(error.retry_after_s or 0.0, fetch_wait_s(order.attempts, self._jitter()))
                await self._orders.put_off(order, self._clock.now() + wait_s, str(error))
                return
            await self._fail(order, f"given up after {order.attempts} tries: {error}")
        except RecordingRefused as error:
            await self._fail(order, str(error))
        else:
            await self._accept(order, RecordingState.READY, media_type=media_type)
            call = await self._calls.get(order.key)
            if call is None or call.recording.state is not RecordingState.READY:
                # It was given up or deleted while it was being fetched.
                await self._recordings.delete(order.key)

    async def _fail(self, order: FetchOrder, reason: str) -> None:
        call = await self._calls.get(order.key)
        if call is not None and call.recording.url == order.url:  # else a better address is known by now
            await self._accept(order, RecordingState.FAILED, reason=reason)

    async def _accept(
        self, order: FetchOrder, state: RecordingState, *, media_type: str | None = None, reason: str = ""
    ) -> None:
        event = CallEvent(
            key=order.key, recording=Recording(state=state, url=order.url, media_type=media_type)
        )
        what = f"recording {state.value}"
        message = Message(event=event, who="calllogd", what=what, body=reason.encode())
        await self._calls.accept(message, self._clock.now())


def fetch_wait_s(attempts: int, jitter: float) -> float:
    """Return the seconds to wait after the `attempts`-th failed try.

    Doubles from 5 s to 15 min: many services announce a recording shortly before it is there. `jitter` in
    [0, 1) takes up to half of it away.
    """
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempts - 1, 30))
    return longest * (1 - jitter / 2)
