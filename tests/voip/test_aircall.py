"""Aircall: whose messages are taken, and what they say."""

import contextlib
import itertools
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

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
from calllogd.domain.merge import CallEvent, fold
from calllogd.errors import InputRefused
from calllogd.voip.proof import BearerToken
from calllogd.voip.provider import NotUnderstood, Told, services
from calllogd.voip.provider.aircall import SERVICE, Aircall
from calllogd.voip.webhook import EMPTY, Webhook
from tests.fakes import ACCOUNT, START

TOKEN = secrets.token_hex()
RECORDING = "https://recordings.aircall.example/123.mp3?Signature=abc"
VOICEMAIL = "https://voicemails.aircall.example/123.mp3?Signature=abc"
LEFT_OUT = object()


def made(tokens: list[BearerToken] | None = None, **values: Any) -> Aircall:
    defaults = {key: setting.default for key, setting in SERVICE.settings.items()}
    found = SERVICE.make(ACCOUNT, {**defaults, **values}, tokens or [])
    assert isinstance(found, Aircall)
    return found


AIRCALL = made(token=TOKEN)


def webhook(body: bytes, *, rest: str = "", peer: str = "192.0.2.1") -> Webhook:
    url = f"https://calls.example.com/voip/aircall/{ACCOUNT}" + (f"/{rest}" if rest else "")
    headers = CIMultiDict({"Content-Type": "application/json"})
    return Webhook(method="POST", url=url, headers=headers, body=body, rest=rest, peer=peer)


def message(event: str, *, token: object = TOKEN, **changes: Any) -> bytes:
    data: dict[str, Any] = {
        "id": 123,
        "call_uuid": "CA-1",
        "direct_link": "https://api.aircall.io/v1/calls/123",
        "direction": "inbound",
        "status": "initial",
        "started_at": int(START),
        "answered_at": None,
        "ended_at": None,
        "duration": 0,
        "raw_digits": "+1 202-555-0143",
        "number": {"id": 7, "digits": "+1 500-555-0006"},
        "user": None,
        "missed_call_reason": None,
        "recording": None,
        "voicemail": None,
        "teams": [],
        **changes,
    }
    data = {key: value for key, value in data.items() if value is not LEFT_OUT}
    envelope = {"resource": "call", "event": event, "timestamp": int(START), "token": token, "data": data}
    return json.dumps({key: value for key, value in envelope.items() if value is not LEFT_OUT}).encode()


def user(number: int) -> dict[str, Any]:
    return {"id": number, "name": "Ann", "email": "ann@example.net", "available": True}


def ended(**changes: Any) -> bytes:
    talked = {
        "status": "done",
        "answered_at": int(START) + 7,
        "ended_at": int(START) + 70,
        "duration": 70,
        "user": user(9),
        "recording": RECORDING,
    }
    return message("call.ended", **{**talked, **changes})


def missed(**changes: Any) -> bytes:
    return message("call.ended", status="done", ended_at=int(START) + 20, duration=20, **changes)


def told(body: bytes) -> Told:
    found = AIRCALL.parse(webhook(body), START)
    assert len(found) == 1
    return found[0]


def event(**values: Any) -> CallEvent:
    return CallEvent(key=CallKey(ACCOUNT, "123"), **values)


def expected(url: str) -> Recording:
    return Recording(state=RecordingState.EXPECTED, url=url)


VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())["vectors"]


@pytest.mark.parametrize(
    "vector", [one for one in VECTORS if one["provider"] == "aircall"], ids=lambda one: str(one["id"])
)
def test_a_vector(vector: dict[str, Any]) -> None:
    aircall = made(token=vector["secret"])
    sent = Webhook(
        method=vector["method"],
        url=vector["url"],
        headers=CIMultiDict(vector["headers"]),
        body=vector["body"].encode(),
    )
    if not vector["valid"]:
        with pytest.raises(InputRefused):
            aircall.verify(sent, vector["clock"])
        return
    aircall.verify(sent, vector["clock"])
    (found,) = aircall.parse(sent, vector["clock"])
    wanted = vector["expect"]
    assert found.event.key.call_id == wanted["call_id"]
    assert found.event.facts.direction == wanted["direction"]
    assert found.event.facts.outcome == Outcome(CallStatus(wanted["disposition"]), wanted["duration"])


