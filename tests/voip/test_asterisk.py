"""Asterisk: who may post, what records say, and which calls they make.

The records and posts in the files beside this one were made by an Asterisk 22.10.1 with the dialplan of
docs/voip/asterisk.md; 101 to 103 are telephones, IAX2/mytrunk is the way outside.
"""

import base64
import json
import random
import secrets
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

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
    Leg,
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
from calllogd.voip.provider.asterisk import SERVICE, Asterisk
from calllogd.voip.webhook import Webhook

ACCOUNT = 31337
NOW = 1_795_500_000.0
TOKEN = secrets.token_hex(16)
FOLDER = Path("/var/spool/asterisk/monitor")
CLIENT = "+12125550123"

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
ANSWERED = CallStatus.ANSWERED


def made(tokens: Sequence[BearerToken] = (), **values: Any) -> Asterisk | None:
    known = {name: setting.default for name, setting in SERVICE.settings.items()}
    assert values.keys() <= known.keys()
    provider = SERVICE.make(ACCOUNT, {**known, **values}, tokens)
    assert provider is None or isinstance(provider, Asterisk)
    return provider


def asterisk(**values: Any) -> Asterisk:
    provider = made(**{"token": TOKEN, **values})
    assert provider is not None
    return provider


ASTERISK = asterisk()


def webhook(
    body: bytes = b"", *, query: str = "", rest: str = "", peer: str = "192.0.2.1", **headers: str
) -> Webhook:
    return Webhook(
        method="POST",
        url=f"https://calls.example.com/voip/asterisk/{ACCOUNT}/{rest}?{query}",
        headers=CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}),
        body=body,
        rest=rest,
        peer=peer,
    )


def form(**fields: object) -> Webhook:
    known = {"uniqueid": "7.1", "linkedid": "7.1", "disposition": "ANSWERED", **fields}
    return webhook(urlencode({name: value for name, value in known.items() if value is not None}).encode())


def legs(told: Sequence[Told]) -> tuple[Leg, ...]:
    (one,) = told
    assert one.what == "leg.ended"
    return one.event.legs


def parts(name: str) -> Mapping[str, Sequence[bytes]]:
    """Return the lines of a file by the headings above them."""
    content = (Path(__file__).parent / name).read_bytes()
    heads = [part.partition(b"\n") for part in content.split(b"# ")[1:]]
    return {head.decode(): lines.splitlines() for head, _, lines in heads}


CDRS, POSTS = parts("asterisk-cdrs.csv"), parts("asterisk-posts.txt")


def calls_of(told: Iterable[Told]) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    for one in told:
        call_id = one.event.key.call_id
        calls[call_id] = fold(calls.get(call_id), one.event, NOW)
    return calls


def orders(told: Sequence[Told]) -> Iterable[Sequence[Told]]:
    """Return all orders of a few messages, many of more, each message once or twice."""
    if len(told) <= 4:
        yield from permutations(told)
    shuffled = random.Random(1)  # noqa: S311
    for _ in range(60):
        yield shuffled.sample([*told, *told], 2 * len(told))


def one_call(told: Sequence[Told]) -> Call:
    """Return the one call that messages make in whatever order."""
    made = []
    for order in orders(told):
        (call,) = calls_of(order).values()
        if call not in made:
            made.append(call)
    assert len({(call.facts, call.recording, call.legs) for call in made}) == 1
    return made[0]


def expected(direction: Direction, phone: str, who: str | None, status: CallStatus, talk: int) -> Facts:
    return Facts(
        direction=direction,
        phone=phone,
        person=None if who is None else Person(1, who),
        outcome=Outcome(status, talk),
    )


# who may post


@pytest.mark.parametrize(
    "shown",
    [
        {"rest": TOKEN},
        {"rest": f"{TOKEN}/more"},
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": "Basic " + base64.b64encode(f"asterisk:{TOKEN}".encode()).decode()},
        {"X_Token": TOKEN},
    ],
)
def test_the_token_may_be_shown_in_many_ways(shown: dict[str, Any]) -> None:
    ASTERISK.verify(webhook(**shown), NOW)


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"rest": TOKEN[:-1]},
        {"rest": f"more/{TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"query": f"token={TOKEN}"},
    ],
)
def test_nobody_else_may_post(shown: dict[str, Any]) -> None:
    with pytest.raises(InputRefused) as refused:
        ASTERISK.verify(webhook(**shown), NOW)
    assert refused.value.code == "unauthorized"


