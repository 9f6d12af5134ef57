"""The template for 3CX: what a 3CX makes of it is understood by the generic webhook."""

import itertools
import json
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import pytest
from multidict import CIMultiDict

from calllogd.domain.call import Call, CallStatus, Direction, Facts, Outcome, Person
from calllogd.domain.merge import fold
from calllogd.errors import InputRefused
from calllogd.voip.proof import Tokens
from calllogd.voip.provider.generic import Generic
from calllogd.voip.threecx import template
from calllogd.voip.webhook import Webhook
from tests.fakes import ACCOUNT, START

TOKEN = secrets.token_hex()
GENERIC = Generic(ACCOUNT, tokens=Tokens({"token": TOKEN}))
NET_FORMATS = {"yyyy-MM-ddTHH:mm:ssZ": "%Y-%m-%dT%H:%M:%SZ", "yyyyMMddTHHmmssfffZ": "%Y%m%dT%H%M%S000Z"}


def evaluated(text: str, variables: Mapping[str, Any]) -> str:
    """Return what 3CX makes of a text: of its variables, and of the methods that are called on them."""
    text = re.sub(
        r'\[\[(\w+)\]\.ToString\("([^"]*)"\)\]',
        lambda found: variables[found[1]].strftime(NET_FORMATS[found[2]]),
        text,
    )
    text = re.sub(
        r'\[\[\[DurationTimespan\]\.get_TotalSeconds\(\)\]\.ToString\("F0"\)\]',
        lambda _: f"{variables['DurationTimespan']:.0f}",
        text,
    )
    text = re.sub(r"\[(\w+)\]", lambda found: str(variables[found[1]]), text)
    assert "[" not in text
    assert "]" not in text
    return text


def is_skipped(condition: str, variables: Mapping[str, Any]) -> bool:
    """Tell whether 3CX leaves a scenario out."""
    parts = [part.split("!=") for part in condition.split("||")]
    return any(evaluated(left, variables) != right for left, right in parts)


def reported(variables: Mapping[str, Any], xml: str | None = None) -> list[Webhook]:
    """Return what 3CX sends when a call has ended."""
    root = ElementTree.fromstring(template("https://calls.example.com", ACCOUNT) if xml is None else xml)  # noqa: S314
    scenarios = {one.attrib["Id"]: one for one in root.iter("Scenario")}
    sent, name = [], "ReportCall"
    while name:
        scenario = scenarios[name]
        request, outputs = scenario.find("Request"), scenario.find("Outputs")
        assert request is not None
        assert outputs is not None
        if not is_skipped(request.attrib["SkipIf"], variables):
            sent.append(_request(request, variables))
        name = outputs.attrib.get("Next", "")
    return sent


def _request(request: ElementTree.Element, variables: Mapping[str, Any]) -> Webhook:
    found: dict[str, dict[str, Any]] = {"Headers": {}, "PostValues": {}}
    for table, values in found.items():
        for value in request.findall(f"{table}/Value"):
            text = evaluated(value.text or "", variables)
            values[value.attrib["Key"]] = int(text) if value.attrib["Type"] == "Integer" else text
    return Webhook(
        method=request.attrib["RequestType"].upper(),
        url=request.attrib["Url"],
        headers=CIMultiDict(found["Headers"]),
        body=json.dumps(found["PostValues"]).encode(),
    )


def ended(call_type: str, **changes: Any) -> dict[str, Any]:
    return {
        "Token": TOKEN,
        "ReportCallEnabled": "True",
        "CallType": call_type,
        "Number": "+12025550143",
        "Agent": "101",
        "DurationTimespan": 63.2,
        "CallStartTimeUTC": datetime.fromtimestamp(START, UTC),
        **changes,
    }


@pytest.mark.parametrize(
    ("call_type", "direction", "status", "duration"),
    [
        ("Inbound", "inbound", "answered", 63),
        ("Missed", "inbound", "no_answer", 0),
        ("Outbound", "outbound", "answered", 63),
        ("Notanswered", "outbound", "no_answer", 0),
    ],
)
def test_a_call_of_each_type(call_type: str, direction: str, status: str, duration: int) -> None:
    (sent,) = reported(ended(call_type))
    assert (sent.method, sent.url) == ("POST", f"https://calls.example.com/voip/generic/{ACCOUNT}")
    GENERIC.verify(sent, START)
    (told,) = GENERIC.parse(sent, START)
    weight = 3 + (status == "answered")
    assert told.what == "call.ended"
    assert told.event.key.call_id == "3cx-+12025550143-20251009T085320000Z"
    assert told.event.facts == Facts(
        direction=Direction(direction),
        phone="+12025550143",
        person=Person(weight, "101"),
        started_at=START,
        outcome=Outcome(CallStatus(status), duration),
    )


def test_a_wrong_token_is_refused() -> None:
    (sent,) = reported(ended("Inbound", Token="another"))
    with pytest.raises(InputRefused):
        GENERIC.verify(sent, START)


def test_nothing_is_sent_when_it_is_switched_off_or_of_another_type() -> None:
    assert reported(ended("Inbound", ReportCallEnabled="False")) == []
    assert reported(ended("Of another kind")) == []


def test_what_several_extensions_report_is_one_call() -> None:
    reports = [("Missed", "101"), ("Inbound", "102"), ("Missed", "103")]
    for order in itertools.permutations(reports):
        calls: dict[str, Call] = {}
        for call_type, agent in order:
            (sent,) = reported(ended(call_type, Agent=agent))
            for told in GENERIC.parse(sent, START):
                key = told.event.key.call_id
                calls[key] = fold(calls.get(key), told.event, START)
        (call,) = calls.values()
        assert call.facts.outcome == Outcome(CallStatus.ANSWERED, 63)
        assert call.facts.person == Person(4, "102")


def test_contacts_are_not_looked_up() -> None:
    root = ElementTree.fromstring(template("https://calls.example.com", ACCOUNT))  # noqa: S314
    (lookup,) = (one for one in root.iter("Scenario") if not one.attrib["Id"])
    request = lookup.find("Request")
    assert request is not None
    assert request.attrib["SkipIf"] == "True"


def test_there_is_no_secret_in_it_and_addresses_are_escaped() -> None:
    xml = template("https://calls.example.com/a&b", 7)
    assert "a&amp;b/voip/generic/7" in xml
    (sent,) = reported(ended("Missed"), xml)
    assert sent.url == "https://calls.example.com/a&b/voip/generic/7"
    root = ElementTree.fromstring(xml)  # noqa: S314
    parameters = {one.attrib["Name"]: one.attrib for one in root.iter("Parameter")}
    assert parameters["Token"]["Type"] == "Password"
    assert parameters["Token"]["Default"] == ""
    assert parameters["ReportCallEnabled"]["Default"] == "True"
    assert root.attrib["Name"] == "calllogd 7"
    # The number is sent whole, as it came.
    number = root.find("Number")
    assert number is not None
    assert number.attrib == {"Prefix": "AsIs", "MaxLength": ""}
