"""Telnyx's webhooks: the proof, what each says, whole calls in any order, recordings, and listed calls."""

import base64
import json
import random
import secrets
from collections.abc import Generator, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from calllogd.domain.call import Call, CallStatus, Direction, Leg, Outcome, RecordingState, Side
from calllogd.domain.merge import CallEvent, fold
from calllogd.errors import InputRefused
from calllogd.voip.errand import Ask, ErrandFailed, Got, KeepsRecordings, ListsCalls
from calllogd.voip.proof import BearerToken
from calllogd.voip.provider import NotUnderstood, Provider, Told, services
from calllogd.voip.provider.telnyx import SERVICE, Telnyx
from calllogd.voip.webhook import EMPTY, Webhook

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
SEED = base64.b64decode(VECTORS["telnyx_test_seed_b64"])
OURS = [one for one in VECTORS["vectors"] if one["provider"] == "telnyx"]

NOW = 1_767_225_600.0
URL = "https://calls.example.com/voip/telnyx/31337"
CLIENT, COMPANY, ANN, BOB = "+15005550006", "+12025550143", "sip:ann@sip.telnyx.com", "+12025550199"
EARLIER = "2025-12-31T23:00:00Z"
LINK = "https://s3.example.com/1.mp3?X-Amz-Expires=600"


