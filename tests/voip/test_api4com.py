"""API4Com: who may speak, and what is understood."""

import base64
import contextlib
import itertools
import json
import random
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
from calllogd.errors import InputRefused
from calllogd.voip.errand import KeepsRecordings, ListsCalls
from calllogd.voip.proof import BearerToken
from calllogd.voip.provider import NotUnderstood, Provider, Told
from calllogd.voip.provider.api4com import SERVICE, Api4com
from calllogd.voip.webhook import Webhook
from tests.fakes import ACCOUNT

TOKEN = secrets.token_hex(10)
NOW = 1_767_225_670.0
AT = 1_767_225_600.0  # 2026-01-01 00:00:00 UTC
CALL, CLIENT = "2ee13fa4-975c-499d-bbb8-5177ff418316", "04833328530"
URL = f"https://listener.api4com.com/files/listen/{CALL}.mp3"
MADE: dict[str, Any] = {
    "version": "v1.4",
    "eventType": "channel-hangup",
    "id": CALL,
    "domain": "example.api4com.com",
    "direction": "outbound",
    "caller": "1000",
    "called": CLIENT,
    "startedAt": "2025-12-31 21:00:00",
    "answeredAt": "2025-12-31 21:00:05",
    "endedAt": "2025-12-31 21:01:08",
    "duration": 63,
    "hangupCause": "NORMAL_CLEARING",
    "hangupCauseCode": "16",
    "recordUrl": URL,
    "metadata": {"gateway": "calllogd"},
}
CAME = {**MADE, "direction": "inbound", "caller": CLIENT, "called": "1000"}
GONE = {"answeredAt": "", "duration": 0, "hangupCause": "NO_ANSWER", "hangupCauseCode": "19"}
INBOUND, OUTBOUND, ANSWERED = Direction.INBOUND, Direction.OUTBOUND, CallStatus.ANSWERED
HAS = Recording(state=RecordingState.EXPECTED, url=URL)


def api4com(made: Sequence[BearerToken] = (), **given_values: Any) -> Api4com:
    defaults = {name: setting.default for name, setting in SERVICE.settings.items()}
    chosen = {
        name: SERVICE.settings[name].read(value) for name, value in {"token": TOKEN, **given_values}.items()
    }
    provider = SERVICE.make(ACCOUNT, {**defaults, **chosen}, made)
    assert isinstance(provider, Api4com)
    return provider


API4COM = api4com()


def sent(
    body: object, rest: str = TOKEN, headers: Mapping[str, str] | None = None, *, peer: str = ""
) -> Webhook:
    return Webhook(
        method="POST",
        url=f"https://calls.example.com/voip/api4com/{ACCOUNT}/{rest}",
        headers=CIMultiDictProxy(CIMultiDict(headers or {})),
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        rest=rest,
        peer=peer,
    )


def told(body: object, provider: Api4com = API4COM) -> Told:
    provider.verify(sent(body), NOW)
    (one,) = provider.parse(sent(body), NOW)
    return one


def facts(**changes: Any) -> Facts:
    return told({**MADE, **changes}).event.facts


def create(base: Mapping[str, Any] = MADE, **changes: Any) -> dict[str, Any]:
    left_out = ("answeredAt", "endedAt", "duration", "hangupCause", "hangupCauseCode", "recordUrl")
    kept = {name: value for name, value in base.items() if name not in left_out}
    return {**kept, "eventType": "channel-create", **changes}


def answer(base: Mapping[str, Any] = MADE, **changes: Any) -> dict[str, Any]:
    return create(base, eventType="channel-answer", answeredAt=MADE["answeredAt"], recordUrl=URL, **changes)


def folded(parts: Iterable[Told]) -> Call:
    call: Call | None = None
    for one in parts:
        call = fold(call, one.event, NOW)
    assert call is not None
    return call


