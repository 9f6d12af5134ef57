"""The plays performed: what is sent to the daemon, what people do in Kommo, and `kill -9`."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import groupby

from calllogd.console.demo.messages import message
from calllogd.console.demo.plays import CHAOS, Act, Play
from calllogd.console.demo.stage import Stage
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.call import CallState
from calllogd.sandbox import Mishap, MishapKind

BETWEEN_S = 0.2
"""Pause between two plays: keeps each fault on the call that it is for, and lets one watch."""

LOOK_S = 0.05
AGAIN_S = 2.0
"""Kommo tells again of a contact with the number that was dialled, while nothing comes of it."""

STORM_S = 20.0
"""How long Kommo is out of order in the demo with --chaos."""

KILLS = 5


class Company:
    """Plays on a stage; `chaos`: everything at once, with faults and kills."""

    def __init__(self, on: Stage, calls: LedgerOfCalls, *, chaos: bool) -> None:
        self._on = on
        self._calls = calls
        self._chaos = chaos
        self._ended: Mapping[str, asyncio.Event] = {}
        self._doings: Mapping[Act, Callable[[Play], Awaitable[None]]] = {
            Act.LOGGED: self._logged,
            Act.ACCEPT: self._accept,
            Act.APPEAR: self._appear,
        }

    async def play(self, plays: Sequence[Play]) -> None:
        """Perform the plays; returns when all has been sent, which need not be when all is logged."""
        self._ended = {play.call_id: asyncio.Event() for play in plays}
        if self._chaos:
            await asyncio.gather(self._storm(), self._kill(), *(self._perform(play) for play in plays))
            return
        for _, alike in groupby(plays, key=lambda play: play.shows):
            together = list(alike)
            for play in together:
                if play.fault is not None:
                    self._on.kommo.faults.add(play.fault)
            await asyncio.gather(*(self._perform(play) for play in together))
            await asyncio.sleep(BETWEEN_S)

    async def _perform(self, play: Play) -> None:
        if play.after is not None:
            await self._ended[play.after].wait()
        if play.unready:
            not_ready = Mishap(MishapKind.MISSING, name=play.recording_name, times=play.unready)
            self._on.kommo.recordings.add(not_ready)
        for step in play.script:
            await asyncio.gather(*(self._do(play, act) for act in step))
        self._ended[play.call_id].set()

    async def _do(self, play: Play, act: Act) -> None:
        if act in self._doings:
            await self._doings[act](play)
            return
        said = message(self._on.settings, self._on.kommo, play, act)
        await asyncio.gather(*(self._on.send(said) for _ in range(play.sent)))

    async def _logged(self, play: Play) -> None:
        while not self._on.kommo.account(play.account_id).entries(play.call_id):
            await asyncio.sleep(LOOK_S)

    async def _accept(self, play: Play) -> None:
        account = self._on.kommo.account(play.account_id)
        for lead in account.unsorted:
            if lead.metadata.get("uniq") == play.call_id and account.open_incoming(lead.uid) is not None:
                account.accept(lead.uid)

    async def _appear(self, play: Play) -> None:
        """Give a contact the number once calllogd waits for one; Kommo's own webhook tells it."""
        while not await self._waits(play):
            await asyncio.sleep(LOOK_S)
        account = self._on.kommo.account(play.account_id)
        card = account.add_contact("Eve", phones=[play.phone])
        while await self._waits(play):
            # The real Kommo tries five times, the stand-in twice: too few for a daemon that is being killed.
            await asyncio.sleep(AGAIN_S)
            account.edit(card)

    async def _waits(self, play: Play) -> bool:
        call = await self._calls.get(play.key)
        return call is not None and call.state is CallState.AWAITING_CONTACT

    async def _storm(self) -> None:
        for fault in CHAOS:
            self._on.kommo.faults.add(fault)
        await asyncio.sleep(STORM_S)
        self._on.kommo.faults.clear()

    async def _kill(self) -> None:
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.2, 1.5))  # noqa: S311  any moment will do
            await asyncio.to_thread(self._on.daemon.kill)
            self._on.daemon.start()
            await self._on.ready()