def test_it_is_found_and_answers_with_an_empty_200() -> None:
    assert services()["aircall"] is SERVICE
    assert AIRCALL.reply is EMPTY


def test_the_end_of_a_talk() -> None:
    assert told(ended()) == Told(
        "call.ended",
        event(
            facts=Facts(
                direction=Direction.INBOUND,
                phone="+1 202-555-0143",
                person=Person(4, "9"),
                started_at=START,
                outcome=Outcome(CallStatus.ANSWERED, 63),
            ),
            recording=expected(RECORDING),
        ),
    )


@pytest.mark.parametrize(
    ("body", "what", "person", "outcome", "recording"),
    [
        (message("call.created"), "call.started", None, None, None),
        (message("call.created", direction="outbound", user=user(9)), "call.started", (1, "9"), None, None),
        (message("call.answered", user=user(9), answered_at=1), "call.answered", (2, "9"), None, None),
        (message("call.hungup", user=user(9), recording=RECORDING), "call.hungup", (2, "9"), None, None),
        (message("call.transferred", user=user(9)), "call.transferred", (2, "9"), None, None),
        (missed(missed_call_reason="agents_did_not_answer"), "call.ended", None, ("no_answer", 0), None),
        (missed(missed_call_reason="out_of_opening_hours"), "call.ended", None, ("no_answer", 0), None),
        (missed(missed_call_reason="short_abandoned"), "call.ended", None, ("cancelled", 0), None),
        (missed(missed_call_reason="abandoned_in_ivr"), "call.ended", None, ("cancelled", 0), None),
        (missed(missed_call_reason="abandoned_in_classic"), "call.ended", None, ("cancelled", 0), None),
        (missed(missed_call_reason="of another kind"), "call.ended", None, ("no_answer", 0), None),
        (missed(direction="outbound", user=user(9)), "call.ended", (3, "9"), ("no_answer", 0), None),
        (missed(voicemail=VOICEMAIL), "call.ended", None, ("voicemail", 0), VOICEMAIL),
        (ended(voicemail=VOICEMAIL), "call.ended", (4, "9"), ("answered", 63), RECORDING),
        (ended(ended_at=None), "call.ended", (4, "9"), ("answered", 63), RECORDING),
        (ended(answered_at=str(int(START) + 8)), "call.ended", (4, "9"), ("answered", 62), RECORDING),
        (ended(recording="http://elsewhere.example/1.mp3"), "call.ended", (4, "9"), ("answered", 63), None),
        (ended(user=LEFT_OUT), "call.ended", None, ("answered", 63), RECORDING),
    ],
)
def test_a_message(
    body: bytes,
    what: str,
    person: tuple[int, str] | None,
    outcome: tuple[str, int] | None,
    recording: str | None,
) -> None:
    found = told(body)
    assert found.what == what
    assert found.event.facts.person == (None if person is None else Person(*person))
    assert found.event.facts.outcome == (None if outcome is None else (CallStatus(outcome[0]), outcome[1]))
    assert found.event.recording.url == recording


def test_a_message_that_was_left_may_be_told_before_the_end() -> None:
    found = told(message("call.voicemail_left", voicemail=VOICEMAIL))
    assert found == Told("recording.ready", event(recording=expected(VOICEMAIL)))


@pytest.mark.parametrize("digits", ["anonymous", "", "+55 11 91234-5678"])
def test_the_number_stays_as_it_came(digits: str) -> None:
    assert told(ended(raw_digits=digits)).event.facts.phone == digits


@pytest.mark.parametrize("started_at", [0, -1, 1_760_000_000_000, START + 90_000, None])
def test_an_impossible_start_is_left_out(started_at: float | None) -> None:
    assert told(ended(started_at=started_at)).event.facts.started_at is None


