"""Commands about secrets, beside a daemon that runs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tests.faults.machine import ACCOUNT, VOIP_TOKEN, Installation, installation, until, webhook


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path) as here:
        here.daemon()
        here.write()
        yield here


async def token_of(here: Installation, *words: object) -> str:
    told = await here.run("voip-token", ACCOUNT, *words)
    assert told.code == 0, told.said
    assert f"{here.daemons[0].url}/voip/generic/{ACCOUNT}" in told.said
    return told.said.split("Token ")[1].split()[0]


async def is_taken(here: Installation, token: str) -> bool:
    here.voip_tokens[ACCOUNT] = token
    return await here.post(webhook("c1")) == 202


async def test_a_voip_service_may_be_given_another_token_in_its_own_time(here: Installation) -> None:
    await here.daemons[0].ready()
    first = await token_of(here)
    assert await token_of(here) == first
    await until(lambda: is_taken(here, first))
    second = await token_of(here, "--rotate")
    assert second != first
    await until(lambda: is_taken(here, second))
    assert await is_taken(here, first), "for another week"
    third = await token_of(here, "--rotate", "--keep-days", 0)
    await until(lambda: is_taken(here, third))
    assert not await is_taken(here, first)
    assert not await is_taken(here, second)
    assert await is_taken(here, f"{VOIP_TOKEN}{ACCOUNT}"), "that of the configuration"
    stored = b"".join(path.read_bytes() for path in here.folder.glob("calllogd.db*"))
    assert not [token for token in (first, second, third) if token.encode() in stored]


@pytest.mark.parametrize(
    "words", [["1"], ["x"], [ACCOUNT, "--keep-days", "-1"], [ACCOUNT, "--keep-days", "x"]]
)
async def test_a_wrong_question_for_a_token_is_refused(here: Installation, words: list[object]) -> None:
    refused = await here.run("voip-token", *words)
    assert refused.code in {1, 2}
    assert refused.err


async def test_the_key_is_changed_while_the_daemon_runs(here: Installation) -> None:
    daemon = here.daemons[0]
    await daemon.ready()
    token = await token_of(here)
    key = here.folder / "calllogd.key"
    before = key.read_text().split()
    assert len(before) == 1
    for _ in range(2):
        rotated = await here.run("rotate-key")
        assert rotated.code == 0, rotated.said
        assert "sealed with the first key" in rotated.said
    assert before[0] not in key.read_text()
    assert key.stat().st_mode & 0o777 == 0o600
    assert await is_taken(here, token)
    assert await token_of(here) == token
    assert await daemon.stop() == 0
    await daemon.ready()
    assert await is_taken(here, token)


async def test_a_key_in_the_configuration_is_changed_in_two_steps(here: Installation) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    credential = here.folder / "database_key"
    credential.write_text(f"{old}\n")
    here.sections["database"]["key_file"] = str(credential)
    here.write()
    token = await token_of(here)
    assert not (here.folder / "calllogd.key").exists()
    credential.write_text(f"{new}\n{old}\n")
    assert "database.key" in (await here.run("rotate-key")).said
    credential.write_text(f"{new}\n")
    assert await token_of(here) == token
    credential.write_text(f"{old}\n")
    refused = await here.run("voip-token", ACCOUNT)
    assert refused.code == 78
    assert "rotate-key --lost" in refused.said


async def test_a_key_that_is_lost_is_said_and_may_be_given_up(here: Installation) -> None:
    daemon = here.daemons[0]
    first = await token_of(here)
    await daemon.ready()
    await here.send(webhook("before"))
    await here.settled(1)
    assert await daemon.stop() == 0
    (here.folder / "calllogd.key").unlink()
    daemon.start()
    assert await daemon.ended() == 78
    assert "calllogd.key: the key is not there" in daemon.errors
    shown = await here.run("show", ACCOUNT, "before", "--json")
    assert (shown.code, shown.json["state"]) == (0, "logged"), "calls can be looked at without it"
    assert (await here.run("check")).code == 1
    assert (await here.run("rotate-key", "--lost")).code == 0
    await daemon.ready()
    assert await token_of(here) != first
    await here.send(webhook("after"))
    await here.settled(2)
    await here.each_stands_once([(ACCOUNT, "before"), (ACCOUNT, "after")])


async def test_no_key_is_told_by_the_settings(here: Installation) -> None:
    here.sections["database"]["key"] = "not-a-key-but-secret"
    here.write()
    refused = await here.run("status")
    assert refused.code == 78
    assert "database.key: should be one or more lines" in refused.said
    assert "not-a-key" not in refused.said
