"""Codes, tokens, their refreshes and mishaps, the consent page, installations, and accounts that move."""

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Coroutine
from dataclasses import asdict
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from calllogd.sandbox import Account, Fault, Integration, SandboxKommo
from tests.sandbox.conftest import ManualClock

CLIENT = "5c2d1d5a-0000-4000-8000-000000000000"
SECRET = "the-secret-of-the-integration"
DAY = 86_400
TOKENS = "/oauth2/access_token"
ONLY_TOKENS = f"^{TOKENS}$"
MOVED = "127.0.0.3"
HELD = {"timeout_before", "timeout_after", "late_commit"}

Answered = tuple[int, dict[str, Any]]


class Landing:
    """The integration's own server: where Kommo calls."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.status = 200

    async def serve(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})


@pytest.fixture
async def landing() -> AsyncIterator[tuple[Landing, URL]]:
    it, app = Landing(), web.Application()
    app.router.add_route("*", "/{path:.*}", it.serve)
    async with TestServer(app) as server:
        yield it, server.make_url("/")


@pytest.fixture
def integration(kommo: SandboxKommo, landing: tuple[Landing, URL]) -> Integration:
    url = landing[1]
    kommo.integration = Integration(CLIENT, SECRET, str(url / "callback"), str(url / "disable"))
    return kommo.integration


@pytest.fixture
async def http(
    kommo: SandboxKommo, account: Account, integration: Integration
) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(kommo.url) as session:
        yield session


def body(kind: str, value: str, kommo: SandboxKommo) -> dict[str, str]:
    assert kommo.integration is not None
    return {
        "client_id": CLIENT,
        "client_secret": SECRET,
        "grant_type": kind,
        "code" if kind == "authorization_code" else "refresh_token": value,
        "redirect_uri": kommo.integration.redirect_uri,
    }


async def post(http: aiohttp.ClientSession, sent: Any, at: str = "") -> Answered:
    async with http.post(f"{at}{TOKENS}", json=sent) as answer:
        return answer.status, await answer.json(content_type=None)


async def exchange(http: aiohttp.ClientSession, kommo: SandboxKommo, account_id: int = 31337) -> Any:
    status, pair = await post(http, body("authorization_code", kommo.code(account_id), kommo))
    assert status == 200
    return pair


async def refresh(http: aiohttp.ClientSession, kommo: SandboxKommo, pair: Any, at: str = "") -> Answered:
    return await post(http, body("refresh_token", pair["refresh_token"], kommo), at)


async def opens(http: aiohttp.ClientSession, pair: Any, at: str = "") -> int:
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    async with http.get(f"{at}/api/v4/account", headers=headers) as answer:
        return answer.status


async def refresh_status(http: aiohttp.ClientSession, kommo: SandboxKommo, pair: Any) -> int:
    async with http.post(TOKENS, json=body("refresh_token", pair["refresh_token"], kommo)) as answer:
        await answer.read()
        return answer.status


async def status_until_lost(kommo: SandboxKommo, asked: Coroutine[Any, Any, int]) -> int | None:
    """The status of the answer; None when the line was cut, or held, so that the client leaves."""
    before, waiting = len(kommo.requests), asyncio.create_task(asked)
    async with asyncio.timeout(10):
        while not waiting.done() and not any(it.fault in HELD for it in kommo.requests[before:]):
            await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    if waiting.cancelled():
        return None
    failure = waiting.exception()
    assert failure is None or isinstance(failure, aiohttp.ClientError)
    return waiting.result() if failure is None else None


def other_host(kommo: SandboxKommo, host: str) -> str:
    return f"http://{host}:{URL(kommo.url).port}"


# --- codes and tokens


async def test_a_code_becomes_a_pair_that_opens_its_account(
    kommo: SandboxKommo, http: aiohttp.ClientSession, clock: ManualClock
) -> None:
    kommo.account(7)
    pair = await exchange(http, kommo, 7)
    here = kommo.url.removeprefix("http://")
    assert (pair["token_type"], pair["expires_in"], pair["server_time"]) == ("Bearer", DAY, int(clock.at))
    assert jwt.get_unverified_header(pair["access_token"])["alg"] == "HS256"
    claims = jwt.decode(pair["access_token"], options={"verify_signature": False})
    assert len(claims.pop("jti")) == 32
    assert claims == {
        "aud": CLIENT,
        "iat": int(clock.at),
        "nbf": int(clock.at),
        "exp": int(clock.at) + DAY,
        "sub": "111",
        "account_id": 7,
        "base_domain": here,
        "api_domain": here,
        "scopes": ["crm", "notifications"],
    }
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    async with http.get("/api/v4/account", headers=headers) as answer:
        assert (await answer.json(content_type=None))["id"] == 7
    assert (kommo.exchanges, kommo.refreshes) == ({7: 1}, {})
    assert await opens(http, {"access_token": kommo.account(31337).token}) == 200, "as before"
    assert await opens(http, {"access_token": pair["refresh_token"]}) == 401


async def test_a_code_is_good_once_and_for_20_minutes(
    kommo: SandboxKommo, http: aiohttp.ClientSession, clock: ManualClock
) -> None:
    used, late, old = (kommo.code(31337) for _ in range(3))
    assert (await post(http, body("authorization_code", used, kommo)))[0] == 200
    clock.at += 1199
    assert (await post(http, body("authorization_code", late, kommo)))[0] == 200
    clock.at += 1
    seen = [await post(http, body("authorization_code", code, kommo)) for code in (used, old, "made-up")]
    assert [(status, it["hint"]) for status, it in seen] == [
        (400, "Authorization code has been revoked"),
        (400, "Authorization code has expired"),
        (400, "Authorization code has been revoked"),
    ]
    assert kommo.exchanges == {31337: 2}


@pytest.mark.parametrize(
    ("change", "status", "hint"),
    [
        ({"client_secret": "wrong"}, 401, "Client authentication failed"),
        ({"client_id": "wrong"}, 401, "Client authentication failed"),
        ({"client_secret": 5}, 401, "Client authentication failed"),
        ({"redirect_uri": "http://127.0.0.1/other"}, 400, "redirect_uri does not match"),
        ({"grant_type": "password"}, 400, "Check that all required parameters have been provided"),
        ({"refresh_token": ""}, 400, "Check that all required parameters have been provided"),
        ({"refresh_token": "made-up"}, 401, "Token has been revoked"),
    ],
)
async def test_a_refused_request_uses_nothing_up(
    kommo: SandboxKommo, http: aiohttp.ClientSession, change: dict[str, Any], status: int, hint: str
) -> None:
    pair = await exchange(http, kommo)
    refused = await post(http, body("refresh_token", pair["refresh_token"], kommo) | change)
    assert refused[0] == refused[1]["status"] == status
    assert refused[1]["hint"] == hint
    assert {"title", "type", "detail"} <= refused[1].keys()
    assert (kommo.refreshes, kommo.refused_refreshes) == ({}, {})
    code = kommo.code(31337)
    wrong = body("authorization_code", code, kommo) | {"redirect_uri": "http://127.0.0.1/other"}
    assert (await post(http, wrong))[0] == 400
    assert (await post(http, body("authorization_code", code, kommo)))[0] == 200
    assert (await refresh(http, kommo, pair))[0] == 200


async def test_the_token_address_takes_json_by_post(http: aiohttp.ClientSession) -> None:
    async with http.get(TOKENS) as answer:
        assert answer.status == 405
    async with http.post("/oauth2/account/current/subdomain") as answer:
        assert answer.status == 405
    for wrong in (b"client_id=x", b"[]", b""):
        async with http.post(TOKENS, data=wrong) as answer:
            assert answer.status == 401


async def test_an_access_token_ends_with_its_exp(
    kommo: SandboxKommo, http: aiohttp.ClientSession, clock: ManualClock
) -> None:
    kommo.access_life_s = 10
    pair = await exchange(http, kommo)
    kommo.access_life_s = 100
    longer = await exchange(http, kommo)
    assert (pair["expires_in"], longer["expires_in"]) == (10, 100)
    clock.at += 9
    assert await opens(http, pair) == 200
    clock.at += 1
    assert (await opens(http, pair), await opens(http, longer)) == (401, 200)
    clock.at += 3600
    assert (await refresh(http, kommo, pair))[0] == 200, "the refresh token lives longer"


async def test_a_refresh_token_ends_after_its_life(
    kommo: SandboxKommo, http: aiohttp.ClientSession, clock: ManualClock
) -> None:
    pairs = [await exchange(http, kommo) for _ in range(2)]
    clock.at += 90 * DAY - 1
    assert (await refresh(http, kommo, pairs[0]))[0] == 200
    clock.at += 1
    status, refused = await refresh(http, kommo, pairs[1])
    assert (status, refused["hint"]) == (401, "Token has been revoked")
    assert kommo.refused_refreshes == {31337: 1}
    kommo.refresh_life_s = 5
    short = await exchange(http, kommo)
    clock.at += 5
    assert (await refresh(http, kommo, short))[0] == 401


async def test_a_refresh_token_is_good_once(kommo: SandboxKommo, http: aiohttp.ClientSession) -> None:
    pair = await exchange(http, kommo)
    status, fresh = await refresh(http, kommo, pair)
    assert status == 200
    assert not {fresh["access_token"], fresh["refresh_token"]} & set(pair.values())
    status, refused = await refresh(http, kommo, pair)
    assert (status, refused["hint"]) == (401, "Token has been revoked")
    assert [await opens(http, it) for it in (pair, fresh)] == [200, 200], "the old one until its exp"
    assert (kommo.refreshes, kommo.refused_refreshes) == ({31337: 1}, {31337: 1})


@pytest.mark.parametrize("how", ["access", "refresh"])
async def test_by_the_other_rule_it_is_good_until_the_new_pair_is_used(
    kommo: SandboxKommo, http: aiohttp.ClientSession, how: str
) -> None:
    kommo.rules.refresh_until_used = True
    pair = await exchange(http, kommo)
    lost, fresh = [(await refresh(http, kommo, pair))[1] for _ in range(2)]
    assert (kommo.refreshes, await opens(http, pair)) == ({31337: 2}, 200)
    if how == "access":
        kommo.faults.add(Fault("timeout_before", times=1))
        assert await status_until_lost(kommo, opens(http, fresh)) is None
        assert await opens(http, pair) == 200, "what never came was no use"
        assert await opens(http, fresh) == 200
    else:
        assert (await refresh(http, kommo, fresh))[0] == 200
    assert await opens(http, pair) == 401
    assert (await refresh(http, kommo, pair))[0] == 401
    assert kommo.refused_refreshes == {31337: 1}
    assert await opens(http, fresh) == 200
    assert await opens(http, lost) == 200


async def test_grants_stand_side_by_side_until_they_are_revoked(
    kommo: SandboxKommo, http: aiohttp.ClientSession
) -> None:
    kommo.account(7)
    others = await exchange(http, kommo, 7)
    pairs = [await exchange(http, kommo) for _ in range(2)]
    pairs.append((await refresh(http, kommo, pairs[0]))[1])
    assert [await opens(http, it) for it in pairs] == [200] * 3
    kommo.revoke(31337)
    assert [await opens(http, it) for it in pairs] == [401] * 3
    assert [(await refresh(http, kommo, it))[0] for it in pairs] == [401] * 3
    assert kommo.refused_refreshes == {31337: 3}
    assert await opens(http, others) == 200
    assert await opens(http, {"access_token": kommo.account(31337).token}) == 200
    assert await opens(http, await exchange(http, kommo)) == 200


async def test_expired_access_tokens_are_refreshed(kommo: SandboxKommo, http: aiohttp.ClientSession) -> None:
    kommo.account(7)
    pair, others = await exchange(http, kommo), await exchange(http, kommo, 7)
    kommo.expire(31337)
    assert (await opens(http, pair), await opens(http, others)) == (401, 200)
    status, fresh = await refresh(http, kommo, pair)
    assert (status, await opens(http, fresh)) == (200, 200)


async def test_without_an_integration_there_is_no_oauth(
    kommo: SandboxKommo, http: aiohttp.ClientSession
) -> None:
    kommo.integration = None
    for method, path in (
        ("GET", "/oauth"),
        ("POST", "/oauth"),
        ("POST", TOKENS),
        ("GET", "/oauth2/account/current/subdomain"),
    ):
        async with http.request(method, path) as answer:
            assert answer.status == 404
    assert kommo.requests == []
    with pytest.raises(ValueError, match="no integration"):
        await kommo.install(31337)
    with pytest.raises(LookupError, match="5"):
        kommo.code(5)


# --- faults


@pytest.mark.parametrize(
    ("fault", "status", "used"),
    [
        (Fault("status_before", path=ONLY_TOKENS, times=1), 500, False),
        (Fault("status_after", path=ONLY_TOKENS, times=1, status=504), 504, True),
        (Fault("rate", path=ONLY_TOKENS, times=1, seconds=3), 429, False),
        (Fault("html", path=ONLY_TOKENS, times=1), 200, True),
        (Fault("half_body", path=ONLY_TOKENS, times=1), None, True),
        (Fault("reset_before", path=ONLY_TOKENS, times=1), None, False),
        (Fault("reset_after", path=ONLY_TOKENS, times=1), None, True),
        (Fault("timeout_before", path=ONLY_TOKENS, times=1), None, False),
        (Fault("timeout_after", path=ONLY_TOKENS, times=1), None, True),
    ],
    ids=lambda it: it.kind if isinstance(it, Fault) else None,
)
@pytest.mark.parametrize("until_used", [False, True])
async def test_a_lost_answer_may_have_used_the_token_up(  # noqa: PLR0917 - the row of the table
    kommo: SandboxKommo,
    http: aiohttp.ClientSession,
    fault: Fault,
    status: int | None,
    used: bool,
    until_used: bool,
) -> None:
    kommo.rules.refresh_until_used = until_used
    pair = await exchange(http, kommo)
    kommo.faults.add(fault)
    assert await opens(http, pair) == 200, "other paths are spared"
    assert await status_until_lost(kommo, refresh_status(http, kommo, pair)) == status
    assert kommo.requests[-1].fault == fault.kind
    assert kommo.refreshes[31337] == used
    assert (await refresh(http, kommo, pair))[0] == (401 if used and not until_used else 200)


async def test_a_late_refresh_comes_although_the_client_has_gone(
    kommo: SandboxKommo, http: aiohttp.ClientSession
) -> None:
    pair = await exchange(http, kommo)
    kommo.faults.add(Fault("late_commit", path=ONLY_TOKENS, times=1, seconds=0.3))
    assert await status_until_lost(kommo, refresh_status(http, kommo, pair)) is None
    assert kommo.refreshes == {}
    await kommo.late_commits()
    assert kommo.refreshes == {31337: 1}
    assert (await refresh(http, kommo, pair))[0] == 401


async def test_a_fault_may_be_for_the_refreshes_of_one_account(
    kommo: SandboxKommo, http: aiohttp.ClientSession
) -> None:
    kommo.account(7)
    pair, others = await exchange(http, kommo), await exchange(http, kommo, 7)
    kommo.faults.add(Fault("status_before", path=ONLY_TOKENS, account_id=7))
    assert (await refresh(http, kommo, pair))[0] == 200
    assert (await refresh(http, kommo, others))[0] == 500
    code = kommo.code(7)
    assert (await post(http, body("authorization_code", code, kommo)))[0] == 500, "codes have owners as well"


async def test_requests_are_recorded_without_secrets_and_beside_the_rate(
    kommo: SandboxKommo, http: aiohttp.ClientSession, integration: Integration
) -> None:
    kommo.rate = 1
    code = kommo.code(31337)
    _, pair = await post(http, body("authorization_code", code, kommo))
    for _ in range(3):
        _, pair = await refresh(http, kommo, pair)
    await post(http, body("refresh_token", "made-up", kommo))
    assert [(it.method, it.path, it.account_id, it.status) for it in kommo.requests] == [
        *[("POST", TOKENS, 31337, 200)] * 4,
        ("POST", TOKENS, None, 401),
    ]
    assert [await opens(http, pair) for _ in range(2)] == [200, 429]
    async with http.get("/_sandbox/state?account_id=31337") as answer:
        state = await answer.text()
    said = state + repr([integration, kommo.requests, [asdict(it) for it in kommo.requests]])
    assert TOKENS in said
    assert not [it for it in (code, SECRET, pair["access_token"], pair["refresh_token"]) if it in said]


# --- the consent page


async def test_the_page_names_the_integration_and_the_accounts(
    kommo: SandboxKommo, http: aiohttp.ClientSession
) -> None:
    kommo.account(7).name = "Seven <i>& Co"
    async with http.get("/oauth", params={"client_id": CLIENT, "state": '"><s>', "mode": "popup"}) as answer:
        page = await answer.text()
    assert (answer.status, answer.content_type) == (200, "text/html")
    assert CLIENT in page
    assert "Sandbox 31337" in page
    assert "Seven &lt;i&gt;&amp; Co" in page
    assert (page.count('value="allow"'), page.count('value="deny"')) == (2, 2)
    assert 'value="&quot;&gt;&lt;s&gt;"' in page
    assert "<script" not in page


async def press(http: aiohttp.ClientSession, page: str, decision: str) -> URL:
    """Press a button of the page's first form, and return where it leads."""
    form = page[: page.index("</form>")]
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))
    action = re.findall(r'method="post" action="([^"]+)"', form)[0]
    sent = fields | {"decision": decision}
    async with http.post(action, data=sent, allow_redirects=False) as answer:
        assert answer.status == 302
        return URL(answer.headers["Location"])


