"""Accounts that are installed by OAuth: with real processes, a browser, and tokens that end under load."""

import asyncio
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from calllogd.sandbox import Fault
from tests.faults.clock import Clock
from tests.faults.machine import (
    CLIENT_ID,
    KNOWN,
    Daemon,
    Installation,
    all_of,
    installation,
    run,
    until,
    webhook,
)

ANN, BOB = 31337, 4242
PAGE = {"Accept": "text/html"}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    """Two accounts of Kommo that calllogd has not heard of, and two daemons, none of them started."""
    async with installation(tmp_path, kommo_timeout=2.0) as here:
        here.accounts.clear()
        here.kommo.account(BOB).add_contact("Bob", phones=[KNOWN])
        first = here.daemon("first")
        here.allow_oauth(first)
        http = here.sections["http"]
        here.daemon("second")
        here.sections["http"] = http
        yield here


def hidden(page: str) -> dict[str, str]:
    """Return the hidden fields of a form."""
    return dict(re.findall(r'type="?hidden"? name="([^"]+)" value="([^"]*)"', page))


async def consent(here: Installation, daemon: Daemon, account_id: int, decision: str = "allow") -> str:
    """Do what an administrator does in his browser; return the page that he sees in the end."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, headers=PAGE) as browser:
        async with browser.get(f"{daemon.url}/oauth/install") as answer:
            page, asked = await answer.text(), answer.url
        assert asked.host == URL(here.kommo.url).host
        assert asked.path == "/oauth"
        fields = {**hidden(page), "account_id": str(account_id), "decision": decision}
        async with browser.post(f"{here.kommo.url}/oauth", data=fields) as answer:
            return await answer.text()


async def serve_account(here: Installation, account_id: int) -> None:
    """Install an account, and give its VoIP service a token."""
    page = await consent(here, here.daemons[0], account_id)
    assert "Connected" in page, page
    told = await here.run("voip-token", account_id)
    assert told.code == 0, told.said
    here.voip_tokens[account_id] = told.said.split("Token ")[1].split()[0]


def generations(here: Installation) -> dict[int, int]:
    with closing(sqlite3.connect(f"file:{here.ledger}?mode=ro", uri=True)) as ledger:
        return dict(ledger.execute("SELECT account_id, generation FROM accounts"))


def have_answered(here: Installation, number: int) -> bool:
    return here.kommo.counters["answered"] > number


def are_generations(here: Installation, expected: dict[int, int]) -> bool:
    return generations(here) == expected


async def visit(url: str, **parameters: str) -> tuple[int, str]:
    """Open a page as a browser does that brings nothing along; return status and text."""
    async with (
        aiohttp.ClientSession(headers=PAGE) as browser,
        browser.get(url, params=parameters, allow_redirects=False) as answer,
    ):
        return answer.status, await answer.text()


async def states(here: Installation) -> dict[int, tuple[str, str | None]]:
    accounts = (await here.run("status", "--json")).json["accounts"]
    return {one["id"]: (one["state"], one["reason"]) for one in accounts}


async def test_two_accounts_are_installed_by_their_administrators(here: Installation) -> None:
    daemon = here.daemons[0]
    await daemon.ready()
    assert (await here.run("status", "--json")).json["accounts"] == []
    for account_id in (ANN, BOB):
        await serve_account(here, account_id)
        await here.send(webhook(f"call-of-{account_id}"), account_id)
    await here.settled(2)
    await here.each_stands_once([(ANN, f"call-of-{ANN}"), (BOB, f"call-of-{BOB}")])
    assert await states(here) == {ANN: ("active", None), BOB: ("active", None)}
    page = await consent(here, daemon, ANN)
    assert "was connected already" in page
    assert generations(here) == {ANN: 2, BOB: 1}
    assert await daemon.stop() == 0


async def test_two_processes_renew_each_token_once_under_load_and_lose_no_call(here: Installation) -> None:
    first, second = here.daemons
    await first.ready()
    for account_id in (ANN, BOB):
        await serve_account(here, account_id)
    await second.ready()
    expiries, sent = 6, 0
    stop = asyncio.Event()
    calls: list[tuple[int, str]] = []

    async def load(account_id: int, daemon: Daemon) -> None:
        nonlocal sent
        while not stop.is_set():
            sent += 1
            call_id = f"c{sent}"
            calls.append((account_id, call_id))
            await here.send(webhook(call_id), account_id, daemon)

    async def expire() -> None:
        for number in range(1, expiries + 1):
            answered = here.kommo.counters["answered"]
            # Both daemons are at it with the old tokens when these end.
            await until(partial(have_answered, here, answered + 40), 20)
            for account_id in (ANN, BOB):
                here.kommo.expire(account_id)
            await until(partial(are_generations, here, {ANN: number + 1, BOB: number + 1}), 20)
        stop.set()

    senders = (load(account_id, daemon) for account_id in (ANN, BOB) for daemon in (first, second))
    await all_of([expire(), *senders])
    await here.settled(len(calls), 60)
    await here.each_stands_once(calls)
    assert here.kommo.refreshes == {ANN: expiries, BOB: expiries}
    assert not +here.kommo.refused_refreshes
    assert await states(here) == {ANN: ("active", None), BOB: ("active", None)}


async def test_tokens_are_renewed_before_they_end_and_nobody_notices(here: Installation) -> None:
    here.kommo.access_life_s = 4
    for daemon in here.daemons:
        await daemon.ready()
    await serve_account(here, ANN)
    await until(lambda: generations(here)[ANN] >= 4, 30)
    assert here.kommo.counters["unauthorized"] == 0
    assert not +here.kommo.refused_refreshes
    assert here.kommo.refreshes[ANN] >= 3
    await until(lambda: here.log.count("event=token_renewed") >= 3)  # written after the ledger is


async def test_calls_wait_for_an_account_that_was_removed_and_go_out_when_it_is_back(
    here: Installation,
) -> None:
    daemon = here.daemons[0]
    await daemon.ready()
    for account_id in (ANN, BOB):
        await serve_account(here, account_id)
    assert await here.kommo.uninstall(ANN) == 200
    await until(lambda: "event=account_disabled" in here.log)
    await here.send(webhook("waits"), ANN)
    await here.send(webhook("goes"), BOB)
    await until(lambda: len(here.entries("goes", BOB)) == 1)
    state, reason = (await states(here))[ANN]
    assert (state, "removed in Kommo" in (reason or "")) == ("disabled", True)
    assert here.entries("waits", ANN) == []
    assert "is connected now" in await consent(here, daemon, ANN)
    await here.settled(2)
    await here.each_stands_once([(ANN, "waits"), (BOB, "goes")])


async def test_kommo_may_install_by_itself_and_a_stranger_may_not(here: Installation) -> None:
    await here.daemons[0].ready()
    assert await here.kommo.install(ANN) == 200
    host = here.kommo.url.removeprefix("http://")
    callback = f"{here.daemons[0].url}/oauth/callback"
    requests = len(here.kommo.requests)
    for referer in ("evil.example", "127.0.0.1:1", f"{host}.evil.example", f"evil@{host}", f"{host}/x", ""):
        status, page = await visit(callback, code=here.kommo.code(BOB), referer=referer, client_id=CLIENT_ID)
        assert (status, "Not connected" in page) in {(422, True), (400, True)}, referer
    assert len(here.kommo.requests) == requests, "nobody else is shown the integration's secret"
    status, page = await visit(callback, code="made-up", referer=host, client_id=CLIENT_ID)
    assert (status, "Begin anew" in page) == (400, True)
    status, page = await visit(callback, code=here.kommo.code(BOB), referer=host, state="made-up")
    assert (status, "begin anew" in page) == (403, True)
    status, page = await visit(callback, error="access_denied", client_id=CLIENT_ID)
    assert (status, "was not allowed in Kommo" in page) == (403, True)
    assert generations(here) == {ANN: 1}


async def test_a_state_is_good_for_the_browser_that_was_given_it(here: Installation) -> None:
    daemon = here.daemons[0]
    await daemon.ready()
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        aiohttp.ClientSession(cookie_jar=jar) as browser,
        browser.get(f"{daemon.url}/oauth/install", allow_redirects=False) as answer,
    ):
        state = URL(answer.headers["Location"]).query["state"]
        cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    query = {"code": here.kommo.code(ANN), "referer": here.kommo.url.removeprefix("http://"), "state": state}
    status, page = await visit(f"{daemon.url}/oauth/callback", **query)
    assert (status, "another browser" in page) == (403, True)
    assert generations(here) == {}


async def test_news_of_a_removal_are_believed_only_from_kommo_and_only_if_true(here: Installation) -> None:
    daemon = here.daemons[0]
    await daemon.ready()
    await serve_account(here, ANN)
    signed = here.kommo.disable_query(ANN)
    disable = f"{daemon.url}/oauth/disable"
    for change in (
        {"signature": "0" * 64},
        {"signature": ""},
        {"account_id": str(BOB)},
        {"account_id": f"0{ANN}"},
        {"client_uuid": "another"},
    ):
        status, _ = await visit(disable, **{**signed, **change})
        assert status == 401, change
    status, text = await visit(disable, **signed)
    assert (status, "nothing has changed" in text) == (200, True), "it may be an old message, sent again"
    assert await states(here) == {ANN: ("active", None)}


async def test_an_answer_lost_in_a_renewal_is_told_before_it_matters(here: Installation) -> None:
    daemon = here.daemons[0]
    await daemon.ready()
    await serve_account(here, ANN)
    assert await daemon.stop() == 0
    with closing(sqlite3.connect(here.ledger)) as ledger, ledger:
        times = (time.time() + 1800, time.time() + 1800 - 86400)
        ledger.execute("UPDATE accounts SET expires_at = ?, issued_at = ?", times)
    here.kommo.faults.add(Fault("reset_after", path="^/oauth2/access_token$", times=1))
    await daemon.ready()
    await until(lambda: "event=token_trouble" in here.log, 20)
    state, reason = (await states(here))[ANN]
    assert (state, "cannot be renewed" in (reason or "")) == ("active", True)
    await here.send(webhook("before"), ANN)
    await until(lambda: len(here.entries("before", ANN)) == 1)
    here.kommo.expire(ANN)
    await here.send(webhook("after"), ANN)

    async def paused() -> bool:
        return (await states(here))[ANN][0] == "paused"

    await until(paused, 20, every_s=0.3)
    checked = await here.run("check")
    assert checked.code == 1
    assert f"open {daemon.url}/oauth/install" in checked.said
    assert here.entries("after", ANN) == []
    assert "was connected already" in await consent(here, daemon, ANN)
    await here.settled(2)
    await here.each_stands_once([(ANN, "before"), (ANN, "after")])


async def revoke(here: Installation) -> None:
    here.kommo.revoke(ANN)


async def take_rights_away(here: Installation) -> None:
    here.kommo.faults.add(Fault("forbidden", path="^/leads/notes", account_id=ANN))


async def enter_another_redirect_address(here: Installation) -> None:
    here.sections["kommo"]["redirect_uri"] = "https://calls.example.com/oauth/return"
    here.write()


async def lead_the_redirect_address_elsewhere(here: Installation) -> None:
    await here.daemons[0].stop()
    here.sections["http"]["public_url"] = here.kommo.url
    here.sections["kommo"]["redirect_uri"] = f"{here.kommo.url}/oauth/callback"
    here.write()


async def regenerate_the_secret(here: Installation) -> None:
    assert here.kommo.integration is not None
    here.kommo.integration = replace(here.kommo.integration, client_secret="another")
    here.kommo.expire(ANN)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (revoke, [f"account {ANN}", "cannot be renewed", "revoked", "/oauth/install"]),
        (take_rights_away, [f"account {ANN}", "leads/notes cannot be read", "right"]),
        (enter_another_redirect_address, ["kommo.redirect_uri is https://calls.example.com/oauth/return"]),
        (lead_the_redirect_address_elsewhere, ["leads to something else than calllogd"]),
        (regenerate_the_secret, [f"account {ANN}", "Client authentication failed"]),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
async def test_check_finds_and_explains(
    here: Installation, spoil: Callable[[Installation], Awaitable[None]], words: list[str]
) -> None:
    await here.daemons[0].ready()
    await serve_account(here, ANN)
    checked = await here.run("check")
    assert checked.code == 0, checked.said
    assert "leads to calllogd" in checked.said
    await spoil(here)
    checked = await here.run("check")
    assert checked.code == 1
    wrong = [line for line in checked.out.splitlines() if "WRONG" in line]
    assert [word for word in words if word not in wrong[0]] == [], wrong


async def test_check_finds_a_wrong_clock(here: Installation, tmp_path: Path) -> None:
    await here.daemons[0].ready()
    await serve_account(here, ANN)
    clock = Clock(tmp_path / "clock")
    clock.set(2 * 86400)
    checked = await run("--config", here.config, "check", program=clock.program)
    assert checked.code == 1
    assert re.search(r"clock is 1728\d\d s ahead of Kommo's; set it by NTP", checked.said)


async def test_tokens_are_renewed_without_a_daemon_as_well(here: Installation) -> None:
    daemon = here.daemons[0]
    await daemon.ready()
    await serve_account(here, ANN)
    await here.send(webhook("c1"), ANN)
    await here.settled(1)
    assert await daemon.stop() == 0
    with closing(sqlite3.connect(here.ledger)) as ledger, ledger:
        ledger.execute("UPDATE accounts SET expires_at = ?", (time.time() - 1,))
        ledger.execute("UPDATE calls SET state = 'pending', due_at = 0, written_revision = 0")
    here.kommo.expire(ANN)
    drained = [await here.run("--once"), await here.run("--once")]
    assert [one.code for one in drained] == [0, 0], drained
    assert here.kommo.refreshes[ANN] == 1
