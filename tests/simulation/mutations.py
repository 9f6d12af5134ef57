"""Deliberate breakages, each of which some seed has to notice."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from unittest import mock

from calllogd.domain.call import Call, CallState, Intent, LeadState
from calllogd.domain.phone import tail
from calllogd.domain.plan import CheckLead, DeleteRecording, Finish, InternalCalls, Policy, Step, plan
from calllogd.errors import KommoError, OutcomeUnknown, TransientError
from calllogd.ports import Message
from calllogd.voip.usecase import hold
from calllogd.voip.usecase.create_entry import CreateEntry, Creation
from tests.simulation.ledger import MemoryLedger

Plan = Callable[[Call, float, Policy], Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One breakage: a plan of its own, a ledger of its own, or methods of the use case replaced."""

    name: str
    plan: Plan = plan
    ledger: Callable[[], MemoryLedger] = MemoryLedger
    methods: tuple[tuple[str, Callable[..., object]], ...] = ()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Break the use case within the context."""
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(hold, "plan", self.plan))
            for name, method in self.methods:
                stack.enter_context(mock.patch.object(CreateEntry, name, method))
            yield


def _no_doubts(call: Call, now: float, policy: Policy) -> Step:
    return plan(replace(call, doubt=None), now, policy)


def _no_doubt_wait(call: Call, now: float, policy: Policy) -> Step:
    return plan(call, now, replace(policy, doubt_wait=0.0))


def _one_look(call: Call, now: float, policy: Policy) -> Step:
    looked = call.doubt is not None and call.doubt.looked_at is not None
    return plan(replace(call, doubt=None) if looked else call, now, policy)


def _no_leave(call: Call, now: float, policy: Policy) -> Step:
    return plan(replace(call, leaving=None), now, policy)


def _no_move(call: Call, now: float, policy: Policy) -> Step:
    if call.entry is not None and call.result is not None:
        call = replace(call, result=replace(call.result, entity=None))
    return plan(call, now, policy)


def _no_amend(call: Call, now: float, policy: Policy) -> Step:
    return plan(replace(call, written_revision=call.revision), now, policy)


def _no_delete(call: Call, now: float, policy: Policy) -> Step:
    step = plan(call, now, policy)
    return Finish(CallState.EXPIRED, "mutated") if isinstance(step, DeleteRecording) else step


def _no_last_check(call: Call, now: float, policy: Policy) -> Step:
    step = plan(call, now, policy)
    kept = isinstance(step, CheckLead) and call.entry is not None
    return Finish(CallState.LOGGED, "mutated") if kept else step


def _all_logged(call: Call, now: float, policy: Policy) -> Step:
    return plan(call, now, replace(policy, internal_calls=InternalCalls.LOGGED))


def _none_blocked(call: Call, now: float, policy: Policy) -> Step:
    return plan(call, now, replace(policy, blocked=frozenset()))


def _no_second_poll(call: Call, now: float, policy: Policy) -> Step:
    return plan(replace(call, nobody_at=None if call.nobody_at is None else now), now, policy)


class _NoLeases(MemoryLedger):
    def _token(self) -> str:
        return "everybody's"

    def _is_free(self, row: Call, now: float) -> bool:
        return True


class _NoTokens(MemoryLedger):
    def _must_hold(self, call: Call) -> Call:
        row = self.rows[call.key]
        return self._with_lead(row if row.lease is not None else replace(row, lease=call.lease))


class _NoNumberTaken(MemoryLedger):
    def _must_be_free(self, row: Call, call: Call) -> None:
        pass


class _AsWritten(MemoryLedger):
    def _digits(self, phone: str) -> str:
        return tail(phone)


class _NoNews(MemoryLedger):
    def _has_news(self, row: Call, call: Call) -> bool:
        return False


class _LastWins(MemoryLedger):
    def _fold(self, row: Call | None, message: Message, now: float) -> Call:
        folded = super()._fold(row, message, now)
        result = message.event.result
        return folded if row is None or result is None else replace(folded, result=result)


class _HolderWins(MemoryLedger):
    def _as_worked(self, row: Call, call: Call) -> Call:
        return replace(call, due_at=row.due_at)


class _HolderKeepsLegs(MemoryLedger):
    def _as_worked(self, row: Call, call: Call) -> Call:
        return replace(super()._as_worked(row, call), legs=call.legs)


class _ClosesAll(MemoryLedger):
    def _is_stood_on(self, row: Call, uid: str) -> bool:
        return False


class _DeafToDeclines(MemoryLedger):
    def _mark(self, uid: str, state: LeadState, known_at: float) -> None:
        super()._mark(uid, LeadState.OPEN if state is LeadState.DECLINED else state, known_at)


class _NobodyForEver(MemoryLedger):
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
        return None


async def _no_intent(self: CreateEntry, call: Call, creation: Creation) -> Call:
    return call


_not_created = CreateEntry._not_created


async def _sure(self: CreateEntry, call: Call, intent: Intent, error: KommoError) -> Call | None:
    if isinstance(error, OutcomeUnknown):
        error = TransientError(error.reason)
    return await _not_created(self, call, intent, error)


async def _sure_of_tasks(self: CreateEntry, call: Call, intent: Intent, error: KommoError) -> Call | None:
    if intent is Intent.ADD_TASK and isinstance(error, OutcomeUnknown):
        error = TransientError(error.reason)
    return await _not_created(self, call, intent, error)


MUTATIONS = (
    Mutation(name="a plan without doubts", plan=_no_doubts),
    Mutation(name="no doubt_wait", plan=_no_doubt_wait),
    Mutation(name="one look is enough", plan=_one_look),
    Mutation(name="the old entry is not left", plan=_no_leave),
    Mutation(name="an entry never moves", plan=_no_move),
    Mutation(name="an entry is never amended", plan=_no_amend),
    Mutation(name="recordings are never deleted", plan=_no_delete),
    Mutation(name="the incoming lead is not looked at in the end", plan=_no_last_check),
    Mutation(name="Kommo is never asked again who has the number", plan=_no_second_poll),
    Mutation(name="internal calls are logged", plan=_all_logged),
    Mutation(name="no number is blocked", plan=_none_blocked),
    Mutation(name="numbers are compared as they are written", ledger=_AsWritten),
    Mutation(name="a claim without leases", ledger=_NoLeases),
    Mutation(name="a save by anybody", ledger=_NoTokens),
    Mutation(name="a save without NumberTaken", ledger=_NoNumberTaken),
    Mutation(name="a release that ignores news", ledger=_NoNews),
    Mutation(name="a fold that is no join", ledger=_LastWins),
    Mutation(name="the holder overwrites what was reported", ledger=_HolderWins),
    Mutation(name="the holder overwrites what was told of legs", ledger=_HolderKeepsLegs),
    Mutation(name="an incoming lead is closed while others stand on it", ledger=_ClosesAll),
    Mutation(name="nobody hears of declined incoming leads", ledger=_DeafToDeclines),
    Mutation(name="nobody's calls stay nobody's", ledger=_NobodyForEver),
    Mutation(name="no intent on disk", methods=(("_intend", _no_intent),)),
    Mutation(name="no answer means not done", methods=(("_not_created", _sure),)),
    Mutation(name="no answer means no task", methods=(("_not_created", _sure_of_tasks),)),
)
