"""Recordings over HTTP: uploading them, playing them, and what is refused."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientResponse, web
from aiohttp.test_utils import TestClient
from yarl import URL

from calllogd.database.database import Database
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import CallKey, Recording, RecordingState
from calllogd.domain.merge import CallEvent
from calllogd.recordings.links import Links
from calllogd.recordings.store import RecordingStore, name_of
from calllogd.voip.proof import Tokens
from calllogd.voip.provider.generic import Generic
from calllogd.voip.usecase.save_call_event import SaveCallEventUseCase
from calllogd.voip.usecase.save_recording import SaveRecordingUseCase
from calllogd.web.app import make_app
from calllogd.web.desk import Desk
from calllogd.web.problems import PROBLEMS
from calllogd.web.services import RecordingServices, Services
from tests.fakes import ACCOUNT, START, FakeUnread, ManualClock, ended, told
from tests.recordings.sounds import NO_SOUNDS, chunks, torn, wav

TOKEN = "a-token-of-16-characters"
SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
KEY = CallKey(ACCOUNT, "c1")
PATH = f"/voip/generic/{ACCOUNT}/recordings"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
SENT = {**AUTHORIZED, "Content-Type": "audio/mpeg"}
MOST = 400_000
LINKS = Links(b"k" * 32, "https://calls.example.com")
SOUND = wav(100_000)
Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def store(tmp_path: Path) -> RecordingStore:
    store = RecordingStore(tmp_path / "recordings", MOST, 0)
    await store.open()
    return store


@pytest.fixture
def services(
    database: Database, ledger: LedgerOfCalls, clock: ManualClock, store: RecordingStore
) -> Services:
    return Services(
        providers={
            ("generic", str(ACCOUNT)): Generic(
                ACCOUNT, tokens=Tokens({"token": TOKEN}), signing_secrets=[SECRET]
            ),
            ("generic", "2"): Generic(2, tokens=Tokens({}), signing_secrets=[SECRET]),
        },
        save_call_event=SaveCallEventUseCase(calls=ledger, unread=FakeUnread(), clock=clock),
        ready=database.ping,
        recordings=RecordingServices(
            store=store,
            links=LINKS,
            calls=ledger,
            save=SaveRecordingUseCase(calls=ledger, recordings=store, clock=clock),
        ),
    )


@pytest.fixture
def desk(services: Services) -> Desk:
    return Desk(services)


@pytest.fixture
async def client(desk: Desk, aiohttp_client: Callable[[web.Application], Awaitable[Client]]) -> Client:
    return await aiohttp_client(make_app(desk))


def left(store: RecordingStore) -> list[Path]:
    return [path for path in store.folder.rglob("*") if path.is_file()]


async def problem_of(answer: ClientResponse) -> str:
    document: dict[str, Any] = json.loads(await answer.read())
    assert answer.content_type == "application/problem+json"
    assert document["status"] == answer.status == PROBLEMS[document["code"]].status
    return str(document["code"])


async def upload(client: Client, body: Any = SOUND, call_id: str = "c1", **headers: str) -> ClientResponse:
    return await client.put(f"{PATH}/{call_id}", data=body, headers={**SENT, **headers})


def link(key: CallKey = KEY) -> str:
    return URL(LINKS.link(key)).path


async def keep(store: RecordingStore, ledger: LedgerOfCalls, body: bytes = SOUND) -> None:
    await store.receive(KEY, chunks(body), media_type=None)
    ready = Recording(state=RecordingState.READY, media_type="audio/wav")
    await ledger.accept(told(ended(recording=ready)), START)


async def play(client: Client, method: str = "GET", **headers: str) -> ClientResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.request(method, link(), headers=named)


# uploading


async def test_an_upload_is_kept_and_the_ledger_knows(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls
) -> None:
    answer = await upload(client)
    assert answer.status == 201
    assert await answer.json() == {"call_id": "c1", "state": "pending", "recording": "ready"}
    call = await ledger.get(KEY)
    assert call is not None
    assert call.recording == Recording(state=RecordingState.READY, media_type="audio/wav")
    (line,) = await ledger.story(KEY)
    assert (line.who, line.what) == ("voip:generic", "recording uploaded")
    played = await play(client)
    assert await played.read() == SOUND


async def test_a_second_upload_replaces_the_first(client: Client, store: RecordingStore) -> None:
    await upload(client)
    answer = await upload(client, wav(200))
    assert answer.status == 200
    assert (await answer.json())["recording"] == "ready"
    assert await (await play(client)).read() == wav(200)
    assert len(left(store)) == 1


async def test_an_upload_without_a_length_is_taken(client: Client) -> None:
    assert (await upload(client, chunks(SOUND[:10], SOUND[10:]))).status == 201
    assert await (await play(client)).read() == SOUND


async def test_many_upload_the_same_at_once(client: Client, store: RecordingStore) -> None:
    answers = await asyncio.gather(*(upload(client) for _ in range(10)))
    assert {answer.status for answer in answers} <= {200, 201}
    assert len(left(store)) == 1


@pytest.mark.parametrize(
    ("account", "headers"),
    [
        (str(ACCOUNT), {}),
        (str(ACCOUNT), {"Authorization": "Bearer wrong"}),
        (str(ACCOUNT), {"Authorization": f"Basic {TOKEN}"}),
        ("2", AUTHORIZED),
        ("3", AUTHORIZED),
        (f"0{ACCOUNT}", AUTHORIZED),
        ("abc", AUTHORIZED),
    ],
)
async def test_who_shows_no_token_is_refused_before_the_body_comes(
    client: Client, store: RecordingStore, account: str, headers: dict[str, str]
) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield SOUND[:100]
        await asyncio.Event().wait()

    path = f"/voip/generic/{account}/recordings/c1"
    answer = await client.put(path, data=never(), headers={"Content-Type": "audio/wav", **headers})
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="calllogd"'
    assert "bearer token" in (await answer.json(content_type=None))["detail"]
    assert await problem_of(answer) == "unauthorized"
    assert left(store) == []


async def test_a_signature_of_nothing_does_not_let_a_recording_in(
    client: Client, store: RecordingStore, clock: ManualClock
) -> None:
    signed = f"m1.{clock.now():.0f}.".encode()
    signature = base64.b64encode(hmac.digest(b"k" * 24, signed, hashlib.sha256)).decode()
    shown = {
        "Content-Type": "audio/wav",
        "webhook-id": "m1",
        "webhook-timestamp": f"{clock.now():.0f}",
        "webhook-signature": f"v1,{signature}",
    }
    for account in (ACCOUNT, 2):
        answer = await client.put(f"/voip/generic/{account}/recordings/c1", data=SOUND, headers=shown)
        assert await problem_of(answer) == "unauthorized"
    assert left(store) == []


@pytest.mark.parametrize("body", NO_SOUNDS.values(), ids=NO_SOUNDS.keys())
async def test_what_is_no_sound_is_refused(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls, body: bytes
) -> None:
    assert await problem_of(await upload(client, body)) == "unsupported_media"
    assert left(store) == []
    assert await ledger.get(KEY) is None


@pytest.mark.parametrize("kind", ["text/html", "video/mp4", "application/json", "", "audio"])
async def test_what_is_not_declared_as_sound_is_refused(
    client: Client, store: RecordingStore, kind: str
) -> None:
    assert await problem_of(await upload(client, **{"Content-Type": kind})) == "unsupported_media"
    assert left(store) == []


async def test_too_large_is_refused_with_and_without_a_length(client: Client, store: RecordingStore) -> None:
    assert await problem_of(await upload(client, wav(MOST + 1))) == "too_large"
    assert await problem_of(await upload(client, chunks(wav(MOST), b"!"))) == "too_large"
    assert left(store) == []
    assert (await upload(client, wav(MOST))).status == 201


async def test_a_compressed_body_is_refused(client: Client) -> None:
    assert await problem_of(await upload(client, **{"Content-Encoding": "gzip"})) == "bad_request"


async def test_a_full_disk_is_said_and_nothing_is_left(
    desk: Desk, services: Services, client: Client, store: RecordingStore, ledger: LedgerOfCalls
) -> None:
    store.keep_free_bytes = 2**60
    answer = await upload(client)
    assert await problem_of(answer) == "storage"
    assert "Retry-After" in answer.headers
    assert left(store) == []
    assert await ledger.get(KEY) is None


async def test_an_upload_that_breaks_off_leaves_nothing_and_the_earlier_recording_stands(
    client: Client, store: RecordingStore
) -> None:
    for earlier in (None, SOUND):
        if earlier is not None:
            await upload(client, earlier)
        with pytest.raises(ClientError):
            await upload(client, torn([wav(300_000)], ConnectionResetError()))
        await until(lambda: not list((store.folder / "partial").iterdir()))
        assert len(left(store)) == (earlier is not None)
    assert await (await play(client)).read() == SOUND


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5000\r\n\r\n" + wav(100),
        b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + wav(100) + b"\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + wav(100) + b"\r\nnonsense\r\n",
    ],
    ids=["half a body", "without the last chunk", "a broken chunk"],
)
async def test_half_a_body_is_none(
    client: Client,
    store: RecordingStore,
    ledger: LedgerOfCalls,
    body: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reader, writer = await asyncio.open_connection(client.host, client.port)
    head = (
        f"PUT {PATH}/c1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: audio/wav\r\n"
    )
    writer.write(head.encode() + body)
    writer.write_eof()
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert not answer or b" 400 " in answer.split(b"\r\n")[0]
    await until(lambda: left(store) == [])
    assert await ledger.get(KEY) is None
    assert "mistake of ours" not in caplog.text


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_sender_that_stalls_is_not_waited_for_for_ever(
    client: Client, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.web.recordings.SILENCE_S", 0.05)

    async def stalling() -> AsyncIterator[bytes]:
        yield wav(300_000)
        await asyncio.Event().wait()

    assert await problem_of(await upload(client, stalling())) == "slow"
    assert left(store) == []


async def test_nor_is_one_that_goes_on_for_ever(
    client: Client, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.web.recordings.UPLOAD_S", 0.05)

    async def trickling() -> AsyncIterator[bytes]:
        yield wav(100)
        while True:
            yield b"\0"
            await asyncio.sleep(0)

    assert await problem_of(await upload(client, trickling())) == "slow"
    assert left(store) == []


async def test_a_reload_does_not_wait_for_an_upload(
    client: Client, desk: Desk, services: Services, store: RecordingStore
) -> None:
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield wav(300_000)
        await go_on.wait()
        yield b"more"

    uploading = asyncio.create_task(upload(client, slow()))
    await until(lambda: bool(list((store.folder / "partial").iterdir())))
    async with asyncio.timeout(1):
        await desk.clear()
    go_on.set()
    await asyncio.sleep(0)
    desk.put(services)
    assert (await uploading).status == 201


async def test_the_recording_of_a_call_that_has_lost_it_is_not_kept(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls
) -> None:
    deleted = Recording(state=RecordingState.DELETED)
    await ledger.accept(told(ended(recording=deleted)), START)
    answer = await upload(client)
    assert answer.status == 200
    assert (await answer.json())["recording"] == "deleted"
    assert left(store) == []


@pytest.mark.parametrize(
    ("written", "call_id"),
    [
        ("..%2f..%2fetc%2fpasswd", "../../etc/passwd"),
        ("a%2Fb", "a/b"),
        ("%2e%2e%5c", "..\\"),
        ("sip:1@10.0.0.1;x=%C3%BC", "sip:1@10.0.0.1;x=ü"),
        ("%F0%9F%99%82", "🙂"),
        ("a%20b%25", "a b%"),
        ("%7B6f9619ff%7D", "{6f9619ff}"),
    ],
)
async def test_any_call_id_can_be_written_and_is_no_path(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls, written: str, call_id: str
) -> None:
    answer = await client.put(URL(f"{PATH}/{written}", encoded=True), data=SOUND, headers=SENT)
    assert answer.status == 201
    assert (await answer.json())["call_id"] == call_id
    assert await ledger.get(CallKey(ACCOUNT, call_id)) is not None
    (file,) = left(store)
    assert file.parent.parent == store.folder


@pytest.mark.parametrize("written", ["a%00b", "a%0Ab", "a" * 256, "%C2%85", "%7F"])
async def test_what_is_no_call_id_is_refused(client: Client, store: RecordingStore, written: str) -> None:
    answer = await client.put(URL(f"{PATH}/{written}", encoded=True), data=SOUND, headers=SENT)
    assert await problem_of(answer) == "invalid"
    assert left(store) == []


@pytest.mark.parametrize("written", ["%FF", "%ED%A0%80", "%C3"])
async def test_what_is_no_text_gives_no_5xx(client: Client, written: str) -> None:
    answer = await client.put(URL(f"{PATH}/{written}", encoded=True), data=SOUND, headers=SENT)
    assert answer.status < 500


# playing


async def test_a_recording_is_played(client: Client, store: RecordingStore, ledger: LedgerOfCalls) -> None:
    await keep(store, ledger)
    answer = await play(client)
    assert answer.status == 200
    assert await answer.read() == SOUND
    assert {
        "Accept-Ranges": "bytes",
        "Access-Control-Allow-Origin": "*",
        "Cache-Control": "private",
        "Content-Disposition": "inline",
        "Content-Length": str(len(SOUND)),
        "Content-Type": "audio/wav",
        "X-Content-Type-Options": "nosniff",
    }.items() <= answer.headers.items()
    assert "Content-Range" not in answer.headers
    assert answer.headers["ETag"].startswith('"')


async def test_head_tells_the_same_and_sends_nothing(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls
) -> None:
    await keep(store, ledger)
    whole, head = await play(client), await play(client, "HEAD")
    ranged = await play(client, "HEAD", Range="bytes=0-9")
    for answer in (head, ranged):
        assert answer.status == 200
        assert await answer.read() == b""
        for name in ("Content-Length", "Content-Type", "ETag", "Last-Modified", "Accept-Ranges"):
            assert answer.headers[name] == whole.headers[name]


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=0-", slice(0, 100_000)),
        ("bytes=10-19", slice(10, 20)),
        ("bytes=99999-", slice(99_999, 100_000)),
        ("bytes=99990-200000", slice(99_990, 100_000)),
        ("bytes=99990-" + "9" * 30, slice(99_990, 100_000)),
        ("bytes=-1", slice(99_999, 100_000)),
        ("bytes=-100000", slice(0, 100_000)),
        ("bytes=-" + "9" * 30, slice(0, 100_000)),
        ("BYTES=5-70000", slice(5, 70_001)),
    ],
)
async def test_a_range_is_given(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls, asked: str, span: slice
) -> None:
    body = wav(0) + bytes(number % 251 for number in range(100_000 - len(wav(0))))
    await keep(store, ledger, body)
    answer = await play(client, Range=asked)
    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes {span.start}-{span.stop - 1}/100000"
    assert answer.headers["Content-Length"] == str(span.stop - span.start)
    assert await answer.read() == body[span]


@pytest.mark.parametrize(
    "asked", ["bytes=100000-", "bytes=100000-100001", "bytes=" + "9" * 30 + "-", "bytes=-0"]
)
async def test_a_range_behind_the_end_is_refused(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls, asked: str
) -> None:
    await keep(store, ledger)
    answer = await play(client, Range=asked)
    assert answer.headers["Content-Range"] == "bytes */100000"
    assert await problem_of(answer) == "unsatisfiable"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=",
        "bytes=-",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=0-1,3-4",
        "bytes=" + ",".join(f"{number}-{number}" for number in range(700)),
        "bytes=" + "0-," * 2000,
        "bytes=0-" + "9" * 4000,
        "items=0-5",
        "bytes 0-5",
        "bytes=0 - 5",
        "bytes=+1-5",
        "bytes=\u0661-5",
        "bytes=1-5\x85",
        "0-5",
        "",
    ],
    ids=lambda text: text[:20].encode("ascii", "replace").decode(),
)
async def test_what_is_no_range_is_passed_over(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls, asked: str
) -> None:
    await keep(store, ledger)
    answer = await play(client, Range=asked)
    assert answer.status == 200
    assert len(await answer.read()) == 100_000


async def test_who_has_a_part_of_another_file_gets_the_whole_of_this(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls
) -> None:
    await keep(store, ledger)
    old = await play(client)
    for condition in (old.headers["ETag"], old.headers["Last-Modified"]):
        assert (await play(client, Range="bytes=0-9", If_Range=condition)).status == 206
    for condition in (f"W/{old.headers['ETag']}", '"another"', "Thu, 01 Jan 2026 00:00:00 GMT", "nonsense"):
        assert (await play(client, Range="bytes=0-9", If_Range=condition)).status == 200
    await store.receive(KEY, chunks(wav(50_000)), media_type=None)
    new = await play(client, Range="bytes=0-9", If_Range=old.headers["ETag"])
    assert (new.status, len(await new.read())) == (200, 50_000)
    changed = await play(client, Range="bytes=0-9", If_Match=old.headers["ETag"])
    assert await problem_of(changed) == "changed"
    assert (await play(client, If_Match=new.headers["ETag"])).status == 200
    assert (await play(client, If_Match="*")).status == 200


async def test_who_has_it_already_is_told_so(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls
) -> None:
    await keep(store, ledger)
    known = await play(client)
    tag, at = known.headers["ETag"], known.headers["Last-Modified"]
    for headers in (
        {"If-None-Match": tag},
        {"If-None-Match": f'"x", W/{tag}'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": at},
        {"If-None-Match": tag, "Range": "bytes=0-1"},
    ):
        answer = await play(client, **headers)
        assert (answer.status, await answer.read()) == (304, b"")
        assert answer.headers["ETag"] == tag
    for headers in (
        {"If-None-Match": '"another"'},
        {"If-None-Match": '"another"', "If-Modified-Since": at},
        {"If-Modified-Since": "Thu, 01 Jan 2015 00:00:00 GMT"},
        {"If-Modified-Since": "nonsense"},
        {"If-Unmodified-Since": at},
    ):
        assert (await play(client, **headers)).status == 200
    answer = await play(client, If_Unmodified_Since="Thu, 01 Jan 2015 00:00:00 GMT")
    assert await problem_of(answer) == "changed"


@pytest.mark.parametrize("state", [None, *RecordingState])
async def test_only_what_the_ledger_calls_ready_is_played(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls, state: RecordingState | None
) -> None:
    await store.receive(KEY, chunks(SOUND), media_type=None)
    if state is not None:
        await ledger.accept(told(ended(recording=Recording(state=state))), START)
    answer = await play(client)
    if state is RecordingState.READY:
        assert answer.status == 200
    else:
        assert await problem_of(answer) == "not_found"


async def test_every_link_that_leads_nowhere_has_the_same_answer(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls
) -> None:
    await keep(store, ledger)
    token = link().rpartition("/")[2]
    wrong = [
        "x",
        "1",
        token[:-1],
        token + "A",
        token.swapcase(),
        "..%2f..%2fetc%2fpasswd",
        "%FF",
        "%00",
        "x" * 5000,
    ]
    unknown = [
        link(CallKey(ACCOUNT, "unknown")).rpartition("/")[2],
        link(CallKey(7, "c1")).rpartition("/")[2],
    ]
    answers = [await client.get(URL(f"/recordings/{word}", encoded=True)) for word in [*wrong, *unknown]]
    await store.delete(KEY)
    answers.append(await play(client))
    assert {answer.status for answer in answers} == {404}
    assert len({await answer.read() for answer in answers}) == 1
    assert len({frozenset(answer.headers.keys()) for answer in answers}) == 1


@pytest.mark.parametrize("path", ["/recordings", "/recordings/", "/recordings/partial", "/recordings/00/"])
async def test_nothing_is_listed(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls, path: str
) -> None:
    await keep(store, ledger)
    assert await problem_of(await client.get(path)) == "not_found"


async def test_without_recordings_there_is_nothing(
    database: Database,
    ledger: LedgerOfCalls,
    clock: ManualClock,
    aiohttp_client: Callable[[web.Application], Awaitable[Client]],
) -> None:
    bare = Services(
        providers={},
        save_call_event=SaveCallEventUseCase(calls=ledger, unread=FakeUnread(), clock=clock),
        ready=database.ping,
    )
    client = await aiohttp_client(make_app(Desk(bare)))
    assert await problem_of(await play(client)) == "not_found"
    assert await problem_of(await upload(client)) == "not_found"


async def test_who_is_playing_goes_on_while_it_is_replaced_and_deleted(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.max_bytes = 30_000_000
    old = wav(20_000_000, b"a")
    await keep(store, ledger, old)
    answer = await play(client)
    first = await answer.content.readexactly(1000)
    assert (await upload(client, wav(500, b"b"))).status == 200
    assert await (await play(client)).read() == wav(500, b"b")
    await store.delete(KEY)
    assert first + await answer.read() == old


async def test_a_recording_that_has_become_another_file_plays_under_the_same_link(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls
) -> None:
    await keep(store, ledger)
    old = await play(client, Range="bytes=0-999")
    tag, at = old.headers["ETag"], old.headers["Last-Modified"]
    mp3 = (b"\xff\xe3\x48\xc4" + bytes(284)) * 50
    async with store.replacing(name_of(KEY)) as new:
        assert new is not None
        await new.append(mp3)
        assert not await new.finish(60.0), "somebody is in the middle of it"
        assert await new.finish(0.0)
    whole = await play(client)
    assert (whole.status, whole.headers["Content-Type"]) == (200, "audio/mpeg")
    assert await whole.read() == mp3
    assert whole.headers["Content-Length"] == str(len(mp3))
    assert whole.headers["ETag"] != tag
    assert whole.headers["Last-Modified"] != at
    part = await play(client, Range="bytes=288-575")
    assert (part.status, part.headers["Content-Type"]) == (206, "audio/mpeg")
    assert part.headers["Content-Range"] == f"bytes 288-575/{len(mp3)}"
    assert await part.read() == mp3[288:576]
    for condition in (tag, at):
        again = await play(client, Range="bytes=1000-", If_Range=condition)
        assert (again.status, await again.read()) == (200, mp3), (
            "no end of one is put to the beginning of another"
        )
    for headers in ({"If-None-Match": tag}, {"If-Modified-Since": at}):
        assert (await play(client, **headers)).status == 200
    assert await problem_of(await play(client, Range="bytes=1000-", If_Match=tag)) == "changed"
    assert await problem_of(await play(client, Range="bytes=99999-")) == "unsatisfiable"
    assert (await play(client, "HEAD")).headers["Content-Type"] == "audio/mpeg"


async def test_a_player_that_stalls_or_leaves_is_let_go(
    client: Client, store: RecordingStore, ledger: LedgerOfCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.web.recordings.SILENCE_S", 0.05)
    store.max_bytes = 30_000_000
    await keep(store, ledger, wav(20_000_000))
    for leaves in (False, True):
        reader, writer = await asyncio.open_connection(client.host, client.port, limit=1000)
        writer.write(f"GET {link()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await until(lambda: bool(opened(store)))
        if leaves:
            writer.transport.abort()
        await until(lambda: not opened(store))
        writer.close()


def opened(store: RecordingStore) -> list[str]:
    here = Path("/proc/self/fd")
    targets = [os.readlink(link) for link in list(here.iterdir()) if link.is_symlink()]
    return [target for target in targets if target.startswith(str(store.folder))]


async def test_a_ready_recording_stays_so_when_it_is_announced_once_more(
    client: Client, ledger: LedgerOfCalls
) -> None:
    await upload(client)
    again = Recording(state=RecordingState.EXPECTED, url="https://voip.example/c1")
    await ledger.accept(told(CallEvent(key=KEY, recording=again)), START)
    assert (await play(client)).status == 200
