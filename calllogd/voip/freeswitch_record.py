"""A record of mod_json_cdr: one leg, as FreeSWITCH describes it when it is over.

Of several profiles that a leg had, one after each transfer, the last in the list is the first in time.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from calllogd.errors import InputRefused
from calllogd.voip.fields import start_of
from calllogd.voip.pbx import DIRECTIONS
from calllogd.voip.provider import NotUnderstood

_NOTHING: Mapping[str, Any] = MappingProxyType({})

_NUMBER = re.compile("[0-9]{1,12}")
_MICROSECONDS = re.compile("[0-9]{7,18}")
_PUT_TOGETHER = re.compile("([0-9]{9,11}):[^:|]*:uuid_br:([0-9A-Za-z-]{1,64})")

_TEXT_MOST, _HISTORY_MOST = 255, 10_000


@dataclass(frozen=True, slots=True)
class Record:
    """A leg's record: `content` as it came, and its `variables`, each percent-encoded."""

    content: Mapping[str, Any]
    variables: Mapping[str, Any]

    def text(self, name: str) -> str:
        """Return a variable, empty if there is none.

        With encode-values=false it is not encoded; percent signs are rare in what is read here.
        """
        value = self.variables.get(name)
        return unquote(value, errors="replace").strip() if isinstance(value, str) else ""

    def __getitem__(self, name: str) -> str:
        """Return a variable likewise; raises NotUnderstood for one of unreasonable length."""
        value = self.text(name)
        if len(value) > _TEXT_MOST:
            raise NotUnderstood(f"{name} has more than {_TEXT_MOST} characters")
        return value

    @property
    def uuid(self) -> str:
        """The leg's own id."""
        return self["uuid"]

    @property
    def origin(self) -> str:
        """The id of the leg for which this one was made; empty for one that began a call.

        A queue calls its agents by itself, and says for whom. `call_uuid` counts last: FreeSWITCH changes it
        each time that legs are put together or parted.
        """
        if not self.went_out:
            return ""
        told = (
            self["cc_member_session_uuid"] if self["cc_side"] == "agent" else "",
            self["originating_leg_uuid"],
            self["originator"],
            self["call_uuid"],
        )
        return next((one for one in told if one and one != self.uuid), "")

    @property
    def call_id(self) -> str:
        """What the legs of a call have in common."""
        return self["calllogd_call"] or self.origin or self.uuid

    @property
    def went_out(self) -> bool:
        """Whether the switch made this leg."""
        return bool(_at(self.content, "channel_data").get("direction") == "outbound")

    @property
    def direction(self) -> str | None:
        """The direction that the dialplan has told, one of `pbx`'s."""
        told = self["calllogd_direction"].lower()
        if told and told not in DIRECTIONS:
            raise NotUnderstood("calllogd_direction should be in, out or internal")
        return DIRECTIONS.get(told)

    @property
    def is_behind_loopback(self) -> bool:
        """Whether the leg is behind a loopback channel, of which the half before it is told of as well."""
        return self["loopback_leg"] == "B" or any(
            str(one.get("chan_name")).startswith("loopback/") for one in self._originators()
        )

    def first(self, name: str) -> str:
        """Return what the leg had first of its caller's profile: each transfer makes a new one."""
        profiles = [_at(one, "caller_profile") for one in self._flow()]
        value = next((one.get(name) for one in reversed(profiles) if one), "")
        if not isinstance(value, str):
            return ""
        if len(value) > _TEXT_MOST:
            raise NotUnderstood(f"{name} has more than {_TEXT_MOST} characters")
        return value.strip()

    def number(self, name: str) -> int | None:
        """Return the whole number that a variable is, None if it is not one."""
        text = self[name]
        return int(text) if _NUMBER.fullmatch(text) else None

    def moment(self, name: str, now: float) -> float | None:
        """Return the Unix seconds of a variable; None if there are none, or 0."""
        seconds = self.number(name)
        return None if seconds is None else _moment(seconds, now)

    def bridged_at(self, now: float) -> float | None:
        """Return when the leg was first put together with another."""
        told = [_at(one, "times").get("bridged_time") for one in self._flow()]
        texts = [one for one in told if isinstance(one, str) and _MICROSECONDS.fullmatch(one)]
        moments = [_moment(int(one) // 1_000_000, now) for one in texts]
        return min((one for one in moments if one is not None), default=None)

    def put_together(self, now: float) -> Sequence[tuple[float, str]]:
        """Return when the leg was given to which other one, as after an attended transfer; in their order."""
        history = self.text("transfer_history")[:_HISTORY_MOST]
        told = ((_moment(int(at), now), peer) for at, peer in _PUT_TOGETHER.findall(history))
        return sorted((at, peer) for at, peer in told if at is not None)

    def last_of(self, application: str) -> str:
        """Return with what an application was run last; empty if it was not."""
        log = _at(self.content, "app_log").get("applications")
        runs = [one for one in log if isinstance(one, dict)] if isinstance(log, list) else []
        told = [one.get("app_data") for one in runs if one.get("app_name") == application]
        return next((one.strip() for one in reversed(told) if isinstance(one, str)), "")

    def _flow(self) -> list[Mapping[str, Any]]:
        flow = self.content.get("callflow")
        return [one for one in flow if isinstance(one, dict)] if isinstance(flow, list) else []

    def _originators(self) -> list[Mapping[str, Any]]:
        found = [_at(_at(one, "caller_profile"), "originator") for one in self._flow()]
        lists = [one.get("originator_caller_profiles") for one in found]
        return [
            one
            for profiles in lists
            if isinstance(profiles, list)
            for one in profiles
            if isinstance(one, dict)
        ]


def _moment(seconds: int, now: float) -> float | None:
    try:
        return start_of(float(seconds), now)
    except InputRefused:
        return None


def _at(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else _NOTHING
