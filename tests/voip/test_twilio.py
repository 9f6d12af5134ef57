"""Twilio's callbacks: the proof, what each says, whole calls in any order, recordings, and listed calls."""

import base64
import hashlib
import hmac
import json
import random
import secrets
import time
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import permutations
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from calllogd.domain.call import (
    Call,
    CallStatus,
    Direction,
    Leg,
    Outcome,
    Recording,
    RecordingState,
    Side,
)
from calllogd.domain.merge import CallEvent, fold
from calllogd.errors import InputRefused
from calllogd.voip.errand import Ask, ErrandFailed, Got, KeepsRecordings, ListsCalls
from calllogd.voip.proof import BearerToken
from calllogd.voip.provider import NotUnderstood, Provider, Told, services
from calllogd.voip.provider.twilio import LONGEST_S, SERVICE, Twilio
from calllogd.voip.webhook import EMPTY, Webhook

OURS = [
    one
    for one in json.loads((Path(__file__).parent / "vectors.json").read_text())["vectors"]
    if one["provider"] == "twilio"
]

NOW = 1_767_225_600.0
URL = "https://calls.example.com/voip/twilio/31337"
TOKEN, OLD_TOKEN = secrets.token_hex(16), secrets.token_hex(16)
SHARED, OLD_SHARED = secrets.token_hex(24), secrets.token_hex(24)
SID = "AC" + secrets.token_hex(16)
CLIENT, COMPANY, BOB, CAROL = "+15005550006", "+12025550143", "+12025550199", "+12025550188"
SHA256 = {"X-Twilio-Webhooks-Signature-Settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"}
RECORDING = f"https://api.twilio.com/2010-04-01/Accounts/{SID}/Recordings/RE{'1' * 32}"
FORM = "application/x-www-form-urlencoded"


def twilio(tokens: Sequence[BearerToken] = (), **settings: Any) -> Twilio:
    values = {name: setting.default for name, setting in SERVICE.settings.items()}
    for name, value in {"auth_token": TOKEN, **settings}.items():
        values[name] = None if value is None else SERVICE.settings[name].read(value)
    provider = SERVICE.make(31337, values, tokens)
    assert isinstance(provider, Twilio)
    return provider


def webhook(
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    url: str = URL,
    method: str = "POST",
    rest: str = "",
) -> Webhook:
    known = {"Content-Type": FORM, **(headers or {})}
    return Webhook(method=method, url=url, headers=CIMultiDict(known), body=body, rest=rest)


def signed(
    fields: Mapping[str, str] | Sequence[tuple[str, str]],
    secret: str = TOKEN,
    *,
    digest: str = "sha1",
    url: str = URL,
    rest: str = "",
    headers: Mapping[str, str] | None = None,
) -> Webhook:
    pairs = list(fields.items()) if isinstance(fields, Mapping) else list(fields)
    text = url + "".join(name + value for name, value in sorted(pairs))
    signature = sign(secret, text, digest)
    body = urlencode(pairs).encode()
    return webhook(body, {"X-Twilio-Signature": signature, **(headers or {})}, url=url, rest=rest)


def sign(secret: str, text: str, digest: str = "sha1") -> str:
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), digest)).decode()


def rfc2822(after_s: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + after_s, UTC))


def leg(sid: str, status: str, after_s: float, **more: str) -> dict[str, str]:
    """Return a status callback: of CA1, the parent, or of a leg that it had added."""
    known = {
        "CallSid": sid,
        "AccountSid": SID,
        "CallStatus": status,
        "ApiVersion": "2010-04-01",
        "Timestamp": rfc2822(after_s),
        "CallbackSource": "call-progress-events",
        "SequenceNumber": "0",
    }
    if sid != "CA1":
        known |= {"ParentCallSid": "CA1"}
    if status == "completed":
        known |= {"Duration": "1"}
    return {**known, **more}


def parent(status: str, after_s: float, **more: str) -> dict[str, str]:
    ends = {"Direction": "inbound", "From": CLIENT, "To": COMPANY}
    return leg("CA1", status, after_s, **{**ends, **more})


def child(sid: str, to: str, status: str, after_s: float, **more: str) -> dict[str, str]:
    ends = {"Direction": "outbound-dial", "From": CLIENT, "To": to}
    return leg(sid, status, after_s, **{**ends, **more})


def recorded(status: str = "completed", **more: str) -> dict[str, str]:
    known = {
        "AccountSid": SID,
        "CallSid": "CA1",
        "RecordingSid": "RE" + "1" * 32,
        "RecordingUrl": RECORDING,
        "RecordingStatus": status,
        "RecordingDuration": "61",
        "RecordingChannels": "1",
        "RecordingSource": "DialVerb",
        "RecordingStartTime": rfc2822(5),
        "ErrorCode": "0",
    }
    return {**known, **more}


def form(fields: Mapping[str, str]) -> Webhook:
    return webhook(urlencode(fields).encode())


def told(fields: Mapping[str, str], **settings: Any) -> Told:
    (one,) = twilio(**settings).parse(form(fields), NOW)
    return one


def leg_of(fields: Mapping[str, str], **settings: Any) -> Leg:
    (one,) = told(fields, **settings).event.legs
    return one


def made(events: Sequence[CallEvent]) -> Call:
    call: Call | None = None
    for one in events:
        call = fold(call, one, NOW)
    assert call is not None
    return call


def folded(messages: Sequence[Mapping[str, str]], **settings: Any) -> Call:
    """Return the call that messages make, whatever their order, and however often they come."""
    provider = twilio(**settings)
    events = [one.event for fields in messages for one in provider.parse(form(fields), NOW + 86_000)]
    return in_any_order(events)


def in_any_order(events: Sequence[CallEvent]) -> Call:
    chance = random.Random(1)  # noqa: S311
    orders = list(permutations(events)) if len(events) <= 5 else []
    orders += [tuple(chance.sample(events, len(events))) for _ in range(60)]
    orders += [tuple(chance.choices(events, k=len(events))) + tuple(events) for _ in range(60)]
    calls = [made(order) for order in orders]
    assert len({(call.key, call.facts, call.legs, call.recording) for call in calls}) == 1
    return calls[0]


def extension(call: Call) -> str | None:
    return call.facts.person.extension if call.facts.person else None


def was(call: Call, direction: Direction, who: str | None, status: CallStatus, talk_s: int) -> bool:
    """Tell whether a call with the client was like this."""
    facts = call.facts
    known = (facts.direction, facts.phone, extension(call), facts.outcome, call.key)
    return known == (direction, CLIENT, who, Outcome(status, talk_s), (31337, "CA1"))


# The proof.


