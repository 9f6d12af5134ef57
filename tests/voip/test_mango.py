"""Mango Office: who may speak, what is understood, and where its recordings are."""

import contextlib
import hashlib
import itertools
import json
import random
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from calllogd.domain.call import (
    Call,
    CallKey,
    CallStatus,
    Direction,
    Facts,
    Outcome,
    Person,
    Recording,
    RecordingState,
)
from calllogd.domain.merge import fold
from calllogd.domain.phone import Kind, read
from calllogd.errors import InputRefused
from calllogd.voip.errand import Ask, KeepsRecordings, ListsCalls
from calllogd.voip.proof import BearerToken
from calllogd.voip.provider import NotUnderstood, Provider, Told
from calllogd.voip.provider.mango import SERVICE, Mango
from calllogd.voip.webhook import Webhook
from tests.fakes import ACCOUNT

VECTORS = [
    one
    for one in json.loads(Path(__file__).with_name("vectors.json").read_text())["vectors"]
    if one["provider"] == "mango"
]
KEY, SALT, TOKEN = (secrets.token_hex(16) for _ in range(3))
NOW = 1_767_225_667.0
ENTRY, REC = "MTIzOjQ1Ng==", "MToxMDAwNjA4NTo1MDA5NDExMDIyOjE="
CLIENT, LINE = "12025550143", "15005550006"
SUMMARY: dict[str, Any] = {
    "entry_id": ENTRY,
    "call_direction": 1,
    "from": {"number": CLIENT},
    "to": {"extension": "123", "number": "sip:u@x.example"},
    "line_number": LINE,
    "create_time": 1767225600,
    "forward_time": 1767225602,
    "talk_time": 1767225604,
    "end_time": 1767225667,
    "entry_result": 1,
    "disconnect_reason": 1100,
}
MADE = {
    **SUMMARY,
    "call_direction": 2,
    "from": {"extension": "123", "number": "sip:u@x.example"},
    "to": {"number": CLIENT},
}
MISSED = {**SUMMARY, "talk_time": 0, "entry_result": 0, "disconnect_reason": 1111}
RINGS: dict[str, Any] = {
    "entry_id": ENTRY,
    "call_id": "200:514",
    "timestamp": "1767225602",
    "seq": "1",
    "location": "abonent",
    "call_state": "Appeared",
    "from": {"number": CLIENT},
    "to": {"extension": "123", "number": "12345678", "line_number": LINE},
}
RECORDED: dict[str, Any] = {
    "recording_id": REC,
    "recording_state": "Completed",
    "seq": 2,
    "entry_id": ENTRY,
    "call_id": "200:514",
    "extension": "123",
    "timestamp": 1767225667,
    "completion_code": 1000,
    "recipient": "Cloud",
}
STORED: dict[str, Any] = {
    "entry_id": ENTRY,
    "product_id": 300022532,
    "user_id": 300049012,
    "timestamp": 1767225690,
    "recording_id": REC,
}
INBOUND, OUTBOUND, ANSWERED = Direction.INBOUND, Direction.OUTBOUND, CallStatus.ANSWERED
HAS = Recording(state=RecordingState.EXPECTED, url="mango:MToxMDAwNjA4NTo1MDA5NDExMDIyOjE%3D")
NEVER = Recording(state=RecordingState.NEVER)


def mango(made: Sequence[BearerToken] = (), **given_values: Any) -> Mango:
    defaults = {name: setting.default for name, setting in SERVICE.settings.items()}
    chosen = {"vpbx_api_key": KEY, "vpbx_api_salt": SALT, **given_values}
    chosen = {name: SERVICE.settings[name].read(value) for name, value in chosen.items()}
    provider = SERVICE.make(ACCOUNT, {**defaults, **chosen}, made)
    assert isinstance(provider, Mango)
    return provider


MANGO = mango()


def sent(
    body: object, rest: str = "", *, key: str = KEY, salt: str = SALT, peer: str = "", **changes: str
) -> Webhook:
    text = body if isinstance(body, str) else json.dumps(body)
    form = {
        "vpbx_api_key": key,
        "sign": hashlib.sha256(f"{key}{text}{salt}".encode()).hexdigest(),
        "json": text,
    }
    return raw(urlencode({**form, **changes}).encode(), rest, peer)


