"""The state of an installation: signed, for one browser, and for twenty minutes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calllogd.errors import InputRefused
from calllogd.web.oauth_state import STATE_S, States
from tests.fakes import ManualClock

KEY = bytes(range(32))


def test_a_state_is_good_with_what_its_browser_brings() -> None:
    clock = ManualClock()
    states = States(KEY, clock)
    state, brought = states.make()
    states.check(state, brought)
    clock.at += STATE_S - 1
    states.check(state, brought)
    clock.at += 1
    with pytest.raises(InputRefused, match="took too long"):
        states.check(state, brought)


def test_a_state_is_new_each_time_and_fits_into_an_address() -> None:
    made = [States(KEY, ManualClock()).make() for _ in range(50)]
    assert len({state for state, _ in made}) == len({brought for _, brought in made}) == 50
    assert all(state.replace("-", "").replace("_", "").isalnum() for state, _ in made)


@pytest.mark.parametrize("brought", [None, "", "0" * 32, "\ud800"])
def test_a_state_is_good_for_no_other_browser(brought: str | None) -> None:
    states = States(KEY, ManualClock())
    with pytest.raises(InputRefused, match="another browser"):
        states.check(states.make()[0], brought)


def test_a_state_of_another_key_is_none() -> None:
    state, brought = States(bytes(32), ManualClock()).make()
    with pytest.raises(InputRefused, match="not begun here"):
        States(KEY, ManualClock()).check(state, brought)


@given(
    st.text(max_size=300) | st.binary(max_size=80).map(lambda raw: raw.hex()),
    st.none() | st.text(max_size=40),
)
def test_nothing_else_is_a_state(state: str, brought: str | None) -> None:
    with pytest.raises(InputRefused) as refused:
        States(KEY, ManualClock()).check(state, brought)
    assert refused.value.code == "forbidden"


def test_every_changed_character_makes_it_void() -> None:
    states = States(KEY, ManualClock())
    state, brought = states.make()
    for place, character in enumerate(state[:-1]):
        other = "A" if character != "A" else "B"
        with pytest.raises(InputRefused):
            states.check(state[:place] + other + state[place + 1 :], brought)
