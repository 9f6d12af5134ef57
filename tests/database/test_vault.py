"""Secrets in the ledger: sealed, each for its purpose, with keys that may be changed while daemons run."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from calllogd.database.database import Database
from calllogd.database.keys import LedgerOfKeys
from calllogd.database.vault import KEYS_KEPT, Vault
from calllogd.errors import ConfigError

SECRET = "the-refresh-token-of-an-account"


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


def keys_in(file: Path) -> list[str]:
    return file.read_text().split()


def write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def remove(file: Path) -> None:
    file.unlink()


def open_to(file: Path, mode: int) -> None:
    file.chmod(mode)


def is_there(file: Path) -> bool:
    return file.exists()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "calllogd.key"


@pytest.fixture
async def vault(file: Path) -> Vault:
    vault = Vault(None, file)
    await vault.open(fresh=True)
    return vault


async def test_what_is_sealed_opens_again_and_shows_nothing(vault: Vault) -> None:
    sealed = vault.seal("a", SECRET)
    assert SECRET not in sealed
    assert vault.seal("a", SECRET) != sealed
    assert vault.unseal("a", sealed) == SECRET


async def test_what_is_sealed_for_one_purpose_opens_for_no_other(vault: Vault) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        vault.unseal("b", vault.seal("a", SECRET))


async def test_whoever_has_another_key_opens_nothing(vault: Vault, tmp_path: Path) -> None:
    other = Vault(None, tmp_path / "other.key")
    await other.open(fresh=True)
    with pytest.raises(ConfigError, match="rotate-key --lost"):
        await asyncio.to_thread(other.unseal, "a", vault.seal("a", SECRET))


async def test_the_key_is_for_its_owner_alone(vault: Vault, file: Path) -> None:
    assert mode(file) == 0o600
    open_to(file, 0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        await Vault(None, file).open(fresh=False)


async def test_a_key_that_has_gone_is_not_replaced_by_another(vault: Vault, file: Path) -> None:
    remove(file)
    with pytest.raises(ConfigError, match="bring it back"):
        await Vault(None, file).open(fresh=False)
    assert not is_there(file)


@pytest.mark.parametrize("text", ["", "\n", "no key", "é", "A" * 43])
async def test_a_file_that_holds_no_key_is_refused(vault: Vault, file: Path, text: str) -> None:
    write(file, text)
    with pytest.raises(ConfigError, match="key"):
        await Vault(None, file).open(fresh=False)


async def test_processes_that_start_at_once_make_one_key(tmp_path: Path) -> None:
    vaults = [Vault(None, tmp_path / "calllogd.key") for _ in range(20)]
    await asyncio.gather(*(vault.open(fresh=True) for vault in vaults))
    sealed = vaults[0].seal("a", SECRET)
    assert {vault.unseal("a", sealed) for vault in vaults} == {SECRET}
    assert os.listdir(tmp_path) == ["calllogd.key"]


async def test_a_key_may_be_changed_under_a_running_daemon(vault: Vault, file: Path) -> None:
    old = vault.seal("a", SECRET)
    elsewhere = Vault(None, file)
    await elsewhere.open(fresh=False)
    await elsewhere.add_key()
    new = elsewhere.seal("a", SECRET)
    assert await asyncio.to_thread(vault.unseal, "a", new) == SECRET
    assert elsewhere.unseal("a", old) == SECRET
    await elsewhere.add_key()
    assert len(keys_in(file)) == KEYS_KEPT
    assert mode(file) == 0o600
    with pytest.raises(ConfigError):
        await asyncio.to_thread(elsewhere.unseal, "a", old)


async def test_configured_keys_need_no_file(file: Path) -> None:
    first, second = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    before = Vault([first], file)
    after = Vault([second, first], file)
    for vault in (before, after):
        await vault.open(fresh=True)
    assert after.unseal("a", before.seal("a", SECRET)) == SECRET
    with pytest.raises(ConfigError, match=r"database\.key"):
        before.unseal("a", after.seal("a", SECRET))
    assert not is_there(file)


def everything_in(path: Path) -> bytes:
    return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))


async def test_a_copy_of_the_ledger_has_no_key_of_it(
    database: Database, vault: Vault, ledger_path: Path
) -> None:
    keys = LedgerOfKeys(database, vault)
    key = await keys.own_key("recordings")
    stored = everything_in(ledger_path)
    assert key not in stored
    assert key.hex().encode() not in stored


async def test_an_own_key_is_made_once_for_all_processes(
    database: Database, vault: Vault, ledger_path: Path
) -> None:
    other = Database(ledger_path)
    await other.open()
    keys = LedgerOfKeys(database, vault)
    try:
        asked = (each.own_key("links") for each in (keys, LedgerOfKeys(other, vault)) for _ in range(5))
        (key,) = set(await asyncio.gather(*asked))
    finally:
        await other.close()
    assert len(key) == 32
    assert await keys.own_key("links") == key
    assert await keys.own_key("another") != key


async def test_sealing_anew_changes_every_secret_and_loses_none(
    database: Database, vault: Vault, file: Path, ledger_path: Path
) -> None:
    keys = LedgerOfKeys(database, vault)
    found = {name: await keys.own_key(name) for name in ("recordings", "kommo-webhook")}
    await vault.add_key()
    assert await keys.seal_anew() == 2
    write(file, keys_in(file)[0] + "\n")
    fresh = Vault(None, file)
    await fresh.open(fresh=False)
    assert {name: await LedgerOfKeys(database, fresh).own_key(name) for name in found} == found


async def test_sealing_anew_is_all_or_nothing(database: Database, vault: Vault, ledger_path: Path) -> None:
    keys = LedgerOfKeys(database, vault)
    await keys.own_key("a")
    await keys.own_key("z")
    with closing(sqlite3.connect(ledger_path)) as connection, connection:
        connection.execute("UPDATE keys SET sealed = 'broken' WHERE name = 'z'")
        before = connection.execute("SELECT * FROM keys").fetchall()
    with pytest.raises(ConfigError, match="key z"):
        await keys.seal_anew()
    with closing(sqlite3.connect(ledger_path)) as connection:
        assert connection.execute("SELECT * FROM keys").fetchall() == before


async def test_a_ledger_with_secrets_gets_no_new_key(database: Database, vault: Vault, file: Path) -> None:
    keys = LedgerOfKeys(database, vault)
    await keys.own_key("recordings")
    remove(file)
    with pytest.raises(ConfigError, match="is not there"):
        await LedgerOfKeys(database, Vault(None, file)).open()
    assert await keys.give_up() == 1
    await LedgerOfKeys(database, Vault(None, file)).open()
    assert is_there(file)
