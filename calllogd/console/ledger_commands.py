"""Commands that read the ledger or mark calls in it: status, calls, show, retry."""

import argparse
import sys
import time

from calllogd.config import Settings
from calllogd.console.accounts import standings, unmapped
from calllogd.console.exits import EX_FAILED, EX_OK, EX_USAGE
from calllogd.console.ledger import ledger
from calllogd.console.words import out, out_json, table
from calllogd.domain.call import CallKey, CallState, Recording, RecordingState
from calllogd.domain.merge import CallEvent
from calllogd.domain.phone import digits
from calllogd.ports import Message
from calllogd.recordings.store import RecordingStore
from calllogd.voip.telling import (
    UNMAPPED_MOST,
    call_json,
    concluded,
    line_json,
    listened,
    meaning,
    moment,
    oldest_due_s,
    place,
    status_json,
    step,
    told,
    why,
)

STYLES = {"failed": "red", "in_doubt": "yellow", "logged": "green", "paused": "red", "active": "green"}


async def status(settings: Settings, arguments: argparse.Namespace) -> int:
    """Tell how many calls are in which state, and how the accounts and the queue are."""
    now = time.time()
    async with ledger(settings) as book:
        await book.keys.open()
        totals = await book.calls.totals(now)
        found = await standings(settings, book.accounts, book.calls, now)
        strange = await unmapped(settings, book.accounts, book.people, now)
    if arguments.json:
        out_json(status_json(totals, found, strange, now))
        return EX_OK
    states = [[state.value, totals.states.get(state, 0), meaning(state)] for state in CallState]
    table("Calls", ["state", "calls", "meaning"], states, STYLES)
    rows = [[one.state.value, one.account_id, one.name, one.reason or "—"] for one in found]
    table("Accounts", ["state", "account", "name", "reason"], rows, STYLES)
    if strange:
        lost = [[one.extension, one.account_id, one.calls] for one in strange[:UNMAPPED_MOST]]
        table("Extensions that nobody has", ["extension", "account", "calls in 30 days"], lost, STYLES)
    out(
        f"{totals.queued} ring(s) in the queue; {totals.due} call(s) due,"
        f" the oldest for {oldest_due_s(totals, now):.0f} s"
    )
    return EX_OK


async def calls(settings: Settings, arguments: argparse.Namespace) -> int:
    """List calls, the newest first."""
    async with ledger(settings) as book:
        listing = await book.calls.listing(
            account_id=arguments.account,
            state=None if arguments.state is None else CallState(arguments.state),
            phone=None if arguments.phone is None else digits(arguments.phone),
            limit=arguments.limit,
        )
    if arguments.json:
        for call in listing:
            out_json(call_json(call))
        return EX_OK
    rows = [
        [
            call.state.value,
            call.key.account_id,
            call.key.call_id,
            moment(call.started_at),
            told(call),
            place(call.entry),
        ]
        for call in listing
    ]
    table("", ["state", "account", "call", "started", "what is known", "stands on"], rows, STYLES)
    if len(listing) == arguments.limit:
        out(f"The newest {arguments.limit}; --limit shows more.")
    return EX_OK


async def show(settings: Settings, arguments: argparse.Namespace) -> int:
    """Tell one call's whole story."""
    key = CallKey(arguments.account, arguments.call_id)
    async with ledger(settings) as book:
        call = await book.calls.get(key)
        story = await book.calls.story(key)
    if call is None:
        return _unknown(key)
    if arguments.json:
        out_json({**call_json(call), "why": why(call), "events": [line_json(line) for line in story]})
        return EX_OK
    out(f"Call {key.call_id} of account {key.account_id}")
    out(f"  {told(call)}, started {moment(call.started_at)}")
    out(f"  State      {call.state.value}: {meaning(call.state)}")
    out(f"  Stands on  {place(call.entry)}")
    out(f"  Why        {why(call)}")
    out(f"  Revision   {call.written_revision} of {call.revision} is in Kommo")
    if (result := concluded(call)) is not None:
        out(f"  Result     {result}")
    if (recording := listened(call)) is not None:
        out(f"  Recording  {recording}")
    if call.due_at is not None:
        out(f"  Next look  {moment(call.due_at)}, after {call.attempts} failed attempt(s)")
    if call.last_error is not None:
        out(f"  Last error {call.last_error}")
    out("Story")
    for line in story:
        out(f"  {moment(line.at)}  {step(line)}")
    return EX_OK


async def retry(settings: Settings, arguments: argparse.Namespace) -> int:
    """Put calls back to be tried now."""
    if (arguments.account is None) == (arguments.state is None) or (
        arguments.account and not arguments.call_id
    ):
        sys.stderr.write(
            "calllogd retry: name a call (ACCOUNT CALL_ID) or all failed ones (--state failed)\n"
        )
        return EX_USAGE
    key = None if arguments.account is None else CallKey(arguments.account, arguments.call_id)
    async with ledger(settings) as book:
        number = await book.calls.retry(key, time.time())
        call = None if key is None else await book.calls.get(key)
    if key is not None and call is None:
        return _unknown(key)
    if call is not None and number == 0:
        out(
            f"Call {call.key.call_id} is {call.state.value}: {meaning(call.state)}. Nothing is to be retried."
        )
        return EX_FAILED
    out(
        f"{number} call(s) will be tried now, by a running daemon within a second, else by `calllogd --once`."
    )
    return EX_OK


async def forget(settings: Settings, arguments: argparse.Namespace) -> int:
    """Delete a call's recording, for good: no later news of it bring it back."""
    key = CallKey(arguments.account, arguments.call_id)
    event = CallEvent(key=key, recording=Recording(state=RecordingState.DELETED))
    message = Message(event=event, who="operator", what="recording deleted", body=b"")
    store = RecordingStore(
        settings.recordings.path, settings.recordings.max_bytes, settings.recordings.keep_free_bytes
    )
    async with ledger(settings) as book:
        if await book.calls.get(key) is None:
            return _unknown(key)
        await book.calls.accept(message, time.time())
        await store.delete(key)
    out("The recording is deleted and its link dead; a running daemon takes it out of the note.")
    return EX_OK


def _unknown(key: CallKey) -> int:
    sys.stderr.write(
        f"calllogd: there is no call {key.call_id} of account {key.account_id};"
        " `calllogd calls` lists those there are\n"
    )
    return EX_FAILED
