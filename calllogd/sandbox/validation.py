"""What Kommo refuses in a body, told as its `validation-errors`. A batch is refused as a whole."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from calllogd.sandbox.api import BAD_REQUEST, UNPROCESSABLE, ApiRequest, Refused, problem
from calllogd.sandbox.records import EntityType
from calllogd.sandbox.world import ROBOT_ID, Account

MAX_BATCH: Final = 250
MAX_DEPTH: Final = 20
USER_FIELDS: Final = ("created_by", "updated_by", "responsible_user_id", "user_id")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong with one item."""

    code: str
    path: str
    detail: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What one field may be."""

    types: tuple[type, ...]
    required: bool = False
    choices: frozenset[Any] = frozenset()

    def broken_by(self, value: object) -> tuple[str, str] | None:
        """Code and detail of the mistake, or None when the value is fine."""
        # bool is an int to Python, not to Kommo.
        if not isinstance(value, self.types) or (isinstance(value, bool) and bool not in self.types):
            return (
                "InvalidType",
                f"This value should be of type {'|'.join(kind.__name__ for kind in self.types)}.",
            )
        if self.choices and value not in self.choices:
            return "NotSupportedChoice", "The value you selected is not a valid choice."
        if isinstance(value, int) and value < 0:
            return "TooLow", "This value should be 0 or more."
        if self.required and value in ("", [], {}):
            return "NotBlank", "This value should not be blank."
        return None


TEXT: Final = Rule((str,))
NUMBER: Final = Rule((int,))
FLAG: Final = Rule((bool,))
OBJECT: Final = Rule((dict,))
LIST: Final = Rule((list,))
TEXT_OR_NUMBER: Final = Rule((str, int))
NEEDED_TEXT: Final = Rule((str,), required=True)
NEEDED_NUMBER: Final = Rule((int,), required=True)
NEEDED_OBJECT: Final = Rule((dict,), required=True)


def read_object(request: ApiRequest) -> dict[str, Any]:
    """The body as one object; an empty body is an empty object."""
    value = _parsed(request) if request.body else {}
    if not isinstance(value, dict):
        raise Refused(problem(BAD_REQUEST, "Bad Request", "Request body should be an object"))
    return value


def read_batch(request: ApiRequest) -> list[dict[str, Any]]:
    """The body as a list of 1 to 250 objects."""
    items = _parsed(request)
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise Refused(
            problem(BAD_REQUEST, "Bad Request", "Request body should be a list of objects, not an empty one")
        )
    if len(items) > MAX_BATCH:
        raise Refused(problem(UNPROCESSABLE, "Unprocessable Entity", f"Limit per page is {MAX_BATCH}"))
    return items


def _parsed(request: ApiRequest) -> Any:
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError) as exc:
        raise Refused(problem(BAD_REQUEST, "Bad Request", "Invalid JSON in the request body")) from exc


def request_id(item: Mapping[str, Any], index: int) -> str:
    """What the answer calls this item: the client's own word for it, else its place."""
    return str(item.get("request_id", index))


def refuse_mistakes(
    items: Sequence[dict[str, Any]], mistakes_of: Callable[[dict[str, Any]], Sequence[Mistake]]
) -> None:
    """Raise Refused with every mistake of every item, if there is one."""
    wrong = [
        {
            "request_id": request_id(item, index),
            "errors": [{"code": m.code, "path": m.path, "detail": m.detail} for m in found],
        }
        for index, item in enumerate(items)
        if (found := mistakes_of(item))
    ]
    if wrong:
        detail = "Request validation failed"
        raise Refused(problem(BAD_REQUEST, "Bad Request", detail, **{"validation-errors": wrong}))


def mistakes(
    item: Mapping[str, Any], rules: Mapping[str, Rule], *, inside: str = "", others: bool = False
) -> list[Mistake]:
    """What is wrong with the fields of one object; `others` lets fields pass that no rule names."""
    prefix = f"{inside}." if inside else ""
    found = []
    for name, rule in rules.items():
        if name not in item:
            if rule.required:
                found.append(Mistake("FieldMissing", prefix + name, "This field is missing."))
        # A null is told by `nulls`.
        elif item[name] is not None and (broken := rule.broken_by(item[name])) is not None:
            found.append(Mistake(broken[0], prefix + name, broken[1]))
    if not others:
        unexpected = [name for name in item if name not in rules]
        found += [
            Mistake("NotExpected", prefix + name, "This field was not expected.") for name in unexpected
        ]
    return found


def nulls(value: object, path: str = "", depth: int = 0) -> Iterator[Mistake]:
    """Every null inside a value, at any depth: Kommo takes a field left out, not an empty one."""
    if value is None or depth > MAX_DEPTH:
        yield Mistake("NotNull", path, "This value should not be null.")
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from nulls(inner, f"{path}.{name}" if path else name, depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from nulls(inner, f"{path}.{index}", depth + 1)


def strangers(account: Account, item: Mapping[str, Any]) -> list[Mistake]:
    """The fields of an item that name a user whom the account does not have; 0 is Kommo's robot."""
    rule = Rule((int,), choices=frozenset({ROBOT_ID, *(user.id for user in account.users)}))
    named = {name: item[name] for name in USER_FIELDS if isinstance(item.get(name), int)}
    return mistakes(named, dict.fromkeys(named, rule))


def entity_type(value: object) -> EntityType | None:
    """The kind of card with this plural name, or None."""
    return next((kind for kind in EntityType if kind.value == value), None)
