"""Calls as VoIP services would tell them, for `calllogd simulate` and for the tests; a module for each.

A module is found by its name, the service's, when it has a `SIMULATION`. Pure: a scene in, requests out.
"""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib import import_module
from typing import Any

from calllogd.domain.call import CallStatus, Direction
from calllogd.voip.webhook import Webhook

CLIENT, COMPANY = "+12125550123", "+12125550100"
"""A client and a company, of a range of numbers that is kept for such uses."""


class Kind(StrEnum):
    """What happens in a call."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    MISSED = "missed"
    RING_GROUP = "ring-group"
    TRANSFER = "transfer"
    RECORDING_FIRST = "recording-first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A call to be told of.

    The client's number is `phone`, the company's `line`, both in E.164. Of `extensions` the first answers;
    in a ring group all ring and the second answers, in a transfer the first answers and hands over to the
    second, and nobody answers a missed call. It rings for `ring_s` seconds and is talked for `talk_s`, all
    told; a transfer is half-way. `id` are hexadecimal digits of which the service's own ids are made.
    `recording` is the address or reference of a recording, None: there is none.
    """

    kind: Kind
    id: str
    phone: str
    line: str
    extensions: Sequence[str]
    started_at: float
    ring_s: int
    talk_s: int
    recording: str | None = None

    @property
    def direction(self) -> Direction:
        """Who calls."""
        return Direction.OUTBOUND if self.kind is Kind.OUTBOUND else Direction.INBOUND

    @property
    def extension(self) -> str:
        """Who talks to the client in the end, or is called first."""
        return self.extensions[1 if self.kind in (Kind.RING_GROUP, Kind.TRANSFER) else 0]

    @property
    def status(self) -> CallStatus:
        """How it ends."""
        return CallStatus.NO_ANSWER if self.kind is Kind.MISSED else CallStatus.ANSWERED

    @property
    def talk(self) -> int:
        """Seconds of talk."""
        return 0 if self.kind is Kind.MISSED else self.talk_s

    @property
    def answered_at(self) -> float:
        """Unix seconds at which it is answered, or at which the client gives up."""
        return self.started_at + self.ring_s

    @property
    def ended_at(self) -> float:
        """Unix seconds of its end."""
        return self.answered_at + self.talk


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """How a service tells of a call.

    `messages` returns its requests, in their usual order, each signed: of a scene, the address that is
    entered at the service (with its token, if it has one), the service's settings, and the Unix second at
    which they are sent. `call_id` is the id under which the call will be known. `kinds` are those that the
    service can tell of, `recorded` those of whose recordings, and `moved` those in which legs are moved to a
    room that has an id of its own.
    """

    messages: Callable[[Scene, str, Mapping[str, Any], float], Sequence[Webhook]]
    call_id: Callable[[Scene], str]
    kinds: frozenset[Kind] = frozenset(Kind)
    recorded: frozenset[Kind] = frozenset(Kind)
    moved: frozenset[Kind] = frozenset()


@lru_cache(maxsize=1)
def simulations() -> Mapping[str, Simulation]:
    """Return the simulations by the names of their services."""
    modules = sorted(one.name for one in pkgutil.iter_modules(__path__))
    found = {name: getattr(import_module(f"{__name__}.{name}"), "SIMULATION", None) for name in modules}
    return {name: simulation for name, simulation in found.items() if simulation is not None}
