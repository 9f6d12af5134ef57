"""Result, recording, moves and calls of one number, on a real ledger with a Kommo that has a script."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import (
    Call,
    CallKey,
    CallState,
    Direction,
    EntityRef,
    EntityType,
    Facts,
    LeadState,
    Recording,
    RecordingState,
    Result,
    Todo,
    Widget,
)
from calllogd.domain.merge import CallEvent
from calllogd.domain.plan import Policy
from calllogd.errors import OutcomeUnknown, Overloaded, PermanentError, TransientError
from calllogd.voip.task.add_call import AddCallTask
from calllogd.voip.usecase.add_call import AddCallUseCase
from calllogd.voip.usecase.hold import Timing
from tests.fakes import (
    ACCOUNT,
    START,
    ManualClock,
    Mishap,
    NoRecordings,
    ScriptedCrm,
    ended,
    failing,
    told,
)

ONE, TWO, THREE = (CallKey(ACCOUNT, f"c{number}") for number in (1, 2, 3))
LEAD, OTHER = EntityRef(EntityType.LEADS, 501), EntityRef(EntityType.CONTACTS, 502)
OWNER = EntityRef(EntityType.CONTACTS, 7)
HOURS_18 = 64800.0
UNKNOWN = OutcomeUnknown("no answer from Kommo")


@dataclass
class Office:
    """A worker, the ledger and Kommo."""

    ledger: LedgerOfCalls
    clock: ManualClock
    crm: ScriptedCrm = field(default_factory=ScriptedCrm)
    recordings: NoRecordings = field(default_factory=NoRecordings)

    @property
    def worker(self) -> AddCallUseCase:
        return AddCallUseCase(
            calls=self.ledger,
            crm=self.crm,
            recordings=self.recordings,
            clock=self.clock,
            policy=Policy(),
            timing=Timing(request=20),
            jitter=lambda: 0.0,
        )

    async def hear(self, event: CallEvent) -> None:
        await self.ledger.accept(told(event), self.clock.now())

    async def work(self, key: CallKey = ONE) -> Call:
        await self.worker.execute(AddCallTask(*key))
        return await self.call(key)

    async def call(self, key: CallKey = ONE) -> Call:
        call = await self.ledger.get(key)
        assert call is not None
        return call

    async def until_quiet(self, *keys: CallKey, before: float = 1e12) -> Call:
        """Work on whatever is due, moving the clock on, until nothing is."""
        for _ in range(400):
            waiting = [(await self.call(key)).due_at for key in keys or (ONE,)]
            due_at = min((at for at in waiting if at is not None), default=None)
            if due_at is None or due_at > before:
                return await self.call((keys or (ONE,))[0])
            self.clock.at = max(self.clock.at, due_at)
            for key in keys or (ONE,):
                await self.work(key)
        pytest.fail("no end")

    def where(self, key: CallKey = ONE) -> list[EntityRef]:
        return [entry.entity for entry in self.crm.entries(key)]


@pytest.fixture
def office(ledger: LedgerOfCalls, clock: ManualClock) -> Office:
    return Office(ledger, clock)


def saved(
    entity: EntityRef | None = None,
    *,
    rev: int = 1,
    key: CallKey = ONE,
    todo: Todo | None = None,
    phone: str | None = None,
) -> CallEvent:
    facts = Facts(direction=Direction.INBOUND, phone=phone) if phone else Facts()
    return CallEvent(
        key=key,
        widget=Widget(facts=facts),
        result=Result(rev=rev, text=f"talked {rev}", entity=entity, todo=todo),
    )


def announced(key: CallKey = ONE) -> CallEvent:
    facts = Facts(direction=Direction.INBOUND, phone="+1 212 555 0123", started_at=START - 60)
    return CallEvent(key=key, widget=Widget(facts=facts, expected=True))


def recorded(state: RecordingState = RecordingState.READY) -> CallEvent:
    return CallEvent(key=ONE, recording=Recording(state=state, media_type="audio/mpeg"))


async def test_an_announced_result_is_waited_for(office: Office) -> None:
    await office.hear(announced())
    await office.hear(ended())
    call = await office.work()
    assert (call.state, call.due_at) == (CallState.AWAITING_RESULT, START - 60 + 42 + 120)
    assert office.crm.asked == []
    await office.hear(saved(LEAD))
    call = await office.work()
    assert office.crm.sent == ["add_note"]
    assert (call.state, office.where()) == (CallState.LOGGED, [LEAD])


async def test_a_result_that_does_not_come_holds_nothing_up(office: Office) -> None:
    await office.hear(announced())
    await office.hear(ended())
    await office.work()
    call = await office.until_quiet()
    assert (call.state, office.where()) == (CallState.LOGGED, [OWNER])


async def test_a_declined_modal_leaves_the_automatic_log(office: Office) -> None:
    await office.hear(announced())
    await office.hear(ended())
    await office.work()
    await office.hear(CallEvent(key=ONE, widget=Widget(skipped=True)))
    call = await office.work()
    assert (call.state, call.result, office.where()) == (CallState.LOGGED, None, [OWNER])


async def test_a_result_alone_is_enough(office: Office) -> None:
    await office.hear(saved(LEAD, phone="+12125550123"))
    call = await office.work()
    assert (call.state, office.where()) == (CallState.LOGGED, [LEAD])
    await office.hear(ended())
    call = await office.work()
    assert office.crm.sent == ["add_note", "amend"]
    assert (call.state, call.written_revision) == (CallState.LOGGED, call.revision)


async def test_a_result_with_another_entity_moves_the_entry(office: Office) -> None:
    await office.hear(ended())
    await office.work()
    await office.hear(saved(LEAD))
    call = await office.work()
    assert office.crm.sent == ["log_call", "add_note", "neutralise"]
    assert (call.state, call.leaving, office.where()) == (CallState.LOGGED, None, [LEAD])


async def test_the_result_with_the_larger_rev_counts_in_any_order(office: Office) -> None:
    await office.hear(ended())
    await office.hear(saved(OTHER, rev=2))
    await office.work()
    await office.hear(saved(LEAD, rev=1))
    call = await office.work()
    assert office.where() == [OTHER]
    assert call.result is not None
    assert call.result.rev == 2


async def test_an_open_incoming_lead_is_declined_when_the_manager_chooses(office: Office) -> None:
    office.crm.known = False
    await office.hear(ended())
    call = await office.work()
    assert call.entry is not None
    uid = call.entry.lead_uid
    assert uid is not None
    await office.hear(saved(OTHER))
    call = await office.work()
    assert office.crm.sent == ["log_call", "create_incoming_lead", "hand_over", "add_note", "decline"]
    assert office.crm.handed_over == [(1000, OTHER)]
    assert (office.where(), office.crm.leads) == ([OTHER], {uid: LeadState.DECLINED})
    assert call.lead is not None
    assert call.lead.state is LeadState.DECLINED


async def test_five_calls_in_a_minute_become_one_incoming_lead(office: Office) -> None:
    office.crm.known = False
    keys = [CallKey(ACCOUNT, f"c{number}") for number in range(1, 6)]
    for key in keys:
        await office.hear(ended(key.call_id))
    await office.until_quiet(*keys)
    assert office.crm.sent.count("create_incoming_lead") == 1
    assert len({entry.entity for _, entry in office.crm.standing}) == 1
    assert [len(office.crm.entries(key)) for key in keys] == [1] * 5


async def test_a_call_waits_while_another_of_its_number_gets_its_incoming_lead(office: Office) -> None:
    """The second is worked on at the very moment at which the first one's request has left."""
    office.crm.known = False
    await office.hear(ended("c1"))
    await office.hear(ended("c2"))
    seen: list[Call] = []

    async def meanwhile(call: Call) -> None:
        if call.key == ONE and call.nobody_at is not None:
            seen.append(await office.work(TWO))

    office.crm.on_sent = meanwhile
    await office.work(ONE)
    assert [call.entry for call in seen] == [None]
    office.crm.on_sent = None
    await office.until_quiet(ONE, TWO)
    assert office.crm.sent.count("create_incoming_lead") == 1
    assert office.where(ONE) == office.where(TWO)


