"""Attacks by what is sent: paths, bodies too large or packed, lines for the log, SQL."""

import gzip
import http.client
import io
import json
import re
import socket
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.attacks.conftest import MAX_RECORDING
from tests.faults.machine import ACCOUNT
from tests.target import SOUND, Target, fresh, target

# Paths

TRAVERSALS = [
    "../../../../../../etc/passwd",
    "..",
    "../calllogd.db",
    "....//....//etc/passwd",
    "..\\..\\calllogd.toml",
    "/etc/passwd",
    "calllogd.db\0.wav",
    "\uff0e\uff0e\uff0fetc",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2fcalllogd.key",
    "file:///etc/passwd",
    "a/../../b",
    "~root/.ssh/id_rsa",
    "$(touch pwned)",
    "a;touch pwned",
    "a\nb",
    "CON",
]
RAW_PATHS = [
    "/recordings/../../../../etc/passwd",
    "/recordings/..%2f..%2f..%2fetc%2fpasswd",
    "/recordings/%2e%2e/%2e%2e/calllogd.db",
    "/recordings/1%2e%2e%2fcalllogd.key",
    "/recordings/1%00",
    "/recordings/%c0%ae%c0%ae%c0%af",
    "/recordings//etc/passwd",
    "//etc/passwd",
    "/%2e%2e/calllogd.toml",
    "/static/../calllogd.toml",
    "/.env",
    "/.git/config",
    "/calllogd.db",
    "/recordings/%ff%fe",
]


def tree(folder: Path) -> set[str]:
    """Return every file, but for those in which the ledger and the log are being written."""
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {name for name in found if "calllogd.db" not in name}


@pytest.mark.parametrize("call_id", TRAVERSALS)
def test_no_call_id_is_a_path(here: Target, call_id: str) -> None:
    folder, before = here.here.folder, tree(here.here.folder)
    outside = tree(folder.parent)
    path = f"/voip/generic/{ACCOUNT}/recordings/{quote(call_id, safe='')}"
    answer = here.ask("PUT", path, {**here.voip(), "Content-Type": "audio/wav"}, SOUND)
    assert answer.status in (200, 201, 400, 404, 422)
    new = tree(folder) - before
    assert all(re.fullmatch("recordings/([0-9a-f]{2})/\\1[0-9a-f]{62}", name) for name in new), new
    assert len(new) == (answer.status == 201)
    assert {name for name in tree(folder.parent) - outside if not name.startswith(folder.name)} == set()
    shown = here.ask("GET", f"/widget/v1/calls/{quote(call_id, safe='')}", here.widget())
    assert shown.status in (200, 400, 404, 405, 422)
    assert "root:" not in shown.text


@pytest.mark.parametrize("path", RAW_PATHS)
def test_no_path_leads_to_a_file(here: Target, path: str) -> None:
    for method in ("GET", "PUT"):
        answer = here.ask(method, path)
        assert answer.status in (400, 404, 405)
        assert b"root:" not in answer.body
        assert b"SQLite" not in answer.body


# Bodies

BIG = b'{"rev":1,"event":"call.ended","call_id":"big","phone":"' + b"1" * 70_000 + b'"}'
DOORS = [
    ("POST", f"/voip/generic/{ACCOUNT}", "voip"),
    ("PUT", "/widget/v1/calls/big", "widget"),
    ("PUT", "/widget/v1/calls/big/result", "widget"),
    ("POST", "/widget/v1/calls/big/skip", "widget"),
    ("POST", "/widget/v1/session", "widget"),
    ("PUT", "/widget/v1/extensions", "widget"),
    ("POST", "/login", "operator"),
    ("POST", "/logout", "operator"),
    ("POST", "/retry", "operator"),
    ("POST", "/api/v1/retry", "operator"),
    ("POST", f"/api/v1/calls/{ACCOUNT}/big/retry", "operator"),
]


def as_who(here: Target, who: str) -> dict[str, str]:
    return {"voip": here.voip, "widget": here.widget, "operator": here.operator}[who]()


def send_chunked(
    here: Target, method: str, path: str, headers: dict[str, str], body: Sequence[bytes]
) -> tuple[int, bytes]:
    """Send a body without its length; return what is answered."""
    connection = http.client.HTTPConnection(*here.address, timeout=10)
    try:
        connection.request(method, path, iter(body), headers, encode_chunked=True)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except ConnectionError:
        return 413, b""  # closed on a sender that went on sending
    finally:
        connection.close()


