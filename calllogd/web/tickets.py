"""Tickets for the event stream: a browser cannot show the widget's token there, only an address.

An address ends up in logs, so a ticket is good for the stream alone and for a quarter of an hour. Nothing is
kept of it: it names its user, signed, like a link to a recording.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Sequence
from typing import NamedTuple

from calllogd.errors import InputRefused
from calllogd.ports import Clock

TICKET_S = 900
SET_BACK_S = 60
"""So much a clock may be set back while a ticket is on its way."""

VERSION = 1
"""The first byte of every ticket. Another way to make tickets takes another."""

TICKET_CHARACTERS = 76

_PURPOSE = b"calllogd event stream\0"
_NAMED = struct.Struct(">BQQQ")
_MAC_BYTES = hashlib.sha256().digest_size


class Ticket(NamedTuple):
    """Whose stream may be opened until Unix second `expires_at`."""

    account_id: int
    user_id: int
    expires_at: int


class Tickets:
    """Makes and reads tickets; `key` are 32 bytes, with another all tickets end."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def issue(self, account_id: int, user_id: int) -> tuple[str, Ticket]:
        """Return a new ticket, as it is shown and as it is understood."""
        ticket = Ticket(account_id, user_id, int(self._clock.now()) + TICKET_S)
        return self._text(ticket), ticket

    def read(self, shown: Sequence[str]) -> Ticket:
        """Return what the one ticket of a request says; raises InputRefused (`unauthorized`)."""
        ticket = _claimed(shown[0]) if len(shown) == 1 else None
        if ticket is None or not hmac.compare_digest(self._text(ticket).encode(), shown[0].encode()):
            raise InputRefused("unauthorized", "a ticket is needed, as POST /widget/v1/session gives it")
        # The other bound: a clock that was set back must not make tickets last.
        if not 0 < ticket.expires_at - self._clock.now() <= TICKET_S + SET_BACK_S:
            raise InputRefused("unauthorized", "the ticket has expired: a new session is needed")
        return ticket

    def _text(self, ticket: Ticket) -> str:
        named = _NAMED.pack(VERSION, *ticket)
        mac = hmac.digest(self._key, _PURPOSE + named, hashlib.sha256)
        return base64.urlsafe_b64encode(named + mac).decode()


def _claimed(shown: str) -> Ticket | None:
    """Return what a ticket claims to say, unproven; None for what cannot be a ticket."""
    if len(shown) != TICKET_CHARACTERS or not shown.isascii():
        return None
    try:
        raw = base64.urlsafe_b64decode(shown)
    except binascii.Error:
        return None
    if len(raw) != _NAMED.size + _MAC_BYTES or raw[0] != VERSION:
        return None
    return Ticket(*_NAMED.unpack_from(raw)[1:])