@pytest.mark.parametrize("became", [LeadState.ACCEPTED, LeadState.DECLINED])
async def test_the_next_call_follows_what_became_of_the_incoming_lead(
    office: Office, became: LeadState
) -> None:
    office.crm.known = False
    await office.hear(ended("c1"))
    first = await office.work(ONE)
    assert first.entry is not None
    assert first.entry.lead_uid is not None
    office.crm.leads[first.entry.lead_uid] = became
    office.clock.forward(600)
    await office.hear(ended("c2", started_at=START + 550))
    second = await office.work(TWO)
    assert "check_lead" in office.crm.sent
    assert second.entry is not None
    if became is LeadState.ACCEPTED:
        assert second.entry.entity == first.entry.entity, "Kommo's search was behind"
        assert second.entry.lead_uid is None
    else:
        assert second.entry.entity != first.entry.entity
        assert office.crm.sent.count("create_incoming_lead") == 2


async def test_a_moved_call_leaves_the_incoming_lead_to_the_others_on_it(office: Office) -> None:
    office.crm.known = False
    await office.hear(ended("c1"))
    await office.hear(ended("c2"))
    await office.until_quiet(ONE, TWO)
    await office.hear(saved(OTHER))
    await office.work(ONE)
    assert "decline" not in office.crm.sent
    (lead,) = office.where(TWO)
    assert office.where(ONE) == [OTHER]
    await office.hear(saved(LEAD, key=TWO))
    await office.work(TWO)
    assert office.crm.sent[-1] == "decline", "nobody is left on it"
    assert lead not in office.where(TWO)


