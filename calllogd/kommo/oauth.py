"""Kommo's OAuth: tokens for a code, newer ones for a refresh token, and where an account has moved to.

The integration's secret is shown to hosts below kommo.domains and to no others. Source:
reference/kommo-api.md 7.
"""

import contextlib
import hashlib
import hmac
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import aiohttp
from yarl import URL

from calllogd import __version__
from calllogd.domain.account import TokenPair
from calllogd.errors import (
    AccountPaused,
    InputRefused,
    KommoError,
    OutcomeUnknown,
    PermanentError,
    TokenRefused,
    TransientError,
)
from calllogd.kommo.access import claims
from calllogd.kommo.answers import json_object, plain, retry_after_s, said
from calllogd.kommo.api import CONNECT_S
from calllogd.kommo.domains import Domains
from calllogd.ports import Clock
from calllogd.voip.usecase.install_account import Described

TOKEN_MOST = 16_384
"""Characters of a token. Kommo says of any length; those seen have about a thousand."""

LIFE_S = (1.0, 5 * 366 * 86_400.0)
"""An access token that lives shorter or longer than this is none of Kommo's."""

_PAUSES = (HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN)


class KommoOAuth:
    """The integration, as Kommo's token endpoints know it. Its methods raise KommoErrors."""

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
        domains: Domains,
        timeout_s: float,
        clock: Clock,
    ) -> None:
        self._client = {
            "client_id": client_id,
            "client_secret": client_secret,
            "redirect_uri": redirect_uri,
        }
        self._domains = domains
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(CONNECT_S, timeout_s))
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Prepare the session; connects to nothing yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=self._timeout,
            headers={"User-Agent": f"calllogd/{__version__}", "Accept": "application/json"},
        )

    async def close(self) -> None:
        """Close the session; safe to call twice."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def has_signed(self, client_id: str, account_id: str, signature: str) -> bool:
        """Tell whether Kommo has signed that this integration was removed from the account."""
        said = f"{self._client['client_id']}|{account_id}".encode()
        right = hmac.new(self._client["client_secret"].encode(), said, hashlib.sha256).hexdigest()
        same = hmac.compare_digest(_raw(client_id), _raw(self._client["client_id"]))
        return hmac.compare_digest(_raw(signature), right.encode()) and same

    async def exchange(self, base_url: str, code: str) -> TokenPair:
        """Return the tokens for a code, which works once.

        Raises PermanentError when Kommo does not take it, OutcomeUnknown when the answer is lost.
        """
        try:
            return await self._pair(base_url, {"grant_type": "authorization_code", "code": code})
        except TokenRefused as error:
            raise PermanentError(error.reason, request_id=error.request_id) from error

    async def refresh(self, base_url: str, refresh_token: str) -> TokenPair:
        """Return newer tokens; the old refresh token may be dead from then on.

        Raises TokenRefused when Kommo does not take it, OutcomeUnknown when the answer is lost.
        """
        return await self._pair(base_url, {"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def moved_to(self, pair: TokenPair) -> str | None:
        """Return the address at which the account of these tokens is now; None if Kommo does not tell.

        Tokens name a host that knows, `api_domain`, whatever the account is called meanwhile.
        """
        with contextlib.suppress(KommoError, InputRefused):
            asked = self._domains.base_url_of(str(claims(pair.access_token).get("api_domain")))
            path, shown = "oauth2/account/current/subdomain", {"X-Refresh-Token": pair.refresh_token}
            found = await self._send("GET", URL(asked) / path, headers=shown)
            return self._domains.base_url_of(str(found.get("domain")))
        return None

    async def account(self, base_url: str, access_token: str) -> Described:
        """Return the account that a token is of; raises TokenRefused when Kommo takes it no more."""
        shown = {"Authorization": f"Bearer {access_token}"}
        body = await self._send("GET", URL(base_url) / "api/v4/account", headers=shown)
        account_id, country = body.get("id"), body.get("country")
        if not isinstance(account_id, int) or isinstance(account_id, bool) or account_id < 1:
            raise TransientError("Kommo does not say which account it is")
        name = body.get("name") or body.get("subdomain") or URL(base_url).host
        return Described(account_id, str(name)[:200], country if isinstance(country, str) else None)

    async def _pair(self, base_url: str, grant: Mapping[str, str]) -> TokenPair:
        asked_at = self._clock.now()
        body = await self._send("POST", URL(base_url) / "oauth2/access_token", json={**self._client, **grant})
        access, refresh, life_s = (body.get(key) for key in ("access_token", "refresh_token", "expires_in"))
        if (
            not isinstance(life_s, int | float)
            or not LIFE_S[0] <= life_s <= LIFE_S[1]
            or not _is_token(access)
            or not _is_token(refresh)
        ):
            raise OutcomeUnknown("Kommo's answer has no tokens")
        return TokenPair(
            access_token=str(access),
            refresh_token=str(refresh),
            issued_at=asked_at,
            expires_at=asked_at + life_s,
        )

    async def _send(self, method: str, url: URL, **request: Any) -> Mapping[str, Any]:
        """Return the JSON object of a 2xx; raises a KommoError for everything else."""
        if self._session is None:
            raise TransientError("calllogd is stopping")
        try:
            async with self._session.request(method, url, allow_redirects=False, **request) as response:
                body = await json_object(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise TransientError(f"Kommo is not reached: {plain(error)}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OutcomeUnknown(f"no answer from Kommo: {plain(error)}") from error
        status = response.status
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
            raise OutcomeUnknown(f"Kommo answered with HTTP {status}")
        if status < HTTPStatus.MULTIPLE_CHOICES:
            if body is None:
                raise OutcomeUnknown("Kommo's answer is unreadable")
            return body
        raise _refusal(response, body)


def _refusal(response: aiohttp.ClientResponse, body: Mapping[str, Any] | None) -> KommoError:
    """Return the error of an answer that gives nothing."""
    status = response.status
    request_id = response.headers.get("X-Request-Id")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait_s = retry_after_s(body, response.headers)
        return TransientError("too many requests for Kommo", request_id=request_id, retry_after_s=wait_s)
    if status < HTTPStatus.BAD_REQUEST:
        return AccountPaused(f"{response.url.host} does not answer as Kommo does (HTTP {status})")
    kind = AccountPaused if status in _PAUSES else TokenRefused
    return kind(f"Kommo refuses (HTTP {status}{said(body)})", request_id=request_id)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _is_token(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= TOKEN_MOST and value.isascii() and value.isprintable()
