"""The generic VoIP service: who may speak, and what is understood."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from standardwebhooks import Webhook, WebhookVerificationError

from calllogd.domain.call import (
    CallKey,
    CallStatus,
    Direction,
    Facts,
    Outcome,
    Person,
    Recording,
    RecordingState,
)
from calllogd.errors import InputRefused
from calllogd.voip.provider.generic import BearerToken, Generic
from tests.fakes import ACCOUNT, START

TOKEN = "a-token-of-16-characters"
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
GENERIC = Generic(ACCOUNT, tokens=[BearerToken(TOKEN)])
SIGNED = Generic(ACCOUNT, signing_secrets=[SECRET])
LEFT_OUT = object()
ENDED = {
    "event": "call.ended",
    "call_id": "c1",
    "direction": "inbound",
    "phone": "+1 212 555 0123",
    "duration": 42,
    "status": "answered",
}
READY = {"event": "recording.ready", "call_id": "c1", "recording_url": "https://voip.example/1.mp3"}


def headers(**values: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict({name.replace("_", "-"): value for name, value in values.items()}))


def body(base: dict[str, Any] = ENDED, **changes: Any) -> bytes:
    message = {**base, **changes}
    return json.dumps({key: value for key, value in message.items() if value is not LEFT_OUT}).encode()


def refusal(sent: bytes) -> InputRefused:
    with pytest.raises(InputRefused) as refused:
        GENERIC.parse(sent, START)
    return refused.value


def test_a_full_message() -> None:
    what, event = GENERIC.parse(
        body(
            extension="101",
            user_id=111,
            started_at=START - 60,
            recording_url="https://voip.example/1.mp3",
            more={"is": ["passed", "over"]},
        ),
        START,
    )
    assert what == "call.ended"
    assert event.key == CallKey(ACCOUNT, "c1")
    assert event.facts == Facts(
        direction=Direction.INBOUND,
        phone="+1 212 555 0123",
        person=Person(4, "101", 111),
        started_at=START - 60,
        outcome=Outcome(CallStatus.ANSWERED, 42),
    )
    assert event.recording == Recording(state=RecordingState.EXPECTED, url="https://voip.example/1.mp3")


@pytest.mark.parametrize("status", CallStatus)
def test_every_status(status: CallStatus) -> None:
    _, event = GENERIC.parse(body(status=status.value, duration=0), START)
    assert event.facts.outcome == Outcome(status, 0)


@pytest.mark.parametrize("name", ["call.started", "call.answered"])
def test_a_call_under_way_has_no_outcome(name: str) -> None:
    what, event = GENERIC.parse(body(event=name), START)
    assert what == name
    assert event.facts.outcome is None
    assert event.facts.direction is Direction.INBOUND


def test_a_recording_may_come_with_nothing_else() -> None:
    _, event = GENERIC.parse(body(READY), START)
    assert event.facts == Facts()
    assert event.recording == Recording(state=RecordingState.EXPECTED, url=READY["recording_url"])
    _, event = GENERIC.parse(body({"event": "recording.failed", "call_id": "c1"}), START)
    assert event.recording == Recording(state=RecordingState.NEVER)


def test_who_spoke_last_counts_more() -> None:
    weights = []
    for changes in (
        {"event": "call.started", "status": LEFT_OUT},
        {"event": "call.answered", "status": LEFT_OUT},
        {"status": "no_answer"},
        {"status": "answered"},
    ):
        person = GENERIC.parse(body({**ENDED, "extension": "101", **changes}), START)[1].facts.person
        assert person is not None
        weights.append(person.weight)
    assert weights == sorted(set(weights))
    assert GENERIC.parse(body(), START)[1].facts.person is None


@pytest.mark.parametrize(
    ("started_at", "seconds"),
    [
        (START, START),
        (int(START), START),
        (START - 0.25, START - 0.25),
        (START + 86_000, START + 86_000),
        ("2025-10-09T08:53:20Z", START),
        ("2025-10-09T08:53:20+00:00", START),
        ("2025-10-09T11:53:20+03:00", START),
        ("2025-10-09T08:53:20.5Z", START + 0.5),
        (None, None),
    ],
)
def test_the_start_of_a_call(started_at: object, seconds: float | None) -> None:
    assert datetime.fromtimestamp(START, UTC).isoformat() == "2025-10-09T08:53:20+00:00"
    assert GENERIC.parse(body(started_at=started_at), START)[1].facts.started_at == seconds


@pytest.mark.parametrize(
    "started_at",
    [
        START * 1000,
        START + 90_000,
        0,
        -1,
        946_684_799,
        "2025-10-09T08:53:20",
        "2025-10-09",
        "yesterday",
        "",
        str(int(START)),
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        True,
        [],
        {},
    ],
)
def test_what_cannot_be_the_start_of_a_call(started_at: object) -> None:
    assert refusal(body(started_at=started_at)).code == "invalid"


MISSING = [
    *(("call.ended", field) for field in ("call_id", "direction", "phone", "duration", "status")),
    *(("call.started", field) for field in ("call_id", "direction", "phone")),
    *(("call.answered", field) for field in ("call_id", "direction", "phone")),
    ("recording.ready", "recording_url"),
    ("recording.failed", "call_id"),
    ("call.ended", "event"),
]


@pytest.mark.parametrize("how", [LEFT_OUT, None])
@pytest.mark.parametrize(("event", "field"), MISSING)
def test_a_field_that_is_missing_is_named(event: str, field: str, how: object) -> None:
    whole = {**ENDED, **READY, "event": event}
    GENERIC.parse(body(whole), START)
    refused = refusal(body({**whole, field: how}))
    assert refused.code == "invalid"
    assert field in refused.detail


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event", "call.exploded"),
        ("event", 5),
        ("call_id", ""),
        ("call_id", "x" * 256),
        ("call_id", 5),
        ("call_id", ["c1"]),
        ("direction", "sideways"),
        ("direction", "INBOUND"),
        ("phone", 12125550123),
        ("phone", "0" * 256),
        ("extension", 101),
        ("extension", "1" * 65),
        ("user_id", "x"),
        ("user_id", 0),
        ("user_id", 2**53),
        ("user_id", True),
        ("duration", -1),
        ("duration", "42"),
        ("duration", 42.5),
        ("duration", True),
        ("duration", 10**30),
        ("duration", 10_000_001),
        ("status", "fine"),
        ("status", 4),
        ("recording_url", 5),
        ("recording_url", "https://voip.example/" + "x" * 2000),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(field: str, value: object) -> None:
    refused = refusal(body({**ENDED, field: value}))
    assert refused.code == "invalid"
    assert f"$.{field}" in refused.detail or field in refused.detail


@pytest.mark.parametrize("control", ["\x00", "\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\x9f"])
def test_control_characters_have_no_place_in_an_id(control: str) -> None:
    assert refusal(body(call_id=f"c{control}1")).code == "invalid"


@pytest.mark.parametrize("call_id", ["c1", "1" * 255, "ü" * 255, "☎", " ", "a/b", "..", '"', "🦊"])
def test_any_other_id_is_kept_as_it_is(call_id: str) -> None:
    assert GENERIC.parse(body(call_id=call_id), START)[1].key.call_id == call_id


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b" ",
        b"{",
        b"call.ended",
        b'{"event": "call.ended",}',
        b"{'event': 'call.ended'}",
        b"\xef\xbb\xbf" + body(),
        body().decode().encode("utf-16"),
        body(phone="x").replace(b'"x"', b'"\xe9"'),
        body(phone="x").replace(b'"x"', b'"\\ud800"'),
        body(phone="x").replace(b'"x"', b'"\\udc00\\ud800"'),
        body(phone="x").replace(b'"x"', b'"\n"'),
        body().replace(b"42", b"NaN"),
        body().replace(b"42", b"Infinity"),
        body() + body(),
        b"\x00" + body(),
        body().replace(b"}", b', "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    ],
    ids=lambda sent: repr(sent[:40]),
)
def test_a_body_that_is_not_json_is_refused(sent: bytes) -> None:
    assert refusal(sent).code == "malformed"


@pytest.mark.parametrize(
    "sent",
    [b"[]", b"null", b"5", b'"call.ended"', b"[" + body() + b"]", b"[" * 30_000, b'{"event":' * 7_000],
    ids=lambda sent: repr(sent[:20]),
)
def test_a_body_that_is_no_object_is_refused(sent: bytes) -> None:
    assert refusal(sent).code == "invalid"


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"9" * 500, b"1" + b"0" * 30_000])
@pytest.mark.parametrize("field", ["duration", "started_at", "user_id"])
def test_a_number_beyond_all_bounds_is_refused(field: str, number: bytes) -> None:
    sent = body({**ENDED, field: "N"}).replace(b'"N"', number)
    assert refusal(sent).code in {"invalid", "malformed"}


@pytest.mark.parametrize(
    "url",
    [
        "https://voip.example/1.mp3",
        "https://voip.example:8443/r?id=1&t=a%20b#x",
        "http://127.0.0.1:9000/1.mp3",
        "http://127.1.2.3/1.mp3",
        "http://[::1]/1.mp3",
        "HTTPS://voip.example/1.mp3",
    ],
)
def test_where_a_recording_may_be(url: str) -> None:
    assert GENERIC.parse(body(READY, recording_url=url), START)[1].recording.url == url
    assert GENERIC.parse(body(recording_url=url), START)[1].recording.url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://voip.example/1.mp3",
        "http://10.0.0.1/1.mp3",
        "http://127.0.0.1.example/1.mp3",
        "http://127.0.0.1@evil.example/",
        "ftp://voip.example/1.mp3",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "//voip.example/1.mp3",
        "/1.mp3",
        "https://",
        "https:///1.mp3",
        "https://[::1",
        "https://voip.example/\n1.mp3",
        "https://voip.example/1 2.mp3",
        " https://voip.example/1.mp3",
        "",
    ],
)
def test_where_no_recording_is_fetched_from(url: str) -> None:
    assert "recording_url" in refusal(body(READY, recording_url=url)).detail
    assert "recording_url" in refusal(body(recording_url=url)).detail


def test_an_address_in_a_message_that_has_no_business_with_it_is_passed_over() -> None:
    _, event = GENERIC.parse(body(event="call.started", recording_url="nonsense"), START)
    assert event.recording == Recording()


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(ENDED)), inner, max_size=6)
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode())
)
@settings(max_examples=300)
def test_whatever_comes_is_understood_or_refused(sent: bytes) -> None:
    try:
        code = f"call {GENERIC.parse(sent, START)[1].key.call_id!r}"
    except InputRefused as refused:
        code = refused.code
    assert code in {"malformed", "invalid"} or code.startswith("call ")


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN} "])
def test_the_token_is_shown(value: str) -> None:
    GENERIC.verify(headers(Authorization=value), b"", START)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong-token-of-16-chars",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Basic {base64.b64encode(TOKEN.encode()).decode()}",
        f"Token {TOKEN}",
        TOKEN,
        "Bearer tökén",
        "Bearer \udce9",
        f"Bearer {TOKEN} {TOKEN}",
    ],
)
def test_no_other_token_will_do(value: str | None) -> None:
    shown = headers() if value is None else headers(Authorization=value)
    with pytest.raises(InputRefused) as refused:
        GENERIC.verify(shown, b"", START)
    assert refused.value.code == "unauthorized"
    assert TOKEN not in refused.value.detail


def test_an_account_without_a_token_takes_no_token() -> None:
    for value in ("Bearer ", "Bearer None", f"Bearer {TOKEN}"):
        with pytest.raises(InputRefused):
            SIGNED.verify(headers(Authorization=value), b"", START)


def signed(
    sent: bytes, *, secret: str = SECRET, at: float = START, message_id: str = "msg_1"
) -> dict[str, str]:
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": Webhook(secret).sign(
            message_id, datetime.fromtimestamp(int(at), UTC), sent.decode()
        ),
    }


def accepted(sent: bytes, shown: dict[str, str], now: float = START) -> bool:
    try:
        SIGNED.verify(CIMultiDictProxy(CIMultiDict(shown)), sent, now)
    except InputRefused as refused:
        return refused.code != "unauthorized"
    return True


def oracle(sent: bytes, shown: dict[str, str]) -> bool:
    try:
        Webhook(SECRET).verify(sent, shown, json_parse=False)
    except (WebhookVerificationError, ValueError):
        return False
    return True


OTHER = "whsec_" + base64.b64encode(b"another-key-of-24-bytes!").decode()
WRONG = "v1," + base64.b64encode(b"w" * 32).decode()


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({}, True),
        ({"webhook-id": "msg_2"}, False),
        ({"webhook-id": None}, False),
        ({"webhook-timestamp": None}, False),
        ({"webhook-signature": ""}, False),
        ({"webhook-id": ""}, False),
        ({"webhook-timestamp": "+5"}, False),
        ({"webhook-timestamp": "five"}, False),
        ({"webhook-timestamp": "-60"}, False),
        ({"webhook-timestamp": "1.5"}, False),
        ({"webhook-signature": WRONG}, False),
        ({"webhook-signature": "v1,"}, False),
        ({"webhook-signature": "v1,%%%"}, False),
        ({"webhook-signature": "v1,ünï"}, False),
        ({"webhook-signature": "v1"}, False),
        ({"webhook-signature": "garbage"}, False),
        ({"webhook-signature": "v2,{}"}, False),
        ({"webhook-signature": "v1a,{}"}, False),
        ({"webhook-signature": f"{WRONG} v1,{{}}"}, True),
        ({"webhook-signature": f"v1,{{}} {WRONG}"}, True),
        ({"webhook-signature": f"v1a,AAAA {WRONG} v1,{{}}"}, True),
    ],
)
def test_signatures_agree_with_the_library(changes: dict[str, str | None], *, right: bool) -> None:
    """The library has only the machine's clock, so here now is now."""
    now = datetime.now(UTC).timestamp()
    shown = signed(body(), at=now)
    own = shown["webhook-signature"].partition(",")[2]
    for name, value in changes.items():
        if value is None:
            del shown[name]
        else:
            shown[name] = value.replace("{}", own)
    assert oracle(body(), shown) is right
    assert accepted(body(), shown, now) is right


