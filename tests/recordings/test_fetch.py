"""Fetching recordings: what is taken, refused for ever or tried again, and where none is fetched from."""

import asyncio
import gzip
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from calllogd.recordings.addresses import Network, is_open
from calllogd.recordings.fetch import RecordingFetcher, RecordingNotReady, RecordingRefused
from calllogd.recordings.store import RecordingStore
from calllogd.voip.usecase.fetch_recording import Fetcher
from tests.recordings.services import KEY, LOOPBACK, MOST, Names, Serve, answering, left, raw
from tests.recordings.sounds import NO_SOUNDS, wav


@pytest.fixture
async def fetcher(store: RecordingStore) -> AsyncIterator[RecordingFetcher]:
    fetcher = RecordingFetcher(store, LOOPBACK, fetch_s=5)
    await fetcher.open()
    yield fetcher
    await fetcher.close()


@pytest.fixture
async def guarded(store: RecordingStore) -> AsyncIterator[RecordingFetcher]:
    """A fetcher that may connect to the internet alone, which tests cannot."""
    fetcher = RecordingFetcher(store, (), resolver=Names("10.0.0.1", "fd00::1"), fetch_s=5)
    await fetcher.open()
    yield fetcher
    await fetcher.close()


def test_the_fetcher_is_what_the_use_case_takes_for_it(tmp_path: Path) -> None:
    _: Fetcher = RecordingFetcher(RecordingStore(tmp_path, 1, 0), ())


async def test_a_recording_is_fetched(fetcher: RecordingFetcher, store: RecordingStore, serve: Serve) -> None:
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(body=wav(MOST), content_type="application/octet-stream")

    url = f"{await serve(answer)}%2Fc1.wav?sign=a%2Fb+c&x=%7E"
    assert await fetcher.fetch(KEY, url) == "audio/wav"
    found = await store.find(KEY)
    assert found is not None
    assert found.size == MOST
    (request,) = seen
    assert request.raw_path == "/recording%2Fc1.wav?sign=a%2Fb+c&x=%7E", "a signed address must stay as it is"
    assert request.headers["Accept-Encoding"] == "identity"
    assert await fetcher.fetch(KEY, url) == "audio/wav", "twice is once"


@pytest.mark.parametrize("status", [400, 401, 403, 405, 410, 418, 451, 304, 300])
async def test_a_refusal_is_for_ever(
    fetcher: RecordingFetcher, store: RecordingStore, serve: Serve, status: int
) -> None:
    with pytest.raises(RecordingRefused, match=str(status)):
        await fetcher.fetch(KEY, await serve(answering(status)))
    assert left(store) == []


@pytest.mark.parametrize("status", [404, 408, 425, 429, 500, 502, 503, 504, 202, 204])
async def test_what_may_come_yet_is_tried_again(
    fetcher: RecordingFetcher, store: RecordingStore, serve: Serve, status: int
) -> None:
    with pytest.raises(RecordingNotReady, match=str(status)) as later:
        await fetcher.fetch(KEY, await serve(answering(status)))
    assert later.value.retry_after_s is None
    assert left(store) == []


