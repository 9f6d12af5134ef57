"""Mappings: which mistakes in them are found, who proves himself how, and what messages of any shape say."""

import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import re
import secrets
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from standardwebhooks import Webhook as StandardWebhook

from calllogd.config import read
from calllogd.domain.call import Call, CallKey, CallStatus, Direction, Facts, Outcome, Person, RecordingState
from calllogd.domain.merge import CallEvent, fold
from calllogd.errors import ConfigError, InputRefused
from calllogd.voip.mapping import EVENTS, PER_SECOND, direction_words, duration_of, find, text_of, time_of
from calllogd.voip.mapping_settings import DURATIONS, TARGETS, read_zone
from calllogd.voip.proof import BearerToken
from calllogd.voip.provider import NotUnderstood, Told, services
from calllogd.voip.provider.mapping import SERVICE, Mapped
from calllogd.voip.webhook import EMPTY, Webhook
from tests.fakes import ACCOUNT, START

SECRET = secrets.token_hex()
SIMPLE = """
[map]
call_id = "id"
direction = "dir"
caller = "from"
callee = "to"
duration = "talk"
"""
ENDED = {"id": "c1", "dir": "in", "from": "+12025550143", "to": "101", "talk": 63}


def settings_of(toml: str, **more: Any) -> Mapping[str, Any]:
    """Return the settings of the table [accounts.voip.mapping], read as the daemon reads them."""
    table = {**tomllib.loads(toml), **more}
    account = {"id": ACCOUNT, "base_url": "https://example.kommo.com", "access_token": "t"}
    raw = {
        "http": {"public_url": "https://calls.example.com"},
        "accounts": [{**account, "voip": {"mapping": table}}],
    }
    found = read(raw, {}, folder=Path("/"), services={"mapping": SERVICE.settings})
    return found.accounts[ACCOUNT].voip["mapping"]


def made(
    toml: str, tokens: Sequence[BearerToken] = (), *, secret: str | None = SECRET, **more: Any
) -> Mapped:
    more = more if secret is None else {"secret": secret, **more}
    found = SERVICE.make(ACCOUNT, settings_of(toml, **more), tokens)
    assert isinstance(found, Mapped)
    return found


def mistakes(toml: str, **more: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        made(toml, **more)
    return "\n".join(refused.value.mistakes)


def webhook(
    body: bytes | Mapping[str, Any] | list[Any] = b"",
    *,
    query: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
    rest: str = "",
    peer: str = "192.0.2.1",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> Webhook:
    url = f"https://calls.example.com/voip/mapping/{ACCOUNT}" + (f"/{rest}" if rest else "")
    url += f"?{urlencode(query)}" if query else ""
    shown = CIMultiDict(headers or {})
    if form is not None:
        shown["Content-Type"], body = "application/x-www-form-urlencoded", urlencode(form).encode()
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Webhook(method=method, url=url, headers=shown, body=sent, rest=rest, peer=peer)


def told(mapped: Mapped, sent: Webhook, now: float = START) -> Told:
    (found,) = mapped.parse(sent, now)
    assert found.event.key.account_id == ACCOUNT
    return found


def facts(mapped: Mapped, sent: Webhook) -> Facts:
    return told(mapped, sent).event.facts


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


NOW = at("2026-11-23T12:00:00+00:00")


# The oddities that services are known for, each with what it sends and how it is mapped.


def test_directions_of_two_letters_and_microseconds() -> None:
    bulutfon = made(
        """
        auth = { kind = "basic", name = "bulutfon" }
        skip_if = { path = "event_type", not_in = ["call_hangup"] }
        [map]
        call_id = "uuid"
        direction = { path = "direction", values = { IN = "inbound", OUT = "outbound" } }
        caller = "caller"
        callee = "callee"
        duration = "talk_duration"
        ended_at = { path = "timestamp", as = "epoch_us" }
        """
    )
    call = {
        "event_type": "call_hangup",
        "caller": 90532000000,
        "callee": 908508850000,
        "uuid": "f615986c-2001-11e5-bdee-6599352d46ce",
        "timestamp": 1614261582000000,
        "direction": "IN",
        "talk_duration": 35,
        "hangup_cause": "NORMAL_CLEARING",
    }
    found = told(bulutfon, webhook(call))
    assert (found.what, found.body) == ("call.ended", None)
    assert found.event == CallEvent(
        key=CallKey(ACCOUNT, "f615986c-2001-11e5-bdee-6599352d46ce"),
        facts=Facts(
            direction=Direction.INBOUND,
            phone="90532000000",
            started_at=1614261582 - 35,
            outcome=Outcome(CallStatus.ANSWERED, 35),
        ),
    )
    out = facts(bulutfon, webhook({**call, "direction": "out", "talk_duration": 0}))
    assert (out.direction, out.phone) == (Direction.OUTBOUND, "908508850000")
    assert out.outcome == Outcome(CallStatus.NO_ANSWER, 0)
    assert bulutfon.parse(webhook({**call, "event_type": "call_init"}), NOW) == []
    assert bulutfon.parse(webhook({"event_type": "fax_init"}), NOW) == []


def test_a_direction_of_1_and_0_where_the_fields_name_says_what_it_asks() -> None:
    wephone = made(
        """
        auth = { kind = "header", name = "X-Token" }
        [map]
        call_id = "call_id"
        direction = "is_outgoing"
        phone = "client_number"
        extension = "session_data.0.email"
        started_at = "start_time"
        duration = "duration"
        """
    )
    call = {
        "call_id": "flexpbx-0/20161103183940-sip/15",
        "our_number": "0033974739980",
        "client_number": "0033175757523",
        "is_outgoing": 0,
        "start_time": "2016-11-03T18:39:40+01:00",
        "duration": 12,
        "session_data": [{"email": "ann@example.net", "duration": 12}],
    }
    found = facts(wephone, webhook(call))
    assert found.direction is Direction.INBOUND
    assert found.person == Person(4, "ann@example.net")
    assert found.started_at == at("2016-11-03T18:39:40+01:00")
    assert facts(wephone, webhook({**call, "is_outgoing": 1})).direction is Direction.OUTBOUND
    assert facts(wephone, webhook({**call, "is_outgoing": True})).direction is Direction.OUTBOUND
    assert facts(wephone, webhook({**call, "session_data": []})).person is None


def test_incoming_and_outgoing_with_a_time_zone_in_the_text() -> None:
    llamadapro = made(
        """
        auth = { kind = "bearer" }
        skip_if = { path = "action", in = ["delete"] }
        [map]
        call_id = "data.id"
        direction = "data.direction"
        caller = "data.from"
        callee = "data.to"
        started_at = { path = "data.startTime", as = "iso" }
        duration = "data.duration"
        status = "data.status"
        recording = "data.recordingUrl"
        """
    )
    call = {
        "id": 111,
        "direction": "outgoing",
        "startTime": "2024-07-04T20:13:24.722Z",
        "from": "201",
        "to": "+56900000000",
        "status": "no-answer",
        "duration": 20,
        "recordingUrl": "https://llamadapro.example/1.mp3",
    }
    found = told(llamadapro, webhook({"action": "update", "data": call}))
    assert found.event.key.call_id == "111"
    assert found.event.facts == Facts(
        direction=Direction.OUTBOUND,
        phone="+56900000000",
        person=Person(3, "201"),
        started_at=at("2024-07-04T20:13:24.722+00:00"),
        # Whatever it counts of a call that nobody answered, it is no talk.
        outcome=Outcome(CallStatus.NO_ANSWER, 0),
    )
    assert found.event.recording.url == "https://llamadapro.example/1.mp3"
    assert llamadapro.parse(webhook({"action": "delete", "data": call}), NOW) == []


VERIMOR = """
timezone = "Europe/Istanbul"
skip_if = { path = "event_type", not_in = ["hangup"] }
[map]
call_id = "call_uuid"
direction = "direction"
caller = "caller_id_number"
callee = "destination_number"
extension = "connected_user"
started_at = { path = "start_stamp", as = "local:%Y-%m-%d %H:%M:%S" }
answered_at = { path = "answer_stamp", as = "local:%Y-%m-%d %H:%M:%S" }
ended_at = { path = "end_stamp", as = "local:%Y-%m-%d %H:%M:%S" }
status = { path = "answered", values = { true = "answered", false = "no_answer" } }
"""


def test_a_form_with_local_times_internal_calls_and_pings() -> None:
    verimor = made(VERIMOR)
    call = {
        "event_type": "hangup",
        "direction": "inbound",
        "caller_id_number": "02123205062",
        "destination_number": "1001",
        "connected_user": "1002",
        "call_uuid": "1234",
        "start_stamp": "2025-09-01 00:00:00",
        "answer_stamp": "2025-09-01 00:00:05",
        "end_stamp": "2025-09-01 00:01:05",
        "answered": "true",
    }
    assert facts(verimor, webhook(form=call)) == Facts(
        direction=Direction.INBOUND,
        phone="02123205062",
        person=Person(4, "1002"),
        started_at=at("2025-09-01T00:00:00+03:00"),
        outcome=Outcome(CallStatus.ANSWERED, 60),
    )
    missed = {**call, "answered": "false", "answer_stamp": "", "connected_user": ""}
    found = facts(verimor, webhook(form=missed))
    assert (found.outcome, found.person) == (Outcome(CallStatus.NO_ANSWER, 0), Person(3, "1001"))
    assert verimor.parse(webhook(form={**call, "direction": "internal"}), NOW) == []
    assert verimor.parse(webhook(form={**call, "event_type": "ringing"}), NOW) == []


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (webhook(b""), True),
        (webhook(b"  \n"), True),
        # As Verimor's own example of its test has it.
        (webhook(b"{}", headers={"Content-Type": "application/x-www-form-urlencoded"}), True),
        (webhook(b"[]"), True),
        (webhook(method="GET", rest="whatever"), True),
        (webhook(b"", query={"a": "1"}), False),
        (webhook(form={"a": ""}), False),
        (webhook({"a": None}), False),
        (webhook(b"x"), False),
    ],
)
def test_only_what_has_no_field_at_all_is_a_ping(sent: Webhook, answered: bool) -> None:
    assert SERVICE.handshake(sent) is (EMPTY if answered else None)


