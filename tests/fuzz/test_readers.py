"""Whatever comes, each reader returns what it promises or raises what it names, and nothing else."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from calllogd.config import ACCOUNT, GENERIC, REQUIRED, SECTIONS, Setting, Settings, read
from calllogd.config.values import domains
from calllogd.errors import ConfigError, InputRefused
from calllogd.kommo.domains import Domains
from calllogd.recordings.audio import HEAD_BYTES, kind_of
from calllogd.recordings.outside import LONGEST_RETRY_AFTER_S, _check, _parsed, retry_after_s
from calllogd.recordings.store import Found
from calllogd.voip.errand import ErrandFailed
from calllogd.voip.fields import YEAR_2000, YEAR_2100, start_of
from calllogd.voip.provider import service_settings
from calllogd.voip.provider.generic import is_safe
from calllogd.voip.usecase.assign_extensions import TABLE_MOST, parse_extensions
from calllogd.web.operator_access import FIELDS_MOST, read_form
from calllogd.web.recordings import _asked
from tests.fakes import START

KOMMO = ("kommo.com", "amocrm.com")
NEAR = "127.0.0.1:8123"
DOMAINS = Domains([*KOMMO, NEAR])

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["127.0.0.1:0", "[::1", "https://[", "http://a:b", "sqlite:////x", "whsec_", "1e999", "nan"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)

NAMES = "acme evil.example kommo.com amocrm.com kommo.com. 127.0.0.1 localhost [::1] xn--a https:// // .. %2e"
LOOKALIKES = "KOMMO.COM \u212aommo.com \uff4bommo.com kommo\u3002com kommo\uff0ecom"
WORDS = st.sampled_from(
    [*NAMES.split(), *LOOKALIKES.split(), NEAR, ":443", "a" * 64, "\r\n", *".@:/\\?# \t\0-_"]
)
HOSTS = (
    st.lists(WORDS, max_size=6).map("".join)
    | st.text(max_size=40)
    | st.builds("{}.kommo.com".format, st.text(max_size=30))
)


@given(HOSTS)
@settings(max_examples=500)
def test_the_integrations_secret_goes_to_no_host_outside_the_domains(host: str) -> None:
    try:
        base = DOMAINS.base_url_of(host)
    except InputRefused:
        return
    for path in ("oauth2/access_token", "api/v4/account"):
        # The judge does not say where a request goes: two readers of addresses do, of whom one sends it.
        sent, read_too = URL(base) / path, urlsplit(f"{base}/{path}")
        assert sent.host == read_too.hostname
        assert (sent.path, read_too.path) == (f"/{path}", f"/{path}")
        assert (sent.user, sent.password, read_too.username, read_too.password) == (None, None, None, None)
        assert (sent.query_string, sent.fragment, read_too.query, read_too.fragment) == ("", "", "", "")
        if sent.scheme == "http":
            assert (sent.host, sent.port) == ("127.0.0.1", 8123)
        else:
            assert sent.scheme == read_too.scheme == "https"
            assert (sent.port, read_too.port) == (443, None)
            assert str(sent.host).endswith(tuple(f".{domain}" for domain in KOMMO))


@pytest.mark.parametrize("host", ["acme.kommo.com", "ACME.Kommo.com", "a.b.amocrm.com"])
def test_hosts_of_kommo_are_let_through(host: str) -> None:
    assert DOMAINS.base_url_of(host) == f"https://{host.lower()}"


@pytest.mark.parametrize(
    "host", ["xn--a.kommo.com", "a.xn--bcher-kva.kommo.com", "xn--.amocrm.ru", "XN--A.kommo.com"]
)
def test_names_in_other_alphabets_are_refused(host: str) -> None:
    with pytest.raises(InputRefused):
        DOMAINS.base_url_of(host)


@given(JSON)
def test_domains_are_read_or_refused(value: Any) -> None:
    try:
        found = domains(value)
    except ValueError:
        return
    assert all(name == name.strip() and "/" not in name and "@" not in name for name in found)


EVERY: Mapping[str, Setting] = {
    f"{table}.{key}": setting
    for table, keys in {**SECTIONS, "accounts": ACCOUNT, "generic": GENERIC}.items()
    for key, setting in keys.items()
}


@pytest.mark.parametrize("name", EVERY)
def test_a_setting_is_read_or_refused_in_words(name: str) -> None:
    @given(JSON)
    @settings(max_examples=60)
    def try_out(value: Any) -> None:
        try:
            EVERY[name].read(value)
        except (ValueError, TypeError) as error:
            right = str(error)
        else:
            return
        assert right

    try_out()


TABLES = st.fixed_dictionaries(
    {},
    optional={
        name: st.dictionaries(st.sampled_from(list(keys)) | st.text(max_size=5), JSON, max_size=4) | JSON
        for name, keys in SECTIONS.items()
    }
    | {"accounts": st.lists(st.dictionaries(st.sampled_from([*ACCOUNT, "extensions", "voip"]), JSON)) | JSON},
)


@pytest.mark.parametrize("value", [[10], [True], {"10.0.0.0/8": 1}, "10.0.0.0/8", ["10.0.0.1/8"]])
@pytest.mark.parametrize("name", ["http.trusted_proxies", "recordings.allow_private", "admin.metrics_from"])
def test_only_networks_are_networks(name: str, value: object) -> None:
    with pytest.raises(ValueError, match="a list of networks"):
        EVERY[name].read(value)


@given(TABLES)
@settings(max_examples=200)
def test_a_configuration_is_read_or_every_mistake_is_told(raw: Mapping[str, Any]) -> None:
    try:
        made = read(raw, {}, folder=Path("/nowhere"), services=service_settings())
    except ConfigError as error:
        mistakes = error.mistakes
    else:
        assert isinstance(made, Settings)
        return
    assert mistakes
    assert all(mistakes)


@given(st.binary(max_size=HEAD_BYTES), st.none() | st.text(max_size=12) | st.just("audio/gsm"))
def test_sound_is_known_by_its_beginning_or_not_at_all(head: bytes, declared: str | None) -> None:
    kind = kind_of(head, declared=declared)
    assert kind is None or (kind.startswith("audio/") and head)
    if kind != "audio/gsm":
        assert kind == kind_of(head, declared=None), "what a sender says of it is not believed"


@pytest.mark.parametrize(
    "head", [b"<!doctype html>", b"<svg", b"%PDF-1.7", b"PK\x03\x04", b"\x1f\x8b", b"GIF89a"]
)
def test_what_a_browser_would_run_or_unpack_is_no_sound(head: bytes) -> None:
    @given(st.binary(max_size=HEAD_BYTES))
    def follow(rest: bytes) -> None:
        # With `ftyp` after four bytes it is MP4 whatever those are: it is played as that alone.
        assert kind_of(head + rest, declared="audio/gsm") in (None, "audio/mp4")

    follow()


NUMBERS = st.integers(0, 10**32).map(str) | st.sampled_from(["", "-", "00", "٣", "1_0", " 1", "1e3", "-1"])


@given(st.text(max_size=30) | st.builds("bytes={}-{}".format, NUMBERS, NUMBERS), st.integers(1, 10**9))
def test_a_range_is_within_the_recording_or_none(header: str, size: int) -> None:
    request = make_mocked_request("GET", "/", headers={"Range": header})
    found = Found(path=Path("/"), size=size, media_type="audio/wav", modified_at=START, tag="t")
    span = _asked(request, found)
    if span is not None and span.start < span.end:
        assert 0 <= span.start < span.end <= size


@given(
    st.text(max_size=30) | st.datetimes(timezones=st.timezones()).map(lambda at: at.isoformat()) | st.floats()
)
def test_a_start_is_a_moment_or_refused(started_at: str | float) -> None:
    try:
        seconds = start_of(started_at, START)
    except InputRefused:
        return
    assert seconds is not None
    assert YEAR_2000 <= seconds <= YEAR_2100


PIECES = "https:// http:// ftp:// a.example 127.0.0.1 [::1] 99999 xn-- localhost 2130706433 \u202e \u3002"
ADDRESSES = st.sampled_from([*PIECES.split(), *"[]@:/?#%\0\\"])
URLS = st.text(max_size=40) | st.lists(ADDRESSES, max_size=7).map("".join)


@given(URLS)
@settings(max_examples=300)
def test_an_address_of_a_recording_is_fetched_by_https_or_refused(url: str) -> None:
    safe = is_safe(url)
    try:
        parsed = _parsed(url)
        _check(parsed)
    except ErrandFailed:
        return
    assert (
        parsed.scheme == "https" or parsed.host in ("localhost", "::1") or str(parsed.host).startswith("127.")
    )
    assert safe or parsed.scheme in ("http", "https")


@given(st.text(max_size=40) | st.integers().map(str), st.text(max_size=40))
def test_a_service_makes_nobody_wait_for_more_than_an_hour(after: str, date: str) -> None:
    wait_s = retry_after_s({"Retry-After": after, "Date": date})
    assert wait_s is None or (math.isfinite(wait_s) and 0 <= wait_s <= LONGEST_RETRY_AFTER_S)


@given(st.binary(max_size=80) | JSON.map(lambda it: f'{{"extensions": {it!r}}}'.encode("utf-8", "replace")))
def test_a_table_of_extensions_is_read_or_refused(body: bytes) -> None:
    try:
        table = parse_extensions(body)
    except InputRefused:
        return
    assert len(table) <= TABLE_MOST
    assert all(user >= 1 for user in table.values())


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"a=1", b"&", b";", b"=", b"%", b"%ff", b"+"])).map(b"".join)
)
def test_a_form_is_read_or_refused(body: bytes) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        form = read_form(make_mocked_request("POST", "/login", headers=kind), body)
    except InputRefused:
        return
    assert len(form) <= FIELDS_MOST


def test_every_setting_that_is_needed_is_asked_for() -> None:
    with pytest.raises(ConfigError) as refused:
        read({}, {}, folder=Path("/nowhere"), services=service_settings())
    needed = [name for name, setting in EVERY.items() if setting.default is REQUIRED and name in SECTIONS]
    assert all(any(mistake.startswith(name) for mistake in refused.value.mistakes) for name in needed)
