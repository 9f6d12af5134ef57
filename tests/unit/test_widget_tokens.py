"""The widget's token: whose is let in, and that whoever has not Kommo's signature learns nothing."""

import contextlib
import json
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calllogd.errors import InputRefused
from calllogd.web.tokens import origin_of
from tests.fakes import ACCOUNT, START, ManualClock
from tests.widget_tokens import (
    AUDIENCE,
    ORIGIN,
    OTHER_ACCOUNT,
    OTHER_ORIGIN,
    SECRET,
    USER,
    claims,
    forged,
    segment,
    token,
    tokens,
)

DAMAGED = "damaged, or is not signed"


def refusal(clock: ManualClock, shown: list[str], origins: list[str] | None = None, **changes: Any) -> str:
    with pytest.raises(InputRefused) as raised:
        tokens(clock, **changes).user(shown, [ORIGIN] if origins is None else origins)
    assert raised.value.code == "unauthorized"
    assert SECRET not in raised.value.detail
    return raised.value.detail


def test_the_user_of_a_right_token_comes_out(clock: ManualClock) -> None:
    assert tokens(clock).user([token()], [ORIGIN]) == USER
    assert tokens(clock).user([token()], [ORIGIN]) == USER, "a token may be shown again"


def test_kommo_may_say_who_is_an_administrator_and_may_write_numbers_as_texts(clock: ManualClock) -> None:
    shown = token(account_id=str(ACCOUNT), user_id="111", is_admin=True)
    assert tokens(clock).user([shown], [ORIGIN]) == USER._replace(is_admin=True)
    assert tokens(clock).user([token(is_admin="yes")], [ORIGIN]).is_admin is None


@pytest.mark.parametrize("changes", [{"client_uuid": None}, {"jti": None}, {"subdomain": None}, {"jti": 5}])
def test_what_is_not_needed_may_be_missing(clock: ManualClock, changes: dict[str, Any]) -> None:
    assert tokens(clock).user([token(**changes)], [ORIGIN]) == USER
    assert tokens(clock, client_id=None).user([token()], [ORIGIN]) == USER


@pytest.mark.parametrize("after_s", [-59, 0, 1799, 1859])
def test_clocks_may_differ_by_a_minute(clock: ManualClock, after_s: int) -> None:
    clock.forward(after_s)
    assert tokens(clock).user([token()], [ORIGIN]) == USER


@pytest.mark.parametrize(
    ("after_s", "word"), [(1860, "expired 60 s ago"), (10_000, "expired"), (-61, "another 61 s")]
)
def test_a_token_is_good_for_its_time_only(clock: ManualClock, after_s: int, word: str) -> None:
    clock.forward(after_s)
    detail = refusal(clock, [token()])
    assert word in detail
    assert "clock" in detail


def test_a_token_issued_in_the_future_is_refused(clock: ManualClock) -> None:
    assert "clock is slow" in refusal(clock, [token(iat=int(START) + 100)])
    assert "clock is slow" in refusal(clock, [token(nbf=int(START) + 100)])


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "nbf", "iat", "account_id", "user_id"])
def test_what_is_needed_may_not_be_missing(clock: ManualClock, name: str) -> None:
    changes: dict[str, Any] = {name: None}
    assert name in refusal(clock, [token(**changes)])


@pytest.mark.parametrize("name", ["exp", "nbf", "iat", "account_id", "user_id"])
@pytest.mark.parametrize("value", [True, "soon", [1], {}, float("inf"), float("nan"), 10**400, -1])
def test_claims_of_the_wrong_kind_are_refused(clock: ManualClock, name: str, value: Any) -> None:
    changes = {name: value}
    assert name in refusal(clock, [token(**changes)])


@pytest.mark.parametrize(
    "audience",
    [
        "https://calls.example.org",
        "http://calls.example.com",
        "https://calls.example.com:8443",
        "https://calls.example.com.evil.org",
        [AUDIENCE],
        [AUDIENCE, "https://other.example.com"],
        5,
    ],
)
def test_a_token_for_another_address_is_refused_by_name(clock: ManualClock, audience: Any) -> None:
    detail = refusal(clock, [token(aud=audience)])
    assert AUDIENCE in detail
    assert "redirect_uri" in detail


def test_the_audience_has_the_port_of_the_redirect_address(clock: ManualClock) -> None:
    check = tokens(clock, redirect_uri="https://Calls.example.com:8443/oauth/callback")
    assert check.user([token(aud="https://calls.example.com:8443")], [ORIGIN]) == USER