def raw(body: bytes, rest: str = "", peer: str = "") -> Webhook:
    return Webhook(
        method="POST",
        url=f"https://calls.example.com/voip/mango/{ACCOUNT}/{rest}",
        headers=CIMultiDictProxy(CIMultiDict({"Content-Type": "application/x-www-form-urlencoded"})),
        body=body,
        rest=rest,
        peer=peer,
    )


def all_told(body: object, rest: str = "", now: float = NOW) -> Sequence[Told]:
    webhook = sent(body, rest)
    MANGO.verify(webhook, now)
    return MANGO.parse(webhook, now)


def told(body: object, rest: str = "", now: float = NOW) -> Told:
    (one,) = all_told(body, rest, now)
    return one


def facts(now: float = NOW, **changes: Any) -> Facts:
    return told({**SUMMARY, **changes}, now=now).event.facts


def folded(parts: Iterable[Told]) -> Call:
    call: Call | None = None
    for one in parts:
        call = fold(call, one.event, NOW)
    assert call is not None
    return call


def assembled(*bodies: object) -> Call:
    """Return the call that messages make, the same in whatever order they come, and how often."""
    parts = [one for body in bodies for one in all_told(body)]
    chance = random.Random(7)  # noqa: S311
    orders: Iterable[Sequence[Told]] = itertools.permutations(parts)
    if len(parts) > 6:
        orders = [chance.sample(parts, len(parts)) for _ in range(500)]
    calls = [folded(order) for order in orders]
    calls += [folded(chance.choices(parts, k=3) + chance.sample(parts, len(parts))) for _ in range(50)]
    assert len({(call.key, call.facts, call.recording) for call in calls}) == 1
    assert not calls[0].legs
    return calls[0]


# What others have checked


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_vectors(vector: dict[str, Any]) -> None:
    key, _, salt = vector["secret"].partition(":")
    provider = mango(vpbx_api_key=key, vpbx_api_salt=salt)
    webhook = Webhook(
        method=vector["method"],
        url=vector["url"],
        headers=CIMultiDictProxy(CIMultiDict(vector["headers"])),
        body=vector["body"].encode(),
        rest=vector["url"].partition("/in/mango/")[2],
    )
    if not vector["valid"]:
        with pytest.raises(InputRefused):
            provider.verify(webhook, vector["clock"])
        return
    provider.verify(webhook, vector["clock"])
    (one,) = provider.parse(webhook, vector["clock"])
    expect = dict(vector["expect"])
    assert one.event.key.call_id == expect.pop("call_id")
    assert one.event.facts.direction == expect.pop("direction")
    assert one.event.facts.outcome == Outcome(CallStatus(expect.pop("disposition")), expect.pop("duration"))
    assert not expect


# Who may speak


def test_the_signature_is_over_the_text_that_was_sent() -> None:
    for text in ('{ "a" : 1 }', "", "é", "not json"):
        MANGO.verify(sent(text), NOW)
    for changes in ({"json": '{"a":2}'}, {"sign": ""}, {"sign": "é"}, {"sign": "0" * 64}):
        with pytest.raises(InputRefused) as refused:
            MANGO.verify(sent({"a": 1}, **changes), NOW)
        assert refused.value.code == "unauthorized"
    for body in (b"", b"json=%7B%7D", b"sign=x", b"\xff", b"json=a&" * 600):
        with pytest.raises(InputRefused):
            MANGO.verify(raw(body), NOW)
    # The key that is posted is not the one that is signed.
    MANGO.verify(sent({"a": 1}, vpbx_api_key="other"), NOW)
    with pytest.raises(InputRefused):
        MANGO.verify(sent({"a": 1}, key="other"), NOW)


