"""An account that was installed by OAuth, the tokens it gave, and when they have to be renewed."""

from dataclasses import dataclass, field

EARLY_S = 3600.0
EARLY_SHARE = 0.25
"""Tokens are renewed this long before they end: an hour, or a quarter of a shorter life."""

REFRESH_TOKEN_S = 90 * 86400.0
"""How long Kommo takes a refresh token. Source: Kommo's OAuth guide, reference/kommo-api.md 7.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """What Kommo gives for a code or for a refresh token; times are Unix seconds of this machine."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    issued_at: float
    expires_at: float

    @property
    def renew_at(self) -> float:
        """When to renew the pair although it still serves."""
        return self.expires_at - min(EARLY_S, EARLY_SHARE * (self.expires_at - self.issued_at))

    @property
    def dead_at(self) -> float:
        """When a person has to install the account again, unless the pair has been renewed."""
        return max(self.expires_at, self.issued_at + REFRESH_TOKEN_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The tokens in force for an account. `generation` grows with each new pair."""

    account_id: int
    base_url: str
    pair: TokenPair
    generation: int
    disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An account that was installed: `trouble` is why its tokens cannot be renewed, since `troubled_at`."""

    account_id: int
    base_url: str
    name: str
    region: str | None
    disabled: bool
    installed_at: float
    expires_at: float
    dead_at: float
    trouble: str | None = None
    troubled_at: float | None = None
