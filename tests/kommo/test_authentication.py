"""Tokens, renewed by one process at a time: with a real ledger, and refresh tokens that work once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from calllogd.database.accounts import LedgerOfAccounts
from calllogd.database.database import Database
from calllogd.database.vault import Vault
from calllogd.domain.account import Grant, TokenPair
from calllogd.errors import AccountPaused, StorageError, TokenRefused, TransientError
from calllogd.kommo.access import Access
from calllogd.kommo.authentication import KommoAuthentication
from calllogd.kommo.domains import Domains
from calllogd.kommo.oauth import KommoOAuth
from calllogd.sandbox import Account, Fault, Integration, Rules, SandboxKommo
from calllogd.voip.usecase.install_account import (
    DisableAccountUseCase,
    InstallAccountUseCase,
    Removal,
)
from tests.fakes import ACCOUNT, ManualClock

INTEGRATION = Integration(
    client_id="the-client",
    client_secret="its-secret",
    redirect_uri="https://calls.example.com/oauth/callback",
)
INSTALL_URL = "https://calls.example.com/oauth/install"
REFUSED = TokenRefused("Kommo refuses")
TOKENS = "/oauth2/access_token"
DAY_S = 86400.0

Make = Callable[[], Awaitable[KommoAuthentication]]


@pytest.fixture
async def kommo(clock: ManualClock) -> AsyncIterator[SandboxKommo]:
    async with SandboxKommo(rate=0, now=clock.now, integration=INTEGRATION) as sandbox:
        sandbox.account(ACCOUNT)
        yield sandbox


@pytest.fixture
async def grants(database: Database, tmp_path: Path) -> LedgerOfAccounts:
    vault = Vault(None, tmp_path / "calllogd.key")
    await vault.open(fresh=True)
    return LedgerOfAccounts(database, vault)


def integration(kommo: SandboxKommo, clock: ManualClock, *, timeout_s: float = 5.0) -> KommoOAuth:
    port = kommo.url.rpartition(":")[2]
    return KommoOAuth(
        client_id=INTEGRATION.client_id,
        client_secret=INTEGRATION.client_secret,
        redirect_uri=INTEGRATION.redirect_uri,
        domains=Domains([f"127.0.0.{last}:{port}" for last in (1, 2, 3)]),
        timeout_s=timeout_s,
        clock=clock,
    )


@pytest.fixture
async def oauth(kommo: SandboxKommo, clock: ManualClock) -> AsyncIterator[KommoOAuth]:
    oauth = integration(kommo, clock)
    await oauth.open()
    yield oauth
    await oauth.close()


async def install(
    kommo: SandboxKommo,
    oauth: KommoOAuth,
    grants: LedgerOfAccounts,
    clock: ManualClock,
    url: str | None = None,
) -> bool:
    use_case = InstallAccountUseCase(oauth=oauth, accounts=grants, clock=clock)
    installation, new = await use_case.execute(url or kommo.url, kommo.code(ACCOUNT))
    assert installation.account_id == ACCOUNT
    return new


@pytest.fixture
async def make(
    kommo: SandboxKommo, oauth: KommoOAuth, grants: LedgerOfAccounts, clock: ManualClock
) -> AsyncIterator[Make]:
    """Gives what keeps the tokens of an installed account, as each process has one."""
    made: list[KommoAuthentication] = []

    async def authentication() -> KommoAuthentication:
        if await grants.grant(ACCOUNT) is None:
            await install(kommo, oauth, grants, clock)
        made.append(
            KommoAuthentication(
                ACCOUNT,
                grants=grants,
                oauth=oauth,
                clock=clock,
                wait_s=5.0,
                timeout_s=5.0,
                install_url=INSTALL_URL,
            )
        )
        return made[-1]

    yield authentication
    for each in made:
        await each.close(5.0)


async def is_taken(kommo: SandboxKommo, oauth: KommoOAuth, access: Access) -> bool:
    try:
        return (await oauth.account(access.base_url, access.token)).account_id == ACCOUNT
    except TokenRefused:
        return False


async def test_an_installed_account_has_a_token_that_kommo_takes(
    kommo: SandboxKommo, oauth: KommoOAuth, make: Make
) -> None:
    authentication = await make()
    access = await authentication.access()
    assert access.base_url == kommo.url
    assert await is_taken(kommo, oauth, access)
    assert await authentication.access() == access
    assert kommo.refreshes[ACCOUNT] == 0
    assert access.token not in repr(access)


async def test_an_account_that_nobody_has_installed_waits(
    grants: LedgerOfAccounts, oauth: KommoOAuth, clock: ManualClock
) -> None:
    authentication = KommoAuthentication(
        5, grants=grants, oauth=oauth, clock=clock, wait_s=1, timeout_s=1, install_url=INSTALL_URL
    )
    with pytest.raises(AccountPaused, match=INSTALL_URL):
        await authentication.access()
    with pytest.raises(AccountPaused):
        await authentication.keep()


async def test_a_token_that_was_refused_is_renewed_once_by_however_many_processes(
    kommo: SandboxKommo, oauth: KommoOAuth, make: Make
) -> None:
    processes = [await make() for _ in range(5)]
    old = await processes[0].access()
    kommo.expire(ACCOUNT)
    renewals = (each.renewed(old, REFUSED) for each in processes for _ in range(10))
    (new,) = set(await asyncio.gather(*renewals))
    assert new.token != old.token
    assert await is_taken(kommo, oauth, new)
    assert kommo.refreshes[ACCOUNT] == 1
    assert kommo.refused_refreshes[ACCOUNT] == 0


async def test_a_token_that_was_refused_and_replaced_meanwhile_is_not_renewed_again(
    kommo: SandboxKommo, make: Make
) -> None:
    first, second = await make(), await make()
    old = await second.access()
    new = await first.renewed(old, REFUSED)
    assert await second.renewed(old, REFUSED) == new
    assert await first.renewed(old, REFUSED) == new
    assert kommo.refreshes[ACCOUNT] == 1


async def test_tokens_are_renewed_an_hour_before_their_end(
    kommo: SandboxKommo, make: Make, clock: ManualClock
) -> None:
    authentication = await make()
    old = await authentication.access()
    renew_at = await authentication.keep()
    assert renew_at == clock.now() + DAY_S - 3600
    clock.at = renew_at
    assert await authentication.keep() > renew_at
    assert kommo.refreshes[ACCOUNT] == 1
    assert (await authentication.access()).token != old.token


async def test_a_token_that_has_ended_is_renewed_before_it_is_shown(
    kommo: SandboxKommo, make: Make, clock: ManualClock, oauth: KommoOAuth
) -> None:
    first, second = await make(), await make()
    await asyncio.gather(first.access(), second.access())
    clock.at += DAY_S + 1
    accesses = set(await asyncio.gather(*(each.access() for each in (first, second) for _ in range(5))))
    assert len(accesses) == 1
    assert await is_taken(kommo, oauth, accesses.pop())
    assert kommo.refreshes[ACCOUNT] == 1


async def test_a_clock_that_runs_ahead_costs_one_renewal(
    kommo: SandboxKommo, make: Make, clock: ManualClock
) -> None:
    authentication = await make()
    await authentication.access()
    clock.at += 30 * DAY_S
    for _ in range(3):
        await authentication.access()
    assert kommo.refreshes[ACCOUNT] == 1


async def test_the_new_pair_is_on_disk_before_it_is_used(
    make: Make, grants: LedgerOfAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    authentication = await make()
    old = await authentication.access()
    stored = grants.renewed
    full = True

    async def renewed(grant: Grant, base_url: str, pair: TokenPair) -> bool:
        if full:
            raise StorageError("the disk is full")
        return await stored(grant, base_url, pair)

    monkeypatch.setattr(grants, "renewed", renewed)
    for _ in range(3):
        with pytest.raises(StorageError):
            await authentication.renewed(old, REFUSED)
    full = False
    new = await authentication.renewed(old, REFUSED)
    grant = await grants.grant(ACCOUNT)
    assert grant is not None
    assert (grant.generation, grant.pair.access_token) == (2, new.token)


@pytest.mark.parametrize("kind", ["reset_before", "status_before", "html", "rate"])
async def test_a_renewal_that_failed_is_tried_again(kommo: SandboxKommo, make: Make, kind: str) -> None:
    authentication = await make()
    old = await authentication.access()
    kommo.faults.add(Fault(kind, path=f"^{TOKENS}$", times=1))
    kommo.rules.refresh_until_used = True
    with pytest.raises(TransientError):
        await authentication.renewed(old, REFUSED)
    assert (await authentication.renewed(old, REFUSED)).token != old.token


@pytest.mark.parametrize("kind", ["reset_after", "status_after", "half_body"])
async def test_an_answer_lost_is_survived_where_kommo_takes_the_old_pair_until_the_new_one_is_used(
    kommo: SandboxKommo, oauth: KommoOAuth, make: Make, kind: str
) -> None:
    kommo.rules.refresh_until_used = True
    authentication = await make()
    old = await authentication.access()
    kommo.faults.add(Fault(kind, path=f"^{TOKENS}$", times=2))
    for _ in range(2):
        with pytest.raises(TransientError, match="may not have been renewed"):
            await authentication.renewed(old, REFUSED)
    assert await is_taken(kommo, oauth, await authentication.renewed(old, REFUSED))


async def test_an_answer_lost_costs_a_person_where_kommo_takes_a_refresh_token_once_and_nothing_is_deleted(
    kommo: SandboxKommo, oauth: KommoOAuth, make: Make, grants: LedgerOfAccounts, clock: ManualClock
) -> None:
    authentication = await make()
    old = await authentication.access()
    clock.at += DAY_S - 1800
    kommo.faults.add(Fault("reset_after", path=f"^{TOKENS}$", times=1))
    with pytest.raises(TransientError):
        await authentication.keep()
    with pytest.raises(TokenRefused, match=f"has been revoked.*open {INSTALL_URL}"):
        await authentication.keep()
    assert await authentication.access() == old, "the old token serves to its end"
    assert not authentication.expired
    assert await is_taken(kommo, oauth, old)
    installed = (await grants.directory()).installed[ACCOUNT]
    assert installed.trouble is not None
    assert "revoked" in installed.trouble
    assert (installed.troubled_at, installed.expires_at) == (clock.now(), clock.now() + 1800)
    assert await install(kommo, oauth, grants, clock) is False
    assert await authentication.keep() == clock.now() + DAY_S - 3600
    assert (await grants.directory()).installed[ACCOUNT].trouble is None
    assert (await authentication.access()).token != old.token


async def test_a_process_that_died_while_renewing_is_waited_out(
    kommo: SandboxKommo, make: Make, grants: LedgerOfAccounts, clock: ManualClock
) -> None:
    kommo.rules.refresh_until_used = True
    authentication = await make()
    grant = await grants.grant(ACCOUNT)
    assert grant is not None
    assert await grants.claim_refresh(grant, clock.now(), 10.0) is not None
    renewal = asyncio.create_task(authentication.renewed(await authentication.access(), REFUSED))
    await asyncio.sleep(0)
    clock.at += 11
    assert (await renewal).token != grant.pair.access_token
    assert kommo.refreshes[ACCOUNT] == 1


async def test_whoever_cannot_wait_is_told_to_come_again_and_the_renewal_goes_on(
    kommo: SandboxKommo, grants: LedgerOfAccounts, make: Make, clock: ManualClock, oauth: KommoOAuth
) -> None:
    old = await (await make()).access()
    hurried = KommoAuthentication(
        ACCOUNT, grants=grants, oauth=oauth, clock=clock, wait_s=0.0, timeout_s=5, install_url=INSTALL_URL
    )
    with pytest.raises(TransientError, match="being renewed"):
        await hurried.renewed(old, REFUSED)
    await hurried.close(5.0)
    assert kommo.refreshes[ACCOUNT] == 1
    grant = await grants.grant(ACCOUNT)
    assert grant is not None
    assert grant.generation == 2


async def test_a_renamed_account_is_found_where_it_is_now(
    kommo: SandboxKommo, oauth: KommoOAuth, grants: LedgerOfAccounts, clock: ManualClock, account: Account
) -> None:
    port = kommo.url.rpartition(":")[2]
    for host in ("127.0.0.2", "127.0.0.3"):
        await kommo.add_host(host)
    kommo.rename(ACCOUNT, "127.0.0.2")
    await install(kommo, oauth, grants, clock, f"http://127.0.0.2:{port}")
    authentication = KommoAuthentication(
        ACCOUNT, grants=grants, oauth=oauth, clock=clock, wait_s=5, timeout_s=5, install_url=INSTALL_URL
    )
    old = await authentication.access()
    revision = (await grants.directory()).revision
    kommo.rename(ACCOUNT, "127.0.0.3")
    assert not await is_taken(kommo, oauth, old)
    new = await authentication.renewed(old, REFUSED)
    assert new.base_url == f"http://127.0.0.3:{port}"
    assert await is_taken(kommo, oauth, new)
    directory = await grants.directory()
    assert directory.installed[ACCOUNT].base_url == new.base_url
    assert directory.revision > revision, "everything else learns of the new address"


async def test_a_renamed_account_is_not_followed_out_of_kommos_domains(
    kommo: SandboxKommo, oauth: KommoOAuth, grants: LedgerOfAccounts, make: Make
) -> None:
    await kommo.add_host("127.0.0.4")
    authentication = await make()
    old = await authentication.access()
    kommo.rename(ACCOUNT, "127.0.0.4")
    before = len(kommo.requests)
    with pytest.raises(TokenRefused):
        await authentication.renewed(old, REFUSED)
    assert kommo.refreshes[ACCOUNT] == 0
    assert len(kommo.requests) - before <= 2


@pytest.mark.parametrize(("kind", "reason"), [("unpaid", "402"), ("forbidden", "403")])
async def test_trouble_of_the_account_deletes_nothing_and_ends_by_itself(
    kommo: SandboxKommo, make: Make, kind: str, reason: str
) -> None:
    authentication = await make()
    old = await authentication.access()
    kommo.faults.add(Fault(kind, path=f"^{TOKENS}$", times=3))
    for _ in range(3):
        with pytest.raises(AccountPaused, match=reason):
            await authentication.renewed(old, REFUSED)
    assert (await authentication.renewed(old, REFUSED)).token != old.token


async def test_a_pair_that_a_person_brought_meanwhile_is_not_replaced_by_a_late_renewal(
    make: Make, grants: LedgerOfAccounts
) -> None:
    await (await make()).access()
    grant = await grants.grant(ACCOUNT)
    assert grant is not None
    late = replace(grant.pair, access_token="late")
    assert await grants.renewed(grant, grant.base_url, replace(grant.pair, access_token="newer")) is True
    assert await grants.renewed(grant, grant.base_url, late) is False
    now = await grants.grant(ACCOUNT)
    assert now is not None
    assert now.pair.access_token == "newer"


async def test_removal_is_believed_only_when_kommo_takes_the_token_no_more(
    kommo: SandboxKommo, oauth: KommoOAuth, grants: LedgerOfAccounts, clock: ManualClock, make: Make
) -> None:
    use_case = DisableAccountUseCase(oauth=oauth, accounts=grants, clock=clock)
    assert await use_case.execute(ACCOUNT) is Removal.NOT_INSTALLED
    authentication = await make()
    assert await use_case.execute(ACCOUNT) is Removal.STILL_ALLOWED
    await authentication.access()
    kommo.revoke(ACCOUNT)
    for _ in range(2):
        assert await use_case.execute(ACCOUNT) is Removal.STOPPED
    with pytest.raises(AccountPaused, match="no longer installed"):
        await (await make()).access()
    assert await install(kommo, oauth, grants, clock) is True
    assert await is_taken(kommo, oauth, await (await make()).access())


async def test_a_token_that_had_ended_before_proves_no_removal(
    oauth: KommoOAuth, grants: LedgerOfAccounts, clock: ManualClock, make: Make
) -> None:
    await make()
    clock.at += DAY_S + 1
    with pytest.raises(TransientError):
        await DisableAccountUseCase(oauth=oauth, accounts=grants, clock=clock).execute(ACCOUNT)
    assert not (await grants.directory()).installed[ACCOUNT].disabled


async def test_tokens_are_sealed_in_the_ledger(
    make: Make, grants: LedgerOfAccounts, ledger_path: Path
) -> None:
    await make()
    grant = await grants.grant(ACCOUNT)
    assert grant is not None
    stored = b"".join(path.read_bytes() for path in ledger_path.parent.glob(f"{ledger_path.name}*"))
    for secret in (grant.pair.access_token, grant.pair.refresh_token):
        assert secret.encode() not in stored
        assert secret not in repr(grant)


def test_the_rules_of_the_stand_in_are_the_stricter_ones() -> None:
    assert Rules().refresh_until_used is False
