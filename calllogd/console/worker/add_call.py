"""From a ring to work: each account's calls beside each other, and no account in another's way."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field

from calllogd.domain.call import CallKey
from calllogd.errors import LeaseLost, Overloaded, StorageError
from calllogd.ports import Clock, VoipCalls
from calllogd.voip.task.add_call import AddCallTask
from calllogd.voip.usecase.add_call import AddCallUseCase

BATCH = 50
"""Calls that one request may carry. Source: developers.kommo.com/docs/limitations."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Lane:
    """Calls of one account that are being worked on, `batch` of them with one request.

    `more`: the ledger may hold further due ones.
    """

    held: set[CallKey] = field(default_factory=set)
    batch: int = 0
    more: bool = False


class AddCallWorker:
    """Runs `AddCallUseCase` for each ring, at most `width` calls of one account at a time.

    An account that is slow, limited or out of order fills its own lane alone. A ring that finds its lane
    full is not kept: the lane turns to the ledger for the next due calls when it has room. If there are more
    of them than fit beside each other, as after an outage, they are taken together, as one batch.
    """

    def __init__(self, *, use_case: AddCallUseCase, calls: VoipCalls, clock: Clock, width: int) -> None:
        self._use_case = use_case
        self._calls = calls
        self._clock = clock
        self._width = width
        self._lanes: defaultdict[int, _Lane] = defaultdict(_Lane)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def busy(self) -> int:
        """How many calls are being worked on."""
        return sum(len(lane.held) for lane in self._lanes.values())

    def ring(self, task: AddCallTask) -> None:
        """Work on the task's call now, or as soon as its account's lane has room. Call it on the loop."""
        lane = self._lanes[task.account_id]
        if self._closing:
            return
        if task.key in lane.held or len(lane.held) >= self._width:
            lane.more = True
            return
        lane.held.add(task.key)
        self._start(self._work(lane, [task.key]))

    async def sweep(self, limit: int = 200) -> int:
        """Ring for every due call that nobody holds, up to `limit`; return how many there were."""
        keys = await self._calls.due(None, self._clock.now(), limit)
        for key in keys:
            self.ring(AddCallTask(*key))
        return len(keys)

    async def drained(self) -> None:
        """Return when no call is being worked on."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    async def close(self, patience_s: float) -> None:
        """Take no more rings, let what is in flight finish for `patience_s`, then cut it off.

        A request that is cut off leaves its intent in the ledger and is looked up by whoever comes next.
        """
        self._closing = True
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=patience_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _work(self, lane: _Lane, keys: Sequence[CallKey]) -> None:
        try:
            if len(keys) == 1:
                await self._use_case.execute(AddCallTask(*keys[0]))
            else:
                await self._use_case.execute_many(keys)
        except (StorageError, Overloaded) as error:
            # Nothing can be done before the ledger can be written: the next sweep tries again.
            lane.more = False
            _log.warning("%s of %s put off: %s", keys[0].call_id, keys[0].account_id, error)
        except LeaseLost as error:
            _log.warning("%s of %s put off: %s", keys[0].call_id, keys[0].account_id, error)
        except Exception:  # noqa: BLE001  the call says so, too; the worker goes on with the others
            _log.critical("add_call failed by a mistake of ours", exc_info=True)
        finally:
            lane.held.difference_update(keys)
            if len(keys) > 1:
                lane.batch = 0
            if lane.more and not self._closing:
                lane.more = False
                self._start(self._refill(lane, keys[0].account_id))

    async def _refill(self, lane: _Lane, account_id: int) -> None:
        """Take the account's next due calls from the ledger."""
        if lane.batch:
            lane.more = True
            return
        try:
            keys = await self._calls.due(account_id, self._clock.now(), BATCH)
        except StorageError as error:
            _log.warning("the ledger's due calls cannot be read: %s", error)
            return
        free = [key for key in keys if key not in lane.held]
        if len(free) <= self._width or lane.batch:
            for key in free:
                self.ring(AddCallTask(*key))
            return
        lane.more, lane.batch = True, len(free)
        lane.held.update(free)
        self._start(self._work(lane, free))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
