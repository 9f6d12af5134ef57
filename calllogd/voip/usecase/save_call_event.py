"""What a VoIP service sent, into the ledger."""

from collections.abc import Mapping
from typing import Protocol

from calllogd.domain.call import CallKey
from calllogd.domain.merge import CallEvent
from calllogd.ports import Accepted, Clock, Message, VoipCalls


class Provider(Protocol):
    """A VoIP service of one account; see `calllogd.voip.provider`."""

    def verify(self, headers: Mapping[str, str], body: bytes, now: float) -> None:
        """Return if the message comes from the service; else raises InputRefused."""
        ...

    def parse(self, body: bytes, now: float) -> tuple[str, CallEvent]:
        """Return the name of the message's event and what it says; raises InputRefused."""
        ...


class SaveCallEventUseCase:
    """Takes messages of VoIP services in."""

    def __init__(self, *, calls: VoipCalls, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock

    async def execute(
        self, name: str, provider: Provider, headers: Mapping[str, str], body: bytes
    ) -> tuple[CallKey, Accepted]:
        """Check a message and store it; return its call and what became of it, once that is on disk.

        Idempotent. Raises InputRefused, and then nothing is stored; Overloaded and StorageError.
        """
        now = self._clock.now()
        provider.verify(headers, body, now)
        what, event = provider.parse(body, now)
        message = Message(event=event, who=name, what=what, body=body)
        return event.key, await self._calls.accept(message, now)
