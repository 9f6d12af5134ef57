"""Vonage's event webhooks: the proof, what each says, whole calls in any order, recordings, listed calls."""

import base64
import hashlib
import hmac
import json
import random
import secrets
from collections.abc import Generator, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from calllogd.domain.call import Call, CallStatus, Direction, Leg, Outcome, RecordingState, Side
from calllogd.domain.merge import CallEvent, fold
from calllogd.errors import InputRefused
from calllogd.voip.errand import Ask, ErrandFailed, Got, KeepsRecordings, ListsCalls
from calllogd.voip.proof import BearerToken
from calllogd.voip.provider import NotUnderstood, Provider, Told, services
from calllogd.voip.provider.vonage import SERVICE, Vonage
from calllogd.voip.webhook import EMPTY, Webhook

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
OURS = [one for one in VECTORS["vectors"] if one["provider"] == "vonage"]

NOW = 1_767_225_600.0
URL = "https://calls.example.com/voip/vonage/31337"
SECRET, OLD_SECRET = secrets.token_hex(25), secrets.token_hex(25)
APPLICATION = "aaaaaaaa-0000-4000-8000-0000000000aa"
CLIENT, COMPANY, BOB = "15005550006", "12025550143", "12025550199"
ANN = "sip:ann@pbx.example.com"
JAMIE: dict[str, Any] = {"from": None, "from_user": "jamie"}
LINK = "https://api.nexmo.com/v1/files/bbbbbbbb-0000-4000-8000-000000000004"

PRIVATE = rsa.generate_private_key(65537, 2048)


def pem(key: Any = PRIVATE, password: bytes | None = None) -> str:
    sealed = NoEncryption() if password is None else BestAvailableEncryption(password)
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed).decode())


PEM = pem()
ASKS: dict[str, Any] = {"application_id": APPLICATION, "private_key": PEM}


def vonage(tokens: Sequence[BearerToken] = (), **settings: Any) -> Vonage:
    values = {name: setting.default for name, setting in SERVICE.settings.items()}
    for name, value in {"signature_secret": SECRET, **settings}.items():
        values[name] = SERVICE.settings[name].read(value)
    provider = SERVICE.make(31337, values, tokens)
    assert isinstance(provider, Vonage)
    return provider


def webhook(body: bytes, headers: Mapping[str, str] | None = None, rest: str = "") -> Webhook:
    return Webhook(method="POST", url=URL, headers=CIMultiDict(headers or {}), body=body, rest=rest)


def claims_of(body: bytes, **more: Any) -> dict[str, Any]:
    known = {
        "iat": int(NOW),
        "jti": "c5ba8f24",
        "iss": "Vonage",
        "payload_hash": hashlib.sha256(body).hexdigest(),
        "api_key": "abcd1234",
        "application_id": APPLICATION,
        **more,
    }
    return {name: value for name, value in known.items() if value is not None}


def signed(body: bytes, secret: str = SECRET, rest: str = "", **more: Any) -> Webhook:
    token = by_hand(b'{"alg":"HS256"}', json.dumps(claims_of(body, **more)).encode(), secret)
    return webhook(body, {"Authorization": f"Bearer {token}"}, rest)


def by_hand(head: bytes, claims: bytes, secret: str = SECRET) -> str:
    """Return a token whose parts are whatever they are, rightly signed."""
    parts = [base64.urlsafe_b64encode(one).decode().rstrip("=") for one in (head, claims)]
    signature = hmac.digest(secret.encode(), ".".join(parts).encode(), "sha256")
    return ".".join([*parts, base64.urlsafe_b64encode(signature).decode().rstrip("=")])


def iso(after_s: float) -> str:
    """Return the time this long after 2026-01-01, as Vonage writes it."""
    minutes, seconds = divmod(after_s, 60)
    return f"2026-01-01T00:{minutes:02.0f}:{seconds:06.3f}Z"


def event(word: str | None, after_s: float, leg: str | None = "leg-a", **more: Any) -> bytes:
    known = {"status": word, "uuid": leg, "conversation_uuid": "CON-1", "timestamp": iso(after_s), **more}
    return json.dumps({name: value for name, value in known.items() if value is not None}).encode()


def inbound(word: str, after_s: float, leg: str = "a", caller: Any = CLIENT, **more: Any) -> bytes:
    return event(word, after_s, leg, direction="inbound", **{"from": caller, "to": COMPANY, **more})


def outbound(word: str, after_s: float, leg: str = "b", called: Any = CLIENT, **more: Any) -> bytes:
    return event(word, after_s, leg, direction="outbound", **{"from": COMPANY, "to": called, **more})


def ending(start_s: float, end_s: float) -> dict[str, Any]:
    """Return what `completed` says besides: all of it as text."""
    duration = str(round(end_s - start_s))
    return {"start_time": iso(start_s), "end_time": iso(end_s), "duration": duration, "price": "0.02"}


def record(**more: Any) -> bytes:
    known = {"recording_url": LINK, "recording_uuid": "bbbbbbbb", "size": 12222, **more}
    return event(None, 70, None, **known)


def told(body: bytes, **settings: Any) -> Told:
    (one,) = vonage(**settings).parse(webhook(body), NOW + 86_000)
    return one


def leg_of(body: bytes, **settings: Any) -> Leg:
    (leg,) = told(body, **settings).event.legs
    return leg


