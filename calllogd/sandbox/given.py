"""JSON objects that the control routes are given."""

from collections.abc import Mapping
from typing import Any


def fields_of(value: Any, types: Mapping[str, tuple[type, ...]], what: str) -> dict[str, Any]:
    """The fields of a JSON object; one that is null counts as left out.

    Raises ValueError, naming them all, for fields that are unknown or of the wrong type.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{what} is an object")  # noqa: TRY004 - one error for all that is wrong with it
    given = {name: it for name, it in value.items() if it is not None}
    wrong = [name for name, it in given.items() if not _fits(it, types.get(name, ()))]
    if wrong:
        raise ValueError(f"unknown or of the wrong type: {', '.join(wrong)}")
    return given


def _fits(value: object, types: tuple[type, ...]) -> bool:
    # bool is an int to Python, not to whoever writes true for a number.
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)