@pytest.mark.parametrize("vector", OURS, ids=lambda one: one["id"])
def test_vectors_are_judged_as_they_say(vector: dict[str, Any]) -> None:
    is_shared = "X-Twilio-Webhooks-Signature-Settings" in vector["headers"]
    known = (
        {"auth_token": None, "shared_key": vector["secret"]}
        if is_shared
        else {"auth_token": vector["secret"]}
    )
    provider = twilio(**known)
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
    (of,) = one.event.legs
    assert (one.what, of.status) == ("leg.ended", CallStatus.ANSWERED)
    if expect := vector.get("expect"):
        assert (one.event.key.call_id, of.id) == (expect["call_id"], expect["leg_id"])
        assert (of.direction, of.talk, of.status) == (
            expect["leg_direction"],
            expect["duration"],
            expect["disposition"],
        )


def test_all_vectors_are_here() -> None:
    assert len(OURS) == 15
    assert sum(one["valid"] for one in OURS) == 8


@pytest.mark.parametrize(
    ("digest", "headers", "good", "bad"),
    [
        ("sha1", {}, (TOKEN, OLD_TOKEN), (SHARED, OLD_SHARED)),
        ("sha1", {"X-Twilio-Webhooks-Signature-Settings": "key=1"}, (TOKEN, OLD_TOKEN), (SHARED, OLD_SHARED)),
        ("sha256", SHA256, (SHARED, OLD_SHARED), (TOKEN, OLD_TOKEN)),
    ],
)
def test_both_secrets_are_good_while_they_change(
    digest: str, headers: Mapping[str, str], good: Sequence[str], bad: Sequence[str]
) -> None:
    rotating = twilio(previous_auth_token=OLD_TOKEN, shared_key=SHARED, previous_shared_key=OLD_SHARED)
    for secret in good:
        rotating.verify(signed(parent("ringing", 0), secret, digest=digest, headers=headers), NOW)
    for secret in (*bad, secrets.token_hex(16), ""):
        with pytest.raises(InputRefused) as caught:
            rotating.verify(signed(parent("ringing", 0), secret, digest=digest, headers=headers), NOW)
        assert caught.value.code == "unauthorized"
    with pytest.raises(InputRefused):
        twilio(shared_key=SHARED).verify(
            signed(parent("ringing", 0), good[1], digest=digest, headers=headers), NOW
        )


@pytest.mark.parametrize(
    "header", ["algorithm=HMAC_SHA512", "key=1,algorithm=none", "algorithm=HMAC_SHA256x"]
)
@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
def test_other_algorithms_are_refused(header: str, digest: str) -> None:
    headers = {"X-Twilio-Webhooks-Signature-Settings": header}
    for secret in (TOKEN, SHARED):
        with pytest.raises(InputRefused):
            twilio(shared_key=SHARED).verify(
                signed(parent("ringing", 0), secret, digest=digest, headers=headers), NOW
            )


def test_algorithm_is_read_in_any_spelling() -> None:
    headers = {"X-Twilio-Webhooks-Signature-Settings": " algorithm = hmac_sha256 , key=1"}
    twilio(shared_key=SHARED).verify(
        signed(parent("ringing", 0), SHARED, digest="sha256", headers=headers), NOW
    )


def test_an_account_may_have_a_shared_key_alone() -> None:
    provider = twilio(auth_token=None, shared_key=SHARED)
    provider.verify(signed(parent("ringing", 0), SHARED, digest="sha256", headers=SHA256), NOW)
    with pytest.raises(InputRefused):
        provider.verify(signed(parent("ringing", 0), ""), NOW)


@pytest.mark.parametrize(
    ("called", "signed_url"),
    [
        ("https://calls.example.com/v", "https://calls.example.com/v"),
        ("https://calls.example.com/v", "https://calls.example.com:443/v"),
        ("https://calls.example.com:443/v?a=b:80", "https://calls.example.com/v?a=b:80"),
        ("https://calls.example.com:8443/v", "https://calls.example.com:8443/v"),
        ("https://calls.example.com:8443/v", "https://calls.example.com/v"),
        ("https://calls.example.com?a=1:2", "https://calls.example.com:443?a=1:2"),
        ("http://127.0.0.1/v", "http://127.0.0.1:80/v"),
        ("http://[::1]:8080/v", "http://[::1]:8080/v"),
        ("http://[::1]:8080/v", "http://[::1]/v"),
        ("https://[::1]/v", "https://[::1]:443/v"),
    ],
)
def test_address_is_tried_with_its_port_and_without(called: str, signed_url: str) -> None:
    fields = parent("ringing", 0)
    request = webhook(
        urlencode(fields).encode(),
        {"X-Twilio-Signature": signed(fields, url=signed_url).headers["X-Twilio-Signature"]},
        url=called,
    )
    twilio().verify(request, NOW)


@pytest.mark.parametrize(
    "signed_url",
    [
        "http://calls.example.com/v?a=1",
        "https://calls.example.com/v?a=1&b=2",
        "https://calls.example.com/v?a=%31",
        "https://calls.example.com/v?a=1#",
        "https://calls.example.com/w?a=1",
        "https://calls.example.org/v?a=1",
        "https://calls.example.com:80/v?a=1",
    ],
)
def test_address_is_signed_as_it_was_called(signed_url: str) -> None:
    fields = parent("ringing", 0)
    signature = signed(fields, url=signed_url).headers["X-Twilio-Signature"]
    with pytest.raises(InputRefused):
        twilio().verify(
            webhook(
                urlencode(fields).encode(),
                {"X-Twilio-Signature": signature},
                url="https://calls.example.com/v?a=1",
            ),
            NOW,
        )


def test_each_field_is_signed() -> None:
    fields = parent("completed", 70, CallDuration="70", CallerName="")
    request = signed(fields)
    signature = {"X-Twilio-Signature": request.headers["X-Twilio-Signature"]}
    for name in fields:
        for changed in ({**fields, name: fields[name] + "1"}, {k: v for k, v in fields.items() if k != name}):
            with pytest.raises(InputRefused):
                twilio().verify(webhook(urlencode(changed).encode(), signature), NOW)
    with pytest.raises(InputRefused):
        twilio().verify(webhook(urlencode({**fields, "New": "1"}).encode(), signature), NOW)
    for place in range(len(signature["X-Twilio-Signature"])):
        header = signature["X-Twilio-Signature"]
        other = "A" if header[place] != "A" else "B"
        with pytest.raises(InputRefused):
            twilio().verify(
                webhook(request.body, {"X-Twilio-Signature": header[:place] + other + header[place + 1 :]}),
                NOW,
            )


def test_order_and_repetition_of_fields_do_not_count() -> None:
    pairs = [("b", "2"), ("a", "1"), ("b", "1"), ("é", "ü ")]
    text = URL + "a1b1b2éü "
    twilio().verify(
        webhook(urlencode([*pairs, ("a", "1")]).encode(), {"X-Twilio-Signature": sign(TOKEN, text)}), NOW
    )


