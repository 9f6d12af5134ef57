"""Whose call it is: told once, told late, and never told otherwise."""

import asyncio
from collections.abc import Collection

import pytest

from calllogd.console.worker.attribute_calls import AttributeCallsWorker
from calllogd.database.people import LedgerOfPeople
from calllogd.domain.call import Attribution, Call, CallState, Person
from calllogd.domain.user import MAPPED_FOR_S, attribution_of
from calllogd.errors import OutcomeUnknown, PermanentError, StorageError
from calllogd.kommo.words import Words
from tests.fakes import ACCOUNT, START, ManualClock, ended, failing, link_of
from tests.unit.test_add_call import KEY, Desk, desk

__all__ = ["desk"]

UNMAPPED = ended(person=Person(3, "105"))
HIS = Attribution("105", 111)


NAMED = Person(3, "105")


def call(person: Person | None = NAMED, whose: Attribution | None = None) -> Call:
    event = ended(person=person)
    return Call(key=event.key, facts=event.facts, arrived_at=START, attribution=whose)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (call(None), None),
        (call(), None),
        (call(Person(3, "101")), Attribution("101", 112)),
        (call(Person(3, "101", 5)), Attribution("101", 5)),
        (call(whose=HIS), HIS),
        (call(Person(3, "101"), Attribution("101", 111)), Attribution("101", 111)),
        (call(Person(3, "101"), HIS), Attribution("101", 112)),
        (call(Person(3, "106"), HIS), None),
        (call(Person(3, "105", 5), HIS), Attribution("105", 5)),
    ],
)
def test_who_was_told_stays_while_the_extension_does(one: Call, expected: Attribution | None) -> None:
    assert attribution_of(one, {"101": 112}) == expected


def test_the_note_says_who_was_told() -> None:
    words = Words(source="calllogd", region="US", extensions={"105": 112}, link=link_of)
    assert words.params(call())["call_responsible"] == 112
    told = call(whose=HIS)
    assert words.attribution(told) == HIS
    assert words.params(told)["call_responsible"] == 111
    assert words.note(told, 7)["responsible_user_id"] == 111
    assert words.incoming_lead(told)["metadata"]["call_responsible"] == 111


# --- the use case


async def mapped(desk: Desk, **extensions: int) -> None:
    """Give extensions to users, as a process does that is built anew."""
    desk.crm.extensions = {name.removeprefix("x"): user_id for name, user_id in extensions.items()}
    now = desk.clock.now()
    people = LedgerOfPeople(desk.ledger._database)
    await people.attribute(
        ACCOUNT, list(desk.crm.extensions), since=now - MAPPED_FOR_S, now=now, after=0, limit=10
    )


@pytest.mark.parametrize("known", [True, False], ids=["a note", "an incoming lead"])
async def test_a_logged_call_gets_its_user_when_there_is_one(desk: Desk, known: bool) -> None:
    desk.crm.known = known
    await desk.hear(UNMAPPED)
    before = await desk.work()
    assert (before.state, before.attribution) == (CallState.LOGGED, None)
    await mapped(desk, x105=111)
    after = await desk.work()
    assert desk.crm.sent[-1] == "amend"
    assert (after.state, after.attribution, after.due_at) == (CallState.LOGGED, HIS, None)
    assert len(desk.crm.entries(KEY)) == 1
    await mapped(desk, x105=111)
    assert await desk.work() == after, "once is enough"


async def test_another_user_does_not_get_the_calls_of_the_one_before(desk: Desk) -> None:
    desk.crm.extensions = {"105": 111}
    await desk.hear(UNMAPPED)
    assert (await desk.work()).attribution == HIS
    await mapped(desk, x105=112)
    await desk.work()
    assert desk.crm.amended == []
    await desk.hear(ended(duration=50, person=Person(3, "105")))
    assert (await desk.work()).attribution == HIS
    assert desk.crm.attribution(desk.crm.amended[-1]) == HIS


