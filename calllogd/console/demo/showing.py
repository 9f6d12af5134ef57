"""What the demo prints: the calls as they go, and the table of promises."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table

from calllogd.console.demo.plays import Play
from calllogd.console.demo.promises import Counted
from calllogd.console.words import place
from calllogd.domain.call import Call, CallKey, EntityType, RecordingState
from calllogd.sandbox import Account, SandboxKommo

_COLOURS = {"logged": "green", "in_doubt": "yellow", "failed": "red"}


def calls_table(
    kommo: SandboxKommo, sections: Sequence[Sequence[Play]], found: Mapping[CallKey, Call]
) -> Table:
    """Return the calls as they are now; those that show the same share a row."""
    table = Table(header_style="bold")
    for column in ("what happens", "call", "state", "stands on", "with"):
        table.add_column(column)
    for section in sections:
        for shows, alike in groupby(section, key=lambda play: play.shows):
            plays = list(alike)
            calls = [found[play.key] for play in plays if play.key in found]
            state = _states(calls)
            named = plays[0].call_id if len(plays) == 1 else f"{len(plays)} calls"
            row = (shows, named, state, _places(kommo, calls), ", ".join(_extras(calls)))
            table.add_row(*row, style=_COLOURS.get(state))
        table.add_section()
    return table


def promises_table(counted: Sequence[Counted]) -> Table:
    """Return the promises."""
    table = Table(title="\nThe promises", title_justify="left", header_style="bold")
    for column in ("promise", "counted", "held"):
        table.add_column(column)
    for promise in counted:
        style = "green" if promise.held else "red"
        table.add_row(promise.promise, promise.counted, "yes" if promise.held else "NO", style=style)
    return table


def console(width: int) -> Console:
    """Return what prints; what is no terminal has this width."""
    usual = Console()
    return usual if usual.is_terminal else Console(width=width)


def _states(calls: Sequence[Call]) -> str:
    counts = Counter(call.state.value for call in calls)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{number} {state}" for state, number in counts.items())


def _places(kommo: SandboxKommo, calls: Sequence[Call]) -> str:
    """Return where calls stand: the one place, or how many there are."""
    places = {_place(kommo.account(call.key.account_id), call) for call in calls if call.entry is not None}
    return next(iter(places)) if len(places) == 1 else f"{len(places)} places" if places else ""


def _place(account: Account, call: Call) -> str:
    entry = call.entry
    if entry is None:
        return ""
    incoming = [lead.state for lead in account.unsorted if lead.lead_id == entry.entity_id]
    if incoming and entry.entity_type is EntityType.LEADS:
        return f"incoming lead {entry.entity_id}" + ("" if incoming[0] == "open" else f", {incoming[0]}")
    kind, _, number = place(entry).partition(",")[0].partition(" ")
    cards = [*account.contacts, *account.companies, *account.leads]
    names = [card.name.text for card in cards if (card.ref.kind.value, card.id) == entry.entity]
    return f"{kind} {names[0] if names else number}"


def _extras(calls: Sequence[Call]) -> Iterator[str]:
    """Return what belongs to calls besides their facts."""
    if any(call.result is not None for call in calls):
        yield "result"
    if any(call.result is None and call.widget.skipped for call in calls):
        yield "declined"
    if any(call.task_id is not None for call in calls):
        yield "task"
    if any(call.recording.state is RecordingState.READY for call in calls):
        yield "recording"
    for state in (RecordingState.EXPECTED, RecordingState.DELETED):
        if any(call.recording.state is state for call in calls):
            yield f"recording {state.value}"
