"""`calllogd check`: what is wrong, in plain words, before it matters."""

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import aiohttp

from calllogd.config import Account, Settings
from calllogd.console.accounts import (
    EARLY_WARNING_S,
    accounts_of,
    ends,
    install_url,
    kommo_accounts,
    oauth_of,
    providers_of,
    unmapped,
)
from calllogd.console.exits import EX_FAILED, EX_OK
from calllogd.console.ledger import Ledger, ledger
from calllogd.console.parts import SystemClock, webhook_secrets
from calllogd.console.words import out
from calllogd.database.caught_up import LedgerOfCaughtUp
from calllogd.errors import AccountPaused, CalllogdError, KommoError, TokenRefused
from calllogd.kommo.answers import plain
from calllogd.kommo.kommo import KommoAccount
from calllogd.voip.telling import UNMAPPED_MOST
from calllogd.voip.usecase.hold import Timing

FREE_BYTES = 500 * 1024 * 1024
CLOCK_S = 30.0
"""How far the machine's clock may be from Kommo's: signatures and doubts are judged by it."""

REACH_S = 5.0
TOLD_BYTES = 4096

LISTS = ("api/v4/leads/notes", "api/v4/contacts/notes", "api/v4/companies/notes", "api/v4/leads/unsorted")
"""What calllogd has to read when the answer to a request was lost."""


class Finding(NamedTuple):
    """One thing that was looked at: whether it is right, and what is to be said of it."""

    right: bool
    what: str


async def check(settings: Settings, _arguments: argparse.Namespace) -> int:
    """Look at everything that has to be right, say what is, and what is not; return the exit code."""
    wrong = 0
    out("The configuration is right.")
    async for finding in _findings(settings):
        wrong += not finding.right
        out(("  ok     " if finding.right else "  WRONG  ") + finding.what)
    if wrong:
        sys.stderr.write(f"calllogd: {wrong} thing(s) are wrong\n")
    return EX_FAILED if wrong else EX_OK


async def _findings(settings: Settings) -> AsyncIterator[Finding]:
    yield _disk(settings)
    async for finding in _integration(settings):
        yield finding
    try:
        async with ledger(settings) as book:
            async for finding in _ledger(settings, book):
                yield finding
    except CalllogdError as error:
        yield Finding(False, str(error))


async def _ledger(settings: Settings, book: Ledger) -> AsyncIterator[Finding]:
    totals = await book.calls.totals(time.time())
    await book.calls.hush(0)
    yield Finding(True, f"database: {settings.database} can be written, {sum(totals.states.values())} calls")
    secrets = await webhook_secrets(book)
    yield Finding(True, f"key: the ledger's secrets can be opened with {book.vault.where}")
    directory = await book.accounts.directory()
    accounts = accounts_of(settings, directory)
    if not accounts:
        yield Finding(False, f"accounts: there is none, so nobody can send calls; {_no_account(settings)}")
    timing = Timing(request=settings.kommo.timeout)
    oauth = oauth_of(settings, timing, SystemClock())
    if oauth is not None:
        await oauth.open()
    ways = kommo_accounts(
        settings,
        accounts,
        oauth=oauth,
        grants=book.accounts,
        clock=SystemClock(),
        timing=timing,
        link=lambda key: "",
    )
    try:
        for account_id, kommo in ways.accounts.items():
            if not any(account == str(account_id) for _, account in providers_of(accounts, directory)):
                yield Finding(False, _no_sender(account_id))
            address = f"{settings.http.public_url}/kommo/{account_id}/{secrets.secret(account_id)}"
            yield Finding(True, f"account {account_id}: Kommo's own webhooks may be sent to {address}")
            await kommo.open()
            async for finding in _account(accounts[account_id], kommo):
                yield finding
    finally:
        await asyncio.gather(*(kommo.close() for kommo in ways.accounts.values()))
        if oauth is not None:
            await oauth.close()
    for finding in await _ends(settings, book):
        yield finding
    async for finding in _voip(book):
        yield finding
    for finding in await _unmapped(settings, book):
        yield finding


async def _voip(book: Ledger) -> AsyncIterator[Finding]:
    """Yield what is wrong with what VoIP services have told."""
    for trouble in await LedgerOfCaughtUp(book.database).troubles():
        yield Finding(
            False,
            f"account {trouble.account_id}: {trouble.service} cannot be asked for calls that it has not told:"
            f" {trouble.reason}",
        )
    for total in await book.unread.totals():
        yield Finding(
            False,
            f"account {total.account_id}: {total.number} message(s) of {total.service} are not understood and"
            f" kept: {total.reason}; mend its settings or update calllogd, then `calllogd replay`",
        )


def _no_sender(account_id: int) -> str:
    return (
        f"account {account_id}: no VoIP service can send; `calllogd voip-token {account_id}` makes a token,"
        " or set accounts.voip.generic.token"
    )


def _no_account(settings: Settings) -> str:
    if settings.kommo.client_id is None:
        return "add [[accounts]]"
    return f"add [[accounts]], or start calllogd and open {install_url(settings)}"


async def _ends(settings: Settings, book: Ledger) -> list[Finding]:
    """Return what a person has to do before it is too late; as it is known after Kommo has been asked."""
    directory, now = await book.accounts.directory(), time.time()
    found = []
    for account_id, account in accounts_of(settings, directory).items():
        until, advice = ends(settings, account, directory.installed.get(account_id))
        if until is not None and until - now < EARLY_WARNING_S:
            found.append(Finding(False, f"account {account_id}: {advice}"))
    return found


