"""Notes on leads, contacts and companies: listed, read, added, edited; the API deletes and moves none."""

from typing import Any, Final

from calllogd.sandbox import shapes
from calllogd.sandbox.api import OK, Answer, ApiRequest, collection, not_found
from calllogd.sandbox.calls import CALL_STATUS
from calllogd.sandbox.listing import filter_numbers, filter_values, in_range, page_of
from calllogd.sandbox.records import CALL_NOTE_TYPES, EntityRef, Note
from calllogd.sandbox.validation import (
    FLAG,
    NEEDED_NUMBER,
    NEEDED_OBJECT,
    NEEDED_TEXT,
    NUMBER,
    OBJECT,
    TEXT,
    TEXT_OR_NUMBER,
    Mistake,
    Rule,
    mistakes,
    nulls,
    read_batch,
    read_object,
    refuse_mistakes,
    request_id,
    strangers,
)
from calllogd.sandbox.world import ROBOT_ID, Account

NOTE_TYPE: Final = Rule((str,), required=True, choices=CALL_NOTE_TYPES | {"common"})
CALL_PARAMS: Final = {
    "uniq": NEEDED_TEXT,
    "duration": NEEDED_NUMBER,
    "source": NEEDED_TEXT,
    "phone": NEEDED_TEXT,
    "link": TEXT,
    "call_result": TEXT,
    "call_status": CALL_STATUS,
    "call_responsible": TEXT_OR_NUMBER,
}
COMMON_PARAMS: Final = {"text": NEEDED_TEXT}
NOTE: Final = {
    "entity_id": NUMBER,
    "note_type": NOTE_TYPE,
    "params": NEEDED_OBJECT,
    "created_by": NUMBER,
    "updated_by": NUMBER,
    "responsible_user_id": NUMBER,
    "created_at": NUMBER,
    "updated_at": NUMBER,
    "request_id": TEXT,
    "is_need_to_trigger_digital_pipeline": FLAG,
}
EDIT: Final = NOTE | {"id": NUMBER, "note_type": TEXT, "params": OBJECT}


def list_notes(account: Account, request: ApiRequest) -> Answer:
    """The notes of all cards of one kind, or of the one card that the path names."""
    if "entity_id" in request.args:
        owners = [_card(account, request).id]
    else:
        owners = filter_numbers(request.query, "entity_id")
    types = filter_values(request.query, "note_type")
    ids = filter_numbers(request.query, "id")
    in_time = in_range(request.query, "updated_at")
    rows = [
        note
        for note in account.notes
        if note.on.kind is request.kind
        and account.listed(note.written_at)
        and (not owners or note.on.id in owners)
        and (not types or note.note_type in types)
        and (not ids or note.id in ids)
        and in_time(note.updated_at)
    ]
    return page_of(
        request,
        "notes",
        rows,
        lambda note: shapes.note(account, request, note),
        {"id": lambda note: note.id, "updated_at": lambda note: note.updated_at},
    )


def one_note(account: Account, request: ApiRequest) -> Answer:
    """One note."""
    return Answer(OK, shapes.note(account, request, _named(account, request)))


def add_notes(account: Account, request: ApiRequest) -> Answer:
    """Add notes; a `uniq` that another note has already is not refused."""
    of_path = _card(account, request).id if "entity_id" in request.args else None
    items = read_batch(request)

    def wrong(item: dict[str, Any]) -> list[Mistake]:
        found = [*mistakes(item, NOTE), *nulls(item), *strangers(account, item)]
        if not found:
            found = mistakes(item["params"], _params_rules(item["note_type"]), inside="params")
        return found or _owner_mistakes(account, request, item.get("entity_id", of_path), of_path)

    refuse_mistakes(items, wrong)
    made = []
    for index, item in enumerate(items):
        note = account.add_note(
            EntityRef(request.kind, item["entity_id"] if of_path is None else of_path),
            item["note_type"],
            item["params"],
            created_at=item.get("created_at"),
            created_by=item.get("created_by", ROBOT_ID),
            responsible_user_id=item.get("responsible_user_id"),
        )
        made.append(_shape(request, note) | {"request_id": request_id(item, index)})
    return collection("notes", made, request)


