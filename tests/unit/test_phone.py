"""Numbers: read once, the same everywhere."""

import unicodedata

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from calllogd.domain.phone import Kind, digits, masked, matched, normalised, read, spellings, tail


@pytest.mark.parametrize(
    ("phone", "region", "as_sent"),
    [
        ("+1 (212) 555-0123", None, "+12125550123"),
        ("+12125550123", "BR", "+12125550123"),
        ("(212) 555-0123", "US", "+12125550123"),
        ("1 212 555 0123", "US", "+12125550123"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("00 44 20 7946 0958", "DE", "+442079460958"),
        ("11 96123-4567", "BR", "+5511961234567"),
        ("(212) 555-0123", None, "2125550123"),
        ("+999 123", None, "+999123"),
        ("  +999 123", None, "+999123"),
        ("101", "US", "101"),
        ("*67", "US", "67"),
        ("anonymous", "US", ""),
        ("", "US", ""),
        ("+", None, ""),
        ("-1", "US", ""),
        ("+266696687", None, ""),
        ("client:ann", "US", ""),
        ("sip:ann@pbx.example", "US", ""),
        ("**21*+12125550100#", "US", ""),
        ("(212) 555-0123 x5", None, "2125550123"),
        ("+12125550123,,5#", None, "+12125550123"),
        ("00 44 20 7946 0958", None, "+442079460958"),
        ("00 44 20 7946 0958", "US", "+442079460958"),
        ("00 11 22", None, "001122"),
        ("011 44 20 7946 0958", "US", "+442079460958"),
        ("011 44 20 7946 0958", None, "011442079460958"),
        ("8~10 1 212 555 0123", None, "+12125550123"),
        ("8 10 1 212 555 0123", "RU", "+12125550123"),
        ("8 10 1 212 555 0123", None, "81012125550123"),
        ("0011 1 212 555 0123", "AU", "+12125550123"),
        ("1-800-FLOWERS", "US", "+18003569377"),
        ("*67 (212) 555-0123", "US", "+12125550123"),
        ("*67 212 555 0123", "US", "+12125550123"),
        ("22222", "FK", "+50022222"),
        ("116117", "DE", "116117"),
    ],
)
def test_a_number_is_sent_in_e164_where_it_can_be_read_and_with_its_digits_where_not(
    phone: str, region: str | None, as_sent: str
) -> None:
    assert normalised(phone, region) == as_sent


TEXTS = st.text(max_size=60) | st.text(
    alphabet='+0123456789*#-() .,;:@/<>~x"\xa0\uff11\u0661sipetlcnxSIPLocalhanonymous=%', max_size=40
)
REGIONS = st.sampled_from([None, "US", "BR", "GB", "MX", "AR", "RU", "IT", "AU", "DE", "FK"])


@given(TEXTS, REGIONS)
@example("#20000", "FK")  # without its sign a number of the Falkland Islands
@settings(max_examples=500)
def test_every_text_can_be_read_as_a_number(phone: str, region: str | None) -> None:
    number = normalised(phone, region)
    assert number.isascii()
    assert number.removeprefix("+") == digits(number)
    assert normalised(number, region) == number, "once read, it stays as it is"
    assert len(number) <= len(unicodedata.normalize("NFKC", phone)) + 6, (
        "a plus, a country code, a mobile's 9"
    )
    assert matched(phone, region) == matched(number, region)
    kind, known = read(phone, region)
    assert (number == "") == (known == "")
    assert kind is not Kind.WITHHELD or known == ""
    assert kind is not Kind.OUTSIDE or known != ""
    assert read(phone, None).kind is not Kind.SHORT, "what is short only the region can tell"


@given(st.text(alphabet="+0123456789 -()", max_size=20))
def test_a_number_keeps_its_tail_however_it_is_written(phone: str) -> None:
    assert tail(phone) == tail(digits(phone)) == digits(phone)[-10:]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("+1 212 555 0123", "212-555-0123"),
        ("8 (999) 123-45-67", "+7 999 123 45 67"),
        ("5550123", "555 01 23"),
    ],
)
def test_two_ways_to_write_a_number_have_one_tail(one: str, other: str) -> None:
    assert tail(one) == tail(other)


def test_numbers_of_two_people_have_two_tails() -> None:
    assert tail("+1 212 555 0123") != tail("+1 212 555 0124")
    assert tail("555 0123") != tail("+1 212 555 0123")


