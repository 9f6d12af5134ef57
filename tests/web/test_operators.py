"""The operators' doors: what they show, who gets in, and what attackers get instead."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser

import pytest
from aiohttp import ClientResponse
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from calllogd.database.database import Database
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import CallState, Person
from calllogd.ports import AccountState, Standing
from calllogd.voip.telling import call_json, line_json, meaning, why
from calllogd.web.operator_access import WRONG_AT_ONCE, Access
from calllogd.web.operator_sessions import ENDED_MOST, SESSION_S, EndedSessions, Session, Sessions
from calllogd.web.problems import PROBLEMS
from tests.fakes import ACCOUNT, START, ManualClock
from tests.operators import BEARER, HERE, KEY, PUBLIC_URL, STANDINGS, TOKEN, MakeClient, Office, from_address

SECURE = "__Host-calllogd"
STRANGER = "203.0.113.9"
READ = ["/", "/api/v1/status", "/api/v1/calls", f"/api/v1/calls/{ACCOUNT}/c1"]
CHANGE = ["/retry", "/api/v1/retry", f"/api/v1/calls/{ACCOUNT}/c1/retry"]


@pytest.fixture
async def office(
    database: Database, ledger: LedgerOfCalls, clock: ManualClock, aiohttp_client: MakeClient
) -> Office:
    office = Office(database, ledger, clock)
    office.client = await aiohttp_client(office.app)
    return office


class Page(HTMLParser):
    """A page as a browser reads it: its text, its elements, its forms."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.style = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append((tag, named))
        if tag == "form":
            self.forms.append({"action": named["action"] or "", "method": named["method"] or ""})
        if tag == "input":
            self.forms[-1][named["name"] or ""] = named.get("value") or ""

    def handle_data(self, text: str) -> None:
        if self.tags and self.tags[-1][0] == "style" and not self.style:
            self.style = text
        self.texts.append(text)

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def fields(self, action: str) -> list[dict[str, str]]:
        """Return what each form of an action sends."""
        sent = [form for form in self.forms if form["action"] == action]
        assert all(form["method"] == "post" for form in sent)
        return [{k: v for k, v in form.items() if k not in ("action", "method")} for form in sent]


async def page_of(answer: ClientResponse) -> Page:
    assert answer.content_type == "text/html"
    return Page(await answer.text())


async def problem_of(answer: ClientResponse) -> str:
    document = json.loads(await answer.read())
    assert answer.content_type == "application/problem+json"
    assert document["status"] == answer.status == PROBLEMS[document["code"]].status
    return str(document["code"])


async def state_of(office: Office, call_id: str = "c1") -> CallState:
    call = await office.ledger.get((await office.ledger.listing(limit=1000))[0].key._replace(call_id=call_id))
    assert call is not None
    return call.state


async def csrf_of(office: Office, cookie: str) -> str:
    (out,) = (await page_of(await office.get("/", Cookie=cookie))).fields("/logout")
    return out["csrf"]


# --- the API


async def test_status_is_that_of_the_command(office: Office) -> None:
    await office.add("c1")
    await office.add("c2", CallState.FAILED, error="no")
    office.clock.forward(2.5)
    answer = await office.get("/api/v1/status", **BEARER)
    assert answer.status == 200
    assert answer.content_type == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert await answer.json() == {
        "calls": {state.value: 0 for state in CallState} | {"pending": 1, "failed": 1},
        "queue": 2,
        "oldest_due_s": 2.5,
        "accounts": [
            {"id": ACCOUNT, "state": "active", "reason": None},
            {"id": 4711, "state": "paused", "reason": "the access token is wrong"},
        ],
        "unmapped": [],
    }


async def test_extensions_that_nobody_has_are_told(office: Office) -> None:
    office.extensions = {ACCOUNT: {"101": 111}}
    strange = '<b>"7"</b>'
    for number in range(3):
        await office.add(f"s{number}", CallState.LOGGED, person=Person(3, strange))
    await office.add("c1", CallState.LOGGED, person=Person(3, "101"))
    for number in range(25):
        await office.add(f"x{number}", CallState.LOGGED, person=Person(3, f"9{number:02}"))
    told = (await (await office.get("/api/v1/status", **BEARER)).json())["unmapped"]
    assert len(told) == 20, "the most frequent ones"
    assert told[0] == {"account_id": ACCOUNT, "extension": strange, "calls": 3}
    page = await page_of(await office.get("/", Cookie=await office.session()))
    assert "Extensions that nobody has" in page.text
    assert "20 of 26" in page.text
    assert strange in page.text, "escaped, it is a text"
    office.extensions = {ACCOUNT: {strange: 111, **{f"9{number:02}": number for number in range(25)}}}
    page = await page_of(await office.get("/", Cookie=await office.session()))
    assert "20 of" not in page.text


