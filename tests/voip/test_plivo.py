"""Plivo's callbacks: the proof, what each says, whole calls in any order, recordings, and listed calls."""

import base64
import hashlib
import hmac
import json
import random
import secrets
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from itertools import permutations
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from zoneinfo import ZoneInfo

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
from calllogd.voip.provider.plivo import LONGEST_S, SERVICE, Plivo
from calllogd.voip.webhook import EMPTY, Webhook

OURS = [
    one
    for one in json.loads((Path(__file__).parent / "vectors.json").read_text())["vectors"]
    if one["provider"] == "plivo"
]

NOW = 1_767_225_600.0
URL = "https://calls.example.com/voip/plivo/31337"
TOKEN, OLD_TOKEN = secrets.token_hex(20), secrets.token_hex(20)
NONCE = secrets.token_hex(10)
AUTH_ID = "MA" + secrets.token_hex(9).upper()
CLIENT, COMPANY, BOB, CAROL = "15005550006", "12025550143", "12025550199", "12025550188"
ANN = "sip:ann@phone.plivo.com"
RECORDING = f"https://aps1.media.plivo.com/v1/Account/{AUTH_ID}/Recording/458d1e9b.mp3"
FORM = "application/x-www-form-urlencoded"


def plivo(tokens: Sequence[BearerToken] = (), **settings: Any) -> Plivo:
    values = {name: setting.default for name, setting in SERVICE.settings.items()}
    for name, value in {"auth_token": TOKEN, **settings}.items():
        values[name] = None if value is None else SERVICE.settings[name].read(value)
    provider = SERVICE.make(31337, values, tokens)
    assert isinstance(provider, Plivo)
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


def sign(text: str, secret: str = TOKEN) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), hashlib.sha256)).decode()


def proven(text: str, secret: str = TOKEN, header: str = "X-Plivo-Signature-V3") -> dict[str, str]:
    return {header: sign(f"{text}.{NONCE}", secret), "X-Plivo-Signature-V3-Nonce": NONCE}


def signed(fields: Mapping[str, str], secret: str = TOKEN, *, rest: str = "") -> Webhook:
    text = f"{URL}?" + "".join(name + value for name, value in sorted(fields.items()))
    return webhook(urlencode(fields).encode(), proven(text, secret), rest=rest)