def test_two_tokens_are_good_while_they_are_changed() -> None:
    old, new, made_one = (secrets.token_hex(16) for _ in range(3))
    provider = made([BearerToken(made_one, NOW + 1)], token=new, previous_token=old)
    assert provider is not None
    for token in (old, new, made_one):
        provider.verify(webhook(rest=token), NOW)
    with pytest.raises(InputRefused):
        provider.verify(webhook(rest=made_one), NOW + 1)


def test_networks_count_besides() -> None:
    provider = asterisk(allow_from=networks(["10.0.0.0/8"]))
    provider.verify(webhook(rest=TOKEN, peer="10.1.2.3"), NOW)
    for rest, peer, code in ((TOKEN, "192.0.2.1", "forbidden"), ("", "10.1.2.3", "unauthorized")):
        with pytest.raises(InputRefused) as refused:
            provider.verify(webhook(rest=rest, peer=peer), NOW)
        assert refused.value.code == code


def test_without_a_token_there_is_no_door() -> None:
    assert made() is None
    provider = made(cdr_file=Path("/var/log/asterisk/cdr-csv/Master.csv"))
    assert provider is not None
    assert provider.cdr_file == Path("/var/log/asterisk/cdr-csv/Master.csv")
    with pytest.raises(InputRefused):
        provider.verify(webhook(), NOW)


