"""Who the two parties of Asterisk's call detail records are, and so which legs of a call they tell of.

Asterisk knows channels only. One channel began the call, and `linkedid` is its id in all the call's records:
what it was to the company, it was to the client. Records of other channels add who else took part.
"""

import re
from typing import Any, NamedTuple

from calllogd.domain.call import CallStatus, Direction, Leg, Side
from calllogd.domain.phone import Kind, read
from calllogd.voip.cdr import Cdr
from calllogd.voip.pbx import INBOUND, OUTBOUND, is_extension, is_inside

_LOCAL = re.compile(r"Local/.*-[0-9a-f]{4,};([12])", re.IGNORECASE)
"""A Local channel has two halves: the first one is dialled, the second one dials on."""

_OWN_NUMBER = re.compile(r"-[0-9a-f]+\Z", re.IGNORECASE)
"""What a channel has behind the name of its device or trunk."""

_DEVICE = re.compile(
    r"(?:PJSIP|SIP|IAX2|SCCP|Skinny|Agent|Local)/(?:FM(?:PR|GL)-)?([^/@#]+).*", re.IGNORECASE
)
"""Channels with the name of an account, others have a port's; FreePBX's follow-me puts letters before it."""


class Parties(NamedTuple):
    """What is known of the telephone system: its settings, `trunks` and contexts in small letters."""

    extension_digits: int
    inbound_contexts: frozenset[str]
    trunks: tuple[str, ...]

    def legs(self, cdr: Cdr, *, is_all_told: bool) -> tuple[Leg, ...]:
        """Return the legs that a record tells of; none if it is not about the client.

        `is_all_told`: every record of the call is told, those of Local channels too.
        """
        if cdr.direction is None and _half(cdr.channel) == "2":
            legs = self._behind(cdr)
        elif not self._is_staff(cdr):
            legs = self._from_outside(cdr, is_all_told=is_all_told)
        elif self._goes_out(cdr):
            legs = self._to_outside(cdr)
        else:
            legs = self._within(cdr)
        if legs and not cdr.began:
            # The channel that began the call is told of by itself: until then the call goes on.
            return (*legs, Leg(cdr.call_id))
        return legs

    def _behind(self, cdr: Cdr) -> tuple[Leg, ...]:
        """Return the leg of the telephone behind a Local channel, which stands for whoever has dialled it."""
        if not cdr.linkedid or not cdr.dstchannel:
            return ()  # it is not known whose call it is, or it leads to nobody
        if self._goes_out(cdr):
            return (_leg(cdr, cdr.id, None),)
        leg = _leg(cdr, cdr.id, Side.STAFF, extension=self._called(cdr))
        if read(cdr.src).kind is Kind.OUTSIDE and not self._is_inside(cdr.src):
            leg = leg._replace(direction=Direction.INBOUND, phone=cdr.src)
        return (leg,)

    def _from_outside(self, cdr: Cdr, *, is_all_told: bool) -> tuple[Leg, ...]:
        """Return the client's leg, and that of whoever was dialled for him."""
        if cdr.began:
            client = _leg(cdr, cdr.uniqueid, Side.CLIENT, direction=Direction.INBOUND, phone=cdr.src)
        else:
            client = _leg(cdr, f"{cdr.id}/a", Side.CLIENT)
        if cdr.dstchannel == "" and not cdr.extension:
            # Nobody but a menu, a queue or a mailbox has answered.
            if cdr.status is not CallStatus.VOICEMAIL:
                client = client._replace(status=CallStatus.NO_ANSWER, talk=None, answered_at=None)
            return (client,)
        staff = _leg(cdr, f"{cdr.id}/b", Side.STAFF, extension=self._called(cdr))
        if _half(cdr.dstchannel):
            # The telephone behind it is told of too, and counts more: here waiting may count as talk.
            staff = staff._replace(answered_at=None, talk=None if is_all_told else staff.talk)
        return (client, staff)

    def _to_outside(self, cdr: Cdr) -> tuple[Leg, ...]:
        """Return the leg of whoever has called, and that of the outside number."""
        if not cdr.began:
            # It is the client's in a call that went out; in one that came in, somebody's who was asked.
            caller = _leg(cdr, f"{cdr.id}/a", Side.STAFF, extension=self._caller(cdr))
            return (caller, _leg(cdr, f"{cdr.id}/b", None))
        if cdr.dstchannel == "" and cdr.status is CallStatus.ANSWERED:
            # No channel was made: it is an announcement that was heard.
            cdr = cdr._replace(status=CallStatus.FAILED, talk=None)
        return (
            _leg(cdr, cdr.uniqueid, Side.STAFF, extension=self._caller(cdr)),
            _leg(cdr, f"{cdr.id}/b", Side.CLIENT, direction=Direction.OUTBOUND, phone=cdr.dst),
        )

    def _within(self, cdr: Cdr) -> tuple[Leg, ...]:
        """Return the legs of a call within the company; none if somebody is asked during another call."""
        if not cdr.began or read(cdr.dst).kind is Kind.OUTSIDE:
            return ()
        called = _leg(cdr, f"{cdr.id}/b", Side.STAFF, extension=self._called(cdr))
        return (
            _leg(cdr, cdr.uniqueid, Side.STAFF, extension=self._caller(cdr)),
            called._replace(direction=Direction.OUTBOUND, phone=cdr.dst),
        )

    def _is_staff(self, cdr: Cdr) -> bool:
        """Tell whether the caller belongs to the company."""
        if cdr.direction is not None:
            return cdr.direction != INBOUND
        if cdr.did or cdr.dcontext.lower() in self.inbound_contexts:
            return False
        if self.trunks and cdr.channel and not _half(cdr.channel):
            return not self._is_trunk(cdr.channel)
        return bool(self._number(cdr.channel)) or self._is_inside(cdr.src)

    def _goes_out(self, cdr: Cdr) -> bool:
        """Tell whether whoever was dialled does not belong to the company."""
        if cdr.direction is not None:
            return cdr.direction == OUTBOUND
        if self.trunks and cdr.dstchannel and not _half(cdr.dstchannel):
            return self._is_trunk(cdr.dstchannel)
        if self._number(cdr.dstchannel):
            return False
        if cdr.dst in ("", self._number(cdr.channel)):
            # It was not dialled but put together with the other: of that one only its name is known.
            return bool(cdr.dstchannel) and not _half(cdr.dstchannel)
        return read(cdr.dst).kind is Kind.OUTSIDE and not self._is_inside(cdr.dst)

    def _caller(self, cdr: Cdr) -> str | None:
        """Return the caller's extension, if it can be told: his number may be the company's by now."""
        src = cdr.src if is_extension(cdr.src, self.extension_digits) else ""
        return cdr.extension or self._number(cdr.channel) or src or _device(cdr.channel) or None

    def _called(self, cdr: Cdr) -> str | None:
        """Return the extension of whoever was dialled, if it can be told: the number may be a queue's."""
        if known := cdr.extension or self._number(cdr.dstchannel):
            return known
        if is_extension(cdr.dst, self.extension_digits) and cdr.lastapp != "queue":
            return cdr.dst
        is_outside = self._is_trunk(cdr.dstchannel) or _name(cdr.dstchannel) == _name(cdr.channel)
        return None if is_outside else _device(cdr.dstchannel) or None

    def _is_inside(self, text: str) -> bool:
        return is_inside(text, self.extension_digits)

    def _is_trunk(self, channel: str | None) -> bool:
        if not self.trunks:
            return False
        name = _name(channel).lower()
        return any(name == trunk or name.startswith(f"{trunk}/") for trunk in self.trunks)

    def _number(self, channel: str | None) -> str:
        """Return the extension that a channel is named after; empty if it is not, or is a trunk."""
        found = _DEVICE.fullmatch(_name(channel))
        if found is None or not is_extension(found[1], self.extension_digits) or self._is_trunk(channel):
            return ""
        return found[1]


def _leg(cdr: Cdr, leg_id: str, side: Side | None, **known: Any) -> Leg:
    """Return a leg that went as the record says."""
    return Leg(
        leg_id,
        side=side,
        started_at=cdr.start,
        answered_at=cdr.answer if cdr.status is CallStatus.ANSWERED else None,
        ended_at=cdr.end,
        talk=cdr.talk,
        status=cdr.status,
        **known,
    )


def _half(channel: str | None) -> str:
    """Return which half of a Local channel it is; empty for all others."""
    found = _LOCAL.fullmatch(channel or "")
    return "" if found is None else found[1]


def _name(channel: str | None) -> str:
    """Return what a channel is named after."""
    return _OWN_NUMBER.sub("", channel or "")


def _device(channel: str | None) -> str:
    """Return the name of a device that has no number; empty for channels that are not named after one."""
    found = _DEVICE.fullmatch(_name(channel))
    return "" if found is None or _half(channel) else found[1]