def local(after_s: float, zone: str = "UTC") -> str:
    return datetime.fromtimestamp(NOW + after_s, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")


def message(event: str, status: str, **more: str) -> dict[str, str]:
    known = {
        "CallUUID": "a-leg",
        "Direction": "inbound",
        "From": CLIENT,
        "To": COMPANY,
        "CallStatus": status,
        "Event": event,
        "ParentAuthID": AUTH_ID,
    }
    return {**known, **more}


def hangup(start_s: float, answer_s: float | None, end_s: float, **more: str) -> dict[str, str]:
    """Return what the hangup URL gets; the times are UTC."""
    talk_s = 0 if answer_s is None else end_s - answer_s
    known = {
        "Duration": f"{talk_s:.0f}",
        "BillDuration": "120",
        "HangupCause": "NORMAL_CLEARING",
        "HangupCauseCode": "4000",
        "HangupSource": "Caller",
        "StartTime": local(start_s),
        "AnswerTime": "" if answer_s is None else local(answer_s),
        "EndTime": local(end_s),
        "SessionStart": local(start_s + 2) + ".910772",
    }
    return message("Hangup", "completed", **{**known, **more})


def outbound(**more: str) -> dict[str, str]:
    """Return the ends of a call that the API made to the client."""
    known = {
        "Direction": "outbound",
        "From": COMPANY,
        "To": CLIENT,
        "ALegUUID": "a-leg",
        "RequestUUID": "a-leg",
    }
    return {**known, **more}


def dial(action: str, b_leg: str, to: str, **more: str) -> dict[str, str]:
    known = {
        "Event": f"Dial{action.capitalize()}",
        "CallUUID": "a-leg",
        "DialAction": action,
        "DialBLegStatus": action,
        "DialALegUUID": "a-leg",
        "DialBLegUUID": b_leg,
        "DialBLegFrom": CLIENT,
        "DialBLegTo": to,
    }
    return {**known, **more}


def dialled(b_leg: str, to: str, talk_s: int, end_s: float | None = None, **more: str) -> dict[str, str]:
    known = {
        "DialBLegDuration": str(talk_s),
        "DialBLegBillDuration": "60",
        "DialBLegHangupCause": "NORMAL_CLEARING",
        "DialBLegHangupCauseCode": "4000",
    }
    times = {} if end_s is None else {"EndTime": local(end_s), "StartTime": local(end_s - talk_s - 6)}
    return dial("hangup", b_leg, to, **{**known, **times, **more})


def recorded(**more: str) -> dict[str, str]:
    known = {
        "Event": "RecordStop",
        "CallUUID": "a-leg",
        "RecordUrl": RECORDING,
        "RecordFile": RECORDING,
        "RecordingID": "458d1e9b",
        "RecordingDuration": "61",
        "RecordingDurationMs": "61234",
        "RecordingStartMs": "1767225605000",
        "RecordingEndMs": "1767225666234",
    }
    return {**known, **more}


def form(fields: Mapping[str, str]) -> Webhook:
    return webhook(urlencode(fields).encode())


def told(fields: Mapping[str, str], **settings: Any) -> Told:
    (one,) = plivo(**settings).parse(form(fields), NOW)
    return one


def leg_of(fields: Mapping[str, str], **settings: Any) -> Leg:
    return told(fields, **settings).event.legs[-1]


def made(events: Sequence[CallEvent]) -> Call:
    call: Call | None = None
    for one in events:
        call = fold(call, one, NOW)
    assert call is not None
    return call


def folded(messages: Sequence[Mapping[str, str]], **settings: Any) -> Call:
    """Return the call that messages make, whatever their order, and however often they come.

    They come a second after one another, as far as that is known.
    """
    provider = plivo(**settings)
    events = [
        one.event
        for after_s, fields in enumerate(messages)
        for one in provider.parse(form(fields), NOW + after_s)
    ]
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
    return known == (direction, "+" + CLIENT, who, Outcome(status, talk_s), (31337, "a-leg"))


# The proof.


@pytest.mark.parametrize("vector", OURS, ids=lambda one: one["id"])
def test_vectors_are_judged_as_they_say(vector: dict[str, Any]) -> None:
    provider = plivo(auth_token=vector["secret"])
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
    assert one.what == "leg.ended"
    if expect := vector.get("expect"):
        facts = made([one.event]).facts
        assert one.event.key.call_id == expect["call_id"]
        assert facts.direction == expect["direction"]
        assert facts.outcome == (expect["disposition"], expect["duration"])
        assert facts.phone == "+15005550006"


def test_all_vectors_are_here() -> None:
    assert len(OURS) == 9
    assert sum(one["valid"] for one in OURS) == 5


@pytest.mark.parametrize("header", ["X-Plivo-Signature-V3", "X-Plivo-Signature-Ma-V3"])
def test_both_secrets_are_good_while_they_change(header: str) -> None:
    rotating = plivo(previous_auth_token=OLD_TOKEN)
    for secret in (TOKEN, OLD_TOKEN):
        rotating.verify(webhook(b"a=1", proven(f"{URL}?a1", secret, header)), NOW)
    for secret in (secrets.token_hex(20), ""):
        with pytest.raises(InputRefused) as caught:
            rotating.verify(webhook(b"a=1", proven(f"{URL}?a1", secret, header)), NOW)
        assert caught.value.code == "unauthorized"
    with pytest.raises(InputRefused):
        plivo().verify(webhook(b"a=1", proven(f"{URL}?a1", OLD_TOKEN, header)), NOW)


def test_one_good_signature_of_several_is_enough() -> None:
    good, bad = sign(f"{URL}?a1.{NONCE}"), sign("other")
    for shown in (f"{bad}, {good}", f"{good},{bad}", f",{good},"):
        headers = {"X-Plivo-Signature-V3": shown, "X-Plivo-Signature-V3-Nonce": NONCE}
        plivo().verify(webhook(b"a=1", headers), NOW)
    main = {"X-Plivo-Signature-V3": bad, "X-Plivo-Signature-Ma-V3": good, "X-Plivo-Signature-V3-Nonce": NONCE}
    plivo().verify(webhook(b"a=1", main), NOW)


def test_version_2_is_no_proof() -> None:
    headers = {"X-Plivo-Signature-V2": sign(URL + NONCE), "X-Plivo-Signature-V2-Nonce": NONCE}
    for more in (
        {},
        {"X-Plivo-Signature-V3-Nonce": NONCE},
        {"X-Plivo-Signature-V3": sign(URL + NONCE)},
        {"X-Plivo-Signature-V3-Nonce": NONCE, "X-Plivo-Signature-V2": sign(f"{URL}?a1.{NONCE}")},
    ):
        with pytest.raises(InputRefused):
            plivo().verify(webhook(b"a=1", {**headers, **more}), NOW)


def test_nonce_is_needed() -> None:
    for nonce in ({}, {"X-Plivo-Signature-V3-Nonce": ""}):
        with pytest.raises(InputRefused):
            plivo().verify(webhook(b"a=1", {"X-Plivo-Signature-V3": sign(f"{URL}?a1."), **nonce}), NOW)


@pytest.mark.parametrize(
    ("method", "url", "body", "text"),
    [
        ("POST", URL, b"b=2&a=1&a=0&c=", f"{URL}?a0a1b2c"),
        ("POST", URL, b"a=1&a=1", f"{URL}?a1a1"),
        ("POST", f"{URL}?y=2&x=b&x=a", b"a=1", f"{URL}?x=a&x=b&y=2.a1"),
        ("GET", f"{URL}?x=a&x=a", b"", f"{URL}?x=a&x=a"),
        ("POST", f"{URL}?x=%C3%A9+%26&y=", b"a=1", f"{URL}?x=é &&y=.a1"),
        ("POST", f"{URL}?y=2&x=1", b"", f"{URL}?x=1&y=2"),
        ("POST", URL, b"", URL),
        ("GET", f"{URL}?y=2&x=1", b"", f"{URL}?x=1&y=2"),
        ("GET", URL, b"", URL),
        ("POST", "https://calls.example.com:8443/v", b"a=%C3%A9+1", "https://calls.example.com:8443/v?aé 1"),
    ],
)
def test_fields_are_signed_in_their_order(method: str, url: str, body: bytes, text: str) -> None:
    plivo().verify(webhook(body, proven(text), url=url, method=method), NOW)
    for other in (text + ".", text.replace("?", ""), text[:-1], text + "?"):
        if other != text:
            with pytest.raises(InputRefused):
                plivo().verify(webhook(body, proven(other), url=url, method=method), NOW)


def test_each_field_is_signed() -> None:
    fields = hangup(0, 5, 68, ForwardedFrom="")
    request = signed(fields)
    proof = {name: request.headers[name] for name in ("X-Plivo-Signature-V3", "X-Plivo-Signature-V3-Nonce")}
    plivo().verify(request, NOW)
    for name in fields:
        for changed in ({**fields, name: fields[name] + "1"}, {k: v for k, v in fields.items() if k != name}):
            with pytest.raises(InputRefused):
                plivo().verify(webhook(urlencode(changed).encode(), proof), NOW)
    with pytest.raises(InputRefused):
        plivo().verify(webhook(urlencode({**fields, "New": "1"}).encode(), proof), NOW)
    for name, header in proof.items():
        for place in range(len(header)):
            other = "A" if header[place] != "A" else "B"
            with pytest.raises(InputRefused):
                plivo().verify(
                    webhook(request.body, {**proof, name: header[:place] + other + header[place + 1 :]}), NOW
                )


@pytest.mark.parametrize(
    ("method", "content_type"), [("GET", FORM), ("POST", "application/json"), ("POST", ""), ("GET", "")]
)
def test_body_that_is_not_signed_is_refused(method: str, content_type: str) -> None:
    for text in (URL, f"{URL}?", f"{URL}?a1"):
        headers = {**proven(text), "Content-Type": content_type}
        with pytest.raises(InputRefused) as caught:
            plivo().verify(webhook(b"a=1", headers, method=method), NOW)
        assert caught.value.code == "unauthorized"


def test_bytes_that_are_no_text_are_signed_as_they_are() -> None:
    text = URL.encode() + b"?a\xff\xfe." + NONCE.encode()
    signature = base64.b64encode(hmac.digest(TOKEN.encode(), text, hashlib.sha256)).decode()
    headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": NONCE}
    plivo().verify(webhook(b"a=%ff\xfe", headers), NOW)


def test_message_may_come_by_get() -> None:
    fields = hangup(0, 5, 68)
    url = f"{URL}?{urlencode(fields)}"
    text = "&".join(f"{name}={value}" for name, value in sorted(fields.items()))
    request = webhook(b"", {**proven(f"{URL}?{text}"), "Content-Type": ""}, url=url, method="GET")
    plivo().verify(request, NOW)
    (one,) = plivo().parse(request, NOW)
    assert (one.what, one.event.key.call_id, one.event.legs[0].talk) == ("leg.ended", "a-leg", 63)
    assert plivo().told_body(request).startswith(b"CallUUID=a-leg&")


def test_fields_of_the_address_are_not_the_message_of_a_form() -> None:
    request = webhook(
        urlencode(hangup(0, 5, 68)).encode(), url=f"{URL}?CallUUID=other&ALegUUID=other&CallStatus=busy"
    )
    (one,) = plivo().parse(request, NOW)
    assert (one.event.key.call_id, one.event.legs[0].talk) == ("a-leg", 63)


def test_token_in_the_address_is_needed_as_well_where_there_is_one() -> None:
    token, other = secrets.token_hex(16), secrets.token_hex(16)
    provider = plivo([BearerToken(other, NOW + 1)], token=token)
    provider.verify(signed({"a": "1"}, rest=token), NOW)
    provider.verify(signed({"a": "1"}, rest=other), NOW)
    for rest in ("", "x" * 16):
        with pytest.raises(InputRefused):
            provider.verify(signed({"a": "1"}, rest=rest), NOW)
    with pytest.raises(InputRefused):
        provider.verify(form({"a": "1"}), NOW)


def test_service_is_none_without_a_secret() -> None:
    values = {name: setting.default for name, setting in SERVICE.settings.items()}
    assert SERVICE.make(1, {**values, "auth_id": AUTH_ID}, [BearerToken(secrets.token_hex(16))]) is None
    assert SERVICE.make(1, {**values, "auth_token": TOKEN}, ()) is not None
    assert SERVICE.make(1, {**values, "previous_auth_token": TOKEN}, ()) is not None


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("auth_id", wrong) for wrong in ("", 1, "MA1", "XA" + "1" * 18, AUTH_ID.lower(), AUTH_ID + "1")),
        *(("timezone", wrong) for wrong in ("", 1, "Nowhere/Land", "../UTC", "\0", "America")),
    ],
)
def test_wrong_settings_are_mistakes_of_the_configuration(name: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^(a text|the Auth ID|a time zone such as America/Sao_Paulo)"):
        SERVICE.settings[name].read(wrong)


def test_service_is_found_and_answers_with_nothing() -> None:
    provider: Provider = plivo()
    assert services()["plivo"] is SERVICE
    assert provider.reply is EMPTY
    assert SERVICE.methods == {"GET", "POST"}
    assert isinstance(provider, KeepsRecordings)
    assert isinstance(provider, ListsCalls)
    assert {name for name, setting in SERVICE.settings.items() if setting.secret} == {
        "auth_token",
        "previous_auth_token",
        "token",
        "previous_token",
    }
    with pytest.raises(InputRefused):
        provider.verify_upload(form({}), NOW)


# What each message says.


INBOUND = Leg("a-leg", Side.CLIENT, Direction.INBOUND, "+" + CLIENT)
OUTBOUND = Leg("a-leg", None, Direction.OUTBOUND, "+" + CLIENT, "+" + CLIENT)


@pytest.mark.parametrize(
    ("fields", "what", "expected"),
    [
        (message("StartApp", "ringing"), "leg.ringing", INBOUND),
        (message("StartApp", "in-progress"), "leg.answered", INBOUND),
        (message("Ring", "ringing", **outbound()), "leg.ringing", OUTBOUND),
        (message("Queue", "queued", **outbound()), "leg.started", OUTBOUND),
        (
            hangup(0, 5, 68),
            "leg.ended",
            INBOUND._replace(
                started_at=NOW,
                answered_at=NOW + 5,
                ended_at=NOW + 68,
                talk=63,
                status=CallStatus.ANSWERED,
            ),
        ),
        (
            hangup(0, None, 30),
            "leg.ended",
            INBOUND._replace(started_at=NOW, ended_at=NOW + 30, status=CallStatus.NO_ANSWER),
        ),
        (
            hangup(0, 30, 30),
            "leg.ended",
            INBOUND._replace(started_at=NOW, ended_at=NOW + 30, status=CallStatus.NO_ANSWER),
        ),
        (
            hangup(0, 5, 68, CallStatus="busy"),
            "leg.ended",
            INBOUND._replace(started_at=NOW, ended_at=NOW + 68, status=CallStatus.BUSY),
        ),
        (
            hangup(0, 5, 68, Duration=""),
            "leg.ended",
            INBOUND._replace(
                started_at=NOW, answered_at=NOW + 5, ended_at=NOW + 68, status=CallStatus.ANSWERED
            ),
        ),
        (
            {"CallUUID": "a-leg", "Event": "Hangup", "Duration": "7"},
            "leg.ended",
            Leg("a-leg", talk=7, status=CallStatus.ANSWERED),
        ),
        (
            {"CallUUID": "a-leg", "CallStatus": "completed", "AnswerTime": local(1), "EndTime": local(9)},
            "leg.ended",
            Leg("a-leg", answered_at=NOW + 1, ended_at=NOW + 9, status=CallStatus.ANSWERED),
        ),
        *(
            (
                hangup(0, None, 30, CallStatus=word, **outbound()),
                "leg.ended",
                OUTBOUND._replace(started_at=NOW, ended_at=NOW + 30, status=status),
            )
            for word, status in [
                ("busy", CallStatus.BUSY),
                ("failed", CallStatus.FAILED),
                ("timeout", CallStatus.NO_ANSWER),
                ("no-answer", CallStatus.NO_ANSWER),
                ("cancel", CallStatus.CANCELLED),
            ]
        ),
    ],
)
def test_a_leg_is_told(fields: dict[str, str], what: str, expected: Leg) -> None:
    one = told(fields)
    assert (one.what, one.event.legs, one.body) == (what, (expected,), None)
    assert (one.event.key, one.event.recording) == ((31337, "a-leg"), Recording())


@pytest.mark.parametrize(
    ("cause", "code", "status"),
    [
        ("USER_BUSY", "3010", CallStatus.BUSY),
        ("", "3010", CallStatus.BUSY),
        ("USER_BUSY", "", CallStatus.BUSY),
        ("NO_ANSWER", "3000", CallStatus.NO_ANSWER),
        ("", "6010", CallStatus.NO_ANSWER),
        ("NO_USER_RESPONSE", "3000", CallStatus.NO_ANSWER),
        ("ORIGINATOR_CANCEL", "6999", CallStatus.CANCELLED),
        ("", "1000", CallStatus.CANCELLED),
        ("CALL_REJECTED", "", CallStatus.FAILED),
        ("", "3020", CallStatus.FAILED),
        ("NORMAL_CLEARING", "2000", CallStatus.FAILED),
        ("", "7011", CallStatus.FAILED),
        ("NORMAL_CLEARING", "4000", CallStatus.NO_ANSWER),
        ("", "", CallStatus.NO_ANSWER),
        ("5", "Five", CallStatus.FAILED),
        ("Five", "2xx", CallStatus.NO_ANSWER),
    ],
)
def test_cause_says_why_nobody_answered(cause: str, code: str, status: CallStatus) -> None:
    causes = {"HangupCause": cause, "HangupCauseCode": code}
    assert leg_of(hangup(0, None, 30, **causes)).status is status
    assert leg_of(hangup(0, 5, 30, **causes)).status is CallStatus.ANSWERED
    causes = {"DialBLegHangupCause": cause, "DialBLegHangupCauseCode": code}
    assert leg_of({**dialled("b", BOB, 0), **causes}).status is status


def test_a_leg_that_was_added_is_told() -> None:
    one = told(dial("answer", "b-leg", BOB))
    added = Leg("b-leg", None, Direction.OUTBOUND, "+" + BOB, "+" + BOB)
    assert (one.what, one.event.legs) == ("leg.answered", (Leg("a-leg"), added._replace(answered_at=NOW)))
    assert told(dial("connected", "b-leg", BOB)).event == one.event
    one = told(dialled("b-leg", BOB, 60, 69))
    ended = added._replace(started_at=NOW + 3, ended_at=NOW + 69, talk=60, status=CallStatus.ANSWERED)
    assert (one.what, one.event.legs) == ("leg.ended", (Leg("a-leg"), ended))
    assert told(dialled("b-leg", BOB, 60)).event.legs[1] == added._replace(
        talk=60, status=CallStatus.ANSWERED
    )
    ends = {"Direction": "inbound", "From": CLIENT, "To": COMPANY}
    assert told(dial("answer", "b-leg", BOB, **ends)).event.legs[0] == INBOUND
    assert told(dial("answer", "b-leg", BOB, **ends, CallUUID="b-leg")).event.legs[0] == Leg("a-leg")
    assert told(dial("answer", "b-leg", BOB, ALegUUID="root")).event.key.call_id == "root"


def test_a_leg_that_was_added_may_tell_of_itself() -> None:
    one = told(hangup(0, 5, 68, Direction="outbound", CallUUID="b-leg", ALegUUID="a-leg", To=BOB))
    assert (one.event.key.call_id, one.event.legs[0].id) == ("a-leg", "b-leg")


@pytest.mark.parametrize(
    ("caller", "called", "expected"),
    [
        (ANN, CLIENT, Leg("a-leg", Side.STAFF, Direction.OUTBOUND, "+" + CLIENT, "ann")),
        ("sip:ann@phone.plivo.com;x=1", "", Leg("a-leg", Side.STAFF, Direction.OUTBOUND, None, "ann")),
        (
            ANN,
            "sip:bob@phone.plivo.com",
            Leg("a-leg", Side.STAFF, Direction.OUTBOUND, "sip:bob@phone.plivo.com", "ann"),
        ),
        ("ann@phone.plivo.com", CLIENT, Leg("a-leg", Side.STAFF, Direction.OUTBOUND, "+" + CLIENT, "ann")),
        (f"sip:{'a' * 65}@x", CLIENT, Leg("a-leg", Side.STAFF, Direction.OUTBOUND, "+" + CLIENT)),
        (
            f"sip:+{CLIENT}@carrier.example.com",
            COMPANY,
            INBOUND._replace(phone=f"sip:+{CLIENT}@carrier.example.com"),
        ),
        ("+" + CLIENT, COMPANY, INBOUND),
        ("", COMPANY, INBOUND._replace(phone="")),
        ("anonymous", COMPANY, INBOUND._replace(phone="anonymous")),
        (
            "sip:anonymous@anonymous.invalid",
            COMPANY,
            INBOUND._replace(phone="sip:anonymous@anonymous.invalid"),
        ),
        ("07971442086", COMPANY, INBOUND._replace(phone="07971442086")),
        ("911", COMPANY, INBOUND._replace(phone="911")),
    ],
)
def test_whoever_has_a_name_is_one_of_the_company(caller: str, called: str, expected: Leg) -> None:
    assert leg_of(message("StartApp", "in-progress", From=caller, To=called)) == expected


def test_own_people_may_have_numbers() -> None:
    own = {"staff_phones": ["+" + BOB]}
    assert leg_of(dial("answer", "b", BOB), **own) == Leg(
        "b", Side.STAFF, None, None, "+" + BOB, answered_at=NOW
    )
    assert leg_of(dial("answer", "b", CAROL), **own).side is None
    assert leg_of(dial("answer", "b", "sip:bob@phone.plivo.com"), **own).extension == "bob"
    assert leg_of(message("StartApp", "in-progress", From=BOB), **own) == Leg(
        "a-leg", Side.STAFF, extension="+" + BOB
    )


@pytest.mark.parametrize(
    ("zone", "at", "expected"),
    [
        ("UTC", "2026-01-01 00:00:00", NOW),
        ("Asia/Kolkata", "2026-01-01 05:30:00", NOW),
        ("America/Sao_Paulo", "2025-12-31 21:00:00", NOW),
        ("America/Sao_Paulo", "2026-01-01 05:30:00+05:30", NOW),
        ("UTC", "2026-01-02 00:00:00", NOW + 86_400),
        ("UTC", "2026-01-02 00:00:01", None),
        ("UTC", "1999-12-31 23:59:59", None),
        ("Asia/Kolkata", "0001-01-01 00:00:00", None),
        ("UTC", "9999-12-31 23:59:59-12:00", None),
        ("UTC", "2026-13-01 00:00:00", None),
        ("UTC", "yesterday", None),
        ("UTC", "", None),
    ],
)
def test_times_are_read_in_the_zone_of_the_account(zone: str, at: str, expected: float | None) -> None:
    times = {"StartTime": at, "AnswerTime": at, "EndTime": at, "SessionStart": ""}
    found = leg_of(hangup(0, 5, 68, **times), timezone=zone)
    assert (found.started_at, found.answered_at, found.ended_at) == (expected,) * 3
    assert (found.talk, found.status) == (63, CallStatus.ANSWERED)


@pytest.mark.parametrize(
    ("start", "zone", "is_sure"),
    [
        ("2026-01-01 05:30:00", "UTC", False),
        ("2026-01-01 05:30:00", "Asia/Kolkata", True),
        ("2026-01-01 05:30:00", "Asia/Kathmandu", False),
        ("2025-12-31 19:00:00", "UTC", False),
        ("2026-01-01 00:00:00", "UTC", True),
        ("2025-12-31 23:50:03", "UTC", True),
    ],
)
def test_times_of_another_zone_are_left_out(start: str, zone: str, is_sure: bool) -> None:
    fields = hangup(0, 5, 68, StartTime=start)
    found = leg_of(fields, timezone=zone)
    assert (found.started_at is not None) is is_sure
    assert (found.answered_at is not None) is is_sure
    assert (found.ended_at is not None) is is_sure
    assert made([told(fields, timezone=zone).event]).facts.outcome == (CallStatus.ANSWERED, 63)


@pytest.mark.parametrize(
    "fields",
    [
        dial("digits", "b", BOB),
        dial("answer", "", BOB),
        {"CallUUID": "a-leg", "Event": "MachineDetection", "Machine": "true"},
        {"CallUUID": "a-leg", "ConferenceName": "x", "ConferenceAction": "exit"},
        {"MessageUUID": "1", "From": CLIENT, "Text": "Hello"},
        {"ConferenceName": "x", "RecordUrl": RECORDING},
        {"MPCUUID": "x", "EventName": "MPCInitialized"},
        recorded(Event="Record", RecordingDuration="-1", RecordingEndMs="-1"),
        {"call_uuid": "a-leg", "record_url": RECORDING, "recording_duration": "-1"},
        {"response": json.dumps({"call_uuid": "a-leg", "record_url": RECORDING, "recording_duration": -1})},
    ],
)
def test_other_messages_are_of_no_interest(fields: dict[str, str]) -> None:
    assert plivo().parse(form(fields), NOW) == []


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({}, "CallUUID is missing"),
        ({"Hello": "1"}, "CallUUID is missing"),
        ({"CallUUID": "", "CallStatus": "completed"}, "CallUUID is missing"),
        ({"call_uuid": "a", "CallStatus": "completed"}, "CallUUID is missing"),
        ({"CallUUID": "a\n", "CallStatus": "completed"}, "CallUUID is no id"),
        ({"CallUUID": "a" * 256, "CallStatus": "completed"}, "CallUUID is no id"),
        (hangup(0, 5, 68, ALegUUID="\x00"), "CallUUID is no id"),
        (dial("answer", "b\x7f", BOB), "CallUUID is no id"),
        (dial("answer", "b", BOB, DialALegUUID="\n"), "CallUUID is no id"),
        (message("Hangup", "hung-up"), "CallStatus"),
        (message("Hangup", ""), "CallStatus"),
        (hangup(0, 5, 68, Direction="sideways"), "Direction"),
        (hangup(0, 5, 68, From="1" * 256), "From or To"),
        (hangup(0, 5, 68, To="1" * 256), "From or To"),
        *(
            (hangup(0, 5, 68, Duration=wrong), "Duration")
            for wrong in ("-1", "1.5", "x", "9" * 9, "10000001", "٣", "NaN", "9" * 5000)
        ),
        (dialled("b", BOB, -1), "Duration"),
        (recorded(RecordUrl="http://s3.amazonaws.com/1.mp3"), "RecordUrl"),
        (recorded(RecordUrl="https://example.com/" + "1" * 2000), "RecordUrl"),
        (recorded(CallUUID="\n"), "CallUUID is no id"),
        ({"response": "[]"}, "response"),
        ({"response": "{"}, "response"),
        ({"call_uuid": "1", "response": "["}, "response"),
        ({"call_uuid": "1", "response": "[" * 30_000}, "response"),
        ({"call_uuid": "1", "response": '{"a":' + "[" * 30_000}, "response"),
    ],
)
def test_what_cannot_be_read_is_kept(fields: dict[str, str], missing: str) -> None:
    with pytest.raises(NotUnderstood, match=missing):
        plivo().parse(form(fields), NOW)


