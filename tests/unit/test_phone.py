"""Numbers: read once, the same everywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calllogd.domain.phone import digits, masked, normalised, tail


@pytest.mark.parametrize(
    ("phone", "region", "as_sent"),
    [
        ("+1 (212) 555-0123", None, "+12125550123"),
        ("+12125550123", "BR", "+12125550123"),
        ("(212) 555-0123", "US", "+12125550123"),
        ("1 212 555 0123", "US", "+12125550123"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("00 44 20 7946 0958", "DE", "+442079460958"),
        ("11 96123-4567", "BR", "+5511961234567"),
        ("(212) 555-0123", None, "2125550123"),
        ("+999 123", None, "+999123"),
        ("  +999 123", None, "+999123"),
        ("101", "US", "101"),
        ("*67", "US", "67"),
        ("anonymous", "US", ""),
        ("", "US", ""),
        ("+", None, "+"),
    ],
)
def test_a_number_is_sent_in_e164_where_it_can_be_read_and_with_its_digits_where_not(
    phone: str, region: str | None, as_sent: str
) -> None:
    assert normalised(phone, region) == as_sent


@given(st.text(max_size=60), st.sampled_from([None, "US", "BR", "GB"]))
def test_every_text_can_be_read_as_a_number(phone: str, region: str | None) -> None:
    number = normalised(phone, region)
    assert number.removeprefix("+").isascii()
    assert number.removeprefix("+") == digits(number)
    assert normalised(number, region) == number or not number.startswith("+")


@given(st.text(alphabet="+0123456789 -()", max_size=20))
def test_a_number_keeps_its_tail_however_it_is_written(phone: str) -> None:
    assert tail(phone) == tail(digits(phone)) == digits(phone)[-10:]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("+1 212 555 0123", "212-555-0123"),
        ("8 (999) 123-45-67", "+7 999 123 45 67"),
        ("5550123", "555 01 23"),
    ],
)
def test_two_ways_to_write_a_number_have_one_tail(one: str, other: str) -> None:
    assert tail(one) == tail(other)


def test_numbers_of_two_people_have_two_tails() -> None:
    assert tail("+1 212 555 0123") != tail("+1 212 555 0124")
    assert tail("555 0123") != tail("+1 212 555 0123")


@pytest.mark.parametrize(
    ("phone", "shown"),
    [
        ("+1 212 555 0123", "*0123"),
        ("12", "*12"),
        ("", "withheld"),
        ("anonymous", "withheld"),
        (None, "withheld"),
    ],
)
def test_a_log_shows_the_last_four_digits_at_most(phone: str | None, shown: str) -> None:
    assert masked(phone) == shown


@given(st.text(max_size=30))
def test_no_more_than_four_digits_are_ever_shown(phone: str) -> None:
    assert sum(character.isdigit() for character in masked(phone)) <= 4