def test_durations_of_minutes_and_seconds() -> None:
    bridge = made(
        """
        [map]
        call_id = "id"
        direction = { path = "event", values = { incoming = "inbound", outgoing = "outbound" } }
        phone = "callerid"
        extension = "user"
        duration = { path = "duration", as = "hms" }
        recording = "FILES.0"
        """
    )
    call = {
        "event": "incoming",
        "callerid": "420774852629",
        "user": "102",
        "duration": "00:06",
        "id": "230115121143_9-1",
        "FILES": ["https://pbx.example/webapi/recording/230115121143_9-1-1.mp3"],
    }
    found = told(bridge, webhook(call)).event
    assert found.facts.outcome == Outcome(CallStatus.ANSWERED, 6)
    assert found.recording.state is RecordingState.EXPECTED
    assert told(bridge, webhook({**call, "duration": "1:02:03"})).event.facts.outcome == ("answered", 3723)


def test_a_query_and_nothing_else_with_milliseconds() -> None:
    antgst = made(
        """
        [map]
        call_id = "callId"
        direction = { constant = "outbound" }
        phone = "callee"
        extension = "agent"
        started_at = { path = "startTime", as = "epoch_ms" }
        duration = { path = "billMs", as = "ms_to_s" }
        """
    )
    query = {"callId": "a-1", "callee": "84901234567", "agent": "8001", "startTime": "1790000000500"}
    sent = webhook(query={**query, "billMs": "61999"}, rest=SECRET, method="GET")
    assert SERVICE.handshake(sent) is None
    antgst.verify(sent, START)
    assert "GET" in SERVICE.methods
    assert facts(antgst, sent) == Facts(
        direction=Direction.OUTBOUND,
        phone="84901234567",
        person=Person(4, "8001"),
        # It is ahead of the clock of this test.
        started_at=None,
        outcome=Outcome(CallStatus.ANSWERED, 62),
    )
    (again,) = antgst.parse(sent, 1790000100.0)
    assert again.event.facts.started_at == 1790000000.5
    assert antgst.told_body(sent) == urlencode({**query, "billMs": "61999"}).encode()


def test_several_records_in_one_message() -> None:
    records = [
        {"id": "a", "dir": "0", "orig": "+12025550143", "term": "101", "talk": 5},
        {"id": "b", "dir": "1", "orig": "102", "term": "+12025550144", "talk": 0},
        {"id": "c", "dir": "2", "orig": "101", "term": "102", "talk": 9},
    ]
    netsapiens = """
    [map]
    call_id = "id"
    direction = { path = "dir", values = { 0 = "inbound", 1 = "outbound", 2 = "internal" } }
    caller = "orig"
    callee = "term"
    duration = "talk"
    """
    found = made(netsapiens).parse(webhook(records), START)
    assert [(one.event.key.call_id, one.event.facts.phone) for one in found] == [
        ("a", "+12025550143"),
        ("b", "+12025550144"),
    ]
    # Each call's story has the record that is about it.
    assert [json.loads(one.body or b"") for one in found] == records[:2]
    nested = made('records = "batch.cdrs"\n' + netsapiens)
    assert nested.parse(webhook({"batch": {"cdrs": records}}), START) == found
    (one,) = nested.parse(webhook({"batch": {"cdrs": records[0]}}), START)
    assert one.event.key.call_id == "a"
    messages: list[Any] = [records, {"batch": {}}, {"batch": {"cdrs": 5}}, {"batch": {"cdrs": [5]}}]
    for message in messages:
        with pytest.raises(NotUnderstood, match=r"batch\.cdrs"):
            nested.parse(webhook(message), START)
    with pytest.raises(NotUnderstood, match="records"):
        made(netsapiens).parse(webhook([records[0]] * 501), START)


def test_one_record_that_cannot_be_read_keeps_the_message_for_later() -> None:
    with pytest.raises(NotUnderstood, match="direction"):
        made(SIMPLE).parse(webhook([ENDED, {**ENDED, "dir": "?"}]), START)


DIDWW = """
auth = { kind = "hmac", name = "X-PS-Signature", combined = true }
skip_if = { path = "type", not_in = ["call.started", "call.ended"] }
[map]
event = "type"
call_id = "data.call_id"
direction = "data.direction"
caller = "data.from"
callee = "data.to"
answered_at = "data.answered_at"
ended_at = "data.ended_at"
"""


def combined(body: bytes, time: float | str, *secrets_: str, algorithm: str = "sha256") -> str:
    signed = f"{time}.".encode() + body
    return f"t={time}," + ",".join(
        "v1=" + hmac.digest(secret.encode(), signed, algorithm).hex() for secret in secrets_
    )


