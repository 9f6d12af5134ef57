"""KommoAccount against the stand-in: entries are made, found again and amended."""

import asyncio
from dataclasses import replace

import pytest

from calllogd.domain.call import (
    Call,
    CallKey,
    CallStatus,
    Direction,
    EntityType,
    Entry,
    Facts,
    Outcome,
    Person,
)
from calllogd.errors import (
    AccountPaused,
    KommoError,
    NobodyHasNumber,
    OutcomeUnknown,
    PermanentError,
    TransientError,
)
from calllogd.kommo import kommo as module
from calllogd.kommo.kommo import Kommo, KommoAccount
from calllogd.ports import Crm
from calllogd.sandbox import Account, Card, Fault, FaultKind, SandboxKommo
from tests.fakes import ACCOUNT, START, ManualClock

PHONE = "+12125550123"
CALL = Call(
    key=CallKey(ACCOUNT, "c1"),
    facts=Facts(
        direction=Direction.INBOUND,
        phone="(212) 555-0123",
        person=Person(3, "101"),
        started_at=START - 60,
        outcome=Outcome(CallStatus.ANSWERED, 42),
    ),
    arrived_at=START,
)
PARAMS = {
    "uniq": "c1",
    "source": "calllogd",
    "phone": PHONE,
    "duration": 42,
    "call_status": 4,
    "call_responsible": 111,
}
SINCE = START - 1000
LONGER = replace(CALL, facts=replace(CALL.facts, outcome=Outcome(CallStatus.ANSWERED, 99)), revision=2)


async def nothing() -> None:
    return None


@pytest.fixture
def contact(account: Account) -> Card:
    return account.add_contact("Kim", [PHONE])


def only(account: Account, uniq: str = "c1") -> Entry:
    """Return the one entry that stands in Kommo."""
    (entry,) = account.entries(uniq)
    return Entry(
        entity_type=EntityType(entry.entity_type),
        entity_id=entry.entity_id,
        note_id=entry.note_id,
        lead_uid=entry.lead_uid,
    )


async def test_a_call_is_logged_on_the_contact_of_its_number(
    crm: KommoAccount, kommo: SandboxKommo, account: Account, contact: Card
) -> None:
    answer = await crm.log_call(CALL, nothing)
    assert answer.entry == only(account)
    assert answer.entry.entity_type is EntityType.CONTACTS
    assert answer.entry.entity_id == contact.id
    assert answer.request_id == kommo.requests[0].request_id
    (note,) = account.notes
    assert (note.note_type, note.params) == ("call_in", PARAMS)
    assert (note.created_at, note.created_by, note.responsible_user_id) == (int(START - 60), 111, 111)


async def test_a_call_is_logged_on_the_only_active_lead(crm: KommoAccount, account: Account) -> None:
    lead = account.add_lead()
    account.add_contact("Kim", [PHONE], [lead])
    answer = await crm.log_call(CALL, nothing)
    assert answer.entry == only(account)
    assert (answer.entry.entity_type, answer.entry.entity_id) == (EntityType.LEADS, lead.id)


async def test_a_call_is_logged_on_a_company(crm: KommoAccount, account: Account) -> None:
    company = account.add_company("Kim & Co", [PHONE])
    answer = await crm.log_call(CALL, nothing)
    assert answer.entry == only(account)
    assert (answer.entry.entity_type, answer.entry.entity_id) == (EntityType.COMPANIES, company.id)


@pytest.mark.usefixtures("contact")
async def test_an_outbound_call_is_another_type_of_note(crm: KommoAccount, account: Account) -> None:
    await crm.log_call(replace(CALL, facts=replace(CALL.facts, direction=Direction.OUTBOUND)), nothing)
    assert [note.note_type for note in account.notes] == ["call_out"]


@pytest.mark.usefixtures("contact")
async def test_a_call_of_which_little_is_known_is_logged_without_nulls(
    crm: KommoAccount, account: Account
) -> None:
    """The stand-in refuses every null, as Kommo does."""
    await crm.log_call(replace(CALL, facts=Facts(direction=Direction.INBOUND, phone=PHONE)), nothing)
    (note,) = account.notes
    assert note.params == {"uniq": "c1", "source": "calllogd", "phone": PHONE, "duration": 0}


async def test_nobody_has_the_number(crm: KommoAccount, account: Account) -> None:
    with pytest.raises(NobodyHasNumber):
        await crm.log_call(CALL, nothing)
    assert account.notes == []