def test_bytes_that_are_no_text_are_signed_as_they_are() -> None:
    signature = base64.b64encode(hmac.digest(TOKEN.encode(), URL.encode() + b"a\xff\xfe", "sha1")).decode()
    twilio().verify(webhook(b"a=%ff\xfe", {"X-Twilio-Signature": signature}), NOW)


@pytest.mark.parametrize("content_type", [FORM, ""])
def test_message_may_come_by_get(content_type: str) -> None:
    url = f"{URL}?{urlencode(parent('completed', 70, CallDuration='65'))}"
    headers = {"X-Twilio-Signature": sign(TOKEN, url), "Content-Type": content_type}
    request = webhook(b"", headers, url=url, method="GET")
    twilio().verify(request, NOW)
    (one,) = twilio().parse(request, NOW)
    assert (one.what, one.event.key.call_id, one.event.legs[0].talk) == ("leg.ended", "CA1", 65)
    assert twilio().told_body(request).startswith(b"CallSid=CA1&")


def test_fields_of_the_address_are_not_the_message_of_a_form() -> None:
    url = f"{URL}?CallSid=CA2&CallStatus=busy&From=1&ParentCallSid=CA3"
    (one,) = twilio().parse(webhook(urlencode(parent("ringing", 0)).encode(), url=url), NOW)
    assert (one.what, one.event.key.call_id) == ("leg.ringing", "CA1")


def as_json(body: bytes, *, hash_of: bytes | None = None, content_type: str = "application/json") -> Webhook:
    digest = hashlib.sha256(body if hash_of is None else hash_of).hexdigest()
    url = f"{URL}?a=1&bodySHA256={digest}"
    headers = {"X-Twilio-Signature": sign(TOKEN, url), "Content-Type": content_type}
    return webhook(body, headers, url=url)


def test_message_may_be_json_if_its_hash_is_signed() -> None:
    body = json.dumps({**parent("completed", 70), "CallDuration": 65, "Nothing": None, "More": {}}).encode()
    request = as_json(body)
    twilio().verify(request, NOW)
    (one,) = twilio().parse(request, NOW)
    assert (one.event.legs[0].talk, one.event.legs[0].phone) == (65, CLIENT)
    capitals = f"{URL}?bodySHA256={hashlib.sha256(body).hexdigest().upper()}"
    twilio().verify(
        webhook(
            body,
            {"X-Twilio-Signature": sign(TOKEN, capitals), "Content-Type": "application/json"},
            url=capitals,
        ),
        NOW,
    )


@pytest.mark.parametrize("content_type", ["application/json", "", "text/plain", "multipart/form-data"])
def test_body_that_is_not_signed_is_refused(content_type: str) -> None:
    headers = {"X-Twilio-Signature": sign(TOKEN, URL), "Content-Type": content_type}
    twilio().verify(webhook(b"", headers), NOW)
    for request in (
        webhook(b"{}", headers),
        webhook(b"CallSid=CA1", headers),
        as_json(b"{}", hash_of=b"{ }", content_type=content_type),
    ):
        with pytest.raises(InputRefused) as caught:
            twilio().verify(request, NOW)
        assert caught.value.code == "unauthorized"
    # A form has no hash: its fields are signed, and nothing takes their place.
    with pytest.raises(InputRefused):
        twilio().verify(as_json(b"CallSid=CA1", content_type=FORM), NOW)


def test_token_in_the_address_is_needed_as_well_where_there_is_one() -> None:
    token, other = secrets.token_hex(16), secrets.token_hex(16)
    provider = twilio([BearerToken(other, NOW + 1)], token=token)
    provider.verify(signed(parent("ringing", 0), rest=token), NOW)
    provider.verify(signed(parent("ringing", 0), rest=other), NOW)
    for rest in ("", "x" * 16):
        with pytest.raises(InputRefused):
            provider.verify(signed(parent("ringing", 0), rest=rest), NOW)
    with pytest.raises(InputRefused):
        provider.verify(form(parent("ringing", 0)), NOW)


def test_service_is_none_without_a_secret() -> None:
    values = {name: setting.default for name, setting in SERVICE.settings.items()}
    assert SERVICE.make(1, {**values, "account_sid": SID}, [BearerToken(secrets.token_hex(16))]) is None
    for name in ("auth_token", "previous_auth_token", "shared_key", "previous_shared_key"):
        assert SERVICE.make(1, {**values, name: TOKEN}, ()) is not None


