"""A backlog under each reading of what Kommo leaves open: it stands once, whichever is right."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from itertools import product
from pathlib import Path

import pytest

from calllogd.sandbox import Fault, FaultKind, Rules
from tests.faults.machine import (
    ACCOUNT,
    KNOWN,
    Installation,
    Webhook,
    all_of,
    installation,
    unknown,
    until,
    webhook,
)

CALLS = 120
READINGS = [
    Rules(mixed_status=status, mixed_request_ids=named, merge_params=named)
    for status, named in product((200, 400), (True, False))
]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path) as it:
        yield it


def crowd() -> list[Webhook]:
    """Return calls of which every third is of a number that nobody has, with two calls each."""
    return [
        webhook(f"call-{place}", unknown(place // 6) if place % 3 == 0 else KNOWN) for place in range(CALLS)
    ]


@pytest.mark.parametrize(
    "rules",
    READINGS,
    ids=lambda rules: f"{rules.mixed_status} {rules.mixed_request_ids:d} {rules.merge_params:d}",
)
async def test_a_mixed_backlog_stands_once(here: Installation, rules: Rules) -> None:
    async with here.http.post(f"{here.kommo.url}/_sandbox/rules", json=asdict(rules)) as answer:
        assert answer.status == 200
    unpaid = here.kommo.faults.add(Fault(FaultKind.UNPAID))
    daemon = here.daemon()
    await daemon.ready()
    account = here.kommo.account(ACCOUNT)
    chosen = account.add_lead("Chosen").id
    events = crowd()
    await all_of(here.send(event) for event in events)
    await until(lambda: here.kommo.faults.fired(unpaid))
    here.kommo.faults.clear()
    for kind in (FaultKind.RESET_AFTER, FaultKind.HALF_BODY):
        here.kommo.faults.add(Fault(kind, method="POST", path="^/calls$", every=3, times=1))
    await daemon.stop()
    await daemon.ready()
    await here.settled(CALLS, 40)
    # An entry is amended, another moves: what the old note keeps depends on how notes are edited.
    await here.save("call-1", text="amended")
    await here.save("call-2", text="moved", entity={"type": "leads", "id": chosen})
    await here.settled(CALLS, 40)

    entries = {str(event["call_id"]): here.entries(str(event["call_id"])) for event in events}
    assert {call_id: len(them) for call_id, them in entries.items() if len(them) != 1} == {}
    assert len(account.unsorted) == CALLS // 6
    assert entries["call-1"][0].params["call_result"] == "amended"
    assert (entries["call-2"][0].entity_type, entries["call-2"][0].entity_id) == ("leads", chosen)
    assert entries["call-2"][0].params["call_result"] == "moved"
    (left,) = [note for note in account.notes if note.params["uniq"] == "call-2#moved"]
    assert left.params.get("link") is None
    assert left.params["duration"] == 0
    assert {call["state"] for call in (await here.calls()).values()} == {"logged"}
