"""What every test has: a loop that must not be blocked, a network that ends at this machine, and parts."""

import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

from calllogd.database.database import Database
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.sandbox import Account, SandboxKommo
from tests.fakes import ACCOUNT, ManualClock

# How long an example takes says something of the machine alone.
settings.register_profile("calllogd", deadline=None)
settings.load_profile("calllogd")


@pytest.fixture(autouse=True)
def _unblocked_loop() -> Iterator[None]:
    """Fail a test in which code of calllogd blocks the loop; what other threads do does not count."""
    with blockbuster_ctx(scanned_modules=["calllogd"]) as blockbuster:
        # Taken by run_in_executor and call_soon_threadsafe, and held for microseconds.
        blockbuster.functions["threading.Lock.acquire"].deactivate()
        yield


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that connects to another machine."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def check(address: Any) -> None:
        if isinstance(address, tuple) and not ipaddress.ip_address(address[0]).is_loopback:
            pytest.fail(f"a test connects to {address}")

    def connect_near(self: socket.socket, address: Any) -> None:
        check(address)
        connect(self, address)

    def connect_ex_near(self: socket.socket, address: Any) -> int:
        check(address)
        return connect_ex(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_near)
    monkeypatch.setattr(socket.socket, "connect_ex", connect_ex_near)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "calllogd.db"


@pytest.fixture
async def database(ledger_path: Path) -> AsyncIterator[Database]:
    database = Database(ledger_path)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def ledger(database: Database) -> LedgerOfCalls:
    return LedgerOfCalls(database)


@pytest.fixture
async def kommo(clock: ManualClock) -> AsyncIterator[SandboxKommo]:
    async with SandboxKommo(rate=0, now=clock.now) as sandbox:
        sandbox.account(ACCOUNT, token="sandbox-token")
        yield sandbox


@pytest.fixture
def account(kommo: SandboxKommo) -> Account:
    return kommo.account(ACCOUNT)
