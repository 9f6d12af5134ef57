"""Users of Kommo: the people of an account, and whose a call is."""

from collections.abc import Mapping
from dataclasses import dataclass

from calllogd.domain.call import Call


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
