"""Zadarma: who may speak, what is understood, and what its API is asked."""

import base64
import hashlib
import hmac
import itertools
import json
import random
import secrets
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from zoneinfo import ZoneInfo

import msgspec
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
from calllogd.voip.errand import Ask, ErrandFailed, Got, KeepsRecordings, ListsCalls
from calllogd.voip.proof import BearerToken
from calllogd.voip.provider import NotUnderstood, Provider, Told
from calllogd.voip.provider.zadarma import SERVICE, Zadarma
from calllogd.voip.webhook import Webhook
from tests.fakes import ACCOUNT

VECTORS = [
    one
    for one in json.loads(Path(__file__).with_name("vectors.json").read_text())["vectors"]
    if one["provider"] == "zadarma"
]
KEY, SECRET, TOKEN = (secrets.token_hex(10) for _ in range(3))
BASE = f"https://calls.example.com/voip/zadarma/{ACCOUNT}"
NOW = 1_767_225_600.0  # 2026-01-01 00:00:00 UTC
AT = "2026-01-01 01:00:00"  # the same in Madrid
CLIENT, LINE = "+12025550143", "15005550006"
IN, OUT = "in_ae6b03b3b0765d127ec0b739209346bbc4f0d52d", "out_dcb22bcd4e78fa4b627aa2e0c67d0191cd0a5068"
REC = "1767225600.100"

SIGNED = {
    "NOTIFY_START": "caller_id called_did call_start",
    "NOTIFY_INTERNAL": "caller_id called_did call_start",
    "NOTIFY_IVR": "caller_id called_did call_start",
    "NOTIFY_END": "caller_id called_did call_start",
    "NOTIFY_ANSWER": "caller_id destination call_start",
    "NOTIFY_OUT_START": "internal destination call_start",
    "NOTIFY_OUT_END": "internal destination call_start",
    "NOTIFY_RECORD": "pbx_call_id call_id_with_rec",
}


def zadarma(made: Sequence[BearerToken] = (), **given_values: Any) -> Zadarma:
    defaults = {name: setting.default for name, setting in SERVICE.settings.items()}
    values = {**defaults, "key": KEY, "secret": SECRET, "timezone": "Europe/Madrid", **given_values}
    for name, value in values.items():
        if value is not defaults[name] and value is not None:
            values[name] = SERVICE.settings[name].read(value)
    provider = SERVICE.make(ACCOUNT, values, made)
    assert isinstance(provider, Zadarma)
    return provider


ZADARMA = zadarma()


def signature(secret: str, text: str) -> str:
    return base64.b64encode(
        hmac.new(secret.encode(), text.encode(), hashlib.sha1).hexdigest().encode()
    ).decode()


def webhook(
    body: bytes,
    shown: str | None = None,
    *,
    method: str = "POST",
    url: str = BASE,
    rest: str = "",
    peer: str = "",
) -> Webhook:
    headers = CIMultiDict({"Content-Type": "application/x-www-form-urlencoded"})
    if shown is not None:
        headers["signature"] = shown
    return Webhook(method=method, url=url, headers=CIMultiDictProxy(headers), body=body, rest=rest, peer=peer)


def message(form: Mapping[str, str], *, secret: str = SECRET, **more: Any) -> Webhook:
    names = SIGNED.get(form["event"], "").split()
    text = "".join(form.get(name, "") for name in names)
    return webhook(urlencode(form).encode(), signature(secret, text), **more)


def notify(event: str, call_id: str = IN, **fields: str) -> dict[str, str]:
    form = {"event": event, "call_start": AT, "pbx_call_id": call_id}
    if "OUT" in event:
        form.update(internal="100", destination=CLIENT)
    elif event == "NOTIFY_RECORD":
        form = {"event": event, "pbx_call_id": call_id, "call_id_with_rec": REC}
    elif event == "NOTIFY_ANSWER":
        form.update(
            caller_id=CLIENT if call_id == IN else LINE, destination=LINE if call_id == IN else CLIENT
        )
    else:
        form.update(caller_id=CLIENT, called_did=LINE)
    return {**form, **fields}


def ended(
    call_id: str = IN, disposition: str = "answered", duration: int = 63, **fields: str
) -> dict[str, str]:
    event = "NOTIFY_END" if call_id == IN else "NOTIFY_OUT_END"
    talk = {"duration": str(duration), "disposition": disposition, "status_code": "16", "is_recorded": "0"}
    return notify(event, call_id, **{**talk, **fields})


def told(form: Mapping[str, str], provider: Zadarma = ZADARMA) -> Told:
    sent = message(form)
    provider.verify(sent, NOW)
    (one,) = provider.parse(sent, NOW)
    return one


def folded(all_told: Iterable[Told]) -> Call:
    call: Call | None = None
    for one in all_told:
        call = fold(call, one.event, NOW)
    assert call is not None
    return call