async def test_calls_are_those_of_the_command(office: Office) -> None:
    for number in range(3):
        await office.add(f"c{number}", phone=f"+1 212 555 010{number}")
    await office.add("other", CallState.FAILED, account_id=4711, error="no")

    async def listed(query: str) -> list[str]:
        answer = await office.get(f"/api/v1/calls{query}", **BEARER)
        assert answer.status == 200
        return [call["call_id"] for call in (await answer.json())["calls"]]

    assert await listed("") == ["other", "c2", "c1", "c0"]
    assert await listed(f"?account={ACCOUNT}") == ["c2", "c1", "c0"]
    assert await listed("?state=failed") == ["other"]
    assert await listed("?state=pending&limit=2") == ["c2", "c1"]
    assert await listed("?phone=555-0101") == ["c1"]
    assert await listed("?account=1") == []
    (call,) = await office.ledger.listing(limit=1)
    answer = await office.get("/api/v1/calls?limit=1", **BEARER)
    assert await answer.json() == {"calls": [call_json(call)]}


@pytest.mark.parametrize(
    "query",
    [
        "account=", "account=x", "account=-1", "account=0", f"account={10**30}", "account=1.5", "account=٣",
        "state=", "state=FAILED", "state=failed'--", "phone=", "phone=abc", "limit=0", "limit=-1",
        "limit=1001", "limit=x", f"limit={'9' * 5000}", "account=%00", "state=%ff",
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_is_refused(office: Office, query: str) -> None:
    answer = await office.get(f"/api/v1/calls?{query}", **BEARER)
    assert await problem_of(answer) in ("invalid", "bad_request")


async def test_a_call_with_its_story(office: Office) -> None:
    key = await office.add("a b/ü{}%", CallState.FAILED, error="Kommo said no")
    path = f"/api/v1/calls/{ACCOUNT}/a%20b%2F%C3%BC%7B%7D%25"
    answer = await office.client.get(URL(path, encoded=True), headers=BEARER)
    call, story = await office.ledger.get(key), await office.ledger.story(key)
    assert call is not None
    assert await answer.json() == {
        **call_json(call), "why": why(call), "events": [line_json(line) for line in story],
    }  # fmt: skip
    assert len(story) == 2


@pytest.mark.parametrize("path", ["1/c1", f"{ACCOUNT}/nope", "x/c1", f"{10**30}/c1", "0/c1"])
async def test_a_call_that_is_not_there(office: Office, path: str) -> None:
    await office.add("c1")
    assert await problem_of(await office.get(f"/api/v1/calls/{path}", **BEARER)) == "not_found"
    assert await problem_of(await office.post(f"/api/v1/calls/{path}/retry", **BEARER)) == "not_found"


async def test_an_impossible_id_is_refused(office: Office) -> None:
    for call_id in ("%00", "%0A", "x" * 256):
        answer = await office.get(f"/api/v1/calls/{ACCOUNT}/{call_id}", **BEARER)
        assert await problem_of(answer) == "invalid"


async def test_a_call_is_put_back(office: Office) -> None:
    await office.add("c1", CallState.FAILED, error="no")
    await office.add("c2", CallState.FAILED, error="no")
    answer = await office.post(f"/api/v1/calls/{ACCOUNT}/c1/retry", **BEARER)
    assert await answer.json() == {"retried": 1, "state": "pending"}
    assert await state_of(office, "c2") is CallState.FAILED


async def test_a_call_that_stands_in_kommo_is_left_alone(office: Office) -> None:
    await office.add("c1", CallState.LOGGED)
    answer = await office.post(f"/api/v1/calls/{ACCOUNT}/c1/retry", **BEARER)
    assert await answer.json() == {"retried": 0, "state": "logged"}


async def test_all_failed_calls_are_put_back(office: Office) -> None:
    await office.add("c1", CallState.FAILED, error="no")
    await office.add("c2", CallState.FAILED, error="no")
    await office.add("c3", CallState.IGNORED)
    assert await (await office.post("/api/v1/retry", **BEARER)).json() == {"retried": 2}
    assert await state_of(office, "c3") is CallState.IGNORED


async def test_when_the_ledger_is_closed(office: Office) -> None:
    await office.database.close()
    for path in READ:
        assert await problem_of(await office.get(path, **BEARER)) == "storage"
    for path in CHANGE:
        assert await problem_of(await office.post(path, **BEARER)) == "storage"


# --- who gets in


@pytest.mark.parametrize(
    "authorization",
    [
        None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}", "Bearer ü", "Bearer None",
    ],
)  # fmt: skip
async def test_without_the_token_there_is_nothing(office: Office, authorization: str | None) -> None:
    await office.add("c1", CallState.FAILED, error="no")
    headers = {} if authorization is None else {"Authorization": authorization}
    for path in READ[1:]:
        answer = await office.get(path, **headers, **from_address(f"198.51.100.{len(path)}"))
        assert await problem_of(answer) == "unauthorized"
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="calllogd"'
    for path in CHANGE:
        answer = await office.post(path, **headers, **from_address(f"198.51.101.{len(path)}"))
        assert await problem_of(answer) == "unauthorized"
    assert await state_of(office) is CallState.FAILED


async def test_without_an_admin_token_nobody_gets_in(office: Office) -> None:
    cookie = await office.session()
    office.configure(token=None)
    for path in READ[1:]:
        for headers in (BEARER, {"Authorization": "Bearer None"}, {"Cookie": cookie}, {}):
            answer = await office.get(path, **headers)
            assert await problem_of(answer) == "forbidden"
            assert "admin.token" in await answer.text()
    for path in CHANGE:
        assert await problem_of(await office.post(path, **BEARER)) == "forbidden"
    for path in ("/", "/login"):
        answer = await office.get(path)
        assert answer.status == 403
        assert "admin.token" in (await page_of(answer)).text
    assert (await office.log_in("")).status == 403


async def test_who_is_not_an_operator_learns_of_no_calls(office: Office) -> None:
    await office.add("c1")
    answers = [await office.get(f"/api/v1/calls/{ACCOUNT}/{name}") for name in ("c1", "nope")]
    first, second = [await answer.read() for answer in answers]
    assert first == second


async def test_where_there_are_no_operators_there_is_nothing(office: Office) -> None:
    services = office.services()
    office.desk.put(
        type(services)(providers={}, save_call_event=services.save_call_event, ready=services.ready)
    )
    for path in [*READ, "/login", "/metrics"]:
        assert await problem_of(await office.get(path, **BEARER)) == "not_found"


async def test_the_comparison_takes_as_long_whatever_is_shown(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return verdict

    monkeypatch.setattr("calllogd.web.operator_access.hmac.compare_digest", compare)
    verdict = True
    assert (await office.get("/api/v1/status", Authorization="Bearer nonsense")).status == 200
    assert (await office.log_in("nonsense")).status == 303
    verdict = False
    office.client.session.cookie_jar.clear()
    assert (await office.get("/api/v1/status", **BEARER)).status == 401
    assert (await office.log_in()).status == 401
    assert compared == [
        (TOKEN.encode(), shown) for shown in (b"nonsense", b"nonsense", TOKEN.encode(), TOKEN.encode())
    ]


async def test_whoever_is_not_logged_in_is_sent_to_the_login_page(office: Office) -> None:
    answer = await office.get("/")
    assert (answer.status, answer.headers["Location"]) == (303, "/login")
    answer = await office.get("/login")
    assert answer.status == 200
    page = await page_of(answer)
    assert page.fields("/login") == [{"token": ""}]


async def test_a_login_and_a_logout(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    answer = await office.log_in(**from_address(STRANGER))
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    value, *attributes = cookie.split("; ")
    assert value.startswith(f"{SECURE}=")
    assert set(attributes) == {"HttpOnly", "Max-Age=43200", "Path=/", "SameSite=Strict", "Secure"}
    (line,) = [record for record in caplog.records if record.message == "login"]
    assert line.__dict__["facts"] == {"address": STRANGER}
    assert TOKEN not in caplog.text

    headers = {"Cookie": value}
    assert (await office.get("/", **headers)).status == 200
    answer = await office.get("/login", **headers)
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    assert (await office.get("/api/v1/status", **headers)).status == 200
    csrf = await csrf_of(office, value)
    answer = await office.post("/logout", {"csrf": csrf}, **headers)
    assert (answer.status, answer.headers["Location"]) == (303, "/login")
    assert answer.headers["Set-Cookie"].startswith(f'{SECURE}=""; ')
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert "Secure" in answer.headers["Set-Cookie"], "else browsers do not take it"
    assert (await office.get("/api/v1/status", **headers)).status == 401, "an ended session was played again"
    assert (await office.get("/", **headers)).status == 303


async def test_an_ended_session_stays_ended_when_the_configuration_is_read_again(office: Office) -> None:
    cookie = await office.session()
    await office.post("/logout", {"csrf": await csrf_of(office, cookie)}, Cookie=cookie)
    await office.desk.clear()
    office.configure()
    assert (await office.get("/api/v1/status", Cookie=cookie)).status == 401


async def test_logging_out_ends_one_session_of_several(office: Office) -> None:
    first, second = await office.session(), await office.session()
    assert first != second
    await office.post("/logout", {"csrf": await csrf_of(office, first)}, Cookie=first)
    assert (await office.get("/api/v1/status", Cookie=second)).status == 200


async def test_through_a_tunnel_the_cookie_is_one_that_browsers_keep(office: Office) -> None:
    host = f"127.0.0.1:{office.client.port}"
    answer = await office.log_in(Origin=f"http://{host}")
    assert answer.status == 303
    value, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert value.startswith("calllogd=")
    assert set(attributes) == {"HttpOnly", "Max-Age=43200", "Path=/", "SameSite=Strict"}
    assert (await office.get("/", Cookie=value)).status == 200


async def test_the_cookie_of_an_installation_without_tls(office: Office) -> None:
    office.configure(public_url="http://127.0.0.1:8080")
    answer = await office.log_in(Origin="http://127.0.0.1:8080")
    assert answer.headers["Set-Cookie"].startswith("calllogd=")
    assert "Secure" not in answer.headers["Set-Cookie"]


async def test_a_proxy_may_want_a_password_of_its_own(office: Office) -> None:
    cookie = await office.session()
    basic = "Basic " + base64.b64encode(b"proxy:password").decode()
    assert (await office.get("/", Cookie=cookie, Authorization=basic)).status == 200


# --- forged sessions


def altered(cookie: str) -> list[str]:
    """Return what somebody may make of a cookie, or in its place."""
    name, _, value = cookie.partition("=")
    session, until, mac = value.split(".")
    signed_by_others = hmac.digest(b"x" * 32, f"session\0{session}.{until}".encode(), hashlib.sha256).hex()
    unsigned = hashlib.sha256(f"session\0{session}.{until}".encode()).hexdigest()
    return [
        f"{name}={made}"
        for made in [
            "", ".", "..", "x", f"{session}.{until}", f"{session}.{until}.", f"{session}.{until}.{'0' * 64}",
            f"{session}.{int(until) + 1}.{mac}", f"{session}.0{until}.{mac}", f"{'0' * 32}.{until}.{mac}",
            f"{session}.{until}.{mac[:-1]}{'0' if mac[-1] != '0' else '1'}", f"{session}.{until}.{mac[:-1]}",
            f"{session}.{until}.{mac}0", f"{session}.{until}.{mac.upper()}", f"{session}.{until}.{mac}.{mac}",
            f"{session}.{until}.{signed_by_others}", f"{session}.{until}.{unsigned}",
            f"{session}.{'9' * 5000}.{mac}", f"{session}.-1.{mac}", f"{session}.1e9.{mac}", TOKEN,
        ]
    ]  # fmt: skip


async def test_a_forged_cookie_is_none(office: Office) -> None:
    cookie = await office.session()
    for forged in altered(cookie):
        assert (await office.get("/api/v1/status", Cookie=forged)).status == 401, forged
        assert (await office.get("/", Cookie=forged)).status == 303
    assert (await office.get("/api/v1/status", Cookie=cookie)).status == 200


@given(st.text(max_size=150) | st.from_regex(r"\A[0-9a-f]{32}\.[0-9]{1,12}\.[0-9a-f]{64}\Z"))
def test_no_other_text_is_a_session(cookie: str) -> None:
    assert Sessions(TOKEN, KEY).read(cookie, START) is None


async def test_another_admin_token_or_key_ends_all_sessions(office: Office) -> None:
    cookie = await office.session()
    office.configure(token="another-admin-token")
    assert (await office.get("/api/v1/status", Cookie=cookie)).status == 401
    office.configure(session_key=b"x" * 32)
    assert (await office.get("/api/v1/status", Cookie=cookie)).status == 401
    office.configure()
    assert (await office.get("/api/v1/status", Cookie=cookie)).status == 200


async def test_a_session_ends_by_itself(office: Office) -> None:
    cookie = await office.session()
    office.clock.forward(SESSION_S - 1)
    assert (await office.get("/api/v1/status", Cookie=cookie)).status == 200
    office.clock.forward(1)
    assert (await office.get("/api/v1/status", Cookie=cookie)).status == 401
    assert (await office.get("/", Cookie=cookie)).status == 303


def test_a_clock_that_was_set_back_does_not_make_sessions_last() -> None:
    sessions = Sessions(TOKEN, KEY)
    cookie = sessions.begin(START)
    assert sessions.read(cookie, START) is not None
    assert sessions.read(cookie, START - 3600) is None


def test_what_is_remembered_of_ended_sessions_is_bounded() -> None:
    ended = EndedSessions()
    for number in range(ENDED_MOST + 50):
        ended.end(Session(f"{number}", int(START) + number), START)
    assert len(ended) == ENDED_MOST
    assert Session(f"{ENDED_MOST}", 0) in ended
    ended.end(Session("new", int(START) + SESSION_S * 9), START + SESSION_S * 2)
    assert len(ended) == 1


def test_a_form_is_of_one_session() -> None:
    sessions = Sessions(TOKEN, KEY)
    one, other = (sessions.read(sessions.begin(START), START) for _ in range(2))
    assert one is not None
    assert other is not None
    assert sessions.is_csrf(one, sessions.csrf(one))
    assert not sessions.is_csrf(one, sessions.csrf(other))
    assert not sessions.is_csrf(one, "")
    assert not sessions.is_csrf(one, "ü\ud800")
    assert sessions.begin(START).rpartition(".")[2] != sessions.csrf(one)


# --- requests that others make a browser send


async def test_a_change_needs_the_sessions_own_form(office: Office) -> None:
    await office.add("c1", CallState.FAILED, error="no")
    cookie, other = await office.session(), await office.session()
    csrf, others = await csrf_of(office, cookie), await csrf_of(office, other)
    for path in [*CHANGE, "/logout"]:
        for fields, headers in [
            (None, {}),
            ({}, {}),
            ({"csrf": ""}, {}),
            ({"csrf": "wrong"}, {}),
            ({"csrf": others}, {}),
            ({"csrf": "ü"}, {}),
            ({}, {"X-CSRF-Token": others}),
            ({"csrf": csrf}, {"Origin": "https://evil.example.com"}),
            ({"csrf": csrf}, {"Origin": "null"}),
            ({"csrf": csrf}, {"Origin": "http://calls.example.com"}),
            ({"csrf": csrf}, {"Origin": f"{PUBLIC_URL}.evil.org"}),
            ({"csrf": csrf}, {"Origin": f"{PUBLIC_URL}:8443"}),
            ({"csrf": csrf}, {"Origin": ""}),
            ({"csrf": csrf}, {"Sec-Fetch-Site": "cross-site"}),
            ({"csrf": csrf}, {"Sec-Fetch-Site": "same-site"}),
            ({"csrf": csrf}, {"Sec-Fetch-Site": "none"}),
            ({"csrf": csrf}, {"Origin": PUBLIC_URL, "Sec-Fetch-Site": "cross-site"}),
            ({"csrf": csrf}, {"Origin": "https://evil.example.com", "Sec-Fetch-Site": "same-origin"}),
        ]:
            answer = await office.post(path, fields, Cookie=cookie, **headers)
            assert await problem_of(answer) == "forbidden", (path, fields, headers)
            assert await state_of(office) is CallState.FAILED
    assert (await office.get("/api/v1/status", Cookie=cookie)).status == 200, "it was logged out"


@pytest.mark.parametrize("in_header", [False, True])
@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Origin": PUBLIC_URL}, {"Sec-Fetch-Site": "same-origin"}, HERE,
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
    ],
)  # fmt: skip
async def test_a_change_by_the_sessions_own_form(
    office: Office, headers: dict[str, str], in_header: bool
) -> None:
    await office.add("c1", CallState.FAILED, error="no")
    cookie = await office.session()
    csrf = await csrf_of(office, cookie)
    shown = {"X-CSRF-Token": csrf} if in_header else {}
    path = f"/api/v1/calls/{ACCOUNT}/c1/retry"
    answer = await office.post(path, {} if in_header else {"csrf": csrf}, Cookie=cookie, **shown, **headers)
    assert await answer.json() == {"retried": 1, "state": "pending"}


async def test_whoever_shows_the_token_needs_no_form(office: Office) -> None:
    assert (await office.post("/api/v1/retry", **BEARER, Origin="https://evil.example.com")).status == 200


async def test_nothing_is_changed_by_looking(office: Office) -> None:
    await office.add("c1", CallState.FAILED, error="no")
    cookie = await office.session()
    for path in [*CHANGE, "/logout"]:
        for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"):
            answer = await office.client.request(
                method, path, headers={"Cookie": cookie, **BEARER}, allow_redirects=False
            )
            assert answer.status in (404, 405)
    assert await state_of(office) is CallState.FAILED


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": PUBLIC_URL},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example.com"},
        {"Host": "evil.example.com:8080", "Origin": "http://evil.example.com:8080"},
        {"Host": "127.0.0.1.evil.example.com", "Origin": "http://127.0.0.1.evil.example.com"},
        {"Host": "[", "Origin": "http://["},
    ],
)
async def test_nobody_elses_page_logs_a_browser_in(office: Office, headers: dict[str, str]) -> None:
    answer = await office.post("/login", {"token": TOKEN}, **headers)
    assert answer.status == 403
    assert "Set-Cookie" not in answer.headers
    assert (await page_of(answer)).fields("/login") == [{"token": ""}]


