"""The users of every account, as Kommo lists them: asked for seldom, and remembered.

A list is asked for again when it is LIST_S old and somebody needs it. It is asked for early, but not more
often than every AGAIN_S, for a user who is not in it, or is switched off by it: both may have changed since.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from calllogd.domain.user import User
from calllogd.errors import AccountPaused, KommoError, TransientError

LIST_S = 300.0
AGAIN_S = 30.0
"""Also after a request that failed: whoever asks meanwhile is told of its failure."""

ASK_S = 20.0
"""How long one list may take, with all its pages."""

WAIT_S = 5.0
"""How long somebody waits for it; what comes later is there for the next one."""


class WithUsers(Protocol):
    """An account of Kommo."""

    async def users(self) -> Mapping[int, User]:
        """Return the account's users by their ids; raises a KommoError."""
        ...


@dataclass(slots=True)
class _List:
    """What is known of one account; moments are those of the steady clock."""

    account: WithUsers
    found: Mapping[int, User] = field(default_factory=dict)
    found_at: float = -math.inf
    asked_at: float = -math.inf
    error: KommoError | None = None
    asking: asyncio.Task[None] | None = None


class Users:
    """The users of all accounts. Those who ask at the same moment share one request."""

    def __init__(
        self, accounts: Mapping[int, WithUsers], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._lists = {account_id: _List(account) for account_id, account in accounts.items()}
        self._monotonic = monotonic

    async def close(self) -> None:
        """Give up what is being asked."""
        tasks = [one.asking for one in self._lists.values() if one.asking is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def known(self, account_id: int, user_id: int) -> User | None:
        """Return a user as he was last listed, None if he was not; nobody is asked."""
        one = self._lists.get(account_id)
        return None if one is None else one.found.get(user_id)

    async def user(self, account_id: int, user_id: int) -> User | None:
        """Return a user as Kommo lists him, None if it does not; raises a KommoError like `everybody`."""
        return (await self.everybody(account_id, (user_id,))).get(user_id)

    async def everybody(self, account_id: int, wanted: Collection[int] = ()) -> Mapping[int, User]:
        """Return the account's users by their ids; the list is asked for early if a `wanted` one is missing.

        Raises the KommoError with which Kommo was last asked in vain, unless a list is still good.
        """
        one = self._lists.get(account_id)
        if one is None:
            raise AccountPaused("the account is not in the configuration")
        now = self._monotonic()
        lacking = any((user := one.found.get(each)) is None or not user.is_active for each in wanted)
        if lacking or not self._is_good(one):
            if (one.asking is None or one.asking.done()) and now >= one.asked_at + AGAIN_S:
                one.asked_at = now
                one.asking = asyncio.create_task(self._ask(one), name=f"users of account {account_id}")
            await _over(one)
        if not self._is_good(one):
            error = one.error or TransientError("Kommo has not told who the account's users are")
            raise error.with_traceback(None)
        return one.found

    def _is_good(self, one: _List) -> bool:
        return self._monotonic() < one.found_at + LIST_S

    async def _ask(self, one: _List) -> None:
        asked_at = one.asked_at
        try:
            async with asyncio.timeout(ASK_S):
                one.found = await one.account.users()
            one.found_at, one.error = asked_at, None
        except TimeoutError:
            one.error = TransientError("Kommo does not tell who the account's users are")
        except KommoError as error:
            one.error = error


async def _over(one: _List) -> None:
    """Return when the request under way is over; raises TransientError if it takes too long."""
    if one.asking is None or one.asking.done():
        return
    # Not awaited itself: it is other people's, too, and goes on when this one leaves.
    done, _ = await asyncio.wait([one.asking], timeout=WAIT_S)
    if not done:
        raise TransientError("Kommo takes long to tell who the account's users are")
    if not one.asking.cancelled():
        one.asking.result()
