"""What calllogd asks VoIP services by itself, without doing it: for recordings, and for calls it has missed.

An errand is a generator: it yields what is to be asked and is sent what was answered, so that it can be read,
and tested, like any function. `calllogd.recordings` and `calllogd.console` run errands.
"""

import base64
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable
from urllib.parse import urlsplit

import msgspec

from calllogd.errors import CalllogdError
from calllogd.voip.provider import Told

T = TypeVar("T")

URL_MOST = 2000
"""Characters of a recording's address at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request to a VoIP service; `headers` and `body` may hold credentials, which go to its host alone.

    `url` is https, or http to this machine. Private networks, this machine included, are asked if the
    operator allows them.
    """

    url: str = field(repr=False)
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """What a VoIP service answered, redirects included; `headers` are found in any case."""

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A recording on this machine; what is not in `folder`, by whatever links, is not touched."""

    path: Path
    folder: Path


def with_password(url: str, name: str, password: str) -> Ask:
    """Return a request with a name and a password."""
    shown = base64.b64encode(f"{name}:{password}".encode()).decode()
    return Ask(url=url, headers={"Authorization": f"Basic {shown}"})


def is_at(url: str, hosts: re.Pattern[str], api_url: str) -> bool:
    """Tell whether an address is a service's own, on one of its hosts or its API: it may see credentials."""
    if not url.isprintable() or " " in url or len(url) > URL_MOST:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    known = parts.scheme == "https" and hosts.fullmatch(parts.netloc) is not None
    return known or url.startswith(f"{api_url}/")


class ErrandFailed(CalllogdError):
    """A VoIP service did not answer as it should; `is_final`: it will not do so later either.

    The reason is shown to the operator: it has no credentials, no reference, and of addresses the host alone.
    """

    code = "errand_failed"

    def __init__(self, reason: str, *, is_final: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.is_final = is_final
        self.retry_after_s = retry_after_s


Errand = Generator[Ask, Got, T]


@runtime_checkable
class KeepsRecordings(Protocol):
    """A VoIP service whose recordings are not to be had with their address alone.

    Their calls have `NAME:REFERENCE` for the address of a recording, with the service's name.
    """

    def find_recording(self, reference: str, now: float) -> Errand[Ask | LocalFile]:
        """Return the request that is answered with the recording, or the file that it is.

        `now` is in Unix seconds. Raises ErrandFailed. Credentials go to the service's own hosts alone,
        whatever the reference says.
        """
        ...


@runtime_checkable
class ListsCalls(Protocol):
    """A VoIP service that can be asked which calls there were."""

    @property
    def lists_calls(self) -> bool:
        """Whether what it takes to ask for calls is configured."""
        ...

    def list_calls(
        self, since: float, until: float, now: float
    ) -> Generator[Ask | Sequence[Told], Got | None, None]:
        """Yield requests, to be sent their answers, and what is told of ended calls, to be sent None.

        Of all calls that began between Unix seconds `since` and `until`, a day at most, in any order. What
        is told of a call agrees with what its webhooks tell: both together are the one call. Raises
        ErrandFailed.
        """
        ...


def json_of(got: Got | None, kind: type[T] | Any = Any) -> Any:
    """Return what an answer holds; raises ErrandFailed unless it is a 200 with JSON of that kind."""
    if got is None or got.status != 200:  # noqa: PLR2004
        status = None if got is None else got.status
        retry = got.headers.get("Retry-After", "") if got is not None else ""
        final = status is not None and 400 <= status < 500 and status not in (404, 408, 425, 429)  # noqa: PLR2004
        raise ErrandFailed(
            f"the service answered with HTTP {status}",
            is_final=final,
            retry_after_s=float(retry) if retry.isdecimal() else None,
        )
    try:
        return msgspec.json.decode(got.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ErrandFailed(f"the service's answer cannot be read: {error}") from error
