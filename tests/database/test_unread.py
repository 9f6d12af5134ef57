"""Messages that are not understood: each is kept once, sealed, and comes back as it was."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calllogd.database.database import Database
from calllogd.database.keys import LedgerOfKeys
from calllogd.database.unread import LedgerOfUnread
from calllogd.database.vault import Vault
from calllogd.voip.usecase.save_call_event import UnreadMessages
from calllogd.voip.webhook import Webhook
from tests.fakes import ACCOUNT, START

SENT = Webhook(
    method="POST",
    url="https://calls.example.com/voip/zadarma/31337?a=%20b",
    headers={"Content-Type": "application/json", "Authorization": "Bearer hidden"},
    body=b"{\xff",
)


@pytest.fixture
async def unread(database: Database, tmp_path: Path) -> LedgerOfUnread:
    vault = Vault([Fernet.generate_key().decode()], tmp_path / "key")
    await vault.open(fresh=True)
    return LedgerOfUnread(database, vault)


def test_it_is_what_the_use_case_needs(database: Database, tmp_path: Path) -> None:
    kept: UnreadMessages = LedgerOfUnread(database, Vault(None, tmp_path / "key"))
    assert callable(kept.keep)


async def test_a_message_comes_back_as_it_was(unread: LedgerOfUnread) -> None:
    assert await unread.after(0) is None
    await unread.keep(ACCOUNT, "zadarma", SENT, "no id", START)
    found = await unread.after(0)
    assert found is not None
    about, webhook = found
    assert (about.account_id, about.service, about.reason, about.came_at, about.times) == (
        ACCOUNT,
        "zadarma",
        "no id",
        START,
        1,
    )
    assert (webhook.method, webhook.query, webhook.body) == ("POST", [("a", " b")], b"{\xff")
    assert webhook.headers == {"Content-Type": "application/json"}
    assert await unread.after(about.id) is None


@given(st.binary(max_size=200), st.text("abc&=%+ é", max_size=20))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_body_comes_back(unread: LedgerOfUnread, body: bytes, query: str) -> None:
    sent = Webhook(method="GET", url=f"https://calls.example.com/?{query}", headers={}, body=body)
    await unread.keep(ACCOUNT, "mango", sent, "", START)
    found = await unread.after(0)
    assert found is not None
    assert (found[1].body, found[1].query) == (body, sent.query)
    await unread.remove(found[0].id)
    assert await unread.after(0) is None


async def test_the_same_again_is_counted(unread: LedgerOfUnread, ledger_path: Path) -> None:
    for later in (0, 5, 2):
        await unread.keep(ACCOUNT, "zadarma", SENT, "no id", START + later)
    (total,) = await unread.totals()
    assert (total.account_id, total.service, total.number, total.last_at) == (
        ACCOUNT,
        "zadarma",
        3,
        START + 5,
    )
    await unread.keep(2, "zadarma", SENT, "no id", START)
    assert [(total.account_id, total.number) for total in await unread.totals()] == [(2, 1), (ACCOUNT, 3)]
    with closing(sqlite3.connect(ledger_path)) as connection:
        (content,) = connection.execute("SELECT group_concat(sealed) FROM unread").fetchone()
    assert "json" not in content


async def test_a_new_key_seals_it_anew(database: Database, tmp_path: Path) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    await LedgerOfUnread(database, Vault([old], tmp_path / "key")).keep(
        ACCOUNT, "mango", SENT, "no id", START
    )
    assert await LedgerOfKeys(database, Vault([new, old], tmp_path / "key")).seal_anew() == 1
    found = await LedgerOfUnread(database, Vault([new], tmp_path / "key")).after(0)
    assert found is not None
    assert found[1].body == SENT.body
