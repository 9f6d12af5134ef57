"""Thousands of stories keep every promise, on both ledgers; and each way to break the code is noticed."""

import os

import pytest

from tests.simulation.ledger import MemoryLedger, SqliteLedger
from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.run import check, check_beside, tell

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "20000"))
FIRST = int(os.environ.get("SIMULATION_FIRST", "0"))

BOUND = 3000
"""Seeds within which every mutation is noticed."""


@pytest.mark.timeout(60 + SEEDS // 50)
def test_every_story_keeps_the_promises() -> None:
    jobs = os.cpu_count() or 1
    for _, findings in check_beside(FIRST, SEEDS, jobs, "memory"):
        if findings:
            pytest.fail(tell(findings[0].seed), pytrace=False)


def test_the_ledger_in_memory_is_the_daemons() -> None:
    for seed in range(FIRST, FIRST + 300):
        assert tell(seed, MemoryLedger) == tell(seed, SqliteLedger)


def test_a_seed_is_one_story() -> None:
    assert tell(FIRST) == tell(FIRST)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_breakage_is_noticed(mutation: Mutation) -> None:
    for seed in range(BOUND):
        with mutation.applied():
            finding = check(seed, mutation.ledger)
        if finding is not None and check(seed) is None:
            return
    pytest.fail(f"no seed below {BOUND} notices: {mutation.name}")