async def _unmapped(settings: Settings, book: Ledger) -> list[Finding]:
    """Return the extensions of calls that nobody has; they are no mistake, not everybody is in Kommo."""
    told: dict[int, list[str]] = {}
    for one in (await unmapped(settings, book.accounts, book.people, time.time()))[:UNMAPPED_MOST]:
        told.setdefault(one.account_id, []).append(f"{one.extension} ({one.calls} calls)")
    return [
        Finding(
            True,
            f"account {account_id}: nobody has the extension {', '.join(words)}; who is given one, in the"
            " widget or in accounts.extensions, gets its calls of the last 30 days",
        )
        for account_id, words in told.items()
    ]


async def _integration(settings: Settings) -> AsyncIterator[Finding]:
    """Look at what has to be the same here and in Kommo's integration."""
    kommo = settings.kommo
    if kommo.client_secret is None or kommo.redirect_uri is None:
        yield Finding(True, "integration: none is configured, so there is neither OAuth nor the widget")
        return
    if kommo.client_id is None:
        yield Finding(True, "integration: the widget is let in; OAuth needs kommo.client_id as well")
        return
    own = f"{settings.http.public_url}/oauth/callback"
    if kommo.redirect_uri != own:
        yield Finding(
            False,
            f"integration: kommo.redirect_uri is {kommo.redirect_uri}, but calllogd answers at {own}; enter"
            " that in Kommo's integration and here",
        )
        return
    yield await _reached(own)


async def _reached(address: str) -> Finding:
    """Return whether the redirect address leads to calllogd."""
    accept = {"Accept": "application/json"}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REACH_S)) as session,
            session.get(address, headers=accept, allow_redirects=False) as answer,
        ):
            told = await answer.content.read(TOLD_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Finding(
            True,
            f"integration: {address} is not reached from here ({plain(error)}); once calllogd and its proxy"
            " run, check again",
        )
    if b"urn:calllogd:problem:" in told:
        return Finding(True, f"integration: {address} leads to calllogd")
    return Finding(
        False,
        f"integration: {address} leads to something else than calllogd (HTTP {answer.status}): is the proxy"
        " right, and kommo.redirect_uri?",
    )


def _disk(settings: Settings) -> Finding:
    try:
        free = shutil.disk_usage(settings.database.parent).free
    except OSError as error:
        return Finding(False, f"disk: {settings.database.parent} cannot be looked at: {error.strerror}")
    return Finding(free >= FREE_BYTES, f"disk: {free // 2**20} MiB are free at {settings.database.parent}")


async def _account(account: Account, kommo: KommoAccount) -> AsyncIterator[Finding]:
    name = f"account {account.id}"
    try:
        reply = await kommo.account()
    except KommoError as error:
        yield Finding(False, f"{name}: {error.reason}; {_advice(account, error)}")
        return
    if reply.body.get("id") != account.id:
        yield Finding(
            False,
            f"{name}: the token is of account {reply.body.get('id')}; mend the id or the token",
        )
        return
    yield Finding(True, f"{name}: Kommo accepts the token of {reply.body.get('name') or account.base_url}")
    yield _clock(name, reply.date)
    for path in LISTS:
        try:
            await kommo.readable(path)
        except KommoError as error:
            yield Finding(
                False, f"{name}: {path} cannot be read: {error.reason}; give the token's user the right to"
            )
            return
    yield Finding(True, f"{name}: the token may read notes and incoming leads")
    yield await _extensions(name, account, kommo)


async def _extensions(name: str, account: Account, kommo: KommoAccount) -> Finding:
    if not account.extensions:
        return Finding(True, f"{name}: no extensions are mapped; calls are attributed to nobody")
    try:
        users = await kommo.users()
    except KommoError as error:
        return Finding(True, f"{name}: the users of its extensions cannot be checked ({error.reason})")
    return _mapped(name, account.extensions, users)


def _mapped(name: str, extensions: Mapping[str, int], users: Collection[int]) -> Finding:
    strangers = [f"{extension} = {user}" for extension, user in extensions.items() if user not in users]
    if strangers:
        return Finding(False, f"{name}: Kommo has no such user: {', '.join(strangers)}")
    return Finding(True, f"{name}: {len(extensions)} extension(s) belong to users of Kommo")


def _clock(name: str, date: str | None) -> Finding:
    try:
        ahead_s = time.time() - parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return Finding(True, f"{name}: Kommo does not say what time it is")
    if abs(ahead_s) > CLOCK_S:
        way = "ahead of" if ahead_s > 0 else "behind"
        return Finding(
            False, f"{name}: this machine's clock is {abs(ahead_s):.0f} s {way} Kommo's; set it by NTP"
        )
    return Finding(True, f"{name}: the clock agrees with Kommo's")


def _advice(account: Account, error: KommoError) -> str:
    kept = "its calls are kept until that is mended"
    if isinstance(error, TokenRefused) and account.access_token is not None:
        return f"make a new long-lived token in Kommo's integration and put it into access_token; {kept}"
    if isinstance(error, AccountPaused):
        return kept
    return "is base_url right, and can this machine reach it?"
