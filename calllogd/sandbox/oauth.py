"""How integrations get into accounts: codes, tokens, and the hosts at which accounts live."""

import ipaddress
import secrets
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import jwt
from aiohttp import web
from yarl import URL

from calllogd.sandbox.api import METHOD_NOT_ALLOWED, OK, UNAUTHORIZED, Answer, ApiRequest, Refused, problem
from calllogd.sandbox.grants import Grants, Pair
from calllogd.sandbox.integration import PLATFORM, Integration, visit
from calllogd.sandbox.listener import Listener
from calllogd.sandbox.rules import Rules
from calllogd.sandbox.token_request import BY_CODE, TokenRequest
from calllogd.sandbox.world import Account

TOKENS_PATH: Final = "/oauth2/access_token"
SUBDOMAIN_PATH: Final = "/oauth2/account/current/subdomain"
METHODS: Final = {TOKENS_PATH: "POST", SUBDOMAIN_PATH: "GET"}
REFRESH_HEADER: Final = "X-Refresh-Token"
ACCESS_LIFE_S: Final = 86_400
REFRESH_LIFE_S: Final = 90 * 86_400
ACCOUNT_NOT_FOUND: Final = 101
SCOPES: Final = ("crm", "notifications")
JSON: Final = "application/json"


class OAuth:
    """The half of `SandboxKommo` that gives access.

    `integration`: who may ask for it, None for nobody; may be changed at any time, as may `access_life_s` and
    `refresh_life_s`, which say how long the tokens made from then on are good.
    """

    def __init__(self, *, now: Callable[[], float], rules: Rules, integration: Integration | None) -> None:
        self.integration = integration
        self.rules: Final = rules
        self.access_life_s = ACCESS_LIFE_S
        self.refresh_life_s = REFRESH_LIFE_S
        self.exchanges: Counter[int] = Counter()
        """Of each account the codes that were exchanged for tokens."""
        self.refreshes: Counter[int] = Counter()
        """Of each account the refresh tokens that were exchanged."""
        self.refused_refreshes: Counter[int] = Counter()
        """Of each account its refresh tokens that came and were no longer good."""
        self._now = now
        self._accounts: dict[int, Account] = {}
        self._listener: Final = Listener()
        self._grants: Final = Grants(now)
        self._key: Final = secrets.token_bytes(32)

    @property
    def url(self) -> str:
        """Address of the running server, without a slash at the end."""
        return self._listener.url

    def domain(self, account_id: int) -> str:
        """Host and port at which the account lives. Raises LookupError for an unknown account."""
        host, main = self._known(account_id).host, URL(self.url)
        if host is None:
            return main.authority
        return f"[{host}]:{main.port}" if ":" in host else f"{host}:{main.port}"

    def code(self, account_id: int) -> str:
        """A new authorisation code, good once within 20 minutes. Raises LookupError for no such account."""
        return self._grants.code(self._known(account_id).id)

    async def install(self, account_id: int) -> int:
        """Tell the integration that its widget was installed: the code comes unasked, without a state.

        Returns the status of the answer, 0 for none. Raises ValueError when there is no integration.
        """
        integration = self._integration()
        query = {
            "code": self.code(account_id),
            "referer": self.domain(account_id),
            "client_id": integration.client_id,
            "platform": PLATFORM,
            "from_widget": "1",
        }
        return await visit(integration.redirect(query))

    async def uninstall(self, account_id: int) -> int:
        """Revoke all tokens of the account, then tell the integration at its `disable_url`.

        Returns the status of the answer, 0 for none. Raises ValueError when there is no such address.
        """
        query, url = self.disable_query(account_id), self._integration().disable_url
        if url is None:
            raise ValueError("the integration has no disable_url")
        self.revoke(account_id)
        return await visit(URL(url).update_query(query))

    def disable_query(self, account_id: int) -> dict[str, str]:
        """What `uninstall` sends, signed. Raises ValueError when there is no integration."""
        return self._integration().disable_query(self._known(account_id).id)

    def given_out(self) -> set[str]:
        """Every code and token there has ever been, for whoever searches for traces of them."""
        return self._grants.given_out()

    def revoke(self, account_id: int) -> None:
        """End every token that OAuth gave to the account."""
        self._grants.revoke(self._known(account_id).id)

    def expire(self, account_id: int) -> None:
        """Let the account's access tokens be too old from now on; its refresh tokens are good as before."""
        self._grants.expire(self._known(account_id).id)

    async def add_host(self, host: str) -> None:
        """Listen at another address of this machine, at the same port, until `stop`.

        Raises ValueError for one that is not a loopback address, OSError when it cannot be had.
        """
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError("the sandbox listens on loopback addresses only")
        await self._listener.add(host)

    def rename(self, account_id: int, host: str) -> None:
        """Move the account to this host, where alone it is found. Raises ValueError for a strange one."""
        if host not in self._listener.hosts:
            raise ValueError(f"the sandbox does not listen at {host}")
        self._known(account_id).host = host

    def _known(self, account_id: int) -> Account:
        account = self._accounts.get(account_id)
        if account is None:
            raise LookupError(f"account {account_id}")
        return account

    def _integration(self) -> Integration:
        if self.integration is None:
            raise ValueError("the sandbox has no integration")
        return self.integration

    def _owner_of_grant(self, request: web.Request, asked: ApiRequest) -> Account | None:
        if asked.path == TOKENS_PATH:
            presented = TokenRequest.of(asked.body).presented
        else:
            presented = request.headers.get(REFRESH_HEADER, "")
        account_id = self._grants.account_of(presented)
        return None if account_id is None else self._accounts[account_id]

    def _oauth_answer(self, request: web.Request, asked: ApiRequest) -> Answer:
        """Do what a request to one of the addresses of OAuth asks, and say what came of it."""
        allowed = METHODS[asked.path]
        if asked.method != allowed:
            return problem(METHOD_NOT_ALLOWED, "Method Not Allowed", f"Allowed here: {allowed}")
        try:
            if asked.path == TOKENS_PATH:
                return self._granted(TokenRequest.of(asked.body))
            return self._whereabouts(request.headers.get(REFRESH_HEADER, ""))
        except Refused as refused:
            return refused.answer

    def _granted(self, wanted: TokenRequest) -> Answer:
        integration = self._integration()
        wanted.refuse_stranger(integration)
        if wanted.grant_type == BY_CODE:
            pair = self._pair(self._grants.redeem(wanted.code), integration)
            self._grants.add(pair)
            self.exchanges[pair.account_id] += 1
        else:
            old = self._renewable(wanted.refresh_token)
            pair = self._pair(old.account_id, integration)
            self._grants.renew(old, pair, until_used=self.rules.refresh_until_used)
            self.refreshes[pair.account_id] += 1
        body = {
            "token_type": "Bearer",
            "expires_in": self.access_life_s,
            "access_token": pair.access,
            "refresh_token": pair.refresh,
            "server_time": int(self._now()),
        }
        return Answer(OK, body, JSON)

    def _renewable(self, refresh: str) -> Pair:
        try:
            return self._grants.renewable(refresh)
        except Refused:
            if (account_id := self._grants.account_of(refresh)) is not None:
                self.refused_refreshes[account_id] += 1
            raise

    def _pair(self, account_id: int, integration: Integration) -> Pair:
        now = int(self._now())
        claims: dict[str, Any] = {
            "aud": integration.client_id,
            "jti": uuid.uuid4().hex,
            "iat": now,
            "nbf": now,
            "exp": now + self.access_life_s,
            "sub": str(self._accounts[account_id].users[0].id),
            "account_id": account_id,
            "base_domain": self.domain(account_id),
            "api_domain": URL(self.url).authority,
            "scopes": list(SCOPES),
        }
        return Pair(
            account_id=account_id,
            access=jwt.encode(claims, self._key, "HS256"),
            refresh=secrets.token_urlsafe(96),
            access_until=claims["exp"],
            refresh_until=now + self.refresh_life_s,
        )

    def _whereabouts(self, refresh: str) -> Answer:
        account = self._accounts[self._grants.renewable(refresh).account_id]
        # The top-level domain is unconfirmed: a loopback address has none.
        body = {
            "id": account.id,
            "subdomain": account.subdomain,
            "domain": self.domain(account.id),
            "top_level_domain": "com",
        }
        return Answer(OK, body, JSON)


def elsewhere(account: Account, request: web.Request) -> Answer | None:
    """The answer of a host at which the account does not live; None where it does."""
    if account.host is None or account.host == request.url.host:
        return None
    answer = problem(UNAUTHORIZED, "Unauthorized", "Account not found")
    return Answer(answer.status, {**(answer.body or {}), "status": ACCOUNT_NOT_FOUND}, answer.content_type)
