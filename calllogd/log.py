"""The log: one line for each change of a call's state, logfmt or JSON, for people and programs that tail it.

Every line has `ts`, `level` and `event`. Lines about a call have `account_id` and `call_id`, so that
`grep call_id=…` tells its story. No line has a secret, or more of a number than its last four digits.
docs/operators.md lists the events.
"""

import contextlib
import json
import logging
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Self

from calllogd.domain.call import Call, CallKey, CallState, Facts
from calllogd.domain.merge import CallEvent
from calllogd.domain.phone import masked
from calllogd.errors import ConfigError
from calllogd.ports import Pause

_log = logging.getLogger(__name__)

_LEVELS = {
    CallState.FAILED: logging.ERROR,
    CallState.IN_DOUBT: logging.WARNING,
}

_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")
"""Printable ASCII without space, quote, equals sign and backslash; anything else is quoted and escaped."""


def log_accepted(events: Iterable[CallEvent]) -> None:
    """Log calls that were heard of for the first time: a line each, written in one go."""
    if _log.isEnabledFor(logging.INFO):
        lines = [
            {**_identity(event.key, event.first_facts), "state": CallState.PENDING.value} for event in events
        ]
        if lines:
            _log.info("accepted", extra={"facts": lines})


def log_change(before: Call, after: Call, reason: str) -> None:
    """Log a change of state; nothing when there is none."""
    if before.state is after.state:
        return
    facts: dict[str, object] = {
        **_identity(after.key, after.facts),
        "state": after.state.value,
        "was": before.state.value,
    }
    if after.entry is not None:
        facts["entity"] = f"{after.entry.entity_type.value}/{after.entry.entity_id}"
    if reason:
        facts["reason"] = reason
    _log.log(_LEVELS.get(after.state, logging.INFO), "call", extra={"facts": facts})


def log_pause(pause: Pause) -> None:
    """Log that an account's calls are held back."""
    facts = {"account_id": pause.account_id, "reason": pause.reason, "next_try_at": _utc(pause.probe_at)}
    _log.warning("account_paused", extra={"facts": facts})


def log_resume(account_id: int) -> None:
    """Log that Kommo serves an account again."""
    _log.warning("account_resumed", extra={"facts": {"account_id": account_id}})


def log_installed(account_id: int, base_url: str) -> None:
    """Log that an account allows the integration, for the first time or again."""
    _log.info("account_installed", extra={"facts": {"account_id": account_id, "base_url": base_url}})


def log_disabled(account_id: int) -> None:
    """Log that an account has removed the integration."""
    _log.warning("account_disabled", extra={"facts": {"account_id": account_id}})


def log_token_renewed(account_id: int, until: float) -> None:
    """Log that an account's tokens are new."""
    _log.info("token_renewed", extra={"facts": {"account_id": account_id, "until": _utc(until)}})


def log_token_trouble(account_id: int, reason: str, until: float | None) -> None:
    """Log that a person has to act, and by when, before Kommo stops serving an account."""
    facts: dict[str, object] = {"account_id": account_id, "reason": reason}
    if until is not None:
        facts["until"] = _utc(until)
    _log.warning("token_trouble", extra={"facts": facts})


def set_up(*, file: Path | None, form: str, level: str) -> None:
    """Send everything that is logged to `file`, or to standard error, in the given form.

    May be called again to change any of it. A file that was renamed or removed is opened anew.
    """
    handler = logging.StreamHandler(sys.stderr) if file is None else _File.open(file)
    handler.setFormatter(_Json() if form == "json" else _Logfmt())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.server").addFilter(_without_request)
    for noisy in ("huey", "aiosqlite", "asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def _without_request(record: logging.LogRecord) -> bool:
    """Keep what a sender wrote out of the log, if it is no HTTP: it may be anything, a token too.

    And it is no mistake of ours, so it is told as what it is.
    """
    error = record.exc_info[1] if record.exc_info else None
    if any(kind.__name__ == "HttpProcessingError" for kind in type(error).__mro__):
        record.msg, record.exc_info = "a request from %s is no HTTP", None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return _log.isEnabledFor(record.levelno)


class _File(WatchedFileHandler):
    """A log file that may be renamed; when it cannot be written, lines go to standard error."""

    @classmethod
    def open(cls, file: Path) -> Self:
        """Open the file; raises ConfigError when it cannot be written."""
        try:
            return cls(file, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"log.file: {file} cannot be written: {error.strerror}") from error

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        # With both full there is nowhere left to say it; whoever logs must not suffer for that.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(self.format(record) + "\n")


class _Lines(logging.Formatter):
    """Turns a record into lines, one for each of its `facts`."""

    def format(self, record: logging.LogRecord) -> str:
        head: dict[str, object] = {"ts": _utc(record.created), "level": record.levelname.lower()}
        own: Mapping[str, object] | Sequence[Mapping[str, object]] | None = getattr(record, "facts", None)
        if own is None:
            return self.line({**head, "event": record.name, "message": record.getMessage(), **_error(record)})
        head["event"] = record.getMessage()
        every = [own] if isinstance(own, Mapping) else own
        # What all lines share is written out once: a record may have hundreds.
        start = self.line(head)
        return "\n".join([self.joined(start, self.line(facts)) for facts in every])

    def joined(self, start: str, rest: str) -> str:
        """Return one line from two halves of it."""
        raise NotImplementedError

    def line(self, facts: Mapping[str, object]) -> str:
        """Return one line."""
        raise NotImplementedError


class _Logfmt(_Lines):
    """Lines of key=value, quoted as JSON strings where they have to be."""

    def line(self, facts: Mapping[str, object]) -> str:
        return " ".join([f"{key}={_quoted(value)}" for key, value in facts.items()])

    def joined(self, start: str, rest: str) -> str:
        return f"{start} {rest}"


class _Json(_Lines):
    """Lines of one JSON object."""

    def line(self, facts: Mapping[str, object]) -> str:
        return json.dumps(facts, default=str)

    def joined(self, start: str, rest: str) -> str:
        return f"{start[:-1]}, {rest[1:]}"


def _error(record: logging.LogRecord) -> dict[str, object]:
    """Return an exception as two fields; a traceback of many lines would tear the log apart."""
    if record.exc_info is None or record.exc_info[1] is None:
        return {}
    error = record.exc_info[1]
    frames = reversed(traceback.extract_tb(error.__traceback__))
    at = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}:{frame.name}" for frame in frames)
    return {"error": f"{type(error).__name__}: {error}", "at": at}


def _identity(key: CallKey, facts: Facts) -> dict[str, object]:
    known: dict[str, object] = {"account_id": key.account_id, "call_id": key.call_id}
    if facts.direction is not None:
        known["direction"] = facts.direction.value
    if facts.phone is not None:
        known["phone"] = masked(facts.phone)
    return known


def _quoted(value: object) -> str:
    text = str(value)
    return text if (text.isalnum() and text.isascii()) or _PLAIN.fullmatch(text) else json.dumps(text)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
