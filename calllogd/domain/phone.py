"""Phone numbers: one reading for everything that is sent, compared or shown.

`read` says what a text of a VoIP service is, by the text alone. What needs the account's region, how a number
is written in its country, is phonenumbers' business and stands in `normalised`.
"""

import re
import unicodedata
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

import phonenumbers

_NOT_A_DIGIT = re.compile("[^0-9]")

MATCHED_DIGITS = 10
"""How many of a number's last digits Kommo compares. Source: developers.kommo.com/reference/calls."""

EXTENSION_DIGITS = 5
"""Digits of an extension at most. The shortest numbers there are have seven, their country code included."""

SHORT_DIGITS = 6
"""Digits of a country's short numbers at most, such as 116117."""


class Kind(StrEnum):
    """What a text of a VoIP service names."""

    OUTSIDE = "outside"
    WITHHELD = "withheld"
    INTERNAL = "internal"
    SHORT = "short"


class Reading(NamedTuple):
    """What a text names, and its digits, with a plus in front if it had one.

    `number` is empty for a withheld one, and for an internal one that has a name or is a code.
    """

    kind: Kind
    number: str


_WITHHELD = Reading(Kind.WITHHELD, "")

_PLAIN = re.compile(r"\+[1-9][0-9]{6,14}")
"""The usual form; nothing of it has to be taken off."""

_ANONYMOUS = "266696687"
"""What ANONYMOUS is on a telephone's keys; networks that can only pass on digits send it."""

_HIDDEN = re.compile(
    "anonym(ous)?(invalid)?|blocked|hidden|na|no(ne|number|callerid)|null|numberunavailable"
    "|(private|unknown|withheld)(number)?|restricted|suppressed|unavailable|undefined"
)
"""Words that stand for a number that is not shown, letters only."""

_STAFF = ("agent", "client", "ext", "extension", "user")
"""Schemes of those who belong to the telephone system: Twilio's client:ann."""

_NO_NUMBER = re.compile("-[0-9]{1,2}")
"""What some telephone systems put where there is no number."""

_IN_BRACKETS = re.compile(r"<([^<>]*)>")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.+-]*):(.*)", re.DOTALL)
_CHANNEL = re.compile(r"[A-Za-z][A-Za-z0-9]*/.*?([^/]*)", re.DOTALL)
_CHANNEL_END = re.compile(r"-[0-9a-f]+(;[0-9]+)?$")
_CONTEXT = re.compile(r";phone-context=(\+[0-9]+)", re.IGNORECASE)
_AND_EXTENSION = re.compile(
    r"(;ext=|(?<=[0-9\s)])\s*(extension|extn|ext|x|доб)[.:]?\s*|\s*[,;]+\s*)[0-9]{1,9}#?\s*$", re.IGNORECASE
)
_OUT_OF_RUSSIA = re.compile(r"8\s*~\s*10")
_LETTERED = re.compile(r"\+?1[-. (]+8[0-9]{2}[-. )]+[A-Za-z][A-Za-z0-9-]{6,9}")
_DECORATION = re.compile("[^0-9+*#]")
_AFTER_CODE = re.compile(r"[*#]{1,2}[0-9]{2}[*#]?(\+?[0-9]{7,15})")
_MEXICO = 52
_FORMER_MEXICO = re.compile("0?(?:1|44|45)([0-9]{10})")
"""Until 2019 mobile numbers had a 1 before them, or 044 and 045 within the country."""


def digits(phone: str) -> str:
    """Return the digits of a text, of any script, as 0 to 9."""
    if phone.isascii() and phone[1:].isdigit() and phone[0] == "+":
        return phone[1:]  # the usual form
    return _NOT_A_DIGIT.sub("", phone if phone.isascii() else phonenumbers.normalize_digits_only(phone))


def tail(phone: str) -> str:
    """Return the last ten digits, by which Kommo tells whose number it is."""
    return digits(phone)[-MATCHED_DIGITS:]


def matched(phone: str, region: str | None) -> str:
    """Return the last ten digits of the number as Kommo gets it: the same for each way to write it."""
    return tail(normalised(phone, region))


def read(phone: str, region: str | None = None) -> Reading:
    """Return what a text is: an outside number, a withheld one, an extension or name, a short number.

    Without `region` the length tells short numbers, which then count as internal, and with it a country's
    own numbers of five digits or fewer count as outside.
    """
    if _PLAIN.fullmatch(phone):
        return _WITHHELD if phone[1:] == _ANONYMOUS else Reading(Kind.OUTSIDE, phone)
    return _read(phone, region)


