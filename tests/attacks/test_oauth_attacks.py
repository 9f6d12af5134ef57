"""Attacks on the installation of accounts: what comes back from Kommo may come from anybody.

More of them are in tests/faults/test_oauth.py and tests/unit/test_oauth_state.py; docs/security.md lists all.
"""

from collections.abc import Mapping
from urllib.parse import quote, urlencode

import pytest

from tests.faults.machine import CLIENT_ID
from tests.target import INSTALLED, Target

PAGE = {"Accept": "text/html"}


def host(here: Target) -> str:
    return here.origin.removeprefix("http://")


def asked(here: Target) -> int:
    """Return how many requests have come to Kommo's token endpoint."""
    return here.here.asked("POST", "/oauth2/access_token")


def begun(here: Target) -> tuple[str, str]:
    """Begin an installation; return its state, and the cookie of the browser."""
    answer = here.ask("GET", "/oauth/install")
    state = answer.headers["Location"].split("state=")[1].split("&")[0]
    return state, answer.headers["Set-Cookie"].split(";")[0]


def come_back(here: Target, query: str, headers: Mapping[str, str] = PAGE) -> tuple[int, str]:
    answer = here.ask("GET", f"/oauth/callback?{query}", headers)
    return answer.status, answer.text


@pytest.mark.parametrize("twice", ["code", "referer", "state", "client_id", "error"])
def test_a_parameter_that_is_there_twice_is_refused(here: Target, twice: str) -> None:
    state, cookie = begun(here)
    right = {"code": "c", "referer": host(here), "state": state, "client_id": CLIENT_ID}
    query = urlencode([*right.items(), (twice, right.get(twice, "")), (twice, "evil.example")])
    before = asked(here)
    status, _ = come_back(here, query, {**PAGE, "Cookie": cookie})
    assert status == 400
    assert asked(here) == before


@pytest.mark.parametrize(
    "referer",
    [
        "evil.example",
        "evil.example#{host}",
        "evil.example?{host}",
        "evil.example/{host}",
        "evil.example\\{host}",
        "{host}@evil.example",
        "{host}.evil.example",
        "evil.example:80#.kommo.com",
        "http://{host}",
        "{host}\r\nHost: evil.example",
        "{host}%00",
        "\u2024{host}",
        "169.254.169.254",
        "localhost:{port}",
    ],
)
def test_the_integrations_secret_is_shown_to_no_host_that_a_stranger_names(
    here: Target, referer: str
) -> None:
    named = referer.format(host=host(here), port=host(here).rpartition(":")[2])
    before, accounts = len(here.here.kommo.requests), here.counts()
    status, page = come_back(here, f"code=c&referer={quote(named)}&client_id={CLIENT_ID}")
    assert (status, "Not connected" in page) == (422, True)
    assert len(here.here.kommo.requests) == before
    assert here.counts() == accounts


def test_the_state_of_another_browser_installs_nothing(here: Target) -> None:
    (mine, _), (_, cookie) = begun(here), begun(here)
    before = asked(here)
    for state in (mine, mine[:-4], f"{mine}A", "", mine.swapcase()):
        query = urlencode({"code": "c", "referer": host(here), "state": state})
        assert come_back(here, query, {**PAGE, "Cookie": cookie})[0] == 403, state
    assert asked(here) == before


def test_a_made_up_code_installs_nothing(here: Target) -> None:
    before = here.counts()
    for code in ("made-up", "' OR 1=1 --", "a" * 4096, "\u2028", "x&client_secret=y"):
        query = urlencode({"code": code, "referer": host(here), "client_id": CLIENT_ID})
        assert come_back(here, query)[0] == 400, code
    assert come_back(here, urlencode({"code": "a" * 4097, "referer": host(here)}))[0] == 400
    assert here.counts() == before


def test_nobody_but_a_get_uses_a_code_up(here: Target) -> None:
    async def code() -> str:
        return here.here.kommo.code(INSTALLED)

    query = urlencode({"code": here.do(code()), "referer": host(here), "client_id": CLIENT_ID})
    before = asked(here)
    for method in ("HEAD", "OPTIONS", "POST", "PUT"):
        assert here.ask(method, f"/oauth/callback?{query}").status == 405
    assert asked(here) == before
    status, page = come_back(here, query)
    assert (status, "is connected now" in page) == (200, True)
    assert come_back(here, query)[0] == 400, "a code works once"


def test_nothing_that_is_sent_becomes_part_of_a_page(here: Target) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    for query in ({"error": evil}, {"code": evil, "referer": evil}, {"client_id": evil}, {"state": evil}):
        answer = here.ask("GET", f"/oauth/callback?{urlencode(query)}", PAGE)
        assert answer.headers.get_content_type() == "text/html"
        assert "<script" not in answer.text
        assert "<img" not in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_a_browser_is_sent_to_kommo_and_nowhere_else(here: Target) -> None:
    expected = f"{here.origin}/oauth?"
    for query in (
        "",
        "?redirect_uri=https://evil.example",
        "?mode=//evil.example",
        "?client_id=evil&state=evil",
    ):
        headers = {
            "X-Forwarded-Host": "evil.example",
            "X-Forwarded-Proto": "javascript",
            "Referer": "//evil.example",
        }
        location = here.ask("GET", f"/oauth/install{query}", headers).headers["Location"]
        assert location.startswith(expected)
        assert "evil" not in location


@pytest.mark.parametrize(
    "change",
    [
        {"signature": "0" * 64},
        {"signature": ""},
        {"account_id": "31337"},
        {"account_id": "31337|"},
        {"account_id": f"{INSTALLED} "},
        {"account_id": f"{INSTALLED}|x"},
        {"client_uuid": "another"},
        {"client_uuid": f"{CLIENT_ID}|{INSTALLED}"},
    ],
)
def test_a_tampered_removal_removes_nothing(here: Target, change: Mapping[str, str]) -> None:
    async def query() -> Mapping[str, str]:
        return here.here.kommo.disable_query(INSTALLED)

    signed = here.do(query())
    answer = here.ask("GET", f"/oauth/disable?{urlencode({**signed, **change})}")
    assert (answer.status, answer.code) == (401, "unauthorized")


def test_a_removal_with_a_parameter_twice_is_refused(here: Target) -> None:
    async def query() -> Mapping[str, str]:
        return here.here.kommo.disable_query(INSTALLED)

    signed = urlencode(here.do(query()))
    assert here.ask("GET", f"/oauth/disable?{signed}&account_id=31337").status == 400
