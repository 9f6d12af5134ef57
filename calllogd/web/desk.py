"""What the handlers work with, exchanged as a whole when the configuration is read again.

The server and its connections outlive a reload. A request that comes while nothing is on the desk waits for
what comes next, so that no sender is turned away.
"""

import asyncio
from typing import Self

from aiohttp import web

from calllogd.errors import Overloaded
from calllogd.web.client_address import TrustedProxies
from calllogd.web.limits import Limits
from calllogd.web.services import Services, WidgetServices

WAIT_S = 10.0
RETRY_S = 5


class Desk:
    """Holds the services, and knows how many requests use them."""

    def __init__(self, services: Services | None = None) -> None:
        self._services = services
        self._widget = None if services is None else services.widget
        self._origins = _origins(services)
        self._limits = None if services is None else services.limits
        self._trusted = TrustedProxies() if services is None else services.trusted_proxies
        self._users = 0
        self._there = asyncio.Event()
        self._unused = asyncio.Event()

    def put(self, services: Services) -> None:
        """Give the requests their services."""
        self._services = services
        self._widget = services.widget
        self._origins = _origins(services)
        self._limits = services.limits
        self._trusted = services.trusted_proxies
        self._there.set()

    async def clear(self) -> None:
        """Take the services away, and return when nobody uses them any more."""
        self._services = None
        self._there.clear()
        while self._users:
            self._unused.clear()
            await self._unused.wait()

    @property
    def origins(self) -> frozenset[str]:
        """The pages from which browsers may ask: while there are no services, those of the last ones."""
        return self._origins

    @property
    def widget(self) -> WidgetServices | None:
        """What the widget's open streams look at: while there are no services, that of the last ones."""
        return self._widget

    @property
    def limits(self) -> Limits | None:
        """How much is taken: while there are no services, what the last ones take."""
        return self._limits

    @property
    def trusted_proxies(self) -> TrustedProxies:
        """The proxies in front: while there are no services, those of the last ones."""
        return self._trusted

    async def services(self) -> Self:
        """Return what gives the services when entered: `with await desk.services() as services`.

        Waits until they are there; raises Overloaded when they do not come.
        """
        if self._services is None:
            try:
                async with asyncio.timeout(WAIT_S):
                    while self._services is None:
                        await self._there.wait()
            except TimeoutError:
                raise Overloaded(RETRY_S) from None
        return self

    def __enter__(self) -> Services:
        if self._services is None:
            raise Overloaded(RETRY_S)
        self._users += 1
        return self._services

    def __exit__(self, *exception: object) -> None:
        self._users -= 1
        if self._users == 0:
            self._unused.set()


def _origins(services: Services | None) -> frozenset[str]:
    if services is None or services.widget is None:
        return frozenset()
    return services.widget.tokens.origins


DESK_KEY = web.AppKey("DESK_KEY", Desk)