def test_signature_of_what_is_no_utf_8() -> None:
    sign = hashlib.sha256(KEY.encode() + b'{"a":"\xff\xc3\xa9"}' + SALT.encode()).hexdigest()
    webhook = raw(b"json=%7B%22a%22:%22%ff\xc3\xa9%22%7D&sign=" + sign.encode())
    MANGO.verify(webhook, NOW)
    with pytest.raises(NotUnderstood):
        MANGO.parse(webhook, NOW)


def test_of_a_field_that_comes_twice_the_one_that_is_signed_counts() -> None:
    webhook = raw(urlencode({"json": json.dumps(MISSED)}).encode() + b"&" + sent(SUMMARY).body)
    MANGO.verify(webhook, NOW)
    assert MANGO.parse(webhook, NOW) == MANGO.parse(sent(SUMMARY), NOW)
    assert MANGO.told_body(webhook) == json.dumps(SUMMARY).encode()


def test_keys_and_salts_are_changed_without_a_gap() -> None:
    key, salt = secrets.token_hex(16), secrets.token_hex(16)
    both = mango(previous_vpbx_api_key=key, previous_vpbx_api_salt=salt)
    for one, other in ((KEY, SALT), (key, salt), (KEY, salt)):
        both.verify(sent(SUMMARY, key=one, salt=other), NOW)
    for provider in (MANGO, mango(previous_vpbx_api_key=key), mango(previous_vpbx_api_salt=salt)):
        with pytest.raises(InputRefused):
            provider.verify(sent(SUMMARY, key=key, salt=salt), NOW)
    mango(previous_vpbx_api_salt=salt).verify(sent(SUMMARY, salt=salt), NOW)


def test_the_address_may_have_a_secret_besides() -> None:
    made = BearerToken(secrets.token_hex(10), NOW)
    both = mango([made], token=TOKEN, previous_token=TOKEN[::-1])
    for token in (TOKEN, TOKEN[::-1]):
        both.verify(sent(SUMMARY, f"{token}/events/summary"), NOW)
    both.verify(sent(SUMMARY, made.token), NOW - 1)
    for rest in ("", "events/summary", f"events/{TOKEN}", f"{made.token}/events/summary"):
        with pytest.raises(InputRefused):
            both.verify(sent(SUMMARY, rest), NOW)
    with pytest.raises(InputRefused):
        both.verify(sent(SUMMARY, TOKEN, sign="x"), NOW)


def test_addresses() -> None:
    near = mango(allow_from=["81.88.80.132/32", "81.88.82.36/32"])
    near.verify(sent(SUMMARY, peer="81.88.82.36"), NOW)
    with pytest.raises(InputRefused) as refused:
        near.verify(sent(SUMMARY, peer="81.88.82.37"), NOW)
    assert refused.value.code == "forbidden"


def test_it_is_made_of_key_and_salt() -> None:
    nothing = {name: setting.default for name, setting in SERVICE.settings.items()}
    for values in ({}, {"vpbx_api_key": KEY}, {"vpbx_api_salt": SALT}, {"token": TOKEN}):
        assert SERVICE.make(ACCOUNT, {**nothing, **values}, [BearerToken(TOKEN)]) is None
    secret = {name for name, setting in SERVICE.settings.items() if setting.secret}
    assert secret == set(SERVICE.settings) - {"allow_from", "api_url"}


def test_the_answer_is_an_empty_200() -> None:
    assert MANGO.reply is not None
    assert (MANGO.reply.status, MANGO.reply.body) == (200, b"")


def test_the_story_keeps_neither_key_nor_signature() -> None:
    assert MANGO.told_body(sent(SUMMARY)) == json.dumps(SUMMARY).encode()
    assert MANGO.told_body(raw(b"")) == b""


# What the summary says


def test_summaries() -> None:
    one = told(SUMMARY, "events/summary")
    assert (one.what, one.event.key, one.body) == ("call.ended", CallKey(ACCOUNT, ENTRY), None)
    assert one.event.facts == Facts(
        direction=INBOUND,
        phone=f"+{CLIENT}",
        person=Person(4, "123"),
        started_at=1767225600,
        outcome=Outcome(ANSWERED, 63),
    )
    assert told(MADE).event.facts == Facts(
        direction=OUTBOUND,
        phone=f"+{CLIENT}",
        person=Person(4, "123"),
        started_at=1767225600,
        outcome=Outcome(ANSWERED, 63),
    )
    assert told(MISSED).event.facts == Facts(
        direction=INBOUND,
        phone=f"+{CLIENT}",
        person=Person(3, "123"),
        started_at=1767225600,
        outcome=Outcome(CallStatus.NO_ANSWER, 0),
    )