def test_what_it_can_do() -> None:
    assert isinstance(ASTERISK, KeepsRecordings)
    assert isinstance(ASTERISK, LeavesRecords)
    assert ASTERISK.cdr_file is None
    assert ASTERISK.reply is None


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("timezone", "America/Sao_Paulo", ZoneInfo("America/Sao_Paulo")),
        ("inbound_contexts", ["a ", "b"], ("a", "b")),
        ("trunks", [], ()),
        ("extension_digits", "4", 4),
        ("extension_digits", 2, 2),
        ("extension_digits", 9, 9),
        ("recordings", "/srv/calls", Path("/srv/calls")),
        ("cdr_file", "/m.csv", Path("/m.csv")),
        ("cdr_columns", ["Uniqueid", "disposition"], ("uniqueid", "disposition")),
    ],
)
def test_settings(name: str, value: Any, read: Any) -> None:
    assert SERVICE.settings[name].read(value) == read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("timezone", value) for value in ("Mars/Olympus", "", "../etc/passwd", 3, None)),
        *(("inbound_contexts", value) for value in ("from-trunk", [1], [" "])),
        ("trunks", {"PJSIP/x": 1}),
        *(("extension_digits", value) for value in (1, 10, 2.5)),
        ("recordings", "calls"),
        ("cdr_file", "Master.csv"),
        ("cdr_columns", ["src"]),
    ],
)
def test_settings_that_are_wrong(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        SERVICE.settings[name].read(value)


def test_secrets_are_known_to_be_secret() -> None:
    secret = {name for name, setting in SERVICE.settings.items() if setting.secret}
    assert secret == {"token", "previous_token"}


def test_the_guide_names_every_setting() -> None:
    guide = (Path(__file__).parents[2] / "docs/voip/asterisk.md").read_text()
    assert [name for name in SERVICE.settings if f"`{name}`" not in guide and f"{name} =" not in guide] == []


# calls as Asterisk told them

_CALLS = {
    "answered": expected(IN, CLIENT, "101", ANSWERED, 4),
    "ring-group": expected(IN, CLIENT, "101", ANSWERED, 4),
    "outbound": expected(OUT, "12125550150", "101", ANSWERED, 5),
    "outbound-busy": expected(OUT, "12125550199", "101", CallStatus.BUSY, 0),
    "mailbox": expected(IN, CLIENT, "102", CallStatus.VOICEMAIL, 4),
    # The queue has answered three seconds before, and rung for two: neither is talk.
    "queue": expected(IN, CLIENT, "101", ANSWERED, 4),
    "queue-of-phones": expected(IN, CLIENT, "101", ANSWERED, 4),
    "no-answer": expected(IN, CLIENT, "102", CallStatus.NO_ANSWER, 0),
    "busy": expected(IN, CLIENT, "103", CallStatus.BUSY, 0),
    "caller-gave-up": expected(IN, CLIENT, "102", CallStatus.NO_ANSWER, 0),
    "menu-only": expected(IN, CLIENT, None, CallStatus.NO_ANSWER, 0),
    "local-channels": expected(IN, CLIENT, "102", ANSWERED, 4),
    "blind-transfer": expected(IN, CLIENT, "102", ANSWERED, 15),
    "attended-transfer": expected(IN, CLIENT, "102", ANSWERED, 14),
    "outbound-blind-transfer": expected(OUT, "12125550151", "102", ANSWERED, 14),
    "outbound-attended-transfer": expected(OUT, "12125550151", "102", ANSWERED, 10),
    "by-a-click": expected(OUT, "12125550150", "101", ANSWERED, 7),
    "by-a-click-local": expected(OUT, "12125550150", "101", ANSWERED, 4),
    "forwarded": expected(IN, CLIENT, "2009", ANSWERED, 5),
    "internal": expected(OUT, "102", "102", ANSWERED, 5),
}

_POSTED = {
    **_CALLS,
    "mailbox": expected(IN, CLIENT, None, CallStatus.VOICEMAIL, 4),
    "queue-of-phones": expected(IN, CLIENT, "102", ANSWERED, 5),
    "caller-gave-up": expected(IN, CLIENT, "102", CallStatus.CANCELLED, 0),
    "local-channels": expected(IN, CLIENT, "101", ANSWERED, 4),
    "attended-transfer": expected(IN, CLIENT, "102", ANSWERED, 15),
    "by-a-click": expected(OUT, "12125550150", "101", ANSWERED, 4),
}


def without_start(call: Call) -> Facts:
    facts = call.facts
    assert facts.started_at is not None
    return Facts(direction=facts.direction, phone=facts.phone, person=facts.person, outcome=facts.outcome)


@pytest.mark.parametrize("trunks", [(), ("iax2/mytrunk",)])
@pytest.mark.parametrize("name", CDRS)
def test_calls_of_master_csv(name: str, trunks: tuple[str, ...]) -> None:
    provider = asterisk(trunks=trunks)
    told = [one for line in CDRS[name] for one in provider.told_of(line, NOW)]
    assert without_start(one_call(told)) == _CALLS[name]


@pytest.mark.parametrize("trunks", [(), ("iax2/mytrunk",)])
@pytest.mark.parametrize("name", POSTS)
def test_calls_that_were_posted(name: str, trunks: tuple[str, ...]) -> None:
    provider = asterisk(trunks=trunks)
    told = [one for body in POSTS[name] for one in provider.parse(webhook(body), NOW)]
    assert without_start(one_call(told)) == _POSTED[name]


def test_every_call_is_tried() -> None:
    assert CDRS.keys() == _CALLS.keys()
    assert POSTS.keys() <= _POSTED.keys()


def test_a_call_from_a_file_without_linkedid() -> None:
    columns = 17
    for name in ("answered", "ring-group", "outbound", "queue", "mailbox", "blind-transfer"):
        told: list[Told] = []
        for line in CDRS[name]:
            head = line.split(b'"DOCUMENTATION",')
            record = head[0] + b'"DOCUMENTATION",' + head[1].split(b",")[0]
            assert len(record.split(b'","')) <= columns
            told += ASTERISK.told_of(record, NOW)
        call = without_start(one_call(told))
        # What stands before a telephone in a queue has to do: there waiting counts as talk.
        talk = 9 if name == "queue" else None
        want = _CALLS[name]
        assert want.outcome is not None
        assert call == (want if talk is None else expected(IN, CLIENT, "101", ANSWERED, talk))


def test_a_call_goes_on_while_the_channel_that_began_it_does() -> None:
    *others, last = [one for line in CDRS["queue"] for one in ASTERISK.told_of(line, NOW)][:3]
    (call,) = calls_of(others).values()
    assert (call.facts.direction, call.facts.phone, call.facts.outcome) == (IN, CLIENT, None)
    (call,) = calls_of([*others, last]).values()
    assert call.facts.outcome == Outcome(ANSWERED, 4)


def test_post_and_file_are_one_call() -> None:
    fields = {"uniqueid": "1795407336.3", "linkedid": "1795407336.3", "sequence": "3"}
    posted = ASTERISK.parse(
        form(
            **fields,
            channel="IAX2/mytrunk-16307",
            dstchannel="IAX2/101-10857",
            src=CLIENT,
            dst="2001",
            start="1795407336.159200",
            answer="1795407338.170981",
            end="1795407342.694359",
            billsec="4",
        ),
        NOW,
    )
    (line,) = CDRS["answered"]
    assert posted == ASTERISK.told_of(line, NOW)


# who is who


def side(fields: dict[str, str], **values: Any) -> tuple[Side | None, Direction | None, str | None]:
    """Return the side, direction and number that the leg of the client tells, or that of an internal call."""
    told = legs(asterisk(**values).parse(form(**fields), NOW))
    (leg,) = [one for one in told if one.direction is not None]
    return leg.side, leg.direction, leg.phone


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"src": "+12125550123", "dst": "101"}, (Side.CLIENT, IN, "+12125550123")),
        (
            {"src": "2125550123", "dst": "12125559000", "dstchannel": "PJSIP/bob-01"},
            (Side.CLIENT, IN, "2125550123"),
        ),
        ({"src": "", "dst": "101"}, (Side.CLIENT, IN, "")),
        ({"src": "anonymous", "dst": "101"}, (Side.CLIENT, IN, "anonymous")),
        ({"src": "101", "dst": "912125550150"}, (Side.CLIENT, OUT, "912125550150")),
        (
            {"src": "12125559000", "dst": "12125550150", "channel": "PJSIP/101-0000abcd"},
            (Side.CLIENT, OUT, "12125550150"),
        ),
        ({"src": "101", "dst": "102"}, (Side.STAFF, OUT, "102")),
        ({"src": "sip:ann@192.0.2.7", "dst": "12125550150"}, (Side.CLIENT, OUT, "12125550150")),
        ({"src": "101", "dst": "*97"}, (Side.STAFF, OUT, "*97")),
        ({"src": "101", "dst": "s", "dstchannel": ""}, (Side.STAFF, OUT, "s")),
        ({"src": "101", "dst": "", "dstchannel": "SIP/provider-01"}, (Side.CLIENT, OUT, "")),
        ({"src": "101", "dst": "", "dstchannel": ""}, (Side.STAFF, OUT, "")),
        ({"src": "101", "dst": "", "dstchannel": "Local/x@y-0000abcd;1"}, (Side.STAFF, OUT, "")),
        # A dialplan knows best.
        (
            {"src": CLIENT, "dst": "101", "channel": "Local/101@q-0000abcd;2", "direction": "in"},
            (Side.CLIENT, IN, CLIENT),
        ),
        ({"src": "101", "dst": "102", "direction": "in"}, (Side.CLIENT, IN, "101")),
        ({"src": "12125550123", "dst": "102", "direction": "out"}, (Side.CLIENT, OUT, "102")),
        ({"src": "12125550123", "dst": "102", "direction": "internal"}, (Side.STAFF, OUT, "102")),
        # A number that was dialled from outside, or a context for that, tells as well.
        ({"src": "101", "dst": "102", "did": "12125559000"}, (Side.CLIENT, IN, "101")),
        ({"src": "101", "dst": "102", "dcontext": "From-Trunk"}, (Side.CLIENT, IN, "101")),
    ],
)
def test_directions(fields: dict[str, str], found: tuple[Side, Direction, str]) -> None:
    assert side(fields) == found


