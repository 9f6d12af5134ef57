"""What the handlers work with, exchanged as a whole when the configuration is read again.

The server and its connections outlive a reload. A request that comes while nothing is on the desk waits for
what comes next, so that no sender is turned away.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Self

from aiohttp import web

from calllogd.errors import Overloaded
from calllogd.kommo.webhook import WebhookSecrets
from calllogd.ports import VoipCalls
from calllogd.recordings.links import Links
from calllogd.recordings.store import RecordingStore
from calllogd.voip.usecase.hear_kommo import HearKommoUseCase
from calllogd.voip.usecase.save_call_event import Provider, SaveCallEventUseCase
from calllogd.voip.usecase.save_call_result import SaveCallResultUseCase
from calllogd.voip.usecase.save_recording import SaveRecordingUseCase
from calllogd.voip.usecase.show_call import ShowCallUseCase
from calllogd.web.tokens import WidgetTokens

WAIT_S = 10.0
RETRY_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingServices:
    """The parts that requests about recordings use."""

    store: RecordingStore
    links: Links
    calls: VoipCalls
    save: SaveRecordingUseCase


@dataclass(frozen=True, slots=True, kw_only=True)
class WidgetServices:
    """The parts that requests of Kommo's widget use."""

    tokens: WidgetTokens
    save_call_result: SaveCallResultUseCase
    show_call: ShowCallUseCase


@dataclass(frozen=True, slots=True, kw_only=True)
class KommoServices:
    """The parts that Kommo's own webhooks use."""

    secrets: WebhookSecrets
    hear: HearKommoUseCase


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts that requests use.

    `providers` are VoIP services by their name and account id, as both stand in the address. `ready` raises
    a CalllogdError when calllogd cannot work.
    """

    providers: Mapping[tuple[str, str], Provider]
    save_call_event: SaveCallEventUseCase
    ready: Callable[[], Awaitable[None]]
    recordings: RecordingServices | None = None
    widget: WidgetServices | None = None
    kommo: KommoServices | None = None


class Desk:
    """Holds the services, and knows how many requests use them."""

    def __init__(self, services: Services | None = None) -> None:
        self._services = services
        self._origins = _origins(services)
        self._users = 0
        self._there = asyncio.Event()
        self._unused = asyncio.Event()

    def put(self, services: Services) -> None:
        """Give the requests their services."""
        self._services = services
        self._origins = _origins(services)
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
