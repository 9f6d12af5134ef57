"""Calls that turn out to be one: a leg of the one goes on in the other."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calllogd.database import intake
from calllogd.database.database import Database
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import (
    Call,
    CallKey,
    CallState,
    CallStatus,
    Direction,
    Doubt,
    EntityType,
    Entry,
    Intent,
    Leg,
    Outcome,
    Person,
    Recording,
    RecordingState,
    Result,
    Side,
    Widget,
)
from calllogd.domain.joining import may_give_up
from calllogd.domain.merge import CallEvent
from calllogd.domain.plan import Finish, Policy, plan
from tests.fakes import ACCOUNT, START, told

LEASE_S = 30.0
CLIENT, OTHER = "+12125550123", "+12125550199"


def key(call_id: str) -> CallKey:
    return CallKey(ACCOUNT, call_id)


def client(at: float = START, phone: str = CLIENT) -> Leg:
    return Leg("a", Side.CLIENT, Direction.INBOUND, phone, started_at=at)


def moved(to: str, origin: str, at: float = START + 20, leg: str = "a") -> CallEvent:
    return CallEvent(key=key(to), legs=(Leg(leg, started_at=at),), moved_from=key(origin))


def told_in(call_id: str, *legs: Leg) -> CallEvent:
    return CallEvent(key=key(call_id), legs=legs)


ANN = Leg("b", Side.STAFF, None, None, "101", START + 5, START + 10, START + 20, status=CallStatus.ANSWERED)
BOB = Leg("c", Side.STAFF, None, None, "102", START + 20, START + 30, START + 60, status=CallStatus.ANSWERED)


def goes_on(to: str, origin: str, at: float = START + 20, leg: str = "a") -> list[CallEvent]:
    """Return what a service's message of a move says: the leg was there, and is here."""
    return [told_in(origin, Leg(leg)), moved(to, origin, at, leg)]


MESSAGES = [
    [told_in("one", client())],
    [told_in("one", ANN)],
    goes_on("two", "one"),
    [told_in("two", BOB)],
    [told_in("two", client()._replace(ended_at=START + 60))],
]
"""A client is put through to Ann, who moves him to a room in which he talks to Bob."""

TALE = [event for message in MESSAGES for event in message]


async def tell(ledger: LedgerOfCalls, events: Sequence[CallEvent], now: float = START + 60) -> None:
    for event in events:
        await ledger.accept(told(event), now)


async def known(ledger: LedgerOfCalls, call_id: str) -> Call:
    call = await ledger.get(key(call_id))
    assert call is not None
    return call


async def put_away(ledger: LedgerOfCalls, call_id: str, now: float = START + 100) -> None:
    """Let a call be logged."""
    call = await ledger.claim(key(call_id), now, LEASE_S)
    assert call is not None
    entry = Entry(entity_type=EntityType.CONTACTS, entity_id=7, note_id=8)
    logged = replace(call, entry=entry, state=CallState.LOGGED, written_revision=call.revision, due_at=None)
    assert await ledger.release(logged, now) is None


@given(st.permutations([*MESSAGES, *MESSAGES]), st.uuids())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_in_whatever_order_it_is_told_it_is_one_call(
    ledger: LedgerOfCalls, messages: list[list[CallEvent]], example: UUID
) -> None:
    def named(of: CallKey) -> CallKey:
        return key(f"{example} {of.call_id}")

    for event in (one for message in messages for one in message):
        origin = None if event.moved_from is None else named(event.moved_from)
        await tell(ledger, [replace(event, key=named(event.key), moved_from=origin)])
    call, part = await known(ledger, f"{example} one"), await known(ledger, f"{example} two")
    assert (call.part_of, part.part_of) == (None, call.key.call_id)
    assert (call.facts.direction, call.facts.phone) == (Direction.INBOUND, CLIENT)
    assert call.facts.person == Person(1, "102")
    assert call.facts.outcome == Outcome(CallStatus.ANSWERED, 40)
    reason = f"it is a part of call {call.key.call_id}"
    assert plan(part, START + 60, Policy()) == Finish(CallState.IGNORED, reason)


async def test_messages_that_come_at_once_are_joined_too(ledger: LedgerOfCalls) -> None:
    messages = [told(event) for event in TALE]
    await ledger.accept_all(messages, START)
    assert (await known(ledger, "two")).part_of == "one"
    assert (await known(ledger, "one")).facts.person == Person(1, "102")


async def test_part_is_looked_at_at_once_and_its_story_says_why(database: Database) -> None:
    ledger = LedgerOfCalls(database, leg_wait=10)
    await tell(ledger, [told_in("one", client())], START)
    assert (await ledger.totals(START)).queued == 0
    assert not (await ledger.accept(told(moved("two", "one")), START)).duplicate
    assert (await ledger.accept(told(moved("two", "one")), START)).duplicate
    assert (await ledger.totals(START)).queued == 1
    assert await ledger.claim(key("one"), START, LEASE_S) is None, "other legs may follow"
    part = await ledger.claim(key("two"), START, LEASE_S)
    assert part is not None
    assert part.last_error == "it is a part of call one"
    assert [line.outcome for line in await ledger.story(key("two"))] == ["new call", "one"]
    assert [line.outcome for line in await ledger.story(key("one"))] == ["new call", "nothing new"]


