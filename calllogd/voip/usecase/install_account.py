"""An administrator allows the integration in an account, or removes it again."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import phonenumbers

from calllogd.domain.account import Grant, TokenPair
from calllogd.errors import TokenRefused, TransientError
from calllogd.ports import Clock

ASK_TIMES = 3
"""How often Kommo is asked whose the tokens are: the code that brought them works only once."""


@dataclass(frozen=True, slots=True)
class Described:
    """What Kommo says of an account; `country` has two letters."""

    account_id: int
    name: str
    country: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """An account that allows the integration: where it is, and its first tokens."""

    account_id: int
    base_url: str
    name: str
    region: str | None
    pair: TokenPair


class OAuth(Protocol):
    """Kommo's side of it; both raise KommoErrors."""

    async def exchange(self, base_url: str, code: str) -> TokenPair:
        """Return the tokens for a code, which works once."""
        ...

    async def account(self, base_url: str, access_token: str) -> Described:
        """Return the account that a token is of; raises TokenRefused when Kommo takes it no more."""
        ...


class Accounts(Protocol):
    """Our side of it; all raise StorageError."""

    async def grant(self, account_id: int) -> Grant | None:
        """Return the account's tokens, None if it was never installed."""
        ...

    async def install(self, installation: Installation, now: float) -> bool:
        """Keep an account's first or newer tokens; return whether it was not installed before."""
        ...

    async def disable(self, account_id: int) -> bool:
        """Mark an account as no longer installed; return whether it was. Its calls and tokens stay."""
        ...


class Removal(StrEnum):
    """What became of the news that an account has removed the integration."""

    STOPPED = "stopped"
    STILL_ALLOWED = "still allowed"
    NOT_INSTALLED = "not installed"


class InstallAccountUseCase:
    """Turns a code into an account that calllogd serves."""

    def __init__(self, *, oauth: OAuth, accounts: Accounts, clock: Clock) -> None:
        self._oauth = oauth
        self._accounts = accounts
        self._clock = clock

    async def execute(self, base_url: str, code: str) -> tuple[Installation, bool]:
        """Return the account, and whether it was not installed before; its tokens are on disk then.

        Works once for each code: raises PermanentError when Kommo does not take it, other KommoErrors and
        StorageError when the installation has to be begun anew.
        """
        pair = await self._oauth.exchange(base_url, code)
        described = await self._described(base_url, pair)
        known = described.country in phonenumbers.SUPPORTED_REGIONS
        installation = Installation(
            account_id=described.account_id,
            base_url=base_url,
            name=described.name,
            region=described.country if known else None,
            pair=pair,
        )
        return installation, await self._accounts.install(installation, self._clock.now())

    async def _described(self, base_url: str, pair: TokenPair) -> Described:
        for _ in range(ASK_TIMES - 1):
            try:
                return await self._oauth.account(base_url, pair.access_token)
            except TransientError:
                continue
        return await self._oauth.account(base_url, pair.access_token)


class DisableAccountUseCase:
    """Stops serving an account that has removed the integration.

    The news is signed, but for ever: who has seen it once could tell it again. Kommo itself is asked.
    """

    def __init__(self, *, oauth: OAuth, accounts: Accounts, clock: Clock) -> None:
        self._oauth = oauth
        self._accounts = accounts
        self._clock = clock

    async def execute(self, account_id: int) -> Removal:
        """Return what became of it. Idempotent; raises KommoErrors when Kommo cannot be asked."""
        grant = await self._accounts.grant(account_id)
        if grant is None:
            return Removal.NOT_INSTALLED
        try:
            await self._oauth.account(grant.base_url, grant.pair.access_token)
        except TokenRefused as error:
            if self._clock.now() >= grant.pair.expires_at:
                raise TransientError(
                    "the account's token had ended before: its refusal says nothing"
                ) from error
            await self._accounts.disable(account_id)
            return Removal.STOPPED
        return Removal.STILL_ALLOWED