@pytest.mark.parametrize(
    ("changes", "origin"),
    [
        ({"iss": "https://evil.kommo.com"}, "https://evil.kommo.com"),
        ({"iss": f"{ORIGIN}/"}, ORIGIN),
        ({"iss": ORIGIN.upper()}, ORIGIN),
        ({"iss": [ORIGIN]}, ORIGIN),
        ({"iss": OTHER_ORIGIN}, OTHER_ORIGIN),
        ({"account_id": OTHER_ACCOUNT}, ORIGIN),
        ({"account_id": OTHER_ACCOUNT}, OTHER_ORIGIN),
        ({"account_id": 999}, ORIGIN),
        ({"client_uuid": "another"}, ORIGIN),
        ({"client_uuid": 5}, ORIGIN),
    ],
)
def test_a_token_of_another_account_or_integration_is_refused(
    clock: ManualClock, changes: dict[str, Any], origin: str
) -> None:
    payload = {**claims(), **changes}
    raw = json.dumps(payload).encode()
    refusal(clock, [jwt.api_jws.encode(raw, SECRET, "HS256")], [origin])


@pytest.mark.parametrize(
    "origins", [[], ["null"], [OTHER_ORIGIN], [f"{ORIGIN}:443"], [ORIGIN, ORIGIN], [ORIGIN, OTHER_ORIGIN]]
)
def test_the_request_has_to_come_from_the_page_that_got_the_token(
    clock: ManualClock, origins: list[str]
) -> None:
    assert "Origin" in refusal(clock, [token()], origins)


@pytest.mark.parametrize("shown", [[], [token(), token()], [token(), "x"]])
def test_there_is_one_token(clock: ManualClock, shown: list[str]) -> None:
    assert "one X-Auth-Token" in refusal(clock, shown)


@pytest.mark.parametrize(
    "shown",
    [
        token(key="f" * 64),
        token(key="f" * 64, exp=1),
        token(key="f" * 64, aud="https://evil.org"),
        token(algorithm="HS384"),
        token(algorithm="HS512"),
        jwt.encode(claims(), "", "none"),
        forged({"alg": "none", "typ": "JWT"}),
        forged({"alg": "None"}),
        forged({"alg": "RS256"}, signature=b"x" * 256),
        forged({"alg": "HS256"}),
        forged({"alg": ["HS256"]}),
        forged({"typ": "JWT"}),
        forged({"alg": "HS256", "b64": False, "crit": ["b64"]}),
        forged({"alg": "HS256", "kid": 5}),
        forged({"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}}),
        forged(b"[" * 3000),
        forged(b'{"alg": ' + b"9" * 5000 + b"}"),
        token()[:-2],
        token() + "A",
        token()[1:],
        f"Bearer {token()}",
        f"{token()}, {token()}",
        "",
        "..",
        "a.b.c",
        "é.é.é",
        "\udcff.\udcff.\udcff",
    ],
)
def test_who_has_no_signature_of_kommos_learns_nothing_else(clock: ManualClock, shown: str) -> None:
    assert DAMAGED in refusal(clock, [shown])


def test_the_signature_covers_the_claims(clock: ManualClock) -> None:
    header, _, signature = token().split(".")
    assert DAMAGED in refusal(clock, [".".join([header, segment(claims(user_id=1)), signature])])


@pytest.mark.parametrize("missing", ["client_secret", "redirect_uri"])
def test_the_operator_is_told_what_to_set(clock: ManualClock, missing: str) -> None:
    detail = refusal(clock, [token()], **{missing: None})
    assert "kommo.client_secret and kommo.redirect_uri" in detail


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Acme.Kommo.com/", "https://acme.kommo.com"),
        ("https://acme.kommo.com:443", "https://acme.kommo.com"),
        ("http://127.0.0.1:80/x", "http://127.0.0.1"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
        ("https://acme.kommo.com:80", "https://acme.kommo.com:80"),
    ],
)
def test_origins_are_written_as_browsers_write_them(url: str, origin: str) -> None:
    assert origin_of(url) == origin


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
HEADERS = st.fixed_dictionaries(
    {}, optional={name: JSON for name in ("alg", "typ", "kid", "crit", "b64", "zip", "cty")}
) | st.fixed_dictionaries({"alg": st.just("HS256")}, optional={"kid": JSON, "crit": JSON, "b64": JSON})


@given(st.text(max_size=100) | st.builds(forged, HEADERS | JSON, JSON, st.binary(max_size=40)))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_but_a_refusal_comes_of_nonsense(clock: ManualClock, shown: str) -> None:
    assert DAMAGED in refusal(clock, [shown])


@given(st.dictionaries(st.sampled_from(list(claims())), JSON, min_size=1))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_signed_nonsense_is_refused_or_harmless(clock: ManualClock, changes: dict[str, Any]) -> None:
    raw = json.dumps({**claims(), **changes}).encode()
    with contextlib.suppress(InputRefused):
        user = tokens(clock).user([jwt.api_jws.encode(raw, SECRET, "HS256")], [ORIGIN])
        assert user.account_id == ACCOUNT
        assert user.user_id >= 1
