"""Leads, contacts and companies: listed, searched, read, added, edited, linked."""

from collections.abc import Mapping
from typing import Any, Final

from calllogd.sandbox import shapes
from calllogd.sandbox.api import NO_CONTENT, OK, Answer, ApiRequest, collection, not_found
from calllogd.sandbox.listing import filter_numbers, page_of
from calllogd.sandbox.records import Card, EntityRef, EntityType, Lead
from calllogd.sandbox.search import matches_query
from calllogd.sandbox.validation import (
    LIST,
    NEEDED_NUMBER,
    NUMBER,
    OBJECT,
    TEXT,
    Mistake,
    Rule,
    entity_type,
    mistakes,
    nulls,
    read_batch,
    read_object,
    refuse_mistakes,
    request_id,
    strangers,
)
from calllogd.sandbox.world import PIPELINE_ID, ROBOT_ID, STATUS_FIRST, Account

CARD: Final = {
    "id": NUMBER,
    "name": TEXT,
    "first_name": TEXT,
    "last_name": TEXT,
    "status_id": NUMBER,
    "pipeline_id": NUMBER,
    "responsible_user_id": NUMBER,
    "created_by": NUMBER,
    "updated_by": NUMBER,
    "custom_fields_values": LIST,
    "_embedded": OBJECT,
    "request_id": TEXT,
}
LINK: Final = {
    "to_entity_id": NEEDED_NUMBER,
    "to_entity_type": Rule((str,), required=True, choices=frozenset(kind.value for kind in EntityType)),
    "metadata": OBJECT,
}


def phones_in(spec: Mapping[str, Any]) -> list[str] | None:
    """The numbers in a card's `custom_fields_values`; None when the phone field is not among these."""
    fields = spec.get("custom_fields_values", [])
    lists = [
        one["values"]
        for one in (fields if isinstance(fields, list) else [])
        if isinstance(one, dict) and _is_phone(one) and isinstance(one.get("values"), list)
    ]
    if not lists:
        return None
    values = [value for values in lists for value in values]
    return [str(value["value"]) for value in values if isinstance(value, dict) and "value" in value]


def _is_phone(custom_field: Mapping[str, Any]) -> bool:
    return custom_field.get("field_code") == "PHONE" or custom_field.get("field_id") == shapes.PHONE_FIELD_ID


def list_cards(account: Account, request: ApiRequest) -> Answer:
    """The cards of one kind, or those that `query` finds; hidden ones are never among them."""
    ids = filter_numbers(request.query, "id")
    query = request.query.get("query", "")
    rows = [
        card
        for card in account.cards(request.kind)
        if card.shown_at is not None
        and account.listed(card.shown_at)
        and (not ids or card.id in ids)
        and (not query or matches_query(account, card, query))
    ]
    with_leads = _with_leads(request)
    return page_of(
        request,
        request.kind.value,
        rows,
        lambda card: shapes.card(account, request, card, with_leads=with_leads),
        {"id": lambda card: card.id, "updated_at": lambda card: card.updated_at},
    )


def one_card(account: Account, request: ApiRequest) -> Answer:
    """One card; also a hidden one, for its id is known to who added it."""
    return Answer(
        OK, shapes.card(account, request, _named(account, request), with_leads=_with_leads(request))
    )


def add_cards(account: Account, request: ApiRequest) -> Answer:
    """Add cards, linked with those in their `_embedded`."""
    items = read_batch(request)
    refuse_mistakes(items, lambda item: _mistakes(account, item))
    made = []
    for index, item in enumerate(items):
        card = _add(account, request.kind, item)
        made.append(shapes.reference(request, card.ref) | {"request_id": request_id(item, index)})
    return collection(request.kind.value, made, request)


def edit_cards(account: Account, request: ApiRequest) -> Answer:
    """Edit several cards, each named by its `id`."""
    items = read_batch(request)

    def wrong(item: dict[str, Any]) -> list[Mistake]:
        found = _mistakes(account, item)
        if not found and account.card(EntityRef(request.kind, item.get("id", 0))) is None:
            return [Mistake("NotFound", "id", "Entity not found.")]
        return found

    refuse_mistakes(items, wrong)
    changed = []
    for index, item in enumerate(items):
        card = account.card(EntityRef(request.kind, item["id"]))
        if card is not None:
            _edit(account, card, item)
            changed.append(_changed(request, card) | {"request_id": request_id(item, index)})
    return collection(request.kind.value, changed, request)