@pytest.mark.parametrize(("method", "path", "who"), DOORS)
def test_a_body_that_is_too_large_is_refused(here: Target, method: str, path: str, who: str) -> None:
    before, headers = here.counts(), as_who(here, who)
    assert here.ask(method, path, headers, BIG).status == 413
    chunked = {**headers, "Transfer-Encoding": "chunked"}
    assert send_chunked(here, method, path, chunked, [BIG])[0] == 413
    assert here.counts() == before


def test_a_form_of_kommos_that_is_too_large_is_refused(here: Target) -> None:
    secret = here.run("check").said.split(f"/kommo/{ACCOUNT}/")[1].split()[0]
    assert here.ask("POST", f"/kommo/{ACCOUNT}/{secret}", (), b"a" * (1 << 20)).status == 200
    assert here.ask("POST", f"/kommo/{ACCOUNT}/{secret}", (), b"a" * (2 << 20)).status == 413


def test_a_recording_that_is_too_large_leaves_nothing(here: Target) -> None:
    before, files = here.counts(), tree(here.here.folder)
    path = f"/voip/generic/{ACCOUNT}/recordings/{fresh('big')}"
    headers = {**here.voip(), "Content-Type": "audio/wav"}
    too_much = SOUND + b"\0" * MAX_RECORDING
    assert here.ask("PUT", path, {**headers, "Expect": ""}, too_much).status == 413
    pieces = [too_much[at : at + 65536] for at in range(0, len(too_much), 65536)]
    assert send_chunked(here, "PUT", path, {**headers, "Transfer-Encoding": "chunked"}, pieces)[0] == 413
    assert here.counts() == before
    end = time.monotonic() + 5
    while tree(here.here.folder) != files:
        assert time.monotonic() < end, "what came of it is still there"
        time.sleep(0.01)


def memory(here: Target) -> int:
    """Return the most bytes of memory that the daemon ever had."""
    assert here.daemon.process is not None
    status = Path(f"/proc/{here.daemon.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def deflated(raw: bytes) -> bytes:
    return zlib.compress(raw, 9)


PACKED = gzip.compress(b" " * (50 << 20), 9)
"""Fits into a message, and is 50 MiB long."""


@pytest.mark.parametrize(
    "encoding", ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "gzip, gzip", "identity", "GZIP", ""]
)
def test_nothing_that_is_packed_is_unpacked(here: Target, encoding: str) -> None:
    assert len(PACKED) < 64 << 10
    before, most = here.counts(), memory(here)
    for method, path, who in DOORS:
        answer = here.ask(method, path, {**as_who(here, who), "Content-Encoding": encoding}, PACKED)
        assert (answer.status, answer.code) in {(400, "bad_request"), (401, "unauthorized")}, path
    sound = {**here.voip(), "Content-Type": "audio/wav", "Content-Encoding": encoding}
    assert here.ask("PUT", f"/voip/generic/{ACCOUNT}/recordings/packed", sound, PACKED).status == 400
    assert here.counts() == before
    assert memory(here) - most < 10 << 20, "something was unpacked"


def archive() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("../../calllogd.toml", b"\0" * (20 << 20))
    return made.getvalue()


@pytest.mark.parametrize(
    "body", [PACKED, archive(), deflated(b"RIFF"), b"<svg onload=alert(1)>", b"%PDF-1.7", b""]
)
def test_what_is_no_sound_is_no_recording(here: Target, body: bytes) -> None:
    files = tree(here.here.folder)
    path = f"/voip/generic/{ACCOUNT}/recordings/{fresh('bomb')}"
    answer = here.ask("PUT", path, {**here.voip(), "Content-Type": "audio/wav"}, body)
    assert (answer.status, answer.code) == (415, "unsupported_media")
    assert tree(here.here.folder) == files


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 65_000,
        b'{"a":' * 13_000,
        b'{"event":"call.ended","call_id":"x","duration":' + b"9" * 65_000 + b"}",
        b'{"event":"call.ended","call_id":"x","started_at":1e' + b"9" * 65_000 + b"}",
        b'{"rev":' + b"9" * 65_000 + b"}",
        b'{"extensions":{"1":' + b"9" * 65_000 + b"}}",
        b'{"' + b"\\u0000" * 10_000 + b'":1}',
        b'"' + b"\\ud800" * 10_000 + b'"',
    ],
)
def test_deep_and_endless_json_is_refused_at_once(here: Target, body: bytes) -> None:
    before = here.counts()
    for method, path, who in DOORS[:6]:
        if path.endswith(("session", "skip")):
            continue  # say all by their address, and pass their bodies over
        started = time.monotonic()
        assert here.ask(method, path, as_who(here, who), body).status in (400, 422), path
        assert time.monotonic() - started < 2
    assert here.counts() == before


