"""Phone numbers: one reading for everything that is sent, compared or shown."""

import re

import phonenumbers

_NOT_A_DIGIT = re.compile("[^0-9]")

MATCHED_DIGITS = 10
"""How many of a number's last digits Kommo compares. Source: developers.kommo.com/reference/calls."""


def digits(phone: str) -> str:
    """Return the digits of a number, of any script, as 0 to 9; empty for a withheld one."""
    if phone.isascii() and phone[1:].isdigit() and phone[0] == "+":
        return phone[1:]  # the usual form
    return _NOT_A_DIGIT.sub("", phone if phone.isascii() else phonenumbers.normalize_digits_only(phone))


def tail(phone: str) -> str:
    """Return the last ten digits, by which Kommo tells whose number it is."""
    return digits(phone)[-MATCHED_DIGITS:]


def normalised(phone: str, region: str | None) -> str:
    """Return the number in E.164 where it is a valid number of `region` or carries its country code.

    Any other number keeps its digits, with a leading plus if it had one: a number that cannot be read is
    still the client's number.
    """
    try:
        number = phonenumbers.parse(phone, region)
    except phonenumbers.NumberParseException:
        number = None
    if number is not None and phonenumbers.is_valid_number(number):
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return ("+" if phone.lstrip().startswith("+") else "") + digits(phone)


def masked(phone: str | None) -> str:
    """Return a number as it may stand in a log: its last four digits."""
    known = digits(phone or "")
    return "*" + known[-4:] if known else "withheld"
