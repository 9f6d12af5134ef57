"""FreeSWITCH: who may post, how records are wrapped, and which calls their legs make."""

import base64
import json
import random
import secrets
from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from calllogd.config.values import networks
from calllogd.domain.call import (
    NO_RECORDING,
    Call,
    CallStatus,
    Direction,
    Facts,
    Outcome,
    Person,
    Recording,
    RecordingState,
    Side,
)
from calllogd.domain.merge import fold
from calllogd.errors import InputRefused
from calllogd.voip.errand import ErrandFailed, KeepsRecordings, LocalFile
from calllogd.voip.proof import BearerToken
from calllogd.voip.provider import LeavesRecords, NotUnderstood, Told
from calllogd.voip.provider.freeswitch import SERVICE, Freeswitch
from calllogd.voip.webhook import Webhook

ACCOUNT = 31337
START = 1_767_225_600
NOW = START + 3600.0
TOKEN, PASSWORD = secrets.token_hex(16), secrets.token_hex(16)
FOLDER = Path("/var/lib/freeswitch/recordings")
CLIENT, OFFICE, MOBILE = "+12125550123", "12125559000", "12125550177"
A, B, C, D = (f"{letter * 8}-0000-4000-8000-000000000001" for letter in "abcd")

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
ANSWERED = CallStatus.ANSWERED

VECTORS = [
    vector
    for vector in json.loads((Path(__file__).parent / "vectors.json").read_bytes())["vectors"]
    if vector["provider"] == "freeswitch"
]


def made(tokens: Sequence[BearerToken] = (), **values: Any) -> Freeswitch | None:
    known = {name: setting.default for name, setting in SERVICE.settings.items()}
    assert values.keys() <= known.keys()
    provider = SERVICE.make(ACCOUNT, {**known, **values}, tokens)
    assert provider is None or isinstance(provider, Freeswitch)
    return provider


def freeswitch(**values: Any) -> Freeswitch:
    provider = made(**{"username": "fs", "password": PASSWORD, "recordings": FOLDER, **values})
    assert provider is not None
    return provider


FREESWITCH = freeswitch()


def webhook(body: bytes = b"{}", *, rest: str = "", peer: str = "192.0.2.1", **headers: str) -> Webhook:
    return Webhook(
        method="POST",
        url=f"https://calls.example.com/voip/freeswitch/{ACCOUNT}/{rest}?uuid={A}",
        headers=CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}),
        body=body,
        rest=rest,
        peer=peer,
    )


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def record(
    uuid: str,
    caller: str,
    dialled: str,
    *,
    made_for: str | None = None,
    at: int = 0,
    talk: int | None = None,
    ends: int = 20,
    cause: str | None = None,
    context: str = "default",
    transfers: Sequence[tuple[str, str]] = (),
    bridged: int | None = None,
    content: dict[str, Any] | None = None,
    **variables: str | int,
) -> bytes:
    """Return the record of a leg; `at` and `ends` are seconds of the call, without `talk` nobody answered."""
    went_out = made_for is not None
    known = {
        "uuid": uuid,
        "direction": "outbound" if went_out else "inbound",
        "start_epoch": START + at,
        "answer_epoch": 0 if talk is None else START + ends - talk,
        "end_epoch": START + ends,
        "start_stamp": "2026-01-01 01:00:00",
        "duration": ends - at,
        "billsec": talk or 0,
        "hangup_cause": cause or "NORMAL_CLEARING",
        "call_uuid": uuid,
        **({"originating_leg_uuid": made_for, "originator": made_for} if made_for else {}),
        **variables,
    }
    profiles = [*reversed(transfers), (dialled, context)]
    told = {
        "core-uuid": "x",
        "switchname": "pbx1",
        "channel_data": {"state": "CS_REPORTING", "direction": known["direction"]},
        "variables": {name: quote(str(value), safe="") for name, value in known.items()},
        "callflow": [
            {
                "caller_profile": {
                    "caller_id_number": caller,
                    "destination_number": number,
                    "context": where,
                },
                "times": {"bridged_time": str(0 if bridged is None else (START + bridged) * 1_000_000 + 7)},
            }
            for number, where in profiles
        ],
        **(content or {}),
    }
    return json.dumps(told).encode()


def told(*bodies: bytes, provider: Freeswitch = FREESWITCH) -> list[Told]:
    return [one for body in bodies for one in provider.parse(webhook(body), NOW)]


def calls_of(messages: Iterable[Told]) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    for one in messages:
        call_id = one.event.key.call_id
        calls[call_id] = fold(calls.get(call_id), one.event, NOW)
    return calls


def orders(messages: Sequence[Told]) -> Iterable[Sequence[Told]]:
    """Return all orders of a few messages, many of more, each message once or twice."""
    if len(messages) <= 4:
        yield from permutations(messages)
    shuffled = random.Random(1)  # noqa: S311
    for _ in range(60):
        yield shuffled.sample([*messages, *messages], 2 * len(messages))


