"""What is to happen, drawn from a seed: calls, what is said of them and when, people, faults, crashes."""

from dataclasses import dataclass, replace
from random import Random

from calllogd.domain.call import (
    NO_FACTS,
    NO_RECORDING,
    CallKey,
    CallStatus,
    Direction,
    EntityRef,
    EntityType,
    Facts,
    Leg,
    Outcome,
    Person,
    Recording,
    RecordingState,
    Result,
    Side,
    Todo,
    Widget,
)
from calllogd.domain.merge import CallEvent
from calllogd.domain.phone import spellings
from calllogd.domain.plan import IncomingLeads, Policy
from tests.simulation.kommo import NOWHERE, REGION

ACCOUNT = 31337
START = 1_760_000_000.0
HOUR = 3600.0
EXTENSION = "101"

BLOCKED = "+61 2 5550 0199"
LEFT_OUT = ("anonymous", "101", "sip:102@pbx", "02 5550 0199")
"""What stands for a number in calls that are ignored: withheld, within, blocked."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that arrives at a time: which of its call's, and that it comes with the sound itself."""

    at: float
    event: CallEvent
    upload: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallScript:
    """All that is said of one call; `events` are the different messages in their plain order.

    `fetched` is what comes of fetching the recording, None: nothing ever, and `fetch_s` how long that takes.
    """

    key: CallKey
    number: str
    direction: Direction
    events: tuple[CallEvent, ...]
    deliveries: tuple[Delivery, ...]
    fetched: RecordingState | None
    fetch_s: float

    @property
    def entity_chosen(self) -> bool:
        """Whether the manager ever chooses an entity."""
        return any(event.result is not None and event.result.entity is not None for event in self.events)


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """A contact that a person creates with a number; Kommo's webhook tells of it at `told_at`, if it does."""

    at: float
    number: str
    on: EntityRef
    told_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything that is drawn beforehand. Chances are per occasion, until `heals_at`."""

    seed: int
    policy: Policy
    request_s: float
    workers: tuple[int, ...]
    calls: tuple[CallScript, ...]
    holders: tuple[tuple[str, EntityRef], ...]
    newcomers: tuple[Newcomer, ...] = ()
    trouble: float = 0.0
    freeze: float = 0.0
    disk: float = 0.0
    list_lag: bool = False
    search_lag_s: float = 0.0
    outages: tuple[tuple[float, float], ...] = ()
    crashes: tuple[int, ...] = ()
    retries: tuple[tuple[float, CallKey], ...] = ()
    accepts: float = 0.0
    declines: float = 0.0
    webhooks_lost: float = 0.0
    note_on_contact: bool = False
    bin_refuses: bool = True
    heals_at: float = START
    mapped: tuple[tuple[float, int], ...] = ()
    """When which user is given the extension that calls name."""

    @property
    def has_people(self) -> bool:
        """Whether somebody does something in Kommo meanwhile."""
        return bool(self.accepts or self.declines or self.newcomers)


def draw(seed: int) -> Story:
    """Return the story of a seed."""
    rng = Random(seed)  # noqa: S311  the same every time is what it is for
    policy = Policy(
        result_wait=rng.choice((5.0, 30.0, 120.0)),
        contact_wait=rng.choice((900.0, 900.0, 2 * HOUR, 2 * HOUR, 18 * HOUR)),
        doubt_wait=rng.choice((20.0, 60.0)),
        incoming_leads=rng.choice((IncomingLeads.ALL,) * 8 + (IncomingLeads.ANSWERED, IncomingLeads.OFF)),
        blocked=spellings(BLOCKED, REGION),
    )
    numbers = [f"141234{rng.randrange(10_000):04}" for _ in range(rng.choice((1, 1, 1, 2)))]
    entities = [
        EntityRef(kind, number)
        for number, kind in enumerate((EntityType.LEADS, EntityType.CONTACTS, EntityType.COMPANIES), 1)
    ]
    holders = tuple((number, rng.choice(entities)) for number in numbers if rng.random() < 0.4)
    spread = rng.choice((0.0, 0.0, 0.0, 3.0, 3.0, 300.0, 1.5 * HOUR))
    calls = tuple(
        _call(rng, f"c{place}", _outside(rng, numbers), dict(holders), START + rng.random() * spread)
        for place in range(rng.choice((1, 2, 2, 2, 3, 3, 4)))
    )
    by_legs = Random(-seed - 2)  # noqa: S311  stories of before stay as they are
    calls = tuple(_in_legs(by_legs, call) if by_legs.random() < 0.3 else call for call in calls)
    ends_at = max(delivery.at for call in calls for delivery in call.deliveries)
    rough = rng.choice((0.0, 0.0, 0.04, 0.12, 0.3))
    story = Story(
        seed=seed,
        policy=policy,
        request_s=rng.choice((2.0, 5.0, 20.0)),
        workers=rng.choice(((1,), (2,), (3,), (1, 1), (2, 1))),
        calls=calls,
        holders=holders,
        trouble=rough,
        freeze=rng.choice((0.0, 0.0, 0.01, 0.04)) if rough else 0.0,
        disk=rng.choice((0.0, 0.0, 0.01)) if rough else 0.0,
        list_lag=rng.random() < 0.3,
        search_lag_s=rng.choice((0.0, 0.0, 10.0, 300.0)),
        note_on_contact=rng.random() < 0.3,
        bin_refuses=rng.random() < 0.7,
        heals_at=ends_at + rng.random() * HOUR,
    )
    story = _troubled(rng, _peopled(rng, story, numbers, ends_at), ends_at)
    return replace(story, mapped=_mapped(Random(-seed - 1), ends_at))  # noqa: S311  likewise


def plain(story: Story) -> Story:
    """Return the story in which the same is said, once and in order, and nothing goes wrong."""
    calls = []
    for call in story.calls:
        uploads = {id(delivery.event) for delivery in call.deliveries if delivery.upload}
        deliveries = [
            Delivery(START + 60.0 * place, event, id(event) in uploads)
            for place, event in enumerate(call.events)
        ]
        calls.append(replace(call, deliveries=tuple(deliveries), fetch_s=1.0))
    return Story(
        seed=story.seed,
        policy=story.policy,
        request_s=story.request_s,
        workers=(1,),
        calls=tuple(calls),
        holders=story.holders,
    )


def _mapped(rng: Random, ends_at: float) -> tuple[tuple[float, int], ...]:
    """Return when somebody is given the extension, if at all; sometimes it is another's later."""
    ats = sorted(
        START - 120 + rng.random() * (ends_at - START + rng.choice((10.0, 120.0, HOUR))) for _ in "12"
    )
    return tuple(zip(ats[: rng.choice((0, 1, 1, 2))], (111, 112), strict=False))


