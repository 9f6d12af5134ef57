"""The demo from its first call to the table of promises."""

import asyncio
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from calllogd.console.demo.plays import ACCOUNT, APPEARING, APPEARS, CHAOS, OTHER_ACCOUNT, PLAYS, Play, crowd
from calllogd.console.demo.promises import FINAL, Counted, count
from calllogd.console.demo.stage import Stage, command, environment, stage
from calllogd.console.exits import EX_FAILED, EX_INTERRUPTED, EX_OK
from calllogd.console.parts import ledger
from calllogd.console.words import out, place
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import Call, CallKey, CallState

SETTLE_S = 50.0
"""How long the demo waits for every call to come to its end."""

BETWEEN_S = 0.2
"""Pause between calls: keeps each fault on the call that it is for, and lets one watch."""

RATE, CHAOS_RATE = 7, 25
CROWD = 60
KILLS = 5

_COLOURS = {CallState.LOGGED: "green", CallState.IN_DOUBT: "yellow", CallState.FAILED: "red"}


def run(*, chaos: bool, keep: bool) -> int:
    """Play, show what happens, and end with the table of promises; return 0 only if all hold."""
    try:
        return asyncio.run(_run(chaos=chaos, keep=keep))
    except asyncio.CancelledError:
        return EX_INTERRUPTED


async def _run(*, chaos: bool, keep: bool) -> int:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    plays = [*PLAYS, *crowd(CROWD)] if chaos else list(PLAYS)
    with tempfile.TemporaryDirectory(prefix="calllogd-demo-") as folder:
        async with stage(Path(folder), rate=CHAOS_RATE if chaos else RATE) as on:
            out(f"calllogd at {on.url}, a stand-in of Kommo at {on.kommo.url}, all files in {folder}\n")
            async with ledger(on.settings) as calls:
                began = time.monotonic()
                found = await _play(on, calls, plays, chaos=chaos)
                took_s = time.monotonic() - began
                intruded = await on.sent(PLAYS[0], OTHER_ACCOUNT)
                counted = count(on, found, plays, intruded=int(intruded))
            _show_promises(on, counted, found, took_s)
            if keep:
                await _keep(on)
            code = on.daemon.stop()
    held = code == 0 and all(promise.held for promise in counted)
    out("\nAll promises held." if held else "\nNot all promises held.")
    return EX_OK if held else EX_FAILED