def one_call(*bodies: bytes, provider: Freeswitch = FREESWITCH) -> Call:
    """Return the one call that records make in whatever order."""
    found = []
    for order in orders(told(*bodies, provider=provider)):
        (call,) = calls_of(order).values()
        found.append(call)
    assert len({(call.facts, call.recording, call.legs) for call in found}) == 1
    return found[0]


def facts(direction: Direction, phone: str, who: str | None, status: CallStatus, talk: int) -> Facts:
    return Facts(
        direction=direction,
        phone=phone,
        person=None if who is None else Person(1, who),
        started_at=START,
        outcome=Outcome(status, talk),
    )


# who may post


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_vectors(vector: dict[str, Any]) -> None:
    name, _, password = vector["secret"].partition(":")
    provider = freeswitch(username=name, password=password)
    sent = Webhook(
        method=vector["method"],
        url=vector["url"],
        headers=CIMultiDict(vector["headers"]),
        body=vector["body"].encode(),
    )
    if not vector["valid"]:
        with pytest.raises(InputRefused) as refused:
            provider.verify(sent, vector["clock"])
        assert refused.value.code == "unauthorized"
        return
    provider.verify(sent, vector["clock"])
    (one,) = provider.parse(sent, vector["clock"])
    (leg,) = one.event.legs
    expect = vector["expect"]
    assert (leg.id, leg.talk, leg.status) == (expect["leg_id"], expect["duration"], expect["disposition"])
    assert (leg.side, leg.direction, leg.phone, leg.extension) == (Side.STAFF, OUT, "12025550143", "100")
    assert json.loads(provider.told_body(sent))["switchname"] == "pbx1"


def test_there_are_vectors() -> None:
    assert len(VECTORS) >= 5


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic ",
        "Basic ====",
        basic("fs", PASSWORD[:-1]),
        basic("fs", ""),
        basic("", PASSWORD),
        basic("sf", PASSWORD),
        basic(f"fs:{PASSWORD}", ""),
        f"Bearer {PASSWORD}",
        'Digest username="fs"',
    ],
)
def test_nobody_else_may_post(authorization: str) -> None:
    with pytest.raises(InputRefused) as refused:
        FREESWITCH.verify(webhook(Authorization=authorization), NOW)
    assert refused.value.code == "unauthorized"


def test_two_passwords_and_tokens_are_good_while_they_are_changed() -> None:
    old, other = secrets.token_hex(16), secrets.token_hex(16)
    provider = made(
        [BearerToken(other, NOW + 1)], username="fs", password=PASSWORD, previous_password=old, token=TOKEN
    )
    assert provider is not None
    for password in (PASSWORD, old):
        provider.verify(webhook(Authorization=basic("fs", password)), NOW)
    for token in (TOKEN, other):
        provider.verify(webhook(rest=token), NOW)
    with pytest.raises(InputRefused):
        provider.verify(webhook(rest=other), NOW + 1)
    with pytest.raises(InputRefused):
        FREESWITCH.verify(webhook(Authorization=basic("fs", old)), NOW)


def test_networks_count_besides() -> None:
    provider = freeswitch(allow_from=networks(["10.0.0.0/8"]))
    right = basic("fs", PASSWORD)
    provider.verify(webhook(peer="10.1.2.3", Authorization=right), NOW)
    for peer, authorization, code in (("192.0.2.1", right, "forbidden"), ("10.1.2.3", "", "unauthorized")):
        with pytest.raises(InputRefused) as refused:
            provider.verify(webhook(peer=peer, Authorization=authorization), NOW)
        assert refused.value.code == code


def test_something_has_to_prove_who_it_is() -> None:
    assert made() is None
    assert made(username="fs") is None
    assert made(token=TOKEN) is not None
    assert made(password=PASSWORD) is not None
    provider = made(error_files=Path("/var/log/freeswitch/json_cdr"))
    assert provider is not None
    assert provider.error_files == Path("/var/log/freeswitch/json_cdr")
    for authorization in ("", basic("freeswitch", ""), basic("freeswitch", "None")):
        with pytest.raises(InputRefused):
            provider.verify(webhook(Authorization=authorization), NOW)


