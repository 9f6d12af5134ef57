"""Whatever comes, in whatever order and how often: the same call."""

import itertools
from dataclasses import replace
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calllogd.domain.call import (
    Call,
    CallKey,
    CallStatus,
    Direction,
    Facts,
    Leg,
    Outcome,
    Person,
    Recording,
    RecordingState,
    Side,
)
from calllogd.domain.merge import CallEvent, content, fold, merge_facts, merge_recordings
from tests.fakes import ACCOUNT, START, ended

KEY = CallKey(ACCOUNT, "c1")
# Few values, so that reports agree, contradict and tie often.
FACTS = st.builds(
    Facts,
    direction=st.sampled_from([None, *Direction]),
    phone=st.sampled_from(
        [None, "", "5550123", "+1 212 555 0123", "2125550123", "(212) 555-0123", "anon", "sip:101@10.0.0.1"]
    ),
    person=st.none()
    | st.builds(Person, st.integers(0, 4), st.sampled_from(["", "101", "102"]), st.integers(0, 2)),
    started_at=st.none() | st.sampled_from([START, START + 1, START - 0.5]),
    outcome=st.none() | st.builds(Outcome, st.sampled_from(CallStatus), st.integers(0, 3)),
)
RECORDINGS = st.builds(
    Recording,
    state=st.sampled_from(RecordingState),
    url=st.sampled_from([None, "https://voip.example/a", "https://voip.example/b"]),
)
LEGS = st.builds(
    Leg,
    id=st.sampled_from("ab"),
    side=st.sampled_from([None, *Side]),
    direction=st.sampled_from([None, *Direction]),
    phone=st.sampled_from([None, "101", "+1 212 555 0123"]),
    extension=st.sampled_from([None, "101", "102"]),
    started_at=st.sampled_from([None, START, START - 1]),
    answered_at=st.sampled_from([None, START]),
    ended_at=st.sampled_from([None, START + 5]),
    talk=st.sampled_from([None, 0, 5]),
    status=st.sampled_from([None, *CallStatus]),
)
EVENTS = st.builds(
    CallEvent,
    key=st.just(KEY),
    facts=FACTS,
    legs=st.just(()) | st.lists(LEGS, max_size=2).map(tuple),
    recording=RECORDINGS,
)


def folded(events: list[CallEvent]) -> Call:
    call = reduce(lambda call, event: fold(call, event, START), events[1:], fold(None, events[0], START))
    assert call is not None
    return call


@given(FACTS, FACTS)
def test_merging_facts_is_commutative(one: Facts, other: Facts) -> None:
    assert merge_facts(one, other) == merge_facts(other, one)


@given(FACTS, FACTS, FACTS)
def test_merging_facts_is_associative(one: Facts, two: Facts, three: Facts) -> None:
    assert merge_facts(merge_facts(one, two), three) == merge_facts(one, merge_facts(two, three))


@given(FACTS, FACTS)
def test_merging_facts_is_idempotent(one: Facts, other: Facts) -> None:
    assert merge_facts(one, one) == one
    both = merge_facts(one, other)
    assert merge_facts(both, one) == merge_facts(both, other) == both


@given(FACTS)
def test_a_report_that_says_nothing_changes_nothing(facts: Facts) -> None:
    assert merge_facts(facts, Facts()) == merge_facts(Facts(), facts) == facts


@given(RECORDINGS, RECORDINGS, RECORDINGS)
def test_merging_recordings_is_commutative_associative_and_idempotent(
    one: Recording, two: Recording, three: Recording
) -> None:
    assert merge_recordings(one, two) == merge_recordings(two, one)
    assert merge_recordings(merge_recordings(one, two), three) == merge_recordings(
        one, merge_recordings(two, three)
    )
    assert merge_recordings(one, one) == one


@given(st.data(), st.lists(EVENTS, min_size=1, max_size=5))
def test_any_order_with_any_repeats_makes_the_same_call(data: st.DataObject, events: list[CallEvent]) -> None:
    repeats = data.draw(st.lists(st.sampled_from(events), max_size=4), label="repeats")
    shuffled = data.draw(st.permutations([*events, *repeats]), label="as they came")
    one, other = folded(events), folded(shuffled)
    assert (one.facts, one.recording) == (other.facts, other.recording)


@given(st.lists(EVENTS, min_size=1, max_size=5))
def test_the_same_message_again_is_the_very_same_call(events: list[CallEvent]) -> None:
    call = folded(events)
    for event in events:
        assert fold(call, event, START + 9) is call


@given(st.lists(EVENTS, min_size=1, max_size=6))
def test_the_revision_grows_with_news_and_only_then(events: list[CallEvent]) -> None:
    call = fold(None, events[0], START)
    assert call.revision == 1
    for event in events[1:]:
        before, call = call, fold(call, event, START + 9)
        news = (before.facts, before.recording) != (call.facts, call.recording)
        assert call.revision == before.revision + (content(before) != content(call))
        # A leg does not put off what is due already.
        assert call.due_at == (START + 9 if news and not event.legs else before.due_at)


