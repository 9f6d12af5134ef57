"""Notes, moves, tasks, incoming leads and batches, against the stand-in over real HTTP."""

import asyncio
from dataclasses import replace

import pytest

from calllogd.domain.call import (
    Call,
    CallKey,
    CallStatus,
    Direction,
    EntityRef,
    EntityType,
    Entry,
    Facts,
    IncomingLead,
    LeadState,
    Outcome,
    Recording,
    RecordingState,
    Result,
    Todo,
)
from calllogd.errors import Gone, KommoError, NobodyHasNumber, OutcomeUnknown, PermanentError
from calllogd.kommo.kommo import KommoAccount
from calllogd.ports import Answer
from calllogd.sandbox import Account, Card, Fault, SandboxKommo
from tests.fakes import ACCOUNT, START, link_of

PHONE = "+12125550123"


def call(call_id: str = "c1", phone: str = PHONE) -> Call:
    facts = Facts(
        direction=Direction.INBOUND, phone=phone, started_at=START, outcome=Outcome(CallStatus.ANSWERED, 42)
    )
    return Call(key=CallKey(ACCOUNT, call_id), facts=facts, arrived_at=START)


async def nothing() -> None:
    return None


@pytest.fixture
def contact(account: Account) -> Card:
    return account.add_contact("Kim", [PHONE])


def ref(card: Card) -> EntityRef:
    return EntityRef(EntityType(card.ref.kind.value), card.id)


RESULT = Result(rev=1, text="agreed on 10 %", status=2)


async def test_a_note_on_the_chosen_entity(crm: KommoAccount, account: Account) -> None:
    lead = account.add_lead()
    spoken = replace(
        call(), result=RESULT, recording=Recording(state=RecordingState.READY, media_type="audio/mpeg")
    )
    answer = await crm.add_note(spoken, ref(lead), nothing)
    (entry,) = account.entries("c1")
    assert answer.entry == Entry(entity_type=EntityType.LEADS, entity_id=lead.id, note_id=entry.note_id)
    assert entry.params["call_result"] == "agreed on 10 %"
    assert entry.params["call_status"] == 2
    assert entry.params["link"] == link_of(spoken.key)
    assert (await crm.find_note(spoken, ref(lead))).entry == answer.entry


async def test_a_note_on_an_entity_that_is_gone_is_refused(crm: KommoAccount) -> None:
    with pytest.raises(PermanentError):
        await crm.add_note(call(), EntityRef(EntityType.LEADS, 999), nothing)
    assert (await crm.find_note(call(), EntityRef(EntityType.LEADS, 999))).entry is None


async def test_a_note_that_was_left_is_no_entry_any_more(
    crm: KommoAccount, account: Account, contact: Card
) -> None:
    first = await crm.log_call(call(), nothing)
    lead = account.add_lead()
    second = await crm.add_note(call(), ref(lead), nothing)
    assert first.entry is not None
    for _ in range(2):
        await crm.neutralise(replace(call(), entry=second.entry), first.entry)
    (entry,) = account.entries("c1")
    assert entry.entity_id == lead.id
    (left,) = account.entries("c1#moved")
    assert (left.params["duration"], "link" in left.params) == (0, False)
    assert left.params["call_result"] == f"Moved to leads {lead.id}"


async def test_an_incoming_leads_note_whose_emptying_was_lost_is_known_to_be_empty(
    crm: KommoAccount, account: Account
) -> None:
    left = (await crm.create_incoming_lead(call(), nothing)).entry
    assert left is not None
    assert left.note_id is None
    emptied = await crm.neutralise(call(), left)
    again = await crm.neutralise(call(), left)
    assert emptied.entry is not None
    assert again.entry == emptied.entry, "else it would be waited for, as if Kommo's lists were behind"


async def test_a_left_note_that_somebody_deleted_needs_nothing(
    crm: KommoAccount, account: Account, contact: Card
) -> None:
    first = (await crm.log_call(call(), nothing)).entry
    assert first is not None
    assert first.note_id is not None
    account.delete_note(first.note_id)
    assert (await crm.neutralise(call(), first)).entry is None