async def test_no_page_of_others_may_read_the_api(office: Office) -> None:
    answer = await office.get("/api/v1/status", **BEARER, Origin="https://evil.example.com")
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    preflight = {"Origin": "https://evil.example.com", "Access-Control-Request-Method": "POST"}
    answer = await office.client.options("/api/v1/retry", headers=preflight)
    assert answer.status == 405
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


# --- guessing


async def wrong(office: Office, address: str, shown: str = "wrong") -> int:
    return (await office.log_in(shown, **from_address(address))).status


async def test_wrong_tokens_are_slow_and_logged(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    statuses = [await wrong(office, STRANGER) for _ in range(WRONG_AT_ONCE + 2)]
    assert statuses == [401] * WRONG_AT_ONCE + [429] * 2
    lines = [record for record in caplog.records if record.message == "login_refused"]
    assert [line.__dict__["facts"] for line in lines] == [{"address": STRANGER}] * WRONG_AT_ONCE
    assert {line.levelname for line in lines} == {"WARNING"}
    answer = await office.log_in(**from_address(STRANGER))
    assert answer.status == 429, "what is shown while an address has to wait is not looked at"
    page = await page_of(answer)
    assert page.fields("/login") == [{"token": ""}]
    seconds = int(answer.headers["Retry-After"])
    assert f"{seconds} s" in page.text
    assert 1 <= seconds <= 10
    assert await wrong(office, "198.51.100.1", TOKEN) == 303, "another address has to wait"
    office.clock.forward(seconds)
    assert await wrong(office, STRANGER) == 401
    assert await wrong(office, STRANGER, TOKEN) == 429
    office.clock.forward(10)
    assert await wrong(office, STRANGER, TOKEN) == 303


async def test_right_tokens_cost_nothing(office: Office) -> None:
    for _ in range(3 * WRONG_AT_ONCE):
        assert await wrong(office, STRANGER, TOKEN) == 303
        assert (await office.get("/api/v1/status", **BEARER, **from_address(STRANGER))).status == 200


async def test_all_doors_count_together(office: Office) -> None:
    headers = {"Authorization": "Bearer wrong", **from_address(STRANGER)}
    for path in ("/", *READ[1:]):
        assert (await office.get(path, **headers)).status == 401
    assert (await office.post("/retry", **headers)).status == 401
    assert await wrong(office, STRANGER) == 429
    answer = await office.get("/api/v1/status", **BEARER, **from_address(STRANGER))
    assert await problem_of(answer) == "too_many"
    assert int(answer.headers["Retry-After"]) >= 1


async def test_nobody_gets_more_guesses_by_naming_other_addresses(office: Office) -> None:
    addresses = [f"198.51.100.{number}, {STRANGER}" for number in range(WRONG_AT_ONCE + 1)]
    assert [await wrong(office, address) for address in addresses] == [401] * WRONG_AT_ONCE + [429]
    for more in ({"Forwarded": "for=1.2.3.4"}, {"X-Real-IP": "1.2.3.4"}, {"X-Client-IP": "1.2.3.4"}):
        assert (await office.log_in("wrong", **from_address(STRANGER), **more)).status == 429


async def test_nobody_gets_more_guesses_by_having_a_network(office: Office) -> None:
    addresses = [f"2001:db8:1:2::{number:x}" for number in range(1, WRONG_AT_ONCE + 2)]
    assert [await wrong(office, address) for address in addresses] == [401] * WRONG_AT_ONCE + [429]
    assert await wrong(office, "2001:db8:1:3::1") == 401


async def test_many_addresses_guess_slowly_and_shut_nobody_out(office: Office) -> None:
    statuses = [await wrong(office, f"198.51.100.{number}") for number in range(100)]
    assert statuses.count(401) == 20
    assert statuses[-1] == 429
    assert await wrong(office, "203.0.113.77", TOKEN) == 303
    office.clock.forward(1)
    assert await wrong(office, "198.51.101.1") == 401
    assert await wrong(office, "198.51.101.2") == 429


async def test_a_reload_gives_no_new_guesses(office: Office) -> None:
    for _ in range(WRONG_AT_ONCE):
        await wrong(office, STRANGER)
    await office.desk.clear()
    office.configure()
    assert await wrong(office, STRANGER) == 429


async def test_guesses_at_once_are_counted_one_by_one(office: Office) -> None:
    statuses = await asyncio.gather(*(wrong(office, STRANGER) for _ in range(30)))
    assert statuses.count(401) == WRONG_AT_ONCE


async def test_a_wrong_login_says_so(office: Office) -> None:
    answer = await office.log_in("wrong")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert "Set-Cookie" not in answer.headers
    page = await page_of(answer)
    assert "not the admin token" in page.text
    assert "wrong" not in [value for form in page.forms for value in form.values()]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/x-www-form-urlencoded"),
        (b"token", "application/x-www-form-urlencoded"),
        (b"token=wrong&token=" + TOKEN.encode(), "application/x-www-form-urlencoded"),
        (json.dumps({"token": TOKEN}).encode(), "application/json"),
        (b"token=" + TOKEN.encode(), "text/plain"),
        (b"token=%ff%00", "application/x-www-form-urlencoded"),
    ],
)
async def test_only_a_form_logs_in(office: Office, body: bytes, content_type: str) -> None:
    answer = await office.client.post("/login", data=body, headers={**HERE, "Content-Type": content_type})
    assert answer.status == 401