def test_what_it_can_do() -> None:
    assert isinstance(FREESWITCH, KeepsRecordings)
    assert isinstance(FREESWITCH, LeavesRecords)
    assert FREESWITCH.error_files is None
    assert (FREESWITCH.reply, SERVICE.body_most) == (None, 1024 * 1024)
    assert SERVICE.challenge.startswith("Basic ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("username", "a:b"),
        ("username", " "),
        ("username", 7),
        ("password", "short"),
        ("error_files", "json_cdr"),
        ("recordings", "here"),
        ("inbound_contexts", "public"),
        ("extension_digits", 0),
    ],
)
def test_settings_that_are_wrong(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        SERVICE.settings[name].read(value)


def test_secrets_are_known_to_be_secret() -> None:
    secret = {name for name, setting in SERVICE.settings.items() if setting.secret}
    assert secret == {"password", "previous_password", "token", "previous_token"}
    assert SERVICE.settings["username"].read("fs") == "fs"


def test_the_guide_names_every_setting() -> None:
    guide = (Path(__file__).parents[2] / "docs/voip/freeswitch.md").read_text()
    assert [name for name in SERVICE.settings if f"`{name}`" not in guide and f"{name} =" not in guide] == []


# how records come

PLAIN = record(A, CLIENT, OFFICE, context="public", talk=12, bridged=8)


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize(
    "body",
    [
        PLAIN,
        b"cdr=" + quote(PLAIN, safe="").encode(),
        b"cdr=" + base64.b64encode(PLAIN),
        quote(PLAIN, safe="").encode() + b"\n",
        base64.b64encode(PLAIN) + b"\n",
        b" \r\n" + PLAIN + b"\n",
    ],
)
def test_a_record_is_known_by_its_first_bytes(body: bytes, content_type: str) -> None:
    sent = webhook(body, Content_Type=content_type)
    (one,) = FREESWITCH.parse(sent, NOW)
    assert (one.what, one.event.key.call_id, one.body) == ("leg.ended", A, PLAIN)
    assert FREESWITCH.told_body(sent) == PLAIN
    assert FREESWITCH.told_of(body, NOW) == [one] or FREESWITCH.told_of(body, NOW) == (one,)


def test_values_may_be_plain() -> None:
    variables = json.loads(PLAIN)["variables"]
    variables["calllogd_recording"] = "2026/a b.wav"
    (one,) = told(
        record(A, CLIENT, OFFICE, context="public", talk=12, bridged=8, content={"variables": variables})
    )
    assert one.event.recording.url == "freeswitch:2026/a b.wav"


def test_names_may_be_in_any_encoding() -> None:
    body = PLAIN.replace(b'"pbx1"', b'"J\xf6rg"')
    assert told(body)[0].event.legs == told(PLAIN)[0].event.legs


def test_an_empty_request_says_nothing() -> None:
    assert told(b"") == []
    assert told(b" \n") == []
    assert FREESWITCH.told_body(webhook(b"")) == f"uuid={A}".encode()


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"cdr=",
        b"cdr=%5B%5D",
        b"cdr=W10=",
        b"cdr=!" + base64.b64encode(PLAIN),
        b"<cdr/>",
        b"cdr=%3Ccdr%3E",
        b'{"variables": []}',
        b'{"variables": {}}',
        b'{"variables": {"uuid": 7}}',
        b'{"variables": {"uuid": ""}}',
        b'{"variables": {"uuid": "a%00b"}}',
        b'{"variables": {"uuid": "' + b"x" * 256 + b'"}}',
        b'{"variables": {"uuid": "x", "calllogd_direction": "up"}}',
        b'{"variables": {"uuid": "x", "calllogd_call": "a%0Ab"}}',
        b'{"variables": {"uuid": "x"}, "callflow": [{"caller_profile": {"caller_id_number": "'
        + b"1" * 256
        + b'"}}]}',
        b'{"a":' * 60_000,
        b"{" + b"\xff" * 100,
    ],
)
def test_what_cannot_be_read(body: bytes) -> None:
    with pytest.raises(NotUnderstood):
        FREESWITCH.parse(webhook(body), NOW)


# calls


def from_outside(**known: Any) -> bytes:
    return record(A, CLIENT, OFFICE, **{"context": "public", **known})


def from_staff(**known: Any) -> bytes:
    return record(A, "101", "912125550150", **{"user_name": "101", **known})


def to_staff(uuid: str, extension: str, **known: Any) -> bytes:
    return record(uuid, CLIENT, extension, **{"made_for": A, "dialed_user": extension, **known})


def to_gateway(uuid: str, **known: Any) -> bytes:
    return record(uuid, OFFICE, "12125550150", **{"made_for": A, "sip_gateway_name": "provider", **known})


def test_answered() -> None:
    call = one_call(from_outside(talk=12, bridged=8), to_staff(B, "101", at=2, talk=12))
    assert call.facts == facts(IN, CLIENT, "101", ANSWERED, 12)


def test_a_leg_belongs_to_the_one_it_was_made_for_whatever_call_uuid_says() -> None:
    for call_uuid in (A, B, C):
        call = one_call(
            from_outside(talk=12, bridged=8, call_uuid=call_uuid),
            to_staff(B, "101", talk=12, call_uuid=call_uuid),
        )
        assert call.key.call_id == A
    only = record(B, CLIENT, "101", made_for="", dialed_user="101", talk=12, call_uuid=A)
    assert one_call(from_outside(talk=12, bridged=8), only).facts == facts(IN, CLIENT, "101", ANSWERED, 12)
    originator = record(B, CLIENT, "101", made_for="", dialed_user="101", talk=12, originator=A)
    assert one_call(from_outside(talk=12, bridged=8), originator).key.call_id == A


