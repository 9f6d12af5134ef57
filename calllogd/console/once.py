"""`calllogd --once`: drain what is due now, without HTTP, and go."""

import asyncio
import sys
from collections.abc import Callable

from calllogd.config import Settings
from calllogd.console.exits import EX_OK, EX_TEMPFAIL
from calllogd.console.parts import Parts, parts
from calllogd.domain.call import CallState

LIMIT = 200
"""Calls that are taken from the ledger at a time."""


def once(settings: Settings) -> int:
    """Drain every call that is due; return the exit code. Safe beside a running daemon."""
    return asyncio.run(_once(settings))


async def _once(settings: Settings) -> int:
    async with parts(settings) as built:
        await built.renew_worker.once()
        await built.cdr_worker.once()
        await built.error_files_worker.once()
        await built.catch_up_worker.once()
        rings = await built.calls.last_ring()
        tell = _progress()
        await _drain(built, tell)
        async for _ in built.attribute_worker.batches():
            await _drain(built, tell)
        await built.calls.hush(rings)
        return await _left(built)


async def _drain(built: Parts, tell: Callable[[int], None]) -> None:
    """Work until nothing is due that nobody holds; an account that is paused has nothing due."""
    done = 0
    while True:
        # Recordings first: one that is there by then goes into its call's note at once.
        await built.fetch_worker.drained()
        found = await built.worker.sweep(LIMIT)
        if not found:
            return
        await built.worker.drained()
        done += found
        tell(done)


async def _left(built: Parts) -> int:
    """Say what stays behind; return the exit code."""
    totals = await built.calls.totals(built.clock.now())
    doubtful = totals.states.get(CallState.IN_DOUBT, 0)
    if totals.due == 0 and doubtful == 0:
        return EX_OK
    sys.stderr.write(f"calllogd: {totals.due} call(s) stay due, {doubtful} in doubt; see `calllogd status`\n")
    return EX_TEMPFAIL


def _progress() -> Callable[[int], None]:
    """Return what shows the progress on a terminal; cron gets no mail about work that went well."""
    if not sys.stderr.isatty():
        return lambda done: None
    return _show


def _show(done: int) -> None:
    sys.stderr.write(f"\r{done} call(s) worked on")
    sys.stderr.flush()