def made(events: Sequence[CallEvent]) -> Call:
    call: Call | None = None
    for one in events:
        call = fold(call, one, NOW)
    assert call is not None
    return call


def folded(bodies: Sequence[bytes], **settings: Any) -> Call:
    """Return the call that messages make, whatever their order, and however often they come."""
    provider = vonage(**settings)
    events = [one.event for body in bodies for one in provider.parse(webhook(body), NOW + 86_000)]
    chance = random.Random(1)  # noqa: S311
    orders = list(permutations(events)) if len(events) <= 5 else []
    orders += [tuple(chance.sample(events, len(events))) for _ in range(60)]
    orders += [tuple(chance.choices(events, k=len(events))) + tuple(events) for _ in range(60)]
    calls = [made(order) for order in orders]
    assert len({(call.key, call.facts, call.legs, call.recording) for call in calls}) == 1
    return calls[0]


def is_answered(call: Call, talk_s: int) -> bool:
    return call.facts.outcome == Outcome(CallStatus.ANSWERED, talk_s)


def extension(call: Call) -> str | None:
    return call.facts.person.extension if call.facts.person else None


# The proof.


@pytest.mark.parametrize("vector", OURS, ids=lambda one: one["id"])
def test_vectors_are_judged_as_they_say(vector: dict[str, Any]) -> None:
    provider = vonage(signature_secret=vector["secret"], api_key="abcd1234", application_id=APPLICATION)
    request = Webhook(
        method=vector["method"],
        url=vector["url"],
        headers=CIMultiDict(vector["headers"]),
        body=vector["body"].encode(),
    )
    if not vector["valid"]:
        with pytest.raises(InputRefused) as caught:
            provider.verify(request, vector["clock"])
        assert caught.value.code == "unauthorized"
        return
    provider.verify(request, vector["clock"])
    (one,) = provider.parse(request, vector["clock"])
    expect = vector.get("expect", {})
    if "recording_id" in expect:
        assert (one.event.recording.url or "").endswith(expect["recording_id"])
    elif expect:
        (leg,) = one.event.legs
        facts = made([one.event]).facts
        assert (one.event.key.call_id, leg.id) == (expect["call_id"], expect["leg_id"])
        assert facts.direction == expect["direction"]
        assert facts.outcome == (expect["disposition"], expect["duration"])
        assert facts.phone == "+15005550006"


def test_all_vectors_are_here() -> None:
    assert len(OURS) == 9
    assert sum(one["valid"] for one in OURS) == 3


@pytest.mark.parametrize("age_s", [0, 172_800, -30, -86_400])
def test_age_does_not_count(age_s: int) -> None:
    vonage().verify(signed(b"{}", iat=int(NOW) - age_s, exp=int(NOW) - age_s + 60), NOW)


def test_both_secrets_are_good_while_they_change() -> None:
    provider = vonage(previous_signature_secret=OLD_SECRET)
    for secret in (SECRET, OLD_SECRET):
        provider.verify(signed(b"{}", secret), NOW)
    with pytest.raises(InputRefused):
        vonage().verify(signed(b"{}", OLD_SECRET), NOW)
    with pytest.raises(InputRefused):
        provider.verify(signed(b"{}", secrets.token_hex(25)), NOW)


@pytest.mark.parametrize(
    "more",
    [
        {"iss": "vonage"},
        {"iss": None},
        {"iss": 1},
        {"payload_hash": None},
        {"payload_hash": hashlib.sha256(b"{ }").hexdigest()},
        {"payload_hash": ""},
        {"api_key": "abcd1235"},
        {"api_key": None},
        {"api_key": 1},
        {"application_id": 1},
    ],
)
def test_wrong_claims_are_unauthorized(more: dict[str, Any]) -> None:
    with pytest.raises(InputRefused) as caught:
        vonage(api_key="abcd1234").verify(signed(b"{}", **more), NOW)
    assert caught.value.code == "unauthorized"


def test_hash_may_be_in_capitals() -> None:
    vonage().verify(signed(b"{}", payload_hash=hashlib.sha256(b"{}").hexdigest().upper()), NOW)


def test_other_accounts_are_taken_where_none_is_named() -> None:
    vonage().verify(signed(b"{}", api_key="other"), NOW)


def test_other_applications_are_forbidden() -> None:
    vonage(application_id=APPLICATION).verify(signed(b"{}"), NOW)
    vonage(application_id=APPLICATION).verify(signed(b"{}", application_id=None), NOW)
    vonage().verify(signed(b"{}", application_id="other"), NOW)
    with pytest.raises(InputRefused) as caught:
        vonage(application_id=APPLICATION).verify(signed(b"{}", application_id="other"), NOW)
    assert caught.value.code == "forbidden"


