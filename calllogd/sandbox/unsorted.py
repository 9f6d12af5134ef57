"""Incoming leads of category sip: added by the API, hidden until a person accepts or declines them."""

from collections.abc import Mapping
from typing import Any, Final

from calllogd.sandbox import shapes
from calllogd.sandbox.api import OK, Answer, ApiRequest, collection, not_found
from calllogd.sandbox.entities import CARD, phones_in
from calllogd.sandbox.listing import filter_values, page_of
from calllogd.sandbox.records import Card, EntityType, IncomingLead, IncomingState, Note
from calllogd.sandbox.search import match_key
from calllogd.sandbox.validation import (
    FLAG,
    LIST,
    NEEDED_NUMBER,
    NEEDED_OBJECT,
    NEEDED_TEXT,
    NUMBER,
    TEXT,
    TEXT_OR_NUMBER,
    Mistake,
    mistakes,
    nulls,
    read_batch,
    read_object,
    refuse_mistakes,
    request_id,
    strangers,
)
from calllogd.sandbox.world import PIPELINE_ID, STATUS_FIRST, STATUS_INCOMING, Account

INCOMING: Final = {
    "source_uid": NEEDED_TEXT,
    "source_name": NEEDED_TEXT,
    "pipeline_id": NUMBER,
    "created_at": NUMBER,
    "metadata": NEEDED_OBJECT,
    "_embedded": NEEDED_OBJECT,
    "request_id": TEXT,
}
METADATA: Final = {
    "phone": NEEDED_TEXT,
    "uniq": NEEDED_TEXT,
    "called_at": NEEDED_NUMBER,
    "duration": NEEDED_NUMBER,
    "service_code": NEEDED_TEXT,
    "from": TEXT,
    "link": TEXT,
    "call_responsible": TEXT_OR_NUMBER,
    "is_call_event_needed": FLAG,
}
EMBEDDED: Final = {kind.value: LIST for kind in EntityType}
NOTE_PARAMS: Final = ("uniq", "duration", "link", "phone", "call_responsible")

Identity = tuple[str, frozenset[str]]


def add_sip(account: Account, request: ApiRequest) -> Answer:
    """Add incoming leads, each with a hidden lead and its contact; an identical open one is refused."""
    items = read_batch(request)
    taken = [_identity_of(account, lead) for lead in account.unsorted if lead.state is IncomingState.OPEN]

    def wrong(item: dict[str, Any]) -> list[Mistake]:
        found = [*mistakes(item, INCOMING), *nulls(item)]
        if found:
            return found
        found = mistakes(item["metadata"], METADATA, inside="metadata") + _embedded_mistakes(
            item["_embedded"]
        )
        if not found:
            # Two identical ones inside one batch are refused as well, so each joins those that are taken.
            identity = _identity(item)
            found = _repeated(identity, taken)
            taken.append(identity)
        return found

    refuse_mistakes(items, wrong)
    made = []
    for index, item in enumerate(items):
        shape = shapes.incoming(account, request, _add(account, item))
        names = ("uid", "account_id", "_links", "_embedded")
        made.append({name: shape[name] for name in names} | {"request_id": request_id(item, index)})
    answer = collection("unsorted", made, request)
    return Answer(OK, {"_total_items": len(made), **(answer.body or {})})


def _embedded_mistakes(embedded: dict[str, Any]) -> list[Mistake]:
    found = mistakes(embedded, EMBEDDED, inside="_embedded")
    if found:
        return found
    for name, cards in embedded.items():
        if len(cards) > 1 or not all(isinstance(card, dict) for card in cards):
            found.append(Mistake("InvalidCount", f"_embedded.{name}", "This collection takes one object."))
        else:
            found += [
                it for card in cards for it in mistakes(card, CARD, inside=f"_embedded.{name}", others=True)
            ]
    return found


def _identity(item: Mapping[str, Any]) -> Identity:
    """What makes two incoming leads the same for Kommo here: the lead's name and the contact's numbers."""
    numbers = phones_in(_embedded(item, "contacts"))
    return _embedded(item, "leads").get("name", ""), frozenset(map(match_key, numbers or ()))


