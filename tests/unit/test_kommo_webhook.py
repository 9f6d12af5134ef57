"""Kommo's webhooks: what their forms say, and their secrets."""

from collections.abc import Mapping
from time import perf_counter
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calllogd.domain.call import LeadState
from calllogd.kommo.webhook import WebhookSecrets, parse
from calllogd.voip.usecase.hear_kommo import LeadSorted, NumberAppeared
from tests.fakes import ACCOUNT

KEY = b"k" * 32


def form(*fields: Mapping[str, str]) -> bytes:
    return "&".join(urlencode(some) for some in fields).encode()


def card(action: str = "add", kind: str = "contact", place: int = 0) -> dict[str, str]:
    """A contact as Kommo tells of it, with two numbers among other fields."""
    at = f"contacts[{action}][{place}]"
    return {
        f"{at}[id]": "7",
        f"{at}[name]": "Ann Müller",
        f"{at}[type]": kind,
        f"{at}[custom_fields][0][id]": "1",
        f"{at}[custom_fields][0][name]": "Phone",
        f"{at}[custom_fields][0][values][0][value]": "+1 (212) 555-0123",
        f"{at}[custom_fields][0][values][0][enum]": "11",
        f"{at}[custom_fields][0][values][1][value]": "12125550124",
        f"{at}[custom_fields][0][code]": "PHONE",
        f"{at}[custom_fields][1][values][0][value]": "ann@example.com",
        f"{at}[custom_fields][1][code]": "EMAIL",
        f"{at}[custom_fields][2][values][0]": "1760000000",
        "account[id]": str(ACCOUNT),
    }


NUMBERS = [NumberAppeared("+1 (212) 555-0123"), NumberAppeared("12125550124")]


@pytest.mark.parametrize("action", ["add", "update"])
@pytest.mark.parametrize("kind", ["contact", "company"])
def test_numbers_of_new_and_changed_cards_appear(action: str, kind: str) -> None:
    assert parse(form(card(action, kind))) == NUMBERS


def test_brackets_may_be_written_plainly() -> None:
    raw = "&".join(f"{name}={quote(value)}" for name, value in card().items()).encode()
    assert parse(raw) == NUMBERS


def test_the_order_of_fields_does_not_matter() -> None:
    backwards = dict(reversed(card().items()))
    assert set(parse(form(backwards))) == set(NUMBERS)


def test_several_cards_come_in_one_form() -> None:
    assert len(parse(form(card(), card(place=1), card("update")))) == 6


def test_a_value_may_stand_right_under_its_field() -> None:
    at = "contacts[add][0][custom_fields][0]"
    assert parse(form({f"{at}[values][0]": "5550123", f"{at}[code]": "PHONE"})) == [NumberAppeared("5550123")]


@pytest.mark.parametrize("action", ["delete", "note", "responsible", ""])
def test_cards_that_go_or_get_notes_tell_nothing(action: str) -> None:
    assert parse(form(card(action))) == []


def sorting(fields: Mapping[str, str], place: int = 0) -> dict[str, str]:
    at = f"unsorted[delete][{place}]"
    return {f"{at}[{name.replace('/', '][')}]": value for name, value in fields.items()}


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"uid": "u1", "action": "accept", "accept_result/leads/0": "5"}, LeadState.ACCEPTED),
        ({"uid": "u1", "action": "decline", "decline_result/leads/0": "5"}, LeadState.DECLINED),
        ({"accept_result": "5", "uid": "u1"}, LeadState.ACCEPTED),
        ({"uid": "u1", "decline_result": "5"}, LeadState.DECLINED),
        ({"uid": "u1", "action": "decline", "accept_result": "5"}, LeadState.DECLINED),
        ({"uid": "u1", "category": "sip", "action": "accept"}, LeadState.ACCEPTED),
        ({"uid": "u1"}, None),
        ({"uid": "u1", "action": "merge"}, None),
        ({"uid": "u1", "accept_result": ""}, None),
        ({"uid": "u1", "accept_result": "5", "decline_result": "5"}, None),
        ({"action": "accept"}, None),
        ({"uid": "", "action": "accept"}, None),
        ({"uid": "x" * 256, "action": "accept"}, None),
        ({"uid": "a\nb", "action": "accept"}, None),
    ],
)
def test_incoming_leads_are_accepted_or_declined(fields: dict[str, str], state: LeadState | None) -> None:
    raw = form(sorting(fields))
    assert parse(raw) == ([] if state is None else [LeadSorted("u1", state)])