def _troubled(rng: Random, story: Story, ends_at: float) -> Story:
    crashes: tuple[int, ...] = ()
    if rng.random() < 0.5:
        crashes = tuple(
            sorted(rng.randrange(1, rng.choice((40, 120, 400))) for _ in range(rng.choice((1, 1, 2, 4))))
        )
    outages: tuple[tuple[float, float], ...] = ()
    if rng.random() < 0.15:
        begins_at = START + rng.random() * min(HOUR, ends_at - START)
        outages = ((begins_at, begins_at + rng.choice((5.0, 60.0, 1000.0))),)
    retries: tuple[tuple[float, CallKey], ...] = ()
    if rng.random() < 0.15:
        retries = ((START + rng.random() * (ends_at - START + 600), rng.choice(story.calls).key),)
    return replace(story, crashes=crashes, outages=outages, retries=retries)


def _peopled(rng: Random, story: Story, numbers: list[str], ends_at: float) -> Story:
    if rng.random() < 0.4:
        return story
    newcomers: tuple[Newcomer, ...] = ()
    if rng.random() < 0.4:
        at = START + rng.random() * rng.choice((60.0, HOUR, ends_at - START + story.policy.contact_wait))
        told_at = None if rng.random() < 0.3 else at + rng.choice((0.5, 0.5, 30.0, HOUR)) * rng.random()
        on = EntityRef(EntityType.CONTACTS, 70)
        newcomers = (Newcomer(at=at, number=rng.choice(numbers), on=on, told_at=told_at),)
    return replace(
        story,
        newcomers=newcomers,
        accepts=rng.choice((0.0, 0.3, 0.5)),
        declines=rng.choice((0.0, 0.3, 0.5)),
        webhooks_lost=rng.choice((0.0, 0.3, 1.0)),
    )