async def test_a_declined_incoming_lead_waits_for_a_contact_and_expires(office: Office) -> None:
    office.crm.known = False
    await office.hear(ended())
    await office.hear(recorded())
    call = await office.work()
    assert call.entry is not None
    assert call.entry.lead_uid is not None
    assert (call.state, call.due_at) == (CallState.LOGGED, START - 18 + HOURS_18), "whether it is declined"
    office.crm.leads[call.entry.lead_uid] = LeadState.DECLINED
    office.crm.standing.clear()
    await office.ledger.lead_sorted(ACCOUNT, call.entry.lead_uid, LeadState.DECLINED, office.clock.now())
    call = await office.work()
    assert (call.state, call.entry) == (CallState.AWAITING_CONTACT, None)
    call = await office.until_quiet()
    assert (call.state, call.recording.state) == (CallState.EXPIRED, RecordingState.DELETED)
    assert office.recordings.deleted == [ONE]
    assert office.crm.sent.count("create_incoming_lead") == 1


async def test_a_number_that_appears_wakes_its_calls(office: Office) -> None:
    office.crm.known = False
    await office.hear(ended(direction=Direction.OUTBOUND))
    call = await office.work()
    assert call.state is CallState.AWAITING_CONTACT
    office.crm.known = True
    office.clock.forward(5)
    assert await office.ledger.number_appeared(ACCOUNT, ["(212) 555-0123"], office.clock.now()) == 1
    assert await office.ledger.number_appeared(ACCOUNT, ["999"], office.clock.now()) == 0
    assert await office.ledger.number_appeared(7, ["+12125550123"], office.clock.now()) == 0
    assert (await office.work()).state is CallState.LOGGED


async def test_an_expired_call_deletes_its_recording_also_one_that_comes_later(office: Office) -> None:
    office.crm.known = False
    await office.hear(ended(direction=Direction.OUTBOUND))
    call = await office.until_quiet()
    assert call.state is CallState.EXPIRED
    await office.hear(recorded())
    call = await office.work()
    assert (call.state, call.recording.state) == (CallState.EXPIRED, RecordingState.DELETED)
    assert office.recordings.deleted == [ONE]


async def test_a_recording_is_written_into_the_note_once_it_can_be_played(office: Office) -> None:
    await office.hear(ended(recording=Recording(state=RecordingState.EXPECTED, url="https://x.test/1")))
    await office.work()
    assert office.crm.sent == ["log_call"]
    await office.hear(recorded())
    await office.hear(recorded())
    call = await office.work()
    assert office.crm.sent == ["log_call", "amend"]
    assert office.crm.amended[0].recording.state is RecordingState.READY
    assert call.state is CallState.LOGGED


@pytest.mark.parametrize("mishap", [Mishap(), failing(UNKNOWN, committed=True), failing(UNKNOWN)])
async def test_the_managers_task_is_made_once(office: Office, mishap: Mishap) -> None:
    office.crm.next("add_task", mishap)
    await office.hear(ended())
    await office.hear(saved(todo=Todo("call back", 1_770_000_000)))
    await office.until_quiet()
    assert [place for place, _ in office.crm.tasks] == [OWNER]
    await office.hear(saved(rev=2, todo=Todo("call back", 1_770_000_000)))
    call = await office.until_quiet()
    assert len(office.crm.tasks) == 1
    assert call.task_id == office.crm.tasks[0][1]


async def test_an_entity_that_kommo_refuses_is_told_and_another_choice_mends_it(office: Office) -> None:
    office.crm.next("add_note", failing(PermanentError("there is no lead 501")))
    await office.hear(ended())
    await office.hear(saved(LEAD))
    call = await office.work()
    assert (call.state, call.last_error) == (CallState.FAILED, "there is no lead 501")
    await office.hear(saved(OTHER, rev=2))
    assert (await office.work()).state is CallState.LOGGED
    assert office.where() == [OTHER]


def fresh(number: int) -> list[CallKey]:
    return [CallKey(ACCOUNT, f"b{place}") for place in range(number)]


