"""The event stream over HTTP: whose it is, what it tells, and when it ends."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientTimeout
from yarl import URL

from calllogd.database.database import Database
from calllogd.domain.call import (
    Call,
    CallKey,
    CallState,
    EntityRef,
    EntityType,
    Entry,
    Person,
    Recording,
    RecordingState,
    Result,
)
from calllogd.domain.merge import CallEvent
from calllogd.errors import Overloaded
from calllogd.ports import Note
from calllogd.sandbox import SandboxKommo
from calllogd.web.feed import WAITING_MOST, Feed, Happening, happenings
from calllogd.web.tickets import TICKET_S, Tickets
from calllogd.web.widget_events import LAST_S
from tests.fakes import ACCOUNT, START, ManualClock, ended, told
from tests.widget_door import ADMIN, SELLER, Door, MakeClient, as_user, problem_of, standing_door, until
from tests.widget_tokens import ORIGIN, OTHER_ACCOUNT, OTHER_ORIGIN, token

EVENTS = "/widget/v1/events"
LEASE_S = 30.0
ON_LEAD = Entry(entity_type=EntityType.LEADS, entity_id=5, note_id=1)
HERS = Person(1, user_id=ADMIN)
LEAD = {"type": "leads", "id": 5, "url": f"{ORIGIN}/leads/detail/5"}


@pytest.fixture
async def door(
    database: Database, kommo: SandboxKommo, clock: ManualClock, aiohttp_client: MakeClient
) -> AsyncIterator[Door]:
    async with standing_door(database, kommo, clock, aiohttp_client) as door:
        yield door


@dataclass
class Event:
    """An event as a browser gets it."""

    id: int
    name: str
    told: dict[str, Any]


class Watched:
    """A stream that is being read."""

    def __init__(self, answer: ClientResponse) -> None:
        self.answer = answer

    async def frame(self) -> bytes:
        """Return the next frame; nothing at the stream's end."""
        lines = []
        async with asyncio.timeout(10):
            while (line := await self.answer.content.readline()) not in (b"\n", b""):
                lines.append(line)
        return b"".join(lines)

    async def event(self) -> Event:
        """Return the next event; comments are passed over."""
        while (frame := await self.frame()).startswith(b":"):
            pass
        fields = dict(line.split(": ", 1) for line in frame.decode().splitlines())
        assert set(fields) == {"id", "event", "data"}
        return Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))

    async def ended(self) -> None:
        """Return when the stream is over."""
        while await self.frame():
            pass


def a_ticket(door: Door, user_id: int = ADMIN, account_id: int = ACCOUNT) -> str:
    return door.tickets.issue(account_id, user_id)[0]


async def asked(
    door: Door, shown: Sequence[str] = (), origin: str | None = ORIGIN, **headers: str
) -> ClientResponse:
    path = URL(EVENTS).with_query([("ticket", each) for each in shown])
    named = {} if origin is None else {"Origin": origin}
    return await door.client.get(path, headers={**named, **headers}, timeout=ClientTimeout(total=30))


async def watch(
    door: Door, user_id: int = ADMIN, account_id: int = ACCOUNT, *, last: str | None = None
) -> Watched:
    origin = ORIGIN if account_id == ACCOUNT else OTHER_ORIGIN
    headers = {} if last is None else {"Last-Event-ID": last}
    answer = await asked(door, [a_ticket(door, user_id, account_id)], origin, **headers)
    assert answer.status == 200
    watched = Watched(answer)
    assert b"retry: 3000\n" in await watched.frame()
    return watched


async def accept(door: Door, event: CallEvent, body: bytes | None = None) -> None:
    await door.ledger.accept(told(event, body), START)


async def bring(door: Door, key: CallKey, **changes: Any) -> None:
    """Have a worker bring a call to where it is to be."""
    call = await door.ledger.claim(key, START, LEASE_S)
    assert call is not None
    await door.ledger.release(replace(call, due_at=None, **changes), START, Note(what="x", outcome="x"))