@pytest.mark.parametrize("wrong", ["", 1, None, "AC1", "SK" + "1" * 32, "AC" + "g" * 32, SID + "0"])
def test_wrong_account_sid_is_a_mistake_of_the_configuration(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^(a text|the Account SID)"):
        SERVICE.settings["account_sid"].read(wrong)


def test_service_is_found_and_answers_with_nothing() -> None:
    provider: Provider = twilio()
    assert services()["twilio"] is SERVICE
    assert provider.reply is EMPTY
    assert SERVICE.methods == {"GET", "POST"}
    assert isinstance(provider, KeepsRecordings)
    assert isinstance(provider, ListsCalls)
    assert {name for name, setting in SERVICE.settings.items() if setting.secret} == {
        "auth_token",
        "previous_auth_token",
        "shared_key",
        "previous_shared_key",
        "token",
        "previous_token",
    }
    with pytest.raises(InputRefused):
        provider.verify_upload(form({}), NOW)


# What each message says.


@pytest.mark.parametrize(
    ("fields", "what", "expected"),
    [
        (
            parent("ringing", 0),
            "leg.ringing",
            Leg("CA1", Side.CLIENT, Direction.INBOUND, CLIENT, started_at=NOW),
        ),
        (
            parent("in-progress", 1),
            "leg.answered",
            Leg("CA1", Side.CLIENT, Direction.INBOUND, CLIENT, answered_at=NOW + 1),
        ),
        (
            parent("completed", 70, CallDuration="69"),
            "leg.ended",
            Leg(
                "CA1",
                Side.CLIENT,
                Direction.INBOUND,
                CLIENT,
                started_at=NOW + 1,
                ended_at=NOW + 70,
                talk=69,
                status=CallStatus.ANSWERED,
            ),
        ),
        (
            child("CA2", "client:ann", "initiated", 3),
            "leg.started",
            Leg("CA2", Side.STAFF, extension="ann", started_at=NOW + 3),
        ),
        (
            child("CA2", "sip:ann@acme.sip.twilio.com;transport=tls", "in-progress", 6),
            "leg.answered",
            Leg("CA2", Side.STAFF, extension="ann", answered_at=NOW + 6),
        ),
        (
            child("CA2", BOB, "completed", 60, CallDuration="54"),
            "leg.ended",
            Leg(
                "CA2",
                None,
                Direction.OUTBOUND,
                BOB,
                BOB,
                started_at=NOW + 6,
                ended_at=NOW + 60,
                talk=54,
                status=CallStatus.ANSWERED,
            ),
        ),
        *(
            (
                child("CA2", BOB, word, 20, CallDuration="0"),
                "leg.ended",
                Leg("CA2", None, Direction.OUTBOUND, BOB, BOB, ended_at=NOW + 20, status=status),
            )
            for word, status in [
                ("busy", CallStatus.BUSY),
                ("no-answer", CallStatus.NO_ANSWER),
                ("canceled", CallStatus.CANCELLED),
                ("failed", CallStatus.FAILED),
            ]
        ),
        (
            child("CA2", BOB, "completed", 20, CallDuration="0"),
            "leg.ended",
            Leg(
                "CA2",
                None,
                Direction.OUTBOUND,
                BOB,
                BOB,
                ended_at=NOW + 20,
                talk=0,
                status=CallStatus.NO_ANSWER,
            ),
        ),
        (
            parent("queued", 0, Direction="outbound-api", From=COMPANY, To=CLIENT),
            "leg.started",
            Leg("CA1", None, Direction.OUTBOUND, CLIENT, CLIENT, started_at=NOW),
        ),
        (
            parent("ringing", 0, Direction="outbound-api", From=COMPANY, To="client:ann"),
            "leg.ringing",
            Leg("CA1", Side.STAFF, extension="ann", started_at=NOW),
        ),
        (
            parent("ringing", 0, Direction="trunking-originating"),
            "leg.ringing",
            Leg("CA1", Side.CLIENT, Direction.INBOUND, CLIENT, started_at=NOW),
        ),
        (
            parent("ringing", 0, Direction="trunking-terminating", From=COMPANY, To=CLIENT),
            "leg.ringing",
            Leg("CA1", None, Direction.OUTBOUND, CLIENT, CLIENT, started_at=NOW),
        ),
        (
            {"CallSid": "CA1", "CallStatus": "completed", "CallDuration": ""},
            "leg.ended",
            Leg("CA1", status=CallStatus.ANSWERED),
        ),
        (
            {"CallSid": "CA1", "CallStatus": "completed"},
            "leg.ended",
            Leg("CA1", status=CallStatus.ANSWERED),
        ),
    ],
)
def test_a_leg_is_told(fields: dict[str, str], what: str, expected: Leg) -> None:
    one = told(fields)
    assert (one.what, one.event.legs, one.body) == (what, (expected,), None)
    assert one.event.key == (31337, "CA1")
    assert one.event.recording == Recording()


@pytest.mark.parametrize(
    ("caller", "called", "expected"),
    [
        ("client:ann", CLIENT, Leg("CA1", Side.STAFF, Direction.OUTBOUND, CLIENT, "ann")),
        ("client:ann@example.com", "", Leg("CA1", Side.STAFF, Direction.OUTBOUND, None, "ann@example.com")),
        ("client:ann", f"AP{'1' * 32}", Leg("CA1", Side.STAFF, Direction.OUTBOUND, None, "ann")),
        ("client:ann", "client:bob", Leg("CA1", Side.STAFF, Direction.OUTBOUND, "client:bob", "ann")),
        ("CLIENT:ann", CLIENT, Leg("CA1", Side.STAFF, Direction.OUTBOUND, CLIENT, "ann")),
        (
            "sip:ann@acme.sip.twilio.com",
            f"sip:{CLIENT}@acme.sip.twilio.com",
            Leg("CA1", Side.STAFF, Direction.OUTBOUND, f"sip:{CLIENT}@acme.sip.twilio.com", "ann"),
        ),
        ("ann@acme.sip.twilio.com", CLIENT, Leg("CA1", Side.STAFF, Direction.OUTBOUND, CLIENT, "ann")),
        ("sip:pbx.example.com", CLIENT, Leg("CA1", Side.STAFF, Direction.OUTBOUND, CLIENT)),
        ("sim:DE123", CLIENT, Leg("CA1", Side.STAFF, Direction.OUTBOUND, CLIENT, "DE123")),
        (f"client:{'a' * 65}", CLIENT, Leg("CA1", Side.STAFF, Direction.OUTBOUND, CLIENT)),
        ("", COMPANY, Leg("CA1", Side.CLIENT, Direction.INBOUND, "")),
        ("+266696687", COMPANY, Leg("CA1", Side.CLIENT, Direction.INBOUND, "+266696687")),
        (
            "whatsapp:+15005550006",
            COMPANY,
            Leg("CA1", Side.CLIENT, Direction.INBOUND, "whatsapp:+15005550006"),
        ),
    ],
)
def test_whoever_has_a_softphone_is_one_of_the_company(caller: str, called: str, expected: Leg) -> None:
    fields = {"CallSid": "CA1", "CallStatus": "in-progress", "Direction": "inbound"}
    assert leg_of({**fields, "From": caller, "To": called}) == expected


def test_own_people_may_have_numbers() -> None:
    own = {"staff_phones": [BOB, "+49 30 1234567"]}
    assert leg_of(child("CA2", BOB, "initiated", 0), **own) == Leg(
        "CA2", Side.STAFF, extension=BOB, started_at=NOW
    )
    assert leg_of(child("CA2", "+49301234567", "initiated", 0), **own).side is Side.STAFF
    assert leg_of(child("CA2", CAROL, "initiated", 0), **own).side is None
    assert leg_of(parent("ringing", 0, From=BOB), **own) == Leg(
        "CA1", Side.STAFF, extension=BOB, started_at=NOW
    )
    assert leg_of(child("CA2", "", "initiated", 0), **own).side is None


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("Thu, 01 Jan 2026 00:00:00 +0000", NOW),
        ("Thu, 01 Jan 2026 02:00:00 +0200", NOW),
        ("Thu, 01 Jan 2026 00:00:00 -0000", NOW),
        ("Thu, 01 Jan 2026 00:00:00", NOW),
        ("Fri, 02 Jan 2026 00:00:00 +0000", NOW + 86_400),
        ("Fri, 02 Jan 2026 00:00:01 +0000", None),
        ("Fri, 31 Dec 1999 23:59:59 +0000", None),
        ("Thu, 01 Jan 99999999999999999999 00:00:00 +0000", None),
        ("Thu, 01 Jan 2026 00:00:00 +9999", None),
        ("Thu, 41 Jan 2026 00:00:00 +0000", None),
        ("2026", None),
        ("", None),
        (" ", None),
        ("\x00" * 20, None),
    ],
)
def test_times_are_believed_within_reason(at: str, expected: float | None) -> None:
    assert leg_of(parent("ringing", 0, Timestamp=at)).started_at == expected
    assert leg_of(parent("busy", 0, Timestamp=at)).ended_at == expected


def test_times_without_a_zone_are_utc_wherever_this_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "America/Sao_Paulo")
        time.tzset()
        found = leg_of(parent("ringing", 0, Timestamp="Thu, 01 Jan 2026 00:00:00")).started_at
    time.tzset()
    assert found == NOW


