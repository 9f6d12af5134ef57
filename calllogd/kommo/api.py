"""One account's HTTP: its session, its turn, and what its answers mean."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NoReturn

import aiohttp
from yarl import URL

from calllogd import __version__
from calllogd.errors import (
    AccountPaused,
    Gone,
    KommoError,
    NobodyHasNumber,
    OutcomeUnknown,
    PermanentError,
    TokenRefused,
    TransientError,
)
from calllogd.kommo.access import Access, Authentication
from calllogd.kommo.answers import json_object, list_of, plain, retry_after_s, said
from calllogd.kommo.limiter import Limiter
from calllogd.ports import Before

NOBODY = 263
"""errors[].status of a 400: no contact and no company has the number. Source: amocrm-api-php issue 52."""

CONNECT_S = 5.0
KEEP_ALIVE_S = 4.0
"""A connection is reused only this long, well before Kommo closes it: a request on one that is just being
closed leaves it unknown whether it arrived."""

_TOKEN = "the access token is wrong, expired or revoked"  # noqa: S105  a sentence about a token
_PAUSES: dict[int, str] = {
    HTTPStatus.PAYMENT_REQUIRED: "the account is not paid for",
    HTTPStatus.FORBIDDEN: "Kommo refuses access: missing rights, or this address is blocked",
}

_PARTLY = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
"""A refusal of several things with one of these may mean only some of them; its body would tell which."""

_NOT_KOMMO = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reply:
    """A 2xx answer: its JSON object, empty for 204, Kommo's id of the request, and Kommo's time."""

    body: Mapping[str, Any]
    request_id: str | None
    date: str | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Query
    body: Any
    before: Before | None
    on: bool

    @property
    def creating(self) -> bool:
        """Whether it makes something, so that it must not be carried out twice."""
        return self.before is not None

    @property
    def several(self) -> bool:
        """Whether it makes several things, of which Kommo may make some and refuse the others."""
        return self.creating and isinstance(self.body, list) and len(self.body) > 1


class Api:
    """Requests of one account; every way in which one can go wrong comes out as a KommoError.

    `limiters` are passed one after another, the account's own first.
    """

    def __init__(
        self,
        *,
        authentication: Authentication,
        limiters: Sequence[Limiter],
        timeout_s: float,
        turn_s: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._authentication = authentication
        self._limiters = limiters
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(CONNECT_S, timeout_s))
        self._turn_s = turn_s
        self._now = now
        self.ahead_s = 0.0
        """How far this machine's clock is ahead of Kommo's, by the last answer that had a time."""
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Prepare the session; connects to nothing yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(keepalive_timeout=KEEP_ALIVE_S),
            timeout=self._timeout,
            headers={"User-Agent": f"calllogd/{__version__}", "Accept": "application/json"},
        )

    async def close(self) -> None:
        """Close the session; safe to call twice."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, query: Query = ()) -> Reply:
        """Return what Kommo has at `path`."""
        return await self._send("GET", path, query=query)

    async def patch(self, path: str, body: Any, before: Before | None = None) -> Reply:
        """Change what stands at `path`.

        Idempotent, so an answer that was lost is a TransientError; OutcomeUnknown if there is a `before`,
        for whom it matters that Kommo may still carry it out.
        """
        return await self._send("PATCH", path, body=body, before=before, on=True)

    async def create(self, path: str, body: Any, before: Before, *, on: bool = False) -> Reply:
        """Send a creating request, once: raises OutcomeUnknown when it may have been carried out.

        `on` tells that the body names an entity, which may be gone.
        """
        return await self._send("POST", path, body=body, before=before, on=on)

    async def post(self, path: str, body: Any) -> Reply:
        """Send what may be sent twice, such as a link between two cards."""
        return await self._send("POST", path, body=body)

    async def delete(self, path: str, body: Any) -> Reply:
        """Delete what is at `path`; PermanentError when there is nothing. Idempotent."""
        return await self._send("DELETE", path, body=body)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Any = None,
        before: Before | None = None,
        on: bool = False,
    ) -> Reply:
        """Send a request, and once more with another token if Kommo does not take the first."""
        if self._session is None:
            raise TransientError("calllogd is stopping")
        request = _Request(method, path, query, body, before, on)
        access = await self._authentication.access()
        try:
            return await self._sent(self._session, request, access)
        except TokenRefused as refused:
            access = await self._authentication.renewed(access, refused)
        return await self._sent(self._session, request, access)

    async def _sent(self, session: aiohttp.ClientSession, request: _Request, access: Access) -> Reply:
        for limiter in self._limiters:
            await limiter.turn(self._turn_s)
        if request.before is not None:
            await request.before()
        try:
            async with session.request(
                request.method,
                (URL(access.base_url) / request.path).with_query(list(request.query)),
                json=request.body,
                headers={"Authorization": f"Bearer {access.token}"},
                allow_redirects=False,
            ) as response:
                return await self._read(response, request)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise TransientError(f"Kommo is not reached: {plain(error)}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _lost(f"no answer from Kommo: {plain(error)}", creating=request.creating, cause=error)

    async def _read(self, response: aiohttp.ClientResponse, request: _Request) -> Reply:
        request_id = response.headers.get("X-Request-Id")
        status, creating = response.status, request.creating
        with contextlib.suppress(TypeError, ValueError):
            self.ahead_s = self._now() - parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
            _lost(f"Kommo answered with HTTP {status}", creating=creating, request_id=request_id)
        if status < HTTPStatus.MULTIPLE_CHOICES:
            body = {} if status == HTTPStatus.NO_CONTENT else await json_object(response)
            if body is None:
                _lost("Kommo's answer is unreadable", creating=creating, request_id=request_id)
            return Reply(body, request_id, response.headers.get("Date"))
        try:
            body = await json_object(response)
        except (aiohttp.ClientError, TimeoutError, OSError):
            body = None  # of a single thing the status says that it was not made, whatever became of the rest
        refusal = self._refusal(response, body, at_fault=not creating or request.on)
        if body is None and request.several and isinstance(refusal, TransientError) and status in _PARTLY:
            _lost(f"Kommo's refusal is unreadable (HTTP {status})", creating=True, request_id=request_id)
        raise refusal

    def _refusal(
        self, response: aiohttp.ClientResponse, body: Mapping[str, Any] | None, *, at_fault: bool
    ) -> KommoError:
        """Return the error of an answer that proves that nothing was done.

        `at_fault`: the request may have named what is not there.
        """
        status, headers = response.status, response.headers
        request_id = headers.get("X-Request-Id")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            wait_s = retry_after_s(body, headers)
            self._limiters[0].slow_down(wait_s)
            return TransientError("too many requests for Kommo", request_id=request_id, retry_after_s=wait_s)
        if status == HTTPStatus.UNAUTHORIZED:
            return TokenRefused(f"{_TOKEN} (HTTP {status}{said(body)})", request_id=request_id)
        if status in _PAUSES:
            return AccountPaused(f"{_PAUSES[status]} (HTTP {status}{said(body)})", request_id=request_id)
        if status < HTTPStatus.BAD_REQUEST or (not at_fault and status in _NOT_KOMMO):
            # No request of ours can be at fault: this is not the account's address.
            return AccountPaused(
                f"{response.url.host} does not answer as Kommo does (HTTP {status})", request_id=request_id
            )
        if body is None:
            return TransientError(f"Kommo's refusal is unreadable (HTTP {status})", request_id=request_id)
        if any(is_nobody(error) for error in list_of(body.get("errors"))):
            return NobodyHasNumber("nobody has the number", request_id=request_id, answer=body)
        kind = Gone if status == HTTPStatus.NOT_FOUND else PermanentError
        return kind(f"Kommo refuses the request (HTTP {status}{said(body)})", request_id=request_id)


def _lost(
    reason: str, *, creating: bool, request_id: str | None = None, cause: BaseException | None = None
) -> NoReturn:
    """Raise for a request that left and whose outcome did not come back."""
    kind = OutcomeUnknown if creating else TransientError
    raise kind(reason, request_id=request_id) from cause


def is_nobody(error: object) -> bool:
    """Tell whether an error of an answer says that nobody has the number of a call."""
    return isinstance(error, dict) and str(error.get("status")) == str(NOBODY)
