"""Asterisk's call detail records: where a line ends, what its fields are, and what they mean."""

import csv
import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calllogd.domain.call import CallStatus
from calllogd.voip.cdr import COLUMNS, RECORD_BYTES, Cdr, cdr_of, columns, complete_records, fields_of
from calllogd.voip.provider import NotUnderstood

NOW = 1_795_500_000.0
UTC = ZoneInfo("UTC")
LINE = (Path(__file__).parent / "asterisk-cdrs.csv").read_text().splitlines()[1]
"""As Asterisk 22.10.1 wrote it, with loguniqueid, loguserfield and newcdrcolumns."""

FIELDS = {"uniqueid": "1795407336.3", "disposition": "ANSWERED"}

texts = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x00") | st.sampled_from('",; \n'), max_size=20
)
rows = st.lists(st.lists(texts, min_size=1, max_size=5).filter(lambda row: row != [""]), max_size=6)


def written(row: Sequence[str]) -> bytes:
    """As Asterisk writes: all texts in quotes, those within doubled."""
    return ",".join('"' + text.replace('"', '""') + '"' for text in row).encode()


def cdr(**changes: str) -> Cdr:
    return cdr_of({**FIELDS, **changes}, UTC, NOW)


# where lines end


@given(rows, st.lists(st.integers(0, 400), max_size=8))
def test_however_a_file_is_cut_its_records_are_whole(found: list[list[str]], cuts: list[int]) -> None:
    records = [written(row) for row in found]
    content = b"".join(record + b"\n" for record in records)
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    got, rest = [], b""
    for begin, end in pairwise(places):
        more, rest = complete_records(rest + content[begin:end])
        got += more
    assert got == records
    assert rest == b""


@given(st.binary(max_size=300))
def test_nothing_is_lost_and_the_rest_is_the_end(content: bytes) -> None:
    records, rest = complete_records(content)
    assert content.endswith(rest)
    assert all(record in content for record in records)
    assert complete_records(rest) == ([], rest)


def test_a_line_is_not_over_between_quotes() -> None:
    assert complete_records(b'"a\nb",1\n"c') == ([b'"a\nb",1'], b'"c')
    assert complete_records(b'"say ""hi""\n",1\n') == ([b'"say ""hi""\n",1'], b"")


def test_ends_of_other_systems_and_empty_lines() -> None:
    assert complete_records(b'"a"\r\n\r\n\n"b"\n') == ([b'"a"', b'"b"'], b"")


