"""calllogd as it runs on a machine: its configuration, its processes, and a stand-in of Kommo to talk to.

Everything is real but Kommo: processes, files, HTTP on loopback. Every process is killed in the end.
"""

import asyncio
import contextlib
import inspect
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import jwt

from calllogd.sandbox import Account, EntryView, Integration, SandboxKommo

ROOT = Path(__file__).parents[2]

ACCOUNT, OTHER_ACCOUNT = 31337, 4242
ACCESS_TOKEN = "kommo-access-token-of-"
VOIP_TOKEN = "voip-bearer-token-of-"
CLIENT_ID = "6d2c1f0e-0000-4000-8000-00000000c1d0"
CLIENT_SECRET = secrets.token_hex(32)
REDIRECT = "https://calls.example.com/oauth/callback"
KNOWN = "+1 212 555 0100"
"""The number of a contact that every account has."""

PROGRAM = (sys.executable, "-m", "calllogd")

STARTS_S = 20.0
ENDS_S = 10.0
COMMAND_S = 30.0
ACCEPTED = 202

Webhook = Mapping[str, object]
CallIds = Iterable[tuple[int, str]]


async def until(condition: Callable[[], Any], within_s: float = 10.0, *, every_s: float = 0.01) -> Any:
    """Return the first true value of a condition, which may be awaitable; fails at the deadline."""
    end = time.monotonic() + within_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, f"not within {within_s:.0f} s: {inspect.getsource(condition).strip()}"
        await asyncio.sleep(every_s)


def webhook(call_id: str, phone: str = KNOWN, **more: object) -> Webhook:
    """Return what a VoIP service posts when a call has ended."""
    facts = {
        "direction": "inbound",
        "status": "answered",
        "duration": 42,
        "started_at": int(time.time()) - 42,
    }
    return {"event": "call.ended", "call_id": call_id, "phone": phone, **facts, **more}


def unknown(number: int) -> str:
    """Return the n-th number that nobody has."""
    return f"+1646555{number:04d}"


def environment(**more: str) -> dict[str, str]:
    """Return the environment without what would configure calllogd, or slow its processes down."""
    own = ("CALLLOGD_", "NOTIFY_SOCKET", "WATCHDOG_", "CREDENTIALS_DIRECTORY", "PYTHONASYNCIODEBUG")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)} | more


def command(*words: object) -> list[str]:
    return [*PROGRAM, *map(str, words)]


def interruptible() -> None:
    """Have processes that are started from now on end by SIGINT, although this one may have to ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Finished(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Everything it said, as one line: tables break sentences in two."""
        return " ".join((self.out + self.err).split())

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Each line it printed, as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