def edit_card(account: Account, request: ApiRequest) -> Answer:
    """Edit one card."""
    card = _named(account, request)
    item = read_object(request)
    refuse_mistakes([item], lambda it: _mistakes(account, it))
    _edit(account, card, item)
    return Answer(OK, _changed(request, card))


def link(account: Account, request: ApiRequest) -> Answer:
    """Link the card with others."""
    card = _named(account, request)
    made = []
    for other in _link_targets(account, request):
        account.link(card.ref, other)
        made.append(
            {
                "entity_id": card.id,
                "entity_type": card.ref.kind.value,
                "to_entity_id": other.id,
                "to_entity_type": other.kind.value,
                "metadata": None,
            }
        )
    return collection("links", made, request)


def unlink(account: Account, request: ApiRequest) -> Answer:
    """Take links away."""
    card = _named(account, request)
    for other in _link_targets(account, request):
        account.unlink(card.ref, other)
    return Answer(NO_CONTENT)


def _link_targets(account: Account, request: ApiRequest) -> list[EntityRef]:
    items = read_batch(request)

    def wrong(item: dict[str, Any]) -> list[Mistake]:
        found = [*mistakes(item, LINK), *nulls(item)]
        kind = entity_type(item.get("to_entity_type"))
        if not found and (kind is None or account.card(EntityRef(kind, item["to_entity_id"])) is None):
            return [Mistake("NotFound", "to_entity_id", "Entity not found.")]
        return found

    refuse_mistakes(items, wrong)
    return [EntityRef(EntityType(item["to_entity_type"]), item["to_entity_id"]) for item in items]


def _with_leads(request: ApiRequest) -> bool:
    return "leads" in request.query.get("with", "").split(",")


def _mistakes(account: Account, item: dict[str, Any]) -> list[Mistake]:
    found = [*mistakes(item, CARD, others=True), *nulls(item), *strangers(account, item)]
    if found:
        return found
    for kind, other_id in _embedded_ids(item):
        if account.card(EntityRef(kind, other_id)) is None:
            found.append(Mistake("NotFound", f"_embedded.{kind.value}", "Entity not found."))
    return found


def _embedded_ids(item: Mapping[str, Any]) -> list[tuple[EntityType, int]]:
    embedded = item.get("_embedded", {})
    return [
        (kind, int(one["id"]))
        for kind in EntityType
        for one in (embedded[kind.value] if isinstance(embedded.get(kind.value), list) else [])
        if isinstance(one, dict) and isinstance(one.get("id"), int)
    ]


def _name(item: Mapping[str, Any]) -> str:
    parts = (item.get("first_name", ""), item.get("last_name", ""))
    return str(item.get("name") or " ".join(part for part in parts if part))


def _add(account: Account, kind: EntityType, item: dict[str, Any]) -> Card:
    author, responsible = item.get("created_by", ROBOT_ID), item.get("responsible_user_id")
    card: Card
    if kind is EntityType.LEADS:
        card = account.make_lead(
            name=_name(item),
            status_id=item.get("status_id", STATUS_FIRST),
            pipeline_id=item.get("pipeline_id", PIPELINE_ID),
            author=author,
            responsible=responsible,
        )
    else:
        card = account.make(
            kind, name=_name(item), phones=phones_in(item) or (), author=author, responsible=responsible
        )
    for other_kind, other_id in _embedded_ids(item):
        account.link(card.ref, EntityRef(other_kind, other_id))
    return card


def _edit(account: Account, card: Card, item: dict[str, Any]) -> None:
    # A field that is named has its values replaced, one that is not keeps them.
    account.edit(
        card,
        name=_name(item) or None,
        phones=phones_in(item),
        responsible=item.get("responsible_user_id"),
    )
    if isinstance(card, Lead) and "status_id" in item:
        account.set_status(card, item["status_id"])


def _changed(request: ApiRequest, card: Card) -> dict[str, Any]:
    return shapes.reference(request, card.ref) | {"updated_at": card.updated_at}


def _named(account: Account, request: ApiRequest) -> Card:
    card = account.card(EntityRef(request.kind, request.number("entity_id")))
    if card is None:
        raise not_found()
    return card
