"""Recordings that need more than their address: errands, credentials, and who gets to see them."""

import asyncio
import datetime
import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from calllogd.database.database import Database
from calllogd.database.recordings import LedgerOfRecordings
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import CallKey, Recording, RecordingState
from calllogd.recordings.fetch import ASKS, RecordingFetcher, RecordingNotReady, RecordingRefused
from calllogd.recordings.outside import ANSWER_BYTES, Outside
from calllogd.recordings.store import RecordingStore
from calllogd.voip.errand import Ask, Errand, ErrandFailed, KeepsRecordings, LocalFile, json_of
from calllogd.voip.usecase.fetch_recording import FetchRecordingUseCase
from tests.fakes import ACCOUNT, START, ManualClock, ended, told
from tests.recordings.services import KEY, LOOPBACK, Names, Serve, answering, left
from tests.recordings.sounds import GSM, wav

REFERENCE = f"ref-{secrets.token_hex(8)}"
ADDRESS = f"acme:{REFERENCE}"
CREDENTIALS = secrets.token_hex(16)
AUTHORIZED = {"Authorization": f"Bearer {CREDENTIALS}"}

Script = Callable[[str, float], Errand[Ask | LocalFile]]


@dataclass
class Keeper:
    """A VoIP service whose errand is a script."""

    find_recording: Script


class Tellers:
    """A VoIP service that keeps no recordings."""


def returning(found: Ask | LocalFile) -> Keeper:
    def errand(_reference: str, _now: float) -> Errand[Ask | LocalFile]:
        yield from ()
        return found

    return Keeper(errand)


def failing(error: Exception) -> Keeper:
    def errand(_reference: str, _now: float) -> Errand[Ask | LocalFile]:
        yield from ()
        raise error

    return Keeper(errand)


_KEEPER: KeepsRecordings = returning(Ask(url="https://voip.example/"))


@pytest.fixture
async def fetching(store: RecordingStore) -> AsyncIterator[Callable[..., RecordingFetcher]]:
    """Return what makes a fetcher with a service called acme."""
    outsides: list[Outside] = []

    def make(keeper: object, **given: object) -> RecordingFetcher:
        settings = {"allow_private": LOOPBACK, "clock": ManualClock(), "fetch_s": 5.0} | given
        fetcher = RecordingFetcher(store, providers={("acme", str(ACCOUNT)): keeper}, **settings)  # type: ignore[arg-type]
        outsides.append(fetcher._outside)
        return fetcher

    yield make
    for outside in outsides:
        await outside.close()


async def fetch(fetcher: RecordingFetcher, address: str = ADDRESS, key: CallKey = KEY) -> str:
    await fetcher.open()
    return await fetcher.fetch(key, address)


Fetching = Callable[..., RecordingFetcher]


async def test_an_errand_is_run_and_what_it_finds_is_kept(
    fetching: Fetching, store: RecordingStore, serve: Serve
) -> None:
    seen: list[tuple[str, str, str | None, str | None, bytes]] = []

    async def answer(request: web.Request) -> web.Response:
        headers = request.headers
        seen.append(
            (
                request.method,
                request.raw_path,
                headers.get("Authorization"),
                headers["Accept"],
                await request.read(),
            )
        )
        if request.path == "/token":
            return web.json_response({"token": CREDENTIALS}, headers={"X-Left": "3"})
        if request.path == "/link":
            return web.json_response({"link": f"http://127.0.0.1:{request.url.port}/file?sign=a%2Fb"})
        return web.Response(body=wav(500), content_type="audio/x-wav")

    base = (await serve(answer)).removesuffix("/recording")

    def errand(reference: str, now: float) -> Errand[Ask | LocalFile]:
        assert (reference, now) == (REFERENCE, START)
        got = yield Ask(url=f"{base}/token", method="POST", headers={"Accept": "a/b"}, body=b"a=b")
        assert got.headers["x-left"] == "3"
        token = json_of(got, dict[str, str])["token"]
        link = json_of((yield Ask(url=f"{base}/link", headers={"authorization": token, "accept": "x/y"})))[
            "link"
        ]
        assert (yield Ask(url=f"{base}/token")).status == 200
        return Ask(url=link, headers=AUTHORIZED)

    assert await fetch(fetching(Keeper(errand))) == "audio/wav"
    assert seen == [
        ("POST", "/token", None, "a/b", b"a=b"),
        ("GET", "/link", CREDENTIALS, "x/y", b""),
        ("GET", "/token", None, "application/json, */*;q=0.1", b""),
        ("GET", "/file?sign=a%2Fb", f"Bearer {CREDENTIALS}", "audio/*, */*;q=0.1", b""),
    ]
    found = await store.find(KEY)
    assert found is not None
    assert found.size == 500