def test_the_menu_is_no_success_whatever_it_calls_itself() -> None:
    # One of the manual's examples.
    told_of = facts(to={}, talk_time=0, entry_result=1, disconnect_reason=1170)
    assert told_of.outcome == Outcome(CallStatus.NO_ANSWER, 0)
    assert told_of.person is None


def test_numbers_and_texts_are_alike() -> None:
    as_text = {name: str(value) if isinstance(value, int) else value for name, value in SUMMARY.items()}
    assert told({**as_text, "to": {"extension": 123}}).event == told(SUMMARY).event


@pytest.mark.parametrize(
    ("number", "phone"),
    [
        ("79001234567", "+79001234567"),
        ("12025550143", "+12025550143"),
        (12025550143, "+12025550143"),
        ("8613800138000", "8613800138000"),
        ("89001234567", "89001234567"),
        ("9001234567", "9001234567"),
        ("+12025550143", "+12025550143"),
        ("0012025550143", "0012025550143"),
        ("sip:u@x.example", "sip:u@x.example"),
        ("1" * 3000, "1" * 255),
        ("", ""),
        (None, ""),
        (10**30, ""),
        (True, ""),
        ([], ""),
    ],
)
def test_numbers(number: Any, phone: str) -> None:
    # A caller who does not show his number is told of without one.
    caller: dict[str, Any] = {"from": {"number": number}}
    assert facts(**caller).phone == phone


@pytest.mark.parametrize("value", [None, [], "x", 3, {}])
def test_sides_that_are_none(value: Any) -> None:
    told_of = facts(**{"from": value, "to": value})
    assert (told_of.phone, told_of.person) == ("", None)


@pytest.mark.parametrize(
    ("called", "phone"),
    [
        ({"extension": "321", "number": "79001234567"}, "321"),
        ({"number": "79001234567"}, "ext:79001234567"),
        ({"number": "sip:user2@x.example"}, "ext:sip:user2@x.example"),
        ({}, "ext:"),
    ],
)
def test_calls_among_colleagues_have_inside_numbers(called: dict[str, str], phone: str) -> None:
    told_of = told({**MADE, "call_direction": 0, "to": called}).event.facts
    assert (told_of.direction, told_of.phone, told_of.person) == (OUTBOUND, phone, Person(4, "123"))
    assert read(phone).kind is Kind.INTERNAL


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (1100, CallStatus.NO_ANSWER),
        (1110, CallStatus.CANCELLED),
        (1111, CallStatus.NO_ANSWER),
        (1119, CallStatus.CANCELLED),
        (1120, CallStatus.BUSY),
        ("1121", CallStatus.BUSY),
        (1125, CallStatus.CANCELLED),
        (1131, CallStatus.FAILED),
        (1140, CallStatus.FAILED),
        (1151, CallStatus.FAILED),
        (1164, CallStatus.NO_ANSWER),
        (1170, CallStatus.NO_ANSWER),
        (1181, CallStatus.CANCELLED),
        (1192, CallStatus.NO_ANSWER),
        (1193, CallStatus.BUSY),
        (1313, CallStatus.NO_ANSWER),
        (2240, CallStatus.FAILED),
        (3200, CallStatus.FAILED),
        (4200, CallStatus.FAILED),
        (5003, CallStatus.FAILED),
        ("x", CallStatus.FAILED),
        (None, CallStatus.NO_ANSWER),
        ({}, CallStatus.NO_ANSWER),
    ],
)
def test_reasons(reason: Any, status: CallStatus) -> None:
    assert facts(talk_time=0, disconnect_reason=reason).outcome == Outcome(status, 0)
    # Where somebody talked the reason says who hung up.
    assert facts(disconnect_reason=reason).outcome == Outcome(ANSWERED, 63)


