"""The description of the HTTP interface says what the program does: routes, codes, fields, limits."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import schemathesis

from calllogd.domain.call import CallState, RecordingState
from calllogd.ports import Unmapped
from calllogd.recordings.links import TOKEN_MOST
from calllogd.voip.fields import CALL_ID_MOST, YEAR_2000, YEAR_2100
from calllogd.voip.provider import generic, services
from calllogd.voip.telling import UNMAPPED_MOST
from calllogd.voip.usecase.assign_extensions import EXTENSION_MOST, TABLE_MOST
from calllogd.voip.widget import _Announcement, _Result
from calllogd.web.app import make_app
from calllogd.web.desk import Desk
from calllogd.web.operators import LIMIT, LIMIT_MOST
from calllogd.web.problems import PROBLEMS
from calllogd.web.widget_session import OPEN_MOST

PATH = Path(__file__).parents[1] / "docs/openapi.json"
DESCRIPTION: Mapping[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
SCHEMAS: Mapping[str, Any] = DESCRIPTION["components"]["schemas"]

LIMITS = ("minLength", "maxLength", "minimum", "maximum", "exclusiveMaximum")
MESSAGES = [("GenericEvent", generic._Event), ("Result", _Result), ("Announcement", _Announcement)]


def operations() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield the method, path and description of every operation."""
    for path, item in DESCRIPTION["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield method.upper(), path, operation


def kinds(schema: Mapping[str, Any], root: Mapping[str, Any]) -> frozenset[Any]:
    """Return what a schema takes: each type with its words, its limits, and the fields of an object."""
    if "$ref" in schema:
        found: Any = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return kinds(found, root)
    for several in ("anyOf", "oneOf"):
        if several in schema and "properties" not in schema:
            return frozenset[Any]().union(*(kinds(one, root) for one in schema[several]))
    types = schema.get("type", "string")
    found = set()
    for kind in [types] if isinstance(types, str) else types:
        if kind == "null":
            found.add(kind)
        elif kind == "object":
            found.add((kind, fields(schema, root)))
        else:
            words = frozenset(schema.get("enum", ())) - {None}
            limits = frozenset((name, schema[name]) for name in LIMITS if name in schema)
            found.add((kind, words, limits))
    return frozenset(found)


def fields(schema: Mapping[str, Any], root: Mapping[str, Any]) -> frozenset[Any]:
    """Return the fields of an object, whether each is needed, and what each takes."""
    needed = schema.get("required", ())
    return frozenset((name, name in needed, kinds(it, root)) for name, it in schema["properties"].items())


def test_the_description_is_valid() -> None:
    schemathesis.openapi.from_path(PATH).validate()


def test_it_has_every_route_and_no_other() -> None:
    routes = {
        (route.method, "" if route.resource is None else route.resource.canonical)
        for route in make_app(Desk()).router.routes()
        if route.method != "HEAD"
    }
    assert {(method, path) for method, path, _ in operations()} == routes


def test_it_has_every_code_of_a_problem_and_no_other() -> None:
    assert SCHEMAS["Problem"]["properties"]["code"]["enum"] == list(PROBLEMS)


def test_errors_are_problem_documents_with_statuses_of_problems() -> None:
    statuses = {str(problem.status) for problem in PROBLEMS.values()}
    for method, path, operation in operations():
        for status, answer in operation["responses"].items():
            if status >= "400":
                assert status in statuses, (method, path)
                shown = DESCRIPTION["components"]["responses"][answer["$ref"].rpartition("/")[2]]
                assert "application/problem+json" in shown["content"], (method, path, status)


@pytest.mark.parametrize(("name", "message"), MESSAGES)
def test_the_fields_of_a_message_are_those_that_are_read(name: str, message: type) -> None:
    read = msgspec.json.schema(message)
    found = kinds(read, read)
    described = SCHEMAS[name]
    properties = {**described["properties"]}
    # The program reads its limits in two steps, of which this is the first; the next test has the second.
    plain = {"oneOf": [{"type": "number"}, {"type": "string"}, {"type": "null"}]}
    properties["started_at"] = plain
    mine = {"type": "object", "required": described["required"], "properties": properties}
    assert found == kinds(mine, DESCRIPTION)


def test_the_start_of_a_call_has_the_limits_that_are_checked() -> None:
    for name, _ in MESSAGES:
        number = SCHEMAS[name]["properties"]["started_at"]["oneOf"][0]
        assert (number["minimum"], number["maximum"]) == (YEAR_2000, YEAR_2100)


def test_what_an_event_needs_is_what_is_asked_for() -> None:
    needed = {}
    for one in SCHEMAS["GenericEvent"]["oneOf"]:
        for event in one["properties"]["event"]["enum"]:
            needed[event] = set(one["required"]) - {"event"}
    assert needed == {event: set(names) for event, names in generic._NEEDED.items()}


def test_states_and_bounds_are_those_of_the_program() -> None:
    assert SCHEMAS["State"]["enum"] == [state.value for state in CallState]
    assert SCHEMAS["Status"]["properties"]["calls"]["required"] == [state.value for state in CallState]
    recording = {state.value for state in RecordingState}
    assert set(SCHEMAS["LiveCall"]["properties"]["recording"]["enum"]) == recording
    assert SCHEMAS["CallId"]["maxLength"] == CALL_ID_MOST
    assert set(DESCRIPTION["components"]["parameters"]["provider"]["schema"]["enum"]) == set(services())
    assert SCHEMAS["OpenCalls"]["properties"]["calls"]["maxItems"] == OPEN_MOST
    assert SCHEMAS["Calls"]["properties"]["calls"]["maxItems"] == LIMIT_MOST
    unmapped = SCHEMAS["Status"]["properties"]["unmapped"]
    assert unmapped["maxItems"] == UNMAPPED_MOST
    assert set(unmapped["items"]["required"]) == set(Unmapped._fields)
    table = SCHEMAS["NewExtensions"]["properties"]["extensions"]
    assert (table["maxProperties"], table["propertyNames"]["maxLength"]) == (TABLE_MOST, EXTENSION_MOST)
    (token,) = DESCRIPTION["paths"]["/recordings/{token}"]["parameters"]
    assert token["schema"]["maxLength"] == TOKEN_MOST
    asked = DESCRIPTION["paths"]["/api/v1/calls"]["get"]["parameters"]
    (limit,) = (one["schema"] for one in asked if one["name"] == "limit")
    assert (limit["default"], limit["maximum"]) == (LIMIT, LIMIT_MOST)