@pytest.mark.parametrize("path", ["/login", "/logout", "/retry", "/api/v1/retry"])
async def test_a_form_that_cannot_be_read_is_refused(office: Office, path: str) -> None:
    for body, status in [(b"\xff=1", 400), (b"a&" * 100, 400), (b"a=" + b"x" * 70_000, 413)]:
        headers = {**HERE, "Content-Type": "application/x-www-form-urlencoded"}
        assert (await office.client.post(path, data=body, headers=headers)).status == status


async def test_nobody_is_sent_elsewhere(office: Office) -> None:
    evil = "https://evil.example.com"
    query = "?next=https://evil.example.com&url=//evil.example.com"
    headers = {"Referer": evil, "X-Forwarded-Host": "evil.example.com", "X-Forwarded-Proto": "ftp"}
    answer = await office.get(f"/{query}", **headers, Host="evil.example.com")
    assert answer.headers["Location"] == "/login"
    fields = {"token": TOKEN, "next": evil, "redirect": evil}
    answer = await office.client.post(
        f"/login{query}", data=fields, headers={**headers, **HERE}, allow_redirects=False
    )
    assert (answer.status, answer.headers["Location"]) == (303, "/")


async def test_no_header_can_be_put_in(office: Office) -> None:
    evil = "x\r\nSet-Cookie: evil=1"
    for fields in ({"token": evil}, {"token": TOKEN, "next": evil}):
        answer = await office.client.post("/login", data=fields, headers=HERE, allow_redirects=False)
        assert not [value for value in answer.headers.getall("Set-Cookie", []) if value.startswith("evil")]
    for path in ("/%0d%0aSet-Cookie:%20evil=1", "/api/v1/calls/1/x%0d%0aSet-Cookie:%20evil=1"):
        answer = await office.get(path, **BEARER)
        assert "Set-Cookie" not in answer.headers
        assert answer.status in (404, 422)