@pytest.mark.parametrize(
    ("head", "claims"),
    [
        (b'{"alg":"none"}', None),
        (b'{"alg":"HS512"}', None),
        (b'{"alg":"hs256"}', None),
        (b"{}", None),
        (b"\xff", None),
        (b'{"alg":"HS256"}', b"[]"),
        (b'{"alg":"HS256"}', b"\xff"),
        (b'{"alg":"HS256"}', b"[" * 5000),
    ],
)
def test_odd_tokens_are_unauthorized_even_if_rightly_signed(head: bytes, claims: bytes | None) -> None:
    body = b"{}"
    token = by_hand(head, json.dumps(claims_of(body)).encode() if claims is None else claims)
    with pytest.raises(InputRefused) as caught:
        vonage().verify(webhook(body, {"Authorization": f"Bearer {token}"}), NOW)
    assert caught.value.code == "unauthorized"
    good = by_hand(b'{"alg":"HS256"}', json.dumps(claims_of(body)).encode())
    vonage().verify(webhook(body, {"Authorization": f"bearer {good}"}), NOW)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer .", "Bearer ..", "Bearer a.b", "Basic a.b.c"]
)
def test_odd_headers_are_unauthorized(header: str) -> None:
    with pytest.raises(InputRefused) as caught:
        vonage().verify(webhook(b"{}", {"Authorization": header}), NOW)
    assert caught.value.code == "unauthorized"


def test_scheme_has_to_be_bearer() -> None:
    token = signed(b"{}").headers["Authorization"].removeprefix("Bearer ")
    with pytest.raises(InputRefused):
        vonage().verify(webhook(b"{}", {"Authorization": f"Basic {token}"}), NOW)


def test_each_character_of_the_token_counts() -> None:
    header = signed(b"{}").headers["Authorization"]
    for place in range(len("Bearer "), len(header)):
        other = "A" if header[place] != "A" else "B"
        changed = header[:place] + other + header[place + 1 :]
        with pytest.raises(InputRefused):
            vonage().verify(webhook(b"{}", {"Authorization": changed}), NOW)


def test_token_in_the_address_is_needed_as_well_where_there_is_one() -> None:
    token, other = secrets.token_hex(16), secrets.token_hex(16)
    provider = vonage([BearerToken(other, NOW + 1)], token=token)
    provider.verify(signed(b"{}", rest=token), NOW)
    provider.verify(signed(b"{}", rest=other), NOW)
    for rest in ("", "x" * 16):
        with pytest.raises(InputRefused):
            provider.verify(signed(b"{}", rest=rest), NOW)
    with pytest.raises(InputRefused):
        provider.verify(webhook(b"{}", rest=token), NOW)