@pytest.mark.parametrize("age", [-299, -60, 0, 60, 299])
def test_a_signature_of_about_now_is_accepted(age: float) -> None:
    now = datetime.now(UTC).timestamp()
    shown = signed(body(), at=now - age)
    assert oracle(body(), shown)
    assert accepted(body(), shown, now)


@pytest.mark.parametrize("age", [-86400, -302, 302, 86400, START])
def test_a_signature_of_another_time_is_refused(age: float) -> None:
    now = datetime.now(UTC).timestamp()
    shown = signed(body(), at=now - age)
    assert not oracle(body(), shown)
    assert not accepted(body(), shown, now)


def test_a_tampered_body_is_refused() -> None:
    shown = signed(body())
    assert accepted(body(), shown)
    assert not accepted(body(duration=43), shown)
    assert not accepted(body() + b" ", shown)


def test_a_signature_with_another_key_is_refused() -> None:
    assert not accepted(body(), signed(body(), secret=OTHER))


def test_a_signature_is_enough_and_its_lack_is_not() -> None:
    both = Generic(ACCOUNT, tokens=[BearerToken(TOKEN)], signing_secrets=[SECRET])
    both.verify(CIMultiDictProxy(CIMultiDict(signed(body()))), body(), START)
    both.verify(headers(Authorization=f"Bearer {TOKEN}"), body(), START)
    with pytest.raises(InputRefused):
        SIGNED.verify(headers(), body(), START)


@given(st.binary(max_size=80), st.text(max_size=20), st.text(max_size=80))
def test_no_garbage_in_the_headers_is_accepted_or_breaks_anything(
    sent: bytes, message_id: str, signature: str
) -> None:
    shown = {"webhook-id": message_id, "webhook-timestamp": str(int(START)), "webhook-signature": signature}
    assert not accepted(sent, shown)
    assert not accepted(sent, {**shown, "webhook-timestamp": signature})


def test_an_endless_timestamp_is_refused() -> None:
    shown = {"webhook_id": "x", "webhook_timestamp": "1" * 5000, "webhook_signature": "v1,x"}
    with pytest.raises(InputRefused):
        SIGNED.verify(headers(**shown), b"", START)


@pytest.mark.parametrize(
    ("field", "word"), [("status", "no_answer"), ("direction", "outbound"), ("event", "call.ended")]
)
def test_a_wrong_word_is_told_the_right_ones(field: str, word: str) -> None:
    sent = {"event": "call.ended", "call_id": "c1", "direction": "inbound", "phone": "1", "duration": 0}
    with pytest.raises(InputRefused, match=word):
        GENERIC.parse(json.dumps({**sent, "status": "busy", field: "nope"}).encode(), START)
