"""The ports as the use cases meet them: every method takes time at its beginning and its end, and may fail.

Whatever a method does to the ledger or to Kommo, it does in one instant in between, so that a crash
comes either before or after it.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

from calllogd.domain.call import Attribution, Call, CallKey, EntityRef, Entry, IncomingLead, LeadState
from calllogd.domain.plan import Policy
from calllogd.domain.user import attribution_of
from calllogd.errors import (
    AccountPaused,
    KommoError,
    LeaseLost,
    NumberTaken,
    OutcomeUnknown,
    PermanentError,
    StorageError,
    TransientError,
)
from calllogd.ports import Accepted, Answer, Before, Clock, Crm, Message, Note, Pause, Recordings, VoipCalls
from tests.simulation.kommo import NOWHERE, Kommo
from tests.simulation.ledger import Ledger
from tests.simulation.loop import Loop, pause
from tests.simulation.story import Story

Made = TypeVar("Made")

LATEST = 0.45
"""Part of doubt_wait: Kommo carries out a request whose answer is lost within it, and lists what it made
within as much again."""

FATES = ("unsent", "refused", "busy", "wrong", "gone", "unanswered", "unanswered", "late", "late")
"""What may become of a request: never sent, not done (unreachable, 429, invalid, lost), done, done late."""


class Scene(Protocol):
    """What the ports share."""

    loop: Loop
    story: Story
    ledger: Ledger
    kommo: Kommo
    files: set[CallKey]
    refused: set[CallKey]
    """Calls of which Kommo has refused something."""
    table: dict[str, int]
    """Which user has which extension now."""
    healed: bool

    @property
    def policy(self) -> Policy: ...

    def tell(self, who: object, what: str, *facts: object) -> None: ...


class SceneClock:
    """Virtual time."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def now(self) -> float:
        return self._loop.now


class Calls:
    """The ledger as a process reaches it."""

    def __init__(self, scene: Scene, process: int) -> None:
        self._scene = scene
        self._process = process

    async def get(self, key: CallKey) -> Call | None:
        await self._reach()
        found = self._scene.ledger.get(key)
        await self._return()
        return found

    async def accept(self, message: Message, now: float) -> Accepted:
        await self._reach()
        accepted = self._scene.ledger.accept(message, now)
        self._tell("accept", message.event.key, message.what)
        await self._return()
        return accepted

    async def claim(self, key: CallKey, now: float, lease_s: float) -> Call | None:
        await self._reach()
        claimed = self._scene.ledger.claim(key, now, lease_s)
        self._tell("claim", key, "got it" if claimed else "not to be had")
        await self._return()
        return claimed

    async def save(self, call: Call, now: float, lease_s: float, note: Note | None = None) -> Call:
        await self._reach()
        try:
            saved = self._scene.ledger.save(call, now, lease_s, note)
        except (LeaseLost, NumberTaken) as error:
            self._tell("save", call.key, repr(error))
            raise
        self._tell("save", call.key, _said(saved, note))
        await self._return()
        return saved

    async def release(self, call: Call, now: float, note: Note | None = None) -> Call | None:
        await self._reach()
        try:
            kept = self._scene.ledger.release(call, now, note)
        except LeaseLost as error:
            self._tell("release", call.key, repr(error))
            raise
        self._tell("release", call.key, _said(call, note) + (", but there is news" if kept else ""))
        await self._return()
        return kept

    async def claim_many(self, keys: Sequence[CallKey], now: float, lease_s: float) -> Sequence[Call]:
        await self._reach()
        claims = [self._scene.ledger.claim(key, now, lease_s) for key in keys]
        for key, call in zip(keys, claims, strict=True):
            self._tell("claim", key, "not to be had" if call is None else "got it")
        await self._return()
        return [call for call in claims if call is not None]

    async def save_many(self, calls: Sequence[Call], now: float, lease_s: float) -> Sequence[Call]:
        await self._reach()
        saved = [self._scene.ledger.save(call, now, lease_s, None) for call in calls]
        for call in saved:
            self._tell("save", call.key, _said(call, None))
        await self._return()
        return saved

    async def release_many(self, worked: Sequence[tuple[Call, Note]], now: float) -> Sequence[Call]:
        await self._reach()
        kept: list[Call | None] = []
        for call, note in worked:
            with contextlib.suppress(LeaseLost):
                kept.append(self._scene.ledger.release(call, now, note))
            self._tell("release", call.key, _said(call, note))
        await self._return()
        return [call for call in kept if call is not None]

    async def close_lead(self, call: Call, now: float) -> bool:
        await self._reach()
        closed = self._scene.ledger.close_lead(call, now)
        if closed and call.leaving is not None and call.leaving.lead_uid is not None:
            self._scene.kommo.unsorted[call.leaving.lead_uid].closing = True
        self._tell("close_lead", call.key, str(closed))
        await self._return()
        return closed

    async def pause(self, account_id: int, cause: AccountPaused, now: float) -> Pause:
        await self._reach()
        paused = self._scene.ledger.pause(account_id, cause, now)
        await self._return()
        return paused

    async def due(self, account_id: int | None, now: float, limit: int) -> Sequence[CallKey]:
        await self._reach()
        due = self._scene.ledger.due(account_id, now, limit)
        await self._return()
        return due

    async def _reach(self) -> None:
        scene = self._scene
        await pause(hop(scene))
        if scene.story.disk and not scene.healed and scene.loop.rng.random() < scene.story.disk:
            self._tell("ledger", None, "cannot be written")
            raise StorageError("the disk is full")

    async def _return(self) -> None:
        await pause(hop(self._scene))

    def _tell(self, what: str, key: CallKey | None, outcome: str) -> None:
        self._scene.tell(f"process {self._process}", what, "" if key is None else key.call_id, outcome)


