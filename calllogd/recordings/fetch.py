"""Recordings from VoIP services, fetched from wherever they are into our own files.

Most have an address that is all they need. Others have `NAME:REFERENCE`, and the account's VoIP service of
that name knows how they are to be had: by which requests, with which credentials, or from which file.
"""

import asyncio
import logging
import re
import time
import traceback
from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus

import aiohttp
from aiohttp.abc import AbstractResolver

from calllogd.domain.call import CallKey
from calllogd.errors import InputRefused, StorageError
from calllogd.ports import Clock
from calllogd.recordings.addresses import Network
from calllogd.recordings.local import declared_of, reading_local
from calllogd.recordings.outside import (
    LONGEST_RETRY_AFTER_S,
    REDIRECTIONS,
    Outside,
    PlaceForbidden,
    failures,
    redirected,
    retry_after_s,
)
from calllogd.recordings.store import RecordingStore
from calllogd.voip.errand import Ask, Errand, ErrandFailed, KeepsRecordings, LocalFile
from calllogd.voip.usecase.fetch_recording import RecordingNotReady, RecordingRefused

__all__ = ["FETCH_S", "RecordingFetcher", "RecordingNotReady", "RecordingRefused"]

FETCH_S = 300.0
"""How long one recording may take, errand and redirects included."""

REDIRECTS = 5
ASKS = 20
"""Requests of an errand, at most."""

_LATER = frozenset({404, 408, 425, 429})
"""Refusals that may end: many services announce a recording before it is there."""

_WEB = ("https://", "http://")
_REFERENCE = re.compile(r"(?!https?:)([a-z][a-z0-9_]{0,63}):(?!//)(.+)", re.DOTALL)
_UNKNOWN_TYPE, _GSM = "application/octet-stream", "audio/x-gsm"

_log = logging.getLogger(__name__)


class _MachineClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()


class RecordingFetcher:
    """Fetches recordings into the store; implements `Fetcher`.

    `allow_private` are networks that may be connected to although they are not of the internet. `providers`
    are the VoIP services, by their name and account id; those that keep recordings are asked for theirs.
    """

    def __init__(
        self,
        store: RecordingStore,
        allow_private: Sequence[Network],
        *,
        providers: Mapping[tuple[str, str], object] | None = None,
        clock: Clock | None = None,
        resolver: AbstractResolver | None = None,
        fetch_s: float = FETCH_S,
    ) -> None:
        self._store = store
        self._providers = providers or {}
        self._clock = clock or _MachineClock()
        self._outside = Outside(allow_private, resolver=resolver)
        self._fetch_s = fetch_s

    async def open(self) -> None:
        """Prepare for requests; connects to nothing yet."""
        await self._outside.open()

    async def close(self) -> None:
        """End all requests; safe to call twice."""
        await self._outside.close()

    async def fetch(self, key: CallKey, url: str) -> str:
        """Keep what is at `url` as the call's recording, and return its media type.

        Idempotent. Raises RecordingRefused (a 4xx that will not change, no sound, too large, a forbidden
        address) and RecordingNotReady (404, 408, 425, 429, 5xx, the network, too slow, no room on the disk,
        a service that is not configured, a file that is still being written). Neither leaves anything
        behind, nor tells more of the address than its host.
        """
        is_link = url.lower().startswith(_WEB)
        try:
            with failures():
                async with asyncio.timeout(self._fetch_s):
                    if is_link:
                        return await self._follow(key, Ask(url=url))
                    return await self._send_for(key, url)
        except PlaceForbidden as error:
            if is_link:
                raise RecordingRefused(str(error)) from error
            # It is the operator who named the place, and he may yet allow it.
            raise RecordingNotReady(str(error)) from error
        except ErrandFailed as error:
            if error.is_final:
                raise RecordingRefused(str(error)) from error
            wait_s = None if error.retry_after_s is None else min(error.retry_after_s, LONGEST_RETRY_AFTER_S)
            raise RecordingNotReady(str(error), retry_after_s=wait_s) from error
        except InputRefused as error:
            raise RecordingRefused(error.detail) from error
        except StorageError as error:
            raise RecordingNotReady(str(error)) from error

    async def _send_for(self, key: CallKey, address: str) -> str:
        """Have the VoIP service find a recording, and keep it."""
        match = _REFERENCE.fullmatch(address)
        if match is None:
            raise RecordingRefused("the address is no web address")
        name, reference = match.groups()
        provider = self._providers.get((name, str(key.account_id)))
        if not isinstance(provider, KeepsRecordings):
            raise RecordingNotReady(f"{name} is not configured")
        try:
            found = await self._run(provider.find_recording(reference, self._clock.now()))
        except (ErrandFailed, TimeoutError, aiohttp.ClientError, OSError):
            raise
        except Exception as error:  # noqa: BLE001  said here, for its text may have the reference
            *_, (frame, line) = traceback.walk_tb(error.__traceback__)
            _log.critical(
                "recordings of %s are not found by a mistake of ours: %s in %s:%d",
                name, type(error).__name__, frame.f_code.co_filename, line,
            )  # fmt: skip
            raise RecordingNotReady(f"{name} was not asked, by a mistake of ours") from None
        if isinstance(found, LocalFile):
            async with reading_local(found, self._clock.now()) as chunks:
                return await self._store.receive(key, chunks, media_type=declared_of(found))
        return await self._follow(key, found)

    async def _run(self, errand: Errand[Ask | LocalFile]) -> Ask | LocalFile:
        """Ask what an errand wants to be asked, and return what it returns."""
        try:
            ask = next(errand)
            for _ in range(ASKS):
                ask = errand.send(await self._outside.ask(ask))
        except StopIteration as end:
            found: Ask | LocalFile = end.value
            return found
        finally:
            errand.close()
        raise ErrandFailed(f"more than {ASKS} requests", is_final=True)

    async def _follow(self, key: CallKey, ask: Ask) -> str:
        """Go where a request and its redirects lead, and keep what is there."""
        for _ in range(REDIRECTS + 1):
            async with await self._outside.send(ask, accept="audio/*") as answer:
                if answer.status == HTTPStatus.OK:
                    return await self._keep(key, answer)
                if answer.status not in REDIRECTIONS:
                    raise _refusal(answer, has_credentials=bool(ask.headers))
                ask = redirected(ask, answer)
        raise RecordingRefused(f"more than {REDIRECTS} redirects")

    async def _keep(self, key: CallKey, answer: aiohttp.ClientResponse) -> str:
        length = answer.content_length
        if length is not None and length > self._store.max_bytes:
            raise RecordingRefused(f"a recording may have {self._store.max_bytes} bytes, not {length}")
        return await self._store.receive(key, _chunks(answer), media_type=_declared_of(answer))


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for chunk in answer.content.iter_any():
        yield chunk


def _declared_of(answer: aiohttp.ClientResponse) -> str:
    """Return the media type that a service declares, by the name of the file where it declares none."""
    if answer.content_type == _UNKNOWN_TYPE and answer.url.path.lower().endswith(".gsm"):
        return _GSM
    return answer.content_type


def _refusal(
    answer: aiohttp.ClientResponse, *, has_credentials: bool
) -> RecordingRefused | RecordingNotReady:
    reason = f"{answer.url.host} answered with HTTP {answer.status}"
    final = HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
    # Wrong credentials are the operator's to mend, who has a day for it.
    is_ours = has_credentials and answer.status == HTTPStatus.UNAUTHORIZED
    if final and answer.status not in _LATER and not is_ours:
        return RecordingRefused(reason)
    return RecordingNotReady(reason, retry_after_s=retry_after_s(answer.headers))