@pytest.mark.parametrize("state", [None, "s t+/ä"])
async def test_who_allows_is_sent_back_with_a_code(
    kommo: SandboxKommo, http: aiohttp.ClientSession, integration: Integration, state: str | None
) -> None:
    asked = {"client_id": CLIENT} | ({} if state is None else {"state": state})
    kommo.integration = Integration(CLIENT, SECRET, integration.redirect_uri + "?own=1")
    async with http.get("/oauth", params=asked) as answer:
        page = await answer.text()
    allowed = await press(http, page, "allow")
    assert str(allowed.with_query(None)) == integration.redirect_uri
    query = dict(allowed.query)
    status, pair = await post(http, body("authorization_code", query.pop("code"), kommo))
    assert (status, await opens(http, pair)) == (200, 200)
    assert query == asked | {"own": "1", "referer": kommo.url.removeprefix("http://"), "platform": "2"}
    denied = await press(http, page, "deny")
    assert dict(denied.query) == asked | {"own": "1", "error": "access_denied"}


@pytest.mark.parametrize(
    "form",
    [
        {"client_id": CLIENT, "account_id": "5", "decision": "allow"},
        {"client_id": CLIENT, "account_id": "31337"},
        {"client_id": "stranger", "account_id": "31337", "decision": "allow"},
    ],
)
async def test_a_decision_that_makes_no_sense_is_refused(
    http: aiohttp.ClientSession, form: dict[str, str]
) -> None:
    async with http.post("/oauth", data=form, allow_redirects=False) as answer:
        assert (answer.status, answer.content_type) == (400, "text/html")


