"""A server on an address of this machine, started and stopped at will."""

from typing import Final

from aiohttp import web
from yarl import URL

SHUTDOWN_S: Final = 1.0


class Listener:
    """An application that listens, or does not."""

    def __init__(self) -> None:
        self._runner: web.AppRunner | None = None
        self._url: str | None = None
        self._hosts: set[str] = set()

    @property
    def url(self) -> str:
        """Address of the running server, without a slash at the end."""
        if self._url is None:
            raise RuntimeError("the sandbox has not been started")
        return self._url

    @property
    def hosts(self) -> frozenset[str]:
        """Where it listens, without the port, which is the same everywhere."""
        return frozenset(self._hosts)

    async def start(self, app: web.Application, host: str, port: int) -> None:
        """Listen; port 0 takes a free one. Raises OSError when the address cannot be had."""
        # Cancellation tells a held request that its client has gone; nothing is half done by it, because
        # a request is carried out without a pause.
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._hosts = {host}
        shown = f"[{host}]" if ":" in host else host
        self._url = f"http://{shown}:{runner.addresses[0][1]}"

    async def add(self, host: str) -> None:
        """Listen at this host as well. Raises OSError when the address cannot be had."""
        port = URL(self.url).port
        if self._runner is not None and host not in self._hosts:
            await web.TCPSite(self._runner, host, port).start()
            self._hosts.add(host)

    async def stop(self) -> None:
        """Close all connections; what still runs after `SHUTDOWN_S` is cancelled."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = self._url = None
        self._hosts = set()
