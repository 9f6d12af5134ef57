"""What arrives about a call, folded into what is known: in any order, any number of times, the same call.

Each field of `Facts` and `Recording` has an order of its own in which the greater value wins and None is
the least. Folding is therefore commutative, associative and idempotent, and the sender may repeat, reorder
and contradict himself without the entry in Kommo depending on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from calllogd.domain.call import (
    NO_RECORDING,
    Call,
    CallKey,
    CallStatus,
    Facts,
    Outcome,
    Recording,
    RecordingState,
)

T = TypeVar("T")

_STATUS_WEIGHT = {status: -place for place, status in enumerate(CallStatus)}
_RECORDING_WEIGHT = {
    RecordingState.NONE: 0,
    RecordingState.NEVER: 1,
    RecordingState.EXPECTED: 2,
    RecordingState.FAILED: 3,
    RecordingState.READY: 4,
    RecordingState.DELETED: 5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvent:
    """What one message says about one call."""

    key: CallKey
    facts: Facts
    recording: Recording = NO_RECORDING


def fold(call: Call | None, event: CallEvent, now: float) -> Call:
    """Return the call as it is known after `event`; the very same object if the event says nothing new.

    News raise the revision and make the call due at once; what they mean is for `plan` to say.
    """
    if call is None:
        return Call(key=event.key, facts=event.facts, recording=event.recording, arrived_at=now, due_at=now)
    facts = merge_facts(call.facts, event.facts)
    recording = merge_recordings(call.recording, event.recording)
    if facts == call.facts and recording == call.recording:
        return call
    return replace(call, facts=facts, recording=recording, revision=call.revision + 1, due_at=now)


def merge_facts(one: Facts, other: Facts) -> Facts:
    """Return what both reports together say."""
    return Facts(
        direction=_greater(one.direction, other.direction, str),
        phone=_greater(one.phone, other.phone, _by_digits),
        person=_greater(one.person, other.person, tuple),
        started_at=_greater(one.started_at, other.started_at, _earlier),
        outcome=_greater(one.outcome, other.outcome, _by_weight),
    )


def merge_recordings(one: Recording, other: Recording) -> Recording:
    """Return the one that is further on; of two at the same point the one with the greater address."""
    return max(one, other, key=lambda recording: (_RECORDING_WEIGHT[recording.state], recording.url or ""))


def _greater(one: T | None, other: T | None, order: Callable[[T], Any]) -> T | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other, key=order)


def _by_digits(phone: str) -> tuple[int, str]:
    return sum(character.isdigit() for character in phone), phone


def _earlier(started_at: float) -> float:
    return -started_at


def _by_weight(outcome: Outcome) -> tuple[int, int]:
    return _STATUS_WEIGHT[outcome.status], outcome.duration
