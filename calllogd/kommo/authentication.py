"""The tokens of an account that was installed by OAuth, renewed by one process at a time.

A refresh token works once. Who renews holds a lease in the ledger, whatever threads and processes there are;
what has to be renewed is the pair that was refused or is about to end, and never one that somebody else has
put there meanwhile; and a new pair is on disk before it is used. An answer that is lost on the way costs no
more than Kommo makes it cost: the old pair is tried again, and serves as long as Kommo takes it.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import NoReturn, Protocol

from calllogd.domain.account import Grant, TokenPair
from calllogd.errors import (
    AccountPaused,
    ConfigError,
    KommoError,
    OutcomeUnknown,
    TokenRefused,
    TransientError,
)
from calllogd.kommo.access import Access
from calllogd.kommo.oauth import KommoOAuth
from calllogd.log import log_token_renewed
from calllogd.ports import Clock

LEASE_MARGIN_S = 10.0
"""How much longer a lease is held than its request may take: for the write that follows."""

POLL_S = 0.1
"""How often the ledger is looked at while another process renews."""


class Grants(Protocol):
    """The ledger of tokens."""

    async def grant(self, account_id: int) -> Grant | None:
        """Return the account's tokens, None if it was never installed."""
        ...

    async def claim_refresh(self, grant: Grant, now: float, lease_s: float) -> str | None:
        """Return a lease to renew this very pair; None if another holds it, or the pair is not in force."""
        ...

    async def renewed(self, grant: Grant, base_url: str, pair: TokenPair) -> bool:
        """Put a pair in place of the one it was got for; False if another is in force meanwhile."""
        ...

    async def release_refresh(self, grant: Grant, lease: str, trouble: str | None, now: float) -> None:
        """Give a lease back; `trouble` is why the pair could not be renewed, None if it may be yet."""
        ...


@dataclass(frozen=True, slots=True)
class _Unsaved:
    """A pair that Kommo has given and that is not on disk yet: the one it replaces is dead by now."""

    grant: Grant
    base_url: str
    pair: TokenPair


class KommoAuthentication:
    """One account's tokens; implements `Authentication`. `install_url` is where a person renews them.

    `wait_s`: how long a request waits for a renewal, which goes on without it; `timeout_s` is the time-out of
    one request to Kommo.
    """

    def __init__(
        self,
        account_id: int,
        *,
        grants: Grants,
        oauth: KommoOAuth,
        clock: Clock,
        wait_s: float,
        timeout_s: float,
        install_url: str,
    ) -> None:
        self.account_id = account_id
        self._grants = grants
        self._oauth = oauth
        self._clock = clock
        self._wait_s = wait_s
        # Up to three requests: renew, ask where the account has moved to, renew there.
        self._lease_s = 3 * timeout_s + LEASE_MARGIN_S
        self._install_url = install_url
        self._grant: Grant | None = None
        self._unsaved: _Unsaved | None = None
        self._renewing: asyncio.Task[Grant] | None = None

    async def access(self) -> Access:
        """Return a token that has not ended; one that has is renewed first."""
        grant = self._grant or await self._in_force()
        if self._is_over(grant):
            grant = await self._in_force()
            if self._is_over(grant):
                grant = await self._renew(grant)
        return Access(grant.base_url, grant.pair.access_token)

    async def renewed(self, refused: Access, cause: TokenRefused) -> Access:
        """Return another token than the one that was refused: one that is there, or a new one."""
        grant = await self._in_force()
        if grant.pair.access_token == refused.token:
            grant = await self._renew(grant)
        return Access(grant.base_url, grant.pair.access_token)

    async def keep(self) -> float:
        """Renew the tokens if it is time to; return the Unix second at which it will be.

        Raises what keeps them from being renewed; `expired` tells whether they serve nevertheless.
        """
        grant = await self._in_force()
        if self._clock.now() >= grant.pair.renew_at:
            grant = await self._renew(grant)
        return grant.pair.renew_at

    @property
    def expired(self) -> bool:
        """Whether there is no token that Kommo could take."""
        return self._grant is None or self._is_over(self._grant)

    async def close(self, patience_s: float) -> None:
        """Let a renewal that is under way end, for `patience_s`: its answer would be lost."""
        if self._renewing is not None and not self._renewing.done():
            await asyncio.wait([self._renewing], timeout=patience_s)
            self._renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._renewing

    def _is_over(self, grant: Grant) -> bool:
        return self._clock.now() >= grant.pair.expires_at

    async def _in_force(self) -> Grant:
        """Return the pair that stands in the ledger; raises AccountPaused if the account is not installed."""
        if self._unsaved is not None:
            await self._save(self._unsaved)
        try:
            grant = await self._grants.grant(self.account_id)
        except ConfigError as error:
            raise AccountPaused(str(error)) from error
        if grant is None or grant.disabled:
            self._grant = None
            what = "not installed yet" if grant is None else "no longer installed in Kommo"
            raise AccountPaused(f"the integration is {what}: open {self._install_url}")
        self._grant = grant
        return grant

    async def _renew(self, grant: Grant) -> Grant:
        """Return a pair newer than this one; whoever asks meanwhile waits for the same renewal."""
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renewal(grant), name=f"renew {self.account_id}")
            # It may fail when nobody waits for it any more; it has told the ledger.
            self._renewing.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            async with asyncio.timeout(self._wait_s):
                return await asyncio.shield(self._renewing)
        except TimeoutError:
            raise TransientError("the account's tokens are being renewed", retry_after_s=1.0) from None

    async def _renewal(self, grant: Grant) -> Grant:
        """Renew the pair, or see another process do it."""
        while (lease := await self._claim(grant)) is None:
            await asyncio.sleep(POLL_S)
            newer = await self._in_force()
            if newer.generation != grant.generation:
                return newer
        try:
            base_url, pair = await self._asked(grant)
        except KommoError as error:
            await self._not_renewed(grant, lease, error)
        self._unsaved = _Unsaved(grant, base_url, pair)
        newer = await self._in_force()
        log_token_renewed(self.account_id, newer.pair.expires_at)
        return newer

    async def _claim(self, grant: Grant) -> str | None:
        return await self._grants.claim_refresh(grant, self._clock.now(), self._lease_s)

    async def _asked(self, grant: Grant) -> tuple[str, TokenPair]:
        """Return newer tokens, and the address at which they were got: the account may have been renamed."""
        try:
            return grant.base_url, await self._oauth.refresh(grant.base_url, grant.pair.refresh_token)
        except TokenRefused:
            moved_to = await self._oauth.moved_to(grant.pair)
            if moved_to is None or moved_to == grant.base_url:
                raise
        return moved_to, await self._oauth.refresh(moved_to, grant.pair.refresh_token)

    async def _save(self, unsaved: _Unsaved) -> None:
        """Put a pair on disk; one that is not in force any more, after a new installation, is let go."""
        await self._grants.renewed(unsaved.grant, unsaved.base_url, unsaved.pair)
        self._unsaved = None

    async def _not_renewed(self, grant: Grant, lease: str, error: KommoError) -> NoReturn:
        """Give the lease back and raise what a request is to be told."""
        trouble = error.reason if isinstance(error, AccountPaused) else None
        await self._grants.release_refresh(grant, lease, trouble, self._clock.now())
        if isinstance(error, TokenRefused):
            reason = f"its tokens cannot be renewed: {error.reason}; open {self._install_url}"
            raise TokenRefused(reason, request_id=error.request_id) from error
        if isinstance(error, OutcomeUnknown):
            raise TransientError(f"the tokens may not have been renewed: {error.reason}") from error
        raise error