@pytest.mark.parametrize("known", [{}, {"talk": 15, "bridged": 8}])
def test_missed(known: dict[str, Any]) -> None:
    # With `talk` a menu had answered, and early media was put through.
    call = one_call(
        from_outside(cause="ORIGINATOR_CANCEL", **known), to_staff(B, "101", at=2, cause="NO_ANSWER")
    )
    assert call.facts == facts(IN, CLIENT, "101", CallStatus.NO_ANSWER, 0)


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        ("USER_BUSY", CallStatus.BUSY),
        ("NO_ANSWER", CallStatus.NO_ANSWER),
        ("ALLOTTED_TIMEOUT", CallStatus.NO_ANSWER),
        ("LOSE_RACE", CallStatus.NO_ANSWER),
        ("ORIGINATOR_CANCEL", CallStatus.CANCELLED),
        ("CALL_REJECTED", CallStatus.FAILED),
        ("UNALLOCATED_NUMBER", CallStatus.FAILED),
        ("NETWORK_OUT_OF_ORDER", CallStatus.FAILED),
    ],
)
def test_why_nobody_answered(cause: str, status: CallStatus) -> None:
    assert one_call(from_outside(cause=cause), to_staff(B, "101", cause=cause)).facts.outcome == Outcome(
        status, 0
    )
    call = one_call(from_staff(cause=cause), to_gateway(B, cause=cause))
    assert call.facts == facts(OUT, "12125550150", "101", status, 0)


def test_ring_group() -> None:
    call = one_call(
        from_outside(talk=12, bridged=8),
        to_staff(B, "101", ends=8, cause="LOSE_RACE"),
        to_staff(C, "102", talk=12),
        to_staff(D, "103", ends=3, cause="USER_BUSY"),
    )
    assert call.facts == facts(IN, CLIENT, "102", ANSWERED, 12)


def test_outbound() -> None:
    call = one_call(from_staff(talk=12), to_gateway(B, at=1, talk=12))
    assert call.facts == facts(OUT, "12125550150", "101", ANSWERED, 12)


def test_outbound_by_a_second_gateway() -> None:
    first = to_gateway(B, ends=3, cause="NETWORK_OUT_OF_ORDER")
    call = one_call(from_staff(talk=12), first, to_gateway(C, at=3, talk=12))
    assert call.facts == facts(OUT, "12125550150", "101", ANSWERED, 12)
    (call,) = calls_of(told(first)).values()
    assert call.facts.outcome is None, "the call goes on"


def test_a_menu_is_no_talk() -> None:
    call = one_call(from_outside(talk=15, ends=40), to_staff(B, "101", at=20, talk=12, ends=40))
    assert call.facts == facts(IN, CLIENT, "101", ANSWERED, 12)
    call = one_call(from_outside(talk=15))
    assert call.facts == facts(IN, CLIENT, None, CallStatus.NO_ANSWER, 0)


def test_mailbox() -> None:
    caller = from_outside(talk=9, last_app="voicemail", last_arg="default example.com 101")
    call = one_call(caller, to_staff(B, "101", ends=10, cause="NO_ANSWER"))
    assert call.facts == facts(IN, CLIENT, "101", CallStatus.VOICEMAIL, 9)
    assert one_call(
        from_outside(talk=9, last_app="voicemail", last_arg="check default x")
    ).facts.outcome == Outcome(CallStatus.NO_ANSWER, 0)


def test_forwarded_to_a_mobile() -> None:
    away = record(B, CLIENT, MOBILE, made_for=A, sip_gateway_name="provider", talk=12)
    call = one_call(from_outside(talk=12, bridged=8), away)
    assert call.facts == facts(IN, CLIENT, None, ANSWERED, 12)


def test_without_the_legs_of_staff() -> None:
    call = one_call(from_outside(talk=15, bridged=8, calllogd_agent="101"))
    assert call.facts == facts(IN, CLIENT, "101", ANSWERED, 12)
    assert one_call(from_staff(talk=12)).facts == facts(OUT, "912125550150", "101", ANSWERED, 12)
    assert one_call(from_outside(talk=15, bridged=2)).facts.outcome == Outcome(ANSWERED, 15)
    assert one_call(from_outside(bridged=2, cause="USER_BUSY")).facts.outcome == Outcome(CallStatus.BUSY, 0)


def test_blind_transfer() -> None:
    call = one_call(
        from_outside(talk=30, ends=40, bridged=10, transfers=[("101", "default"), ("102", "default")]),
        to_staff(B, "101", at=2, talk=10, ends=20),
        to_staff(C, "102", at=20, talk=15, ends=40),
    )
    assert call.facts == facts(IN, CLIENT, "102", ANSWERED, 25)