def assembled(*bodies: object) -> Call:
    """Return the call that messages make, the same in whatever order they come, and how often."""
    parts = [told(body) for body in bodies]
    chance = random.Random(7)  # noqa: S311
    calls = [folded(order) for order in itertools.permutations(parts)]
    calls += [folded(chance.choices(parts, k=3) + chance.sample(parts, len(parts))) for _ in range(50)]
    assert len({(call.key, call.facts, call.recording) for call in calls}) == 1
    assert not calls[0].legs
    return calls[0]


# Who may speak


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"x:{password}".encode()).decode()


def test_the_ways_to_show_the_token() -> None:
    in_metadata = {**MADE, "metadata": {"gateway": "calllogd", "token": TOKEN}}
    for webhook in (
        sent(MADE),
        sent(MADE, f"{TOKEN}/"),
        sent(MADE, "", {"Authorization": f"Bearer {TOKEN}"}),
        sent(MADE, "", {"authorization": basic(TOKEN)}),
        sent(MADE, "", {"X-Token": TOKEN}),
        sent(in_metadata, ""),
    ):
        API4COM.verify(webhook, NOW)
        assert API4COM.parse(webhook, NOW)


@pytest.mark.parametrize(
    "webhook",
    [
        sent(MADE, ""),
        sent(MADE, "x"),
        sent(MADE, f"x/{TOKEN}"),
        sent(MADE, TOKEN[:-1]),
        sent(MADE, "%ff"),
        sent(MADE, TOKEN, {"Authorization": "Bearer x"}),
        sent(MADE, TOKEN, {"Authorization": "Basic !"}),
        sent({**MADE, "metadata": {"token": "x"}}, ""),
        sent({**MADE, "metadata": {"token": ""}}, ""),
        sent({**MADE, "metadata": {"token": [TOKEN]}}, ""),
        sent({**MADE, "metadata": None}, ""),
        sent({**MADE, "token": TOKEN}, ""),
        sent(b"", ""),
        sent(b"\xff", ""),
        sent(b"[" * 20_000, ""),
    ],
)
def test_no_token_no_word(webhook: Webhook) -> None:
    with pytest.raises(InputRefused) as refused:
        API4COM.verify(webhook, NOW)
    assert refused.value.code == "unauthorized"


def test_tokens_are_changed_without_a_gap() -> None:
    older, made = secrets.token_hex(10), BearerToken(secrets.token_hex(10), NOW + 1)
    both = api4com([made], previous_token=older)
    for token in (TOKEN, older, made.token):
        both.verify(sent(MADE, token), NOW)
        both.verify(sent({**MADE, "metadata": {"token": token}}, ""), NOW)
    with pytest.raises(InputRefused):
        both.verify(sent(MADE, made.token), NOW + 1)
    with pytest.raises(InputRefused):
        API4COM.verify(sent(MADE, older), NOW)


def test_addresses() -> None:
    near = api4com(allow_from=["192.0.2.0/24"])
    near.verify(sent(MADE, peer="192.0.2.7"), NOW)
    with pytest.raises(InputRefused) as refused:
        near.verify(sent(MADE, peer="198.51.100.7"), NOW)
    assert refused.value.code == "forbidden"


def test_it_is_made_of_a_token() -> None:
    nothing = {name: setting.default for name, setting in SERVICE.settings.items()}
    assert SERVICE.make(ACCOUNT, nothing, []) is None
    for name in ("token", "previous_token"):
        assert SERVICE.make(ACCOUNT, {**nothing, name: TOKEN}, []) is not None
    assert SERVICE.make(ACCOUNT, nothing, [BearerToken(TOKEN)]) is not None
    assert {name for name, setting in SERVICE.settings.items() if setting.secret} == {
        "token",
        "previous_token",
    }