def public_key(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


KEY = Ed25519PrivateKey.from_private_bytes(SEED)


def telnyx(tokens: Sequence[BearerToken] = (), **settings: Any) -> Telnyx:
    values = {name: setting.default for name, setting in SERVICE.settings.items()}
    for name, value in {"public_key": public_key(KEY), **settings}.items():
        values[name] = SERVICE.settings[name].read(value)
    provider = SERVICE.make(31337, values, tokens)
    assert isinstance(provider, Telnyx)
    return provider


def webhook(body: bytes, headers: Mapping[str, str] | None = None, rest: str = "") -> Webhook:
    return Webhook(method="POST", url=URL, headers=CIMultiDict(headers or {}), body=body, rest=rest)


def signed(body: bytes, at: float = NOW, key: Ed25519PrivateKey = KEY, rest: str = "") -> Webhook:
    stamp = f"{at:.0f}"
    signature = base64.b64encode(key.sign(f"{stamp}|".encode() + body)).decode()
    return webhook(body, {"Telnyx-Signature-Ed25519": signature, "Telnyx-Timestamp": stamp}, rest)


def iso(after_s: float) -> str:
    """Return the time this long after 2026-01-01, as Telnyx writes it."""
    minutes, seconds = divmod(after_s, 60)
    return f"2026-01-01T00:{minutes:02.0f}:{seconds:09.6f}Z"


def event(name: str, after_s: float, leg: str = "leg-a", **payload: Any) -> bytes:
    known = {"call_session_id": "session-1", "call_leg_id": leg, "connection_id": "7267", **payload}
    data = {"record_type": "event", "event_type": name, "occurred_at": iso(after_s), "payload": known}
    return json.dumps({"data": data, "meta": {"attempt": 1}}).encode()


def initiated(leg: str, after_s: float, direction: str, caller: str, called: str, **more: Any) -> bytes:
    ends = {"direction": direction, "from": caller, "to": called, "start_time": iso(after_s)}
    return event("call.initiated", after_s, leg, **{**ends, **more})


def answered(leg: str, after_s: float) -> bytes:
    return event("call.answered", after_s, leg)


def hangup(leg: str, after_s: float, cause: str = "normal_clearing") -> bytes:
    return event("call.hangup", after_s, leg, hangup_cause=cause)


def saved(**payload: Any) -> bytes:
    known = {"recording_urls": {"mp3": LINK}, "public_recording_urls": {}, **payload}
    return event("call.recording.saved", 70, **known)


def told(body: bytes, **settings: Any) -> Told:
    (one,) = telnyx(**settings).parse(webhook(body), NOW + 86_000)
    return one


def leg_of(body: bytes, **settings: Any) -> Leg:
    (leg,) = told(body, **settings).event.legs
    return leg


def folded(bodies: Sequence[bytes], **settings: Any) -> Call:
    """Return the call that messages make, whatever their order, and however often they come."""
    provider = telnyx(**settings)
    events = [one.event for body in bodies for one in provider.parse(webhook(body), NOW + 86_000)]
    chance = random.Random(1)  # noqa: S311
    orders = list(permutations(events)) if len(events) <= 5 else []
    orders += [tuple(chance.sample(events, len(events))) for _ in range(60)]
    orders += [tuple(chance.choices(events, k=len(events))) + tuple(events) for _ in range(60)]
    calls = [made(order) for order in orders]
    assert len({(call.key, call.facts, call.legs, call.recording) for call in calls}) == 1
    return calls[0]


def made(events: Sequence[CallEvent]) -> Call:
    call: Call | None = None
    for one in events:
        call = fold(call, one, NOW)
    assert call is not None
    return call


def is_answered(call: Call, talk_s: int) -> bool:
    return call.facts.outcome == Outcome(CallStatus.ANSWERED, talk_s)


def extension(call: Call) -> str | None:
    return call.facts.person.extension if call.facts.person else None


# The proof.


@pytest.mark.parametrize("vector", OURS, ids=lambda one: one["id"])
def test_vectors_are_judged_as_they_say(vector: dict[str, Any]) -> None:
    provider = telnyx(public_key=vector["secret"])
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
    if expect := vector.get("expect"):
        (leg,) = one.event.legs
        assert (one.event.key.call_id, leg.id) == (expect["call_id"], expect["leg_id"])


def test_all_vectors_are_here() -> None:
    assert len(OURS) == 9
    assert sum(one["valid"] for one in OURS) == 3


@pytest.mark.parametrize(
    ("after_s", "good"), [(0, True), (300, True), (-300, True), (300.5, False), (-301, False)]
)
def test_message_is_good_for_five_minutes(after_s: float, good: bool) -> None:
    request = signed(hangup("leg-a", 1))
    if good:
        telnyx().verify(request, NOW + after_s)
    else:
        with pytest.raises(InputRefused, match="token or signature"):
            telnyx().verify(request, NOW + after_s)


def test_both_keys_are_good_while_they_change() -> None:
    new, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    body = hangup("leg-a", 1)
    provider = telnyx(public_key=public_key(new), previous_public_key=public_key(KEY))
    for key in (new, KEY):
        provider.verify(signed(body, key=key), NOW)
    with pytest.raises(InputRefused):
        provider.verify(signed(body, key=other), NOW)
    with pytest.raises(InputRefused):
        telnyx(public_key=public_key(new)).verify(signed(body), NOW)


@pytest.mark.parametrize(
    "header",
    [
        {"telnyx-timestamp": ""},
        {"telnyx-timestamp": "1767225600.0"},
        {"telnyx-timestamp": "+1767225600"},
        {"telnyx-timestamp": "9" * 400},
        {"telnyx-timestamp": "١٧٦٧٢٢٥٦٠٠"},
        {"telnyx-signature-ed25519": ""},
        {"telnyx-signature-ed25519": "?" * 88},
        {"telnyx-signature-ed25519": "é"},
        {"telnyx-signature-ed25519": base64.b64encode(b"x" * 63).decode()},
    ],
)
def test_odd_headers_are_refused(header: dict[str, str]) -> None:
    body = hangup("leg-a", 1)
    request = signed(body)
    headers = CIMultiDict(request.headers)
    headers.update(header)
    with pytest.raises(InputRefused) as caught:
        telnyx().verify(webhook(body, headers), NOW)
    assert caught.value.code == "unauthorized"


def test_what_was_signed_cannot_be_parted_anew() -> None:
    # An old message with the present time in it, of which a stranger takes the beginning for the signature.
    body = hangup("leg-a", 1)
    old, now = NOW - 100_000, f"{NOW:.0f}"
    genuine = signed(f"{now}|".encode() + body, at=old)
    signature = base64.b64decode(genuine.headers["Telnyx-Signature-Ed25519"]) + f"{old:.0f}|".encode()
    headers = {
        "Telnyx-Signature-Ed25519": base64.b64encode(signature).decode(),
        "Telnyx-Timestamp": now,
    }
    with pytest.raises(InputRefused):
        telnyx().verify(webhook(body, headers), NOW)


def test_other_connections_are_forbidden() -> None:
    body = hangup("leg-a", 1)
    telnyx(connection_id="7267").verify(signed(body), NOW)
    with pytest.raises(InputRefused) as caught:
        telnyx(connection_id="7268").verify(signed(body), NOW)
    assert caught.value.code == "forbidden"
    # A message that names none is taken, and what is no message at all is not understood later.
    for other in (event("call.hangup", 1, connection_id=None), b"{", b"\xff"):
        telnyx(connection_id="7268").verify(signed(other), NOW)


def test_unsigned_message_of_the_right_connection_is_unauthorized() -> None:
    with pytest.raises(InputRefused) as caught:
        telnyx(connection_id="7267").verify(webhook(hangup("leg-a", 1)), NOW)
    assert caught.value.code == "unauthorized"


def test_token_in_the_address_is_needed_as_well_where_there_is_one() -> None:
    token, old = secrets.token_hex(16), secrets.token_hex(16)
    body = hangup("leg-a", 1)
    provider = telnyx([BearerToken(old, NOW + 1)], token=token)
    provider.verify(signed(body, rest=token), NOW)
    provider.verify(signed(body, rest=old), NOW)
    for rest in ("", "x" * 16):
        with pytest.raises(InputRefused):
            provider.verify(signed(body, rest=rest), NOW)
    with pytest.raises(InputRefused):
        provider.verify(webhook(body, rest=token), NOW)


def test_service_is_none_without_a_key() -> None:
    values = {name: setting.default for name, setting in SERVICE.settings.items()}
    assert SERVICE.make(1, values, [BearerToken(secrets.token_hex(16))]) is None
    assert SERVICE.make(1, {**values, "previous_public_key": public_key(KEY)}, ()) is not None


@pytest.mark.parametrize("wrong", ["", "x", 1, None, base64.b64encode(b"x" * 31).decode(), "é" * 44])
def test_wrong_public_key_is_a_mistake_of_the_configuration(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"text|base64"):
        SERVICE.settings["public_key"].read(wrong)


def test_service_is_found_and_answers_with_nothing() -> None:
    provider: Provider = telnyx()
    assert services()["telnyx"] is SERVICE
    assert provider.reply is EMPTY
    assert isinstance(provider, KeepsRecordings)
    assert isinstance(provider, ListsCalls)
    secret = {name for name, setting in SERVICE.settings.items() if setting.secret}
    assert secret == {"api_key", "token", "previous_token"}


# What each message says.


@pytest.mark.parametrize(
    ("body", "what", "leg"),
    [
        (
            initiated("leg-a", 0, "incoming", CLIENT, COMPANY, state="parked"),
            "leg.started",
            Leg("leg-a", Side.CLIENT, Direction.INBOUND, CLIENT, started_at=NOW),
        ),
        (
            initiated("leg-a", 0, "outgoing", COMPANY, CLIENT, state="bridging"),
            "leg.started",
            Leg("leg-a", None, Direction.OUTBOUND, CLIENT, CLIENT, started_at=NOW),
        ),
        (
            initiated("leg-b", 2, "outgoing", COMPANY, ANN),
            "leg.started",
            Leg("leg-b", Side.STAFF, extension="ann", started_at=NOW + 2),
        ),
        (
            initiated("leg-b", 2, "outgoing", COMPANY, "gencred12345678@sip.telnyx.com"),
            "leg.started",
            Leg("leg-b", Side.STAFF, extension="gencred12345678", started_at=NOW + 2),
        ),
        (
            initiated("leg-b", 2, "outgoing", COMPANY, f"sip:{CLIENT}@sip.example.com"),
            "leg.started",
            Leg(
                "leg-b",
                None,
                Direction.OUTBOUND,
                f"sip:{CLIENT}@sip.example.com",
                f"sip:{CLIENT}@sip.example.com",
                started_at=NOW + 2,
            ),
        ),
        (
            initiated("leg-a", 0, "outgoing", ANN, CLIENT, state="parked"),
            "leg.started",
            Leg("leg-a", Side.STAFF, Direction.OUTBOUND, CLIENT, "ann", started_at=NOW),
        ),
        (
            initiated("leg-a", 0, "incoming", "anonymous", COMPANY),
            "leg.started",
            Leg("leg-a", Side.CLIENT, Direction.INBOUND, "anonymous", started_at=NOW),
        ),
        (
            initiated("leg-a", 0, "incoming", "sip:anonymous@anonymous.invalid", COMPANY),
            "leg.started",
            Leg("leg-a", Side.CLIENT, Direction.INBOUND, "sip:anonymous@anonymous.invalid", started_at=NOW),
        ),
        (answered("leg-a", 3.5), "leg.answered", Leg("leg-a", answered_at=NOW + 3.5)),
        (hangup("leg-a", 60), "leg.ended", Leg("leg-a", ended_at=NOW + 60)),
        (hangup("leg-a", 60, "time_limit"), "leg.ended", Leg("leg-a", ended_at=NOW + 60)),
        (hangup("leg-a", 60, "something_new"), "leg.ended", Leg("leg-a", ended_at=NOW + 60)),
        *(
            (hangup("leg-a", 60, cause), "leg.ended", Leg("leg-a", ended_at=NOW + 60, status=status))
            for cause, status in [
                ("user_busy", CallStatus.BUSY),
                ("no_answer", CallStatus.NO_ANSWER),
                ("timeout", CallStatus.NO_ANSWER),
                ("originator_cancel", CallStatus.CANCELLED),
                ("call_rejected", CallStatus.FAILED),
                ("not_found", CallStatus.FAILED),
                ("unspecified", CallStatus.FAILED),
            ]
        ),
    ],
)
def test_message_of_a_leg(body: bytes, what: str, leg: Leg) -> None:
    one = told(body)
    assert one == Told(what, one.event)
    assert one.event.key == (31337, "session-1")
    assert one.event.legs == (leg,)


@pytest.mark.parametrize("written", ["+12025550199", "2025550199", "+1 (202) 555-0199"])
def test_own_people_may_have_outside_numbers(written: str) -> None:
    body = initiated("leg-b", 2, "outgoing", COMPANY, BOB)
    assert leg_of(body, staff_phones=[written]) == Leg("leg-b", Side.STAFF, extension=BOB, started_at=NOW + 2)
    assert leg_of(initiated("leg-b", 2, "incoming", BOB, COMPANY), staff_phones=[written]).side is Side.STAFF
    assert leg_of(body, staff_phones=["+12025550198"]).side is None


def test_long_names_are_no_extensions() -> None:
    assert leg_of(initiated("b", 0, "outgoing", COMPANY, f"sip:{'a' * 64}@x")).extension == "a" * 64
    assert leg_of(initiated("b", 0, "outgoing", COMPANY, f"sip:{'a' * 65}@x")).extension is None


@pytest.mark.parametrize(
    "other",
    ["call.bridged", "call.speak.ended", "call.machine.detection.ended", "call.cost", "fax.sent", ""],
)
def test_events_of_no_interest(other: str) -> None:
    assert telnyx().parse(webhook(event(other, 1, call_session_id=7)), NOW) == []


@pytest.mark.parametrize(
    "start", [None, "", "yesterday", "2026-01-01T00:00:00", "1999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"]
)
def test_impossible_start_is_passed_over(start: Any) -> None:
    body = initiated("leg-a", 3, "incoming", CLIENT, COMPANY, start_time=start)
    assert leg_of(body).started_at == NOW + 3
    assert leg_of(body.replace(b'"occurred_at": "2026-', b'"occurred_at": "1999-')).started_at is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"data":{}}',
        b"[" * 100_000,
        b'{"data":{"event_type":"call.hangup","payload":' + b"[" * 100_000,
        b"CallSid=1&CallStatus=completed",
        event("call.hangup", 1, call_session_id=None),
        event("call.hangup", 1, call_session_id=""),
        event("call.hangup", 1, call_session_id="x" * 256),
        event("call.hangup", 1, call_session_id="a\nb"),
        event("call.hangup", 1, call_session_id=7),
        event("call.hangup", 1, call_leg_id=None),
        event("call.hangup", 1, call_leg_id="\x00"),
        event("call.initiated", 1, direction="sideways"),
        event("call.initiated", 1),
        initiated("leg-a", 0, "incoming", "1" * 256, COMPANY),
        initiated("leg-a", 0, "incoming", ["1"], COMPANY),  # type: ignore[arg-type]
        event("call.hangup", 1).replace(b"2026-01-01", b"2026-99-01"),
        event("call.answered", 1).replace(b"2026-01-01", b"0001-01-01"),
        event("call.recording.saved", 1),
        event("call.recording.saved", 1, recording_urls=[LINK]),
        event("call.recording.saved", 1, recording_urls={"mp3": "http://s3.example.com/1.mp3"}),
        event("call.recording.saved", 1, recording_urls={"mp3": "https://s3.example.com/ 1.mp3"}),
        event("call.recording.saved", 1, recording_urls={"mp3": 1}),
    ],
)
def test_unreadable_message_is_not_understood(body: bytes) -> None:
    with pytest.raises(NotUnderstood):
        telnyx().parse(webhook(body), NOW + 86_000)