# --- the pages


async def test_the_status_page_shows_how_everything_stands(office: Office) -> None:
    await office.add("waiting")
    await office.add("stands", CallState.LOGGED)
    await office.add("broken", CallState.FAILED, error="Kommo does not know the user")
    office.clock.forward(7)
    page = await page_of(await office.get("/", Cookie=await office.session()))
    for state in CallState:
        assert state.value in page.text
        assert meaning(state) in page.text
    for said in (
        "3 ring(s) in the queue; 1 call(s) due, the oldest for 7 s", "Kommo does not know the user",
        "contact 7, note 1001", "waiting", "stands", "broken", "the access token is wrong", "Acme", "4711",
        "+1 212 555 0123",
    ):  # fmt: skip
        assert said in page.text
    assert ("meta", {"http-equiv": "refresh", "content": "10"}) in page.tags


async def test_the_status_page_of_an_empty_ledger(office: Office) -> None:
    office.standings = []
    page = await page_of(await office.get("/", Cookie=await office.session()))
    assert page.fields("/retry") == []
    assert "None yet." in page.text


async def test_calls_are_retried_from_the_page(office: Office) -> None:
    await office.add("c1", CallState.FAILED, error="no")
    await office.add("a b/'\"<&%", CallState.FAILED, error="no")
    cookie = await office.session()
    first, second, every = (await page_of(await office.get("/", Cookie=cookie))).fields("/retry")
    assert first["call_id"] == "a b/'\"<&%"
    assert "call_id" not in every
    answer = await office.post("/retry", first, Cookie=cookie, **HERE)
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    assert await state_of(office, "a b/'\"<&%") is CallState.PENDING
    assert await state_of(office) is CallState.FAILED
    answer = await office.post("/retry", every, Cookie=cookie, **HERE)
    assert answer.status == 303
    assert await state_of(office) is CallState.PENDING
    assert (await office.post("/retry", second, Cookie=cookie, **HERE)).status == 303, "a second click"