@pytest.mark.parametrize("name", ["call.tagged", "call.commented", "contact.created", "user.connected", ""])
def test_other_events_are_of_no_interest(name: str) -> None:
    assert AIRCALL.parse(webhook(message(name)), START) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"event": "call.ended", "more": ' + b"[" * 100_000,
        b'{"event": "call.ended\xff"}',
        b'{"event": 5}',
        b'{"event": "call.ended"}',
        ended(id=LEFT_OUT),
        ended(id=-1),
        ended(id="abc"),
        ended(id=10**21),
        ended(direction="sideways"),
        ended(direction=None),
        ended(raw_digits=None),
        ended(raw_digits="1" * 256),
        ended(ended_at=int(START) + 6),
        ended(ended_at=None, duration=None),
        ended(answered_at="never"),
        ended(answered_at="nan"),
        ended(ended_at=int(START) + 10**8),
        ended(user={"name": "Ann"}),
    ],
)
def test_what_cannot_be_read_is_not_understood(body: bytes) -> None:
    with pytest.raises(NotUnderstood):
        AIRCALL.parse(webhook(body), START)


@pytest.mark.parametrize("token", ["", "nope", TOKEN[:-1], TOKEN + "0", LEFT_OUT, None, 5, [TOKEN], "é"])
def test_a_wrong_token_is_refused(token: object) -> None:
    with pytest.raises(InputRefused) as refused:
        AIRCALL.verify(webhook(ended(token=token)), START)
    assert refused.value.code == "unauthorized"


@pytest.mark.parametrize("body", [b'{"x": ' + b"[" * 100_000, b'{"token": "\xff"}', b"\xff", b""])
def test_a_message_without_a_token_that_can_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(InputRefused):
        AIRCALL.verify(webhook(body), START)


def test_the_token_counts_where_it_stands_in_the_message_alone() -> None:
    body = ended(token=LEFT_OUT, raw_digits=TOKEN)
    with pytest.raises(InputRefused):
        AIRCALL.verify(webhook(body, rest=TOKEN), START)


def test_of_two_tokens_of_a_message_the_one_that_is_read_counts() -> None:
    right, wrong = f'"token": "{TOKEN}"', '"token": "wrong"'
    AIRCALL.verify(webhook(f"{{{wrong}, {right}}}".encode()), START)
    with pytest.raises(InputRefused):
        AIRCALL.verify(webhook(f"{{{right}, {wrong}}}".encode()), START)


def test_both_tokens_are_good_while_they_are_changed() -> None:
    new = secrets.token_hex()
    both = made(token=new, previous_token=TOKEN)
    both.verify(webhook(ended()), START)
    both.verify(webhook(ended(token=new)), START)
    with pytest.raises(InputRefused):
        made(token=new).verify(webhook(ended()), START)
    made(previous_token=TOKEN).verify(webhook(ended()), START)


def test_a_token_that_was_made_has_to_stand_in_the_address_besides() -> None:
    in_path = secrets.token_hex()
    both = made([BearerToken(in_path, START + 10)], token=TOKEN)
    both.verify(webhook(ended(), rest=in_path), START)
    for sent in (webhook(ended()), webhook(ended(token="wrong"), rest=in_path)):
        with pytest.raises(InputRefused):
            both.verify(sent, START)
    with pytest.raises(InputRefused):
        both.verify(webhook(ended(), rest=in_path), START + 10)
    made([BearerToken(in_path)]).verify(webhook(ended(token=LEFT_OUT), rest=in_path), START)


def test_without_anything_to_prove_itself_by_it_is_not_there() -> None:
    defaults = {key: setting.default for key, setting in SERVICE.settings.items()}
    assert SERVICE.make(ACCOUNT, defaults, []) is None


def test_addresses_are_checked() -> None:
    network = SERVICE.settings["allow_from"].read(["192.0.2.0/24"])
    near = made(token=TOKEN, allow_from=network)
    near.verify(webhook(ended()), START)
    with pytest.raises(InputRefused) as refused:
        near.verify(webhook(ended(), peer="198.51.100.1"), START)
    assert refused.value.code == "forbidden"


def test_a_token_of_any_length_is_taken_from_aircall() -> None:
    assert SERVICE.settings["token"].read("45XXYYZZa08") == "45XXYYZZa08"
    with pytest.raises(ValueError, match="token"):
        SERVICE.settings["token"].read("with a space")
    assert all(SERVICE.settings[name].secret for name in ("token", "previous_token"))