@pytest.mark.parametrize(
    ("late_s", "start"),
    [
        (0, 1767225600),
        (599, 1767225600),
        (3600, 1767225600),
        # Times three hours ahead, as clocks in Moscow are.
        (-10800, 1767225600 - 10800),
        (-10200, 1767225600 - 10800),
        (-11400, 1767225600 - 10800),
        (-10199, 1767225600),
        (-11401, 1767225600),
        (10800, 1767225600 + 10800),
        (10200, 1767225600 + 10800),
        (11400, 1767225600 + 10800),
        (10199, 1767225600),
        (11401, 1767225600),
    ],
)
def test_times_three_hours_off_are_put_right(late_s: int, start: int) -> None:
    told_of = facts(NOW + late_s)
    assert (told_of.started_at, told_of.outcome) == (start, Outcome(ANSWERED, 63))


@pytest.mark.parametrize(
    "value", [None, "x", 0, -1, 10**14, 10**40, 1.5, 1767225600000, True, "1767225600.5"]
)
def test_starts_that_cannot_be(value: Any) -> None:
    assert facts(create_time=value).started_at is None


@pytest.mark.parametrize(
    "changes",
    [
        {"entry_id": ""},
        {"entry_id": None},
        {"entry_id": "a\n"},
        {"entry_id": "a" * 256},
        {"entry_id": 10**40},
        {"entry_id": ["a"]},
        {"call_direction": 3},
        {"call_direction": None},
        {"call_direction": True},
        {"talk_time": None},
        {"talk_time": "soon"},
        {"talk_time": 1.5},
        {"end_time": None},
        {"end_time": 1767225603},
        {"end_time": 10**14},
    ],
)
def test_summaries_that_are_not_understood(changes: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstood):
        all_told({**SUMMARY, **changes})


# What the others say


@pytest.mark.parametrize(
    ("changes", "what", "expected"),
    [
        (
            {},
            "call.started",
            Facts(direction=INBOUND, phone=f"+{CLIENT}", person=Person(1, "123")),
        ),
        (
            {"call_state": "Connected"},
            "call.answered",
            Facts(direction=INBOUND, phone=f"+{CLIENT}", person=Person(2, "123")),
        ),
        ({"to": {"number": "1"}}, "call.started", Facts(direction=INBOUND, phone=f"+{CLIENT}")),
        ({"from": {}, "to": {}}, "call.started", Facts(direction=INBOUND, phone="")),
        (
            {"from": {"extension": "123"}, "to": {"number": CLIENT}},
            "call.started",
            Facts(person=Person(1, "123")),
        ),
        (
            {"from": {"number": CLIENT, "taken_from_call_id": "200:1"}, "to": {"extension": "321"}},
            "call.started",
            Facts(person=Person(1, "321")),
        ),
        ({"command_id": "c1"}, "call.started", Facts(person=Person(1, "123"))),
        ({"task_id": 7}, "call.started", Facts(person=Person(1, "123"))),
        ({"callback_initiator": "WEB"}, "call.started", Facts(person=Person(1, "123"))),
    ],
)
def test_connections(changes: dict[str, Any], what: str, expected: Facts) -> None:
    one = told({**RINGS, **changes}, "events/call")
    assert (one.what, one.event.facts, one.event.key) == (what, expected, CallKey(ACCOUNT, ENTRY))


@pytest.mark.parametrize(
    "changes",
    [
        {"call_state": "OnHold"},
        {"call_state": "Disconnected", "disconnect_reason": 1120},
        {"call_state": "Later"},
        {"call_state": None},
        # A colleague is asked; a call among colleagues has the same look.
        {"from": {"extension": "123", "taken_from_call_id": "200:514"}, "to": {"extension": "321"}},
        {"from": {"extension": "1" * 65}, "to": {}},
    ],
)
def test_connections_of_no_interest(changes: dict[str, Any]) -> None:
    assert all_told({**RINGS, **changes}) == []


