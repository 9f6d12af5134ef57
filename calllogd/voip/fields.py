"""Fields that messages have in common: how they are read, and what is wrong with them in plain words."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeVar

import msgspec

from calllogd.errors import InputRefused

T = TypeVar("T")

YEAR_2000, YEAR_2100 = 946_684_800, 4_102_444_800
AHEAD_S = 86_400
"""A call may have started this much after now: clocks and zones differ, but not by more."""

CALL_ID_MOST = 255

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def decoded(decode: Callable[[bytes], T], body: bytes, words: Mapping[str, Iterable[str]]) -> T:
    """Return what a body holds; raises InputRefused.

    `words` are those that a field takes, by its path: a refusal leaves them out by itself.
    """
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise InputRefused("invalid", f"{error}{_allowed(str(error), words)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputRefused("malformed", f"the body is not a JSON object in UTF-8: {error}") from error


def checked_call_id(call_id: str) -> str:
    """Return the id of a call; raises InputRefused."""
    if not 1 <= len(call_id) <= CALL_ID_MOST:
        raise InputRefused("invalid", f"call_id should have 1 to {CALL_ID_MOST} characters")
    if _CONTROL.search(call_id):
        raise InputRefused("invalid", "call_id has control characters")
    return call_id


def start_of(started_at: float | str | None, now: float) -> float | None:
    """Return Unix seconds; raises InputRefused for what cannot be the start of a call."""
    if started_at is None:
        return None
    if isinstance(started_at, str):
        try:
            moment = datetime.fromisoformat(started_at)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise InputRefused("invalid", "started_at should be Unix seconds, or RFC 3339 with its time zone")
        started_at = moment.timestamp()
    if not YEAR_2000 <= started_at <= YEAR_2100:
        raise InputRefused("invalid", "started_at should be in Unix seconds (not milliseconds)")
    if started_at > now + AHEAD_S:
        raise InputRefused("invalid", "started_at is more than a day ahead of calllogd's clock")
    return float(started_at)


def possible_moment(seconds: float, now: float) -> float | None:
    """Return Unix seconds as they are, None if nothing of a call can have been then."""
    return seconds if YEAR_2000 <= seconds <= YEAR_2100 and seconds <= now + AHEAD_S else None


def _allowed(refusal: str, words: Mapping[str, Iterable[str]]) -> str:
    for field, known in words.items():
        if f"`$.{field}`" in refusal:
            return f"; it takes {', '.join(known)}"
    return ""
