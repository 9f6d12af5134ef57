"""Calls with everything that is said of them, in any order, and what has to stand in Kommo in the end."""

import io
import random
import wave
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from calllogd.sandbox import Account, EntityType, EntryView, Fault, FaultKind, SandboxExchange
from calllogd.sandbox.records import EntityRef, IncomingState
from calllogd.sandbox.search import match_key
from tests.faults.machine import ACCOUNT, Daemon, Installation, Webhook, unknown, webhook

Deed = Callable[[Daemon], Awaitable[None]]
"""One message, sent to a daemon until it is taken."""

COMPLETE_TILL = 1_900_000_000
CREATED = "^/(calls|leads/unsorted/sip|leads/notes|contacts/notes|tasks)$"
OTHERS = "^/(calls|leads|contacts|tasks)"

FAULTS = (
    Fault(FaultKind.RESET_AFTER, method="DELETE", times=2),
    Fault(FaultKind.RESET_AFTER, method="POST", path=CREATED, every=25),
    Fault(FaultKind.TIMEOUT_AFTER, method="POST", path=CREATED, every=40, after=3),
    Fault(FaultKind.STATUS_AFTER, method="POST", path=CREATED, every=25, after=6, status=504),
    Fault(FaultKind.HALF_BODY, method="POST", path=CREATED, every=25, after=9),
    Fault(FaultKind.HTML, method="POST", path=CREATED, every=25, after=12),
    Fault(FaultKind.TIMEOUT_BEFORE, method="POST", path=CREATED, every=40, after=15),
    Fault(FaultKind.LATE_COMMIT, method="POST", path=CREATED, every=40, after=18, seconds=1.2),
    Fault(FaultKind.RESET_BEFORE, path=OTHERS, every=30, after=5),
    Fault(FaultKind.STATUS_BEFORE, path=OTHERS, every=30, after=10, status=502),
    Fault(FaultKind.RATE, path=OTHERS, every=60, after=15, seconds=0.2),
    Fault(FaultKind.RESET_AFTER, method="PATCH", every=12),
    Fault(FaultKind.STATUS_AFTER, method="PATCH", every=12, after=4),
    Fault(FaultKind.UNAUTHORIZED, every=300, after=100, times=2),
    Fault(FaultKind.UNPAID, every=300, after=200, times=2),
    Fault(FaultKind.SLOW, method="POST", path=CREATED, every=10, seconds=0.2),
)
"""A mishap of each kind, every so often; most requests pass."""


@dataclass(slots=True, kw_only=True)
class Said:
    """A call and what is said of it; `leads` and `texts` are those of the results, by `rev`."""

    call_id: str
    phone: str
    known: EntityRef | None
    texts: Sequence[str] = ()
    leads: Sequence[int] = ()
    task: str | None = None
    sound: bytes | None = None
    deeds: list[Deed] = field(default_factory=list)

    @property
    def chosen(self) -> tuple[str, int] | None:
        """The entity of the highest `rev`."""
        return ("leads", self.leads[-1]) if self.leads else None