async def happen(door: Door, call_id: str = "c1", person: Person = HERS, account_id: int = ACCOUNT) -> None:
    """Have a call logged."""
    await accept(door, ended(call_id, account_id=account_id, person=person))
    await bring(door, CallKey(account_id, call_id), state=CallState.LOGGED, entry=ON_LEAD)


async def test_a_stream_looks_as_browsers_want_it(door: Door) -> None:
    answer = (await watch(door)).answer
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Vary"] == "Origin"


async def test_the_session_s_ticket_opens_the_stream(door: Door) -> None:
    shown = (await (await door.session()).json())["ticket"]
    assert (await asked(door, [shown])).status == 200


async def test_everything_that_happens_to_a_call_is_told(door: Door) -> None:
    watched = await watch(door)
    key = CallKey(ACCOUNT, "c1")
    await accept(door, ended(person=HERS))
    await bring(door, key, state=CallState.AWAITING_RESULT)
    event = await watched.event()
    waits = {"call_id": "c1", "state": "awaiting_result", "reason": "waits for the call result"}
    assert (event.name, event.told) == ("call.waiting", waits)

    body = {"rev": 1, "text": "x", "entity": {"type": "leads", "id": 5}}
    assert (await door.client.put("/widget/v1/calls/c1/result", json=body, headers=as_user())).status == 200
    event = await watched.event()
    assert (event.name, event.told) == ("result.saved", {"call_id": "c1", "state": "awaiting_result"})

    await bring(door, key, state=CallState.LOGGED, entry=ON_LEAD)
    event = await watched.event()
    told_of = {"call_id": "c1", "state": "logged", "entity": LEAD, "reason": "logged on lead 5, as chosen"}
    assert (event.name, event.told) == ("call.logged", told_of)

    ready = Recording(state=RecordingState.READY, media_type="audio/mpeg")
    await accept(door, CallEvent(key=key, recording=ready), b"ready")
    event = await watched.event()
    assert (event.name, event.told) == (
        "recording.ready",
        {"call_id": "c1", "state": "logged", "entity": LEAD},
    )

    await bring(door, key, state=CallState.FAILED, last_error="Kommo refuses it")
    event = await watched.event()
    assert (event.name, event.told["reason"]) == ("call.failed", "Kommo refuses it")


async def test_what_says_nothing_new_is_not_told(door: Door) -> None:
    watched = await watch(door)
    await accept(door, ended(person=HERS))
    await accept(door, ended(person=HERS))
    await accept(door, ended(person=HERS, duration=50), b"news")
    key = CallKey(ACCOUNT, "c1")
    await bring(door, key, state=CallState.LOGGED, entry=ON_LEAD)
    assert (await watched.event()).name == "call.logged"
    await accept(door, ended(person=HERS, duration=60), b"more")
    await bring(door, key, written_revision=9)
    await accept(door, ended(person=HERS, duration=70), b"yet more")
    await bring(door, key, entry=replace(ON_LEAD, entity_id=6))
    assert (await watched.event()).told["entity"]["id"] == 6


async def test_a_call_belongs_to_its_extension_unless_somebody_is_named(door: Door) -> None:
    watched = await watch(door, SELLER)
    await happen(door, "named", Person(1, extension="102", user_id=ADMIN))
    await happen(door, "nobody", Person(1, extension="199"))
    await happen(door, "seller", Person(1, extension="102"))
    assert (await watched.event()).told["call_id"] == "seller"


