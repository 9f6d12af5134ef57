"""The use case on a real ledger, with a Kommo that has a script and a clock that is moved by hand."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from calllogd.database.database import Database
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import Call, CallKey, CallState, CallStatus, Direction, Intent
from calllogd.domain.merge import CallEvent
from calllogd.domain.plan import IncomingLeads, Policy
from calllogd.errors import (
    AccountPaused,
    KommoError,
    LeaseLost,
    NobodyHasNumber,
    OutcomeUnknown,
    PermanentError,
    TransientError,
)
from calllogd.ports import Note
from calllogd.voip.task.add_call import AddCallTask
from calllogd.voip.usecase.add_call import AddCallUseCase
from calllogd.voip.usecase.hold import Timing
from tests.fakes import (
    ACCOUNT,
    START,
    ManualClock,
    Mishap,
    NoRecordings,
    ScriptedCrm,
    begun,
    ended,
    failing,
    told,
)

KEY = CallKey(ACCOUNT, "c1")
TIMING = Timing(request=20)
UNKNOWN = OutcomeUnknown("no answer from Kommo")
DAY = 86400.0


@dataclass
class Desk:
    """One worker with all that it needs."""

    ledger: LedgerOfCalls
    crm: ScriptedCrm
    clock: ManualClock
    policy: Policy = field(default_factory=Policy)
    recordings: NoRecordings = field(default_factory=NoRecordings)

    async def hear(self, event: CallEvent) -> None:
        await self.ledger.accept(told(event), self.clock.now())

    async def work(self, key: CallKey = KEY) -> Call:
        use_case = AddCallUseCase(
            calls=self.ledger,
            crm=self.crm,
            recordings=self.recordings,
            clock=self.clock,
            policy=self.policy,
            timing=TIMING,
            jitter=lambda: 0.0,
        )
        await use_case.execute(AddCallTask(*key))
        return await self.call(key)

    async def call(self, key: CallKey = KEY) -> Call:
        call = await self.ledger.get(key)
        assert call is not None
        return call

    async def work_when_due(self, key: CallKey = KEY) -> Call:
        """Move the clock to when the call is due, and work on it."""
        due_at = (await self.call(key)).due_at
        assert due_at is not None
        self.clock.at = max(self.clock.at, due_at)
        return await self.work(key)

    async def finish(self, key: CallKey = KEY, *, longest_s: float = 3 * DAY) -> Call:
        """Work on the call until it is due no more."""
        until = self.clock.at + longest_s
        call = await self.call(key)
        while call.due_at is not None:
            assert self.clock.at < until, f"no end: {call}"
            before, call = call, await self.work_when_due(key)
            assert call != before, f"nothing is done about {call}"
        return call

    async def told(self) -> list[str]:
        return [f"{line.what}: {line.outcome}" for line in await self.ledger.story(KEY)]


@pytest.fixture
def desk(ledger: LedgerOfCalls, clock: ManualClock) -> Desk:
    return Desk(ledger, ScriptedCrm(), clock)


def outbound() -> CallEvent:
    return ended(direction=Direction.OUTBOUND)


async def test_a_call_of_a_known_number_is_one_request(desk: Desk) -> None:
    await desk.hear(ended())
    call = await desk.work()
    assert desk.crm.sent == ["log_call"]
    assert call.state is CallState.LOGGED
    assert [call.entry] == desk.crm.entries(KEY)
    assert (call.revision, call.written_revision) == (1, 1)
    assert (call.doubt, call.lease, call.due_at, call.last_error) == (None, None, None, None)


async def test_ringing_again_for_a_logged_call_does_nothing(desk: Desk) -> None:
    await desk.hear(ended())
    await desk.work()
    await desk.hear(ended())
    await desk.work()
    assert desk.crm.sent == ["log_call"]


async def test_a_ring_for_a_call_nobody_knows_does_nothing(desk: Desk) -> None:
    use_case = AddCallUseCase(
        calls=desk.ledger,
        crm=desk.crm,
        recordings=desk.recordings,
        clock=desk.clock,
        policy=Policy(),
        timing=TIMING,
        jitter=lambda: 0,
    )
    await use_case.execute(AddCallTask(ACCOUNT, "nobody's"))
    assert desk.crm.asked == []


async def test_an_inbound_call_of_an_unknown_number_becomes_an_incoming_lead(desk: Desk) -> None:
    desk.crm.known = False
    await desk.hear(ended(status=CallStatus.NO_ANSWER, duration=0))
    call = await desk.work()
    assert desk.crm.sent == ["log_call", "create_incoming_lead"]
    assert call.state is CallState.LOGGED
    assert call.entry is not None
    assert call.entry.lead_uid is not None


@pytest.mark.parametrize("policy", [IncomingLeads.OFF, IncomingLeads.ANSWERED])
async def test_a_policy_against_incoming_leads_leaves_the_call_waiting(
    desk: Desk, policy: IncomingLeads
) -> None:
    desk.crm.known, desk.policy = False, Policy(incoming_leads=policy)
    await desk.hear(ended(status=CallStatus.NO_ANSWER, duration=0))
    assert (await desk.work()).state is CallState.AWAITING_CONTACT
    assert "create_incoming_lead" not in desk.crm.asked


async def test_an_outbound_call_waits_until_its_contact_appears(desk: Desk) -> None:
    desk.crm.known = False
    await desk.hear(outbound())
    call = await desk.work()
    assert call.state is CallState.AWAITING_CONTACT
    assert call.due_at is not None
    assert call.due_at > desk.clock.now()
    await desk.work()
    assert desk.crm.sent == ["log_call"], "not before it is due"
    call = await desk.work_when_due()
    assert call.state is CallState.AWAITING_CONTACT
    desk.crm.known = True
    call = await desk.work_when_due()
    assert call.state is CallState.LOGGED
    assert len(desk.crm.entries(KEY)) == 1
    assert desk.crm.sent == ["log_call"] * 3


async def test_an_outbound_call_expires_only_after_kommo_was_asked_at_the_deadline(desk: Desk) -> None:
    desk.crm.known = False
    asked_at: list[float] = []

    async def note_time(_call: Call) -> None:
        asked_at.append(desk.clock.now())

    desk.crm.on_sent = note_time
    await desk.hear(outbound())
    call = await desk.finish()
    deadline = START - 60 + 42 + desk.policy.contact_wait
    assert call.state is CallState.EXPIRED
    assert asked_at[-1] >= deadline
    assert all(at < deadline for at in asked_at[:-1])
    assert len(asked_at) < 60, "a slow poll"
    assert max(later - earlier for earlier, later in itertools.pairwise(asked_at)) <= 1801
    assert desk.crm.entries(KEY) == []


async def test_a_contact_that_appears_at_the_last_moment_is_found(desk: Desk) -> None:
    """The daemon was down for days, and the contact appeared meanwhile."""
    desk.crm.known = False
    await desk.hear(outbound())
    await desk.work()
    desk.clock.forward(5 * DAY)
    desk.crm.known = True
    assert (await desk.work()).state is CallState.LOGGED


async def test_a_call_under_way_waits_for_its_end(desk: Desk) -> None:
    await desk.hear(begun())
    call = await desk.work()
    assert (call.state, desk.crm.asked) == (CallState.PENDING, [])
    await desk.hear(ended())
    assert (await desk.work()).state is CallState.LOGGED


async def test_a_call_whose_end_is_never_told_is_logged_all_the_same(desk: Desk) -> None:
    await desk.hear(begun())
    await desk.work()
    assert (await desk.work_when_due()).state is CallState.LOGGED


@pytest.mark.parametrize("phone", ["anonymous", "", "-1", "101", "911", "*21", "sip:101@pbx", "client:ann"])
async def test_a_call_without_an_outside_number_is_ignored(desk: Desk, phone: str) -> None:
    await desk.hear(ended(phone=phone))
    assert (await desk.work()).state is CallState.IGNORED
    assert desk.crm.asked == []


@pytest.mark.parametrize("phone", ["anonymous", "101"])
async def test_the_number_that_comes_later_counts(desk: Desk, phone: str) -> None:
    await desk.hear(begun(phone=phone))
    assert (await desk.work()).state is CallState.IGNORED
    await desk.hear(ended())
    assert (await desk.work()).state is CallState.LOGGED


async def test_the_intent_is_on_disk_before_the_request_leaves(desk: Desk) -> None:
    seen: list[Call] = []

    async def look(_call: Call) -> None:
        seen.append(await desk.call())

    desk.crm.on_sent, desk.crm.known = look, False
    await desk.hear(ended())
    await desk.work()
    intents = [call.doubt.intent for call in seen if call.doubt is not None]
    assert intents == [Intent.LOG_CALL, Intent.CREATE_INCOMING_LEAD]
    for call in seen:
        assert call.doubt is not None
        assert call.lease is not None
        assert call.doubt.over_at == call.lease.until, "the request is over when the lease is"
        assert call.lease.until > START + TIMING.request, "the lease outlives the request"


async def test_a_lost_answer_is_looked_up_and_what_was_created_is_adopted(desk: Desk) -> None:
    desk.crm.next("log_call", failing(UNKNOWN, committed=True))
    await desk.hear(ended())
    call = await desk.work()
    assert desk.crm.sent == ["log_call", "find"]
    assert call.state is CallState.LOGGED
    assert [call.entry] == desk.crm.entries(KEY)
    assert desk.crm.searched_since[0] <= START - 60 - 600, "clocks may differ"


async def test_a_lost_answer_about_an_incoming_lead_is_looked_up_too(desk: Desk) -> None:
    desk.crm.known = False
    desk.crm.next("create_incoming_lead", failing(UNKNOWN, committed=True))
    await desk.hear(ended())
    call = await desk.work()
    assert desk.crm.sent == ["log_call", "create_incoming_lead", "find"]
    assert [call.entry] == desk.crm.entries(KEY)


async def test_what_cannot_be_found_is_created_once_and_only_after_the_wait(desk: Desk) -> None:
    desk.crm.next("log_call", failing(UNKNOWN))
    await desk.hear(ended())
    call = await desk.work()
    assert call.state is CallState.IN_DOUBT
    assert call.last_error == UNKNOWN.reason
    assert call.due_at == START + desk.policy.doubt_wait
    for _ in range(5):
        desk.clock.forward(10)
        await desk.work()
    assert desk.crm.sent == ["log_call", "find"]
    call = await desk.work_when_due()
    assert desk.crm.sent == ["log_call", "find", "find", "log_call"]
    assert call.state is CallState.LOGGED
    assert len(desk.crm.entries(KEY)) == 1


async def test_a_request_that_is_carried_out_late_is_found(desk: Desk) -> None:
    desk.crm.next("log_call", failing(UNKNOWN))
    await desk.hear(ended())
    await desk.work()
    late = ScriptedCrm()
    await late.log_call(await desk.call(), _nothing)
    desk.crm.standing += late.standing
    call = await desk.work_when_due()
    assert (call.state, desk.crm.sent.count("log_call")) == (CallState.LOGGED, 1)


async def _nothing() -> None:
    return None


async def test_each_lost_answer_starts_the_wait_anew(desk: Desk) -> None:
    desk.crm.next("log_call", failing(UNKNOWN), failing(UNKNOWN, committed=True))
    await desk.hear(ended())
    call = await desk.finish()
    assert (call.state, len(desk.crm.entries(KEY))) == (CallState.LOGGED, 1)
    assert desk.crm.sent == ["log_call", "find", "find", "log_call", "find"]


@pytest.mark.parametrize(
    "error",
    [
        TransientError("HTTP 500"),
        PermanentError("HTTP 400"),
        AccountPaused("HTTP 401"),
        NobodyHasNumber("263"),
    ],
)
async def test_while_kommo_cannot_be_searched_nothing_is_created(desk: Desk, error: KommoError) -> None:
    desk.crm.next("log_call", failing(UNKNOWN, committed=True))
    desk.crm.next("find", *[failing(error)] * 5)
    await desk.hear(ended())
    for _ in range(8):
        desk.clock.forward(1000)
        call = await desk.work()
        assert call.doubt is not None or call.state is CallState.LOGGED
    assert (await desk.call()).state is CallState.LOGGED
    assert desk.crm.sent.count("log_call") == 1
    assert len(desk.crm.entries(KEY)) == 1


async def test_trouble_that_passes_is_waited_for_longer_each_time(desk: Desk) -> None:
    desk.crm.next("log_call", *[failing(TransientError("HTTP 429"))] * 4)
    await desk.hear(ended())
    call, waits = await desk.work(), []
    while call.due_at is not None:
        waits.append(call.due_at - desk.clock.now())
        assert (call.state, call.attempts, call.last_error) == (CallState.PENDING, len(waits), "HTTP 429")
        assert call.doubt is None
        call = await desk.work_when_due()
    assert waits == [2, 4, 8, 16]
    assert (call.state, call.attempts, call.last_error) == (CallState.LOGGED, 0, None)
    assert "find" not in desk.crm.asked, "nothing was in doubt"


async def test_a_time_that_kommo_names_is_kept(desk: Desk) -> None:
    desk.crm.next("log_call", failing(TransientError("HTTP 429", retry_after_s=77), unsent=True))
    await desk.hear(ended())
    call = await desk.work()
    assert call.due_at == START + 77
    assert desk.crm.sent == []


async def test_a_refusal_for_good_is_failed_with_its_reason(desk: Desk) -> None:
    desk.crm.next("log_call", failing(PermanentError("Kommo refuses the request: phone", request_id="r9")))
    await desk.hear(ended())
    call = await desk.work()
    assert (call.state, call.due_at, call.doubt) == (CallState.FAILED, None, None)
    assert call.last_error == "Kommo refuses the request: phone"
    assert (await desk.told())[-1] == "log_call: Kommo refuses the request: phone"
    assert (await desk.ledger.story(KEY))[-1].request_id == "r9"
    assert await desk.ledger.retry(KEY, desk.clock.now()) == 1
    assert (await desk.work()).state is CallState.LOGGED


async def test_a_paused_account_keeps_its_calls_and_holds_up_nobody_else(desk: Desk) -> None:
    other = CallKey(7, "c1")
    desk.crm.next("log_call", failing(AccountPaused("the access token is wrong")))
    await desk.hear(ended("c1"))
    await desk.hear(ended("c2"))
    await desk.hear(ended("c1", account_id=7))
    paused = await desk.work()
    assert (paused.state, paused.due_at, paused.lease) == (CallState.PENDING, START, None)
    assert (await desk.work(CallKey(ACCOUNT, "c2"))).state is CallState.PENDING
    assert (await desk.work(other)).state is CallState.LOGGED
    assert desk.crm.sent == ["log_call", "log_call"]
    (pause,) = await desk.ledger.pauses()
    assert (pause.account_id, pause.reason) == (ACCOUNT, "the access token is wrong")


async def test_one_call_tries_whether_a_paused_account_is_served_again(desk: Desk) -> None:
    pause = AccountPaused("not paid")
    desk.crm.next("log_call", *[failing(pause)] * 3)
    await desk.hear(ended("c1"))
    await desk.hear(ended("c2"))
    await desk.work()
    waits: list[float] = []
    while pauses := await desk.ledger.pauses():
        waits.append(pauses[0].probe_at - desk.clock.now())
        desk.clock.at = pauses[0].probe_at
        before = len(desk.crm.sent)
        await asyncio.gather(desk.work(), desk.work(CallKey(ACCOUNT, "c2")))
        assert len(desk.crm.sent) - before == 1 or not await desk.ledger.pauses(), "one tries for all"
    assert waits == [waits[0], 2 * waits[0], 4 * waits[0]]
    await desk.work()
    await desk.work(CallKey(ACCOUNT, "c2"))
    assert {(await desk.call(CallKey(ACCOUNT, name))).state for name in ("c1", "c2")} == {CallState.LOGGED}


async def test_who_has_lost_his_lease_while_waiting_for_a_turn_sends_nothing(desk: Desk) -> None:
    async def another_takes_over() -> None:
        desk.clock.forward(TIMING.lease + 1)
        assert await desk.ledger.claim(KEY, desk.clock.now(), TIMING.lease) is not None

    desk.crm.on_turn = another_takes_over
    await desk.hear(ended())
    with pytest.raises(LeaseLost):
        await desk.work()
    assert desk.crm.sent == []
    assert (await desk.call()).doubt is None


async def test_who_has_lost_his_lease_between_two_steps_sends_nothing_more(desk: Desk) -> None:
    async def another_takes_over(_call: Call) -> None:
        desk.clock.forward(TIMING.lease + 1)
        assert await desk.ledger.claim(KEY, desk.clock.now(), TIMING.lease) is not None

    desk.crm.on_sent, desk.crm.known = another_takes_over, False
    await desk.hear(ended())
    with pytest.raises(LeaseLost):
        await desk.work()
    assert desk.crm.sent == ["log_call"]
    assert (await desk.call()).doubt is not None, "whoever took over looks first"


async def test_a_lease_that_would_not_outlive_the_request_sends_nothing(
    desk: Desk, database: Database
) -> None:
    """The disk was so slow to take the intent that another worker might take over during the request."""

    class SlowLedger(LedgerOfCalls):
        async def save(self, call: Call, now: float, lease_s: float, note: Note | None = None) -> Call:
            saved = await super().save(call, now, lease_s, note)
            desk.clock.forward(TIMING.margin)
            return saved

    desk.ledger = SlowLedger(database)
    await desk.hear(ended())
    with pytest.raises(LeaseLost):
        await desk.work()
    assert desk.crm.sent == []
    desk.ledger = LedgerOfCalls(database)
    desk.clock.forward(TIMING.lease)
    assert (await desk.finish()).state is CallState.LOGGED


async def test_two_workers_at_once_create_one_entry(desk: Desk) -> None:
    await desk.hear(ended())
    await asyncio.gather(*(desk.work() for _ in range(20)))
    assert desk.crm.sent == ["log_call"]
    assert (await desk.call()).state is CallState.LOGGED


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("known", [True, False])
async def test_a_worker_that_dies_in_a_request_leaves_it_to_be_looked_up(
    desk: Desk, *, committed: bool, known: bool
) -> None:
    desk.crm.known = known
    verb = "log_call" if known else "create_incoming_lead"
    desk.crm.next(verb, Mishap(hang=True, error=None if committed else UNKNOWN, committed=committed))
    gone = asyncio.Event()

    async def left(_call: Call) -> None:
        if desk.crm.sent[-1] == verb:
            gone.set()

    desk.crm.on_sent = left
    await desk.hear(ended())
    worker = asyncio.create_task(desk.work())
    async with asyncio.timeout(5):
        await gone.wait()
    worker.cancel()
    await asyncio.wait([worker])
    assert worker.cancelled()
    held = await desk.call()
    assert held.doubt is not None
    assert held.lease is not None
    before = len(desk.crm.sent)
    await desk.work()
    assert len(desk.crm.sent) == before, "nobody touches it while the lease runs"
    desk.clock.at = held.lease.until + 0.001
    call = await desk.work()
    assert desk.crm.sent[before] == "find"
    if committed:
        assert call.state is CallState.LOGGED
    else:
        assert call.state is CallState.IN_DOUBT
        assert call.due_at == held.doubt.over_at + desk.policy.doubt_wait
        call = await desk.finish()
    assert call.state is CallState.LOGGED
    assert [call.entry] == desk.crm.entries(KEY)


async def test_news_that_come_during_a_request_are_written_after_it(desk: Desk) -> None:
    async def longer(_call: Call) -> None:
        desk.crm.on_sent = None
        await desk.hear(ended(duration=99))

    desk.crm.on_sent = longer
    await desk.hear(ended(duration=42))
    call = await desk.work()
    assert desk.crm.sent == ["log_call", "amend"]
    assert [one.facts.outcome for one in desk.crm.amended] == [call.facts.outcome]
    assert call.facts.outcome is not None
    assert call.facts.outcome.duration == 99
    assert (call.state, call.revision, call.written_revision) == (CallState.LOGGED, 2, 2)
    assert (call.lease, call.due_at) == (None, None)


async def test_news_that_come_after_the_entry_are_written_into_it(desk: Desk) -> None:
    await desk.hear(ended(status=CallStatus.NO_ANSWER, duration=0))
    await desk.work()
    await desk.hear(ended())
    call = await desk.work()
    assert desk.crm.sent == ["log_call", "amend"]
    assert (call.state, call.written_revision) == (CallState.LOGGED, 2)
    assert len(desk.crm.entries(KEY)) == 1


@pytest.mark.parametrize("error", [TransientError("HTTP 500"), AccountPaused("HTTP 402")])
async def test_an_amend_that_failed_is_tried_again(desk: Desk, error: KommoError) -> None:
    await desk.hear(ended(status=CallStatus.NO_ANSWER, duration=0))
    await desk.work()
    await desk.hear(ended())
    desk.crm.next("amend", failing(error))
    call = await desk.work()
    assert (call.written_revision, call.entry is not None) == (1, True)
    desk.clock.forward(60)
    call = await desk.work()
    assert (call.written_revision, call.state) == (2, CallState.LOGGED)
    assert desk.crm.sent == ["log_call", "amend", "amend"]


async def test_what_is_adopted_is_brought_up_to_date(desk: Desk) -> None:
    """The lost request carried less than is known by the time its entry is found."""

    async def longer(_call: Call) -> None:
        desk.crm.on_sent = None
        await desk.hear(ended(duration=99))

    desk.crm.on_sent = longer
    desk.crm.next("log_call", failing(UNKNOWN, committed=True))
    await desk.hear(ended())
    call = await desk.work()
    assert desk.crm.sent == ["log_call", "find", "amend"]
    assert (call.revision, call.written_revision) == (2, 2)


async def test_a_mistake_of_ours_is_visible_and_its_doubt_is_kept(desk: Desk) -> None:
    desk.crm.next("log_call", Mishap(error=ZeroDivisionError("oh no"), committed=True))
    await desk.hear(ended())
    with pytest.raises(ZeroDivisionError):
        await desk.work()
    call = await desk.call()
    assert (call.state, call.due_at, call.lease) == (CallState.FAILED, None, None)
    assert call.last_error == "internal error: ZeroDivisionError: oh no"
    assert call.doubt is not None
    assert await desk.ledger.retry(KEY, desk.clock.now()) == 1
    assert (await desk.call()).state is CallState.IN_DOUBT
    call = await desk.work()
    assert desk.crm.sent == ["log_call", "find"]
    assert [call.entry] == desk.crm.entries(KEY)


@pytest.mark.parametrize(
    "mishap", [failing(PermanentError("no")), failing(UNKNOWN), failing(UNKNOWN, committed=True), Mishap()]
)
async def test_a_retry_at_any_moment_makes_no_second_entry(desk: Desk, mishap: Mishap) -> None:
    desk.crm.next("log_call", mishap)
    await desk.hear(ended())
    await desk.work()
    for _ in range(6):
        await desk.ledger.retry(KEY, desk.clock.now())
        await desk.work()
        desk.clock.forward(25)
    assert (await desk.finish()).state is CallState.LOGGED
    assert len(desk.crm.entries(KEY)) == 1


async def test_the_story_tells_each_step(desk: Desk) -> None:
    desk.crm.known = False
    desk.crm.next("create_incoming_lead", failing(UNKNOWN, committed=True))
    await desk.hear(ended())
    await desk.work()
    story = await desk.told()
    assert story[0] == "call.ended: new call"
    assert story[1] == "log_call: nobody has the number"
    assert story[2] == "create_incoming_lead: no answer from Kommo"
    assert story[3].startswith("look_up: incoming lead uid-")
    assert [line.request_id for line in await desk.ledger.story(KEY)][1] == "r-263"


FAULTS: list[Callable[[], Mishap]] = [
    lambda: failing(UNKNOWN),
    lambda: failing(UNKNOWN, committed=True),
    lambda: failing(TransientError("HTTP 503")),
    lambda: failing(TransientError("HTTP 429", retry_after_s=30), unsent=True),
    lambda: failing(AccountPaused("HTTP 403")),
    Mishap,
]


@pytest.mark.parametrize("first", range(len(FAULTS)))
@pytest.mark.parametrize("second", range(len(FAULTS)))
@pytest.mark.parametrize("known", [True, False])
async def test_whatever_two_requests_meet_there_is_one_entry_in_the_end(
    desk: Desk, first: int, second: int, *, known: bool
) -> None:
    desk.crm.known = known
    desk.crm.next("log_call" if known else "create_incoming_lead", FAULTS[first](), FAULTS[second]())
    desk.crm.next("find", *([failing(TransientError("HTTP 500"))] if first == second else []))
    await desk.hear(ended())
    await desk.work()
    await desk.hear(ended(duration=43))
    await for_all_time(desk)
    call = await desk.call()
    assert call.state is CallState.LOGGED
    assert [call.entry and replace(call.entry, note_id=None)] == [
        replace(entry, note_id=None) for entry in desk.crm.entries(KEY)
    ]
    assert call.written_revision == call.revision == 2


async def for_all_time(desk: Desk) -> None:
    """Work on the call whenever it is due, also while its account is paused, until it is not."""
    for _ in range(100):
        if (await desk.call()).due_at is None:
            return
        desk.clock.forward(15)
        await desk.work()
    pytest.fail(f"no end: {await desk.call()}")
