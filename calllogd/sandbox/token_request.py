"""What is asked of the token endpoint."""

import json
from dataclasses import dataclass, fields
from typing import Final, Self

from calllogd.sandbox.api import BAD_REQUEST, UNAUTHORIZED
from calllogd.sandbox.grants import refusal
from calllogd.sandbox.integration import Integration

BY_CODE: Final = "authorization_code"
BY_REFRESH: Final = "refresh_token"
WRONG_CLIENT: Final = "Client authentication failed"
WRONG_REDIRECT: Final = "redirect_uri does not match"
MISSING: Final = "Check that all required parameters have been provided"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TokenRequest:
    """The fields of the body; what is missing or no text is empty."""

    client_id: str = ""
    client_secret: str = ""
    grant_type: str = ""
    code: str = ""
    refresh_token: str = ""
    redirect_uri: str = ""

    @classmethod
    def of(cls, body: bytes) -> Self:
        """The request of its JSON; of a body that is none, one without fields."""
        try:
            given = json.loads(body)
        except ValueError:
            given = None
        if not isinstance(given, dict):
            return cls()
        names = [it.name for it in fields(cls)]
        return cls(**{name: given[name] for name in names if isinstance(given.get(name), str)})

    @property
    def presented(self) -> str:
        """The code or refresh token that is to be exchanged."""
        return self.code if self.grant_type == BY_CODE else self.refresh_token

    def refuse_stranger(self, integration: Integration) -> None:
        """Raise Refused unless the integration itself asks, and asks for something."""
        known = (integration.client_id, integration.client_secret)
        if (self.client_id, self.client_secret) != known:
            raise refusal(UNAUTHORIZED, WRONG_CLIENT)
        if self.grant_type not in {BY_CODE, BY_REFRESH} or not self.presented:
            raise refusal(BAD_REQUEST, MISSING)
        if self.redirect_uri != integration.redirect_uri:
            raise refusal(BAD_REQUEST, WRONG_REDIRECT)
