"""Lists as Kommo serves them: filters, order, pages, and 204 for none."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from multidict import MultiMapping

from calllogd.sandbox.api import BAD_REQUEST, NO_CONTENT, OK, Answer, ApiRequest, Refused, problem

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 250

Row = TypeVar("Row")


def filter_values(query: MultiMapping[str], name: str) -> list[str]:
    """The values of `filter[name]`, also when written `filter[name][]` or `filter[name][0]`."""
    pattern = re.compile(rf"filter\[{re.escape(name)}\](\[\d*\])?")
    return [value for key, value in query.items() if pattern.fullmatch(key)]


def filter_numbers(query: MultiMapping[str], name: str) -> list[int]:
    """The same as numbers. Raises Refused for anything else."""
    return [_number(f"filter[{name}]", value) for value in filter_values(query, name)]


def in_range(query: MultiMapping[str], name: str) -> Callable[[int], bool]:
    """A test for `filter[name]`: that very moment, or from `[from]` to `[to]`, both included."""
    moments = filter_numbers(query, name)
    first = _optional(query, f"filter[{name}][from]")
    last = _optional(query, f"filter[{name}][to]")

    def fits(moment: int) -> bool:
        return (
            (not moments or moment in moments)
            and (first is None or moment >= first)
            and (last is None or moment <= last)
        )

    return fits


def _optional(query: MultiMapping[str], key: str) -> int | None:
    return _number(key, query[key]) if key in query else None


def page_of(
    request: ApiRequest,
    name: str,
    rows: Sequence[Row],
    shown_as: Callable[[Row], dict[str, Any]],
    orders: Mapping[str, Callable[[Row], int]],
) -> Answer:
    """One page of the rows, in the order asked for; 204 when there is none.

    `_links.next` is there when more follow. Without `order[…]` the rows come as they are.
    """
    page = _number("page", request.query.get("page", "1"), least=1)
    limit = _number("limit", request.query.get("limit", str(DEFAULT_LIMIT)), least=1, most=MAX_LIMIT)
    rows = _ordered(request.query, rows, orders)
    part = rows[(page - 1) * limit : page * limit]
    if not part:
        return Answer(NO_CONTENT)
    links = {"self": {"href": str(request.url)}}
    if len(rows) > page * limit:
        links["next"] = {"href": str(request.url.update_query(page=str(page + 1), limit=str(limit)))}
    return Answer(OK, {"_page": page, "_links": links, "_embedded": {name: [shown_as(row) for row in part]}})


def _ordered(
    query: MultiMapping[str], rows: Sequence[Row], orders: Mapping[str, Callable[[Row], int]]
) -> Sequence[Row]:
    for field, key in orders.items():
        direction = query.get(f"order[{field}]")
        if direction in {"asc", "desc"}:
            return sorted(rows, key=key, reverse=direction == "desc")
    return rows


def _number(name: str, text: str, *, least: int = 0, most: int | None = None) -> int:
    # More digits than a moment or an id has are no number of ours, and int() need not see them.
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < least or (most is not None and int(text) > most):
        raise Refused(problem(BAD_REQUEST, "Bad Request", f"Invalid value of {name}"))
    return int(text)