def assembled(*forms: Mapping[str, str]) -> Call:
    """Return the call that messages make, the same in whatever order they come, and how often."""
    all_told = [told(form) for form in forms]
    chance = random.Random(7)  # noqa: S311
    orders: Iterable[Sequence[Told]] = itertools.permutations(all_told)
    if len(all_told) > 6:
        orders = [chance.sample(all_told, len(all_told)) for _ in range(500)]
    calls = [folded(order) for order in orders]
    calls += [
        folded(chance.choices(all_told, k=3) + chance.sample(all_told, len(all_told))) for _ in range(50)
    ]
    first = calls[0]
    assert {(call.key, call.facts, call.recording, call.legs) for call in calls} == {
        (first.key, first.facts, first.recording, ())
    }
    return first


def expected(reference: str) -> Recording:
    return Recording(state=RecordingState.EXPECTED, url=f"zadarma:{reference}")


# What others have checked


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_vectors(vector: dict[str, Any]) -> None:
    provider = zadarma(secret=vector["secret"], timezone="UTC")
    sent = Webhook(
        method=vector["method"],
        url=vector["url"],
        headers=CIMultiDictProxy(CIMultiDict(vector["headers"])),
        body=vector["body"].encode(),
    )
    if "expect_response" in vector:
        reply = SERVICE.handshake(sent)
        assert reply is not None
        assert (reply.status, reply.body.decode()) == (
            vector["expect_response"]["status"],
            vector["expect_response"]["body"],
        )
        return
    assert SERVICE.handshake(sent) is None
    if not vector["valid"]:
        with pytest.raises(InputRefused):
            provider.verify(sent, vector["clock"])
        return
    provider.verify(sent, vector["clock"])
    (one,) = provider.parse(sent, vector["clock"])
    if "expect" not in vector:
        return
    expect = dict(vector["expect"])
    assert one.event.key.call_id == expect.pop("call_id")
    assert one.event.recording.url == f"zadarma:{one.event.key.call_id}/{expect.pop('recording_id')}"
    assert one.what == ("recording.ready" if expect.pop("event", None) == "recording" else "call.ended")
    if expect:
        facts = one.event.facts
        assert facts.outcome == Outcome(CallStatus(expect.pop("disposition")), expect.pop("duration"))
        assert facts.direction == expect.pop("direction")
        assert facts.started_at == vector["clock"]
    assert not expect


# Who may speak


@pytest.mark.parametrize("event", SIGNED)
def test_each_event_is_signed_over_its_own_fields(event: str) -> None:
    form = notify(event, OUT if "OUT" in event else IN, internal="100", call_id_with_rec=REC)
    ZADARMA.verify(message(form), NOW)
    for name in SIGNED[event].split():
        changed = {**form, name: form[name] + "0"}
        with pytest.raises(InputRefused) as refused:
            ZADARMA.verify(webhook(urlencode(changed).encode(), message(form).headers["Signature"]), NOW)
        assert refused.value.code == "unauthorized"


def test_fields_that_are_left_out_are_signed_as_empty() -> None:
    form = notify("NOTIFY_OUT_START", OUT)
    del form["internal"]
    ZADARMA.verify(message(form), NOW)


@pytest.mark.parametrize("shown", [None, "", "x", "é", signature(SECRET, ""), "a" * 10_000])
def test_wrong_signatures(shown: str | None) -> None:
    with pytest.raises(InputRefused):
        ZADARMA.verify(webhook(urlencode(notify("NOTIFY_START")).encode(), shown), NOW)


def test_signature_of_what_is_no_utf_8() -> None:
    body = b"event=NOTIFY_START&caller_id=%ff%C3%A9&called_did=\xfe&call_start=1&pbx_call_id=in_1"
    mac = hmac.new(SECRET.encode(), b"\xff\xc3\xa9\xfe1", hashlib.sha1).hexdigest()
    sent = webhook(body, base64.b64encode(mac.encode()).decode())
    ZADARMA.verify(sent, NOW)
    assert ZADARMA.parse(sent, NOW)[0].event.facts.phone == "\ufffdé"


def test_of_a_field_that_comes_twice_the_one_that_is_signed_counts() -> None:
    form = notify("NOTIFY_START")
    body = b"caller_id=%2B19999999999&" + urlencode(form).encode()
    sent = webhook(body, message(form).headers["Signature"], url=f"{BASE}?caller_id=666&event=NOTIFY_END")
    ZADARMA.verify(sent, NOW)
    assert ZADARMA.parse(sent, NOW)[0].event.facts.phone == CLIENT


def test_secrets_are_changed_without_a_gap() -> None:
    older, newer = secrets.token_hex(10), secrets.token_hex(10)
    form = notify("NOTIFY_START")
    both = zadarma(secret=newer, previous_secret=older)
    both.verify(message(form, secret=older), NOW)
    both.verify(message(form, secret=newer), NOW)
    with pytest.raises(InputRefused):
        both.verify(message(form, secret=SECRET), NOW)
    with pytest.raises(InputRefused):
        zadarma(secret=newer).verify(message(form, secret=older), NOW)
    last = zadarma(secret=None, previous_secret=older)
    last.verify(message(form, secret=older), NOW)
    with pytest.raises(InputRefused):
        last.verify(message(form, secret=newer), NOW)


