"""The application: every route on one page."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from calllogd.voip.usecase.save_call_event import SaveCallEventUseCase
from calllogd.web.health import READY_KEY, healthz, readyz
from calllogd.web.problems import problems
from calllogd.web.voip import (
    BODY_BYTES,
    PROVIDER_NAMES_KEY,
    PROVIDERS_KEY,
    SAVE_CALL_EVENT_KEY,
    Providers,
    receive_event,
)


def make_app(
    *,
    providers: Providers,
    provider_names: frozenset[str],
    save_call_event: SaveCallEventUseCase,
    ready: Callable[[], Awaitable[None]],
) -> web.Application:
    """Return the application; `ready` raises a CalllogdError when calllogd cannot work."""
    app = web.Application(client_max_size=BODY_BYTES, middlewares=[problems])
    app[PROVIDERS_KEY] = providers
    app[PROVIDER_NAMES_KEY] = provider_names
    app[SAVE_CALL_EVENT_KEY] = save_call_event
    app[READY_KEY] = ready
    app.router.add_post("/voip/{provider}/{account_id}", receive_event)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app