def test_service_is_none_without_a_secret() -> None:
    values = {name: setting.default for name, setting in SERVICE.settings.items()}
    assert SERVICE.make(1, values, [BearerToken(secrets.token_hex(16))]) is None
    assert SERVICE.make(1, {**values, "previous_signature_secret": SECRET}, ()) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        1,
        "-----BEGIN PRIVATE KEY-----",
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(rsa.generate_private_key(65537, 1024)),  # noqa: S505
        pem(password=b"secret"),
    ],
)
def test_wrong_private_key_is_a_mistake_of_the_configuration(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^(a text|the application's private key)"):
        SERVICE.settings["private_key"].read(wrong)


def test_service_is_found_and_answers_with_nothing() -> None:
    provider: Provider = vonage()
    assert services()["vonage"] is SERVICE
    assert provider.reply is EMPTY
    assert SERVICE.methods == {"POST"}
    assert isinstance(provider, KeepsRecordings)
    assert isinstance(provider, ListsCalls)
    secret = {name for name, setting in SERVICE.settings.items() if setting.secret}
    assert secret == {
        "signature_secret",
        "previous_signature_secret",
        "private_key",
        "token",
        "previous_token",
    }


# What each message says.


@pytest.mark.parametrize(
    ("body", "what", "leg"),
    [
        (
            inbound("started", 0),
            "leg.started",
            Leg("a", Side.CLIENT, Direction.INBOUND, "+" + CLIENT, started_at=NOW),
        ),
        (
            inbound("ringing", 1),
            "leg.ringing",
            Leg("a", Side.CLIENT, Direction.INBOUND, "+" + CLIENT, started_at=NOW + 1),
        ),
        (
            inbound("answered", 2, start_time=None, rate=None),
            "leg.answered",
            Leg("a", Side.CLIENT, Direction.INBOUND, "+" + CLIENT, answered_at=NOW + 2),
        ),
        (
            outbound("answered", 2),
            "leg.answered",
            Leg("b", None, Direction.OUTBOUND, "+" + CLIENT, "+" + CLIENT, answered_at=NOW + 2),
        ),
        (
            event("human", 3, None, call_uuid="b", **{"from": COMPANY, "to": CLIENT}),
            "leg.answered",
            Leg("b", answered_at=NOW + 3),
        ),
        (
            event("machine", 3, None, call_uuid="b"),
            "leg.answered",
            Leg("b", answered_at=NOW + 3),
        ),
        *(
            (
                outbound(word, 9),
                "leg.ended",
                Leg(
                    "b", None, Direction.OUTBOUND, "+" + CLIENT, "+" + CLIENT, ended_at=NOW + 9, status=status
                ),
            )
            for word, status in [
                ("busy", CallStatus.BUSY),
                ("cancelled", CallStatus.CANCELLED),
                ("unanswered", CallStatus.NO_ANSWER),
                ("timeout", CallStatus.NO_ANSWER),
                ("rejected", CallStatus.FAILED),
                ("failed", CallStatus.FAILED),
            ]
        ),
        (
            inbound("completed", 64, **ending(1, 63)),
            "leg.ended",
            Leg(
                "a",
                Side.CLIENT,
                Direction.INBOUND,
                "+" + CLIENT,
                started_at=NOW + 1,
                ended_at=NOW + 63,
                talk=62,
                status=CallStatus.ANSWERED,
            ),
        ),
        (
            event("completed", 64, "a", duration="0"),
            "leg.ended",
            Leg("a", ended_at=NOW + 64, talk=0),
        ),
        (event("completed", 64, "a", duration=""), "leg.ended", Leg("a", ended_at=NOW + 64)),
        (
            event("completed", 64, "a", duration=7.6),
            "leg.ended",
            Leg("a", ended_at=NOW + 64, talk=8, status=CallStatus.ANSWERED),
        ),
    ],
)
def test_message_of_a_leg(body: bytes, what: str, leg: Leg) -> None:
    one = told(body)
    assert one == Told(what, one.event)
    assert one.event.key == (31337, "CON-1")
    assert one.event.legs == (leg,)


def staff(name: str | None) -> Leg:
    return Leg("b", Side.STAFF, extension=name, started_at=NOW)


def client(phone: str) -> Leg:
    return Leg("b", None, Direction.OUTBOUND, phone, phone, started_at=NOW)


@pytest.mark.parametrize(
    ("called", "leg"),
    [
        (CLIENT, client("+" + CLIENT)),
        ("+15005550006", client("+15005550006")),
        ("004415005550006", client("004415005550006")),
        ("2001", client("2001")),
        (ANN, staff("ann")),
        ("ann@pbx.example.com", staff("ann")),
        (f"sip:{CLIENT}@pbx.example.com", client(f"sip:{CLIENT}@pbx.example.com")),
        (f"sip:{'a' * 65}@pbx.example.com", staff(None)),
        ("wss://bot.example.com/socket", staff(None)),
        ("ws://bot.example.com/socket", staff(None)),
        ({"type": "phone", "number": CLIENT}, client("+" + CLIENT)),
        ([{"type": "phone", "number": CLIENT}], client("+" + CLIENT)),
        ({"type": "sip", "uri": ANN}, staff("ann")),
        ({"type": "app", "user": "jamie"}, staff("jamie")),
        ({"type": "vbc", "extension": "1234"}, staff("1234")),
        ({"type": "websocket", "uri": "https://bot.example.com"}, staff(None)),
        (BOB, staff("+" + BOB)),
        ({}, Leg("b", None, Direction.OUTBOUND, "", started_at=NOW)),
        ([], Leg("b", None, Direction.OUTBOUND, "", started_at=NOW)),
    ],
)
def test_whom_a_leg_goes_to(called: Any, leg: Leg) -> None:
    assert leg_of(outbound("started", 0, called=called), staff_phones=["(202) 555-0199"]) == leg


@pytest.mark.parametrize(
    ("more", "side", "phone", "name"),
    [
        ({"from": CLIENT}, Side.CLIENT, "+" + CLIENT, None),
        ({"from": "anonymous"}, Side.CLIENT, "anonymous", None),
        ({"from": None}, Side.CLIENT, "", None),
        ({"from": "sip:anonymous@anonymous.invalid"}, Side.CLIENT, "sip:anonymous@anonymous.invalid", None),
        ({"from": None, "from_user": "jamie"}, Side.STAFF, None, "jamie"),
        ({"from": ANN}, Side.STAFF, None, "ann"),
        ({"from": BOB}, Side.STAFF, None, "+" + BOB),
    ],
)
def test_whom_a_leg_comes_from(more: dict[str, Any], side: Side, phone: str | None, name: str | None) -> None:
    leg = leg_of(inbound("started", 0, **more), staff_phones=["+12025550199"])
    assert (leg.side, leg.phone, leg.extension) == (side, phone, name)
    assert leg.direction is (Direction.INBOUND if side is Side.CLIENT else None)


def test_user_who_is_called_is_one_of_the_company() -> None:
    assert leg_of(outbound("started", 0, to=None, to_user="jamie")) == staff("jamie")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        event("disconnected", 1),
        event("notify", 1),
        event(None, 1, dtmf={"digits": "1", "timed_out": False}),
        event(None, 1, reason="Syntax error in NCCO. Invalid value type or action."),
        event(None, 1, speech={"recording_url": LINK}),
    ],
)
def test_messages_of_no_interest(body: bytes) -> None:
    assert vonage().parse(webhook(body), NOW) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 100_000,
        b"status=completed&uuid=a",
        event("completed", 1, conversation_uuid=None),
        event("completed", 1, conversation_uuid=""),
        event("completed", 1, conversation_uuid="x" * 256),
        event("completed", 1, conversation_uuid="CON\n"),
        event("completed", 1, conversation_uuid=7),
        event("completed", 1, uuid=None),
        event("completed", 1, uuid="\x7f"),
        event("completed", 1, timestamp=None),
        event("completed", 1, timestamp=None, duration="0"),
        event("completed", 1, duration="-1"),
        event("completed", 1, duration=-1),
        event("completed", 1, duration="1m"),
        event("completed", 1, duration=1e8),
        event("completed", 1, duration="100000000"),
        event("completed", 1, duration=True),
        event("answered", 1, timestamp=None),
        event("answered", 1, timestamp="2026-99-01"),
        event("answered", 1, timestamp="0001-01-01T00:00:00Z"),
        event("human", 1, timestamp="9999-12-31T23:59:59Z"),
        inbound("started", 1, caller=7),
        inbound("started", 1, caller="1" * 256),
        event(None, 1, conversation_uuid_from="CON-1", type="transfer"),
        event(None, 1, conversation_uuid_to="CON-1", type="transfer"),
        event(None, 1, None, conversation_uuid_from="CON-1", conversation_uuid_to="CON-2"),
        event(None, 1, timestamp=None, conversation_uuid_from="CON-1", conversation_uuid_to="CON-2"),
        record(conversation_uuid="\n"),
        record(recording_url="https://api.nexmo.com/" + "x" * 2000),
    ],
)
def test_unreadable_message_is_not_understood(body: bytes) -> None:
    with pytest.raises(NotUnderstood):
        vonage().parse(webhook(body), NOW + 86_000)


