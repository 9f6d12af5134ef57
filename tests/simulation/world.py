"""A story played out: the use cases, the ledger, Kommo and its people, until nothing is left to be done."""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from calllogd.domain.call import CallKey, CallState, LeadState, Recording, RecordingState
from calllogd.domain.merge import CallEvent
from calllogd.domain.plan import Policy
from calllogd.domain.user import MAPPED_FOR_S
from calllogd.errors import LeaseLost, StorageError
from calllogd.ports import Message
from calllogd.voip.task.add_call import AddCallTask
from calllogd.voip.usecase.add_call import AddCallUseCase
from calllogd.voip.usecase.hold import Timing
from tests.simulation.kommo import Broken, Kommo, Unsorted
from tests.simulation.ledger import Ledger, MemoryLedger
from tests.simulation.loop import Loop, pause
from tests.simulation.ports import Calls, Files, KommoOnTheLine, SceneClock, hop
from tests.simulation.story import (
    ACCOUNT,
    EXTENSION,
    START,
    CallScript,
    Delivery,
    Newcomer,
    Story,
    at_home,
)

BATCH = 50


class World:
    """Everything there is, at one virtual instant."""

    def __init__(
        self, story: Story, *, ledger: Callable[[], Ledger] = MemoryLedger, telling: bool = False
    ) -> None:
        self.story = story
        self.loop = Loop(Random(story.seed + 1), START - 60)  # noqa: S311  see story.py
        self.ledger: Ledger = ledger()
        self.kommo = Kommo(note_on_contact=story.note_on_contact, bin_refuses=story.bin_refuses)
        self.kommo.on_made = self._made
        self.kommo.on_sorted = self._report
        self.files: set[CallKey] = set()
        self.accepted: dict[CallKey, list[CallEvent]] = {call.key: [] for call in story.calls}
        self.refused: set[CallKey] = set()
        self.table: dict[str, int] = {}
        self.healed = False
        self.lines: list[str] | None = [] if telling else None
        self._scripts = {call.key: call for call in story.calls}
        self._fetching: set[CallKey] = set()
        self._crashes = list(story.crashes)
        self._up = [True] * len(story.workers)
        self._idle = list(story.workers)
        self._setting_out = [0] * len(story.workers)
        self._use_cases = [self._use_case(process) for process in range(len(story.workers))]
        self._begin()

    @property
    def policy(self) -> Policy:
        """What the operator has decided."""
        return self.story.policy

    def tell(self, who: object, what: str, *facts: object) -> None:
        """Write a line of the story, if somebody is going to read it."""
        if self.lines is not None:
            said = " ".join(str(fact) for fact in facts)
            self.lines.append(f"{self.loop.now - START:12.3f}  {who!s:10}  {what:20}  {said}")

    def play(self) -> None:
        """Let everything happen until nothing is due any more; in the end what failed is tried once again."""
        self._run()
        self._attribute()
        self._run()
        for script in self.story.calls:
            call = self.ledger.get(script.key)
            if call is not None and call.state is CallState.FAILED and script.key not in self.refused:
                raise Broken(
                    f"P6: {script.key.call_id} failed although nothing was refused: {call.last_error}"
                )
        self.tell("operator", "retry", "whatever has failed")
        if self.ledger.retry(None, self.loop.now):
            self._run()
        self._attribute()
        self._run()
        self._sweep()

    def _run(self) -> None:
        loop = self.loop
        while True:
            next_at = loop.next_at()
            if not any(self._setting_out) and any(self._idle):
                due_at = self.ledger.next_due()
                if due_at is not None and (next_at is None or due_at <= next_at) and self._wake(due_at):
                    continue
            if next_at is None:
                return
            loop.step()
            if self._crashes and loop.steps >= self._crashes[0]:
                self._crashes.pop(0)
                self._crash()

    def _begin(self) -> None:
        story = self.story
        for number, on in story.holders:
            self.kommo.hold(number, on, 0.0)
        for call in story.calls:
            for delivery in call.deliveries:
                self.loop.at(delivery.at, partial(self.deliver, delivery))
        for newcomer in story.newcomers:
            self.loop.at(newcomer.at, partial(self._come, newcomer))
        for at, key in story.retries:
            self.loop.at(at, partial(self._retry, key))
        for at, user_id in story.mapped:
            self.loop.at(at, partial(self._map, user_id))
        self.loop.at(story.heals_at, self._heal)

    def _sweep(self) -> None:
        """Delete files of recordings that are not there any more, as `Retention` does every hour."""
        for key in sorted(self.files):
            call = self.ledger.get(key)
            if call is None or call.recording.state is not RecordingState.READY:
                self.files.discard(key)

    def _use_case(self, process: int) -> AddCallUseCase:
        return AddCallUseCase(
            calls=Calls(self, process),
            crm=KommoOnTheLine(self, process),
            recordings=Files(self),
            clock=SceneClock(self.loop),
            policy=self.story.policy,
            timing=Timing(request=self.story.request_s),
            jitter=self.loop.rng.random,
        )

    def _map(self, user_id: int) -> None:
        """Give the extension to a user; each process is built anew a while later."""
        self.tell("person", "gives", EXTENSION, "to user", user_id)
        self.table[EXTENSION] = user_id
        for process in range(len(self._up)):
            self.loop.after(3 * self.loop.rng.random(), partial(self._build, process))

    def _build(self, process: int) -> None:
        """Build a process anew: it works with the table as it is now, and looks for calls that are nobody's.

        What it is at goes on with the table before, which is worse than in a daemon.
        """
        if self._up[process]:
            self._use_cases[process] = self._use_case(process)
            self._attribute()

    def _attribute(self) -> None:
        place, now = 0, self.loop.now
        while True:
            reached = self.ledger.attribute(
                ACCOUNT, list(self.table), since=now - MAPPED_FOR_S, now=now, after=place, limit=2
            )
            if reached in (None, place):
                break
            self.tell("a process", "attributes calls up to", reached)
            place = reached

    def _wake(self, due_at: float) -> bool:
        """Let an idle worker take what is due; now and then two at once."""
        idle = [process for process, up in enumerate(self._up) if up and self._idle[process]]
        if not idle:
            return False
        self.loop.now = max(self.loop.now, due_at)
        for process in idle if self.loop.rng.random() < 0.3 else [self.loop.rng.choice(idle)]:
            self._idle[process] -= 1
            self._setting_out[process] += 1
            self.loop.start(process, self._work(process), partial(self._done, process))
        return True

    async def _work(self, process: int) -> None:
        """What a worker does for a ring or a sweep: takes one due call, or all of them as a batch."""
        rng, use_case = self.loop.rng, self._use_cases[process]
        await pause(hop(self) if rng.random() < 0.7 else 3 * rng.random())
        keys: Sequence[CallKey] = self.ledger.due(ACCOUNT, self.loop.now, BATCH)
        self._setting_out[process] -= 1
        if not keys:
            return
        if len(keys) > 1 and rng.random() < 0.5:
            await use_case.execute_many(keys)
        else:
            await use_case.execute(AddCallTask(*keys[0]))

    def _done(self, process: int, error: BaseException | None) -> None:
        self._idle[process] += 1
        if error is None:
            return
        self.tell(f"process {process}", "gave up", repr(error))
        if not isinstance(error, LeaseLost | StorageError):
            raise error

    def _crash(self) -> None:
        running = [process for process, up in enumerate(self._up) if up]
        if not running:
            return
        process = self.loop.rng.choice(running)
        self.tell(f"process {process}", "is killed")
        self._up[process] = False
        self.loop.kill(process)
        self._setting_out[process] = self._idle[process] = 0
        self.loop.after(
            self.loop.rng.choice((0.1, 5.0, 300.0)) * self.loop.rng.random(), lambda: self._start(process)
        )

    def _start(self, process: int) -> None:
        self.tell(f"process {process}", "starts")
        self._up[process] = True
        self._idle[process] = self.story.workers[process]
        self.ledger.probe_paused(self.loop.now)
        self._build(process)

    def _heal(self) -> None:
        self.tell("world", "heals")
        self.healed = True
        self._crashes.clear()

    def deliver(self, delivery: Delivery) -> None:
        """Let a message arrive; a sender that finds nobody there comes again."""
        if not any(self._up):
            self.loop.after(1.0 + 10 * self.loop.rng.random(), lambda: self.deliver(delivery))
            return
        if delivery.upload:
            self.files.add(delivery.event.key)
        self.loop.after(0.5 * self.loop.rng.random() ** 3, lambda: self._accept(delivery.event))

    def _accept(self, event: CallEvent) -> None:
        key = event.key
        message = Message(event=event, who="voip:generic", what="message", body=b"")
        accepted = self.ledger.accept(message, self.loop.now)
        self.accepted[key].append(event)
        if self.lines is not None:
            self.tell("message", key.call_id, _event_words(event), "again" if accepted.duplicate else "")
        call = self.ledger.get(key)
        assert call is not None
        state = call.recording.state
        if event.recording.state is RecordingState.READY and state is not RecordingState.READY:
            self.files.discard(key)
        if state is RecordingState.EXPECTED and key not in self._fetching:
            self._fetching.add(key)
            script = self._scripts[key]
            if script.fetched is not None:
                self.loop.after(script.fetch_s, lambda: self._fetched(script))

    def _fetched(self, script: CallScript) -> None:
        """Keep a fetched recording, or give it up; as `FetchRecordingUseCase` does."""
        self._fetching.discard(script.key)
        call = self.ledger.get(script.key)
        if call is None or script.fetched is None or call.recording.state is not RecordingState.EXPECTED:
            return
        recording = Recording(state=script.fetched, url=call.recording.url)
        if script.fetched is RecordingState.READY:
            self.files.add(script.key)
        event = CallEvent(key=script.key, recording=recording)
        self.loop.after(5 * self.loop.rng.random() ** 3, lambda: self._accept(event))

    def _made(self, lead: Unsorted) -> None:
        """Let a person find an incoming lead, sooner or later, and decide what becomes of it."""
        rng, story = self.loop.rng, self.story
        drawn = rng.random() if story.accepts or story.declines else 1.0
        if drawn < story.accepts + story.declines:
            state = LeadState.ACCEPTED if drawn < story.accepts else LeadState.DECLINED
            seconds = rng.choice((3.0, 60.0, 3600.0, story.policy.contact_wait * 1.2)) * rng.random()
            self.loop.after(seconds, lambda: self._sort(lead, state))

    def _sort(self, lead: Unsorted, state: LeadState) -> None:
        if lead.state is not LeadState.OPEN:
            return
        rng, now = self.loop.rng, self.loop.now
        lead.by_person = True
        self.kommo.sort(lead, state, now)
        self.tell("person", f"{lead.uid} is", state.value)
        if state is LeadState.ACCEPTED:
            self.kommo.hold(lead.number, lead.lead, now + self.story.search_lag_s * rng.random())

    def _report(self, lead: Unsorted, state: LeadState) -> None:
        """Let Kommo's webhook tell of what became of an incoming lead, whoever did it."""
        rng = self.loop.rng
        for _ in range(rng.choice((1, 1, 2))):
            if rng.random() >= self.story.webhooks_lost:
                self.loop.after(
                    rng.choice((0.2, 5.0, 600.0)) * rng.random(), lambda: self._sorted(lead, state)
                )

    def _sorted(self, lead: Unsorted, state: LeadState) -> None:
        woken = self.ledger.lead_sorted(ACCOUNT, lead.uid, state, self.loop.now)
        lead.told = lead.told or self.ledger.knows(lead.uid)
        self.tell("webhook", f"{lead.uid} was", state.value, f"wakes {woken}")

    def _come(self, newcomer: Newcomer) -> None:
        found_at = self.loop.now + self.story.search_lag_s * self.loop.rng.random()
        self.kommo.hold(newcomer.number, newcomer.on, found_at)
        self.tell("person", "creates a contact", newcomer.number, f"found from {found_at - START:.3f} on")
        if newcomer.told_at is not None:
            self.loop.at(newcomer.told_at, lambda: self._appeared(newcomer.number))

    def _appeared(self, number: str) -> None:
        woken = self.ledger.number_appeared(ACCOUNT, [at_home(number)], self.loop.now)
        self.tell("webhook", "contact with", number, f"wakes {woken}")

    def _retry(self, key: CallKey) -> None:
        self.tell("operator", "retry", key.call_id, self.ledger.retry(key, self.loop.now))


def _event_words(event: CallEvent) -> str:
    words: list[str] = []
    if event.facts.direction is not None:
        words.append(f"{event.facts.direction.value} {event.facts.phone} {event.facts.outcome}")
    words += [f"leg {leg.id} {leg.status or 'goes on'}" for leg in event.legs]
    if event.widget.expected:
        words.append("result expected" if not event.widget.skipped else "skipped")
    if event.result is not None:
        result = event.result
        on = None if result.entity is None else f"{result.entity.kind.value} {result.entity.id}"
        words.append(f"result rev {result.rev} on {on}, todo {result.todo is not None}")
    if event.recording.state is not RecordingState.NONE:
        words.append(f"recording {event.recording.state.value}")
    return "; ".join(words)