@pytest.mark.parametrize(
    ("asked", "wait_s"),
    [
        ("7", 7),
        ("0", 0),
        ("99999999", 3600),
        ("9" * 500, 3600),
        ("Thu, 01 Jan 2026 00:01:30 GMT", 90),
        ("Thu, 01 Jan 2020 00:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
async def test_a_service_says_when_to_come_again(
    fetcher: RecordingFetcher, serve: Serve, asked: str, wait_s: float | None
) -> None:
    url = await serve(answering(503, Retry_After=asked, Date="Thu, 01 Jan 2026 00:00:00 GMT"))
    with pytest.raises(RecordingNotReady) as later:
        await fetcher.fetch(KEY, url)
    assert later.value.retry_after_s == wait_s


@pytest.mark.parametrize("body", NO_SOUNDS.values(), ids=NO_SOUNDS.keys())
async def test_what_is_no_sound_is_refused(
    fetcher: RecordingFetcher, store: RecordingStore, serve: Serve, body: bytes
) -> None:
    with pytest.raises(RecordingRefused, match="no sound"):
        await fetcher.fetch(KEY, await serve(answering(200, body, Content_Type="audio/mpeg")))
    assert left(store) == []


async def test_a_small_file_that_unpacks_into_a_large_one_is_no_sound(
    fetcher: RecordingFetcher, store: RecordingStore, serve: Serve
) -> None:
    packed = gzip.compress(wav(50_000_000))
    with pytest.raises(RecordingRefused):
        await fetcher.fetch(KEY, await serve(answering(200, packed, Content_Encoding="gzip")))
    assert left(store) == []


async def test_too_large_is_refused_before_it_comes(
    fetcher: RecordingFetcher, store: RecordingStore, serve: Serve
) -> None:
    with pytest.raises(RecordingRefused, match="not 100001"):
        await fetcher.fetch(KEY, await serve(answering(200, wav(MOST + 1))))
    assert left(store) == []


async def test_a_body_without_end_is_refused(
    fetcher: RecordingFetcher, store: RecordingStore, serve: Serve
) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(wav(1000))
        while True:
            await response.write(bytes(10_000))

    with pytest.raises(RecordingRefused, match=str(MOST)):
        await fetcher.fetch(KEY, await serve(endless))
    assert left(store) == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + wav(100),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + wav(100) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + wav(100) + b"\r\nnonsense",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"",
    ],
    ids=[
        "half a body",
        "without the last chunk",
        "a broken chunk",
        "half a head",
        "another protocol",
        "none",
    ],
)
async def test_half_an_answer_is_none(
    fetcher: RecordingFetcher, store: RecordingStore, answer: bytes
) -> None:
    server, url = await raw(answer)
    async with server:
        with pytest.raises(RecordingNotReady):
            await fetcher.fetch(KEY, url)
    assert left(store) == []


async def test_a_service_that_stalls_is_not_waited_for_for_ever(store: RecordingStore, serve: Serve) -> None:
    async def stalling(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(wav(1000))
        await asyncio.Event().wait()
        return response

    fetcher = RecordingFetcher(store, LOOPBACK, fetch_s=0.1)
    await fetcher.open()
    try:
        with pytest.raises(RecordingNotReady, match="slow"):
            await fetcher.fetch(KEY, await serve(stalling))
    finally:
        await fetcher.close()
    assert left(store) == []


async def test_nobody_is_there(fetcher: RecordingFetcher, unused_tcp_port: int) -> None:
    with pytest.raises(RecordingNotReady, match=r"127\.0\.0\.1 is not reached"):
        await fetcher.fetch(KEY, f"http://127.0.0.1:{unused_tcp_port}/?token=secret")


async def test_a_full_disk_is_no_refusal(tmp_path: Path, serve: Serve) -> None:
    store = RecordingStore(tmp_path, MOST, 2**60)
    await store.open()
    fetcher = RecordingFetcher(store, LOOPBACK)
    await fetcher.open()
    try:
        with pytest.raises(RecordingNotReady, match="free"):
            await fetcher.fetch(KEY, await serve(answering(200, wav(100))))
    finally:
        await fetcher.close()
    assert left(store) == []


async def test_after_closing_nothing_is_fetched(store: RecordingStore) -> None:
    fetcher = RecordingFetcher(store, LOOPBACK)
    with pytest.raises(RecordingNotReady):
        await fetcher.fetch(KEY, "https://voip.example/")
    await fetcher.open()
    await fetcher.close()
    await fetcher.close()
    with pytest.raises(RecordingNotReady):
        await fetcher.fetch(KEY, "https://voip.example/")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(fetcher: RecordingFetcher, serve: Serve, status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        number = int(request.query.get("n", "0"))
        if number == 5:
            return web.Response(body=wav(100))
        return web.Response(status=status, headers={"Location": f"../recording?n={number + 1}"})

    assert await fetcher.fetch(KEY, await serve(answer)) == "audio/wav"


async def test_but_not_for_ever(fetcher: RecordingFetcher, serve: Serve) -> None:
    with pytest.raises(RecordingRefused, match="redirects"):
        await fetcher.fetch(KEY, await serve(answering(302, Location="/again")))


@pytest.mark.parametrize(
    "location",
    [
        "http://10.0.0.1/",
        "https://10.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data/",
        "http://voip.example/",
        "//10.0.0.1/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "gopher://127.0.0.1:25/",
        "https://",
        "https://[/",
        "https://a b/",
        "",
    ],
)
async def test_a_redirect_leads_nowhere_that_an_address_may_not(
    fetcher: RecordingFetcher, store: RecordingStore, serve: Serve, location: str
) -> None:
    with pytest.raises(RecordingRefused):
        await fetcher.fetch(KEY, await serve(answering(302, Location=location)))
    assert left(store) == []


PRIVATE = [
    "0.0.0.0",  # noqa: S104  an address, not one to listen on
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:a00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%2",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["8.8.8.8", "100.63.255.255", "172.32.0.1", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_private_address_is_not_connected_to(guarded: RecordingFetcher, address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(RecordingRefused):
        await guarded.fetch(KEY, f"https://{host}/recording")
    assert not is_open(address, ())


@pytest.mark.parametrize("address", PRIVATE)
async def test_nor_is_it_under_a_name(store: RecordingStore, address: str) -> None:
    names = Names(address)
    fetcher = RecordingFetcher(store, (), resolver=names)
    await fetcher.open()
    try:
        with pytest.raises(RecordingRefused, match=r"voip\.example: the address is in a private network"):
            await fetcher.fetch(KEY, "https://voip.example/recording?token=secret")
    finally:
        await fetcher.close()
    assert names.asked == ["voip.example"]


@pytest.mark.parametrize("address", PUBLIC)
def test_the_internet_is_open(address: str) -> None:
    assert is_open(address, ())


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.0.0.0/8"),
        ("fd00::5", "fd00::/8"),
        ("127.0.0.1", "127.0.0.0/8"),
        ("::1", "::1/128"),
    ],
)
def test_a_private_network_can_be_allowed(address: str, network: str) -> None:
    allowed: tuple[Network, ...] = (ipaddress.ip_network(network),)
    assert is_open(address, allowed)
    assert not is_open("192.168.0.1", allowed)
    assert not is_open("fe80::1", allowed)


@pytest.mark.parametrize(
    "url",
    [
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://017700000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127.0.0.1./",
        "https://localhost/",
        "https://localhost./",
        "https://LOCALHOST/",
        "https://example.com@10.0.0.1/",
        "https://10.0.0.1#@example.com/",
        "https://10.0.0.1:443\\@example.com/",
        "https://①②⑦.0.0.1/",
        "http://127.0.0.1/",
        "http://127.0.0.1:80@10.0.0.1/",
        "http://[::1]/",
        "http://localhost/",
        "http://example.com/",
        "http://localhost.example.com/",
        "http://10.0.0.1/",
        "file:///etc/passwd",
        "https:///etc/passwd",
        "https:10.0.0.1",
        "//10.0.0.1/",
        "https://exa mple.com/",
        "https://example.com/\r\nHost: internal",
        "https://example.com:99999/",
        "",
    ],
)
async def test_no_spelling_gets_round_that(
    guarded: RecordingFetcher, store: RecordingStore, url: str
) -> None:
    with pytest.raises(RecordingRefused) as refused:
        await guarded.fetch(KEY, url)
    assert len(str(refused.value)) < 150
    assert left(store) == []


async def test_loopback_has_to_be_allowed_like_any_other_network(
    guarded: RecordingFetcher, fetcher: RecordingFetcher, serve: Serve
) -> None:
    url = await serve(answering(200, wav(100)))
    with pytest.raises(RecordingRefused, match="private"):
        await guarded.fetch(KEY, url)
    assert await fetcher.fetch(KEY, url) == "audio/wav"
    assert await fetcher.fetch(KEY, url.replace("127.0.0.1", "localhost")) == "audio/wav"


async def test_a_name_that_changes_its_address_is_asked_for_once(store: RecordingStore, serve: Serve) -> None:
    """What is judged is what is connected to: there is no second look-up that could bring another address."""
    names = Names("127.0.0.1")
    fetcher = RecordingFetcher(store, LOOPBACK, resolver=names)
    await fetcher.open()
    url = (await serve(answering(200, wav(100)))).replace("http://127.0.0.1", "https://voip.example")
    try:
        with pytest.raises(RecordingNotReady):  # our server has no TLS, but it was connected to
            await fetcher.fetch(KEY, url)
    finally:
        await fetcher.close()
    assert names.asked == ["voip.example"]