def test_the_address_may_have_a_secret_besides() -> None:
    form, made = notify("NOTIFY_START"), BearerToken(secrets.token_hex(10), NOW)
    both = zadarma([made], token=TOKEN, previous_token=TOKEN[::-1])
    for rest in (TOKEN, TOKEN[::-1], f"{TOKEN}/"):
        both.verify(message(form, rest=rest), NOW)
    both.verify(message(form, rest=made.token), NOW - 1)
    for rest in ("", "x", f"x/{TOKEN}", made.token):
        with pytest.raises(InputRefused):
            both.verify(message(form, rest=rest), NOW)
    with pytest.raises(InputRefused):
        both.verify(webhook(urlencode(form).encode(), "x", rest=TOKEN), NOW)


def test_without_an_api_key_the_secret_address_is_the_proof() -> None:
    unsigned = webhook(urlencode(notify("NOTIFY_START")).encode(), rest=TOKEN)
    zadarma(key=None, secret=None, token=TOKEN).verify(unsigned, NOW)
    with pytest.raises(InputRefused):
        zadarma(key=None, secret=None, token=secrets.token_hex(9)).verify(unsigned, NOW)


def test_other_events_need_the_secret_address() -> None:
    other = urlencode({"event": "SPEECH_RECOGNITION", "result": "{}"}).encode()
    for body in (other, b"", b"\xff\xfe", b"event="):
        with pytest.raises(InputRefused):
            ZADARMA.verify(webhook(body, signature(SECRET, "")), NOW)
    both = zadarma(token=TOKEN)
    both.verify(webhook(other, rest=TOKEN), NOW)
    assert both.parse(webhook(other, rest=TOKEN), NOW) == []


def test_addresses() -> None:
    near = zadarma(allow_from=["185.45.152.40/30"])
    near.verify(message(notify("NOTIFY_START"), peer="185.45.152.42"), NOW)
    for peer in ("185.45.152.44", "", "x"):
        with pytest.raises(InputRefused) as refused:
            near.verify(message(notify("NOTIFY_START"), peer=peer), NOW)
        assert refused.value.code == "forbidden"


def test_it_is_made_of_something_to_prove_itself_by() -> None:
    nothing = {name: setting.default for name, setting in SERVICE.settings.items()}
    assert SERVICE.make(ACCOUNT, nothing, []) is None
    assert SERVICE.make(ACCOUNT, {**nothing, "key": KEY}, []) is None
    for name in ("secret", "previous_secret", "token", "previous_token"):
        assert SERVICE.make(ACCOUNT, {**nothing, name: TOKEN}, []) is not None
    assert SERVICE.make(ACCOUNT, nothing, [BearerToken(TOKEN)]) is not None


@pytest.mark.parametrize("value", ["", "Mars/Base", "../x", "a\0b", 3, None, ["UTC"], "America"])
def test_time_zones_that_are_none(value: Any) -> None:
    with pytest.raises(ValueError, match="a time zone such as"):
        SERVICE.settings["timezone"].read(value)


def test_the_secrets_are_told_to_be_secret() -> None:
    names = {name for name, setting in SERVICE.settings.items() if setting.secret}
    assert names == {"key", "secret", "previous_secret", "token", "previous_token"}
    assert SERVICE.settings["timezone"].read("Etc/GMT-3") == ZoneInfo("Etc/GMT-3")


# The address is tried


@pytest.mark.parametrize("word", ["7f3c", "a" * 128, "2f-9_~.", "aGk="])
def test_echo(word: str) -> None:
    reply = SERVICE.handshake(webhook(b"", method="GET", url=f"{BASE}?{urlencode({'zd_echo': word})}"))
    assert reply is not None
    assert (reply.status, reply.body, reply.content_type) == (200, word.encode(), "text/plain")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "word", ["", "<script>", "a b", "a\r\nb", "é", "\0", "a" * 129, "a\n", "{}", "\udcff"]
)
def test_echo_of_nothing_that_could_be_more_than_a_word(word: str) -> None:
    query = urlencode({"zd_echo": word}, errors="surrogateescape")
    assert SERVICE.handshake(webhook(b"", method="GET", url=f"{BASE}?{query}")) is None


def test_echo_only_where_the_address_is_tried() -> None:
    assert SERVICE.handshake(webhook(b"", url=f"{BASE}?zd_echo=1")) is None
    assert SERVICE.handshake(webhook(b"zd_echo=1", method="GET")) is None
    assert SERVICE.handshake(webhook(b"", method="GET", url=f"{BASE}?other=1")) is None
    assert SERVICE.methods == {"GET", "POST"}


def test_answers_are_empty_for_they_could_steer_the_call() -> None:
    assert ZADARMA.reply is not None
    assert (ZADARMA.reply.status, ZADARMA.reply.body) == (200, b"")


# What one message says

INBOUND, OUTBOUND = Direction.INBOUND, Direction.OUTBOUND
ANSWERED = CallStatus.ANSWERED


