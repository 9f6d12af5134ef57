"""Our words in Kommo's and back: which field of a call stands where; see docs/integrators.md. Pure."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from calllogd.domain.call import (
    Attribution,
    Call,
    CallKey,
    CallStatus,
    Direction,
    EntityRef,
    EntityType,
    RecordingState,
)
from calllogd.domain.phone import normalised
from calllogd.domain.user import attribution_of

_PLURAL = {
    "lead": EntityType.LEADS,
    "contact": EntityType.CONTACTS,
    "company": EntityType.COMPANIES,
    "customer": EntityType.CUSTOMERS,
}

TALKED, LEFT_MESSAGE, NOT_AVAILABLE, NO_CONNECTION, BUSY = 4, 1, 3, 6, 7
"""Values of call_status. Source: amocrm.com/developers/content/api_v4/adding-calls."""

FOLLOW_UP = 1
"""Type of the tasks that are made."""

MOVED = "#moved"
"""Stands after the call's id in the `uniq` of a note that it has been moved from."""

_CALL_STATUS = {
    CallStatus.ANSWERED: TALKED,
    CallStatus.VOICEMAIL: LEFT_MESSAGE,
    CallStatus.BUSY: BUSY,
    CallStatus.FAILED: NO_CONNECTION,
}


class Words:
    """How one account's calls are told to Kommo."""

    def __init__(
        self,
        *,
        source: str,
        region: str | None,
        extensions: Mapping[str, int],
        link: Callable[[CallKey], str],
    ) -> None:
        self._source = source
        self._region = region
        self._extensions = extensions
        self._link = link

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
                "duration": _duration(call),
                "link": self._link_of(call),
                "call_status": call_status(call),
                "call_result": (call.result.text if call.result else None) or None,
                "call_responsible": self._user_id(call),
            }
        )

    def note(self, call: Call, entity_id: int) -> dict[str, Any]:
        """Return an item of POST /api/v4/{entities}/notes with the call.

        Kommo's statistics count it for a user only if he has made it and is responsible for it.
        """
        user_id = self._user_id(call)
        return _known(
            {
                "entity_id": entity_id,
                "note_type": note_type(call),
                "params": self.params(call),
                "created_by": user_id,
                "responsible_user_id": user_id,
                "created_at": int(call.started_at),
                "request_id": call.key.call_id,
            }
        )

    def left_params(self, call: Call) -> dict[str, Any]:
        """Return the params of a note that the call has been moved from: Kommo has no way to remove it."""
        place = call.entry
        where = "elsewhere" if place is None else f"{place.entity_type.value} {place.entity_id}"
        return {
            "uniq": f"{call.key.call_id}{MOVED}",
            "source": self._source,
            "phone": self.phone(call),
            "duration": 0,
            "call_result": f"Moved to {where}",
        }

    def task(self, call: Call, on: EntityRef) -> dict[str, Any]:
        """Return an item of POST /api/v4/tasks with what the manager wants to be done."""
        if call.result is None or call.result.todo is None:
            raise ValueError("the call's result has no task")
        return _known(
            {
                "text": call.result.todo.text,
                "complete_till": call.result.todo.complete_till,
                "entity_id": on.id,
                "entity_type": on.kind.value,
                "task_type_id": FOLLOW_UP,
                "responsible_user_id": self._user_id(call),
                "request_id": call.key.call_id,
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
            "duration": _duration(call),
            "link": self._link_of(call),
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

    def attribution(self, call: Call) -> Attribution | None:
        """Return whose call all of these say that it is, None: nobody's."""
        return attribution_of(call, self._extensions)

    def phone(self, call: Call) -> str:
        """Return the client's number as Kommo gets it."""
        return normalised(call.known.phone or "", self._region) or "withheld"

    def _link_of(self, call: Call) -> str | None:
        """Return the address of the recording once it can be played."""
        return self._link(call.key) if call.recording.state is RecordingState.READY else None

    def _user_id(self, call: Call) -> int | None:
        whose = self.attribution(call)
        return None if whose is None else whose.user_id


def call_status(call: Call) -> int | None:
    """Return Kommo's call_status: the manager's, else of how the call ended; None while it has not."""
    if call.result is not None and call.result.status is not None:
        return call.result.status
    outcome = call.known.outcome
    if outcome is None:
        return None
    missed = NO_CONNECTION if _direction(call) is Direction.INBOUND else NOT_AVAILABLE
    return _CALL_STATUS.get(outcome.status, missed)


def note_type(call: Call) -> str:
    """Return the type of the call's note."""
    return "call_in" if _direction(call) is Direction.INBOUND else "call_out"


def phone_values(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the numbers of a contact or company as they have to be sent back when one is added.

    Their field is replaced as a whole.
    """
    fields = card.get("custom_fields_values")
    return [
        {name: value[name] for name in ("value", "enum_code", "enum_id") if value.get(name) is not None}
        for field in (fields if isinstance(fields, list) else [])
        if isinstance(field, dict) and field.get("field_code") == "PHONE"
        for value in (field.get("values") or [])
        if isinstance(value, dict) and isinstance(value.get("value"), str)
    ]


def entity_type(word: object) -> EntityType:
    """Return the kind that Kommo names in the singular or plural; raises ValueError for an unknown one."""
    return _PLURAL[word] if isinstance(word, str) and word in _PLURAL else EntityType(str(word))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _direction(call: Call) -> Direction:
    return call.known.direction or Direction.INBOUND


def _duration(call: Call) -> int:
    return call.known.outcome.duration if call.known.outcome else 0


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