async def test_two_calls_become_one_as_a_whole_or_not_at_all(
    ledger: LedgerOfCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tell(ledger, [told_in("one", client())])

    def fail(*_: object, **__: object) -> None:
        raise ArithmeticError("in the middle")

    with monkeypatch.context() as broken:
        broken.setattr(intake, "tell", fail)
        with pytest.raises(ArithmeticError):
            await tell(ledger, [moved("two", "one")])
    assert await ledger.get(key("two")) is None
    await tell(ledger, [moved("two", "one")])
    assert (await known(ledger, "two")).part_of == "one"


async def test_leg_that_goes_on_and_on_is_one_call(ledger: LedgerOfCalls) -> None:
    events = [told_in("one", client()), *goes_on("two", "one"), *goes_on("three", "two", START + 40)]
    await tell(ledger, [*events, told_in("three", BOB), told_in("two", ANN)])
    assert [leg.id for leg in (await known(ledger, "one")).legs] == ["a", "b", "c"]


async def test_rooms_that_are_joined_late_are_one_call(ledger: LedgerOfCalls) -> None:
    await tell(ledger, [told_in("one", client()), told_in("two", Leg("a")), told_in("three", BOB)])
    await tell(ledger, [moved("three", "two", START + 40), moved("two", "one")])
    assert [leg.id for leg in (await known(ledger, "one")).legs] == ["a", "c"]
    await tell(ledger, [told_in("three", ANN)])
    assert [leg.id for leg in (await known(ledger, "one")).legs] == ["a", "b", "c"]


async def test_clients_who_meet_in_a_room_keep_a_call_each(ledger: LedgerOfCalls) -> None:
    other = Leg("x", Side.CLIENT, Direction.INBOUND, OTHER, started_at=START)
    await tell(ledger, [told_in("one", client()), moved("room", "one"), told_in("two", other)])
    for _ in range(2):
        await tell(ledger, [moved("room", "two", START + 30, "x")])
    two = await known(ledger, "two")
    assert (two.part_of, two.facts.phone) == (None, OTHER)
    assert two.legs == (other._replace(ended_at=START + 30),), "it has ended, or it would wait for ever"
    assert (await known(ledger, "room")).part_of == "one"


async def test_what_stands_in_kommo_is_kept(ledger: LedgerOfCalls) -> None:
    await tell(ledger, [told_in("one", client()), told_in("two", BOB)])
    await put_away(ledger, "two")
    await tell(ledger, [moved("two", "one")], START + 100)
    assert (await known(ledger, "one")).part_of == "two"
    two = await known(ledger, "two")
    assert (two.part_of, two.facts.phone) == (None, CLIENT)
    assert two.revision > two.written_revision, "the note is amended"


async def test_two_that_stand_in_kommo_stay_two(ledger: LedgerOfCalls) -> None:
    await tell(ledger, [told_in("one", client()), told_in("two", BOB)])
    await put_away(ledger, "one")
    await put_away(ledger, "two")
    await tell(ledger, [moved("two", "one")], START + 100)
    assert [(await known(ledger, one)).part_of for one in ("one", "two")] == [None, None]


async def test_what_somebody_works_on_is_not_given_up(ledger: LedgerOfCalls) -> None:
    await tell(ledger, [told_in("one", client()), told_in("two", BOB)])
    assert await ledger.claim(key("two"), START + 100, LEASE_S) is not None
    await tell(ledger, [moved("two", "one")], START + 100)
    assert (await known(ledger, "one")).part_of == "two"


async def test_everything_told_of_a_part_is_kept_with_the_call(ledger: LedgerOfCalls) -> None:
    expected = Recording(state=RecordingState.EXPECTED, url="https://voip.example/1")
    await tell(ledger, [told_in("one", client()), told_in("two", BOB)])
    await tell(ledger, [CallEvent(key=key("two"), recording=expected)])
    await tell(ledger, [CallEvent(key=key("two"), result=Result(rev=1, text="early"))])
    await tell(ledger, [CallEvent(key=key("two"), widget=Widget(expected=True))])
    await tell(ledger, [moved("two", "one")])
    call, part = await known(ledger, "one"), await known(ledger, "two")
    assert (call.recording, part.recording) == (expected, Recording())
    assert (call.result, call.widget.expected) == (Result(rev=1, text="early"), True)
    accepted = await ledger.accept(
        told(CallEvent(key=key("two"), result=Result(rev=2, text="late"))), START + 60
    )
    assert (accepted.rev, (await known(ledger, "one")).result) == (2, Result(rev=2, text="late"))


async def test_file_that_was_fetched_for_a_part_is_none_of_the_call_s(ledger: LedgerOfCalls) -> None:
    expected = Recording(state=RecordingState.EXPECTED, url="https://voip.example/1")
    await tell(ledger, [*TALE, CallEvent(key=key("two"), recording=expected)])
    ready = Recording(state=RecordingState.READY, url="https://voip.example/1", media_type="audio/wav")
    await tell(ledger, [CallEvent(key=key("two"), recording=ready)])
    assert (await known(ledger, "one")).recording == expected


@pytest.mark.parametrize(
    "made",
    [
        {"recording": Recording(state=RecordingState.READY)},
        {"task_id": 5},
        {"doubt": Doubt(intent=Intent.LOG_CALL, over_at=START, revision=1)},
        {"leaving": Entry(entity_type=EntityType.LEADS, entity_id=1)},
    ],
)
def test_of_what_something_was_made_nothing_is_given_up(made: dict[str, object]) -> None:
    call = Call(key=key("one"), arrived_at=START)
    assert may_give_up(call)
    assert not may_give_up(replace(call, **made))  # type: ignore[arg-type]
