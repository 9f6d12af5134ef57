"""What makes Huey a doorbell: its storage, its wire format and its only task."""

import json
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huey import Huey
from huey.registry import Message
from huey.serializer import Serializer
from huey.storage import SqliteStorage

from calllogd.voip.task.add_call import AddCallTask

POLL_S = 1.0
"""How long a ring from another process may go unheard; rings of this process wake the threads."""

TAKE = 500
"""Rings taken from the file in one transaction at most."""

CALM_S = 0.05
"""Pause after a burst of rings: those who answer have enough to do, and taking holds up the writer."""

BREATH_S = 0.01
"""Pause after any ring, for the same reason; the first after a silence is answered at once."""

BUSY_S = 10.0

ADD_CALL = f"{__name__}.add_call"
"""Huey's name for its only task."""

_RINGS = (
    "SELECT max(id), json_group_array(hex(data))"
    " FROM (SELECT id, data FROM task WHERE queue = ? ORDER BY id LIMIT ?)"
)


class Doorbell(SqliteStorage):  # type: ignore[misc]  # huey has no types
    """Huey's SQLite storage as a doorbell in the ledger's file.

    Rings are taken many at a time, so that a burst costs few transactions, and at most `most` of them for
    one account are answered: who answers that many turns to the ledger anyway. They are taken with
    `synchronous=NORMAL`: a ring that comes back after a power cut does no harm. There are no results,
    revocations or schedules: what has to be remembered stands in the ledger.
    """

    blocking = True

    def __init__(self, name: str, *, path: Path, writing: threading.Lock, most: int) -> None:
        super().__init__(name, filename=str(path), timeout=BUSY_S, cache_mb=0, create_tables=False)
        self._writing = writing
        self._most = most
        self._taking = threading.Lock()
        self._rung = threading.Event()
        self._taken: deque[bytes] = deque()
        self._hushed = threading.Event()
        self._pause_s = 0.0

    def wake(self) -> None:
        """Have a thread look at the table now; never blocks."""
        self._rung.set()

    def hush(self) -> None:
        """Have all threads return from `dequeue` at once, from now on."""
        self._hushed.set()
        self._rung.set()

    def dequeue(self) -> bytes | None:
        """Return a ring, waiting for one if there is none; None when it is time to look around."""
        with self._taking:
            if not self._taken and not self._hushed.wait(self._pause_s):
                self._rung.wait(POLL_S)
                self._rung.clear()
                self._taken.extend(self._take())
                self._pause_s = self._rest_s()
            return self._taken.popleft() if self._taken and not self._hushed.is_set() else None

    def _rest_s(self) -> float:
        """Return how long nothing is taken after what has just been."""
        if not self._taken:
            return 0.0
        return CALM_S if len(self._taken) >= self._most else BREATH_S

    def read_schedule(self, ts: object) -> list[bytes]:
        """Return nothing: times to come stand in the ledger."""
        return []

    def peek_many(self, keys: list[str]) -> dict[str, bytes]:
        """Return nothing: a ring cannot be revoked."""
        return {}

    def delete_data(self, key: str) -> bool:
        """Delete nothing: there are no results and no revocations."""
        return False

    def _take(self) -> list[bytes]:
        if not self.sql("SELECT 1 FROM task WHERE queue = ? LIMIT 1", (self.name,), results=True):
            return []
        with self._writing, self.db(commit=True) as cursor:
            # All in one row: between two rows the thread would have to get Python's lock back.
            last, rings = cursor.execute(_RINGS, (self.name, TAKE)).fetchone()
            cursor.execute("DELETE FROM task WHERE queue = ? AND id <= ?", (self.name, last))
        return self._few([bytes.fromhex(ring) for ring in json.loads(rings)])

    def _few(self, rings: list[bytes]) -> list[bytes]:
        """Return the rings without those that are too many for one account."""
        if len(rings) <= self._most:
            return rings
        heard: Counter[bytes] = Counter()
        few: list[bytes] = []
        for ring in rings:
            account = ring.partition(b",")[0]
            heard[account] += 1
            if heard[account] <= self._most:
                few.append(ring)
        return few

    def _create_connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._create_connection()
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection


class Wire(Serializer):  # type: ignore[misc]  # huey has no types
    """Tasks as JSON: whoever can write to the file must not be able to run code in the daemon."""

    def serialize(self, message: Message) -> bytes:
        """Return the message as it stands in the table."""
        return AddCallTask(*message.args).to_json()

    def deserialize(self, wire: bytes) -> Message:
        """Return Huey's message; raises ValueError for anything that is not an AddCallTask."""
        task = AddCallTask.from_json(wire)
        args = (task.account_id, task.call_id)
        return Message(
            id=f"{task.account_id}:{task.call_id}", name=ADD_CALL, retries=0, retry_delay=0, args=args
        )


def install(huey: Huey, answer: Callable[[AddCallTask], None]) -> None:
    """Make `answer` what Huey does with a ring."""

    def add_call(account_id: int, call_id: str) -> Any:
        answer(AddCallTask(account_id, call_id))

    huey.task(name="add_call")(add_call)
