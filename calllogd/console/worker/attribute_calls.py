"""Gives calls that are logged their user when somebody is given their extension."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

from calllogd.domain.user import MAPPED_FOR_S
from calllogd.errors import StorageError
from calllogd.ports import Clock, NobodysCalls

STEP_S = 1.0
ROUND_S = 600.0
"""How often all is looked at: another process may have logged calls with the table before."""

_log = logging.getLogger(__name__)


class AttributeCallsWorker:
    """Makes calls due that are nobody's and could be somebody's.

    `extensions`: those of each account. A process that has other ones is built anew, and begins anew. Of each
    account only so many amendments are due at a time as are worked on beside each other, `width`: a new call
    waits for one of them at most, however many there are.
    """

    def __init__(
        self, *, calls: NobodysCalls, extensions: Mapping[int, Mapping[str, int]], clock: Clock, width: int
    ) -> None:
        self._calls = calls
        self._extensions = {account_id: list(table) for account_id, table in extensions.items() if table}
        self._clock = clock
        self._width = width

    async def run(self) -> None:
        """Go on for ever; no account waits for another."""
        async with asyncio.TaskGroup() as group:
            for account_id in self._extensions:
                group.create_task(self._keep(account_id))
        await asyncio.Event().wait()

    async def batches(self) -> AsyncIterator[None]:
        """Yield each time some calls have been made due, until none is left, or an account takes no more."""
        for account_id in self._extensions:
            place: int | None = None
            while (reached := await self._step(account_id, place or 0)) not in (None, place):
                place = reached
                yield

    async def _keep(self, account_id: int) -> None:
        place: int | None = 0
        while True:
            try:
                place = await self._step(account_id, place or 0)
            except StorageError as error:
                _log.warning("calls of %s cannot be attributed: %s", account_id, error)
            await asyncio.sleep(ROUND_S if place is None else STEP_S)

    async def _step(self, account_id: int, after: int) -> int | None:
        now = self._clock.now()
        return await self._calls.attribute(
            account_id,
            self._extensions[account_id],
            since=now - MAPPED_FOR_S,
            now=now,
            after=after,
            limit=self._width,
        )