def test_end_without_a_time_is_told_if_its_cause_is() -> None:
    body = hangup("leg-a", 1, "user_busy").replace(b"2026-01-01", b"2026-99-01")
    assert leg_of(body) == Leg("leg-a", status=CallStatus.BUSY)


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [
    *("call_session_id", "call_leg_id", "connection_id", "direction", "state", "from", "to", "start_time"),
    *("hangup_cause", "recording_id", "recording_urls", "public_recording_urls"),
]
NAMES = st.sampled_from(
    ["call.initiated", "call.answered", "call.hangup", "call.recording.saved", "call.recording.error"]
)


@given(NAMES, st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, HOSTILE)), HOSTILE)
def test_any_payload_is_told_or_not_understood(name: str, payload: dict[str, Any], at: Any) -> None:
    known = {"call_session_id": "s", "call_leg_id": "l", "direction": "incoming", **payload}
    data = {"event_type": name, "occurred_at": at, "payload": known}
    body = json.dumps({"data": data}).encode()
    provider = telnyx(connection_id="7267", api_key="k" * 9)
    try:
        found = provider.parse(webhook(body), NOW)
    except NotUnderstood:
        return
    assert all(one.event.key.account_id == 31337 for one in found)


@given(
    st.binary(max_size=300),
    st.binary(max_size=100),
    st.text("0123456789-+. x", max_size=14),
    st.floats(0, 4e9),
)
def test_any_bytes_are_refused_or_not_understood(
    body: bytes, signature: bytes, stamp: str, now: float
) -> None:
    shown = signature.decode("utf-8", "surrogateescape")
    headers = {"telnyx-signature-ed25519": shown, "telnyx-timestamp": stamp}
    with pytest.raises(InputRefused):
        telnyx(connection_id="1").verify(webhook(body, headers, rest=shown), now)
    telnyx(connection_id="1").verify(signed(body), NOW)
    with pytest.raises(NotUnderstood):
        telnyx().parse(webhook(body), now)