def test_end_without_a_time_is_told_if_it_is_told_how() -> None:
    assert leg_of(event("busy", 1, timestamp=None)) == Leg("leg-a", status=CallStatus.BUSY)
    ended = leg_of(event("completed", 1, timestamp=None, duration="7"))
    assert ended == Leg("leg-a", talk=7, status=CallStatus.ANSWERED)


def test_only_what_was_completed_has_talk() -> None:
    assert leg_of(event("timeout", 30, "a", duration="30")) == Leg(
        "a", ended_at=NOW + 30, status=CallStatus.NO_ANSWER
    )


def test_times_without_a_zone_are_utc() -> None:
    leg = leg_of(event("completed", 1, "a", start_time="2026-01-01 00:00:02", end_time="2026-01-01 00:00:09"))
    assert (leg.started_at, leg.ended_at) == (NOW + 2, NOW + 9)


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
ENDS = HOSTILE | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(["type", "number", "uri", "user", "extension"], HOSTILE)
)
STATUSES = st.sampled_from(["started", "ringing", "answered", "human", "busy", "completed", "record", None])
FIELDS = [
    *("uuid", "call_uuid", "conversation_uuid", "direction", "from_user", "to_user", "timestamp"),
    *(
        "start_time",
        "end_time",
        "duration",
        "recording_url",
        "conversation_uuid_from",
        "conversation_uuid_to",
    ),
]


@given(
    STATUSES,
    st.sampled_from(["inbound", "outbound"]),
    ENDS,
    st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, HOSTILE)),
)
def test_any_event_is_told_or_not_understood(status: Any, way: str, end: Any, more: dict[str, Any]) -> None:
    known = {"uuid": "a", "conversation_uuid": "CON-1", "timestamp": iso(1), "direction": way, **more}
    body = json.dumps({**known, "status": status, "from": end, "to": end}).encode()
    try:
        found = vonage(staff_phones=["+12025550199"]).parse(webhook(body), NOW)
    except NotUnderstood:
        return
    assert all(one.event.key.account_id == 31337 for one in found)


@given(st.binary(max_size=300), st.binary(max_size=200))
def test_any_bytes_are_refused_or_not_understood(body: bytes, header: bytes) -> None:
    shown = header.decode("utf-8", "surrogateescape")
    for authorization in (shown, f"Bearer {shown}", f"Bearer {shown}.{shown}.{shown}"):
        with pytest.raises(InputRefused):
            vonage().verify(webhook(body, {"Authorization": authorization}, rest=shown), NOW)
    with pytest.raises(InputRefused):
        vonage().verify(webhook(body + b"x", signed(body).headers), NOW)
    with pytest.raises(NotUnderstood):
        vonage().parse(webhook(b"\x00" + body), NOW)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_any_signed_token_is_judged(head: bytes, claims: bytes) -> None:
    with pytest.raises(InputRefused):
        vonage().verify(webhook(b"{}", {"Authorization": f"Bearer {by_hand(head, claims)}"}), NOW)


# Whole calls.


def test_answered_inbound_call() -> None:
    call = folded(
        [
            inbound("started", 0),
            inbound("ringing", 0),
            inbound("answered", 1),
            outbound("started", 2, "b", ANN),
            outbound("ringing", 3, "b", ANN),
            outbound("answered", 8, "b", ANN),
            outbound("completed", 72, "b", ANN, **ending(8, 71)),
            inbound("completed", 72, **ending(1, 71.4)),
        ]
    )
    assert (call.facts.direction, call.facts.phone) == (Direction.INBOUND, "+" + CLIENT)
    assert is_answered(call, 63)
    assert extension(call) == "ann"
    assert call.facts.started_at == NOW


def test_agent_with_an_outside_number_is_told_from_the_client() -> None:
    bodies = [
        inbound("answered", 1),
        outbound("answered", 8, "b", BOB),
        outbound("completed", 40, "b", BOB, **ending(8, 38)),
        inbound("completed", 40, **ending(1, 38)),
    ]
    for settings in ({}, {"staff_phones": [BOB]}):
        call = folded(bodies, **settings)
        assert (call.facts.direction, call.facts.phone) == (Direction.INBOUND, "+" + CLIENT)
        assert is_answered(call, 30)
        assert extension(call) == "+" + BOB


def test_call_has_not_ended_while_the_client_is_there() -> None:
    bodies = [
        inbound("started", 0),
        outbound("started", 2, "b", ANN),
        outbound("timeout", 22, "b", ANN),
        outbound("completed", 22, "b", ANN, duration="0"),
    ]
    assert folded(bodies).facts.outcome is None


