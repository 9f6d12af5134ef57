"""Ledger to Kommo: perform what the plan says, until the call is done or has to wait."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from calllogd.domain.call import NO_RECORDING, Call, CallKey, Lease, RecordingState
from calllogd.domain.merge import CallEvent
from calllogd.domain.plan import (
    AddNote,
    AddTask,
    Amend,
    CheckLead,
    CreateIncomingLead,
    DeleteRecording,
    Finish,
    Leave,
    LogCall,
    LookUp,
    LoseEntry,
    Policy,
    Wait,
)
from calllogd.errors import LeaseLost, Overloaded, StorageError
from calllogd.ports import Clock, Crm, Message, Note, Recordings, VoipCalls
from calllogd.voip.task.add_call import AddCallTask
from calllogd.voip.usecase.create_entry import CreateEntry
from calllogd.voip.usecase.hold import Hold, Timing
from calllogd.voip.usecase.keep_entry import KeepEntry

SOONEST_S = 1.0
"""A call that waits is not looked at again sooner than this: a plan that waits for the past cannot spin."""


class AddCallUseCase:
    """Brings calls' entries in Kommo up to date."""

    def __init__(
        self,
        *,
        calls: VoipCalls,
        crm: Crm,
        recordings: Recordings,
        clock: Clock,
        policy: Policy,
        timing: Timing,
        jitter: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._recordings = recordings
        self._hold = Hold(calls=calls, clock=clock, policy=policy, timing=timing, jitter=jitter)
        self._keep = KeepEntry(calls=calls, crm=crm, hold=self._hold)
        self._create = CreateEntry(calls=calls, crm=crm, hold=self._hold, keep=self._keep)

    async def execute(self, task: AddCallTask) -> None:
        """Work on the task's call until it is done or waits; returns at once if there is nothing to do.

        Idempotent, and safe beside any number of others: only the holder of the call's lease works.
        Raises LeaseLost when another worker has taken over, StorageError when the ledger fails and Overloaded
        when it has too much to do; the call is then due again when its lease is over.
        """
        call = await self._calls.claim(task.key, self._hold.now, self._hold.timing.lease)
        if call is not None:
            await self._finish(call)

    async def execute_many(self, keys: Sequence[CallKey]) -> None:
        """Work on calls of one account, those that are to be logged first of all with a single request.

        Whatever remains of them after that is due, and is worked on one by one. Idempotent like `execute`,
        and raises the same.
        """
        held = await self._calls.claim_many(keys, self._hold.now, self._hold.timing.lease)
        batch = [call for call in held if self._hold.next_step(call) == LogCall()]
        others = [call for call in held if call not in batch]
        if len(batch) > 1:
            others += await self._create.log_together(batch)
        else:
            others += batch
        trouble: Exception | None = None
        for call in others:
            try:
                await self._finish(call)
            except Exception as error:  # noqa: BLE001  one call's trouble is not the others'
                trouble = trouble or error
        if trouble is not None:
            raise trouble

    async def _finish(self, call: Call) -> None:
        """Work on a call that is held until it is done or waits."""
        lease: Lease | None = call.lease
        at: Call | None = call
        try:
            while at is not None:
                at = await self._step(at)
        except (LeaseLost, StorageError, Overloaded):
            # Another worker goes on with the call, or this one does when its lease is over.
            raise
        except Exception as error:
            await self._hold.bury(call.key, lease, error)
            raise

    async def _step(self, call: Call) -> Call | None:  # noqa: C901, PLR0911  a line for each step there is
        """Perform one step; return the call as it is then, None when it has been given back."""
        match self._hold.next_step(call):
            case Wait(state, until, reason):
                due_at = max(until, self._hold.now + SOONEST_S)
                note = Note(what="wait", outcome=reason)
                return await self._hold.give_back(replace(call, state=state, due_at=due_at), note)
            case Finish(state, reason):
                note = Note(what="finish", outcome=reason)
                return await self._hold.give_back(replace(call, state=state, due_at=None), note)
            case LogCall():
                return await self._create.log_call(call)
            case CreateIncomingLead():
                return await self._create.create_incoming_lead(call)
            case AddNote(on, lead_uid, reason):
                return await self._create.put_on(call, on, lead_uid, reason)
            case AddTask(on):
                return await self._create.add_task(call, on)
            case LookUp():
                return await self._create.look_up(call)
            case CheckLead(lead):
                return await self._keep.check_lead(call, lead)
            case LoseEntry():
                return await self._keep.lose_entry(call)
            case Amend():
                return await self._keep.amend(call)
            case Leave(left, to):
                return await self._keep.leave(call, left, to)
            case DeleteRecording():
                return await self._delete_recording(call)

    async def _delete_recording(self, call: Call) -> Call | None:
        """Delete the recording of a call without an entry; the news of it comes like any other."""
        recording = replace(NO_RECORDING, state=RecordingState.DELETED)
        event = CallEvent(key=call.key, recording=recording)
        await self._calls.accept(
            Message(event=event, who="calllogd", what="recording.deleted", body=b""), self._hold.now
        )
        # After the ledger: a link must not lead to a file that has gone, a file without a link harms nobody.
        await self._recordings.delete(call.key)
        return await self._hold.save(call)