async def run(
    *words: object, env: Mapping[str, str] | None = None, program: Sequence[str] = PROGRAM
) -> Finished:
    """Run `calllogd` with these arguments to its end."""
    process = await asyncio.create_subprocess_exec(
        *program,
        *map(str, words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=env or environment(),
    )
    try:
        async with asyncio.timeout(COMMAND_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    finished = Finished(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in finished.err, finished.err
    return finished


@dataclass(slots=True)
class Daemon:
    """One daemon, which may be killed and started again."""

    config: Path
    url: str
    http: aiohttp.ClientSession
    process: subprocess.Popen[bytes] | None = None
    program: Sequence[str] = PROGRAM
    """What starts it; `--config FILE` follows."""

    @property
    def errors(self) -> str:
        """Everything that it and those before it have written to standard error."""
        path = self.config.with_suffix(".stderr")
        return path.read_text() if path.exists() else ""

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return None if self.process is None else self.process.poll()

    def start(self, **env: str) -> None:
        with self.config.with_suffix(".stderr").open("ab") as errors:
            self.process = subprocess.Popen(
                [*self.program, "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                cwd=ROOT,
                env=environment(**env),
            )

    async def ready(self, **env: str) -> None:
        """Start it and return when it says that it is ready."""
        self.start(**env)
        await until(self._is_ready, STARTS_S)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it, whatever it is doing; returns when it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    async def ended(self, within_s: float = ENDS_S) -> int:
        """Return its exit code once it has ended by itself."""
        await until(lambda: self.code is not None, within_s)
        assert self.code is not None
        return self.code

    async def stop(self) -> int:
        """Ask it to stop, and return its exit code."""
        self.send(signal.SIGTERM)
        return await self.ended()

    async def _is_ready(self) -> bool:
        assert self.code is None, f"the daemon has ended with {self.code}: {self.errors}"
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self.http.get(f"{self.url}/readyz") as answer:
                return answer.status == 200
        return False


@dataclass(slots=True, kw_only=True)
class Installation:
    """A configuration and the daemons that run with it, beside a stand-in of Kommo."""

    folder: Path
    kommo: SandboxKommo
    http: aiohttp.ClientSession
    sections: dict[str, dict[str, Any]]
    accounts: list[dict[str, Any]] = field(default_factory=list)
    daemons: list[Daemon] = field(default_factory=list)
    voip_tokens: dict[int, str] = field(default_factory=dict)
    """Tokens of accounts that do not stand in the configuration."""

    @property
    def config(self) -> Path:
        return self.folder / "calllogd.toml"

    @property
    def ledger(self) -> Path:
        return self.folder / "calllogd.db"

    @property
    def log(self) -> str:
        """The log as it is now."""
        return (self.folder / "calllogd.log").read_text()

    def add_account(self, account_id: int) -> Account:
        """Make a Kommo account with a contact, and put it into the configuration."""
        account = self.kommo.account(account_id, token=f"{ACCESS_TOKEN}{account_id}")
        account.add_contact("Ann", phones=[KNOWN])
        self.accounts.append(
            {
                "id": account_id,
                "base_url": self.kommo.url,
                "region": "US",
                "access_token": account.token,
                "extensions": {"101": 111, "102": 112},
                "voip": {"generic": {"token": f"{VOIP_TOKEN}{account_id}"}},
            }
        )
        return account

    def write(self, path: Path | None = None) -> Path:
        """Write the configuration as it is now."""
        path = path or self.config
        path.write_text(_toml({**self.sections, "accounts": self.accounts}))
        return path

    def daemon(self, name: str = "calllogd") -> Daemon:
        """Write the configuration, and return a daemon for it that has not been started; each has a port."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        # Loads come from one address here, faster than any VoIP service would send.
        rates = {"account_rate": 0, "address_rate": 0}
        self.sections["http"] = {"listen": f"127.0.0.1:{port}", "public_url": url, **rates}
        daemon = Daemon(self.write(self.folder / f"{name}.toml"), url, self.http)
        self.daemons.append(daemon)
        return daemon

    def allow_oauth(self, daemon: Daemon) -> None:
        """Make an integration of Kommo's whose redirect address leads to this daemon, and configure it."""
        redirect_uri = f"{daemon.url}/oauth/callback"
        self.sections["kommo"] |= {
            "client_id": CLIENT_ID,
            "redirect_uri": redirect_uri,
            "consent_url": f"{self.kommo.url}/oauth",
            "domains": [self.kommo.url.removeprefix("http://")],
        }
        self.kommo.integration = Integration(
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            redirect_uri=redirect_uri,
            disable_url=f"{daemon.url}/oauth/disable",
        )
        for path in (daemon.config, self.config):
            self.write(path)

    async def run(self, *words: object) -> Finished:
        """Run a command with the configuration."""
        return await run("--config", self.config, *words)

    async def post(self, event: Webhook, account_id: int = ACCOUNT, to: Daemon | None = None) -> int:
        """Post a webhook once; return the status of the answer."""
        daemon = to or self.daemons[0]
        token = self.voip_tokens.get(account_id, f"{VOIP_TOKEN}{account_id}")
        async with self.http.post(
            f"{daemon.url}/voip/generic/{account_id}",
            json=event,
            headers={"Authorization": f"Bearer {token}"},
        ) as answer:
            await answer.read()
            return answer.status

    async def send(self, event: Webhook, account_id: int = ACCOUNT, to: Daemon | None = None) -> None:
        """Post a webhook until it is accepted, as VoIP services do."""

        async def accepted() -> bool:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                return await self.post(event, account_id, to) == ACCEPTED
            return False

        await until(accepted, 30, every_s=0.05)

    async def tell(
        self,
        method: str,
        call_id: str,
        what: str = "",
        account_id: int = ACCOUNT,
        to: Daemon | None = None,
        **body: object,
    ) -> int:
        """Send what the widget says of a call until it is taken or refused; return the status."""
        status = 0
        token = self.widget_token(account_id)

        async def answered() -> bool:
            nonlocal status
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self.http.request(
                    method,
                    f"{(to or self.daemons[0]).url}/widget/v1/calls/{call_id}{what}",
                    json=body,
                    headers={"X-Auth-Token": token, "Origin": self.kommo.url},
                ) as answer:
                    await answer.read()
                    status = answer.status
                    return status < 500
            return False

        await until(answered, 30, every_s=0.05)
        return status

    async def save(
        self, call_id: str, account_id: int = ACCOUNT, to: Daemon | None = None, **result: object
    ) -> int:
        """Save a call result."""
        return await self.tell("PUT", call_id, "/result", account_id, to, **{"rev": 1, **result})

    def widget_token(self, account_id: int, *, audience: str = "https://calls.example.com") -> str:
        """Return a token as Kommo gives it to the widget."""
        now = int(time.time())
        claims = {
            "iss": self.kommo.url,
            "aud": audience,
            "iat": now,
            "nbf": now,
            "exp": now + 1800,
            "account_id": account_id,
            "user_id": 111,
        }
        return jwt.encode(claims, CLIENT_SECRET, algorithm="HS256")

    async def upload(
        self, call_id: str, sound: bytes, account_id: int = ACCOUNT, to: Daemon | None = None
    ) -> int:
        """Upload a recording until it is taken or refused; return the status."""
        status = 0

        async def answered() -> bool:
            nonlocal status
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self.http.put(
                    f"{(to or self.daemons[0]).url}/voip/generic/{account_id}/recordings/{call_id}",
                    data=sound,
                    headers={
                        "Authorization": f"Bearer {VOIP_TOKEN}{account_id}",
                        "Content-Type": "audio/wav",
                    },
                ) as answer:
                    await answer.read()
                    status = answer.status
                    return status < 500
            return False

        await until(answered, 30, every_s=0.05)
        return status

    async def calls(self) -> dict[tuple[int, str], dict[str, Any]]:
        """Return the calls of the ledger, as `calllogd calls` tells them."""
        listing = await self.run("calls", "--json", "--limit", 1_000_000)
        assert listing.code == 0
        return {(call["account_id"], call["call_id"]): call for call in listing.lines}

    async def settled(self, number: int, within_s: float = 30.0) -> None:
        """Return when the ledger has this many calls and nothing is left to be done about any of them."""

        async def is_settled() -> bool:
            states: dict[str, int] = (await self.run("status", "--json")).json["calls"]
            waiting = states["pending"] + states["in_doubt"] + self.due()
            return sum(states.values()) == number and waiting == 0

        await until(is_settled, within_s, every_s=0.3)

    def put_off(self) -> int:
        """Return how many calls wait after something went wrong."""
        with contextlib.closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as ledger:
            (number,) = ledger.execute(
                "SELECT count(*) FROM calls WHERE last_error IS NOT NULL AND lease IS NULL"
            ).fetchone()
        return int(number)

    def due(self) -> int:
        """Return how many calls are due, being worked on, or wait for something to be written again."""
        with contextlib.closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as ledger:
            (number,) = ledger.execute(
                "SELECT count(*) FROM calls WHERE due_at <= ? OR leaving IS NOT NULL"
                " OR (state = 'logged' AND (written_revision < revision OR shaky_until IS NOT NULL))",
                (time.time() + 1,),
            ).fetchone()
        return int(number)

    def entries(self, call_id: str, account_id: int = ACCOUNT) -> list[EntryView]:
        """Return what stands in Kommo for a call."""
        return self.kommo.account(account_id).entries(call_id)

    async def played(self, entry: EntryView) -> bytes | None:
        """Return what a player gets by the link of an entry; None without a link that plays."""
        link = entry.params.get("link")
        if link is None:
            return None
        async with self.http.get(str(link)) as answer:
            return await answer.read() if answer.status == 200 else None

    def asked(self, method: str, path: str, account_id: int | None = None) -> int:
        """Return how many requests have come to Kommo."""
        return sum(
            request.method == method and request.path == path and account_id in (None, request.account_id)
            for request in self.kommo.requests
        )

    async def each_stands_once(self, calls: CallIds) -> None:
        """Fail unless just these calls are in the ledger, each logged and standing once in Kommo."""
        found, expected = await self.calls(), set(calls)
        assert found.keys() == expected, "calls were lost, or came from nowhere"
        states = {key: call["state"] for key, call in found.items() if call["state"] != "logged"}
        assert not states, f"calls are not logged: {states}"
        standing = {key: len(self.entries(key[1], key[0])) for key in expected}
        assert {key: number for key, number in standing.items() if number != 1} == {}
        notes = sum(len(account.notes) for account in self.kommo.accounts)
        assert notes == len(expected), "there are notes in Kommo that belong to no call"


@contextlib.asynccontextmanager
async def installation(
    folder: Path, *, workers: int = 4, kommo_timeout: float = 1.0
) -> AsyncIterator[Installation]:
    """Install calllogd with one account; kill what still runs in the end."""
    async with (
        SandboxKommo(rate=0) as kommo,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http,
    ):
        sections: dict[str, dict[str, Any]] = {
            "database": {"url": f"sqlite:///{folder}/calllogd.db"},
            "queue": {"workers": workers},
            "kommo": {
                "rate": 0,
                "timeout": kommo_timeout,
                "client_secret": CLIENT_SECRET,
                "redirect_uri": REDIRECT,
            },
            "policy": {"doubt_wait": 1},
            "recordings": {
                "path": f"{folder}/recordings",
                "keep_free_bytes": 0,
                "allow_private": ["127.0.0.0/8"],
                "convert": "off",
            },
            "log": {"file": f"{folder}/calllogd.log"},
        }
        here = Installation(folder=folder, kommo=kommo, http=http, sections=sections)
        here.add_account(ACCOUNT)
        try:
            yield here
        finally:
            for daemon in here.daemons:
                daemon.kill()
        for daemon in here.daemons:
            assert "Traceback" not in daemon.errors, daemon.errors


async def all_of(doings: Iterable[Awaitable[object]]) -> None:
    """Do everything at once."""
    await asyncio.gather(*doings)


def _toml(value: Mapping[str, Any], path: str = "") -> str:
    """Return a table as TOML; JSON writes texts, numbers and lists of them alike."""
    plain = {key: it for key, it in value.items() if not isinstance(it, dict) and not _is_tables(it)}
    text = "".join(f"{json.dumps(key)} = {json.dumps(it)}\n" for key, it in plain.items())
    for key, it in value.items():
        if isinstance(it, dict):
            text += f"[{path}{key}]\n" + _toml(it, f"{path}{key}.")
        elif _is_tables(it):
            text += "".join(f"[[{path}{key}]]\n" + _toml(one, f"{path}{key}.") for one in it)
    return text


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(it, dict) for it in value)