def _call(
    rng: Random, call_id: str, number: str, holders: dict[str, EntityRef], started_at: float
) -> CallScript:
    """Return what is said of one call, and when."""
    key = CallKey(ACCOUNT, call_id)
    direction = Direction.INBOUND if rng.random() < 0.75 else Direction.OUTBOUND
    talk_s = rng.choice((0, 0, rng.randrange(1, 20), rng.randrange(1, 300)))
    status = CallStatus.ANSWERED if talk_s else rng.choice(tuple(CallStatus)[1:])
    facts = Facts(
        direction=direction, phone=_written(rng, number), started_at=started_at, person=_person(rng, 1)
    )
    ended_at = started_at + talk_s
    said: list[tuple[float, CallEvent]] = []
    if rng.random() < 0.5:
        said.append((started_at, CallEvent(key=key, facts=facts)))
    announced = NO_RECORDING
    if rng.random() < 0.3:
        announced = Recording(state=RecordingState.EXPECTED, url="https://voip.example/1")
    by_widget = rng.random() < 0.5
    if rng.random() < 0.95 or not said:
        ended = replace(facts, outcome=Outcome(status, talk_s), person=_person(rng, 2))
        said.append((ended_at, CallEvent(key=key, facts=ended, recording=announced)))
        if rng.random() < 0.05:
            other = replace(ended, outcome=Outcome(CallStatus.ANSWERED, talk_s + 1))
            said.append((ended_at, CallEvent(key=key, facts=other)))
    if by_widget:
        seen = replace(facts, phone=_written(rng, number), person=None, started_at=None)
        said += _results(rng, key, seen if rng.random() < 0.6 else NO_FACTS, holders.get(number), ended_at)
    said += _recordings(rng, key, ended_at)
    order = sorted(range(len(said)), key=lambda place: said[place][0])
    events = tuple(said[place][1] for place in order)
    deliveries: list[Delivery] = []
    for at, event in said:
        upload = event.recording.state is RecordingState.READY
        for _ in range(1 if rng.random() < 0.75 else rng.choice((2, 3))):
            deliveries.append(Delivery(at + _late(rng), event, upload))
    return CallScript(
        key=key,
        number=number,
        direction=direction,
        events=events,
        deliveries=tuple(sorted(deliveries, key=lambda delivery: delivery.at)),
        fetched=rng.choice((RecordingState.READY,) * 6 + (RecordingState.FAILED, None)),
        fetch_s=rng.choice((0.5, 5.0, 60.0, HOUR, 3 * HOUR)) * rng.random(),
    )


def _in_legs(rng: Random, call: CallScript) -> CallScript:
    """Return the call as services tell it that speak of each connection by itself, late as they like."""
    events: list[CallEvent] = []
    deliveries: list[Delivery] = []
    for event in call.events:
        same = [delivery for delivery in call.deliveries if delivery.event is event]
        told = _legs_of(rng, event)
        events += told
        for place, one in enumerate(told):
            deliveries += [
                replace(delivery, event=one, at=delivery.at + (_late(rng) if place else 0.0))
                for delivery in same
            ]
    return replace(
        call, events=tuple(events), deliveries=tuple(sorted(deliveries, key=lambda delivery: delivery.at))
    )


def _legs_of(rng: Random, event: CallEvent) -> list[CallEvent]:
    """Return what an event of a call says, leg by leg; what comes with it comes with the first leg."""
    facts, outcome = event.facts, event.facts.outcome
    if facts.direction is None:
        return [event]
    client = Leg("a", Side.CLIENT, facts.direction, facts.phone, started_at=facts.started_at)
    if outcome is None or facts.started_at is None:
        return [replace(event, facts=NO_FACTS, legs=(client,))]
    ended_at, extension = facts.started_at + outcome.duration, EXTENSION if facts.person else None
    ended = Leg("a", Side.CLIENT, ended_at=ended_at, talk=outcome.duration, status=outcome.status)
    staff = Leg("b", Side.STAFF, extension=extension, ended_at=ended_at, status=outcome.status)
    if outcome.duration:
        staff = staff._replace(answered_at=facts.started_at, talk=outcome.duration)
    rest = [CallEvent(key=event.key, legs=(leg,)) for leg in (ended, staff)]
    if rng.random() < 0.3:
        rest.append(CallEvent(key=event.key, legs=(Leg("c", Side.STAFF, status=CallStatus.NO_ANSWER),)))
    return [replace(event, facts=NO_FACTS, legs=(client,)), *rest]


