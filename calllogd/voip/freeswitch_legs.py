"""Which leg of a call a record of FreeSWITCH tells of, and what it was to the client.

FreeSWITCH's own `direction` is that of the leg, seen from the switch: an extension that calls out comes in.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from calllogd.domain.call import CallStatus, Direction, Leg, Side
from calllogd.domain.phone import Kind, read
from calllogd.voip.freeswitch_record import Record
from calllogd.voip.pbx import INBOUND, OUTBOUND, is_extension, is_inside

_CAUSES: Mapping[str, CallStatus] = MappingProxyType(
    {
        "USER_BUSY": CallStatus.BUSY,
        "NO_ANSWER": CallStatus.NO_ANSWER,
        "ALLOTTED_TIMEOUT": CallStatus.NO_ANSWER,
        "NO_USER_RESPONSE": CallStatus.NO_ANSWER,
        "NORMAL_CLEARING": CallStatus.NO_ANSWER,
        "LOSE_RACE": CallStatus.NO_ANSWER,
        "PICKED_OFF": CallStatus.NO_ANSWER,
        "ORIGINATOR_CANCEL": CallStatus.CANCELLED,
    }
)
"""Why legs ended that nobody answered; all other causes are failures."""

_USER_OF_CHANNEL = re.compile(r"(?:[^/]+/)+(?:sips?:)?([^/@:;]+)@.*")

_SECONDS_MOST = 10_000_000


class Switch(NamedTuple):
    """What is known of the switch: its settings, contexts in small letters."""

    extension_digits: int
    inbound_contexts: frozenset[str]

    def legs(self, record: Record, now: float) -> tuple[Leg, ...]:
        """Return the legs that a record tells of; none if another record tells the same."""
        if record.is_behind_loopback and not record["calllogd_call"]:
            return ()
        leg = _leg(record, now)
        if record.went_out:
            legs = self._made(record, leg, now)
        elif self._is_staff(record):
            legs = self._from_staff(record, leg)
        else:
            legs = self._from_outside(record, leg, now)
        # The leg for which this one was made has a record of its own: until then the call goes on.
        return (*legs, Leg(record.origin)) if record.origin else legs

    def _from_outside(self, record: Record, leg: Leg, now: float) -> tuple[Leg, ...]:
        """Return the leg of a client who has called; what a menu or a mailbox answers is no talk."""
        together = record.bridged_at(now)
        if leg.answered_at is not None and together is not None:
            together = max(together, leg.answered_at)
            talk = leg.talk if leg.ended_at is None else max(0, int(leg.ended_at - together))
            leg = leg._replace(answered_at=together, talk=talk)
        elif leg.answered_at is not None:
            left = _has_left_message(record)
            status = CallStatus.VOICEMAIL if left else CallStatus.NO_ANSWER
            leg = leg._replace(status=status, answered_at=None, talk=leg.talk if left else None)
        client = leg._replace(
            side=Side.CLIENT,
            direction=Direction.INBOUND,
            phone=record.first("caller_id_number"),
            extension=record["calllogd_agent"] or None,
        )
        return (client, *self._given_to(record, leg, now))

    def _from_staff(self, record: Record, leg: Leg) -> tuple[Leg, ...]:
        """Return the leg of somebody of the company who has called."""
        phone = record.first("destination_number")
        if not self._goes_out(record) and read(phone).kind is Kind.OUTSIDE:
            return ()  # extensions as long as numbers: nobody else would tell that the call is internal
        numbers = (record["user_name"], record.first("caller_id_number"), record["sip_from_user"])
        extension = record["calllogd_agent"] or next(filter(self._is_extension, numbers), "")
        return (
            leg._replace(
                side=Side.STAFF,
                direction=Direction.OUTBOUND,
                phone=phone,
                extension=extension or record["user_name"] or None,
            ),
        )

    def _made(self, record: Record, leg: Leg, now: float) -> tuple[Leg, ...]:
        """Return the leg of whoever was called."""
        phone = record.first("destination_number")
        if self._leads_out(record):
            # It went to the client, or for one who called to somebody's telephone outside.
            side = None if record.origin else Side.CLIENT
            out = leg._replace(side=side, direction=Direction.OUTBOUND, phone=phone)
            return (out, *self._given_to(record, leg, now))
        agent = record["cc_agent"].partition("@")[0]
        numbers = (record["dialed_user"], phone, agent)
        extension = record["calllogd_agent"] or next(filter(self._is_extension, numbers), "")
        # A call that begins by calling somebody of the company is one of those that are made by a click.
        direction = None if record.origin else Direction.OUTBOUND
        extension = extension or record["dialed_user"]
        return (leg._replace(side=Side.STAFF, direction=direction, extension=extension or None),)

    def _given_to(self, record: Record, leg: Leg, now: float) -> list[Leg]:
        """Return the legs to which the client's was given; their own records may be those of another call."""
        given = [one for one in record.put_together(now) if one[1] not in (record.origin, record.call_id)]
        if leg.ended_at is None or not given:
            return []
        found = _USER_OF_CHANNEL.fullmatch(record["bridge_channel"])
        last = found[1] if found is not None and self._is_extension(found[1]) else None
        ends = [*(at for at, _ in given[1:]), leg.ended_at]
        return [
            Leg(
                peer,
                side=Side.STAFF,
                extension=last if (at, peer) == given[-1] else None,
                answered_at=at,
                ended_at=end,
                talk=max(0, int(end - at)),
                status=CallStatus.ANSWERED,
            )
            for (at, peer), end in zip(given, ends, strict=True)
        ]

    def _is_staff(self, record: Record) -> bool:
        """Tell whether somebody of the company has called."""
        if record.direction is not None:
            return record.direction != INBOUND
        if record.first("context").lower() in self.inbound_contexts:
            return False
        return self._is_extension(record["user_name"]) or self._is_inside(record.first("caller_id_number"))

    def _goes_out(self, record: Record) -> bool:
        """Tell whether somebody of the company has called an outside number."""
        if record.direction is not None:
            return record.direction == OUTBOUND
        return self._is_outside(record.first("destination_number"))

    def _leads_out(self, record: Record) -> bool:
        """Tell whether a leg that the switch made leads out of the company."""
        if record["dialed_user"] or record.direction not in (None, OUTBOUND):
            return False
        return bool(record["sip_gateway_name"]) or self._is_outside(record.first("destination_number"))

    def _is_outside(self, text: str) -> bool:
        return read(text).kind is Kind.OUTSIDE and not self._is_inside(text)

    def _is_inside(self, text: str) -> bool:
        return is_inside(text, self.extension_digits)

    def _is_extension(self, text: str) -> bool:
        return is_extension(text, self.extension_digits)


def _leg(record: Record, now: float) -> Leg:
    """Return the leg as the switch sees it."""
    answered = record.moment("answer_epoch", now)
    talk = record.number("billsec")
    if answered is None or talk is None or talk > _SECONDS_MOST:
        talk = None
    cause = record["hangup_cause"] or "NO_ANSWER"
    return Leg(
        record.uuid,
        started_at=record.moment("start_epoch", now),
        answered_at=answered,
        ended_at=record.moment("end_epoch", now),
        talk=talk,
        status=_CAUSES.get(cause, CallStatus.FAILED) if answered is None else CallStatus.ANSWERED,
    )


def _has_left_message(record: Record) -> bool:
    """Tell whether the caller ended in a mailbox, other than to hear what is in it."""
    checks = record.text("last_arg").startswith("check")
    return record["last_app"] == "voicemail" and not checks
