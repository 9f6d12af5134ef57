"""The template by which a 3CX reports its calls to the generic webhook; 3CX calls this CRM integration.

3CX runs the scenario ReportCall when a call has ended, once for each extension that took part. A scenario
hands on to the next, and each is skipped but the one for the call's type, so that what a type means can stand
in it word for word.

Source: 3CX's description of CRM templates, and templates that are in use, read 2026-11-23.
"""

from html import escape
from typing import NamedTuple

from calllogd.domain.call import CallStatus, Direction

VERSION = 1
"""3CX takes a template for a newer one by it."""

_TALK = '[[[DurationTimespan].get_TotalSeconds()].ToString("F0")]'
_START = '[[CallStartTimeUTC].ToString("yyyy-MM-ddTHH:mm:ssZ")]'
# 3CX tells no id of a call. Those of its extensions are not in it: they report the one call.
_CALL_ID = '3cx-[Number]-[[CallStartTimeUTC].ToString("yyyyMMddTHHmmssfffZ")]'


class _Type(NamedTuple):
    """What 3CX calls a call, and what it is; `scenario` reports those of this type."""

    name: str
    scenario: str
    direction: Direction
    status: CallStatus
    duration: str


_TYPES = (
    _Type("Inbound", "ReportCall", Direction.INBOUND, CallStatus.ANSWERED, _TALK),
    _Type("Missed", "ReportCallMissed", Direction.INBOUND, CallStatus.NO_ANSWER, "0"),
    _Type("Outbound", "ReportCallOutbound", Direction.OUTBOUND, CallStatus.ANSWERED, _TALK),
    _Type("Notanswered", "ReportCallNotanswered", Direction.OUTBOUND, CallStatus.NO_ANSWER, "0"),
)

_TEMPLATE = """\
<?xml version="1.0" encoding="utf-8"?>
<Crm xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema" \
Country="Global" Name="{name}" Version="{version}" SupportsEmojis="true">
  <Number Prefix="AsIs" MaxLength="" />
  <Connection MaxConcurrentRequests="2" />
  <Parameters>
    <Parameter Name="Token" Type="Password" Parent="General Configuration" Editor="String" \
Title="Token of the generic webhook:" Default="" />
    <Parameter Name="ReportCallEnabled" Type="Boolean" Parent="" Editor="String" \
Title="Log calls in Kommo" Default="True" />
  </Parameters>
  <Authentication Type="No" />
  <Scenarios>
    <Scenario Id="" Type="REST">
      <Request SkipIf="True" Url="{url}" MessagePasses="0" RequestEncoding="UrlEncoded" \
RequestType="Get" ResponseType="Json" />
      <Rules>
        <Rule Type="Any">contact.id</Rule>
      </Rules>
      <Variables />
      <Outputs AllowEmpty="false" />
    </Scenario>
{scenarios}
  </Scenarios>
</Crm>
"""

_SCENARIO = """\
    <Scenario Id="{id}" Type="REST">
      <Request SkipIf="[ReportCallEnabled]!=True||[CallType]!={type}" Url="{url}" MessagePasses="0" \
RequestContentType="application/json" RequestEncoding="Json" RequestType="Post" ResponseType="Json">
        <Headers>
          <Value Key="Authorization" Passes="1" Type="String">Bearer [Token]</Value>
        </Headers>
        <PostValues Key="">
{values}
        </PostValues>
      </Request>
      <Variables />
      <Outputs{next} AllowEmpty="true" />
    </Scenario>"""

_VALUE = '          <Value Key="{key}" Passes="1" Type="{type}">{value}</Value>'


def template(public_url: str, account_id: int) -> str:
    """Return the template of an account, XML to be added in 3CX. There is no secret in it."""
    url = f"{public_url}/voip/generic/{account_id}"
    names = [one.scenario for one in _TYPES[1:]]
    scenarios = [_scenario(one, url, after) for one, after in zip(_TYPES, [*names, ""], strict=True)]
    return _TEMPLATE.format(
        name=f"calllogd {account_id}",
        version=VERSION,
        url=escape(f"{public_url}/healthz"),
        scenarios="\n".join(scenarios),
    )


def _scenario(one: _Type, url: str, after: str) -> str:
    values = [
        ("event", "String", "call.ended"),
        ("call_id", "String", _CALL_ID),
        ("direction", "String", one.direction.value),
        ("phone", "String", "[Number]"),
        ("extension", "String", "[Agent]"),
        ("started_at", "String", _START),
        ("duration", "Integer", one.duration),
        ("status", "String", one.status.value),
    ]
    return _SCENARIO.format(
        id=one.scenario,
        type=one.name,
        url=escape(url),
        values="\n".join(
            _VALUE.format(key=key, type=kind, value=escape(value, quote=False)) for key, kind, value in values
        ),
        next=f' Next="{after}"' if after else "",
    )
