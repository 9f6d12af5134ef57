"""Recordings from VoIP services, fetched from the internet and from nowhere else.

The address comes from a sender, who might want to reach what only this machine can. It is therefore judged
where it cannot be disguised any more: when a socket is made for the address that is about to be connected to,
whatever name, spelling, redirect or answer of the DNS led there. Loopback is a network like any other: it has
to be in `allow_private`, also for the plain http that the webhook lets pass for it.
"""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from calllogd import __version__
from calllogd.domain.call import CallKey
from calllogd.errors import InputRefused, StorageError
from calllogd.recordings.addresses import Network, is_open
from calllogd.recordings.store import RecordingStore
from calllogd.voip.usecase.fetch_recording import RecordingNotReady, RecordingRefused

__all__ = ["FETCH_S", "RecordingFetcher", "RecordingNotReady", "RecordingRefused"]

FETCH_S = 300.0
"""How long one recording may take, redirects included."""

CONNECT_S = 10.0
SILENCE_S = 30.0
"""How long a service may send nothing."""

REDIRECTS = 5
LONGEST_RETRY_AFTER_S = 3600.0

_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
_LATER = frozenset({404, 408, 425, 429})
"""Refusals that may end: many services announce a recording before it is there."""

_AddressInfo = tuple[int, int, int, str, tuple[object, ...]]


class _Forbidden(OSError):
    """A connection to an address that is not open; the connector passes it on as it is."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "the address is in a private network that is not allowed")


class RecordingFetcher:
    """Fetches recordings into the store; implements `Fetcher`.

    `allow_private` are networks that may be connected to although they are not of the internet.
    """

    def __init__(
        self,
        store: RecordingStore,
        allow_private: Sequence[Network],
        *,
        resolver: AbstractResolver | None = None,
        fetch_s: float = FETCH_S,
    ) -> None:
        self._store = store
        self._allowed = allow_private
        self._resolver = resolver
        self._fetch_s = fetch_s
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Prepare the session; connects to nothing yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                socket_factory=self._socket,
                use_dns_cache=False,
                force_close=True,
                limit=0,
            ),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=SILENCE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "User-Agent": f"calllogd/{__version__}",
                "Accept": "audio/*, */*;q=0.1",
                "Accept-Encoding": "identity",
            },
            auto_decompress=False,  # a small file could unpack into one without end
            trust_env=False,  # a proxy would connect for us to where we must not
        )

    async def close(self) -> None:
        """Close the session; safe to call twice."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(self, key: CallKey, url: str) -> str:
        """Keep what is at `url` as the call's recording, and return its media type.

        Idempotent. Raises RecordingRefused (a 4xx that will not change, no sound, too large, a forbidden
        address) and RecordingNotReady (404, 408, 425, 429, 5xx, the network, too slow, no room on the disk).
        Neither leaves anything behind, nor tells more of the address than its host.
        """
        try:
            async with asyncio.timeout(self._fetch_s):
                return await self._follow(key, _parsed(url))
        except InputRefused as error:
            raise RecordingRefused(error.detail) from error
        except StorageError as error:
            raise RecordingNotReady(str(error)) from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise RecordingRefused("the address is no web address") from error
        except TimeoutError as error:
            raise RecordingNotReady("the service is too slow") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _Forbidden):
                raise RecordingRefused(f"{error.host}: {error.os_error.strerror}") from error
            raise RecordingNotReady(f"{error.host} is not reached: {error.os_error}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RecordingNotReady(f"the recording was cut off: {type(error).__name__}") from error

    async def _follow(self, key: CallKey, url: URL) -> str:
        """Go where the address and its redirects lead, and keep what is there."""
        if self._session is None:
            raise RecordingNotReady("calllogd is stopping")
        for _ in range(REDIRECTS + 1):
            _check(url)
            async with self._session.get(url, allow_redirects=False) as answer:
                if answer.status == HTTPStatus.OK:
                    return await self._keep(key, answer)
                if answer.status not in _REDIRECTIONS:
                    raise _refusal(answer)
                url = url.join(_parsed(answer.headers.get("Location", "")))
        raise RecordingRefused(f"more than {REDIRECTS} redirects")

    async def _keep(self, key: CallKey, answer: aiohttp.ClientResponse) -> str:
        length = answer.content_length
        if length is not None and length > self._store.max_bytes:
            raise RecordingRefused(f"a recording may have {self._store.max_bytes} bytes, not {length}")
        return await self._store.receive(key, _chunks(answer), media_type=answer.content_type)

    def _socket(self, info: _AddressInfo) -> socket.socket:
        """Make the socket for an address that is about to be connected to, unless it is not open."""
        family, kind, protocol, _, address = info
        if not is_open(str(address[0]), self._allowed):
            raise _Forbidden
        return socket.socket(family, kind, protocol)


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for chunk in answer.content.iter_any():
        yield chunk


def _parsed(url: str) -> URL:
    """Return an address as it is written: signed ones must not be put in order."""
    if not url or not url.isprintable() or " " in url:
        raise RecordingRefused("the address is no web address")
    try:
        parsed = URL(url, encoded=url.isascii())
        _ = parsed.host, parsed.port  # read only now, and they may be wrong
    except ValueError as error:
        raise RecordingRefused("the address is no web address") from error
    return parsed


def _check(url: URL) -> None:
    """Return for https, and for http to this machine; else raises RecordingRefused."""
    if url.host and (url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.host))):
        return
    raise RecordingRefused("the address is not https")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refusal(answer: aiohttp.ClientResponse) -> RecordingRefused | RecordingNotReady:
    reason = f"{answer.url.host} answered with HTTP {answer.status}"
    final = HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
    if final and answer.status not in _LATER:
        return RecordingRefused(reason)
    return RecordingNotReady(reason, retry_after_s=_retry_after_s(answer.headers))


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a service asks to wait, at most an hour; None if it does not say.

    A date is read by the service's own clock, which the answer tells.
    """
    text = headers.get("Retry-After", "")
    try:
        if text.isdecimal():
            wait_s = float(text)
        else:
            until, now = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("Date", ""))
            wait_s = (until - now).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(wait_s, 0.0), LONGEST_RETRY_AFTER_S)
