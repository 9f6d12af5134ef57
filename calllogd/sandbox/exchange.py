"""A stand-in of a VoIP service's recording server: it has every NAME.wav and NAME.mp3, if no mishap comes."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import web

from calllogd.sandbox.delivery import HTML_PAGE
from calllogd.sandbox.given import fields_of
from calllogd.sandbox.listener import Listener
from calllogd.sandbox.local import guarded, object_in
from calllogd.sandbox.sounds import sound

NOT_FOUND: Final = 404
SERVER_ERROR: Final = 500
CHUNK: Final = bytes(64 * 1024)


class MishapKind(StrEnum):
    """What can happen to who fetches a recording."""

    MISSING = "missing"
    """404, as from a service that has not stored it yet."""
    ERROR = "error"
    """500."""
    HTML = "html"
    """200 with an HTML page, as from a service that wants one to log in."""
    HALF = "half"
    """Half of the promised bytes, then the end of the connection."""
    SLOW = "slow"
    """All is well, `seconds` later."""
    STALL = "stall"
    """Half of the bytes at once, the others `seconds` later."""
    LARGE = "large"
    """`size` bytes, which the header tells beforehand unless `untold`."""


NEEDED: Final = {MishapKind.SLOW: "seconds", MishapKind.STALL: "seconds", MishapKind.LARGE: "size"}
OF_THE_BODY: Final = frozenset({MishapKind.HALF, MishapKind.STALL, MishapKind.LARGE})
"""Who asks for the header only meets none of these."""
JSON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "kind": (str,),
    "name": (str,),
    "times": (int,),
    "seconds": (int, float),
    "size": (int,),
    "untold": (bool,),
}


@dataclass(frozen=True, slots=True)
class Mishap:
    """One mishap: of the recording `name`, or of all; for the first `times` requests, or for all.

    Raises ValueError for one that makes no sense.
    """

    kind: str
    name: str | None = None
    times: int | None = None
    seconds: float | None = None
    size: int | None = None
    untold: bool = False

    def __post_init__(self) -> None:
        needed = NEEDED.get(MishapKind(self.kind))
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"{self.kind} needs {needed}")
        if self.times is not None and self.times < 1:
            raise ValueError("times starts at 1")
        if (self.seconds or 0) < 0 or (self.size or 0) < 0:
            raise ValueError("seconds and size must not be negative")

    @classmethod
    def from_json(cls, value: Any) -> "Mishap":
        """A mishap of its JSON object. Raises ValueError, with the reason, for anything else."""
        given = fields_of(value, JSON_TYPES, "a mishap")
        if "kind" not in given:
            raise ValueError("kind is missing")
        return cls(**given)


@dataclass(slots=True, kw_only=True)
class FetchRecord:
    """One request for a recording; `status` is what was answered, even if the rest went wrong."""

    at: float
    method: str
    name: str
    status: int | None = None
    mishap: str | None = None


@dataclass(slots=True)
class _Armed:
    mishap: Mishap
    left: int | None


@dataclass(frozen=True, slots=True)
class _Fetch:
    request: web.Request
    mishap: Mishap
    content_type: str
    sound: bytes


class Recordings:
    """The recordings and their mishaps, without a server of their own. `seconds`: how long each one is."""

    def __init__(self, *, seconds: float = 1.0, now: Callable[[], float] = time.time) -> None:
        self.seconds = seconds
        self.requests: list[FetchRecord] = []
        self._now = now
        self._armed: list[_Armed] = []

    def add(self, mishap: Mishap) -> Mishap:
        """Put a mishap in force; it comes after those that are."""
        self._armed.append(_Armed(mishap, mishap.times))
        return mishap

    def clear(self) -> None:
        """Let all be well from now on."""
        self._armed.clear()

    def bytes_of(self, name: str) -> bytes:
        """What is served under this name. Raises KeyError when it ends in neither .wav nor .mp3."""
        made = sound(name, self.seconds)
        if made is None:
            raise KeyError(name)
        return made[1]

    def add_routes(self, app: web.Application, prefix: str = "") -> None:
        """Serve `/recordings/{name}`, and the control of its mishaps, below a prefix."""
        app.add_routes(
            [
                web.get(f"{prefix}/recordings/{{name}}", self._serve),
                web.get(f"{prefix}/requests", guarded(self._show_requests)),
                web.post(f"{prefix}/mishaps", guarded(self._add_mishap)),
                web.delete(f"{prefix}/mishaps", guarded(self._clear_mishaps)),
            ]
        )

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        record = FetchRecord(at=self._now(), method=request.method, name=name)
        self.requests.append(record)
        mishap = self._take(name, only_header=request.method == "HEAD")
        record.mishap = None if mishap is None else mishap.kind
        made = sound(name, self.seconds)
        if made is None:
            sent: web.StreamResponse = web.Response(status=NOT_FOUND, text="No such recording")
        elif mishap is None:
            sent = _whole(*made)
        else:
            sent = await DELIVERIES[MishapKind(mishap.kind)](_Fetch(request, mishap, *made))
        record.status = sent.status
        return sent

    def _take(self, name: str, *, only_header: bool) -> Mishap | None:
        for armed in self._armed:
            spared = only_header and armed.mishap.kind in OF_THE_BODY
            if armed.mishap.name in {None, name} and armed.left != 0 and not spared:
                armed.left = None if armed.left is None else armed.left - 1
                return armed.mishap
        return None

    async def _show_requests(self, _request: web.Request) -> web.Response:
        return web.json_response({"requests": [asdict(it) for it in self.requests]})

    async def _add_mishap(self, request: web.Request) -> web.Response:
        mishap = self.add(Mishap.from_json(await object_in(request)))
        return web.json_response(asdict(mishap), status=201)

    async def _clear_mishaps(self, _request: web.Request) -> web.Response:
        self.clear()
        return web.Response(status=204)


class SandboxExchange(Recordings):
    """The recordings behind an address of their own."""

    def __init__(self, *, seconds: float = 1.0, now: Callable[[], float] = time.time) -> None:
        super().__init__(seconds=seconds, now=now)
        self._listener: Final = Listener()

    @property
    def url(self) -> str:
        """Address of the running server, without a slash at the end."""
        return self._listener.url

    def recording_url(self, name: str) -> str:
        """Address of one recording, for instance of `c1.mp3`."""
        return f"{self.url}/recordings/{name}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one. Raises OSError when the address cannot be had."""
        app = web.Application()
        self.add_routes(app)
        await self._listener.start(app, host, port)

    async def stop(self) -> None:
        """Close all connections; the mishaps and the record of requests stay."""
        await self._listener.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _whole(content_type: str, body: bytes) -> web.Response:
    return web.Response(body=body, content_type=content_type)