def _results(
    rng: Random, key: CallKey, seen: Facts, holder: EntityRef | None, ended_at: float
) -> list[tuple[float, CallEvent]]:
    """Return what the widget says of a call."""
    said: list[tuple[float, CallEvent]] = []
    if rng.random() < 0.6:
        said.append((ended_at - 1, CallEvent(key=key, widget=Widget(facts=seen, expected=True))))
    revs = rng.choice((0, 1, 1, 1, 2, 2, 3))
    at = ended_at + rng.choice((-1.0, 5.0, 60.0, 300.0, HOUR)) * rng.random()
    for rev in range(1, revs + 1):
        result = Result(
            rev=rev,
            text=f"{key.call_id} rev {rev}",
            status=rng.choice((None, 1, 4, 7)),
            entity=_chosen(rng, holder),
            todo=_todo(rng, key, rev),
        )
        said.append((at, CallEvent(key=key, widget=Widget(facts=seen), result=result)))
        at += rng.choice((0.5, 10.0, 100.0, HOUR)) * rng.random()
    if revs == 0 and said and rng.random() < 0.6:
        said.append((at, CallEvent(key=key, widget=Widget(facts=seen, expected=True, skipped=True))))
    return said


def _todo(rng: Random, key: CallKey, rev: int) -> Todo | None:
    if rng.random() > 0.35:
        return None
    return Todo(f"call {key.call_id} back{', soon' * (rev if rng.random() < 0.5 else 0)}", 1_770_000_000)


def _chosen(rng: Random, holder: EntityRef | None) -> EntityRef | None:
    drawn = rng.random()
    if drawn < 0.4:
        return None
    if drawn < 0.55:
        return holder
    if drawn < 0.57:
        return NOWHERE
    kind = rng.choice((EntityType.LEADS, EntityType.CONTACTS, EntityType.COMPANIES))
    return EntityRef(kind, rng.choice((31, 32)))


def _recordings(rng: Random, key: CallKey, ended_at: float) -> list[tuple[float, CallEvent]]:
    """Return what is said of a call's recording besides its end."""
    kinds = {
        "announced": Recording(state=RecordingState.EXPECTED, url="https://voip.example/2"),
        "uploaded": Recording(state=RecordingState.READY, media_type="audio/mpeg"),
        "failed": Recording(state=RecordingState.FAILED),
    }
    said: list[tuple[float, CallEvent]] = []
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        recording = kinds[rng.choice(("announced", "uploaded", "uploaded", "failed"))]
        at = ended_at + rng.choice((-1.0, 1.0, 60.0, HOUR, 4 * HOUR)) * rng.random()
        said.append((at, CallEvent(key=key, recording=recording)))
    return said


def _written(rng: Random, number: str) -> str:
    """Return a number, of which these are the last ten digits abroad, as people write it."""
    if number in LEFT_OUT:
        return number
    return rng.choice((f"+6{number}", f"+61 (0) {number[1:4]} {number[4:]}", at_home(number)))


def at_home(number: str) -> str:
    """Return how a number is written in its country."""
    return f"0{number[1:]}"


def _outside(rng: Random, numbers: list[str]) -> str:
    """Return one of the numbers, now and then something that is none."""
    return rng.choice(LEFT_OUT if rng.random() < 0.07 else numbers)


def _person(rng: Random, weight: int) -> Person | None:
    return Person(weight, EXTENSION) if rng.random() < 0.3 else None


def _late(rng: Random) -> float:
    drawn = rng.random()
    if drawn < 0.6:
        return rng.random() * 2
    if drawn < 0.8:
        return rng.random() * 60
    return rng.random() * (1800 if drawn < 0.92 else 5 * HOUR)