@lru_cache(maxsize=4096)
def _read(phone: str, region: str | None) -> Reading:
    """Return what a text is that is not in the usual form; the same few extensions come again and again."""
    text, is_staff = _bare(phone if phone.isascii() else unicodedata.normalize("NFKC", phone))
    if _NO_NUMBER.fullmatch(text) or _is_hidden(text):
        return _WITHHELD
    number = _number(text)
    known = number.removeprefix("+")
    if not known:
        return Reading(Kind.INTERNAL, "") if is_staff or _is_code(text) else _WITHHELD
    if known == _ANONYMOUS or not known.strip("0"):
        return _WITHHELD
    if _is_code(text) or (is_staff and len(known) > EXTENSION_DIGITS):
        # The digits of a code are no number: they may not be taken for one later.
        may_stay = len(known) <= EXTENSION_DIGITS and _kind_of_short(known, region) is not Kind.OUTSIDE
        return Reading(Kind.INTERNAL, known if may_stay else "")
    if len(known) > SHORT_DIGITS or (region is None and len(known) > EXTENSION_DIGITS):
        return Reading(Kind.OUTSIDE, number)
    return Reading(_kind_of_short(number, region), number)


@lru_cache(maxsize=4096)
def normalised(phone: str, region: str | None) -> str:
    """Return the number in E.164 where it is a valid number of `region` or carries its country code.

    Any other number keeps its digits, with a leading plus if it had one: a number that cannot be read is
    still the client's number. Empty for a withheld one. Idempotent.
    """
    kind, number = read(phone, region)
    return (kind is Kind.OUTSIDE and _e164(number, region)) or number


def spellings(phone: str, region: str | None) -> frozenset[str]:
    """Return the last ten digits of each way in which a number is written, at home and abroad."""
    number = normalised(phone, region)
    known = {tail(phone), tail(number)}
    if number.startswith("+") and (parsed := _parsed(number, None)) is not None:
        known.add(tail(phonenumbers.national_significant_number(parsed)))
        known.add(tail(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL)))
    return frozenset(known - {""})


def masked(phone: str) -> str:
    """Return a number as it may stand in a log: its last four digits."""
    known = digits(phone)
    return "*" + known[-4:] if known else "withheld"


def _bare(text: str) -> tuple[str, bool]:
    """Return a text without what stands around its number, and whether that tells of a member of staff."""
    if found := _IN_BRACKETS.search(text):
        text = found[1]
    text, is_staff, context = text.strip(), False, ""
    if found := _SCHEME.fullmatch(text):
        scheme, text = found[1].lower(), unquote(found[2])
        is_staff = scheme in (*_STAFF, "sip", "sips")
        if scheme in ("sip", "sips"):
            # An address without a user is a telephone system's.
            text = "" if "@" not in text and "." in text else text
            is_staff = bool(text) and not digits(text.partition("@")[0])
        context = "".join(_CONTEXT.findall(text)[:1])
    elif (found := _CHANNEL.fullmatch(text)) and not _is_hidden(text):
        text = _CHANNEL_END.sub("", found[1])
        is_staff = not digits(text.partition("@")[0])
    if "@" in text:
        text = text.partition("@")[0].partition(":")[0]
    shorter = _AND_EXTENSION.sub("", text)
    text = shorter if len(digits(shorter)) > SHORT_DIGITS else text
    text = text.partition(";")[0].strip()
    return (text if text.startswith("+") else context + text), is_staff


def _number(text: str) -> str:
    """Return the digits of a text, with a plus if it has one or stands for one."""
    if found := _AFTER_CODE.fullmatch(_DECORATION.sub("", text)):
        text = found[1]
    if _LETTERED.fullmatch(text):
        text = phonenumbers.convert_alpha_characters_in_number(text)
    if _OUT_OF_RUSSIA.match(text):
        return "+" + digits(text)[3:]
    before = re.match("[^+0-9]*([+]?)", text)
    known = digits(text)
    return "+" + known if known and before and before[1] else known


def _is_hidden(text: str) -> bool:
    words = "".join(filter(str.isalpha, text)).lower()
    return _HIDDEN.fullmatch(words) is not None and not digits(text)


def _is_code(text: str) -> bool:
    """Tell whether a text is a code for the telephone system, without a number to be called behind it."""
    plain = _DECORATION.sub("", text)
    return plain.startswith(("*", "#")) and _AFTER_CODE.fullmatch(plain) is None


def _kind_of_short(number: str, region: str | None) -> Kind:
    """Return what a number of few digits is."""
    if region is not None and (parsed := _parsed(number, region)) is not None:
        if phonenumbers.is_valid_number(parsed):
            return Kind.OUTSIDE
        if phonenumbers.is_valid_short_number_for_region(parsed, region):
            return Kind.SHORT
    return Kind.INTERNAL if len(number.removeprefix("+")) <= EXTENSION_DIGITS else Kind.OUTSIDE


def _e164(number: str, region: str | None) -> str | None:
    """Return a number in E.164, None if it cannot be read."""
    # 00 is dialled before a country code in most countries, and before nothing else in the rest.
    for way in (number, "+" + number[2:]) if number.startswith("00") else (number,):
        parsed = _parsed(way, region)
        if parsed is not None and parsed.country_code == _MEXICO:
            former = _FORMER_MEXICO.fullmatch(phonenumbers.national_significant_number(parsed))
            parsed = parsed if former is None else _parsed(f"+{_MEXICO}{former[1]}", None)
        if parsed is not None and phonenumbers.is_valid_number(parsed):
            return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return None


def _parsed(number: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
