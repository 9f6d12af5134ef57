"""The ledger without a file: every method is one transaction, done or not done, and outlives every crash.

`MemoryLedger` says in Python what `calllogd.database` says in SQL; `SqliteLedger` is the latter itself, on a
database in memory. The same seeds run on both, so that the two cannot drift apart unnoticed.
"""

import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar, cast

from calllogd.database.database import Database
from calllogd.database.group_commit import Together
from calllogd.database.migrations import migrate
from calllogd.database.people import LedgerOfPeople
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import (
    Call,
    CallKey,
    CallState,
    Direction,
    Doubt,
    IncomingLead,
    Intent,
    LeadState,
    Lease,
)
from calllogd.domain.merge import fold
from calllogd.domain.phone import matched
from calllogd.errors import AccountPaused, LeaseLost, NumberTaken
from calllogd.ports import Accepted, Message, Note, Pause
from tests.fakes import ACCOUNT
from tests.simulation.kommo import REGION
from tests.simulation.loop import at_once

T = TypeVar("T")
Item = TypeVar("Item")
Done = TypeVar("Done")

PROBE_FIRST_S = 5.0
PROBE_LONGEST_S = 900.0

RETRIABLE = (
    CallState.FAILED,
    CallState.EXPIRED,
    CallState.IGNORED,
    CallState.AWAITING_RESULT,
    CallState.AWAITING_CONTACT,
    CallState.PENDING,
)


class Ledger(Protocol):
    """What the simulated processes and the operator do with the ledger, a transaction each."""

    def get(self, key: CallKey) -> Call | None: ...

    def accept(self, message: Message, now: float) -> Accepted: ...

    def claim(self, key: CallKey, now: float, lease_s: float) -> Call | None: ...

    def save(self, call: Call, now: float, lease_s: float, note: Note | None) -> Call: ...

    def release(self, call: Call, now: float, note: Note | None) -> Call | None: ...

    def close_lead(self, call: Call, now: float) -> bool: ...

    def pause(self, account_id: int, cause: AccountPaused, now: float) -> Pause: ...

    def due(self, account_id: int | None, now: float, limit: int) -> Sequence[CallKey]: ...

    def number_appeared(self, account_id: int, phones: Sequence[str], now: float) -> int: ...

    def lead_sorted(self, account_id: int, uid: str, state: LeadState, now: float) -> int: ...

    def probe_paused(self, now: float) -> None: ...

    def retry(self, key: CallKey | None, now: float) -> int: ...

    def attribute(
        self,
        account_id: int,
        extensions: Collection[str],
        *,
        since: float,
        now: float,
        after: int,
        limit: int,
    ) -> int | None: ...

    def knows(self, uid: str) -> bool:
        """Tell whether an incoming lead is known."""
        ...

    def next_due(self) -> float | None:
        """Return when the next call can be claimed, None if none ever can by itself."""
        ...


class _Lead:
    """An incoming lead's row."""

    __slots__ = ("lead", "made_at", "number")

    def __init__(self, lead: IncomingLead, number: str, made_at: float) -> None:
        self.lead = lead
        self.number = number
        self.made_at = made_at


class _Pause:
    """An account that is held back."""

    __slots__ = ("probe_at", "probes", "since", "tried_at")

    def __init__(self, since: float, tried_at: float, probes: int) -> None:
        self.since = since
        self.tried_at = tried_at
        self.probes = probes
        self.probe_at = tried_at + probe_s(probes)


def probe_s(probes: int) -> float:
    """Return how long a paused account waits after it was tried for the so-many-th time."""
    return min(PROBE_LONGEST_S, PROBE_FIRST_S * 2.0 ** min(probes - 1, 10))