@pytest.mark.parametrize(
    ("form", "what", "facts"),
    [
        (notify("NOTIFY_START"), "call.started", Facts(direction=INBOUND, phone=CLIENT, started_at=NOW)),
        (
            notify("NOTIFY_INTERNAL", internal="101"),
            "call.ringing",
            Facts(direction=INBOUND, phone=CLIENT, person=Person(1, "101"), started_at=NOW),
        ),
        (
            notify("NOTIFY_INTERNAL", "other_1", internal="101"),
            "call.ringing",
            Facts(person=Person(1, "101"), started_at=NOW),
        ),
        (
            notify("NOTIFY_ANSWER", internal="101"),
            "call.answered",
            Facts(direction=INBOUND, phone=CLIENT, person=Person(4, "101"), started_at=NOW),
        ),
        (
            notify("NOTIFY_ANSWER", OUT, internal="100"),
            "call.answered",
            Facts(direction=OUTBOUND, phone=CLIENT, person=Person(4, "100"), started_at=NOW),
        ),
        (
            ended(internal="101"),
            "call.ended",
            Facts(
                direction=INBOUND,
                phone=CLIENT,
                person=Person(5, "101"),
                started_at=NOW,
                outcome=Outcome(ANSWERED, 63),
            ),
        ),
        (
            ended(disposition="no answer"),
            "call.ended",
            Facts(direction=INBOUND, phone=CLIENT, started_at=NOW, outcome=Outcome(CallStatus.NO_ANSWER, 0)),
        ),
        (
            notify("NOTIFY_OUT_START", OUT),
            "call.started",
            Facts(direction=OUTBOUND, phone=CLIENT, person=Person(1, "100"), started_at=NOW),
        ),
        (
            ended(OUT, "cancel", 4),
            "call.ended",
            Facts(
                direction=OUTBOUND,
                phone=CLIENT,
                person=Person(3, "100"),
                started_at=NOW,
                outcome=Outcome(CallStatus.CANCELLED, 0),
            ),
        ),
        (notify("NOTIFY_RECORD"), "recording.ready", Facts()),
    ],
)
def test_messages(form: dict[str, str], what: str, facts: Facts) -> None:
    one = told(form)
    assert (one.what, one.event.facts) == (what, facts)
    assert one.event.key == CallKey(ACCOUNT, form["pbx_call_id"])
    assert one.body is None


def test_the_voice_menu_says_nothing_of_the_call() -> None:
    sent = message(notify("NOTIFY_IVR"))
    ZADARMA.verify(sent, NOW)
    assert ZADARMA.parse(sent, NOW) == []


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("answered", ANSWERED),
        ("Answered ", ANSWERED),
        ("busy", CallStatus.BUSY),
        ("cancel", CallStatus.CANCELLED),
        ("no answer", CallStatus.NO_ANSWER),
        *(
            (word, CallStatus.FAILED)
            for word in (
                "failed",
                "call failed",
                "no money",
                "unallocated number",
                "no limit",
                "no day limit",
                "line limit",
                "no money, no limit",
            )
        ),
    ],
)
def test_dispositions(word: str, status: CallStatus) -> None:
    assert told(ended(disposition=word)).event.facts.outcome == Outcome(status, 63 * (status is ANSWERED))


@pytest.mark.parametrize(
    "form",
    [
        ended(pbx_call_id=""),
        ended(pbx_call_id="a\nb"),
        ended(pbx_call_id="a" * 256),
        ended(pbx_call_id="a\x85"),
        ended(disposition=""),
        {**ended(), "duration": "-1"},
        {**ended(), "duration": ""},
        {**ended(), "duration": "1e3"},
        {**ended(), "duration": "٣"},
        {**ended(), "duration": "9" * 5000},
        notify("NOTIFY_RECORD", ""),
    ],
)
def test_not_understood(form: dict[str, str]) -> None:
    sent = message(form)
    ZADARMA.verify(sent, NOW)
    with pytest.raises(NotUnderstood):
        ZADARMA.parse(sent, NOW)


@pytest.mark.parametrize(
    ("zone", "text", "at"),
    [
        ("Europe/Madrid", "2026-01-01 01:00:00", NOW),
        ("UTC", "2026-01-01 00:00:00", NOW),
        ("Etc/GMT-3", "2026-01-01 03:00:00", NOW),
        (None, "2026-01-01 01:00:00", None),
        ("UTC", "", None),
        ("UTC", "yesterday", None),
        ("UTC", "0001-01-01 00:00:00", None),
        ("UTC", "9999-12-31 23:59:59", None),
        ("UTC", "2026-02-30 00:00:00", None),
        ("UTC", "2026-01-03 00:00:00", None),
        ("UTC", "2026-01-01T00:00:00+01:00", None),
    ],
)
def test_start(zone: str | None, text: str, at: float | None) -> None:
    assert told(notify("NOTIFY_START", call_start=text), zadarma(timezone=zone)).event.facts.started_at == at


def test_withheld_and_overlong_numbers() -> None:
    assert told(notify("NOTIFY_START", caller_id="")).event.facts.phone == ""
    assert told(notify("NOTIFY_START", caller_id="anonymous")).event.facts.phone == "anonymous"
    assert told(notify("NOTIFY_START", caller_id="1" * 3000)).event.facts.phone == "1" * 255
    assert told(notify("NOTIFY_INTERNAL", internal="1" * 65)).event.facts.person is None


