"""The ledger of calls: the one port through which everybody reads and changes them."""

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from calllogd.database.database import Database
from calllogd.database.rows import (
    INSERT,
    SELECT,
    UPDATE_REPORTED,
    UPDATE_WORKED,
    call_of,
    identity,
    reported,
    worked,
)
from calllogd.domain.call import Call, CallKey, CallState, Lease
from calllogd.domain.merge import fold
from calllogd.errors import AccountPaused, LeaseLost, Overloaded, StorageError
from calllogd.log import log_accepted, log_change, log_pause, log_resume
from calllogd.ports import Accepted, JournalLine, Message, Note, Pause, Totals
from calllogd.voip.task.add_call import AddCallTask

QUEUE = "calllogd"
"""Name of the queue in Huey's table."""

WAITING_LIMIT = 2000
"""Messages that may wait for a commit before further ones are refused: bounds memory, about 64 KiB each."""

JOURNAL_LIMIT = 200
"""Lines a call's journal has room for; messages that say nothing new are only counted beyond it."""

PROBE_FIRST_S = 30.0
PROBE_LONGEST_S = 900.0

_RING = "INSERT INTO task (queue, data, priority) VALUES (?, ?, 0)"
_TELL = "INSERT INTO journal (call, at, last_at, who, what, outcome, request_id, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_TELL_AGAIN = "UPDATE journal SET times = times + 1, last_at = ? WHERE id = ?"

_RETRIABLE = (
    CallState.FAILED,
    CallState.EXPIRED,
    CallState.IGNORED,
    CallState.AWAITING_CONTACT,
    CallState.PENDING,
)