class MemoryLedger:
    """Calls of one account, in memory. Rows are calls without their incoming lead: reading puts it in."""

    def __init__(self) -> None:
        self.rows: dict[CallKey, Call] = {}
        self.numbers: dict[CallKey, str | None] = {}
        self.leads: dict[str, _Lead] = {}
        self.paused: _Pause | None = None
        self._tokens = 0

    def get(self, key: CallKey) -> Call | None:
        row = self.rows.get(key)
        return None if row is None else self._with_lead(row)

    def accept(self, message: Message, now: float) -> Accepted:
        key = message.event.key
        row = self.rows.get(key)
        folded = self._fold(row, message, now)
        rev = None if folded.result is None else folded.result.rev
        if row is None:
            self.rows[key] = folded
            self.numbers[key] = None
            return Accepted(CallState.PENDING, duplicate=False, new=True, rev=rev)
        if folded is row:
            return Accepted(row.state, duplicate=True, new=False, rev=rev)
        self.rows[key] = folded
        return Accepted(row.state, duplicate=False, new=False, rev=rev)

    def claim(self, key: CallKey, now: float, lease_s: float) -> Call | None:
        row = self.rows.get(key)
        if row is None or row.due_at is None or row.due_at > now or not self._is_free(row, now):
            return None
        if self.paused is not None:
            if self.paused.probe_at > now:
                return None
            self.paused.probe_at = now + lease_s
        held = replace(row, lease=Lease(token=self._token(), until=now + lease_s))
        if row.doubt is not None:
            held = replace(held, state=CallState.IN_DOUBT)
        self._write(held)
        return self._with_lead(held)

    def save(self, call: Call, now: float, lease_s: float, note: Note | None) -> Call:
        row = self._must_hold(call)
        lease = replace(self._lease(call), until=now + lease_s)
        saved = self._as_worked(row, replace(call, lease=lease))
        if _is_new(saved.doubt, row.doubt):
            self._must_be_free(row, call)
        self._write(saved)
        saved = self._write_lead(row, saved, now)
        self._told(note)
        return saved

    def release(self, call: Call, now: float, note: Note | None) -> Call | None:
        row = self._must_hold(call)
        saved = self._as_worked(row, call)
        if not self._has_news(row, call):
            saved = replace(saved, lease=None, due_at=call.due_at)
        self._write(saved)
        saved = self._write_lead(row, saved, now)
        self._told(note)
        return None if saved.lease is None else saved

    def close_lead(self, call: Call, now: float) -> bool:
        row = self._must_hold(call)
        uid = None if row.leaving is None else row.leaving.lead_uid
        if uid is None or self._is_stood_on(row, uid) or self.leads[uid].lead.state is LeadState.ACCEPTED:
            return False
        self._mark(uid, LeadState.DECLINED, now)
        return True

    def pause(self, account_id: int, cause: AccountPaused, now: float) -> Pause:
        paused = self.paused
        if paused is None:
            paused = _Pause(now, now, 1)
        elif now >= paused.tried_at + probe_s(paused.probes):
            paused = _Pause(paused.since, now, paused.probes + 1)
        else:
            paused = _Pause(paused.since, paused.tried_at, paused.probes)
        self.paused = paused
        return Pause(account_id, cause.code, cause.reason, paused.since, paused.probe_at)

    def due(self, account_id: int | None, now: float, limit: int) -> Sequence[CallKey]:
        if self.paused is not None:
            limit = min(limit, 1) if self.paused.probe_at <= now else 0
        due = [
            (self._rank(row), row.due_at, place, row.key)
            for place, row in enumerate(self.rows.values())
            if row.due_at is not None and row.due_at <= now and self._is_free(row, now)
        ]
        return [key for *_, key in sorted(due)[:limit]]

    def number_appeared(self, account_id: int, phones: Sequence[str], now: float) -> int:
        return self._wake_numbers({self._digits(phone) for phone in phones} - {""}, now)

    def lead_sorted(self, account_id: int, uid: str, state: LeadState, now: float) -> int:
        known = self.leads.get(uid)
        if known is None:
            return 0
        self._mark(uid, state, now)
        if state is not LeadState.DECLINED:
            return self._wake_numbers({known.number}, now)
        woken = [
            key
            for key, row in self.rows.items()
            if (row.entry is not None and row.entry.lead_uid == uid)
            or (row.doubt is not None and row.doubt.lead_uid == uid)
        ]
        for key in woken:
            self.rows[key] = replace(self.rows[key], due_at=now, appeared_at=now)
        return len(woken)

    def probe_paused(self, now: float) -> None:
        if self.paused is not None:
            self.paused.probe_at, self.paused.tried_at, self.paused.probes = now, 0.0, 0

    def retry(self, key: CallKey | None, now: float) -> int:
        states = (CallState.FAILED,) if key is None else RETRIABLE
        retried = [
            row for row in self.rows.values() if row.state in states and (key is None or row.key == key)
        ]
        for row in retried:
            state, doubt = CallState.PENDING, row.doubt
            if doubt is not None:
                state, doubt = CallState.IN_DOUBT, replace(doubt, looked_at=None)
            self.rows[row.key] = replace(
                row, state=state, doubt=doubt, due_at=now, attempts=0, nobody_at=None, asked=0
            )
        return len(retried)

    def attribute(
        self,
        account_id: int,
        extensions: Collection[str],
        *,
        since: float,
        now: float,
        after: int,
        limit: int,
    ) -> int | None:
        waiting = sum(
            row.entry is not None and row.due_at is not None and row.due_at <= now
            for row in self.rows.values()
        )
        room = max(0, limit - waiting)
        found = [
            (place, row)
            for place, row in enumerate(self.rows.values(), 1)
            if place > after and row.arrived_at >= since and _is_nobodys(row, extensions)
        ][:room]
        for _, row in found:
            if row.written_revision == row.revision:
                self.rows[row.key] = replace(row, revision=row.revision + 1, due_at=now)
        if room == 0:
            return after
        return found[-1][0] if found else None

    def knows(self, uid: str) -> bool:
        return uid in self.leads

    def next_due(self) -> float | None:
        soonest: float | None = None
        for row in self.rows.values():
            due_at = row.due_at
            if due_at is None:
                continue
            if row.lease is not None and row.lease.until > due_at:
                due_at = row.lease.until
            if soonest is None or due_at < soonest:
                soonest = due_at
        if soonest is not None and self.paused is not None and self.paused.probe_at > soonest:
            return self.paused.probe_at
        return soonest

    def _fold(self, row: Call | None, message: Message, now: float) -> Call:
        return fold(row, message.event, now)

    def _token(self) -> str:
        self._tokens += 1
        return str(self._tokens)

    def _is_free(self, row: Call, now: float) -> bool:
        return row.lease is None or row.lease.until <= now

    def _has_news(self, row: Call, call: Call) -> bool:
        return _told(row) != _told(call)

    def _rank(self, row: Call) -> int:
        if row.entry is not None:
            return 2
        return 0 if row.nobody_at is not None and row.facts.direction is Direction.INBOUND else 1

    def _must_hold(self, call: Call) -> Call:
        row = self.rows[call.key]
        if row.lease is None or row.lease.token != self._lease(call).token:
            raise LeaseLost(f"another worker holds {call.key}")
        return self._with_lead(row)

    def _lease(self, call: Call) -> Lease:
        if call.lease is None:
            raise LeaseLost(f"{call.key} is not held")
        return call.lease

    def _as_worked(self, row: Call, call: Call) -> Call:
        return replace(
            call,
            facts=row.facts,
            legs=row.legs,
            heard_at=row.heard_at,
            widget=row.widget,
            result=row.result,
            recording=row.recording,
            appeared_at=row.appeared_at,
            revision=row.revision,
            due_at=row.due_at,
        )

    def _write(self, call: Call) -> None:
        self.rows[call.key] = call if call.lead is None else replace(call, lead=None)
        self.numbers[call.key] = self._number(call)

    def _with_lead(self, row: Call) -> Call:
        lead: IncomingLead | None = None
        if row.entry is not None and row.entry.lead_uid is not None:
            found = self.leads.get(row.entry.lead_uid)
            lead = None if found is None else found.lead
        elif self.leads:
            number, made_at = self._number(row), None
            for known in self.leads.values():
                if known.number == number and (made_at is None or known.made_at >= made_at):
                    lead, made_at = known.lead, known.made_at
        return row if lead is row.lead else replace(row, lead=lead)

    def _must_be_free(self, row: Call, call: Call) -> None:
        doubt, lead, number = call.doubt, row.lead, self._number(call)
        if doubt is None:
            return
        if doubt.intent is Intent.CREATE_INCOMING_LEAD:
            for other in self._of_number(number, row.key):
                if (
                    other.doubt is not None
                    and other.doubt.intent is Intent.CREATE_INCOMING_LEAD
                    and other.due_at is not None
                ):
                    raise NumberTaken("another call of the number is getting an incoming lead")
            if lead is not None and lead.state is not LeadState.DECLINED and lead != call.lead:
                raise NumberTaken("another call of the number got an incoming lead")
        elif doubt.lead_uid is not None and (
            lead is None or lead.uid != doubt.lead_uid or lead.state is not LeadState.OPEN
        ):
            raise NumberTaken("the number's incoming lead is open no longer")

    def _write_lead(self, row: Call, saved: Call, now: float) -> Call:
        entry, lead, number = saved.entry, saved.lead, self._number(saved)
        before = row.lead
        if (
            lead is not None
            and before is not None
            and lead.uid == before.uid
            and lead.known_at > before.known_at
        ):
            self._mark(lead.uid, lead.state, lead.known_at)
        if (
            entry is not None
            and entry.lead_uid is not None
            and row.entry is None
            and entry.note_id is None
            and entry.lead_uid not in self.leads
        ):
            made = IncomingLead(
                uid=entry.lead_uid,
                lead_id=entry.entity_id,
                contact_id=entry.contact_id,
                state=LeadState.OPEN,
                known_at=now,
            )
            self.leads[made.uid] = _Lead(made, number or "", now)
        if row.doubt is not None and row.doubt.intent is Intent.CREATE_INCOMING_LEAD and saved.doubt is None:
            for other in self._of_number(number, row.key):
                if (
                    other.entry is None
                    and other.state is CallState.PENDING
                    and other.nobody_at is not None
                    and other.due_at is not None
                    and other.due_at > now
                    and other.lease is None
                ):
                    self.rows[other.key] = replace(other, due_at=now)
        return self._with_lead(saved)

    def _is_stood_on(self, row: Call, uid: str) -> bool:
        number = self._number(row)
        return any(
            (other.entry is not None and other.entry.lead_uid == uid)
            or (other.doubt is not None and other.doubt.lead_uid == uid and self.numbers[other.key] == number)
            for other in self.rows.values()
            if other.key != row.key
        )

    def _of_number(self, number: str | None, but: CallKey) -> list[Call]:
        return [
            row
            for key, row in self.rows.items()
            if number is not None and self.numbers[key] == number and key != but
        ]

    def _number(self, call: Call) -> str | None:
        return self._digits(call.known.phone or "") or None

    def _digits(self, phone: str) -> str:
        return matched(phone, REGION)

    def _mark(self, uid: str, state: LeadState, known_at: float) -> None:
        known = self.leads[uid]
        known.lead = replace(known.lead, state=state, known_at=known_at)

    def _wake_numbers(self, numbers: set[str], now: float) -> int:
        woken = [
            key
            for key, row in self.rows.items()
            if self.numbers[key] in numbers and row.entry is None and row.due_at is not None
        ]
        for key in woken:
            self.rows[key] = replace(self.rows[key], due_at=now, appeared_at=now, asked=0)
        return len(woken)

    def _told(self, note: Note | None) -> None:
        if note is not None and note.answered:
            self.paused = None


