"""GET /metrics: what it tells, that Prometheus can read it, and who may."""

import ipaddress
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calllogd import __version__
from calllogd.database.database import Database
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import CallState, Person
from calllogd.ports import AccountState, Standing, Totals
from calllogd.web.metrics import _family, exposition
from tests.fakes import ACCOUNT, START, ManualClock
from tests.operators import BEARER, TOKEN, MakeClient, Office, from_address

STRANGER = "203.0.113.9"

# The format, as its documentation has it: prometheus.io/docs/instrumenting/exposition_formats.
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (-?[0-9.]+)")


def read(text: str) -> dict[str, float]:
    """Return the samples by name and labels, after looking at every line."""
    assert text.endswith("\n")
    samples: dict[str, float] = {}
    typed: set[str] = set()
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert kind == "gauge"
            assert name not in typed, "a family has to be in one piece"
            typed.add(name)
            continue
        match = _SAMPLE.fullmatch(line)
        assert match is not None, line
        assert match[1] in typed
        key = line.rpartition(" ")[0]
        assert key not in samples
        samples[key] = float(match[3])
    return samples


@pytest.fixture
async def office(
    database: Database, ledger: LedgerOfCalls, clock: ManualClock, aiohttp_client: MakeClient
) -> Office:
    office = Office(database, ledger, clock)
    office.client = await aiohttp_client(office.app)
    return office


async def test_the_numbers(office: Office) -> None:
    await office.add("c1")
    await office.add("c2", CallState.FAILED, error="no")
    await office.add("c3", CallState.LOGGED)
    office.clock.forward(90)
    answer = await office.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples = read(await answer.text())
    for state in CallState:
        expected = state in (CallState.PENDING, CallState.FAILED, CallState.LOGGED)
        assert samples[f'calllogd_calls{{state="{state.value}"}}'] == expected
    assert samples["calllogd_queue_length"] == 3
    assert samples["calllogd_due"] == 1
    assert samples["calllogd_oldest_due_seconds"] == 90
    assert samples[f'calllogd_account_up{{account="{ACCOUNT}"}}'] == 1
    assert samples['calllogd_account_up{account="4711"}'] == 0
    assert samples[f'calllogd_account_token_seconds{{account="{ACCOUNT}"}}'] == 86_400 - 90
    assert 'calllogd_account_token_seconds{account="4711"}' not in samples
    assert samples[f'calllogd_build_info{{version="{__version__}"}}'] == 1
    assert samples["process_start_time_seconds"] > START


async def test_extensions_that_nobody_has_are_counted(office: Office) -> None:
    office.extensions = {ACCOUNT: {"101": 111}}
    for place, extension in enumerate(("101", "102", "102", "103")):
        await office.add(f"c{place}", CallState.LOGGED, person=Person(3, extension))
    await office.add("stranger", CallState.LOGGED, account_id=4242, person=Person(3, "101"))
    samples = read(await (await office.get("/metrics")).text())
    assert samples[f'calllogd_unmapped_extensions{{account="{ACCOUNT}"}}'] == 2
    assert samples['calllogd_unmapped_extensions{account="4711"}'] == 0
    assert samples['calllogd_unmapped_extensions{account="4242"}'] == 1


async def test_of_an_empty_ledger(office: Office) -> None:
    office.standings = []
    samples = read(await (await office.get("/metrics")).text())
    assert samples["calllogd_oldest_due_seconds"] == 0
    assert not any("account" in name for name in samples)


async def test_whoever_is_not_near_needs_the_token(office: Office) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        answer = await office.get("/metrics", **from_address(STRANGER), **headers)
        assert answer.status == 401
        assert "calllogd_calls" not in await answer.text()
    assert (await office.get("/metrics", **from_address(STRANGER), **BEARER)).status == 200


async def test_a_session_of_the_status_page_is_no_token(office: Office) -> None:
    cookie = await office.session()
    assert (await office.get("/metrics", Cookie=cookie, **from_address(STRANGER))).status == 401


