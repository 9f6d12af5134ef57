"""Numbers for Prometheus: GET /metrics, in its text format 0.0.4.

Source: prometheus.io/docs/instrumenting/exposition_formats, read 2026-11-22.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from aiohttp import web

from calllogd import __version__
from calllogd.domain.call import CallState
from calllogd.errors import InputRefused
from calllogd.ports import AccountState, Standing, Totals, Unmapped
from calllogd.voip.telling import oldest_due_s
from calllogd.web.desk import DESK_KEY
from calllogd.web.operator_access import ACCESS_KEY, bearer_of, is_near, operators_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

STARTED_KEY = web.AppKey("STARTED_KEY", float)
"""Unix second in which the daemon began."""

Samples = Iterable[tuple[Mapping[str, object], float]]

_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


async def show_metrics(request: web.Request) -> web.Response:
    """Tell the numbers to clients in admin.metrics_from, and to whoever shows the admin token."""
    with await request.app[DESK_KEY].services() as services:
        operators = operators_of(services)
        if not is_near(request, operators):
            shown = bearer_of(request)
            if shown is None or operators.token is None:
                raise InputRefused(
                    "unauthorized", "admin.metrics_from has not this address: show admin.token"
                )
            request.app[ACCESS_KEY].check_token(request, operators, shown)
        now = operators.clock.now()
        totals, standings = await operators.calls.totals(now), await operators.standing()
        unmapped = await operators.unmapped()
    text = exposition(totals, standings, unmapped, now=now, started_at=request.app[STARTED_KEY])
    return web.Response(
        body=text.encode(), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"}
    )


def add_metrics(app: web.Application) -> None:
    """Add the route, and remember when the daemon began."""
    app[STARTED_KEY] = time.time()
    app.router.add_get("/metrics", show_metrics)


def exposition(
    totals: Totals,
    standings: Sequence[Standing],
    unmapped: Sequence[Unmapped],
    *,
    now: float,
    started_at: float,
) -> str:
    """Return the numbers as Prometheus reads them."""
    strange = Counter(one.account_id for one in unmapped)
    accounts = sorted({one.account_id for one in standings} | strange.keys())
    families = (
        _family(
            "calllogd_calls",
            "Calls in the ledger by their state.",
            [({"state": state.value}, totals.states.get(state, 0)) for state in CallState],
        ),
        _family("calllogd_queue_length", "Rings in the queue.", [({}, totals.queued)]),
        _family("calllogd_due", "Calls that are due to be worked on.", [({}, totals.due)]),
        _family(
            "calllogd_oldest_due_seconds",
            "For how long the oldest due call has been due, 0 when none is.",
            [({}, oldest_due_s(totals, now))],
        ),
        _family(
            "calllogd_account_up",
            "1 for an account that Kommo serves, else 0.",
            [({"account": one.account_id}, one.state is AccountState.ACTIVE) for one in standings],
        ),
        _family(
            "calllogd_account_token_seconds",
            "Time left until Kommo stops serving an account unless a person acts, where that is known.",
            [
                ({"account": one.account_id}, one.token_until - now)
                for one in standings
                if one.token_until is not None
            ],
        ),
        _family(
            "calllogd_unmapped_extensions",
            "Extensions that calls of the last 30 days name and no user has.",
            [({"account": account_id}, strange[account_id]) for account_id in accounts],
        ),
        _family("calllogd_build_info", "The version that runs.", [({"version": __version__}, 1)]),
        _family("process_start_time_seconds", "Unix second in which the daemon began.", [({}, started_at)]),
    )
    return "".join(line + "\n" for family in families for line in family)


def _family(name: str, meaning: str, samples: Samples) -> Iterator[str]:
    """Return the lines of one number, which may have several values: all are such as go up and down."""
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} gauge"
    for labels, value in samples:
        named = ",".join(f'{key}="{str(said).translate(_ESCAPED)}"' for key, said in labels.items())
        yield f"{name}{{{named}}} {_number(value)}" if named else f"{name} {_number(value)}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.3f}"
