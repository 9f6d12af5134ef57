"""The promises, counted in what stands in Kommo and in the ledger."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from calllogd.console.demo.plays import ACCOUNT, OTHER_ACCOUNT, Play
from calllogd.console.demo.stage import Stage
from calllogd.domain.call import Call, CallKey, CallState

FINAL = frozenset({CallState.LOGGED, CallState.EXPIRED, CallState.IGNORED})


class Counted(NamedTuple):
    """A promise, what was counted, and whether it held."""

    promise: str
    counted: str
    held: bool


def count(
    stage: Stage, calls: Mapping[CallKey, Call], plays: Sequence[Play], *, intruded: int
) -> list[Counted]:
    """Return every promise with its count; `intruded`: messages accepted with another account's token."""
    return [*_entries(stage, calls), *_kept(stage, calls, plays), _isolated(stage, calls, intruded)]


def _entries(stage: Stage, calls: Mapping[CallKey, Call]) -> Iterator[Counted]:
    standing = {key: len(stage.kommo.account(key.account_id).entries(key.call_id)) for key in calls}
    logged = [standing[key] for key, call in calls.items() if call.state is CallState.LOGGED]
    rest = sum(standing[key] for key, call in calls.items() if call.state is not CallState.LOGGED)
    once = sum(number == 1 for number in logged)
    twice = sum(number > 1 for number in logged)
    yield Counted(
        "P1  one entry, never two",
        f"{once} of {len(logged)} logged calls stand once, {twice} twice,"
        f" {len(logged) - once - twice} not at all; {rest} entries of calls that are not logged",
        once == len(logged) and rest == 0,
    )


def _kept(stage: Stage, calls: Mapping[CallKey, Call], plays: Sequence[Play]) -> Iterator[Counted]:
    lost = len(stage.accepted - calls.keys())
    yield Counted(
        "P2  nothing accepted is lost", f"{len(stage.accepted)} calls accepted, {lost} lost", lost == 0
    )
    new = [play for play in plays if "0199" in play.phone and play.direction == "inbound"]
    leads = sum(_is_lead(calls.get(play.key)) for play in new)
    yield Counted(
        "P4  no incoming lead is ignored",
        f"{leads} of {len(new)} calls from unknown numbers became incoming leads",
        leads == len(new),
    )
    silent = [call for call in calls.values() if call.state not in FINAL]
    states = ", ".join(f"{call.key.call_id} {call.state.value}" for call in silent)
    yield Counted("P6  nothing is silent", f"{len(silent)} calls without an end {states}".strip(), not silent)


def _isolated(stage: Stage, calls: Mapping[CallKey, Call], intruded: int) -> Counted:
    strangers = sum(
        len(stage.kommo.account(other).entries(key.call_id))
        for key in calls
        for other in (ACCOUNT, OTHER_ACCOUNT)
        if other != key.account_id and CallKey(other, key.call_id) not in calls
    )
    return Counted(
        "P7  accounts are isolated",
        f"{intruded} messages taken with another account's token, {strangers} entries in another account",
        intruded == 0 and strangers == 0,
    )


def _is_lead(call: Call | None) -> bool:
    return call is not None and call.entry is not None and call.entry.lead_uid is not None