async def _play(
    on: Stage, calls: LedgerOfCalls, plays: Sequence[Play], *, chaos: bool
) -> dict[CallKey, Call]:
    """Send everything and show the ledger until all has come to an end; return the calls as they are then."""
    doing = [asyncio.create_task(_send(on, plays, chaos=chaos)), asyncio.create_task(_appear(on, calls))]
    if chaos:
        doing.append(asyncio.create_task(_kill(on)))
    console = Console()
    found: dict[CallKey, Call] = {}
    try:
        with Live(console=console, refresh_per_second=10, transient=False, auto_refresh=False) as live:
            until = time.monotonic() + SETTLE_S
            while time.monotonic() < until:
                found = await _calls(calls, len(plays))
                if console.is_terminal:
                    live.update(_table(plays, found), refresh=True)
                ended = all(play.key in found and found[play.key].state in FINAL for play in plays)
                if ended and all(task.done() for task in doing):
                    break
                await asyncio.sleep(0.1)
            live.update(_table(plays, found), refresh=True)
    finally:
        for task in doing:
            task.cancel()
        results = await asyncio.gather(*doing, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return found


async def _send(on: Stage, plays: Sequence[Play], *, chaos: bool) -> None:
    """Post the webhooks: one call after the other, or with chaos all at once."""
    if chaos:
        for fault in CHAOS:
            on.kommo.faults.add(fault)
        await asyncio.gather(*(on.send(play) for play in plays for _ in range(play.sent)))
        return
    for play in plays:
        if play.fault is not None:
            on.kommo.faults.add(play.fault)
        await asyncio.gather(*(on.send(play) for _ in range(play.sent)))
        await asyncio.sleep(BETWEEN_S)


async def _appear(on: Stage, calls: LedgerOfCalls) -> None:
    """Create a contact with the number that was dialled, and retry its call: the slow poll takes a minute."""
    while (call := await calls.get(APPEARS)) is None or call.state is not CallState.AWAITING_CONTACT:
        await asyncio.sleep(0.1)
    on.kommo.account(ACCOUNT).add_contact("Eve, who appeared later", phones=[APPEARING])
    line = command("retry", "--config", str(on.daemon.config), str(ACCOUNT), APPEARS.call_id)
    process = await asyncio.create_subprocess_exec(
        *line, stdout=asyncio.subprocess.DEVNULL, env=environment()
    )
    await process.wait()


async def _kill(on: Stage) -> None:
    for _ in range(KILLS):
        await asyncio.sleep(random.uniform(0.2, 1.5))  # noqa: S311  any moment will do
        await asyncio.to_thread(on.daemon.kill)
        on.daemon.start()
        await on.ready()


async def _calls(calls: LedgerOfCalls, number: int) -> dict[CallKey, Call]:
    return {call.key: call for call in await calls.listing(limit=number + 1)}


def _table(plays: Sequence[Play], found: dict[CallKey, Call]) -> Table:
    """Return the calls as they are now; of a crowd only how many are in which state."""
    table = Table(header_style="bold", expand=False)
    for column in ("what happens", "call", "state", "stands on"):
        table.add_column(column)
    crowded: dict[CallState, int] = {}
    for play in plays:
        call = found.get(play.key)
        if play.call_id.startswith("crowd-"):
            if call is not None:
                crowded[call.state] = crowded.get(call.state, 0) + 1
            continue
        state = "" if call is None else call.state.value
        where = "" if call is None or call.entry is None else place(call.entry)
        table.add_row(
            play.shows, play.call_id, state, where, style=_COLOURS.get(call.state) if call else None
        )
    for state, number in crowded.items():
        table.add_row("a crowd calls at once", f"{number} calls", state.value, "", style=_COLOURS.get(state))
    return table


def _show_promises(on: Stage, counted: Sequence[Counted], found: dict[CallKey, Call], took_s: float) -> None:
    table = Table(title="\nThe promises", title_justify="left", header_style="bold")
    for column in ("promise", "counted", "held"):
        table.add_column(column)
    for promise in counted:
        style = "green" if promise.held else "red"
        table.add_row(promise.promise, promise.counted, "yes" if promise.held else "NO", style=style)
    Console().print(table)
    faults = sum(number for name, number in on.kommo.counters.items() if name.startswith("fault:"))
    out(
        f"{len(found)} calls in {took_s:.1f} s with {on.kommo.counters['requests']} requests to Kommo,"
        f" {faults} of them went wrong; the daemon was killed {on.daemon.kills} times."
    )


async def _keep(on: Stage) -> None:
    """Leave everything running until Ctrl-C."""
    account = on.settings.accounts[ACCOUNT]
    on.kommo.faults.clear()
    out(
        f"\nIt goes on running until Ctrl-C. Send a call of your own:\n"
        f"  curl -H 'Authorization: Bearer {account.generic.token}' {on.url}/voip/generic/{ACCOUNT} -d"
        ' \'{"event": "call.ended", "call_id": "mine-1", "direction": "inbound", "phone": "+15550100200",'
        ' "duration": 7, "status": "answered"}\'\n'
        f"and look at it:\n"
        f"  {' '.join(command('show', '--config', str(on.daemon.config), str(ACCOUNT), 'mine-1'))}\n"
        f"  tail -f {on.settings.log.file}\n"
        f"  curl '{on.kommo.url}/_sandbox/state?account_id={ACCOUNT}'"
    )
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        # Ctrl-C: end like a demo that was not kept.
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