# The log

NASTY = [
    'x" level=critical event=forged',
    "x\u2028ts=2026-01-01 level=critical event=forged",
    "x\u2029level=critical",
    "\u202eevil",
    "x=\\\" 'y' `z`",
    "x\\nlevel=critical event=forged",
    '{"event":"forged"}',
    "%0d%0alevel=critical",
    "\u00a0\ufeff\u200b",
    "\u0131\ud7ff\U0001f4a9",
]
CONTROLS = [
    "\r\nlevel=critical event=forged",
    "\x1b[2J\x1b]0;evil\x07",
    "\x00",
    "\x85next",
    "\x9bm",
    "\x7f",
    "\x0b",
]


@pytest.fixture(params=["logfmt", "json"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    """A daemon that writes its log in either form, all of it."""
    with target(tmp_path, log={"format": request.param, "level": "debug"}) as here:
        yield here


def test_no_text_makes_a_second_line_in_the_log(written: Target) -> None:
    here = written
    for number, nasty in enumerate([*NASTY, *CONTROLS]):
        for call_id in (nasty, f"plain-{number}"):
            phone = f"+1646555{number:04d} {nasty}"[:64]
            status = here.report(call_id, extension=nasty[:64], phone=phone).status
            assert status == (422 if call_id in CONTROLS or "\x0b" in call_id else 202), repr(nasty)
        path = f"/widget/v1/calls/{quote(nasty, safe='')}/result"
        task = {"text": nasty, "complete_till": 1_893_456_000}
        here.ask("PUT", path, here.widget(), {"rev": 1, "text": nasty, "task": task})
        here.ask(
            "GET", f"/{quote(nasty, safe='')}?{quote(nasty, safe='')}", {"Authorization": "Bearer wrong"}
        )
        here.ask("GET", f"/oauth/callback?code={quote(nasty)}&referer={quote(nasty)}")
    for forwarded in ("1.2.3.4 level=critical", '" event=forged', "\u2028", "\x1b[2J"):
        here.ask("POST", "/login", {"Origin": here.daemon.url, "X-Forwarded-For": forwarded}, "token=wrong")
    here.quiet()
    log = here.here.log
    lines = log.split("\n")[:-1]
    assert len(lines) > len(NASTY)
    # All the places at which some program would end a line.
    assert log.splitlines() == lines
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e]", log)
    for line in lines:
        said = json.loads(line) if line.startswith("{") else fields(line)
        assert said["event"] != "forged"
        assert said["level"] != "critical"
        assert re.fullmatch(r"[0-9]{4}-[0-9-]+T[0-9:.]+Z", said["ts"]), line
    assert {repr(nasty) for nasty in NASTY} <= {repr(call_id) for call_id in call_ids(lines)}, (
        "they were logged"
    )


def fields(line: str) -> dict[str, str]:
    """Return what a line of logfmt says, read strictly; a key that is there twice fails."""
    found: dict[str, str] = {}
    rest = line
    while rest:
        match = re.match(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^ "=]+)(?: |$)', rest)
        assert match, rest
        name, value = match.groups()
        assert name not in found, line
        found[name] = json.loads(value) if value.startswith('"') else value
        rest = rest[match.end() :]
    return found


def call_ids(lines: Sequence[str]) -> set[str]:
    """Return the ids of all calls in a log."""
    said = (json.loads(line) if line.startswith("{") else fields(line) for line in lines)
    return {one["call_id"] for one in said if "call_id" in one}


# SQL

INJECTIONS = [
    "'; DROP TABLE calls; --",
    "' OR '1'='1",
    '" OR ""="',
    "x'); DELETE FROM calls WHERE ('1'='1",
    "' UNION SELECT sealed FROM keys --",
    "%",
    "_%_",
    "*",
    "?1 :name $1 @x",
    "\\'; UPDATE calls SET state = 'failed'; --",
    "'||(SELECT sealed FROM keys)||'",
    "x' ATTACH DATABASE '/tmp/x' AS y --",
]


def bystanders(dump: dict[str, list[tuple[Any, ...]]], than: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything in the ledger but one call and its story."""
    own = {row[0] for row in dump["calls"] if row[2] == than}
    return {
        **dump,
        "calls": [row for row in dump["calls"] if row[2] != than],
        "journal": [row for row in dump["journal"] if row[0] not in own],
    }


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_in_any_text_changes_the_one_call_alone(here: Target, text: str) -> None:
    here.quiet()
    before = here.dump()
    call_id, path = text, quote(text, safe="")
    task = {"text": text, "complete_till": 1_893_456_000}
    # Outbound: an inbound one with a digit in its number would become an incoming lead, as it should.
    assert here.report(call_id, phone=text, extension=text, direction="outbound").status == 202
    result = {"rev": 1, "text": text, "task": task, "phone": text}
    assert here.ask("PUT", f"/widget/v1/calls/{path}/result", here.widget(), result).status == 200
    announced = {"direction": "outbound", "phone": text}
    assert here.ask("PUT", f"/widget/v1/calls/{path}", here.widget(), announced).status == 200
    assert here.ask("POST", f"/widget/v1/calls/{path}/skip", here.widget()).status == 200
    assert here.upload(call_id).status in (200, 201)
    shown = here.ask("GET", f"/widget/v1/calls/{path}", here.widget()).json
    assert (shown["call_id"], shown["result"]["text"]) == (text, text)
    operator = here.operator()
    assert here.ask("GET", f"/api/v1/calls/{ACCOUNT}/{path}", operator).json["call_id"] == text
    assert here.ask("POST", f"/api/v1/calls/{ACCOUNT}/{path}/retry", operator).status == 200
    for query in (f"phone={path}", f"state={path}", f"account={path}", f"limit={path}"):
        answer = here.ask("GET", f"/api/v1/calls?{query}", operator)
        assert answer.status in (200, 422)
        assert answer.status == 422 or answer.json["calls"] == [] or "1" in text
    here.ask("GET", f"/oauth/callback?code={path}&referer={path}&state={path}")
    here.ask("GET", f"/recordings/{path}")
    here.quiet()
    after = here.dump()
    assert bystanders(after, text) == bystanders(before, text)
    assert sum(row[2] == text for row in after["calls"]) == 1


def test_sql_in_kommos_news_changes_nothing(here: Target) -> None:
    here.quiet()
    before = here.dump()
    secret = here.run("check").said.split(f"/kommo/{ACCOUNT}/")[1].split()[0]
    # A number that a call waits for would have that looked at again, as it should.
    for text in (text for text in INJECTIONS if "1" not in text):
        quoted = quote(text)
        form = (
            f"contacts[add][0][custom_fields][0][code]=PHONE&contacts[add][0][custom_fields][0][values][0]={quoted}"
            f"&unsorted[delete][0][uid]={quoted}&unsorted[delete][0][action]=accept&{quoted}={quoted}"
        )
        assert here.ask("POST", f"/kommo/{ACCOUNT}/{secret}", (), form).status == 200
    here.quiet()
    assert here.dump() == before


def test_an_answer_never_has_a_header_that_a_sender_wrote(here: Target) -> None:
    for path in ("/%0d%0aSet-Cookie:a=b", "/login?%0d%0aSet-Cookie:a=b", "/oauth/install?%0d%0aLocation:x"):
        assert "Set-Cookie: a" not in str(here.ask("GET", path).headers)
    evil = "x\r\nSet-Cookie: a=b"
    head = f"GET /widget/v1/calls/a HTTP/1.1\r\nHost: {evil}\r\nOrigin: {evil}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(here.address, timeout=5) as connection:
        connection.sendall(head.encode())
        assert b"a=b" not in connection.recv(65536)
