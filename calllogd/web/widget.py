"""The addresses of Kommo's widget: what a manager says of a call, and how the call stands."""

from typing import Any

from aiohttp import web

from calllogd.domain.call import Call, CallState, EntityRef, EntityType, Result
from calllogd.ports import Accepted
from calllogd.voip.widget import WidgetUser
from calllogd.web.body import read_body
from calllogd.web.desk import DESK_KEY
from calllogd.web.problems import problem
from calllogd.web.widget_door import answered, let_in

_WAITING = {
    CallState.PENDING: "will be logged",
    CallState.AWAITING_RESULT: "waits for the call result",
    CallState.IN_DOUBT: "Kommo's answer was lost; calllogd looks whether the call was logged",
    CallState.AWAITING_CONTACT: "nobody has the number; will be logged when a contact with it appears",
    CallState.EXPIRED: "not logged: no contact with the number appeared in time",
    CallState.IGNORED: "not logged: such calls are left out",
    CallState.FAILED: "not logged: the operator of calllogd has to help",
}

_KINDS = {
    EntityType.LEADS: "lead",
    EntityType.CONTACTS: "contact",
    EntityType.COMPANIES: "company",
    EntityType.CUSTOMERS: "customer",
}


async def save_result(request: web.Request) -> web.Response:
    """Store a call result; 200 once it is on disk, 409 when another one counts."""
    body = await read_body(request)
    with await request.app[DESK_KEY].services() as services:
        widget, user = let_in(request, services)
        saved = await widget.save_call_result.save(user, _call_id(request), body)
    if not saved.counts:
        return problem(
            "conflict",
            f"another result of this call counts: the one with rev {saved.rev}",
            more={"rev": saved.rev},
        )
    return _stored(request, saved.accepted, rev=saved.rev)


async def skip_result(request: web.Request) -> web.Response:
    """Store that there will be no call result; 200 once it is on disk."""
    body = await read_body(request)
    with await request.app[DESK_KEY].services() as services:
        widget, user = let_in(request, services)
        accepted = await widget.save_call_result.skip(user, _call_id(request), body)
    return _stored(request, accepted)


async def announce_call(request: web.Request) -> web.Response:
    """Store that a call is being made inside Kommo; 200 once it is on disk."""
    body = await read_body(request)
    with await request.app[DESK_KEY].services() as services:
        widget, user = let_in(request, services)
        accepted = await widget.save_call_result.expect(user, _call_id(request), body)
    return _stored(request, accepted)


async def show_call(request: web.Request) -> web.Response:
    """Tell what is known of a call, where it stands or will stand, and why."""
    with await request.app[DESK_KEY].services() as services:
        widget, user = let_in(request, services)
        call = await widget.show_call.execute(user, _call_id(request))
    return answered(live(call, user))


def live(call: Call, user: WidgetUser) -> dict[str, Any]:
    """Return a call as its user sees it; what is not known is null."""
    known, result = call.known, call.result
    return {
        "call_id": call.key.call_id,
        "state": call.state,
        "rev": None if result is None else result.rev,
        "direction": known.direction,
        "phone": known.phone,
        "started_at": call.started_at,
        "duration": None if known.outcome is None else known.outcome.duration,
        "entity": None if call.entry is None else place_of(call.entry.entity, user),
        "reason": reason(call),
        "recording": call.recording.state,
        "result": None if result is None else _result(result, user),
    }


def reason(call: Call) -> str:
    """Return in plain words where a call stands and why, or why it does not stand anywhere yet."""
    chosen = call.chosen
    if call.state is not CallState.LOGGED:
        words = call.last_error or _WAITING[call.state]
        is_moving = chosen is not None and call.state in (CallState.PENDING, CallState.AWAITING_RESULT)
        return f"{words}; goes to {_named(chosen)}, as chosen" if chosen and is_moving else words
    if call.entry is None:
        return "logged"
    if call.entry.entity == chosen:
        return f"logged on {_named(chosen)}, as chosen"
    if call.entry.lead_uid is not None:
        return "nobody had the number, so the call stands on an incoming lead"
    return f"logged on {_named(call.entry.entity)}, which Kommo found by the number"


def _call_id(request: web.Request) -> str:
    return request.match_info["call_id"]


def _stored(request: web.Request, accepted: Accepted, **more: int) -> web.Response:
    return answered({"call_id": _call_id(request), "state": accepted.state, **more})


def _result(result: Result, user: WidgetUser) -> dict[str, Any]:
    return {
        "rev": result.rev,
        "text": result.text,
        "status": result.status,
        "entity": None if result.entity is None else place_of(result.entity, user),
        "task": None if result.todo is None else result.todo._asdict(),
    }


def place_of(entity: EntityRef, user: WidgetUser) -> dict[str, Any]:
    """Return an entity as the widget sees it, with its address."""
    return {
        "type": entity.kind,
        "id": entity.id,
        "url": f"{user.origin}/{entity.kind.value}/detail/{entity.id}",
    }


def _named(entity: EntityRef) -> str:
    return f"{_KINDS[entity.kind]} {entity.id}"
