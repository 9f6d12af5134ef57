"""The JSON shapes in which records leave the server."""

from typing import Any, Final

from calllogd.sandbox.api import ApiRequest
from calllogd.sandbox.records import Card, EntityRef, EntityType, IncomingLead, Lead, Note, Task, User
from calllogd.sandbox.world import Account

PHONE_FIELD_ID: Final = 1


def self_link(href: str) -> dict[str, Any]:
    """The `_links` of one resource."""
    return {"self": {"href": href}}


def card_path(ref: EntityRef) -> str:
    """Path of a card after /api/v4/."""
    return f"{ref.kind.value}/{ref.id}"


def reference(request: ApiRequest, ref: EntityRef) -> dict[str, Any]:
    """A card named from elsewhere: its id and link, nothing more."""
    return {"id": ref.id, "_links": self_link(request.href(card_path(ref)))}


def card(account: Account, request: ApiRequest, it: Card, *, with_leads: bool = True) -> dict[str, Any]:
    """A lead, contact or company."""
    shape: dict[str, Any] = {
        "id": it.id,
        "name": it.name.text,
        "responsible_user_id": it.responsible_user_id,
        "created_by": it.created_by,
        "updated_by": it.created_by,
        "created_at": it.created_at,
        "updated_at": it.updated_at,
        "is_deleted": it.deleted,
        "account_id": account.id,
        "custom_fields_values": _phone_field(it),
        "_links": self_link(request.href(card_path(it.ref))),
    }
    if isinstance(it, Lead):
        shape |= {"status_id": it.status_id, "pipeline_id": it.pipeline_id, "price": 0}
    else:
        shape |= {"is_unsorted": it.hidden}
    kinds = [
        kind
        for kind in EntityType
        if kind is not it.ref.kind and (with_leads or kind is not EntityType.LEADS)
    ]
    shape["_embedded"] = {
        kind.value: [reference(request, other.ref) for other in account.linked(it.ref, kind)]
        for kind in kinds
    }
    return shape


def _phone_field(it: Card) -> list[dict[str, Any]] | None:
    if not it.phones:
        return None
    values = [{"value": number, "enum_code": "WORK"} for number in it.numbers]
    return [
        {
            "field_id": PHONE_FIELD_ID,
            "field_name": "Phone",
            "field_code": "PHONE",
            "field_type": "multitext",
            "values": values,
        }
    ]


def note(account: Account, request: ApiRequest, it: Note) -> dict[str, Any]:
    """A note."""
    return {
        "id": it.id,
        "entity_id": it.on.id,
        "created_by": it.created_by,
        "updated_by": it.created_by,
        "created_at": it.created_at,
        "updated_at": it.updated_at,
        "responsible_user_id": it.responsible_user_id,
        "group_id": 0,
        "note_type": it.note_type,
        "params": it.params,
        "account_id": account.id,
        "_links": self_link(request.href(f"{it.on.kind.value}/notes/{it.id}")),
    }


def incoming(account: Account, request: ApiRequest, it: IncomingLead) -> dict[str, Any]:
    """An incoming lead, with links to the cards made with it."""
    cards = account.cards_of(it)
    return {
        "uid": it.uid,
        "source_uid": it.source_uid,
        "source_name": it.source_name,
        "category": "sip",
        "pipeline_id": it.pipeline_id,
        "created_at": it.created_at,
        "metadata": {name: value for name, value in it.metadata.items() if name != "is_call_event_needed"},
        "account_id": account.id,
        "_links": self_link(request.href(f"leads/unsorted/{it.uid}")),
        "_embedded": {
            kind.value: [reference(request, one.ref) for one in cards if one.ref.kind is kind]
            for kind in EntityType
        },
    }


def task(account: Account, request: ApiRequest, it: Task) -> dict[str, Any]:
    """A thing to do."""
    return {
        "id": it.id,
        "text": it.text,
        "complete_till": it.complete_till,
        "entity_id": None if it.on is None else it.on.id,
        "entity_type": None if it.on is None else it.on.kind.value,
        "task_type_id": it.task_type_id,
        "responsible_user_id": it.responsible_user_id,
        "is_completed": False,
        "created_at": it.created_at,
        "updated_at": it.updated_at,
        "account_id": account.id,
        "_links": self_link(request.href(f"tasks/{it.id}")),
    }


def user(request: ApiRequest, it: User) -> dict[str, Any]:
    """Somebody who works in the account."""
    return {
        "id": it.id,
        "name": it.name,
        "email": it.email,
        "lang": "en",
        "rights": {"is_admin": it.is_admin, "is_free": False, "is_active": it.is_active},
        "_links": self_link(request.href(f"users/{it.id}")),
    }
