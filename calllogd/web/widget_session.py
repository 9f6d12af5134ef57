"""The beginning of the widget's work: POST /widget/v1/session, and the calls it left open last time."""

import asyncio
from typing import Any

from aiohttp import web

from calllogd import __version__
from calllogd.domain.call import Call
from calllogd.errors import InputRefused, KommoError
from calllogd.voip.widget import WidgetUser
from calllogd.web.body import read_body
from calllogd.web.desk import DESK_KEY
from calllogd.web.services import DoorServices
from calllogd.web.widget_door import answered, door_of, identified, let_in, must_be_active

LISTED_S = 2.0
"""How long a session waits for Kommo to tell whether its user is an administrator."""

OPEN_MOST = 20


async def open_session(request: web.Request) -> web.Response:
    """Give a ticket for the event stream, and what the widget should know at its start."""
    await read_body(request)
    with await request.app[DESK_KEY].services() as services:
        widget, user = identified(request, services)
        door = door_of(widget)
        is_admin = await _is_admin(door, user)
        # Afterwards: he may have been switched on again.
        must_be_active(door, user)
        own = await _extensions(door, user)
        shown, ticket = door.tickets.issue(user.account_id, user.user_id)
        return answered(
            {
                "ticket": shown,
                "expires_at": ticket.expires_at,
                "extension": min(own, default=None),
                "is_admin": is_admin,
                "server_time": door.clock.now(),
                "version": __version__,
                "settings": {"result_wait": door.result_wait_s},
            }
        )


async def list_open_calls(request: web.Request) -> web.Response:
    """Tell which of the user's calls still want a result."""
    with await request.app[DESK_KEY].services() as services:
        widget, user = let_in(request, services)
        door = door_of(widget)
        if request.query.getall("open", []) != ["1"]:
            raise InputRefused("invalid", "open=1 is needed: there is no other list")
        own = await _extensions(door, user)
        calls = await door.open_calls.of_user(*user[:2], own, door.clock.now(), OPEN_MOST)
        return answered({"calls": [_open(call) for call in calls]})


async def _is_admin(door: DoorServices, user: WidgetUser) -> bool | None:
    """Tell whether Kommo lists a user as an administrator; None when it does not tell in time."""
    try:
        async with asyncio.timeout(LISTED_S):
            listed = await door.users.user(user.account_id, user.user_id)
    except (KommoError, TimeoutError):
        return None
    return listed is not None and listed.is_admin


async def _extensions(door: DoorServices, user: WidgetUser) -> list[str]:
    table = await door.extensions.table(user.account_id)
    return [extension for extension, user_id in table.items() if user_id == user.user_id]


def _open(call: Call) -> dict[str, Any]:
    known = call.known
    return {
        "call_id": call.key.call_id,
        "direction": known.direction,
        "phone": known.phone,
        "started_at": call.started_at,
        "duration": None if known.outcome is None else known.outcome.duration,
        "state": call.state,
    }