@pytest.mark.parametrize(
    "fields",
    [
        {"CallSid": "CA1", "AccountSid": SID, "AnsweredBy": "human", "MachineDetectionDuration": "2000"},
        {"ConferenceSid": "CF1", "CallSid": "CA1", "StatusCallbackEvent": "participant-join"},
        {"ConferenceSid": "CF1", "StatusCallbackEvent": "conference-end"},
        {"MessageSid": "SM1", "SmsSid": "SM1", "MessageStatus": "delivered"},
        recorded("in-progress"),
        recorded("paused"),
        {
            "ConferenceSid": "CF1",
            "RecordingSid": "RE1",
            "RecordingStatus": "completed",
            "RecordingUrl": RECORDING,
        },
    ],
)
def test_other_messages_are_of_no_interest(fields: dict[str, str]) -> None:
    assert twilio().parse(form(fields), NOW) == []


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({}, "CallSid is missing"),
        ({"Hello": "1"}, "CallSid is missing"),
        ({"CallStatus": "completed"}, "CallSid is missing"),
        ({"CallStatus": "completed", "CallSid": ""}, "CallSid is no id"),
        ({"CallStatus": "completed", "CallSid": "CA1\n"}, "CallSid is no id"),
        ({"CallStatus": "completed", "CallSid": "C" * 256}, "CallSid is no id"),
        (parent("completed", 0, ParentCallSid="CA\x00"), "CallSid is no id"),
        (parent("hung-up", 0), "CallStatus"),
        (parent("", 0), "CallStatus"),
        (parent("ringing", 0, Direction="outbound"), "Direction"),
        (parent("ringing", 0, From="1" * 256), "From"),
        (parent("ringing", 0, To="1" * 256), "To"),
        *(
            (parent("completed", 0, CallDuration=wrong), "CallDuration")
            for wrong in ("-1", "1.5", "x", "9" * 9, "10000001", "٣", "1e3", "NaN", "9" * 5000)
        ),
        ({"RecordingStatus": "completed", "RecordingUrl": RECORDING}, "CallSid is missing"),
        (recorded(CallSid="\x7f"), "CallSid is no id"),
        (recorded(RecordingUrl=""), "RecordingUrl"),
        (recorded(RecordingUrl="http://example.com/1.mp3"), "RecordingUrl"),
        (recorded(RecordingUrl="https://example.com/" + "1" * 2000), "RecordingUrl"),
        (recorded(RecordingSource="RecordVerb", RecordingSid="\n"), "RecordingSid is no id"),
    ],
)
def test_what_cannot_be_read_is_kept(fields: dict[str, str], missing: str) -> None:
    with pytest.raises(NotUnderstood, match=missing):
        twilio().parse(form(fields), NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b"1",
        b'"CallSid"',
        b"\xff",
        b'{"CallSid":"CA1\xff"}',
        b'{"a":"\\ud800"}',
        b"[" * 30_000,
        b"{}",
    ],
)
def test_json_that_cannot_be_read_is_kept(body: bytes) -> None:
    with pytest.raises(NotUnderstood):
        twilio().parse(webhook(body, {"Content-Type": "application/json"}), NOW)


# Whole calls.


def test_answered_inbound_call() -> None:
    call = folded(
        [
            parent("completed", 70, CallDuration="70"),
            child("CA2", "client:ann", "initiated", 2),
            child("CA2", "client:ann", "in-progress", 8),
            child("CA2", "client:ann", "completed", 69, CallDuration="61"),
        ]
    )
    assert was(call, Direction.INBOUND, "ann", CallStatus.ANSWERED, 61)
    assert call.facts.started_at == NOW


def test_inbound_call_that_was_put_through_to_a_number() -> None:
    call = folded(
        [parent("completed", 70, CallDuration="70"), child("CA2", BOB, "completed", 69, CallDuration="61")]
    )
    assert was(call, Direction.INBOUND, BOB, CallStatus.ANSWERED, 61)


def test_inbound_call_of_which_no_leg_is_told() -> None:
    call = folded([parent("completed", 70, CallDuration="70")])
    assert was(call, Direction.INBOUND, None, CallStatus.ANSWERED, 70)


def test_call_goes_on_until_its_parent_has_ended() -> None:
    call = folded([parent("ringing", 0), child("CA2", BOB, "no-answer", 20)])
    assert (call.facts.direction, call.facts.phone, call.facts.outcome) == (Direction.INBOUND, CLIENT, None)


@pytest.mark.parametrize(
    "start",
    [
        {"From": "client:ann", "To": CLIENT},
        {"From": "client:ann", "To": ""},
        {"From": "sip:ann@acme.sip.twilio.com", "To": f"sip:{CLIENT}@acme.sip.twilio.com"},
    ],
)
def test_answered_outbound_call_of_a_softphone(start: dict[str, str]) -> None:
    ends = {"From": COMPANY}
    call = folded(
        [
            parent("completed", 71, CallDuration="71", **start),
            child("CA2", CLIENT, "ringing", 3, **ends),
            child("CA2", CLIENT, "in-progress", 10, **ends),
            child("CA2", CLIENT, "completed", 70, CallDuration="60", **ends),
        ]
    )
    assert was(call, Direction.OUTBOUND, "ann", CallStatus.ANSWERED, 60)
    assert call.facts.started_at == NOW


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("busy", CallStatus.BUSY),
        ("no-answer", CallStatus.NO_ANSWER),
        ("canceled", CallStatus.CANCELLED),
        ("failed", CallStatus.FAILED),
    ],
)
def test_outbound_call_that_nobody_answered(word: str, status: CallStatus) -> None:
    call = folded(
        [
            parent("completed", 31, CallDuration="31", From="client:ann", To=CLIENT),
            child("CA2", CLIENT, "initiated", 1, From=COMPANY),
            child("CA2", CLIENT, word, 30, From=COMPANY),
        ]
    )
    assert was(call, Direction.OUTBOUND, "ann", status, 0)


@pytest.mark.parametrize(("word", "status"), [("completed", CallStatus.ANSWERED), ("busy", CallStatus.BUSY)])
def test_call_that_the_api_made_to_the_client(word: str, status: CallStatus) -> None:
    ends = {"Direction": "outbound-api", "From": COMPANY, "To": CLIENT}
    talk = 55 if word == "completed" else 0
    call = folded([parent("ringing", 1, **ends), parent(word, 60, CallDuration=str(talk), **ends)])
    assert was(call, Direction.OUTBOUND, None, status, talk)


@pytest.mark.parametrize(("own", "who"), [("client:ann", "ann"), (BOB, BOB)])
def test_click_to_call(own: str, who: str) -> None:
    ends = {"Direction": "outbound-api", "From": COMPANY, "To": own}
    call = folded(
        [
            parent("in-progress", 4, **ends),
            parent("completed", 70, CallDuration="66", **ends),
            child("CA2", CLIENT, "completed", 69, CallDuration="50", From=COMPANY),
        ],
        staff_phones=[BOB],
    )
    assert was(call, Direction.OUTBOUND, who, CallStatus.ANSWERED, 50)