@pytest.mark.parametrize(
    ("form", "reference"),
    [
        (ended(is_recorded="1", call_id_with_rec=REC), f"{IN}/{REC}"),
        (ended(is_recorded="1"), IN),
        (ended(OUT, is_recorded="1", call_id_with_rec=""), OUT),
        (notify("NOTIFY_RECORD"), f"{IN}/{REC}"),
        (notify("NOTIFY_RECORD", call_id_with_rec=""), IN),
        (
            notify("NOTIFY_RECORD", pbx_call_id="in_a/b?c", call_id_with_rec="../x y"),
            "in_a%2Fb%3Fc/..%2Fx%20y",
        ),
        (ended(is_recorded="0", call_id_with_rec=REC), None),
        (ended(call_id_with_rec=REC), None),
        (ended(disposition="cancel", is_recorded="1", call_id_with_rec=REC), None),
        (ended(duration=0, is_recorded="1", call_id_with_rec=REC), None),
        (notify("NOTIFY_START", is_recorded="1", call_id_with_rec=REC), None),
    ],
)
def test_recordings(form: dict[str, str], reference: str | None) -> None:
    assert told(form).event.recording == (Recording() if reference is None else expected(reference))


def test_the_story_keeps_the_body() -> None:
    sent = message(notify("NOTIFY_START"), rest=TOKEN)
    assert ZADARMA.told_body(sent) == sent.body
    assert SECRET.encode() not in ZADARMA.told_body(sent)


# What several messages say together


def test_an_answered_call() -> None:
    call = assembled(
        notify("NOTIFY_START"),
        notify("NOTIFY_INTERNAL", internal="100"),
        notify("NOTIFY_ANSWER", internal="100"),
        ended(internal="100", is_recorded="1", call_id_with_rec=REC),
        notify("NOTIFY_RECORD"),
    )
    assert call.facts == Facts(
        direction=INBOUND,
        phone=CLIENT,
        person=Person(5, "100"),
        started_at=NOW,
        outcome=Outcome(ANSWERED, 63),
    )
    assert call.recording == expected(f"{IN}/{REC}")


def test_a_call_to_the_client() -> None:
    call = assembled(
        notify("NOTIFY_OUT_START", OUT),
        notify("NOTIFY_ANSWER", OUT, internal="100"),
        ended(OUT, is_recorded="1", call_id_with_rec=REC),
        notify("NOTIFY_RECORD", OUT),
    )
    assert (call.facts.direction, call.facts.phone) == (OUTBOUND, CLIENT)
    assert call.facts.person == Person(5, "100")
    assert call.facts.outcome == Outcome(ANSWERED, 63)
    assert call.recording == expected(f"{OUT}/{REC}")


@pytest.mark.parametrize(
    ("word", "status"),
    [("no answer", CallStatus.NO_ANSWER), ("busy", CallStatus.BUSY), ("cancel", CallStatus.CANCELLED)],
)
def test_nobody_talked(word: str, status: CallStatus) -> None:
    missed = assembled(
        notify("NOTIFY_START"),
        notify("NOTIFY_INTERNAL", internal="100"),
        ended(disposition=word, duration=20),
    )
    assert (missed.facts.outcome, missed.facts.direction, missed.facts.phone) == (
        Outcome(status, 0),
        INBOUND,
        CLIENT,
    )
    assert missed.facts.person == Person(1, "100")
    made = assembled(notify("NOTIFY_OUT_START", OUT), ended(OUT, word, 20))
    assert (made.facts.outcome, made.facts.direction, made.facts.phone) == (
        Outcome(status, 0),
        OUTBOUND,
        CLIENT,
    )


@pytest.mark.parametrize("named", ["", "101"])
def test_of_those_who_ring_who_answers_counts(named: str) -> None:
    call = assembled(
        notify("NOTIFY_START"),
        *(notify("NOTIFY_INTERNAL", internal=one) for one in ("100", "101", "102")),
        notify("NOTIFY_ANSWER", internal="101"),
        ended(internal=named),
    )
    assert call.facts.person is not None
    assert call.facts.person.extension == "101"
    assert call.facts.outcome == Outcome(ANSWERED, 63)


def test_a_call_that_is_handed_on() -> None:
    call = assembled(
        notify("NOTIFY_START"),
        notify("NOTIFY_INTERNAL", internal="200"),
        notify("NOTIFY_ANSWER", internal="200"),
        notify("NOTIFY_INTERNAL", internal="100", call_start="2026-01-01 01:00:40"),
        notify("NOTIFY_ANSWER", internal="100", call_start="2026-01-01 01:00:45"),
        notify("NOTIFY_RECORD", call_id_with_rec="1767225600.90"),
        notify("NOTIFY_RECORD", call_id_with_rec="1767225645.101"),
        ended(internal="100", is_recorded="1", call_id_with_rec="1767225600.90"),
    )
    assert (call.facts.direction, call.facts.phone, call.facts.started_at) == (INBOUND, CLIENT, NOW)
    assert call.facts.person == Person(5, "100")
    assert call.facts.outcome == Outcome(ANSWERED, 63)
    assert call.recording == expected(f"{IN}/1767225645.101")