def test_several_leads_are_sorted_at_once() -> None:
    raw = form(sorting({"uid": "u1", "action": "accept"}), sorting({"uid": "u2", "action": "decline"}, 1))
    assert parse(raw) == [LeadSorted("u1", LeadState.ACCEPTED), LeadSorted("u2", LeadState.DECLINED)]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"&&&=&",
        b"contacts",
        b"contacts=5&contacts[]=6&contacts[add]=7",
        b"contacts[add][0][custom_fields]=PHONE",
        b"contacts[add][0][custom_fields][0][code]=PHONE",
        b"contacts[add][0][custom_fields][0][values][0][value]=123",
        b"contacts[add][0][custom_fields][0][values][0][value][x]=1&contacts[add][0][custom_fields][0][code]=PHONE",
        b"contacts" + b"[" * 1000 + b"=1",
        b"leads[note][0][note][text]=hello&leads[add][0][id]=5",
        b"unsorted[add][0][uid]=u1&unsorted[add][0][action]=accept",
        b'{"contacts": {"add": []}}',
        b"\xff\xfe%zz%",
        form(card()).replace(b"PHONE", b"phone"),
    ],
)
def test_what_tells_nothing_is_passed_over(raw: bytes) -> None:
    assert parse(raw) == []


@pytest.mark.parametrize("phone", ["", "   ", "1" * 65])
def test_what_is_no_number_is_passed_over(phone: str) -> None:
    changed = {**card(), "contacts[add][0][custom_fields][0][values][1][value]": phone}
    assert parse(form(changed)) == NUMBERS[:1]


def test_of_two_fields_of_one_name_the_later_counts() -> None:
    again = form({"contacts[add][0][custom_fields][0][values][1][value]": "999"})
    assert parse(form(card()) + b"&" + again) == [NUMBERS[0], NumberAppeared("999")]
    nothing_more = form({"contacts[add][0][custom_fields][0][code]": "EMAIL"})
    assert parse(form(card()) + b"&" + nothing_more) == []


def test_wrong_encodings_are_read_as_well_as_can_be() -> None:
    assert parse(form(card()).replace(b"12125550124", b"%ff\xff1")) == [
        NUMBERS[0],
        NumberAppeared("\ufffd\ufffd1"),
    ]


@pytest.mark.parametrize(
    "item",
    [
        b"contacts[add][0][custom_fields][%d][code]=PHONE",
        b"contacts[add][%d][custom_fields][0][values][0][value]=1",
        b"unsorted[delete][%d][uid]=u",
        b"contacts[%d" + b"[a]" * 50,
        b"unsorted%d",
        b"a",
        b"contacts",
    ],
)
def test_a_mebibyte_of_fields_is_read_in_little_time(item: bytes) -> None:
    pieces = 1024 * 1024 // (len(item) + 3)
    raw = b"&".join(item % number if b"%d" in item else item for number in range(pieces))
    started_at = perf_counter()
    parse(raw)
    assert perf_counter() - started_at < 1.0


WORDS = "contacts unsorted add update delete 0 1 custom_fields values value code uid action accept_result"
PARTS = st.sampled_from([*WORDS.split(), "", "[", "]", "%5B", "&", "=", "é", "\x00"])
NAMES = st.lists(PARTS, min_size=1, max_size=9).map(
    lambda parts: parts[0] + "".join(f"[{p}]" for p in parts[1:])
)
FORMS = st.lists(
    st.tuples(NAMES, st.sampled_from(["PHONE", "accept", "1"]) | st.text(max_size=10)), max_size=30
)


@given(
    FORMS.map(lambda fields: urlencode(fields, errors="replace").encode())
    | FORMS.map(lambda fields: "&".join("=".join(pair) for pair in fields).encode("utf-8", "replace"))
    | st.binary(max_size=200).map(lambda raw: b"contacts[add][0]" + raw)
)
@settings(max_examples=500)
def test_whatever_is_sent_is_read_or_passed_over(raw: bytes) -> None:
    for news in parse(raw):
        if isinstance(news, NumberAppeared):
            assert 0 < len(news.phone) <= 64
        else:
            assert 0 < len(news.uid) <= 255
        str(news).encode()


def test_every_account_has_a_secret_of_its_own() -> None:
    secrets = WebhookSecrets(KEY)
    secret = secrets.secret(ACCOUNT)
    assert len(secret) == 64
    assert secret == WebhookSecrets(KEY).secret(ACCOUNT)
    assert secret != secrets.secret(ACCOUNT + 1)
    assert secret != WebhookSecrets(b"x" * 32).secret(ACCOUNT)
    assert secrets.account_of(str(ACCOUNT), secret) == ACCOUNT


@pytest.mark.parametrize(
    "account_id",
    ["", "0", f"0{ACCOUNT}", f"{ACCOUNT} ", f"+{ACCOUNT}", "٣١٣٣٧", "9" * 5000, "x", "\udcff", "31338"],
)
def test_the_secret_of_another_account_opens_nothing(account_id: str) -> None:
    secrets = WebhookSecrets(KEY)
    assert secrets.account_of(account_id, secrets.secret(ACCOUNT)) is None


@pytest.mark.parametrize("secret", ["", "x", "é", "\udcff"])
def test_a_wrong_secret_opens_nothing(secret: str) -> None:
    secrets = WebhookSecrets(KEY)
    assert secrets.account_of(str(ACCOUNT), secret) is None
    assert secrets.account_of(str(ACCOUNT), secrets.secret(ACCOUNT).upper()) is None
    assert secrets.account_of(str(ACCOUNT), secrets.secret(ACCOUNT)[:-1]) is None


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        WebhookSecrets(b"")
