"""The plan: every branch, and what holds for every call there can be."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calllogd.domain.call import (
    Call,
    CallKey,
    CallState,
    CallStatus,
    Direction,
    Doubt,
    EntityRef,
    EntityType,
    Entry,
    Facts,
    Intent,
    Outcome,
    Recording,
    RecordingState,
    Result,
)
from calllogd.domain.phone import Kind, read, spellings, tail
from calllogd.domain.plan import (
    END_WAIT_S,
    FRESH_S,
    POLL_FIRST_S,
    POLL_LONGEST_S,
    AddNote,
    AddTask,
    Amend,
    CheckLead,
    CreateIncomingLead,
    DeleteRecording,
    Finish,
    IncomingLeads,
    InternalCalls,
    Leave,
    LogCall,
    LookUp,
    LoseEntry,
    Policy,
    Step,
    Wait,
    becomes_incoming_lead,
    plan,
    poll_s,
)
from tests.fakes import ACCOUNT, START

POLICY = Policy()
PHONE = "+12125550123"
ANSWERED, MISSED = Outcome(CallStatus.ANSWERED, 40), Outcome(CallStatus.NO_ANSWER, 0)
ENTRY = Entry(entity_type=EntityType.CONTACTS, entity_id=7, note_id=8)


def facts(
    direction: Direction | None = Direction.INBOUND,
    outcome: Outcome | None = ANSWERED,
    phone: str | None = PHONE,
) -> Facts:
    return Facts(direction=direction, phone=phone, outcome=outcome, started_at=START)


CALL = Call(key=CallKey(ACCOUNT, "c1"), facts=facts(), arrived_at=START, due_at=START)
OUTBOUND = replace(CALL, facts=facts(Direction.OUTBOUND))
DOUBT = Doubt(intent=Intent.LOG_CALL, over_at=START, revision=1)
ENDS = START + 40 + POLICY.contact_wait


def nobody(call: Call, at: float = START, asked: int = 1) -> Call:
    return replace(call, nobody_at=at, asked=asked)


def kind(step: Step) -> object:
    """Return a step without its words."""
    match step:
        case Wait(state, until, _):
            return state, until
        case Finish(state, _):
            return state
        case _:
            return type(step)


TABLE: list[tuple[str, Call, float, object]] = [
    ("a new call is offered to Kommo", CALL, 0, LogCall),
    ("so is an outbound one", OUTBOUND, 0, LogCall),
    ("nobody has the number: incoming lead", nobody(CALL), 1, CreateIncomingLead),
    ("while Kommo's word is fresh", nobody(CALL), FRESH_S - 1, CreateIncomingLead),
    ("later Kommo is asked again", nobody(CALL), FRESH_S, LogCall),
    ("outbound: wait for a contact", nobody(OUTBOUND), 1, (CallState.AWAITING_CONTACT, START + POLL_FIRST_S)),
    ("outbound: ask again when the poll is due", nobody(OUTBOUND), POLL_FIRST_S, LogCall),
    (
        "each poll later than the one before",
        nobody(OUTBOUND, asked=3),
        1,
        (CallState.AWAITING_CONTACT, START + 4 * POLL_FIRST_S),
    ),
    (
        "the last poll is at the deadline",
        nobody(OUTBOUND, ENDS - 10, 40),
        ENDS - 9 - START,
        (CallState.AWAITING_CONTACT, ENDS),
    ),
    ("at the deadline Kommo is asked once more", nobody(OUTBOUND, ENDS - 10, 40), ENDS - START, LogCall),
    (
        "long after it, too, if it was not asked since",
        nobody(OUTBOUND, ENDS - 10, 40),
        ENDS + 9e6 - START,
        LogCall,
    ),
    (
        "expired once nobody had it at the deadline",
        nobody(OUTBOUND, ENDS, 41),
        ENDS - START,
        CallState.EXPIRED,
    ),
    ("an entry that is up to date", replace(CALL, entry=ENTRY, written_revision=1), 0, CallState.LOGGED),
    ("an entry with news", replace(CALL, entry=ENTRY, written_revision=1, revision=2), 0, Amend),
    (
        "no direction yet",
        replace(CALL, facts=facts(None)),
        0,
        (CallState.PENDING, START + POLICY.contact_wait),
    ),
    (
        "no number yet",
        replace(CALL, facts=facts(phone=None)),
        0,
        (CallState.PENDING, START + POLICY.contact_wait),
    ),
    ("nothing known for ever", replace(CALL, facts=facts(None)), POLICY.contact_wait, CallState.EXPIRED),
    ("a withheld number", replace(CALL, facts=facts(phone="anonymous")), 0, CallState.IGNORED),
    ("an empty number", replace(CALL, facts=facts(phone="")), 0, CallState.IGNORED),
    (
        "a call under way",
        replace(CALL, facts=facts(outcome=None)),
        0,
        (CallState.PENDING, START + END_WAIT_S),
    ),
    (
        "the last leg has just ended",
        replace(CALL, heard_at=START + 3),
        3 + POLICY.leg_wait - 0.01,
        (CallState.PENDING, START + 3 + POLICY.leg_wait),
    ),
    ("no further leg came", replace(CALL, heard_at=START + 3), 3 + POLICY.leg_wait, LogCall),
    (
        "news of another leg when the call stands in Kommo",
        replace(CALL, entry=ENTRY, written_revision=1, revision=2, heard_at=START),
        5,
        (CallState.LOGGED, START + POLICY.leg_wait),
    ),
    (
        "a leg without news for Kommo",
        replace(CALL, entry=ENTRY, written_revision=1, heard_at=START),
        5,
        CallState.LOGGED,
    ),
    ("an end that never came", replace(CALL, facts=facts(outcome=None)), END_WAIT_S, LogCall),
    ("doubt: look at once", replace(CALL, doubt=DOUBT), 0, LookUp),
    (
        "looked too early: wait",
        replace(CALL, doubt=replace(DOUBT, looked_at=START)),
        1,
        (CallState.IN_DOUBT, START + POLICY.doubt_wait),
    ),
    (
        "looked too early: look again once it is settled",
        replace(CALL, doubt=replace(DOUBT, looked_at=START + POLICY.doubt_wait - 1)),
        POLICY.doubt_wait,
        LookUp,
    ),
    (
        "looked when it was settled: create",
        replace(CALL, doubt=replace(DOUBT, looked_at=START + POLICY.doubt_wait)),
        POLICY.doubt_wait,
        LogCall,
    ),
    (
        "a look that ended late but began early proves nothing",
        replace(CALL, doubt=replace(DOUBT, looked_at=START + POLICY.doubt_wait - 0.001)),
        POLICY.doubt_wait + 100,
        LookUp,
    ),
    ("doubt goes before an amend", replace(CALL, entry=ENTRY, revision=2, doubt=DOUBT), 0, LookUp),
    ("doubt goes before a withheld number", replace(CALL, facts=facts(phone=""), doubt=DOUBT), 0, LookUp),
    (
        "a settled doubt about an incoming lead: ask anew, for Kommo's word is stale",
        nobody(replace(CALL, doubt=replace(DOUBT, looked_at=START + 60))),
        61,
        LogCall,
    ),
]


@pytest.mark.parametrize(("call", "after", "step"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_next_step(call: Call, after: float, step: object) -> None:
    assert kind(plan(call, START + after, POLICY)) == step


@pytest.mark.parametrize("state", CallState)
def test_the_state_itself_does_not_matter(state: CallState) -> None:
    call = replace(CALL, state=state)
    assert plan(call, START, POLICY) == plan(CALL, START, POLICY)


@pytest.mark.parametrize(
    ("policy", "outcome", "becomes"),
    [
        (IncomingLeads.ALL, ANSWERED, True),
        (IncomingLeads.ALL, MISSED, True),
        (IncomingLeads.ALL, None, True),
        (IncomingLeads.ANSWERED, ANSWERED, True),
        (IncomingLeads.ANSWERED, MISSED, False),
        (IncomingLeads.ANSWERED, Outcome(CallStatus.VOICEMAIL, 0), False),
        (IncomingLeads.ANSWERED, None, False),
        (IncomingLeads.OFF, ANSWERED, False),
        (IncomingLeads.OFF, MISSED, False),
    ],
)
def test_which_calls_become_incoming_leads(
    policy: IncomingLeads, outcome: Outcome | None, *, becomes: bool
) -> None:
    call = nobody(replace(CALL, facts=facts(outcome=outcome)))
    rules = Policy(incoming_leads=policy)
    assert becomes_incoming_lead(call, rules) is becomes
    step = plan(call, START + END_WAIT_S, rules)
    if not becomes:
        assert step == LogCall(), "the poll is due"
    assert (
        isinstance(plan(nobody(call, START + END_WAIT_S), START + END_WAIT_S, rules), CreateIncomingLead)
        is becomes
    )


LEFT_OUT = [
    "101",
    "911",
    "*21",
    "sip:101@pbx",
    "client:ann",
    "SIP/101-0000a",
    "anonymous",
    "-1",
    "+266696687",
]
BLOCKED = Policy(blocked=spellings("+61 412 345 678", None))


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("phone", LEFT_OUT)
def test_calls_without_an_outside_number_are_ignored(phone: str, direction: Direction) -> None:
    call = replace(CALL, facts=facts(direction, phone=phone))
    step = plan(call, START, POLICY)
    assert isinstance(step, Finish)
    assert step.state is CallState.IGNORED
    assert ("internal" in step.reason) is (read(phone).kind is Kind.INTERNAL)


@pytest.mark.parametrize(
    "phone", ["+61412345678", "0412 345 678", "412345678", "sip:+61412345678@host", "+61 (0)412 345 678"]
)
def test_blocked_numbers_are_ignored_however_they_are_written(phone: str) -> None:
    call = replace(CALL, facts=facts(phone=phone))
    assert plan(call, START, BLOCKED) == Finish(CallState.IGNORED, "the number is blocked by policy.blocked")
    assert plan(call, START, POLICY) == LogCall()
    assert plan(CALL, START, BLOCKED) == LogCall()


def test_internal_calls_are_logged_if_the_operator_wants_them() -> None:
    policy = Policy(internal_calls=InternalCalls.LOGGED, blocked=frozenset({"102"}))
    assert plan(replace(CALL, facts=facts(phone="101")), START, policy) == LogCall()
    assert kind(plan(replace(CALL, facts=facts(phone="102")), START, policy)) is CallState.IGNORED
    for nobody_has in ("client:ann", "anonymous", "**21*+12125550123#"):
        call = replace(CALL, facts=facts(phone=nobody_has))
        assert kind(plan(call, START, policy)) is CallState.IGNORED, (
            "there is no number that anybody could have"
        )


@pytest.mark.parametrize("phone", [*LEFT_OUT, "+61412345678"])
def test_the_manager_decides_about_calls_that_are_left_out(phone: str) -> None:
    chosen = EntityRef(EntityType.LEADS, 5)
    call = replace(CALL, facts=facts(phone=phone))
    on_entity = replace(call, result=Result(rev=1, entity=chosen))
    assert plan(on_entity, START, BLOCKED) == AddNote(chosen, None, "the manager chose it")
    assert kind(plan(replace(call, result=Result(rev=1)), START, BLOCKED)) is CallState.IGNORED
    logged = replace(on_entity, entry=Entry(entity_type=chosen.kind, entity_id=5), written_revision=1)
    assert kind(plan(logged, START, BLOCKED)) is CallState.LOGGED


@pytest.mark.parametrize("state", [RecordingState.EXPECTED, RecordingState.READY])
@pytest.mark.parametrize("phone", [*LEFT_OUT, "+61412345678"])
def test_a_call_that_is_left_out_leaves_no_recording_behind(phone: str, state: RecordingState) -> None:
    call = replace(CALL, facts=facts(phone=phone), recording=Recording(state=state))
    assert plan(call, START, BLOCKED) == DeleteRecording()


@pytest.mark.parametrize("policy", IncomingLeads)
@pytest.mark.parametrize("direction", [Direction.OUTBOUND, None])
def test_an_outbound_call_never_becomes_an_incoming_lead(
    policy: IncomingLeads, direction: Direction | None
) -> None:
    call = nobody(replace(CALL, facts=facts(direction)))
    assert not becomes_incoming_lead(call, Policy(incoming_leads=policy))


def test_the_waits_between_polls_double_up_to_half_an_hour() -> None:
    waits = [poll_s(replace(CALL, asked=asked)) for asked in range(1, 100)]
    assert waits[:6] == [60, 120, 240, 480, 960, 1800]
    assert set(waits[5:]) == {POLL_LONGEST_S}


TIMES = st.floats(-1e9, 1e9).map(lambda shift: START + shift) | st.floats(-200, 70000).map(
    lambda s: START + s
)
DOUBTS = st.builds(
    Doubt,
    intent=st.sampled_from(Intent),
    over_at=TIMES,
    revision=st.integers(1, 3),
    looked_at=st.none() | TIMES,
)
CALLS = st.builds(
    Call,
    key=st.just(CALL.key),
    facts=st.builds(
        Facts,
        direction=st.none() | st.sampled_from(Direction),
        phone=st.none() | st.text(max_size=20) | st.sampled_from([PHONE, "101", "anonymous"]),
        started_at=st.none() | TIMES,
        outcome=st.none() | st.builds(Outcome, st.sampled_from(CallStatus), st.integers(0, 10_000_000)),
    ),
    arrived_at=TIMES,
    entry=st.none() | st.just(ENTRY),
    state=st.sampled_from(CallState),
    revision=st.integers(1, 5),
    written_revision=st.integers(0, 5),
    doubt=st.none() | DOUBTS,
    nobody_at=st.none() | TIMES,
    asked=st.integers(0, 10_000),
)
POLICIES = st.builds(
    Policy,
    contact_wait=st.floats(0, 10_000_000),
    doubt_wait=st.floats(0, 10_000_000),
    result_wait=st.floats(0, 10_000_000),
    incoming_leads=st.sampled_from(IncomingLeads),
    internal_calls=st.sampled_from(InternalCalls),
    blocked=st.just(frozenset()) | st.just(spellings(PHONE, None)),
)


@given(CALLS, TIMES, POLICIES)
@settings(max_examples=300)
def test_what_holds_for_every_call(call: Call, now: float, policy: Policy) -> None:
    step = plan(call, now, policy)
    creates = isinstance(step, LogCall | CreateIncomingLead)
    if call.doubt is not None:
        proven = (
            call.doubt.looked_at is not None
            and call.doubt.looked_at >= call.doubt.over_at + policy.doubt_wait
        )
        assert proven or not creates, "nothing is created while something may stand in Kommo"
        assert proven or not isinstance(step, Finish), "nothing ends in doubt"
    if call.entry is not None:
        assert not creates, "what has an entry gets no other"
    if isinstance(step, CreateIncomingLead):
        assert call.facts.direction is Direction.INBOUND
        assert call.nobody_at is not None
    if isinstance(step, LogCall | CreateIncomingLead | CheckLead):
        phone = call.facts.phone or ""
        assert read(phone).number, "what has no number is nobody's"
        assert tail(phone) not in policy.blocked
        internal = read(phone).kind is not Kind.OUTSIDE
        assert not internal or policy.internal_calls is InternalCalls.LOGGED
    if isinstance(step, Amend):
        assert call.entry is not None
    if isinstance(step, Wait):
        assert step.until > now, "a wait is for a time to come"
        assert step.reason
    if isinstance(step, Finish):
        assert (step.state is CallState.LOGGED) == (call.entry is not None)
        assert step.state in {CallState.LOGGED, CallState.EXPIRED, CallState.IGNORED}
        assert step.reason


@given(CALLS, st.floats(0, 60), st.sampled_from(IncomingLeads), st.floats(0, 100_000))
@settings(max_examples=150)
def test_every_call_comes_to_an_end_when_nobody_ever_has_the_number(
    call: Call, latency: float, incoming_leads: IncomingLeads, contact_wait: float
) -> None:
    """Plays the worker with a clock of its own: each request takes `latency`."""
    policy = Policy(incoming_leads=incoming_leads, contact_wait=contact_wait)
    now = max(call.arrived_at, call.facts.started_at or 0, START)
    call = replace(call, nobody_at=None if call.nobody_at is None else min(call.nobody_at, now))
    # Kommo is asked every half an hour, of a call that lasts a hundred days too.
    for _ in range(15_000):
        match plan(call, now, policy):
            case Finish(state, _):
                assert state in {CallState.LOGGED, CallState.EXPIRED, CallState.IGNORED}
                return
            case Wait(_, until, _):
                now = max(until, now + 1)
            case LookUp():
                assert call.doubt is not None
                call = replace(call, doubt=replace(call.doubt, looked_at=now))
                now += latency
            case LogCall():
                now += latency
                call = replace(call, doubt=None, nobody_at=now, asked=call.asked + 1)
            case CreateIncomingLead() | Amend() | AddNote():
                call = replace(call, doubt=None, entry=ENTRY, written_revision=call.revision)
            case AddTask() | CheckLead() | LoseEntry() | Leave() | DeleteRecording() as step:
                pytest.fail(f"not for this call: {step}")
    pytest.fail(f"no end: {call}")