async def test_the_final_request_is_sent_as_it_is(fetching: Fetching, serve: Serve) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert (request.method, await request.read()) == ("POST", b"\x00id=1")
        assert request.headers["content-type"] == "application/x-thing"
        return web.Response(body=wav(500))

    ask = Ask(
        url=await serve(answer),
        method="POST",
        headers={"Content-Type": "application/x-thing"},
        body=b"\x00id=1",
    )
    assert await fetch(fetching(returning(ask))) == "audio/wav"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("zadarma:1", KEY),
        ("acme:1", CallKey(ACCOUNT + 1, "c1")),
        ("teller:1", KEY),
        ("acme2:acme:1", KEY),
    ],
)
async def test_a_service_that_is_not_configured_may_be_so_later(
    store: RecordingStore, address: str, key: CallKey
) -> None:
    providers = {("acme", str(ACCOUNT)): failing(ZeroDivisionError()), ("teller", str(ACCOUNT)): Tellers()}
    fetcher = RecordingFetcher(store, (), providers=providers)
    name = address.partition(":")[0]
    with pytest.raises(RecordingNotReady, match=f"^{name} is not configured$"):
        await fetcher.fetch(key, address)
    with pytest.raises(RecordingNotReady, match="acme is not configured"):
        await RecordingFetcher(store, ()).fetch(KEY, ADDRESS)


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd", "acme://x", "ftp://voip.example/", "https:1", "http:1", "https:/x", "Acme:1",
        "acme:", ":1", "1acme:1", "acme.x:1", "acme", "", "ac me:1", "//voip.example/", "é:1",
    ],
)  # fmt: skip
async def test_what_is_neither_an_address_nor_a_reference_is_refused(
    fetching: Fetching, address: str
) -> None:
    with pytest.raises(RecordingRefused, match="no web address"):
        await fetch(fetching(failing(ZeroDivisionError())), address)


@pytest.mark.parametrize(
    "reference", ["a:b", "/var/spool/x.wav", "é\n🙂", " ", "https://voip.example/", "a" * 2000]
)
async def test_a_reference_is_given_as_it_was_told(fetching: Fetching, reference: str) -> None:
    def errand(given: str, _now: float) -> Errand[Ask | LocalFile]:
        yield from ()
        assert given == reference
        raise ErrandFailed("right")

    with pytest.raises(RecordingNotReady, match="right"):
        await fetch(fetching(Keeper(errand)), f"acme:{reference}")


async def test_an_address_is_one_in_any_case(fetching: Fetching, serve: Serve) -> None:
    url = (await serve(answering(200, wav(500)))).replace("http:", "HTTP:")
    assert await fetch(fetching(failing(ZeroDivisionError())), url) == "audio/wav"


@pytest.mark.parametrize(
    ("error", "becomes", "wait_s"),
    [
        (ErrandFailed("there is none", is_final=True), RecordingRefused, None),
        (ErrandFailed("not yet"), RecordingNotReady, None),
        (ErrandFailed("not yet", retry_after_s=40), RecordingNotReady, 40),
        (ErrandFailed("not yet", retry_after_s=float("inf")), RecordingNotReady, 3600),
    ],
)
async def test_an_errand_that_fails(
    fetching: Fetching, error: ErrandFailed, becomes: type[Exception], wait_s: float | None
) -> None:
    with pytest.raises(becomes, match=str(error)) as failed:
        await fetch(fetching(failing(error)))
    assert getattr(failed.value, "retry_after_s", None) == wait_s


@pytest.mark.parametrize("status", [200, 204, 301, 302, 307, 401, 404, 429, 500, 503])
async def test_an_errand_is_sent_every_answer_as_it_is(fetching: Fetching, serve: Serve, status: int) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere", "Retry-After": "7"})

    url = await serve(answer)

    def errand(_reference: str, _now: float) -> Errand[Ask | LocalFile]:
        got = yield Ask(url=url)
        assert got.status == status
        assert got.headers["location"] == "/elsewhere"
        json_of(got)
        raise ErrandFailed("an empty body is no JSON")

    final = status in (401,)
    with pytest.raises(RecordingRefused if final else RecordingNotReady) as failed:
        await fetch(fetching(Keeper(errand)))
    assert asked == ["/recording"]
    if not final:
        assert isinstance(failed.value, RecordingNotReady)
        assert failed.value.retry_after_s == (None if status == 200 else 7)


