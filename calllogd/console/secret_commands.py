"""Commands about secrets: voip-token, rotate-key."""

import argparse
import sys
import time
from datetime import UTC, datetime

from calllogd.config import Settings
from calllogd.console.accounts import accounts_of
from calllogd.console.exits import EX_FAILED, EX_OK
from calllogd.console.ledger import ledger
from calllogd.console.words import out

PROVIDER = "generic"
DAY_S = 86_400.0


async def voip_token(settings: Settings, arguments: argparse.Namespace) -> int:
    """Print the token that an account's VoIP service shows; make one, or with --rotate a new one."""
    account_id, now = arguments.account, time.time()
    async with ledger(settings) as book:
        await book.keys.open()
        directory = await book.accounts.directory()
        accounts = accounts_of(settings, directory)
        if account_id not in accounts:
            sys.stderr.write(
                f"calllogd: there is no account {account_id}; `calllogd status` lists those there are\n"
            )
            return EX_FAILED
        made = [one for one in directory.voip_tokens if one.account_id == account_id and one.until is None]
        if made and not arguments.rotate:
            token = made[0].token
        else:
            token = await book.accounts.add_voip_token(account_id, PROVIDER, now, arguments.keep_days * DAY_S)
    out(f"Address  {settings.http.public_url}/voip/{PROVIDER}/{account_id}")
    out(f"Token    {token}")
    if arguments.rotate and made:
        until = datetime.fromtimestamp(now + arguments.keep_days * DAY_S, UTC)
        out(f"The token before it is good until {until:%Y-%m-%d %H:%M} UTC.")
    if accounts[account_id].voip.get(PROVIDER, {}).get("token") is not None:
        out("The token of the configuration is good as well.")
    return EX_OK


async def rotate_key(settings: Settings, arguments: argparse.Namespace) -> int:
    """Seal the ledger's secrets with a new key."""
    async with ledger(settings) as book:
        if arguments.lost:
            number = await book.keys.give_up()
            if book.vault.own_file:
                await book.vault.add_key(keep=False)
            out(
                f"{number} secret(s) are given up. Accounts have to be installed again, VoIP services need"
                " new tokens, and links to recordings that stand in Kommo are dead. Restart a running daemon."
            )
            return EX_OK
        await book.keys.open()
        if book.vault.own_file:
            await book.vault.add_key()
        number = await book.keys.seal_anew()
        where = book.vault.where
    out(f"{number} secret(s) are sealed with the first key of {where} now; daemons go on.")
    out("The key before it is kept for what a daemon may be sealing just now: rotate twice to be rid of it.")
    return EX_OK
