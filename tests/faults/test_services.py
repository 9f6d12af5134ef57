"""Calls as each VoIP service tells them, in any order and twice, to a daemon: each stands in Kommo once."""

import asyncio
import os
import random
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from calllogd.domain.call import CallStatus, Direction
from calllogd.domain.phone import digits
from calllogd.voip.provider import services
from calllogd.voip.simulation import Kind, Scene, simulations
from calllogd.voip.webhook import Webhook
from tests.faults.machine import ACCOUNT, KNOWN, Installation, all_of, installation, until
from tests.recordings.sounds import wav
from tests.voip.configured import configured

EXTENSIONS = ["101", "102", "103"]
USERS = {"101": 111, "102": 112}
SOUND = wav(4000)

SERVICES = sorted(simulations().keys() & services().keys())


class VoipApi:
    """What services keep: a recording at every address, and the link to one where Zadarma is asked for it."""

    def __init__(self) -> None:
        self.url = ""

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/v1/pbx/record/request/", self._link)
        app.router.add_get("/{path:.*}", self._sound)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = site.name.replace("http://0.0.0.0", "http://127.0.0.1")
        return runner

    async def _link(self, request: web.Request) -> web.Response:
        link = f"{self.url}/1.wav"
        return web.json_response({"status": "success", "link": link, "links": [link]})

    async def _sound(self, request: web.Request) -> web.Response:
        return web.Response(body=SOUND, content_type="audio/wav")


@pytest.fixture
def _recording(tmp_path: Path) -> None:
    """Leave a recording where a telephone system on this machine would; it has been there for a while."""
    file = tmp_path / "1.wav"
    file.write_bytes(SOUND)
    os.utime(file, (time.time() - 60,) * 2)


def in_toml(value: Any) -> Any:
    """Return a setting as it stands in a configuration, of one that has been read."""
    if isinstance(value, tuple | frozenset):
        return [in_toml(one) for one in value]
    return value if isinstance(value, str | int | list | dict) else str(value)


def settings_of(name: str, api: str, folder: Path) -> dict[str, Any]:
    """Return the settings of a service whose recordings are here."""
    known = services()[name].settings
    values = {key: setting.default for key, setting in known.items()} | dict(configured(name))
    if "api_url" in known:
        values["api_url"] = api
    if name in ("asterisk", "freeswitch"):
        values["recordings"] = folder
    return values


def recording_of(name: str, api: str) -> str:
    """Return what a service says of where a recording is."""
    if name in ("asterisk", "freeswitch"):
        return "1.wav"
    if name in ("mango", "zadarma"):
        return "1700000000.1"
    return f"{api}/1.wav"


def scenes(name: str, api: str) -> list[Scene]:
    """Return a call of each kind, with a recording if anybody talks; all have ended just now."""
    recorded = simulations()[name].recorded - {Kind.MISSED}
    return [
        Scene(
            kind=kind,
            id=secrets.token_hex(16),
            phone=KNOWN,
            line="+15005550006",
            extensions=EXTENSIONS,
            started_at=float(int(time.time()) - 40),
            ring_s=7,
            talk_s=32,
            recording=recording_of(name, api) if kind in recorded else None,
        )
        for kind in sorted(simulations()[name].kinds)
    ]


async def tell(here: Installation, name: str, account_id: int, sent: list[Webhook]) -> None:
    """Send messages to the daemon, each at its address there; all have to be taken."""
    public = f"{here.daemons[0].url}/voip/{name}/{account_id}"
    for message in sent:
        url = URL(message.url, encoded=True)
        assert str(url).startswith(public)
        async with here.http.request(
            message.method, url, data=message.body or None, headers=message.headers
        ) as answer:
            assert answer.status in range(200, 300), (name, answer.status, await answer.text())
            assert b"not_understood" not in await answer.read()


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.usefixtures("_recording")
async def test_each_call_stands_once_with_all_that_was_told(name: str, tmp_path: Path) -> None:
    api = VoipApi()
    runner = await api.start()
    try:
        async with installation(tmp_path) as here:
            here.sections["policy"] |= {"leg_wait": 1}
            values = settings_of(name, api.url, tmp_path)
            known = services()[name].settings
            here.accounts[0]["voip"][name] = {
                key: in_toml(value)
                for key, value in values.items()
                if key in known and value not in (None, ())
            }
            daemon = here.daemon()
            await daemon.ready()
            played = scenes(name, api.url)
            await play(here, name, values, played)
            simulation = simulations()[name]
            parts = sum(scene.kind in simulation.moved for scene in played)
            await here.settled(len(played) + parts, 40)
            for scene in played:
                await stands(here, simulation.call_id(scene), scene)
            assert len(here.kommo.account(ACCOUNT).notes) == len(played)
    finally:
        await runner.cleanup()


async def play(here: Installation, name: str, values: Mapping[str, Any], played: list[Scene]) -> None:
    """Tell of calls, each message twice, all in any order."""
    service, simulation = services()[name], simulations()[name]
    address = service.address(f"{here.daemons[0].url}/voip/{name}/{ACCOUNT}", values)

    def messages() -> list[Webhook]:
        tales = [simulation.messages(scene, address, values, time.time()) for scene in played]
        return [message for tale in tales for message in (*tale, *tale)]

    # Zones are read from files.
    sent = await asyncio.to_thread(messages)
    random.Random(name).shuffle(sent)  # noqa: S311
    lanes = [sent[lane::4] for lane in range(4)]
    await all_of(tell(here, name, ACCOUNT, lane) for lane in lanes)


async def stands(here: Installation, call_id: str, scene: Scene) -> None:
    """Fail unless the call of a scene stands in Kommo once, with all of it."""
    if scene.recording is not None:
        await until(lambda: _plays(here, call_id), 30, every_s=0.2)
    (entry,) = here.entries(call_id)
    (note,) = [one for one in here.kommo.account(ACCOUNT).notes if one.params.get("uniq") == call_id]
    wanted = "call_out" if scene.direction is Direction.OUTBOUND else "call_in"
    assert note.note_type == wanted, scene.kind
    assert digits(str(entry.params["phone"])) == digits(KNOWN)
    assert entry.params["duration"] == scene.talk, scene.kind
    assert entry.params.get("call_responsible") == USERS[scene.extension], scene.kind
    assert entry.params["call_status"] == (6 if scene.status is CallStatus.NO_ANSWER else 4)


async def _plays(here: Installation, call_id: str) -> bool:
    (entry,) = here.entries(call_id)
    return await here.played(entry) == SOUND