async def test_calls_of_others_never_show(door: Door) -> None:
    watched = {
        (account_id, user_id): await watch(door, user_id, account_id)
        for account_id in (ACCOUNT, OTHER_ACCOUNT)
        for user_id in (ADMIN, SELLER)
    }
    # The same ids of call, user and extension everywhere.
    for account_id, user_id in watched:
        await happen(door, "c", Person(1, user_id=user_id), account_id)
        await happen(door, f"own {account_id} {user_id}", Person(2, user_id=user_id), account_id)
        await happen(door, f"phone {account_id} {user_id}", Person(1, extension="102"), account_id)
    await happen(door, "nobody's", Person(1))
    for (account_id, user_id), stream in watched.items():
        await happen(door, f"last {account_id} {user_id}", Person(2, user_id=user_id), account_id)
        seen: list[str] = []
        while not (seen and seen[-1].startswith("last")):
            seen.append((await stream.event()).told["call_id"])
        phones = [name for name in seen if name.startswith("phone")]
        assert len(phones) == (
            2 if (account_id, user_id) in ((ACCOUNT, SELLER), (OTHER_ACCOUNT, ADMIN)) else 0
        )
        assert all(name.split()[1] == str(account_id) for name in phones)
        own = [name for name in seen if name.startswith(("own", "last"))]
        assert own == [f"own {account_id} {user_id}", f"last {account_id} {user_id}"]


async def test_every_stream_of_a_user_is_told(door: Door) -> None:
    both = [await watch(door), await watch(door)]
    await happen(door)
    assert [(await each.event()).told["call_id"] for each in both] == ["c1", "c1"]


async def test_ids_grow_also_from_one_stream_to_the_next(door: Door) -> None:
    watched = await watch(door)
    for number in range(5):
        await happen(door, f"c{number}")
    ids = [(await watched.event()).id for _ in range(5)]
    assert ids == sorted(set(ids))
    door.clock.forward(1)
    again = await watch(door, last=str(ids[-1]))
    await happen(door, "c9")
    event = await again.event()
    assert (event.told["call_id"], event.id > ids[-1]) == ("c9", True)


@pytest.mark.parametrize("last", ["", "x", "-1", "9" * 5000, "\xff"])
async def test_any_last_id_is_harmless(door: Door, last: str) -> None:
    watched = await watch(door, last=last)
    await happen(door)
    assert (await watched.event()).name == "call.logged"


# Who may.


async def test_without_a_good_ticket_there_is_no_stream(door: Door) -> None:
    good = a_ticket(door)
    middle = "A" if good[30] != "A" else "B"
    for shown in (
        [],
        [""],
        [good, good],
        [good[:-1]],
        [good[:30] + middle + good[31:]],
        [Tickets(b"x" * 32, door.clock).issue(ACCOUNT, ADMIN)[0]],
        [token()],
        ["x" * 5000],
        ["\0"],
    ):
        document = await problem_of(answer := await asked(door, shown))
        assert document["code"] == "unauthorized"
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert (await problem_of(await asked(door, **as_user())))["code"] == "unauthorized"
    assert len(door.feed) == 0


async def test_a_ticket_is_good_for_the_stream_alone(door: Door) -> None:
    headers = {"X-Auth-Token": a_ticket(door), "Origin": ORIGIN}
    for method, path in (
        ("POST", "/widget/v1/session"),
        ("GET", "/widget/v1/calls?open=1"),
        ("GET", "/widget/v1/calls/c1"),
        ("GET", "/widget/v1/extensions"),
        ("PUT", "/widget/v1/extensions"),
    ):
        answer = await door.client.request(method, path, headers=headers)
        assert (await problem_of(answer))["code"] == "unauthorized"
        with_ticket = URL(path).update_query(ticket=a_ticket(door))
        answer = await door.client.request(method, with_ticket, headers={"Origin": ORIGIN})
        assert (await problem_of(answer))["code"] == "unauthorized"


@pytest.mark.parametrize(
    "origin", [None, OTHER_ORIGIN, "null", f"{ORIGIN}/", f"{ORIGIN}:443", ORIGIN.upper()]
)
async def test_only_the_account_s_own_page_gets_the_stream(door: Door, origin: str | None) -> None:
    answer = await asked(door, [a_ticket(door)], origin)
    assert (await problem_of(answer))["code"] == "unauthorized"