@pytest.mark.parametrize("value", ["", "Mars/Base", "../x", "a\0b", 3, None, "America"])
def test_time_zones_that_are_none(value: Any) -> None:
    with pytest.raises(ValueError, match="America/Sao_Paulo"):
        SERVICE.settings["timezone"].read(value)


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (
            b'{"a": 1e2, "metadata": {"token": "s", "b": 100000000000000000000000}}',
            b'{"a":1e2,"metadata":{"b":100000000000000000000000}}',
        ),
        (b'{ "metadata": {"gateway": "g"} }', b'{ "metadata": {"gateway": "g"} }'),
        (b'{ "metadata": null }', b'{ "metadata": null }'),
        (b'{ "a": 1 }', b'{ "a": 1 }'),
        (b'{"metadata": ["token"]}', b""),
        (b'{"metadata": {"\xff": 1, "token": "s"}}', b""),
        (b"", b""),
        (b"[" * 20_000, b""),
    ],
)
def test_the_story_keeps_no_token(body: bytes, kept: bytes) -> None:
    assert API4COM.told_body(sent(body)) == kept


# What one message says


def test_messages() -> None:
    ended = told(MADE)
    assert (ended.what, ended.event.key, ended.body) == ("call.ended", CallKey(ACCOUNT, CALL), None)
    assert ended.event.facts == Facts(
        direction=OUTBOUND,
        phone=CLIENT,
        person=Person(4, "1000"),
        started_at=AT,
        outcome=Outcome(ANSWERED, 63),
    )
    assert ended.event.recording == HAS
    missed = told({**CAME, **GONE})
    assert missed.event.facts == Facts(
        direction=INBOUND,
        phone=CLIENT,
        person=Person(3, "1000"),
        started_at=AT,
        outcome=Outcome(CallStatus.NO_ANSWER, 0),
    )
    # There is an address also where nothing was recorded.
    assert missed.event.recording == Recording()
    for body, what, weight in ((create(CAME), "call.started", 1), (answer(CAME), "call.answered", 2)):
        one = told(body)
        assert (one.what, one.event.recording) == (what, Recording())
        assert one.event.facts == Facts(
            direction=INBOUND, phone=CLIENT, person=Person(weight, "1000"), started_at=AT
        )


def test_numbers_may_be_numbers() -> None:
    assert facts(caller=1000, called=5548999990000).person == Person(4, "1000")
    assert facts(caller=1000, called=5548999990000).phone == "5548999990000"
    assert told({**MADE, "id": 7}).event.key.call_id == "7"


@pytest.mark.parametrize(
    ("named", "person"),
    [
        ("1000", Person(4, "1000")),
        ("ramal-7", Person(4, "ramal-7")),
        ("", None),
        (None, None),
        ("551133334444", None),
        ("+551133334444", None),
        ("7" * 65, None),
        (10**30, None),
    ],
)
def test_persons(named: Any, person: Person | None) -> None:
    # Of incoming calls the number that was called may be the company's own.
    assert facts(caller=named).person == person
    assert told({**CAME, "called": named}).event.facts.person == person


@pytest.mark.parametrize(
    ("named", "phone"), [(None, ""), ("", ""), ("anonymous", "anonymous"), ("1" * 999, "1" * 255)]
)
def test_clients(named: Any, phone: str) -> None:
    assert facts(called=named).phone == phone
    assert told({**CAME, "caller": named}).event.facts.phone == phone


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        ("NO_ANSWER", CallStatus.NO_ANSWER),
        ("no_answer", CallStatus.NO_ANSWER),
        ("NO_USER_RESPONSE", CallStatus.NO_ANSWER),
        ("ALLOTTED_TIMEOUT", CallStatus.NO_ANSWER),
        ("SUBSCRIBER_ABSENT", CallStatus.NO_ANSWER),
        ("NORMAL_CLEARING", CallStatus.NO_ANSWER),
        ("", CallStatus.NO_ANSWER),
        (None, CallStatus.NO_ANSWER),
        ("USER_BUSY", CallStatus.BUSY),
        ("ORIGINATOR_CANCEL", CallStatus.CANCELLED),
        ("CALL_REJECTED", CallStatus.FAILED),
        ("UNALLOCATED_NUMBER", CallStatus.FAILED),
        ("NUMBER_CHANGED", CallStatus.FAILED),
        ("anything", CallStatus.FAILED),
    ],
)
def test_causes(cause: str | None, status: CallStatus) -> None:
    for answered_at in ("", None):
        changes = {"answeredAt": answered_at, "duration": 0, "hangupCause": cause}
        assert facts(**changes).outcome == Outcome(status, 0)
    assert facts(hangupCause=cause).outcome == Outcome(ANSWERED, 63)


