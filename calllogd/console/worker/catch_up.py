"""Asks VoIP services each hour for calls that they know of and may not have told."""

import asyncio
import logging
from collections.abc import Mapping

from calllogd.database.caught_up import LedgerOfCaughtUp
from calllogd.errors import StorageError
from calllogd.ports import Clock
from calllogd.voip.errand import ErrandFailed, ListsCalls
from calllogd.voip.usecase.catch_up import CatchUpUseCase, windows

EVERY_S = 3600.0
TROUBLE_S = 600.0
"""How long a service is left alone that could not be asked."""

LOOK_S = 30.0

OVERLAP_S = 6 * 3600.0
"""Calls are listed by when they began, once they have ended: the last hours are asked for again."""

_log = logging.getLogger(__name__)


class CatchUpWorker:
    """Catches up with every service that lists its calls; `providers` by service and account id."""

    def __init__(
        self,
        *,
        providers: Mapping[tuple[str, str], object],
        use_case: CatchUpUseCase,
        caught_up: LedgerOfCaughtUp,
        clock: Clock,
    ) -> None:
        self._services = [
            (int(account_id), name, provider)
            for (name, account_id), provider in providers.items()
            if isinstance(provider, ListsCalls) and provider.lists_calls
        ]
        self._use_case = use_case
        self._caught_up = caught_up
        self._clock = clock

    async def run(self) -> None:
        """Go on for ever; no service waits for another."""
        async with asyncio.TaskGroup() as group:
            for account_id, name, service in self._services:
                group.create_task(self._keep(account_id, name, service))
        await asyncio.Event().wait()

    async def once(self) -> None:
        """Ask each service that is to be asked by now; raises StorageError."""
        for account_id, name, service in self._services:
            await self._catch_up(account_id, name, service)

    async def _keep(self, account_id: int, name: str, service: ListsCalls) -> None:
        while True:
            try:
                await self._catch_up(account_id, name, service)
            except StorageError as error:
                _log.warning("calls of %s for account %d cannot be kept: %s", name, account_id, error)
            await asyncio.sleep(LOOK_S)

    async def _catch_up(self, account_id: int, name: str, service: ListsCalls) -> None:
        now = self._clock.now()
        complete_until = await self._caught_up.claim(account_id, name, now, now + EVERY_S)
        if complete_until is None:
            return
        new = 0
        try:
            for since, until in windows(complete_until - OVERLAP_S, now):
                new += (await self._use_case.execute(name, service, since, until))[1]
                await self._caught_up.reached(account_id, name, until)
        except ErrandFailed as error:
            _log.warning("%s cannot be asked for calls of account %d: %s", name, account_id, error)
            due_at = self._clock.now() + (error.retry_after_s or TROUBLE_S)
            await self._caught_up.failed(account_id, name, str(error), due_at)
        if new:
            _log.info("%s told something new of %d call(s) of account %d", name, new, account_id)