# Whole calls.


def test_answered_inbound_call() -> None:
    call = folded(
        [
            initiated("a", 0, "incoming", CLIENT, COMPANY, state="parked"),
            answered("a", 1),
            initiated("b", 2, "outgoing", COMPANY, ANN, state="bridging"),
            answered("b", 8),
            event("call.bridged", 8, "a"),
            hangup("b", 71.4),
            hangup("a", 71.5),
        ]
    )
    assert (call.facts.direction, call.facts.phone) == (Direction.INBOUND, CLIENT)
    assert is_answered(call, 63)
    assert extension(call) == "ann"
    assert call.facts.started_at == NOW


def test_call_has_not_ended_while_the_client_is_there() -> None:
    bodies = [
        initiated("a", 0, "incoming", CLIENT, COMPANY),
        answered("a", 1),
        initiated("b", 2, "outgoing", COMPANY, ANN),
        hangup("b", 22, "no_answer"),
    ]
    assert folded(bodies).facts.outcome is None


def test_inbound_call_that_only_the_application_answered() -> None:
    call = folded([initiated("a", 0, "incoming", CLIENT, COMPANY), answered("a", 1), hangup("a", 31)])
    assert is_answered(call, 30)
    assert extension(call) is None


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        ("user_busy", CallStatus.BUSY),
        ("no_answer", CallStatus.NO_ANSWER),
        ("originator_cancel", CallStatus.CANCELLED),
        ("not_found", CallStatus.FAILED),
        ("normal_clearing", CallStatus.NO_ANSWER),
    ],
)
def test_outbound_call_that_nobody_answered(cause: str, status: CallStatus) -> None:
    call = folded([initiated("a", 0, "outgoing", COMPANY, CLIENT), hangup("a", 20, cause)])
    assert (call.facts.direction, call.facts.phone) == (Direction.OUTBOUND, CLIENT)
    assert call.facts.outcome == Outcome(status, 0)


