"""What a request to an account needs: the account's address, and a token that Kommo takes there."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import jwt

from calllogd.errors import AccountPaused, TokenRefused

YEAR_10000 = 253_402_300_800
"""No calendar goes further."""


@dataclass(frozen=True, slots=True)
class Access:
    """An account's address, and a token."""

    base_url: str
    token: str = field(repr=False)


class Authentication(Protocol):
    """One account's way to its tokens. Both methods raise KommoErrors that say that nothing was done."""

    async def access(self) -> Access:
        """Return a token that is good as far as is known."""
        ...

    async def renewed(self, refused: Access, cause: TokenRefused) -> Access:
        """Return another token than the one that Kommo has refused; raises `cause` or why there is none."""
        ...


class LongLived:
    """The token that a person has made in Kommo and put into the configuration: there is no other."""

    def __init__(self, base_url: str, token: str | None) -> None:
        self._access = None if token is None else Access(base_url, token)

    async def access(self) -> Access:
        """Return the token; raises AccountPaused when there is none."""
        if self._access is None:
            raise AccountPaused("the account has no access token yet, and is not installed by OAuth")
        return self._access

    async def renewed(self, refused: Access, cause: TokenRefused) -> Access:
        """Raise `cause`."""
        raise cause


def claims(token: str) -> dict[str, Any]:
    """Return what a token of Kommo's says about itself, unproven; empty for one that cannot be read."""
    try:
        return jwt.decode(
            token, options={"verify_signature": False, "verify_exp": False, "verify_aud": False}
        )
    # ValueError: what is no Unicode. RecursionError: a header of nothing but brackets.
    except (jwt.PyJWTError, ValueError, RecursionError):
        return {}


def token_until(token: str) -> float | None:
    """Return the Unix second at which a token ends by its own words; None if it does not say."""
    until = claims(token).get("exp")
    is_time = isinstance(until, int | float) and not isinstance(until, bool) and 0 < until < YEAR_10000
    return float(until) if is_time and until is not None else None
