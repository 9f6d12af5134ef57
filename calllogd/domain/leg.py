"""The legs of a call, and the one call that they are.

A VoIP service that connects people tells of each connection by itself: of the client's with the telephone
system, of each extension that rings, of each that takes part after a transfer. What it tells is folded leg
by leg, in any order and any number of times; what the call was is read off all its legs together.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeVar

from calllogd.domain.call import (
    NO_FACTS,
    CallStatus,
    Direction,
    Facts,
    Leg,
    Outcome,
    Person,
    Side,
    status_weight,
)
from calllogd.domain.phone import Kind, read

T = TypeVar("T")
Text = TypeVar("Text", bound=str)
Number = TypeVar("Number", bound=float)

LEGS_MOST = 500
"""Legs of a call that are kept: a queue may ring the same extensions for an hour."""

_LATEST = float("inf")


def merge_legs(one: Sequence[Leg], other: Sequence[Leg]) -> tuple[Leg, ...]:
    """Return what both say of each leg, by the legs' ids.

    Commutative, associative and idempotent. Of more than LEGS_MOST those are kept that matter most.
    """
    if not one and len(other) == 1:
        return (other[0],)
    reports = sorted((*one, *other), key=attrgetter("id"))
    legs = [_merged(list(same)) for _, same in groupby(reports, key=attrgetter("id"))]
    if len(legs) > LEGS_MOST:
        legs = sorted(sorted(legs, key=_importance, reverse=True)[:LEGS_MOST], key=attrgetter("id"))
    return tuple(legs)


def assemble(legs: Sequence[Leg]) -> Facts:
    """Return what the call was that these are the legs of; its outcome only once it has ended.

    It has ended when the client's connection has, or every one of which anything is known.
    """
    if not legs:
        return NO_FACTS
    legs = _with_sides(legs)
    clients = [leg for leg in legs if leg.side is Side.CLIENT]
    told = _best([leg for leg in legs if leg.phone is not None], _clearness)
    direction = None if told is None else told.direction
    if direction is None:
        direction = next(filter(None, [leg.direction for leg in (*clients, *legs)]), None)
    # Whoever starts a call is connected with the telephone system before anybody talks: the others decide.
    deciding = clients if direction is Direction.OUTBOUND else [leg for leg in legs if leg.side is Side.STAFF]
    return Facts(
        direction=direction,
        phone=None if told is None else told.phone,
        person=_person(legs),
        started_at=legs[0].started_at,
        outcome=_outcome(deciding or legs, legs) if all(map(_has_ended, clients or legs)) else None,
    )


def _merged(reports: Sequence[Leg]) -> Leg:
    """Return what the reports of one leg say together."""
    if len(reports) == 1:
        return reports[0]
    first, *others = reports
    for other in others:
        first = Leg(
            id=first.id,
            side=_greater(first.side, other.side),
            direction=_greater(first.direction, other.direction),
            phone=_clearer(first.phone, other.phone),
            extension=_greater(first.extension, other.extension),
            started_at=_least(first.started_at, other.started_at),
            answered_at=_least(first.answered_at, other.answered_at),
            ended_at=_greatest(first.ended_at, other.ended_at),
            talk=_greatest(first.talk, other.talk),
            status=max(first.status, other.status, key=_weight),
        )
    return first


def _with_sides(legs: Sequence[Leg]) -> list[Leg]:
    """Return the legs, the earliest first, each with the side of the call that it is on.

    Where the service does not say: a leg that came in is the client's. One that went out is the client's if
    nobody came in; else it went to somebody of the company, whatever his number looks like.
    """
    legs = sorted(legs, key=_start)
    others = [leg for leg in legs if leg.side is not Side.STAFF and leg.phone is not None]
    came_in = Direction.INBOUND in [leg.direction for leg in others]
    return [leg if leg.side is not None else _on_its_side(leg, came_in) for leg in legs]


def _on_its_side(leg: Leg, came_in: bool) -> Leg:
    if leg.direction is Direction.INBOUND or not came_in:
        return leg._replace(side=Side.CLIENT, extension=None)
    return leg._replace(side=Side.STAFF, direction=None, phone=None)


def _person(legs: Sequence[Leg]) -> Person | None:
    """Return who talked to the client in the end; when nobody did, who was called first."""
    named = [leg for leg in legs if leg.extension]
    last = _best([leg for leg in named if _was_answered(leg)], _lastness)
    if last is None and named:
        last = named[0]
    return None if last is None else Person(1, last.extension or "")


def _outcome(deciding: Sequence[Leg], legs: Sequence[Leg]) -> Outcome:
    answered = [leg for leg in deciding if _was_answered(leg)]
    if answered:
        return Outcome(CallStatus.ANSWERED, _talk_s(answered))
    left = [leg for leg in legs if leg.status is CallStatus.VOICEMAIL]
    if left:
        return Outcome(CallStatus.VOICEMAIL, _talk_s(left))
    status = _best([leg.status for leg in deciding if leg.status is not None], status_weight)
    return Outcome(CallStatus.NO_ANSWER if status in (None, CallStatus.ANSWERED) else status, 0)


def _talk_s(legs: Iterable[Leg]) -> int:
    """Return for how long somebody talked: what two legs share counts once."""
    spans, without_times = [], 0
    for leg in legs:
        talk = _leg_talk_s(leg)
        if leg.ended_at is None:
            without_times += talk
        else:
            spans.append((leg.ended_at - talk, leg.ended_at))
    together, until = 0.0, 0.0
    for start, end in sorted(spans):
        together += max(0.0, end - max(start, until))
        until = max(until, end)
    return round(together) + without_times


def _leg_talk_s(leg: Leg) -> int:
    if leg.talk is not None:
        return leg.talk
    if leg.answered_at is None or leg.ended_at is None:
        return 0
    return max(0, round(leg.ended_at - leg.answered_at))


def _was_answered(leg: Leg) -> bool:
    if leg.status is CallStatus.VOICEMAIL:
        return False
    return leg.status is CallStatus.ANSWERED or leg.answered_at is not None or bool(leg.talk)


def _has_ended(leg: Leg) -> bool:
    # That a machine has answered is known long before it is left.
    return leg.ended_at is not None or leg.status not in (None, CallStatus.VOICEMAIL)


def _ended_at(leg: Leg) -> float:
    return _LATEST if leg.ended_at is None else leg.ended_at


def _start(leg: Leg) -> tuple[float, str]:
    return _LATEST if leg.started_at is None else leg.started_at, leg.id


def _clearness(leg: Leg) -> tuple[bool, bool, float, str]:
    """Order legs by how well they tell the client's number: an extension that was asked back is not it."""
    start, leg_id = _start(leg)
    return leg.side is Side.CLIENT, read(leg.phone or "").kind is Kind.OUTSIDE, -start, leg_id