@pytest.mark.parametrize(
    ("body", "address", "what", "recording"),
    [
        (RECORDED, "recording", "recording.ready", HAS),
        (
            {**RECORDED, "completion_code": "1000", "recipient": "CloudAndMail"},
            "recording",
            "recording.ready",
            HAS,
        ),
        ({**RECORDED, "completion_code": None, "recipient": None}, "recording", "recording.ready", HAS),
        ({**RECORDED, "recipient": "Mail"}, "recording", "recording.failed", NEVER),
        ({**RECORDED, "completion_code": 4002}, "recording", "recording.failed", NEVER),
        ({**RECORDED, "completion_code": 2200, "recording_id": None}, "recording", "recording.failed", NEVER),
        (STORED, "record/added", "recording.ready", HAS),
        (STORED, "record/tagged", "recording.ready", HAS),
    ],
)
def test_recordings(body: dict[str, Any], address: str, what: str, recording: Recording) -> None:
    one = told(body, f"events/{address}")
    assert (one.what, one.event.recording, one.event.facts) == (what, recording, Facts())


@pytest.mark.parametrize("state", ["Started", "Continued", "", None, 3])
def test_recordings_that_go_on(state: Any) -> None:
    assert all_told({**RECORDED, "recording_state": state}) == []


@pytest.mark.parametrize("value", ["", None, [], "x" * 256])
def test_recordings_without_an_id(value: Any) -> None:
    for body in (RECORDED, STORED):
        with pytest.raises(NotUnderstood):
            all_told({**body, "recording_id": value})


# The address decides nothing


@pytest.mark.parametrize(
    "rest",
    ["", "events/call", "events/recording", "events/record/added", "events/record/tagged", "events/sms"],
)
@pytest.mark.parametrize("token", ["", f"{TOKEN}/"])
def test_what_a_body_is_stands_in_it(rest: str, token: str) -> None:
    bodies = {"events/call": RINGS, "events/recording": RECORDED, "events/record/added": STORED}
    for address, body in {**bodies, "events/summary": SUMMARY}.items():
        if rest in (address, "", "events/sms") or (body is STORED and "record/" in rest):
            assert all_told(body, token + rest) == all_told(body)
        else:
            with pytest.raises(NotUnderstood, match="address of events/"):
                all_told(body, token + rest)