async def test_an_incoming_lead_has_its_contact_and_its_call(crm: KommoAccount, account: Account) -> None:
    answer = await crm.create_incoming_lead(CALL, nothing)
    (lead,) = account.unsorted
    assert answer.entry == Entry(
        entity_type=EntityType.LEADS, entity_id=lead.lead_id, lead_uid=lead.uid, contact_id=lead.contact_id
    )
    assert [card.numbers for card in account.contacts] == [[PHONE]]
    assert [entry.lead_uid for entry in account.entries("c1")] == [lead.uid]
    assert [note.params["uniq"] for note in account.notes] == ["c1"]


@pytest.mark.usefixtures("contact")
@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"_embedded": {}}',
        '{"_embedded": {"calls": []}}',
        '{"_embedded": {"calls": [5]}}',
        '{"_embedded": {"calls": [{"request_id": "x", "id": 1, "entity_id": 1, "entity_type": "lead"}]}}',
        '{"_embedded": {"calls": [{"request_id": "c1"}]}}',
        '{"_embedded": {"calls": [{"request_id": "c1", "id": "x", "entity_id": 1, "entity_type": "lead"}]}}',
        '{"_embedded": {"calls": [{"request_id": "c1", "id": 1, "entity_id": null, "entity_type": "lead"}]}}',
        '{"_embedded": {"calls": [{"request_id": "c1", "id": 1, "entity_id": 1, "entity_type": "planet"}]}}',
    ],
)
async def test_a_2xx_that_does_not_tell_of_the_call_leaves_doubt(
    crm: KommoAccount, kommo: SandboxKommo, body: str
) -> None:
    kommo.faults.add(Fault("status_after", status=200, body=body))
    with pytest.raises(OutcomeUnknown) as doubt:
        await crm.log_call(CALL, nothing)
    assert doubt.value.request_id == kommo.requests[0].request_id


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"_embedded": {"unsorted": [{"request_id": "another"}]}}',
        '{"_embedded": {"unsorted": [{"request_id": "c1"}]}}',
        '{"_embedded": {"unsorted": [{"request_id": "c1", "uid": "u"}]}}',
        '{"_embedded": {"unsorted": [{"request_id": "c1", "uid": 5, "_embedded": {"leads": [{"id": 1}]}}]}}',
    ],
)
async def test_a_2xx_that_does_not_tell_of_the_incoming_lead_leaves_doubt(
    crm: KommoAccount, kommo: SandboxKommo, body: str
) -> None:
    kommo.faults.add(Fault("status_after", status=200, body=body))
    with pytest.raises(OutcomeUnknown):
        await crm.create_incoming_lead(CALL, nothing)


@pytest.mark.parametrize("place", ["contact", "lead", "company"])
async def test_an_entry_is_found_wherever_it_stands(crm: KommoAccount, account: Account, place: str) -> None:
    match place:
        case "contact":
            account.add_contact("Kim", [PHONE])
        case "company":
            account.add_company("Kim & Co", [PHONE])
        case _:
            account.add_contact("Kim", [PHONE], [account.add_lead()])
    made = await crm.log_call(CALL, nothing)
    found = await crm.find(CALL, SINCE)
    assert found.entry == made.entry == only(account)


async def test_an_incoming_lead_is_found_as_one(crm: KommoAccount, account: Account) -> None:
    made = await crm.create_incoming_lead(CALL, nothing)
    assert (await crm.find(CALL, SINCE)).entry == made.entry
    assert len(account.entries("c1")) == 1


async def test_an_incoming_lead_that_is_made_during_the_search_is_found_as_one(
    crm: KommoAccount, kommo: SandboxKommo
) -> None:
    kommo.faults.add(Fault(FaultKind.SLOW, method="GET", path="^/leads/unsorted$", times=1, seconds=1))
    search = asyncio.create_task(crm.find(CALL, SINCE))
    async with asyncio.timeout(5):
        while not kommo.requests:
            await asyncio.sleep(0)
    made = await crm.create_incoming_lead(CALL, nothing)
    assert not search.done()
    assert (await search).entry == made.entry


async def test_an_incoming_lead_that_was_accepted_is_found_as_its_note(
    crm: KommoAccount, account: Account
) -> None:
    made = await crm.create_incoming_lead(CALL, nothing)
    assert made.entry is not None
    account.accept(made.entry.lead_uid or "")
    found = await crm.find(CALL, SINCE)
    assert found.entry is not None
    assert (found.entry.entity_id, found.entry.note_id) == (made.entry.entity_id, account.notes[0].id)