def asking(url: str, found: Ask | None = None, **more: object) -> Keeper:
    """Return a service that is asked for this first."""

    def errand(_reference: str, _now: float) -> Errand[Ask | LocalFile]:
        yield Ask(url=url, **more)  # type: ignore[arg-type]
        return found or Ask(url=url)

    return Keeper(errand)


async def test_an_answer_may_be_so_long_and_no_longer(fetching: Fetching, serve: Serve) -> None:
    good = await serve(answering(200, wav(500)))
    for size, becomes in ((ANSWER_BYTES, None), (ANSWER_BYTES + 1, RecordingNotReady)):
        fetcher = fetching(asking(await serve(answering(200, bytes(size))), Ask(url=good)))
        if becomes is None:
            await fetch(fetcher)
            continue
        with pytest.raises(becomes, match=r"127\.0\.0\.1 answered with more than 1048576 bytes"):
            await fetch(fetcher)


async def test_who_lists_calls_may_be_answered_at_length(serve: Serve) -> None:
    outside = Outside(LOOPBACK, answer_bytes=3_000_000)
    url = await serve(answering(200, bytes(3_000_000)))
    with pytest.raises(ErrandFailed, match="stopping"):
        await outside.ask(Ask(url=url))
    await outside.open()
    assert len((await outside.ask(Ask(url=url))).body) == 3_000_000
    with pytest.raises(ErrandFailed, match=r"127\.0\.0\.1 answered with more than 3000000 bytes"):
        await outside.ask(Ask(url=await serve(answering(200, bytes(3_000_001)))))
    await outside.close()


async def test_an_answer_without_end_is_not_read_to_it(fetching: Fetching, serve: Serve) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(100_000))
            sent += 1

    with pytest.raises(RecordingNotReady, match="more than"):
        await fetch(fetching(asking(await serve(endless))))
    assert sent < 200