@pytest.mark.parametrize(
    ("channel", "dstchannel", "found"),
    [
        ("PJSIP/provider-01", "PJSIP/ann-02", (Side.CLIENT, IN, "101")),
        ("PJSIP/ann-01", "PJSIP/provider-02", (Side.CLIENT, OUT, "102")),
        ("PJSIP/ann-01", "PJSIP/bob-02", (Side.STAFF, OUT, "102")),
        ("PJSIP/provider-2-01", "PJSIP/bob-02", (Side.STAFF, OUT, "102")),
        ("DAHDI/i1/12125550123-3f", "PJSIP/bob-02", (Side.CLIENT, IN, "101")),
        ("DAHDI/i10/12125550123-3f", "PJSIP/bob-02", (Side.STAFF, OUT, "102")),
        ("PJSIP/200-01", "PJSIP/bob-02", (Side.CLIENT, IN, "101")),
        ("PJSIP/bob-01", "PJSIP/200-02", (Side.CLIENT, OUT, "102")),
        ("Local/103@x-0000abcd;1", "PJSIP/bob-02", (Side.STAFF, OUT, "102")),
    ],
)
def test_trunks(channel: str, dstchannel: str, found: tuple[Side, Direction, str]) -> None:
    fields = {"src": "101", "dst": "102", "channel": channel, "dstchannel": dstchannel}
    assert side(fields, trunks=("PJSIP/provider", "DAHDI/i1", "pjsip/200")) == found