async def test_nothing_is_found_when_there_is_nothing(crm: KommoAccount, kommo: SandboxKommo) -> None:
    assert (await crm.find(CALL, SINCE)).entry is None
    assert sorted(request.path for request in kommo.requests) == [
        "/companies/notes",
        "/contacts/notes",
        "/leads/notes",
        "/leads/unsorted",
    ]


@pytest.mark.parametrize("uniq", ["c10", "C1", "c1 ", "1", ""])
async def test_another_calls_entry_is_not_taken_for_ones_own(
    crm: KommoAccount, account: Account, contact: Card, uniq: str
) -> None:
    account.add_note(contact.ref, "call_in", {**PARAMS, "uniq": uniq})
    account.add_note(contact.ref, "common", {"text": "c1", "uniq": "c1"})
    account.add_note(contact.ref, "call_in", {"duration": 5})
    await crm.create_incoming_lead(replace(CALL, key=CallKey(ACCOUNT, f"{uniq}x")), nothing)
    assert (await crm.find(CALL, SINCE)).entry is None


async def test_an_id_that_kommo_gives_back_as_a_number_is_found(
    crm: KommoAccount, account: Account, contact: Card
) -> None:
    note = account.add_note(contact.ref, "call_in", {**PARAMS, "uniq": 42})
    found = await crm.find(replace(CALL, key=CallKey(ACCOUNT, "42")), SINCE)
    assert found.entry is not None
    assert found.entry.note_id == note.id


async def test_an_entry_is_found_below_hundreds_of_newer_ones(
    crm: KommoAccount, account: Account, contact: Card
) -> None:
    made = await crm.log_call(CALL, nothing)
    for place in range(600):
        account.add_note(contact.ref, "call_out", {**PARAMS, "uniq": f"n{place}"})
    assert (await crm.find(CALL, SINCE)).entry == made.entry


async def test_an_incoming_lead_is_found_below_hundreds_of_newer_ones(
    crm: KommoAccount, account: Account
) -> None:
    made = await crm.create_incoming_lead(CALL, nothing)
    for place in range(300):
        account.add_incoming(
            source_uid="s",
            source_name="s",
            metadata={"uniq": f"n{place}"},
            lead=account.make_lead(name=f"n{place}", hidden=True),
            contact=None,
            company=None,
            note=None,
            created_at=int(START),
        )
    assert (await crm.find(CALL, SINCE)).entry == made.entry