@pytest.mark.parametrize(
    ("phone", "shown"),
    [
        ("+1 212 555 0123", "*0123"),
        ("12", "*12"),
        ("", "withheld"),
        ("anonymous", "withheld"),
    ],
)
def test_a_log_shows_the_last_four_digits_at_most(phone: str, shown: str) -> None:
    assert masked(phone) == shown


@given(st.text(max_size=30))
def test_no_more_than_four_digits_are_ever_shown(phone: str) -> None:
    assert sum(character.isdigit() for character in masked(phone)) <= 4


@pytest.mark.parametrize(
    "phone",
    [
        "", " ", "+", "()", "anonymous", "Anonymous", "ANONYMOUS", "restricted", "Private", "Private Number",
        "unavailable", "Unknown", "withheld", "Blocked", "n/a", "null", "No Caller ID", "0", "00", "+0",
        "000-0000", "-1", "-2", "266696687", "+266696687", "+266 696 687", "sip:anonymous@anonymous.invalid",
        "<sip:Anonymous@10.0.0.1:5060>", '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1928',
        "tel:anonymous", "sip:pbx.example", "sip:10.0.0.1", "sip:266696687@10.0.0.1",
        "Ann <>", "\xa0", "\uff10", "???",
    ],
)  # fmt: skip
def test_a_withheld_number(phone: str) -> None:
    assert read(phone) == (Kind.WITHHELD, "")
    assert read(phone, "US") == (Kind.WITHHELD, "")


@pytest.mark.parametrize(
    ("phone", "number"),
    [
        ("1", "1"),
        ("101", "101"),
        (" 101 ", "101"),
        ("10 10 1", "10101"),
        ("\uff11\uff10\uff11", "101"),
        ("\u0661\u0660\u0661", "101"),
        ("911", "911"),
        ("+911", "+911"),
        ("*21", "21"),
        ("*67", "67"),
        ("#31#", "31"),
        ("**21*+12125550100#", ""),
        ("sip:101@pbx", "101"),
        ("sip:101@10.0.0.1:5060;transport=udp", "101"),
        ("sip:101", "101"),
        ("SIPS:101@pbx", "101"),
        ("101@pbx.example", "101"),
        ('"Ann" <101>', "101"),
        ('"Ann" <sip:101@pbx>', "101"),
        ("101 Ann", "101"),
        ("sip:ann@pbx", ""),
        ("client:ann", ""),
        ("client:101", "101"),
        ("client:12125550100", ""),
        ("SIP/101-0000a", "101"),
        ("PJSIP/101-00000a1f", "101"),
        ("PJSIP/trunk-00000a1f", ""),
        ("Local/101@from-internal-0000a;1", "101"),
        ("sofia/internal/101@10.0.0.1", "101"),
    ],
)
def test_an_extension_a_code_or_a_name_within(phone: str, number: str) -> None:
    assert read(phone) == (Kind.INTERNAL, number)


@pytest.mark.parametrize(
    ("phone", "number"),
    [
        ("+12125550100", "+12125550100"),
        ("tel:+1-212-555-0100;ext=5", "+12125550100"),
        ("tel:212-555-0100;phone-context=+1", "+12125550100"),
        ("tel:212-555-0100;phone-context=example.com", "2125550100"),
        ("sip:+12125550100@host:5060", "+12125550100"),
        ("sip:%2B12125550100@host", "+12125550100"),
        ("sip:+12125550100;npdi:secret@host;user=phone", "+12125550100"),
        ("sip:2125550100@10.0.0.1", "2125550100"),
        ("12125550100@host", "12125550100"),
        ('"Ann" <+12125550100>', "+12125550100"),
        ('"Anonymous" <sip:+12125550100@host>;tag=77', "+12125550100"),
        ("Mobile: +12125550100", "+12125550100"),
        ("whatsapp:+12125550100", "+12125550100"),
        ("+1\xa0212\xa0555\xa00100", "+12125550100"),
        ("\uff0b\uff11 212 555 0100", "+12125550100"),
        ("\u202a+1 212 555 0100\u202c", "+12125550100"),
        ("+\u0661 \u0662\u0661\u0662 555 0100", "+12125550100"),
        ("SIP/2125550100-0000a", "2125550100"),
        ("Local/2125550100@from-internal-0000a;1", "2125550100"),
        ("PJSIP/trunk/+12125550100", "+12125550100"),
        ("+1 212 555 0100 ext. 5", "+12125550100"),
        ("+1 212 555 0100 #5", "+121255501005"),
        ("*672125550100", "2125550100"),
        ("#31#+4930123456", "+4930123456"),
        ("555 0123", "5550123"),
        ("212,5550100", "2125550100"),
        ("116117", "116117"),
        ("1" * 40, "1" * 40),
    ],
)
def test_an_outside_number_whatever_stands_around_it(phone: str, number: str) -> None:
    assert read(phone) == (Kind.OUTSIDE, number)


