"""The application: every route on one page."""

from aiohttp import web

from calllogd.web.body import BODY_BYTES
from calllogd.web.cors import add_headers, cors
from calllogd.web.desk import DESK_KEY, Desk
from calllogd.web.health import healthz, readyz
from calllogd.web.kommo import hear_kommo
from calllogd.web.oauth import callback, disable, install
from calllogd.web.operators import add_operator_routes
from calllogd.web.problems import problems
from calllogd.web.recordings import play_recording, receive_recording
from calllogd.web.voip import receive_event
from calllogd.web.widget import announce_call, save_result, show_call, skip_result
from calllogd.web.widget_events import end_streams, stream_events
from calllogd.web.widget_extensions import replace_extensions, show_extensions
from calllogd.web.widget_session import list_open_calls, open_session

_CALL = "/v1/calls/{call_id:[^/]+}"
"""VoIP services put anything into their ids, braces too."""


def make_app(desk: Desk) -> web.Application:
    """Return the application, whose handlers take what they need from the desk."""
    app = web.Application(client_max_size=BODY_BYTES, middlewares=[problems])
    app[DESK_KEY] = desk
    for address in ("/voip/{provider}/{account_id}", "/voip/{provider}/{account_id}/{rest:.+}"):
        app.router.add_post(address, receive_event)
        app.router.add_get(address, receive_event, allow_head=False)
    app.router.add_put("/voip/{provider}/{account_id}/recordings/{call_id:[^/]+}", receive_recording)
    app.router.add_get("/recordings/{token}", play_recording)
    app.router.add_post("/kommo/{account_id}/{secret}", hear_kommo)
    # A HEAD would use up the code, or the cookie would go to nobody.
    app.router.add_get("/oauth/install", install, allow_head=False)
    app.router.add_get("/oauth/callback", callback, allow_head=False)
    app.router.add_get("/oauth/disable", disable, allow_head=False)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    add_operator_routes(app)
    app.add_subapp("/widget/", _make_widget(desk))
    return app


def _make_widget(desk: Desk) -> web.Application:
    """Return what browsers may ask from Kommo's pages: it alone has to do with their origins."""
    app = web.Application(client_max_size=BODY_BYTES, middlewares=[cors])
    app[DESK_KEY] = desk
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(end_streams)
    app.router.add_post("/v1/session", open_session)
    app.router.add_get("/v1/events", stream_events, allow_head=False)
    app.router.add_get("/v1/extensions", show_extensions, allow_head=False)
    app.router.add_put("/v1/extensions", replace_extensions)
    app.router.add_get("/v1/calls", list_open_calls, allow_head=False)
    app.router.add_put(_CALL, announce_call)
    app.router.add_get(_CALL, show_call, allow_head=False)
    app.router.add_put(f"{_CALL}/result", save_result)
    app.router.add_post(f"{_CALL}/skip", skip_result)
    return app
