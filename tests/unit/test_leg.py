"""What a call was, read off its legs; and that no order or repetition of their reports matters."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calllogd.domain.call import NO_FACTS, CallStatus, Direction, Facts, Leg, Outcome, Side
from calllogd.domain.leg import LEGS_MOST, assemble, merge_legs
from tests.fakes import START

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
CLIENT, STAFF = Side.CLIENT, Side.STAFF
PHONE, LINE = "+12125550123", "+15005550006"

LEGS = st.builds(
    Leg,
    id=st.sampled_from("abcd"),
    side=st.sampled_from([None, *Side]),
    direction=st.sampled_from([None, *Direction]),
    phone=st.sampled_from([None, "", "101", PHONE, "2125550123", "anonymous"]),
    extension=st.sampled_from([None, "101", "102"]),
    started_at=st.sampled_from([None, START, START + 1]),
    answered_at=st.sampled_from([None, START + 2, START + 3]),
    ended_at=st.sampled_from([None, START + 5, START + 9]),
    talk=st.sampled_from([None, 0, 3, 60]),
    status=st.sampled_from([None, *CallStatus]),
)
REPORTS = st.lists(LEGS, max_size=6).map(tuple)


@given(REPORTS, REPORTS, REPORTS)
def test_no_order_and_no_repetition_matters(one: Any, two: Any, three: Any) -> None:
    together = merge_legs(merge_legs(one, two), three)
    assert merge_legs(two, merge_legs(three, one)) == together
    assert merge_legs(together, two) == together
    assert merge_legs(merge_legs((), one), ()) == merge_legs((), one)
    assert [leg.id for leg in together] == sorted({leg.id for leg in (*one, *two, *three)})


@given(REPORTS)
def test_any_legs_are_a_call(reports: Any) -> None:
    facts = assemble(merge_legs((), reports))
    if facts.outcome is not None:
        assert facts.outcome.duration >= 0
        assert (
            facts.outcome.status in (CallStatus.ANSWERED, CallStatus.VOICEMAIL) or not facts.outcome.duration
        )
    if not any(leg.ended_at or leg.status for leg in reports):
        assert facts.outcome is None


def test_of_too_many_legs_those_are_kept_that_say_what_the_call_was() -> None:
    client = Leg("client", CLIENT, IN, PHONE, started_at=START, ended_at=START + 9000)
    rings = [
        Leg(
            f"r{number:04}",
            STAFF,
            extension=str(100 + number % 5),
            started_at=START + number,
            status=CallStatus.NO_ANSWER,
        )
        for number in range(2 * LEGS_MOST)
    ]
    picked_up = Leg(
        "picked up", STAFF, extension="104", started_at=START + 9e3, talk=30, ended_at=START + 9040
    )
    one = merge_legs(rings, [client, picked_up])
    assert len(one) == LEGS_MOST
    assert one == merge_legs(merge_legs([picked_up], rings[::-1]), [client])
    assert assemble(one).outcome == Outcome(CallStatus.ANSWERED, 30)


def test_no_legs_say_nothing() -> None:
    assert assemble(()) == NO_FACTS


def answered(name: str, start: float, end: float, **more: Any) -> Leg:
    return Leg(
        name,
        started_at=START,
        answered_at=START + start,
        ended_at=START + end,
        status=CallStatus.ANSWERED,
        **more,
    )


def rang(name: str, status: CallStatus = CallStatus.NO_ANSWER, **more: Any) -> Leg:
    return Leg(name, started_at=START + 1, ended_at=START + 20, status=status, **more)


CALLER = answered("caller", 0, 100, side=CLIENT, direction=IN, phone=PHONE)

CALLS = {
    "one leg that says everything": (
        [answered("a", 5, 68, side=STAFF, direction=IN, phone=PHONE, extension="101")],
        (IN, PHONE, "101", CallStatus.ANSWERED, 63),
    ),
    "an answered caller, of whom nobody says more": ([CALLER], (IN, PHONE, None, CallStatus.ANSWERED, 100)),
    "a caller whom the system took, and nobody else": (
        [CALLER, rang("a", side=STAFF, extension="101")],
        (IN, PHONE, "101", CallStatus.NO_ANSWER, 0),
    ),
    "a ring group, of which one answers": (
        [
            CALLER,
            rang("a", side=STAFF, extension="101"),
            answered("b", 12, 100, side=STAFF, extension="102"),
            rang("c", CallStatus.BUSY, side=STAFF, extension="103"),
        ],
        (IN, PHONE, "102", CallStatus.ANSWERED, 88),
    ),
    "a ring group, of which none answers": (
        [
            CALLER,
            rang("a", side=STAFF, extension="102"),
            rang("b", CallStatus.CANCELLED, side=STAFF, extension="101"),
        ],
        (IN, PHONE, "102", CallStatus.NO_ANSWER, 0),
    ),
    "a blind transfer": (
        [
            CALLER,
            answered("a", 5, 30, side=STAFF, extension="101"),
            answered("b", 40, 100, side=STAFF, extension="102"),
        ],
        (IN, PHONE, "102", CallStatus.ANSWERED, 85),
    ),
    "a transfer after a consultation": (
        [
            CALLER,
            answered("a", 5, 60, side=STAFF, extension="101"),
            answered("b", 50, 100, side=STAFF, extension="102"),
        ],
        (IN, PHONE, "102", CallStatus.ANSWERED, 95),
    ),
    "a consultation without a transfer": (
        [
            CALLER,
            answered("a", 5, 100, side=STAFF, extension="101"),
            answered("b", 50, 60, side=STAFF, direction=OUT, phone="102", extension="102"),
        ],
        (IN, PHONE, "101", CallStatus.ANSWERED, 95),
    ),
    "a caller who is connected to a mobile, side unknown": (
        [
            answered("parent", 0, 100, direction=IN, phone=PHONE, extension=LINE),
            answered("child", 10, 100, direction=OUT, phone="+15005550009", extension="+15005550009"),
        ],
        (IN, PHONE, "+15005550009", CallStatus.ANSWERED, 90),
    ),
    "a call out, side unknown": (
        [answered("a", 10, 73, direction=OUT, phone=PHONE, extension=PHONE)],
        (OUT, PHONE, None, CallStatus.ANSWERED, 63),
    ),
    "a softphone calls out": (
        [
            answered("parent", 0, 80, side=STAFF, direction=OUT, extension="alice"),
            answered("child", 20, 80, direction=OUT, phone=PHONE, extension=PHONE),
        ],
        (OUT, PHONE, "alice", CallStatus.ANSWERED, 60),
    ),
    "a softphone calls out in vain": (
        [
            answered("parent", 0, 30, side=STAFF, direction=OUT, extension="alice"),
            rang("child", CallStatus.BUSY, direction=OUT, phone=PHONE, extension=PHONE),
        ],
        (OUT, PHONE, "alice", CallStatus.BUSY, 0),
    ),
    "a caller who is connected to a longer number, and the first of the company's too": (
        [
            answered("a", 5, 40, side=STAFF, direction=IN, phone=PHONE, extension="101")._replace(
                started_at=START
            ),
            answered(
                "b", 45, 100, side=STAFF, direction=OUT, phone="+4915112345678901", extension="102"
            )._replace(started_at=START + 40),
        ],
        (IN, PHONE, "102", CallStatus.ANSWERED, 90),
    ),
    "a mailbox": (
        [CALLER, answered("a", 20, 50, side=STAFF, extension="101")._replace(status=CallStatus.VOICEMAIL)],
        (IN, PHONE, "101", CallStatus.VOICEMAIL, 30),
    ),
    "talk without times": (
        [CALLER, Leg("a", STAFF, extension="101", talk=7, status=CallStatus.ANSWERED)],
        (IN, PHONE, "101", CallStatus.ANSWERED, 7),
    ),
    "an end that says nothing of an answer": (
        [Leg("a", CLIENT, IN, PHONE, ended_at=START + 9)],
        (IN, PHONE, None, CallStatus.NO_ANSWER, 0),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_the_call_was(name: str) -> None:
    legs, (direction, phone, extension, status, talk) = CALLS[name]
    for order in (legs, legs[::-1]):
        facts = assemble(merge_legs((), order))
        assert (facts.direction, facts.phone, facts.outcome) == (direction, phone, Outcome(status, talk))
        assert (facts.person.extension if facts.person else None) == extension


def test_a_call_has_ended_when_the_client_is_gone() -> None:
    ringing = Leg("a", STAFF, extension="101", started_at=START + 2)
    assert assemble((Leg("c", CLIENT, IN, PHONE, started_at=START), ringing)).outcome is None
    assert assemble((CALLER, ringing)).outcome == Outcome(CallStatus.NO_ANSWER, 0)


def test_a_mailbox_that_has_answered_is_still_being_talked_to() -> None:
    mailbox = Leg("a", STAFF, extension="101", answered_at=START, status=CallStatus.VOICEMAIL)
    assert assemble((mailbox,)).outcome is None
    assert assemble((mailbox._replace(ended_at=START + 9),)).outcome == Outcome(CallStatus.VOICEMAIL, 9)


def test_a_call_of_staff_alone_has_ended_when_all_are_gone() -> None:
    one, other = rang("a", side=STAFF, extension="101"), Leg("b", STAFF, extension="102")
    assert assemble((one, other)).outcome is None
    assert assemble((one, other._replace(ended_at=START + 30))).outcome is not None


def test_the_call_started_when_its_first_leg_did() -> None:
    assert assemble((rang("a", side=STAFF), CALLER)) == Facts(
        direction=IN, phone=PHONE, started_at=START, outcome=Outcome(CallStatus.NO_ANSWER, 0)
    )