@pytest.mark.parametrize(
    ("changes", "talk_s"),
    [
        ({"duration": 68}, 63),
        ({"duration": None}, 63),
        ({"endedAt": None}, 63),
        ({"endedAt": "", "duration": "63"}, 63),
        ({"endedAt": "soon", "duration": 62.6}, 63),
        ({"endedAt": "2025-12-31 21:00:04", "duration": 9}, 9),
        ({"endedAt": "2025-12-31 21:00:05"}, 0),
        ({"answeredAt": "yes", "duration": 5}, 5),
        # A call on two sides of midnight, and of an offset.
        ({"answeredAt": "2026-01-01T00:00:05Z", "endedAt": "2025-12-31T21:01:08-03:00"}, 63),
        # Told of with nothing but a duration.
        ({"answeredAt": None, "endedAt": None, "hangupCause": None, "duration": 40}, 40),
        ({"answeredAt": "", "hangupCause": "", "duration": 40}, 40),
    ],
)
def test_talk(changes: dict[str, Any], talk_s: int) -> None:
    assert facts(**changes).outcome == Outcome(ANSWERED, talk_s)


def test_ringing_is_no_talk() -> None:
    changes = {"answeredAt": "", "hangupCause": "NORMAL_CLEARING", "duration": 40}
    assert facts(**changes).outcome == Outcome(CallStatus.NO_ANSWER, 0)


@pytest.mark.parametrize(
    ("text", "zone", "at"),
    [
        ("2025-12-31 21:00:00", None, AT),
        ("2025-12-31T21:00:00.000", None, AT),
        ("2026-01-01 01:00:00", "Europe/Madrid", AT),
        ("2026-01-01T00:00:00Z", None, AT),
        ("2026-01-01T00:00:00.000Z", "Europe/Madrid", AT),
        ("2025-12-31T21:00:00-03:00", "Europe/Madrid", AT),
        ("", None, None),
        (None, None, None),
        ("today", None, None),
        ("0001-01-01 00:00:00", None, None),
        ("9999-12-31 23:59:59", None, None),
        ("9999-12-31T23:59:59-23:59", None, None),
        ("2026-01-05 00:00:00", None, None),
        ("1767225600", None, None),
    ],
)
def test_start(text: str | None, zone: str | None, at: float | None) -> None:
    provider = API4COM if zone is None else api4com(timezone=zone)
    assert told({**MADE, "startedAt": text}, provider).event.facts.started_at == at


@pytest.mark.parametrize(
    ("url", "recording"),
    [
        (URL, HAS),
        (
            "http://127.0.0.1:1/a.mp3",
            Recording(state=RecordingState.EXPECTED, url="http://127.0.0.1:1/a.mp3"),
        ),
        ("", Recording()),
        (None, Recording()),
        ("http://listener.api4com.com/a.mp3", Recording()),
        ("file:///etc/passwd", Recording()),
        ("generic:x", Recording()),
        ("https://", Recording()),
    ],
)
def test_recordings(url: str | None, recording: Recording) -> None:
    assert told({**MADE, "recordUrl": url}).event.recording == recording


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"eventType": 3}',
        b'{"eventType": "channel-hangup"',
        b'{"eventType": "\xff"}',
        b"[" * 20_000,
        {**MADE, "id": ""},
        {**MADE, "id": None},
        {**MADE, "id": "a\n"},
        {**MADE, "id": "a" * 256},
        {**MADE, "id": 10**30},
        {**MADE, "direction": "internal"},
        {**MADE, "direction": None},
        {**MADE, "direction": ["inbound"]},
        {**MADE, "startedAt": 1767225600},
        {**MADE, "endedAt": None, "duration": None},
        {**MADE, "endedAt": None, "duration": -1},
        {**MADE, "endedAt": None, "duration": 1e9},
        {**MADE, "endedAt": None, "duration": "nan"},
        {**MADE, "endedAt": None, "duration": "a minute"},
    ],
)
def test_not_understood(body: object) -> None:
    with pytest.raises(NotUnderstood):
        told(body)


