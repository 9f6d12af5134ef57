"""Where the facts of a call stand in a message of any shape, and how they are written.

Sources are read from the configuration by `calllogd.voip.mapping_settings`. There are no expressions: what a
source cannot say is for a module of its own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from calllogd.domain.call import CallStatus, Direction
from calllogd.voip.fields import possible_moment
from calllogd.voip.provider import NotUnderstood

INTERNAL: Final = "internal"
"""Said of the direction of calls within the company, which are passed over."""

EVENTS = ("call.started", "call.answered", "call.ended", "recording.ready")

EVENT_WORDS: Mapping[str, str] = {one: one for one in EVENTS}

DIRECTION_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("in", "inbound", "incoming"), Direction.INBOUND),
    **dict.fromkeys(("out", "outbound", "outgoing"), Direction.OUTBOUND),
    **dict.fromkeys((INTERNAL, "local"), INTERNAL),
}

STATUS_WORDS: Mapping[str, str | None] = {
    **dict.fromkeys(("answered", "answer", "connected", "success"), CallStatus.ANSWERED),
    **dict.fromkeys(("no_answer", "noanswer", "not_answered", "notanswered"), CallStatus.NO_ANSWER),
    **dict.fromkeys(("unanswered", "missed", "timeout"), CallStatus.NO_ANSWER),
    **dict.fromkeys(("busy", "user_busy"), CallStatus.BUSY),
    **dict.fromkeys(("cancelled", "canceled", "cancel", "originator_cancel"), CallStatus.CANCELLED),
    **dict.fromkeys(("failed", "failure", "error", "rejected", "congestion"), CallStatus.FAILED),
    **dict.fromkeys(("voicemail", "voice_mail"), CallStatus.VOICEMAIL),
    # They say that nothing went wrong, not that anybody answered.
    **dict.fromkeys(("completed", "complete", "finished", "normal_clearing"), None),
}
"""Words for how a call ended; None: what its duration says."""

_IS_DIRECTION = re.compile("(?:is_?)?(outgoing|outbound|incoming|inbound)")
"""Names of fields that hold whether a call went this way."""

_YES, _NO = ("1", "true", "yes"), ("0", "false", "no")

PER_SECOND: Mapping[str, int] = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}
LOCAL = "local:"
DURATION_MOST_S = 10_000_000

_NUMBER_MOST = 10**20
_WHOLE_MOST = 2**53
"""Up to here a number with a point is exact."""

_NEVER = re.compile("0?|0000-00-00.*", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")
_CLOCK = re.compile(r"(?:([0-9]{1,4}):)?([0-9]{1,4}):([0-9]{2}(?:\.[0-9]{1,6})?)")


class _Nothing:
    """There is nothing at a path."""


NOTHING: Final = _Nothing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where one fact stands, and what its words mean.

    `constant` and `default` are as calllogd understands them, not as they come.
    """

    target: str
    path: str = ""
    values: Mapping[str, str] | None = None
    convert: str | None = None
    constant: str | int | None = None
    default: str | int | None = None

    def find(self, record: Any) -> Any:
        """Return what stands in a record, or NOTHING."""
        return find(record, self.path)

    def text(self, record: Any, known: Mapping[str, str | None] | None = None) -> str | None:
        """Return what a fact comes to; None if nothing is there, or if that is what its word means.

        `known` are the words where the source has no table of its own; None: any text will do. Raises
        NotUnderstood.
        """
        if self.constant is not None:
            return str(self.constant)
        value = self.find(record)
        otherwise = None if self.default is None else str(self.default)
        if nothing(value):
            return otherwise
        try:
            text = text_of(value)
        except ValueError as error:
            raise NotUnderstood(f"{self.target} at {self.path} should be {error}") from error
        words = known if self.values is None else self.values
        if words is None:
            return text
        word = folded(text)
        if word not in words and otherwise is None:
            raise NotUnderstood(f"{self.target} at {self.path} is {text[:40]!r}, which is not in its values")
        return words.get(word, otherwise)