async def test_half_a_name_retries_nothing(office: Office) -> None:
    await office.add("c1", CallState.FAILED, error="no")
    for fields in ({"account_id": str(ACCOUNT)}, {"call_id": "c1"}, {"account_id": "", "call_id": ""}):
        assert (await office.post("/retry", fields, **BEARER)).status in (404, 422)
    assert await state_of(office) is CallState.FAILED


async def test_only_the_newest_calls_are_shown(office: Office) -> None:
    for number in range(25):
        await office.add(f"f{number:02}", CallState.FAILED, error="no")
    for number in range(25):
        await office.add(f"n{number:02}")
    page = await page_of(await office.get("/", Cookie=await office.session()))
    shown = re.findall(r"\b[fn][0-9]{2}\b", page.text)
    assert sorted(shown) == [f"f{number:02}" for number in range(5, 25)] + [
        f"n{number:02}" for number in range(5, 25)
    ]
    assert len(page.fields("/retry")) == 21


XSS: Sequence[str] = [
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "' onmouseover='alert(1)", "</title><b>",
    "&lt;script&gt;", "]]><!--", "{{7*7}}", "javascript:alert(1)", "\u202egnp.exe",
]  # fmt: skip


@pytest.mark.parametrize("evil", XSS)
async def test_what_others_wrote_stays_text(office: Office, evil: str) -> None:
    office.standings = [
        Standing(account_id=ACCOUNT, name=evil, state=AccountState.PAUSED, reason=f"because {evil}")
    ]
    plain = await office.session()
    before = len((await page_of(await office.get("/", Cookie=plain))).tags)
    await office.add(f"id {evil}", CallState.FAILED, error=f"error {evil}", phone=f"phone {evil}",
                     person=Person(1, extension=f"ext {evil}"))  # fmt: skip
    answer = await office.get("/", Cookie=plain)
    source, page = await answer.text(), await page_of(answer)
    for said in (f"id {evil}", f"error {evil}", f"phone {evil}", f"ext {evil}", f"because {evil}"):
        assert said in page.text
    if re.search("[<>\"'&]", evil):
        assert evil not in source
    tags = {tag for tag, _ in page.tags}
    assert tags <= {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "p", "form", "input", "button",
        "main", "section", "h2", "div", "table", "caption", "thead", "tr", "th", "tbody", "td", "span", "br",
    }  # fmt: skip
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert len(page.tags) > before
    (one, _) = page.fields("/retry")
    assert one["call_id"] == f"id {evil}"