def test_a_call_to_the_client_that_is_handed_on_with_a_question() -> None:
    call = assembled(
        notify("NOTIFY_OUT_START", OUT),
        notify("NOTIFY_ANSWER", OUT, internal="100"),
        notify("NOTIFY_INTERNAL", OUT, caller_id="100", called_did="101", internal="101", destination=CLIENT),
        notify("NOTIFY_ANSWER", OUT, caller_id="100", destination="101", internal="101"),
        ended(OUT, internal="101"),
    )
    assert (call.facts.direction, call.facts.phone) == (OUTBOUND, CLIENT)
    assert call.facts.person == Person(5, "101")


def test_a_recording_before_the_end() -> None:
    early = folded([told(notify("NOTIFY_RECORD"))])
    assert (early.facts, early.recording) == (Facts(), expected(f"{IN}/{REC}"))
    call = assembled(notify("NOTIFY_RECORD"), ended(internal="100"))
    assert call.recording == expected(f"{IN}/{REC}")
    assert call.facts.outcome == Outcome(ANSWERED, 63)


# Recordings


def asked(ask: object, path: str) -> dict[str, str]:
    """Return what a request asks for, if it is rightly signed for Zadarma."""
    assert isinstance(ask, Ask)
    parts = urlsplit(ask.url)
    assert (parts.scheme, parts.netloc, parts.path, ask.method) == ("https", "api.zadarma.com", path, "GET")
    digest = hashlib.md5(parts.query.encode(), usedforsecurity=False).hexdigest()
    assert ask.headers == {"Authorization": f"{KEY}:{signature(SECRET, path + parts.query + digest)}"}
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    assert pairs == sorted(pairs)
    assert pairs.count(("format", "json")) == 1
    return {name: value for name, value in pairs if name != "format"}


def found(reference: str, got: Got, provider: Zadarma = ZADARMA) -> tuple[dict[str, str], object]:
    errand = provider.find_recording(reference, NOW)
    params = asked(next(errand), "/v1/pbx/record/request/")
    with pytest.raises(StopIteration) as stopped:
        errand.send(got)
    return params, stopped.value.value


LINK = "https://api.zadarma.com/v1/pbx/record/download/NjM3M/1-1458313316.343456-100.mp3"


@pytest.mark.parametrize(
    ("reference", "params", "answer", "link"),
    [
        (f"{IN}/{REC}", {"call_id": REC}, {"status": "success", "link": LINK, "lifetime_till": AT}, LINK),
        (IN, {"pbx_call_id": IN}, {"status": "success", "links": ["https://x.example/1.mp3", LINK]}, LINK),
        ("in_a%2Fb/x%20%26y", {"call_id": "x &y"}, {"link": LINK, "links": None}, LINK),
        ("in_a%2Fb", {"pbx_call_id": "in_a/b"}, {"link": "", "links": [LINK]}, LINK),
        (IN, {"pbx_call_id": IN}, {"link": "https://cdn.example.net/a.mp3"}, "https://cdn.example.net/a.mp3"),
    ],
)
def test_finding_a_recording(
    reference: str, params: dict[str, str], answer: dict[str, Any], link: str
) -> None:
    got = Got(status=200, body=msgspec.json.encode(answer))
    # What is fetched in the end is shown no credentials, whoever's it is.
    assert found(reference, got) == (params, Ask(url=link))


@pytest.mark.parametrize(
    ("got", "is_final"),
    [
        (Got(status=400, body=b'{"status":"error","message":"not found"}'), False),
        (Got(status=404, body=b""), False),
        (Got(status=429, body=b""), False),
        (Got(status=503, body=b""), False),
        (Got(status=401, body=b""), True),
        (Got(status=200, body=b'{"status":"error","message":"x"}'), False),
        (Got(status=200, body=b'{"link":"http://evil.example/"}'), False),
        (Got(status=200, body=b'{"link":"file:///etc/passwd"}'), False),
        (Got(status=200, body=b'{"links":[]}'), False),
        (Got(status=200, body=b'{"links":[1]}'), False),
        (Got(status=200, body=b"[]"), False),
        (Got(status=200, body=b"<html>"), False),
        (Got(status=200, body=b"[" * 100_000), False),
    ],
)
def test_recordings_that_are_not_to_be_had(got: Got, is_final: bool) -> None:
    errand = ZADARMA.find_recording(f"{IN}/{REC}", NOW)
    next(errand)
    with pytest.raises(ErrandFailed) as failed:
        errand.send(got)
    assert failed.value.is_final is is_final
    for hidden in (KEY, SECRET, REC, IN):
        assert hidden not in str(failed.value)


@pytest.mark.parametrize("provider", [zadarma(token=TOKEN, key=None), zadarma(token=TOKEN, secret=None)])
def test_without_an_api_key_nothing_is_asked(provider: Zadarma) -> None:
    for errand in (provider.find_recording(IN, NOW), provider.list_calls(NOW, NOW + 1, NOW)):
        with pytest.raises(ErrandFailed) as failed:
            next(errand)
        assert failed.value.is_final