def test_answered_outbound_call() -> None:
    call = folded([initiated("a", 0, "outgoing", COMPANY, CLIENT), answered("a", 10), hangup("a", 30)])
    assert (call.facts.direction, call.facts.phone) == (Direction.OUTBOUND, CLIENT)
    assert is_answered(call, 20)
    assert extension(call) is None


def test_outbound_call_of_an_own_telephone() -> None:
    bodies = [
        initiated("a", 0, "outgoing", ANN, CLIENT, state="parked"),
        initiated("b", 1, "outgoing", COMPANY, CLIENT, state="bridging"),
        hangup("b", 20, "user_busy"),
        hangup("a", 21),
    ]
    call = folded(bodies)
    assert (call.facts.direction, call.facts.phone) == (Direction.OUTBOUND, CLIENT)
    assert call.facts.outcome == Outcome(CallStatus.BUSY, 0)
    assert extension(call) == "ann"


@pytest.mark.parametrize("agent", [ANN, BOB])
def test_agent_who_is_called_first_is_not_the_client(agent: str) -> None:
    bodies = [
        initiated("a", 0, "outgoing", COMPANY, agent, state="bridging"),
        answered("a", 5),
        initiated("b", 6, "outgoing", COMPANY, CLIENT, state="bridging"),
        hangup("b", 26, "no_answer"),
        hangup("a", 27),
    ]
    call = folded(bodies, staff_phones=[BOB])
    assert (call.facts.direction, call.facts.phone) == (Direction.OUTBOUND, CLIENT)
    assert call.facts.outcome == Outcome(CallStatus.NO_ANSWER, 0)


def test_missed_and_busy_inbound_calls() -> None:
    for cause, status in (("no_answer", CallStatus.NO_ANSWER), ("user_busy", CallStatus.BUSY)):
        call = folded(
            [
                initiated("a", 0, "incoming", CLIENT, COMPANY),
                answered("a", 1),
                initiated("b", 2, "outgoing", COMPANY, ANN),
                hangup("b", 22, cause),
                hangup("a", 23),
            ]
        )
        assert call.facts.outcome == Outcome(status, 0)
        assert call.facts.phone == CLIENT
        assert extension(call) == "ann"


