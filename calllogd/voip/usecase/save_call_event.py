"""What a VoIP service sent, into the ledger."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from calllogd.domain.call import CallKey
from calllogd.errors import InputRefused
from calllogd.ports import Accepted, Clock, Message, VoipCalls
from calllogd.voip.proof import UNPROVEN
from calllogd.voip.provider import NotUnderstood, Provider, Told
from calllogd.voip.webhook import Webhook

_log = logging.getLogger(__name__)


class UnreadMessages(Protocol):
    """Authentic messages that could not be understood."""

    async def keep(self, account_id: int, name: str, webhook: Webhook, reason: str, now: float) -> None:
        """Keep a message of the VoIP service of that name; on disk when this returns. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a message: of each call that it speaks of, or why it could not be understood."""

    calls: Sequence[tuple[CallKey, Accepted]] = ()
    not_understood: str | None = None


class SaveCallEventUseCase:
    """Takes messages of VoIP services in."""

    def __init__(self, *, calls: VoipCalls, unread: UnreadMessages, clock: Clock) -> None:
        self._calls = calls
        self._unread = unread
        self._clock = clock

    async def execute(
        self, name: str, account_id: int, provider: Provider, webhook: Webhook, admit: Callable[[], None]
    ) -> Saved:
        """Check a message and store it; return what became of it, once that is on disk.

        `admit` is called once the sender has proved who he is, and may raise InputRefused. Idempotent. Raises
        InputRefused, and then nothing is stored; Overloaded and StorageError.
        """
        now = self._clock.now()
        try:
            provider.verify(webhook, now)
        except InputRefused as error:
            # What is wrong is for the operator alone: a stranger would learn which accounts there are.
            _log.info("a message of %s for account %d was refused: %s", name, account_id, error.detail)
            raise InputRefused("unauthorized", UNPROVEN) from error
        admit()
        try:
            told = provider.parse(webhook, now)
        except NotUnderstood as error:
            _log.warning("a message of %s for account %d is not understood: %s", name, account_id, error)
            await self._unread.keep(account_id, name, webhook, str(error), now)
            return Saved(not_understood=str(error))
        body = provider.told_body(webhook)
        return Saved(
            [(one.event.key, await self._calls.accept(message_of(name, one, body), now)) for one in told]
        )


def message_of(name: str, told: Told, body: bytes) -> Message:
    """Return what a VoIP service told of a call, as the ledger takes it."""
    return Message(
        event=told.event,
        who=f"voip:{name}",
        what=told.what,
        body=body if told.body is None else told.body,
    )
