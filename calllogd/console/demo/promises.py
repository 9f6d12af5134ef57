"""The promises, counted in what stands in Kommo, in the ledger, and on the disk."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from calllogd.console.demo.messages import card, look, message, voip_headers
from calllogd.console.demo.plays import ACCOUNT, OTHER_ACCOUNT, Act, Play
from calllogd.console.demo.stage import Stage
from calllogd.domain.call import Call, CallKey, CallState, RecordingState
from calllogd.domain.phone import tail
from calllogd.sandbox import EntityType, EntryView, IncomingLead
from calllogd.sandbox.records import IncomingState

FINAL = frozenset({CallState.LOGGED, CallState.EXPIRED, CallState.IGNORED})
MOVED = "#moved"


class Counted(NamedTuple):
    """A promise, what was counted, and whether it held."""

    promise: str
    counted: str
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of what only a request can tell.

    `plays`: the calls whose recording plays through the link of their note. `files`: how many recordings are
    on the disk. `intruded`: how many requests with another account's credentials got through.
    """

    plays: frozenset[CallKey]
    files: int
    intrusions: int
    intruded: int


async def tried(on: Stage, plays: Sequence[Play]) -> Tried:
    """Play every recording, count the files, and try to get at one account with another's credentials."""
    played = await asyncio.gather(*(_plays(on, play) for play in plays if play.has_recording))
    through = await _intrude(on, plays[1])
    return Tried(
        plays=frozenset(key for key in played if key is not None),
        files=await asyncio.to_thread(_files, on),
        intrusions=len(through),
        intruded=sum(through),
    )


def count(on: Stage, calls: Mapping[CallKey, Call], plays: Sequence[Play], found: Tried) -> list[Counted]:
    """Return every promise with its count."""
    return [
        _one_entry(on, calls, plays),
        _nothing_lost(on, calls, plays),
        _manager_decides(on, calls, plays),
        _no_lead_ignored(on, plays),
        _recordings(calls, plays, found),
        _nothing_silent(calls, plays),
        _isolated(on, calls, found),
    ]


def is_over(call: Call) -> bool:
    """Tell whether nothing is left to be done about a call."""
    return (
        call.state in FINAL
        and call.doubt is None
        and call.leaving is None
        and (call.entry is None or call.written_revision == call.revision)
        and (call.result is None or call.result.todo is None or call.task_id is not None)
        and call.recording.state is not RecordingState.EXPECTED
    )


def _one_entry(on: Stage, calls: Mapping[CallKey, Call], plays: Sequence[Play]) -> Counted:
    logged = [_entries(on, key) for key, call in calls.items() if call.state is CallState.LOGGED]
    once = sum(len(entries) == 1 for entries in logged)
    twice = sum(len(entries) > 1 for entries in logged)
    rest = sum(len(_entries(on, key)) for key, call in calls.items() if call.state is not CallState.LOGGED)
    peaks = [(play, on.kommo.account(play.account_id).history(play.call_id).peak) for play in plays]
    moving = sum(peak == 2 and play.on is not None for play, peak in peaks)  # noqa: PLR2004  old and new
    never = sum(peak > 1 + (play.on is not None) for play, peak in peaks)
    return Counted(
        "P1  one entry, never two",
        f"{once} of {len(logged)} logged calls stand once, {twice} twice, {len(logged) - once - twice} not at"
        f" all; {rest} entries of other calls; two for a moment: {moving} that moved, {never} others",
        once == len(logged) and rest == 0 and never == 0,
    )


def _nothing_lost(on: Stage, calls: Mapping[CallKey, Call], plays: Sequence[Play]) -> Counted:
    said = {play.key: play for play in plays}
    lost = sum(not _is_kept(calls.get(key), said[key], act) for key, act in on.accepted if key in said)
    about = len({key for key, _ in on.accepted})
    return Counted(
        "P2  nothing accepted is lost",
        f"{len(on.accepted)} messages about {about} calls accepted, {lost} lost",
        lost == 0,
    )