# Whole calls.


def test_answered_inbound_call() -> None:
    call = folded(
        [
            message("StartApp", "ringing"),
            dial("answer", "b", ANN),
            dial("connected", "b", ANN),
            dialled("b", ANN, 60, 69),
            hangup(0, 1, 70),
        ]
    )
    assert was(call, Direction.INBOUND, "ann", CallStatus.ANSWERED, 60)
    assert call.facts.started_at == NOW


@pytest.mark.parametrize("end_s", [69, None])
def test_inbound_call_that_was_put_through_to_a_number(end_s: float | None) -> None:
    call = folded([dialled("b", BOB, 60, end_s), hangup(0, 1, 70)])
    assert was(call, Direction.INBOUND, "+" + BOB, CallStatus.ANSWERED, 60)


def test_inbound_call_of_which_no_leg_is_told() -> None:
    assert was(folded([hangup(0, 1, 70)]), Direction.INBOUND, None, CallStatus.ANSWERED, 69)


def test_call_goes_on_until_its_first_leg_has_ended() -> None:
    for messages in (
        [dial("answer", "b", BOB), dialled("b", BOB, 60, 69)],
        [dialled("b", ANN, 60, 69)],
        [message("StartApp", "in-progress"), dialled("b", BOB, 0)],
    ):
        assert folded(messages).facts.outcome is None