async def test_an_unknown_integration_has_no_page(http: aiohttp.ClientSession) -> None:
    for query in ("", "?client_id=stranger"):
        async with http.get(f"/oauth{query}") as answer:
            assert (answer.status, answer.content_type) == (400, "text/html")


# --- installing and uninstalling


async def test_an_installation_sends_a_code_without_a_state(
    kommo: SandboxKommo, http: aiohttp.ClientSession, landing: tuple[Landing, URL]
) -> None:
    landing[0].status = 302
    assert await kommo.install(31337) == 302
    [seen] = landing[0].seen
    assert (seen.method, seen.path) == ("GET", "/callback")
    assert seen.headers["User-Agent"] == "amoService-oAuth-Code-Sender/1.0"
    query = dict(seen.query)
    assert (await post(http, body("authorization_code", query.pop("code"), kommo)))[0] == 200
    assert query == {
        "referer": kommo.url.removeprefix("http://"),
        "client_id": CLIENT,
        "platform": "2",
        "from_widget": "1",
    }


async def test_an_uninstallation_ends_all_tokens_and_tells_so_signed(
    kommo: SandboxKommo, http: aiohttp.ClientSession, landing: tuple[Landing, URL]
) -> None:
    pair = await exchange(http, kommo)
    landing[0].status = 202
    assert await kommo.uninstall(31337) == 202
    assert (await opens(http, pair), (await refresh(http, kommo, pair))[0]) == (401, 401)
    [seen] = landing[0].seen
    assert (seen.method, seen.path) == ("GET", "/disable")
    assert seen.headers["User-Agent"] == "amoService-oAuth-Code-Sender/1.0"
    signed = hmac.new(SECRET.encode(), f"{CLIENT}|31337".encode(), hashlib.sha256).hexdigest()
    assert dict(seen.query) == {"client_uuid": CLIENT, "account_id": "31337", "signature": signed}
    assert kommo.disable_query(31337) == dict(seen.query)
    kommo.account(7)
    assert kommo.disable_query(7)["signature"] != signed