def _is_nobodys(row: Call, extensions: Collection[str]) -> bool:
    person = row.facts.person
    if row.state is not CallState.LOGGED or row.attribution is not None or person is None:
        return False
    return person.user_id == 0 and person.extension != "" and person.extension in extensions


def _told(call: Call) -> tuple[object, ...]:
    return call.facts, call.legs, call.widget, call.result, call.recording, call.appeared_at, call.revision


def _is_new(doubt: Doubt | None, before: Doubt | None) -> bool:
    if doubt is None or doubt.looked_at is not None:
        return False
    return before is None or before.looked_at is not None


class _DatabaseInMemory:
    """Stands in for `Database`: the same units, each a transaction of its own, without threads or a file."""

    _empty: bytes | None = None

    def __init__(self) -> None:
        self.waiting = 0
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        if _DatabaseInMemory._empty is None:
            migrate(self.connection)
            _DatabaseInMemory._empty = self.connection.serialize()
        else:
            self.connection.deserialize(_DatabaseInMemory._empty)

    async def read(self, unit: Callable[[sqlite3.Connection], T]) -> T:
        return unit(self.connection)

    async def write(self, unit: Callable[[sqlite3.Connection], T]) -> T:
        self.connection.execute("BEGIN")
        try:
            done = unit(self.connection)
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        return done

    async def write_together(self, together: Together[Item, Done], item: Item) -> Done:
        def unit(connection: sqlite3.Connection) -> Done:
            if together.at_once is not None:
                try:
                    return together.at_once(connection, [item])[0]
                except sqlite3.IntegrityError:
                    pass
            return together.work(connection, [item])[0]

        return await self.write(unit)