@pytest.mark.parametrize("to", [CLIENT, "+" + CLIENT])
def test_answered_outbound_call_of_a_softphone(to: str) -> None:
    ends = {"From": ANN, "To": to}
    call = folded(
        [
            message("StartApp", "in-progress", **ends),
            dial("answer", "b", CLIENT, DialBLegFrom=COMPANY),
            dialled("b", CLIENT, 50, 69, DialBLegFrom=COMPANY),
            hangup(0, 1, 70, **ends),
        ]
    )
    assert was(call, Direction.OUTBOUND, "ann", CallStatus.ANSWERED, 50)
    assert call.facts.started_at == NOW


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        ("USER_BUSY", CallStatus.BUSY),
        ("NO_ANSWER", CallStatus.NO_ANSWER),
        ("ORIGINATOR_CANCEL", CallStatus.CANCELLED),
        ("CALL_REJECTED", CallStatus.FAILED),
    ],
)
def test_outbound_call_that_nobody_answered(cause: str, status: CallStatus) -> None:
    call = folded(
        [dialled("b", CLIENT, 0, 30, DialBLegHangupCause=cause), hangup(0, 1, 31, From=ANN, To=CLIENT)]
    )
    assert was(call, Direction.OUTBOUND, "ann", status, 0)


@pytest.mark.parametrize(
    ("word", "status"),
    [("completed", CallStatus.ANSWERED), ("busy", CallStatus.BUSY), ("timeout", CallStatus.NO_ANSWER)],
)
def test_call_that_the_api_made_to_the_client(word: str, status: CallStatus) -> None:
    answer_s, talk_s = (8, 60) if word == "completed" else (None, 0)
    ends = outbound()
    call = folded([message("Ring", "ringing", **ends), hangup(0, answer_s, 68, CallStatus=word, **ends)])
    assert was(call, Direction.OUTBOUND, None, status, talk_s)


