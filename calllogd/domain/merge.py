"""What arrives about a call, folded into what is known: in any order, any number of times, the same call.

Each field has an order of its own in which the greater value wins and None is
the least. Folding is therefore commutative, associative and idempotent, and the sender may repeat, reorder
and contradict himself without the entry in Kommo depending on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from calllogd.domain.call import (
    NO_FACTS,
    NO_RECORDING,
    NO_WIDGET,
    Call,
    CallKey,
    Facts,
    Leg,
    Outcome,
    Recording,
    RecordingState,
    Result,
    Widget,
    status_weight,
)
from calllogd.domain.leg import assemble, merge_legs
from calllogd.domain.phone import read

T = TypeVar("T")

_RECORDING_WEIGHT = {
    RecordingState.NONE: 0,
    RecordingState.NEVER: 1,
    RecordingState.EXPECTED: 2,
    RecordingState.FAILED: 3,
    RecordingState.READY: 4,
    RecordingState.DELETED: 5,
}


@dataclass(frozen=True, kw_only=True)
class CallEvent:
    """What one message says about one call: its facts, or those of some of its legs.

    `moved_from` is the call, known by then, that these legs were in before they were moved to this one, and
    `started_at` of each is when that was: both are one call, unless there is a client in each.
    """

    key: CallKey
    facts: Facts = NO_FACTS
    legs: tuple[Leg, ...] = ()
    recording: Recording = NO_RECORDING
    widget: Widget = NO_WIDGET
    result: Result | None = None
    moved_from: CallKey | None = None

    @cached_property
    def first_legs(self) -> tuple[Leg, ...]:
        """The legs of a call of which nothing else is known."""
        return merge_legs((), self.legs)

    @cached_property
    def first_facts(self) -> Facts:
        """The facts of a call of which nothing else is known."""
        return assemble(self.first_legs) if self.legs else self.facts


def fold(call: Call | None, event: CallEvent, now: float, leg_wait: float = 0.0) -> Call:
    """Return the call as it is known after `event`; the very same object if the event says nothing new.

    News make the call due at once, those of a leg after `leg_wait` seconds, for others may follow; and raise
    its revision if something else should stand in Kommo now. What is to be done is for `plan` to say.
    """
    due_at = now + leg_wait if event.legs else now
    if call is None:
        return Call(
            key=event.key,
            facts=event.first_facts,
            legs=event.first_legs,
            heard_at=now if event.legs else None,
            widget=event.widget,
            result=event.result,
            recording=event.recording,
            arrived_at=now,
            due_at=due_at,
        )
    legs = merge_legs(call.legs, event.legs) if event.legs else call.legs
    folded = replace(
        call,
        facts=assemble(legs) if legs else merge_facts(call.facts, event.facts),
        legs=legs,
        widget=merge_widgets(call.widget, event.widget),
        result=newer(call.result, event.result),
        recording=merge_recordings(call.recording, event.recording),
    )
    if folded == call:
        return call
    heard_at = call.heard_at if legs == call.legs else now
    news = content(folded) != content(call)
    if event.legs and call.due_at is not None:
        due_at = min(due_at, call.due_at)
    return replace(folded, revision=call.revision + news, due_at=due_at, heard_at=heard_at)


def content(call: Call) -> tuple[object, ...]:
    """Return all that an entry says of a call, and where it should stand."""
    known, result = call.known, call.result
    return (
        known.direction,
        known.phone,
        known.person,
        known.outcome,
        None if result is None else (result.text, result.status, result.entity),
        call.recording.state is RecordingState.READY,
    )


def newer(one: Result | None, other: Result | None) -> Result | None:
    """Return the result with the larger `rev`; of two that differ in nothing else, always the same one."""
    return _greater(one, other, _by_rev)


def merge_widgets(one: Widget, other: Widget) -> Widget:
    """Return what both say."""
    if other in (NO_WIDGET, one):
        return one
    return Widget(
        facts=merge_facts(one.facts, other.facts),
        expected=one.expected or other.expected,
        skipped=one.skipped or other.skipped,
    )


def merge_facts(one: Facts, other: Facts) -> Facts:
    """Return what both reports together say."""
    return Facts(
        direction=_greater(one.direction, other.direction, str),
        phone=_greater(one.phone, other.phone, _by_reading),
        person=_greater(one.person, other.person, tuple),
        started_at=_greater(one.started_at, other.started_at, _earlier),
        outcome=_greater(one.outcome, other.outcome, _by_weight),
    )


def merge_recordings(one: Recording, other: Recording) -> Recording:
    """Return the one that is further on; of two at the same point the one with the greater address."""
    return max(one, other, key=_by_progress)


def _greater(one: T | None, other: T | None, order: Callable[[T], Any]) -> T | None:
    if one is None or other is None or one == other:
        return other if one is None else one
    return max(one, other, key=order)


def _by_reading(phone: str) -> tuple[int, str]:
    # What stands around an extension has digits too; outside numbers have more than any extension.
    return len(read(phone).number.removeprefix("+")), phone


def _earlier(started_at: float) -> float:
    return -started_at


def _by_weight(outcome: Outcome) -> tuple[int, int]:
    return status_weight(outcome.status), outcome.duration


def _by_progress(recording: Recording) -> tuple[int, str, str]:
    return _RECORDING_WEIGHT[recording.state], recording.url or "", recording.media_type or ""


def _by_rev(result: Result) -> tuple[int, str]:
    return result.rev, repr(result)
