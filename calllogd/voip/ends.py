"""Who is at the end of a leg, and which leg it is, as services write it that speak SIP."""

import re

from calllogd.domain.phone import Kind, read
from calllogd.errors import InputRefused
from calllogd.voip.fields import checked_call_id
from calllogd.voip.provider import NotUnderstood

EXTENSION_MOST = 64

_SIP_USER = re.compile(r"(?:.*<)?(?:sips?:([^@;>]*)|([^@:<]+)@).*", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"\+?[0-9]{7,15}")


def sip_user(address: str) -> str | None:
    """Return the user of a SIP address, None for a number: whoever has a name is one of the company."""
    found = _SIP_USER.fullmatch(address)
    user = (found[1] or found[2] or "") if found else ""
    if not user or _NUMBER.fullmatch(user) or read(f"sip:{user}@pbx").kind is Kind.WITHHELD:
        return None
    return user


def extension_of(text: str | None) -> str | None:
    """Return a text that may be an extension, None for one that is empty or longer than they are."""
    return text if text and len(text) <= EXTENSION_MOST else None


def checked_id(found: str | None, name: str) -> str:
    """Return the id of a leg or call; raises NotUnderstood, with the field's name."""
    if found is None:
        raise NotUnderstood(f"{name} is missing")
    try:
        return checked_call_id(found)
    except InputRefused as error:
        raise NotUnderstood(f"{name} is no id: {error.detail}") from error