@pytest.mark.parametrize(("own", "who"), [(ANN, "ann"), (BOB, "+" + BOB)])
def test_click_to_call(own: str, who: str) -> None:
    call = folded(
        [dialled("b", CLIENT, 50, 69, DialBLegFrom=COMPANY), hangup(0, 4, 70, **outbound(To=own))],
        staff_phones=["+" + BOB],
    )
    assert was(call, Direction.OUTBOUND, who, CallStatus.ANSWERED, 50)


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        ("USER_BUSY", CallStatus.BUSY),
        ("NO_ANSWER", CallStatus.NO_ANSWER),
        ("ORIGINATOR_CANCEL", CallStatus.CANCELLED),
    ],
)
@pytest.mark.parametrize(("own", "who"), [(ANN, "ann"), (BOB, "+" + BOB)])
def test_missed_inbound_call(own: str, who: str, cause: str, status: CallStatus) -> None:
    call = folded([dialled("b", own, 0, 24, DialBLegHangupCause=cause), hangup(0, 1, 25)])
    assert was(call, Direction.INBOUND, who, status, 0)


def test_one_of_three_answers() -> None:
    call = folded(
        [
            dial("answer", "c", BOB),
            dialled("b", ANN, 0, 9, DialBLegHangupCause="LOSE_RACE"),
            dialled("c", BOB, 60, 69),
            dialled("d", CAROL, 0, 9, DialBLegHangupCause="ORIGINATOR_CANCEL"),
            hangup(0, 1, 70),
        ]
    )
    assert was(call, Direction.INBOUND, "+" + BOB, CallStatus.ANSWERED, 60)


