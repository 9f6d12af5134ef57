"""Takes the messages that FreeSWITCH could not deliver and has left in a folder."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from calllogd.database.unread import LedgerOfUnread
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.errors import InputRefused, StorageError
from calllogd.ports import Clock
from calllogd.voip.provider import LeavesRecords, NotUnderstood, left
from calllogd.voip.usecase.save_call_event import message_of

LOOK_S = 30.0
FILE_BYTES = 1024 * 1024
DONE = ".taken"
"""Added to the name of a file that has been taken; it is left to the operator."""

_log = logging.getLogger(__name__)


@runtime_checkable
class LeavesErrorFiles(LeavesRecords, Protocol):
    """A VoIP service that leaves a file for each message that it could not deliver."""

    error_files: Path | None


class _Folder(NamedTuple):
    account_id: int
    service: str
    path: Path
    provider: LeavesErrorFiles


class ErrorFilesWorker:
    """Looks into the folder of each account's service; `providers` by the service's name and account id."""

    def __init__(
        self,
        *,
        providers: Mapping[tuple[str, str], object],
        calls: LedgerOfCalls,
        unread: LedgerOfUnread,
        clock: Clock,
    ) -> None:
        self._folders = [
            _Folder(int(account_id), name, provider.error_files, provider)
            for (name, account_id), provider in providers.items()
            if isinstance(provider, LeavesErrorFiles) and provider.error_files is not None
        ]
        self._calls = calls
        self._unread = unread
        self._clock = clock
        self._stuck: set[Path] = set()

    async def run(self) -> None:
        """Go on for ever."""
        while self._folders:
            try:
                await self.once()
            except StorageError as error:
                _log.warning("messages that were left in files cannot be kept: %s", error)
            await asyncio.sleep(LOOK_S)
        await asyncio.Event().wait()

    async def once(self) -> None:
        """Take what is in the folders; raises StorageError."""
        for folder in self._folders:
            try:
                for file in await asyncio.to_thread(_files, folder.path):
                    await self._take(folder, file)
            except OSError as error:
                _log.warning("%s cannot be looked into: %s", folder.path, error.strerror)

    async def _take(self, folder: _Folder, file: Path) -> None:
        """Take a file and rename it; one that cannot be renamed is not looked at again by this process."""
        if file in self._stuck:
            return
        content = await asyncio.to_thread(_read, file)
        now = self._clock.now()
        try:
            told = folder.provider.told_of(content, now)
        except (NotUnderstood, InputRefused) as error:
            await self._unread.keep(folder.account_id, folder.service, left(content), str(error), now)
        else:
            await self._calls.accept_all([message_of(folder.service, one, content) for one in told], now)
        try:
            await asyncio.to_thread(file.rename, file.with_name(file.name + DONE))
        except OSError as error:
            self._stuck.add(file)
            _log.warning("%s is taken, but cannot be renamed: %s", file, error.strerror)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.json") if file.is_file())


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(FILE_BYTES)
