"""Which part of the rules answers which path below /api/v4."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from calllogd.sandbox import calls, entities, notes, office, unsorted
from calllogd.sandbox.api import METHOD_NOT_ALLOWED, NOT_FOUND, Answer, ApiRequest, Handler, Refused, problem
from calllogd.sandbox.world import Account


@dataclass(frozen=True, slots=True)
class Route:
    """One resource and what may be done with it."""

    pattern: re.Pattern[str]
    handlers: dict[str, Handler]


def _route(path: str, **handlers: Handler) -> Route:
    pattern = path.replace("{entities}", "(?P<entities>leads|contacts|companies)")
    pattern = re.sub(r"\{(\w+_id)\}", r"(?P<\1>[0-9]{1,18})", pattern).replace("{uid}", "(?P<uid>[^/]+)")
    return Route(re.compile(pattern), {name.upper(): handler for name, handler in handlers.items()})


ROUTES: Final = (
    _route("/account", get=office.show_account),
    _route("/users", get=office.list_users),
    _route("/users/{user_id}", get=office.one_user),
    _route("/calls", post=calls.add_calls),
    _route("/tasks", get=office.list_tasks, post=office.add_tasks),
    _route("/leads/unsorted", get=unsorted.list_unsorted),
    _route("/leads/unsorted/sip", post=unsorted.add_sip),
    _route("/leads/unsorted/{uid}", get=unsorted.one_unsorted),
    _route("/leads/unsorted/{uid}/accept", post=unsorted.accept),
    _route("/leads/unsorted/{uid}/decline", delete=unsorted.decline),
    _route("/{entities}", get=entities.list_cards, post=entities.add_cards, patch=entities.edit_cards),
    _route("/{entities}/{entity_id}", get=entities.one_card, patch=entities.edit_card),
    _route("/{entities}/{entity_id}/link", post=entities.link),
    _route("/{entities}/{entity_id}/unlink", post=entities.unlink),
    _route("/{entities}/notes", get=notes.list_notes, post=notes.add_notes, patch=notes.edit_notes),
    _route(
        "/{entities}/{entity_id}/notes", get=notes.list_notes, post=notes.add_notes, patch=notes.edit_notes
    ),
    _route("/{entities}/notes/{note_id}", get=notes.one_note, patch=notes.edit_note),
    _route("/{entities}/{entity_id}/notes/{note_id}", get=notes.one_note, patch=notes.edit_note),
)


def answer(account: Account, request: ApiRequest) -> Answer:
    """Do what the request asks, at once and wholly or not at all, and say what came of it."""
    account.asked += 1
    allowed: list[str] = []
    for route in ROUTES:
        match = route.pattern.fullmatch(request.path)
        if match is None:
            continue
        handler = route.handlers.get(request.method)
        if handler is None:
            allowed += route.handlers
            continue
        try:
            return handler(account, replace(request, args=match.groupdict()))
        except Refused as refusal:
            return refusal.answer
    return _no_handler(allowed)


def _no_handler(allowed: Iterable[str]) -> Answer:
    methods = ", ".join(allowed)
    if not methods:
        return problem(NOT_FOUND, "Not found", "No such resource")
    refusal = problem(METHOD_NOT_ALLOWED, "Method Not Allowed", f"Allowed here: {methods}")
    return replace(refusal, headers={"Allow": methods})
