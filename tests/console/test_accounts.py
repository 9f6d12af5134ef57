"""The accounts of the configuration and those that OAuth has installed, as one; and how they stand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from calllogd.config import Settings, read
from calllogd.console.accounts import EARLY_WARNING_S, accounts_of, ends, is_removed, providers_of
from calllogd.database.accounts import Directory, VoipToken
from calllogd.domain.account import Installed

NOW = 1_760_000_000.0
INSTALLED = Installed(
    account_id=2,
    base_url="https://two.kommo.com",
    name="Two",
    region="AU",
    disabled=False,
    installed_at=NOW,
    expires_at=NOW + 86_400,
    dead_at=NOW + 90 * 86_400,
)


def settings_of(*accounts: dict[str, Any]) -> Settings:
    raw = {"http": {"public_url": "https://calls.example.com"}, "accounts": list(accounts)}
    return read(raw, {}, folder=Path("/"))


def account(account_id: int, **more: Any) -> dict[str, Any]:
    return {"id": account_id, "base_url": f"https://a{account_id}.kommo.com", **more}


def directory_of(*installed: Installed, **more: Any) -> Directory:
    parts: dict[str, Any] = {"extensions": {}, "voip_tokens": (), **more}
    return Directory(1, {one.account_id: one for one in installed}, **parts)


def test_an_installed_account_is_served_like_a_configured_one() -> None:
    found = accounts_of(settings_of(account(1, access_token="t")), directory_of(INSTALLED))
    assert sorted(found) == [1, 2]
    assert (found[2].base_url, found[2].region, found[2].access_token) == (
        "https://two.kommo.com",
        "AU",
        None,
    )


def test_an_account_that_is_configured_and_installed_is_where_kommo_says_and_else_as_configured() -> None:
    given = account(2, region="US", extensions={"101": 111})
    found = accounts_of(settings_of(given), directory_of(INSTALLED))[2]
    assert (found.base_url, found.region, found.extensions) == ("https://two.kommo.com", "US", {"101": 111})
    found = accounts_of(settings_of(account(2)), directory_of(INSTALLED))[2]
    assert found.region == "AU"


def test_a_token_of_the_configuration_counts_more_than_an_installation() -> None:
    found = accounts_of(settings_of(account(2, access_token="t")), directory_of(INSTALLED))[2]
    assert (found.base_url, found.access_token) == ("https://a2.kommo.com", "t")
    assert not is_removed(found, replace(INSTALLED, disabled=True))


def test_extensions_of_the_widget_are_added_and_those_of_the_configuration_stay() -> None:
    directory = directory_of(extensions={1: {"101": 999, "102": 112}})
    found = accounts_of(settings_of(account(1, extensions={"101": 111})), directory)[1]
    assert found.extensions == {"101": 111, "102": 112}


def test_an_account_without_any_token_has_no_voip_service() -> None:
    accounts = accounts_of(settings_of(account(1)), directory_of(INSTALLED))
    token = VoipToken(account_id=2, provider="generic", token="t" * 20, until=None)
    assert list(providers_of(accounts, directory_of(voip_tokens=[token]))) == [("generic", "2")]


def test_a_long_lived_token_says_itself_when_it_ends() -> None:
    until = NOW + EARLY_WARNING_S
    token = jwt.encode({"exp": int(until)}, "k" * 32, "HS256")
    settings = settings_of(account(1, access_token=token))
    ends_at, advice = ends(settings, settings.accounts[1], None)
    assert ends_at == until
    assert advice is not None
    assert "make a new one in Kommo" in advice
    assert token not in advice


@pytest.mark.parametrize(
    "token",
    [
        "no-jwt",
        "a.b.c",
        *(jwt.encode({"exp": until}, "k" * 32) for until in (-1, 0, 10**18, True)),
        jwt.encode({"iat": 1}, "k" * 32),
    ],
)
def test_a_token_that_does_not_say_when_it_ends_is_not_warned_of(token: str) -> None:
    settings = settings_of(account(1, access_token=token))
    assert ends(settings, settings.accounts[1], None) == (None, None)


def test_tokens_that_cannot_be_renewed_end_with_the_access_token() -> None:
    settings = settings_of()
    served = accounts_of(settings, directory_of(INSTALLED))[2]
    assert ends(settings, served, INSTALLED)[0] == INSTALLED.dead_at
    troubled = replace(INSTALLED, trouble="Token has been revoked", troubled_at=NOW)
    ends_at, advice = ends(settings, served, troubled)
    assert ends_at == INSTALLED.expires_at
    assert advice is not None
    assert "Token has been revoked" in advice
    assert "https://calls.example.com/oauth/install" in advice
