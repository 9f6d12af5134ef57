"""One running daemon for many tests, which are plain functions and may speak to it through bare sockets.

A loop in a thread of its own runs the stand-in of Kommo and whatever else is asynchronous.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import jwt

from tests.faults.machine import (
    ACCOUNT,
    CLIENT_ID,
    CLIENT_SECRET,
    OTHER_ACCOUNT,
    VOIP_TOKEN,
    Daemon,
    Finished,
    Installation,
    installation,
)

T = TypeVar("T")

ADMIN_TOKEN = "the-operators-own-token-of-this-test"
SIGNING_SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
INSTALLED = 5151
"""An account that comes by OAuth."""

ANSWER_S = 10.0
SOUND = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00" + b"\x00" * 64

TABLES = ("calls", "journal", "accounts", "extensions", "voip_tokens", "incoming_leads", "keys")

BROUGHT = {
    "calls": "SELECT count(*) FROM calls",
    # What workers write has no body.
    "messages": "SELECT count(*) FROM journal WHERE body IS NOT NULL",
    "accounts": "SELECT count(*) FROM accounts",
    "extensions": "SELECT count(*) FROM extensions",
    "voip_tokens": "SELECT count(*) FROM voip_tokens",
}
"""How much stands in the ledger of what senders bring."""

Headers = Mapping[str, str]


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        """The body as a text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem document; empty for any other answer."""
        if self.headers.get_content_type() != "application/problem+json":
            return ""
        return str(self.json["code"])


class Target:
    """The daemon, the stand-in of Kommo behind it, and what tests ask of both."""

    def __init__(self, here: Installation, loop: asyncio.AbstractEventLoop) -> None:
        self.here = here
        self._loop = loop

    @property
    def daemon(self) -> Daemon:
        """The daemon."""
        return self.here.daemons[0]

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, _, port = self.daemon.url.removeprefix("http://").partition(":")
        return host, int(port)

    @property
    def origin(self) -> str:
        """The page of the account's Kommo."""
        return self.here.kommo.url

    @property
    def other_origin(self) -> str:
        """The page of the other account's Kommo."""
        return self.here.kommo.url.replace("127.0.0.1", "localhost")

    def do(self, doing: Coroutine[Any, Any, T], within_s: float = 40.0) -> T:
        """Return what something asynchronous returns."""
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(within_s)

    def run(self, *words: object) -> Finished:
        """Run a command with the daemon's configuration."""
        return self.do(self.here.run(*words))

    def ask(
        self,
        method: str,
        path: str,
        headers: Headers | Sequence[tuple[str, str]] = (),
        body: bytes | str | object | None = None,
    ) -> Answer:
        """Send a request on a connection of its own; a body that is no text goes as JSON."""
        sent = body.encode() if isinstance(body, str) else body
        if sent is not None and not isinstance(sent, bytes):
            sent = json.dumps(sent).encode()
        connection = http.client.HTTPConnection(*self.address, timeout=ANSWER_S)
        try:
            given = list(headers.items() if isinstance(headers, Mapping) else headers)
            own_host = any(name == "Host" for name, _ in given)
            connection.putrequest(method, path, skip_host=own_host, skip_accept_encoding=True)
            for name, value in given:
                connection.putheader(name, value.encode("utf-8", "surrogateescape"))
            if sent is not None:
                connection.putheader("Content-Length", str(len(sent)))
            connection.endheaders(sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def raw(self, sent: bytes, within_s: float = ANSWER_S) -> bytes:
        """Send bytes and return what comes back until the daemon closes; fails when it does not."""
        with socket.create_connection(self.address, timeout=within_s) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(sent)
            received = bytearray()
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(65536):
                    received += piece
        return bytes(received)

    def voip(self, account_id: int = ACCOUNT) -> dict[str, str]:
        """Return the headers of the account's VoIP service."""
        return {"Authorization": f"Bearer {VOIP_TOKEN}{account_id}"}

    def signed(
        self, body: bytes, *, at: float | None = None, name: str = "msg_1", secret: str = SIGNING_SECRET
    ) -> dict[str, str]:
        """Return the headers of a message signed as Standard Webhooks wants it."""
        stamp = str(int(time.time() if at is None else at))
        key = base64.b64decode(secret.removeprefix("whsec_"))
        mac = hmac.digest(key, b".".join((name.encode(), stamp.encode(), body)), hashlib.sha256)
        signature = f"v1,{base64.b64encode(mac).decode()}"
        return {"webhook-id": name, "webhook-timestamp": stamp, "webhook-signature": signature}

    def claims(self, account_id: int = ACCOUNT, **changes: Any) -> dict[str, Any]:
        """Return what a token of the widget says; a change to None leaves it out."""
        now = int(time.time())
        said = {
            "iss": self.origin if account_id == ACCOUNT else self.other_origin,
            "aud": self.daemon.url,
            "iat": now,
            "nbf": now,
            "exp": now + 1800,
            "account_id": account_id,
            "user_id": 111,
            "client_uuid": CLIENT_ID,
            **changes,
        }
        return {name: value for name, value in said.items() if value is not None}

    def widget(self, account_id: int = ACCOUNT, **changes: Any) -> dict[str, str]:
        """Return the headers of the account's widget."""
        token = jwt.encode(self.claims(account_id, **changes), CLIENT_SECRET, algorithm="HS256")
        return self.shown(token, account_id)

    def shown(self, token: str, account_id: int = ACCOUNT) -> dict[str, str]:
        """Return the headers of the account's widget with any token."""
        return {
            "X-Auth-Token": token,
            "Origin": self.origin if account_id == ACCOUNT else self.other_origin,
        }

    def operator(self) -> dict[str, str]:
        """Return the headers of an operator's program."""
        return {"Authorization": f"Bearer {ADMIN_TOKEN}"}

    def report(self, call_id: str, account_id: int = ACCOUNT, **more: object) -> Answer:
        """Tell of a call that has ended, as its VoIP service does."""
        event = {
            "event": "call.ended",
            "call_id": call_id,
            "direction": "inbound",
            "phone": "+1 212 555 0100",
            "duration": 42,
            "status": "answered",
            **more,
        }
        return self.ask("POST", f"/voip/generic/{account_id}", self.voip(account_id), event)

    def upload(self, call_id: str, account_id: int = ACCOUNT) -> Answer:
        """Upload a recording."""
        path = f"/voip/generic/{account_id}/recordings/{quote(call_id, safe='')}"
        return self.ask("PUT", path, {**self.voip(account_id), "Content-Type": "audio/wav"}, SOUND)

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return everything that stands in the ledger."""
        with contextlib.closing(sqlite3.connect(f"file:{self.here.ledger}?mode=ro", uri=True)) as ledger:
            ledger.execute("BEGIN")
            return {table: ledger.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}

    def counts(self) -> dict[str, int]:
        """Return how much stands in the ledger of what senders bring, whatever the workers are doing."""
        return {name: self._number(query) for name, query in BROUGHT.items()}

    def quiet(self, within_s: float = 20.0) -> None:
        """Return when the workers have nothing left to do, so that the ledger stands still."""
        end = time.monotonic() + within_s
        while self.here.due() or self._number("SELECT count(*) FROM task"):
            assert time.monotonic() < end, "the workers are still at it"
            time.sleep(0.05)

    def _number(self, query: str) -> int:
        with contextlib.closing(sqlite3.connect(f"file:{self.here.ledger}?mode=ro", uri=True)) as ledger:
            return int(ledger.execute(query).fetchone()[0])

    def is_well(self) -> None:
        """Fail unless the daemon goes on serving and has nothing to reproach itself with."""
        assert self.daemon.code is None, self.daemon.errors
        assert self.ask("GET", "/readyz").status == 200
        assert "Traceback" not in self.daemon.errors, self.daemon.errors
        wrong = [line for line in self.log_lines() if "mistake of ours" in line or "level=critical" in line]
        assert not wrong, wrong

    def log_lines(self) -> list[str]:
        """Return the log, divided where a program that tails it divides it."""
        return self.here.log.split("\n")[:-1]


@contextlib.contextmanager
def loop_beside() -> Iterator[asyncio.AbstractEventLoop]:
    """Give a loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="beside")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def target(folder: Path, **sections: Mapping[str, Any]) -> Iterator[Target]:
    """Run a daemon with every door open: two accounts, OAuth, operators; `sections` change settings."""
    with loop_beside() as loop:
        stack = contextlib.AsyncExitStack()

        async def start() -> Installation:
            here = await stack.enter_async_context(installation(folder, kommo_timeout=2.0))
            here.add_account(OTHER_ACCOUNT)
            here.kommo.account(INSTALLED).add_contact("Ann", phones=["+1 212 555 0100"])
            here.accounts[0]["voip"]["generic"]["signing_secret"] = SIGNING_SECRET
            here.accounts[1]["base_url"] = here.kommo.url.replace("127.0.0.1", "localhost")
            daemon = here.daemon()
            here.sections["admin"] = {"token": ADMIN_TOKEN}
            for name, values in sections.items():
                here.sections[name] = {**here.sections.get(name, {}), **values}
            here.allow_oauth(daemon)
            await daemon.ready()
            return here

        async def stop() -> None:
            await stack.aclose()

        try:
            yield Target(asyncio.run_coroutine_threadsafe(start(), loop).result(40), loop)
        finally:
            asyncio.run_coroutine_threadsafe(stop(), loop).result(40)


def fresh(prefix: str) -> str:
    """Return an id that no other call has."""
    return f"{prefix}-{secrets.token_hex(6)}"
