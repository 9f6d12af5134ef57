"""RingCentral: whose notifications are taken, what they say, and which calls they are together."""

import contextlib
import json
import random
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from calllogd.domain.call import Call, CallKey, CallStatus, Direction, Leg, Outcome, Person, Side
from calllogd.domain.merge import fold
from calllogd.domain.phone import Kind, read
from calllogd.errors import InputRefused
from calllogd.voip.proof import BearerToken
from calllogd.voip.provider import NotUnderstood, Told, services
from calllogd.voip.provider.ringcentral import SERVICE, RingCentral
from calllogd.voip.webhook import EMPTY, Webhook
from tests.fakes import ACCOUNT, START

TOKEN = secrets.token_hex()
SESSION = "s-a0d17930c96bdz18b67acb764z37759330000"
CLIENT, COMPANY = "+12025550143", "+15005550006"
ANN, BOB, CAT, MENU = "62264425016", "62264425017", "62264425018", "62282928016"
LEFT_OUT = object()


def made(tokens: list[BearerToken] | None = None, **values: Any) -> RingCentral:
    defaults = {key: setting.default for key, setting in SERVICE.settings.items()}
    found = SERVICE.make(ACCOUNT, {**defaults, **values}, tokens or [])
    assert isinstance(found, RingCentral)
    return found


RINGCENTRAL = made(token=TOKEN)


def webhook(body: bytes, *, token: str | None = TOKEN, rest: str = "", peer: str = "192.0.2.1") -> Webhook:
    headers = CIMultiDict({"Content-Type": "application/json; charset=UTF-8"})
    if token is not None:
        headers["validation-token"] = token
    url = f"https://calls.example.com/voip/ringcentral/{ACCOUNT}" + (f"/{rest}" if rest else "")
    return Webhook(method="POST", url=url, headers=headers, body=body, rest=rest, peer=peer)


def time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def end(number: str | None = None, extension: str | None = None) -> dict[str, Any]:
    values = {"phoneNumber": number, "extensionId": extension, "name": "A Name"}
    return {key: value for key, value in values.items() if value is not None}


def party(
    number: int,
    code: str,
    *,
    calls: bool,
    extension: str | None = None,
    to: dict[str, Any] | None = None,
    sender: dict[str, Any] | None = None,
    reason: str | None = None,
    missed: bool = False,
) -> dict[str, Any]:
    status: dict[str, Any] = {"code": code, "rcc": False} | ({"reason": reason} if reason else {})
    return {
        "accountId": "809646016",
        **({"extensionId": extension} if extension else {}),
        "id": f"p-{SESSION[2:]}-{number}",
        "direction": "Outbound" if calls else "Inbound",
        "to": to,
        "from": sender,
        "status": status,
        "park": {},
        "missedCall": missed,
        "standAlone": False,
        "muted": False,
    }


def notification(*parties: object, at: float | None = None, **changes: Any) -> bytes:
    """Return a notification of what happened so many seconds after START."""
    moment = START if at is None else START + at
    body = {
        "sequence": 3,
        "sessionId": "1160265700016",
        "telephonySessionId": SESSION,
        "serverId": "10.13.23.147.TAM",
        "eventTime": time(moment - 0.08),
        "parties": list(parties),
        "origin": {"type": "Call"},
        **changes,
    }
    envelope = {
        "uuid": "8145589842362645277",
        "event": "/restapi/v1.0/account/809646016/telephony/sessions",
        "timestamp": time(moment) if "timestamp" not in changes else body.pop("timestamp"),
        "subscriptionId": "8b15306f-0386-4f40-a560-0264a28a7225",
        "ownerId": "62264425016",
        "body": {key: value for key, value in body.items() if value is not LEFT_OUT},
    }
    return json.dumps({key: value for key, value in envelope.items() if value is not LEFT_OUT}).encode()


def told(body: bytes) -> Told:
    (found,) = RINGCENTRAL.parse(webhook(body), START)
    return found


def leg(body: bytes) -> Leg:
    (found,) = told(body).event.legs
    return found


def caller(code: str, **more: Any) -> dict[str, Any]:
    """Return the client's party of a call that comes in."""
    return party(1, code, calls=True, to=end(COMPANY), sender=end(CLIENT), **more)