def test_inbound_call_that_only_the_application_answered() -> None:
    bodies = [inbound("started", 0), inbound("answered", 1), inbound("completed", 31, **ending(1, 31))]
    assert is_answered(folded(bodies), 30)


def test_answered_call_whose_completed_has_no_duration() -> None:
    call = folded([outbound("started", 0), outbound("answered", 10), outbound("completed", 30)])
    assert is_answered(call, 20)


def test_answered_outbound_call() -> None:
    bodies = [
        outbound("started", 0),
        outbound("ringing", 2),
        outbound("answered", 10),
        event("human", 12, None, call_uuid="b"),
        outbound("completed", 31, **ending(10, 30)),
    ]
    call = folded(bodies)
    assert (call.facts.direction, call.facts.phone) == (Direction.OUTBOUND, "+" + CLIENT)
    assert is_answered(call, 20)
    assert extension(call) is None


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("busy", CallStatus.BUSY),
        ("cancelled", CallStatus.CANCELLED),
        ("unanswered", CallStatus.NO_ANSWER),
        ("timeout", CallStatus.NO_ANSWER),
        ("rejected", CallStatus.FAILED),
        ("failed", CallStatus.FAILED),
    ],
)
def test_outbound_call_that_nobody_answered(word: str, status: CallStatus) -> None:
    bodies = [outbound("started", 0), outbound(word, 20)]
    for more in ([], [outbound("completed", 20, duration="0")]):
        call = folded([*bodies, *more])
        assert (call.facts.direction, call.facts.phone) == (Direction.OUTBOUND, "+" + CLIENT)
        assert call.facts.outcome == Outcome(status, 0)


@pytest.mark.parametrize("agent", [ANN, BOB, "jamie"])
def test_agent_who_is_called_first_is_not_the_client(agent: str) -> None:
    end = {"to": None, "to_user": agent} if agent == "jamie" else {"called": agent}
    bodies = [
        outbound("started", 0, "a", **end),
        outbound("answered", 5, "a", **end),
        outbound("started", 6, "b"),
        outbound("timeout", 26, "b"),
        outbound("completed", 26, "b", duration="0"),
        outbound("completed", 27, "a", **end, **ending(5, 27)),
    ]
    call = folded(bodies, staff_phones=[BOB])
    assert (call.facts.direction, call.facts.phone) == (Direction.OUTBOUND, "+" + CLIENT)
    assert call.facts.outcome == Outcome(CallStatus.NO_ANSWER, 0)


def test_agent_who_calls_in_to_call_out() -> None:
    bodies = [
        inbound("started", 0, **JAMIE),
        inbound("answered", 1, **JAMIE),
        outbound("started", 2, "b"),
        outbound("answered", 9, "b"),
        outbound("completed", 29, "b", **ending(9, 29)),
        inbound("completed", 29, **JAMIE, **ending(1, 29)),
    ]
    call = folded(bodies)
    assert (call.facts.direction, call.facts.phone) == (Direction.OUTBOUND, "+" + CLIENT)
    assert is_answered(call, 20)
    assert extension(call) == "jamie"


@pytest.mark.parametrize(("word", "status"), [("busy", CallStatus.BUSY), ("timeout", CallStatus.NO_ANSWER)])
def test_missed_and_busy_inbound_calls(word: str, status: CallStatus) -> None:
    bodies = [
        inbound("started", 0),
        inbound("answered", 1),
        outbound("started", 2, "b", ANN),
        outbound(word, 22, "b", ANN),
        outbound("completed", 22, "b", ANN, duration="0"),
        inbound("completed", 23, **ending(1, 23)),
    ]
    call = folded(bodies)
    assert call.facts.outcome == Outcome(status, 0)
    assert (call.facts.phone, extension(call)) == ("+" + CLIENT, "ann")


def test_one_of_three_answers() -> None:
    bodies = [inbound("started", 0), inbound("answered", 1)]
    for name in ("ann", "bob", "eve"):
        bodies.append(outbound("started", 2, name, f"sip:{name}@pbx.example.com"))
    bodies += [
        outbound("answered", 9, "bob", "sip:bob@pbx.example.com"),
        outbound("cancelled", 9, "ann", ANN),
        outbound("busy", 9, "eve", "sip:eve@pbx.example.com"),
        outbound("completed", 9, "ann", ANN, duration="0"),
        outbound("completed", 39, "bob", "sip:bob@pbx.example.com", **ending(9, 39)),
        inbound("completed", 39, **ending(1, 39)),
    ]
    call = folded(bodies)
    assert is_answered(call, 30)
    assert (call.facts.phone, extension(call)) == ("+" + CLIENT, "bob")


@pytest.mark.parametrize("consulted_s", [0, 20])
def test_transfer_within_a_conversation_is_one_call(consulted_s: int) -> None:
    """Blind, and attended: while the second agent is asked, the first one is still there."""
    bodies = [
        inbound("started", 0),
        inbound("answered", 1),
        outbound("answered", 10, "b", ANN),
        outbound("answered", 40, "c", BOB),
        outbound("completed", 40, "b", ANN, **ending(10, 40 + consulted_s)),
        outbound("completed", 100, "c", BOB, **ending(40, 100)),
        inbound("completed", 100, **ending(1, 100)),
    ]
    call = folded(bodies)
    assert (call.facts.direction, call.facts.phone) == (Direction.INBOUND, "+" + CLIENT)
    assert is_answered(call, 90)
    assert extension(call) == "+" + BOB


