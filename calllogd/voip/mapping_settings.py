"""Mappings as the configuration writes them.

A source is a dotted path, or a table: `{ path, values, as, default }` or `{ constant }`. Every mistake that
can be found without a message is found here; for what is wrong ValueError says what would be right.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from calllogd.domain.call import CallStatus, Direction
from calllogd.voip.mapping import (
    DURATION_MOST_S,
    EVENTS,
    INTERNAL,
    LOCAL,
    PER_SECOND,
    Skip,
    Source,
    folded,
    text_of,
)

TIMES = ("started_at", "answered_at", "ended_at")
TARGETS = (
    *("call_id", "direction", "phone", "caller", "callee", "extension", "duration", *TIMES),
    *("status", "recording", "event"),
)

WORDS: Mapping[str, Sequence[str]] = {
    "direction": (*Direction, INTERNAL),
    "status": tuple(CallStatus),
    "event": EVENTS,
}
"""What a source has to come to, where only certain words do."""

DURATIONS = ("int", "hms", "ms_to_s")

_PATH_MOST = 200


def read_map(value: Any) -> Mapping[str, Source]:
    """Return the source of each fact."""
    if not isinstance(value, dict):
        raise ValueError('a table of what stands where, such as { call_id = "data.uuid" }')  # noqa: TRY004
    if unknown := sorted(value.keys() - set(TARGETS)):
        raise ValueError(f"a table without {unknown[0]}; known here are {', '.join(sorted(TARGETS))}")
    sources = {target: _read_source(target, source) for target, source in value.items()}
    for needed in ("call_id", "direction"):
        if needed not in sources:
            raise ValueError(f"a table with {needed}")
    if {"phone", "caller", "callee"} & sources.keys() not in ({"phone"}, {"caller", "callee"}):
        raise ValueError("a table with either phone, the client's number, or both caller and callee")
    if "duration" not in sources and not {"answered_at", "ended_at"} <= sources.keys():
        raise ValueError("a table with duration, that of the talk, or with answered_at and ended_at")
    return MappingProxyType(sources)


def read_skip(value: Any) -> tuple[Skip, ...]:
    """Return which records are passed over: one table, or a list of several of which one is enough."""
    tables = value if isinstance(value, list) else [value]
    return tuple(map(_read_skip, tables))


def read_path(value: Any) -> str:
    """Return a dotted path."""
    if not isinstance(value, str) or not 1 <= len(value) <= _PATH_MOST or not all(value.split(".")):
        raise ValueError("a dotted path, such as data.call.uuid or calls.0.id")
    return value


def read_zone(value: Any) -> ZoneInfo:
    """Return a time zone."""
    try:
        return ZoneInfo(value)
    except (ValueError, TypeError, OSError, LookupError):
        raise ValueError("a time zone such as America/Sao_Paulo") from None


def _read_skip(value: Any) -> Skip:
    right = 'a table such as { path = "event", not_in = ["call_end"] }, with either in or not_in'
    if not isinstance(value, dict) or value.keys() not in ({"path", "in"}, {"path", "not_in"}):
        raise ValueError(right)
    wanted = "not_in" in value
    words = value["not_in" if wanted else "in"]
    if not isinstance(words, list) or not words or not all(isinstance(word, str | int) for word in words):
        raise ValueError(right)
    return Skip(read_path(value["path"]), frozenset(folded(text_of(word)) for word in words), wanted)


def _read_source(target: str, value: Any) -> Source:
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, dict):
        raise _wrong(target, "a dotted path or a table")
    known = {"path", "values", "as", "constant", "default"}
    if unknown := sorted(value.keys() - known):
        raise _wrong(target, f"without {unknown[0]}; known here are {', '.join(sorted(known))}")
    if "constant" in value:
        if len(value) > 1:
            raise _wrong(target, "a constant, which needs nothing else")
        return Source(target=target, constant=_read_fixed(target, "constant", value["constant"]))
    try:
        path = read_path(value.get("path"))
    except ValueError as error:
        raise _wrong(f"{target}.path", str(error)) from None
    return Source(
        target=target,
        path=path,
        values=_read_values(target, value["values"]) if "values" in value else None,
        convert=_read_convert(target, value["as"]) if "as" in value else None,
        default=_read_fixed(target, "default", value["default"]) if "default" in value else None,
    )


def _read_fixed(target: str, key: str, value: Any) -> str | int:
    """Return what is taken for a fact where a message does not say it."""
    where = f"{target}.{key}"
    if target in TIMES or target == "call_id":
        raise _wrong(where, "left out: it is different for each call")
    if target == "duration":
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= DURATION_MOST_S:
            raise _wrong(where, "a whole number of seconds")
        return value
    if not isinstance(value, str):
        raise _wrong(where, "a text")
    if target in WORDS and value not in WORDS[target]:
        raise _wrong(where, f"one of {', '.join(WORDS[target])}")
    return value


def _read_values(target: str, value: Any) -> Mapping[str, str]:
    where = f"{target}.values"
    if target in TIMES or target in ("call_id", "duration"):
        raise _wrong(where, "left out: it is for words")
    if not isinstance(value, dict) or not value or not all(isinstance(one, str) for one in value.values()):
        raise _wrong(where, 'a table such as { IN = "inbound", OUT = "outbound" }')
    for word in value.values():
        if target in WORDS and word not in WORDS[target]:
            raise _wrong(where, f"a table of {', '.join(WORDS[target])}, without {word}")
    return MappingProxyType({folded(key): word for key, word in value.items()})


def _read_convert(target: str, value: Any) -> str:
    where = f"{target}.as"
    if target == "duration":
        if value not in DURATIONS:
            raise _wrong(where, f"one of {', '.join(DURATIONS)}")
        return str(value)
    if target not in TIMES:
        raise _wrong(where, "left out: it is for times and durations")
    if isinstance(value, str) and value.startswith(LOCAL):
        _try_format(where, value.removeprefix(LOCAL))
    elif value not in (*PER_SECOND, "iso"):
        raise _wrong(where, f"one of {', '.join(PER_SECOND)}, iso, or local: and a format")
    return str(value)


def _try_format(where: str, form: str) -> None:
    """Return if times can be read by a format; it has to say the day and the minute."""
    moment = datetime(2026, 2, 3, 14, 5, tzinfo=UTC)
    try:
        again = datetime.strptime(moment.strftime(form), form)  # noqa: DTZ007
    except (ValueError, re.error):
        again = None
    if again is None or again.replace(tzinfo=UTC) != moment:
        raise _wrong(where, "local: and a format of date and time, such as local:%Y-%m-%d %H:%M:%S")


def _wrong(where: str, right: str) -> ValueError:
    return ValueError(f"a table in which {where} is {right}")


def needs_zone(sources: Mapping[str, Source]) -> str | None:
    """Return a time that comes without its zone, None if there is none."""
    for target in TIMES:
        convert = sources[target].convert if target in sources else None
        if convert is not None and convert.startswith(LOCAL) and "%z" not in convert:
            return target
    return None
