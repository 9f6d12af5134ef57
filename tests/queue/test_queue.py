"""The doorbell: rings from the ledger's file are answered, and nothing else is done with what lies there."""

import asyncio
import json
import pickle
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from calllogd.database.database import Database
from calllogd.database.intake import QUEUE
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.queue.queue import Queue
from calllogd.voip.task.add_call import AddCallTask
from tests.fakes import ACCOUNT, START, ended, told

PROMPT_S = 5.0
Answer = Callable[[AddCallTask], None]
Opener = Callable[..., Awaitable[Queue]]


@pytest.fixture
async def opener(database: Database) -> AsyncIterator[Opener]:
    """Open queues on the ledger's file."""
    opened: list[Queue] = []

    async def open_queue(answer: Answer, threads: int = 2) -> Queue:
        queue = Queue(database.path, name=QUEUE, threads=threads, writing=database.writing)
        await queue.open(answer)
        opened.append(queue)
        return queue

    yield open_queue
    for queue in opened:
        await queue.close()


class Heard:
    """Collects the rings that were answered."""

    def __init__(self) -> None:
        self.tasks: list[AddCallTask] = []
        self._changed = asyncio.Condition()
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Task[None]] = set()

    def answer(self, task: AddCallTask) -> None:
        self._loop.call_soon_threadsafe(self._hear, task)

    def _hear(self, task: AddCallTask) -> None:
        self.tasks.append(task)
        tell = self._loop.create_task(self._tell())
        self._waiting.add(tell)
        tell.add_done_callback(self._waiting.discard)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, *call_ids: str) -> None:
        """Wait until all of these have been heard."""
        async with asyncio.timeout(PROMPT_S), self._changed:
            await self._changed.wait_for(lambda: {task.call_id for task in self.tasks} >= set(call_ids))


def in_the_table(path: Path) -> list[bytes]:
    with closing(sqlite3.connect(path)) as connection:
        return [bytes(data) for (data,) in connection.execute("SELECT data FROM task ORDER BY id")]