def rings(number: int, extension: str, code: str, **more: Any) -> dict[str, Any]:
    """Return an extension's party of a call that comes in."""
    return party(
        number,
        code,
        calls=False,
        extension=extension,
        to=end(COMPANY, extension),
        sender=end(CLIENT),
        **more,
    )


def dials(code: str, **more: Any) -> dict[str, Any]:
    """Return an extension's party of a call that goes out."""
    return party(1, code, calls=True, extension=ANN, to=end(CLIENT), sender=end(COMPANY, ANN), **more)


def called(code: str, **more: Any) -> dict[str, Any]:
    """Return the client's party of a call that goes out."""
    return party(2, code, calls=False, to=end(CLIENT), sender=end(COMPANY, ANN), **more)


def folded(bodies: Sequence[bytes]) -> Call:
    call = None
    for body in bodies:
        for one in RINGCENTRAL.parse(webhook(body), START + 1000):
            call = fold(call, one.event, START + 1000)
    assert call is not None
    return call


def in_any_order(*bodies: bytes) -> Call:
    """Return the call that notifications are, which has to be the same in any order and with repetitions."""
    shuffle = random.Random(7)  # noqa: S311
    call = folded(bodies)
    for _ in range(40):
        order = [*bodies, *shuffle.sample(bodies, shuffle.randrange(len(bodies)))]
        shuffle.shuffle(order)
        again = folded(order)
        assert (again.facts, again.legs, again.key) == (call.facts, call.legs, call.key)
    return call


VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())["vectors"]


@pytest.mark.parametrize(
    "vector", [one for one in VECTORS if one["provider"] == "ringcentral"], ids=lambda one: str(one["id"])
)
def test_a_vector(vector: dict[str, Any]) -> None:
    ringcentral = made(token=vector["secret"])
    sent = Webhook(
        method=vector["method"],
        url=vector["url"],
        headers=CIMultiDict(vector["headers"]),
        body=vector["body"].encode(),
    )
    reply = SERVICE.handshake(sent)
    if "expect_response" in vector:
        assert reply is not None
        assert reply.status == vector["expect_response"]["status"]
        assert dict(reply.headers) == vector["expect_response"]["headers"]
        return
    assert reply is None
    if not vector["valid"]:
        with pytest.raises(InputRefused):
            ringcentral.verify(sent, vector["clock"])
        return
    ringcentral.verify(sent, vector["clock"])
    (found,) = ringcentral.parse(sent, vector["clock"])
    assert found.event.key == CallKey(ACCOUNT, "s-1")
    assert fold(None, found.event, vector["clock"]).facts.outcome == Outcome(CallStatus.NO_ANSWER, 0)


def test_it_is_found_and_answers_with_an_empty_200() -> None:
    assert services()["ringcentral"] is SERVICE
    assert RINGCENTRAL.reply is EMPTY


def test_an_address_that_is_tried_sends_the_header_back() -> None:
    for body in (b"", b"  \r\n"):
        reply = SERVICE.handshake(webhook(body, token="0f0f-handshake"))
        assert reply is not None
        assert (reply.status, reply.body, reply.content_type) == (200, b"", "application/json")
        assert dict(reply.headers) == {"Validation-Token": "0f0f-handshake"}


@pytest.mark.parametrize(
    ("body", "token"),
    [(b"{}", "x"), (b"x", "x"), (b"", None), (b"", ""), (b"", "é"), (b"", "a\r\nb: c"), (b"", "x" * 513)],
)
def test_nothing_else_is_sent_back(body: bytes, token: str | None) -> None:
    assert SERVICE.handshake(webhook(body, token=token)) is None


@pytest.mark.parametrize("token", [None, "", "nope", TOKEN[:-1], TOKEN + "0", "é"])
def test_a_wrong_token_is_refused(token: str | None) -> None:
    with pytest.raises(InputRefused) as refused:
        RINGCENTRAL.verify(webhook(b"{}", token=token), START)
    assert refused.value.code == "unauthorized"


def test_the_token_may_stand_in_the_address_instead() -> None:
    RINGCENTRAL.verify(webhook(b"{}"), START)
    RINGCENTRAL.verify(webhook(b"{}", token=None, rest=TOKEN), START)
    RINGCENTRAL.verify(webhook(b"{}", token="RingCentral's own", rest=TOKEN), START)
    with pytest.raises(InputRefused):
        RINGCENTRAL.verify(webhook(b"{}", token=None, rest="nope"), START)


