"""The log: a line each, that tells what happened and gives nothing away."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.http_exceptions import BadHttpMessage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calllogd.domain.call import Call, CallKey, CallState, EntityType, Entry
from calllogd.domain.merge import CallEvent, fold
from calllogd.log import log_accepted, log_change, log_pause, log_resume, set_up
from calllogd.ports import Pause
from tests.fakes import ACCOUNT, START, ended

PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ "=]+)(?: |$)')
Lines = Callable[[], list[dict[str, str]]]


def unquoted(value: str) -> str:
    return str(json.loads(value)) if value.startswith('"') else value


def logfmt(line: str) -> dict[str, str]:
    """Return the pairs of a line; fails if there is anything else in it."""
    assert PAIR.sub("", line) == "", line
    return {key: unquoted(value) for key, value in PAIR.findall(line)}


def as_json(line: str) -> dict[str, str]:
    return {key: str(value) for key, value in json.loads(line).items()}


@pytest.fixture(autouse=True)
def _own_root() -> Iterator[None]:
    """Give the test the root logger, and pytest its own back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "calllogd.log"


@pytest.fixture(params=["logfmt", "json"])
def lines(request: pytest.FixtureRequest, file: Path) -> Lines:
    form = str(request.param)
    set_up(file=file, form=form, level="info")
    read = logfmt if form == "logfmt" else as_json
    return lambda: [
        read(line) for line in file.read_text(encoding="utf-8").removesuffix("\n").split("\n") if line
    ]


def call(call_id: str = "c1") -> Call:
    return fold(None, ended(call_id), START)


def test_a_call_heard_of_for_the_first_time(lines: Lines) -> None:
    log_accepted([ended("c1"), ended("c2")])
    one, two = lines()
    assert (one["event"], one["call_id"], two["call_id"]) == ("accepted", "c1", "c2")
    assert one["account_id"] == str(ACCOUNT)
    assert (one["direction"], one["phone"], one["state"], one["level"]) == (
        "inbound",
        "*0123",
        "pending",
        "info",
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["ts"])


def test_what_nobody_has_told_yet_is_not_said(lines: Lines) -> None:
    log_accepted([CallEvent(key=CallKey(ACCOUNT, "c1"))])
    assert lines()[0].keys() == {"ts", "level", "event", "account_id", "call_id", "state"}


def test_nothing_accepted_is_no_line(lines: Lines) -> None:
    log_accepted([])
    assert lines() == []


@pytest.mark.parametrize(
    ("state", "level"),
    [(CallState.LOGGED, "info"), (CallState.IN_DOUBT, "warning"), (CallState.FAILED, "error")],
)
def test_a_change_of_state(lines: Lines, state: CallState, level: str) -> None:
    entry = Entry(entity_type=EntityType.CONTACTS, entity_id=7, note_id=8)
    log_change(call(), replace(call(), state=state, entry=entry), "because it is so")
    (line,) = lines()
    assert (line["event"], line["level"]) == ("call", level)
    assert (line["was"], line["state"], line["entity"]) == ("pending", state.value, "contacts/7")
    assert line["reason"] == "because it is so"


def test_no_change_is_no_line(lines: Lines) -> None:
    log_change(call(), replace(call(), attempts=3, entry=None), "again")
    assert lines() == []


def test_an_account_is_paused_and_resumed(lines: Lines) -> None:
    log_pause(Pause(ACCOUNT, "account_paused", 'the "token" is wrong', START, START + 30))
    log_resume(ACCOUNT)
    paused, resumed = lines()
    assert (paused["event"], paused["level"], paused["reason"]) == (
        "account_paused",
        "warning",
        'the "token" is wrong',
    )
    assert paused["next_try_at"].startswith("2025-10-09T")
    assert (resumed["event"], resumed["account_id"]) == ("account_resumed", str(ACCOUNT))


@pytest.mark.parametrize(
    "call_id",
    [
        "a\nlevel=error event=fake",
        'a" state="logged',
        "a\\",
        "a\r\nb",
        "x=y",
        " ",
        "\x1b[31mred",
        "☎ é",
        "\u2028",
    ],
)
def test_no_id_breaks_out_of_its_field(lines: Lines, call_id: str) -> None:
    log_accepted([ended(call_id)])
    log_change(call(call_id), replace(call(call_id), state=CallState.IGNORED), call_id)
    accepted, changed = lines()
    assert accepted["call_id"] == changed["call_id"] == call_id
    assert accepted["state"] == "pending"


