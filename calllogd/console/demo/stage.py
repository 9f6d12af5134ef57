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
from pathlib import Path

import aiohttp

from calllogd.config import Settings, load
from calllogd.config.reader import ENVIRONMENT
from calllogd.console.demo.plays import ACCOUNT, KNOWN, OTHER_ACCOUNT, Play
from calllogd.domain.call import CallKey
from calllogd.errors import CalllogdError
from calllogd.sandbox import SandboxKommo

READY_S = 15.0
STOP_S = 15.0
SEND_S = 5.0

_CONFIG = """\
[http]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
[database]
url = "sqlite:///{folder}/calllogd.db"
[kommo]
rate = {rate}
timeout = 1.5
[policy]
doubt_wait = 2
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
    """A running demo: `accepted` are the calls that got a 202."""

    settings: Settings
    kommo: SandboxKommo
    daemon: Daemon
    http: aiohttp.ClientSession
    accepted: set[CallKey] = field(default_factory=set)

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
                    if answer.status == 200:  # noqa: PLR2004
                        return
            await asyncio.sleep(0.02)
        raise CalllogdError(f"the daemon did not become ready within {READY_S:.0f} s")

    async def send(self, play: Play) -> None:
        """Post a webhook until it is accepted, as a VoIP service does that retries."""
        while not await self.sent(play, play.account_id):
            await asyncio.sleep(0.1)
        self.accepted.add(play.key)

    async def sent(self, play: Play, sender: int) -> bool:
        """Post a webhook once with one account's token; return whether it was accepted."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self.http.post(
                f"{self.url}/voip/generic/{play.account_id}",
                json=play.event(),
                headers={"Authorization": f"Bearer {self.settings.accounts[sender].generic.token}"},
                timeout=aiohttp.ClientTimeout(total=SEND_S),
            ) as answer:
                return answer.status == 202  # noqa: PLR2004
        return False


@contextlib.asynccontextmanager
async def stage(folder: Path, *, rate: int) -> AsyncIterator[Stage]:
    """Build the stage in a folder and start the daemon; kill what still runs in the end."""
    async with SandboxKommo(rate=rate) as kommo, aiohttp.ClientSession() as http:
        _people(kommo)
        config = folder / "calllogd.toml"
        config.touch(mode=0o600)
        config.write_text(_config(folder, kommo, rate), encoding="utf-8")
        daemon = Daemon(config)
        built = Stage(load(config, {}), kommo, daemon, http)
        daemon.start()
        try:
            await built.ready()
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
    account.add_lead("Roof repair", contact=account.add_contact("Bob", phones=["+1 555 010 0300"]))
    account.add_company("Acme", phones=["555 010 0400"])
    kommo.account(OTHER_ACCOUNT, token=secrets.token_urlsafe(32)).add_contact("Zoe", phones=[KNOWN])


def _config(folder: Path, kommo: SandboxKommo, rate: int) -> str:
    accounts = [
        _ACCOUNT.format(
            id=account.id, kommo=kommo.url, access_token=account.token, token=secrets.token_urlsafe(24)
        )
        for account in kommo.accounts
    ]
    return _CONFIG.format(port=_free_port(), folder=folder, rate=rate) + "".join(accounts)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