def _lastness(leg: Leg) -> tuple[float, float, int, str]:
    return _ended_at(leg), leg.answered_at or 0.0, leg.talk or 0, leg.id


def _importance(leg: Leg) -> tuple[bool, bool, float, str]:
    return leg.side is Side.CLIENT, _was_answered(leg), -_start(leg)[0], leg.id


def _best(values: Sequence[T], order: Callable[[T], Any]) -> T | None:
    """Return the greatest, None if there is none; mostly there is one at most, which needs no comparing."""
    return max(values, key=order) if len(values) > 1 else values[0] if values else None


def _digits(phone: str | None) -> int:
    return -1 if phone is None else len(read(phone).number.removeprefix("+"))


def _clearer(one: str | None, other: str | None) -> str | None:
    return max(one, other, key=lambda phone: (_digits(phone), phone or ""))


def _greater(one: Text | None, other: Text | None) -> Text | None:
    return max(one, other, key=lambda value: value or "")


def _least(one: Number | None, other: Number | None) -> Number | None:
    return one if other is None or (one is not None and one <= other) else other


def _greatest(one: Number | None, other: Number | None) -> Number | None:
    return one if other is None or (one is not None and one >= other) else other


def _weight(status: CallStatus | None) -> int:
    return -1_000 if status is None else status_weight(status)