# Calls that were missed


def row(name: str = IN, **fields: Any) -> dict[str, Any]:
    base = {
        "call_id": 1767225600.1,
        "sip": 100,
        "callstart": AT,
        "clid": 12025550143,
        "destination": 101 if name == IN else 12025550143,
        "disposition": "answered",
        "seconds": 63,
        "is_recorded": True,
        "pbx_call_id": name,
    }
    return {**base, **fields}


def stats(rows: Sequence[Any]) -> Got:
    return Got(status=200, body=msgspec.json.encode({"status": "success", "version": 2, "stats": rows}))


Listing = Generator[Ask | Sequence[Told], Got | None, None]


def page(errand: Listing, got: Got) -> Sequence[Told]:
    answer = errand.send(got)
    assert not isinstance(answer, Ask)
    return answer


def test_the_statistics_are_asked_for_page_by_page() -> None:
    errand: Listing = ZADARMA.list_calls(NOW, NOW + 3600, NOW + 9000)
    window = {"start": "2026-01-01 00:00:00", "end": "2026-01-01 03:00:00", "version": "2", "limit": "1000"}
    assert asked(next(errand), "/v1/statistics/pbx/") == {**window, "skip": "0"}
    full = [row(f"in_{n}") for n in range(1000)]
    assert [one.event.key.call_id for one in page(errand, stats(full))] == [f"in_{n}" for n in range(1000)]
    assert asked(errand.send(None), "/v1/statistics/pbx/") == {**window, "skip": "1000"}
    assert [one.event.key.call_id for one in page(errand, stats([row("in_last")]))] == ["in_last"]
    with pytest.raises(StopIteration):
        errand.send(None)


def test_pages_that_repeat_come_to_an_end() -> None:
    errand: Listing = ZADARMA.list_calls(NOW, NOW + 3600, NOW)
    full = [row(f"in_{n}") for n in range(1000)]
    next(errand)
    page(errand, stats(full))
    errand.send(None)
    with pytest.raises(StopIteration):
        errand.send(stats(full))


def test_pages_without_end_come_to_an_end() -> None:
    errand: Listing = ZADARMA.list_calls(NOW, NOW + 3600, NOW)
    next(errand)
    for number in range(99):
        page(errand, stats([row(f"in_{number}")] * 1000))
        assert isinstance(errand.send(None), Ask)
    page(errand, stats([row("in_99")] * 1000))
    with pytest.raises(ErrandFailed):
        errand.send(None)


@pytest.mark.parametrize(
    ("got", "is_final", "retry_after_s"),
    [
        (Got(status=429, body=b""), False, 60),
        (Got(status=401, body=b""), True, None),
        (Got(status=500, body=b""), False, None),
        (Got(status=200, body=b'{"status":"error"}'), False, None),
        (Got(status=200, body=b'{"stats":{}}'), False, None),
        (Got(status=200, body=b"\xff"), False, None),
        (None, False, None),
    ],
)
def test_statistics_that_are_not_to_be_had(
    got: Got | None, is_final: bool, retry_after_s: float | None
) -> None:
    errand: Listing = ZADARMA.list_calls(NOW, NOW + 3600, NOW)
    next(errand)
    with pytest.raises(ErrandFailed) as failed:
        errand.send(got)
    assert (failed.value.is_final, failed.value.retry_after_s) == (is_final, retry_after_s)


def test_without_a_time_zone_nothing_is_listed() -> None:
    with pytest.raises(ErrandFailed, match="timezone") as failed:
        next(zadarma(timezone=None).list_calls(NOW, NOW + 1, NOW))
    assert failed.value.is_final


def listed(one: Any) -> Sequence[Told]:
    errand: Listing = ZADARMA.list_calls(NOW, NOW + 3600, NOW)
    next(errand)
    return page(errand, stats([one]))


def test_rows() -> None:
    (came,) = listed(row())
    assert came.what == "call.ended"
    assert came.event.key == CallKey(ACCOUNT, IN)
    assert came.event.facts == Facts(
        direction=INBOUND,
        phone=CLIENT,
        person=Person(2, "101"),
        started_at=NOW,
        outcome=Outcome(ANSWERED, 63),
    )
    assert came.event.recording == expected(IN)
    assert came.body is not None
    assert msgspec.json.decode(came.body) == row()
    assert listed(row(call_id=REC))[0].event.recording == expected(f"{IN}/{REC}")
    (went,) = listed(row(OUT, disposition="call failed", clid=15005550006, is_recorded=False))
    assert went.event.facts == Facts(
        direction=OUTBOUND,
        phone=CLIENT,
        person=Person(2, "100"),
        started_at=NOW,
        outcome=Outcome(CallStatus.FAILED, 0),
    )
    assert went.event.recording == Recording()


