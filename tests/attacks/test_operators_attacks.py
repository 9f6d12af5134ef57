"""Attacks on what operators see and do: guessing, forged cookies, other people's pages, addresses made up."""

import itertools
import re
from collections.abc import Iterator, Mapping
from html import escape
from urllib.parse import urlencode

import pytest

from tests.faults.machine import ACCOUNT
from tests.target import ADMIN_TOKEN, Answer, Target, fresh, target

COOKIE = "calllogd"
STRANGERS = (f"198.51.100.{number}" for number in itertools.count(1))
"""Addresses that nobody has guessed from yet, as the proxy in front tells them."""

READ = ["/api/v1/status", "/api/v1/calls", f"/api/v1/calls/{ACCOUNT}/bystander-0"]
CHANGES = ["/retry", "/api/v1/retry", f"/api/v1/calls/{ACCOUNT}/bystander-0/retry", "/logout"]


def log_in(here: Target, token: str = ADMIN_TOKEN, **more: str) -> Answer:
    headers = {
        "Origin": here.daemon.url,
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Forwarded-For": next(STRANGERS),
        **more,
    }
    return here.ask("POST", "/login", headers, urlencode({"token": token}))


def session(here: Target) -> tuple[str, str]:
    """Log in; return the cookie, and what the forms of its page carry."""
    answer = log_in(here)
    assert answer.status == 303
    cookie = answer.headers["Set-Cookie"].split(";")[0]
    page = here.ask("GET", "/", {"Cookie": cookie})
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', page.text)
    assert found
    return cookie, found[1]


def form(here: Target, path: str, cookie: str, csrf: str | None, **headers: str) -> int:
    sent = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded", **headers}
    return here.ask("POST", path, sent, urlencode({} if csrf is None else {"csrf": csrf})).status


def test_guessing_the_admin_token_ends_after_five_for_a_while(here: Target) -> None:
    mine = {"X-Forwarded-For": next(STRANGERS)}
    guesses = [log_in(here, f"guess-number-{number:05d}", **mine).status for number in range(8)]
    assert guesses == [401] * 5 + [429] * 3
    assert log_in(here, **mine).status == 429, "nor is the right one told from a wrong one"
    bearer = {"Authorization": f"Bearer {ADMIN_TOKEN}", **mine}
    assert here.ask("GET", "/api/v1/status", bearer).status == 429, "at no other door either"
    assert log_in(here).status == 303, "from another address it is"


