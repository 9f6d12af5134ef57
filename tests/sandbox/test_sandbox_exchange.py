"""The recording server: playable sounds, and what can happen to who fetches them."""

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from calllogd.sandbox import Mishap, SandboxExchange, SandboxKommo

WITHIN_S = 10.0


@pytest.fixture
async def exchange() -> AsyncIterator[SandboxExchange]:
    async with SandboxExchange() as server:
        yield server


@pytest.fixture
async def client(exchange: SandboxExchange) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WITHIN_S)) as session:
        yield session


async def fetch(client: aiohttp.ClientSession, url: str) -> tuple[int, str, bytes]:
    async with client.get(url) as answer:
        return answer.status, answer.content_type, await answer.read()


async def test_a_wav_can_be_played(exchange: SandboxExchange, client: aiohttp.ClientSession) -> None:
    status, kind, body = await fetch(client, exchange.recording_url("c1.wav"))
    assert (status, kind, body) == (200, "audio/wav", exchange.bytes_of("c1.wav"))
    with wave.open(io.BytesIO(body)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (1, 8000, 8000)
    assert exchange.bytes_of("c2.wav") != body


async def test_an_mp3_is_a_tag_and_whole_frames(
    exchange: SandboxExchange, client: aiohttp.ClientSession
) -> None:
    status, kind, body = await fetch(client, exchange.recording_url("c1.mp3"))
    assert (status, kind, body) == (200, "audio/mpeg", exchange.bytes_of("c1.mp3"))
    tag_bytes = 10 + sum(byte << shift for byte, shift in zip(body[6:10], (21, 14, 7, 0), strict=True))
    frames = body[tag_bytes:]
    assert body.startswith(b"ID3\x03")
    assert len(frames) == 39 * 208, "39 frames of 1152 samples are the first to make a second"
    assert {frames[at : at + 4] for at in range(0, len(frames), 208)} == {b"\xff\xfb\x50\xc0"}
    assert exchange.bytes_of("c2.mp3") != body


async def test_head_tells_the_length(exchange: SandboxExchange, client: aiohttp.ClientSession) -> None:
    exchange.add(Mishap("half", times=1))
    async with client.head(exchange.recording_url("c1.mp3")) as answer:
        assert answer.content_length == len(exchange.bytes_of("c1.mp3"))
    assert [(it.method, it.name, it.status) for it in exchange.requests] == [("HEAD", "c1.mp3", 200)]
    with pytest.raises(aiohttp.ClientPayloadError):
        await fetch(client, exchange.recording_url("c1.mp3"))


@pytest.mark.parametrize("name", ["c1.ogg", "c1", ".mp3"])
async def test_other_names_are_404(
    exchange: SandboxExchange, client: aiohttp.ClientSession, name: str
) -> None:
    assert (await fetch(client, exchange.recording_url(name)))[0] == 404
    with pytest.raises(KeyError):
        exchange.bytes_of(name)


async def test_a_recording_comes_late(exchange: SandboxExchange, client: aiohttp.ClientSession) -> None:
    exchange.add(Mishap("missing", name="c1.mp3", times=2))
    seen = [(await fetch(client, exchange.recording_url("c1.mp3")))[0] for _ in range(4)]
    assert seen == [404, 404, 200, 200]
    assert (await fetch(client, exchange.recording_url("c2.mp3")))[0] == 200
    assert [(it.status, it.mishap) for it in exchange.requests] == [
        (404, "missing"),
        (404, "missing"),
        (200, None),
        (200, None),
        (200, None),
    ]


async def test_mishaps_come_one_after_another(
    exchange: SandboxExchange, client: aiohttp.ClientSession
) -> None:
    exchange.add(Mishap("error", times=1))
    exchange.add(Mishap("html", times=1))
    seen = [(await fetch(client, exchange.recording_url("c1.wav")))[:2] for _ in range(3)]
    assert seen == [(500, "text/plain"), (200, "text/html"), (200, "audio/wav")]


async def test_half_a_body_is_an_error_at_the_client(
    exchange: SandboxExchange, client: aiohttp.ClientSession
) -> None:
    exchange.add(Mishap("half"))
    with pytest.raises(aiohttp.ClientPayloadError):
        await fetch(client, exchange.recording_url("c1.wav"))
    exchange.clear()
    assert (await fetch(client, exchange.recording_url("c1.wav")))[0] == 200


@pytest.mark.parametrize("kind", ["slow", "stall"])
async def test_a_slow_one_is_whole_in_the_end(
    exchange: SandboxExchange, client: aiohttp.ClientSession, kind: str
) -> None:
    exchange.add(Mishap(kind, seconds=0.05))
    started = asyncio.get_running_loop().time()
    _, _, body = await fetch(client, exchange.recording_url("c1.wav"))
    assert body == exchange.bytes_of("c1.wav")
    assert asyncio.get_running_loop().time() - started >= 0.05


@pytest.mark.parametrize("untold", [False, True])
async def test_a_large_one_has_all_its_bytes(
    exchange: SandboxExchange, client: aiohttp.ClientSession, untold: bool
) -> None:
    exchange.add(Mishap("large", size=1_000_001, untold=untold))
    async with client.get(exchange.recording_url("c1.mp3")) as answer:
        assert answer.content_length == (None if untold else 1_000_001)
        assert len(await answer.read()) == 1_000_001


async def test_who_has_had_enough_may_leave(exchange: SandboxExchange, client: aiohttp.ClientSession) -> None:
    exchange.add(Mishap("large", size=10**10, times=1))
    async with client.get(exchange.recording_url("c1.mp3")) as answer:
        assert len(await answer.content.readexactly(100_000)) == 100_000
        answer.close()
    assert (await fetch(client, exchange.recording_url("c1.mp3")))[0] == 200


async def test_stopping_waits_for_no_slow_recording(exchange: SandboxExchange) -> None:
    exchange.add(Mishap("stall", seconds=3600))
    async with aiohttp.ClientSession() as session, session.get(exchange.recording_url("c1.mp3")) as answer:
        assert answer.status == 200
        async with asyncio.timeout(WITHIN_S):
            await exchange.stop()
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    with pytest.raises(RuntimeError):
        assert exchange.url


async def test_the_stand_in_of_kommo_has_recordings_too(kommo: SandboxKommo) -> None:
    url = kommo.recording_url("c1.mp3")
    assert url == f"{kommo.url}/_exchange/recordings/c1.mp3"
    async with aiohttp.ClientSession(f"{kommo.url}/_exchange/") as session:
        async with session.post("mishaps", json={"kind": "missing", "times": 1}) as answer:
            assert (answer.status, (await answer.json())["kind"]) == (201, "missing")
        assert [(await fetch(session, url))[0] for _ in range(2)] == [404, 200]
        async with session.post("mishaps", json={"kind": "error", "name": "c1.mp3"}) as answer:
            assert answer.status == 201
        assert (await fetch(session, url))[0] == 500
        async with session.delete("mishaps") as answer:
            assert answer.status == 204
        assert (await fetch(session, url))[0] == 200
        async with session.get("requests") as answer:
            shown = (await answer.json())["requests"]
    assert [it["status"] for it in shown] == [404, 200, 500, 200]
    assert len(kommo.recordings.requests) == 4
    assert kommo.counters["requests"] == 0, "recordings are none of Kommo's requests"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"kind": "gremlin"},
        {"kind": "slow"},
        {"kind": "large"},
        {"kind": "missing", "times": 0},
        {"kind": "slow", "seconds": -1},
        {"kind": "missing", "times": True},
        {"kind": "missing", "mood": "bad"},
        [],
    ],
)
async def test_nonsense_is_refused(kommo: SandboxKommo, wrong: Any) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{kommo.url}/_exchange/mishaps", json=wrong) as answer,
    ):
        assert answer.status == 400
        assert (await answer.json())["error"]
