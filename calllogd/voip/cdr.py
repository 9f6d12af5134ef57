"""Asterisk's call detail records: as lines of a file, and as fields, however they have come.

Source: Asterisk's CDR Specification, cdr.conf.sample and cdr/cdr_csv.c, and the lines of an Asterisk 22.10.1,
read 2026-11-23.
"""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from types import MappingProxyType
from typing import Any, NamedTuple

from calllogd.domain.call import CallStatus
from calllogd.errors import InputRefused
from calllogd.voip.fields import checked_call_id, start_of
from calllogd.voip.pbx import DIRECTIONS
from calllogd.voip.provider import NotUnderstood

RECORD_BYTES = 64 * 1024
"""Bytes of a record at most; Asterisk itself writes no more than 1024."""

COLUMNS = (
    *("accountcode", "src", "dst", "dcontext", "clid", "channel", "dstchannel", "lastapp", "lastdata"),
    *("start", "answer", "end", "duration", "billsec", "disposition", "amaflags"),
)
_SINCE_1_8 = ("peeraccount", "linkedid", "sequence")

_LAYOUTS: Mapping[int, Sequence[str]] = MappingProxyType(
    {
        len(columns): columns
        for columns in (
            COLUMNS,
            (*COLUMNS, "uniqueid"),
            (*COLUMNS, "uniqueid", "userfield"),
            (*COLUMNS, *_SINCE_1_8),
            (*COLUMNS, "uniqueid", *_SINCE_1_8),
            (*COLUMNS, "uniqueid", "userfield", *_SINCE_1_8),
        )
    }
)
"""Columns of Master.csv by their number, which loguniqueid, loguserfield and newcdrcolumns decide."""

_STATUSES: Mapping[str, CallStatus] = MappingProxyType(
    {
        "ANSWERED": CallStatus.ANSWERED,
        "ANSWER": CallStatus.ANSWERED,
        "NOANSWER": CallStatus.NO_ANSWER,
        "BUSY": CallStatus.BUSY,
        "CANCEL": CallStatus.CANCELLED,
        "FAILED": CallStatus.FAILED,
        "CONGESTION": CallStatus.FAILED,
        "CHANUNAVAIL": CallStatus.FAILED,
        "DONTCALL": CallStatus.FAILED,
        "TORTURE": CallStatus.FAILED,
        "INVALIDARGS": CallStatus.FAILED,
        "VOICEMAIL": CallStatus.VOICEMAIL,
    }
)
"""Dispositions, what Dial() leaves in DIALSTATUS, and a word of ours; letters only."""

_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_SOUND = re.compile(r"\S+\.(wav|wav49|gsm|mp3|ogg|opus|flac|ulaw|alaw)", re.IGNORECASE)
_FREEPBX = re.compile(r"(?:[^/]*-)?(20[0-9]{2})([01][0-9])([0-3][0-9])-[0-2][0-9][0-5][0-9][0-5][0-9]-[^/]*")

_SECONDS_MOST = 10_000_000
_TEXT_MOST = 255


class Cdr(NamedTuple):
    """A call detail record: what one channel, party A, had to do with another, party B, or with nobody.

    `linkedid` is empty where it is not known. `dstchannel` is party B's: empty if nobody was dialled, None if
    that is not told. Moments are whole Unix seconds, `talk` is in seconds. `direction` is one of `pbx`'s, if
    the dialplan says so.
    """

    uniqueid: str
    linkedid: str
    sequence: str
    channel: str
    dstchannel: str | None
    src: str
    dst: str
    dcontext: str
    lastapp: str
    did: str
    start: float | None
    answer: float | None
    end: float | None
    status: CallStatus
    talk: int | None
    recording: str
    direction: str | None
    extension: str

    @property
    def call_id(self) -> str:
        """What all records of a call have in common, as far as it is told."""
        return self.linkedid or self.uniqueid

    @property
    def began(self) -> bool:
        """Whether the call began with this record's channel, as far as it is told."""
        return self.uniqueid == self.call_id

    @property
    def id(self) -> str:
        """What this record has alone."""
        return "/".join(filter(None, (self.uniqueid, self.sequence, self.dstchannel)))


def complete_records(chunk: bytes) -> tuple[list[bytes], bytes]:
    """Return the records that a piece of a file has whole, without their ends, and the rest of the piece.

    The piece begins with a record. A record ends with its line, unless that is between quotes. The rest has
    at most RECORD_BYTES: after them a record is given up at its first line's end, and what it was is for
    `fields_of` to say.
    """
    records, begin = [], 0
    while (end := _end(chunk, begin)) is not None:
        record, begin = chunk[begin:end].rstrip(b"\r\n"), end
        if record:
            records.append(record)
    return records, chunk[begin:]


def _end(chunk: bytes, begin: int) -> int | None:
    """Return where the record that begins there is over, None if that is not known yet."""
    place, quoted = begin, False
    while (line := chunk.find(b"\n", place, begin + RECORD_BYTES) + 1) > 0:
        quoted ^= chunk.count(b'"', place, line) % 2 == 1
        if not quoted:
            return line
        place = line
    if len(chunk) - begin <= RECORD_BYTES:
        return None
    return chunk.find(b"\n", begin, begin + RECORD_BYTES) + 1 or begin + RECORD_BYTES