def lay(path: Path, *messages: bytes) -> None:
    """Put something into the table, as whoever can write to the file might."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(
            "INSERT INTO task (queue, data) VALUES (?, ?)", [(QUEUE, it) for it in messages]
        )
        connection.commit()


async def test_a_ring_is_answered_promptly(database: Database, opener: Opener) -> None:
    heard = Heard()
    queue = await opener(heard.answer)
    ledger = LedgerOfCalls(database, rung=queue.wake)
    began = time.monotonic()
    await ledger.accept(told(ended("c1")), START)
    await heard.until("c1")
    assert heard.tasks == [AddCallTask(ACCOUNT, "c1")]
    assert time.monotonic() - began < 0.9, "sooner than the next look at the table"
    assert in_the_table(database.path) == []


async def test_a_ring_that_was_there_before_is_answered(
    database: Database, ledger: LedgerOfCalls, opener: Opener
) -> None:
    await ledger.accept(told(ended("c1")), START)
    heard = Heard()
    await opener(heard.answer)
    await heard.until("c1")


async def test_a_ring_of_another_process_is_heard_without_being_woken(
    database: Database, opener: Opener
) -> None:
    heard = Heard()
    await opener(heard.answer)
    lay(database.path, AddCallTask(ACCOUNT, "c9").to_json())
    await heard.until("c9")


async def test_what_lies_in_the_table_is_json_and_names_the_call_alone(
    ledger: LedgerOfCalls, database: Database
) -> None:
    await ledger.accept(told(ended('c"1\\☎')), START)
    (ring,) = in_the_table(database.path)
    assert json.loads(ring) == {"account_id": ACCOUNT, "call_id": 'c"1\\☎'}
    assert AddCallTask.from_json(ring) == AddCallTask(ACCOUNT, 'c"1\\☎')


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.path),)


async def test_a_pickle_in_the_table_is_not_run(database: Database, opener: Opener, tmp_path: Path) -> None:
    trace = tmp_path / "it-went-off"
    pickled = pickle.dumps(Bomb(str(trace)))
    pickle.loads(pickled)  # noqa: S301  to see that it would
    assert trace.exists()
    trace.unlink()
    heard = Heard()
    queue = await opener(heard.answer)
    lay(database.path, pickled, AddCallTask(ACCOUNT, "after").to_json())
    queue.wake()
    await heard.until("after")
    assert not trace.exists()
    assert not queue.broken


GARBAGE = [
    b"",
    b"\x00\xff",
    b"{",
    b"[]",
    b"null",
    b'"c1"',
    b'{"account_id": "1", "call_id": "c1"}',
    b'{"account_id": 1, "call_id": 5}',
    b'{"call_id": "c1"}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("message", GARBAGE, ids=lambda it: repr(it[:20]))
def test_garbage_is_no_task(message: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        AddCallTask.from_json(message)


async def test_garbage_in_the_table_is_dropped_and_the_others_are_answered(
    database: Database, opener: Opener
) -> None:
    heard = Heard()
    queue = await opener(heard.answer)
    for place, message in enumerate(GARBAGE):
        lay(database.path, message, AddCallTask(place, f"c{place}").to_json())
    queue.wake()
    await heard.until(*(f"c{place}" for place in range(len(GARBAGE))))
    assert len(heard.tasks) == len(GARBAGE)
    assert in_the_table(database.path) == []
    assert not queue.broken


async def test_a_burst_of_one_account_is_heard_and_of_others_too(
    ledger: LedgerOfCalls, database: Database, opener: Opener
) -> None:
    """Not each ring of a busy account: whoever works on its calls turns to the ledger for the next."""
    await asyncio.gather(*(ledger.accept(told(ended(f"c{number}")), START) for number in range(300)))
    await ledger.accept(told(ended("other", account_id=7)), START)
    heard = Heard()
    await opener(heard.answer, 4)
    await heard.until("c0", "other")
    async with asyncio.timeout(PROMPT_S):
        while in_the_table(database.path):
            await asyncio.sleep(0.01)
    assert len([task for task in heard.tasks if task.account_id == ACCOUNT]) > 4, (
        "more than there are workers"
    )
    assert len(heard.tasks) == len(set(heard.tasks)), "none of them twice"


async def test_stopping_is_quick_and_leaves_what_was_not_taken(
    database: Database, ledger: LedgerOfCalls, opener: Opener
) -> None:
    heard = Heard()
    queue = await opener(heard.answer, 4)
    await ledger.accept(told(ended("c1")), START)
    queue.wake()
    await heard.until("c1")
    began = time.monotonic()
    await queue.close()
    await queue.close()
    assert time.monotonic() - began < 2
    assert not queue.broken, "it was asked to stop"
    await ledger.accept(told(ended("c2")), START)
    queue.wake()
    assert len(in_the_table(database.path)) == 1
    again = Heard()
    await opener(again.answer)
    await again.until("c2")
    assert [task.call_id for task in heard.tasks] == ["c1"]


async def test_stopping_in_a_burst_loses_no_call(
    database: Database, ledger: LedgerOfCalls, opener: Opener
) -> None:
    """A ring that is lost with its thread does not matter: the calls are still due."""
    asked, go_on = threading.Event(), threading.Event()

    def slow(_task: AddCallTask) -> None:
        asked.set()
        go_on.wait(PROMPT_S)

    await asyncio.gather(*(ledger.accept(told(ended(f"c{number}")), START) for number in range(1200)))
    queue = await opener(slow, 1)
    assert await asyncio.to_thread(asked.wait, PROMPT_S)
    closing_down = asyncio.create_task(queue.close())
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(PROMPT_S):
        await closing_down
    assert len(in_the_table(database.path)) > 0, "not all were taken at once"
    assert len(await ledger.due(None, START, 2000)) == 1200


async def test_the_processs_signal_handlers_are_left_alone(opener: Opener) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    queue = await opener(Heard().answer)
    assert [signal.getsignal(number) for number in numbers] == before
    await queue.close()
    assert [signal.getsignal(number) for number in numbers] == before


async def test_an_answer_that_fails_stops_nobody(database: Database, opener: Opener) -> None:
    heard = Heard()

    def answer(task: AddCallTask) -> None:
        if task.call_id == "bad":
            raise ZeroDivisionError
        heard.answer(task)

    queue = await opener(answer, 1)
    lay(database.path, *(AddCallTask(1, name).to_json() for name in ("bad", "good")))
    queue.wake()
    await heard.until("good")
    assert not queue.broken


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_dies_is_replaced(database: Database, opener: Opener) -> None:
    heard = Heard()

    def answer(task: AddCallTask) -> None:
        if task.call_id == "deadly":
            raise SystemExit
        heard.answer(task)

    queue = await opener(answer, 1)
    watch = asyncio.create_task(queue.watch(0.02))
    lay(database.path, AddCallTask(1, "deadly").to_json())
    lay(database.path, AddCallTask(2, "after").to_json())
    queue.wake()
    await heard.until("after")
    assert not queue.broken
    watch.cancel()
    await asyncio.wait([watch])


async def test_two_processes_share_the_rings(
    database: Database, ledger: LedgerOfCalls, opener: Opener
) -> None:
    one, other = Heard(), Heard()
    await opener(one.answer)
    await opener(other.answer)
    for number in range(20):
        await ledger.accept(told(ended("c1", account_id=number + 1)), START)
    async with asyncio.timeout(PROMPT_S):
        while len(one.tasks) + len(other.tasks) < 20:
            await asyncio.sleep(0.01)
    assert len({*one.tasks, *other.tasks}) == len(one.tasks) + len(other.tasks) == 20


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_dies_is_noticed(database: Database, opener: Opener) -> None:
    def answer(_task: AddCallTask) -> None:
        raise SystemExit

    queue = await opener(answer, 1)
    lay(database.path, AddCallTask(1, "deadly").to_json())
    queue.wake()
    async with asyncio.timeout(10):
        while not queue.broken:
            await asyncio.sleep(0.01)