async def backlog(office: Office, number: int = 10) -> Sequence[CallKey]:
    for place, key in enumerate(fresh(number)):
        await office.hear(ended(key.call_id, phone=f"+1212555{place:04d}"))
    return await office.ledger.due(ACCOUNT, office.clock.now(), 50)


async def test_a_backlog_is_one_request(office: Office) -> None:
    await office.worker.execute_many(await backlog(office))
    assert office.crm.sent == ["log_calls"]
    for key in fresh(10):
        assert (await office.call(key)).state is CallState.LOGGED
        assert len(office.crm.entries(key)) == 1


async def test_what_nobody_has_in_a_batch_goes_on_by_itself(office: Office) -> None:
    keys = await backlog(office)
    office.crm.strangers = set(keys[:3])
    await office.worker.execute_many(keys)
    assert office.crm.sent == ["log_calls"] + ["create_incoming_lead"] * 3
    assert all(len(office.crm.entries(key)) == 1 for key in keys)


@pytest.mark.parametrize("committed", [True, False])
async def test_a_batch_whose_answer_is_lost_is_looked_up_call_by_call(
    office: Office, *, committed: bool
) -> None:
    office.crm.next("log_calls", failing(UNKNOWN, committed=committed))
    keys = await backlog(office)
    await office.worker.execute_many(keys)
    assert office.crm.sent == ["log_calls"] + ["find"] * 10
    await office.until_quiet(*keys)
    assert all(len(office.crm.entries(key)) == 1 for key in keys)
    assert office.crm.sent.count("log_call") == (0 if committed else 10)


async def test_a_batch_that_is_refused_lets_each_show_for_itself(office: Office) -> None:
    office.crm.next("log_calls", failing(PermanentError("calls[3].phone")))
    office.crm.next("log_call", Mishap(), failing(PermanentError("phone")))
    keys = await backlog(office)
    await office.worker.execute_many(keys)
    states = [(await office.call(key)).state for key in keys]
    assert sorted(states) == ["failed"] + ["logged"] * 9


async def test_a_batch_that_did_nothing_is_due_again(office: Office) -> None:
    office.crm.next("log_calls", failing(TransientError("HTTP 429", retry_after_s=9), unsent=False))
    keys = await backlog(office)
    await office.worker.execute_many(keys)
    calls = [await office.call(key) for key in keys]
    assert {(call.state, call.due_at, call.lease) for call in calls} == {(CallState.PENDING, START + 9, None)}


async def test_due_calls_come_by_rank(office: Office) -> None:
    office.crm.next("amend", failing(TransientError("HTTP 500")))
    await office.hear(ended("old"))
    await office.work(CallKey(ACCOUNT, "old"))
    await office.hear(ended("old", duration=50))
    await office.hear(ended("new"))
    await office.hear(ended("lead"))
    office.crm.known = False
    office.crm.next("create_incoming_lead", failing(TransientError("HTTP 429"), unsent=True))
    await office.work(CallKey(ACCOUNT, "lead"))
    office.clock.forward(30)
    due = await office.ledger.due(ACCOUNT, office.clock.now(), 10)
    assert [key.call_id for key in due] == ["lead", "new", "old"]


ORDERS = list(itertools.permutations(["webhook", "result", "recording"]))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("chosen", [None, LEAD, OWNER])
async def test_the_order_of_messages_does_not_matter(
    office: Office, order: Sequence[str], chosen: EntityRef | None, *, known: bool
) -> None:
    office.crm.known = known
    events = {"webhook": ended(), "result": saved(chosen), "recording": recorded()}
    for name in order:
        await office.hear(events[name])
        await office.work()
        await office.hear(events[name])
    call = await office.until_quiet(before=START + 3600)
    assert call.state is CallState.LOGGED
    assert len(office.crm.entries(ONE)) == 1
    assert call.written_revision == call.revision
    if chosen is not None:
        assert office.where() == [chosen]
    assert replace(call, lease=None).recording.state is RecordingState.READY


async def test_a_ledger_with_too_much_to_do_is_no_mistake_of_the_call(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.crm.known = False
    await office.hear(ended(direction=Direction.OUTBOUND))
    await office.until_quiet()
    await office.hear(recorded())

    async def refuse(_message: object, _now: float) -> None:
        raise Overloaded(retry_after_s=1)

    with monkeypatch.context() as patched:
        patched.setattr(office.ledger, "accept", refuse)
        with pytest.raises(Overloaded):
            await office.work()
    call = await office.call()
    assert (call.state, call.due_at) == (CallState.EXPIRED, office.clock.now())
    office.clock.forward(60)
    assert (await office.work()).recording.state is RecordingState.DELETED
