"""The account itself, its users, and tasks."""

from typing import Any, Final

from calllogd.sandbox import shapes
from calllogd.sandbox.api import (
    BAD_REQUEST,
    FORBIDDEN,
    OK,
    Answer,
    ApiRequest,
    Refused,
    collection,
    not_found,
    problem,
)
from calllogd.sandbox.listing import filter_numbers, filter_values, in_range, page_of
from calllogd.sandbox.records import EntityRef
from calllogd.sandbox.validation import (
    NEEDED_NUMBER,
    NEEDED_TEXT,
    NUMBER,
    TEXT,
    Mistake,
    entity_type,
    mistakes,
    nulls,
    read_batch,
    refuse_mistakes,
    request_id,
    strangers,
)
from calllogd.sandbox.world import Account

FOLLOW_UP: Final = 1
TASK: Final = {
    "text": NEEDED_TEXT,
    "complete_till": NEEDED_NUMBER,
    "entity_id": NUMBER,
    "entity_type": TEXT,
    "task_type_id": NUMBER,
    "responsible_user_id": NUMBER,
    "created_by": NUMBER,
    "duration": NUMBER,
    "request_id": TEXT,
}


def show_account(account: Account, request: ApiRequest) -> Answer:
    """The account to which the token belongs."""
    return Answer(
        OK,
        {
            "id": account.id,
            "name": account.name,
            "subdomain": account.subdomain,
            "current_user_id": account.users[0].id,
            "country": account.country,
            "customers_mode": "disabled",
            "is_unsorted_on": True,
            "is_technical_account": False,
            "contact_name_display_order": 1,
            "_links": shapes.self_link(str(request.url)),
        },
    )


def list_users(account: Account, request: ApiRequest) -> Answer:
    """Everybody who works in the account; 403 unless an administrator asks."""
    _refuse_unless_admin(account)
    page = page_of(request, "users", account.users, lambda user: shapes.user(request, user), {})
    return page if page.body is None else Answer(OK, {"_total_items": len(account.users), **page.body})


def one_user(account: Account, request: ApiRequest) -> Answer:
    """One of them; 403 likewise."""
    _refuse_unless_admin(account)
    wanted = request.number("user_id")
    for user in account.users:
        if user.id == wanted:
            return Answer(OK, shapes.user(request, user))
    raise not_found()


def list_tasks(account: Account, request: ApiRequest) -> Answer:
    """The tasks, of all cards or of the ones filtered for; ids of cards need their kind."""
    ids = filter_numbers(request.query, "id")
    owners = filter_numbers(request.query, "entity_id")
    kinds = filter_values(request.query, "entity_type")
    persons = filter_numbers(request.query, "responsible_user_id")
    in_time = in_range(request.query, "updated_at")
    if owners and not kinds:
        # Unconfirmed that it is an error; an id without a kind would find the tasks of other cards.
        raise Refused(problem(BAD_REQUEST, "Bad Request", "filter[entity_id] needs filter[entity_type]"))
    rows = [
        task
        for task in account.tasks
        if account.listed(task.written_at)
        and (not ids or task.id in ids)
        and (not kinds or (task.on is not None and task.on.kind.value in kinds))
        and (not owners or (task.on is not None and task.on.id in owners))
        and (not persons or task.responsible_user_id in persons)
        and in_time(task.updated_at)
    ]
    return page_of(
        request,
        "tasks",
        rows,
        lambda task: shapes.task(account, request, task),
        {"id": lambda task: task.id, "complete_till": lambda task: task.complete_till},
    )


def add_tasks(account: Account, request: ApiRequest) -> Answer:
    """Add tasks; the same one twice makes two."""
    items = read_batch(request)
    refuse_mistakes(items, lambda item: _mistakes(account, item))
    made = []
    for index, item in enumerate(items):
        task = account.add_task(
            item["text"],
            item["complete_till"],
            _owner(item),
            kind=item.get("task_type_id", FOLLOW_UP),
            responsible=item.get("responsible_user_id", account.users[0].id),
        )
        links = shapes.self_link(request.href(f"tasks/{task.id}"))
        made.append({"id": task.id, "request_id": request_id(item, index), "_links": links})
    return collection("tasks", made, request)


def _refuse_unless_admin(account: Account) -> None:
    if not account.token_is_admin:
        raise Refused(problem(FORBIDDEN, "Forbidden", "Administrator rights are needed"))


def _mistakes(account: Account, item: dict[str, Any]) -> list[Mistake]:
    found = [*mistakes(item, TASK), *nulls(item), *strangers(account, item)]
    if not found and ("entity_id" in item or "entity_type" in item):
        owner = _owner(item)
        if owner is None or account.card(owner) is None:
            return [Mistake("NotFound", "entity_id", "Entity not found.")]
    return found


def _owner(item: dict[str, Any]) -> EntityRef | None:
    kind = entity_type(item.get("entity_type"))
    return EntityRef(kind, item["entity_id"]) if kind is not None and "entity_id" in item else None
