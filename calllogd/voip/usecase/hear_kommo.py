"""What Kommo tells of by its own webhooks, into the ledger: numbers that appeared, leads that were sorted."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from calllogd.domain.call import LeadState
from calllogd.ports import Clock

PIECE = 200
"""So many numbers are looked up in one transaction: everybody else waits for it."""


class NumberAppeared(NamedTuple):
    """A contact or company has this number now, as it is written in its card."""

    phone: str


class LeadSorted(NamedTuple):
    """A person accepted or declined an incoming lead."""

    uid: str
    state: LeadState


News = NumberAppeared | LeadSorted


class KommoNews(Protocol):
    """The ledger, as Kommo's webhooks see it."""

    async def number_appeared(self, account_id: int, phones: Sequence[str], now: float) -> int:
        """Wake the calls that wait for a contact with one of these numbers; return how many there were.

        Idempotent; raises StorageError.
        """
        ...

    async def lead_sorted(self, account_id: int, uid: str, state: LeadState, now: float) -> int:
        """Keep what became of an incoming lead; return how many calls have to be looked at for it.

        Idempotent; raises StorageError.
        """
        ...


class HearKommoUseCase:
    """Takes Kommo's news in."""

    def __init__(self, *, calls: KommoNews, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock

    async def execute(self, account_id: int, news: Sequence[News]) -> int:
        """Store what has changed in an account; return how many calls are looked at for it.

        On disk when this returns. Idempotent. Raises StorageError; part of the news may be stored by then.
        """
        now = self._clock.now()
        told = list(dict.fromkeys(news))
        phones = [one.phone for one in told if isinstance(one, NumberAppeared)]
        woken = 0
        # First the leads: what a call does about a number depends on what became of its incoming lead.
        for one in told:
            if isinstance(one, LeadSorted):
                woken += await self._calls.lead_sorted(account_id, one.uid, one.state, now)
        for start in range(0, len(phones), PIECE):
            woken += await self._calls.number_appeared(account_id, phones[start : start + PIECE], now)
        return woken
