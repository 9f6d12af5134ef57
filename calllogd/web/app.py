"""The application: every route on one page."""

from aiohttp import web

from calllogd.web.desk import DESK_KEY, Desk
from calllogd.web.health import healthz, readyz
from calllogd.web.problems import problems
from calllogd.web.recordings import play_recording, receive_recording
from calllogd.web.voip import BODY_BYTES, receive_event


def make_app(desk: Desk) -> web.Application:
    """Return the application, whose handlers take what they need from the desk."""
    app = web.Application(client_max_size=BODY_BYTES, middlewares=[problems])
    app[DESK_KEY] = desk
    app.router.add_post("/voip/{provider}/{account_id}", receive_event)
    app.router.add_put("/voip/{provider}/{account_id}/recordings/{call_id}", receive_recording)
    app.router.add_get("/recordings/{token}", play_recording)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app