async def test_what_a_stranger_sends_is_not_echoed(office: Office) -> None:
    for answer in (
        await office.log_in("<script>"),
        await office.get("/login?x=<script>", **from_address("<script>")),
        await office.get("/<script>"),
        await office.get("/api/v1/calls?state=<script>", **BEARER),
    ):
        assert "<script>" not in await answer.text()


async def test_pages_run_nothing_load_nothing_and_are_framed_by_nobody(office: Office) -> None:
    await office.add("c1", CallState.FAILED, error="no")
    cookie = await office.session()
    for answer in (
        await office.get("/", Cookie=cookie), await office.get("/login"), await office.log_in("wrong"),
    ):  # fmt: skip
        source, page = await answer.text(), await page_of(answer)
        policy = dict(part.strip().partition(" ")[::2] for part in
                      answer.headers["Content-Security-Policy"].split(";"))  # fmt: skip
        style = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
        assert policy == {
            "default-src": "'none'", "style-src": f"'sha256-{style}'", "form-action": "'self'",
            "frame-ancestors": "'none'", "base-uri": "'none'",
        }  # fmt: skip
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        assert not {"script", "link", "img", "iframe", "a"} & {tag for tag, _ in page.tags}
        assert " style=" not in source
        assert "http:" not in source
        assert "https:" not in source
        assert TOKEN not in source