@pytest.mark.parametrize(
    ("word", "status"),
    [("busy", CallStatus.BUSY), ("no-answer", CallStatus.NO_ANSWER), ("canceled", CallStatus.CANCELLED)],
)
@pytest.mark.parametrize("own", ["client:ann", BOB])
def test_missed_inbound_call(own: str, word: str, status: CallStatus) -> None:
    call = folded(
        [
            parent("completed", 25, CallDuration="25"),
            child("CA2", own, "initiated", 2),
            child("CA2", own, word, 24),
        ]
    )
    assert was(call, Direction.INBOUND, own.removeprefix("client:"), status, 0)


def test_caller_who_was_turned_away() -> None:
    assert was(folded([parent("busy", 1)]), Direction.INBOUND, None, CallStatus.BUSY, 0)


def test_one_of_three_answers() -> None:
    call = folded(
        [
            parent("completed", 70, CallDuration="70"),
            *(child(f"CA{n}", to, "initiated", 2) for n, to in enumerate(("client:ann", BOB, CAROL), 2)),
            child("CA2", "client:ann", "no-answer", 9),
            child("CA3", BOB, "completed", 69, CallDuration="60"),
            child("CA4", CAROL, "canceled", 9),
        ]
    )
    assert was(call, Direction.INBOUND, BOB, CallStatus.ANSWERED, 60)


def test_caller_is_passed_on() -> None:
    # Whoever has the call gives it new instructions, which dial anew; TwiML that goes on does the same.
    call = folded(
        [
            parent("completed", 120, CallDuration="120"),
            child("CA2", "client:ann", "completed", 60, CallDuration="50"),
            child("CA3", BOB, "initiated", 62),
            child("CA3", BOB, "completed", 119, CallDuration="40"),
        ]
    )
    assert was(call, Direction.INBOUND, BOB, CallStatus.ANSWERED, 90)


def test_caller_is_passed_on_after_a_word() -> None:
    # The first holds the line until the second has the call: what they share counts once.
    call = folded(
        [
            parent("completed", 120, CallDuration="120"),
            child("CA2", "client:ann", "completed", 80, CallDuration="70"),
            child("CA3", "client:bob", "completed", 119, CallDuration="59"),
        ]
    )
    assert was(call, Direction.INBOUND, "bob", CallStatus.ANSWERED, 109)


def test_second_tries_count_if_they_are_answered() -> None:
    call = folded(
        [
            parent("completed", 90, CallDuration="90"),
            child("CA2", BOB, "no-answer", 22),
            child("CA3", CAROL, "completed", 89, CallDuration="60"),
        ]
    )
    assert was(call, Direction.INBOUND, CAROL, CallStatus.ANSWERED, 60)


def test_recording_may_come_before_the_end() -> None:
    messages = [
        recorded(),
        parent("completed", 70, CallDuration="70"),
        child("CA2", "client:ann", "completed", 69, CallDuration="61"),
    ]
    call = folded(messages)
    assert was(call, Direction.INBOUND, "ann", CallStatus.ANSWERED, 61)
    assert call.recording == Recording(state=RecordingState.EXPECTED, url=f"{RECORDING}.mp3")
    before = told(recorded())
    assert before.event == CallEvent(key=call.key, recording=call.recording)


def test_message_that_was_left() -> None:
    left = recorded(RecordingSource="RecordVerb", RecordingDuration="17")
    for messages in (
        [left, parent("completed", 60, CallDuration="60")],
        [left, parent("completed", 60, CallDuration="60"), child("CA2", "client:ann", "no-answer", 30)],
    ):
        call = folded(messages)
        who = "ann" if len(messages) == 3 else None
        assert was(call, Direction.INBOUND, who, CallStatus.VOICEMAIL, 17)
        assert call.recording.state is RecordingState.EXPECTED
    answered = child("CA2", "client:ann", "completed", 50, CallDuration="20")
    call = folded([left, parent("completed", 60, CallDuration="60"), answered])
    assert was(call, Direction.INBOUND, "ann", CallStatus.ANSWERED, 20)
    assert told(recorded(RecordingSource="RecordVerb", RecordingDuration="-1")).event.legs == (
        Leg("RE" + "1" * 32, Side.STAFF, status=CallStatus.VOICEMAIL),
    )


# Recordings.


@pytest.mark.parametrize("status", ["absent", "failed"])
def test_recording_may_fail(status: str) -> None:
    one = told(recorded(status, RecordingUrl=""))
    assert (one.what, one.event.recording) == ("recording.failed", Recording(state=RecordingState.NEVER))
    assert one.event.key.call_id == "CA1"
    assert made([one.event, told(recorded()).event]).recording.state is RecordingState.EXPECTED


@pytest.mark.parametrize(
    ("url", "with_credentials", "without"),
    [
        (RECORDING, f"twilio:{RECORDING}", f"{RECORDING}.mp3"),
        (f"{RECORDING}.wav", f"twilio:{RECORDING}.wav", f"{RECORDING}.wav"),
        (
            RECORDING.replace("api.", "api.dublin.ie1."),
            f"twilio:{RECORDING.replace('api.', 'api.dublin.ie1.')}",
            f"{RECORDING.replace('api.', 'api.dublin.ie1.')}.mp3",
        ),
        (
            "https://bucket.s3.amazonaws.com/Recordings/RE1",
            "https://bucket.s3.amazonaws.com/Recordings/RE1",
            "https://bucket.s3.amazonaws.com/Recordings/RE1",
        ),
        (
            "https://api.twilio.com.example.com/Recordings/RE1",
            "https://api.twilio.com.example.com/Recordings/RE1",
            "https://api.twilio.com.example.com/Recordings/RE1",
        ),
    ],
)
def test_recording_is_told_by_reference_if_there_are_credentials(
    url: str, with_credentials: str, without: str
) -> None:
    assert told(recorded(RecordingUrl=url), account_sid=SID).event.recording.url == with_credentials
    for settings in ({}, {"account_sid": SID, "auth_token": None, "shared_key": SHARED}):
        assert told(recorded(RecordingUrl=url), **settings).event.recording.url == without
    one = told(parent("completed", 70, RecordingUrl=url, RecordingSid="RE1"))
    assert (one.what, one.event.recording.url) == ("leg.ended", without)


def test_end_is_told_even_if_its_recording_is_nowhere() -> None:
    one = told(parent("completed", 70, RecordingUrl="ftp://example.com/1"))
    assert (one.what, one.event.recording) == ("leg.ended", Recording())


