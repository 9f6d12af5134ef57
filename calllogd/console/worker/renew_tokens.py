"""Keeps the tokens of all accounts alive, and tells in time where a person has to act."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.retry import backoff_s
from calllogd.errors import AccountPaused, KommoError, StorageError
from calllogd.kommo.authentication import KommoAuthentication
from calllogd.log import log_token_trouble
from calllogd.ports import Clock

LOOK_S = 30.0
"""How often the ledger is asked whether it is time, at least: another process may have renewed."""

LEAST_S = 0.2

WARN_EVERY_S = 86_400.0
WARN_BEFORE_S = 14 * 86_400.0
"""A token that only a person can replace is warned of once a day from then on."""

_log = logging.getLogger(__name__)


class RenewTokensWorker:
    """Renews tokens ahead of their end. `ends`: when the tokens end that a person has to replace."""

    def __init__(
        self,
        authentications: Sequence[KommoAuthentication],
        *,
        calls: LedgerOfCalls,
        clock: Clock,
        ends: Mapping[int, float | None],
    ) -> None:
        self._authentications = authentications
        self._calls = calls
        self._clock = clock
        self._ends = ends

    async def run(self) -> None:
        """Go on for ever."""
        async with asyncio.TaskGroup() as group:
            for authentication in self._authentications:
                group.create_task(self._keep(authentication))
            group.create_task(self._warn())

    async def once(self) -> None:
        """Renew what it is time for, without waiting for what fails."""
        for authentication in self._authentications:
            try:
                await authentication.keep()
            except KommoError as error:
                await self._tell(authentication, error)

    async def _keep(self, authentication: KommoAuthentication) -> None:
        """Keep one account's tokens; trouble is told once, and again every day it lasts."""
        failed, told_at = 0, 0.0
        while True:
            try:
                renew_at = await authentication.keep()
                if failed:
                    # What has been held back meanwhile need not wait for its turn.
                    await self._calls.probe_paused(self._clock.now(), authentication.account_id)
                failed, told_at = 0, 0.0
                wait_s = min(LOOK_S, max(LEAST_S, renew_at - self._clock.now()))
            except KommoError as error:
                failed += 1
                wait_s = backoff_s(failed, 0.5)
                if isinstance(error, AccountPaused) and self._clock.now() >= told_at + WARN_EVERY_S:
                    told_at = self._clock.now()
                    await self._tell(authentication, error)
            except StorageError as error:
                _log.warning("tokens of %s cannot be kept: %s", authentication.account_id, error)
                wait_s = LOOK_S
            await asyncio.sleep(wait_s)

    async def _tell(self, authentication: KommoAuthentication, error: KommoError) -> None:
        """Say what is wrong; an account without a token is paused, so that everybody sees it."""
        log_token_trouble(authentication.account_id, error.reason, None)
        if authentication.expired and isinstance(error, AccountPaused):
            await self._calls.pause(authentication.account_id, error, self._clock.now())

    async def _warn(self) -> None:
        """Warn of tokens that end soon, every day."""
        while True:
            for account_id, until in self._ends.items():
                if until is not None and until - self._clock.now() < WARN_BEFORE_S:
                    log_token_trouble(account_id, "its access_token ends: make a new one in Kommo", until)
            await asyncio.sleep(WARN_EVERY_S)