def test_both_tokens_are_good_while_they_are_changed() -> None:
    new, of_command = secrets.token_hex(), secrets.token_hex()
    both = made([BearerToken(of_command, START + 10)], token=new, previous_token=TOKEN)
    for token in (new, TOKEN, of_command):
        both.verify(webhook(b"{}", token=token), START)
    with pytest.raises(InputRefused):
        made(token=new).verify(webhook(b"{}"), START)
    with pytest.raises(InputRefused):
        both.verify(webhook(b"{}", token=of_command), START + 10)


def test_without_anything_to_prove_itself_by_it_is_not_there() -> None:
    defaults = {key: setting.default for key, setting in SERVICE.settings.items()}
    assert SERVICE.make(ACCOUNT, defaults, []) is None


def test_addresses_are_checked() -> None:
    network = SERVICE.settings["allow_from"].read(["192.0.2.0/24"])
    near = made(token=TOKEN, allow_from=network)
    near.verify(webhook(b"{}"), START)
    with pytest.raises(InputRefused) as refused:
        near.verify(webhook(b"{}", peer="198.51.100.1"), START)
    assert refused.value.code == "forbidden"


def test_an_extension_that_rings() -> None:
    assert told(notification(rings(3, ANN, "Proceeding"))).event.key == CallKey(ACCOUNT, SESSION)
    assert leg(notification(rings(3, ANN, "Proceeding"))) == Leg(
        f"p-{SESSION[2:]}-3",
        side=Side.STAFF,
        direction=Direction.INBOUND,
        phone=CLIENT,
        extension=ANN,
        started_at=START - 0.08,
    )


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("Setup", "leg.started"),
        ("Proceeding", "leg.started"),
        ("Hold", "leg.started"),
        ("Parked", "leg.started"),
        ("Answered", "leg.answered"),
        ("VoiceMail", "leg.started"),
        ("Disconnected", "leg.ended"),
        ("Gone", "leg.ended"),
        ("Of another kind", "leg.started"),
    ],
)
def test_what_a_notification_is_called(code: str, what: str) -> None:
    assert told(notification(caller(code))).what == what


@pytest.mark.parametrize(
    ("shown", "side", "direction", "phone", "extension"),
    [
        (caller("Setup"), Side.CLIENT, "inbound", CLIENT, None),
        (rings(2, ANN, "Setup"), Side.STAFF, "inbound", CLIENT, ANN),
        (dials("Proceeding"), Side.STAFF, "outbound", CLIENT, ANN),
        # What was dialled may turn out to be a colleague's.
        (dials("Setup"), Side.STAFF, "outbound", None, ANN),
        (called("Proceeding"), Side.CLIENT, "outbound", CLIENT, None),
        # A number that is not shown.
        (
            party(1, "Setup", calls=True, to=end(COMPANY), sender={}),
            Side.CLIENT,
            "inbound",
            "anonymous",
            None,
        ),
        # Extensions among themselves.
        (
            party(2, "Setup", calls=False, extension=BOB, to=end("102", BOB), sender=end("101", ANN)),
            Side.STAFF,
            "inbound",
            "101",
            BOB,
        ),
        (
            party(2, "Setup", calls=False, extension=BOB, to=end("102", BOB), sender=end(COMPANY, ANN)),
            Side.STAFF,
            "inbound",
            f"ext:{ANN}",
            BOB,
        ),
        (party(2, "Setup", calls=False, extension=BOB), Side.STAFF, "inbound", None, BOB),
        ({**caller("Setup"), "direction": "Sideways"}, Side.CLIENT, None, None, None),
        ({**rings(2, ANN, "Setup"), "direction": None}, Side.STAFF, None, None, ANN),
    ],
)
def test_who_a_party_is(
    shown: dict[str, Any], side: Side, direction: str | None, phone: str | None, extension: str | None
) -> None:
    found = leg(notification(shown))
    assert (found.side, found.direction, found.phone, found.extension) == (side, direction, phone, extension)


