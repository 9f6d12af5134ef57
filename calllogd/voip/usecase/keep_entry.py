"""What becomes of an entry that stands in Kommo: it is written down, amended, moved away from, or lost."""

from dataclasses import replace

from calllogd.domain.call import Call, CallState, Entry, IncomingLead, LeadState
from calllogd.errors import KommoError, OutcomeUnknown, PermanentError, TransientError
from calllogd.ports import Answer, Crm, Note, VoipCalls
from calllogd.voip.usecase.hold import Hold, failure

NOTE_TRIES = 8
"""How often an incoming lead's note is looked for before it is taken to be deleted: for some minutes."""


class KeepEntry:
    """Keeps entries up to date; raises what `Hold` does."""

    def __init__(self, *, calls: VoipCalls, crm: Crm, hold: Hold) -> None:
        self._calls = calls
        self._crm = crm
        self._hold = hold

    async def entered(
        self, call: Call, answer: Answer, revision: int, what: str, reason: str = ""
    ) -> Call | None:
        """Record the entry that stands in Kommo, with all that was known at `revision`."""
        return await self._hold.settle(*self.with_entry(call, answer, revision, what, reason))

    def with_entry(
        self, call: Call, answer: Answer, revision: int, what: str, reason: str = ""
    ) -> tuple[Call, Note]:
        """Return the call with the entry that stands in Kommo, and the line of its story."""
        entry = answer.entry
        outcome = f"{_where(entry)}: {reason}" if reason else _where(entry)
        note = Note(what=what, outcome=outcome, request_id=answer.request_id, answered=True)
        moved = call.entry is not None and entry is not None and call.entry.entity != entry.entity
        lead = call.lead
        if entry is not None and entry.lead_uid is not None and entry.note_id is None:
            lead = _opened(entry, self._hold.now)
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

    async def amend(self, call: Call) -> Call | None:
        """Write what has become known since into the entry's note."""
        held, whose = call, self._crm.attribution(call)

        async def hold_on() -> None:
            nonlocal held
            shaky_until = self._hold.now + self._hold.timing.lease + self._hold.policy.doubt_wait
            # On disk before Kommo is told: a table that changes before the answer is there must not win.
            held = await self._hold.hold_on(replace(call, shaky_until=shaky_until, attribution=whose))

        try:
            answer = await self._crm.amend(call, hold_on)
        except OutcomeUnknown as error:
            # Carried out late, it would undo a newer one, or bring back an entry that was left.
            note = failure("amend", error)
            shaky_until = self._hold.now + self._hold.policy.doubt_wait
            return await self._hold.failed(replace(held, shaky_until=shaky_until), error, note)
        except PermanentError as error:
            note = failure("amend", error)
            if call.entry is not None and call.lead is not None and call.entry.lead_uid == call.lead.uid:
                # Kommo's lists may be behind: a note is looked for again before it is taken to be deleted.
                is_behind = call.entry.note_id is None and call.attempts < NOTE_TRIES
                suspect = TransientError(error.reason, request_id=error.request_id) if is_behind else error
                return await self.check_lead(await self._hold.save(call, note), call.lead, suspect=suspect)
            return await self._hold.failed(call, error, note)
        except KommoError as error:
            return await self._hold.failed(call, error, failure("amend", error))
        return await self.entered(held, answer, call.revision, "amend")

    async def check_lead(
        self, call: Call, lead: IncomingLead, *, suspect: KommoError | None = None
    ) -> Call | None:
        """Ask Kommo what became of an incoming lead, and keep that; `suspect` led to the question."""
        now = self._hold.now
        try:
            state = await self._crm.check_lead(call, lead)
        except KommoError as error:
            return await self._hold.failed(call, error, failure("check_lead", error))
        note = Note(what="check_lead", outcome=f"incoming lead {lead.uid} is {state.value}", answered=True)
        call = replace(call, lead=replace(lead, state=state, known_at=now))
        if suspect is not None and state is not LeadState.DECLINED:
            return await self._hold.failed(call, suspect, note)
        return await self._hold.settle(replace(call, attempts=0), note)

    async def lose_entry(self, call: Call) -> Call | None:
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
        return await self._hold.save(lost, note)

    async def leave(self, call: Call, left: Entry, to: Entry) -> Call | None:
        """Clear away the entry that the call has been moved from: its incoming lead, or only its note."""
        note = Note(what="leave", outcome=f"{_where(left)} left for {_where(to)}", answered=True)
        try:
            if left.lead_uid is not None and await self._calls.close_lead(call, self._hold.now):
                answer = await self._decline(call, left, left.lead_uid)
            else:
                answer = await self._neutralise(call, left)
        except KommoError as error:
            return await self._hold.failed(call, error, failure("leave", error))
        note = replace(note, request_id=answer.request_id)
        return await self._hold.settle(replace(call, leaving=None, attempts=0, last_error=None), note)

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
        lead = _opened(left, self._hold.now)
        if await self._crm.check_lead(call, lead) is LeadState.DECLINED:
            return answer
        raise TransientError("the note that was left is not listed yet", request_id=answer.request_id)


def _opened(entry: Entry, now: float) -> IncomingLead:
    """Return the incoming lead that was created with an entry."""
    return IncomingLead(
        uid=entry.lead_uid or "",
        lead_id=entry.entity_id,
        contact_id=entry.contact_id,
        state=LeadState.OPEN,
        known_at=now,
    )


def _where(entry: Entry | None) -> str:
    """Return in words where an entry stands."""
    if entry is None:
        return "nowhere"
    place = f"{entry.entity_type.value} {entry.entity_id}"
    if entry.lead_uid is not None:
        return f"incoming lead {entry.lead_uid} ({place})"
    return place if entry.note_id is None else f"{place}, note {entry.note_id}"