class SqliteLedger:
    """The ledger of the daemon itself."""

    def __init__(self) -> None:
        self._database = _DatabaseInMemory()
        self._calls = LedgerOfCalls(cast(Database, self._database), regions={ACCOUNT: REGION})

    def get(self, key: CallKey) -> Call | None:
        return at_once(self._calls.get(key))

    def accept(self, message: Message, now: float) -> Accepted:
        return at_once(self._calls.accept(message, now))

    def claim(self, key: CallKey, now: float, lease_s: float) -> Call | None:
        return at_once(self._calls.claim(key, now, lease_s))

    def save(self, call: Call, now: float, lease_s: float, note: Note | None) -> Call:
        return at_once(self._calls.save(call, now, lease_s, note))

    def release(self, call: Call, now: float, note: Note | None) -> Call | None:
        return at_once(self._calls.release(call, now, note))

    def close_lead(self, call: Call, now: float) -> bool:
        return at_once(self._calls.close_lead(call, now))

    def pause(self, account_id: int, cause: AccountPaused, now: float) -> Pause:
        return at_once(self._calls.pause(account_id, cause, now))

    def due(self, account_id: int | None, now: float, limit: int) -> Sequence[CallKey]:
        return at_once(self._calls.due(account_id, now, limit))

    def number_appeared(self, account_id: int, phones: Sequence[str], now: float) -> int:
        return at_once(self._calls.number_appeared(account_id, phones, now))

    def lead_sorted(self, account_id: int, uid: str, state: LeadState, now: float) -> int:
        return at_once(self._calls.lead_sorted(account_id, uid, state, now))

    def probe_paused(self, now: float) -> None:
        at_once(self._calls.probe_paused(now))

    def retry(self, key: CallKey | None, now: float) -> int:
        return at_once(self._calls.retry(key, now))

    def attribute(
        self,
        account_id: int,
        extensions: Collection[str],
        *,
        since: float,
        now: float,
        after: int,
        limit: int,
    ) -> int | None:
        people = LedgerOfPeople(cast(Database, self._database))
        return at_once(
            people.attribute(account_id, extensions, since=since, now=now, after=after, limit=limit)
        )

    def knows(self, uid: str) -> bool:
        leads = self._database.connection.execute("SELECT 1 FROM incoming_leads WHERE uid = ?", (uid,))
        return leads.fetchone() is not None

    def next_due(self) -> float | None:
        due_at: float | None
        (due_at,) = self._database.connection.execute(
            "SELECT min(max(due_at, coalesce(lease_until, 0))) FROM calls WHERE due_at IS NOT NULL"
        ).fetchone()
        (probe_at,) = self._database.connection.execute("SELECT max(probe_at) FROM pauses").fetchone()
        return due_at if due_at is None or probe_at is None else max(due_at, probe_at)