def test_a_quote_that_is_never_closed_spoils_one_line() -> None:
    line = b'"a","b"\n'
    many = line * (RECORD_BYTES // len(line) + 1)
    records, rest = complete_records(b'"broken\n' + many)
    assert records[0] == b'"broken'
    assert records[1:] == [b'"a","b"'] * (len(records) - 1)
    assert len(records) > 1000
    assert rest == b""


def test_a_record_has_a_bound() -> None:
    long = b'"' + b"x" * (RECORD_BYTES - 1)
    assert complete_records(long) == ([], long)
    records, rest = complete_records(long + b"y")
    assert (records, rest) == ([long], b"y")
    whole = b'"' + b"x" * (RECORD_BYTES - 3) + b'"\n'
    assert complete_records(whole) == ([whole[:-1]], b"")


# which field is which


@pytest.mark.parametrize(
    ("added", "names"),
    [
        ([], ()),
        (["U"], ("uniqueid",)),
        (["U", "F"], ("uniqueid", "userfield")),
        (["P", "L", "S"], ("peeraccount", "linkedid", "sequence")),
        (["U", "P", "L", "S"], ("uniqueid", "peeraccount", "linkedid", "sequence")),
        (["U", "F", "P", "L", "S"], ("uniqueid", "userfield", "peeraccount", "linkedid", "sequence")),
    ],
)
def test_layouts_by_the_number_of_columns(added: list[str], names: tuple[str, ...]) -> None:
    row = [*COLUMNS, *added]
    assert fields_of(written(row)) == dict(zip((*COLUMNS, *names), row, strict=True))


def test_a_line_that_asterisk_wrote() -> None:
    found = cdr_of(fields_of(LINE.encode()), UTC, NOW)
    assert found == Cdr(
        uniqueid="1795407336.3",
        linkedid="1795407336.3",
        sequence="3",
        channel="IAX2/mytrunk-16307",
        dstchannel="IAX2/101-10857",
        src="+12125550123",
        dst="2001",
        dcontext="from-trunk",
        lastapp="dial",
        did="",
        start=1795407336.0,
        answer=1795407338.0,
        end=1795407342.0,
        status=CallStatus.ANSWERED,
        talk=4,
        recording="",
        direction=None,
        extension="",
    )
    assert (found.call_id, found.id, found.began) == (
        "1795407336.3",
        "1795407336.3/3/IAX2/101-10857",
        True,
    )


def test_columns_of_ones_own() -> None:
    named = columns(["Clid", " uniqueid ", "disposition"])
    assert named == ("clid", "uniqueid", "disposition")
    assert fields_of(b'"""A"" <1>",7.1,BUSY', named) == {
        "clid": '"A" <1>',
        "uniqueid": "7.1",
        "disposition": "BUSY",
    }
    with pytest.raises(NotUnderstood, match="3"):
        fields_of(b"1,2", named)
    with pytest.raises(NotUnderstood, match="3"):
        fields_of(b"1,2,3,4", named)
    assert columns([]) == ()


@pytest.mark.parametrize(
    "value",
    [
        "uniqueid",
        ["uniqueid", 7],
        ["uniqueid"],
        ["disposition"],
        ["uniqueid", "disposition", "uniqueid"],
        [""],
    ],
)
def test_columns_that_would_not_do(value: Any) -> None:
    with pytest.raises(ValueError, match="columns"):
        columns(value)


def test_both_ids_will_do_for_columns() -> None:
    assert columns(["linkedid", "disposition"]) == ("linkedid", "disposition")


def test_other_encodings() -> None:
    row = [*COLUMNS, "7.1"]
    row[4] = '"Jörg" <1>'
    for encoding in ("utf-8", "latin-1"):
        assert fields_of(written(row).decode().encode(encoding))["clid"] == '"Jörg" <1>'


def test_line_breaks_within_a_field() -> None:
    row = [*COLUMNS, "7.1"]
    row[4] = '"A\nB" <1>'
    assert fields_of(written(row))["clid"] == '"A\nB" <1>'


@pytest.mark.parametrize("record", [b"", b"a,b", b'"a', b'"a"b,c', b"\x00", b",".join([b"x"] * 22)])
def test_lines_that_are_none(record: bytes) -> None:
    with pytest.raises(NotUnderstood):
        fields_of(record)


def test_quotes_within_a_field_are_a_mistake() -> None:
    with pytest.raises(NotUnderstood):
        fields_of(b'"a"b,c', ("one", "two"))


@given(st.binary(max_size=200) | st.lists(texts, min_size=16, max_size=21).map(written))
def test_any_line_is_read_or_not_understood(record: bytes) -> None:
    try:
        cdr_of(fields_of(record), UTC, NOW)
    except NotUnderstood:
        return


@given(rows)
def test_what_is_written_is_read(found: list[list[str]]) -> None:
    for row in found:
        names = [str(number) for number in range(len(row))]
        assert list(fields_of(written(row), names).values()) == row
        (same,) = csv.reader(io.StringIO(written(row).decode(), newline=""))
        assert same == row


# what fields mean


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ("ANSWERED", CallStatus.ANSWERED),
        ("ANSWER", CallStatus.ANSWERED),
        ("NO ANSWER", CallStatus.NO_ANSWER),
        ("NOANSWER", CallStatus.NO_ANSWER),
        ("busy", CallStatus.BUSY),
        ("CANCEL", CallStatus.CANCELLED),
        ("FAILED", CallStatus.FAILED),
        ("CONGESTION", CallStatus.FAILED),
        ("CHANUNAVAIL", CallStatus.FAILED),
        ("VOICEMAIL", CallStatus.VOICEMAIL),
    ],
)
def test_dispositions(told: str, status: CallStatus) -> None:
    assert cdr(disposition=told).status is status


@pytest.mark.parametrize("told", ["", "8", "FINE", "x" * 300])
def test_words_that_are_no_disposition(told: str) -> None:
    with pytest.raises(NotUnderstood):
        cdr(disposition=told)


def test_a_mailbox_answers_nobody() -> None:
    assert cdr(lastapp="VoiceMail", dstchannel="").status is CallStatus.VOICEMAIL
    assert cdr(lastapp="VoiceMail", dstchannel="PJSIP/101-1").status is CallStatus.ANSWERED
    assert cdr(lastapp="VoiceMailMain", dstchannel="").status is CallStatus.ANSWERED
    assert cdr(lastapp="VoiceMail", disposition="NO ANSWER").status is CallStatus.NO_ANSWER


