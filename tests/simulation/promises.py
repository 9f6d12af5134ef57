"""What must be true once a story is over: the promises of design.md, section 3."""

from collections.abc import Iterator

from calllogd.domain.call import Call, CallState, Direction, EntityRef, EntityType, LeadState, RecordingState
from calllogd.domain.merge import fold
from calllogd.domain.plan import becomes_incoming_lead
from tests.simulation.kommo import NOWHERE, CallNote, Unsorted, content_of, number_of
from tests.simulation.story import LEFT_OUT, CallScript
from tests.simulation.world import World

ENDS = (CallState.LOGGED, CallState.EXPIRED, CallState.IGNORED, CallState.FAILED)


def broken(world: World) -> list[str]:
    """Return in words every promise that does not hold, with its call."""
    found: list[str] = []
    for script in world.story.calls:
        call = world.ledger.get(script.key)
        if call is None:
            found.append(f"P2: {script.key.call_id} is not in the ledger")
            continue
        rules = (_kept, _final, _one_entry, _right_place, _content, _person, _task, _recording)
        found += [f"{script.key.call_id}: {words}" for rule in rules for words in rule(world, script, call)]
    return found


def _kept(world: World, script: CallScript, call: Call) -> Iterator[str]:
    """P2: the row says what all messages together say, folded in their plain order."""
    told: Call | None = None
    accepted = world.accepted[script.key]
    for event in sorted(accepted, key=repr):
        told = fold(told, event, call.arrived_at)
    assert told is not None
    if (call.facts, call.legs, call.widget, call.result) != (told.facts, told.legs, told.widget, told.result):
        yield f"P2: the row is not what its {len(accepted)} messages say: {call} instead of {told}"
    if call.recording.state is not RecordingState.DELETED and call.recording != told.recording:
        yield f"P2: the recording is {call.recording} instead of {told.recording}"


def _final(world: World, script: CallScript, call: Call) -> Iterator[str]:
    """P6: the call has come to its end, or says why not."""
    if call.state not in ENDS:
        yield f"P6: it ends as {call.state.value}"
    if (
        call.due_at is not None
        or call.doubt is not None
        or call.leaving is not None
        or call.lease is not None
    ):
        yield f"P6: there is something left to do: {call}"
    if call.state is CallState.FAILED:
        if call.last_error is None:
            yield "P6: it failed without a reason"
        if call.chosen != NOWHERE:
            yield f"P6: it failed although nothing was wrong any more: {call.last_error}"


def _one_entry(world: World, script: CallScript, call: Call) -> Iterator[str]:
    """P1: the call stands once, and where the ledger says."""
    notes = world.kommo.standing(script.key)
    if len(notes) > 1:
        yield f"P1: it stands {len(notes)} times"
    if call.entry is None:
        if notes:
            yield f"P1: it stands on {_where(notes[0])}, and the ledger does not know"
        if call.state is CallState.LOGGED:
            yield "P1: it is logged and has no entry"
        return
    if not notes:
        if not _is_binned_unseen(world, call) and call.chosen != NOWHERE:
            yield f"P1: it is {call.state.value} on {call.entry.entity}, where it is not"
        return
    note = notes[0]
    entry = call.entry
    on_lead = entry.note_id is None and note.lead is not None and note.lead.uid == entry.lead_uid
    if not on_lead and (note.on, note.id) != (entry.entity, entry.note_id):
        yield f"P1: it stands on {_where(note)} and the ledger says {entry}"


def _right_place(world: World, script: CallScript, call: Call) -> Iterator[str]:
    """P1, P3, P4: the entry stands where it should."""
    known = call.known
    notes = world.kommo.standing(script.key)
    if known.direction is None or known.phone is None:
        if call.state is not CallState.EXPIRED:
            yield f"P6: it ends as {call.state.value} although nobody said who called whom"
        return
    if call.chosen is not None:
        if call.state is not CallState.FAILED and (not notes or notes[0].on != call.chosen):
            yield f"P3: it is not on {call.chosen}, which the manager chose"
        return
    if script.number in LEFT_OUT:
        yield from _must_be_ignored(world, script, call)
    elif call.state is CallState.EXPIRED:
        yield from _must_expire(world, script, call)
    else:
        yield from _must_stand(world, script, call)


def _must_be_ignored(world: World, script: CallScript, call: Call) -> Iterator[str]:
    """P4: a call without an outside number stands in Kommo only where the manager once put it."""
    earlier = _ever_chosen(world, script)
    if call.state is not CallState.IGNORED and not any(
        note.on in earlier for note in world.kommo.standing(script.key)
    ):
        yield f"P4: it is {call.state.value}, and nobody ever chose an entity for {script.number}"