def fields_of(record: bytes, columns: Sequence[str] = ()) -> Mapping[str, str]:
    """Return the fields of a line by their names; without `columns` those that Asterisk writes by itself.

    Raises NotUnderstood.
    """
    try:
        text = record.decode()
    except UnicodeDecodeError:
        text = record.decode("latin-1")
    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        raise NotUnderstood("this is not one line of comma-separated values") from None
    known = columns or _LAYOUTS.get(len(fields), ())
    if not known:
        raise NotUnderstood(
            f"a record of {len(fields)} fields: 16 to 21 are known, cdr_columns may name others"
        )
    if len(known) != len(fields):
        raise NotUnderstood(f"a record of {len(fields)} fields, where cdr_columns names {len(known)}")
    return dict(zip(known, fields, strict=True))


def columns(value: Any) -> tuple[str, ...]:
    """Return the names of a file's columns, as a setting gives them."""
    right = "a list of the columns' names, each once, disposition and uniqueid or linkedid among them"
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one.strip() for one in value):
        raise ValueError(right)
    found = tuple(one.strip().lower() for one in value)
    needed = "disposition" in found and {"uniqueid", "linkedid"} & set(found)
    if found and (len(set(found)) != len(found) or not needed):
        raise ValueError(right)
    return found


def cdr_of(fields: Mapping[str, str], zone: tzinfo, now: float) -> Cdr:
    """Return the record that has these fields, times without a zone being those of `zone`.

    Raises NotUnderstood.
    """
    text = {name: _text(name, value) for name, value in fields.items() if name in _READ}
    linkedid, uniqueid = _id(text.get("linkedid", "")), _id(text.get("uniqueid", ""))
    if not linkedid and not uniqueid:
        raise NotUnderstood("uniqueid is missing; in Master.csv it is there with loguniqueid=yes")
    start, answer, end = (_moment(text.get(name, ""), zone, now) for name in ("start", "answer", "end"))
    status = _status(text)
    talk = _talk(status, text.get("billsec", ""), answer, end)
    if answer is None and end is not None and talk is not None:
        answer = end - talk
    return Cdr(
        uniqueid=uniqueid or linkedid,
        linkedid=linkedid,
        sequence=text.get("sequence", ""),
        channel=text.get("channel", ""),
        dstchannel=text.get("dstchannel"),
        src=text.get("src") or text.get("clid", ""),
        dst=text.get("dst", ""),
        dcontext=text.get("dcontext", ""),
        lastapp=text.get("lastapp", "").lower(),
        did=text.get("did", ""),
        start=start,
        answer=answer,
        end=end,
        status=status,
        talk=talk,
        recording=_recording(text),
        direction=_direction(text.get("direction", "")),
        extension=text.get("extension", ""),
    )


_READ = frozenset(
    (
        *("uniqueid", "linkedid", "sequence", "channel", "dstchannel", "src", "clid", "dst", "dcontext"),
        *("lastapp", "did", "start", "answer", "end", "disposition", "billsec"),
        *("recordingfile", "userfield", "direction", "extension"),
    )
)


def _text(name: str, value: str) -> str:
    # A recording's path and the field that may hold one are told by what they are, not by their length.
    if len(value) > _TEXT_MOST and name not in ("recordingfile", "userfield"):
        raise NotUnderstood(f"{name} has more than {_TEXT_MOST} characters")
    return value.strip()


def _id(text: str) -> str:
    try:
        return checked_call_id(text) if text else ""
    except InputRefused as error:
        raise NotUnderstood(error.detail) from None


def _status(text: Mapping[str, str]) -> CallStatus:
    told = text.get("disposition", "")
    status = _STATUSES.get("".join(filter(str.isalpha, told.upper())))
    if status is None:
        raise NotUnderstood(f"disposition should be one of Asterisk's words, not {told[:20]!r}")
    if status is CallStatus.ANSWERED and not text.get("dstchannel") and _is_voicemail(text):
        return CallStatus.VOICEMAIL
    return status


def _is_voicemail(text: Mapping[str, str]) -> bool:
    return text.get("lastapp", "").lower() == "voicemail"


def _talk(status: CallStatus, billsec: str, answer: float | None, end: float | None) -> int | None:
    """Return the seconds since the answer: of a dial that failed billsec may count what was before it."""
    if status not in (CallStatus.ANSWERED, CallStatus.VOICEMAIL):
        return None
    if _NUMBER.fullmatch(billsec):
        seconds = int(float(billsec))
    elif answer is not None and end is not None:
        seconds = int(end - answer)
    else:
        return None
    return seconds if 0 <= seconds <= _SECONDS_MOST else None


def _moment(text: str, zone: tzinfo, now: float) -> float | None:
    """Return Unix seconds, whole ones as the file has them; None for what is no moment of a call."""
    try:
        if _NUMBER.fullmatch(text):
            seconds = float(text)
        else:
            local = datetime.fromisoformat(text)
            seconds = (local if local.tzinfo else local.replace(tzinfo=zone)).timestamp()
        return start_of(float(math.floor(seconds)), now)
    except (ValueError, OverflowError, InputRefused):
        return None


def _direction(text: str) -> str | None:
    if not text:
        return None
    if (direction := DIRECTIONS.get(text.lower())) is None:
        raise NotUnderstood("direction should be in, out or internal")
    return direction


def _recording(text: Mapping[str, str]) -> str:
    """Return the path or address of the recording, as seen from the folder; empty if none is told."""
    # The user fields of both parties are put together with a semicolon.
    told = text.get("recordingfile") or next(
        filter(_SOUND.fullmatch, text.get("userfield", "").split(";")), ""
    )
    # FreePBX tells the name alone, and has a folder for each day.
    dated = _FREEPBX.fullmatch(told)
    return f"{dated[1]}/{dated[2]}/{dated[3]}/{told}" if dated else told
