"""Nothing secret is left behind: a full run, and then everything it wrote is searched for all it used."""

import asyncio
import base64
import re
import secrets
import signal
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from calllogd.sandbox import Fault
from tests.faults.machine import (
    ACCESS_TOKEN,
    ACCOUNT,
    CLIENT_SECRET,
    KNOWN,
    VOIP_TOKEN,
    Finished,
    Installation,
    installation,
    run,
    until,
    webhook,
)
from tests.faults.test_oauth import BOB, consent
from tests.recordings.sounds import wav

ADMIN = secrets.token_urlsafe(32)
SIGNING = secrets.token_bytes(32)
WRONG = f"wrong-{secrets.token_urlsafe(24)}"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    """One account with a long-lived token, and another that is to be installed; the log tells everything."""
    async with installation(tmp_path, kommo_timeout=2.0) as here:
        here.kommo.account(BOB).add_contact("Bob", phones=[KNOWN])
        here.accounts[0]["voip"]["generic"]["signing_secret"] = f"whsec_{base64.b64encode(SIGNING).decode()}"
        here.sections["admin"] = {"token": ADMIN}
        here.sections["log"]["level"] = "debug"
        daemon = here.daemon()
        here.allow_oauth(daemon)
        await daemon.ready()
        yield here


async def speak_as_voip_services_do(here: Installation) -> set[str]:
    told = await here.run("voip-token", BOB)
    token = told.said.split("Token ")[1].split()[0]
    here.voip_tokens[BOB] = token
    for account_id in (ACCOUNT, BOB):
        await here.send(webhook(f"c-{account_id}"), account_id)
    assert await here.upload(f"c-{ACCOUNT}", wav(2000)) in {200, 201}
    url = f"{here.daemons[0].url}/voip/generic/{ACCOUNT}"
    headers = {"webhook-id": "m", "webhook-timestamp": "1", "webhook-signature": f"v1,{WRONG}"}
    raw = f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WRONG}\0\r\n\r\n"
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(here.daemons[0].url.rpartition(":")[2])
        )
        writer.write(raw.encode())
        assert (await reader.read(2000)).startswith(b"HTTP/1.")
        writer.close()
    for shown in ({"Authorization": f"Bearer {WRONG}"}, headers):
        async with here.http.post(url, json=webhook("refused"), headers=shown) as answer:
            assert answer.status == 401
    return {token, *(f"{VOIP_TOKEN}{account_id}" for account_id in (ACCOUNT,))}


async def speak_as_the_widget_does(here: Installation) -> set[str]:
    # The widget's tokens are for the redirect address of the integration.
    token = here.widget_token(ACCOUNT, audience=here.daemons[0].url)
    shown = {"X-Auth-Token": token, "Origin": here.kommo.url}
    url = f"{here.daemons[0].url}/widget/v1"
    async with here.http.post(f"{url}/session", headers=shown) as answer:
        assert answer.status == 200, await answer.text()
        ticket = (await answer.json())["ticket"]
    async with here.http.get(f"{url}/events", params={"ticket": ticket}, headers=shown) as answer:
        assert answer.status == 200
    async with here.http.put(
        f"{url}/calls/c-{ACCOUNT}/result", json={"rev": 1, "text": "Agreed"}, headers=shown
    ) as answer:
        assert answer.status == 200
    for wrong in (f"{token}x", WRONG):
        async with here.http.get(f"{url}/calls/x", headers={**shown, "X-Auth-Token": wrong}) as answer:
            assert answer.status == 401
    async with here.http.get(f"{url}/events", params={"ticket": f"{ticket}x"}, headers=shown) as answer:
        assert answer.status == 401
    return {token, str(ticket)}