def test_a_signature_with_its_time_in_one_header() -> None:
    didww, time = made(DIDWW), int(START)
    call = {"call_id": "g-1", "direction": "inbound", "from": "+12025550143", "to": "+15005550006"}
    ended = {**call, "answered_at": "2025-10-09T08:53:20Z", "ended_at": "2025-10-09T08:54:20.4Z"}
    sent = webhook({"id": "e-1", "type": "call.ended", "data": ended})

    def signed(header: str) -> Webhook:
        return webhook(sent.body, headers={"X-PS-Signature": header, "X-PS-Attempt": "2"})

    didww.verify(signed(combined(sent.body, time, SECRET)), START)
    # While the secret is changed the service may sign with both, and clocks may differ.
    didww.verify(signed(combined(sent.body, time, "other", SECRET)), START)
    for late in (-300, 300):
        didww.verify(signed(combined(sent.body, time + late, SECRET)), START)
    didww.verify(signed(combined(sent.body, time * 1000, SECRET)), START)
    for header in (
        "",
        combined(sent.body, time, "other"),
        combined(sent.body, time - 301, SECRET),
        combined(sent.body, time + 301, SECRET),
        combined(sent.body + b" ", time, SECRET),
        combined(sent.body, time, SECRET).replace(f"t={time}", f"t={time + 1}"),
        combined(sent.body, time, SECRET).replace("v1=", "v0="),
        combined(sent.body, time, SECRET).replace("t=", "x="),
        combined(sent.body, "now", SECRET),
        f"t={time},v1=",
        f"t={time}",
        "v1=zz,t=1",
    ):
        with pytest.raises(InputRefused) as refused:
            didww.verify(signed(header), START)
        assert refused.value.code == "unauthorized"
    assert facts(didww, sent).outcome == Outcome(CallStatus.ANSWERED, 60)
    begun = told(didww, webhook({"type": "call.started", "data": call}))
    assert (begun.what, begun.event.facts.outcome, begun.event.facts.phone) == (
        "call.started",
        None,
        "+12025550143",
    )
    assert didww.parse(webhook({"type": "call.cdr.updated", "data": {}}), START) == []


def jwt(claims: Mapping[str, Any] | bytes, secret: str = SECRET, **header: Any) -> str:
    parts = [json.dumps({"alg": "HS256", "typ": "JWT", **header}).encode()]
    parts.append(claims if isinstance(claims, bytes) else json.dumps(claims).encode())
    head = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(secret.encode(), head, "sha256")).rstrip(b"=")
    return (head + b"." + signature).decode()


DIALPAD = """
auth = { kind = "jwt_hs256" }
skip_if = { path = "state", not_in = ["hangup"] }
[map]
call_id = "call_id"
direction = "direction"
phone = "external_number"
extension = "target.id"
started_at = { path = "date_started", as = "epoch_ms" }
answered_at = { path = "date_connected", as = "epoch_ms" }
ended_at = { path = "date_ended", as = "epoch_ms" }
"""


def test_a_signed_token_for_a_body() -> None:
    dialpad = made(DIALPAD)
    call = {
        "call_id": 4508881234567890123,
        "state": "hangup",
        "direction": "outbound",
        "external_number": "+12025550143",
        "target": {"id": 5678, "type": "user"},
        "date_started": int(START * 1000),
        "date_connected": int(START * 1000) + 4_000,
        "date_ended": int(START * 1000) + 64_400,
    }
    sent = webhook(jwt(call).encode(), headers={"Content-Type": "application/jwt"})
    dialpad.verify(sent, START)
    found = told(dialpad, sent)
    assert found.event.key.call_id == "4508881234567890123"
    assert found.event.facts == Facts(
        direction=Direction.OUTBOUND,
        phone="+12025550143",
        person=Person(4, "5678"),
        started_at=START,
        outcome=Outcome(CallStatus.ANSWERED, 60),
    )
    # A story is read by people.
    assert json.loads(found.body or b"") == call
    dialpad.verify(webhook(jwt({**call, "exp": START - 300, "nbf": START + 300}).encode()), START)
    for token in (
        jwt(call, "other"),
        jwt(call, alg="none"),
        jwt(call, alg="HS512"),
        jwt({**call, "exp": START - 301}),
        jwt({**call, "nbf": START + 301}),
        jwt({**call, "exp": "tomorrow"}),
        jwt({**call, "exp": 10**400}),
        jwt(b"[]"),
        jwt(b"{"),
        jwt(call).rpartition(".")[0] + ".",
        jwt(call).replace(".", ".."),
        json.dumps(call),
        "a.b.c",
    ):
        with pytest.raises(InputRefused) as refused:
            dialpad.verify(webhook(token.encode()), START)
        assert refused.value.code == "unauthorized"
    for body in (b"", b"x", b"a.b.c", b"\xff"):
        with pytest.raises(NotUnderstood):
            dialpad.parse(webhook(body), START)


# The services of Brazil that the manual gives mappings for.


def test_meetime() -> None:
    meetime = made(
        """
        skip_if = { path = "event", not_in = ["CALL.FINISHED"] }
        [map]
        call_id = "call.id"
        direction = { constant = "outbound" }
        caller = "call.originPhone"
        callee = "call.receiverPhone"
        started_at = { path = "call.originStarted", as = "iso" }
        duration = "call.duration"
        [map.status]
        path = "call.status"
        values = { CONNECTED = "answered", BUSY = "busy" }
        default = "no_answer"
        """
    )
    call = {
        "id": 991,
        "originPhone": "5511912345678",
        "receiverPhone": "5521987654321",
        "duration": 63,
        "status": "CONNECTED",
        "originStarted": "2026-11-23T11:00:00Z",
    }
    (found,) = meetime.parse(webhook({"event": "CALL.FINISHED", "call": call}), NOW)
    assert found.event.facts == Facts(
        direction=Direction.OUTBOUND,
        phone="5521987654321",
        started_at=at("2026-11-23T11:00:00+00:00"),
        outcome=Outcome(CallStatus.ANSWERED, 63),
    )
    (other,) = meetime.parse(
        webhook({"event": "CALL.FINISHED", "call": {**call, "status": "NO_ANSWER"}}), NOW
    )
    assert other.event.facts.outcome == Outcome(CallStatus.NO_ANSWER, 0)


def test_kamailio() -> None:
    kamailio = made(
        """
        auth = { kind = "bearer" }
        [map]
        call_id = "call_id"
        direction = "direction"
        caller = "caller"
        callee = "callee"
        started_at = { path = "start_time", as = "epoch_s" }
        duration = "duration"
        status = { path = "status", default = "answered" }
        """
    )
    call = {
        "call_id": "1-2@192.0.2.10",
        "direction": "inbound",
        "caller": "+12025550143",
        "callee": "101",
        "start_time": f"{START:.3f}",
        "end_time": f"{START + 62.75:.3f}",
        "duration": "62.750",
    }
    assert facts(kamailio, webhook(call)) == Facts(
        direction=Direction.INBOUND,
        phone="+12025550143",
        person=Person(4, "101"),
        started_at=START,
        outcome=Outcome(CallStatus.ANSWERED, 63),
    )
    assert kamailio.parse(webhook({**call, "direction": "internal"}), START) == []


# What can be said in a mapping.


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a", 1),
        ("b.c", 2),
        ("l.0", 3),
        ("l.1.d", 4),
        ("x.y", 5),
        ("f[g]", 6),
        ("b.0", 7),
    ],
)
def test_a_path(path: str, value: int) -> None:
    record = {"a": 1, "b": {"c": 2, "0": 7}, "l": [3, {"d": 4}], "x.y": 5, "f[g]": 6}
    assert find(record, path) == value


