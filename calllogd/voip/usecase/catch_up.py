"""Calls that a VoIP service knows of and may not have told: asked for, and taken like those that it tells."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from calllogd.ports import Accepted, Clock, Message
from calllogd.voip.errand import Ask, Got, ListsCalls
from calllogd.voip.provider import Told
from calllogd.voip.usecase.save_call_event import message_of

WINDOW_S = 86_400.0
"""So much is asked for at a time, by when calls began."""


class Asker(Protocol):
    """The way to VoIP services."""

    async def ask(self, ask: Ask) -> Got:
        """Return a service's answer; raises ErrandFailed."""
        ...


class Intake(Protocol):
    """The ledger of calls, as far as many are taken at once."""

    async def accept_all(self, messages: Sequence[Message], now: float) -> Sequence[Accepted]:
        """Accept messages in one transaction; return what became of each."""
        ...


class CatchUpUseCase:
    """Asks VoIP services for calls."""

    def __init__(self, *, calls: Intake, asker: Asker, clock: Clock) -> None:
        self._calls = calls
        self._asker = asker
        self._clock = clock

    async def execute(self, name: str, service: ListsCalls, since: float, until: float) -> tuple[int, int]:
        """Take the calls that began between Unix seconds `since` and `until`, a day at most.

        Return how many were told, and of how many something was not known. Idempotent. Raises ErrandFailed;
        what was taken until then is kept.
        """
        told = new = 0
        errand = service.list_calls(since, until, self._clock.now())
        got: Got | None = None
        while (wanted := _next(errand.send, got)) is not None:
            if isinstance(wanted, Ask):
                got = await self._asker.ask(wanted)
                continue
            got = None
            messages = [message_of(name, one, b"") for one in wanted]
            accepted = await self._calls.accept_all(messages, self._clock.now())
            told += len({message.event.key for message in messages})
            new += len({m.event.key for m, one in zip(messages, accepted, strict=True) if not one.duplicate})
        return told, new


def windows(since: float, until: float) -> Iterator[tuple[float, float]]:
    """Yield the stretches of WINDOW_S that a time has, the earliest first."""
    while since < until:
        yield since, min(since + WINDOW_S, until)
        since += WINDOW_S


def _next(send: Callable[[Got | None], Ask | Sequence[Told]], got: Got | None) -> Ask | Sequence[Told] | None:
    """Return what an errand wants next, None when it has ended."""
    try:
        return send(got)
    except StopIteration:
        return None