def test_the_first_message_makes_a_call_that_is_due_at_once() -> None:
    call = fold(None, ended(), START)
    assert (call.arrived_at, call.due_at, call.revision, call.written_revision) == (START, START, 1, 0)
    assert (call.key, call.facts) == (KEY, ended().facts)


def test_news_leave_alone_what_is_not_the_reporters_to_say() -> None:
    call = replace(
        fold(None, ended(status=CallStatus.NO_ANSWER), START), attempts=3, asked=2, nobody_at=START
    )
    news = fold(call, ended(), START + 5)
    assert (news.attempts, news.asked, news.nobody_at, news.arrived_at) == (3, 2, START, START)


@pytest.mark.parametrize(("better", "worse"), list(itertools.combinations(CallStatus, 2)))
def test_of_two_endings_the_better_counts_whichever_comes_last(better: CallStatus, worse: CallStatus) -> None:
    facts = [Facts(outcome=Outcome(better, 0)), Facts(outcome=Outcome(worse, 99))]
    assert merge_facts(*facts).outcome == merge_facts(*reversed(facts)).outcome == Outcome(better, 0)


def test_a_no_answer_never_overwrites_an_answered() -> None:
    call = folded([ended(duration=42), ended(status=CallStatus.NO_ANSWER, duration=0)])
    assert call.facts.outcome == Outcome(CallStatus.ANSWERED, 42)
    assert call.revision == 1


@pytest.mark.parametrize(
    ("field", "better", "worse"),
    [
        ("phone", "+1 212 555 0123", "555 0123"),
        ("phone", "5550123", "sip:101@192.168.10.200:5060"),
        ("phone", "101", "anonymous"),
        ("phone", "5550123", "+266696687"),
        ("person", Person(3, "101"), Person(1, "999")),
        ("started_at", START, START + 5),
        ("outcome", Outcome(CallStatus.ANSWERED, 43), Outcome(CallStatus.ANSWERED, 42)),
        ("direction", Direction.INBOUND, None),
    ],
)
def test_the_fuller_report_counts(field: str, better: object, worse: object) -> None:
    one, other = replace(Facts(), **{field: better}), replace(Facts(), **{field: worse})  # type: ignore[arg-type]  # a field by its name
    assert merge_facts(one, other) == merge_facts(other, one) == one


@pytest.mark.parametrize(
    ("further", "back"),
    list(
        itertools.combinations(
            [
                RecordingState.DELETED,
                RecordingState.READY,
                RecordingState.FAILED,
                RecordingState.EXPECTED,
                RecordingState.NEVER,
                RecordingState.NONE,
            ],
            2,
        )
    ),
)
def test_a_recording_never_goes_back(further: RecordingState, back: RecordingState) -> None:
    one, other = (
        Recording(state=further, url="https://v.example/a"),
        Recording(state=back, url="https://v.example/z"),
    )
    assert merge_recordings(one, other) == merge_recordings(other, one) == one


def test_legs_say_what_the_call_was_whatever_else_was_told() -> None:
    leg = Leg("a", Side.CLIENT, Direction.INBOUND, "+1 212 555 0123", ended_at=START + 5, talk=5)
    told = CallEvent(key=KEY, facts=Facts(direction=Direction.OUTBOUND, phone="101"))
    for events in itertools.permutations([told, CallEvent(key=KEY, legs=(leg,))]):
        facts = folded(list(events)).facts
        assert (facts.direction, facts.phone) == (Direction.INBOUND, "+1 212 555 0123")
        assert facts.outcome == Outcome(CallStatus.ANSWERED, 5)


def test_only_news_of_legs_begin_the_quiet_time_anew() -> None:
    leg = Leg("a", Side.CLIENT, Direction.INBOUND, "5550123")
    call = fold(None, CallEvent(key=KEY, legs=(leg,)), START)
    assert call.heard_at == START
    assert fold(call, CallEvent(key=KEY, legs=(leg,)), START + 5) is call
    heard = fold(call, CallEvent(key=KEY, recording=Recording(state=RecordingState.EXPECTED)), START + 5)
    assert heard.heard_at == START
    assert fold(heard, CallEvent(key=KEY, legs=(leg._replace(talk=3),)), START + 7).heard_at == START + 7
    assert fold(None, CallEvent(key=KEY, facts=call.facts), START).heard_at is None


def test_news_of_a_leg_are_due_when_others_could_have_followed() -> None:
    leg = Leg("a", Side.CLIENT, Direction.INBOUND, "5550123")
    call = fold(None, CallEvent(key=KEY, legs=(leg,)), START, 10)
    assert call.due_at == START + 10
    more = fold(call, CallEvent(key=KEY, legs=(leg._replace(talk=3),)), START + 5, 10)
    assert more.due_at == START + 10
    assert fold(
        replace(call, due_at=None), CallEvent(key=KEY, legs=(leg._replace(talk=3),)), START + 5, 10
    ).due_at == (START + 15)
    told = fold(call, CallEvent(key=KEY, recording=Recording(state=RecordingState.EXPECTED)), START + 5, 10)
    assert told.due_at == START + 5