def test_local_channels_are_no_trunks_and_nobodys() -> None:
    through = {"src": "101", "dst": "12125550177", "dstchannel": "Local/12125550177@out-0000abcd;1"}
    assert side(through, trunks=("PJSIP/provider",)) == (Side.CLIENT, OUT, "12125550177")
    back = {"src": CLIENT, "dst": "101", "channel": "Local/12125550123@in-0000abcd;1"}
    assert side(back, trunks=("PJSIP/provider",)) == (Side.CLIENT, IN, CLIENT)


def test_contexts_are_a_setting() -> None:
    fields = {"src": "101", "dst": "102", "dcontext": "outside-world"}
    assert side(fields)[:2] == (Side.STAFF, OUT)
    assert side(fields, inbound_contexts=("Outside-World",))[:2] == (Side.CLIENT, IN)


@pytest.mark.parametrize(("digits", "found"), [(5, IN), (6, OUT), (3, IN)])
def test_digits_of_extensions_are_a_setting(digits: int, found: Direction) -> None:
    fields = {"src": "123456", "dst": "12125550150", "dstchannel": "SIP/provider-01"}
    assert side(fields, extension_digits=digits)[1] is found


def test_extensions_as_long_as_numbers_make_no_calls() -> None:
    fields = {"src": "123456", "dst": "123457", "dstchannel": "SIP/123457-01"}
    assert asterisk(extension_digits=6).parse(form(**fields), NOW) == ()
    assert asterisk(extension_digits=6).parse(form(**{**fields, "dstchannel": "DAHDI/25-1"}), NOW) == ()
    assert len(asterisk().parse(form(**fields), NOW)) == 1


@pytest.mark.parametrize(
    ("fields", "extension"),
    [
        ({"dstchannel": "PJSIP/101-0000abcd", "dst": "12125559000"}, "101"),
        ({"dstchannel": "SIP/101-0000abcd", "dst": "600"}, "101"),
        ({"dstchannel": "IAX2/101-1234", "dst": "600"}, "101"),
        ({"dstchannel": "Local/101@from-queue-0000abcd;1", "dst": "600"}, "101"),
        ({"dstchannel": "Local/101@from-queue/n", "dst": "600"}, "101"),
        ({"dstchannel": "Local/FMPR-101@from-internal-0000abcd;1", "dst": "600"}, "101"),
        ({"dstchannel": "Local/FMGL-101#@from-internal-0000abcd;1", "dst": "600"}, "101"),
        ({"dstchannel": "PJSIP/101/sip:101@192.0.2.7-0000abcd", "dst": "600"}, "101"),
        ({"dstchannel": "Agent/101", "dst": "600"}, "101"),
        ({"dstchannel": "DAHDI/25-1", "dst": "101"}, "101"),
        ({"dstchannel": "DAHDI/25-1", "dst": "12125559000"}, None),
        ({"dstchannel": "PJSIP/bob-0000abcd", "dst": "101"}, "101"),
        ({"dstchannel": "PJSIP/bob-0000abcd", "dst": "600", "lastapp": "Queue"}, "bob"),
        ({"dstchannel": "PJSIP/bob-0000abcd", "dst": "12125559000"}, "bob"),
        ({"dstchannel": "PJSIP/provider-02", "dst": "12125559000", "channel": "PJSIP/provider-01"}, None),
        ({"dstchannel": "Local/s@ring-0000abcd;1", "dst": "12125559000"}, None),
        ({"dst": "101"}, "101"),
        ({"dstchannel": "DAHDI/25-1", "dst": "\u0661\u0660\u0661"}, None),
        ({"dst": "*97", "dstchannel": "DAHDI/25-1"}, None),
        ({"dstchannel": "PJSIP/101-0000abcd", "extension": "7"}, "7"),
    ],
)
def test_who_was_called(fields: dict[str, str], extension: str | None) -> None:
    told = legs(ASTERISK.parse(form(src=CLIENT, **fields), NOW))
    assert [leg.extension for leg in told if leg.side is Side.STAFF] == [extension]


def test_a_trunk_is_nobody() -> None:
    fields = {"src": CLIENT, "dst": "12125559000", "channel": "SIP/in-01", "dstchannel": "SIP/100-02"}
    told = legs(asterisk(trunks=("SIP/in", "SIP/100")).parse(form(**fields), NOW))
    assert [leg.extension for leg in told if leg.side is Side.STAFF] == [None]