MOVED = event(None, 40, "a", type="transfer", conversation_uuid_from="CON-1", conversation_uuid_to="CON-2")


def test_leg_that_is_moved_goes_on_in_the_other_conversation() -> None:
    left, joined = vonage().parse(webhook(MOVED), NOW + 60)
    assert (left.what, left.event) == ("leg.left", CallEvent(key=left.event.key, legs=(Leg("a"),)))
    assert left.event.key.call_id == "CON-1"
    assert (joined.what, joined.event.key.call_id) == ("leg.joined", "CON-2")
    assert joined.event.legs == (Leg("a", started_at=NOW + 40),)
    assert joined.event.moved_from == left.event.key
    same = MOVED.replace(b"CON-2", b"CON-1")
    assert vonage().parse(webhook(same), NOW + 60) == []


def test_conversation_waits_for_the_leg_that_joined() -> None:
    bodies = [
        MOVED,
        outbound("answered", 50, "c", BOB, conversation_uuid="CON-2"),
        outbound("completed", 80, "c", BOB, conversation_uuid="CON-2", **ending(50, 80)),
    ]
    events = [one.event for body in bodies for one in vonage().parse(webhook(body), NOW + 86_000)]
    assert made([one for one in events if one.key.call_id == "CON-2"]).facts.outcome is None


def test_recording_may_come_first() -> None:
    bodies = [record(), inbound("answered", 1), inbound("completed", 31, **ending(1, 31))]
    call = folded(bodies)
    assert call.recording.url == f"vonage:{LINK}"
    assert call.recording.state is RecordingState.EXPECTED
    assert is_answered(call, 30)


# Recordings.


@pytest.mark.parametrize("status", [None, "ok"])
def test_recording_is_a_reference(status: str | None) -> None:
    one = told(record(status=status))
    assert (one.what, one.event.recording.url) == ("recording.ready", f"vonage:{LINK}")
    assert one.event.key == (31337, "CON-1")
    assert one.event.legs == ()


def asked_for(reference: str, **settings: Any) -> Ask:
    with pytest.raises(StopIteration) as done:
        next(vonage(**{**ASKS, **settings}).find_recording(reference, NOW))
    ask = done.value.value
    assert isinstance(ask, Ask)
    return ask


def token_of(ask: Ask) -> dict[str, Any]:
    scheme, _, token = ask.headers["Authorization"].partition(" ")
    assert scheme == "Bearer"
    return jwt.decode(
        token,
        PRIVATE.public_key(),
        algorithms=["RS256"],
        options={"verify_exp": False, "verify_iat": False},
    )


def test_recording_is_asked_for_as_the_application() -> None:
    ask = asked_for(LINK)
    assert ask.url == LINK
    claims = token_of(ask)
    assert claims["application_id"] == APPLICATION
    assert (claims["iat"], claims["exp"]) == (NOW, NOW + 900)
    assert len(claims["jti"]) == 32
    assert token_of(asked_for(LINK + "5"))["jti"] != claims["jti"]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.nexmo.com/media/download?id=1",
        "https://api-us.nexmo.com/v1/files/1",
        "https://api-eu-3.vonage.com/v1/files/1",
        "https://api-us-1.nexmo.com/v1/files/1",
        "https://api.vonage.com/v1/files/1",
    ],
)
def test_api_has_several_hosts(url: str) -> None:
    assert asked_for(url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bbbbbbbb-0000",
        "https://api.example.net/v1/files/1",
        "http://api.nexmo.com/v1/files/1",
        "https://nexmo.com/v1/files/1",
        "https://evil.nexmo.com/v1/files/1",
        "https://api.nexmo.com.example.net/v1/files/1",
        "https://api.nexmo.com@example.net/v1/files/1",
        "https://example.net/api.nexmo.com",
        "https://user@api.nexmo.com/v1/files/1",
        "https://api.nexmo.com:8443/v1/files/1",
        "https://api.nexmo.com\\@example.net/",
        "https://api.nex\tmo.com/v1/files/1",
        "https://api.nexmo.com/v1/files/ 1",
        "https://api-usa.nexmo.com/v1/files/1",
        "https://apixnexmo.com/v1/files/1",
        "https://[api.nexmo.com/v1",
        "http://127.0.0.1:8081/v1/files/1",
        "http://127.0.0.1:80.example.net/",
    ],
)
def test_token_goes_to_no_other_host(url: str) -> None:
    with pytest.raises(ErrandFailed) as caught:
        asked_for(url, api_url="http://127.0.0.1:80")
    assert caught.value.is_final


def test_configured_address_may_see_the_token() -> None:
    assert asked_for("http://127.0.0.1:80/v1/files/1", api_url="http://127.0.0.1:80/").headers


@pytest.mark.parametrize("missing", ["application_id", "private_key"])
def test_nothing_is_asked_without_an_application(missing: str) -> None:
    provider = vonage(**{name: value for name, value in ASKS.items() if name != missing})
    for errand in (provider.find_recording(LINK, NOW), provider.list_calls(NOW, NOW, NOW)):
        with pytest.raises(ErrandFailed, match="private_key") as caught:
            next(errand)
        assert caught.value.is_final


# Listed calls.


