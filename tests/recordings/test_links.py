"""Links to recordings: one for each call, and nobody else can make one."""

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calllogd.domain.call import CallKey
from calllogd.errors import InputRefused
from calllogd.recordings.links import Links

LINKS = Links(b"k" * 32, "https://calls.example.com")
KEY = CallKey(31337, "c1")
TOKEN = LINKS.link(KEY).rpartition("/")[2]

KEYS = st.builds(
    CallKey,
    st.integers(1, 2**53),
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=255),
)


def refused(token: str, links: Links = LINKS) -> bool:
    with pytest.raises(InputRefused) as error:
        links.key_of(token)
    assert (error.value.code, error.value.detail) == ("not_found", "there is no such recording")
    return True


@given(KEYS)
def test_a_link_leads_back_to_its_call(key: CallKey) -> None:
    link = LINKS.link(key)
    base, _, token = link.rpartition("/")
    assert base == "https://calls.example.com/recordings"
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")
    assert LINKS.key_of(token) == key
    assert LINKS.link(key) == link


@given(KEYS, KEYS)
def test_two_calls_have_two_links(one: CallKey, other: CallKey) -> None:
    assert (LINKS.link(one) == LINKS.link(other)) == (one == other)


@given(st.text(max_size=80) | st.text("1" + string.ascii_letters + string.digits + "-_=", max_size=80))
def test_anything_else_is_refused(token: str) -> None:
    assert refused(token)


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from(string.ascii_letters + string.digits + "-_=. \n\xe9"))
def test_no_character_can_be_another(place: int, character: str) -> None:
    changed = TOKEN[:place] + character + TOKEN[place + 1 :]
    assert changed == TOKEN or refused(changed)


@pytest.mark.parametrize(
    "token",
    [TOKEN[:-1], TOKEN + "A", TOKEN + "=", TOKEN + "==", TOKEN[1:], "2" + TOKEN[1:], "", "1", "1" * 5000],
)
def test_no_character_can_be_left_out_or_added(token: str) -> None:
    assert refused(token)


def test_the_signature_of_one_call_is_not_that_of_another() -> None:
    signed = base64.urlsafe_b64decode(TOKEN[1:] + "=" * (-len(TOKEN[1:]) % 4))
    for named in (b"\0" * 7 + b"\x01c1", signed[16:-1] + b"2", signed[16:] + b"\0"):
        forged = base64.urlsafe_b64encode(signed[:16] + named).decode().rstrip("=")
        assert refused("1" + forged)


def test_another_key_revokes_every_link_and_another_address_none() -> None:
    assert refused(TOKEN, Links(b"l" * 32, "https://calls.example.com"))
    assert Links(b"k" * 32, "https://elsewhere.example.com").key_of(TOKEN) == KEY


def test_a_link_is_the_same_in_every_version_of_calllogd() -> None:
    assert TOKEN == "1WR6MTTA8Kj4Eti9iCsDRkAAAAAAAAHppYzE"