@pytest.mark.parametrize(
    ("fields", "extension"),
    [
        ({"channel": "PJSIP/101-0000abcd", "src": "12125559000"}, "101"),
        ({"channel": "Local/101@from-internal-0000abcd;1", "src": "12125559000"}, "101"),
        ({"channel": "DAHDI/25-1", "src": "101"}, "101"),
        ({"channel": "PJSIP/ann-01", "src": "101"}, "101"),
        ({"channel": "PJSIP/ann-01", "src": "12125559000", "direction": "out"}, "ann"),
        ({"channel": "DAHDI/25-1", "src": "12125559000", "direction": "out"}, None),
        ({"channel": "PJSIP/101-01", "src": "102", "extension": "7"}, "7"),
    ],
)
def test_who_has_called(fields: dict[str, str], extension: str | None) -> None:
    told = legs(ASTERISK.parse(form(dst="12125550150", dstchannel="SIP/provider-09", **fields), NOW))
    assert [leg.extension for leg in told if leg.side is Side.STAFF] == [extension]


def test_somebody_who_is_asked_back_is_not_the_client() -> None:
    assert ASTERISK.parse(form(linkedid="7.0", src="101", dst="102", channel="SIP/101-02"), NOW) == ()
    outside = form(
        linkedid="7.0", src="101", dst="12125550177", channel="SIP/101-02", dstchannel="SIP/provider-03"
    )
    asked = ASTERISK.parse(outside, NOW)
    client = ASTERISK.parse(
        form(
            uniqueid="7.0",
            linkedid="7.0",
            src="",
            dst="101",
            channel="SIP/provider-01",
            dstchannel="SIP/101-02",
        ),
        NOW,
    )
    for order in orders([*asked, *client]):
        (call,) = calls_of(order).values()
        assert (call.facts.direction, call.facts.phone) == (IN, "")


def test_a_local_channel_alone_is_no_call() -> None:
    half = {"uniqueid": "7.2", "channel": "Local/101@q-0000abcd;2", "src": CLIENT, "dst": "101"}
    assert ASTERISK.parse(form(**half, linkedid=None, dstchannel="SIP/101-01"), NOW) == ()
    assert ASTERISK.parse(form(**half, dstchannel=""), NOW) == ()
    told = legs(ASTERISK.parse(form(**half, dstchannel="SIP/101-01"), NOW))
    assert [(leg.side, leg.phone, leg.direction) for leg in told] == [
        (Side.STAFF, CLIENT, IN),
        (None, None, None),
    ]
    own = legs(ASTERISK.parse(form(**{**half, "src": "102"}, dstchannel="SIP/101-01"), NOW))
    assert [(leg.side, leg.phone, leg.direction) for leg in own] == [
        (Side.STAFF, None, None),
        (None, None, None),
    ]
    unknown = legs(ASTERISK.parse(form(**{**half, "src": ""}, dstchannel="SIP/101-01"), NOW))
    assert [(leg.side, leg.phone, leg.direction) for leg in unknown] == [
        (Side.STAFF, None, None),
        (None, None, None),
    ]
    long = asterisk(extension_digits=6).parse(form(**{**half, "src": "123456"}, dstchannel="SIP/101-01"), NOW)
    assert [leg.phone for leg in legs(long)] == [None, None]
    away = {**half, "dst": "12125550177"}
    told = legs(ASTERISK.parse(form(**away, dstchannel="SIP/provider-01"), NOW))
    assert [(leg.side, leg.phone) for leg in told] == [(None, None), (None, None)]


def test_only_the_channel_that_began_the_call_tells_the_number() -> None:
    later = form(
        linkedid="7.0", src="12125550150", dst="102", channel="SIP/provider-02", dstchannel="SIP/102-03"
    )
    told = legs(ASTERISK.parse(later, NOW))
    assert [(leg.id, leg.side, leg.phone) for leg in told] == [
        ("7.1/SIP/102-03/a", Side.CLIENT, None),
        ("7.1/SIP/102-03/b", Side.STAFF, None),
        ("7.0", None, None),
    ]


