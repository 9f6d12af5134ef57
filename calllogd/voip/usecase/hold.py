"""A worker's hold on calls: what he did with them is written, and they are given back or kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from calllogd.domain.call import Call, CallKey, CallState, Lease
from calllogd.domain.plan import Finish, Policy, Step, plan
from calllogd.domain.retry import backoff_s
from calllogd.errors import AccountPaused, KommoError, LeaseLost, PermanentError, TransientError
from calllogd.ports import Clock, Note, VoipCalls


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Limits of one worker's hold on a call, in seconds; `request` is the time-out of one request.

    A lease is taken anew with every write, so it has to outlive one wait for a turn at Kommo or one
    request, whichever is longer, and the margin covers what the process may be held up in between.
    """

    request: float

    @property
    def turn(self) -> float:
        """How long a call may wait for its turn at Kommo."""
        return min(10.0, max(1.0, self.request))

    @property
    def margin(self) -> float:
        """How long the process may be held up before a request leaves."""
        return min(10.0, max(1.0, self.request))

    @property
    def lease(self) -> float:
        """How long a call is held without a sign of its holder."""
        return max(self.request, self.turn) + self.margin


class Hold:
    """What a worker does with the calls that he holds; raises LeaseLost, StorageError and Overloaded."""

    def __init__(
        self,
        *,
        calls: VoipCalls,
        clock: Clock,
        policy: Policy,
        timing: Timing,
        jitter: Callable[[], float],
    ) -> None:
        self.policy = policy
        self.timing = timing
        self._calls = calls
        self._clock = clock
        self._jitter = jitter

    @property
    def now(self) -> float:
        """The Unix second it is."""
        return self._clock.now()

    def next_step(self, call: Call) -> Step:
        """Return what is to be done with a call next."""
        return plan(call, self.now, self.policy)

    async def save(self, call: Call, note: Note | None = None) -> Call:
        """Write the call and extend its lease; return it as it is now."""
        return await self._calls.save(call, self.now, self.timing.lease, note)

    async def give_back(self, call: Call, note: Note | None) -> Call | None:
        """Write the call and give it back; return it if it stays held, for there are news of it."""
        return await self._calls.release(call, self.now, note)

    async def hold_on(self, call: Call) -> Call:
        """Write the call and extend its lease; raises LeaseLost unless it outlives the request to come."""
        held = await self.save(call)
        self.must_outlive_request([held])
        return held

    def must_outlive_request(self, held: Sequence[Call]) -> None:
        """Raise LeaseLost if a request that begins now could still be under way when a lease is over."""
        ends_at = self.now + self.timing.request
        if any(call.lease is None or ends_at >= call.lease.until for call in held):
            raise LeaseLost("the lease does not outlive the request")

    async def settle(self, call: Call, note: Note) -> Call | None:
        """Write what was done, and give the call back at once if that was all."""
        step = self.next_step(call)
        if isinstance(step, Finish):
            return await self.give_back(replace(call, state=step.state, due_at=None), note)
        return await self.save(call, note)

    async def failed(self, call: Call, error: KommoError, note: Note) -> Call | None:
        """Give the call back after a request that did nothing, to be tried again or with a reason why not."""
        now = self.now
        call = replace(call, last_error=error.reason)
        match error:
            case PermanentError():
                return await self.give_back(replace(call, state=CallState.FAILED, due_at=None), note)
            case AccountPaused():
                await self._calls.pause(call.key.account_id, error, now)
                return await self.give_back(replace(call, due_at=now), note)
            case _:
                attempts = call.attempts + 1
                named = error.retry_after_s if isinstance(error, TransientError) else None
                wait_s = max(named or 0.0, backoff_s(attempts, self._jitter()))
                return await self.give_back(replace(call, attempts=attempts, due_at=now + wait_s), note)

    async def bury(self, key: CallKey, lease: Lease | None, error: Exception) -> None:
        """Make a mistake of ours visible on the call, instead of stumbling over it again and again.

        The row is read anew: what it says of a request under way must not be overwritten.
        """
        call = await self._calls.get(key)
        if (
            call is not None
            and call.lease is not None
            and lease is not None
            and call.lease.token == lease.token
        ):
            reason = f"internal error: {type(error).__name__}: {error}"
            note = Note(what="add_call", outcome=reason)
            await self.give_back(replace(call, state=CallState.FAILED, due_at=None, last_error=reason), note)


def failure(what: str, error: KommoError) -> Note:
    """Return the line of a call's story that a request has failed."""
    return Note(what=what, outcome=error.reason, request_id=error.request_id)
