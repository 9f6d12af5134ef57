"""`POST calls`: Kommo chooses the card itself, by the client's number."""

from typing import Any, Final

from calllogd.sandbox import shapes
from calllogd.sandbox.api import BAD_REQUEST, OK, Answer, ApiRequest
from calllogd.sandbox.records import Card, Note
from calllogd.sandbox.search import card_of_call
from calllogd.sandbox.validation import (
    NEEDED_NUMBER,
    NEEDED_TEXT,
    NUMBER,
    TEXT,
    TEXT_OR_NUMBER,
    Mistake,
    Rule,
    mistakes,
    nulls,
    read_batch,
    refuse_mistakes,
    request_id,
    strangers,
)
from calllogd.sandbox.world import ROBOT_ID, Account

ENTITY_NOT_FOUND: Final = 263
NOTE_TYPES: Final = {"inbound": "call_in", "outbound": "call_out"}
CALL_STATUS: Final = Rule((int,), choices=frozenset(range(1, 8)))

CALL: Final = {
    "direction": Rule((str,), required=True, choices=frozenset(NOTE_TYPES)),
    "duration": NEEDED_NUMBER,
    "source": NEEDED_TEXT,
    "phone": NEEDED_TEXT,
    "uniq": TEXT,
    "link": TEXT,
    "call_result": TEXT,
    "call_status": CALL_STATUS,
    "call_responsible": TEXT_OR_NUMBER,
    "responsible_user_id": NUMBER,
    "created_by": NUMBER,
    "updated_by": NUMBER,
    "created_at": NUMBER,
    "updated_at": NUMBER,
    "request_id": TEXT,
}
PARAMS: Final = (
    "uniq",
    "duration",
    "source",
    "link",
    "phone",
    "call_result",
    "call_status",
    "call_responsible",
)


def add_calls(account: Account, request: ApiRequest) -> Answer:
    """Put each call on the card of its number: 200, or 400 when nobody has any of the numbers.

    When somebody has some of them, `Rules` says what the answer looks like; these calls are made.
    """
    items = read_batch(request)

    def wrong(item: dict[str, Any]) -> list[Mistake]:
        return [*mistakes(item, CALL), *nulls(item), *strangers(account, item)]

    refuse_mistakes(items, wrong)
    made: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        card = card_of_call(account, item["phone"])
        if card is None:
            named = {"request_id": request_id(item, index)} if account.rules.mixed_request_ids else {}
            errors.append(_not_found() | named)
        else:
            made.append(_shape(account, request, card, _add(account, card, item), request_id(item, index)))
    if not made:
        # Seen live without a request_id: a client that needs it here would fail on the real thing.
        errors = [_not_found() for _ in items]
    status = BAD_REQUEST if not made else account.rules.mixed_status if errors else OK
    return Answer(
        status,
        {"_total_items": len(made), "errors": errors, "_embedded": {"calls": made}},
    )


def _not_found() -> dict[str, Any]:
    return {"title": "Entity not found", "status": ENTITY_NOT_FOUND, "detail": "Nobody has this phone number"}


def _add(account: Account, card: Card, item: dict[str, Any]) -> Note:
    return account.add_note(
        card.ref,
        NOTE_TYPES[item["direction"]],
        {name: item[name] for name in PARAMS if name in item},
        created_at=item.get("created_at"),
        created_by=item.get("created_by", ROBOT_ID),
        responsible_user_id=item.get("responsible_user_id"),
    )


def _shape(account: Account, request: ApiRequest, card: Card, note: Note, named: str) -> dict[str, Any]:
    return {
        "id": note.id,
        "entity_id": card.id,
        "entity_type": card.ref.kind.singular,
        "account_id": account.id,
        "request_id": named,
        "_embedded": {"entity": shapes.reference(request, card.ref)},
    }
