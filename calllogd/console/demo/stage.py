"""Where the demo plays: a stand-in of Kommo in this process, and the daemon in one of its own."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import aiohttp

from calllogd.config import Settings, load
from calllogd.config.reader import ENVIRONMENT
from calllogd.console.demo.messages import Message
from calllogd.console.demo.plays import (
    ACCOUNT,
    COMPANY,
    CONTACT_WAIT_S,
    DORA,
    GARDEN,
    HAS_LEAD,
    KNOWN,
    OTHER_ACCOUNT,
    ROOF,
    Act,
)
from calllogd.console.ledger import ledger
from calllogd.console.parts import webhook_secrets
from calllogd.domain.call import CallKey
from calllogd.errors import CalllogdError
from calllogd.sandbox import SandboxKommo
from calllogd.voip.provider import service_settings

READY_S = 15.0
STOP_S = 15.0
SEND_S = 5.0
AGAIN_S = 0.1

_CONFIG = """\
[http]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
[database]
url = "sqlite:///{folder}/calllogd.db"
[kommo]
rate = {rate}
timeout = 1.5
client_secret = "{client_secret}"
redirect_uri = "http://127.0.0.1:{port}/oauth/callback"
[policy]
doubt_wait = 2
contact_wait = {contact_wait}
[recordings]
path = "{folder}/recordings"
keep_free_bytes = 0
allow_private = ["127.0.0.0/8"]
[log]
file = "{folder}/calllogd.log"
"""

_ACCOUNT = """\
[[accounts]]
id = {id}
base_url = "{kommo}"
region = "US"
access_token = "{access_token}"
extensions = {{ 101 = 111, 102 = 112 }}
[accounts.voip.generic]
token = "{token}"
"""


@dataclass(slots=True)
class Daemon:
    """The daemon's process, killed and started again at will."""

    config: Path
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0

    def start(self) -> None:
        """Start the process."""
        self.process = subprocess.Popen(  # noqa: S603  our own interpreter
            command("--config", str(self.config)), stdin=subprocess.DEVNULL, env=environment()
        )

    def kill(self) -> None:
        """Kill it, whatever it is doing."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.kills += 1

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        return self.process.wait(timeout=STOP_S)


@dataclass(slots=True)
class Stage:
    """A running demo: `accepted` is what got a 2xx, and of which call."""

    settings: Settings
    kommo: SandboxKommo
    daemon: Daemon
    http: aiohttp.ClientSession
    accepted: set[tuple[CallKey, Act]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """The daemon's address."""
        return self.settings.http.public_url

    async def ready(self) -> None:
        """Return when the daemon is ready; raises CalllogdError when it does not become so."""
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            with contextlib.suppress(aiohttp.ClientError):
                async with self.http.get(f"{self.url}/readyz") as answer:
                    if answer.status == HTTPStatus.OK:
                        return
            await asyncio.sleep(0.02)
        raise CalllogdError(f"the daemon did not become ready within {READY_S:.0f} s")

    async def hear_of_kommo(self) -> None:
        """Have Kommo tell the daemon what happens in its accounts."""
        async with ledger(self.settings) as book:
            secrets_of = await webhook_secrets(book)
        for account in self.kommo.accounts:
            self.kommo.hook(account.id, f"{self.url}/kommo/{account.id}/{secrets_of.secret(account.id)}")

    async def send(self, message: Message) -> None:
        """Send a message until it is accepted; raises CalllogdError if it is refused."""
        while (status := await self.sent(message)) >= HTTPStatus.MULTIPLE_CHOICES:
            if status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise CalllogdError(f"{message.act} of {message.key.call_id} was refused with HTTP {status}")
            await asyncio.sleep(AGAIN_S)
        self.accepted.add((message.key, message.act))

    async def sent(self, message: Message) -> int:
        """Send a message once; return the status of the answer, 503 if none came."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self.http.request(
                message.method, self.url + message.path, headers=message.headers, data=message.body
            ) as answer:
                await answer.read()
                return answer.status
        return HTTPStatus.SERVICE_UNAVAILABLE

    async def played(self, link: str) -> bytes | None:
        """Return what a player gets who asks for all but the first byte; None if it is not that."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self.http.get(link, headers={"Range": "bytes=1-"}) as answer:
                sound = await answer.read()
                return sound if answer.status == HTTPStatus.PARTIAL_CONTENT else None
        return None


@contextlib.asynccontextmanager
async def stage(folder: Path, *, rate: int) -> AsyncIterator[Stage]:
    """Build the stage in a folder and start the daemon; kill what still runs in the end."""
    limit = aiohttp.ClientTimeout(total=SEND_S)
    async with SandboxKommo(rate=rate) as kommo, aiohttp.ClientSession(timeout=limit) as http:
        _people(kommo)
        config = folder / "calllogd.toml"
        config.touch(mode=0o600)
        config.write_text(_config(folder, kommo, rate), encoding="utf-8")
        daemon = Daemon(config)
        built = Stage(load(config, {}, services=service_settings()), kommo, daemon, http)
        daemon.start()
        try:
            await built.ready()
            await built.hear_of_kommo()
            yield built
        finally:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.kill()


def command(*arguments: str) -> list[str]:
    """Return the command line of calllogd with these arguments."""
    return [sys.executable, "-m", "calllogd", *arguments]


def environment() -> dict[str, str]:
    """Return the environment without settings: those of this machine are none of the demo's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT)}


def _people(kommo: SandboxKommo) -> None:
    account = kommo.account(ACCOUNT, token=secrets.token_urlsafe(32))
    account.add_contact("Ann", phones=[KNOWN])
    account.add_lead(ROOF, contact=account.add_contact("Bob", phones=[HAS_LEAD]))
    account.add_lead(GARDEN)
    account.add_contact(DORA)
    account.add_company("Acme", phones=[COMPANY])
    kommo.account(OTHER_ACCOUNT, token=secrets.token_urlsafe(32)).add_contact("Zoe", phones=[KNOWN])


def _config(folder: Path, kommo: SandboxKommo, rate: int) -> str:
    accounts = [
        _ACCOUNT.format(
            id=account.id, kommo=kommo.url, access_token=account.token, token=secrets.token_urlsafe(24)
        )
        for account in kommo.accounts
    ]
    general = _CONFIG.format(
        port=_free_port(),
        folder=folder,
        rate=rate,
        client_secret=secrets.token_hex(32),
        contact_wait=CONTACT_WAIT_S,
    )
    return general + "".join(accounts)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