async def test_what_became_of_an_incoming_lead(crm: KommoAccount, account: Account) -> None:
    deeds = (("none", LeadState.OPEN), ("accept", LeadState.ACCEPTED), ("decline", LeadState.DECLINED))
    for number, (deed, state) in enumerate(deeds):
        answer = await crm.create_incoming_lead(call(deed, f"+1212555010{number}"), nothing)
        entry = answer.entry
        assert entry is not None
        assert entry.lead_uid is not None
        lead = IncomingLead(
            uid=entry.lead_uid,
            lead_id=entry.entity_id,
            contact_id=entry.contact_id,
            state=LeadState.OPEN,
            known_at=START,
        )
        if deed == "accept":
            account.accept(lead.uid)
        if deed == "decline":
            await crm.decline(lead.uid)
            with pytest.raises(Gone):
                await crm.decline(lead.uid)
            assert account.entries(deed) == []
        assert await crm.check_lead(call(), lead) is state


async def test_the_callers_number_goes_to_the_chosen_contact_once(
    crm: KommoAccount, account: Account
) -> None:
    kim = account.add_contact("Kim", ["+12125550999"])
    for _ in range(2):
        await crm.hand_over(call(), 1, ref(kim))
    assert [number.text for number in kim.phones] == ["+12125550999", PHONE]


async def test_numbers_that_are_given_at_once_are_all_there(crm: KommoAccount, account: Account) -> None:
    kim = account.add_contact("Kim", [])
    phones = [f"+1212555010{number}" for number in range(6)]
    await asyncio.gather(*(crm.hand_over(call(phone, phone), 1, ref(kim)) for phone in phones))
    assert sorted(number.text for number in kim.phones) == phones


async def test_the_caller_is_linked_to_the_chosen_lead(crm: KommoAccount, account: Account) -> None:
    entry = (await crm.create_incoming_lead(call(), nothing)).entry
    lead = account.add_lead()
    assert entry is not None
    for _ in range(2):
        await crm.hand_over(call(), entry.contact_id, ref(lead))
    linked = account.linked(lead.ref, kind=next(k for k in type(lead.ref.kind) if k.value == "contacts"))
    assert [card.id for card in linked] == [entry.contact_id]


async def test_the_managers_task_is_made_and_found(
    crm: KommoAccount, account: Account, contact: Card
) -> None:
    spoken = replace(call(), result=replace(RESULT, todo=Todo("call back", 1_770_000_000)))
    assert (await crm.find_task(spoken, ref(contact))).task_id is None
    made = await crm.add_task(spoken, ref(contact), nothing)
    assert made.task_id is not None
    assert (await crm.find_task(spoken, ref(contact))).task_id == made.task_id


def batch(number: int, unknown: frozenset[int] = frozenset()) -> list[Call]:
    return [call(f"b{place}", "+13005550000" if place in unknown else PHONE) for place in range(number)]


def kinds(became: dict[CallKey, Answer | KommoError]) -> list[str]:
    return [type(answer).__name__ for answer in became.values()]


async def test_fifty_calls_with_one_request(crm: KommoAccount, account: Account, contact: Card) -> None:
    calls = batch(50)
    became = dict(await crm.log_calls(calls, nothing))
    assert kinds(became) == ["Answer"] * 50
    for one in calls:
        answer = became[one.key]
        assert isinstance(answer, Answer)
        (entry,) = account.entries(one.key.call_id)
        assert answer.entry is not None
        assert answer.entry.note_id == entry.note_id


async def test_those_whose_number_nobody_has_are_told_apart(
    crm: KommoAccount, account: Account, contact: Card
) -> None:
    became = dict(await crm.log_calls(batch(5, frozenset({1, 3})), nothing))
    assert kinds(became) == ["Answer", "NobodyHasNumber", "Answer", "NobodyHasNumber", "Answer"]


async def test_a_batch_of_which_nobody_has_any_number(crm: KommoAccount) -> None:
    became = dict(await crm.log_calls(batch(5), nothing))
    assert kinds(became) == ["NobodyHasNumber"] * 5
    with pytest.raises(NobodyHasNumber):
        await crm.log_call(call(), nothing)


async def test_a_batch_with_a_mistake_makes_nothing(
    crm: KommoAccount, account: Account, contact: Card
) -> None:
    wrong = replace(call("wrong"), result=Result(rev=1, status=9))
    with pytest.raises(PermanentError):
        await crm.log_calls([call(), wrong], nothing)
    assert account.entries("c1") == []


async def test_a_lost_answer_of_a_batch_is_told(
    crm: KommoAccount, kommo: SandboxKommo, contact: Card
) -> None:
    kommo.faults.add(Fault("half_body"))
    with pytest.raises(OutcomeUnknown):
        await crm.log_calls(batch(2), nothing)
