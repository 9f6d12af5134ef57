"""Moved calls, told twice and in any order to a daemon that is killed: each stands once."""

import asyncio
import random
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from aiohttp import ClientError
from yarl import URL

from calllogd.voip.provider import services
from calllogd.voip.simulation import Kind, Scene, simulations
from calllogd.voip.webhook import Webhook
from tests.faults.machine import ACCOUNT, Installation, all_of, installation, unknown, until
from tests.voip.configured import configured

CALLS, KILLS, SENDERS = 60, 5, 12

SERVICE, SIMULATION = services()["vonage"], simulations()["vonage"]


def scene(number: int) -> Scene:
    """Return a transfer of a call of an unknown number."""
    return Scene(
        kind=Kind.TRANSFER,
        id=secrets.token_hex(16),
        phone=unknown(number),
        line="+15005550006",
        extensions=["101", "102"],
        started_at=float(int(time.time()) - 40),
        ring_s=7,
        talk_s=32,
    )


class Senders:
    """They send each message until it is taken, as services do."""

    def __init__(self, here: Installation) -> None:
        self.here = here
        self.taken = 0

    async def tell(self, messages: Sequence[Webhook]) -> None:
        """Send messages, some beside each other."""
        await all_of(self._tell_all(messages[lane::SENDERS]) for lane in range(SENDERS))

    async def _tell_all(self, messages: Sequence[Webhook]) -> None:
        for message in messages:
            while not await self._is_taken(message):
                await asyncio.sleep(0.05)
            self.taken += 1

    async def _is_taken(self, message: Webhook) -> bool:
        url = URL(message.url, encoded=True)
        try:
            async with self.here.http.post(url, data=message.body, headers=message.headers) as answer:
                return answer.status == 200
        except (ClientError, OSError, TimeoutError):
            return False


async def test_moved_calls_stand_once_through_kill_9(tmp_path: Path) -> None:
    async with installation(tmp_path) as here:
        # Most is told before anything is done, however long the daemon is away.
        here.sections["policy"] |= {"leg_wait": 10}
        settings = dict(configured("vonage"))
        here.accounts[0]["voip"]["vonage"] = {
            name: str(value) for name, value in settings.items() if name in SERVICE.settings and value
        }
        daemon = here.daemon()
        await daemon.ready()
        values = {**{name: setting.default for name, setting in SERVICE.settings.items()}, **settings}
        address = SERVICE.address(f"{daemon.url}/voip/vonage/{ACCOUNT}", values)
        played = [scene(number) for number in range(CALLS)]
        told = [SIMULATION.messages(one, address, values, time.time()) for one in played]
        sent = [message for messages in told for message in (*messages, *messages)]
        random.Random(1).shuffle(sent)  # noqa: S311
        senders, share = Senders(here), len(sent) // (KILLS + 1)
        telling = asyncio.create_task(senders.tell(sent))
        for kill in range(1, KILLS + 1):
            await until(lambda: senders.taken >= kill * share, 30)  # noqa: B023  awaited here
            daemon.kill()
            await daemon.ready()
        await telling
        await here.settled(2 * CALLS, 90)
        calls = {call_id: call for (_, call_id), call in (await here.calls()).items()}
        assert calls.keys() >= {SIMULATION.call_id(one) for one in played}
        logged = {call_id for call_id, call in calls.items() if call["state"] == "logged"}
        # Where a room is logged before its move is told, as on a slow machine, the call has the room's id.
        reasons = {call["last_error"] for call in calls.values() if call["state"] == "ignored"}
        assert reasons == {f"it is a part of call {call_id}" for call_id in logged}
        assert len(logged) == CALLS
        assert {call_id: len(here.entries(call_id)) for call_id in calls} == {
            call_id: int(call_id in logged) for call_id in calls
        }
