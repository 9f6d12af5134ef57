"""One number is one number to the ledger, however it is written, where the account's region is known."""

from dataclasses import replace

import pytest

from calllogd.database.database import Database
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import Call, CallKey, Doubt, EntityType, Entry, Intent
from calllogd.errors import NumberTaken
from tests.fakes import ACCOUNT, START, ended, told

LEASE_S = 30.0
WAYS = [
    ("AU", "+61412345678", "0412 345 678"),
    ("DE", "+4930123456", "030 123456"),
    ("ES", "+34612345678", "612 345 678"),
    ("AR", "+5491123456789", "011 15-2345-6789"),
    ("US", "+12125550123", "sip:2125550123@host:5060"),
]


async def intending(ledger: LedgerOfCalls, call_id: str) -> Call:
    """Return a call that is about to become an incoming lead, with that on disk."""
    call = await ledger.claim(CallKey(ACCOUNT, call_id), START, LEASE_S)
    assert call is not None
    doubt = Doubt(intent=Intent.CREATE_INCOMING_LEAD, over_at=START + LEASE_S, revision=1)
    return await ledger.save(replace(call, nobody_at=START, doubt=doubt), START, LEASE_S)


@pytest.mark.parametrize(("region", "abroad", "at_home"), WAYS)
async def test_two_spellings_of_a_number_cannot_become_two_incoming_leads(
    database: Database, region: str, abroad: str, at_home: str
) -> None:
    ledger = LedgerOfCalls(database, regions={ACCOUNT: region})
    await ledger.accept(told(ended("one", phone=abroad)), START)
    await ledger.accept(told(ended("other", phone=at_home)), START)
    first = await intending(ledger, "one")
    with pytest.raises(NumberTaken):
        await intending(ledger, "other")
    entry = Entry(entity_type=EntityType.LEADS, entity_id=1, lead_uid="uid", contact_id=2)
    await ledger.release(replace(first, doubt=None, entry=entry, due_at=None), START)
    other = await ledger.get(CallKey(ACCOUNT, "other"))
    assert other is not None
    assert other.lead is not None
    assert other.lead.uid == "uid", "it goes as a note on the same one"


@pytest.mark.parametrize(("region", "abroad", "at_home"), WAYS)
async def test_a_contact_wakes_the_calls_of_its_number_however_it_is_written(
    database: Database, region: str, abroad: str, at_home: str
) -> None:
    ledger = LedgerOfCalls(database, regions={ACCOUNT: region})
    for call_id, phone in (("one", abroad), ("other", at_home)):
        await ledger.accept(told(ended(call_id, phone=phone)), START)
        call = await ledger.claim(CallKey(ACCOUNT, call_id), START, LEASE_S)
        assert call is not None
        await ledger.release(replace(call, nobody_at=START, due_at=START + 600), START)
    assert await ledger.number_appeared(ACCOUNT, [abroad], START + 1) == 2
    assert await ledger.number_appeared(ACCOUNT, [at_home], START + 1) == 2


async def test_without_a_region_a_national_number_is_taken_as_it_is(database: Database) -> None:
    ledger = LedgerOfCalls(database, regions={ACCOUNT + 1: "AU"})
    await ledger.accept(told(ended("one", phone="+61412345678")), START)
    await ledger.accept(told(ended("other", phone="0412 345 678")), START)
    await intending(ledger, "one")
    await intending(ledger, "other")


async def test_kommo_is_taken_at_its_word_that_a_number_is_like_another(database: Database) -> None:
    """It compares the digits as they are written; what we read in them may be another number."""
    ledger = LedgerOfCalls(database, regions={ACCOUNT: "AU"})
    await ledger.accept(told(ended("one", phone="+1 041 234 5678")), START)
    call = await ledger.claim(CallKey(ACCOUNT, "one"), START, LEASE_S)
    assert call is not None
    await ledger.release(replace(call, nobody_at=START, due_at=START + 600), START)
    assert await ledger.number_appeared(ACCOUNT, ["0412 345 678"], START + 1) == 1