@pytest.mark.parametrize("name", ["channel-bridge", "", "Channel-Hangup"])
def test_other_events(name: str) -> None:
    assert API4COM.parse(sent({"eventType": name}), NOW) == []


# What several messages say together


def test_an_answered_call() -> None:
    call = assembled(create(CAME), answer(CAME), CAME)
    assert (call.facts, call.recording) == (told(CAME).event.facts, HAS)


def test_a_call_to_the_client() -> None:
    call = assembled(create(), answer(), MADE)
    assert (call.facts, call.recording) == (told(MADE).event.facts, HAS)


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        ("NO_ANSWER", CallStatus.NO_ANSWER),
        ("USER_BUSY", CallStatus.BUSY),
        ("ORIGINATOR_CANCEL", CallStatus.CANCELLED),
    ],
)
@pytest.mark.parametrize("base", [MADE, CAME])
def test_nobody_talked(base: dict[str, Any], cause: str, status: CallStatus) -> None:
    ended = {**base, **GONE, "hangupCause": cause}
    call = assembled(create(base), ended)
    assert call.facts == told(ended).event.facts
    assert call.facts.outcome == Outcome(status, 0)
    assert (call.facts.phone, call.recording) == (CLIENT, Recording())


def test_of_those_who_ring_who_answers_counts() -> None:
    ringing = [create(CAME, called=one) for one in ("1000", "1001", "1002")]
    call = assembled(*ringing, answer(CAME, called="1001"), {**CAME, "called": "1001"})
    assert call.facts.person == Person(4, "1001")
    assert call.facts.outcome == Outcome(ANSWERED, 63)


@pytest.mark.parametrize("late", [create(CAME, called="900"), answer(CAME, called="900")])
def test_a_call_that_is_handed_on(late: dict[str, Any]) -> None:
    call = assembled(create(CAME), answer(CAME, called="9999"), late, {**CAME, "called": "900"})
    assert (call.facts.direction, call.facts.phone) == (INBOUND, CLIENT)
    assert call.facts.person == Person(4, "900")


def test_the_same_again_is_no_news() -> None:
    known = folded([told(MADE)])
    for again in (MADE, create(), answer()):
        assert fold(known, told(again).event, NOW) is known


# Whatever comes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(MADE)), VALUES))
@example({"duration": 10**400, "endedAt": None})
@example({"id": 10**5000})
def test_any_json(changes: dict[str, Any]) -> None:
    try:
        body = json.dumps({**MADE, **changes}).encode()
    except ValueError:
        body = b'{"eventType":"channel-hangup","direction":"inbound","id":' + b"9" * 5000 + b"}"
    API4COM.told_body(sent(body))
    try:
        parts = API4COM.parse(sent(body), NOW)
    except NotUnderstood:
        return
    for one in parts:
        folded([one])


@given(st.binary(max_size=300), st.text(max_size=40), st.text(max_size=40))
def test_anything_at_all(body: bytes, rest: str, shown: str) -> None:
    for headers in ({}, {"Authorization": f"Basic {shown}"}, {"Authorization": f"Bearer {shown}"}):
        with pytest.raises(InputRefused):
            API4COM.verify(sent(body, rest, headers), NOW)
    API4COM.told_body(sent(body))
    with contextlib.suppress(NotUnderstood):
        API4COM.parse(sent(body), NOW)


def test_it_is_what_it_says() -> None:
    provider: Provider = API4COM
    assert provider.reply is None
    # Its recordings are fetched with their address alone.
    assert not isinstance(provider, KeepsRecordings)
    assert not isinstance(provider, ListsCalls)
