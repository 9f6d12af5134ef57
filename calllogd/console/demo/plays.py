"""What the demo plays: calls of every kind, what is told of them in which order, and what goes wrong."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from calllogd.domain.call import CallKey
from calllogd.domain.phone import tail
from calllogd.sandbox import Fault, FaultKind

ACCOUNT, OTHER_ACCOUNT = 31337, 4242
"""Two Kommo accounts of the demo; both have a contact with the first number."""

KNOWN, HAS_LEAD, COMPANY = "+1 555 010 0200", "+1 555 010 0300", "+1 555 010 0400"
"""The numbers of Ann, of Bob, who has an active lead, and of a company."""

ROOF, GARDEN, DORA = "Roof repair", "Garden", "Dora"
"""Bob's lead, a lead of nobody, and a contact without a number."""

CONTACT_WAIT_S = 64800.0
"""As `policy.contact_wait` is unless configured: 18 hours."""

NEARLY_S = 5.0
"""So long before its 18 hours are over a call of the demo is told of."""


class Act(StrEnum):
    """What happens about a call."""

    ANNOUNCE = "announcement"
    """The widget says that the call is being made in Kommo."""
    CALL = "webhook"
    RESULT = "result"
    SKIP = "declined result"
    RECORDING = "recording"
    """The VoIP service uploads it."""
    LOGGED = "logged"
    """Nothing more before the call stands in Kommo."""
    ACCEPT = "accepted"
    """A person accepts the incoming lead."""
    APPEAR = "appeared"
    """A contact gets the number."""


Script = tuple[tuple[Act, ...], ...]
"""What happens one after the other; the acts of one step happen at the same instant."""

