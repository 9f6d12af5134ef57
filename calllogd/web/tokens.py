"""The token of Kommo's widget: who uses it, as Kommo has signed it.

Kommo gives the browser a JWT (HS256, signed with the integration's secret) for each of its users; the widget
shows it in X-Auth-Token. Source: developers.kommo.com/docs/one-time-tokens, read 2026-11-22. A token may be
shown more than once: what it is used for is idempotent.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import jwt

from calllogd.errors import InputRefused
from calllogd.ports import Clock
from calllogd.voip.widget import WidgetUser

ALGORITHM = "HS256"
LEEWAY_S = 60
"""So much may Kommo's clock and ours differ."""

_NEEDED = ("iss", "aud", "exp", "nbf", "iat", "account_id", "user_id")
_OPTIONS: Any = {
    "verify_signature": True,
    "require": _NEEDED,
    "verify_aud": True,
    "strict_aud": True,
    # Checked here: the times by our own clock, the issuer by the account.
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
_PORTS = {"https": 443, "http": 80}


class WidgetTokens:
    """Checks tokens. `base_urls` are the addresses of the configured accounts, by their ids."""

    def __init__(
        self,
        *,
        client_id: str | None,
        client_secret: str | None,
        redirect_uri: str | None,
        base_urls: Mapping[int, str],
        clock: Clock,
    ) -> None:
        self._client_id = client_id
        self._secret = client_secret
        self._audience = None if redirect_uri is None else origin_of(redirect_uri)
        self._origins = {account_id: origin_of(url) for account_id, url in base_urls.items()}
        self._clock = clock

    @property
    def origins(self) -> frozenset[str]:
        """The pages from which browsers may ask: those of the configured accounts."""
        return frozenset(self._origins.values())

    def user(self, tokens: Sequence[str], origins: Sequence[str]) -> WidgetUser:
        """Return the user of a request by its X-Auth-Token and Origin headers, of which there is one each.

        Raises InputRefused (`unauthorized`). What is wrong with a token is told only of one that Kommo has
        signed for us.
        """
        if self._secret is None or self._audience is None:
            raise _refused(
                "the widget cannot be let in: the operator of calllogd should set kommo.client_secret and"
                " kommo.redirect_uri as they stand in Kommo's integration"
            )
        if len(tokens) != 1:
            raise _refused("the widget's token is needed, in one X-Auth-Token header")
        claims = self._claims(tokens[0], self._secret, self._audience)
        self._check_times(claims)
        return self._user(claims, origins)

    def origin(self, account_id: int, origins: Sequence[str]) -> str:
        """Return the page that a request for an account comes from, by its one Origin header.

        Raises InputRefused (`unauthorized`) unless it is the account's own, and the account there.
        """
        origin = self._origins.get(account_id)
        if origin is None or list(origins) != [origin]:
            raise _refused("the request's Origin should be the Kommo account that issued the token")
        return origin

    def serves(self, account_id: int, origin: str) -> bool:
        """Tell whether an account is there, and has this page."""
        return self._origins.get(account_id) == origin

    def _claims(self, token: str, secret: str, audience: str) -> Mapping[str, Any]:
        try:
            return jwt.decode(token, secret, algorithms=[ALGORITHM], audience=audience, options=_OPTIONS)
        except jwt.InvalidAudienceError as error:
            raise _refused(
                f"the token is for another address than {audience}: kommo.redirect_uri should be the redirect"
                " address that stands in Kommo's integration"
            ) from error
        except jwt.MissingRequiredClaimError as error:
            raise _refused(f"the token has no {error.claim}") from error
        # ValueError: what is no Unicode. RecursionError: a header of nothing but brackets.
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise _refused(
                "the token is damaged, or is not signed with kommo.client_secret, which should be the secret"
                " key of Kommo's integration"
            ) from error

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._clock.now()
        over_s = now - _moment(claims, "exp")
        if over_s >= LEEWAY_S:
            raise _refused(
                f"the token expired {over_s:.0f} s ago by calllogd's clock: a new one is needed, or that"
                " clock is fast"
            )
        ahead_s = max(_moment(claims, "nbf"), _moment(claims, "iat")) - now
        if ahead_s > LEEWAY_S:
            raise _refused(f"the token is not valid for another {ahead_s:.0f} s: calllogd's clock is slow")

    def _user(self, claims: Mapping[str, Any], origins: Sequence[str]) -> WidgetUser:
        account_id, user_id = _number(claims, "account_id"), _number(claims, "user_id")
        origin = self._origins.get(account_id)
        if origin is None:
            raise _refused("the token's account is not configured in calllogd")
        if claims["iss"] != origin:
            raise _refused("the token was not issued at the account's base_url, as configured in calllogd")
        self.origin(account_id, origins)
        client = claims.get("client_uuid")
        if client is not None and self._client_id is not None and client != self._client_id:
            raise _refused("the token is of another integration than kommo.client_id")
        is_admin = claims.get("is_admin")
        return WidgetUser(account_id, user_id, origin, is_admin if isinstance(is_admin, bool) else None)


def origin_of(url: str) -> str:
    """Return scheme, host and port of an address as browsers write them: a usual port is left out."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _moment(claims: Mapping[str, Any], name: str) -> float:
    moment = claims[name]
    if isinstance(moment, bool) or not isinstance(moment, int | float) or not 0 <= moment < 2**53:
        raise _refused(f"the token's {name} is no time")
    return moment


def _number(claims: Mapping[str, Any], name: str) -> int:
    """Return a positive number, which Kommo may have written as a text."""
    value = claims[name]
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < len(str(2**53)):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**53:
        raise _refused(f"the token's {name} is no id")
    return value


def _refused(detail: str) -> InputRefused:
    return InputRefused("unauthorized", detail)
