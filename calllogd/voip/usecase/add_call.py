"""Ledger to Kommo: perform what the plan says, until the call is done or has to wait."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from calllogd.domain.call import Call, CallState, Doubt, Entry, Intent, Lease
from calllogd.domain.plan import Amend, CreateIncomingLead, Finish, LogCall, LookUp, Policy, Wait, plan
from calllogd.domain.retry import backoff_s
from calllogd.errors import (
    AccountPaused,
    KommoError,
    LeaseLost,
    NobodyHasNumber,
    OutcomeUnknown,
    PermanentError,
    StorageError,
    TransientError,
)
from calllogd.ports import Answer, Before, Clock, Crm, Note, VoipCalls
from calllogd.voip.task.add_call import AddCallTask

SOONEST_S = 1.0
"""A call that waits is not looked at again sooner than this: a plan that waits for the past cannot spin."""

LOOK_BACK_S = 900.0
"""How far before the call Kommo is searched for its entry: its clock and ours may differ."""


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


class AddCallUseCase:
    """Brings one call's entry in Kommo up to date."""

    def __init__(
        self,
        *,
        calls: VoipCalls,
        crm: Crm,
        clock: Clock,
        policy: Policy,
        timing: Timing,
        jitter: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._crm = crm
        self._clock = clock
        self._policy = policy
        self._timing = timing
        self._jitter = jitter

    async def execute(self, task: AddCallTask) -> None:
        """Work on the task's call until it is done or waits; returns at once if there is nothing to do.

        Idempotent, and safe beside any number of others: only the holder of the call's lease works.
        Raises LeaseLost when another worker has taken over, and StorageError when the ledger fails; the
        call is then due again when its lease is over.
        """
        call = await self._calls.claim(task.key, self._clock.now(), self._timing.lease)
        if call is None:
            return
        lease = call.lease
        try:
            while call is not None:
                call = await self._step(call)
        except (LeaseLost, StorageError):
            # Another worker goes on with the call, or this one does when its lease is over.
            raise
        except Exception as error:
            await self._bury(task, lease, error)
            raise

    async def _step(self, call: Call) -> Call | None:
        """Perform one step; return the call as it is then, None when it has been given back."""
        match plan(call, self._clock.now(), self._policy):
            case Wait(state, until, reason):
                due_at = max(until, self._clock.now() + SOONEST_S)
                note = Note(what="wait", outcome=reason)
                return await self._give_back(replace(call, state=state, due_at=due_at), note)
            case Finish(state, reason):
                note = Note(what="finish", outcome=reason)
                return await self._give_back(replace(call, state=state, due_at=None), note)
            case LogCall():
                return await self._create(call, Intent.LOG_CALL, self._crm.log_call)
            case CreateIncomingLead():
                return await self._create(call, Intent.CREATE_INCOMING_LEAD, self._crm.create_incoming_lead)
            case LookUp():
                return await self._look_up(call)
            case Amend():
                return await self._amend(call)

    async def _create(
        self, call: Call, intent: Intent, send: Callable[[Call, Before], Awaitable[Answer]]
    ) -> Call | None:
        """Send a creating request: its intent is on disk before, its answer after."""
        held = call

        async def intend() -> None:
            nonlocal held
            over_at = self._clock.now() + self._timing.lease
            held = await self._save(
                replace(held, doubt=Doubt(intent=intent, over_at=over_at, revision=call.revision))
            )
            if held.lease is None or self._clock.now() + self._timing.request >= held.lease.until:
                raise LeaseLost("the lease does not outlive the request")

        try:
            answer = await send(call, intend)
        except KommoError as error:
            return await self._not_created(held, intent, error)
        return await self._entered(held, answer, call.revision, intent.value)

    async def _not_created(self, call: Call, intent: Intent, error: KommoError) -> Call | None:
        """Record why a creating request brought no entry, or that it is unknown whether it did."""
        note = Note(what=intent.value, outcome=error.reason, request_id=error.request_id)
        if isinstance(error, OutcomeUnknown) and call.doubt is not None:
            doubt = replace(call.doubt, over_at=self._clock.now())
            call = replace(call, doubt=doubt, state=CallState.IN_DOUBT, last_error=error.reason)
            return await self._save(call, note)
        call = replace(call, doubt=None, state=_undoubted(call.state))
        if isinstance(error, NobodyHasNumber):
            note = replace(note, answered=True)
            call = replace(
                call, nobody_at=self._clock.now(), asked=call.asked + 1, attempts=0, last_error=None
            )
            return await self._save(call, note)
        return await self._failed(call, error, note)

    async def _look_up(self, call: Call) -> Call | None:
        """Search Kommo for what the doubtful request may have created, and adopt it if it is there."""
        if call.doubt is None:
            return call
        began_at = self._clock.now()
        try:
            answer = await self._crm.find(call, min(call.started_at, call.arrived_at) - LOOK_BACK_S)
        except PermanentError as error:
            # Not being able to look proves nothing: the call stays in doubt and is looked for again.
            return await self._failed(
                call, TransientError(error.reason, request_id=error.request_id), _look_note(error)
            )
        except KommoError as error:
            return await self._failed(call, error, _look_note(error))
        if answer.entry is not None:
            return await self._entered(call, answer, call.doubt.revision, "look_up")
        note = Note(what="look_up", outcome="not in Kommo", request_id=answer.request_id, answered=True)
        doubt = replace(call.doubt, looked_at=began_at)
        return await self._save(replace(call, doubt=doubt, state=CallState.IN_DOUBT, attempts=0), note)

    async def _amend(self, call: Call) -> Call | None:
        """Write what has become known since into the entry's note."""
        try:
            answer = await self._crm.amend(call)
        except KommoError as error:
            note = Note(what="amend", outcome=error.reason, request_id=error.request_id)
            return await self._failed(call, error, note)
        return await self._entered(call, answer, call.revision, "amend")

    async def _entered(self, call: Call, answer: Answer, revision: int, what: str) -> Call | None:
        """Record the entry that stands in Kommo, with all that was known at `revision`."""
        note = Note(what=what, outcome=_where(answer.entry), request_id=answer.request_id, answered=True)
        call = replace(
            call,
            entry=answer.entry,
            written_revision=revision,
            state=CallState.LOGGED,
            doubt=None,
            attempts=0,
            last_error=None,
            due_at=None,
        )
        if revision < call.revision:
            return await self._save(call, note)
        return await self._give_back(call, note)

    async def _failed(self, call: Call, error: KommoError, note: Note) -> Call | None:
        """Give the call back after a request that did nothing, to be tried again or with a reason why not."""
        now = self._clock.now()
        call = replace(call, last_error=error.reason)
        match error:
            case PermanentError():
                return await self._give_back(replace(call, state=CallState.FAILED, due_at=None), note)
            case AccountPaused():
                await self._calls.pause(call.key.account_id, error, now)
                return await self._give_back(replace(call, due_at=now), note)
            case _:
                attempts = call.attempts + 1
                named = error.retry_after_s if isinstance(error, TransientError) else None
                wait_s = max(named or 0.0, backoff_s(attempts, self._jitter()))
                return await self._give_back(replace(call, attempts=attempts, due_at=now + wait_s), note)

    async def _bury(self, task: AddCallTask, lease: Lease | None, error: Exception) -> None:
        """Make a mistake of ours visible on the call, instead of stumbling over it again and again.

        The row is read anew: what it says of a request under way must not be overwritten.
        """
        call = await self._calls.get(task.key)
        if (
            call is not None
            and call.lease is not None
            and lease is not None
            and call.lease.token == lease.token
        ):
            reason = f"internal error: {type(error).__name__}: {error}"
            note = Note(what="add_call", outcome=reason)
            await self._give_back(replace(call, state=CallState.FAILED, due_at=None, last_error=reason), note)

    async def _save(self, call: Call, note: Note | None = None) -> Call:
        return await self._calls.save(call, self._clock.now(), self._timing.lease, note)

    async def _give_back(self, call: Call, note: Note | None) -> Call | None:
        return await self._calls.release(call, self._clock.now(), note)


def _undoubted(state: CallState) -> CallState:
    """Return the state of a call whose doubt has gone."""
    return CallState.PENDING if state is CallState.IN_DOUBT else state


def _look_note(error: KommoError) -> Note:
    return Note(what="look_up", outcome=error.reason, request_id=error.request_id)


def _where(entry: Entry | None) -> str:
    """Return in words where an entry stands."""
    if entry is None:
        return "nowhere"
    place = f"{entry.entity_type.value} {entry.entity_id}"
    if entry.lead_uid is not None:
        return f"incoming lead {entry.lead_uid} ({place})"
    return place if entry.note_id is None else f"{place}, note {entry.note_id}"