@pytest.mark.parametrize(
    "body",
    [
        {"seq": 1, "dtmf": "12", "timestamp": 1, "call_id": "1", "entry_id": ENTRY, "location": "ivr"},
        {"command_id": "base", "timestamp": 1, "reason": 1000},
        {},
    ],
)
def test_other_events(body: dict[str, Any]) -> None:
    for rest in ("events/dtmf", "events/sms", f"{TOKEN}/events/sms", "", "x"):
        assert all_told(body, rest) == []
    with pytest.raises(NotUnderstood):
        all_told(body, "events/summary")


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", '{"a":NaN}', "[" * 20_000, '"\\ud800"', "\x00"])
def test_json_that_is_none(text: str) -> None:
    with pytest.raises(NotUnderstood, match="json"):
        all_told(text)


# What several messages say together


LEFT: dict[str, Any] = {"from": {"number": CLIENT, "taken_from_call_id": "200:123"}}
"""The client's connection, once he is handed on."""


def connected(**changes: Any) -> dict[str, Any]:
    return {**RINGS, "call_state": "Connected", "seq": 2, **changes}


def rings(extension: str, state: str = "Appeared", **more: Any) -> dict[str, Any]:
    to = {"extension": extension, "number": "12345678", "line_number": LINE}
    return {**RINGS, "call_id": f"200:{extension}", "call_state": state, "to": to, **more}


def test_an_answered_call() -> None:
    call = assembled(
        rings("123"), rings("123", "Connected"), rings("123", "Disconnected"), RECORDED, STORED, SUMMARY
    )
    assert call.key == CallKey(ACCOUNT, ENTRY)
    assert call.facts == told(SUMMARY).event.facts
    assert call.recording == HAS


def test_a_call_to_the_client() -> None:
    sides = {"from": {"extension": "123", "number": "sip:u@x.example"}, "to": {"number": CLIENT}}
    call = assembled({**RINGS, **sides}, connected(**sides), STORED, MADE)
    assert call.facts == told(MADE).event.facts
    assert call.recording == HAS


def test_a_call_that_is_made_for_somebody() -> None:
    # First he is called with the client's number, then the client is.
    first = {**rings("123"), "command_id": "c1"}
    sides = {"from": {"extension": "123", "taken_from_call_id": "200:123"}, "to": {"number": CLIENT}}
    call = assembled(
        first, {**first, "call_state": "Connected"}, {**RINGS, **sides, "command_id": "c1"}, MADE
    )
    assert call.facts == told(MADE).event.facts


@pytest.mark.parametrize(
    ("reason", "status"),
    [(1111, CallStatus.NO_ANSWER), (1121, CallStatus.BUSY), (1110, CallStatus.CANCELLED)],
)
def test_nobody_talked(reason: int, status: CallStatus) -> None:
    missed = assembled(rings("123"), rings("123", "Disconnected"), {**MISSED, "disconnect_reason": reason})
    assert (missed.facts.direction, missed.facts.phone) == (INBOUND, f"+{CLIENT}")
    assert (missed.facts.outcome, missed.facts.person) == (Outcome(status, 0), Person(3, "123"))
    made = assembled({**MADE, "talk_time": 0, "disconnect_reason": reason})
    assert (made.facts.direction, made.facts.outcome) == (OUTBOUND, Outcome(status, 0))


@pytest.mark.parametrize("named", [{"number": "1"}, {"extension": "102"}])
def test_of_those_who_ring_who_answers_counts(named: dict[str, str]) -> None:
    call = assembled(
        rings("101"), rings("102"), rings("103"), rings("102", "Connected"), {**SUMMARY, "to": named}
    )
    assert call.facts.person is not None
    assert call.facts.person.extension == "102"
    assert call.facts.outcome == Outcome(ANSWERED, 63)


def test_a_call_that_is_handed_on_with_a_question() -> None:
    # The manual's example: 123 answers, asks 321, and leaves.
    asks: dict[str, Any] = {"from": {"extension": "123", "number": "1", "taken_from_call_id": "200:123"}}
    call = assembled(
        rings("123"),
        rings("123", "Connected"),
        rings("123", "OnHold"),
        rings("321", **asks),
        rings("321", "Connected", **asks),
        rings("123", "Disconnected"),
        rings("321", "Connected", **LEFT),
        {**RECORDED, "recording_id": "r1", "extension": "123"},
        {**RECORDED, "recording_id": "r2", "extension": "321"},
        {**SUMMARY, "to": {"extension": "321"}},
    )
    assert (call.facts.direction, call.facts.phone) == (INBOUND, f"+{CLIENT}")
    assert call.facts.person == Person(4, "321")
    assert call.facts.outcome == Outcome(ANSWERED, 63)
    assert call.recording == Recording(state=RecordingState.EXPECTED, url="mango:r2")


def test_a_call_that_is_handed_on_blindly() -> None:
    call = assembled(
        rings("123"),
        rings("123", "Connected"),
        rings("321", transfer="blind", **LEFT),
        rings("321", "Connected", transfer="blind", **LEFT),
        {**SUMMARY, "to": {"extension": "321"}},
    )
    assert (call.facts.direction, call.facts.phone) == (INBOUND, f"+{CLIENT}")
    assert call.facts.person == Person(4, "321")


def test_a_call_to_the_client_that_is_handed_on() -> None:
    sides = {"from": {"extension": "123"}, "to": {"number": CLIENT}}
    call = assembled(
        {**RINGS, **sides},
        connected(**sides),
        rings("321", "Connected", **LEFT),
        {**MADE, "from": {"extension": "321"}},
    )
    assert call.facts == told({**MADE, "from": {"extension": "321"}}).event.facts


def test_a_recording_before_the_end() -> None:
    early = folded([told(STORED)])
    assert (early.facts, early.recording) == (Facts(), HAS)
    assert assembled(RECORDED, SUMMARY).recording == HAS
    # Of one who was recorded too shortly nothing is kept, of the other something is.
    assert assembled({**RECORDED, "completion_code": 4002}, STORED, SUMMARY).recording == HAS


def test_a_message_that_comes_again_after_three_hours_changes_nothing() -> None:
    for first, again in ((NOW, NOW + 10_800), (NOW - 10_800, NOW)):
        known = folded([told(SUMMARY, now=first)])
        assert fold(known, told(SUMMARY, now=again).event, again) is known


# Recordings


def linked(reference: str, provider: Mango = MANGO, now: float = NOW) -> Ask:
    errand = provider.find_recording(reference, now)
    with pytest.raises(StopIteration) as stopped:
        next(errand)
    assert isinstance(stopped.value.value, Ask)
    return stopped.value.value


@pytest.mark.parametrize(
    ("reference", "recording_id", "written"),
    [
        ("MToxMDAwNjA4NTo1MDA5NDExMDIyOjE%3D", REC, "MToxMDAwNjA4NTo1MDA5NDExMDIyOjE%3D"),
        ("r500%3A256", "r500:256", "r500%3A256"),
        (
            "..%2F..%2Fevil%3Fx%23%40evil.example%2F",
            "../../evil?x#@evil.example/",
            "..%2F..%2Fevil%3Fx%23%40evil.example%2F",
        ),
        ("//evil.example/", "//evil.example/", "%2F%2Fevil.example%2F"),
    ],
)
def test_links(reference: str, recording_id: str, written: str) -> None:
    until = str(int(NOW) + 86_400)
    sign = hashlib.sha256(f"{KEY}{until}{recording_id}{SALT}".encode()).hexdigest()
    assert linked(reference, now=NOW + 0.9) == Ask(
        url=f"https://app.mango-office.ru/vpbx/queries/recording/link/{written}/download/{KEY}/{until}/{sign}"
    )


def test_links_are_signed_with_what_is_new_and_lead_to_the_api_alone() -> None:
    both = mango(previous_vpbx_api_key=secrets.token_hex(16), previous_vpbx_api_salt=secrets.token_hex(16))
    assert linked(REC, both) == linked(REC)
    elsewhere = linked(REC, mango(api_url="http://127.0.0.1:1234"))
    assert elsewhere.url == linked(REC).url.replace("https://app.mango-office.ru", "http://127.0.0.1:1234")


def test_what_is_told_of_a_recording_leads_to_it() -> None:
    url = told(STORED).event.recording.url
    assert url is not None
    assert linked(url.removeprefix("mango:")) == linked("MToxMDAwNjA4NTo1MDA5NDExMDIyOjE%3D")


# Whatever comes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["number", "extension"]), inner)
    ),
    max_leaves=5,
)
BODIES = st.one_of(
    st.text(max_size=200),
    st.sampled_from([SUMMARY, MADE, MISSED, RINGS, RECORDED, STORED]).flatmap(
        lambda base: st.dictionaries(st.sampled_from(sorted(base)), VALUES).map(
            lambda changes: {**base, **changes}
        )
    ),
)


@given(
    BODIES,
    st.sampled_from(["", "events/summary", "events/call", "events/recording", "%ff/events/record/added"]),
)
@example({**SUMMARY, "talk_time": 10**400, "end_time": 10**401}, "")
def test_anything_that_is_signed(body: Any, rest: str) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    webhook = sent(text.encode("utf-8", "ignore").decode(), rest)
    MANGO.verify(webhook, NOW)
    try:
        parts = MANGO.parse(webhook, NOW)
    except NotUnderstood:
        return
    for one in parts:
        folded([one])


@given(st.binary(max_size=300), st.text(max_size=40))
def test_anything_at_all(body: bytes, rest: str) -> None:
    for do in (MANGO.verify, mango(token=TOKEN).verify):
        with pytest.raises(InputRefused):
            do(raw(body, rest), NOW)
    with contextlib.suppress(InputRefused, NotUnderstood):
        MANGO.parse(raw(body, rest), NOW)
    linked(rest)


def test_it_is_what_it_says() -> None:
    provider: Provider = MANGO
    assert isinstance(provider, KeepsRecordings)
    assert not isinstance(provider, ListsCalls)
