"""The ledger of calls: the one port through which everybody reads and changes them."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType
from typing import Any

from calllogd.database.database import Database
from calllogd.database.group_commit import Together
from calllogd.database.holding import Written, claim, must_hold, release, save
from calllogd.database.incoming_leads import close_lead, sort_lead, wake_numbers
from calllogd.database.intake import QUEUE, Arrival, accept, accept_new, ring
from calllogd.database.journal import story, tell
from calllogd.database.pauses import write_pause
from calllogd.database.rows import (
    SELECT,
    Regions,
    call_of,
    find_with_lead,
    number_of,
)
from calllogd.domain.call import Call, CallKey, CallState, LeadState
from calllogd.domain.phone import matched, tail
from calllogd.errors import AccountPaused, LeaseLost, Overloaded
from calllogd.log import log_accepted, log_change, log_pause, log_resume
from calllogd.ports import Accepted, JournalLine, Message, Note, Pause, Totals

WAITING_LIMIT = 2000
"""Messages that may wait for a commit before further ones are refused: bounds memory, about 64 KiB each."""

_RANKS = range(3)
"""In this order: what is to become an incoming lead, other new entries, amendments."""

_DUE = (
    "SELECT call_id FROM calls WHERE account_id = ?"
    " AND CASE WHEN entity_id IS NOT NULL THEN 2"
    " WHEN nobody_at IS NOT NULL AND direction = 'inbound' THEN 0 ELSE 1 END = ?"
    " AND due_at <= ? AND (lease_until IS NULL OR lease_until <= ?) ORDER BY due_at LIMIT ?"
)

_PROBE = "UPDATE pauses SET probe_at = ?1, tried_at = 0, probes = 0 WHERE ?2 IS NULL OR account_id = ?2"
_PAUSES_BACK = "UPDATE pauses SET probe_at = min(probe_at, ?1), tried_at = min(tried_at, ?1)"
_LEADS_BACK = "UPDATE incoming_leads SET known_at = ?1 WHERE known_at > ?1"
_CALLS_BACK = (
    "UPDATE calls SET due_at = min(due_at, ?1), lease_until = min(lease_until, ?2),"
    " intent_over_at = min(intent_over_at, ?2), looked_at = NULL, nobody_at = min(nobody_at, ?1),"
    " appeared_at = min(appeared_at, ?1), heard_at = min(heard_at, ?1), shaky_until = min(shaky_until, ?3)"
    " WHERE due_at IS NOT NULL"
)

NO_REGIONS: Regions = MappingProxyType({})

_RETRIABLE = (
    CallState.FAILED,
    CallState.EXPIRED,
    CallState.IGNORED,
    CallState.AWAITING_RESULT,
    CallState.AWAITING_CONTACT,
    CallState.PENDING,
)


class LedgerOfCalls:
    """Calls in SQLite; implements `VoipCalls`, and answers the operator's questions.

    `regions` tells two spellings of one number from two numbers: it has to be the same for all who work on
    calls, and those who only read may leave it out. Calls of which a leg is told are due `leg_wait` seconds
    later: to look at them before would be in vain. `rung` is called on the loop after each commit that put
    rings into the queue, `told` after each that changed a known call, with the call before and after; neither
    may raise.
    """

    def __init__(
        self,
        database: Database,
        *,
        regions: Regions = NO_REGIONS,
        leg_wait: float = 0.0,
        rung: Callable[[], None] = lambda: None,
        told: Callable[[Call, Call], None] | None = None,
    ) -> None:
        self._database = database
        self._regions = regions
        self._leg_wait = leg_wait
        self._rung = rung
        self._told = told
        self._intake = Together(accept, self._accepted, at_once=accept_new)

    async def get(self, key: CallKey) -> Call | None:
        """Return the call with this id in this Kommo account, None if there is none."""
        found = await self._database.read(lambda connection: find_with_lead(connection, key, self._regions))
        return None if found is None else found[1]

    async def accept(self, message: Message, now: float) -> Accepted:
        """Fold a message into its call and ring for it; on disk when this returns. Idempotent.

        Raises Overloaded when too many messages wait already, and StorageError.
        """
        if self._database.waiting >= WAITING_LIMIT:
            raise Overloaded(retry_after_s=1)
        return await self._database.write_together(self._intake, Arrival(message, now, self._leg_wait))

    async def accept_all(
        self,
        messages: Sequence[Message],
        now: float,
        also: Callable[[sqlite3.Connection], None] = lambda connection: None,
    ) -> Sequence[Accepted]:
        """Accept messages, and do `also`, in one transaction; return what became of each.

        What `also` raises undoes everything.
        """
        arrivals = [Arrival(message, now, self._leg_wait) for message in messages]

        def unit(connection: sqlite3.Connection) -> Sequence[Accepted]:
            also(connection)
            return accept(connection, arrivals)

        accepted = await self._database.write(unit)
        self._accepted(arrivals, accepted)
        return accepted

    def _accepted(self, arrivals: Sequence[Arrival], accepted: Sequence[Accepted]) -> None:
        if not all(one.duplicate for one in accepted):
            self._rung()
        log_accepted(
            arrival.message.event for arrival, one in zip(arrivals, accepted, strict=True) if one.new
        )
        if self._told is not None:
            for one in accepted:
                if one.change is not None:
                    self._told(*one.change)

    async def claim(self, key: CallKey, now: float, lease_s: float) -> Call | None:
        """Return the call, held for `lease_s`; None if it is not due, held, or its account is paused."""
        return next(iter(await self.claim_many([key], now, lease_s)), None)

    async def claim_many(self, keys: Sequence[CallKey], now: float, lease_s: float) -> Sequence[Call]:
        """Return those of the calls that `claim` would, all with one write."""

        def unit(connection: sqlite3.Connection) -> Sequence[tuple[Call, Call]]:
            claims = (claim(connection, key, now, lease_s, self._regions) for key in keys)
            return [claimed for claimed in claims if claimed is not None]

        claimed = await self._database.write(unit)
        for before, held in claimed:
            log_change(before, held, "the answer to a request was lost with its worker")
        return [held for _, held in claimed]

    async def save(self, call: Call, now: float, lease_s: float, note: Note | None = None) -> Call:
        """Write what the holder did, extend the lease, and return the call as it is now.

        Raises LeaseLost and NumberTaken.
        """
        return (await self._saved([(call, note)], now, lease_s))[0]

    async def save_many(self, calls: Sequence[Call], now: float, lease_s: float) -> Sequence[Call]:
        """Write like `save`, all with one write or none."""
        return await self._saved([(call, None) for call in calls], now, lease_s)

    async def release(self, call: Call, now: float, note: Note | None = None) -> Call | None:
        """Write like `save` and give the call back; when news came it stays held and is returned."""
        written = await self._database.write(
            lambda connection: [release(connection, call, now, note, self._regions)]
        )
        return next(iter(self._still_held(written)), None)

    async def release_many(self, worked: Sequence[tuple[Call, Note]], now: float) -> Sequence[Call]:
        """Write like `release`, all with one write; return those that stay held."""

        def unit(connection: sqlite3.Connection) -> Sequence[Written]:
            written = []
            for call, note in worked:
                with contextlib.suppress(LeaseLost):
                    written.append(release(connection, call, now, note, self._regions))
            return written

        return self._still_held(await self._database.write(unit))

    async def _saved(
        self, worked: Sequence[tuple[Call, Note | None]], now: float, lease_s: float
    ) -> Sequence[Call]:
        def unit(connection: sqlite3.Connection) -> Sequence[Written]:
            return [
                save(connection, call, now, lease_s, note, regions=self._regions) for call, note in worked
            ]

        return self._logged(await self._database.write(unit))

    def _still_held(self, written: Sequence[Written]) -> Sequence[Call]:
        return [call for call in self._logged(written) if call.lease is not None]

    def _logged(self, written: Sequence[Written]) -> Sequence[Call]:
        """Log what changed; return the calls as they are now."""
        for one in written:
            log_change(one.before, one.after, "" if one.note is None else one.note.outcome)
            if one.resumed:
                log_resume(one.after.key.account_id)
            if self._told is not None:
                self._told(one.before, one.after)
        return [one.after for one in written]

    async def close_lead(self, call: Call, now: float) -> bool:
        """Mark the incoming lead that the call is leaving as declined, unless others stand on it."""

        def unit(connection: sqlite3.Connection) -> bool:
            number, row = must_hold(connection, call, self._regions)
            return close_lead(connection, number, row, number_of(row, self._regions), now)

        return await self._database.write(unit)

    async def number_appeared(self, account_id: int, phones: Sequence[str], now: float) -> int:
        """Wake the calls without an entry whose number Kommo has just told of; return how many there were.

        It may be the same number to us, or to Kommo, which compares the digits as they are written.
        """
        region = self._regions.get(account_id)
        numbers = {way for phone in phones for way in (matched(phone, region), tail(phone))} - {""}
        return await self._woken(lambda connection: wake_numbers(connection, account_id, numbers, now))

    async def lead_sorted(self, account_id: int, uid: str, state: LeadState, now: float) -> int:
        """Keep what became of an incoming lead; return how many calls have to be looked at for it."""
        return await self._woken(lambda connection: sort_lead(connection, account_id, uid, state, now))

    async def _woken(self, unit: Callable[[sqlite3.Connection], int]) -> int:
        woken = await self._database.write(unit)
        if woken:
            self._rung()
        return woken

    async def pause(self, account_id: int, cause: AccountPaused, now: float) -> Pause:
        """Hold back an account's calls; the time until one of them is tried doubles from 5 s to 15 min.

        Refusals that come while the account is paused already are of requests that were under way.
        """

        pause, news = await self._database.write(
            lambda connection: write_pause(connection, account_id, cause, now)
        )
        if news:
            log_pause(pause)
        return pause

    async def probe_paused(self, now: float, account_id: int | None = None) -> None:
        """Let a paused account, or with None each of them, try one call at once.

        The cause may be mended: after a restart, or because new tokens are there.
        """
        values = (now, account_id)
        await self._database.write(lambda connection: connection.execute(_PROBE, values).rowcount)

    async def clock_was_set_back(self, now: float, lease_s: float, doubt_wait_s: float) -> int:
        """Let nothing wait for times that the clock has been taken back from; return how many calls are due.

        What waits is due now, and the plan says anew how long it has to wait. Moments that lie in the future
        count as now, leases and requests under way as begun now; what was searched is searched again.
        """

        def unit(connection: sqlite3.Connection) -> int:
            connection.execute(_PAUSES_BACK, (now,))
            connection.execute(_LEADS_BACK, (now,))
            # An amendment under way ends with its lease; Kommo may take doubt_wait longer over it.
            moments = (now, now + lease_s, now + lease_s + doubt_wait_s)
            return connection.execute(_CALLS_BACK, moments).rowcount

        return await self._database.write(unit)

    async def newest_arrival(self) -> float:
        """Return the Unix second in which the newest call was heard of, 0 without calls."""
        return await self._database.read(
            lambda connection: float(
                connection.execute(
                    "SELECT coalesce((SELECT arrived_at FROM calls ORDER BY id DESC LIMIT 1), 0)"
                ).fetchone()[0]
            )
        )

    async def due(self, account_id: int | None, now: float, limit: int) -> Sequence[CallKey]:
        """Return up to `limit` due calls that nobody holds, by rank, the longest waiting first."""

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
                tell((connection, number), now, who="operator", what="retry", outcome="to be tried now")
                ring(connection, CallKey(account_id, call_id))
            return len(rows)

        return await self._database.write(unit)

    async def last_ring(self) -> int:
        """Return the number of the newest ring in the queue."""
        return await self._database.read(
            lambda connection: int(connection.execute("SELECT coalesce(max(id), 0) FROM task").fetchone()[0])
        )

    async def hush(self, last: int) -> None:
        """Forget the rings up to a number, for whoever has drained what is due without listening to them."""
        await self._database.write(
            lambda connection: connection.execute("DELETE FROM task WHERE id <= ?", (last,)).rowcount
        )

    async def story(self, key: CallKey) -> Sequence[JournalLine]:
        """Return everything that arrived and was done about a call, the earliest first."""

        return await self._database.read(lambda connection: story(connection, key))

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
            waiting = [
                connection.execute(
                    "SELECT count(*), min(due_at) FROM calls WHERE account_id = ? AND due_at <= ?",
                    (account, now),
                ).fetchone()
                for account in _accounts_with_due(connection)
            ]
            return Totals(
                states=states,
                queued=queued,
                due=sum(number for number, _ in waiting),
                oldest_due_at=min((oldest for _, oldest in waiting if oldest is not None), default=None),
            )

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
    for rank in _RANKS:
        for (call_id,) in connection.execute(_DUE, (account_id, rank, now, now, limit)).fetchall():
            limit -= 1
            yield CallKey(account_id, call_id)
