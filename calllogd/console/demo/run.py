"""The demo from its first call to the table of promises."""

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from rich.live import Live

from calllogd.console.demo.acts import Company
from calllogd.console.demo.messages import widget_headers
from calllogd.console.demo.plays import ACCOUNT, GARDEN, SECTIONS, Play, crowd
from calllogd.console.demo.promises import count, is_over, tried
from calllogd.console.demo.showing import calls_table, console, promises_table
from calllogd.console.demo.stage import Stage, command, stage
from calllogd.console.exits import EX_FAILED, EX_INTERRUPTED, EX_OK
from calllogd.console.ledger import ledger
from calllogd.console.words import PIPE_WIDTH, out
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import Call, CallKey, CallState

SETTLE_S = 50.0
"""How long the demo waits for every call to come to its end."""

SHOW_S = 0.1

RATE, CHAOS_RATE = 7, 40
EACH = 8


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
    sections = [*SECTIONS, list(crowd(EACH))] if chaos else SECTIONS
    plays = list(chain.from_iterable(sections))
    with tempfile.TemporaryDirectory(prefix="calllogd-demo-") as folder:
        async with stage(Path(folder), rate=CHAOS_RATE if chaos else RATE) as on:
            out(f"calllogd at {on.url}, a stand-in of Kommo at {on.kommo.url}, all files in {folder}\n")
            async with ledger(on.settings) as book:
                began = time.monotonic()
                found = await _play(on, book.calls, sections, chaos=chaos)
                took_s = time.monotonic() - began
                counted = count(on, found, plays, await tried(on, plays))
            console(PIPE_WIDTH).print(promises_table(counted))
            _sum_up(on, found, took_s)
            if keep:
                await _keep(on)
            code = on.daemon.stop()
    held = code == 0 and all(promise.held for promise in counted)
    out("\nAll promises held." if held else "\nNot all promises held.")
    return EX_OK if held else EX_FAILED


async def _play(
    on: Stage, calls: LedgerOfCalls, sections: Sequence[Sequence[Play]], *, chaos: bool
) -> dict[CallKey, Call]:
    """Play everything and show the ledger until all has come to an end; return the calls as they are then."""
    plays = list(chain.from_iterable(sections))
    playing = asyncio.create_task(Company(on, calls, chaos=chaos).play(plays))
    shown = console(PIPE_WIDTH)
    found: dict[CallKey, Call] = {}
    try:
        with Live(console=shown, transient=False, auto_refresh=False) as live:
            until = time.monotonic() + SETTLE_S
            while time.monotonic() < until:
                done = playing.done()
                found = {call.key: call for call in await calls.listing(limit=len(plays) + 1)}
                if shown.is_terminal:
                    live.update(calls_table(on.kommo, sections, found), refresh=True)
                if done and all(play.key in found and _rests(found[play.key]) for play in plays):
                    break
                await asyncio.sleep(SHOW_S)
            live.update(calls_table(on.kommo, sections, found), refresh=True)
    finally:
        playing.cancel()
        (result,) = await asyncio.gather(playing, return_exceptions=True)
    if isinstance(result, Exception):
        raise result
    return found


def _rests(call: Call) -> bool:
    return call.state is CallState.FAILED or is_over(call)


def _sum_up(on: Stage, found: dict[CallKey, Call], took_s: float) -> None:
    faults = sum(number for name, number in on.kommo.counters.items() if name.startswith("fault:"))
    out(
        f"{len(found)} calls in {took_s:.1f} s with {on.kommo.counters['requests']} requests to Kommo,"
        f" {faults} of them went wrong; the daemon was killed {on.daemon.kills} times."
    )


async def _keep(on: Stage) -> None:
    """Leave everything running until Ctrl-C."""
    on.kommo.faults.clear()
    sound = on.daemon.config.with_name("mine-1.mp3")
    sound.write_bytes(on.kommo.recordings.bytes_of(sound.name))
    out("\n".join(_lines(on, sound)))
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        # Ctrl-C: end like a demo that was not kept.
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()


def _lines(on: Stage, sound: Path) -> list[str]:
    """Return what to try with a demo that goes on running."""
    account = on.settings.accounts[ACCOUNT]
    voip = f"-H 'Authorization: Bearer {account.voip['generic']['token']}'"
    widget = " ".join(f"-H '{name}: {value}'" for name, value in widget_headers(on.settings, ACCOUNT).items())
    lead = next(lead for lead in on.kommo.account(ACCOUNT).leads if lead.name.text == GARDEN)
    result = {"rev": 1, "text": "An offer is wanted", "entity": {"type": "leads", "id": lead.id}}
    return [
        "\nIt goes on running until Ctrl-C. Send a call of your own:",
        f"  curl {voip} {on.url}/voip/generic/{ACCOUNT} -d"
        ' \'{"event": "call.ended", "call_id": "mine-1", "direction": "inbound", "phone": "+15550100200",'
        ' "duration": 7, "status": "answered"}\'',
        "upload its recording, as the VoIP service does:",
        f"  curl {voip} -H 'Content-Type: audio/mpeg' -T {sound}"
        f" {on.url}/voip/generic/{ACCOUNT}/recordings/mine-1",
        f"save its result, as the widget does: here the call moves to the lead {GARDEN}:",
        f"  curl -X PUT {widget} {on.url}/widget/v1/calls/mine-1/result -d '{json.dumps(result)}'",
        "and look at it:",
        f"  {' '.join(command('show', '--config', str(on.daemon.config), str(ACCOUNT), 'mine-1'))}",
        f"  tail -f {on.settings.log.file}",
        f"  curl '{on.kommo.url}/_sandbox/state?account_id={ACCOUNT}'",
    ]