async def test_nobody_at_home_is_status_0(
    kommo: SandboxKommo, http: aiohttp.ClientSession, unused_tcp_port: int
) -> None:
    nowhere = f"http://127.0.0.1:{unused_tcp_port}/"
    pair = await exchange(http, kommo)
    kommo.integration = Integration(CLIENT, SECRET, nowhere)
    assert await kommo.install(31337) == 0
    with pytest.raises(ValueError, match="disable_url"):
        await kommo.uninstall(31337)
    assert await opens(http, pair) == 200
    kommo.integration = Integration(CLIENT, SECRET, nowhere, nowhere)
    assert await kommo.uninstall(31337) == 0
    assert await opens(http, pair) == 401


@pytest.mark.parametrize("wrong", ["", "calls.example.com/callback", "ftp://calls.example.com"])
def test_an_integration_has_web_addresses(wrong: str) -> None:
    with pytest.raises(ValueError, match="redirect_uri"):
        Integration(CLIENT, SECRET, wrong)
    with pytest.raises(ValueError, match="disable_url"):
        Integration(CLIENT, SECRET, "https://calls.example.com/callback", wrong)


# --- hosts


async def whereabouts(http: aiohttp.ClientSession, pair: Any, at: str = "") -> Answered:
    headers = {"X-Refresh-Token": pair["refresh_token"]}
    async with http.get(f"{at}/oauth2/account/current/subdomain", headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_a_renamed_account_is_found_at_its_new_host_only(
    kommo: SandboxKommo, http: aiohttp.ClientSession, landing: tuple[Landing, URL]
) -> None:
    await kommo.add_host("127.0.0.2")
    await kommo.add_host(MOVED)
    there, beside = other_host(kommo, MOVED), other_host(kommo, "127.0.0.2")
    kommo.account(7)
    pair, others = await exchange(http, kommo), await exchange(http, kommo, 7)
    assert [await opens(http, pair, at) for at in ("", beside, there)] == [200] * 3, "nobody said where"
    kommo.rename(31337, MOVED)
    assert [await opens(http, pair, at) for at in ("", beside, there)] == [401, 401, 200]
    token = {"access_token": kommo.account(31337).token}
    assert [await opens(http, token, at) for at in ("", there)] == [401, 200]
    assert [await opens(http, others, at) for at in ("", there)] == [200, 200]
    status, refused = await refresh(http, kommo, pair)
    assert (status, refused["status"], refused["detail"]) == (401, 101, "Account not found")
    code = kommo.code(31337)
    assert (await post(http, body("authorization_code", code, kommo)))[0] == 401
    assert (await post(http, body("authorization_code", code, kommo), there))[0] == 200
    assert kommo.counters["elsewhere"] == 5
    assert kommo.refused_refreshes == {}, "the token was good"
    status, fresh = await refresh(http, kommo, pair, there)
    assert status == 200
    claims = jwt.decode(fresh["access_token"], options={"verify_signature": False})
    assert claims["base_domain"] == there.removeprefix("http://")
    assert claims["api_domain"] == kommo.url.removeprefix("http://")
    await kommo.install(31337)
    assert landing[0].seen[-1].query["referer"] == there.removeprefix("http://")


async def test_every_host_knows_where_an_account_lives(
    kommo: SandboxKommo, http: aiohttp.ClientSession
) -> None:
    await kommo.add_host(MOVED)
    there = other_host(kommo, MOVED)
    pair = await exchange(http, kommo)
    assert (await whereabouts(http, pair))[1]["domain"] == kommo.url.removeprefix("http://")
    kommo.rename(31337, MOVED)
    for at in ("", there):
        assert await whereabouts(http, pair, at) == (
            200,
            {
                "id": 31337,
                "subdomain": "sandbox31337",
                "domain": there.removeprefix("http://"),
                "top_level_domain": "com",
            },
        )
    assert (await refresh(http, kommo, pair, there))[0] == 200, "it was not used up by that"
    status, refused = await whereabouts(http, pair)
    assert (status, refused["hint"]) == (401, "Token has been revoked")
    async with http.get("/oauth2/account/current/subdomain") as answer:
        assert answer.status == 401
    assert kommo.refused_refreshes == {}


async def test_hosts_are_of_this_machine_and_end_with_the_server(
    kommo: SandboxKommo, account: Account, http: aiohttp.ClientSession
) -> None:
    await kommo.add_host(MOVED)
    await kommo.add_host(MOVED)
    for wrong in ("192.0.2.1", "example.com"):
        with pytest.raises(ValueError, match=r"loopback|address"):
            await kommo.add_host(wrong)
    with pytest.raises(ValueError, match=r"127\.0\.0\.9"):
        kommo.rename(31337, "127.0.0.9")
    assert account.host is None
    there = other_host(kommo, MOVED)
    assert await opens(http, {"access_token": account.token}, there) == 200
    await kommo.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await opens(http, {"access_token": account.token}, there)
    for start in (False, True):
        if start:
            await kommo.start()
        with pytest.raises(ValueError, match=r"127\.0\.0\.3"):
            kommo.rename(31337, MOVED)


# --- the account and its users


async def test_the_account_tells_its_country(account: Account, api: aiohttp.ClientSession) -> None:
    async def shown() -> dict[str, Any]:
        async with api.get("account") as answer:
            got = await answer.json(content_type=None)
        return {name: got[name] for name in ("id", "name", "subdomain", "country", "current_user_id")}

    told = {"id": 31337, "name": "Sandbox 31337", "subdomain": "sandbox31337", "current_user_id": 111}
    assert await shown() == told | {"country": "US"}
    account.country = "BR"
    assert await shown() == told | {"country": "BR"}


async def test_users_have_rights_that_may_change(account: Account, api: aiohttp.ClientSession) -> None:
    async def rights(path: str) -> dict[str, Any]:
        async with api.get(path) as answer:
            got = await answer.json(content_type=None)
        users = got["_embedded"]["users"] if "_embedded" in got else [got]
        return {it["name"]: (it["id"], it["rights"]["is_admin"], it["rights"]["is_active"]) for it in users}

    account.add_user(500, "Dan", is_admin=True)
    account.add_user(501, "Eve", is_active=False)
    seen = await rights("users")
    assert (seen["Dan"], seen["Eve"]) == ((500, True, True), (501, False, False))
    account.change_user(500, is_admin=False, is_active=False)
    account.change_user(501, name="Eva", is_active=True)
    seen = await rights("users")
    assert (seen["Dan"], seen["Eva"]) == ((500, False, False), (501, False, True))
    assert await rights("users/501") == {"Eva": (501, False, True)}
    with pytest.raises(LookupError, match="9"):
        account.change_user(9, name="Nobody")


async def test_only_administrators_see_the_users(account: Account, api: aiohttp.ClientSession) -> None:
    account.token_is_admin = False
    for path, status in (("users", 403), ("users/111", 403), ("account", 200)):
        async with api.get(path) as answer:
            assert answer.status == status


# --- control


async def control(http: aiohttp.ClientSession, **wanted: Any) -> Answered:
    async with http.post("/_sandbox/oauth", json=wanted) as answer:
        return answer.status, await answer.json()


async def test_another_process_plays_the_same(
    kommo: SandboxKommo, http: aiohttp.ClientSession, landing: tuple[Landing, URL]
) -> None:
    here = kommo.url.removeprefix("http://")
    pair = await exchange(http, kommo)
    done = {"account_id": 31337, "domain": here, "status": None}
    assert await control(http, account_id=31337, do="expire") == (200, done)
    assert await opens(http, pair) == 401
    _, fresh = await refresh(http, kommo, pair)
    assert await control(http, account_id="31337", do="revoke") == (200, done)
    assert (await opens(http, fresh), (await refresh(http, kommo, fresh))[0]) == (401, 401)
    for deed, path in (("install", "/callback"), ("uninstall", "/disable")):
        assert await control(http, account_id=31337, do=deed) == (200, done | {"status": 200})
        assert landing[0].seen[-1].path == path
    there = other_host(kommo, MOVED).removeprefix("http://")
    assert await control(http, account_id=31337, do="rename", host=MOVED) == (200, done | {"domain": there})
    token = {"access_token": kommo.account(31337).token}
    assert [await opens(http, token, at) for at in ("", f"http://{there}")] == [401, 200]


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({"account_id": 5, "do": "expire"}, 404),
        ({"account_id": 31337}, 400),
        ({"account_id": 31337, "do": "explode"}, 400),
        ({"account_id": 31337, "do": "rename"}, 400),
        ({"account_id": 31337, "do": "rename", "host": "192.0.2.1"}, 400),
        ({"account_id": 31337, "do": "expire", "when": "now"}, 400),
    ],
)
async def test_nonsense_is_refused(http: aiohttp.ClientSession, wanted: dict[str, Any], status: int) -> None:
    seen, answer = await control(http, **wanted)
    assert (seen, bool(answer["error"])) == (status, True)