@pytest.mark.parametrize("form", ["logfmt", "json"])
@given(
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1),
    st.text(st.characters(blacklist_categories=["Cs"])),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_logged_can_be_read_again(file: Path, form: str, call_id: str, reason: str) -> None:
    root = logging.getLogger()
    for handler in root.handlers:
        handler.close()
    file.unlink(missing_ok=True)
    set_up(file=file, form=form, level="info")
    log_change(call(call_id), replace(call(call_id), state=CallState.IGNORED), reason)
    (line,) = [text for text in file.read_text(encoding="utf-8").split("\n") if text]
    read = logfmt(line) if form == "logfmt" else as_json(line)
    assert (read["call_id"], read.get("reason", "")) == (call_id, reason)


def test_no_line_has_more_of_a_number_than_its_last_four_digits(lines: Lines, file: Path) -> None:
    log_accepted([ended()])
    log_change(call(), replace(call(), state=CallState.LOGGED, entry=None), "")
    assert len(lines()) == 2
    assert "5550123" not in re.sub(r"[^0-9]", "", file.read_text(encoding="utf-8").replace(str(ACCOUNT), ""))
    assert "2125550" not in file.read_text(encoding="utf-8")


def test_what_libraries_say_is_a_line_too(lines: Lines) -> None:
    logging.getLogger("some.library").warning("two\nlines of %s", "it")
    (line,) = lines()
    assert (line["event"], line["level"], line["message"]) == ("some.library", "warning", "two\nlines of it")


def test_an_exception_is_one_line_with_its_place(lines: Lines) -> None:
    try:
        raise ValueError("a\nb")  # noqa: TRY301  it is what is logged
    except ValueError:
        logging.getLogger("calllogd.some").exception("a mistake")
    (line,) = lines()
    assert (line["level"], line["message"], line["error"]) == ("error", "a mistake", "ValueError: a\nb")
    assert "test_log.py" in line["at"]


def test_the_level_and_the_file_may_be_changed_while_running(tmp_path: Path, file: Path) -> None:
    set_up(file=file, form="logfmt", level="error")
    log_accepted([ended("c1")])
    set_up(file=tmp_path / "other.log", form="json", level="info")
    log_accepted([ended("c2")])
    assert file.read_text(encoding="utf-8") == ""
    assert json.loads((tmp_path / "other.log").read_text(encoding="utf-8"))["call_id"] == "c2"
    assert len(logging.getLogger().handlers) == 1


def test_a_file_that_was_renamed_is_opened_anew(file: Path) -> None:
    set_up(file=file, form="logfmt", level="info")
    log_accepted([ended("before")])
    rotated = file.rename(file.with_suffix(".1"))
    log_accepted([ended("after")])
    assert "call_id=before" in rotated.read_text(encoding="utf-8")
    assert "after" not in rotated.read_text(encoding="utf-8")
    assert "call_id=after" in file.read_text(encoding="utf-8")


def test_without_a_file_the_log_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(file=None, form="logfmt", level="info")
    log_accepted([ended("c1")])
    captured = capsys.readouterr()
    assert logfmt(captured.err.strip())["call_id"] == "c1"
    assert captured.out == ""


def test_one_grep_tells_a_calls_story(file: Path) -> None:
    set_up(file=file, form="logfmt", level="info")
    log_accepted([ended("c1")])
    log_change(call(), replace(call(), state=CallState.IGNORED), "")
    assert file.read_text(encoding="utf-8").count(f"account_id={ACCOUNT} call_id=c1 ") == 2


def test_identity_stands_with_the_same_words_everywhere(lines: Lines) -> None:
    log_accepted([ended()])
    log_change(call(), replace(call(), state=CallState.IGNORED), "")
    log_resume(CallKey(ACCOUNT, "c1").account_id)
    assert {line["account_id"] for line in lines()} == {str(ACCOUNT)}


def _not_http(text: str) -> None:
    """Log what aiohttp does about a request that it cannot read."""
    error = BadHttpMessage(text)
    logging.getLogger("aiohttp.server").error("Error handling request from %s", "1.2.3.4", exc_info=error)


def test_what_is_no_http_is_no_mistake_of_ours_and_is_not_repeated(lines: Lines) -> None:
    _not_http("Authorization: Bearer secret")
    (line,) = lines()
    assert (line["level"], line["message"]) == ("info", "a request from 1.2.3.4 is no HTTP")
    assert "secret" not in str(line)


def test_what_is_no_http_fills_no_log_of_warnings(file: Path) -> None:
    set_up(file=file, form="logfmt", level="warning")
    _not_http("x")
    assert file.read_text() == ""