def edit_notes(account: Account, request: ApiRequest) -> Answer:
    """Edit several notes, each named by its `id`."""
    of_path = _card(account, request).id if "entity_id" in request.args else None
    items = read_batch(request)

    def wrong(item: dict[str, Any]) -> list[Mistake]:
        note = _of_kind(account, request, item.get("id"))
        if note is None or (of_path is not None and note.on.id != of_path):
            return [Mistake("NotFound", "id", "Note not found.")]
        return _edit_mistakes(account, note, item)

    refuse_mistakes(items, wrong)
    changed = []
    for index, item in enumerate(items):
        note = _of_kind(account, request, item["id"])
        if note is not None:
            _edit(account, note, item)
            changed.append(
                _shape(request, note) | {"updated_at": note.updated_at, "request_id": request_id(item, index)}
            )
    return collection("notes", changed, request)


def edit_note(account: Account, request: ApiRequest) -> Answer:
    """Edit one note."""
    note = _named(account, request)
    item = read_object(request)
    refuse_mistakes([item], lambda it: _edit_mistakes(account, note, it))
    _edit(account, note, item)
    return Answer(OK, _shape(request, note) | {"updated_at": note.updated_at})


def _edit(account: Account, note: Note, item: dict[str, Any]) -> None:
    kept = note.params if account.rules.merge_params else {}
    account.set_params(note, kept | item["params"] if "params" in item else note.params)
    note.created_by = item.get("created_by", note.created_by)
    note.responsible_user_id = item.get("responsible_user_id", note.responsible_user_id)


def _edit_mistakes(account: Account, note: Note, item: dict[str, Any]) -> list[Mistake]:
    rules = {name: Rule(rule.types, choices=rule.choices) for name, rule in EDIT.items()}
    found = [*mistakes(item, rules), *nulls(item), *strangers(account, item)]
    if not found and "params" in item:
        optional = {
            name: Rule(rule.types, choices=rule.choices)
            for name, rule in _params_rules(note.note_type).items()
        }
        found = mistakes(item["params"], optional, inside="params")
    fixed = {"id": note.id, "entity_id": note.on.id, "note_type": note.note_type}
    moved = [name for name, value in fixed.items() if item.get(name, value) != value]
    return found + [
        Mistake("NotSupported", name, "This field of a note cannot be changed.") for name in moved
    ]


def _params_rules(note_type: str) -> dict[str, Rule]:
    return CALL_PARAMS if note_type in CALL_NOTE_TYPES else COMMON_PARAMS


def _owner_mistakes(
    account: Account, request: ApiRequest, owner: int | None, of_path: int | None
) -> list[Mistake]:
    if owner is None:
        return [Mistake("FieldMissing", "entity_id", "This field is missing.")]
    if account.card(EntityRef(request.kind, owner)) is None or of_path not in {None, owner}:
        return [Mistake("NotSupportedChoice", "entity_id", "The value you selected is not a valid choice.")]
    return []


def _card(account: Account, request: ApiRequest) -> EntityRef:
    ref = EntityRef(request.kind, request.number("entity_id"))
    if account.card(ref) is None:
        raise not_found()
    return ref


def _of_kind(account: Account, request: ApiRequest, note_id: object) -> Note | None:
    note = account.note(note_id) if isinstance(note_id, int) else None
    return note if note is not None and note.on.kind is request.kind else None


def _named(account: Account, request: ApiRequest) -> Note:
    note = _of_kind(account, request, request.number("note_id"))
    if note is None or ("entity_id" in request.args and note.on.id != request.number("entity_id")):
        raise not_found()
    return note


def _shape(request: ApiRequest, note: Note) -> dict[str, Any]:
    return {
        "id": note.id,
        "entity_id": note.on.id,
        "_links": shapes.self_link(request.href(f"{note.on.kind.value}/notes/{note.id}")),
    }
