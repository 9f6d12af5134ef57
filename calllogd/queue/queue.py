"""The queue as the daemon sees it: bells are rung into the ledger's file, Huey's threads answer them."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from huey import Huey
from huey.consumer import Consumer

from calllogd.queue.doorbell import Doorbell, Wire, install
from calllogd.voip.task.add_call import AddCallTask

STOP_S = 5.0
"""How long the threads may take to stop; each is busy for microseconds, so this is never reached."""

_log = logging.getLogger(__name__)


class _Threads(Consumer):  # type: ignore[misc]  # huey has no types
    """Huey's consumer as a part of a program that has signal handlers of its own."""

    def _set_signal_handlers(self) -> None:
        """Leave the process's signals to the process."""


class Queue:
    """Huey on the table `task` of the ledger's file.

    A ring tells that a call may have work and carries nothing else. It is deleted when it is taken, so a
    ring can get lost in a crash: the sweep of the ledger rings again, and nothing depends on any one ring.
    """

    def __init__(self, path: Path, *, name: str, threads: int, writing: Lock) -> None:
        self._path = path
        self._name = name
        self._number = threads
        self._writing = writing
        self._doorbell: Doorbell | None = None
        self._threads: _Threads | None = None

    async def open(self, answer: Callable[[AddCallTask], None]) -> None:
        """Start the threads; each ring calls `answer`, which returns at once, in one of them."""
        await asyncio.to_thread(self._start, answer)

    async def close(self) -> None:
        """Stop the threads; rings that were not taken stay in the file. Safe to call twice."""
        threads, self._threads = self._threads, None
        doorbell, self._doorbell = self._doorbell, None
        if threads is None or doorbell is None:
            return
        threads.stop_flag.set()
        doorbell.hush()
        await asyncio.to_thread(threads.stop, graceful=True)
        doorbell.close()

    @property
    def broken(self) -> bool:
        """Whether a thread has died; those of a queue that was closed have not."""
        threads = self._threads
        return threads is not None and not all(thread.is_alive() for _, thread in threads.worker_threads)

    def wake(self) -> None:
        """Have the rings that are in the file by now answered at once."""
        if self._doorbell is not None:
            self._doorbell.wake()

    async def watch(self, every_s: float) -> None:
        """Replace threads that have died; runs until it is cancelled."""
        while True:
            await asyncio.sleep(every_s)
            if self._threads is not None:
                self._threads.check_worker_health()

    def _start(self, answer: Callable[[AddCallTask], None]) -> None:
        doorbell = Doorbell(self._name, path=self._path, writing=self._writing, most=self._number + 1)
        huey = Huey(self._name, results=False, serializer=Wire(), storage_class=lambda name: doorbell)
        install(huey, answer)
        self._threads = _Threads(
            huey, workers=self._number, periodic=False, scheduler_interval=60, shutdown_timeout=STOP_S
        )
        self._doorbell = doorbell
        self._threads.start()
        _log.debug("answering bells in %d threads", self._number)