@pytest.mark.parametrize(
    ("told", "zone", "seconds"),
    [
        ("2026-11-23 04:15:36", "UTC", 1795407336),
        ("2026-11-23 01:15:36", "America/Sao_Paulo", 1795407336),
        ("2026-11-23 04:15:36+0000", "America/Sao_Paulo", 1795407336),
        ("1795407336.999999", "America/Sao_Paulo", 1795407336),
        ("1795407336", "UTC", 1795407336),
        ("0.000000", "UTC", None),
        ("", "UTC", None),
        ("yesterday", "UTC", None),
        ("1", "UTC", None),
        ("179540733600", "UTC", None),
        ("1795999999", "UTC", None),
        ("0001-01-01 00:00:00", "Asia/Tokyo", None),
        ("9999-12-31 23:59:59", "America/Sao_Paulo", None),
        ("9" * 200, "UTC", None),
    ],
)
def test_moments(told: str, zone: str, seconds: int | None) -> None:
    found = cdr_of({**FIELDS, "start": told}, ZoneInfo(zone), NOW).start
    assert found == seconds


@pytest.mark.parametrize(
    ("changes", "talk"),
    [
        ({"billsec": "12"}, 12),
        ({"billsec": "12.900000"}, 12),
        ({"billsec": "0"}, 0),
        ({"billsec": "12", "disposition": "NO ANSWER"}, None),
        ({"billsec": "12", "disposition": "VOICEMAIL"}, 12),
        ({"billsec": "", "answer": "1795407336", "end": "1795407340"}, 4),
        ({"billsec": "-1", "answer": "1795407336", "end": "1795407340"}, 4),
        ({"answer": "1795407340", "end": "1795407336"}, None),
        ({"billsec": "99999999"}, None),
        ({}, None),
    ],
)
def test_talk(changes: dict[str, str], talk: int | None) -> None:
    assert cdr(**changes).talk == talk


def test_the_answer_is_reckoned_where_it_is_not_told() -> None:
    assert cdr(end="1795407340", billsec="4").answer == 1795407336
    assert cdr(end="1795407340", billsec="4", answer="1795407335").answer == 1795407335


@pytest.mark.parametrize(
    ("fields", "recording"),
    [
        ({"recordingfile": "7.wav"}, "7.wav"),
        ({"recordingfile": "a/7.wav", "userfield": "b.wav"}, "a/7.wav"),
        (
            {"recordingfile": "external-101-2125550123-20260102-030405-1767225600.1.wav"},
            "2026/01/02/external-101-2125550123-20260102-030405-1767225600.1.wav",
        ),
        (
            {"recordingfile": "out-20261231-101-20260102-030405-1.1.wav"},
            "2026/01/02/out-20261231-101-20260102-030405-1.1.wav",
        ),
        ({"recordingfile": "x/in-1-2-20260102-030405-1.1.wav"}, "x/in-1-2-20260102-030405-1.1.wav"),
        ({"userfield": "calls/7.WAV"}, "calls/7.WAV"),
        ({"userfield": "7.mp3;7.mp3"}, "7.mp3"),
        ({"userfield": "customer 7"}, ""),
        ({"userfield": "a b.wav"}, ""),
        ({}, ""),
    ],
)
def test_recordings(fields: dict[str, str], recording: str) -> None:
    assert cdr(**fields).recording == recording


def test_which_call_it_is() -> None:
    assert cdr(linkedid="7.0").call_id == "7.0"
    assert not cdr(linkedid="7.0").began
    assert cdr().call_id == "1795407336.3"
    alone = cdr_of({"linkedid": "7.0", "disposition": "BUSY"}, UTC, NOW)
    assert (alone.uniqueid, alone.call_id, alone.began) == ("7.0", "7.0", True)
    assert cdr(sequence="5", dstchannel="SIP/1-1").id == "1795407336.3/5/SIP/1-1"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"uniqueid": ""}, "uniqueid"),
        ({"uniqueid": "a\x01b"}, "control"),
        ({"linkedid": "a\x7fb"}, "control"),
        ({"uniqueid": "x" * 256}, "255"),
        ({"src": "x" * 256}, "255"),
        ({"direction": "up"}, "direction"),
    ],
)
def test_what_cannot_be_right(fields: dict[str, str], why: str) -> None:
    with pytest.raises(NotUnderstood, match=why):
        cdr(**fields)


@pytest.mark.parametrize(
    ("told", "direction"),
    [("in", "inbound"), ("Outbound", "outbound"), ("internal", "internal"), ("", None)],
)
def test_directions(told: str, direction: str | None) -> None:
    assert cdr(direction=told).direction == direction


def test_the_name_and_number_will_do_for_the_number() -> None:
    assert cdr(clid='"A" <101>').src == '"A" <101>'
    assert cdr(clid='"A" <101>', src="102").src == "102"


def test_what_is_not_read_may_be_of_any_length() -> None:
    assert cdr(lastdata="x" * 5000, userfield="x" * 5000).call_id == FIELDS["uniqueid"]
