"""The log: one line for each change of a call's state, logfmt or JSON, for people and programs that tail it.

Every line has `ts`, `level` and `event`. Lines about a call have `account_id` and `call_id`, so that
`grep call_id=…` tells its story. No line has a secret, or more of a number than its last four digits.
docs/log.md lists the events.
"""

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

from calllogd.domain.call import Call, CallState
from calllogd.domain.phone import masked
from calllogd.ports import Pause

_log = logging.getLogger(__name__)

_LEVELS = {
    CallState.FAILED: logging.ERROR,
    CallState.IN_DOUBT: logging.WARNING,
}

_PLAIN = re.compile(r"[^\s\"=\\\x00-\x1f\x7f]+", re.ASCII)


def log_accepted(call: Call) -> None:
    """Log that a call was heard of for the first time."""
    if _log.isEnabledFor(logging.INFO):
        _log.info("accepted", extra={"facts": {**_identity(call), "state": call.state.value}})


def log_change(before: Call, after: Call, reason: str) -> None:
    """Log a change of state; nothing when there is none."""
    if before.state is after.state:
        return
    facts: dict[str, object] = {**_identity(after), "state": after.state.value, "was": before.state.value}
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


def set_up(*, file: Path | None, form: str, level: str) -> None:
    """Send everything that is logged to `file`, or to standard error, in the given form.

    May be called again to change any of it. A file that was renamed or removed is opened anew.
    """
    handler: logging.Handler = logging.StreamHandler(sys.stderr) if file is None else WatchedFileHandler(file)
    handler.setFormatter(_Json() if form == "json" else _Logfmt())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    for noisy in ("huey", "aiosqlite", "asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def facts_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the fields of a log line, in the order in which they are written."""
    facts: dict[str, object] = {"ts": _utc(record.created), "level": record.levelname.lower()}
    own: dict[str, object] | None = getattr(record, "facts", None)
    if own is not None:
        facts["event"] = record.getMessage()
        facts.update(own)
    else:
        facts["event"] = record.name
        facts["message"] = record.getMessage()
    if record.exc_info is not None and record.exc_info[1] is not None:
        error = record.exc_info[1]
        facts["error"] = f"{type(error).__name__}: {error}"
        facts["at"] = " < ".join(
            f"{Path(frame.filename).name}:{frame.lineno}:{frame.name}"
            for frame in reversed(traceback.extract_tb(error.__traceback__))
        )
    return facts


class _Logfmt(logging.Formatter):
    """Lines of key=value, quoted as JSON strings where they have to be."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(value)}" for key, value in facts_of(record).items())


class _Json(logging.Formatter):
    """Lines of one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(facts_of(record), ensure_ascii=False, default=str)


def _identity(call: Call) -> dict[str, object]:
    facts: dict[str, object] = {"account_id": call.key.account_id, "call_id": call.key.call_id}
    if call.facts.direction is not None:
        facts["direction"] = call.facts.direction.value
    facts["phone"] = masked(call.facts.phone)
    return facts


def _quoted(value: Any) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