def test_client_who_gave_up() -> None:
    call = folded([initiated("a", 0, "incoming", CLIENT, COMPANY), hangup("a", 9, "originator_cancel")])
    assert call.facts.outcome == Outcome(CallStatus.CANCELLED, 0)


def test_one_of_three_answers() -> None:
    bodies = [initiated("a", 0, "incoming", CLIENT, COMPANY), answered("a", 1)]
    for name in ("ann", "bob", "eve"):
        bodies.append(initiated(name, 2, "outgoing", COMPANY, f"sip:{name}@sip.telnyx.com"))
    bodies += [answered("bob", 9), hangup("ann", 9.1, "originator_cancel"), hangup("eve", 9.2, "user_busy")]
    bodies += [hangup("bob", 39), hangup("a", 39.1)]
    call = folded(bodies)
    assert is_answered(call, 30)
    assert extension(call) == "bob"
    assert call.facts.phone == CLIENT


@pytest.mark.parametrize("consulted_s", [0, 20])
def test_transfer_is_one_call(consulted_s: int) -> None:
    """Blind, and attended: while the second agent is asked, the first one has the client on hold."""
    bodies = [
        initiated("a", 0, "incoming", CLIENT, COMPANY),
        answered("a", 1),
        initiated("b", 2, "outgoing", COMPANY, ANN),
        answered("b", 10),
        initiated("c", 35, "outgoing", COMPANY, BOB),
        answered("c", 40),
        hangup("b", 40 + consulted_s),
        hangup("c", 100),
        hangup("a", 100),
    ]
    call = folded(bodies)
    assert (call.facts.direction, call.facts.phone) == (Direction.INBOUND, CLIENT)
    assert is_answered(call, 90)
    assert extension(call) == BOB


def test_recording_may_come_first() -> None:
    bodies = [saved(), initiated("a", 0, "incoming", CLIENT, COMPANY), answered("a", 1), hangup("a", 31)]
    call = folded(bodies)
    assert call.recording.url == LINK
    assert call.recording.state is RecordingState.EXPECTED
    assert is_answered(call, 30)


# Recordings.


@pytest.mark.parametrize(
    ("payload", "url"),
    [
        ({}, LINK),
        ({"recording_urls": {"wav": "https://x.example/1.wav"}}, "https://x.example/1.wav"),
        ({"recording_urls": {"wav": "https://x.example/1.wav", "mp3": LINK}}, LINK),
        ({"public_recording_urls": {"mp3": "https://x.example/p.mp3"}}, "https://x.example/p.mp3"),
        ({"public_recording_urls": {"mp3": None, "wav": None}}, LINK),
        ({"public_recording_urls": ""}, LINK),
    ],
)
def test_recording_without_an_api_key_is_its_link(payload: dict[str, Any], url: str) -> None:
    one = told(saved(**payload))
    assert (one.what, one.event.recording.url) == ("recording.ready", url)
    assert one.event.legs == ()


@pytest.mark.parametrize(
    ("payload", "url"),
    [
        ({"recording_id": "3fa85f64-5717"}, "telnyx:3fa85f64-5717"),
        ({"recording_id": "../x"}, "telnyx:leg/leg-a"),
        ({}, "telnyx:leg/leg-a"),
        ({"call_leg_id": None}, "telnyx:session/session-1"),
    ],
)
def test_recording_with_an_api_key_is_a_reference(payload: dict[str, Any], url: str) -> None:
    key = secrets.token_hex(16)
    assert told(saved(**payload), api_key=key).event.recording.url == url
    conference = saved(**payload).replace(b"call.recording", b"conference.recording")
    assert told(conference, api_key=key).event.recording.url == url


def test_recording_that_failed() -> None:
    one = told(event("call.recording.error", 1, reason="Internal server error"))
    assert (one.what, one.event.recording.state) == ("recording.failed", RecordingState.NEVER)


def found(provider: Telnyx, reference: str, answer: Any, status: int = 200) -> tuple[Ask, Ask]:
    """Return what is asked for a recording, and what its answer leads to."""
    errand = provider.find_recording(reference, NOW)
    asked = next(errand)
    with pytest.raises(StopIteration) as done:
        errand.send(Got(status=status, body=json.dumps(answer).encode()))
    return asked, done.value.value


def test_recording_is_found_by_its_id() -> None:
    key = secrets.token_hex(16)
    asked, ask = found(telnyx(api_key=key), "3fa85f64-5717", {"data": {"download_urls": {"mp3": LINK}}})
    assert asked.url == "https://api.telnyx.com/v2/recordings/3fa85f64-5717"
    assert asked.headers == {"Authorization": f"Bearer {key}"}
    assert ask == Ask(url=LINK)