def test_attended_transfer() -> None:
    """101 asks 102 in a call of its own, whose legs are not the client's, and gives the client to it."""
    history = f"ARRAY::{START + 5}:x:bl_xfer:101/default/XML|:{START + 20}:x:uuid_br:{D}"
    client = from_outside(
        talk=30,
        ends=40,
        bridged=10,
        transfer_history=history,
        bridge_channel="sofia/internal/102@192.0.2.7:5060",
    )
    call = one_call(client, to_staff(B, "101", at=2, talk=10, ends=20))
    assert call.facts == facts(IN, CLIENT, "102", ANSWERED, 30)
    asked = (
        record(C, "101", "102", user_name="101", at=12, talk=5, ends=20),
        record(D, "101", "102", made_for=C, dialed_user="102", at=12, talk=25, ends=40),
    )
    assert one_call(*asked).facts.phone == "102"


def test_given_on_twice() -> None:
    history = f"ARRAY::{START + 20}:x:uuid_br:{C}|:{START + 30}:x:uuid_br:{D}|:{START + 35}:x:uuid_br:{A}"
    call = one_call(
        from_outside(
            talk=30, ends=40, bridged=10, transfer_history=history, bridge_channel="sofia/x/sip:103@h"
        ),
        to_staff(B, "101", at=2, talk=10, ends=20),
    )
    assert call.facts == facts(IN, CLIENT, "103", ANSWERED, 30)
    ends = {leg.id: (leg.answered_at, leg.ended_at, leg.talk, leg.extension) for leg in call.legs}
    assert ends[C] == (START + 20, START + 30, 10, None)
    assert ends[D] == (START + 30, START + 40, 10, "103")
    assert [leg.side for leg in call.legs if leg.id == A] == [Side.CLIENT]


@pytest.mark.parametrize("channel", ["", "sofia/internal/ann@h", "sofia/gateway/provider/102", "102@h"])
def test_given_to_somebody_unknown(channel: str) -> None:
    history = {"transfer_history": f"{START + 15}:x:uuid_br:{D}", "bridge_channel": channel}
    (one,) = told(from_outside(talk=12, bridged=8, **history))
    assert [(leg.id, leg.extension, leg.talk) for leg in one.event.legs] == [(A, None, 12), (D, None, 5)]
    (one,) = told(from_outside(talk=12, bridged=8, end_epoch="", **history))
    assert [leg.id for leg in one.event.legs] == [A]


def test_outbound_attended_transfer() -> None:
    history = f"{START + 20}:x:uuid_br:{D}"
    call = one_call(
        from_staff(talk=10, ends=20),
        to_gateway(B, talk=30, ends=40, transfer_history=history, bridge_channel="sofia/internal/102@h"),
    )
    assert call.facts == facts(OUT, "12125550150", "102", ANSWERED, 30)


def test_outbound_blind_transfer_needs_the_calls_id() -> None:
    known: dict[str, Any] = {"calllogd_call": A}
    call = one_call(
        from_staff(talk=10, ends=20, **known),
        to_gateway(B, talk=30, ends=40, **known),
        record(C, "12125550150", "102", made_for=B, dialed_user="102", at=20, talk=15, ends=40, **known),
    )
    assert call.facts == facts(OUT, "12125550150", "102", ANSWERED, 30)


def test_a_call_by_a_click() -> None:
    first = record(A, OFFICE, "101", made_for="", dialed_user="101", talk=18)
    call = one_call(first, to_gateway(B, at=2, talk=12))
    assert call.facts == facts(OUT, "12125550150", "101", ANSWERED, 12)
    client_first = record(A, OFFICE, "12125550150", made_for="", sip_gateway_name="provider", talk=18)
    call = one_call(client_first, to_staff(B, "101", at=2, talk=12))
    assert call.facts == facts(OUT, "12125550150", "101", ANSWERED, 18)


def test_queue_of_a_call_centre() -> None:
    agent: dict[str, Any] = {"cc_side": "agent", "cc_member_session_uuid": A, "cc_agent": "102@example.com"}
    call = one_call(
        from_outside(talk=38, ends=40, bridged=28, cc_side="member", cc_member_session_uuid=A),
        record(B, CLIENT, "sip:line@192.0.2.7", made_for="", talk=12, ends=40, **agent),
    )
    assert call.facts == facts(IN, CLIENT, "102", ANSWERED, 12)


def test_behind_a_loopback_is_the_same_call() -> None:
    half = record(C, CLIENT, "101", talk=12, loopback_leg="B")
    profile = {
        "caller_profile": {"originator": {"originator_caller_profiles": [{"chan_name": "loopback/101-b"}]}}
    }
    behind = record(D, CLIENT, "101", made_for=C, talk=12, content={"callflow": [profile]})
    assert told(half, behind) == []
    before = record(B, CLIENT, "101", made_for=A, talk=12)
    assert one_call(from_outside(talk=12, bridged=8), before, half, behind).facts == facts(
        IN, CLIENT, "101", ANSWERED, 12
    )
    named = record(C, CLIENT, "101", talk=12, loopback_leg="B", calllogd_call=A, bridged=8)
    assert len(told(named)) == 1
    assert one_call(from_outside(talk=12, bridged=8), named).key.call_id == A