@pytest.mark.parametrize(
    ("phone", "region", "kind"),
    [
        ("911", "US", Kind.SHORT),
        ("112", "DE", Kind.SHORT),
        ("190", "BR", Kind.SHORT),
        ("116117", "DE", Kind.SHORT),
        ("101", "US", Kind.INTERNAL),
        ("101", "RU", Kind.SHORT),
        ("22222", "FK", Kind.OUTSIDE),
        ("612345", "DE", Kind.OUTSIDE),
    ],
)
def test_with_the_region_short_numbers_are_told(phone: str, region: str, kind: Kind) -> None:
    assert read(phone, region).kind is kind


FORMATS = (
    phonenumbers.PhoneNumberFormat.E164,
    phonenumbers.PhoneNumberFormat.INTERNATIONAL,
    phonenumbers.PhoneNumberFormat.RFC3966,
    phonenumbers.PhoneNumberFormat.NATIONAL,
)
AROUND = ("{}", " {} ", '"Ann" <{}>', "{};ext=5", "tel:{}", "sip:{}@host:5060", "SIP/{}-0000a1")


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_the_outside_numbers_of_every_country_are_read_as_they_are(region: str) -> None:
    for type_ in (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE):
        example = phonenumbers.example_number_for_type(region, type_)
        if example is None:
            continue
        e164 = phonenumbers.format_number(example, FORMATS[0])
        for form in FORMATS:
            written = phonenumbers.format_number(example, form)
            for around in AROUND:
                if written.startswith("tel:") and around.endswith(("l:{}", "5060", "a1")):
                    continue  # one scheme is enough
                phone = around.format(written)
                assert normalised(phone, region) == e164, phone
                if form != FORMATS[3]:
                    assert normalised(phone, None) == e164, phone
                    assert read(phone).kind is Kind.OUTSIDE, phone
        assert matched(e164, None) in spellings(e164, None)
        assert tail(phonenumbers.format_number(example, FORMATS[3])) in spellings(e164, None)