def test_guessing_from_a_made_up_address_is_counted_for_the_real_one(here: Target) -> None:
    """The proxy adds whom it was asked by; what stood there before is the guesser's own invention."""
    real = next(STRANGERS)
    statuses = [
        log_in(here, "guess", **{"X-Forwarded-For": f"{made_up}, {real}"}).status
        for made_up in ("127.0.0.1", "10.0.0.1", "::1", "unknown", "1.2.3.4, 127.0.0.1", real, "203.0.113.9")
    ]
    assert statuses == [401] * 5 + [429] * 2


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A daemon without a proxy in front, which takes little."""
    http = {"trusted_proxies": ["192.0.2.0/24"], "address_rate": 1}
    with target(
        tmp_path_factory.mktemp("lonely"), http=http, admin={"metrics_from": ["192.0.2.0/24"]}
    ) as here:
        yield here


def test_nobody_gets_more_by_naming_other_addresses(lonely: Target) -> None:
    metrics = lonely.ask("GET", "/metrics", {"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7"})
    assert metrics.status == 401
    statuses = [
        lonely.ask(
            "GET", "/readyz", {"X-Forwarded-For": f"192.0.2.{number}", "X-Real-IP": "192.0.2.1"}
        ).status
        for number in range(30)
    ]
    assert 429 in statuses
    assert statuses.count(200) < 20
    assert lonely.ask("GET", "/healthz").status == 200, "but whether it lives is told to all"


@pytest.mark.parametrize("path", READ)
@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "calllogd=",
        "calllogd=admin",
        "calllogd=" + "0" * 32 + ".9999999999." + "0" * 64,
        "__Host-calllogd=" + "0" * 32 + ".9999999999." + "0" * 64,
        'calllogd="; Path=/',
    ],
)
def test_a_made_up_cookie_is_no_session(here: Target, path: str, cookie: str) -> None:
    assert here.ask("GET", path, {"Cookie": cookie}).status == 401
    assert here.ask("GET", "/", {"Cookie": cookie}).headers["Location"] == "/login"


def test_a_changed_cookie_is_no_session(here: Target) -> None:
    cookie, _ = session(here)
    value = cookie.removeprefix(f"{COOKIE}=")
    name, until, mac = value.split(".")
    longer = str(int(until) + 1)
    for changed in (
        f"{name}.{longer}.{mac}",
        f"{'0' * 32}.{until}.{mac}",
        f"{name}.{until}.{mac[:-1]}{'0' if mac[-1] != '0' else '1'}",
        f"{name}.{until}.",
        f"{name}.{until}.{mac.upper()}",
        value[:-1],
    ):
        assert here.ask("GET", "/api/v1/status", {"Cookie": f"{COOKIE}={changed}"}).status == 401, changed
    assert here.ask("GET", "/api/v1/status", {"Cookie": cookie}).status == 200


def test_a_cookie_cannot_be_read_by_pages_nor_sent_from_others(here: Target) -> None:
    cookie = log_in(here).headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))


def test_a_session_that_was_ended_is_over(here: Target) -> None:
    cookie, csrf = session(here)
    assert form(here, "/logout", cookie, csrf) == 303
    assert here.ask("GET", "/api/v1/status", {"Cookie": cookie}).status == 401


@pytest.mark.parametrize("path", CHANGES)
def test_another_page_changes_nothing_in_a_session(here: Target, path: str) -> None:
    cookie, csrf = session(here)
    _, theirs = session(here)
    evil = "https://evil.example"
    assert form(here, path, cookie, None) == 403
    assert form(here, path, cookie, "0" * 64) == 403
    assert form(here, path, cookie, theirs) == 403
    assert form(here, path, cookie, csrf, Origin=evil) == 403
    assert form(here, path, cookie, csrf, Origin="null") == 403
    assert form(here, path, cookie, csrf, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert form(here, path, cookie, csrf, **{"Sec-Fetch-Site": "same-site"}) == 403
    assert here.ask("GET", f"{path}?csrf={csrf}", {"Cookie": cookie}).status in (404, 405)
    assert form(here, path, cookie, csrf, Origin=here.daemon.url) in (200, 303)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"},
        # A name of theirs that leads to this machine (DNS rebinding).
        {"Origin": "http://evil.example", "Host": "evil.example"},
        {"Origin": "http://127.0.0.1.evil.example", "Host": "127.0.0.1.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_another_page_logs_no_browser_in(here: Target, headers: Mapping[str, str]) -> None:
    answer = log_in(here, **headers)
    assert answer.status == 403
    assert "Set-Cookie" not in answer.headers


def test_another_page_reads_nothing_of_operators(here: Target) -> None:
    cookie, _ = session(here)
    for path in ("/", *READ):
        answer = here.ask("GET", path, {"Cookie": cookie, "Origin": "https://evil.example"})
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_tokens_of_other_doors_open_none_of_the_operators(here: Target) -> None:
    others = [here.voip(), here.widget(), {"Authorization": f"Bearer {here.widget()['X-Auth-Token']}"}]
    for headers in others:
        for path in READ:
            answer = here.ask("GET", path, {**headers, "X-Forwarded-For": next(STRANGERS)})
            assert answer.status == 401, path
    path = "/widget/v1/calls/bystander-0"
    assert here.ask("GET", path, {**here.operator(), "Origin": here.origin}).status == 401


def test_nothing_that_a_caller_writes_runs_in_the_status_page(here: Target) -> None:
    evil = f"<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{fresh('x')}"
    assert here.report(evil, phone="<b>1</b>", extension="<i>2").status == 202
    page = here.ask("GET", "/", here.operator())
    assert page.status == 200
    assert escape(evil) in page.text
    for tag in ("<script", "<img", "<b>1", "<i>2"):
        assert tag not in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