async def test_who_is_told_is_on_disk_with_the_intent(desk: Desk) -> None:
    """The table changes while the request is under way; whoever adopts the entry has the new one."""

    async def change(_call: Call) -> None:
        desk.crm.extensions = {"105": 112}

    desk.crm.extensions, desk.crm.on_sent = {"105": 111}, change
    desk.crm.next("log_call", failing(OutcomeUnknown("no answer"), committed=True))
    await desk.hear(UNMAPPED)
    after = await desk.work()
    assert (desk.crm.sent, after.attribution) == (["log_call", "find"], HIS)


async def test_a_request_that_did_nothing_told_nobody(desk: Desk) -> None:
    desk.crm.extensions, desk.crm.known = {"105": 111}, False
    await desk.hear(UNMAPPED)
    desk.crm.next("create_incoming_lead", failing(OutcomeUnknown("no answer")))
    await desk.work()
    await mapped(desk, x105=112)
    for _ in range(3):
        if (await desk.call()).due_at is not None:
            await desk.work_when_due()
    assert (await desk.call()).attribution == Attribution("105", 112)


async def test_an_amendment_without_an_answer_counts_as_told(desk: Desk) -> None:
    await desk.hear(UNMAPPED)
    await desk.work()
    desk.crm.next("amend", failing(OutcomeUnknown("no answer"), committed=True))
    await mapped(desk, x105=111)
    assert (await desk.work()).attribution == HIS
    await mapped(desk, x105=112)
    await desk.work_when_due()
    after = await desk.finish()
    assert (after.attribution, after.written_revision) == (HIS, after.revision)


async def test_a_user_whom_kommo_refuses_was_not_told(desk: Desk) -> None:
    await desk.hear(UNMAPPED)
    await desk.work()
    desk.crm.next("amend", failing(PermanentError("no such user")))
    await mapped(desk, x105=999)
    failed = await desk.work()
    assert (failed.state, failed.attribution) == (CallState.FAILED, None)
    desk.crm.extensions = {"105": 111}
    await desk.ledger.retry(KEY, desk.clock.now())
    assert (await desk.work()).attribution == HIS


# --- the worker


class Answers:
    """The ledger, which answers what the test says, and then nothing more."""

    def __init__(self, *answers: int | Exception | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, tuple[str, ...], int, int]] = []

    async def attribute(
        self,
        account_id: int,
        extensions: Collection[str],
        *,
        since: float,
        now: float,
        after: int,
        limit: int,
    ) -> int | None:
        assert since == now - MAPPED_FOR_S
        self.asked.append((account_id, tuple(extensions), after, limit))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


def worker(calls: Answers, **tables: dict[str, int]) -> AttributeCallsWorker:
    extensions = {int(name[1:]): table for name, table in tables.items()}
    return AttributeCallsWorker(calls=calls, extensions=extensions, clock=ManualClock(), width=4)


async def test_a_round_ends_where_nothing_is_left_or_nothing_is_taken() -> None:
    calls = Answers(5, 9, None, 0, None)
    batches = [1 async for _ in worker(calls, a1={"101": 111}, a2={}, a3={"102": 112}).batches()]
    assert len(batches) == 3
    assert [(account, after) for account, _, after, _ in calls.asked] == [
        (1, 0), (1, 5), (1, 9), (3, 0), (3, 0),
    ]  # fmt: skip
    assert {limit for *_, limit in calls.asked} == {4}


async def test_an_account_that_takes_no_more_does_not_hold_the_command_up() -> None:
    calls = Answers(7, 7, 7, 7)
    assert len([1 async for _ in worker(calls, a1={"101": 111}).batches()]) == 1


async def test_trouble_with_the_ledger_does_not_end_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calllogd.console.worker.attribute_calls.STEP_S", 0.0)
    calls = Answers(3, StorageError("the disk is full"), 6, None)
    running = asyncio.create_task(worker(calls, a1={"101": 111}).run())
    while len(calls.asked) < 4:
        await asyncio.sleep(0)
    running.cancel()
    assert [after for _, _, after, _ in calls.asked] == [0, 3, 3, 6], "it goes on where it was"
