"""VoIP services: one module for each, which is found by its name.

A module is found when it has a `SERVICE`. What it knows of the service stands in it: how the service proves
who it is, and what its messages say. It has no state and does no I/O; what several messages say together is
for `calllogd.domain` to find out.
"""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from calllogd.config import Setting
from calllogd.domain.merge import CallEvent
from calllogd.errors import InputRefused
from calllogd.voip.proof import TOKEN, BearerToken
from calllogd.voip.webhook import Reply, Webhook


@dataclass(frozen=True, slots=True)
class Told:
    """What a message says about one call; `what` names it in the call's story.

    `body` is kept there word for word; None: the message as it came.
    """

    what: str
    event: CallEvent
    body: bytes | None = None


class NotUnderstood(Exception):
    """A message is authentic, and says something that calllogd cannot read: it is kept."""


class Provider(Protocol):
    """A VoIP service of one account."""

    @property
    def reply(self) -> Reply | None:
        """What a message is answered; None: 202 with what became of its first call, as JSON."""
        ...

    def verify(self, webhook: Webhook, now: float) -> None:
        """Return if the message comes from the service; else raises InputRefused."""
        ...

    def parse(self, webhook: Webhook, now: float) -> Sequence[Told]:
        """Return what a message says, nothing if it is of no interest.

        Raises NotUnderstood; or InputRefused where the sender was written for calllogd and can be mended.
        """
        ...

    def verify_upload(self, webhook: Webhook, now: float) -> None:
        """Return if whoever uploads a recording is the service, by the request's head alone.

        Else raises InputRefused. The body has not come yet: `webhook` has none.
        """
        ...

    def told_body(self, webhook: Webhook) -> bytes:
        """Return the message as calls' stories keep it, without secrets."""
        ...


_LEFT = "RECORD"


def left(record: bytes) -> Webhook:
    """Return a record that a service left in a file, as messages are kept that are not understood."""
    return Webhook(method=_LEFT, url="", headers={}, body=record)


def told_again(provider: Provider, webhook: Webhook, now: float) -> Sequence[Told]:
    """Return what a kept message says, whether it was sent or left; raises NotUnderstood and InputRefused."""
    if webhook.method == _LEFT and isinstance(provider, LeavesRecords):
        return provider.told_of(webhook.body, now)
    return provider.parse(webhook, now)


@runtime_checkable
class LeavesRecords(Protocol):
    """A VoIP service that leaves records of its calls in files."""

    def told_of(self, record: bytes, now: float) -> Sequence[Told]:
        """Return what a record says; raises NotUnderstood."""
        ...


class VoipService:
    """What most VoIP services have in common; the base of theirs."""

    reply: Reply | None = None

    def verify_upload(self, webhook: Webhook, now: float) -> None:
        """Raise InputRefused: the service uploads no recordings."""
        raise InputRefused("unauthorized", "this service uploads no recordings")

    def told_body(self, webhook: Webhook) -> bytes:
        """Return the body, or the fields of the address where there is none."""
        return webhook.body or webhook.url.partition("?")[2].encode("utf-8", "surrogateescape")


def _no_handshake(webhook: Webhook) -> Reply | None:
    """Return None: the service does not try the address."""
    return None


Make = Callable[[int, Mapping[str, Any], Sequence[BearerToken]], Provider | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A VoIP service that calllogd speaks with.

    `settings` are those of `[accounts.voip.NAME]`. `make` returns the service of an account, of its id, the
    values of these settings and the tokens that `calllogd voip-token` made for it; None if there is nothing
    yet by which it could prove who it is. `methods` are those of its messages, which have `body_most` bytes
    at most. `handshake` returns the answer to a request by which the service tries the address, None for any
    other: whoever asks is answered. That and `challenge`, which is asked of those who do not prove who they
    are, are the same for each account, so that nobody learns which there are.
    """

    title: str
    settings: Mapping[str, Setting]
    make: Make
    handshake: Callable[[Webhook], Reply | None] = _no_handshake
    methods: frozenset[str] = frozenset({"POST"})
    body_most: int = 64 * 1024
    challenge: str = 'Bearer realm="calllogd"'

    def address(self, url: str, values: Mapping[str, Any]) -> str:
        """Return the address that is entered at the service: with its token, if that is shown there."""
        token = values.get("token") if self.settings.get("token") is TOKEN["token"] else None
        return url if token is None else f"{url}/{token}"


@lru_cache(maxsize=1)
def services() -> Mapping[str, Service]:
    """Return the services by their names, which are their modules'."""
    modules = sorted(one.name for one in pkgutil.iter_modules(__path__))
    found = {name: getattr(import_module(f"{__name__}.{name}"), "SERVICE", None) for name in modules}
    return {name: service for name, service in found.items() if service is not None}


def service_settings() -> Mapping[str, Mapping[str, Setting]]:
    """Return the settings of each service, by its name."""
    return {name: service.settings for name, service in services().items()}