def test_an_announcement_is_no_outbound_talk() -> None:
    fields = {"src": "101", "dst": "12125550150", "start": "1795407336", "end": "1795407340", "billsec": "4"}
    call = one_call(ASTERISK.parse(form(**fields, dstchannel=""), NOW))
    assert call.facts.outcome == Outcome(CallStatus.FAILED, 0)
    call = one_call(ASTERISK.parse(form(**fields, dstchannel="", disposition="BUSY"), NOW))
    assert call.facts.outcome == Outcome(CallStatus.BUSY, 0)
    call = one_call(ASTERISK.parse(form(**fields), NOW))
    assert call.facts.outcome == Outcome(ANSWERED, 4)


def test_a_failed_dial_has_no_talk_whatever_was_before_it() -> None:
    first, second = CDRS["mailbox"]
    staff = [leg for leg in legs(ASTERISK.told_of(first, NOW)) if leg.side is Side.STAFF]
    assert [(leg.talk, leg.answered_at, leg.status) for leg in staff] == [(None, None, CallStatus.NO_ANSWER)]
    (client,) = legs(ASTERISK.told_of(second, NOW))
    assert (client.side, client.status, client.talk) == (Side.CLIENT, CallStatus.VOICEMAIL, 4)


def test_the_least_that_will_do() -> None:
    told = ASTERISK.parse(form(linkedid=None, src=CLIENT, dst="101", billsec=9), NOW)
    call = one_call(told)
    assert call.facts == expected(IN, CLIENT, "101", ANSWERED, 9)
    call = one_call(ASTERISK.parse(form(linkedid=None, src=CLIENT, dst="12125559000", billsec=9), NOW))
    assert call.facts == expected(IN, CLIENT, None, ANSWERED, 9)
    call = one_call(ASTERISK.parse(form(linkedid=None, src=CLIENT, dst="101", billsec=9, dstchannel=""), NOW))
    assert call.facts == expected(IN, CLIENT, None, CallStatus.NO_ANSWER, 0)
    spoken = form(linkedid=None, src=CLIENT, dst="1", billsec=9, dstchannel="", extension="103")
    assert one_call(ASTERISK.parse(spoken, NOW)).facts == expected(IN, CLIENT, "103", ANSWERED, 9)


# what is posted


def test_forms_and_json_are_alike() -> None:
    fields = {
        "uniqueid": "7.1",
        "Disposition": "BUSY",
        "src": "Jörg <101>",
        "dst": "12125550150",
        "billsec": 0,
    }
    as_form = ASTERISK.parse(webhook(urlencode(fields).encode()), NOW)
    as_json = ASTERISK.parse(webhook(b"\n" + json.dumps({**fields, "did": None}).encode()), NOW)
    in_query = ASTERISK.parse(webhook(query=urlencode(fields)), NOW)
    assert as_form == as_json == in_query
    assert as_form[0].event.key.call_id == "7.1"


def test_an_empty_request_says_nothing() -> None:
    assert ASTERISK.parse(webhook(), NOW) == ()
    assert ASTERISK.parse(webhook(b"{}"), NOW) == ()


@pytest.mark.parametrize(
    "body",
    [
        b"a=1",
        b'{"uniqueid": ["7"]}',
        b'{"uniqueid"',
        b"{" * 100_000,
        b'{"uniqueid": "\xff"}',
        b'{"a":' * 50_000,
        b"\xff\xfe=",
    ],
)
def test_what_cannot_be_read(body: bytes) -> None:
    with pytest.raises(NotUnderstood):
        ASTERISK.parse(webhook(body), NOW)


_NAMES = st.sampled_from(
    [
        "uniqueid",
        "linkedid",
        "src",
        "dst",
        "channel",
        "dstchannel",
        "disposition",
        "start",
        "end",
        "billsec",
        "direction",
        *("recordingfile", "userfield", "extension", "did", "answer", "lastapp", "sequence"),
    ]
)
_VALUES = st.text(max_size=30) | st.sampled_from(
    [
        "ANSWERED",
        "BUSY",
        "7.1",
        "101",
        CLIENT,
        "Local/101@q-0000abcd;2",
        "Local/1@q-0000abcd;1",
        "PJSIP/101-0001",
        "in",
        "\ud800",
        *("nan", "1e999", "-1", "9" * 400, "2026-11-23 04:15:36", "", "VoiceMail", "../../x.wav", "*97"),
    ]
)


@given(st.dictionaries(_NAMES, _VALUES), st.booleans())
def test_hostile_fields(fields: dict[str, str], as_json: bool) -> None:
    body = json.dumps(fields) if as_json else urlencode(fields, errors="surrogatepass")
    try:
        told = asterisk(recordings=FOLDER).parse(webhook(body.encode()), NOW)
    except (NotUnderstood, InputRefused):
        return
    for one in told:
        calls_of([one, one])
        assert 1 <= len(one.event.key.call_id) <= 255