def item(leg: str, way: str, number: Any, status: str = "completed", **more: Any) -> dict[str, Any]:
    other = {"type": "phone", "number": COMPANY}
    ends = {"from": number, "to": other} if way == "inbound" else {"from": other, "to": [number]}
    known = {
        "uuid": leg,
        "conversation_uuid": "CON-1",
        "status": status,
        "direction": way,
        "rate": "0.39",
        "network": "65512",
        **ends,
        **more,
    }
    return {name: value for name, value in known.items() if value is not None}


PHONE = {"type": "phone", "number": CLIENT}
LISTED = [
    item("a", "inbound", PHONE, **ending(1, 71)),
    item("b", "outbound", {"type": "sip", "uri": ANN}, **ending(8, 71)),
    item("c", "outbound", {"type": "app", "user": "jamie"}, "cancelled"),
]
SENT = [
    inbound("started", 0),
    inbound("answered", 1),
    outbound("answered", 8, "b", ANN),
    outbound("started", 2, "c", to=None, to_user="jamie"),
    outbound("cancelled", 8, "c", to=None, to_user="jamie"),
    outbound("completed", 71, "b", ANN, **ending(8, 71)),
    inbound("completed", 71, **ending(1, 71)),
]


def page(*items: Any) -> bytes:
    return json.dumps({"count": 9, "page_size": 100, "_embedded": {"calls": items}}).encode()


def listed(*pages: bytes, since: float = NOW - 60, until: float = NOW + 60) -> tuple[list[Ask], list[Told]]:
    errand = vonage(**ASKS).list_calls(since, until, NOW + 7200)
    asked: list[Ask] = []
    tells: list[Told] = []
    left = list(pages)
    step = next(errand)
    while True:
        try:
            if isinstance(step, Ask):
                asked.append(step)
                step = errand.send(Got(status=200, body=left.pop(0)))
            else:
                tells += step
                step = errand.send(None)
        except StopIteration:
            return asked, tells


def test_listed_call_is_the_one_that_webhooks_told_of() -> None:
    asked, tells = listed(page(*LISTED))
    assert len(asked) == 1
    assert [one.what for one in tells] == ["leg.ended"] * 3
    assert json.loads(tells[0].body or b"") == LISTED[0]
    call = folded(SENT)
    together = call
    for one in tells:
        together = fold(together, one.event, NOW)
    assert together.facts == call.facts
    alone = made([one.event for one in tells])
    assert alone.facts.outcome == call.facts.outcome
    assert alone.facts.person == call.facts.person
    assert (alone.facts.direction, alone.facts.phone) == (Direction.INBOUND, "+" + CLIENT)


def test_list_is_asked_for_page_by_page() -> None:
    first = [
        item(str(number), "outbound", PHONE, conversation_uuid=str(number), **ending(1, 2))
        for number in range(100)
    ]
    asked, tells = listed(page(*first), page(*LISTED))
    queries = [parse_qs(urlsplit(one.url).query) for one in asked]
    assert queries[0] == {
        "date_start": ["2025-12-31T21:59:00Z"],
        "date_end": ["2026-01-01T02:01:00Z"],
        "page_size": ["100"],
        "record_index": ["0"],
        "order": ["asc"],
    }
    assert queries[1]["record_index"] == ["100"]
    assert asked[0].url.startswith("https://api.nexmo.com/v1/calls?")
    assert token_of(asked[0])["jti"] != token_of(asked[1])["jti"]
    assert len(tells) == 103


def test_pages_that_repeat_end() -> None:
    full = page(*[item(str(number), "outbound", PHONE, **ending(1, 2)) for number in range(100)])
    assert len(listed(full, full, full)[0]) == 2
    assert listed(b"{}") == listed(page())


def test_endless_list_fails() -> None:
    errand = vonage(**ASKS).list_calls(NOW, NOW, NOW)
    next(errand)
    with pytest.raises(ErrandFailed, match="1000 pages") as caught:
        answer_for_ever(errand)
    assert caught.value.is_final


def answer_for_ever(errand: Generator[Any, Got | None, None]) -> None:
    for number in range(2000):
        errand.send(Got(status=200, body=page(*[number] * 100)))


@pytest.mark.parametrize("status", [401, 500])
def test_refused_list_fails(status: int) -> None:
    errand = vonage(**ASKS).list_calls(NOW, NOW, NOW)
    next(errand)
    with pytest.raises(ErrandFailed) as caught:
        errand.send(Got(status=status, body=b"{}"))
    assert caught.value.is_final is (status == 401)


@pytest.mark.parametrize(
    "items",
    [
        [LISTED[0], item("b", "outbound", PHONE, "answered")],  # still going
        [
            item(
                "a",
                "inbound",
                PHONE,
                start_time="2025-12-31 23:58:59",
                **{"end_time": iso(0), "duration": "61"},
            )
        ],
        [item("a", "inbound", PHONE, **ending(61, 63))],
        [item("a", "inbound", PHONE, conversation_uuid="\n", **ending(1, 2))],
        [item("a", "inbound", PHONE, duration="x")],
        [1, None, [], "x"],
    ],
)
def test_calls_that_are_not_told(items: list[Any]) -> None:
    assert listed(page(*items))[1] == []


def test_calls_that_did_not_connect_are_told() -> None:
    (one,) = listed(page(item("a", "outbound", PHONE, "busy")))[1]
    assert made([one.event]).facts.outcome == Outcome(CallStatus.BUSY, 0)