ONE_NUMBER = {
    "BR a mobile number": (
        "BR", "+5511961234567",
        ["+55 11 96123-4567", "+55 (11) 96123-4567", "(11) 96123-4567", "011 96123-4567",
         "0 15 11 96123-4567", "0 21 11 96123-4567", "+55 0 15 11 96123-4567", "+55 011 96123-4567",
         "5511961234567", "0055 11 96123-4567"],
    ),
    "BR a landline": (
        "BR", "+551131234567",
        ["+55 11 3123-4567", "(11) 3123-4567", "0 15 11 3123-4567", "011 3123-4567", "551131234567"],
    ),
    "MX before 2019 and since": (
        "MX", "+525512345678",
        ["+52 55 1234 5678", "+52 1 55 1234 5678", "+5215512345678", "55 1234 5678", "044 55 1234 5678",
         "045 55 1234 5678", "01 55 1234 5678", "1 55 1234 5678", "0052 1 55 1234 5678", "525512345678"],
    ),
    "AR a mobile number": (
        "AR", "+5491123456789",
        ["+54 9 11 2345-6789", "+54 11 15 2345-6789", "011 15-2345-6789", "(011) 15 2345-6789",
         "11 15 2345-6789",         "9 11 2345-6789", "0 9 11 2345-6789", "0054 9 11 2345-6789"],
    ),
    "AR a mobile number of the provinces": (
        "AR", "+5493541234567",
        ["+54 9 3541 23-4567", "03541 15-23-4567", "0 3541 15 234567", "+54 3541 15 234567"],
    ),
    "AR a landline": ("AR", "+541123456789", ["+54 11 2345-6789", "011 2345-6789", "11 2345-6789"]),
    "RU": (
        "RU", "+79991234567",
        ["+7 999 123-45-67", "8 (999) 123-45-67", "8-999-123-45-67", "7 999 123 45 67", "999 123 45 67",
         "8~10 7 999 123 45 67"],
    ),
    "IT, whose zero belongs to the number": (
        "IT", "+390669812345", ["+39 06 6981 2345", "06 6981 2345", "0039 06 69812345", "+39 (06) 69812345"],
    ),
    "IT a mobile number": ("IT", "+393471234567", ["+39 347 123 4567", "347 123 4567", "0039 347 1234567"]),
    "AU": (
        "AU", "+61412345678",
        ["+61 412 345 678", "+61 (0) 412 345 678", "0412 345 678", "412 345 678", "0011 61 412 345 678"],
    ),
    "GB": (
        "GB", "+442079460958",
        ["+44 20 7946 0958", "+44 (0)20 7946 0958", "(020) 7946 0958", "020 7946 0958", "0044 20 7946 0958"],
    ),
    "DE": (
        "DE", "+4930123456",
        ["+49 30 123456", "+49 (0)30 123456", "030 / 123456", "(030) 123456", "0049 30 123456",
         "0049 (0)30 123456"],
    ),
    "ES": ("ES", "+34612345678", ["+34 612 345 678", "612 345 678", "0034 612345678"]),
    "FR": ("FR", "+33612345678", ["+33 6 12 34 56 78", "+33 (0)6 12 34 56 78", "06 12 34 56 78"]),
    "US": (
        "US", "+12125550123",
        ["+1 212 555 0123", "(212) 555-0123", "1-212-555-0123", "212.555.0123", "011 1 212 555 0123"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("region", "e164", "written"), ONE_NUMBER.values(), ids=list(ONE_NUMBER))
def test_all_ways_to_write_one_number_are_one_number(region: str, e164: str, written: list[str]) -> None:
    assert {phone: normalised(phone, region) for phone in written} == dict.fromkeys(written, e164)
    assert {matched(phone, region) for phone in written} == {tail(e164)}
    abroad = [phone for phone in written if phone.startswith(("+", "00")) and not phone.startswith("001")]
    assert {normalised(phone, None) for phone in abroad} == {e164}, "these need no region"
    home = phonenumbers.format_number(phonenumbers.parse(e164), phonenumbers.PhoneNumberFormat.NATIONAL)
    assert {tail(phone) for phone in (e164, home)} <= spellings(written[-1], region)


def test_an_argentine_mobile_number_and_the_landline_it_looks_like_are_one_to_kommo() -> None:
    assert matched("+54 9 11 2345-6789", None) == matched("+54 11 2345-6789", None)


@pytest.mark.parametrize(
    ("phone", "region", "as_sent"),
    [
        ("+55 11 6123-4567", "BR", "+551161234567"),
        ("(11) 6123-4567", "BR", "1161234567"),
        ("3123-4567", "BR", "31234567"),
        ("15 2345-6789", "AR", "1523456789"),
        ("+39 6 6981 2345", "IT", "+39669812345"),
        ("11 96123-4567", None, "11961234567"),
        ("8 (999) 123-45-67", None, "89991234567"),
        ("0412 345 678", None, "0412345678"),
    ],
)
def test_what_is_missing_in_a_number_is_not_guessed(phone: str, region: str | None, as_sent: str) -> None:
    """Brazil's ninth digit, the area, Italy's zero, the country: any guess may be another person's number."""
    assert normalised(phone, region) == as_sent


@given(st.integers(200_200_0000, 989_999_9999), REGIONS)
def test_the_number_of_a_plain_call_is_what_it_always_was(number: int, region: str | None) -> None:
    phone = f"+1{number}"
    assert normalised(phone, region) == phone
    assert matched(phone, region) == tail(phone) == str(number)


AROUND_IT = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]), max_size=30)


@given(AROUND_IT, AROUND_IT, REGIONS)
def test_an_outside_number_stays_one_when_a_name_and_a_host_are_put_around_it(
    name: str, host: str, region: str | None
) -> None:
    plain = read("+12125550100", region)
    assert read(f"{name} <+12125550100>", region) == plain
    assert read(f"{name} <sip:+12125550100@{host}>", region) == plain
    assert read(f"sip:+12125550100@{host}", region) == plain
