"""Tickets: good for whom and when they were made, and nobody else can make one."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calllogd.domain.call import CallKey
from calllogd.errors import InputRefused
from calllogd.recordings.links import Links
from calllogd.web.tickets import SET_BACK_S, TICKET_CHARACTERS, TICKET_S, Ticket, Tickets
from tests.fakes import ACCOUNT, START, ManualClock
from tests.widget_tokens import token

KEY = b"k" * 32
IDS = st.integers(1, 2**53 - 1)


def tickets(clock: ManualClock | None = None, key: bytes = KEY) -> Tickets:
    return Tickets(key, clock or ManualClock())


def refused(shown: str, by: Tickets | None = None) -> str:
    with pytest.raises(InputRefused) as caught:
        (by or tickets()).read([shown])
    assert caught.value.code == "unauthorized"
    return caught.value.detail


@given(IDS, IDS)
def test_a_ticket_says_what_it_was_made_for(account_id: int, user_id: int) -> None:
    shown, ticket = tickets().issue(account_id, user_id)
    assert ticket == Ticket(account_id, user_id, int(START) + TICKET_S)
    assert tickets().read([shown]) == ticket
    assert len(shown) == TICKET_CHARACTERS


@given(IDS, IDS, st.integers(0, TICKET_CHARACTERS - 1), st.characters())
def test_a_ticket_that_was_touched_is_refused(account_id: int, user_id: int, place: int, other: str) -> None:
    shown, _ = tickets().issue(account_id, user_id)
    touched = shown[:place] + other + shown[place + 1 :]
    if touched != shown:
        refused(touched)


SIMILAR = st.text("ABCabc019-_=+/ \n\0é", max_size=2 * TICKET_CHARACTERS)


@given(st.text(max_size=200) | SIMILAR | st.text("A", min_size=TICKET_CHARACTERS, max_size=TICKET_CHARACTERS))
def test_any_other_text_is_refused(shown: str) -> None:
    refused(shown)


@given(st.binary(min_size=57, max_size=57))
def test_any_other_bytes_are_refused(raw: bytes) -> None:
    refused(base64.urlsafe_b64encode(raw).decode())


@pytest.mark.parametrize("shown", ["", "x" * 10**6, "\ud800" * TICKET_CHARACTERS, "é" * TICKET_CHARACTERS])
def test_impossible_texts_are_refused(shown: str) -> None:
    refused(shown)


def test_the_same_in_another_spelling_is_refused() -> None:
    for user_id in range(1, 100):
        shown, _ = tickets().issue(ACCOUNT, user_id)
        for other in (shown + "=", shown + "\n", " " + shown, shown.translate({45: 43, 95: 47})):
            if other != shown:
                refused(other)


def test_a_ticket_is_needed_once() -> None:
    shown, _ = tickets().issue(ACCOUNT, 111)
    for none in ([], [shown, shown], [shown, ""]):
        with pytest.raises(InputRefused, match="needed"):
            tickets().read(none)


def test_a_ticket_ends_by_our_clock() -> None:
    clock = ManualClock()
    shown, ticket = tickets(clock).issue(ACCOUNT, 111)
    clock.forward(TICKET_S - 1)
    assert tickets(clock).read([shown]) == ticket
    clock.forward(1)
    assert "expired" in refused(shown, tickets(clock))


def test_a_ticket_does_not_last_longer_for_a_clock_that_was_fast() -> None:
    clock = ManualClock()
    shown, ticket = tickets(clock).issue(ACCOUNT, 111)
    clock.forward(-SET_BACK_S)
    assert tickets(clock).read([shown]) == ticket
    clock.forward(-1)
    refused(shown, tickets(clock))


def test_with_another_key_all_tickets_end() -> None:
    shown, _ = tickets().issue(ACCOUNT, 111)
    refused(shown, tickets(key=b"x" * 32))


def test_what_is_signed_for_something_else_is_no_ticket() -> None:
    refused(token())
    refused(Links(KEY, "").link(CallKey(ACCOUNT, "c" * 33)).rpartition("/")[2])
    raw = base64.urlsafe_b64decode(tickets().issue(ACCOUNT, 111)[0])
    named = raw[:25]
    refused(base64.urlsafe_b64encode(named + hmac.digest(KEY, named, hashlib.sha256)).decode())


def test_another_version_is_refused() -> None:
    raw = bytearray(base64.urlsafe_b64decode(tickets().issue(ACCOUNT, 111)[0]))
    raw[0] = 2
    raw[25:] = hmac.digest(KEY, b"calllogd event stream\0" + raw[:25], hashlib.sha256)
    refused(base64.urlsafe_b64encode(raw).decode())
