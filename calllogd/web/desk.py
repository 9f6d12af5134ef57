"""What the handlers work with, exchanged as a whole when the configuration is read again.

The server and its connections outlive a reload. A request that comes while nothing is on the desk waits for
what comes next, so that no sender is turned away.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from calllogd.errors import Overloaded
from calllogd.voip.usecase.save_call_event import Provider, SaveCallEventUseCase

WAIT_S = 10.0
RETRY_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts that requests use.

    `providers` are VoIP services by their name and account id, as both stand in the address. `ready` raises
    a CalllogdError when calllogd cannot work.
    """

    providers: Mapping[tuple[str, str], Provider]
    save_call_event: SaveCallEventUseCase
    ready: Callable[[], Awaitable[None]]


class Desk:
    """Holds the services, and knows how many requests use them."""

    def __init__(self, services: Services | None = None) -> None:
        self._services = services
        self._users = 0
        self._changed = asyncio.Condition()

    async def put(self, services: Services) -> None:
        """Give the requests their services."""
        async with self._changed:
            self._services = services
            self._changed.notify_all()

    async def clear(self) -> None:
        """Take the services away, and return when nobody uses them any more."""
        async with self._changed:
            self._services = None
            await self._changed.wait_for(lambda: self._users == 0)

    @asynccontextmanager
    async def services(self) -> AsyncIterator[Services]:
        """Give a request the services once they are there; raises Overloaded when they do not come."""
        services = self._services or await self._awaited()
        self._users += 1
        try:
            yield services
        finally:
            self._users -= 1
            if self._services is None:
                async with self._changed:
                    self._changed.notify_all()

    async def _awaited(self) -> Services:
        try:
            async with asyncio.timeout(WAIT_S), self._changed:
                await self._changed.wait_for(lambda: self._services is not None)
        except TimeoutError:
            raise Overloaded(RETRY_S) from None
        return self._services or await self._awaited()


DESK_KEY = web.AppKey("DESK_KEY", Desk)