@pytest.mark.parametrize(
    "path", ["z", "a.b", "b.z", "l.2", "l.-1", "l.x", "l.1.d.e", "l.99999999999999999999"]
)
def test_a_path_to_nothing(path: str) -> None:
    record = {"a": 1, "b": {"c": 2}, "l": [3, {"d": 4}]}
    assert text_or_none(find(record, path)) is None


def text_or_none(value: Any) -> str | None:
    with contextlib.suppress(ValueError):
        return text_of(value)
    return None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        (12.0, "12"),
        (1.5, "1.5"),
        (10**30, "1" + "0" * 30),
    ],
)
def test_a_single_value(value: Any, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("value", "convert", "seconds"),
    [
        (START, None, START),
        (str(int(START)), None, START),
        (f" {START} ", "epoch_s", START),
        (START * 1e3, "epoch_ms", START),
        (str(int(START)) + "000000", "epoch_us", START),
        ("2025-10-09T08:53:20+00:00", "iso", START),
        ("2025-10-09T08:53:20Z", None, START),
        ("2025-10-09T05:53:20", "iso", START),
        ("2025-10-09 05:53:20", None, START),
        ("09/10/2025 05:53:20", "local:%d/%m/%Y %H:%M:%S", START),
        ("2025-10-09 08:53:20 +0000", "local:%Y-%m-%d %H:%M:%S %z", START),
        (0, "epoch_ms", None),
        ("0", "iso", None),
        ("0.0", None, None),
        ("", "iso", None),
        (None, "iso", None),
        ("0000-00-00 00:00:00", "local:%Y-%m-%d %H:%M:%S", None),
    ],
)
def test_a_time(value: Any, convert: str | None, seconds: float | None) -> None:
    assert time_of(value, convert, read_zone("America/Sao_Paulo"), START) == seconds


@pytest.mark.parametrize(
    ("value", "convert"),
    [
        ("2025-10-09T08:53:20", "iso"),
        ("2025-10-09 08:53:20", "local:%Y-%m-%d %H:%M:%S"),
        ("soon", None),
        ("soon", "epoch_s"),
        ("1_760_000_000", None),
        (True, None),
        ([], None),
        (START * 1000, "epoch_s"),
        (START, "epoch_ms"),
        (START + 86_401, None),
        (-5, None),
        (10**400, "epoch_s"),
        (float("nan"), "epoch_s"),
        (float("inf"), "epoch_s"),
        ("0001-01-01T00:00:00+23:59", "iso"),
        (5, "iso"),
    ],
)
def test_what_is_no_time(value: Any, convert: str | None) -> None:
    with pytest.raises(ValueError, match=r"a time|a number|a text"):
        time_of(value, convert, None, START)


@pytest.mark.parametrize(
    ("value", "convert", "seconds"),
    [
        (63, None, 63),
        ("63", "int", 63),
        ("62.7", "int", 63),
        (62.4, "int", 62),
        ("00:06", "hms", 6),
        ("1:02:03", "hms", 3723),
        ("90:00", "hms", 5400),
        ("0:00:05.6", "hms", 6),
        (62_600, "ms_to_s", 63),
        (0, None, 0),
    ],
)
def test_a_duration(value: Any, convert: str | None, seconds: int) -> None:
    assert duration_of(value, convert) == seconds


@pytest.mark.parametrize(
    ("value", "convert"),
    [
        (-1, None),
        (10_000_001, None),
        ("a minute", None),
        ("00:06", "int"),
        ("6", "hms"),
        (6, "hms"),
        ("00:6", "hms"),
        ("9" * 30, None),
        (True, None),
        (float("nan"), None),
        (10**400, "ms_to_s"),
        ([], None),
    ],
)
def test_what_is_no_duration(value: Any, convert: str | None) -> None:
    with pytest.raises(ValueError, match=r"a number|seconds"):
        duration_of(value, convert)


@pytest.mark.parametrize(
    ("path", "word", "direction"),
    [
        ("d", "in", "inbound"),
        ("d", "out", "outbound"),
        ("d", "local", "internal"),
        ("x.is_incoming", "1", "inbound"),
        ("x.isIncoming", "0", "outbound"),
        ("outgoing", "true", "outbound"),
        ("is_outbound", "no", "inbound"),
        ("is_outbound", "in", "inbound"),
    ],
)
def test_a_word_for_a_direction(path: str, word: str, direction: str) -> None:
    assert direction_words(path)[word] == direction


def test_1_and_0_are_no_directions_by_themselves() -> None:
    assert not {"1", "0", "true"} & direction_words("direction").keys()
    with pytest.raises(NotUnderstood, match="dir is '1'"):
        made(SIMPLE).parse(webhook({**ENDED, "dir": 1}), START)


@pytest.mark.parametrize(
    ("status", "talk", "outcome"),
    [
        ("ANSWERED", 63, ("answered", 63)),
        ("ANSWERED", 0, ("answered", 0)),
        ("NO ANSWER", 20, ("no_answer", 0)),
        ("no-answer", 0, ("no_answer", 0)),
        ("Missed", 0, ("no_answer", 0)),
        ("USER_BUSY", 0, ("busy", 0)),
        ("Canceled", 0, ("cancelled", 0)),
        ("rejected", 0, ("failed", 0)),
        ("voicemail", 9, ("voicemail", 9)),
        ("completed", 63, ("answered", 63)),
        ("NORMAL_CLEARING", 0, ("no_answer", 0)),
        (None, 63, ("answered", 63)),
        ("", 0, ("no_answer", 0)),
    ],
)
def test_a_word_for_a_status(status: str | None, talk: int, outcome: tuple[str, int]) -> None:
    mapped = made(SIMPLE + 'status = "how"')
    assert facts(mapped, webhook({**ENDED, "talk": talk, "how": status})).outcome == outcome
    with pytest.raises(NotUnderstood, match="how is 'odd'"):
        mapped.parse(webhook({**ENDED, "how": "odd"}), START)


def test_without_a_status_the_duration_says_it() -> None:
    assert facts(made(SIMPLE), webhook(ENDED)).outcome == ("answered", 63)
    assert facts(made(SIMPLE), webhook({**ENDED, "talk": 0})).outcome == ("no_answer", 0)


def test_constants_and_defaults() -> None:
    mapped = made(
        """
        [map]
        call_id = "id"
        direction = { path = "dir", values = { A = "inbound" }, default = "outbound" }
        phone = { path = "who", default = "anonymous" }
        extension = { constant = "100" }
        duration = { path = "talk", default = 5 }
        status = { constant = "failed" }
        """
    )
    found = facts(mapped, webhook({"id": "c1"}))
    assert (found.direction, found.phone, found.person) == ("outbound", "anonymous", Person(3, "100"))
    assert found.outcome == ("failed", 0)
    found = facts(mapped, webhook({"id": "c1", "dir": "a ", "who": "1", "talk": 7}))
    assert (found.direction, found.phone) == ("inbound", "1")
    assert facts(mapped, webhook({"id": "c1", "dir": "other"})).direction == "outbound"
    no_talk = made(SIMPLE.replace('"talk"', "{ constant = 0 }"))
    assert facts(no_talk, webhook(ENDED)).outcome == ("no_answer", 0)


