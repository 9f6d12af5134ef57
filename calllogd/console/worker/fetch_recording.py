"""From a ring to a fetched recording: a few at once, however many are announced."""

import asyncio
import logging

from calllogd.errors import Overloaded, StorageError
from calllogd.voip.usecase.fetch_recording import FetchOrder, FetchRecordingUseCase

SWEEP_S = 2.0
"""How long a recording may be due before it is noticed without a ring."""

_log = logging.getLogger(__name__)


class FetchRecordingWorker:
    """Runs `FetchRecordingUseCase`, at most `width` fetches at a time.

    Rings may be lost: it looks for due recordings by itself.
    """

    def __init__(self, *, use_case: FetchRecordingUseCase, width: int) -> None:
        self._use_case = use_case
        self._width = width
        self._tasks: set[asyncio.Task[None]] = set()
        self._rung = asyncio.Event()
        self._closing = False

    @property
    def busy(self) -> int:
        """How many recordings are being fetched."""
        return len(self._tasks)

    def ring(self) -> None:
        """Look for due recordings now. Call it on the loop."""
        self._rung.set()

    async def run(self) -> None:
        """Fetch what is due, whenever it is rung for, and every few seconds; for ever."""
        while not self._closing:
            self._rung.clear()
            try:
                await self.sweep()
            except StorageError as error:
                _log.error("recordings that are due cannot be read: %s", error)
            try:
                async with asyncio.timeout(SWEEP_S):
                    await self._rung.wait()
            except TimeoutError:
                continue

    async def sweep(self) -> int:
        """Begin to fetch what is due, as far as there is room; return how many were begun."""
        begun = 0
        while len(self._tasks) < self._width and not self._closing:
            order = await self._use_case.claim()
            if order is None:
                break
            self._start(order)
            begun += 1
        return begun

    async def drained(self) -> None:
        """Return when nothing is due and nothing is being fetched."""
        while await self.sweep() or self._tasks:
            if self._tasks:
                await asyncio.wait(list(self._tasks), return_when=asyncio.FIRST_COMPLETED)

    async def close(self, patience_s: float) -> None:
        """Begin nothing more, let what is under way finish for `patience_s`, then cut it off.

        What is cut off leaves no file, and is fetched again when its lease is over.
        """
        self._closing = True
        self._rung.set()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=patience_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _work(self, order: FetchOrder) -> None:
        try:
            await self._use_case.execute(order)
        except (StorageError, Overloaded) as error:
            _log.warning("the recording of %s of %s put off: %s", *reversed(order.key), error)
        except Exception:  # noqa: BLE001  the order is due again after its lease; the others go on
            _log.critical("fetch_recording failed by a mistake of ours", exc_info=True)

    def _start(self, order: FetchOrder) -> None:
        task = asyncio.get_running_loop().create_task(self._work(order))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._rung.set()  # there is room for another
