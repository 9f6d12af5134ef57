"""What a manager says of a call in Kommo's widget, into the ledger."""

from dataclasses import dataclass

from calllogd.domain.call import Result
from calllogd.domain.merge import CallEvent
from calllogd.ports import Accepted, Clock, Message, VoipCalls
from calllogd.voip.widget import WidgetUser, parse_announcement, parse_result, parse_skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What became of a call result.

    `rev` is that of the result that counts now; `counts` tells whether that is the one that was sent.
    """

    accepted: Accepted
    rev: int
    counts: bool


class SaveCallResultUseCase:
    """Takes in what the widget says: a result, that there will be none, or that one is to be expected.

    All methods are idempotent, and store before they return. They raise InputRefused, and then nothing is
    stored; Overloaded and StorageError.
    """

    def __init__(self, *, calls: VoipCalls, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock

    async def save(self, user: WidgetUser, call_id: str, body: bytes) -> Saved:
        """Store a call result; it does not count if a newer one is there, or another of the same `rev`."""
        now = self._clock.now()
        event, result = parse_result(user, call_id, body, now)
        accepted = await self._accept(user, "result", event, body, now)
        return await self._saved(event, result, accepted)

    async def skip(self, user: WidgetUser, call_id: str, body: bytes) -> Accepted:
        """Store that the manager declined to give a result."""
        now = self._clock.now()
        return await self._accept(user, "skip", parse_skip(user, call_id, body), body, now)

    async def expect(self, user: WidgetUser, call_id: str, body: bytes) -> Accepted:
        """Store that the call is being made inside Kommo, so that a result is to be expected."""
        now = self._clock.now()
        event = parse_announcement(user, call_id, body, now)
        return await self._accept(user, "expect", event, body, now)

    async def _accept(
        self, user: WidgetUser, what: str, event: CallEvent, body: bytes, now: float
    ) -> Accepted:
        message = Message(event=event, who=f"widget:user {user.user_id}", what=what, body=body)
        return await self._calls.accept(message, now)

    async def _saved(self, event: CallEvent, result: Result, accepted: Accepted) -> Saved:
        if accepted.rev is not None and accepted.rev != result.rev:
            return Saved(accepted=accepted, rev=accepted.rev, counts=False)
        if accepted.new:
            return Saved(accepted=accepted, rev=result.rev, counts=True)
        # Two browsers may give their results the same rev: one of them counts, and the other is told so.
        call = await self._calls.get(event.key)
        standing = result if call is None or call.result is None else call.result
        return Saved(accepted=accepted, rev=standing.rev, counts=standing == result)
