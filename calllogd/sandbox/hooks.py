"""Kommo's own webhooks: sent in the background, so that nothing waits for whoever listens."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import aiohttp
from yarl import URL

from calllogd.sandbox.hook_forms import form_of
from calllogd.sandbox.records import Card, Deed, IncomingLead
from calllogd.sandbox.world import Account

TIMEOUT_S: Final = 2.0
RETRY_S: Final = 1.0
DELIVERED: Final = range(100, 300)


@dataclass(slots=True, kw_only=True)
class HookRecord:
    """One webhook; `statuses` has an item for each try, None for one that was not answered in time."""

    at: float
    account_id: int
    url: str
    form: dict[str, str]
    statuses: list[int | None] = field(default_factory=list)

    @property
    def delivered(self) -> bool:
        """The last try was answered as Kommo wants it."""
        return bool(self.statuses) and self.statuses[-1] in DELIVERED


class Hooks:
    """The destinations, one for each account, and what was sent to them.

    `timeout_s`: how long an answer may take. `retry_s`: how soon after a failure it is tried once more; the
    real Kommo waits 5 minutes, and tries up to five times. What happens while the server does not run is
    told to nobody.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.timeout_s = TIMEOUT_S
        self.retry_s = RETRY_S
        self.sent: list[HookRecord] = []
        self._now = now
        self._destinations: dict[int, str] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None

    def set(self, account_id: int, url: str | None) -> None:
        """Send the account's webhooks there, or nowhere. Raises ValueError for what is no HTTP address."""
        if url is None:
            self._destinations.pop(account_id, None)
            return
        parsed = URL(url)
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise ValueError("url is an http address, or null for none")
        self._destinations[account_id] = url

    def destination(self, account_id: int) -> str | None:
        """Where the account's webhooks go."""
        return self._destinations.get(account_id)

    def watch(self, account: Account) -> None:
        """Send what happens in this account, once it has a destination."""
        account.watchers.append(partial(self._happened, account))

    def open(self) -> None:
        """Begin to send; to be called on the server's loop."""
        self._loop = asyncio.get_running_loop()
        # A new connection for each, as from Kommo's many machines.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True), cookie_jar=aiohttp.DummyCookieJar()
        )

    async def close(self) -> None:
        """Drop what is under way or waits for its second try."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        self._session = self._loop = None

    async def settled(self) -> None:
        """Return when all that was to be sent has been, or was given up: no later than after two tries."""
        while self._under_way:
            done, _ = await asyncio.wait(self._under_way)
            for task in done:
                if not task.cancelled():
                    task.result()

    def _happened(self, account: Account, deed: Deed, what: Card | IncomingLead) -> None:
        url = self._destinations.get(account.id)
        if url is None or self._loop is None or self._session is None:
            return
        task = self._loop.create_task(
            self._tell(self._session, url, account, deed, what), name=f"webhook of account {account.id}"
        )
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _tell(
        self,
        session: aiohttp.ClientSession,
        url: str,
        account: Account,
        deed: Deed,
        what: Card | IncomingLead,
    ) -> None:
        # Only now is the deed wholly done: a task begins after the request that did it.
        record = HookRecord(at=self._now(), account_id=account.id, url=url, form=form_of(account, deed, what))
        self.sent.append(record)
        record.statuses.append(await self._post(session, record))
        if not record.delivered:
            await asyncio.sleep(self.retry_s)
            record.statuses.append(await self._post(session, record))

    async def _post(self, session: aiohttp.ClientSession, record: HookRecord) -> int | None:
        limit = aiohttp.ClientTimeout(total=self.timeout_s)
        try:
            async with session.post(
                record.url, data=record.form, timeout=limit, allow_redirects=False
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