def _is_kept(call: Call | None, play: Play, act: Act) -> bool:
    """Tell whether what was accepted is in the ledger."""
    if call is None:
        return False
    match act:
        case Act.CALL:
            return call.facts.outcome is not None
        case Act.RESULT:
            return call.result is not None and call.result.text == play.text
        case Act.SKIP:
            return call.widget.skipped
        case Act.ANNOUNCE:
            return call.widget.expected
        case _:
            return call.recording.state in (RecordingState.READY, RecordingState.DELETED)


def _manager_decides(on: Stage, calls: Mapping[CallKey, Call], plays: Sequence[Play]) -> Counted:
    saved = [play for play in plays if play.does(Act.RESULT)]
    stand = sum(_stands(on, play) for play in saved)
    chosen = sum(play.on is not None for play in saved)
    skipped = [play for play in plays if play.does(Act.SKIP)]
    bare = sum(_is_bare(on, play) for play in skipped)
    todo = [play for play in saved if play.todo]
    tasks = sum(_has_task(on, play) for play in todo)
    left = [note.params for account in on.kommo.accounts for note in account.notes]
    left = [params for params in left if str(params.get("uniq")).endswith(MOVED)]
    full = sum("link" in params or params.get("duration") != 0 for params in left)
    return Counted(
        "P3  the manager decides",
        f"{stand} of {len(saved)} results stand with their text, {chosen} of them where he chose;"
        f" {bare} of {len(skipped)} declined left none; {tasks} of {len(todo)} tasks made once;"
        f" {len(left) - full} of {len(left)} notes left behind are empty",
        stand == len(saved) and bare == len(skipped) and tasks == len(todo) and full == 0,
    )


def _stands(on: Stage, play: Play) -> bool:
    """Tell whether the result stands, and where the manager chose."""
    chosen = card(on.kommo, play)
    return any(
        entry.params.get("call_result") == play.text
        and (chosen is None or (entry.entity_type, entry.entity_id) == (chosen.ref.kind.value, chosen.id))
        for entry in _entries(on, play.key)
    )


def _is_bare(on: Stage, play: Play) -> bool:
    entries = _entries(on, play.key)
    return bool(entries) and not any("call_result" in entry.params for entry in entries)


def _has_task(on: Stage, play: Play) -> bool:
    """Tell whether the manager's task was made once, where the call stands."""
    tasks = [task for task in on.kommo.account(play.account_id).tasks if task.text == play.todo_text]
    stands = [(entry.entity_type, entry.entity_id) for entry in _entries(on, play.key)]
    return [(task.on.kind.value, task.on.id) for task in tasks if task.on is not None] == stands


def _no_lead_ignored(on: Stage, plays: Sequence[Play]) -> Counted:
    strange: dict[str, list[Play]] = {}
    for play in plays:
        if play.is_strange:
            strange.setdefault(tail(play.phone), []).append(play)
    given = {phone for phone, of_phone in strange.items() if all(play.on for play in of_phone)}
    whole = sum(_is_whole(on, phone, strange[phone]) for phone in strange.keys() - given)
    clean = sum(_is_given(on, phone, strange[phone]) for phone in given)
    of_whole = sum(len(strange[phone]) for phone in strange.keys() - given)
    return Counted(
        "P4  no incoming lead is ignored",
        f"{whole} of {len(strange) - len(given)} unknown numbers became one incoming lead with all notes of"
        f" their {of_whole} calls; {clean} of {len(given)} moved with their callers",
        whole == len(strange) - len(given) and clean == len(given),
    )


def _is_whole(on: Stage, phone: str, of_phone: Sequence[Play]) -> bool:
    """Tell whether a number has one incoming lead, with all its calls."""
    leads = _leads(on, phone)
    stands = [{(entry.entity_type, entry.entity_id) for entry in _entries(on, play.key)} for play in of_phone]
    return len(leads) == 1 and all(places == {("leads", leads[0].lead_id)} for places in stands)


