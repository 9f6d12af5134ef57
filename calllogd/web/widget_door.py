"""Who is let in at the widget's addresses, and how he is answered."""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from calllogd.domain.user import User
from calllogd.errors import AccountPaused, InputRefused, KommoError, TokenRefused
from calllogd.kommo.users import AGAIN_S
from calllogd.voip.widget import WidgetUser
from calllogd.web.problems import problem
from calllogd.web.services import DoorServices, Services, WidgetServices

_encode = msgspec.json.Encoder().encode


def let_in(request: web.Request, services: Services) -> tuple[WidgetServices, WidgetUser]:
    """Return the widget's services and its user; raises InputRefused.

    Kommo is not asked: its token shows the user. But one who is known to be switched off since is refused.
    """
    widget, user = identified(request, services)
    if widget.door is not None:
        must_be_active(widget.door, user)
    return widget, user


def identified(request: web.Request, services: Services) -> tuple[WidgetServices, WidgetUser]:
    """Return like `let_in`, whether or not the user is switched off."""
    widget = widget_of(services)
    headers = request.headers
    user = widget.tokens.user(headers.getall("X-Auth-Token", []), headers.getall("Origin", []))
    if services.limits is not None:
        services.limits.admit_account(user.account_id)
    return widget, user


def widget_of(services: Services) -> WidgetServices:
    """Return the widget's services; raises InputRefused where there are none."""
    if services.widget is None:
        raise InputRefused("not_found", "there is no widget here")
    return services.widget


def door_of(widget: WidgetServices) -> DoorServices:
    """Return the parts that a session needs; raises InputRefused where there are none."""
    if widget.door is None:
        raise InputRefused("not_found", "there are no sessions here")
    return widget.door


def must_be_active(door: DoorServices, user: WidgetUser) -> None:
    """Return unless a user is known to be switched off; raises InputRefused (`forbidden`)."""
    listed = door.users.known(user.account_id, user.user_id)
    if listed is not None and not listed.is_active:
        raise InputRefused("forbidden", "the user is switched off in Kommo")


async def must_be_administrator(door: DoorServices, user: WidgetUser) -> User:
    """Return an administrator as Kommo lists him: what his token says of that does not count.

    Raises InputRefused (`forbidden`), and a KommoError when Kommo cannot be asked.
    """
    listed = await door.users.user(user.account_id, user.user_id)
    if listed is None:
        raise InputRefused("forbidden", "Kommo does not list the user; only administrators may do this")
    if not listed.is_active:
        raise InputRefused("forbidden", "the user is switched off in Kommo")
    if not listed.is_admin:
        raise InputRefused("forbidden", "only administrators of the Kommo account may do this")
    return listed


def unread(error: KommoError) -> web.Response:
    """Return the answer for when it cannot be known who the administrators are."""
    if isinstance(error, AccountPaused) and not isinstance(error, TokenRefused):
        return problem(
            "forbidden",
            f"calllogd may not read the account's users: {error.reason}. The integration should be installed"
            " by an administrator of the Kommo account",
        )
    return problem(
        "not_ready",
        f"who the administrators are cannot be known now: {error.reason}",
        headers={"Retry-After": str(round(AGAIN_S))},
    )


def answered(document: Mapping[str, Any]) -> web.Response:
    """Return a JSON answer that nobody keeps."""
    return web.Response(
        body=_encode(document), content_type="application/json", headers={"Cache-Control": "no-store"}
    )
