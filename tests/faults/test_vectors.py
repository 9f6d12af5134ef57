"""Every vector of a signature gets its verdict from a daemon that runs, at the time it was made."""

import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from multidict import CIMultiDict
from yarl import URL

from tests.faults.machine import Daemon, Installation, installation

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "voip" / "vectors.json").read_text(encoding="utf-8")
)["vectors"]


pytestmark = pytest.mark.asyncio(loop_scope="module")


def proof(vector: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by which the service of a vector is known."""
    secret = vector["secret"]
    first, _, second = secret.partition(":")
    return {
        "aircall": {"token": secret},
        "freeswitch": {"username": first, "password": second},
        "mango": {"vpbx_api_key": first, "vpbx_api_salt": second},
        "plivo": {"auth_token": secret},
        "ringcentral": {"token": secret},
        "telnyx": {"public_key": secret},
        "twilio": {"auth_token": secret, "shared_key": secret},
        "vonage": {"signature_secret": secret},
        "zadarma": {"key": "zadarma-key", "secret": secret},
    }[vector["provider"]]


def place(vector: Mapping[str, Any]) -> tuple[str, str]:
    """Return the address that is entered at the service, and what the service has added to it."""
    parts = urlsplit(vector["url"])
    entered = f"/in/{vector['provider']}"
    added = parts.path.removeprefix(entered) + (f"?{parts.query}" if parts.query else "")
    return f"{parts.scheme}://{parts.netloc}{entered}", added


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Daemon, Installation]]:
    folder = tmp_path_factory.mktemp("vectors")
    async with installation(folder) as here:
        here.accounts.clear()
        for number, vector in enumerate(VECTORS, start=1):
            url, _ = place(vector)
            voip = {vector["provider"]: {**proof(vector), "url": url}}
            token = f"access-token-{number}"
            here.accounts.append(
                {"id": number, "base_url": here.kommo.url, "access_token": token, "voip": voip}
            )
        running = here.daemon()
        clock = folder / "clock"
        clock.write_text(str(VECTORS[0]["clock"]))
        running.program = (sys.executable, "-m", "tests.faults.with_a_clock", str(clock))
        await running.ready()
        yield running, here


@pytest.mark.parametrize("number", range(len(VECTORS)), ids=lambda number: str(VECTORS[number]["id"]))
async def test_the_verdict(daemon: tuple[Daemon, Installation], number: int) -> None:
    running, here = daemon
    vector = VECTORS[number]
    draft = here.folder / "clock.draft"
    draft.write_text(str(vector["clock"]))
    draft.rename(here.folder / "clock")
    _, added = place(vector)
    url = URL(f"{running.url}/voip/{vector['provider']}/{number + 1}{added}", encoded=True)
    body = vector["body"].encode() or None
    async with here.http.request(
        vector["method"], url, data=body, headers=vector["headers"], skip_auto_headers=["Content-Type"]
    ) as answer:
        text = await answer.text()
    if not vector["valid"]:
        assert answer.status == 401, text
        assert answer.headers["WWW-Authenticate"].startswith(
            "Basic" if vector["provider"] == "freeswitch" else "Bearer"
        )
        return
    wanted = vector.get("expect_response", {})
    assert answer.status == wanted.get("status", answer.status) in range(200, 300), text
    assert text == wanted.get("body", text)
    assert CIMultiDict(wanted.get("headers", {})).items() <= answer.headers.items()
    call_id = vector.get("expect", {}).get("call_id")
    if call_id is not None:
        with closing(sqlite3.connect(here.ledger)) as ledger:
            (known,) = ledger.execute(
                "SELECT count(*) FROM calls WHERE account_id = ? AND call_id = ?", (number + 1, call_id)
            ).fetchone()
        assert known == 1