@pytest.mark.parametrize(("kind", "field"), [("leg", "call_leg_id"), ("session", "call_session_id")])
def test_longest_recording_of_a_leg_is_found(kind: str, field: str) -> None:
    several = [
        {"id": "1", "duration_millis": 5, "download_urls": {"mp3": "https://x.example/1"}},
        {"id": "2", "duration_millis": 9000, "download_urls": {"wav": LINK}},
        {"id": "3", "duration_millis": None, "download_urls": {"mp3": "https://x.example/3"}},
    ]
    asked, ask = found(telnyx(api_key="k" * 20), f"{kind}/a&b=/", {"data": several})
    assert parse_qs(urlsplit(asked.url).query) == {f"filter[{field}]": ["a&b=/"]}
    assert ask == Ask(url=LINK)


@pytest.mark.parametrize(
    ("reference", "answer", "status", "is_final"),
    [
        ("1", {"data": {}}, 200, False),
        ("leg/1", {"data": []}, 200, False),
        ("1", {"data": {"download_urls": {"mp3": "http://x.example/1"}}}, 200, True),
        ("1", {"data": 1}, 200, False),
        ("1", {}, 404, False),
        ("1", {}, 401, True),
        ("1", {}, 500, False),
    ],
)
def test_recording_that_is_not_found(reference: str, answer: Any, status: int, is_final: bool) -> None:
    errand = telnyx(api_key="k" * 20).find_recording(reference, NOW)
    next(errand)
    with pytest.raises(ErrandFailed) as caught:
        errand.send(Got(status=status, body=json.dumps(answer).encode()))
    assert caught.value.is_final is is_final


@pytest.mark.parametrize(
    "reference", ["", "..", "../x", "leg/", "other/1", "https://x.example/", "a b", "a?b"]
)
def test_reference_that_is_none_of_telnyx(reference: str) -> None:
    with pytest.raises(ErrandFailed) as caught:
        next(telnyx(api_key="k" * 20).find_recording(reference, NOW))
    assert caught.value.is_final


def test_nothing_is_asked_without_an_api_key() -> None:
    for errand in (telnyx().find_recording("1", NOW), telnyx(connection_id="1").list_calls(NOW, NOW, NOW)):
        with pytest.raises(ErrandFailed, match="api_key") as caught:
            next(errand)
        assert caught.value.is_final


def test_key_goes_to_the_configured_address_alone() -> None:
    provider = telnyx(api_key="k" * 20, api_url="http://127.0.0.1:9/")
    assert next(provider.find_recording("1", NOW)).url == "http://127.0.0.1:9/v2/recordings/1"


# Listed calls.


def row(body: bytes, shape: str = "payload", **more: Any) -> dict[str, Any]:
    """Return an event as Telnyx lists it; the form of `metadata` is not described."""
    data = json.loads(body)["data"]
    payload = data["payload"]
    metadata = {
        "payload": data,
        "data": {"data": data},
        "flat": {"raw": 1, **payload},
        "nested": {"raw_event": payload},
        "none": {},
        "text": "call.hangup",
    }[shape]
    return {
        "record_type": "call_event",
        "type": "webhook",
        "name": data["event_type"],
        "call_leg_id": payload["call_leg_id"],
        "call_session_id": payload["call_session_id"],
        "event_timestamp": data["occurred_at"],
        "metadata": metadata,
        **more,
    }


def listed(pages: Sequence[Any], since: float = NOW - 60, **settings: Any) -> tuple[list[Ask], list[Told]]:
    provider = telnyx(**{"api_key": "k" * 20, "connection_id": "7267", **settings})
    errand = provider.list_calls(since, NOW + 3600, NOW + 7200)
    asked: list[Ask] = []
    tells: list[Told] = []
    left = list(pages)
    step = next(errand)
    while True:
        try:
            if isinstance(step, Ask):
                asked.append(step)
                step = errand.send(Got(status=200, body=json.dumps(left.pop(0)).encode()))
            else:
                tells += step
                step = errand.send(None)
        except StopIteration:
            return asked, tells


INBOUND = [
    initiated("a", 0, "incoming", CLIENT, COMPANY),
    answered("a", 1),
    initiated("b", 2, "outgoing", COMPANY, ANN),
    answered("b", 8),
    hangup("b", 71),
    hangup("a", 71),
]


@pytest.mark.parametrize("shape", ["payload", "data", "flat", "nested"])
def test_listed_call_is_the_one_that_webhooks_told_of(shape: str) -> None:
    rows = [row(body, shape) for body in (*INBOUND, saved(call_leg_id="a"))]
    asked, tells = listed([{"data": rows, "meta": {"total_pages": 1}}])
    assert len(asked) == 1
    assert len(tells) == 7
    call = folded([*INBOUND, saved(call_leg_id="a")], api_key="k" * 20)
    for one in tells:
        assert fold(call, one.event, NOW) is call
    alone = made([one.event for one in tells])
    assert (alone.facts, alone.recording) == (call.facts, call.recording)
    assert json.loads(tells[0].body or b"") == rows[0]


