"""What requests work with, made from the parts of a process."""

import time

from calllogd.console.accounts import addresses_of, is_removed, standings, unmapped
from calllogd.console.parts import Parts
from calllogd.database.extensions import LedgerOfExtensions
from calllogd.database.open_calls import LedgerOfOpenCalls
from calllogd.errors import StorageError
from calllogd.kommo.domains import Domains
from calllogd.voip.usecase.assign_extensions import AssignExtensionsUseCase
from calllogd.voip.usecase.install_account import DisableAccountUseCase, InstallAccountUseCase
from calllogd.web.client_address import TrustedProxies
from calllogd.web.feed import Feed
from calllogd.web.limits import Limits
from calllogd.web.oauth_state import States
from calllogd.web.services import (
    DoorServices,
    KommoServices,
    OAuthServices,
    OperatorServices,
    RecordingServices,
    Services,
    WidgetServices,
)
from calllogd.web.tickets import Tickets
from calllogd.web.tokens import WidgetTokens


async def services_of(built: Parts, feed: Feed, session_key: bytes) -> Services:
    """Return the services; `feed`, and the operators' sessions by their key, outlive them."""
    http = built.settings.http
    return Services(
        providers=built.providers,
        save_call_event=built.save_call_event,
        public_url=http.public_url,
        addresses=addresses_of(built.served),
        ready=lambda: _ready(built),
        recordings=RecordingServices(
            store=built.recordings, links=built.links, calls=built.calls, save=built.save_recording
        ),
        widget=WidgetServices(
            tokens=_widget_tokens(built),
            save_call_result=built.save_call_result,
            show_call=built.show_call,
            door=await _door(built, feed),
        ),
        kommo=KommoServices(secrets=built.webhook_secrets, hear=built.hear_kommo),
        oauth=await _oauth(built),
        operators=_operators(built, session_key),
        limits=Limits(http.account_rate, http.address_rate, time.monotonic),
        trusted_proxies=TrustedProxies(http.trusted_proxies),
    )


async def _ready(built: Parts) -> None:
    """Raise StorageError unless the ledger can be written and no thread of the queue has died.

    While everything is built anew the queue is closed, and what comes is taken all the same.
    """
    await built.database.ping()
    if built.queue.broken:
        raise StorageError("the queue's threads are not running")


def _widget_tokens(built: Parts) -> WidgetTokens:
    kommo, installed = built.settings.kommo, built.directory.installed
    return WidgetTokens(
        client_id=kommo.client_id,
        client_secret=kommo.client_secret,
        redirect_uri=kommo.redirect_uri,
        base_urls={
            account.id: account.base_url
            for account in built.served.values()
            if not is_removed(account, installed.get(account.id))
        },
        clock=built.clock,
    )


async def _door(built: Parts, feed: Feed) -> DoorServices:
    fixed = {account.id: account.extensions for account in built.settings.accounts.values()}
    return DoorServices(
        users=built.users,
        tickets=Tickets(await built.keys.own_key("tickets"), built.clock),
        feed=feed,
        extensions=AssignExtensionsUseCase(tables=LedgerOfExtensions(built.database), fixed=fixed),
        open_calls=LedgerOfOpenCalls(built.database),
        result_wait_s=built.settings.policy.result_wait,
        clock=built.clock,
    )


async def _oauth(built: Parts) -> OAuthServices | None:
    kommo = built.settings.kommo
    if built.oauth is None or kommo.client_id is None:
        return None
    return OAuthServices(
        kommo=built.oauth,
        domains=Domains(kommo.domains),
        states=States(await built.keys.own_key("oauth-state"), built.clock),
        install=InstallAccountUseCase(oauth=built.oauth, accounts=built.accounts, clock=built.clock),
        disable=DisableAccountUseCase(oauth=built.oauth, accounts=built.accounts, clock=built.clock),
        client_id=kommo.client_id,
        consent_url=kommo.consent_url,
        public_url=built.settings.http.public_url,
        fixed=frozenset(one.id for one in built.served.values() if one.access_token is not None),
    )


def _operators(built: Parts, session_key: bytes) -> OperatorServices:
    settings = built.settings
    return OperatorServices(
        token=settings.admin.token,
        session_key=session_key,
        public_url=settings.http.public_url,
        metrics_from=settings.admin.metrics_from,
        calls=built.calls,
        standing=lambda: standings(settings, built.accounts, built.calls, built.clock.now()),
        unmapped=lambda: unmapped(settings, built.accounts, built.people, built.clock.now()),
        clock=built.clock,
    )
