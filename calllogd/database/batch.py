"""Work that is done for many at a time: whatever comes while one batch is being worked on is the next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    done: "asyncio.Future[Result]"


class Batches(Generic[Item, Result]):
    """Collects items and has `work` do up to `most` of them at once, one batch after another.

    `work` returns one result for each item, in their order; a result that is an exception is raised to the
    one who asked. There is no timer: alone an item is worked on at once.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]], *, most: int
    ) -> None:
        self._work = work
        self._most = most
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._working: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many items are in no batch yet."""
        return len(self._waiting)

    async def put(self, item: Item) -> Result:
        """Return the item's result, or raise it."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, done))
        if self._working is None:
            self._working = asyncio.create_task(self._work_off(), name="batches")
        return await done

    async def finished(self) -> None:
        """Return when nothing is waiting or being worked on."""
        while self._working is not None:
            await asyncio.wait([self._working])

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                results = await self._results([waiting.item for waiting in batch])
                for waiting, result in zip(batch, results, strict=True):
                    if waiting.done.done():
                        continue  # whoever asked has gone
                    if isinstance(result, Exception):
                        waiting.done.set_exception(result)
                    else:
                        waiting.done.set_result(result)
        finally:
            self._working = None

    async def _results(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        try:
            return await self._work(items)
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
            return [error] * len(items)