def test_what_stands_for_an_extension_is_no_outside_number() -> None:
    assert read(f"ext:{ANN}").kind is Kind.INTERNAL


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("NoAnswer", "no_answer"),
        ("Timeout", "no_answer"),
        ("TargetBusy", "busy"),
        ("Rejected", "busy"),
        ("Cancelled", "cancelled"),
        ("Voicemail", "voicemail"),
        ("InvalidNumber", "failed"),
        ("NotEnoughFunds", "failed"),
        ("BlindTransfer", None),
        ("CallFinished", None),
        (None, None),
    ],
)
def test_how_a_connection_ended(reason: str | None, status: str | None) -> None:
    found = leg(notification(called("Disconnected", reason=reason), at=20))
    assert (found.status, found.ended_at, found.answered_at) == (status, START + 20, None)


def test_a_missed_call_says_so_without_a_reason() -> None:
    assert leg(notification(rings(2, ANN, "Disconnected", missed=True))).status is CallStatus.NO_ANSWER


def test_moments_are_when_the_notification_was_made() -> None:
    # Also if eventTime should be the call's start, as one of the vendor's pages has it.
    found = leg(notification(rings(2, ANN, "Answered"), at=30, eventTime=time(START)))
    assert (found.started_at, found.answered_at) == (START, START + 30)
    found = leg(notification(rings(2, ANN, "Answered"), at=30, timestamp=LEFT_OUT))
    assert (found.started_at, found.answered_at) == (START + 29.92, START + 29.92)
    found = leg(notification(rings(2, ANN, "Disconnected"), timestamp="soon", eventTime=None))
    assert (found.started_at, found.ended_at, found.status) == (None, None, CallStatus.NO_ANSWER)
    found = leg(
        notification(rings(2, ANN, "Answered"), timestamp="2001-01-01T00:00:00", eventTime=time(START))
    )
    assert found.answered_at == START


def test_a_session_of_another_kind_is_of_no_interest() -> None:
    assert RINGCENTRAL.parse(webhook(notification(caller("Setup"), origin={"type": "TestCall"})), START) == []
    assert RINGCENTRAL.parse(webhook(notification(caller("Setup"), origin=None)), START) != []
    other = notification(caller("Setup")).replace(b"/telephony/sessions", b"/presence")
    assert RINGCENTRAL.parse(webhook(other), START) == []
    assert RINGCENTRAL.parse(webhook(notification()), START) == []


def test_the_filter_may_stand_behind_the_name_of_the_event() -> None:
    body = notification(caller("Setup")).replace(b"/sessions", b"/sessions?direction=Inbound")
    assert len(RINGCENTRAL.parse(webhook(body), START)) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"{",
        b"[" * 100_000,
        b'{"event": "/telephony/sessions", "more": ' + b"[" * 100_000,
        b'{"event": "/telephony/sessions\xff"}',
        b'{"event": 5}',
        b'{"event": "/telephony/sessions"}',
        notification(caller("Setup"), telephonySessionId=LEFT_OUT),
        notification(caller("Setup"), telephonySessionId=""),
        notification(caller("Setup"), telephonySessionId="s\n1"),
        notification(caller("Setup"), telephonySessionId="s" * 256),
        notification({**caller("Setup"), "id": ""}),
        notification({**caller("Setup"), "id": "p\n"}),
        notification({**caller("Setup"), "id": "p" * 256}),
        notification({**caller("Setup"), "status": {}}),
        notification(5),
    ],
)
def test_what_cannot_be_read_is_not_understood(body: bytes) -> None:
    with pytest.raises(NotUnderstood):
        RINGCENTRAL.parse(webhook(body), START)


def answered_inbound() -> list[bytes]:
    """Return what a call through a menu is: as in a stream that the vendor has published."""
    return [
        notification(caller("Setup"), at=0),
        notification(rings(2, MENU, "Setup"), at=0),
        notification(caller("Answered"), at=0.2),
        notification(rings(2, MENU, "Disconnected"), at=8),
        notification(rings(3, ANN, "Setup"), at=8),
        notification(rings(3, ANN, "Proceeding"), at=8),
        notification(rings(3, ANN, "Answered"), at=16),
        notification(rings(3, ANN, "Hold"), at=20),
        notification(rings(3, ANN, "Answered"), at=23),
        notification(rings(3, ANN, "Disconnected"), at=31),
        notification(caller("Disconnected"), at=31),
    ]