async def test_a_service_that_stalls_is_not_waited_for(
    fetching: Fetching, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stalling(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    with pytest.raises(RecordingNotReady, match="too slow"):
        await fetch(fetching(asking(await serve(stalling)), fetch_s=0.1))
    monkeypatch.setattr("calllogd.recordings.outside.ANSWER_S", 0.1)
    for handler in (stalling, dripping):
        async with asyncio.timeout(3):
            with pytest.raises(RecordingNotReady, match="too slow"):
                await fetch(fetching(asking(await serve(handler))))


@pytest.mark.parametrize("is_final_ask", [False, True])
async def test_private_networks_are_the_operators_to_allow(
    fetching: Fetching, serve: Serve, is_final_ask: bool
) -> None:
    """They are not refused for ever: it was the operator who named the service's address."""
    connected: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        connected.append(request.path)
        return web.Response(body=wav(500))

    url = await serve(answer)
    keeper = returning(Ask(url=url)) if is_final_ask else asking(url)
    with pytest.raises(RecordingNotReady, match=r"^127\.0\.0\.1: the address is in a private network"):
        await fetch(fetching(keeper, allow_private=()))
    names = Names("10.0.0.1", "fd00::1", "169.254.169.254")
    keeper = returning(Ask(url="https://voip.example/")) if is_final_ask else asking("https://voip.example/")
    with pytest.raises(RecordingNotReady, match=r"^voip\.example: the address is in a private network"):
        await fetch(fetching(keeper, resolver=names))
    assert connected == []


@pytest.mark.parametrize("is_final_ask", [False, True])
@pytest.mark.parametrize(
    "url",
    ["http://voip.example/", "http://10.0.0.1/", "ftp://127.0.0.1/", "acme:1", "", "https://a b/", "/x"],
)
async def test_an_errand_leads_to_web_addresses_alone(
    fetching: Fetching, url: str, is_final_ask: bool
) -> None:
    with pytest.raises(RecordingRefused, match="the address is n"):
        await fetch(fetching(returning(Ask(url=url)) if is_final_ask else asking(url)))


async def test_a_redirect_leads_to_no_errand(fetching: Fetching, serve: Serve) -> None:
    with pytest.raises(RecordingRefused):
        await fetch(fetching(failing(ZeroDivisionError())), await serve(answering(302, Location="acme:1")))


@dataclass
class Hosts:
    """Two services, of which the first redirects to wherever it is told to; what they saw."""

    first: str = ""
    second: str = ""
    to: str = ""
    status: int = 302
    seen: list[tuple[str, str, bool, bytes]] = field(default_factory=list)

    async def redirect(self, request: web.Request) -> web.Response:
        await self.note("first", request)
        if request.path == "/there":
            return web.Response(body=wav(500))
        return web.Response(status=self.status, headers={"Location": self.to})

    async def answer(self, request: web.Request) -> web.Response:
        await self.note("second", request)
        if request.path == "/back":
            return web.Response(status=307, headers={"Location": f"{self.first}/there"})
        return web.Response(body=wav(500))

    async def note(self, name: str, request: web.Request) -> None:
        shown = [value for value in request.headers.values() if CREDENTIALS in value]
        self.seen.append((name, request.method, bool(shown), await request.read()))


@pytest.fixture
async def hosts(serve: Serve) -> Hosts:
    hosts = Hosts()
    hosts.first = (await serve(hosts.redirect)).removesuffix("/recording")
    hosts.second = (await serve(hosts.answer)).removesuffix("/recording")
    return hosts


SECRET_HEADERS = {
    "X-Api-Key": CREDENTIALS,
    "authorization": f"Basic {CREDENTIALS}",
    "Cookie": f"s={CREDENTIALS}",
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_credentials_stay_with_whom_they_are_for(
    fetching: Fetching, hosts: Hosts, status: int, method: str
) -> None:
    hosts.status = status
    body = CREDENTIALS.encode() if method == "POST" else None
    ask = Ask(url=f"{hosts.first}/x", method=method, headers=SECRET_HEADERS, body=body)
    for to in (f"{hosts.second}/x", hosts.first.replace("127.0.0.1", "localhost") + "/there"):
        hosts.to = to
        hosts.seen.clear()
        assert await fetch(fetching(returning(ask))) == "audio/wav"
        first, second = hosts.seen
        assert first == ("first", method, True, body or b"")
        assert second[1:] == ("GET", False, b"")


@pytest.mark.parametrize(
    ("status", "method", "again"),
    [
        (301, "GET", "GET"), (302, "GET", "GET"), (303, "GET", "GET"), (307, "GET", "GET"),
        (308, "GET", "GET"), (301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"),
        (307, "POST", "POST"), (308, "POST", "POST"),
    ],
)  # fmt: skip
async def test_and_with_him_they_stay_when_he_redirects_to_himself(
    fetching: Fetching, hosts: Hosts, status: int, method: str, again: str
) -> None:
    hosts.status = status
    body = b"body" if method == "POST" else None
    ask = Ask(url=f"{hosts.first}/x", method=method, headers=SECRET_HEADERS, body=body)
    for to in ("/there", f"{hosts.first}/there"):
        hosts.to = to
        hosts.seen.clear()
        assert await fetch(fetching(returning(ask))) == "audio/wav"
        assert hosts.seen == [
            ("first", method, True, body or b""),
            ("first", again, True, body if again == "POST" and body else b""),
        ]


async def test_once_dropped_they_do_not_come_back(fetching: Fetching, hosts: Hosts) -> None:
    hosts.to = f"{hosts.second}/back"
    assert (
        await fetch(fetching(returning(Ask(url=f"{hosts.first}/x", headers=SECRET_HEADERS)))) == "audio/wav"
    )
    assert [(name, shown) for name, _, shown, _ in hosts.seen] == [
        ("first", True), ("second", False), ("first", False),
    ]  # fmt: skip


async def test_wrong_credentials_can_be_mended(fetching: Fetching, serve: Serve, hosts: Hosts) -> None:
    refusing = await serve(answering(401))
    with pytest.raises(RecordingNotReady, match="401"):
        await fetch(fetching(returning(Ask(url=refusing, headers=AUTHORIZED))))
    for ask in (Ask(url=refusing), Ask(url=f"{hosts.first}/x", headers=AUTHORIZED)):
        hosts.to = refusing
        with pytest.raises(RecordingRefused, match="401"):
            await fetch(fetching(returning(ask)))
    with pytest.raises(RecordingRefused, match="403"):
        await fetch(fetching(returning(Ask(url=await serve(answering(403)), headers=AUTHORIZED))))


async def test_an_errand_without_end_is_ended(fetching: Fetching, serve: Serve) -> None:
    url, asked, closed = await serve(answering(200)), 0, False

    def errand(_reference: str, _now: float) -> Errand[Ask | LocalFile]:
        nonlocal asked, closed
        try:
            while True:
                asked += 1
                yield Ask(url=url)
        finally:
            closed = True

    with pytest.raises(RecordingRefused, match=f"more than {ASKS} requests"):
        await fetch(fetching(Keeper(errand)))
    assert asked == ASKS + 1
    assert closed


async def test_whoever_is_cancelled_leaves_no_errand_behind(fetching: Fetching, serve: Serve) -> None:
    waiting, closed = asyncio.Event(), False

    async def stalling(_request: web.Request) -> web.Response:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    url = await serve(stalling)

    def errand(_reference: str, _now: float) -> Errand[Ask | LocalFile]:
        nonlocal closed
        try:
            yield Ask(url=url)
        finally:
            closed = True
        return Ask(url=url)

    task = asyncio.create_task(fetch(fetching(Keeper(errand))))
    await waiting.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert closed


@pytest.mark.parametrize("after_an_answer", [False, True])
async def test_a_mistake_of_ours_is_told_without_what_it_was_about(
    fetching: Fetching, serve: Serve, caplog: pytest.LogCaptureFixture, after_an_answer: bool
) -> None:
    url = await serve(answering(200))

    def errand(reference: str, _now: float) -> Errand[Ask | LocalFile]:
        if after_an_answer:
            yield Ask(url=url)
        int(reference)
        return Ask(url=url)

    with pytest.raises(RecordingNotReady, match="by a mistake of ours") as failed:
        await fetch(fetching(Keeper(errand)))
    assert "recordings of acme are not found by a mistake of ours: ValueError in " in caplog.text
    assert caplog.records[-1].levelno == logging.CRITICAL
    assert "test_errands.py:" in caplog.text
    assert REFERENCE not in caplog.text + str(failed.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Key": f"{CREDENTIALS}\r\nHost: internal"},
        {"X-Key": f"{CREDENTIALS}\0"},
        {f"X {CREDENTIALS}\n": "1"},
    ],
)
async def test_no_header_breaks_out_of_its_line(
    fetching: Fetching, serve: Serve, headers: Mapping[str, str]
) -> None:
    asked = False

    async def answer(_request: web.Request) -> web.Response:
        nonlocal asked
        asked = True
        return web.Response(body=wav(500))

    for keeper in (
        asking(await serve(answer), headers=headers),
        returning(Ask(url=await serve(answer), headers=headers)),
    ):
        with pytest.raises(RecordingRefused, match=r"^127\.0\.0\.1 cannot be sent such a request$"):
            await fetch(fetching(keeper))
    assert not asked


async def test_two_sorts_of_credentials_are_one_too_many(fetching: Fetching, serve: Serve) -> None:
    url = (await serve(answering(200))).replace("//", "//user:password@")
    with pytest.raises(RecordingRefused, match=r"^127\.0\.0\.1 cannot be sent such a request$"):
        await fetch(fetching(returning(Ask(url=url, headers=AUTHORIZED))))


async def test_nothing_secret_is_told(
    fetching: Fetching,
    serve: Serve,
    store: RecordingStore,
    caplog: pytest.LogCaptureFixture,
    unused_tcp_port: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = f"/{CREDENTIALS}?sign={CREDENTIALS}"
    urls = [
        *[
            (await serve(answering(status, b"<html>", Location=secret)))
            for status in (200, 302, 307, 403, 404, 500)
        ],
        f"http://127.0.0.1:{unused_tcp_port}",
        "https://127.0.0.1:1",
        "http://voip.example",
        "https://10.0.0.1",
        f"ftp://{CREDENTIALS}",
    ]
    said = []
    for url in urls:
        ask = Ask(url=url.removesuffix("/recording") + secret, headers=AUTHORIZED)
        for keeper in (returning(ask), asking(ask.url, ask, headers=AUTHORIZED)):
            with pytest.raises((RecordingRefused, RecordingNotReady)) as failed:
                await fetch(fetching(keeper))
            said.append(str(failed.value))
    logged = "".join(one.getMessage() for one in caplog.records if not one.name.startswith("aiohttp.access"))
    shown = logged + "".join(said) + repr(Ask(url=secret, headers=AUTHORIZED, body=CREDENTIALS.encode()))
    assert CREDENTIALS not in shown
    assert REFERENCE not in shown
    assert left(store) == []


def self_signed(folder: Path) -> ssl.SSLContext:
    """Return what a server with a certificate of its own making needs."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "voip.example")])
    day = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(day).not_valid_after(day.replace(year=2099))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("voip.example")]), critical=False)
    certificate = made.sign(key, hashes.SHA256())
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_nobody_hears_credentials_who_cannot_show_who_he_is(fetching: Fetching, tmp_path: Path) -> None:
    heard = False

    async def answer(_request: web.Request) -> web.Response:
        nonlocal heard
        heard = True
        return web.Response(body=wav(500))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app, scheme="https", host="127.0.0.1")
    await server.start_server(ssl=self_signed(tmp_path))
    url = f"https://voip.example:{server.port}/"
    for keeper in (asking(url, headers=AUTHORIZED), returning(Ask(url=url, headers=AUTHORIZED))):
        with pytest.raises(RecordingNotReady, match=r"^voip\.example is not reached"):
            await fetch(fetching(keeper, resolver=Names("127.0.0.1")))
    await server.close()
    assert not heard


@pytest.mark.parametrize(
    ("declared", "path", "kind"),
    [
        ("audio/gsm", "/x", "audio/gsm"),
        ("audio/x-gsm", "/x", "audio/gsm"),
        ("application/octet-stream", "/1.GSM", "audio/gsm"),
        ("application/octet-stream", "/1.wav", None),
        ("audio/mpeg", "/1.gsm", None),
        ("text/html", "/1.gsm", None),
    ],
)
async def test_gsm_has_to_be_declared(
    fetching: Fetching, serve: Serve, declared: str, path: str, kind: str | None
) -> None:
    url = (await serve(answering(200, GSM, Content_Type=declared))).removesuffix("/recording") + path
    if kind is not None:
        assert await fetch(fetching(returning(Ask(url=url)))) == kind
        return
    with pytest.raises(RecordingRefused, match="no sound"):
        await fetch(fetching(returning(Ask(url=url))))


async def test_a_recording_that_is_a_file_here(
    fetching: Fetching, store: RecordingStore, tmp_path: Path
) -> None:
    folder = tmp_path / "monitor"
    folder.mkdir()
    keeper = returning(LocalFile(path=folder / "1.wav", folder=folder))
    with pytest.raises(RecordingNotReady, match="not there yet"):
        await fetch(fetching(keeper))
    (folder / "1.wav").write_bytes(wav(700))
    # By the fetcher's clock the file comes from the future, and so it is not being written now.
    assert await fetch(fetching(keeper)) == "audio/wav"
    found = await store.find(KEY)
    assert found is not None
    assert found.size == 700
    assert (folder / "1.wav").read_bytes() == wav(700), "the telephone system's own file stays"


async def test_from_the_announcement_of_a_reference_to_a_recording_that_plays(
    fetching: Fetching,
    store: RecordingStore,
    serve: Serve,
    database: Database,
    ledger: LedgerOfCalls,
) -> None:
    state, clock = {"status": 404}, ManualClock()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=state["status"], body=wav(500))

    fetcher = fetching(returning(Ask(url=await serve(answer))))
    await fetcher.open()
    use_case = FetchRecordingUseCase(
        orders=LedgerOfRecordings(database),
        calls=ledger,
        fetcher=fetcher,
        recordings=store,
        clock=clock,
        lease_s=360.0,
        jitter=lambda: 0.0,
    )
    await ledger.accept(told(ended(recording=Recording(state=RecordingState.EXPECTED, url=ADDRESS))), START)
    for state["status"] in (404, 200):
        order = await use_case.claim()
        assert order is not None
        await use_case.execute(order)
        clock.forward(10)
    call = await ledger.get(KEY)
    assert call is not None
    assert call.recording == Recording(state=RecordingState.READY, url=ADDRESS, media_type="audio/wav")
    assert REFERENCE not in "".join(str(line) for line in (await ledger.story(KEY))[1:])
