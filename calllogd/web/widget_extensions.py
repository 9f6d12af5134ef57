"""The administrators' table of extensions: GET and PUT /widget/v1/extensions."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from calllogd.domain.user import User
from calllogd.errors import KommoError
from calllogd.voip.usecase.assign_extensions import parse_extensions
from calllogd.web.body import read_body
from calllogd.web.desk import DESK_KEY
from calllogd.web.services import DoorServices
from calllogd.web.widget_door import answered, door_of, let_in, must_be_administrator, unread


async def show_extensions(request: web.Request) -> web.Response:
    """Tell which extension each of the account's users has."""
    with await request.app[DESK_KEY].services() as services:
        widget, user = let_in(request, services)
        door = door_of(widget)
        try:
            await must_be_administrator(door, user)
            users = await door.users.everybody(user.account_id)
        except KommoError as error:
            return unread(error)
        return await _table(door, user.account_id, users)


async def replace_extensions(request: web.Request) -> web.Response:
    """Store another table; 200 once it is on disk, and nothing has changed after any other answer."""
    body = await read_body(request)
    with await request.app[DESK_KEY].services() as services:
        widget, user = let_in(request, services)
        door = door_of(widget)
        try:
            await must_be_administrator(door, user)
            wanted = parse_extensions(body)
            users = await door.users.everybody(user.account_id, set(wanted.values()))
        except KommoError as error:
            return unread(error)
        await door.extensions.assign(user.account_id, wanted, users)
        return await _table(door, user.account_id, users)


async def _table(door: DoorServices, account_id: int, users: Mapping[int, User]) -> web.Response:
    fixed = door.extensions.fixed(account_id)
    owned: dict[int, list[str]] = {}
    for extension, user_id in (await door.extensions.table(account_id)).items():
        owned.setdefault(user_id, []).append(extension)
    return answered(
        {
            "extensions": [
                _row(user, extension, fixed)
                for user in users.values()
                for extension in owned.get(user.id, [None])
            ]
        }
    )


def _row(user: User, extension: str | None, fixed: Mapping[str, int]) -> dict[str, Any]:
    row = {"user_id": user.id, "name": user.name, "is_active": user.is_active, "extension": extension}
    return {**row, "fixed": True} if extension in fixed else row
