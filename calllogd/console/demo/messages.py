"""What the VoIP service and the widget send to the daemon in the demo."""

import json
import time
from collections.abc import Mapping
from typing import NamedTuple

import jwt

from calllogd.config import Settings
from calllogd.console.demo.plays import Act, Play
from calllogd.domain.call import CallKey
from calllogd.sandbox import Card, SandboxKommo

USER = 111
"""The Kommo user of extension 101."""

TOKEN_S = 86400
"""How long a token of the widget is good; those of the real Kommo are good for half an hour."""

WEEK_S = 7 * 86400


_JSON = {"Content-Type": "application/json"}
_WIDGET = {Act.ANNOUNCE: ("PUT", ""), Act.RESULT: ("PUT", "/result"), Act.SKIP: ("POST", "/skip")}


class Message(NamedTuple):
    """A request to the daemon, of the call that it is about."""

    key: CallKey
    act: Act
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


def voip_headers(settings: Settings, account_id: int) -> dict[str, str]:
    """Return what shows that the VoIP service of an account is the sender."""
    return {"Authorization": f"Bearer {settings.accounts[account_id].voip['generic']['token']}"}


def widget_headers(settings: Settings, account_id: int) -> dict[str, str]:
    """Return what shows that the widget of an account is the sender, as Kommo gives it to browsers."""
    now, origin = int(time.time()), settings.accounts[account_id].base_url
    claims = {
        "iss": origin,
        "aud": settings.http.public_url,
        "iat": now,
        "nbf": now,
        "exp": now + TOKEN_S,
        "account_id": account_id,
        "user_id": USER,
    }
    token = jwt.encode(claims, settings.kommo.client_secret or "", algorithm="HS256")
    return {"X-Auth-Token": token, "Origin": origin}


def webhook(settings: Settings, play: Play, recording_url: str | None) -> Message:
    """Return the webhook that ends the call."""
    event = play.event() | ({} if recording_url is None else {"recording_url": recording_url})
    path = f"/voip/generic/{play.account_id}"
    headers = {**voip_headers(settings, play.account_id), **_JSON}
    return Message(play.key, Act.CALL, "POST", path, headers, json.dumps(event).encode())


def recording(settings: Settings, play: Play, sound: bytes) -> Message:
    """Return the upload of the recording."""
    path = f"/voip/generic/{play.account_id}/recordings/{play.call_id}"
    headers = {**voip_headers(settings, play.account_id), "Content-Type": "audio/mpeg"}
    return Message(play.key, Act.RECORDING, "PUT", path, headers, sound)


def announcement(settings: Settings, play: Play) -> Message:
    """Return the news that the call is being made in Kommo."""
    said = {"direction": play.direction, "phone": play.phone}
    return _from_widget(settings, play, Act.ANNOUNCE, said)


def result(settings: Settings, play: Play, on: Card | None) -> Message:
    """Return what the manager says of the call; `on` is what he chose."""
    said: dict[str, object] = {"rev": 1, "text": play.text, "direction": play.direction, "phone": play.phone}
    if on is not None:
        said["entity"] = {"type": on.ref.kind.value, "id": on.id}
    if play.todo:
        said["task"] = {"text": play.todo_text, "complete_till": int(time.time()) + WEEK_S}
    return _from_widget(settings, play, Act.RESULT, said)


def skip(settings: Settings, play: Play) -> Message:
    """Return that the manager gives no result."""
    return _from_widget(settings, play, Act.SKIP, {})


def _from_widget(settings: Settings, play: Play, act: Act, said: Mapping[str, object]) -> Message:
    method, what = _WIDGET[act]
    path = f"/widget/v1/calls/{play.call_id}{what}"
    headers = {**widget_headers(settings, play.account_id), **_JSON}
    return Message(play.key, act, method, path, headers, json.dumps(said).encode())


def look(settings: Settings, play: Play, by: int) -> Message:
    """Return the question of an account's widget how a call stands."""
    path = f"/widget/v1/calls/{play.call_id}"
    return Message(play.key, Act.ANNOUNCE, "GET", path, widget_headers(settings, by), b"")


def message(settings: Settings, kommo: SandboxKommo, play: Play, act: Act) -> Message:
    """Return the message of an act; raises ValueError for one that is none."""
    match act:
        case Act.CALL:
            return webhook(settings, play, kommo.recording_url(play.recording_name) if play.fetched else None)
        case Act.RECORDING:
            return recording(settings, play, kommo.recordings.bytes_of(play.recording_name))
        case Act.ANNOUNCE:
            return announcement(settings, play)
        case Act.RESULT:
            return result(settings, play, card(kommo, play))
        case Act.SKIP:
            return skip(settings, play)
        case _:
            raise ValueError(f"{act} is no message")


def card(kommo: SandboxKommo, play: Play) -> Card | None:
    """Return what the manager chooses, None if he leaves it to Kommo."""
    if play.on is None:
        return None
    account = kommo.account(play.account_id)
    cards = [*account.leads, *account.contacts, *account.companies]
    return next(card for card in cards if card.name.text == play.on)