def _is_given(on: Stage, phone: str, of_phone: Sequence[Play]) -> bool:
    """Tell whether a number whose incoming lead had to go has left none, and is where the manager chose."""
    leads, chosen = _leads(on, phone), card(on.kommo, of_phone[0])
    if not leads or chosen is None:
        return not leads
    persons = [chosen, *on.kommo.account(of_phone[0].account_id).linked(chosen.ref, EntityType.CONTACTS)]
    numbers = [tail(number) for person in persons for number in person.numbers]
    return phone in numbers and all(lead.state is IncomingState.DECLINED for lead in leads)


def _leads(on: Stage, phone: str) -> list[IncomingLead]:
    """Return the incoming leads that a number ever had."""
    leads = [lead for account in on.kommo.accounts for lead in account.unsorted]
    return [lead for lead in leads if tail(str(lead.metadata.get("phone"))) == phone]


def _recordings(calls: Mapping[CallKey, Call], plays: Sequence[Play], found: Tried) -> Counted:
    kept = [play for play in plays if play.has_recording and not play.expires]
    heard = sum(play.key in found.plays for play in kept)
    over = [play for play in plays if play.has_recording and play.expires]
    states = [call.recording.state for play in over if (call := calls.get(play.key)) is not None]
    deleted = states.count(RecordingState.DELETED)
    return Counted(
        "P5  recordings join or are deleted",
        f"{heard} of {len(kept)} play from their notes' links, {deleted} of {len(over)} without a contact are"
        f" deleted, {found.files} files",
        heard == found.files == len(kept) and deleted == len(over),
    )


def _nothing_silent(calls: Mapping[CallKey, Call], plays: Sequence[Play]) -> Counted:
    silent = [call for call in calls.values() if not is_over(call)]
    missing = sum(play.key not in calls for play in plays)
    states = ", ".join(f"{call.key.call_id} {call.state.value}" for call in silent)
    return Counted(
        "P6  nothing is silent",
        f"{len(silent)} calls without an end, {missing} never taken {states}".strip(),
        not silent and not missing,
    )


def _isolated(on: Stage, calls: Mapping[CallKey, Call], found: Tried) -> Counted:
    strangers = sum(
        len(_entries(on, CallKey(other, key.call_id)))
        for key in calls
        for other in (ACCOUNT, OTHER_ACCOUNT)
        if other != key.account_id and CallKey(other, key.call_id) not in calls
    )
    return Counted(
        "P7  accounts are isolated",
        f"{found.intruded} of {found.intrusions} requests with another account's credentials got through,"
        f" {strangers} entries in another account",
        found.intruded == 0 and strangers == 0,
    )


def _entries(on: Stage, key: CallKey) -> list[EntryView]:
    return on.kommo.account(key.account_id).entries(key.call_id)


async def _plays(on: Stage, play: Play) -> CallKey | None:
    """Return the call if its note has a link behind which its own recording is, None if not."""
    entries = _entries(on, play.key)
    link = entries[0].params.get("link") if entries else None
    right = on.kommo.recordings.bytes_of(play.recording_name)[1:]
    return play.key if isinstance(link, str) and await on.played(link) == right else None


def _files(on: Stage) -> int:
    return sum(path.is_file() for path in on.settings.recordings.path.rglob("*"))


async def _intrude(on: Stage, play: Play) -> list[bool]:
    """Tell of a call, give it a recording and look at it, as another account; return what got through."""
    as_other = voip_headers(on.settings, OTHER_ACCOUNT)
    tries = [
        message(on.settings, on.kommo, play, Act.CALL)._replace(headers=as_other),
        message(on.settings, on.kommo, play, Act.RECORDING)._replace(
            headers={**as_other, "Content-Type": "audio/mpeg"}
        ),
        look(on.settings, play, OTHER_ACCOUNT),
    ]
    statuses = [await on.sent(one) for one in tries]
    return [status < HTTPStatus.BAD_REQUEST for status in statuses]