def test_an_extension_among_caller_and_callee_is_found() -> None:
    mapped = made(SIMPLE)
    assert facts(mapped, webhook(ENDED)).person == Person(4, "101")
    assert facts(mapped, webhook({**ENDED, "to": "sip:101@pbx.example"})).person == Person(4, "101")
    for other in ("+15005550006", "", None, ["101", "102"]):
        found = facts(mapped, webhook({**ENDED, "to": other}))
        assert (found.person, found.phone) == (None, "+12025550143")
    out = facts(mapped, webhook({**ENDED, "dir": "out", "from": "101", "to": "+12025550143"}))
    assert (out.phone, out.person) == ("+12025550143", Person(4, "101"))
    named = made(SIMPLE + 'extension = { path = "user", values = { Ann = "103" } }')
    assert facts(named, webhook({**ENDED, "user": "ann"})).person == Person(4, "103")
    assert facts(named, webhook({**ENDED, "user": None})).person == Person(4, "101")
    plain = made(SIMPLE + 'extension = "user"')
    assert facts(plain, webhook({**ENDED, "user": "x" * 65})).person is None
    assert facts(plain, webhook({**ENDED, "user": "a\nb"})).person is None


def test_a_withheld_number_is_not_a_missing_one() -> None:
    assert facts(made(SIMPLE), webhook({**ENDED, "from": ""})).phone == ""
    assert facts(made(SIMPLE), webhook({**ENDED, "from": None})).phone == ""
    with pytest.raises(NotUnderstood, match="no caller at from"):
        made(SIMPLE).parse(webhook({key: value for key, value in ENDED.items() if key != "from"}), START)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"id": None}, "call_id"),
        ({"id": "a\nb"}, "call_id"),
        ({"id": "x" * 256}, "call_id"),
        ({"id": {"a": 1}}, "call_id at id should be a single value"),
        ({"dir": None}, "no direction at dir"),
        ({"dir": "sideways"}, "dir is 'sideways'"),
        ({"from": "1" * 256}, "caller"),
        ({"talk": None}, "no duration at talk"),
        ({"talk": "a minute"}, "duration at talk"),
        ({"talk": -5}, "duration at talk"),
    ],
)
def test_what_cannot_be_mapped_is_kept_with_the_reason(changes: dict[str, Any], wrong: str) -> None:
    with pytest.raises(NotUnderstood, match=wrong):
        made(SIMPLE).parse(webhook({**ENDED, **changes}), START)


@pytest.mark.parametrize(
    "sent",
    [
        webhook(b"{"),
        webhook(b"[1]"),
        webhook(b"5"),
        webhook(b'{"id": "\xff"}'),
        webhook(b"{" * 100_000),
        webhook(b"--x\r\n", headers={"Content-Type": "multipart/form-data; boundary=x"}),
        webhook(b"id=c1"),
        webhook(b"id=c1", query={"id": "c1", "dir": "in", "from": "1", "to": "2", "talk": "3"}),
    ],
)
def test_what_is_neither_json_nor_a_form_is_not_understood(sent: Webhook) -> None:
    with pytest.raises(NotUnderstood):
        made(SIMPLE).parse(sent, START)