def test_ids_of_a_listed_event_are_those_beside_it() -> None:
    rows = [row(body) for body in INBOUND]
    for one in rows:
        del one["metadata"]["payload"]["call_session_id"], one["metadata"]["payload"]["call_leg_id"]
    tells = listed([{"data": rows}])[1]
    assert made([one.event for one in tells]).facts == folded(INBOUND).facts


def test_list_is_asked_for_page_by_page() -> None:
    rows = [row(body) for body in INBOUND]
    meta = {"total_pages": 3}
    asked, tells = listed(
        [
            {"data": rows[:2], "meta": meta},
            {"data": rows[2:4], "meta": meta},
            {"data": rows[4:], "meta": meta},
        ]
    )
    queries = [parse_qs(urlsplit(one.url).query) for one in asked]
    assert [one["page[number]"] for one in queries] == [["1"], ["2"], ["3"]]
    assert queries[0]["filter[occurred_at][gte]"] == ["2025-12-31T19:59:00Z"]
    assert queries[0]["filter[connection_id]"] == ["7267"]
    assert all(one.headers == {"Authorization": f"Bearer {'k' * 20}"} for one in asked)
    assert len(tells) == 6


def test_pages_that_repeat_or_are_not_counted_end() -> None:
    rows = [row(body) for body in INBOUND]
    asked, tells = listed([{"data": rows, "meta": {"total_pages": 9}}] * 9)
    assert (len(asked), len(tells)) == (2, 6)
    asked, _ = listed([{"data": rows}])
    assert len(asked) == 1
    many = [row(event("call.speak.ended", 1, leg=str(number))) for number in range(250)]
    asked, tells = listed([{"data": many}, {"data": rows}])
    assert (len(asked), len(tells)) == (2, 6)


def test_endless_list_fails() -> None:
    errand = telnyx(api_key="k" * 20, connection_id="7267").list_calls(NOW, NOW, NOW)
    next(errand)
    with pytest.raises(ErrandFailed, match="1000 pages") as caught:
        answer_for_ever(errand)
    assert caught.value.is_final


def answer_for_ever(errand: Generator[Any, Got | None, None]) -> None:
    for number in range(2000):
        body = {"data": [row(event("call.cost", 1, leg=str(number)))], "meta": {"total_pages": 10**9}}
        errand.send(Got(status=200, body=json.dumps(body).encode()))


@pytest.mark.parametrize(
    "rows",
    [
        [row(body) for body in INBOUND[:5]],  # not ended
        [row(body) for body in INBOUND[1:2]],  # begun earlier
        [row(event("call.hangup", 9, start_time=iso(1)))],  # its beginning is not listed
        [row(initiated("a", 0, "incoming", CLIENT, COMPANY, start_time=EARLIER)), row(hangup("a", 1))],
        [{"name": 1}, 1, None, []],
        [row(hangup("a", 1), call_session_id="\n")],
    ],
)
def test_calls_that_are_not_told(rows: list[Any]) -> None:
    assert listed([{"data": rows}])[1] == []


@pytest.mark.parametrize("shape", ["none", "text"])
def test_list_that_holds_no_events_fails(shape: str) -> None:
    with pytest.raises(ErrandFailed, match="do not hold") as caught:
        listed([{"data": [row(body, shape) for body in INBOUND]}])
    assert caught.value.is_final
    # One that cannot be read is left out, and so is its call.
    other = [row(body, shape, call_session_id="session-2") for body in INBOUND]
    tells = listed([{"data": [*other, *map(row, INBOUND)]}])[1]
    assert {one.event.key.call_id for one in tells} == {"session-1"}


def test_only_a_day_is_listed() -> None:
    rows = [row(body) for body in INBOUND]
    provider = telnyx(api_key="k" * 20, connection_id="7267")
    errand = provider.list_calls(NOW - 60, NOW + 60, NOW + 87_000)
    next(errand)
    assert len(list(errand.send(Got(status=200, body=json.dumps({"data": rows}).encode())) or [])) == 6  # type: ignore[arg-type]
    with pytest.raises(ErrandFailed, match="24 hours") as caught:
        errand.send(None)
    assert caught.value.is_final


def test_list_needs_the_connection() -> None:
    with pytest.raises(ErrandFailed, match="connection_id") as caught:
        next(telnyx(api_key="k" * 20).list_calls(NOW, NOW, NOW))
    assert caught.value.is_final
