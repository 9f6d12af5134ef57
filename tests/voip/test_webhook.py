"""A service's request: its fields."""

from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from calllogd.errors import InputRefused
from calllogd.voip.webhook import FIELDS_MOST, Pairs, read_fields

SENT = st.lists(st.sampled_from([*b"ab=&%+25cC3aA9;", 0xC3, 0xA9, 0xFF, 0x00]), max_size=24).map(bytes)


def as_sent(fields: Pairs) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
        for name, value in fields
    ]


@given(SENT)
@example(b"a=%C3%A9+%2B&b&=c&&d==%&e=%4")
@example(b"\xc3%A9=\xff%FF")
def test_fields_are_those_that_the_standard_library_reads(sent: bytes) -> None:
    text = sent.decode("utf-8", "surrogateescape")
    right = parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
    assert as_sent(read_fields(text)) == as_sent(right)


def test_more_fields_than_any_service_has_are_refused() -> None:
    assert len(read_fields("&".join(["a=b"] * FIELDS_MOST))) == FIELDS_MOST
    with pytest.raises(InputRefused, match="more than 500 fields"):
        read_fields("&".join(["a=b"] * (FIELDS_MOST + 1)))