async def test_a_ticket_of_one_account_is_no_good_at_another_s_page(door: Door) -> None:
    answer = await asked(door, [a_ticket(door, account_id=OTHER_ACCOUNT)], ORIGIN)
    assert (await problem_of(answer))["code"] == "unauthorized"


async def test_an_expired_ticket_begins_no_stream(door: Door) -> None:
    shown = a_ticket(door)
    door.clock.forward(TICKET_S)
    assert "expired" in (await problem_of(await asked(door, [shown])))["detail"]


async def test_a_ticket_of_an_account_that_is_gone_begins_no_stream(door: Door) -> None:
    door.desk.put(door.services(base_urls={OTHER_ACCOUNT: OTHER_ORIGIN}))
    assert (await problem_of(await asked(door, [a_ticket(door)])))["code"] == "unauthorized"


async def test_who_is_switched_off_gets_no_stream(door: Door) -> None:
    door.account.change_user(SELLER, is_active=False)
    await door.listed()
    assert (await problem_of(await asked(door, [a_ticket(door, SELLER)])))["code"] == "forbidden"


async def test_other_methods_are_refused(door: Door) -> None:
    for method in ("HEAD", "POST"):
        answer = await door.client.request(method, EVENTS, headers={"Origin": ORIGIN})
        assert answer.status == 405


