"""Users of Kommo: the people of an account, and whose a call is."""

from collections.abc import Mapping
from dataclasses import dataclass

from calllogd.domain.call import Attribution, Call

MAPPED_FOR_S = 30 * 86_400.0
"""How old a call may be that gets its user when somebody is given its extension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who works in a Kommo account, as Kommo lists him; `is_active`: he may still log in."""

    id: int
    name: str
    is_admin: bool
    is_active: bool


def user_of(call: Call, extensions: Mapping[str, int]) -> int | None:
    """Return the Kommo user of a call: as he is named, else by his extension; None if nobody is known."""
    person = call.known.person
    if person is None:
        return None
    return person.user_id or extensions.get(person.extension)


def attribution_of(call: Call, extensions: Mapping[str, int]) -> Attribution | None:
    """Return whose call Kommo is to be told that it is, None: nobody's.

    What Kommo was told stays, as long as the call names the same extension: a table that changes later
    tells whose telephone it is now, not who spoke then.
    """
    person = call.known.person
    if person is None:
        return None
    told = call.attribution
    if told is not None and told.extension == person.extension and not person.user_id:
        return told
    user_id = user_of(call, extensions)
    return None if user_id is None else Attribution(person.extension, user_id)