class Files:
    """The files of recordings."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def delete(self, key: CallKey) -> None:
        await pause(hop(self._scene))
        self._scene.files.discard(key)
        self._scene.tell("files", "delete", key.call_id)
        await pause(hop(self._scene))


class KommoOnTheLine:
    """Kommo as a process reaches it, which knows the table of extensions as it was when it was built."""

    def __init__(self, scene: Scene, process: int) -> None:
        self._scene = scene
        self._process = process
        self._table = dict(scene.table)

    def attribution(self, call: Call) -> Attribution | None:
        return attribution_of(call, self._table)

    def _whose(self, call: Call) -> Call:
        """Return a call as it is told to Kommo."""
        return replace(call, attribution=self.attribution(call))

    async def log_call(self, call: Call, before: Before) -> Answer:
        kommo = self._scene.kommo
        return await self._create(
            "log_call", call, before, lambda now, shows_at: kommo.log_call(self._whose(call), now, shows_at)
        )

    async def log_calls(self, calls: Sequence[Call], before: Before) -> Mapping[CallKey, Answer | KommoError]:
        scene = self._scene

        def log(now: float, shows_at: float) -> Mapping[CallKey, Answer | KommoError]:
            became: dict[CallKey, Answer | KommoError] = {}
            for call in calls:
                fate = self._fate()
                if fate not in ("unanswered", "gone"):
                    try:
                        became[call.key] = scene.kommo.log_call(self._whose(call), now, shows_at)
                    except KommoError as error:
                        became[call.key] = error
                    continue
                if fate == "unanswered":
                    with suppress(KommoError):
                        scene.kommo.log_call(self._whose(call), now, shows_at)
                became[call.key] = OutcomeUnknown("Kommo's answer does not mention the call")
            return became

        return await self._create("log_calls", calls[0], before, log)

    async def create_incoming_lead(self, call: Call, before: Before) -> Answer:
        kommo = self._scene.kommo
        return await self._create(
            "create_incoming_lead",
            call,
            before,
            lambda now, shows_at: kommo.create_incoming_lead(self._whose(call), now, shows_at),
        )

    async def add_note(self, call: Call, on: EntityRef, before: Before) -> Answer:
        if on == NOWHERE:
            self._scene.refused.add(call.key)
        kommo = self._scene.kommo
        return await self._create(
            "add_note", call, before, lambda now, shows_at: kommo.add_note(self._whose(call), on, shows_at)
        )

    async def add_task(self, call: Call, on: EntityRef, before: Before) -> Answer:
        kommo = self._scene.kommo
        return await self._create(
            "add_task", call, before, lambda now, shows_at: kommo.add_task(call, on, shows_at)
        )

    async def find(self, call: Call, since: float) -> Answer:
        return await self._ask("find", call, lambda now: self._scene.kommo.find(call, now))

    async def find_note(self, call: Call, on: EntityRef) -> Answer:
        return await self._ask("find_note", call, lambda now: self._scene.kommo.find_note(call, on, now))

    async def find_task(self, call: Call, on: EntityRef) -> Answer:
        return await self._ask("find_task", call, lambda now: self._scene.kommo.find_task(call, on, now))

    async def amend(self, call: Call, before: Before) -> Answer:
        whose = self._whose(call)
        return await self._ask("amend", call, lambda now: self._scene.kommo.amend(whose, now), before)

    async def neutralise(self, call: Call, left: Entry) -> Answer:
        return await self._ask("neutralise", call, lambda now: self._scene.kommo.neutralise(call, left, now))

    async def check_lead(self, call: Call, lead: IncomingLead) -> LeadState:
        return await self._ask("check_lead", call, lambda now: self._scene.kommo.check_lead(lead.uid))

    async def decline(self, call: Call, lead_uid: str) -> Answer:
        return await self._ask("decline", call, lambda now: self._scene.kommo.decline(lead_uid, now))

    async def hand_over(self, call: Call, contact_id: int | None, to: EntityRef) -> None:
        found_at = self._scene.loop.now + self._scene.story.search_lag_s * self._scene.loop.rng.random()
        await self._ask(
            "hand_over", call, lambda now: self._scene.kommo.hand_over(call, contact_id, to, found_at)
        )

    async def _create(
        self, what: str, call: Call, before: Before, make: Callable[[float, float], Made]
    ) -> Made:
        """Send a creating request. What it makes is made whether or not the sender is still there."""
        scene, loop, rng = self._scene, self._scene.loop, self._scene.loop.rng
        fate = self._fate()
        await pause(hop(scene))
        if fate == "unsent":
            raise TransientError("its turn did not come")
        await before()
        await pause(_held_up(rng.random()))
        took_s = self._took()
        refusal = self._refusal(what, call, fate)
        if refusal is not None:
            await pause(took_s)
            raise refusal
        box: list[Made | KommoError] = []
        wait_s = LATEST * scene.policy.doubt_wait
        lag_s = wait_s * rng.random() if scene.story.list_lag else 0.0
        if fate != "gone":
            late_s = took_s + wait_s * rng.random() if fate == "late" else took_s * rng.random()
            loop.after(late_s, partial(self._arrive, what, call, make, lag_s, box))
        await pause(took_s)
        if fate is not None:
            self._tell(what, call, f"no answer ({fate})")
            raise OutcomeUnknown("no answer")
        if isinstance(box[0], KommoError):
            raise box[0]
        return box[0]

    def _arrive(
        self,
        what: str,
        call: Call,
        make: Callable[[float, float], Made],
        lag_s: float,
        box: list[Made | KommoError],
    ) -> None:
        """Let Kommo carry out a creating request, and put its answer into the box."""
        now = self._scene.loop.now
        try:
            made = make(now, now + lag_s)
        except KommoError as error:
            box.append(error)
            self._tell(what, call, repr(error))
        else:
            box.append(made)
            self._tell(what, call, _answered(made))

    async def _ask(
        self, what: str, call: Call, do: Callable[[float], Made], before: Before | None = None
    ) -> Made:
        """Send a request that may be sent twice."""
        scene = self._scene
        fate = self._fate()
        await pause(hop(scene))
        if fate == "unsent":
            raise TransientError("its turn did not come")
        if before is not None:
            await before()
            await pause(_held_up(scene.loop.rng.random()))
        took_s = self._took()
        await pause(took_s * scene.loop.rng.random())
        refusal = self._refusal(what, call, fate)
        if refusal is not None:
            raise refusal
        lost = TransientError("no answer") if before is None else OutcomeUnknown("no answer")
        if fate in ("gone", "late"):
            self._tell(what, call, "lost")
            raise lost
        try:
            made = do(scene.loop.now)
        except KommoError as error:
            self._tell(what, call, repr(error))
            raise
        self._tell(what, call, _answered(made))
        await pause(took_s * scene.loop.rng.random())
        if fate == "unanswered":
            raise lost
        return made

    def _fate(self) -> str | None:
        scene = self._scene
        if scene.healed or not scene.story.trouble:
            return None
        rng = scene.loop.rng
        return rng.choice(FATES) if rng.random() < scene.story.trouble else None

    def _refusal(self, what: str, call: Call, fate: str | None) -> KommoError | None:
        """Return what Kommo answers to a request that it does not carry out, None if it does."""
        now = self._scene.loop.now
        if any(begins <= now < ends for begins, ends in self._scene.story.outages):
            fate = "out"
        if fate not in ("out", "wrong", "busy", "refused"):
            return None
        self._tell(what, call, fate)
        if fate == "out":
            return AccountPaused("the access token is wrong")
        if fate == "wrong":
            self._scene.refused.add(call.key)
            return PermanentError("Kommo refuses the request")
        if fate == "busy":
            return TransientError("too many requests", retry_after_s=3.0)
        return TransientError("Kommo is not reached")

    def _took(self) -> float:
        """Return how long a request takes."""
        drawn = self._scene.loop.rng.random()
        longest = self._scene.story.request_s
        return 0.3 * drawn if drawn < 0.8 else longest * (0.2 + 0.79 * (drawn - 0.8) * 5)

    def _tell(self, what: str, call: Call, outcome: str) -> None:
        self._scene.tell(f"process {self._process}", what, call.key.call_id, outcome)


def hop(scene: Scene) -> float:
    """Return how long a process is busy elsewhere: mostly not at all, sometimes it is stopped for minutes."""
    drawn = scene.loop.rng.random()
    if drawn < 0.9:
        return drawn * 0.01
    if drawn < 1 - scene.story.freeze or scene.healed:
        return (drawn - 0.9) * 10
    seconds = 300 * scene.loop.rng.random() ** 2
    scene.tell("a process", "is stopped for", f"{seconds:.0f} s")
    return seconds


def _held_up(drawn: float) -> float:
    """Return how long a request that may leave takes until it does; more than that no lease could cover."""
    return drawn * 0.02 if drawn < 0.97 else (drawn - 0.97) * 25


def _said(call: Call, note: Note | None) -> str:
    what = "" if note is None else f"{note.what}: {note.outcome}; "
    doubt = "" if call.doubt is None else f" in doubt ({call.doubt.intent.value})"
    return f"{what}{call.state.value}{doubt}, revision {call.written_revision}/{call.revision}"


def _answered(made: object) -> str:
    if isinstance(made, Answer):
        where = made.entry
        if where is None:
            return "nothing there"
        lead = "" if where.lead_uid is None else f" ({where.lead_uid})"
        task = "" if made.task_id is None else f", task {made.task_id}"
        return f"{where.entity_type.value} {where.entity_id}, note {where.note_id}{lead}{task}"
    return str(made)


def _check(scene: Scene) -> tuple[Clock, VoipCalls, Crm, Recordings]:
    """Exist for mypy, which tells when a stand-in and its port drift apart."""
    return SceneClock(scene.loop), Calls(scene, 0), KommoOnTheLine(scene, 0), Files(scene)
