"""What stands where in Kommo: the table of docs/kommo.md."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calllogd.domain.call import Call, CallKey, CallStatus, Direction, EntityType, Facts, Outcome, Person
from calllogd.kommo.words import Words, call_status, entity_type, note_type
from tests.fakes import ACCOUNT, START, link_of

WORDS = Words(source="calllogd", region="US", extensions={"101": 111}, link=link_of)
FULL = Facts(
    direction=Direction.INBOUND,
    phone="(212) 555-0123",
    person=Person(3, "101"),
    started_at=START + 0.9,
    outcome=Outcome(CallStatus.ANSWERED, 42),
)


def call(facts: Facts = FULL, call_id: str = "c1") -> Call:
    return Call(key=CallKey(ACCOUNT, call_id), facts=facts, arrived_at=START + 100)


def test_a_call_as_kommo_gets_it() -> None:
    assert WORDS.call(call()) == {
        "uniq": "c1",
        "request_id": "c1",
        "source": "calllogd",
        "phone": "+12125550123",
        "duration": 42,
        "direction": "inbound",
        "call_status": 4,
        "call_responsible": 111,
        "responsible_user_id": 111,
        "created_by": 111,
        "created_at": int(START),
    }


def test_the_params_of_a_note_are_whole() -> None:
    assert WORDS.params(call()) == {
        "uniq": "c1",
        "source": "calllogd",
        "phone": "+12125550123",
        "duration": 42,
        "call_status": 4,
        "call_responsible": 111,
    }


def test_an_incoming_lead_as_kommo_gets_it() -> None:
    assert WORDS.incoming_lead(call()) == {
        "source_uid": "calllogd-31337",
        "source_name": "calllogd",
        "created_at": int(START),
        "request_id": "c1",
        "metadata": {
            "phone": "+12125550123",
            "from": "+12125550123",
            "call_responsible": 111,
            "called_at": int(START),
            "duration": 42,
            "service_code": "calllogd",
            "uniq": "c1",
            "is_call_event_needed": True,
        },
        "_embedded": {
            "leads": [{"name": "Call +12125550123, 2025-10-09 08:53:20 UTC"}],
            "contacts": [
                {
                    "name": "+12125550123",
                    "custom_fields_values": [
                        {"field_code": "PHONE", "values": [{"value": "+12125550123", "enum_code": "WORK"}]}
                    ],
                }
            ],
        },
    }


@pytest.mark.parametrize(
    ("status", "inbound", "outbound"),
    [
        (CallStatus.ANSWERED, 4, 4),
        (CallStatus.NO_ANSWER, 6, 3),
        (CallStatus.CANCELLED, 6, 3),
        (CallStatus.BUSY, 7, 7),
        (CallStatus.FAILED, 6, 6),
        (CallStatus.VOICEMAIL, 1, 1),
    ],
)
def test_the_status_that_is_derived_from_how_the_call_ended(
    status: CallStatus, inbound: int, outbound: int
) -> None:
    for direction, told in ((Direction.INBOUND, inbound), (Direction.OUTBOUND, outbound)):
        assert call_status(call(Facts(direction=direction, outcome=Outcome(status, 0)))) == told


def test_every_status_has_its_row() -> None:
    assert all(call_status(call(Facts(outcome=Outcome(status, 0)))) in range(1, 8) for status in CallStatus)


def test_a_call_whose_end_is_unknown_has_no_status_and_no_talk() -> None:
    told = WORDS.call(call(Facts(direction=Direction.OUTBOUND, phone="+12125550123")))
    assert "call_status" not in told
    assert (told["duration"], told["direction"], told["created_at"]) == (0, "outbound", int(START + 100))


@pytest.mark.parametrize(
    ("person", "user_id"),
    [
        (Person(3, "101"), 111),
        (Person(3, "101", 222), 222),
        (Person(3, "", 222), 222),
        (Person(3, "999"), None),
        (None, None),
    ],
)
def test_the_user_is_the_one_named_or_the_one_of_the_extension(
    person: Person | None, user_id: int | None
) -> None:
    told = WORDS.call(call(Facts(direction=Direction.INBOUND, phone="5550123", person=person)))
    for field in ("created_by", "responsible_user_id", "call_responsible"):
        assert told.get(field) == user_id
        assert (field in told) is (user_id is not None)


@pytest.mark.parametrize("call_id", ["0042", "a/b?c=d", "ünï-☎", "1", "x" * 255])
def test_the_id_is_never_changed(call_id: str) -> None:
    told = call(call_id=call_id)
    assert WORDS.call(told)["uniq"] == WORDS.params(told)["uniq"] == call_id
    assert WORDS.incoming_lead(told)["metadata"]["uniq"] == call_id


def nulls(value: Any) -> Iterator[object]:
    if value is None:
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from nulls(inner)


@given(
    st.builds(
        Facts,
        direction=st.none() | st.sampled_from(Direction),
        phone=st.none() | st.text(max_size=20),
        person=st.none()
        | st.builds(Person, st.integers(0, 4), st.sampled_from(["", "101", "9"]), st.integers(0, 3)),
        started_at=st.none() | st.floats(0, 4e9),
        outcome=st.none() | st.builds(Outcome, st.sampled_from(CallStatus), st.integers(0, 10**7)),
    )
)
def test_null_is_never_sent(facts: Facts) -> None:
    told = call(facts)
    assert not list(nulls([WORDS.call(told), WORDS.params(told), WORDS.incoming_lead(told)]))


def test_a_note_has_the_type_of_its_direction() -> None:
    assert note_type(call(Facts(direction=Direction.INBOUND))) == "call_in"
    assert note_type(call(Facts(direction=Direction.OUTBOUND))) == "call_out"


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("lead", EntityType.LEADS),
        ("contact", EntityType.CONTACTS),
        ("company", EntityType.COMPANIES),
        ("customer", EntityType.CUSTOMERS),
        *((kind.value, kind) for kind in EntityType),
    ],
)
def test_kommo_names_entities_in_the_singular_and_the_plural(word: str, kind: EntityType) -> None:
    assert entity_type(word) is kind


@pytest.mark.parametrize("word", ["", "Lead", "segments", None, 3, ["lead"]])
def test_an_unknown_kind_of_entity_is_refused(word: object) -> None:
    with pytest.raises(ValueError, match="is not a valid EntityType"):
        entity_type(word)
