"""What Kommo's widget says of a call: one JSON object a message, as the integrator's guide describes it."""

from typing import Annotated, Literal, NamedTuple

import msgspec

from calllogd.domain.call import (
    CallKey,
    CallStatus,
    Direction,
    EntityRef,
    EntityType,
    Facts,
    Outcome,
    Person,
    Result,
    Todo,
    Widget,
)
from calllogd.domain.merge import CallEvent
from calllogd.voip.fields import YEAR_2000, YEAR_2100, checked_call_id, decoded, start_of

TEXT_MOST = 10_000
"""Characters of a call result, and of a task."""

_WORDS = {
    "direction": tuple(Direction),
    "entity.type": (EntityType.LEADS, EntityType.CONTACTS, EntityType.COMPANIES),
}

_Phone = Annotated[str, msgspec.Meta(max_length=64)]
_Duration = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
_Id = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
_Rev = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
_Text = Annotated[str, msgspec.Meta(max_length=TEXT_MOST)]


class WidgetUser(NamedTuple):
    """Who uses the widget: a Kommo user of one account.

    `origin` is the account's address, without a slash at the end. `is_admin` is None where Kommo has not
    said.
    """

    account_id: int
    user_id: int
    origin: str
    is_admin: bool | None = None


class _Entity(msgspec.Struct):
    type: Literal["leads", "contacts", "companies"]
    id: _Id


class _Task(msgspec.Struct):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_MOST)]
    complete_till: Annotated[int, msgspec.Meta(ge=YEAR_2000, le=YEAR_2100)]


class _Result(msgspec.Struct):
    """A call result as it comes; what is not listed here is passed over."""

    rev: _Rev
    text: _Text = ""
    status: Annotated[int, msgspec.Meta(ge=1, le=7)] | None = None
    entity: _Entity | None = None
    task: _Task | None = None
    direction: Direction | None = None
    phone: _Phone | None = None
    started_at: float | str | None = None
    duration: _Duration | None = None


class _Announcement(msgspec.Struct):
    """An announced call as it comes; what is not listed here is passed over."""

    direction: Direction
    phone: _Phone
    started_at: float | str | None = None
    duration: _Duration | None = None


class _Nothing(msgspec.Struct):
    """A message that says all by its address."""


_decode_result = msgspec.json.Decoder(_Result).decode
_decode_announcement = msgspec.json.Decoder(_Announcement).decode
_decode_nothing = msgspec.json.Decoder(_Nothing).decode


def parse_result(user: WidgetUser, call_id: str, body: bytes, now: float) -> tuple[CallEvent, Result]:
    """Return what a call result says, and the result itself; raises InputRefused."""
    key = _key(user, call_id)
    said = decoded(_decode_result, body, _WORDS)
    result = Result(
        rev=said.rev,
        text=said.text,
        status=said.status,
        entity=None if said.entity is None else EntityRef(EntityType(said.entity.type), said.entity.id),
        todo=None if said.task is None else Todo(said.task.text, said.task.complete_till),
    )
    return CallEvent(key=key, widget=Widget(facts=_facts(user, said, now)), result=result), result


def parse_announcement(user: WidgetUser, call_id: str, body: bytes, now: float) -> CallEvent:
    """Return what the news of a call that is being made inside Kommo says; raises InputRefused."""
    key = _key(user, call_id)
    said = decoded(_decode_announcement, body, _WORDS)
    return CallEvent(key=key, widget=Widget(facts=_facts(user, said, now), expected=True))


def parse_skip(user: WidgetUser, call_id: str, body: bytes) -> CallEvent:
    """Return what it says that the manager gives no result; raises InputRefused.

    The body may be empty; what is in it is passed over.
    """
    key = _key(user, call_id)
    if body:
        decoded(_decode_nothing, body, {})
    return CallEvent(key=key, widget=Widget(skipped=True))


def _key(user: WidgetUser, call_id: str) -> CallKey:
    return CallKey(user.account_id, checked_call_id(call_id))


def _facts(user: WidgetUser, said: _Result | _Announcement, now: float) -> Facts:
    """Return what the widget knows of the call: the VoIP service's word counts more, if it comes."""
    return Facts(
        direction=said.direction,
        phone=said.phone,
        # Whoever is not named by the VoIP service is most likely the one who has the call on his screen.
        person=Person(0, user_id=user.user_id),
        started_at=start_of(said.started_at, now),
        outcome=_outcome(said.duration),
    )


def _outcome(duration: int | None) -> Outcome | None:
    if duration is None:
        return None
    return Outcome(CallStatus.ANSWERED if duration else CallStatus.NO_ANSWER, duration)