def sound(seed: int) -> bytes:
    """Return a short sound that no other seed has."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(random.Random(seed).randbytes(3000))  # noqa: S311  not a secret
    return file.getvalue()


class Load:
    """Several hundred calls of known and unknown numbers, several a number, and all that is said of them."""

    def __init__(
        self, here: Installation, exchange: SandboxExchange, chance: random.Random, number: int
    ) -> None:
        self.here = here
        self.account: Account = here.kommo.account(ACCOUNT)
        self._exchange = exchange
        self._chance = chance
        numbers = number // 4
        self._known = {
            f"+1212777{place:04d}": self.account.add_contact(f"Known {place}", [f"+1212777{place:04d}"]).ref
            for place in range(numbers)
        }
        self._leads = [self.account.add_lead(f"Chosen {place}").id for place in range(20)]
        self.calls = [self._call(place, numbers) for place in range(number)]

    @property
    def deeds(self) -> list[Deed]:
        """Everything that is said, in an order that nobody would expect."""
        deeds = [deed for said in self.calls for deed in said.deeds]
        self._chance.shuffle(deeds)
        return deeds

    def _call(self, place: int, numbers: int) -> Said:
        chance = self._chance
        if chance.random() < 0.5:
            phone, known = chance.choice(list(self._known.items()))
        else:
            phone, known = unknown(chance.randrange(numbers)), None
        said = Said(call_id=f"call-{place}", phone=phone, known=known)
        # Of the unknown numbers every other one has only calls that stay where they are.
        stays = known is None and int(phone) % 2 == 0
        revs = chance.choice((0, 0, 1, 2, 3))
        said.texts = [f"talked {place}, {rev}" for rev in range(revs)]
        if revs and not stays and chance.random() < 0.6:
            said.leads = [chance.choice(self._leads) for _ in range(revs)]
        if revs and chance.random() < 0.4:
            said.task = f"task of {place}"
        more = self._recording(said, place)
        more["direction"] = chance.choice(("inbound", "outbound")) if known else "inbound"
        said.deeds += [partial(self._send, webhook(said.call_id, phone, **more))] * chance.choice((1, 2, 3))
        said.deeds += [partial(self._save, said, rev) for rev in range(revs)]
        return said

    def _recording(self, said: Said, place: int) -> dict[str, Any]:
        """Give a call a recording, or none; return what the webhook says of it."""
        kind = self._chance.choice(("none", "upload", "announced", "with the end"))
        if kind == "upload":
            said.sound = sound(place)
            said.deeds += [partial(self._upload, said.call_id, said.sound)] * self._chance.choice((1, 2))
        elif kind != "none":
            name = f"{said.call_id}.wav"
            said.sound = self._exchange.bytes_of(name)
            address = {"recording_url": self._exchange.recording_url(name)}
            if kind == "with the end":
                return address
            ready = {"event": "recording.ready", "call_id": said.call_id, **address}
            said.deeds.append(partial(self._send, ready))
        return {}

    async def _send(self, event: Webhook, to: Daemon) -> None:
        await self.here.send(event, to=to)

    async def _upload(self, call_id: str, sound: bytes, to: Daemon) -> None:
        assert await self.here.upload(call_id, sound, to=to) in (200, 201)

    async def _save(self, said: Said, rev: int, to: Daemon) -> None:
        result: dict[str, Any] = {"text": said.texts[rev]}
        if said.leads:
            result["entity"] = {"type": "leads", "id": said.leads[rev]}
        if said.task is not None:
            result["task"] = {"text": said.task, "complete_till": COMPLETE_TILL}
        assert await self.here.save(said.call_id, to=to, rev=rev, **result) in (200, 409)

    async def recordings_are_there(self) -> bool:
        """Tell whether every recording has come to where it can be played."""
        wanted = {said.call_id for said in self.calls if said.sound is not None}
        found = await self.here.calls()
        return {key[1] for key, call in found.items() if call["recording"]["state"] == "ready"} == wanted

    async def each_stands_as_it_should(self) -> None:
        """Fail unless each call stands once, where it should, with its result, recording and task."""
        found = await self.here.calls()
        assert {call_id for _, call_id in found} == {said.call_id for said in self.calls}
        states = {
            key[1]: (call["state"], call["last_error"])
            for key, call in found.items()
            if call["state"] != "logged"
        }
        assert not states, f"calls are not logged: {states}"
        wrong = {said.call_id: self._wrong(said) for said in self.calls}
        wrong = {call_id: what for call_id, what in wrong.items() if what}
        assert not wrong, f"entries are wrong: {wrong}"
        mute = [said.call_id for said in self.calls if not await self._is_heard(said)]
        assert mute == [], "their recordings cannot be played"
        tasks = Counter(task.text for task in self.account.tasks)
        assert tasks == Counter(said.task for said in self.calls if said.task is not None)
        uniqs = {str(note.params.get("uniq")).removesuffix("#moved") for note in self.account.notes}
        assert uniqs == {said.call_id for said in self.calls}, "there are notes that belong to no call"
        self._one_incoming_lead_each()

    def _wrong(self, said: Said) -> str | None:
        """Return what is wrong with a call's entry."""
        entries = self._entries(said)
        if len(entries) != 1:
            return f"{len(entries)} entries"
        (entry,) = entries
        peak = self.account.history(said.call_id).peak
        if peak > (2 if said.chosen else 1):
            return f"had {peak} entries at a time"
        text = said.texts[-1] if said.texts else None
        if entry.params.get("call_result") != text:
            return f"says {entry.params.get('call_result')!r}, not {text!r}"
        if said.chosen is not None:
            stands = (entry.entity_type, entry.entity_id) == said.chosen
        elif said.known is not None:
            stands = (entry.entity_type, entry.entity_id) == (said.known.kind.value, said.known.id)
        else:
            stands = self._has_number(entry, said.phone)
        return None if stands else f"stands on {entry.entity_type} {entry.entity_id}"

    def _entries(self, said: Said) -> list[EntryView]:
        """Return a call's entries; an incoming lead that it has left to others is none of them."""
        entries = self.here.entries(said.call_id)
        return [entry for entry in entries if entry.params["uniq"] == said.call_id]

    def _has_number(self, entry: EntryView, phone: str) -> bool:
        """Tell whether an entry stands on the contact of a number, or on a lead of that contact."""
        ref = EntityRef(EntityType(entry.entity_type), entry.entity_id)
        cards = [self.account.card(ref), *self.account.linked(ref, EntityType.CONTACTS)]
        numbers = {match_key(number) for card in cards if card is not None for number in card.numbers}
        return match_key(phone) in numbers

    async def _is_heard(self, said: Said) -> bool:
        (entry,) = self._entries(said)
        return await self.here.played(entry) == said.sound

    def _one_incoming_lead_each(self) -> None:
        """Fail unless each unknown number has one incoming lead, and each of those has calls."""
        standing = {self._entries(said)[0].entity_id for said in self.calls}
        opened = [lead for lead in self.account.unsorted if lead.state is IncomingState.OPEN]
        assert {lead.lead_id for lead in opened} <= standing, "an incoming lead has no call"
        made = Counter(str(lead.metadata["phone"]) for lead in opened)
        assert all(number == 1 for number in made.values()), "a number has two incoming leads"
        unknowns = [said for said in self.calls if said.known is None]
        plain = {said.phone for said in unknowns} - {said.phone for said in unknowns if said.leads}
        ever = Counter(str(lead.metadata["phone"]) for lead in self.account.unsorted)
        assert {phone: ever[phone] for phone in plain} == dict.fromkeys(plain, 1)
