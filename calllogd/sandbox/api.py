"""What goes into a route and what comes out of it, before any HTTP."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from multidict import MultiMapping
from yarl import URL

from calllogd.sandbox.records import EntityType
from calllogd.sandbox.world import Account

HAL_JSON: Final = "application/hal+json"
PROBLEM_JSON: Final = "application/problem+json"
PROBLEM_TYPE: Final = "https://httpstatus.es/{status}"

OK: Final = 200
NO_CONTENT: Final = 204
BAD_REQUEST: Final = 400
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
METHOD_NOT_ALLOWED: Final = 405
UNPROCESSABLE: Final = 422


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """One request to /api/v4 or to OAuth, wholly read."""

    method: str
    path: str
    """After /api/v4, with the slash in front; of OAuth the whole path."""
    url: URL
    query: MultiMapping[str]
    body: bytes = field(repr=False)
    args: Mapping[str, str] = field(default_factory=dict)
    """The parts of the path that a route's pattern names."""

    @property
    def kind(self) -> EntityType:
        """The kind of card that the path names."""
        return EntityType(self.args["entities"])

    def number(self, name: str) -> int:
        """The number that the path names."""
        return int(self.args[name])

    def href(self, path: str) -> str:
        """Address of another resource of this API."""
        return str(self.url.origin()) + "/api/v4/" + path


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and JSON; no JSON means an empty body."""

    status: int
    body: dict[str, Any] | None = None
    content_type: str = HAL_JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """The bytes of the body."""
        return b"" if self.body is None else json.dumps(self.body).encode()


Handler = Callable[[Account, ApiRequest], Answer]


class Refused(Exception):
    """The request is answered with an error, and nothing was changed."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer: Final = answer


def problem(status: int, title: str, detail: str, **more: Any) -> Answer:
    """An error in the shape of Kommo's problem documents."""
    body = {
        **more,
        "title": title,
        "type": PROBLEM_TYPE.format(status=status),
        "status": status,
        "detail": detail,
    }
    return Answer(status, body, PROBLEM_JSON)


def not_found() -> Refused:
    """The path names a thing that does not exist, or no longer."""
    return Refused(problem(NOT_FOUND, "Not found", "Entity not found"))


def collection(name: str, items: list[dict[str, Any]], request: ApiRequest) -> Answer:
    """The answer to a batch: what was made or changed."""
    return Answer(OK, {"_links": {"self": {"href": str(request.url)}}, "_embedded": {name: items}})