@pytest.mark.parametrize("with_times", [True, False])
def test_caller_is_passed_on(with_times: bool) -> None:
    call = folded(
        [
            dial("answer", "c", ANN),
            dialled("c", ANN, 50, 60 if with_times else None),
            dial("answer", "b", BOB),
            dialled("b", BOB, 40, 119 if with_times else None),
            hangup(0, 1, 120),
        ]
    )
    assert was(call, Direction.INBOUND, "+" + BOB, CallStatus.ANSWERED, 90)


def test_caller_is_passed_on_after_a_word() -> None:
    call = folded([dialled("b", ANN, 70, 80), dialled("c", BOB, 59, 119), hangup(0, 1, 120)])
    assert was(call, Direction.INBOUND, "+" + BOB, CallStatus.ANSWERED, 109)


def test_recording_may_come_before_the_end() -> None:
    call = folded([recorded(), dialled("b", ANN, 60, 69), hangup(0, 1, 70)])
    assert was(call, Direction.INBOUND, "ann", CallStatus.ANSWERED, 60)
    assert call.recording == Recording(state=RecordingState.EXPECTED, url=RECORDING)
    one = told(recorded())
    assert (one.what, one.event) == ("recording.ready", CallEvent(key=call.key, recording=call.recording))


def test_calls_are_told_in_the_zone_of_the_account() -> None:
    zone = "Asia/Kolkata"
    times = {"StartTime": local(0, zone), "AnswerTime": local(1, zone), "EndTime": local(70, zone)}
    call = folded([hangup(0, 1, 70, **times)], timezone=zone)
    assert call.facts.started_at == NOW


# Recordings.


@pytest.mark.parametrize(
    "fields",
    [
        recorded(),
        {"CallUUID": "a-leg", "RecordUrl": RECORDING},
        {"CallUUID": "a-leg", "RecordUrl": RECORDING, "response": "200"},
        {"CallUUID": "a-leg", "RecordFile": RECORDING, "RecordUrl": ""},
        {"CallUUID": "b-leg", "ALegUUID": "a-leg", "RecordUrl": RECORDING},
        {"api_id": "1", "call_uuid": "a-leg", "record_url": RECORDING, "recording_duration_ms": "61234"},
        {"response": json.dumps({"call_uuid": "a-leg", "record_url": RECORDING, "recording_duration": 61})},
    ],
)
def test_recording_is_told_in_several_ways(fields: dict[str, str]) -> None:
    one = told(fields)
    assert (one.what, one.event.key.call_id, one.event.recording.url) == (
        "recording.ready",
        "a-leg",
        RECORDING,
    )


