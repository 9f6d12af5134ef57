"""Webhook, result and recording in every order, each doubled, with a crash at every moment: the same entry.

A crash at every step of a story is one before and after every request to Kommo, and between any two writes.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import pytest

from calllogd.domain.call import (
    CallKey,
    CallStatus,
    Direction,
    EntityRef,
    EntityType,
    Facts,
    Outcome,
    Recording,
    RecordingState,
    Result,
    Widget,
)
from calllogd.domain.merge import CallEvent
from calllogd.domain.plan import Policy
from tests.simulation.promises import broken, place
from tests.simulation.run import told_of
from tests.simulation.story import ACCOUNT, HOUR, START, CallScript, Delivery, Story
from tests.simulation.world import World

KEY = CallKey(ACCOUNT, "c1")
NUMBER = "2125550100"
OWNER = EntityRef(EntityType.CONTACTS, 2)
CHOICES: dict[str, EntityRef | None] = {
    "the same entity": OWNER,
    "another lead": EntityRef(EntityType.LEADS, 1),
    "another contact": EntityRef(EntityType.CONTACTS, 3),
    "a company": EntityRef(EntityType.COMPANIES, 4),
    "no entity": None,
}
RESULTS = ("none", *CHOICES, "declined")
RECORDINGS = ("none", "fetched", "uploaded twice", "failed")
APART_S = 30.0


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of call; `known`: somebody has its number."""

    known: bool
    direction: Direction
    status: CallStatus
    result: str
    recording: str

    def messages(self) -> list[CallEvent]:
        """Return what arrives about the call, in the plain order."""
        facts = Facts(
            direction=self.direction,
            phone=NUMBER,
            started_at=START,
            outcome=Outcome(self.status, 40 if self.status is CallStatus.ANSWERED else 0),
        )
        told = [CallEvent(key=KEY, facts=facts)]
        if self.result == "declined":
            told.append(CallEvent(key=KEY, widget=Widget(skipped=True)))
        elif self.result != "none":
            result = Result(rev=1, text="agreed", status=2, entity=CHOICES[self.result])
            told.append(CallEvent(key=KEY, result=result))
        if self.recording == "fetched":
            recording = Recording(state=RecordingState.EXPECTED, url="https://voip.example/1.mp3")
            told.append(CallEvent(key=KEY, recording=recording))
        elif self.recording != "none":
            state = RecordingState.FAILED if self.recording == "failed" else RecordingState.READY
            told.append(CallEvent(key=KEY, recording=Recording(state=state)))
        return told

    def story(self, messages: Sequence[CallEvent], apart_s: float, crashes: tuple[int, ...] = ()) -> Story:
        """Return the story in which these messages come one after another, each of them twice."""
        deliveries = [
            Delivery(START + 60 + apart_s * position + again, event, self.recording == "uploaded twice")
            for position, event in enumerate(messages)
            for again in (0.0, 0.3)
        ]
        script = CallScript(
            key=KEY,
            number=NUMBER,
            direction=self.direction,
            events=tuple(messages),
            deliveries=tuple(deliveries),
            fetched=RecordingState.READY,
            fetch_s=1.0,
        )
        return Story(
            seed=1,
            policy=Policy(contact_wait=900.0),
            request_s=5.0,
            workers=(1,),
            calls=(script,),
            holders=((NUMBER, OWNER),) if self.known else (),
            crashes=crashes,
            heals_at=START + HOUR,
        )


VARIANTS = [
    Variant(*kind)
    for kind in itertools.product(
        (True, False), Direction, (CallStatus.ANSWERED, CallStatus.NO_ANSWER), RESULTS, RECORDINGS
    )
]


def ends(story: Story) -> tuple[object, int]:
    """Play a story, which has to keep every promise; return how the call ends, and the steps it took."""
    world = World(story)
    world.play()
    assert (words := broken(world)) == [], f"{words}\n{told_of(story)}"
    call = world.ledger.get(KEY)
    assert call is not None
    result = None if call.result is None else (call.result.text, call.result.entity)
    return (place(world, call), call.state, call.recording.state, result), world.loop.steps


def differing(variant: Variant, *, crash: bool) -> Iterator[str]:
    """Yield each order of a variant, and each moment of a crash in it, that ends in another way."""
    messages = variant.messages()
    plainly, _ = ends(variant.story(messages, APART_S))
    for order in itertools.permutations(messages):
        for apart_s in (APART_S, 0.0):
            end, steps = ends(variant.story(order, apart_s))
            if end != plainly:
                yield f"{variant}, {order}: {end} instead of {plainly}"
            for step in range(1, steps if crash and apart_s else 0):
                story = variant.story(order, apart_s, (step,))
                if (end := ends(story)[0]) != plainly:
                    yield f"{variant}, crash at step {step}: {end} instead of {plainly}\n{told_of(story)}"


def first_differing(variants: Sequence[Variant], *, crash: bool = True) -> str | None:
    """Return the first order that makes a difference, None if none does."""
    return next((words for variant in variants for words in differing(variant, crash=crash)), None)


@pytest.mark.timeout(300)
def test_no_order_and_no_crash_makes_a_difference() -> None:
    jobs = os.cpu_count() or 1
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for words in pool.map(first_differing, [VARIANTS[at : at + 4] for at in range(0, len(VARIANTS), 4)]):
            if words is not None:
                pytest.fail(words, pytrace=False)


def test_a_difference_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the message that comes last counted, orders would matter."""
    monkeypatch.setattr("calllogd.domain.merge.merge_facts", lambda one, other: replace(other))
    with pytest.raises(AssertionError):
        assert first_differing(VARIANTS, crash=False) is None