def test_internal() -> None:
    call = one_call(
        record(A, "101", "102", user_name="101", talk=12), record(B, "101", "102", made_for=A, talk=12)
    )
    assert (call.facts.direction, call.facts.phone) == (OUT, "102")
    assert (
        told(record(A, "123456", "123457", user_name="123456"), provider=freeswitch(extension_digits=6)) == []
    )


def test_extensions_may_be_long() -> None:
    provider = freeswitch(extension_digits=6)
    (one,) = told(record(B, "x", "123457", made_for=A), provider=provider)
    assert [(leg.side, leg.extension) for leg in one.event.legs] == [(Side.STAFF, "123457"), (None, None)]


def test_an_internal_call_to_an_outside_number_is_none_of_ours() -> None:
    assert told(record(A, "101", "12125550150", calllogd_direction="internal")) == []
    assert len(told(record(A, "101", "12125550150", calllogd_direction="out"))) == 1


# who is who


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ({"caller": CLIENT}, (Side.CLIENT, IN, CLIENT)),
        ({"caller": ""}, (Side.CLIENT, IN, "")),
        ({"caller": "anonymous"}, (Side.CLIENT, IN, "anonymous")),
        ({"caller": "101"}, (Side.STAFF, OUT, "12125550150")),
        ({"caller": "101", "dialled": "102"}, (Side.STAFF, OUT, "102")),
        ({"caller": "101", "dialled": "*97"}, (Side.STAFF, OUT, "*97")),
        ({"caller": OFFICE, "user_name": "101"}, (Side.STAFF, OUT, "12125550150")),
        ({"caller": OFFICE, "user_name": "provider"}, (Side.CLIENT, IN, OFFICE)),
        ({"caller": "101", "context": "Public"}, (Side.CLIENT, IN, "101")),
        ({"caller": "101", "context": "public", "transfers": [("101", "default")]}, (Side.CLIENT, IN, "101")),
        ({"caller": "101", "calllogd_direction": "in"}, (Side.CLIENT, IN, "101")),
        ({"caller": CLIENT, "calllogd_direction": "out"}, (Side.STAFF, OUT, "12125550150")),
        ({"caller": CLIENT, "dialled": "102", "calllogd_direction": "internal"}, (Side.STAFF, OUT, "102")),
    ],
)
def test_legs_that_came_in(known: dict[str, Any], found: tuple[Side, Direction, str]) -> None:
    (one,) = told(record(A, **{"dialled": "12125550150", **known}))
    (leg,) = one.event.legs
    assert (leg.side, leg.direction, leg.phone) == found


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ({"dialled": "101"}, (Side.STAFF, None, None, "101")),
        ({"dialled": "sip:ann@192.0.2.7", "dialed_user": "ann"}, (Side.STAFF, None, None, "ann")),
        ({"dialled": "12125550150", "dialed_user": "101"}, (Side.STAFF, None, None, "101")),
        ({"dialled": "12125550150"}, (None, OUT, "12125550150", None)),
        ({"dialled": "150", "sip_gateway_name": "provider"}, (None, OUT, "150", None)),
        ({"dialled": "12125550150", "calllogd_direction": "in"}, (Side.STAFF, None, None, None)),
        ({"dialled": "12125550150", "calllogd_direction": "out"}, (None, OUT, "12125550150", None)),
        ({"dialled": "101", "calllogd_direction": "out"}, (Side.STAFF, None, None, "101")),
        ({"dialled": "101", "calllogd_agent": "7"}, (Side.STAFF, None, None, "7")),
    ],
)
def test_legs_that_went_out(
    known: dict[str, Any], found: tuple[Side | None, Direction | None, str | None, str | None]
) -> None:
    (one,) = told(record(B, "x", made_for=A, **known))
    leg, began = one.event.legs
    assert (leg.side, leg.direction, leg.phone, leg.extension) == found
    assert (began.id, began.ended_at, began.status) == (A, None, None)


@pytest.mark.parametrize(
    ("known", "extension"),
    [
        ({"user_name": "101"}, "101"),
        ({"user_name": "ann"}, "101"),
        ({"user_name": "ann", "caller": OFFICE, "calllogd_direction": "out"}, "ann"),
        ({"user_name": "ann", "caller": OFFICE, "sip_from_user": "103", "calllogd_direction": "out"}, "103"),
        ({"calllogd_agent": "7"}, "7"),
        ({"caller": OFFICE, "calllogd_direction": "out"}, None),
    ],
)
def test_who_has_called(known: dict[str, Any], extension: str | None) -> None:
    (one,) = told(record(A, **{"caller": "101", "dialled": "12125550150", **known}))
    assert one.event.legs[0].extension == extension