@dataclass(frozen=True, slots=True)
class Skip:
    """Which records are passed over: those that have one of these words, or those that have none of them."""

    path: str
    words: frozenset[str]
    wanted: bool

    def applies(self, record: Any) -> bool:
        """Tell whether a record is passed over."""
        try:
            is_one = folded(text_of(find(record, self.path))) in self.words
        except ValueError:
            is_one = False
        return is_one is not self.wanted


def find(record: Any, path: str) -> Any:
    """Return what stands at a dotted path, in which numbers count the items of a list; else NOTHING.

    A field whose very name is the path counts first: forms have names such as `call.id` and `call[id]`.
    """
    if isinstance(record, Mapping) and path in record:
        return record[path]
    found = record
    for part in path.split("."):
        if isinstance(found, Mapping):
            found = found.get(part, NOTHING)
        elif isinstance(found, list) and part.isdecimal() and int(part[:9]) < len(found):
            found = found[int(part[:9])]
        else:
            return NOTHING
    return found


def direction_words(path: str) -> Mapping[str, str]:
    """Return the words for a direction at a path; 1 and 0 are clear where the field's name asks for it."""
    asked = _IS_DIRECTION.fullmatch(path.rpartition(".")[2].lower())
    if asked is None:
        return DIRECTION_WORDS
    way = DIRECTION_WORDS[asked[1]]
    back = Direction.OUTBOUND if way == Direction.INBOUND else Direction.INBOUND
    return {**DIRECTION_WORDS, **dict.fromkeys(_YES, way), **dict.fromkeys(_NO, back)}


def folded(word: str) -> str:
    """Return a word as it is compared: in any case, with whatever stands between its parts."""
    return re.sub(r"[\s_-]+", "_", word.strip().casefold())


def nothing(value: Any) -> bool:
    """Tell whether there is nothing at a path: no such field, null or an empty text."""
    return value is NOTHING or value is None or (isinstance(value, str) and not value.strip())


def text_of(value: Any) -> str:
    """Return a single value as a text; raises ValueError for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _WHOLE_MOST else repr(value)
    raise ValueError("a single value")


def time_of(value: Any, convert: str | None, zone: ZoneInfo | None, now: float) -> float | None:
    """Return Unix seconds; None for 0, an empty text or the date 0000-00-00, which say that it never was.

    Raises ValueError for what cannot be the time of a call, or has no zone where none is configured.
    """
    if value is None or (isinstance(value, str) and _NEVER.fullmatch(value.strip())):
        return None
    if convert is None:
        convert = "epoch_s" if _is_number(value) else "iso"
    if convert in PER_SECOND:
        seconds = _number(value) / PER_SECOND[convert]
    else:
        seconds = _written_time(value, convert, zone)
    if seconds == 0:
        return None
    if possible_moment(seconds, now) is None:
        raise ValueError("a time at which a call can have been")
    return seconds


def duration_of(value: Any, convert: str | None) -> int:
    """Return seconds, rounded; raises ValueError for what is no duration of a call."""
    if convert == "hms":
        clock = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
        if clock is None:
            raise ValueError("hours, minutes and seconds, such as 1:02:03 or 02:03")
        seconds = int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3])
    else:
        seconds = _number(value) / (1_000 if convert == "ms_to_s" else 1)
    if not 0 <= seconds <= DURATION_MOST_S:
        raise ValueError(f"0 to {DURATION_MOST_S} seconds")
    return round(seconds)


def _written_time(value: Any, convert: str, zone: ZoneInfo | None) -> float:
    if not isinstance(value, str):
        raise ValueError("a text")  # noqa: TRY004
    try:
        if convert == "iso":
            moment = datetime.fromisoformat(value.strip())
        else:
            moment = datetime.strptime(value.strip(), convert.removeprefix(LOCAL))  # noqa: DTZ007
        if moment.tzinfo is None and zone is not None:
            moment = moment.replace(tzinfo=zone)
        if moment.tzinfo is not None:
            return moment.timestamp()
    except (ValueError, OverflowError):
        pass
    raise ValueError("a time, with its zone where no timezone is set")


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return _NUMBER.fullmatch(value.strip()) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> float:
    if not _is_number(value) or (not isinstance(value, str) and abs(value) >= _NUMBER_MOST):
        raise ValueError("a number")
    return float(value)
