"""Our words in Kommo's and back: which field of a call stands where; see docs/integrators.md. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from calllogd.domain.call import Call, CallStatus, Direction, EntityType
from calllogd.domain.phone import normalised

_PLURAL = {
    "lead": EntityType.LEADS,
    "contact": EntityType.CONTACTS,
    "company": EntityType.COMPANIES,
    "customer": EntityType.CUSTOMERS,
}

TALKED, LEFT_MESSAGE, NOT_AVAILABLE, NO_CONNECTION, BUSY = 4, 1, 3, 6, 7
"""Values of call_status. Source: amocrm.com/developers/content/api_v4/adding-calls."""

_CALL_STATUS = {
    CallStatus.ANSWERED: TALKED,
    CallStatus.VOICEMAIL: LEFT_MESSAGE,
    CallStatus.BUSY: BUSY,
    CallStatus.FAILED: NO_CONNECTION,
}


class Words:
    """How one account's calls are told to Kommo."""

    def __init__(self, *, source: str, region: str | None, extensions: Mapping[str, int]) -> None:
        self._source = source
        self._region = region
        self._extensions = extensions

    def call(self, call: Call) -> dict[str, Any]:
        """Return an item of POST /api/v4/calls; fields that are not known are left out, never null."""
        user_id = self._user_id(call)
        return _known(
            {
                **self.params(call),
                "direction": _direction(call).value,
                "responsible_user_id": user_id,
                "created_by": user_id,
                "created_at": int(call.started_at),
                "request_id": call.key.call_id,
            }
        )

    def params(self, call: Call) -> dict[str, Any]:
        """Return the full params of the call's note."""
        return _known(
            {
                "uniq": call.key.call_id,
                "source": self._source,
                "phone": self.phone(call),
                "duration": call.facts.outcome.duration if call.facts.outcome else 0,
                "call_status": call_status(call),
                "call_responsible": self._user_id(call),
            }
        )

    def incoming_lead(self, call: Call) -> dict[str, Any]:
        """Return an item of POST /api/v4/leads/unsorted/sip, with its contact and its call note.

        The lead's name has the time, for Kommo refuses two identical ones. `phone` and `from` both carry the
        client's number: which of them Kommo shows changes when it is accepted (amocrm-api-php issue 441).
        """
        phone = self.phone(call)
        metadata = {
            "phone": phone,
            "from": phone,
            "call_responsible": self._user_id(call),
            "called_at": int(call.started_at),
            "duration": call.facts.outcome.duration if call.facts.outcome else 0,
            "service_code": self._source,
            "uniq": call.key.call_id,
            "is_call_event_needed": True,
        }
        return {
            "source_uid": f"{self._source}-{call.key.account_id}",
            "source_name": self._source,
            "created_at": int(call.started_at),
            "request_id": call.key.call_id,
            "metadata": _known(metadata),
            "_embedded": {
                "leads": [{"name": f"Call {phone}, {_moment(call.started_at)}"}],
                "contacts": [
                    {
                        "name": phone,
                        "custom_fields_values": [
                            {"field_code": "PHONE", "values": [{"value": phone, "enum_code": "WORK"}]}
                        ],
                    }
                ],
            },
        }

    def phone(self, call: Call) -> str:
        """Return the client's number as Kommo gets it."""
        return normalised(call.facts.phone or "", self._region)

    def _user_id(self, call: Call) -> int | None:
        """Return the Kommo user of the call: as the VoIP service names him, else by his extension."""
        person = call.facts.person
        if person is None:
            return None
        return person.user_id or self._extensions.get(person.extension)


def call_status(call: Call) -> int | None:
    """Return Kommo's call_status for how the call ended; None while it has not."""
    if call.facts.outcome is None:
        return None
    missed = NO_CONNECTION if _direction(call) is Direction.INBOUND else NOT_AVAILABLE
    return _CALL_STATUS.get(call.facts.outcome.status, missed)


def note_type(call: Call) -> str:
    """Return the type of the call's note."""
    return "call_in" if _direction(call) is Direction.INBOUND else "call_out"


def entity_type(word: object) -> EntityType:
    """Return the kind that Kommo names in the singular or plural; raises ValueError for an unknown one."""
    return _PLURAL[word] if isinstance(word, str) and word in _PLURAL else EntityType(str(word))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _direction(call: Call) -> Direction:
    return call.facts.direction or Direction.INBOUND


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
