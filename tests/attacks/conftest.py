"""One daemon for all attacks: what one of them spoils, the others would show."""

from collections.abc import Iterator

import pytest

from tests.faults.machine import OTHER_ACCOUNT
from tests.target import Target, target

MAX_RECORDING = 1 << 20


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A daemon with calls of two accounts in it."""
    with target(tmp_path_factory.mktemp("attacked"), recordings={"max_bytes": MAX_RECORDING}) as here:
        for number in range(3):
            assert here.report(f"bystander-{number}").status == 202
            assert here.report(f"bystander-{number}", OTHER_ACCOUNT).status == 202
        here.quiet()
        yield here


@pytest.fixture(autouse=True)
def _survives(here: Target) -> Iterator[None]:
    """Whatever is tried, the daemon goes on and has made no mistake."""
    yield
    here.is_well()