@pytest.mark.parametrize(
    ("url", "with_credentials"),
    [
        (RECORDING, f"plivo:{RECORDING}"),
        ("https://media.plivo.com/v1/1.mp3", "plivo:https://media.plivo.com/v1/1.mp3"),
        ("https://bucket.s3.amazonaws.com/1.mp3", "https://bucket.s3.amazonaws.com/1.mp3"),
        ("https://media.plivo.com.example.com/1", "https://media.plivo.com.example.com/1"),
    ],
)
def test_recording_is_told_by_reference_if_there_are_credentials(url: str, with_credentials: str) -> None:
    assert told(recorded(RecordUrl=url), auth_id=AUTH_ID).event.recording.url == with_credentials
    assert told(recorded(RecordUrl=url)).event.recording.url == url
    old = {"auth_id": AUTH_ID, "auth_token": None, "previous_auth_token": OLD_TOKEN}
    assert told(recorded(RecordUrl=url), **old).event.recording.url == url
    one = told(hangup(0, 1, 70, RecordUrl=url))
    assert (one.what, one.event.recording.url) == ("leg.ended", url)


def test_end_is_told_even_if_its_recording_is_nowhere() -> None:
    one = told(hangup(0, 1, 70, RecordUrl="ftp://example.com/1"))
    assert (one.what, one.event.recording) == ("leg.ended", Recording())


def found(provider: Plivo, reference: str) -> Ask:
    errand = provider.find_recording(reference, NOW)
    with pytest.raises(StopIteration) as caught:
        next(errand)
    assert isinstance(caught.value.value, Ask)
    return caught.value.value


@pytest.mark.parametrize(
    "reference", [RECORDING, "https://MEDIA.plivo.com:443/1", "https://plivo.example.com/v/Recording/1.mp3"]
)
def test_recording_is_asked_for_with_credentials(reference: str) -> None:
    ask = found(plivo(auth_id=AUTH_ID, api_url="https://plivo.example.com/v"), reference)
    credentials = base64.b64encode(f"{AUTH_ID}:{TOKEN}".encode()).decode()
    assert ask == Ask(url=reference, headers={"Authorization": f"Basic {credentials}"})


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "458d1e9b",
        "http://media.plivo.com/1111",
        "https://example.com/1111",
        "https://media.plivo.com.example.com/1111",
        "https://evilplivo.com/1111",
        "https://media.plivo.com@example.com/1111",
        "https://user@media.plivo.com/1111",
        "https://example.com\\.plivo.com/1111",
        "https://example.com#.plivo.com/1111",
        "https://example.com/.plivo.com/1111",
        "https://media.plivo.com:8443/1111",
        "https://media.plivo.com\n.example.com/1111",
        "https://media.plivo.com/ 1111",
        "https://[::1/1111",
        "https://plivo.example.com.evil/1111",
        "https://media.plivo.com/" + "1" * 2000,
    ],
)
def test_credentials_go_to_plivo_alone(reference: str) -> None:
    with pytest.raises(ErrandFailed) as caught:
        next(plivo(auth_id=AUTH_ID, api_url="https://plivo.example.com").find_recording(reference, NOW))
    assert caught.value.is_final
    assert "1111" not in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{}, {"auth_id": AUTH_ID, "auth_token": None, "previous_auth_token": OLD_TOKEN}]
)
def test_recording_cannot_be_asked_for_without_credentials(settings: dict[str, Any]) -> None:
    with pytest.raises(ErrandFailed, match="auth_id and auth_token") as caught:
        next(plivo(**settings).find_recording(RECORDING, NOW))
    assert caught.value.is_final


# Listed calls.


def row(call_uuid: str, **more: Any) -> dict[str, Any]:
    first = call_uuid == "a-leg"
    known = {
        "call_uuid": call_uuid,
        "parent_call_uuid": None if first else "a-leg",
        "call_direction": "inbound" if first else "outbound",
        "from_number": "+" + CLIENT if first else CLIENT,
        "to_number": COMPANY if first else ANN,
        "call_duration": 69 if first else 60,
        "bill_duration": 60,
        "initiation_time": local(0 if first else 3),
        "answer_time": local(1 if first else 9),
        "end_time": local(70 if first else 69) + "+00:00",
        "hangup_cause_code": 4000,
        "hangup_cause_name": "Normal Hangup",
        "total_amount": "0.00850",
    }
    return {**known, **more}


def page(*rows: Any) -> Got:
    meta = {"limit": 20, "next": None, "offset": 0, "previous": None, "total_count": len(rows)}
    return Got(status=200, body=json.dumps({"api_id": "1", "meta": meta, "objects": rows}).encode())


Listing = Generator[Ask | Sequence[Told], Got | None, None]


def listed(
    answers: Sequence[Got], since: float = NOW - 100, until: float = NOW + 100, **settings: Any
) -> tuple[list[Ask], list[Sequence[Told]]]:
    """Return what was asked, and what was told of each call."""
    errand: Listing = plivo(**{"auth_id": AUTH_ID, **settings}).list_calls(since, until, NOW + 86_000)
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
    others = [row(f"other-{number}", parent_call_uuid="elsewhere") for number in range(19)]
    asks, calls = listed([page(row("a-leg"), *others), page(row("b-leg"))])
    credentials = base64.b64encode(f"{AUTH_ID}:{TOKEN}".encode()).decode()
    for ask, offset in zip(asks, (0, 20), strict=True):
        assert (ask.method, ask.headers) == ("GET", {"Authorization": f"Basic {credentials}"})
        parts = urlsplit(ask.url)
        assert (parts.netloc, parts.path) == ("api.plivo.com", f"/v1/Account/{AUTH_ID}/Call/")
        assert parse_qs(parts.query) == {
            "end_time__gte": ["2025-12-31 23:58:20"],
            "end_time__lte": ["2026-01-01 04:01:40"],
            "limit": ["20"],
            "offset": [str(offset)],
        }
    assert LONGEST_S == 14_400
    (call,) = calls
    assert [one.what for one in call] == ["leg.ended", "leg.ended"]
    assert [json.loads(one.body or b"") for one in call] == [row("a-leg"), row("b-leg")]


def test_listed_call_and_told_call_are_the_one_call() -> None:
    messages = [
        dial("answer", "b-leg", ANN),
        dialled("b-leg", ANN, 60, 69),
        hangup(0, 1, 70),
        recorded(),
    ]
    _, (rows,) = listed([page(row("a-leg"), row("b-leg"))])
    alone = in_any_order([one.event for one in rows])
    assert was(alone, Direction.INBOUND, "ann", CallStatus.ANSWERED, 60)
    assert [one[5:8] for one in alone.legs] == [(NOW, NOW + 1, NOW + 70), (NOW + 3, NOW + 9, NOW + 69)]
    events = [one.event for fields in messages for one in plivo().parse(form(fields), NOW + 9)]
    both = in_any_order([*events, *(one.event for one in rows)])
    assert both.facts == folded(messages).facts == alone.facts
    assert [one.id for one in both.legs] == ["a-leg", "b-leg"]


