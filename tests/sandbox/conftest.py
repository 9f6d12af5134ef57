"""A stand-in of Kommo with a clock of its own, and a client of it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from calllogd.sandbox import Account, SandboxKommo


class ManualClock:
    def __init__(self) -> None:
        self.at = 1_760_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def kommo(clock: ManualClock) -> AsyncIterator[SandboxKommo]:
    async with SandboxKommo(rate=0, search_lag=0, now=clock) as sandbox:
        yield sandbox


@pytest.fixture
def account(kommo: SandboxKommo) -> Account:
    return kommo.account(31337)


@pytest.fixture
async def api(kommo: SandboxKommo, account: Account) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        f"{kommo.url}/api/v4/", headers={"Authorization": f"Bearer {account.token}"}
    ) as session:
        yield session