async def _missing(_it: _Fetch) -> web.StreamResponse:
    return web.Response(status=NOT_FOUND, text="No such recording")


async def _error(_it: _Fetch) -> web.StreamResponse:
    return web.Response(status=SERVER_ERROR, text="Something went wrong")


async def _html(_it: _Fetch) -> web.StreamResponse:
    return web.Response(text=HTML_PAGE.format(title="Log in"), content_type="text/html")


async def _begun(it: _Fetch, size: int | None) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": it.content_type})
    answer.content_length = size
    await answer.prepare(it.request)
    return answer


async def _half(it: _Fetch) -> web.StreamResponse:
    answer = await _begun(it, len(it.sound))
    await answer.write(it.sound[: len(it.sound) // 2])
    if it.request.transport is not None:
        it.request.transport.close()
    return answer


async def _slow(it: _Fetch) -> web.StreamResponse:
    await asyncio.sleep(it.mishap.seconds or 0.0)
    return _whole(it.content_type, it.sound)


async def _stall(it: _Fetch) -> web.StreamResponse:
    answer = await _begun(it, len(it.sound))
    middle = len(it.sound) // 2
    await answer.write(it.sound[:middle])
    await asyncio.sleep(it.mishap.seconds or 0.0)
    await answer.write(it.sound[middle:])
    return answer


async def _large(it: _Fetch) -> web.StreamResponse:
    size = it.mishap.size or 0
    answer = await _begun(it, None if it.mishap.untold else size)
    # Whoever has had enough leaves.
    with contextlib.suppress(ConnectionError):
        for begin in range(0, size, len(CHUNK)):
            await answer.write(CHUNK[: size - begin])
    return answer


DELIVERIES: Final[Mapping[MishapKind, Callable[[_Fetch], Awaitable[web.StreamResponse]]]] = {
    MishapKind.MISSING: _missing,
    MishapKind.ERROR: _error,
    MishapKind.HTML: _html,
    MishapKind.HALF: _half,
    MishapKind.SLOW: _slow,
    MishapKind.STALL: _stall,
    MishapKind.LARGE: _large,
}
