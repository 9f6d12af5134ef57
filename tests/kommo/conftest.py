"""Kommo's client, speaking to the stand-in."""

import time
from collections.abc import AsyncIterator

import pytest

from calllogd.kommo.access import LongLived
from calllogd.kommo.api import Api
from calllogd.kommo.kommo import KommoAccount
from calllogd.kommo.limiter import Limiter
from calllogd.kommo.words import Words
from calllogd.sandbox import SandboxKommo
from tests.fakes import link_of


@pytest.fixture
async def crm(kommo: SandboxKommo) -> AsyncIterator[KommoAccount]:
    api = Api(
        authentication=LongLived(kommo.url, "sandbox-token"),
        limiters=[Limiter(0, monotonic=time.monotonic)],
        timeout_s=5,
        turn_s=1,
    )
    words = Words(source="calllogd", region="US", extensions={"101": 111}, link=link_of)
    crm = KommoAccount(api=api, words=words)
    await crm.open()
    yield crm
    await crm.close()