async def test_pages_can_be_read_aloud_and_used_without_a_mouse(office: Office) -> None:
    await office.add("c1", CallState.FAILED, error="no")
    for answer in (await office.get("/", Cookie=await office.session()), await office.get("/login")):
        tags = (await page_of(answer)).tags
        names = [tag for tag, _ in tags]
        assert ("html", {"lang": "en"}) in tags
        assert names.count("h1") == names.count("main") == 1
        assert names.count("table") == names.count("caption")
        assert names.count("section") <= names.count("h2")
        assert all(attributes["scope"] == "col" for tag, attributes in tags if tag == "th")
        ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        for tag, attributes in tags:
            if tag == "label":
                assert attributes["for"] in ids
            for name in ("aria-labelledby", "aria-describedby"):
                assert attributes.get(name) in (None, *ids)
        labels = [attributes["aria-label"] for tag, attributes in tags if "aria-label" in attributes]
        assert len(labels) == len(set(labels)), "who hears `Retry` several times has to be told which"


async def test_the_page_shown_for_a_token_has_no_forms(office: Office) -> None:
    await office.add("c1", CallState.FAILED, error="no")
    answer = await office.get("/", **BEARER)
    assert answer.status == 200
    assert (await page_of(answer)).forms == []


async def test_head_asks_as_get_does(office: Office) -> None:
    for path in ["/", "/login", "/api/v1/status"]:
        answer = await office.client.head(path, headers=BEARER, allow_redirects=False)
        assert (answer.status, await answer.read()) == (200 if path != "/login" else 303, b"")
    assert (await office.client.head("/api/v1/status")).status == 401
    assert (await office.client.head("/", allow_redirects=False)).status == 303


def test_what_is_remembered_is_not_shared_by_applications() -> None:
    assert Access().ended is not Access().ended


def test_the_examples_are_of_both_kinds() -> None:
    assert {standing.state for standing in STANDINGS} == {AccountState.ACTIVE, AccountState.PAUSED}
