"""`calllogd replay`: what VoIP services sent and calllogd could not understand is read again."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence

from calllogd.config import Settings
from calllogd.console.accounts import accounts_of, providers_of
from calllogd.console.exits import EX_FAILED, EX_OK
from calllogd.console.ledger import Ledger, ledger
from calllogd.console.words import out
from calllogd.database.unread import Unread
from calllogd.errors import InputRefused
from calllogd.ports import Message
from calllogd.voip.provider import NotUnderstood, Provider, told_again
from calllogd.voip.usecase.save_call_event import message_of
from calllogd.voip.webhook import Webhook


async def replay(settings: Settings, arguments: argparse.Namespace) -> int:
    """Read kept messages again; those that are understood become calls, the others stay."""
    read, dropped = 0, 0
    left: Counter[tuple[int, str, str]] = Counter()
    async with ledger(settings) as book:
        await book.keys.open()
        directory = await book.accounts.directory()
        providers = providers_of(accounts_of(settings, directory), directory)
        async for about, webhook in _kept(book, arguments.account, arguments.service):
            try:
                messages = _read(about, webhook, providers.get((about.service, str(about.account_id))))
            except (NotUnderstood, InputRefused) as error:
                if not arguments.drop:
                    left[about.account_id, about.service, str(error)] += 1
                    continue
                dropped += 1
            else:
                for message in messages:
                    await book.calls.accept(message, about.came_at)
                read += 1
            await book.unread.remove(about.id)
    out(f"{read} message(s) are understood now." if read else "Nothing more is understood now.")
    if dropped:
        out(f"{dropped} message(s) that are not understood are dropped.")
    for (account_id, service, reason), number in left.items():
        sys.stderr.write(f"calllogd: account {account_id}: {number} message(s) of {service} stay: {reason}\n")
    return EX_FAILED if left else EX_OK


async def _kept(
    book: Ledger, account_id: int | None, service: str | None
) -> AsyncIterator[tuple[Unread, Webhook]]:
    last = 0
    while (found := await book.unread.after(last)) is not None:
        last = found[0].id
        if account_id in (None, found[0].account_id) and service in (None, found[0].service):
            yield found


def _read(about: Unread, webhook: Webhook, provider: Provider | None) -> Sequence[Message]:
    """Return what a message says; raises NotUnderstood and InputRefused."""
    if provider is None:
        raise NotUnderstood(f"{about.service} is not configured")
    body = provider.told_body(webhook)
    return [message_of(about.service, told, body) for told in told_again(provider, webhook, time.time())]
