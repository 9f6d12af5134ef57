"""Two calls that turn out to be one: a leg that was in the first goes on in the second.

Some VoIP services move the legs of a call to a room that has an id of its own, to put it on hold, into a
queue or through to somebody else. Whoever talks in that room is still the same client.
"""

from dataclasses import replace

from calllogd.domain.call import NO_RECORDING, Call, CallKey, RecordingState, Side
from calllogd.domain.merge import CallEvent
from calllogd.domain.phone import tail

_NOT_OURS_YET = (RecordingState.NONE, RecordingState.NEVER, RecordingState.EXPECTED)


def may_be_one(one: Call, other: Call) -> bool:
    """Tell whether two calls may have the same client; those with two meet in a conference."""
    known, others = _clients(one), _clients(other)
    return not known or not others or not known.isdisjoint(others)


def may_give_up(call: Call) -> bool:
    """Tell whether a call may become a part of another: nothing was made of it yet, in Kommo or here."""
    untouched = (call.entry, call.leaving, call.task_id, call.doubt, call.lease)
    return all(one is None for one in untouched) and call.recording.state in _NOT_OURS_YET


def told_of(call: Call, key: CallKey) -> CallEvent:
    """Return everything that was told of a call, as news of the call it is a part of."""
    return CallEvent(
        key=key, legs=call.legs, recording=call.recording, widget=call.widget, result=call.result
    )


def as_part(event: CallEvent, key: CallKey) -> CallEvent:
    """Return news of a part as news of the call it is a part of.

    A file of ours that is kept under the part's id is not found under the other's.
    """
    kept = event.recording.state in _NOT_OURS_YET
    return replace(event, key=key, recording=event.recording if kept else NO_RECORDING)


def left_behind(event: CallEvent, key: CallKey) -> CallEvent:
    """Return that the legs of an event have ended where they were before: the call goes on without them."""
    return CallEvent(key=key, legs=tuple(leg._replace(ended_at=leg.started_at) for leg in event.legs))


def _clients(call: Call) -> frozenset[str]:
    """Return the numbers of those who are known to be clients."""
    phones = (leg.phone for leg in call.legs if leg.side is Side.CLIENT)
    return frozenset(tail(phone) for phone in phones if phone)