def found(provider: Twilio, reference: str) -> Ask:
    errand = provider.find_recording(reference, NOW)
    with pytest.raises(StopIteration) as caught:
        next(errand)
    assert isinstance(caught.value.value, Ask)
    return caught.value.value


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        (RECORDING, f"{RECORDING}.mp3"),
        (f"{RECORDING}.wav", f"{RECORDING}.wav"),
        (f"{RECORDING}?RequestedChannels=2", f"{RECORDING}?RequestedChannels=2"),
        ("https://API.Twilio.com:443/Recordings/RE1", "https://API.Twilio.com:443/Recordings/RE1.mp3"),
        ("https://twilio.example.com/v/Recordings/RE1", "https://twilio.example.com/v/Recordings/RE1.mp3"),
    ],
)
def test_recording_is_asked_for_with_credentials(reference: str, url: str) -> None:
    ask = found(twilio(account_sid=SID, api_url="https://twilio.example.com/v"), reference)
    credentials = base64.b64encode(f"{SID}:{TOKEN}".encode()).decode()
    assert ask == Ask(url=url, headers={"Authorization": f"Basic {credentials}"})


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "RE1",
        "http://api.twilio.com/Recordings/RE1",
        "https://example.com/Recordings/RE1",
        "https://api.twilio.com.example.com/Recordings/RE1",
        "https://eviltwilio.com/Recordings/RE1",
        "https://api.twilio.com@example.com/Recordings/RE1",
        "https://user@api.twilio.com/Recordings/RE1",
        "https://example.com\\.twilio.com/Recordings/RE1",
        "https://example.com#.twilio.com/Recordings/RE1",
        "https://example.com/.twilio.com/Recordings/RE1",
        "https://api.twilio.com:8443/Recordings/RE1",
        "https://api.twilio.com\n.example.com/",
        "https://api.twilio.com/ Recordings/RE1",
        "https://[::1/Recordings/RE1",
        "https://twilio.example.com.evil/Recordings/RE1",
        "https://api.twilio.com/" + "1" * 2000,
    ],
)
def test_credentials_go_to_twilio_alone(reference: str) -> None:
    with pytest.raises(ErrandFailed) as caught:
        next(twilio(account_sid=SID, api_url="https://twilio.example.com").find_recording(reference, NOW))
    assert caught.value.is_final
    assert "1111" not in str(caught.value)


@pytest.mark.parametrize("settings", [{}, {"account_sid": SID, "auth_token": None, "shared_key": SHARED}])
def test_recording_cannot_be_asked_for_without_credentials(settings: dict[str, Any]) -> None:
    with pytest.raises(ErrandFailed, match="account_sid and auth_token") as caught:
        next(twilio(**settings).find_recording(RECORDING, NOW))
    assert caught.value.is_final


# Listed calls.


def row(sid: str, **more: Any) -> dict[str, Any]:
    known = {
        "sid": sid,
        "parent_call_sid": None if sid == "CA1" else "CA1",
        "account_sid": SID,
        "direction": "inbound" if sid == "CA1" else "outbound-dial",
        "from": CLIENT,
        "to": COMPANY if sid == "CA1" else "client:ann",
        "status": "completed",
        "duration": "70" if sid == "CA1" else "61",
        "start_time": rfc2822(0 if sid == "CA1" else 8),
        "end_time": rfc2822(70 if sid == "CA1" else 69),
        "price": None,
        "answered_by": None,
    }
    return {**known, **more}


def page(*rows: Mapping[str, Any], following: str | None = None) -> Got:
    return Got(status=200, body=json.dumps({"calls": rows, "next_page_uri": following, "page": 0}).encode())


Listing = Generator[Ask | Sequence[Told], Got | None, None]


def listed(
    answers: Sequence[Got], since: float = NOW - 100, until: float = NOW + 100, **settings: Any
) -> tuple[list[Ask], list[Sequence[Told]]]:
    """Return what was asked, and what was told of each call."""
    provider = twilio(**{"account_sid": SID, **settings})
    errand: Listing = provider.list_calls(since, until, NOW + 86_000)
    asks, calls, left = [], [], list(answers)
    step = next(errand, None)
    while step is not None:
        if isinstance(step, Ask):
            asks.append(step)
            step = next_step(errand, left.pop(0))
        else:
            calls.append(step)
            step = next_step(errand, None)
    assert not left
    return asks, calls


def next_step(errand: Listing, answer: Got | None) -> Ask | Sequence[Told] | None:
    try:
        return errand.send(answer)
    except StopIteration:
        return None


def test_calls_are_listed_page_by_page() -> None:
    following = f"/2010-04-01/Accounts/{SID}/Calls.json?PageSize=1000&Page=1&PageToken=PACA1"
    asks, calls = listed([page(row("CA1"), following=following), page(row("CA2"))])
    first, second = asks
    credentials = base64.b64encode(f"{SID}:{TOKEN}".encode()).decode()
    assert first.headers == second.headers == {"Authorization": f"Basic {credentials}"}
    assert first.method == "GET"
    parts = urlsplit(first.url)
    assert (parts.netloc, parts.path) == ("api.twilio.com", f"/2010-04-01/Accounts/{SID}/Calls.json")
    assert parse_qs(parts.query) == {
        "StartTime>": ["2025-12-31T23:58:20Z"],
        "StartTime<": ["2026-01-02T00:01:40Z"],
        "PageSize": ["1000"],
    }
    assert LONGEST_S == 86_400
    assert second.url == f"https://api.twilio.com{following}"
    (call,) = calls
    assert [one.what for one in call] == ["leg.ended", "leg.ended"]
    assert [json.loads(one.body or b"") for one in call] == [row("CA1"), row("CA2")]


def test_listed_call_and_told_call_are_the_one_call() -> None:
    messages = [
        parent("completed", 70, CallDuration="70"),
        child("CA2", "client:ann", "in-progress", 8),
        child("CA2", "client:ann", "completed", 69, CallDuration="61"),
        recorded(),
    ]
    _, (rows,) = listed([page(row("CA1"), row("CA2"))])
    alone = in_any_order([one.event for one in rows])
    assert was(alone, Direction.INBOUND, "ann", CallStatus.ANSWERED, 61)
    assert [(one.started_at, one.ended_at) for one in alone.legs] == [(NOW, NOW + 70), (NOW + 8, NOW + 69)]
    provider = twilio()
    events = [one.event for fields in messages for one in provider.parse(form(fields), NOW)]
    both = in_any_order([*events, *(one.event for one in rows)])
    assert both.facts == folded(messages).facts == alone.facts
    assert [one.id for one in both.legs] == ["CA1", "CA2"]