def test_contexts_are_a_setting() -> None:
    provider = freeswitch(inbound_contexts=("Outside",))
    for context, side in (("outside", Side.CLIENT), ("public", Side.STAFF)):
        (one,) = told(record(A, "101", "12125550150", context=context), provider=provider)
        assert one.event.legs[0].side is side


@pytest.mark.parametrize(
    ("known", "times"),
    [
        ({}, (START, None, START + 20)),
        ({"start_epoch": "0", "end_epoch": ""}, (None, None, None)),
        ({"start_epoch": "99999999999999", "end_epoch": "-5"}, (None, None, None)),
        ({"start_epoch": str(int(NOW) + 90_000), "end_epoch": "x"}, (None, None, None)),
        ({"answer_epoch": str(START + 5)}, (START, START + 5, START + 20)),
    ],
)
def test_moments(known: dict[str, Any], times: tuple[float | None, ...]) -> None:
    (one,) = told(record(B, "x", "101", made_for=A, **known))
    leg = one.event.legs[0]
    assert (leg.started_at, leg.answered_at, leg.ended_at) == times
    assert leg.status is (ANSWERED if times[1] else CallStatus.NO_ANSWER)


@pytest.mark.parametrize(
    ("billsec", "talk"), [("7", 7), ("x", None), ("", None), ("99999999", None), ("-1", None)]
)
def test_talk(billsec: str, talk: int | None) -> None:
    (one,) = told(record(B, "x", "101", made_for=A, talk=7, billsec=billsec))
    assert one.event.legs[0].talk == talk


def test_texts_of_any_length_are_no_numbers() -> None:
    known: dict[str, Any] = {"user_name": "1" * 255, "calllogd_direction": "out"}
    assert len(told(record(A, "101", "12125550150", **known))) == 1
    with pytest.raises(NotUnderstood):
        told(record(A, "101", "12125550150", **{**known, "user_name": "1" * 256}))
    assert len(told(record(A, "1" * 255, "12125550150"))) == 1
    with pytest.raises(NotUnderstood):
        told(record(A, "1" * 256, "12125550150"))


@pytest.mark.parametrize("bridged", ["x", "", "-1", "1767225608", "9" * 30, 1767225608000007, None])
def test_when_legs_were_put_together_may_be_odd(bridged: Any) -> None:
    flow = [
        {
            "caller_profile": {"caller_id_number": CLIENT, "context": "public"},
            "times": {"bridged_time": bridged},
        }
    ]
    (one,) = told(from_outside(talk=12, content={"callflow": flow}))
    assert one.event.legs[0].status is CallStatus.NO_ANSWER


def test_a_leg_is_not_made_for_itself() -> None:
    (one,) = told(record(A, OFFICE, "12125550150", made_for="", call_uuid=A, talk=12))
    assert [(leg.id, leg.side) for leg in one.event.legs] == [(A, Side.CLIENT)]


def test_a_leg_without_a_cause() -> None:
    (one,) = told(record(B, "x", "101", made_for=A, hangup_cause=""))
    assert one.event.legs[0].status is CallStatus.NO_ANSWER


# recordings


def recording(
    provider: Freeswitch = FREESWITCH, *, content: dict[str, Any] | None = None, **variables: Any
) -> Recording:
    (one,) = told(from_outside(**{"talk": 12, "bridged": 8, **variables}, content=content), provider=provider)
    return one.event.recording


def run(*applications: tuple[str, Any]) -> dict[str, Any]:
    return {
        "app_log": {"applications": [{"app_name": name, "app_data": data} for name, data in applications]}
    }


@pytest.mark.parametrize(
    ("known", "url"),
    [
        ({"calllogd_recording": "7.wav"}, "freeswitch:7.wav"),
        ({"calllogd_recording": f"{FOLDER}/2026/7.wav"}, "freeswitch:2026/7.wav"),
        ({"calllogd_recording": "https://pbx.example.com/7.wav"}, "https://pbx.example.com/7.wav"),
        ({"record_path": f"{FOLDER}/x/archive", "record_name": "7.mp3"}, "freeswitch:x/archive/7.mp3"),
        ({"record_name": "7.mp3"}, "freeswitch:7.mp3"),
        ({"content": run(("record_session", f"{FOLDER}/7.wav"))}, "freeswitch:7.wav"),
        ({"content": run(("record_session", "{a=b,c=d}7.wav +3600"))}, "freeswitch:7.wav"),
        (
            {"content": run(("record_session", "1.wav"), ("record_session", "2.wav"), ("bridge", "x"))},
            "freeswitch:2.wav",
        ),
        ({"calllogd_recording": "1.wav", "record_name": "2.wav"}, "freeswitch:1.wav"),
        ({"calllogd_recording": "1.wav", "content": run(("record_session", "2.wav"))}, "freeswitch:1.wav"),
    ],
)
def test_where_recordings_are(known: dict[str, Any], url: str) -> None:
    assert recording(**known) == Recording(state=RecordingState.EXPECTED, url=url)


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"calllogd_recording": "/etc/passwd"},
        {"calllogd_recording": f"{FOLDER}/../7.wav"},
        {"calllogd_recording": "http://pbx.example.com/7.wav"},
        {"record_path": str(FOLDER)},
        {"calllogd_recording": "7.wav", "talk": None},
        {"calllogd_recording": "7.wav", "bridged": None},
        {"content": run(("record_session", None))},
        {"content": {"app_log": {"applications": [7, {"app_name": "record_session"}]}}},
        {"content": {"app_log": []}},
        {"content": run(("record", "7.wav"))},
    ],
)
def test_recordings_that_are_none_of_ours(known: dict[str, Any]) -> None:
    assert recording(**known) == NO_RECORDING