@given(st.binary(max_size=200), st.binary(max_size=40), st.text(max_size=40))
def test_hostile_requests(body: bytes, query: bytes, authorization: str) -> None:
    sent = webhook(body, query=query.decode("latin-1"), rest=authorization, Authorization=authorization)
    with pytest.raises(InputRefused):
        ASTERISK.verify(sent, NOW)
    try:
        ASTERISK.parse(sent, NOW)
    except (NotUnderstood, InputRefused):
        return


# recordings


def recording(told: str, status: str = "ANSWERED", **values: Any) -> Recording:
    provider = asterisk(**{"recordings": FOLDER, **values})
    (one,) = provider.parse(form(src=CLIENT, dst="101", disposition=status, recordingfile=told), NOW)
    return one.event.recording


@pytest.mark.parametrize(
    ("told", "url"),
    [
        ("7.wav", "asterisk:7.wav"),
        ("2026/01/02/7.wav", "asterisk:2026/01/02/7.wav"),
        (f"{FOLDER}/2026/7.wav", "asterisk:2026/7.wav"),
        ("in-1-2-20260102-030405-1.1.wav", "asterisk:2026/01/02/in-1-2-20260102-030405-1.1.wav"),
        ("https://pbx.example.com/7.wav", "https://pbx.example.com/7.wav"),
        ("a b.wav", "asterisk:a b.wav"),
        ("x" * 1000, "asterisk:" + "x" * 1000),
        ("https://a.example/" + "x" * 982, "https://a.example/" + "x" * 982),
    ],
)
def test_where_recordings_are(told: str, url: str) -> None:
    assert recording(told) == Recording(state=RecordingState.EXPECTED, url=url)


@pytest.mark.parametrize(
    "told",
    [
        "",
        "/etc/passwd",
        "../7.wav",
        "a/../../7.wav",
        f"{FOLDER}/../7.wav",
        f"{FOLDER}2/7.wav",
        str(FOLDER),
        ".",
        "a\x00b.wav",
        *(
            "a\nb.wav",
            "x" * 1001,
            "http://pbx.example.com/7.wav",
            "https://a b/",
            "https://",
            "https://[/7.wav",
        ),
        "https://a.example/" + "x" * 983,
    ],
)
def test_recordings_that_are_none_of_ours(told: str) -> None:
    assert recording(told) == NO_RECORDING


def test_only_who_was_answered_was_recorded() -> None:
    assert recording("7.wav", "NO ANSWER") == NO_RECORDING


def test_without_a_folder_only_addresses_are_taken() -> None:
    assert recording("7.wav", recordings=None) == NO_RECORDING
    assert recording("https://pbx.example.com/7.wav", recordings=None).url is not None


def found(provider: Asterisk, reference: str) -> object:
    errand = provider.find_recording(reference, NOW)
    with pytest.raises(StopIteration) as stopped:
        next(errand)
    return stopped.value.value


def test_a_recording_is_found_in_its_folder() -> None:
    provider = asterisk(recordings=FOLDER)
    assert found(provider, "2026/7.wav") == LocalFile(path=FOLDER / "2026/7.wav", folder=FOLDER)


@pytest.mark.parametrize(
    "reference", ["/etc/passwd", f"{FOLDER}/7.wav", "../7.wav", "a/../../b", "", ".", "a\x00", "x" * 1001]
)
def test_a_recording_is_not_looked_for_elsewhere(reference: str) -> None:
    with pytest.raises(ErrandFailed) as failed:
        found(asterisk(recordings=FOLDER), reference)
    assert failed.value.is_final
    assert reference in ("", ".") or reference not in str(failed.value)


def test_a_recording_needs_a_folder() -> None:
    with pytest.raises(ErrandFailed) as failed:
        found(ASTERISK, "7.wav")
    assert failed.value.is_final


def test_a_recording_may_be_told_with_any_record_of_the_call() -> None:
    provider = asterisk(recordings=FOLDER)
    told: list[Told] = []
    for body in POSTS["queue"]:
        named = body.replace(
            b"recordingfile=", b"recordingfile=7.wav" if b"start=1795409392" in body else b"recordingfile="
        )
        told += provider.parse(webhook(named), NOW)
    assert one_call(told).recording.url == "asterisk:7.wav"