@pytest.mark.parametrize(
    ("rows", "direction", "status", "talk_s"),
    [
        (
            [row("CA1"), row("CA2", to=BOB, status="no-answer", duration=None, end_time=None)],
            Direction.INBOUND,
            CallStatus.NO_ANSWER,
            0,
        ),
        (
            [
                row("CA1", **{"from": "ann@acme.sip.twilio.com"}, to=f"{CLIENT}@acme.sip.twilio.com"),
                row("CA2", **{"from": COMPANY}, to=CLIENT, duration=61),
            ],
            Direction.OUTBOUND,
            CallStatus.ANSWERED,
            61,
        ),
        (
            [
                row(
                    "CA1",
                    direction="outbound-api",
                    to=CLIENT,
                    **{"from": COMPANY},
                    status="busy",
                    duration="0",
                )
            ],
            Direction.OUTBOUND,
            CallStatus.BUSY,
            0,
        ),
    ],
)
def test_listed_calls_say_how_they_ended(
    rows: Sequence[dict[str, Any]], direction: Direction, status: CallStatus, talk_s: int
) -> None:
    _, (call,) = listed([page(*rows)])
    facts = in_any_order([one.event for one in call]).facts
    assert (facts.direction, facts.phone, facts.outcome) == (direction, CLIENT, Outcome(status, talk_s))
    assert facts.started_at == NOW


@pytest.mark.parametrize(
    "rows",
    [
        [row("CA1"), row("CA2", status="in-progress", duration=None, end_time=None)],
        [row("CA1", status="in-progress"), row("CA2")],
        [row("CA2")],
        [row("CA1", start_time=rfc2822(-101)), row("CA2")],
        [row("CA1", start_time=rfc2822(101)), row("CA2", start_time=rfc2822(102))],
        [row("CA1", status="odd"), row("CA2")],
        [row("CA1") | {"sid": None}],
        [{}],
    ],
)
def test_other_calls_are_left_out(rows: Sequence[dict[str, Any]]) -> None:
    assert listed([page(*rows)])[1] == []


def test_rows_that_cannot_be_read_are_left_out() -> None:
    odd = Got(
        status=200,
        body=b'{"calls":[1,[],"x",{"sid":1},{"sid":"CA3","duration":1.5},'
        + json.dumps(row("CA1")).encode()
        + b"]}",
    )
    (call,) = listed([odd])[1]
    assert call[0].event.key.call_id == "CA1"


def test_bounds_are_within() -> None:
    for after_s in (-100, 100):
        start = row("CA1", start_time=rfc2822(after_s))
        assert len(listed([page(start)])[1]) == 1


def test_listing_ends_where_pages_repeat() -> None:
    uri = "/2010-04-01/Accounts/x/Calls.json?Page=1"
    asks, calls = listed([page(row("CA1"), following=uri), page(row("CA1"), following=uri)])
    assert (len(asks), len(calls)) == (2, 1)


def test_listing_does_not_go_on_for_ever() -> None:
    errand = twilio(account_sid=SID).list_calls(NOW, NOW + 1, NOW)
    next(errand)
    for number in range(999):
        errand.send(page(following=f"/{number}"))
    with pytest.raises(ErrandFailed, match="1000 pages"):
        errand.send(page(following="/999"))


def test_listing_stays_on_the_host_of_the_api() -> None:
    home = "https://twilio.example.com:8443/v"
    asks, _ = listed([page(following=f"{home}/2"), page(following="//example.com/3"), page()], api_url=home)
    assert [ask.url for ask in asks[1:]] == [f"{home}/2", f"{home}//example.com/3"]
    for elsewhere in (
        "https://example.com/2",
        "@example.com/",
        ".example.com/",
        "x",
        f"{home}.evil",
        "/\n",
        "/ x",
    ):
        errand = twilio(account_sid=SID, api_url=home).list_calls(NOW, NOW + 1, NOW)
        next(errand)
        with pytest.raises(ErrandFailed, match="another place"):
            errand.send(page(following=elsewhere))


@pytest.mark.parametrize(
    ("answer", "is_final"),
    [
        (Got(status=401, body=b"{}"), True),
        (Got(status=429, body=b"{}"), False),
        (Got(status=500, body=b""), False),
        (Got(status=200, body=b"{"), False),
        (Got(status=200, body=b"{}"), False),
        (Got(status=200, body=b'{"calls":{}}'), False),
        (Got(status=200, body=b'{"calls":[],"next_page_uri":1}'), False),
    ],
)
def test_listing_fails_with_the_service(answer: Got, is_final: bool) -> None:
    errand = twilio(account_sid=SID).list_calls(NOW, NOW + 1, NOW)
    next(errand)
    with pytest.raises(ErrandFailed) as caught:
        errand.send(answer)
    assert caught.value.is_final is is_final


def test_calls_cannot_be_listed_without_credentials() -> None:
    with pytest.raises(ErrandFailed, match="account_sid and auth_token") as caught:
        next(twilio().list_calls(NOW, NOW + 1, NOW))
    assert caught.value.is_final


# Whatever may come.


NAMES = st.sampled_from(
    [
        "CallSid",
        "ParentCallSid",
        "CallStatus",
        "Direction",
        "From",
        "To",
        "CallDuration",
        "Timestamp",
        "RecordingStatus",
        "RecordingUrl",
        "RecordingSid",
        "RecordingSource",
        "RecordingDuration",
        "ConferenceSid",
    ]
)
VALUES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [
            b"CA1",
            b"completed",
            b"in-progress",
            b"inbound",
            b"outbound-dial",
            b"client:ann",
            b"sip:",
            b"sip:@",
            CLIENT.encode(),
            b"63",
            b"RecordVerb",
            b"Thu, 01 Jan 2026 00:00:00 +0000",
            RECORDING.encode(),
            b"https://[",
        ]
    ),
)
HEADERS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=40)


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=12),
    st.one_of(st.none(), st.binary(max_size=60)),
    st.fixed_dictionaries(
        {
            "X-Twilio-Signature": HEADERS,
            "X-Twilio-Webhooks-Signature-Settings": HEADERS,
            "Content-Type": st.sampled_from([FORM, "application/json", ""]),
        }
    ),
)
def test_nothing_but_the_documented_errors_is_raised(
    pairs: list[tuple[str, bytes]], body: bytes | None, headers: dict[str, str]
) -> None:
    provider = twilio(account_sid=SID, shared_key=SHARED, staff_phones=[BOB])
    query = urlencode(pairs)
    request = (
        webhook(query.encode(), headers) if body is None else webhook(body, headers, url=f"{URL}?{query}")
    )
    with pytest.raises(InputRefused):
        provider.verify(request, NOW)
    for one in understood(provider, request):
        fold(None, one.event, NOW)


def understood(provider: Twilio, request: Webhook) -> Sequence[Told]:
    try:
        return provider.parse(request, NOW)
    except NotUnderstood:
        return []


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    )
)
def test_any_json_is_read_or_kept(value: Any) -> None:
    request = webhook(json.dumps(value).encode(), {"Content-Type": "application/json"})
    assert len(understood(twilio(), request)) <= 1


@given(HEADERS)
def test_any_reference_is_refused_or_asked_for(reference: str) -> None:
    with pytest.raises((ErrandFailed, StopIteration)):
        next(twilio(account_sid=SID).find_recording(reference, NOW))