def _must_stand(world: World, script: CallScript, call: Call) -> Iterator[str]:
    """P4: a call stands where its number is, or where the manager once put it."""
    if call.state is CallState.IGNORED:
        yield "P4: it is ignored"
    holders = world.kommo.holders.get(script.number, [])
    earlier = _ever_chosen(world, script)
    for note in world.kommo.standing(script.key):
        if note.on in earlier or any(note.on == holder.on for holder in holders):
            continue
        outbound = call.known.direction is Direction.OUTBOUND
        if note.lead is None or note.lead.number != script.number or outbound:
            yield f"P4: it stands on {_where(note)}, where nobody has its number"


def _ever_chosen(world: World, script: CallScript) -> set[EntityRef | None]:
    return {event.result.entity for event in world.accepted[script.key] if event.result is not None}


def _must_expire(world: World, script: CallScript, call: Call) -> Iterator[str]:
    """P4: a call may end without an entry only if nobody could be found for it."""
    leads = [lead for lead in world.kommo.unsorted.values() if lead.number == script.number]
    expires_at = call.ended_at + world.policy.contact_wait
    for holder in world.kommo.holders.get(number_of(call), []):
        if holder.found_at < expires_at:
            yield f"P4: it expired although {holder.on} had the number at {holder.found_at}"
    if becomes_incoming_lead(call, world.policy):
        yield "P4: it expired instead of becoming an incoming lead"
    if call.declined and not any(lead.by_person and lead.state is LeadState.DECLINED for lead in leads):
        yield "P4: it lost its incoming lead, which nobody declined"


def _content(world: World, script: CallScript, call: Call) -> Iterator[str]:
    """P1: what the entry says is the last that is known."""
    if call.state is CallState.FAILED:
        return
    for note in world.kommo.standing(script.key):
        if note.content != content_of(call):
            yield f"P1: the entry says {note.content} instead of {content_of(call)}"


def _person(world: World, script: CallScript, call: Call) -> Iterator[str]:
    """A call that stands in Kommo is its user's, whenever he was given the extension."""
    if call.state is not CallState.LOGGED or call.known.person is None:
        return
    users: set[int | None] = {user_id for _, user_id in world.story.mapped}
    for note in world.kommo.standing(script.key):
        if note.content.user_id not in (users or {None}):
            yield f"it is user {note.content.user_id}'s instead of {users}'s"


def _task(world: World, script: CallScript, call: Call) -> Iterator[str]:
    """The manager's task is made once."""
    tasks = [task for task in world.kommo.tasks if task.key == script.key]
    wanted = call.result is not None and call.result.todo is not None
    if wanted and call.state is CallState.LOGGED and not tasks and world.kommo.standing(script.key):
        yield "P1: the manager's task was not made"
    if tasks and tasks[0].id != call.task_id:
        yield f"P1: the task is {tasks[0].id} and the ledger says {call.task_id}"
    if tasks and not any(event.result and event.result.todo for event in world.accepted[script.key]):
        yield "P1: there is a task that nobody wanted"


def _recording(world: World, script: CallScript, call: Call) -> Iterator[str]:
    """P5: a recording is kept exactly as long as there is somebody to keep it for."""
    there = script.key in world.files
    state = call.recording.state
    if there and state is not RecordingState.READY:
        yield f"P5: there is a file, and the recording is {state.value}"
    if call.state in (CallState.EXPIRED, CallState.IGNORED):
        if there or state in (RecordingState.READY, RecordingState.EXPECTED):
            yield f"P5: the recording of a call without an entry is {state.value}"
    elif state is RecordingState.READY and not there:
        yield "P5: the file of a recording that can be played is not there"
    expires_at = call.ended_at + world.policy.contact_wait
    if there and call.state is CallState.LOGGED and not world.kommo.standing(script.key):
        lead = _lead(world, call)
        if lead is not None and lead.sorted_at is not None and lead.sorted_at < expires_at:
            yield f"P5: {lead.uid} was declined in time, and the recording is kept"


def _is_binned_unseen(world: World, call: Call) -> bool:
    """Tell whether a person declined the incoming lead of a call, and calllogd could not know."""
    lead = _lead(world, call)
    return lead is not None and lead.state is LeadState.DECLINED and lead.by_person and not lead.told


def _lead(world: World, call: Call) -> Unsorted | None:
    uid = None if call.entry is None else call.entry.lead_uid
    if uid is not None:
        return world.kommo.unsorted.get(uid)
    entity = None if call.entry is None else call.entry.entity
    if entity is None or entity.kind is not EntityType.LEADS:
        return None
    return next((lead for lead in world.kommo.unsorted.values() if lead.lead == entity), None)


def _where(note: CallNote) -> str:
    return f"{note.on.kind.value} {note.on.id}, note {note.id}"


def place(world: World, call: Call) -> object:
    """Return where a call stands, without the ids that differ from run to run."""
    on: EntityRef | None = None if call.entry is None else call.entry.entity
    lead = _lead(world, call)
    return call.state, on if lead is None else lead.number