def test_an_answered_inbound_call() -> None:
    facts = in_any_order(*answered_inbound()).facts
    assert (facts.direction, facts.phone) == (Direction.INBOUND, CLIENT)
    assert facts.person == Person(1, ANN)
    assert facts.outcome == Outcome(CallStatus.ANSWERED, 15)
    assert facts.started_at == START - 0.08


def test_the_same_without_the_clients_own_notifications() -> None:
    of_staff = [body for body in answered_inbound() if b'0000-1"' not in body]
    assert len(of_staff) == 8
    facts = in_any_order(*of_staff).facts
    assert (facts.direction, facts.phone) == (Direction.INBOUND, CLIENT)
    assert facts.outcome == Outcome(CallStatus.ANSWERED, 15)


def test_a_call_has_not_ended_while_the_client_is_there() -> None:
    assert folded(answered_inbound()[:-1]).facts.outcome is None


def test_whoever_hangs_up_in_the_menu_was_not_answered() -> None:
    bodies = [*answered_inbound()[:4], notification(caller("Disconnected"), at=8)]
    assert in_any_order(*bodies).facts.outcome == Outcome(CallStatus.NO_ANSWER, 0)


def test_an_outbound_call() -> None:
    facts = in_any_order(
        notification(dials("Setup"), at=0),
        notification(called("Proceeding"), at=0),
        notification(dials("Proceeding"), at=4),
        notification(called("Answered"), at=7),
        notification(dials("Answered"), at=7),
        notification(dials("Hold"), at=14),
        notification(dials("Answered"), at=17),
        notification(dials("Disconnected"), at=24),
        notification(called("Disconnected"), at=24),
    ).facts
    assert (facts.direction, facts.phone) == (Direction.OUTBOUND, CLIENT)
    assert facts.person == Person(1, ANN)
    assert facts.outcome == Outcome(CallStatus.ANSWERED, 17)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("TargetBusy", "busy"),
        ("NoAnswer", "no_answer"),
        ("InvalidNumber", "failed"),
        ("Cancelled", "cancelled"),
    ],
)
def test_an_outbound_call_that_nobody_answered(reason: str, status: str) -> None:
    facts = in_any_order(
        notification(dials("Setup"), at=0),
        notification(called("Proceeding"), at=0),
        notification(dials("Disconnected"), at=20),
        notification(called("Disconnected", reason=reason), at=20),
    ).facts
    assert facts.outcome == Outcome(CallStatus(status), 0)
    assert (facts.direction, facts.phone, facts.person) == (Direction.OUTBOUND, CLIENT, Person(1, ANN))


def test_a_missed_call() -> None:
    facts = in_any_order(
        notification(caller("Setup"), at=0),
        notification(caller("Answered"), at=0),
        notification(rings(2, ANN, "Proceeding"), at=1),
        notification(rings(2, ANN, "Disconnected", reason="NoAnswer", missed=True), at=21),
        notification(caller("Disconnected"), at=21),
    ).facts
    assert facts.outcome == Outcome(CallStatus.NO_ANSWER, 0)
    assert (facts.direction, facts.phone, facts.person) == (Direction.INBOUND, CLIENT, Person(1, ANN))


@pytest.mark.parametrize("code", ["VoiceMail", "Voicemail", "VMScreening", "VoiceMailScreening"])
@pytest.mark.parametrize("reason", ["Voicemail", None])
def test_a_message_on_the_voicemail(code: str, reason: str | None) -> None:
    facts = in_any_order(
        notification(caller("Answered"), at=0),
        notification(rings(2, ANN, "Proceeding"), at=1),
        notification(rings(2, ANN, code), at=21),
        notification(rings(2, ANN, "Disconnected", reason=reason), at=33),
        notification(caller("Disconnected"), at=33),
    ).facts
    assert facts.outcome == Outcome(CallStatus.VOICEMAIL, 12)
    assert facts.phone == CLIENT


def test_one_of_three_extensions_answers() -> None:
    facts = in_any_order(
        notification(caller("Answered"), at=0),
        *(
            notification(rings(place, one, "Proceeding"), at=1)
            for place, one in ((3, ANN), (4, BOB), (5, CAT))
        ),
        notification(rings(4, BOB, "Answered"), at=6),
        notification(rings(3, ANN, "Disconnected", reason="AgentAnswered", missed=True), at=6),
        notification(rings(5, CAT, "Disconnected", reason="TargetBusy"), at=2),
        notification(rings(4, BOB, "Disconnected"), at=66),
        notification(caller("Disconnected"), at=66),
    ).facts
    assert facts.person == Person(1, BOB)
    assert facts.outcome == Outcome(CallStatus.ANSWERED, 60)