JUST_CALL: Script = ((Act.CALL,),)
LATER_RESULT: Script = ((Act.CALL,), (Act.LOGGED,), (Act.RESULT,))
HEARD_LATER: Script = ((Act.CALL, Act.RECORDING), (Act.LOGGED,), (Act.RESULT,))
AT_ONCE: Script = ((Act.CALL, Act.RESULT, Act.RECORDING),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """A call of the demo; plays that show the same are played together, and share a row.

    `sent` is how often each message comes. `on` names what the manager chooses, `todo` gives his result a
    task. `after` is the call that is played first. `fetched`: the VoIP service announces where the recording
    is, and the first `unready` times it is not there. `ago_s`: how long the call has been over.
    """

    shows: str
    call_id: str
    phone: str
    direction: str = "inbound"
    status: str = "answered"
    duration: int = 42
    extension: str | None = "101"
    account_id: int = ACCOUNT
    sent: int = 1
    script: Script = JUST_CALL
    on: str | None = None
    todo: bool = False
    after: str | None = None
    fetched: bool = False
    unready: int = 0
    ago_s: float = 0.0
    fault: Fault | None = None

    @property
    def key(self) -> CallKey:
        """The call's identity."""
        return CallKey(self.account_id, self.call_id)

    @property
    def is_strange(self) -> bool:
        """Somebody calls whose number nobody has."""
        known = {tail(phone) for phone in (KNOWN, HAS_LEAD, COMPANY)}
        return self.direction == "inbound" and tail(self.phone) not in {"", *known}

    @property
    def has_recording(self) -> bool:
        """It is told of a recording."""
        return self.fetched or self.does(Act.RECORDING)

    @property
    def expires(self) -> bool:
        """Nobody has the number, and its time is nearly over."""
        return self.ago_s > 0

    @property
    def recording_name(self) -> str:
        """The name of the recording at the VoIP service."""
        return f"{self.account_id}-{self.call_id}.mp3"

    @property
    def text(self) -> str:
        """What the manager writes."""
        return f"What was said in {self.call_id}"

    @property
    def todo_text(self) -> str:
        """The manager's task."""
        return f"Call back about {self.call_id}"

    def does(self, act: Act) -> bool:
        """Tell whether this happens about the call."""
        return any(act in step for step in self.script)

    def event(self) -> dict[str, object]:
        """Return the webhook that ends the call, without its recording."""
        known = {
            "event": "call.ended",
            "call_id": self.call_id,
            "direction": self.direction,
            "phone": self.phone,
            "status": self.status,
            "duration": self.duration,
            "started_at": int(time.time() - self.ago_s) - self.duration,
            "extension": self.extension,
        }
        return {name: value for name, value in known.items() if value is not None}


WEBHOOKS = (
    Play(shows="a contact calls", call_id="known-1", phone=KNOWN),
    Play(shows="a contact with an active lead calls", call_id="lead-1", phone="(555) 010-0300"),
    Play(
        shows="a company is called",
        call_id="company-1",
        phone=COMPANY,
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
    *(
        Play(
            shows="somebody unknown rings five times",
            call_id=f"ring-{number}",
            phone="+1 555 019 9006",
            status="no_answer",
            duration=0,
            extension=None,
        )
        for number in range(1, 6)
    ),
    *(
        Play(
            shows="a lead is accepted between two calls",
            call_id=f"between-{number}",
            phone="+15550199007",
            script=((Act.CALL,), (Act.LOGGED,), (Act.ACCEPT,)) if number == 1 else JUST_CALL,
            after=None if number == 1 else "between-1",
        )
        for number in (1, 2)
    ),
    Play(
        shows="a dialled number gets a contact later",
        call_id="dialled-1",
        phone="+15550199004",
        direction="outbound",
        script=((Act.CALL,), (Act.APPEAR,)),
    ),
    Play(
        shows="the number is withheld",
        call_id="withheld-1",
        phone="anonymous",
        status="no_answer",
        duration=0,
    ),
    Play(shows="the same id in another account", call_id="known-1", phone=KNOWN, account_id=OTHER_ACCOUNT),
)

RESULTS = (
    Play(
        shows="the result comes before the webhook",
        call_id="first-1",
        phone=KNOWN,
        script=((Act.RESULT,), (Act.CALL,)),
    ),
    Play(
        shows="the result names another lead",
        call_id="moved-1",
        phone=HAS_LEAD,
        script=LATER_RESULT,
        on=GARDEN,
    ),
    Play(
        shows="… and webhook and recording come with it",
        call_id="moved-2",
        phone=HAS_LEAD,
        sent=2,
        script=AT_ONCE,
        on=GARDEN,
    ),
    Play(
        shows="an unknown caller's goes to a contact",
        call_id="given-1",
        phone="+15550199008",
        script=LATER_RESULT,
        on=DORA,
    ),
    Play(
        shows="the manager gives no result",
        call_id="skipped-1",
        phone=KNOWN,
        script=((Act.ANNOUNCE,), (Act.CALL,), (Act.SKIP,)),
    ),
    Play(
        shows="a result with a task, three times at once",
        call_id="task-1",
        phone=KNOWN,
        sent=3,
        script=LATER_RESULT,
        todo=True,
    ),
)

RECORDINGS = (
    Play(
        shows="nobody has the number for 18 hours",
        call_id="expires-1",
        phone="+15550199009",
        direction="outbound",
        script=((Act.RECORDING,), (Act.CALL,)),
        ago_s=CONTACT_WAIT_S - NEARLY_S,
    ),
    Play(
        shows="a recording that is not ready at first",
        call_id="announced-1",
        phone=KNOWN,
        fetched=True,
        unready=1,
    ),
    Play(
        shows="a recording before its webhook",
        call_id="early-1",
        phone=KNOWN,
        script=((Act.RECORDING,), (Act.CALL,)),
    ),
    Play(
        shows="a late recording of an incoming lead",
        call_id="late-1",
        phone="+15550199010",
        script=((Act.CALL,), (Act.LOGGED,), (Act.RECORDING,)),
    ),
    Play(
        shows="a recording that comes twice at once",
        call_id="again-1",
        phone=KNOWN,
        sent=2,
        script=((Act.CALL,), (Act.RECORDING,)),
    ),
)

FAULTS = (
    Play(
        shows="the token is refused once",
        call_id="refused-1",
        phone=KNOWN,
        account_id=OTHER_ACCOUNT,
        fault=Fault(FaultKind.UNAUTHORIZED, account_id=OTHER_ACCOUNT, times=1),
    ),
    Play(
        shows="Kommo fails before it commits",
        call_id="lost-2",
        phone=KNOWN,
        fault=Fault(FaultKind.STATUS_BEFORE, method="POST", path="^/calls", times=1, status=502),
    ),
    Play(
        shows="Kommo commits, its answer is lost",
        call_id="lost-1",
        phone=KNOWN,
        fault=Fault(FaultKind.RESET_AFTER, method="POST", path="^/calls", times=1),
    ),
    Play(
        shows="an incoming lead's answer is cut in half",
        call_id="lost-3",
        phone="+15550199005",
        fault=Fault(FaultKind.HALF_BODY, method="POST", path="unsorted", times=1),
    ),
    Play(
        shows="a move's answer is lost",
        call_id="lost-4",
        phone=KNOWN,
        script=LATER_RESULT,
        on=GARDEN,
        fault=Fault(FaultKind.STATUS_AFTER, method="POST", path="^/leads/notes$", times=1, status=504),
    ),
    Play(
        shows="Kommo wants fewer requests",
        call_id="limited-1",
        phone=KNOWN,
        fault=Fault(FaultKind.RATE, method="POST", path="^/calls", times=1, seconds=1),
    ),
)

SECTIONS: Sequence[Sequence[Play]] = (WEBHOOKS, RESULTS, RECORDINGS, FAULTS)

CHAOS = (
    Fault(FaultKind.TIMEOUT_AFTER, method="POST", every=23),
    Fault(FaultKind.LATE_COMMIT, method="POST", every=31, seconds=2),
    Fault(FaultKind.RESET_AFTER, method="POST", every=7),
    Fault(FaultKind.RESET_BEFORE, method="POST", every=13),
    Fault(FaultKind.STATUS_AFTER, method="POST", every=11, status=504),
    Fault(FaultKind.HTML, method="POST", every=17),
    Fault(FaultKind.TIMEOUT_BEFORE, method="PATCH", every=29),
    Fault(FaultKind.RESET_AFTER, method="PATCH", every=11),
    Fault(FaultKind.STATUS_AFTER, method="DELETE", times=3, status=502),
    Fault(FaultKind.HALF_BODY, method="GET", every=41),
    Fault(FaultKind.SLOW, every=25, seconds=0.3),
    Fault(FaultKind.UNAUTHORIZED, account_id=OTHER_ACCOUNT, times=1),
    Fault(FaultKind.RATE, every=97, times=2, seconds=1),
)
"""What Kommo does in the demo with --chaos: of every few requests one goes wrong."""


MANY: Sequence[Play] = (
    Play(shows="a crowd of contacts", call_id="", phone=KNOWN),
    Play(shows="a crowd of unknown callers", call_id="", phone="+1555018"),
    Play(shows="a crowd with everything at once", call_id="", phone=KNOWN, sent=2, script=AT_ONCE),
    Play(shows="… and on another lead", call_id="", phone=HAS_LEAD, sent=2, script=AT_ONCE, on=GARDEN),
    Play(shows="a crowd that is moved", call_id="", phone=HAS_LEAD, sent=2, script=HEARD_LATER, on=GARDEN),
    Play(shows="… of unknown callers", call_id="", phone="+1555017", sent=2, script=HEARD_LATER, on=DORA),
)
"""Of each of these there are many in a crowd."""


def crowd(each: int) -> Iterator[Play]:
    """Return so many calls of each kind; two calls each have one unknown number, unless they are moved."""
    for number in range(each * len(MANY)):
        kind, place = MANY[number // each], number % each
        phone = kind.phone + f"{place if kind.on else place // 2:04d}" if kind.is_strange else kind.phone
        yield replace(kind, call_id=f"crowd-{number}", phone=phone)
