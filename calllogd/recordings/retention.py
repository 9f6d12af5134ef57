"""Which recordings are deleted: those whose time is over, and files that belong to no call.

A recording that a note in Kommo links is deleted by nothing but its age, however full the disk is: the
operator makes room, or says how long recordings are kept.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from calllogd.domain.call import CallKey, Recording, RecordingState
from calllogd.domain.merge import CallEvent
from calllogd.errors import Overloaded, StorageError
from calllogd.ports import Clock, Message, VoipCalls
from calllogd.recordings.store import RecordingStore, name_of

DAY_S = 86_400.0
ORPHAN_S = DAY_S
"""A file of no call is kept so long: its call may be about to be told of."""

ORPHAN_IN_NEED_S = 3600.0
"""And only so long when the disk is full."""

EVERY_S = 3600.0
AT_ONCE = 500
"""Recordings deleted by their age in one round: each costs a request to Kommo, which takes the link away."""

_log = logging.getLogger(__name__)


class CallsWithRecordings(Protocol):
    """The ledger's calls whose recordings are ready."""

    async def ready(self, after: int) -> tuple[Sequence[tuple[CallKey, float]], int | None]:
        """Return a page of calls and the Unix seconds of their starts, and what to ask for the next one with.

        Begin with 0; after the last page comes None.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one round deleted: recordings by their age, and files of no call."""

    old: int = 0
    orphans: int = 0


def is_over(started_at: float, now: float, keep_days: float) -> bool:
    """Tell whether a recording's time is over; `keep_days` is 0 for ever."""
    return keep_days > 0 and started_at < now - keep_days * DAY_S


def orphans(files: Mapping[str, float], wanted: Collection[str], before: float) -> Sequence[str]:
    """Return the names of files that no call wants, received before Unix second `before`; oldest first."""
    return sorted(
        (name for name, at in files.items() if at < before and name not in wanted), key=files.__getitem__
    )


class Retention:
    """Deletes recordings. `keep_days` is how long after their calls they are kept, 0: for ever."""

    def __init__(
        self,
        *,
        store: RecordingStore,
        with_recordings: CallsWithRecordings,
        calls: VoipCalls,
        clock: Clock,
        keep_days: float,
    ) -> None:
        self._store = store
        self._with_recordings = with_recordings
        self._calls = calls
        self._clock = clock
        self._keep_days = keep_days

    async def run(self) -> None:
        """Sweep now and every hour, for ever."""
        while True:
            try:
                await self.sweep()
            except (StorageError, Overloaded) as error:
                _log.error("recordings cannot be swept: %s", error)
            await asyncio.sleep(EVERY_S)

    async def sweep(self) -> Swept:
        """Delete what is to go, and return how much that was. Idempotent; raises StorageError, Overloaded."""
        now = self._clock.now()
        # The files first: what comes to the ledger after that has a newer file, which is not deleted.
        files = await self._store.listing()
        wanted, over = await self._read(now)
        for key in over:
            await self._delete(key, now)
        missing_bytes = self._store.keep_free_bytes - await self._store.free_bytes()
        before = now - (ORPHAN_IN_NEED_S if missing_bytes > 0 else ORPHAN_S)
        unwanted = orphans(files, wanted, before)
        swept = Swept(
            old=len(over), orphans=sum([await self._store.delete_named(name, before) for name in unwanted])
        )
        if swept != Swept():
            _log.info("recordings deleted: %d too old, %d of no call", swept.old, swept.orphans)
        if missing_bytes > 0 and not swept.old and not swept.orphans:
            _log.error(
                "the disk is %d bytes short of recordings.keep_free_bytes: no recording is taken",
                missing_bytes,
            )
        return swept

    async def _read(self, now: float) -> tuple[set[str], list[CallKey]]:
        """Return the names of the files that the ledger's calls have, and the calls that lose theirs."""
        wanted: set[str] = set()
        over: list[CallKey] = []
        after: int | None = 0
        while after is not None:
            page, after = await self._with_recordings.ready(after)
            wanted.update(name_of(key) for key, _ in page)
            over.extend(key for key, started_at in page if is_over(started_at, now, self._keep_days))
        return wanted, over[:AT_ONCE]

    async def _delete(self, key: CallKey, now: float) -> None:
        """Let the ledger say first that the recording has gone: a file without a call is found again."""
        event = CallEvent(key=key, recording=Recording(state=RecordingState.DELETED))
        reason = f"older than {self._keep_days:g} days".encode()
        message = Message(event=event, who="calllogd", what="recording deleted", body=reason)
        await self._calls.accept(message, now)
        await self._store.delete(key)
