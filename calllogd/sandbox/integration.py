"""The integration that asks for access to accounts, and how Kommo itself calls on it."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from yarl import URL

USER_AGENT: Final = "amoService-oAuth-Code-Sender/1.0"
PLATFORM: Final = "2"
VISIT_S: Final = 10.0
NOBODY_ANSWERED: Final = 0


@dataclass(frozen=True, slots=True)
class Integration:
    """What Kommo knows of an integration. Raises ValueError for an address that is no HTTP address."""

    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    disable_url: str | None = None

    def __post_init__(self) -> None:
        for name, url in (("redirect_uri", self.redirect_uri), ("disable_url", self.disable_url)):
            if url is not None and not _is_web_address(url):
                raise ValueError(f"{name} is an http address")

    def redirect(self, query: Mapping[str, str]) -> URL:
        """The redirect address with these parameters; those it has by itself stay."""
        return URL(self.redirect_uri).update_query(query)

    def disable_query(self, account_id: int) -> dict[str, str]:
        """The parameters that tell of an uninstallation, signed."""
        said = f"{self.client_id}|{account_id}"
        signature = hmac.new(self.client_secret.encode(), said.encode(), hashlib.sha256).hexdigest()
        return {"client_uuid": self.client_id, "account_id": str(account_id), "signature": signature}


async def visit(url: URL) -> int:
    """Call on an address as Kommo does, and return the status; 0 when nobody answers within `VISIT_S`."""
    limit = aiohttp.ClientTimeout(total=VISIT_S)
    try:
        async with (
            aiohttp.ClientSession(headers={"User-Agent": USER_AGENT}, timeout=limit) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            return answer.status
    except (aiohttp.ClientError, TimeoutError, OSError):
        return NOBODY_ANSWERED


def _is_web_address(url: str) -> bool:
    parsed = URL(url)
    return parsed.scheme in {"http", "https"} and bool(parsed.host)
