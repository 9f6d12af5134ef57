"""Requests to services on the internet, and to nowhere else.

Addresses come from senders and services, who might want to reach what only this machine can. So they are
judged where they cannot be disguised any more: when a socket is made for the address that is about to be
connected to, whatever name, spelling, redirect or answer of the DNS led there. Loopback is a network like any
other: it has to be allowed, also for the plain http that is let pass for it.
"""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from calllogd import __version__
from calllogd.recordings.addresses import Network, is_open
from calllogd.voip.errand import Ask, ErrandFailed, Got

CONNECT_S = 10.0
SILENCE_S = 30.0
"""How long a service may send nothing."""

ANSWER_S = 60.0
"""How long the whole answer to an errand's request may take."""

ANSWER_BYTES = 1024 * 1024
LONGEST_RETRY_AFTER_S = 3600.0

REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
_SAME_AGAIN = frozenset({307, 308})

_NO_ADDRESS = "the address is no web address"

_AddressInfo = tuple[int, int, int, str, tuple[object, ...]]


class _Forbidden(OSError):
    """A connection to an address that is not open; the connector passes it on as it is."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "the address is in a private network that is not allowed")


class PlaceForbidden(ErrandFailed):
    """An address leads into a network that the operator has not allowed."""


class Outside:
    """Sends requests to the internet; `allow_private` are networks that may be reached although they are not.

    An answer that is read as a whole may have `answer_bytes`. Reasons of errors have no more of an address
    than its host.
    """

    def __init__(
        self,
        allow_private: Sequence[Network],
        *,
        answer_bytes: int = ANSWER_BYTES,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._allowed = allow_private
        self._answer_bytes = answer_bytes
        self._resolver = resolver
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
            headers={"User-Agent": f"calllogd/{__version__}", "Accept-Encoding": "identity"},
            auto_decompress=False,  # a small file could unpack into one without end
            trust_env=False,  # a proxy would connect for us to where we must not
        )

    async def close(self) -> None:
        """Close the session; safe to call twice."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self, ask: Ask) -> Got:
        """Return a service's whole answer; redirects are not followed.

        Raises ErrandFailed: final for what is no web address, PlaceForbidden for a private network, else for
        what may be otherwise next time (the network, too slow, too large).
        """
        with failures():
            async with asyncio.timeout(ANSWER_S), await self.send(ask, accept="application/json") as answer:
                body = await _whole(answer, self._answer_bytes)
                return Got(status=answer.status, body=body, headers=answer.headers)

    async def send(self, ask: Ask, *, accept: str) -> aiohttp.ClientResponse:
        """Return the beginning of an answer, redirects included; the caller reads the rest, and closes it.

        To be called within `failures`.
        """
        if self._session is None:
            raise ErrandFailed("calllogd is stopping")
        url = _parsed(ask.url)
        _check(url)
        headers = CIMultiDict({"Accept": f"{accept}, */*;q=0.1"})
        headers.update(ask.headers)
        try:
            return await self._session.request(
                ask.method, url, headers=headers, data=ask.body, allow_redirects=False
            )
        except aiohttp.ClientError:
            raise  # some are ValueErrors, too
        except ValueError as error:
            # Line breaks in a header, two sorts of credentials at once: the text would say which.
            raise ErrandFailed(f"{url.host} cannot be sent such a request", is_final=True) from error

    def _socket(self, info: _AddressInfo) -> socket.socket:
        """Make the socket for an address that is about to be connected to, unless it is not open."""
        family, kind, protocol, _, address = info
        if not is_open(str(address[0]), self._allowed):
            raise _Forbidden
        return socket.socket(family, kind, protocol)


@contextmanager
def failures() -> Iterator[None]:
    """Translate whatever keeps an answer from coming, or from coming to its end, into ErrandFailed."""
    try:
        yield
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise ErrandFailed(_NO_ADDRESS, is_final=True) from error
    except TimeoutError as error:
        raise ErrandFailed("the service is too slow") from error
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, _Forbidden):
            raise PlaceForbidden(f"{error.host}: {error.os_error.strerror}", is_final=True) from error
        raise ErrandFailed(f"{error.host} is not reached: {error.os_error}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ErrandFailed(f"the answer was cut off: {type(error).__name__}") from error


def redirected(ask: Ask, answer: aiohttp.ClientResponse) -> Ask:
    """Return the request that an answer redirects to: to another host or port, none but the address goes.

    Raises ErrandFailed.
    """
    here = _parsed(ask.url)
    there = here.join(_parsed(answer.headers.get("Location", "")))
    if _origin(there) != _origin(here):
        return Ask(url=str(there))
    if answer.status in _SAME_AGAIN or ask.method in ("GET", "HEAD"):
        return replace(ask, url=str(there))
    return replace(ask, url=str(there), method="GET", body=None)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
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


async def _whole(answer: aiohttp.ClientResponse, most: int) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > most:
            raise ErrandFailed(f"{answer.url.host} answered with more than {most} bytes")
    return bytes(body)


def _parsed(url: str) -> URL:
    """Return an address as it is written: signed ones must not be put in order."""
    if not url or not url.isprintable() or " " in url:
        raise ErrandFailed(_NO_ADDRESS, is_final=True)
    try:
        parsed = URL(url, encoded=url.isascii())
        _ = parsed.host, parsed.port  # read only now, and they may be wrong
    except ValueError as error:
        raise ErrandFailed(_NO_ADDRESS, is_final=True) from error
    return parsed


def _check(url: URL) -> None:
    """Return for https, and for http to this machine; else raises ErrandFailed."""
    if url.host and (url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.host))):
        return
    raise ErrandFailed("the address is not https", is_final=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _origin(url: URL) -> tuple[str, str, int | None]:
    return url.scheme, (url.host or "").lower(), url.port
