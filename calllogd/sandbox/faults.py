"""A script of faults: which request meets which mishap."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from calllogd.sandbox.given import fields_of


class FaultKind(StrEnum):
    """What can happen to a request. To commit means to do what was asked, as if all were well."""

    TIMEOUT_AFTER = "timeout_after"
    """Commit, then never answer: the connection stays open until the client leaves."""
    TIMEOUT_BEFORE = "timeout_before"
    """Neither commit nor answer."""
    LATE_COMMIT = "late_commit"
    """Never answer; commit `seconds` later, even if the client has gone by then."""
    RESET_BEFORE = "reset_before"
    """TCP reset without a commit."""
    RESET_AFTER = "reset_after"
    """TCP reset after the commit."""
    STATUS_BEFORE = "status_before"
    """Answer `status` (default 500) without a commit."""
    STATUS_AFTER = "status_after"
    """Answer `status` (default 500) after the commit."""
    RATE = "rate"
    """429 without a commit; `seconds`, if given, is told as retry_after."""
    UNAUTHORIZED = "unauthorized"
    """401 without a commit."""
    UNPAID = "unpaid"
    """402 without a commit."""
    FORBIDDEN = "forbidden"
    """403 without a commit, as an HTML page."""
    HTML = "html"
    """Commit, then 200 with an HTML page."""
    HALF_BODY = "half_body"
    """Commit, then half of the promised bytes, then the end of the connection."""
    SLOW = "slow"
    """Commit, then answer `seconds` later."""


NEEDS_SECONDS: Final = frozenset({FaultKind.LATE_COMMIT, FaultKind.SLOW})
STATUSES: Final = range(200, 600)
JSON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "kind": (str,),
    "method": (str,),
    "path": (str,),
    "every": (int,),
    "times": (int,),
    "after": (int,),
    "account_id": (int,),
    "seconds": (int, float),
    "status": (int,),
    "body": (str,),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One mishap and the requests that meet it. Raises ValueError for a fault that makes no sense.

    `path` is a regular expression searched in the path after /api/v4 (`^/calls$`, `/notes`), of OAuth in the
    whole one (`^/oauth2/access_token$`); every match counts, the first `after` ones pass, of the others each
    `every`-th meets the fault, at most `times` times.
    `body` replaces the JSON of an error by this text, sent as text/plain.
    """

    kind: str
    method: str | None = None
    path: str | None = None
    every: int = 1
    times: int | None = None
    after: int = 0
    account_id: int | None = None
    seconds: float | None = None
    status: int | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        kind = FaultKind(self.kind)
        try:
            re.compile(self.path or "")
        except re.error as exc:
            raise ValueError(f"path is not a regular expression: {exc}") from exc
        if self.every < 1 or self.after < 0 or (self.times is not None and self.times < 1):
            raise ValueError("every and times start at 1, after at 0")
        if self.seconds is not None and self.seconds < 0:
            raise ValueError("seconds must not be negative")
        if kind in NEEDS_SECONDS and self.seconds is None:
            raise ValueError(f"{kind.value} needs seconds")
        if self.status is not None and self.status not in STATUSES:
            raise ValueError("status must be 200 to 599")

    @classmethod
    def from_json(cls, value: Any) -> "Fault":
        """A fault of its JSON object. Raises ValueError, with the reason, for anything else."""
        given = fields_of(value, JSON_TYPES, "a fault")
        if "kind" not in given:
            raise ValueError("kind is missing")
        return cls(**given)

    def matches(self, method: str, path: str, account_id: int | None) -> bool:
        """The request is one of those that this fault counts."""
        return (
            (self.method is None or self.method.upper() == method)
            and (self.account_id is None or self.account_id == account_id)
            and (self.path is None or re.search(self.path, path) is not None)
        )


@dataclass(slots=True)
class _Armed:
    fault: Fault
    matched: int = 0
    fired: int = 0

    def fires(self) -> bool:
        self.matched += 1
        counted = self.matched - self.fault.after
        spent = self.fault.times is not None and self.fired >= self.fault.times
        if spent or counted < 1 or counted % self.fault.every:
            return False
        self.fired += 1
        return True


class FaultScript:
    """The faults in force, in the order in which they were added."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force; it comes after those that are."""
        self._armed.append(_Armed(fault))
        return fault

    def clear(self) -> None:
        """Let all requests pass from now on."""
        self._armed.clear()

    def fired(self, fault: Fault) -> int:
        """How many requests met this fault so far."""
        return sum(armed.fired for armed in self._armed if armed.fault == fault)

    def take(self, method: str, path: str, account_id: int | None) -> Fault | None:
        """The fault that this request meets, if any; the first that fires wins."""
        for armed in self._armed:
            if armed.fault.matches(method, path, account_id) and armed.fires():
                return armed.fault
        return None
