"""The tree of errors, as it is drawn on its page."""

import inspect

import pytest

from calllogd import errors
from calllogd.errors import CalllogdError, ConfigError, InputRefused, KommoError, Overloaded, TransientError

ALL = [thing for _, thing in inspect.getmembers(errors, inspect.isclass) if issubclass(thing, CalllogdError)]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_is_drawn_below_its_parent(error: type[CalllogdError]) -> None:
    lines = (errors.__doc__ or "").splitlines()
    drawn = [line for line in lines if f"{error.__name__} " in f"{line.replace('─', '')} "]
    assert len([line for line in drawn if "──" in line or line.strip() == error.__name__]) == 1
    if error is not CalllogdError:
        parent = error.__mro__[1].__name__
        inner = {"KommoError", "PermanentError", "AccountPaused"}
        assert parent in {"CalllogdError", *inner}
        assert ("        " in drawn[0].split("├")[0].split("└")[0]) == (parent in inner)


def test_the_codes_by_which_alerts_know_them_are_fixed() -> None:
    own = {error.__name__: error.code for error in ALL if "code" in vars(error)}
    assert own == {
        "CalllogdError": "error",
        "ConfigError": "config",
        "Overloaded": "overloaded",
        "StorageError": "storage",
        "LeaseLost": "lease_lost",
        "NumberTaken": "number_taken",
        "TransientError": "transient",
        "AccountPaused": "account_paused",
        "TokenRefused": "token_refused",
        "NobodyHasNumber": "nobody_has_number",
        "PermanentError": "refused",
        "Gone": "gone",
        "OutcomeUnknown": "outcome_unknown",
    }


def test_a_configuration_error_lists_all_mistakes() -> None:
    error = ConfigError("a: one", "b: two")
    assert error.mistakes == ("a: one", "b: two")
    assert str(error) == "a: one\nb: two"


def test_an_answer_of_kommo_keeps_its_request_id() -> None:
    for kind in KommoError.__subclasses__():
        error = kind("why", request_id="r1")
        assert (error.reason, error.request_id, str(error)) == ("why", "r1", "why")
    assert TransientError("why", retry_after_s=3).retry_after_s == 3


def test_what_a_sender_is_told() -> None:
    assert Overloaded(retry_after_s=1).retry_after_s == 1
    refused = InputRefused("invalid", "duration is missing")
    assert (refused.code, refused.detail, str(refused)) == (
        "invalid",
        "duration is missing",
        "duration is missing",
    )
