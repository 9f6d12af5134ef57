"""Follows the files in which Asterisk writes its calls: each line is taken once, whatever is killed."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from calllogd.database.followed import LedgerOfFollowed, move
from calllogd.database.unread import LedgerOfUnread
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.errors import InputRefused, LeaseLost, StorageError
from calllogd.files.growing_file import end_of, moved, read_on
from calllogd.ports import Clock, FilePlace, Message
from calllogd.voip.cdr import complete_records
from calllogd.voip.provider import LeavesRecords, NotUnderstood, left
from calllogd.voip.usecase.save_call_event import message_of

POLL_S = 1.0
TROUBLE_S = 10.0
"""How long a file is left alone that could not be read."""

_log = logging.getLogger(__name__)


@runtime_checkable
class WritesCdrs(LeavesRecords, Protocol):
    """A VoIP service that writes its calls into a file."""

    cdr_file: Path | None


class _Followed(NamedTuple):
    account_id: int
    service: str
    path: Path
    provider: WritesCdrs


class FollowCdrWorker:
    """Follows the CDR file of each account's service; `providers` by the service's name and account id."""

    def __init__(
        self,
        *,
        providers: Mapping[tuple[str, str], object],
        calls: LedgerOfCalls,
        followed: LedgerOfFollowed,
        unread: LedgerOfUnread,
        clock: Clock,
    ) -> None:
        self._files = [
            _Followed(int(account_id), name, provider.cdr_file, provider)
            for (name, account_id), provider in providers.items()
            if isinstance(provider, WritesCdrs) and provider.cdr_file is not None
        ]
        self._calls = calls
        self._followed = followed
        self._unread = unread
        self._clock = clock

    async def run(self) -> None:
        """Go on for ever; no file waits for another."""
        async with asyncio.TaskGroup() as group:
            for file in self._files:
                group.create_task(self._follow(file))
        await asyncio.Event().wait()

    async def once(self) -> None:
        """Read each file to its end; raises StorageError."""
        for file in self._files:
            try:
                while await self._step(file):
                    pass
            except (OSError, LeaseLost) as error:
                _log.warning("%s is not followed: %s", file.path, error)

    async def _follow(self, file: _Followed) -> None:
        while True:
            wait_s = 0.0
            try:
                if not await self._step(file):
                    wait_s = POLL_S
            except LeaseLost:
                wait_s = POLL_S  # another process has read on: so shall we, from where it is
            except (OSError, StorageError) as error:
                _log.warning("%s is not followed: %s", file.path, error)
                wait_s = TROUBLE_S
            await asyncio.sleep(wait_s)

    async def _step(self, file: _Followed) -> bool:
        """Take what follows; return whether there may be more."""
        place = await self._place(file)
        piece = await asyncio.to_thread(read_on, file.path, place)
        if piece.gap:
            _log.warning(
                "%s is another file than before, and the old one is not beside it:"
                " what had not been read of it can be had by `calllogd import`",
                file.path,
            )
        records, rest = complete_records(piece.content)
        if not records and piece.at == place:
            return False
        taken = len(piece.content) - len(rest)
        to = await asyncio.to_thread(moved, file.path, piece.at, taken)
        now = self._clock.now()
        messages = await self._messages(file, records, now)
        await self._calls.accept_all(
            messages,
            now,
            lambda connection: move(
                connection, file.account_id, file.service, file.path, before=place, to=to
            ),
        )
        return True

    async def _place(self, file: _Followed) -> FilePlace:
        """Return how far the file has been read: of one that is new to us, what it has by now is left out."""
        reached = await self._followed.reached(file.account_id, file.service, file.path)
        if reached is not None:
            return reached
        end = await asyncio.to_thread(end_of, file.path)
        _log.info("following %s from its byte %d on", file.path, end.offset)
        return await self._followed.begin(file.account_id, file.service, file.path, end)

    async def _messages(self, file: _Followed, records: Sequence[bytes], now: float) -> Sequence[Message]:
        """Return what records say; those that say nothing are kept, which repeats itself without harm."""
        messages = []
        for record in records:
            try:
                told = file.provider.told_of(record, now)
            except (NotUnderstood, InputRefused) as error:
                await self._unread.keep(file.account_id, file.service, left(record), str(error), now)
            else:
                messages += [message_of(file.service, one, record) for one in told]
        return messages
