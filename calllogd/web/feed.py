"""What happens to calls, for the managers who watch: from the ledger to the streams of the call's user.

Nothing is kept for those who are not there: whoever comes back asks for his calls.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple

from calllogd.domain.call import Call, CallState, RecordingState
from calllogd.domain.user import user_of
from calllogd.errors import Overloaded
from calllogd.web.limits import TooMany

USER_MOST = 20
"""Streams of one user."""

ALL_MOST = 500
WAITING_MOST = 100
"""News that wait for a reader. One who is further behind is better off asking anew."""

RETRY_S = 15
"""When a stream that was left is noticed at the latest, and its place is free."""


class Happening(StrEnum):
    """What can happen to a call that its manager should see."""

    LOGGED = "call.logged"
    FAILED = "call.failed"
    WAITING = "call.waiting"
    RESULT = "result.saved"
    RECORDING = "recording.ready"


class News(NamedTuple):
    """Something that happened to a call, and the call after it."""

    happening: Happening
    call: Call


class Stream:
    """News for one reader, in the order in which they happened."""

    def __init__(self) -> None:
        self.closed = False
        self._waiting: deque[News] = deque()
        self._something = asyncio.Event()

    def put(self, news: News) -> None:
        """Add news; too many close the stream."""
        if len(self._waiting) >= WAITING_MOST:
            self.close()
        elif not self.closed:
            self._waiting.append(news)
            self._something.set()

    def close(self) -> None:
        """Let the reader go; what waits for him is dropped."""
        self.closed = True
        self._waiting.clear()
        self._something.set()

    async def take(self, within_s: float) -> Sequence[News]:
        """Return what is there, waiting for it at most so long: nothing then, and of a closed stream."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._something.wait()
        taken = list(self._waiting)
        self._waiting.clear()
        if not self.closed:
            self._something.clear()
        return taken


class Feed:
    """All streams. Used on the loop only; it outlives a reload of the services."""

    def __init__(self) -> None:
        self._streams: dict[tuple[int, int], list[Stream]] = {}
        self._number = 0
        self._closed = False

    def __len__(self) -> int:
        return self._number

    def teller(self, extensions: Mapping[int, Mapping[str, int]]) -> Callable[[Call, Call], None]:
        """Return what the ledger calls with a call before and after it changed; never raises.

        `extensions` are those of each account, with the ids of their users.
        """

        def tell(before: Call, after: Call) -> None:
            if not self._streams:
                return
            account_id = after.key.account_id
            user_id = user_of(after, extensions.get(account_id, {}))
            streams = None if user_id is None else self._streams.get((account_id, user_id))
            if streams:
                for happening in happenings(before, after):
                    for stream in streams:
                        stream.put(News(happening, after))

        return tell

    @contextmanager
    def stream(self, account_id: int, user_id: int) -> Iterator[Stream]:
        """Give a stream of a user's calls; raises TooMany, and Overloaded once the feed is closed."""
        if self._closed:
            raise Overloaded(RETRY_S)
        owner = (account_id, user_id)
        if len(self._streams.get(owner, ())) >= USER_MOST:
            raise TooMany("this user has as many streams open as he may", RETRY_S)
        if self._number >= ALL_MOST:
            raise TooMany("as many streams are open as calllogd keeps", RETRY_S)
        stream = Stream()
        self._streams.setdefault(owner, []).append(stream)
        self._number += 1
        try:
            yield stream
        finally:
            self._number -= 1
            self._streams[owner].remove(stream)
            if not self._streams[owner]:
                del self._streams[owner]

    def close(self) -> None:
        """End all streams at once, and begin no more."""
        self._closed = True
        for streams in self._streams.values():
            for stream in streams:
                stream.close()


def happenings(before: Call, after: Call) -> Iterator[Happening]:
    """Return what a change of a call means to its manager."""
    if before.result != after.result:
        yield Happening.RESULT
    if _came(before.recording.state, after.recording.state, RecordingState.READY):
        yield Happening.RECORDING
    if _came(before.state, after.state, CallState.AWAITING_RESULT):
        yield Happening.WAITING
    if _came(before.state, after.state, CallState.FAILED):
        yield Happening.FAILED
    moved = (before.entry and before.entry.entity) != (after.entry and after.entry.entity)
    if after.state is CallState.LOGGED and (moved or before.state is not CallState.LOGGED):
        yield Happening.LOGGED


def _came(before: object, after: object, there: object) -> bool:
    return before is not there and after is there