def test_stories_keep_the_message_without_its_token() -> None:
    kept = AIRCALL.told_body(webhook(ended()))
    assert TOKEN.encode() not in kept
    assert json.loads(kept) == {**json.loads(ended()), "token": LEFT_OUT} | {} or "token" not in json.loads(
        kept
    )
    assert json.loads(kept)["data"] == json.loads(ended())["data"]
    twice = f'{{"token": "{TOKEN}", "event": "x", "token": "other"}}'.encode()
    assert AIRCALL.told_body(webhook(twice)) == b'{"event":"x"}'
    assert AIRCALL.told_body(webhook(b"{" + TOKEN.encode())) == b""
    assert AIRCALL.told_body(webhook(b'{"more": ' + b"[" * 100_000)) == b""
    assert AIRCALL.told_body(webhook(b'{"more": "\xff"}')) == b""
    assert AIRCALL.told_body(webhook(b"[1]")) == b"[1]"


def in_every_order(*bodies: bytes) -> Call:
    """Return the call that messages are, which has to be the same in every order and with repetitions."""
    found = [
        folded([*order, *repeated])
        for order in itertools.permutations([told(body).event for body in bodies])
        for repeated in (order[:0], order[::-1])
    ]
    assert len({(call.facts, call.recording) for call in found}) == 1
    return found[0]


def folded(events: Sequence[CallEvent]) -> Call:
    call = None
    for one in events:
        call = fold(call, one, START)
    assert call is not None
    return call


def test_an_answered_call_whole() -> None:
    call = in_every_order(
        message("call.created"),
        message("call.answered", user=user(9), answered_at=int(START) + 7),
        message("call.hungup", user=user(9), answered_at=int(START) + 7, ended_at=int(START) + 70),
        ended(),
    )
    assert call.facts == told(ended()).event.facts
    assert call.recording.url == RECORDING


def test_an_outbound_call_whole() -> None:
    call = in_every_order(
        message("call.created", direction="outbound", user=user(9)),
        message("call.answered", direction="outbound", user=user(9)),
        ended(direction="outbound"),
    )
    assert (call.facts.direction, call.facts.phone) == (Direction.OUTBOUND, "+1 202-555-0143")
    assert (call.facts.person, call.facts.outcome) == (Person(4, "9"), (CallStatus.ANSWERED, 63))


def test_a_transferred_call_is_of_whoever_had_it_at_its_end() -> None:
    call = in_every_order(
        message("call.answered", user=user(9)),
        message("call.transferred", user=user(9)),
        ended(user=user(4)),
    )
    assert call.facts.person == Person(4, "4")


def test_a_missed_call_with_a_message_whole() -> None:
    call = in_every_order(
        message("call.created"),
        message("call.voicemail_left", voicemail=VOICEMAIL),
        missed(voicemail=VOICEMAIL, missed_call_reason="agents_did_not_answer"),
    )
    assert call.facts.outcome == (CallStatus.VOICEMAIL, 0)
    assert call.recording.url == VOICEMAIL


def test_a_call_has_not_ended_before_its_end_is_told() -> None:
    call = in_every_order(message("call.created"), message("call.hungup", ended_at=int(START) + 5))
    assert call.facts.outcome is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["id", "direction", "raw_digits", "started_at", "answered_at", "ended_at", "duration", "user"]


@settings(max_examples=150)
@given(
    st.sampled_from(["call.ended", "call.created", "call.voicemail_left", "x"]),
    st.dictionaries(st.sampled_from([*FIELDS, "recording", "voicemail"]), JSON, max_size=4),
    st.binary(max_size=30),
)
def test_hostile_messages_are_refused_or_not_understood(
    name: str, changes: dict[str, Any], raw: bytes
) -> None:
    for body in (ended(**changes).replace(b"call.ended", name.encode()), raw, b'{"token":' + raw + b"}"):
        sent = webhook(body)
        with contextlib.suppress(InputRefused):
            AIRCALL.verify(sent, START)
        with contextlib.suppress(NotUnderstood):
            for one in AIRCALL.parse(sent, START):
                fold(None, one.event, START)
        assert TOKEN.encode() not in AIRCALL.told_body(sent)
