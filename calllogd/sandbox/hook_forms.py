"""What Kommo's own webhooks say: forms with PHP's nested keys, every value a text.

Source: amocrm.ru/developers/content/crm_platform/webhooks-format, copy of 2026-01; Kommo has the same one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from calllogd.sandbox.records import Card, Deed, EntityType, IncomingLead
from calllogd.sandbox.shapes import PHONE_FIELD_ID
from calllogd.sandbox.world import Account

ENUM_WORK: Final = 1001
CONTACT_ACTIONS: Final = {Deed.ADDED: "add", Deed.CHANGED: "update"}


def form_of(account: Account, deed: Deed, what: Card | IncomingLead) -> dict[str, str]:
    """The fields of the form that tells of a deed, in their order."""
    if isinstance(what, Card):
        body = {"contacts": {CONTACT_ACTIONS[deed]: [_card(account, what)]}}
    else:
        body = {"unsorted": {"delete": [_incoming(deed, what)]}}
    links = {"self": f"https://{account.subdomain}.kommo.com"}
    origin = {"subdomain": account.subdomain, "id": account.id, "_links": links}
    return dict(_flat(body | {"account": origin}))


def _card(account: Account, card: Card) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "id": card.id,
        "name": card.name.text,
        "responsible_user_id": card.responsible_user_id,
        "date_create": card.created_at,
        "last_modified": card.updated_at,
        "created_user_id": card.created_by,
        "modified_user_id": card.created_by,
        "account_id": account.id,
        "created_at": card.created_at,
        "updated_at": card.updated_at,
        "type": card.ref.kind.singular,
    }
    if card.phones:
        values = [{"value": number, "enum": ENUM_WORK} for number in card.numbers]
        shape["custom_fields"] = [{"id": PHONE_FIELD_ID, "name": "Phone", "values": values, "code": "PHONE"}]
    leads = account.linked(card.ref, EntityType.LEADS)
    shape["linked_leads_id"] = {str(lead.id): {"ID": lead.id} for lead in leads}
    return shape


def _incoming(deed: Deed, lead: IncomingLead) -> dict[str, Any]:
    shape = {"uid": lead.uid, "category": "sip", "created_at": lead.created_at}
    if deed is Deed.DECLINED:
        return {"action": "decline", **shape, "decline_result": {"leads": [lead.lead_id]}}
    made = {"leads": lead.lead_id, "contacts": lead.contact_id, "companies": lead.company_id}
    result = {name: [id_] for name, id_ in made.items() if id_ is not None}
    return {"action": "accept", **shape, "accept_result": result}


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Each leaf with its path: `contacts[add][0][id]`; what is empty has none."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{key}[{name}]" if key else name)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{key}[{index}]")
    else:
        yield key, str(value)