@pytest.mark.parametrize(
    ("fields", "phone", "extension"),
    [
        ({"clid": "+12025550143"}, CLIENT, "101"),
        ({"clid": '"Ann" <12025550143>', "destination": "101"}, '"Ann" <12025550143>', "101"),
        ({"clid": 200}, "200", "101"),
        ({"clid": "1202555014377777"}, "1202555014377777", "101"),
        ({"clid": "02025550143"}, "02025550143", "101"),
        ({"clid": "anonymous", "destination": "0-1"}, "anonymous", None),
        ({"clid": None, "destination": 5}, "", None),
        ({"clid": 10**30, "destination": 15005550006}, "", None),
        ({"clid": 1.5, "destination": True}, "", None),
    ],
)
def test_numbers_in_rows(fields: dict[str, Any], phone: str, extension: str | None) -> None:
    body = json.dumps({"stats": [row(**fields)]}).encode()
    errand: Listing = ZADARMA.list_calls(NOW, NOW + 3600, NOW)
    next(errand)
    (one,) = page(errand, Got(status=200, body=body))
    assert one.event.facts.phone == phone
    assert one.event.facts.person == (None if extension is None else Person(2, extension))


@pytest.mark.parametrize(
    "one",
    [
        3,
        [],
        None,
        {},
        row(""),
        row("internal_1"),
        row("in"[::-1]),
        row("in_\n"),
        row(pbx_call_id=None),
        row(disposition=None),
        row(seconds=-1),
        row(seconds=None),
    ],
)
def test_rows_that_tell_of_no_call(one: Any) -> None:
    assert listed(one) == []


def test_rows_that_cannot_be_read_do_not_hide_the_others() -> None:
    good = json.dumps(row()).encode()
    body = b'{"stats":[{"pbx_call_id":"\xff"},' + good + b"]}"
    errand: Listing = ZADARMA.list_calls(NOW, NOW + 3600, NOW)
    next(errand)
    assert [one.event.key.call_id for one in page(errand, Got(status=200, body=body))] == [IN]


def test_a_listed_call_is_the_one_that_the_messages_told_of() -> None:
    told_by_messages = [
        told(notify("NOTIFY_START")),
        told(notify("NOTIFY_INTERNAL", internal="102")),
        told(notify("NOTIFY_ANSWER", internal="101")),
        told(ended(internal="101", is_recorded="1", call_id_with_rec=REC)),
        told(notify("NOTIFY_RECORD")),
    ]
    known = folded(told_by_messages)
    for one in [*listed(row()), *listed(row(call_id=REC, is_recorded="true"))]:
        for place in range(len(told_by_messages) + 1):
            call = folded([*told_by_messages[:place], one, *told_by_messages[place:]])
            assert (call.facts, call.recording) == (known.facts, known.recording)
        assert fold(known, one.event, NOW) is known


def test_parts_of_a_listed_call_are_one() -> None:
    parts = [
        *listed(row(destination=100, disposition="no answer", seconds=15, is_recorded=False)),
        *listed(row(destination=101)),
        *listed(row(destination=102, disposition="busy", seconds=0, is_recorded=False)),
    ]
    calls = [folded(order) for order in itertools.permutations(parts)]
    assert {(call.facts.outcome, call.recording) for call in calls} == {(Outcome(ANSWERED, 63), expected(IN))}


# Whatever comes

FIELDS = st.fixed_dictionaries(
    {"event": st.sampled_from([*SIGNED, "", "X"])},
    optional={
        name: st.one_of(
            st.text(max_size=30),
            st.sampled_from([AT, IN, OUT, "answered", "1", "9" * 5000, "\0", "nan", "-1"]),
        )
        for name in sorted({*ended(), *notify("NOTIFY_ANSWER"), "internal", "call_id_with_rec"} - {"event"})
    },
)


@given(FIELDS)
def test_any_form_that_is_signed(form: dict[str, str]) -> None:
    sent = message({name: value.encode("utf-8", "ignore").decode() for name, value in form.items()})
    try:
        ZADARMA.verify(sent, NOW)
        one = ZADARMA.parse(sent, NOW)
    except (InputRefused, NotUnderstood):
        return
    for each in one:
        folded([each])
        assert each.event.key.call_id.isprintable() or not each.event.key.call_id.isascii()


@given(st.binary(max_size=300), st.text(max_size=40), st.text(max_size=60))
@example(b"event=NOTIFY_END&" + b"a=1&" * 600, "", "")
@example(b"event=NOTIFY_END&pbx_call_id=%ed%a0%80&disposition=answered&duration=1", "", "")
def test_anything_at_all(body: bytes, shown: str, query: str) -> None:
    sent = webhook(body, shown.encode("utf-8", "replace").decode(), url=f"{BASE}?{query}")
    get = webhook(body, method="GET", url=f"{BASE}?zd_echo={query}")
    for do in (ZADARMA.verify, zadarma(token=TOKEN).verify, ZADARMA.parse):
        try:
            do(sent, NOW)
        except (InputRefused, NotUnderstood):
            continue
    try:
        reply = SERVICE.handshake(get)
        assert reply is None or reply.body.isascii()
    except InputRefused:
        pass


def test_it_is_what_it_says() -> None:
    provider: Provider = ZADARMA
    assert isinstance(provider, KeepsRecordings)
    assert isinstance(provider, ListsCalls)