@pytest.mark.parametrize(
    "forwarded",
    [
        f"127.0.0.1, {STRANGER}",
        f"::1,{STRANGER}",
        f"127.0.0.1:80, {STRANGER}, 127.0.0.1",
        f"::ffff:{STRANGER}",
    ],
)
async def test_nobody_talks_himself_near(office: Office, forwarded: str) -> None:
    assert (await office.get("/metrics", **from_address(forwarded))).status == 401
    assert (await office.get("/metrics", Forwarded="for=127.0.0.1", **from_address(STRANGER))).status == 401


async def test_who_has_no_address_is_not_near(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calllogd.web.operator_access.client_address", lambda *_: "")
    assert (await office.get("/metrics")).status == 401


async def test_networks_are_configured(office: Office) -> None:
    office.configure(metrics_from=[ipaddress.ip_network("203.0.113.0/24")])
    assert (await office.get("/metrics", **from_address(STRANGER))).status == 200
    assert (await office.get("/metrics")).status == 401
    office.configure(metrics_from=[])
    assert (await office.get("/metrics", **from_address(STRANGER))).status == 401


async def test_without_an_admin_token_no_token_is_right(office: Office) -> None:
    office.configure(token=None)
    assert (await office.get("/metrics")).status == 200
    for shown in ("", "None", TOKEN):
        headers = {"Authorization": f"Bearer {shown}", **from_address(STRANGER)}
        assert (await office.get("/metrics", **headers)).status == 401


async def test_guessing_is_slow_here_too(office: Office) -> None:
    headers = {"Authorization": "Bearer wrong", **from_address(STRANGER)}
    assert [(await office.get("/metrics", **headers)).status for _ in range(6)] == [401] * 5 + [429]
    assert (await office.get("/metrics", **from_address(STRANGER), **BEARER)).status == 429
    assert (await office.log_in(**from_address(STRANGER))).status == 429
    assert (await office.get("/metrics")).status == 200


async def test_head_and_other_methods(office: Office) -> None:
    answer = await office.client.head("/metrics")
    assert (answer.status, await answer.read()) == (200, b"")
    assert (await office.client.head("/metrics", headers=from_address(STRANGER))).status == 401
    assert (await office.post("/metrics")).status == 405


async def test_nothing_is_logged_of_each_request(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="calllogd")
    await office.get("/metrics")
    await office.get("/metrics", **from_address(STRANGER), **BEARER)
    assert not caplog.records


async def test_when_the_ledger_cannot_be_read(office: Office) -> None:
    await office.database.close()
    assert (await office.get("/metrics")).status == 503


@given(st.dictionaries(st.sampled_from(["a", "b_c"]), st.text(), max_size=2), st.floats(-1e9, 1e9))
def test_whatever_a_label_says_it_is_one_line(labels: dict[str, Any], value: float) -> None:
    (sample,) = list(_family("x", "m", [(labels, value)]))[2:]
    assert _SAMPLE.fullmatch(sample)


def test_labels_are_escaped() -> None:
    assert list(_family("x", "m", [({"a": 'b"c\\d\ne'}, 1)]))[2:] == ['x{a="b\\"c\\\\d\\ne"} 1']


@given(
    st.dictionaries(st.sampled_from(CallState), st.integers(0, 10**9)),
    st.none() | st.floats(0, START * 2),
    st.lists(
        st.builds(
            Standing,
            account_id=st.integers(1, 2**53),
            name=st.text(),
            state=st.sampled_from(AccountState),
            token_until=st.none() | st.floats(0, START * 2),
        ),
        unique_by=lambda standing: standing.account_id,
        max_size=4,
    ),
)
def test_prometheus_can_read_it(
    states: dict[CallState, int], oldest: float | None, standings: list[Standing]
) -> None:
    totals = Totals(states=states, oldest_due_at=oldest)
    samples = read(exposition(totals, standings, (), now=START, started_at=START))
    assert sum(value for name, value in samples.items() if name.startswith("calllogd_calls")) == sum(
        states.values()
    )