def test_without_a_folder_only_addresses_are_taken() -> None:
    provider = freeswitch(recordings=None)
    assert recording(provider, calllogd_recording="7.wav") == NO_RECORDING
    assert recording(provider, calllogd_recording="https://pbx.example.com/7.wav") != NO_RECORDING
    with pytest.raises(ErrandFailed):
        next(provider.find_recording("7.wav", NOW))


def test_a_recording_is_found_in_its_folder() -> None:
    with pytest.raises(StopIteration) as stopped:
        next(FREESWITCH.find_recording("2026/7.wav", NOW))
    assert stopped.value.value == LocalFile(path=FOLDER / "2026/7.wav", folder=FOLDER)
    for reference in ("/etc/passwd", "../7.wav", "", "a\x00b"):
        with pytest.raises(ErrandFailed) as failed:
            next(FREESWITCH.find_recording(reference, NOW))
        assert failed.value.is_final


def test_a_recording_is_told_with_any_leg() -> None:
    export: dict[str, Any] = {"calllogd_recording": f"{FOLDER}/7.wav"}
    call = one_call(
        from_outside(talk=12, bridged=8, **export),
        to_staff(B, "101", ends=8, cause="LOSE_RACE", **export),
        to_staff(C, "102", talk=12, **export),
    )
    assert call.recording.url == "freeswitch:7.wav"
    assert call.facts.person == Person(1, "102")


# hostile

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_VALUES = _JSON | st.sampled_from(
    [
        A,
        B,
        "101",
        CLIENT,
        "in",
        "0",
        "1e999",
        "%00",
        "%",
        "%ff",
        "9" * 400,
        "ARRAY::1767225600:x:uuid_br:y|:",
        "public",
    ]
)
_VARIABLES = st.dictionaries(
    st.sampled_from(
        [
            *(
                "uuid",
                "call_uuid",
                "originating_leg_uuid",
                "originator",
                "cc_side",
                "cc_member_session_uuid",
                "cc_agent",
            ),
            *(
                "calllogd_call",
                "calllogd_direction",
                "calllogd_agent",
                "calllogd_recording",
                "record_path",
                "record_name",
            ),
            *(
                "start_epoch",
                "answer_epoch",
                "end_epoch",
                "billsec",
                "hangup_cause",
                "transfer_history",
                "bridge_channel",
            ),
            *(
                "user_name",
                "sip_from_user",
                "dialed_user",
                "sip_gateway_name",
                "last_app",
                "last_arg",
                "loopback_leg",
            ),
        ]
    ),
    _VALUES,
)
_PROFILES = st.dictionaries(
    st.sampled_from(
        [
            "caller_profile",
            "times",
            "caller_id_number",
            "destination_number",
            "context",
            "originator",
            "bridged_time",
        ]
    ),
    _VALUES,
)
_RECORDS = st.fixed_dictionaries(
    {"variables": _VARIABLES},
    optional={
        "channel_data": _JSON | st.sampled_from([{"direction": "outbound"}, {"direction": "inbound"}]),
        "callflow": _JSON
        | st.lists(st.fixed_dictionaries({"caller_profile": _PROFILES | _JSON, "times": _PROFILES | _JSON})),
        "app_log": _JSON | st.fixed_dictionaries({"applications": _JSON}),
    },
)


@given(_RECORDS)
def test_hostile_records(content: dict[str, Any]) -> None:
    try:
        messages = told(json.dumps(content).encode())
    except NotUnderstood:
        return
    for one in messages:
        calls_of([one, one])
        assert 1 <= len(one.event.key.call_id) <= 255


@given(
    st.binary(max_size=100) | st.binary(max_size=60).map(lambda body: b"cdr=" + body), st.text(max_size=40)
)
def test_hostile_requests(body: bytes, authorization: str) -> None:
    sent = webhook(body, rest=authorization, Authorization=authorization)
    with pytest.raises(InputRefused):
        FREESWITCH.verify(sent, NOW)
    FREESWITCH.told_body(sent)
    try:
        FREESWITCH.parse(sent, NOW)
    except NotUnderstood:
        return
