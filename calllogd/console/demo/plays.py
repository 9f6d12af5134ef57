"""What the demo plays: calls of every kind, and what goes wrong with them."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from calllogd.domain.call import CallKey
from calllogd.sandbox import Fault, FaultKind

ACCOUNT, OTHER_ACCOUNT = 31337, 4242
"""Two Kommo accounts of the demo; both have a contact with the first number."""

KNOWN = "+1 555 010 0200"
APPEARS = CallKey(ACCOUNT, "dialled-1")
"""The call whose number gets a contact only after it."""

APPEARING = "+15550199004"


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """A call of the demo: what it shows, its webhook, and what befalls it."""

    shows: str
    call_id: str
    phone: str
    direction: str = "inbound"
    status: str = "answered"
    duration: int = 42
    extension: str | None = "101"
    account_id: int = ACCOUNT
    sent: int = 1
    fault: Fault | None = None

    @property
    def key(self) -> CallKey:
        """The call's identity."""
        return CallKey(self.account_id, self.call_id)

    def event(self) -> dict[str, object]:
        """Return the webhook that ends the call."""
        known = {
            "event": "call.ended",
            "call_id": self.call_id,
            "direction": self.direction,
            "phone": self.phone,
            "status": self.status,
            "duration": self.duration,
            "started_at": int(time.time()) - self.duration,
            "extension": self.extension,
        }
        return {name: value for name, value in known.items() if value is not None}


PLAYS = (
    Play(shows="a contact calls", call_id="known-1", phone=KNOWN),
    Play(shows="a contact with an active lead calls", call_id="lead-1", phone="(555) 010-0300"),
    Play(
        shows="a company is called",
        call_id="company-1",
        phone="+15550100400",
        direction="outbound",
        extension="102",
    ),
    Play(
        shows="a contact's call is missed",
        call_id="missed-1",
        phone=KNOWN,
        status="no_answer",
        duration=0,
        extension=None,
    ),
    Play(shows="somebody unknown calls", call_id="unknown-1", phone="+15550199001"),
    Play(
        shows="somebody unknown calls and is missed",
        call_id="unknown-2",
        phone="+15550199002",
        status="no_answer",
        duration=0,
        extension=None,
    ),
    Play(shows="one webhook five times at once", call_id="twice-1", phone=KNOWN, sent=5),
    Play(shows="the same, somebody unknown", call_id="twice-2", phone="+15550199003", sent=5),
    Play(
        shows="a number is dialled that gets a contact later",
        call_id="dialled-1",
        phone=APPEARING,
        direction="outbound",
    ),
    Play(
        shows="the number is withheld",
        call_id="withheld-1",
        phone="anonymous",
        status="no_answer",
        duration=0,
    ),
    Play(shows="the same id in another account", call_id="known-1", phone=KNOWN, account_id=OTHER_ACCOUNT),
    Play(
        shows="Kommo commits, its answer is lost",
        call_id="lost-1",
        phone=KNOWN,
        fault=Fault(FaultKind.RESET_AFTER, method="POST", path="^/calls", times=1),
    ),
    Play(
        shows="Kommo fails before it commits",
        call_id="lost-2",
        phone=KNOWN,
        fault=Fault(FaultKind.STATUS_BEFORE, method="POST", path="^/calls", times=1, status=502),
    ),
    Play(
        shows="an incoming lead's answer is cut in half",
        call_id="lost-3",
        phone="+15550199005",
        fault=Fault(FaultKind.HALF_BODY, method="POST", path="unsorted", times=1),
    ),
    Play(
        shows="Kommo wants fewer requests",
        call_id="limited-1",
        phone=KNOWN,
        fault=Fault(FaultKind.RATE, method="POST", path="^/calls", times=1, seconds=1),
    ),
    Play(
        shows="the token is refused once",
        call_id="refused-1",
        phone=KNOWN,
        account_id=OTHER_ACCOUNT,
        fault=Fault(FaultKind.UNAUTHORIZED, account_id=OTHER_ACCOUNT, times=1),
    ),
)

CHAOS = (
    Fault(FaultKind.TIMEOUT_AFTER, method="POST", every=23),
    Fault(FaultKind.RESET_AFTER, method="POST", every=7),
    Fault(FaultKind.RESET_BEFORE, method="POST", every=13),
    Fault(FaultKind.STATUS_AFTER, method="POST", every=11, status=504),
    Fault(FaultKind.HTML, method="POST", every=17),
    Fault(FaultKind.RATE, every=97, seconds=1),
)
"""What Kommo does in the demo with --chaos: of every few requests one goes wrong."""


def crowd(number: int) -> Iterator[Play]:
    """Return calls of known and unknown numbers, some of them told of more than once."""
    for place in range(number):
        unknown = place % 3 == 0
        yield Play(
            shows="one of a crowd",
            call_id=f"crowd-{place}",
            phone=f"+1555018{place:04d}" if unknown else KNOWN,
            sent=random.choice((1, 1, 2)),  # noqa: S311  any number will do
        )
