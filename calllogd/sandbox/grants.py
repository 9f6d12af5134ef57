"""Authorisation codes and pairs of tokens: which are good, and until when. No I/O; the clock is given."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from calllogd.sandbox.api import BAD_REQUEST, UNAUTHORIZED, Refused, problem

CODE_LIFE_S: Final = 20 * 60
REVOKED: Final = "Token has been revoked"
CODE_REVOKED: Final = "Authorization code has been revoked"
CODE_EXPIRED: Final = "Authorization code has expired"
DEAD: Final = float("-inf")


@dataclass(slots=True, kw_only=True, eq=False)
class Pair:
    """An access token and the refresh token that came with it; each is good before its time."""

    account_id: int
    access: str = field(repr=False)
    refresh: str = field(repr=False)
    access_until: float
    refresh_until: float
    former: Pair | None = field(default=None, repr=False)
    """The pair this one was made from, while that one stays good for as long as this one is not used."""

    def kill(self) -> None:
        """Make both tokens bad for good."""
        self.access_until = self.refresh_until = DEAD


@dataclass(slots=True)
class _Code:
    account_id: int
    until: float


class Grants:
    """The codes and tokens of all accounts; of those that are bad it still knows whose they were."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._codes: dict[str, _Code] = {}
        self._by_access: dict[str, Pair] = {}
        self._by_refresh: dict[str, Pair] = {}
        self._of_account: dict[int, list[Pair]] = {}

    def code(self, account_id: int) -> str:
        """A new code, good once within `CODE_LIFE_S`."""
        code = secrets.token_urlsafe(48)
        self._codes[code] = _Code(account_id, self._now() + CODE_LIFE_S)
        return code

    def given_out(self) -> set[str]:
        """Every code and token there has ever been."""
        return {*self._codes, *self._by_access, *self._by_refresh}

    def account_of(self, code_or_refresh: str) -> int | None:
        """Whose code or refresh token this is or was."""
        owner = self._codes.get(code_or_refresh) or self._by_refresh.get(code_or_refresh)
        return None if owner is None else owner.account_id

    def redeem(self, code: str) -> int:
        """Use a code up, and say whose it was. Raises Refused, 400, for one that is not good."""
        found = self._codes.get(code)
        if found is None or found.until == DEAD:
            raise refusal(BAD_REQUEST, CODE_REVOKED)
        if self._now() >= found.until:
            raise refusal(BAD_REQUEST, CODE_EXPIRED)
        found.until = DEAD
        return found.account_id

    def add(self, pair: Pair) -> None:
        """Put a new pair beside those that its account has."""
        self._by_access[pair.access] = self._by_refresh[pair.refresh] = pair
        now = self._now()
        known = self._of_account.get(pair.account_id, [])
        self._of_account[pair.account_id] = [
            it for it in known if now < max(it.access_until, it.refresh_until)
        ] + [pair]

    def opened_by(self, access: str) -> Pair | None:
        """The pair of an access token that is good now."""
        pair = self._by_access.get(access)
        return pair if pair is not None and self._now() < pair.access_until else None

    def renewable(self, refresh: str) -> Pair:
        """The pair of a refresh token that is good now. Raises Refused, 401, for one that is not."""
        pair = self._by_refresh.get(refresh)
        if pair is None or self._now() >= pair.refresh_until:
            raise refusal(UNAUTHORIZED, REVOKED)
        return pair

    def renew(self, old: Pair, new: Pair, *, until_used: bool) -> None:
        """Put a pair in the place of another, whose refresh token is bad from now on.

        `until_used`: not yet; the old pair stays good, both tokens of it, until the new one is first used.
        """
        self.use(old)
        if until_used:
            new.former = old
        else:
            old.refresh_until = DEAD
        self.add(new)

    def use(self, pair: Pair) -> None:
        """Take note that the pair got through to its client: the one it was made from is bad now."""
        if pair.former is not None:
            pair.former.kill()
            pair.former = None

    def revoke(self, account_id: int) -> None:
        """Make every token of the account bad."""
        for pair in self._of_account.pop(account_id, ()):
            pair.kill()

    def expire(self, account_id: int) -> None:
        """Make every access token of the account bad; refresh tokens stay as they are."""
        for pair in self._of_account.get(account_id, ()):
            pair.access_until = min(pair.access_until, self._now())


def refusal(status: int, hint: str) -> Refused:
    """An error of the token endpoint; the hint is what tells one from the other."""
    title = "Unauthorized" if status == UNAUTHORIZED else "Bad Request"
    return Refused(problem(status, title, "Authorization failed", hint=hint))