def test_json_counts_for_json_whatever_it_is_labelled() -> None:
    sent = webhook(ENDED, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert facts(made(SIMPLE), sent).phone == "+12025550143"


def test_talk_may_be_counted_from_its_moments() -> None:
    mapped = made(SIMPLE.replace('duration = "talk"', 'answered_at = "a"\nended_at = "e"'))
    assert facts(mapped, webhook({**ENDED, "a": START, "e": START + 9.6})).outcome == ("answered", 10)
    found = facts(mapped, webhook({**ENDED, "a": 0, "e": START + 9}))
    assert (found.outcome, found.started_at) == (("no_answer", 0), START + 9)
    for wrong in ({"a": START, "e": START - 1}, {"a": START, "e": None}, {"a": "x", "e": START}):
        with pytest.raises(NotUnderstood, match=r"answered_at|ended_at"):
            mapped.parse(webhook({**ENDED, **wrong}), START)


@pytest.mark.parametrize("begin", ["never", START * 1000, START + 90_000, None])
def test_an_impossible_start_is_left_out(begin: Any) -> None:
    assert facts(made(SIMPLE + 'started_at = "t"'), webhook({**ENDED, "t": begin})).started_at is None


def test_events_and_recordings() -> None:
    mapped = made(
        SIMPLE
        + """
        event = { path = "e", values = { ring = "call.started", pick = "call.answered", end = "call.ended", \
rec = "recording.ready" } }
        recording = "url"
        """
    )
    for word, what, person in (("ring", "call.started", 1), ("pick", "call.answered", 2)):
        found = told(
            mapped,
            webhook({"id": "c1", "dir": "in", "from": "5", "to": "101", "e": word, "url": "https://x/"}),
        )
        assert (found.what, found.event.facts.person, found.event.facts.outcome) == (
            what,
            Person(person, "101"),
            None,
        )
        assert found.event.recording.url is None
    ended = told(mapped, webhook({**ENDED, "e": "end", "url": "https://x.example/1.mp3"}))
    assert (ended.what, ended.event.recording.url) == ("call.ended", "https://x.example/1.mp3")
    ready = told(mapped, webhook({"id": "c1", "e": "rec", "url": "https://x.example/1.mp3"}))
    assert (ready.what, ready.event.facts) == ("recording.ready", Facts())
    assert ready.event.recording.url == "https://x.example/1.mp3"
    for url in ("", "/var/spool/1.wav", "http://x.example/1.mp3", "ftp://x.example/1.mp3"):
        assert told(mapped, webhook({**ENDED, "e": "end", "url": url})).event.recording.url is None
        with pytest.raises(NotUnderstood, match="https"):
            mapped.parse(webhook({"id": "c1", "e": "rec", "url": url}), START)
    with pytest.raises(NotUnderstood, match="e is 'hold'"):
        mapped.parse(webhook({**ENDED, "e": "hold"}), START)
    by_itself = made(SIMPLE + 'event = "e"')
    assert told(by_itself, webhook({**ENDED, "e": "call.ended"})).what == "call.ended"
    assert told(by_itself, webhook(ENDED)).what == "call.ended"


def test_a_whole_call_in_every_order() -> None:
    mapped = made(SIMPLE + 'event = "e"\nrecording = "url"\nstarted_at = "t"')
    base = {"id": "c1", "dir": "in", "from": "+12025550143", "to": "101"}
    bodies: list[dict[str, Any]] = [
        {**base, "e": "call.started", "t": START},
        {**base, "e": "call.answered", "to": "102"},
        {**base, "e": "call.ended", "to": "102", "talk": 63, "t": START + 1},
        {"id": "c1", "e": "recording.ready", "url": "https://x.example/1.mp3"},
    ]
    found = set()
    for order in itertools.permutations([*bodies, bodies[0]]):
        call: Call | None = None
        for body in order:
            call = fold(call, told(mapped, webhook(body)).event, START)
        assert call is not None
        found.add((call.facts, call.recording.url))
    assert found == {
        (
            Facts(
                direction=Direction.INBOUND,
                phone="+12025550143",
                person=Person(4, "102"),
                started_at=START,
                outcome=Outcome(CallStatus.ANSWERED, 63),
            ),
            "https://x.example/1.mp3",
        )
    }


@pytest.mark.parametrize(
    ("records", "outcome", "extension"),
    [
        # Each extension that rang is a record of the same call; one of them answered.
        ([("101", 0, "no_answer"), ("102", 40, "answered"), ("103", 0, "busy")], ("answered", 40), "102"),
        ([("101", 0, "no_answer"), ("102", 0, "cancelled")], ("no_answer", 0), "102"),
        ([("101", 0, "busy")], ("busy", 0), "101"),
        # Handed on from one to the other.
        ([("101", 20, "answered"), ("102", 40, "answered")], ("answered", 40), "102"),
    ],
)
def test_records_of_one_call(
    records: list[tuple[str, int, str]], outcome: tuple[str, int], extension: str
) -> None:
    mapped = made(SIMPLE + 'status = "how"')
    bodies = [{**ENDED, "to": to, "talk": talk, "how": how} for to, talk, how in records]
    for order in itertools.permutations(bodies * 2 if len(bodies) == 1 else bodies):
        call: Call | None = None
        for one in mapped.parse(webhook(list(order)), START):
            call = fold(call, one.event, START)
        assert call is not None
        assert (call.facts.outcome, call.facts.direction, call.facts.phone) == (
            outcome,
            "inbound",
            "+12025550143",
        )
        assert call.facts.person is not None
        assert call.facts.person.extension == extension


def test_skips_by_several_tables_of_which_one_is_enough() -> None:
    mapped = made(
        'skip_if = [{ path = "a", in = ["x", 5, true] }, { path = "b.c", not_in = ["Y Z"] }]\n' + SIMPLE
    )
    base = {**ENDED, "b": {"c": "y-z"}}
    assert len(mapped.parse(webhook(base), START)) == 1
    assert len(mapped.parse(webhook({**base, "a": ["x"]}), START)) == 1
    skipped: list[dict[str, Any]] = [{"a": one} for one in ("X", 5, "5", True)]
    skipped += [{"b": {}}, {"b": {"c": None}}, {"b": {"c": []}}]
    for changes in skipped:
        assert mapped.parse(webhook({**base, **changes}), START) == []


# Proof.


def header_of(kind: str, secret: str = SECRET) -> dict[str, str]:
    user = base64.b64encode(f"ann:{secret}".encode()).decode()
    return {
        "header": {"X-Token": secret},
        "bearer": {"Authorization": f"Bearer {secret}"},
        "basic": {"Authorization": f"Basic {user}"},
        "path": {},
    }[kind]


AUTHS = {
    "path": "{ kind = 'path' }",
    "header": "{ kind = 'header', name = 'X-Token' }",
    "bearer": "{ kind = 'bearer' }",
    "basic": "{ kind = 'basic', name = 'ann' }",
}


@pytest.mark.parametrize("kind", AUTHS)
def test_a_secret_that_is_shown(kind: str) -> None:
    def sent(secret: str) -> Webhook:
        return webhook(
            ENDED, rest=f"{secret}/more" if kind == "path" else "", headers=header_of(kind, secret)
        )

    new, of_command = secrets.token_hex(), secrets.token_hex()
    toml = f"auth = {AUTHS[kind]}\n{SIMPLE}"
    both = made(toml, [BearerToken(of_command, START + 10)], secret=new, previous_secret=SECRET)
    for secret in (new, SECRET, of_command):
        both.verify(sent(secret), START)
    with pytest.raises(InputRefused):
        both.verify(sent(of_command), START + 10)
    only = made(toml)
    for wrong in (webhook(ENDED), sent(""), sent("nope"), sent(new), sent(SECRET[:-1])):
        with pytest.raises(InputRefused) as refused:
            only.verify(wrong, START)
        assert refused.value.code == "unauthorized"
    # Each in its own place alone.
    for other in AUTHS.keys() - {kind}:
        shown = webhook(ENDED, rest=SECRET if other == "path" else "", headers=header_of(other))
        with pytest.raises(InputRefused):
            only.verify(shown, START)
    made(toml, [BearerToken(of_command)], secret=None).verify(sent(of_command), START)


def test_the_name_counts_besides_the_password() -> None:
    mapped = made(f"auth = {{ kind = 'basic', name = 'bob' }}\n{SIMPLE}")
    with pytest.raises(InputRefused):
        mapped.verify(webhook(ENDED, headers=header_of("basic")), START)


def test_the_path_is_the_way_if_none_is_named() -> None:
    made(SIMPLE).verify(webhook(ENDED, rest=SECRET), START)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha="])
@pytest.mark.parametrize("timestamp", [False, True])
def test_a_signature(algorithm: str, encoding: str, prefix: str, timestamp: bool) -> None:
    auth = f"auth = {{ kind = 'hmac', name = 'X-Sig', algorithm = '{algorithm}', encoding = '{encoding}'"
    auth += f", prefix = '{prefix}'" if prefix else ""
    auth += ", timestamp = 'X-Time', window = 60 }" if timestamp else " }"
    new = secrets.token_hex()
    mapped = made(f"{auth}\n{SIMPLE}", secret=new, previous_secret=SECRET)

    def signed(
        sent: Webhook, secret: str = SECRET, time: float = START, headers: Mapping[str, str] | None = None
    ) -> Webhook:
        text = f"{time:.0f}.".encode() + sent.body if timestamp else sent.body
        digest = hmac.digest(secret.encode(), text, algorithm)
        shown = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
        return webhook(
            sent.body, headers={"X-Sig": prefix + shown, "X-Time": f"{time:.0f}", **(headers or {})}
        )

    for secret in (SECRET, new):
        mapped.verify(signed(webhook(ENDED), secret), START)
    good = signed(webhook(ENDED)).headers["X-Sig"]
    wrong = [
        webhook(ENDED),
        signed(webhook(ENDED), "another secret"),
        webhook({**ENDED, "talk": 64}, headers={"X-Sig": good, "X-Time": f"{START:.0f}"}),
        signed(webhook(ENDED), headers={"X-Sig": prefix}),
        signed(webhook(ENDED), headers={"X-Sig": good[:-2]}),
        signed(webhook(ENDED), headers={"X-Sig": "é" + good}),
        signed(webhook(b"")),
    ]
    if prefix:
        wrong.append(signed(webhook(ENDED), headers={"X-Sig": good.removeprefix(prefix)}))
    if timestamp:
        wrong += [signed(webhook(ENDED), time=START + off) for off in (-61, 61)]
        wrong += [
            signed(webhook(ENDED), headers={"X-Time": text}) for text in ("", "soon", f"{START + 1:.0f}")
        ]
        mapped.verify(signed(webhook(ENDED), time=START - 60), START)
    for sent in wrong:
        with pytest.raises(InputRefused) as refused:
            mapped.verify(sent, START)
        assert refused.value.code == "unauthorized"


def test_of_what_is_signed_the_body_alone_is_read() -> None:
    mapped = made(f"auth = {{ kind = 'hmac', name = 'X-Sig' }}\n{SIMPLE}")
    form = {"id": "c1", "dir": "in", "from": "+12025550143", "talk": "63"}
    forged = webhook(form=form, query={"dir": "out", "to": "101"})
    assert facts(mapped, forged).direction is Direction.INBOUND
    assert facts(made(SIMPLE), webhook(form=form, query={"to": "101"})).person == Person(4, "101")
    assert facts(mapped, forged).person is None


def test_what_standard_webhooks_signs() -> None:
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    mapped = made(f"auth = {{ kind = 'standard-webhooks' }}\n{SIMPLE}", secret=secret)
    body = json.dumps(ENDED)
    signature = StandardWebhook(secret).sign("m1", datetime.fromtimestamp(START, UTC), body)
    shown = {"webhook-id": "m1", "webhook-timestamp": f"{START:.0f}", "webhook-signature": signature}
    mapped.verify(webhook(body.encode(), headers=shown), START)
    for sent in (webhook(ENDED), webhook(body.encode() + b" ", headers=shown)):
        with pytest.raises(InputRefused):
            mapped.verify(sent, START)
    wrong = f"auth = {{ kind = 'standard-webhooks' }}\n{SIMPLE}"
    assert "mapping.secret: should be whsec_" in mistakes(wrong)
    assert SECRET not in mistakes(wrong)


def test_a_signed_token_in_the_header() -> None:
    mapped = made(f"auth = {{ kind = 'jwt_hs256', place = 'header' }}\n{SIMPLE}", previous_secret="p" * 20)
    sent = webhook(ENDED)

    def shown(token: str) -> Webhook:
        return webhook(sent.body, headers={"Authorization": f"Bearer {token}"})

    digest = hashlib.sha256(sent.body).hexdigest()
    mapped.verify(shown(jwt({"iss": "x"})), START)
    mapped.verify(shown(jwt({"payload_hash": digest}, "p" * 20)), START)
    assert facts(mapped, shown(jwt({}))).phone == "+12025550143"
    for token in ("", jwt({}, "other"), jwt({"payload_hash": "0" * 64}), jwt({"payload_hash": 5})):
        with pytest.raises(InputRefused):
            mapped.verify(shown(token), START)
    with pytest.raises(InputRefused):
        mapped.verify(webhook(jwt(ENDED).encode()), START)


def test_a_token_that_was_made_has_to_stand_in_the_address_of_a_service_that_signs() -> None:
    in_path = secrets.token_hex()
    mapped = made(f"auth = {{ kind = 'hmac', name = 'X-Sig' }}\n{SIMPLE}", [BearerToken(in_path)])
    sent = webhook(ENDED)
    signature = hmac.digest(SECRET.encode(), sent.body, "sha256").hex()
    mapped.verify(webhook(sent.body, rest=in_path, headers={"X-Sig": signature}), START)
    for wrong in (webhook(sent.body, headers={"X-Sig": signature}), webhook(sent.body, rest=in_path)):
        with pytest.raises(InputRefused):
            mapped.verify(wrong, START)


def test_addresses_are_checked_besides() -> None:
    mapped = made(SIMPLE, allow_from=["192.0.2.0/24"])
    mapped.verify(webhook(ENDED, rest=SECRET), START)
    with pytest.raises(InputRefused):
        mapped.verify(webhook(ENDED), START)
    with pytest.raises(InputRefused) as refused:
        mapped.verify(webhook(ENDED, rest=SECRET, peer="198.51.100.1"), START)
    assert refused.value.code == "forbidden"


def test_it_is_found_and_answers_with_an_empty_200() -> None:
    assert services()["mapping"] is SERVICE
    assert made(SIMPLE).reply is EMPTY


def test_without_anything_to_prove_itself_by_it_is_not_there() -> None:
    assert SERVICE.make(ACCOUNT, settings_of(SIMPLE), []) is None
    signs = f"auth = {{ kind = 'hmac', name = 'X-Sig' }}\n{SIMPLE}"
    assert SERVICE.make(ACCOUNT, settings_of(signs), [BearerToken(SECRET)]) is None


_KEYS_OF_AUTH = (
    "algorithm",
    "encoding",
    "prefix",
    "timestamp",
    "combined",
    "window",
    "sha1",
    "sha512",
    "base64",
)

# Mistakes in the configuration are found at the start, and named.


@pytest.mark.parametrize(
    ("toml", "wrong"),
    [
        ("", "mapping.map: is missing"),
        ("map = 5", "mapping.map: should be a table of what stands where"),
        (SIMPLE.replace('call_id = "id"\n', ""), "map: should be a table with call_id"),
        (SIMPLE.replace('direction = "dir"\n', ""), "map: should be a table with direction"),
        (
            SIMPLE.replace('callee = "to"\n', ""),
            "either phone, the client's number, or both caller and callee",
        ),
        (SIMPLE.replace('caller = "from"\ncallee = "to"\n', ""), "either phone"),
        (SIMPLE + 'phone = "p"', "either phone"),
        (SIMPLE.replace('duration = "talk"', 'ended_at = "e"'), "with duration, that of the talk"),
        (SIMPLE + 'start = "t"', "a table without start; known here are answered_at"),
        (SIMPLE + "status = 5", "status is a dotted path or a table"),
        (SIMPLE + 'status = ""', r"status.path is a dotted path"),
        (SIMPLE + 'status = "a..b"', r"status.path is a dotted path"),
        (SIMPLE + "status = { values = { a = 'busy' } }", r"status.path is a dotted path"),
        (SIMPLE + "status = { path = 's', value = 'busy' }", "status is without value"),
        (SIMPLE + "status = { path = 's', values = 5 }", "status.values is a table such as"),
        (SIMPLE + "status = { path = 's', values = {} }", "status.values is a table such as"),
        (SIMPLE + "status = { path = 's', values = { a = 5 } }", "status.values is a table such as"),
        (SIMPLE + "status = { path = 's', values = { a = 'hung' } }", "without hung"),
        (SIMPLE + "status = { path = 's', default = 'hung' }", "status.default is one of answered"),
        (SIMPLE + "status = { constant = 'hung' }", "status.constant is one of answered"),
        (SIMPLE + "status = { constant = 'busy', path = 's' }", "a constant, which needs nothing else"),
        (SIMPLE + "event = { constant = 'ended' }", "event.constant is one of call.started"),
        (SIMPLE + "extension = { constant = 5 }", "extension.constant is a text"),
        (SIMPLE + "extension = { path = 'e', as = 'int' }", "extension.as is left out"),
        (SIMPLE.replace('"talk"', '{ path = "talk", as = "seconds" }'), "duration.as is one of int, hms"),
        (SIMPLE.replace('"talk"', '{ path = "talk", values = { a = "b" } }'), "duration.values is left out"),
        (SIMPLE.replace('"talk"', '{ path = "talk", default = -1 }'), "duration.default is a whole number"),
        (SIMPLE.replace('"talk"', '{ constant = "x" }'), "duration.constant is a whole number"),
        (SIMPLE.replace('"id"', '{ constant = "x" }'), "call_id.constant is left out"),
        (SIMPLE + "started_at = { path = 't', as = 'epoch' }", "started_at.as is one of epoch_s"),
        (SIMPLE + "started_at = { path = 't', as = 'hms' }", "started_at.as is one of epoch_s"),
        (SIMPLE + "started_at = { path = 't', as = 'local:%Q' }", "local: and a format of date and time"),
        (SIMPLE + "started_at = { path = 't', as = 'local:%H:%M' }", "local: and a format of date and time"),
        (SIMPLE + "started_at = { path = 't', as = 'local:' }", "local: and a format of date and time"),
        (SIMPLE + "started_at = { path = 't', as = 'local:%d.%m.%Y %I:%M' }", "local: and a format"),
        (SIMPLE + "started_at = { path = 't', default = '0' }", "started_at.default is left out"),
        (SIMPLE + "ended_at = { path = 't', as = 'local:%Y-%m-%d %H:%M' }", "timezone: is missing; ended_at"),
        ("timezone = 'Mars/Olympus'\n" + SIMPLE, "timezone: should be a time zone such as America/Sao_Paulo"),
        ("timezone = '../etc/passwd'\n" + SIMPLE, "timezone: should be a time zone"),
        ("timezone = 5\n" + SIMPLE, "timezone: should be a time zone"),
        ("records = 'a.'\n" + SIMPLE, "records: should be a dotted path"),
        ("records = 5\n" + SIMPLE, "records: should be a dotted path"),
        ("skip_if = { path = 'e' }\n" + SIMPLE, "skip_if: should be a table such as"),
        (
            "skip_if = { path = 'e', in = ['a'], not_in = ['b'] }\n" + SIMPLE,
            "skip_if: should be a table such as",
        ),
        ("skip_if = { path = 'e', in = 'a' }\n" + SIMPLE, "skip_if: should be a table such as"),
        ("skip_if = { path = 'e', in = [] }\n" + SIMPLE, "skip_if: should be a table such as"),
        ("skip_if = { path = 'e', in = [[]] }\n" + SIMPLE, "skip_if: should be a table such as"),
        ("skip_if = { path = '', in = ['a'] }\n" + SIMPLE, "skip_if: should be a dotted path"),
        ("skip_if = 5\n" + SIMPLE, "skip_if: should be a table such as"),
        ("adapter = 'generic'\n" + SIMPLE, "mapping.adapter: unknown"),
        ("auth = 5\n" + SIMPLE, "auth: should be a table with a kind, one of path"),
        ("auth = { kind = 'magic' }\n" + SIMPLE, "auth: should be a table with a kind"),
        ("auth = { kind = ['path'] }\n" + SIMPLE, "auth: should be a table with a kind"),
        ("auth = { kind = 'header' }\n" + SIMPLE, "auth: should be a table with name, which header needs"),
        ("auth = { kind = 'hmac' }\n" + SIMPLE, "with name, which hmac needs"),
        ("auth = { kind = 'path', name = 'x' }\n" + SIMPLE, "without name; path has nothing else"),
        (
            "auth = { kind = 'hmac', name = 'X', hash = 'md5' }\n" + SIMPLE,
            "without hash; hmac has name, algorithm",
        ),
        ("auth = { kind = 'hmac', name = 'X', algorithm = 'md5' }\n" + SIMPLE, "algorithm is one of sha1"),
        ("auth = { kind = 'hmac', name = 'X', encoding = 'rot13' }\n" + SIMPLE, "encoding is one of hex"),
        ("auth = { kind = 'hmac', name = 'X', prefix = '' }\n" + SIMPLE, "prefix is a text"),
        ("auth = { kind = 'hmac', name = 'X Y' }\n" + SIMPLE, "name is a header's name"),
        ("auth = { kind = 'hmac', name = 'X', timestamp = ':' }\n" + SIMPLE, "timestamp is a header's name"),
        ("auth = { kind = 'hmac', name = 'X', combined = 1 }\n" + SIMPLE, "combined is true or false"),
        ("auth = { kind = 'hmac', name = 'X', combined = true, prefix = 'a' }\n" + SIMPLE, "combined header"),
        (
            "auth = { kind = 'hmac', name = 'X', combined = true, timestamp = 'T' }\n" + SIMPLE,
            "combined header",
        ),
        ("auth = { kind = 'hmac', name = 'X', window = 9 }\n" + SIMPLE, "timestamp, of which window is"),
        (
            "auth = { kind = 'hmac', name = 'X', timestamp = 'T', window = 0 }\n" + SIMPLE,
            "window is a number",
        ),
        ("auth = { kind = 'jwt_hs256', place = 'query' }\n" + SIMPLE, "place is one of body, header"),
    ],
)
def test_a_mistake_is_found_at_the_start(toml: str, wrong: str) -> None:
    assert wrong in mistakes(toml)


def test_a_zone_in_the_text_needs_none_in_the_configuration() -> None:
    made(SIMPLE + "started_at = { path = 't', as = 'local:%Y-%m-%d %H:%M:%S %z' }")


def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    found = mistakes(f"auth = {{ kind = 'bearer', secret = '{SECRET}' }}\n{SIMPLE}")
    assert "without secret" in found
    assert "secrets stand in secret" in found
    assert SECRET not in found
    assert all(SERVICE.settings[name].secret for name in ("auth", "secret", "previous_secret"))


MANUAL = Path(__file__).parents[2] / "docs" / "voip"
EXAMPLES = [
    block
    for name in ("mapping.md", "kamailio.md")
    for block in re.findall(r"```toml\n(.*?)```", (MANUAL / name).read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_manual_is_a_mapping(example: str) -> None:
    account = {"id": ACCOUNT, "base_url": "https://example.kommo.com", "access_token": "t"}
    table = tomllib.loads(example.replace("[accounts.", "[").replace('"…"', f'"{SECRET}"'))
    raw = {"http": {"public_url": "https://calls.example.com"}, "accounts": [account | table]}
    found = read(raw, {}, folder=Path("/"), services={"mapping": SERVICE.settings})
    assert SERVICE.make(ACCOUNT, found.accounts[ACCOUNT].voip["mapping"], []) is not None


def test_the_manual_has_every_setting_and_word() -> None:
    text = (MANUAL / "mapping.md").read_text(encoding="utf-8")
    known = [*SERVICE.settings, *TARGETS, *DURATIONS, *PER_SECOND, *EVENTS, *CallStatus, *_KEYS_OF_AUTH]
    assert [word for word in known if f"`{word}`" not in text and f'"{word}"' not in text] == []


def test_what_the_manual_shows_can_be_read() -> None:
    for name, setting in SERVICE.settings.items():
        if name not in ("secret", "previous_secret"):
            setting.read(tomllib.loads(f"x = {setting.show}")["x"])


# Whatever is sent, nothing but the documented errors comes out.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
EVERYTHING = """
timezone = "America/Sao_Paulo"
skip_if = { path = "skip", in = ["yes"] }
[map]
event = "e"
call_id = "id"
direction = "dir"
caller = "from"
callee = "to"
extension = "ext"
duration = { path = "talk", as = "hms" }
started_at = { path = "s", as = "local:%Y-%m-%d %H:%M:%S" }
answered_at = { path = "a", as = "epoch_us" }
ended_at = "b"
status = "how"
recording = "url"
"""
KEYS = ["skip", "e", "id", "dir", "from", "to", "ext", "talk", "s", "a", "b", "how", "url"]
HOSTILE: Sequence[Callable[[], Mapped]] = (
    lambda: made(EVERYTHING),
    lambda: made(EVERYTHING.replace('as = "hms"', 'as = "ms_to_s"')),
    lambda: made("records = 'id.0'\n" + SIMPLE),
    lambda: made("auth = { kind = 'basic', name = 'a' }\n" + SIMPLE),
    lambda: made(DIDWW),
    lambda: made(DIALPAD),
    lambda: made("auth = { kind = 'jwt_hs256', place = 'header' }\n" + SIMPLE),
)
MADE = [make() for make in HOSTILE]


@settings(max_examples=300)
@given(
    st.sampled_from(MADE),
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6),
    st.binary(max_size=40),
    st.text(max_size=30),
    st.booleans(),
)
def test_hostile_messages_are_refused_or_not_understood(
    mapped: Mapped, changes: dict[str, Any], raw: bytes, header: str, is_form: bool
) -> None:
    full = {"id": "1", "dir": "in", "from": "1", "to": "2", "talk": "1:00", **changes}
    kind = "application/x-www-form-urlencoded" if is_form else "application/json"
    shown = {"Content-Type": kind, "Authorization": header, "X-PS-Signature": header}
    for body in (json.dumps(full).encode(), json.dumps([full]).encode(), raw, jwt(raw).encode()):
        sent = webhook(body, rest=header.replace("/", ""), query={"q": header}, headers=shown)
        SERVICE.handshake(sent)
        with contextlib.suppress(InputRefused):
            mapped.verify(sent, START)
        with contextlib.suppress(NotUnderstood):
            for one in mapped.parse(sent, START):
                fold(None, one.event, START)
        mapped.told_body(sent)