async def test_too_many_to_look_through_is_not_taken_for_nothing(
    crm: KommoAccount, account: Account, contact: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGES", 2)
    await crm.log_call(CALL, nothing)
    for place in range(500):
        account.add_note(contact.ref, "call_out", {**PARAMS, "uniq": f"n{place}"})
    with pytest.raises(TransientError, match="too many"):
        await crm.find(CALL, SINCE)


@pytest.mark.usefixtures("contact")
async def test_what_was_written_long_before_is_not_searched(crm: KommoAccount, clock: ManualClock) -> None:
    made = await crm.log_call(CALL, nothing)
    clock.forward(3600)
    assert (await crm.find(CALL, START - 900)).entry == made.entry
    assert (await crm.find(CALL, START + 10)).entry is None


@pytest.mark.parametrize("page", ["unsorted", "leads/notes", "contacts/notes", "companies/notes"])
@pytest.mark.parametrize("kind", ["status_before", "html", "reset_before", "rate", "unpaid"])
async def test_a_search_that_was_not_whole_is_an_error(
    crm: KommoAccount, kommo: SandboxKommo, page: str, kind: str
) -> None:
    kommo.faults.add(Fault(kind, path=page))
    with pytest.raises(KommoError) as raised:
        await crm.find(CALL, SINCE)
    assert isinstance(raised.value, TransientError | AccountPaused)


@pytest.mark.usefixtures("contact")
async def test_a_note_is_amended_with_its_full_params(crm: KommoAccount, account: Account) -> None:
    made = await crm.log_call(CALL, nothing)
    answer = await crm.amend(replace(LONGER, entry=made.entry), nothing)
    assert answer.entry == made.entry == only(account)
    (note,) = account.notes
    assert note.params == {**PARAMS, "duration": 99}


async def test_the_note_of_an_incoming_lead_is_found_and_amended(crm: KommoAccount, account: Account) -> None:
    made = await crm.create_incoming_lead(CALL, nothing)
    assert made.entry is not None
    answer = await crm.amend(replace(LONGER, entry=made.entry), nothing)
    (note,) = account.notes
    assert note.params == {**PARAMS, "duration": 99}
    assert answer.entry == replace(made.entry, note_id=note.id)
    assert len(account.entries("c1")) == 1


async def test_the_note_of_an_accepted_incoming_lead_is_amended(crm: KommoAccount, account: Account) -> None:
    made = await crm.create_incoming_lead(CALL, nothing)
    assert made.entry is not None
    account.accept(made.entry.lead_uid or "")
    await crm.amend(replace(LONGER, entry=made.entry), nothing)
    assert [note.params["duration"] for note in account.notes] == [99]


async def test_a_note_that_has_gone_cannot_be_amended(
    crm: KommoAccount, account: Account, contact: Card
) -> None:
    made = await crm.log_call(CALL, nothing)
    account.delete(contact)
    with pytest.raises(PermanentError):
        await crm.amend(replace(LONGER, entry=made.entry), nothing)
    with pytest.raises(PermanentError):
        await crm.amend(LONGER, nothing)
    lead = await crm.create_incoming_lead(CALL, nothing)
    assert lead.entry is not None
    account.decline(lead.entry.lead_uid or "")
    with pytest.raises(PermanentError):
        await crm.amend(replace(LONGER, entry=lead.entry), nothing)


async def test_each_call_goes_to_its_own_account(kommo: SandboxKommo, crm: KommoAccount) -> None:
    accounts = Kommo({ACCOUNT: crm})
    port: Crm = accounts
    kommo.account(7, token="other-token").add_contact("Lee", [PHONE])
    mine = kommo.account(ACCOUNT)
    mine.add_contact("Kim", [PHONE])
    await port.log_call(CALL, nothing)
    assert len(mine.entries("c1")) == 1
    foreign = replace(CALL, key=CallKey(7, "c1"))
    for request in (
        port.log_call(foreign, nothing),
        port.create_incoming_lead(foreign, nothing),
        port.find(foreign, SINCE),
        port.amend(foreign, nothing),
    ):
        with pytest.raises(AccountPaused, match="not in the configuration"):
            await request
    assert kommo.account(7).entries("c1") == []
    assert {request.account_id for request in kommo.requests} == {ACCOUNT}


async def test_who_works_in_the_account(crm: KommoAccount, account: Account) -> None:
    for number in range(300):
        account.add_user(1000 + number, "Somebody")
    assert len(await crm.users()) == len(account.users)


async def test_a_lead_found_without_its_id_is_not_taken_for_nothing(
    crm: KommoAccount, kommo: SandboxKommo
) -> None:
    body = '{"_embedded": {"unsorted": [{"uid": "u", "metadata": {"uniq": "c1"}, "created_at": 1760000000}]}}'
    kommo.faults.add(
        Fault("status_after", path="unsorted", status=200, body=body.replace("c1", CALL.key.call_id))
    )
    with pytest.raises(TransientError):
        await crm.find(CALL, SINCE)


async def test_a_lead_created_without_an_id_leaves_doubt(crm: KommoAccount, kommo: SandboxKommo) -> None:
    body = '{"_embedded": {"unsorted": [{"request_id": "c1", "uid": "u", "_embedded": {"leads": [{}]}}]}}'
    kommo.faults.add(Fault("status_after", status=200, body=body.replace("c1", CALL.key.call_id)))
    with pytest.raises(OutcomeUnknown):
        await crm.create_incoming_lead(CALL, nothing)


async def test_a_note_without_its_entity_is_not_taken_for_nothing(
    crm: KommoAccount, kommo: SandboxKommo
) -> None:
    body = '{"_embedded": {"notes": [{"id": 1, "params": {"uniq": "c1"}}]}}'
    kommo.faults.add(
        Fault("status_after", path="leads/notes", status=200, body=body.replace("c1", CALL.key.call_id))
    )
    with pytest.raises(TransientError):
        await crm.find(CALL, SINCE)


async def test_two_calls_of_one_unknown_number_are_both_kept(crm: KommoAccount, kommo: SandboxKommo) -> None:
    await crm.create_incoming_lead(CALL, nothing)
    await crm.create_incoming_lead(
        replace(CALL, key=CallKey(ACCOUNT, "c2"), facts=replace(CALL.facts, started_at=START + 60)), nothing
    )
    assert len(kommo.account(ACCOUNT).unsorted) == 2
