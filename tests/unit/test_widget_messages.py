"""What the widget says of a call: how it is read, and how everything else is refused."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calllogd.domain.call import (
    NO_FACTS,
    CallKey,
    CallStatus,
    Direction,
    EntityRef,
    EntityType,
    Facts,
    Outcome,
    Person,
    Result,
    Todo,
    Widget,
)
from calllogd.errors import InputRefused
from calllogd.voip.widget import TEXT_MOST, parse_announcement, parse_result, parse_skip
from tests.fakes import ACCOUNT, START
from tests.widget_tokens import USER

RESULT: dict[str, Any] = {
    "rev": 3,
    "text": "Wants an offer",
    "status": 4,
    "entity": {"type": "leads", "id": 5},
    "task": {"text": "Send it", "complete_till": 1_760_100_000},
    "direction": "inbound",
    "phone": "+1 212 555 0123",
    "started_at": 1_760_000_000,
    "duration": 42,
}
ANNOUNCED: dict[str, Any] = {"direction": "outbound", "phone": "+1 212 555 0123"}
ME = Person(0, user_id=111)


def body(document: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**document, **changes}).encode()


def test_a_full_result() -> None:
    event, result = parse_result(USER, "c1", body(RESULT), START)
    assert result == Result(
        rev=3,
        text="Wants an offer",
        status=4,
        entity=EntityRef(EntityType.LEADS, 5),
        todo=Todo("Send it", 1_760_100_000),
    )
    assert event.key == CallKey(ACCOUNT, "c1")
    assert event.result is result
    assert event.facts is NO_FACTS, "the VoIP service's word is another"
    assert event.widget == Widget(
        facts=Facts(
            direction=Direction.INBOUND,
            phone="+1 212 555 0123",
            person=ME,
            started_at=1_760_000_000.0,
            outcome=Outcome(CallStatus.ANSWERED, 42),
        )
    )


def test_a_result_of_nothing_but_its_number() -> None:
    nulls = dict.fromkeys(("status", "entity", "task", "direction", "phone", "started_at", "duration"))
    for document in ({"rev": 0}, {"rev": 0, **nulls}, {"rev": 0, "more": [1]}):
        event, result = parse_result(USER, "c1", body(document), START)
        assert result == Result(rev=0)
        assert event.widget == Widget(facts=Facts(person=ME))


def test_a_call_without_talk_was_not_answered() -> None:
    event, _ = parse_result(USER, "c1", body(RESULT, duration=0), START)
    assert event.widget.facts.outcome == Outcome(CallStatus.NO_ANSWER, 0)


@pytest.mark.parametrize("kind", ["leads", "contacts", "companies"])
def test_every_kind_of_entity_may_be_chosen(kind: str) -> None:
    _, result = parse_result(USER, "c1", body(RESULT, entity={"type": kind, "id": 5}), START)
    assert result.entity == EntityRef(EntityType(kind), 5)


def test_times_may_be_written_as_in_rfc_3339() -> None:
    event, _ = parse_result(USER, "c1", body(RESULT, started_at="2025-10-09T08:53:20Z"), START)
    assert event.widget.facts.started_at == 1_760_000_000.0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rev": None}, "rev"),
        ({"rev": -1}, "rev"),
        ({"rev": 1.5}, "rev"),
        ({"rev": "1"}, "rev"),
        ({"rev": 2**63}, "rev"),
        ({"rev": 10**30}, "rev"),
        ({"text": None}, "text"),
        ({"text": "x" * (TEXT_MOST + 1)}, "text"),
        ({"status": 0}, "status"),
        ({"status": 8}, "status"),
        ({"status": "4"}, "status"),
        ({"entity": {"type": "customers", "id": 5}}, "takes leads, contacts, companies"),
        ({"entity": {"type": "leads", "id": 0}}, "entity.id"),
        ({"entity": {"type": "leads"}}, "entity"),
        ({"entity": 5}, "entity"),
        ({"task": {"text": "", "complete_till": 1_760_100_000}}, "task.text"),
        ({"task": {"text": "x", "complete_till": 1_760_100_000_000}}, "task.complete_till"),
        ({"task": {"text": "x", "complete_till": 5}}, "task.complete_till"),
        ({"task": {"text": "x"}}, "complete_till"),
        ({"direction": "in"}, "takes inbound, outbound"),
        ({"phone": "1" * 65}, "phone"),
        ({"phone": 12125550123}, "phone"),
        ({"started_at": 1_760_000_000_000}, "milliseconds"),
        ({"started_at": START + 90_000}, "ahead"),
        ({"started_at": "yesterday"}, "started_at"),
        ({"duration": -1}, "duration"),
        ({"duration": 1.5}, "duration"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InputRefused) as raised:
        parse_result(USER, "c1", body(RESULT, **changes), START)
    assert raised.value.code == "invalid"
    assert field in raised.value.detail


def test_a_text_may_be_long() -> None:
    _, result = parse_result(USER, "c1", body(RESULT, text="ü" * TEXT_MOST), START)
    assert len(result.text) == TEXT_MOST


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"rev": 1, "text": "\xff"}', b"[" * 60_000])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InputRefused) as raised:
        parse_result(USER, "c1", raw, START)
    assert raised.value.code in ("malformed", "invalid")


def test_an_announced_call() -> None:
    event = parse_announcement(USER, "c1", body(ANNOUNCED), START)
    assert event.result is None
    assert event.widget == Widget(
        facts=Facts(direction=Direction.OUTBOUND, phone="+1 212 555 0123", person=ME), expected=True
    )


@pytest.mark.parametrize("name", ["direction", "phone"])
@pytest.mark.parametrize("value", [None, 5])
def test_an_announced_call_needs_its_number_and_direction(name: str, value: Any) -> None:
    with pytest.raises(InputRefused) as raised:
        parse_announcement(USER, "c1", body(ANNOUNCED, **{name: value}), START)
    assert name in raised.value.detail


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"more": 1}'])
def test_a_declined_result(raw: bytes) -> None:
    event = parse_skip(USER, "c1", raw)
    assert event.widget == Widget(skipped=True)
    assert event.result is None


@pytest.mark.parametrize("raw", [b"{", b"[]", b"skip"])
def test_a_declined_result_says_nothing_or_an_object(raw: bytes) -> None:
    with pytest.raises(InputRefused):
        parse_skip(USER, "c1", raw)


@pytest.mark.parametrize("call_id", ["", "x" * 256, "a\nb", "\x00", "\x7f", "\x85", "\udcff"])
def test_an_impossible_id_is_refused(call_id: str) -> None:
    with pytest.raises(InputRefused) as raised:
        parse_skip(USER, call_id, b"")
    assert raised.value.code == "invalid"
    assert "call_id" in raised.value.detail


@pytest.mark.parametrize("call_id", ["a/b", "..", "{1}", "x" * 255, "é 漢", "%2F", "?#&="])
def test_an_id_may_have_any_other_character(call_id: str) -> None:
    assert parse_skip(USER, call_id, b"").key == CallKey(ACCOUNT, call_id)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
BODIES = (
    st.binary(max_size=200)
    | st.dictionaries(st.sampled_from(list(RESULT)), JSON).map(lambda changes: body(RESULT, **changes))
    | st.tuples(st.integers(0, 250), st.binary(max_size=3)).map(
        lambda cut: body(RESULT)[: cut[0]] + cut[1] + body(RESULT)[cut[0] :]
    )
)


@given(st.text(max_size=300), BODIES)
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_but_a_refusal_comes_of_nonsense(call_id: str, raw: bytes) -> None:
    with contextlib.suppress(InputRefused):
        event, result = parse_result(USER, call_id, raw, START)
        assert result.rev >= 0
        assert len(result.text) <= TEXT_MOST
        assert event.key.account_id == ACCOUNT
        result.text.encode()
    with contextlib.suppress(InputRefused):
        assert parse_announcement(USER, call_id, raw, START).widget.expected
    with contextlib.suppress(InputRefused):
        assert parse_skip(USER, call_id, raw).widget.skipped