class LedgerOfCalls:
    """Calls in SQLite; implements `VoipCalls`, and answers the operator's questions.

    `rung` is called on the loop after each commit that put rings into the queue.
    """

    def __init__(self, database: Database, *, rung: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._rung = rung

    async def get(self, key: CallKey) -> Call | None:
        """Return the call with this id in this Kommo account, None if there is none."""
        found = await self._database.read(lambda connection: _find(connection, key))
        return None if found is None else found[1]

    async def accept(self, message: Message, now: float) -> Accepted:
        """Fold a message into its call and ring for it; on disk when this returns. Idempotent.

        Raises Overloaded when too many messages wait already, and StorageError.
        """
        if self._database.waiting >= WAITING_LIMIT:
            raise Overloaded(retry_after_s=1)
        new = fold(None, message.event, now)
        ring = AddCallTask(*new.key).to_json()
        row = identity(new) + reported(new)

        def unit(connection: sqlite3.Connection) -> tuple[Call, bool, bool]:
            inserted = connection.execute(INSERT, row).fetchone()
            if inserted is not None:
                _tell_message(connection, inserted[0], message, "new call", now)
                connection.execute(_RING, (QUEUE, ring))
                return new, True, False
            number, call = _must_find(connection, new.key)
            folded = fold(call, message.event, now)
            if folded is call:
                _count_message(connection, number, message, now)
                return call, False, True
            connection.execute(UPDATE_REPORTED, (*reported(folded), number))
            _tell_message(connection, number, message, "changed the call", now)
            connection.execute(_RING, (QUEUE, ring))
            return folded, False, False

        call, is_new, is_duplicate = await self._database.write(unit)
        if not is_duplicate:
            self._rung()
        if is_new:
            log_accepted(call)
        return Accepted(call.state, is_duplicate)

    async def claim(self, key: CallKey, now: float, lease_s: float) -> Call | None:
        """Return the call, held for `lease_s`; None if it is not due, held, or its account is paused."""
        lease = Lease(token=secrets.token_hex(8), until=now + lease_s)

        def unit(connection: sqlite3.Connection) -> tuple[Call, Call] | None:
            found = _find(connection, key)
            if found is None:
                return None
            number, call = found
            if (
                call.due_at is None
                or call.due_at > now
                or (call.lease is not None and call.lease.until > now)
            ):
                return None
            if not _probe(connection, key.account_id, now, lease.until):
                return None
            held = replace(call, lease=lease)
            if call.doubt is not None:
                # Whoever sent the request is gone, and its answer with him.
                held = replace(held, state=CallState.IN_DOUBT)
            _write_worked(connection, number, held, held.due_at)
            return call, held

        claimed = await self._database.write(unit)
        if claimed is None:
            return None
        log_change(claimed[0], claimed[1], "the answer to a request was lost with its worker")
        return claimed[1]

    async def save(self, call: Call, now: float, lease_s: float, note: Note | None = None) -> Call:
        """Write what the holder did, extend the lease, and return the call as it is now; raises LeaseLost."""

        def unit(connection: sqlite3.Connection) -> tuple[Call, Call, bool]:
            number, row = _must_hold(connection, call)
            lease = replace(_lease(call), until=now + lease_s)
            saved = _as_worked(row, replace(call, lease=lease))
            _write_worked(connection, number, saved, row.due_at)
            return row, saved, _tell_note(connection, number, call.key, note, now)

        before, saved, resumed = await self._database.write(unit)
        self._log(before, saved, note, resumed=resumed)
        return saved

    async def release(self, call: Call, now: float, note: Note | None = None) -> Call | None:
        """Write like `save` and give the call back; when news came meanwhile it stays held and is returned."""

        def unit(connection: sqlite3.Connection) -> tuple[Call, Call, bool]:
            number, row = _must_hold(connection, call)
            saved = _as_worked(row, call)
            if row.revision == call.revision:
                saved = replace(saved, lease=None, due_at=call.due_at)
            _write_worked(connection, number, saved, saved.due_at)
            return row, saved, _tell_note(connection, number, call.key, note, now)

        before, saved, resumed = await self._database.write(unit)
        self._log(before, saved, note, resumed=resumed)
        return None if saved.lease is None else saved

    async def pause(self, account_id: int, cause: AccountPaused, now: float) -> Pause:
        """Hold back an account's calls; the time until one of them is tried doubles from 30 s to 15 min."""

        def unit(connection: sqlite3.Connection) -> Pause:
            row = connection.execute(
                "SELECT since, probes FROM pauses WHERE account_id = ?", (account_id,)
            ).fetchone()
            since, probes = (now, 0) if row is None else row
            probe_at = now + min(PROBE_LONGEST_S, PROBE_FIRST_S * 2.0 ** min(probes, 10))
            connection.execute(
                "INSERT OR REPLACE INTO pauses (account_id, code, reason, since, probe_at, probes)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (account_id, cause.code, cause.reason, since, probe_at, probes + 1),
            )
            return Pause(account_id, cause.code, cause.reason, since, probe_at)

        pause = await self._database.write(unit)
        log_pause(pause)
        return pause

    async def probe_paused(self, now: float) -> None:
        """Let each paused account try one call at once: whoever restarts the daemon may have mended the cause."""
        await self._database.write(
            lambda connection: (
                connection.execute("UPDATE pauses SET probe_at = ?, probes = 0", (now,)).rowcount
            )
        )

    async def due(self, account_id: int | None, now: float, limit: int) -> Sequence[CallKey]:
        """Return up to `limit` calls that are due and that nobody holds, the longest waiting first."""

        def unit(connection: sqlite3.Connection) -> Sequence[CallKey]:
            accounts = _accounts_with_due(connection) if account_id is None else [account_id]
            keys: list[CallKey] = []
            for place, account in enumerate(accounts):
                share = max(1, (limit - len(keys)) // (len(accounts) - place))
                keys.extend(_due(connection, account, now, share))
            return keys

        return await self._database.read(unit)

    async def retry(self, key: CallKey | None, now: float) -> int:
        """Put one call, or with None all failed ones, back to be tried now; return how many were.

        Safe: a call whose last request may have been carried out is looked for in Kommo first.
        """
        states = (CallState.FAILED,) if key is None else _RETRIABLE
        marks = ", ".join("?" * len(states))
        which = "" if key is None else "AND account_id = ? AND call_id = ?"

        def unit(connection: sqlite3.Connection) -> int:
            rows = connection.execute(
                "UPDATE calls SET state = CASE WHEN intent IS NULL THEN 'pending' ELSE 'in_doubt' END,"
                " due_at = ?, attempts = 0, nobody_at = NULL, asked = 0, looked_at = NULL"
                f" WHERE state IN ({marks}) {which} RETURNING id, account_id, call_id",
                (now, *states, *(key or ())),
            ).fetchall()
            for number, account_id, call_id in rows:
                _tell(connection, number, now, "operator", "retry", "to be tried now")
                connection.execute(_RING, (QUEUE, AddCallTask(account_id, call_id).to_json()))
            return len(rows)

        return await self._database.write(unit)

    async def story(self, key: CallKey) -> Sequence[JournalLine]:
        """Return everything that arrived and was done about a call, the earliest first."""

        def unit(connection: sqlite3.Connection) -> Sequence[JournalLine]:
            rows = connection.execute(
                "SELECT at, who, what, outcome, request_id, times, last_at, body FROM journal"
                " WHERE call = (SELECT id FROM calls WHERE account_id = ? AND call_id = ?) ORDER BY id",
                key,
            )
            return [_line(row) for row in rows]

        return await self._database.read(unit)

    async def listing(
        self,
        *,
        account_id: int | None = None,
        state: CallState | None = None,
        phone: str | None = None,
        limit: int,
    ) -> Sequence[Call]:
        """Return the newest calls, at most `limit`, of an account, a state, or with digits of a number."""
        conditions: list[tuple[str, Any]] = []
        if account_id is not None:
            conditions.append(("account_id = ?", account_id))
        if state is not None:
            conditions.append(("state = ?", state))
        if state is not None and state is not CallState.LOGGED:
            conditions.append(("state <> ?", CallState.LOGGED))
        if phone is not None:
            digits_only = (
                "replace(replace(replace(replace(replace(phone,' ',''),'-',''),'(',''),')',''),'.','')"
            )
            conditions.append((f"{digits_only} LIKE '%' || ? || '%'", phone))
        where = " AND ".join(condition for condition, _ in conditions) or "1"
        parameters = [value for _, value in conditions]

        def unit(connection: sqlite3.Connection) -> Sequence[Call]:
            rows = connection.execute(
                f"{SELECT} WHERE {where} ORDER BY id DESC LIMIT ?", (*parameters, limit)
            )
            return [call_of(row)[1] for row in rows]

        return await self._database.read(unit)

    async def totals(self, now: float) -> Totals:
        """Return the counts of the whole ledger."""

        def unit(connection: sqlite3.Connection) -> Totals:
            states = {
                CallState(state): n
                for state, n in connection.execute(
                    "SELECT state, count(*) FROM calls WHERE state <> 'logged' GROUP BY state"
                )
            }
            (total,) = connection.execute("SELECT count(*) FROM calls").fetchone()
            states[CallState.LOGGED] = total - sum(states.values())
            (queued,) = connection.execute("SELECT count(*) FROM task WHERE queue = ?", (QUEUE,)).fetchone()
            oldest = [
                connection.execute(
                    "SELECT min(due_at) FROM calls WHERE account_id = ? AND due_at IS NOT NULL", (account,)
                ).fetchone()[0]
                for account in _accounts_with_due(connection)
            ]
            overdue = [due_at for due_at in oldest if due_at <= now]
            return Totals(states=states, queued=queued, oldest_due_at=min(overdue, default=None))

        return await self._database.read(unit)

    async def pauses(self) -> Sequence[Pause]:
        """Return the accounts that Kommo does not serve now."""
        return await self._database.read(
            lambda connection: [
                Pause(*row)
                for row in connection.execute(
                    "SELECT account_id, code, reason, since, probe_at FROM pauses ORDER BY account_id"
                )
            ]
        )

    async def accounts(self) -> Sequence[int]:
        """Return the ids of all accounts that have calls."""
        return await self._database.read(lambda connection: list(_accounts(connection, "1")))

    def _log(self, before: Call, after: Call, note: Note | None, *, resumed: bool) -> None:
        log_change(before, after, "" if note is None else note.outcome)
        if resumed:
            log_resume(after.key.account_id)


def _find(connection: sqlite3.Connection, key: CallKey) -> tuple[int, Call] | None:
    row = connection.execute(f"{SELECT} WHERE account_id = ? AND call_id = ?", key).fetchone()
    return None if row is None else call_of(row)


def _must_find(connection: sqlite3.Connection, key: CallKey) -> tuple[int, Call]:
    found = _find(connection, key)
    if found is None:
        raise StorageError(f"the row of {key} has gone")
    return found


def _must_hold(connection: sqlite3.Connection, call: Call) -> tuple[int, Call]:
    number, row = _must_find(connection, call.key)
    if row.lease is None or row.lease.token != _lease(call).token:
        raise LeaseLost(f"another worker holds {call.key}")
    return number, row


def _lease(call: Call) -> Lease:
    if call.lease is None:
        raise LeaseLost(f"{call.key} is not held")
    return call.lease


def _as_worked(row: Call, call: Call) -> Call:
    """Return the call with its holder's changes, and with what was reported of it meanwhile."""
    return replace(call, facts=row.facts, recording=row.recording, revision=row.revision, due_at=row.due_at)


def _write_worked(connection: sqlite3.Connection, number: int, call: Call, due_at: float | None) -> None:
    lease = call.lease
    connection.execute(
        UPDATE_WORKED,
        (
            *worked(call),
            due_at,
            None if lease is None else lease.token,
            None if lease is None else lease.until,
            number,
        ),
    )


def _probe(connection: sqlite3.Connection, account_id: int, now: float, until: float) -> bool:
    """Tell whether a call of the account may be worked on; of a paused account one may, now and then."""
    row = connection.execute("SELECT probe_at FROM pauses WHERE account_id = ?", (account_id,)).fetchone()
    if row is None:
        return True
    if row[0] > now:
        return False
    connection.execute("UPDATE pauses SET probe_at = ? WHERE account_id = ?", (until, account_id))
    return True


def _tell_message(
    connection: sqlite3.Connection, number: int, message: Message, outcome: str, now: float
) -> None:
    connection.execute(_TELL, (number, now, now, message.who, message.what, outcome, None, message.body))


def _count_message(connection: sqlite3.Connection, number: int, message: Message, now: float) -> None:
    """Keep a message that says nothing new: by its count if it came before, word for word."""
    same = connection.execute(
        "SELECT id FROM journal WHERE call = ? AND what = ? AND body = ? ORDER BY id LIMIT 1",
        (number, message.what, message.body),
    ).fetchone()
    (last, lines) = connection.execute(
        "SELECT max(id), count(*) FROM journal WHERE call = ?", (number,)
    ).fetchone()
    if same is None and lines < JOURNAL_LIMIT:
        _tell_message(connection, number, message, "nothing new", now)
    else:
        connection.execute(_TELL_AGAIN, (now, last if same is None else same[0]))


def _tell_note(
    connection: sqlite3.Connection, number: int, key: CallKey, note: Note | None, now: float
) -> bool:
    """Write a step into the journal; return whether it ended a pause of the account."""
    if note is None:
        return False
    _tell(connection, number, now, "calllogd", note.what, note.outcome, note.request_id)
    if not note.answered:
        return False
    return connection.execute("DELETE FROM pauses WHERE account_id = ?", (key.account_id,)).rowcount > 0


def _tell(
    connection: sqlite3.Connection,
    number: int,
    now: float,
    who: str,
    what: str,
    outcome: str,
    request_id: str | None = None,
) -> None:
    """Write a line into the journal, or count it if it says the same as the one before."""
    last = connection.execute(
        "SELECT id, who, what, outcome FROM journal WHERE call = ? ORDER BY id DESC LIMIT 1", (number,)
    ).fetchone()
    if last is not None and last[1:] == (who, what, outcome):
        connection.execute(_TELL_AGAIN, (now, last[0]))
    else:
        connection.execute(_TELL, (number, now, now, who, what, outcome, request_id, None))


def _accounts_with_due(connection: sqlite3.Connection) -> Sequence[int]:
    return list(_accounts(connection, "due_at IS NOT NULL"))


def _accounts(connection: sqlite3.Connection, condition: str) -> Iterator[int]:
    """Return the accounts one seek of an index each, however many calls they have."""
    account = -1
    while True:
        row = connection.execute(
            f"SELECT account_id FROM calls WHERE account_id > ? AND {condition} ORDER BY account_id LIMIT 1",
            (account,),
        ).fetchone()
        if row is None:
            return
        account = row[0]
        yield account


def _due(connection: sqlite3.Connection, account_id: int, now: float, limit: int) -> Iterator[CallKey]:
    row = connection.execute("SELECT probe_at FROM pauses WHERE account_id = ?", (account_id,)).fetchone()
    if row is not None:
        limit = 1 if row[0] <= now else 0
    for (call_id,) in connection.execute(
        "SELECT call_id FROM calls WHERE account_id = ? AND due_at <= ? AND (lease_until IS NULL OR lease_until <= ?)"
        " ORDER BY due_at LIMIT ?",
        (account_id, now, now, limit),
    ):
        yield CallKey(account_id, call_id)


def _line(row: Sequence[Any]) -> JournalLine:
    at, who, what, outcome, request_id, times, last_at, body = row
    return JournalLine(at, who, what, outcome, request_id, times, last_at, _text(body))


def _text(body: bytes | None) -> str | None:
    return None if body is None else body.decode("utf-8", "replace")
