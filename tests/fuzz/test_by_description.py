"""Requests made up from docs/openapi.json, right and wrong ones, against a daemon that runs.

No answer is a 5xx, all are as described, and what is refused has changed nothing.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.faults.machine import ACCOUNT, CLIENT_ID
from tests.target import SOUND, Target, target

PATH = Path(__file__).parents[2] / "docs/openapi.json"
DESCRIPTION = json.loads(PATH.read_text(encoding="utf-8"))
# Bytes can be made up for one media type only; which kind of sound it is said to be is a header.
UPLOAD = DESCRIPTION["paths"]["/voip/{provider}/{account_id}/recordings/{call_id}"]["put"]["requestBody"]
UPLOAD["content"]["application/octet-stream"] = UPLOAD["content"].pop("audio/*")
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
OPERATIONS: Mapping[str, APIOperation[Any, Any, Any, Any]] = {
    one.ok().label: one.ok() for one in SCHEMA.get_all_operations() if isinstance(one, Ok)
}
MODES = {"right": GenerationMode.POSITIVE, "wrong": GenerationMode.NEGATIVE}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
STREAM = "GET /widget/v1/events"
"""Goes on for ever, for whoever may ask."""

WAYS = [
    (label, mode)
    for label, operation in OPERATIONS.items()
    for mode in MODES
    if mode == "right"
    or operation.body
    or (list(operation.iter_parameters()) and not label.startswith("GET /voip/"))
]
"""Where there is nothing to say, nothing wrong can be said.

By GET a VoIP service says what it says in a query that is its own: each has tests of what is wrong in it.
"""

CONFLICT = 409

bounded = settings(
    max_examples=12,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("fuzz")) as here:
        assert here.report("known").status == 202
        yield here
        here.is_well()


@pytest.fixture(scope="module")
def secret(here: Target) -> str:
    """What stands in the address of Kommo's own webhooks."""
    return here.run("check").said.split(f"/kommo/{ACCOUNT}/")[1].split()[0]


def credentials(here: Target, operation: APIOperation[Any, Any, Any, Any]) -> dict[str, str]:
    """Return the headers of somebody who may ask."""
    path = operation.path
    if path.endswith("/recordings/{call_id}"):
        return {**here.voip(), "Content-Type": "audio/gsm"}
    if path.startswith("/voip/"):
        return here.voip()
    return here.widget() if path.startswith("/widget/") else here.operator()


def known(operation: APIOperation[Any, Any, Any, Any], secret: str) -> dict[str, Any]:
    """Return the parts of an address that nobody hits upon by chance."""
    right = {"account_id": ACCOUNT, "provider": "generic", "secret": secret}
    return {name: value for name, value in right.items() if f"{{{name}}}" in operation.path}


def judge(here: Target, case: Any, headers: Mapping[str, str]) -> None:
    """Send a request and fail unless its answer is as described, and a refusal has changed nothing."""
    before = here.counts()
    case.headers = {**(case.headers or {}), **headers}
    answer = case.call(base_url=here.daemon.url, timeout=10, allow_redirects=False)
    if answer.status_code == 405:
        return
    if answer.status_code >= 400:
        after = here.counts()
        if answer.status_code == CONFLICT:
            before = {**before, "messages": after["messages"]}
        assert after == before, (answer.status_code, "has left something behind")
        kind = answer.headers["content-type"][0].partition(";")[0]
        if kind == "application/problem+json":
            assert answer.json()["status"] == answer.status_code
        elif kind == "text/plain":
            # Not HTTP any more: an address that is longer than a line may be.
            assert answer.status_code == 400
            return
        else:
            assert kind == "text/html"
    case.validate_response(answer, checks=CHECKS)


@pytest.mark.parametrize(("label", "mode"), [way for way in WAYS if way[0] != STREAM])
def test_whoever_may_ask_gets_what_is_described(here: Target, secret: str, label: str, mode: str) -> None:
    operation = OPERATIONS[label]
    headers = credentials(here, operation)
    parts = known(operation, secret)
    more: dict[str, Any] = {"path_parameters": parts} if parts else {}

    @bounded
    @given(case=operation.as_strategy(generation_mode=MODES[mode], **more))
    def send(case: Any) -> None:
        judge(here, case, headers)

    send()


@pytest.mark.parametrize(("label", "mode"), WAYS)
def test_whoever_shows_nothing_gets_what_is_described(here: Target, label: str, mode: str) -> None:
    @bounded
    @given(case=OPERATIONS[label].as_strategy(generation_mode=MODES[mode]))
    def send(case: Any) -> None:
        judge(here, case, {})

    send()


def examples() -> list[tuple[str, str, Any]]:
    """Return the examples of the description, each with the operation that takes it."""
    found = []
    for label, operation in OPERATIONS.items():
        method, path = label.split(" ", 1)
        described = DESCRIPTION["paths"][path][method.lower()]
        content = described.get("requestBody", {}).get("content", {}).get("application/json", {})
        name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
        shown = DESCRIPTION["components"]["schemas"].get(name, {}).get("examples", [])
        found += [(method, operation.path, one) for one in shown]
    return found


@pytest.mark.parametrize(("method", "path", "example"), examples())
def test_what_the_description_shows_is_taken(here: Target, method: str, path: str, example: Any) -> None:
    address = path.format(provider="generic", account_id=ACCOUNT, call_id="shown")
    headers = credentials(here, OPERATIONS[f"{method} {path}"])
    answer = here.ask(method, address, headers, example)
    assert answer.status in (200, 202), answer.body


def test_there_are_examples_of_every_message_of_a_call() -> None:
    assert len(examples()) == 5


def test_wrong_messages_of_whoever_may_ask_are_refused(here: Target) -> None:
    """Were none of them wrong, it would mean little that the wrong ones leave nothing behind."""
    event = OPERATIONS["POST /voip/{provider}/{account_id}"]
    refused = []

    @bounded
    @given(case=event.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def send(case: Any) -> None:
        answer = here.ask("POST", f"/voip/generic/{ACCOUNT}", here.voip(), case.body)
        refused.append(answer.status in (400, 422))

    send()
    assert any(refused)


def test_an_installation_can_be_begun_and_not_ended_by_a_made_up_code(here: Target) -> None:
    assert here.ask("GET", "/oauth/install").status == 302
    host = here.origin.removeprefix("http://")
    answer = here.ask("GET", f"/oauth/callback?code=made-up&referer={host}&client_id={CLIENT_ID}")
    assert (answer.status, answer.code) == (400, "bad_request")
    assert here.counts()["accounts"] == 0


def test_a_recording_is_taken_and_played_as_described(here: Target) -> None:
    answer = here.upload("known")
    assert (answer.status, answer.json["recording"]) == (201, "ready")
    assert here.upload("known").status == 200
    here.quiet()
    (entry,) = here.here.entries("known")
    path = str(entry.params["link"]).removeprefix(here.daemon.url)
    for headers, status in (({}, 200), ({"Range": "bytes=0-3"}, 206), ({"Range": "bytes=9999-"}, 416)):
        answer = here.ask("GET", path, headers)
        assert answer.status == status
        assert answer.body in (SOUND, SOUND[:4]) or answer.code == "unsatisfiable"