async def speak_as_an_operator_does(here: Installation) -> tuple[set[str], str]:
    """Return the secrets, and everything that was on the pages."""
    url = URL(here.daemons[0].url)
    seen = ""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        page = await (await browser.get(url / "login")).text()
        fields = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', page))
        origin = {"Origin": str(url.origin())}
        await browser.post(url / "login", data={**fields, "token": WRONG}, headers=origin)
        answer = await browser.post(url / "login", data={**fields, "token": ADMIN}, headers=origin)
        assert answer.status == 200
        seen += await answer.text()
        kept = {cookie.value for cookie in browser.cookie_jar}
        for path in ("api/v1/status", "api/v1/calls", f"api/v1/calls/{ACCOUNT}/c-{ACCOUNT}", "metrics"):
            answer = await browser.get(url / path)
            assert answer.status == 200
            seen += await answer.text()
    assert kept
    return {ADMIN, *kept}, seen


async def go_wrong(here: Installation) -> None:
    """Let happen what writes the longest messages."""
    here.kommo.expire(BOB)
    here.kommo.faults.add(Fault("unauthorized", account_id=ACCOUNT, times=2))
    here.kommo.faults.add(Fault("html", path="^/calls$", account_id=BOB, times=1))
    here.kommo.faults.add(Fault("status_before", path="^/oauth2/access_token$", times=1))
    for account_id in (ACCOUNT, BOB):
        await here.send(webhook(f"d-{account_id}"), account_id)
    await until(lambda: "event=token_renewed" in here.log, 30)
    await here.kommo.install(BOB)
    daemon = here.daemons[0]
    right = daemon.config.read_text()
    daemon.config.write_text(
        right.replace(f'"{ADMIN}"', f'["{ADMIN}"]').replace('"signing_secret" = "', '"signing_secret" = "x')
    )
    daemon.send(signal.SIGHUP)
    await until(lambda: "not taken over" in here.log)
    refused = await run("--config", daemon.config, "status")
    assert refused.code == 78
    assert ADMIN not in refused.said
    daemon.config.write_text(right)
    daemon.kill()
    await daemon.ready()
    here.kommo.revoke(BOB)
    await here.kommo.uninstall(BOB)


async def ask_everything(here: Installation) -> list[Finished]:
    show = ["show", ACCOUNT, f"c-{ACCOUNT}"]
    commands = (["status"], ["status", "--json"], ["calls"], ["calls", "--json"], show, [*show, "--json"])
    others = (["check"], ["retry", "--state", "failed"], ["rotate-key"], ["--once"])
    return [await here.run(*words) for words in (*commands, *others)]


def spellings(secret: str) -> Iterable[bytes]:
    """Return a secret as it may be written down."""
    raw = secret.encode()
    yield from (raw, quote(secret, safe="").encode(), raw.hex().encode())
    yield base64.b64encode(raw).rstrip(b"=")


async def test_nothing_that_a_full_run_leaves_behind_has_a_secret(here: Installation) -> None:
    daemon = here.daemons[0]
    assert "Connected" in await consent(here, daemon, BOB)
    used = {CLIENT_SECRET, f"{ACCESS_TOKEN}{ACCOUNT}", WRONG, base64.b64encode(SIGNING).decode()}
    used |= await speak_as_voip_services_do(here)
    used |= await speak_as_the_widget_does(here)
    shown, pages = await speak_as_an_operator_does(here)
    used |= shown
    await go_wrong(here)
    told = await ask_everything(here)
    assert await daemon.stop() == 0
    used |= here.kommo.given_out()
    used |= set((here.folder / "calllogd.key").read_text().split())
    used |= {
        str(entry.params["link"]).rsplit("/", 1)[1]
        for entry in here.entries(f"c-{ACCOUNT}")
        if "link" in entry.params
    }

    left = {
        path.name: path.read_bytes()
        for path in here.folder.rglob("*")
        if path.is_file() and path.suffix not in {".toml", ".key"}
    }
    assert {"calllogd.db", "calllogd.log"} < left.keys()
    left |= {f"command {number}": one.said.encode() for number, one in enumerate(told)}
    left["pages"] = pages.encode()
    found = [
        (name, secret[:12])
        for name, text in left.items()
        for secret in used
        for spelling in spellings(secret)
        if spelling in text
    ]
    assert found == []
    assert len(used) >= 15
