"""The accounts there are: those of the configuration and those that OAuth has installed, as one."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from calllogd.config import Account, Settings
from calllogd.database.accounts import Directory, LedgerOfAccounts
from calllogd.database.people import LedgerOfPeople
from calllogd.database.voip_calls import LedgerOfCalls
from calllogd.domain.account import Installed
from calllogd.domain.call import CallKey
from calllogd.errors import ConfigError
from calllogd.kommo.access import Authentication, LongLived, token_until
from calllogd.kommo.api import Api
from calllogd.kommo.authentication import Grants, KommoAuthentication
from calllogd.kommo.domains import Domains
from calllogd.kommo.kommo import KommoAccount
from calllogd.kommo.limiter import Limiter
from calllogd.kommo.oauth import KommoOAuth
from calllogd.kommo.words import Words
from calllogd.ports import AccountState, Clock, Pause, Standing, Unmapped
from calllogd.voip.proof import BearerToken
from calllogd.voip.provider import Provider, services
from calllogd.voip.usecase.hold import Timing

GENERIC_NAME = "generic"
"""The VoIP service that every account may have: its tokens are made by `calllogd voip-token`."""

EARLY_WARNING_S = 14 * 86_400.0
"""How long before Kommo stops serving an account its operator is told that he has to act."""


@dataclass(frozen=True, slots=True)
class KommoAccounts:
    """The way to Kommo for each account, unopened; `authentications` are those that renew themselves."""

    accounts: Mapping[int, KommoAccount]
    authentications: Mapping[int, KommoAuthentication]


def accounts_of(settings: Settings, directory: Directory) -> Mapping[int, Account]:
    """Return every account; what the configuration says of one counts more than what Kommo said."""
    found = {account_id: _added(one) for account_id, one in directory.installed.items()}
    for account_id, account in settings.accounts.items():
        installed = directory.installed.get(account_id)
        if installed is not None and account.access_token is None:
            region = account.region or installed.region
            account = replace(account, base_url=installed.base_url, region=region)  # noqa: PLW2901
        found[account_id] = account
    return {
        account_id: replace(
            account, extensions={**directory.extensions.get(account_id, {}), **account.extensions}
        )
        for account_id, account in found.items()
    }


def _added(one: Installed) -> Account:
    return Account(id=one.account_id, base_url=one.base_url, region=one.region, access_token=None)


def install_url(settings: Settings) -> str:
    """Return the page on which an administrator of Kommo allows the integration."""
    return f"{settings.http.public_url}/oauth/install"


def oauth_of(settings: Settings, timing: Timing, clock: Clock) -> KommoOAuth | None:
    """Return the integration, unopened; None if it is not configured."""
    kommo = settings.kommo
    if kommo.client_id is None or kommo.client_secret is None or kommo.redirect_uri is None:
        return None
    return KommoOAuth(
        client_id=kommo.client_id,
        client_secret=kommo.client_secret,
        redirect_uri=kommo.redirect_uri,
        domains=Domains(kommo.domains),
        timeout_s=timing.request,
        clock=clock,
    )


def kommo_accounts(
    settings: Settings,
    accounts: Mapping[int, Account],
    *,
    oauth: KommoOAuth | None,
    grants: Grants,
    clock: Clock,
    timing: Timing,
    link: Callable[[CallKey], str],
) -> KommoAccounts:
    """Return the way to Kommo for each account; `link` tells where a recording can be played."""
    total = Limiter(settings.kommo.rate_total, monotonic=time.monotonic)
    authentications = {
        account_id: KommoAuthentication(
            account_id,
            grants=grants,
            oauth=oauth,
            clock=clock,
            wait_s=timing.turn,
            timeout_s=timing.request,
            install_url=install_url(settings),
        )
        for account_id, account in accounts.items()
        if account.access_token is None and oauth is not None
    }
    made = {}
    for account_id, account in accounts.items():
        authentication: Authentication | None = authentications.get(account_id)
        api = Api(
            authentication=authentication or LongLived(account.base_url, account.access_token),
            limiters=(Limiter(settings.kommo.rate, monotonic=time.monotonic), total),
            timeout_s=timing.request,
            turn_s=timing.turn,
        )
        words = Words(
            source=settings.kommo.source, region=account.region, extensions=account.extensions, link=link
        )
        made[account_id] = KommoAccount(api=api, words=words)
    return KommoAccounts(made, authentications)


def providers_of(accounts: Mapping[int, Account], directory: Directory) -> dict[tuple[str, str], Provider]:
    """Return the VoIP services that can prove who they are, by their name and account id.

    Raises ConfigError for one that has settings, and none by which it could.
    """
    providers: dict[tuple[str, str], Provider] = {}
    for account_id, account in accounts.items():
        for name, service in services().items():
            made = [
                BearerToken(one.token, one.until)
                for one in directory.voip_tokens
                if (one.account_id, one.provider) == (account_id, name)
            ]
            values = account.voip.get(name)
            if values is None and not made:
                continue
            defaults = {key: setting.default for key, setting in service.settings.items()}
            provider = service.make(account_id, {**defaults, **(values or {})}, made)
            if provider is not None:
                providers[name, str(account_id)] = provider
            elif name != GENERIC_NAME:
                raise ConfigError(
                    f"accounts.{account_id}.voip.{name}: nothing is set by which {service.title} could prove"
                    f" who it is; see docs/voip/{name}.md"
                )
    return providers


def addresses_of(accounts: Mapping[int, Account]) -> Mapping[tuple[str, str], str]:
    """Return the addresses that VoIP services call where those are set, by their name and account id."""
    return {
        (name, str(account_id)): values["url"]
        for account_id, account in accounts.items()
        for name, values in account.voip.items()
        if values.get("url") is not None
    }


async def unmapped(
    settings: Settings, accounts: LedgerOfAccounts, people: LedgerOfPeople, now: float
) -> Sequence[Unmapped]:
    """Return the extensions that nobody has, those of the most calls first; see `LedgerOfPeople.unmapped`."""
    served = accounts_of(settings, await accounts.directory())
    return await people.unmapped({account.id: account.extensions for account in served.values()}, now)


async def standings(
    settings: Settings, accounts: LedgerOfAccounts, calls: LedgerOfCalls, now: float
) -> list[Standing]:
    """Return how every account stands that there is, or that there are calls of, by their ids."""
    directory = await accounts.directory()
    served = accounts_of(settings, directory)
    paused = {pause.account_id: pause for pause in await calls.pauses()}
    found = []
    for account_id in sorted({*served, *await calls.accounts()}):
        account, installed = served.get(account_id), directory.installed.get(account_id)
        if account is None:
            reason = "has calls, but is neither configured nor installed"
            found.append(Standing(account_id=account_id, name="", state=AccountState.UNKNOWN, reason=reason))
        else:
            found.append(_standing(settings, account, installed, paused.get(account_id), now))
    return found


def _standing(
    settings: Settings, account: Account, installed: Installed | None, pause: Pause | None, now: float
) -> Standing:
    until, advice = ends(settings, account, installed)
    state = AccountState.ACTIVE
    if is_removed(account, installed):
        state = AccountState.DISABLED
        advice = f"the integration was removed in Kommo; open {install_url(settings)}"
    elif pause is not None:
        state, advice = AccountState.PAUSED, pause.reason
    elif until is not None and until - now > EARLY_WARNING_S:
        advice = None
    name = account.base_url if installed is None else installed.name
    return Standing(account_id=account.id, name=name, state=state, reason=advice, token_until=until)


def is_removed(account: Account, installed: Installed | None) -> bool:
    """Tell whether an account has removed the integration, and has no token of the configuration."""
    return account.access_token is None and installed is not None and installed.disabled


def ends(
    settings: Settings, account: Account, installed: Installed | None
) -> tuple[float | None, str | None]:
    """Return when Kommo stops serving an account unless a person acts, and what he is to do then."""
    if account.access_token is not None:
        until = token_until(account.access_token)
        return (
            until,
            None if until is None else f"its access_token ends {_day(until)}: make a new one in Kommo",
        )
    if installed is None:
        return None, None
    again = f"open {install_url(settings)} again"
    if installed.trouble is not None:
        reason = f"its tokens cannot be renewed ({installed.trouble}) and end {_day(installed.expires_at)}"
        return installed.expires_at, f"{reason}: {again}"
    return installed.dead_at, f"its tokens have not been renewed and end {_day(installed.dead_at)}: {again}"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("on %Y-%m-%d at %H:%M UTC")