def test_a_blind_transfer() -> None:
    facts = in_any_order(
        notification(caller("Answered"), at=0),
        notification(rings(2, ANN, "Answered"), at=10),
        notification(rings(2, ANN, "Disconnected", reason="BlindTransfer"), at=30),
        notification(
            party(3, "Proceeding", calls=False, extension=BOB, to=end("102", BOB), sender=end("101", ANN)),
            at=30,
        ),
        notification(
            party(3, "Answered", calls=False, extension=BOB, to=end("102", BOB), sender=end("101", ANN)),
            at=35,
        ),
        notification(
            party(3, "Disconnected", calls=False, extension=BOB, to=end("102", BOB), sender=end("101", ANN)),
            at=75,
        ),
        notification(caller("Disconnected"), at=75),
    ).facts
    assert (facts.direction, facts.phone) == (Direction.INBOUND, CLIENT)
    assert facts.person == Person(1, BOB)
    assert facts.outcome == Outcome(CallStatus.ANSWERED, 60)


def test_an_attended_transfer_leaves_the_session_of_the_client() -> None:
    facts = in_any_order(
        notification(caller("Answered"), at=0),
        notification(rings(2, ANN, "Answered"), at=10),
        notification(rings(2, ANN, "Hold"), at=20),
        notification(rings(2, ANN, "Gone", reason="AttendedTransfer"), at=40),
        notification(caller("Disconnected"), at=100),
    ).facts
    assert (facts.phone, facts.person) == (CLIENT, Person(1, ANN))
    # The second session is another call, among extensions: what is talked there is not counted.
    assert facts.outcome == Outcome(CallStatus.ANSWERED, 30)


def test_a_call_among_extensions_is_known_for_one() -> None:
    one = end("101", ANN)
    facts = in_any_order(
        notification(party(1, "Setup", calls=True, extension=ANN, to=end("+15005550007"), sender=one), at=0),
        notification(
            party(1, "Answered", calls=True, extension=ANN, to=end("+15005550007", BOB), sender=one), at=1
        ),
        notification(party(2, "Answered", calls=False, extension=BOB, to=end("102", BOB), sender=one), at=5),
        notification(
            party(2, "Disconnected", calls=False, extension=BOB, to=end("102", BOB), sender=one), at=9
        ),
        notification(
            party(1, "Disconnected", calls=True, extension=ANN, to=end("+15005550007", BOB), sender=one), at=9
        ),
    ).facts
    assert facts.outcome is not None
    assert facts.phone is not None
    assert read(facts.phone).kind is Kind.INTERNAL


def test_a_notification_of_several_parties() -> None:
    body = notification(caller("Disconnected"), rings(2, ANN, "Disconnected"), at=9)
    found = RINGCENTRAL.parse(webhook(body), START)
    assert [one.what for one in found] == ["leg.ended", "leg.ended"]
    assert {one.event.key for one in found} == {CallKey(ACCOUNT, SESSION)}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(["telephonySessionId", "eventTime", "timestamp", "origin"]), JSON, max_size=3
    ),
    st.dictionaries(
        st.sampled_from(["id", "direction", "extensionId", "to", "from", "status"]), JSON, max_size=3
    ),
    st.binary(max_size=30),
    st.text(max_size=20),
)
def test_hostile_notifications_are_refused_or_not_understood(
    changes: dict[str, Any], of_party: dict[str, Any], raw: bytes, token: str
) -> None:
    for body in (notification({**rings(2, ANN, "Answered"), **of_party}, **changes), raw, b'{"event":' + raw):
        sent = webhook(body, token=token, rest=token)
        SERVICE.handshake(sent)
        with contextlib.suppress(InputRefused):
            RINGCENTRAL.verify(sent, START)
        with contextlib.suppress(NotUnderstood):
            for one in RINGCENTRAL.parse(sent, START):
                fold(None, one.event, START)
        RINGCENTRAL.told_body(sent)
