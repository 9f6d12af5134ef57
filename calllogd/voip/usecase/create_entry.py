"""How an entry or task is created once: the intent is on disk before the request, what came of it after."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from calllogd.domain.call import (
    Call,
    CallKey,
    CallState,
    Doubt,
    EntityRef,
    Intent,
    Result,
    Todo,
)
from calllogd.domain.plan import Finish, is_settled
from calllogd.errors import (
    KommoError,
    NobodyHasNumber,
    NumberTaken,
    OutcomeUnknown,
    PermanentError,
    TransientError,
)
from calllogd.ports import Answer, Before, Crm, Note, VoipCalls
from calllogd.voip.usecase.hold import Hold, failure
from calllogd.voip.usecase.keep_entry import KeepEntry

NUMBER_S = 2.0
"""How long a call waits for another of its number that is getting an incoming lead, if it is not woken."""

LOOK_BACK_S = 900.0
"""How far before the call Kommo is searched for its entry: its clock and ours may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A creating request: what it makes, how it is sent, and where to, unless Kommo picks the entity."""

    intent: Intent
    send: Callable[[Call, Before], Awaitable[Answer]]
    target: EntityRef | None = None
    lead_uid: str | None = None
    todo: Todo | None = None
    reason: str = ""


class CreateEntry:
    """Creates what the plan wants, and finds out what came of requests without an answer.

    Raises what `Hold` does.
    """

    def __init__(self, *, calls: VoipCalls, crm: Crm, hold: Hold, keep: KeepEntry) -> None:
        self._calls = calls
        self._crm = crm
        self._hold = hold
        self._keep = keep

    async def log_call(self, call: Call) -> Call | None:
        """Offer the call to Kommo, which picks the entity."""
        return await self._create(call, Creation(intent=Intent.LOG_CALL, send=self._crm.log_call))

    async def create_incoming_lead(self, call: Call) -> Call | None:
        """Create an incoming lead with the call."""
        send = self._crm.create_incoming_lead
        return await self._create(call, Creation(intent=Intent.CREATE_INCOMING_LEAD, send=send))

    async def put_on(self, call: Call, on: EntityRef, lead_uid: str | None, reason: str) -> Call | None:
        """Put the call's note on an entity; from an incoming lead it takes along who the caller is."""
        if call.entry is not None and call.entry.lead_uid is not None:
            try:
                await self._crm.hand_over(call, call.entry.contact_id, on)
            except PermanentError as error:
                # The entry matters more than the number: what is wrong with the entity the note will tell.
                note = failure("hand_over", error)
                call = await self._hold.save(call, note)
            except KommoError as error:
                return await self._hold.failed(call, error, failure("hand_over", error))

        async def send(call: Call, before: Before) -> Answer:
            answer = await self._crm.add_note(call, on, before)
            entry = answer.entry
            if entry is not None and lead_uid is not None and call.lead is not None:
                entry = replace(entry, lead_uid=lead_uid, contact_id=call.lead.contact_id)
            return replace(answer, entry=entry)

        creation = Creation(intent=Intent.ADD_NOTE, send=send, target=on, lead_uid=lead_uid, reason=reason)
        return await self._create(call, creation)

    async def add_task(self, call: Call, on: EntityRef) -> Call | None:
        """Create the manager's task on an entity."""

        async def send(call: Call, before: Before) -> Answer:
            return await self._crm.add_task(call, on, before)

        todo = None if call.result is None else call.result.todo
        return await self._create(call, Creation(intent=Intent.ADD_TASK, send=send, target=on, todo=todo))

    async def log_together(self, batch: Sequence[Call]) -> list[Call]:
        """Log calls with one request; return those that are still held."""
        held: Sequence[Call] = batch
        creation = Creation(intent=Intent.LOG_CALL, send=self._crm.log_call)

        async def intend() -> None:
            nonlocal held
            doubted = [self._doubted(call, creation) for call in batch]
            held = await self._calls.save_many(doubted, self._hold.now, self._hold.timing.lease)
            self._hold.must_outlive_request(held)

        became: Mapping[CallKey, Answer | KommoError]
        try:
            became = await self._crm.log_calls(batch, intend)
        except PermanentError as error:
            # One of them is at fault, and none was made: each has to show for itself.
            note = failure("log_calls", error)
            return [
                await self._hold.save(replace(call, doubt=None, state=_undoubted(call.state)), note)
                for call in held
            ]
        except KommoError as error:
            became = dict.fromkeys((call.key for call in batch), error)
        return await self._sort_out(list(zip(held, batch, strict=True)), became)

    async def _sort_out(
        self, sent: Sequence[tuple[Call, Call]], became: Mapping[CallKey, Answer | KommoError]
    ) -> list[Call]:
        """Record what became of the calls of a batch, as they are and as they were sent."""
        left: list[Call | None] = []
        done: list[tuple[Call, Note]] = []
        for call, as_sent in sent:
            answer = became[call.key]
            if isinstance(answer, KommoError):
                left.append(await self._not_created(call, Intent.LOG_CALL, answer))
                continue
            told = _told_whose(call)
            logged, note = self._keep.with_entry(told, answer, as_sent.revision, Intent.LOG_CALL.value)
            match self._hold.next_step(logged):
                case Finish(state):
                    done.append((replace(logged, state=state, due_at=None), note))
                case _:
                    left.append(await self._hold.save(logged, note))
        if done:
            left.extend(await self._calls.release_many(done, self._hold.now))
        return [call for call in left if call is not None]

    async def look_up(self, call: Call) -> Call | None:
        """Search Kommo for what the doubtful request may have created, and adopt it if it is there."""
        doubt = call.doubt
        if doubt is None:
            return call
        began_at = self._hold.now
        try:
            answer = await self._search(call, doubt)
        except PermanentError as error:
            # Not being able to look proves nothing: the call stays in doubt and is looked for again.
            return await self._hold.failed(
                call, TransientError(error.reason, request_id=error.request_id), failure("look_up", error)
            )
        except KommoError as error:
            return await self._hold.failed(call, error, failure("look_up", error))
        if answer.task_id is not None:
            return await self._tasked(call, answer)
        if answer.entry is not None and doubt.intent is not Intent.ADD_TASK:
            made = _without_result(call, doubt.intent, doubt.revision)
            return await self._keep.entered(_told_whose(call), answer, made, "look_up")
        note = Note(what="look_up", outcome="not in Kommo", request_id=answer.request_id, answered=True)
        looked = replace(doubt, looked_at=began_at)
        if is_settled(looked, self._hold.policy):
            call = replace(call, doubt=None, state=_undoubted(call.state))
        else:
            call = replace(call, doubt=looked, state=CallState.IN_DOUBT)
        return await self._hold.save(replace(call, attempts=0), note)

    async def _search(self, call: Call, doubt: Doubt) -> Answer:
        """Return what Kommo has of that which the doubtful request was to create."""
        if doubt.target is None:
            return await self._crm.find(call, min(call.started_at, call.arrived_at) - LOOK_BACK_S)
        if doubt.intent is Intent.ADD_TASK:
            # The task that was asked for then, whatever the result wants by now.
            asked = replace(call, result=Result(rev=0, todo=doubt.todo))
            return await self._crm.find_task(asked, doubt.target)
        answer = await self._crm.find_note(call, doubt.target)
        if answer.entry is not None and doubt.lead_uid is not None and call.lead is not None:
            entry = replace(answer.entry, lead_uid=doubt.lead_uid, contact_id=call.lead.contact_id)
            return replace(answer, entry=entry)
        return answer

    async def _create(self, call: Call, creation: Creation) -> Call | None:
        """Send a creating request: its intent is on disk before, its answer after."""
        held = call

        async def intend() -> None:
            nonlocal held
            held = await self._intend(call, creation)

        try:
            answer = await creation.send(call, intend)
        except NumberTaken as error:
            due_at = self._hold.now + NUMBER_S
            note = Note(what=creation.intent.value, outcome=f"not yet: {error}")
            return await self._hold.give_back(
                replace(held, due_at=due_at, state=_undoubted(held.state)), note
            )
        except KommoError as error:
            return await self._not_created(held, creation.intent, error)
        return await self._created(held, answer, creation, call.revision)

    async def _intend(self, call: Call, creation: Creation) -> Call:
        """Write to the ledger that a creating request is about to leave; return the call as it is then."""
        return await self._hold.hold_on(self._doubted(call, creation))

    def _doubted(self, call: Call, creation: Creation) -> Call:
        """Return a call whose creating request is about to leave."""
        doubt = Doubt(
            intent=creation.intent,
            over_at=self._hold.now + self._hold.timing.lease,
            revision=call.revision,
            target=creation.target,
            lead_uid=creation.lead_uid,
            todo=creation.todo,
            attribution=self._crm.attribution(call),
        )
        return replace(call, doubt=doubt)

    async def _created(self, call: Call, answer: Answer, creation: Creation, revision: int) -> Call | None:
        """Record what a creating request made."""
        if creation.intent is Intent.ADD_TASK:
            return await self._tasked(call, answer)
        made = _without_result(call, creation.intent, revision)
        return await self._keep.entered(
            _told_whose(call), answer, made, creation.intent.value, creation.reason
        )

    async def _tasked(self, call: Call, answer: Answer) -> Call | None:
        """Record the manager's task."""
        outcome = f"task {answer.task_id}"
        note = Note(what=Intent.ADD_TASK.value, outcome=outcome, request_id=answer.request_id, answered=True)
        made = replace(call, task_id=answer.task_id, doubt=None, state=_undoubted(call.state))
        return await self._hold.settle(replace(made, attempts=0, last_error=None), note)

    async def _not_created(self, call: Call, intent: Intent, error: KommoError) -> Call | None:
        """Record why a creating request made nothing, or that it is unknown whether it did."""
        note = failure(intent.value, error)
        if isinstance(error, OutcomeUnknown) and call.doubt is not None:
            doubt = replace(call.doubt, over_at=self._hold.now)
            call = replace(call, doubt=doubt, state=CallState.IN_DOUBT, last_error=error.reason)
            return await self._hold.save(call, note)
        lead_uid = None if call.doubt is None else call.doubt.lead_uid
        if intent is Intent.ADD_TASK and call.entry is not None:
            lead_uid = call.entry.lead_uid
        call = replace(call, doubt=None, state=_undoubted(call.state))
        if isinstance(error, NobodyHasNumber):
            note = replace(note, answered=True)
            call = replace(call, nobody_at=self._hold.now, asked=call.asked + 1, attempts=0, last_error=None)
            return await self._hold.save(call, note)
        lead = call.lead
        if isinstance(error, PermanentError) and lead is not None and lead.uid == lead_uid:
            # Nobody may have told us that the incoming lead is not open any more.
            return await self._keep.check_lead(await self._hold.save(call, note), lead, suspect=error)
        return await self._hold.failed(call, error, note)


def _told_whose(call: Call) -> Call:
    """Return a call whose doubtful request was carried out, with whose call that said that it is."""
    return call if call.doubt is None else replace(call, attribution=call.doubt.attribution)


def _without_result(call: Call, intent: Intent, revision: int) -> int:
    """Return the revision that a new entry carries: an incoming lead's note is made without the result."""
    if intent is Intent.CREATE_INCOMING_LEAD and call.result is not None:
        return min(revision, call.revision - 1)
    return revision


def _undoubted(state: CallState) -> CallState:
    """Return the state of a call whose doubt has gone."""
    return CallState.PENDING if state is CallState.IN_DOUBT else state