def _identity_of(account: Account, lead: IncomingLead) -> Identity:
    cards = {card.ref.kind: card for card in account.cards_of(lead)}
    contact = cards.get(EntityType.CONTACTS)
    name = cards[EntityType.LEADS].name.text if EntityType.LEADS in cards else ""
    return name, frozenset(map(match_key, contact.numbers)) if contact is not None else frozenset()


def _repeated(identity: Identity, taken: list[Identity]) -> list[Mistake]:
    name, numbers = identity
    if any(name == other and numbers & others for other, others in taken):
        return [Mistake("AlreadyExists", "_embedded", "An identical incoming lead is waiting already.")]
    return []


def _embedded(item: Mapping[str, Any], kind: str) -> dict[str, Any]:
    cards: list[dict[str, Any]] = item["_embedded"].get(kind, [])
    return cards[0] if cards else {}


def _add(account: Account, item: dict[str, Any]) -> IncomingLead:
    metadata = item["metadata"]
    lead = account.make_lead(
        name=_embedded(item, "leads").get("name", ""),
        status_id=STATUS_INCOMING,
        pipeline_id=item.get("pipeline_id", PIPELINE_ID),
        hidden=True,
    )
    contact = _hidden_card(account, EntityType.CONTACTS, _embedded(item, "contacts"))
    company = _hidden_card(account, EntityType.COMPANIES, _embedded(item, "companies"))
    for card in (contact, company):
        if card is not None:
            account.link(lead.ref, card.ref)
    note: Note | None = None
    if metadata.get("is_call_event_needed", False):
        params = {name: metadata[name] for name in NOTE_PARAMS if name in metadata}
        params["source"] = metadata["service_code"]
        note = account.add_note(lead.ref, "call_in", params, created_at=metadata["called_at"])
    return account.add_incoming(
        source_uid=item["source_uid"],
        source_name=item["source_name"],
        metadata=metadata,
        lead=lead,
        contact=contact,
        company=company,
        note=note,
        created_at=item.get("created_at", int(account.now())),
    )


def _hidden_card(account: Account, kind: EntityType, spec: dict[str, Any]) -> Card | None:
    if not spec:
        return None
    return account.make(kind, name=str(spec.get("name", "")), phones=phones_in(spec) or (), hidden=True)


def list_unsorted(account: Account, request: ApiRequest) -> Answer:
    """The incoming leads that wait to be sorted."""
    uids = filter_values(request.query, "uid")
    categories = filter_values(request.query, "category")
    rows = [
        lead
        for lead in account.unsorted
        if lead.state is IncomingState.OPEN
        and account.listed(lead.written_at)
        and (not uids or lead.uid in uids)
        and (not categories or "sip" in categories)
    ]
    return page_of(
        request,
        "unsorted",
        rows,
        lambda lead: shapes.incoming(account, request, lead),
        {"created_at": lambda lead: lead.created_at},
    )


def one_unsorted(account: Account, request: ApiRequest) -> Answer:
    """One incoming lead that waits to be sorted."""
    return Answer(OK, shapes.incoming(account, request, _open(account, request)))


def accept(account: Account, request: ApiRequest) -> Answer:
    """Make an ordinary lead and contact of an incoming lead."""
    incoming = _open(account, request)
    body = read_object(request)
    rules = {"user_id": NUMBER, "status_id": NUMBER}
    refuse_mistakes([body], lambda item: [*mistakes(item, rules), *nulls(item), *strangers(account, item)])
    account.accept(incoming.uid, status_id=body.get("status_id", STATUS_FIRST))
    return Answer(OK, shapes.incoming(account, request, incoming))


def decline(account: Account, request: ApiRequest) -> Answer:
    """Throw an incoming lead away, with its lead and contact."""
    incoming = _open(account, request)
    body = read_object(request)
    rules = {"user_id": NEEDED_NUMBER}
    refuse_mistakes([body], lambda item: [*mistakes(item, rules), *nulls(item), *strangers(account, item)])
    shape = shapes.incoming(account, request, incoming)
    account.decline(incoming.uid)
    return Answer(OK, shape)


def _open(account: Account, request: ApiRequest) -> IncomingLead:
    incoming = account.open_incoming(request.args["uid"])
    if incoming is None:
        raise not_found()
    return incoming
