"""Ledger to Kommo: perform what the plan says, until the call is done or has to wait."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from calllogd.domain.call import (
    NO_RECORDING,
    Call,
    CallKey,
    CallState,
    Doubt,
    EntityRef,
    Entry,
    IncomingLead,
    Intent,
    LeadState,
    Lease,
    RecordingState,
    Result,
    Todo,
)
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
    is_settled,
    plan,
)
from calllogd.domain.retry import backoff_s
from calllogd.errors import (
    AccountPaused,
    KommoError,
    LeaseLost,
    NobodyHasNumber,
    NumberTaken,
    OutcomeUnknown,
    Overloaded,
    PermanentError,
    StorageError,
    TransientError,
)
from calllogd.ports import Answer, Before, Clock, Crm, Message, Note, Recordings, VoipCalls
from calllogd.voip.task.add_call import AddCallTask

SOONEST_S = 1.0
"""A call that waits is not looked at again sooner than this: a plan that waits for the past cannot spin."""

NUMBER_S = 2.0
"""How long a call waits for another of its number that is getting an incoming lead, if it is not woken."""

NOTE_TRIES = 8
"""How often an incoming lead's note is looked for before it is taken to be deleted: for some minutes."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A creating request: what it makes, how it is sent, and where to, unless Kommo picks the entity."""

    intent: Intent
    send: Callable[[Call, Before], Awaitable[Answer]]
    target: EntityRef | None = None
    lead_uid: str | None = None
    todo: Todo | None = None
    reason: str = ""


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
        self._crm = crm
        self._recordings = recordings
        self._clock = clock
        self._policy = policy
        self._timing = timing
        self._jitter = jitter

    async def execute(self, task: AddCallTask) -> None:
        """Work on the task's call until it is done or waits; returns at once if there is nothing to do.

        Idempotent, and safe beside any number of others: only the holder of the call's lease works.
        Raises LeaseLost when another worker has taken over, StorageError when the ledger fails and Overloaded
        when it has too much to do; the call is then due again when its lease is over.
        """
        call = await self._calls.claim(task.key, self._clock.now(), self._timing.lease)
        if call is not None:
            await self._finish(call)

    async def execute_many(self, keys: Sequence[CallKey]) -> None:
        """Work on calls of one account, those that are to be logged first of all with a single request.

        Whatever remains of them after that is due, and is worked on one by one. Idempotent like `execute`,
        and raises the same.
        """
        held = await self._calls.claim_many(keys, self._clock.now(), self._timing.lease)
        batch = [call for call in held if plan(call, self._clock.now(), self._policy) == LogCall()]
        others = [call for call in held if call not in batch]
        if len(batch) > 1:
            others += await self._log_together(batch)
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
            await self._bury(call.key, lease, error)
            raise

    async def _step(self, call: Call) -> Call | None:  # noqa: C901, PLR0911  a line for each step there is
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
                return await self._create(call, Creation(intent=Intent.LOG_CALL, send=self._crm.log_call))
            case CreateIncomingLead():
                send = self._crm.create_incoming_lead
                return await self._create(call, Creation(intent=Intent.CREATE_INCOMING_LEAD, send=send))
            case AddNote(on, lead_uid, reason):
                return await self._put_on(call, on, lead_uid, reason)
            case AddTask(on):
                return await self._add_task(call, on)
            case LookUp():
                return await self._look_up(call)
            case CheckLead(lead):
                return await self._check_lead(call, lead)
            case LoseEntry():
                return await self._lose_entry(call)
            case Amend():
                return await self._amend(call)
            case Leave(left, to):
                return await self._leave(call, left, to)
            case DeleteRecording():
                return await self._delete_recording(call)

    async def _create(self, call: Call, creation: Creation) -> Call | None:
        """Send a creating request: its intent is on disk before, its answer after."""
        held = call

        async def intend() -> None:
            nonlocal held
            held = await self._intend(call, creation)

        try:
            answer = await creation.send(call, intend)
        except NumberTaken as error:
            due_at = self._clock.now() + NUMBER_S
            note = Note(what=creation.intent.value, outcome=f"not yet: {error}")
            return await self._give_back(replace(held, due_at=due_at, state=_undoubted(held.state)), note)
        except KommoError as error:
            return await self._not_created(held, creation.intent, error)
        return await self._created(held, answer, creation, call.revision)

    async def _intend(self, call: Call, creation: Creation) -> Call:
        """Write to the ledger that a creating request is about to leave; return the call as it is then."""
        return await self._hold_on(self._doubted(call, creation))

    def _doubted(self, call: Call, creation: Creation) -> Call:
        """Return a call whose creating request is about to leave."""
        doubt = Doubt(
            intent=creation.intent,
            over_at=self._clock.now() + self._timing.lease,
            revision=call.revision,
            target=creation.target,
            lead_uid=creation.lead_uid,
            todo=creation.todo,
            attribution=self._crm.attribution(call),
        )
        return replace(call, doubt=doubt)

    async def _hold_on(self, call: Call) -> Call:
        """Write the call and extend its lease; raises LeaseLost unless it outlives the request to come."""
        held = await self._save(call)
        self._must_outlive_request([held])
        return held

    def _must_outlive_request(self, held: Sequence[Call]) -> None:
        ends_at = self._clock.now() + self._timing.request
        if any(call.lease is None or ends_at >= call.lease.until for call in held):
            raise LeaseLost("the lease does not outlive the request")

    async def _created(self, call: Call, answer: Answer, creation: Creation, revision: int) -> Call | None:
        """Record what a creating request made."""
        if creation.intent is Intent.ADD_TASK:
            return await self._tasked(call, answer)
        made = _without_result(call, creation.intent, revision)
        return await self._entered(_told_whose(call), answer, made, creation.intent.value, creation.reason)

    async def _tasked(self, call: Call, answer: Answer) -> Call | None:
        """Record the manager's task."""
        outcome = f"task {answer.task_id}"
        note = Note(what=Intent.ADD_TASK.value, outcome=outcome, request_id=answer.request_id, answered=True)
        made = replace(call, task_id=answer.task_id, doubt=None, state=_undoubted(call.state))
        return await self._settle(replace(made, attempts=0, last_error=None), note)

    async def _not_created(self, call: Call, intent: Intent, error: KommoError) -> Call | None:
        """Record why a creating request made nothing, or that it is unknown whether it did."""
        note = Note(what=intent.value, outcome=error.reason, request_id=error.request_id)
        if isinstance(error, OutcomeUnknown) and call.doubt is not None:
            doubt = replace(call.doubt, over_at=self._clock.now())
            call = replace(call, doubt=doubt, state=CallState.IN_DOUBT, last_error=error.reason)
            return await self._save(call, note)
        lead_uid = None if call.doubt is None else call.doubt.lead_uid
        if intent is Intent.ADD_TASK and call.entry is not None:
            lead_uid = call.entry.lead_uid
        call = replace(call, doubt=None, state=_undoubted(call.state))
        if isinstance(error, NobodyHasNumber):
            note = replace(note, answered=True)
            call = replace(
                call, nobody_at=self._clock.now(), asked=call.asked + 1, attempts=0, last_error=None
            )
            return await self._save(call, note)
        lead = call.lead
        if isinstance(error, PermanentError) and lead is not None and lead.uid == lead_uid:
            # Nobody may have told us that the incoming lead is not open any more.
            return await self._check_lead(await self._save(call, note), lead, suspect=error)
        return await self._failed(call, error, note)

    async def _log_together(self, batch: Sequence[Call]) -> list[Call]:
        """Log calls with one request; return those that are still held."""
        held: Sequence[Call] = batch
        creation = Creation(intent=Intent.LOG_CALL, send=self._crm.log_call)

        async def intend() -> None:
            nonlocal held
            doubted = [self._doubted(call, creation) for call in batch]
            held = await self._calls.save_many(doubted, self._clock.now(), self._timing.lease)
            self._must_outlive_request(held)

        became: Mapping[CallKey, Answer | KommoError]
        try:
            became = await self._crm.log_calls(batch, intend)
        except PermanentError as error:
            # One of them is at fault, and none was made: each has to show for itself.
            note = Note(what="log_calls", outcome=error.reason, request_id=error.request_id)
            return [
                await self._save(replace(call, doubt=None, state=_undoubted(call.state)), note)
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
            logged, note = self._with_entry(told, answer, as_sent.revision, Intent.LOG_CALL.value)
            match plan(logged, self._clock.now(), self._policy):
                case Finish(state):
                    done.append((replace(logged, state=state, due_at=None), note))
                case _:
                    left.append(await self._save(logged, note))
        if done:
            left.extend(await self._calls.release_many(done, self._clock.now()))
        return [call for call in left if call is not None]

    async def _put_on(self, call: Call, on: EntityRef, lead_uid: str | None, reason: str) -> Call | None:
        """Put the call's note on an entity; from an incoming lead it takes along who the caller is."""
        if call.entry is not None and call.entry.lead_uid is not None:
            try:
                await self._crm.hand_over(call, call.entry.contact_id, on)
            except PermanentError as error:
                # The entry matters more than the number: what is wrong with the entity the note will tell.
                note = Note(what="hand_over", outcome=error.reason, request_id=error.request_id)
                call = await self._save(call, note)
            except KommoError as error:
                note = Note(what="hand_over", outcome=error.reason, request_id=error.request_id)
                return await self._failed(call, error, note)

        async def send(call: Call, before: Before) -> Answer:
            answer = await self._crm.add_note(call, on, before)
            entry = answer.entry
            if entry is not None and lead_uid is not None and call.lead is not None:
                entry = replace(entry, lead_uid=lead_uid, contact_id=call.lead.contact_id)
            return replace(answer, entry=entry)

        creation = Creation(intent=Intent.ADD_NOTE, send=send, target=on, lead_uid=lead_uid, reason=reason)
        return await self._create(call, creation)

    async def _add_task(self, call: Call, on: EntityRef) -> Call | None:
        """Create the manager's task on an entity."""

        async def send(call: Call, before: Before) -> Answer:
            return await self._crm.add_task(call, on, before)

        todo = None if call.result is None else call.result.todo
        return await self._create(call, Creation(intent=Intent.ADD_TASK, send=send, target=on, todo=todo))

    async def _look_up(self, call: Call) -> Call | None:
        """Search Kommo for what the doubtful request may have created, and adopt it if it is there."""
        doubt = call.doubt
        if doubt is None:
            return call
        began_at = self._clock.now()
        try:
            answer = await self._search(call, doubt)
        except PermanentError as error:
            # Not being able to look proves nothing: the call stays in doubt and is looked for again.
            return await self._failed(
                call, TransientError(error.reason, request_id=error.request_id), _look_note(error)
            )
        except KommoError as error:
            return await self._failed(call, error, _look_note(error))
        if answer.task_id is not None:
            return await self._tasked(call, answer)
        if answer.entry is not None and doubt.intent is not Intent.ADD_TASK:
            made = _without_result(call, doubt.intent, doubt.revision)
            return await self._entered(_told_whose(call), answer, made, "look_up")
        note = Note(what="look_up", outcome="not in Kommo", request_id=answer.request_id, answered=True)
        looked = replace(doubt, looked_at=began_at)
        if is_settled(looked, self._policy):
            call = replace(call, doubt=None, state=_undoubted(call.state))
        else:
            call = replace(call, doubt=looked, state=CallState.IN_DOUBT)
        return await self._save(replace(call, attempts=0), note)

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

    async def _check_lead(
        self, call: Call, lead: IncomingLead, *, suspect: KommoError | None = None
    ) -> Call | None:
        """Ask Kommo what became of an incoming lead, and keep that; `suspect` led to the question."""
        now = self._clock.now()
        try:
            state = await self._crm.check_lead(call, lead)
        except KommoError as error:
            note = Note(what="check_lead", outcome=error.reason, request_id=error.request_id)
            return await self._failed(call, error, note)
        note = Note(what="check_lead", outcome=f"incoming lead {lead.uid} is {state.value}", answered=True)
        call = replace(call, lead=replace(lead, state=state, known_at=now))
        if suspect is not None and state is not LeadState.DECLINED:
            return await self._failed(call, suspect, note)
        return await self._settle(replace(call, attempts=0), note)

    async def _lose_entry(self, call: Call) -> Call | None:
        """Go on without the entry that went to the bin with its incoming lead."""
        note = Note(what="lose_entry", outcome="a person declined the incoming lead")
        lost = replace(
            call,
            entry=None,
            declined=True,
            state=CallState.PENDING,
            written_revision=0,
            nobody_at=None,
            asked=0,
        )
        return await self._save(lost, note)

    async def _amend(self, call: Call) -> Call | None:
        """Write what has become known since into the entry's note."""
        held, whose = call, self._crm.attribution(call)

        async def hold_on() -> None:
            nonlocal held
            shaky_until = self._clock.now() + self._timing.lease + self._policy.doubt_wait
            # On disk before Kommo is told: a table that changes before the answer is there must not win.
            held = await self._hold_on(replace(call, shaky_until=shaky_until, attribution=whose))

        try:
            answer = await self._crm.amend(call, hold_on)
        except OutcomeUnknown as error:
            # Carried out late, it would undo a newer one, or bring back an entry that was left.
            note = Note(what="amend", outcome=error.reason, request_id=error.request_id)
            shaky_until = self._clock.now() + self._policy.doubt_wait
            return await self._failed(replace(held, shaky_until=shaky_until), error, note)
        except PermanentError as error:
            note = Note(what="amend", outcome=error.reason, request_id=error.request_id)
            if call.entry is not None and call.lead is not None and call.entry.lead_uid == call.lead.uid:
                # Kommo's lists may be behind: a note is looked for again before it is taken to be deleted.
                is_behind = call.entry.note_id is None and call.attempts < NOTE_TRIES
                suspect = TransientError(error.reason, request_id=error.request_id) if is_behind else error
                return await self._check_lead(await self._save(call, note), call.lead, suspect=suspect)
            return await self._failed(call, error, note)
        except KommoError as error:
            note = Note(what="amend", outcome=error.reason, request_id=error.request_id)
            return await self._failed(call, error, note)
        return await self._entered(held, answer, call.revision, "amend")

    async def _leave(self, call: Call, left: Entry, to: Entry) -> Call | None:
        """Clear away the entry that the call has been moved from: its incoming lead, or only its note."""
        note = Note(what="leave", outcome=f"{_where(left)} left for {_where(to)}", answered=True)
        try:
            if left.lead_uid is not None and await self._calls.close_lead(call, self._clock.now()):
                answer = await self._decline(call, left, left.lead_uid)
            else:
                answer = await self._neutralise(call, left)
        except KommoError as error:
            note = Note(what="leave", outcome=error.reason, request_id=error.request_id)
            return await self._failed(call, error, note)
        note = replace(note, request_id=answer.request_id)
        return await self._settle(replace(call, leaving=None, attempts=0, last_error=None), note)

    async def _decline(self, call: Call, left: Entry, lead_uid: str) -> Answer:
        """Decline an incoming lead; of one that a person has accepted only the note is emptied."""
        try:
            return await self._crm.decline(call, lead_uid)
        except PermanentError:
            return await self._neutralise(call, left)

    async def _neutralise(self, call: Call, left: Entry) -> Answer:
        """Empty the note of an entry; raises TransientError if Kommo's lists may not show it yet."""
        answer = await self._crm.neutralise(call, left)
        unseen = answer.entry is None and left.note_id is None and left.lead_uid is not None
        if not unseen or call.attempts >= NOTE_TRIES:
            return answer
        lead = _opened(left, self._clock.now())
        if await self._crm.check_lead(call, lead) is LeadState.DECLINED:
            return answer
        raise TransientError("the note that was left is not listed yet", request_id=answer.request_id)

    async def _delete_recording(self, call: Call) -> Call | None:
        """Delete the recording of a call without an entry; the news of it comes like any other."""
        recording = replace(NO_RECORDING, state=RecordingState.DELETED)
        event = CallEvent(key=call.key, recording=recording)
        await self._calls.accept(
            Message(event=event, who="calllogd", what="recording.deleted", body=b""), self._clock.now()
        )
        # After the ledger: a link must not lead to a file that has gone, a file without a link harms nobody.
        await self._recordings.delete(call.key)
        return await self._save(call)

    async def _entered(
        self, call: Call, answer: Answer, revision: int, what: str, reason: str = ""
    ) -> Call | None:
        """Record the entry that stands in Kommo, with all that was known at `revision`."""
        return await self._settle(*self._with_entry(call, answer, revision, what, reason))

    def _with_entry(
        self, call: Call, answer: Answer, revision: int, what: str, reason: str = ""
    ) -> tuple[Call, Note]:
        """Return the call with the entry that stands in Kommo, and the line of its story."""
        entry = answer.entry
        outcome = f"{_where(entry)}: {reason}" if reason else _where(entry)
        note = Note(what=what, outcome=outcome, request_id=answer.request_id, answered=True)
        moved = call.entry is not None and entry is not None and call.entry.entity != entry.entity
        lead = call.lead
        if entry is not None and entry.lead_uid is not None and entry.note_id is None:
            lead = _opened(entry, self._clock.now())
        entered = replace(
            call,
            entry=entry,
            lead=lead,
            leaving=call.entry if moved and what != "amend" else call.leaving,
            written_revision=revision,
            shaky_until=None,
            state=CallState.LOGGED,
            doubt=None,
            attempts=0,
            last_error=None,
        )
        return entered, note

    async def _settle(self, call: Call, note: Note) -> Call | None:
        """Write what was done, and give the call back at once if that was all."""
        step = plan(call, self._clock.now(), self._policy)
        if isinstance(step, Finish):
            return await self._give_back(replace(call, state=step.state, due_at=None), note)
        return await self._save(call, note)

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

    async def _bury(self, key: CallKey, lease: Lease | None, error: Exception) -> None:
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
            await self._give_back(replace(call, state=CallState.FAILED, due_at=None, last_error=reason), note)

    async def _save(self, call: Call, note: Note | None = None) -> Call:
        return await self._calls.save(call, self._clock.now(), self._timing.lease, note)

    async def _give_back(self, call: Call, note: Note | None) -> Call | None:
        return await self._calls.release(call, self._clock.now(), note)


def _told_whose(call: Call) -> Call:
    """Return a call whose doubtful request was carried out, with whose call that said that it is."""
    return call if call.doubt is None else replace(call, attribution=call.doubt.attribution)


def _without_result(call: Call, intent: Intent, revision: int) -> int:
    """Return the revision that a new entry carries: an incoming lead's note is made without the result."""
    if intent is Intent.CREATE_INCOMING_LEAD and call.result is not None:
        return min(revision, call.revision - 1)
    return revision


def _opened(entry: Entry, now: float) -> IncomingLead:
    """Return the incoming lead that was created with an entry."""
    return IncomingLead(
        uid=entry.lead_uid or "",
        lead_id=entry.entity_id,
        contact_id=entry.contact_id,
        state=LeadState.OPEN,
        known_at=now,
    )


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