async def test_a_user_has_so_many_streams_and_no_more(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calllogd.web.feed.USER_MOST", 2)
    monkeypatch.setattr("calllogd.web.widget_events.BEAT_S", 0.01)
    first, _ = await watch(door), await watch(door)
    answer = await asked(door, [a_ticket(door)])
    assert (await problem_of(answer))["code"] == "too_many"
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    await watch(door, SELLER)
    first.answer.close()
    await until(lambda: len(door.feed) == 2)
    await watch(door)


async def test_there_are_so_many_streams_and_no_more(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calllogd.web.feed.ALL_MOST", 2)
    await watch(door)
    await watch(door, SELLER)
    assert (await problem_of(await asked(door, [a_ticket(door, 113)])))["code"] == "too_many"


# When it ends.


async def test_a_stream_is_never_silent_for_long(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calllogd.web.widget_events.BEAT_S", 0.01)
    watched = await watch(door)
    assert [await watched.frame() for _ in range(3)] == [b":\n"] * 3


async def test_a_stream_outlasts_its_ticket_but_not_for_ever(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calllogd.web.widget_events.BEAT_S", 0.01)
    watched = await watch(door)
    door.clock.forward(TICKET_S + LAST_S - 1)
    await happen(door)
    assert (await watched.event()).name == "call.logged"
    door.clock.forward(1)
    await watched.ended()
    assert len(door.feed) == 0


async def test_a_stream_ends_when_its_account_goes(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calllogd.web.widget_events.BEAT_S", 0.01)
    watched, other = await watch(door), await watch(door, account_id=OTHER_ACCOUNT)
    door.desk.put(door.services(base_urls={OTHER_ACCOUNT: OTHER_ORIGIN}))
    await watched.ended()
    assert await other.frame() == b":\n"


async def test_nothing_is_told_to_the_account_that_has_gone(door: Door) -> None:
    watched = await watch(door)
    door.desk.put(door.services(base_urls={OTHER_ACCOUNT: OTHER_ORIGIN}))
    await happen(door)
    assert await watched.frame() == b""


async def test_a_stream_ends_when_its_user_is_switched_off(door: Door) -> None:
    watched = await watch(door, SELLER)
    door.account.change_user(SELLER, is_active=False)
    await door.listed()
    await happen(door, person=Person(1, user_id=SELLER))
    assert await watched.frame() == b""


async def test_a_stream_goes_on_while_the_services_are_exchanged(door: Door) -> None:
    watched = await watch(door)
    async with asyncio.timeout(5):
        await door.desk.clear()
    await happen(door, "meanwhile")
    assert (await watched.event()).told["call_id"] == "meanwhile"
    door.desk.put(door.services())
    await happen(door, "after")
    assert (await watched.event()).told["call_id"] == "after"


async def test_a_stream_ends_at_once_when_the_server_stops(door: Door) -> None:
    watched = await watch(door)
    async with asyncio.timeout(5):
        await door.client.server.close()
    await watched.ended()
    assert len(door.feed) == 0
    with pytest.raises(Overloaded), door.feed.stream(ACCOUNT, ADMIN):
        pass


async def test_who_is_too_far_behind_has_to_begin_anew(door: Door) -> None:
    watched = await watch(door)
    await accept(door, ended(person=HERS))
    before = await door.ledger.get(CallKey(ACCOUNT, "c1"))
    assert before is not None
    for _ in range(WAITING_MOST + 1):
        door.told(before, replace(before, state=CallState.FAILED))
    assert await watched.frame() == b""
    await until(lambda: len(door.feed) == 0)


async def test_who_takes_nothing_in_is_let_go(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calllogd.web.widget_events.WRITE_S", 0.05)
    assert door.client.port is not None
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", door.client.port))
    head = f"GET {EVENTS}?ticket={a_ticket(door)} HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\n\r\n"
    await loop.sock_sendall(raw, head.encode())
    await until(lambda: len(door.feed) == 1)
    await accept(door, ended(person=HERS))
    before = await door.ledger.get(CallKey(ACCOUNT, "c1"))
    assert before is not None
    after = replace(before, state=CallState.FAILED, last_error="x" * 2**18)

    def gone() -> bool:
        door.told(before, after)
        return len(door.feed) == 0

    await until(gone)
    # Nobody waits for him to take in the rest either: his connection ends, and the answer does not.
    received = b""
    async with asyncio.timeout(10):
        while got := await loop.sock_recv(raw, 2**20):
            received = received[-16:] + got
    assert not received.endswith(b"0\r\n\r\n")
    raw.close()


async def test_nobody_pays_for_streams_while_there_are_none(door: Door) -> None:
    class Unread(Call):
        @property
        def known(self) -> Any:
            raise AssertionError("nobody is there to be told")

    call = Unread(key=CallKey(ACCOUNT, "c1"), arrived_at=START)
    Feed().teller({})(call, call)
    with door.feed.stream(ACCOUNT, ADMIN), pytest.raises(AssertionError):
        door.told(call, call)


CALL = Call(key=CallKey(ACCOUNT, "c1"), arrived_at=START)
DONE = replace(CALL, state=CallState.LOGGED, entry=ON_LEAD)
READY = Recording(state=RecordingState.READY)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (CALL, CALL, []),
        (CALL, DONE, [Happening.LOGGED]),
        (DONE, DONE, []),
        (DONE, replace(DONE, entry=replace(ON_LEAD, note_id=2)), []),
        (DONE, replace(DONE, entry=replace(ON_LEAD, entity_id=6)), [Happening.LOGGED]),
        (replace(DONE, state=CallState.IN_DOUBT), DONE, [Happening.LOGGED]),
        (DONE, replace(DONE, state=CallState.IN_DOUBT), []),
        (DONE, replace(DONE, entry=None, state=CallState.PENDING), []),
        (CALL, replace(CALL, state=CallState.AWAITING_RESULT), [Happening.WAITING]),
        (CALL, replace(CALL, state=CallState.FAILED), [Happening.FAILED]),
        (CALL, replace(CALL, result=Result(rev=1)), [Happening.RESULT]),
        (replace(CALL, result=Result(rev=1)), replace(CALL, result=Result(rev=2)), [Happening.RESULT]),
        (CALL, replace(CALL, recording=Recording(state=RecordingState.EXPECTED)), []),
        (CALL, replace(CALL, recording=READY), [Happening.RECORDING]),
        (replace(CALL, recording=READY), replace(DONE, recording=READY), [Happening.LOGGED]),
    ],
)
def test_what_a_change_means(before: Call, after: Call, expected: list[Happening]) -> None:
    assert list(happenings(before, after)) == expected
    assert EntityRef(EntityType.LEADS, 5) == ON_LEAD.entity