@pytest.mark.parametrize(
    ("rows", "direction", "status", "talk_s"),
    [
        (
            [
                row("a-leg"),
                row("b-leg", to_number=BOB, call_duration=0, answer_time=None, hangup_cause_code=3000),
            ],
            Direction.INBOUND,
            CallStatus.NO_ANSWER,
            0,
        ),
        (
            [
                row("a-leg", from_number=ANN, to_number=CLIENT),
                row("b-leg", from_number=COMPANY, to_number=CLIENT, call_duration="60"),
            ],
            Direction.OUTBOUND,
            CallStatus.ANSWERED,
            60,
        ),
        (
            [
                row(
                    "a-leg",
                    call_direction="outbound",
                    from_number=COMPANY,
                    to_number=CLIENT,
                    call_duration=0,
                    hangup_cause_code="3010",
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
    assert (facts.direction, facts.phone, facts.outcome) == (direction, "+" + CLIENT, Outcome(status, talk_s))
    assert facts.started_at == NOW


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row("b-leg")],
        [row("a-leg", initiation_time=local(-101))],
        [row("a-leg", initiation_time=local(101))],
        [row("a-leg", initiation_time=None, answer_time=None, end_time=local(101))],
        [row("a-leg", initiation_time=None, answer_time=local(101))],
        [row("a-leg", call_direction="odd"), row("b-leg")],
        [row("a-leg") | {"call_uuid": "\n"}],
        [1, [], "x", {}, {"call_uuid": 1}, {"call_uuid": "a-leg", "call_duration": 1.5}],
    ],
)
def test_other_calls_are_left_out(rows: Sequence[Any]) -> None:
    assert listed([page(*rows)])[1] == []


def test_bounds_are_within() -> None:
    for more in (
        {"initiation_time": local(-100)},
        {"initiation_time": local(100)},
        {"initiation_time": None, "answer_time": local(100)},
        {"initiation_time": None, "answer_time": None, "end_time": local(100)},
        {"initiation_time": None, "answer_time": None, "end_time": None},
    ):
        assert len(listed([page(row("a-leg", **more))])[1]) == 1


def test_listed_times_are_the_accounts() -> None:
    zone = "Asia/Kolkata"
    times = {"initiation_time": local(0, zone), "answer_time": local(1, zone), "end_time": local(70, zone)}
    _, (call,) = listed([page(row("a-leg", **times))], timezone=zone)
    assert call[0].event.legs[0].ended_at == NOW + 70


def test_listing_ends_where_pages_repeat() -> None:
    full = page(*(row(f"{number}", parent_call_uuid=None) for number in range(20)))
    asks, calls = listed([full, full])
    assert (len(asks), len(calls)) == (2, 20)
    asks, _ = listed([full, page()])
    assert len(asks) == 2


def test_listing_does_not_go_on_for_ever() -> None:
    errand = plivo(auth_id=AUTH_ID).list_calls(NOW, NOW + 1, NOW)
    next(errand)
    for number in range(1999):
        errand.send(page(*([number] * 20)))
    with pytest.raises(ErrandFailed, match="2000 pages"):
        errand.send(page(*([-1] * 20)))


@pytest.mark.parametrize(
    ("answer", "is_final"),
    [
        (Got(status=401, body=b"{}"), True),
        (Got(status=429, body=b"{}"), False),
        (Got(status=500, body=b""), False),
        (Got(status=200, body=b"{"), False),
        (Got(status=200, body=b"{}"), False),
        (Got(status=200, body=b'{"objects":{}}'), False),
    ],
)
def test_listing_fails_with_the_service(answer: Got, is_final: bool) -> None:
    errand = plivo(auth_id=AUTH_ID).list_calls(NOW, NOW + 1, NOW)
    next(errand)
    with pytest.raises(ErrandFailed) as caught:
        errand.send(answer)
    assert caught.value.is_final is is_final


def test_calls_cannot_be_listed_without_credentials() -> None:
    with pytest.raises(ErrandFailed, match="auth_id and auth_token") as caught:
        next(plivo().list_calls(NOW, NOW + 1, NOW))
    assert caught.value.is_final


# Whatever may come.


NAMES = st.sampled_from(
    [*hangup(0, 1, 70), *dialled("b", BOB, 1, 2), *recorded(), "ALegUUID", "call_uuid", "response"]
)
VALUES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [
            b"a-leg",
            b"completed",
            b"Hangup",
            b"hangup",
            b"answer",
            b"inbound",
            b"outbound",
            b"sip:",
            b"sip:@",
            b"63",
            b"2026-01-01 00:00:00",
            b"0001-01-01 00:00:00+23:59",
            b'{"call_uuid":"1"}',
            b"https://[",
            CLIENT.encode(),
            ANN.encode(),
            RECORDING.encode(),
        ]
    ),
)
HEADERS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=40)


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=12),
    st.one_of(st.none(), st.binary(max_size=60)),
    st.fixed_dictionaries(
        {
            "X-Plivo-Signature-V3": HEADERS,
            "X-Plivo-Signature-Ma-V3": HEADERS,
            "X-Plivo-Signature-V3-Nonce": HEADERS,
            "Content-Type": st.sampled_from([FORM, "application/json", ""]),
        }
    ),
)
def test_nothing_but_the_documented_errors_is_raised(
    pairs: list[tuple[str, bytes]], body: bytes | None, headers: dict[str, str]
) -> None:
    provider = plivo(auth_id=AUTH_ID, staff_phones=["+" + BOB], timezone="Asia/Kolkata")
    query = urlencode(pairs)
    request = (
        webhook(query.encode(), headers) if body is None else webhook(body, headers, url=f"{URL}?{query}")
    )
    with pytest.raises(InputRefused):
        provider.verify(request, NOW)
    try:
        known = provider.parse(request, NOW)
    except NotUnderstood:
        known = []
    for one in known:
        fold(None, one.event, NOW)


@given(HEADERS)
def test_any_reference_is_refused_or_asked_for(reference: str) -> None:
    with pytest.raises((ErrandFailed, StopIteration)):
        next(plivo(auth_id=AUTH_ID).find_recording(reference, NOW))
