"""`calllogd check`: what is wrong, in plain words, before it matters."""

import argparse
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from calllogd.config import Account, Settings
from calllogd.console.exits import EX_FAILED, EX_OK
from calllogd.console.parts import kommo_accounts, ledger, make_folder, webhook_secrets
from calllogd.console.words import out
from calllogd.errors import AccountPaused, CalllogdError, KommoError
from calllogd.kommo.kommo import KommoAccount
from calllogd.voip.usecase.add_call import Timing

FREE_BYTES = 500 * 1024 * 1024
CLOCK_S = 30.0
"""How far the machine's clock may be from Kommo's: signatures and doubts are judged by it."""

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
    database = await _database(settings)
    yield database
    secrets = await webhook_secrets(settings) if database.right else None
    yield _disk(settings)
    if not settings.accounts:
        yield Finding(False, "accounts: there is none, so nobody can send calls; add [[accounts]]")
    timing = Timing(request=settings.kommo.timeout)
    for account_id, kommo in kommo_accounts(settings, timing, lambda key: "").items():
        account = settings.accounts[account_id]
        if account.generic.token is None and account.generic.signing_secret is None:
            yield Finding(
                False, f"account {account_id}: no VoIP service can send; set accounts.voip.generic.token"
            )
        if secrets is not None:
            address = f"{settings.http.public_url}/kommo/{account_id}/{secrets.secret(account_id)}"
            yield Finding(True, f"account {account_id}: Kommo's own webhooks may be sent to {address}")
        await kommo.open()
        try:
            async for finding in _account(account, kommo):
                yield finding
        finally:
            await kommo.close()


async def _database(settings: Settings) -> Finding:
    try:
        make_folder(settings)
        async with ledger(settings) as calls:
            totals = await calls.totals(time.time())
            await calls.hush(0)
    except CalllogdError as error:
        return Finding(False, str(error))
    return Finding(True, f"database: {settings.database} can be written, {sum(totals.states.values())} calls")


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
        yield Finding(False, f"{name}: {error.reason}; {_advice(error)}")
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


def _mapped(name: str, extensions: Mapping[str, int], users: Mapping[int, str]) -> Finding:
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


def _advice(error: KommoError) -> str:
    if isinstance(error, AccountPaused):
        return "its calls are kept until that is mended"
    return "is base_url right, and can this machine reach it?"
