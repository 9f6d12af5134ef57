"""The configuration: what is right, what is refused and how, and where values come from."""

import base64
import ipaddress
from pathlib import Path
from typing import Any

import pytest

from calllogd.config import Settings, load, read
from calllogd.domain.phone import spellings
from calllogd.domain.plan import IncomingLeads, InternalCalls, Policy
from calllogd.errors import ConfigError
from calllogd.voip.provider import service_settings

SECRET = "s3cret-s3cret-s3cret-s3cret"
WHSEC = "whsec_" + base64.b64encode(b"k" * 24).decode()
LEAST = {"http": {"public_url": "https://calls.example.com"}}
ACCOUNT = {"id": 31337, "base_url": "https://example.kommo.com"}


def settings_of(
    *, environment: dict[str, str] | None = None, folder: Path = Path("/nowhere"), **tables: Any
) -> Settings:
    return read({**LEAST, **tables}, environment or {}, folder=folder, services=service_settings())


def mistakes(
    raw: dict[str, Any], environment: dict[str, str] | None = None, folder: Path = Path("/nowhere")
) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(raw, environment or {}, folder=folder, services=service_settings())
    return list(refused.value.mistakes)


def with_account(**keys: Any) -> dict[str, Any]:
    return {**LEAST, "accounts": [{**ACCOUNT, **keys}]}


def test_every_default() -> None:
    settings = settings_of()
    assert settings.http.listen == ("127.0.0.1", 8080)
    assert settings.database == Path("/var/lib/calllogd/calllogd.db")
    assert settings.workers == 4
    kommo = settings.kommo
    assert (kommo.client_id, kommo.client_secret, kommo.redirect_uri) == (None, None, None)
    assert (kommo.rate, kommo.rate_total, kommo.timeout, kommo.source) == (7, 0, 20, "calllogd")
    assert settings.policy == Policy(
        result_wait=120, contact_wait=64800, doubt_wait=60, incoming_leads=IncomingLeads.ALL
    )
    assert settings.recordings.path == Path("/var/lib/calllogd/recordings")
    assert settings.recordings.max_bytes == 104857600
    assert (settings.recordings.keep_days, settings.recordings.keep_free_bytes) == (0, 500_000_000)
    assert settings.recordings.allow_private == ()
    assert settings.admin.token is None
    assert (settings.log.file, settings.log.format, settings.log.level) == (None, "logfmt", "info")
    assert settings.accounts == {}


CONTRACT = f"""
[http]
listen = "127.0.0.1:8081"
public_url = "https://calls.example.com/"
[database]
url = "sqlite:////srv/calls%20one.db"
[queue]
url = "embedded"
workers = 2
[kommo]
client_id = "id"
client_secret = "{SECRET}"
redirect_uri = "https://calls.example.com/oauth/callback"
rate = 5.5
rate_total = 50
timeout = 15
[policy]
result_wait = 60
contact_wait = 3600
doubt_wait = 30
incoming_leads = "answered"
internal_calls = "logged"
blocked = ["+1 212 555 0199", "(212) 555-0198"]
[recordings]
path = "/srv/recordings"
max_bytes = 1000
keep_days = 30
keep_free_bytes = 0
allow_private = ["10.0.0.0/8", "fd00::/8"]
[admin]
token = "{SECRET}"
[log]
file = "/var/log/calllogd/calllogd.log"
format = "json"
level = "debug"
[[accounts]]
id = 31337
base_url = "https://example.kommo.com"
region = "US"
access_token = "{SECRET}"
[accounts.extensions]
101 = 111
[accounts.voip.generic]
token = "{SECRET}"
signing_secret = "{WHSEC}"
[[accounts]]
id = 31338
base_url = "http://127.0.0.1:9000"
"""


def test_the_file_of_the_contract_is_read(tmp_path: Path) -> None:
    file = tmp_path / "calllogd.toml"
    file.write_text(CONTRACT, encoding="utf-8")
    settings = load(file, {}, services=service_settings())
    assert settings.http.listen == ("127.0.0.1", 8081)
    assert settings.http.public_url == "https://calls.example.com"
    assert settings.database == Path("/srv/calls one.db")
    assert settings.workers == 2
    assert settings.kommo.client_secret == SECRET
    assert (settings.kommo.rate, settings.kommo.rate_total, settings.kommo.timeout) == (5.5, 50, 15)
    assert settings.policy == Policy(
        result_wait=60,
        contact_wait=3600,
        doubt_wait=30,
        incoming_leads=IncomingLeads.ANSWERED,
        internal_calls=InternalCalls.LOGGED,
        blocked=frozenset({"2125550199", "2125550198"}),
    )
    recordings = settings.recordings
    assert (recordings.max_bytes, recordings.keep_days, recordings.keep_free_bytes) == (1000, 30, 0)
    assert settings.recordings.allow_private == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("fd00::/8"),
    )
    assert settings.admin.token == SECRET
    assert (settings.log.file, settings.log.format, settings.log.level) == (
        Path("/var/log/calllogd/calllogd.log"),
        "json",
        "debug",
    )
    account = settings.accounts[31337]
    assert (account.region, account.access_token, dict(account.extensions)) == ("US", SECRET, {"101": 111})
    assert (account.voip["generic"]["token"], account.voip["generic"]["signing_secret"]) == (SECRET, WHSEC)
    assert settings.accounts[31338].voip == {}


def test_all_mistakes_are_told_at_once() -> None:
    found = mistakes(
        {
            "htttp": {},
            "http": {"listen": "8080", "public_uri": "x"},
            "queue": {"workers": 0},
            "policy": {"result_wait": "soon"},
            "log": {"level": "loud"},
            "accounts": [
                {"id": "a", "base_url": "http://example.kommo.com"},
                {"base_url": "https://b.example"},
            ],
        }
    )
    paths = {mistake.split(":", 1)[0] for mistake in found}
    assert paths == {
        "htttp",
        "http.listen",
        "http.public_uri",
        "http.public_url",
        "queue.workers",
        "policy.result_wait",
        "log.level",
        "accounts[0].id",
        "accounts[0].base_url",
        "accounts[1].id",
    }
    assert len(found) == len(paths)


@pytest.mark.parametrize(
    ("raw", "path", "said"),
    [
        ({"nonsense": 1}, "nonsense", "unknown; known here are accounts, admin, database"),
        (
            {"http": {**LEAST["http"], "port": 1}},
            "http.port",
            "unknown; known here are account_rate, address_rate, listen, public_url, trusted_proxies",
        ),
        ({"log": {"file_file": "x"}}, "log.file_file", "unknown"),
        (with_account(voip={"sipuni": {}}), "accounts.31337.voip.sipuni", "unknown; known here are "),
        (with_account(voip={"generic": {"tokn": "x"}}), "accounts.31337.voip.generic.tokn", "unknown"),
        (with_account(token="x"), "accounts.31337.token", "unknown"),
        ({"http": 5}, "http", "should be a table"),
        ({"accounts": {"id": 1}}, "accounts", "[[accounts]]"),
        ({"accounts": ["x"]}, "accounts[0]", "should be a table"),
        (with_account(extensions=["101"]), "accounts.31337.extensions", "should be a table"),
        (with_account(extensions={"101": "Ann"}), "accounts.31337.extensions.101", "Kommo user id"),
        (with_account(extensions={"101": True}), "accounts.31337.extensions.101", "Kommo user id"),
        (with_account(extensions={"101": 0}), "accounts.31337.extensions.101", "Kommo user id"),
        ({"accounts": [ACCOUNT, ACCOUNT]}, "accounts.31337", "more than once"),
        ({"http": {}}, "http.public_url", "is missing"),
    ],
)
def test_a_mistake_is_told_with_its_path_and_what_would_be_right(
    raw: dict[str, Any], path: str, said: str
) -> None:
    found = mistakes({**LEAST, **raw})
    assert all(mistake.startswith(f"{path}: ") for mistake in found), found
    assert said in found[0]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("http", "listen", "localhost"),
        ("http", "listen", ":8080"),
        ("http", "listen", "127.0.0.1:99999"),
        ("http", "listen", "127.0.0.1:٣"),
        ("http", "listen", 8080),
        ("http", "public_url", "http://calls.example.com"),
        ("http", "public_url", "calls.example.com"),
        ("http", "public_url", "ftp://calls.example.com"),
        ("http", "public_url", "https://user:pass@calls.example.com"),
        ("http", "public_url", "https://calls.example.com/?a=b"),
        ("http", "public_url", ""),
        ("database", "url", "postgresql://db/calls"),
        ("database", "url", "sqlite:///relative.db"),
        ("database", "url", "/var/lib/x.db"),
        ("queue", "url", "amqp://x"),
        ("queue", "workers", 0),
        ("queue", "workers", 17),
        ("queue", "workers", 2.5),
        ("queue", "workers", True),
        ("queue", "workers", "many"),
        ("kommo", "rate", -1),
        ("kommo", "rate", float("nan")),
        ("kommo", "rate", float("inf")),
        ("kommo", "timeout", 0),
        ("kommo", "source", " "),
        ("policy", "contact_wait", -1),
        ("policy", "contact_wait", [1]),
        ("policy", "incoming_leads", "some"),
        ("policy", "incoming_leads", ["all"]),
        ("policy", "internal_calls", "some"),
        ("policy", "internal_calls", True),
        ("policy", "blocked", "+12125550100"),
        ("policy", "blocked", [12125550100]),
        ("policy", "blocked", ["+12125550100", "anonymous"]),
        ("policy", "blocked", ["client:ann"]),
        ("recordings", "path", "relative"),
        ("recordings", "max_bytes", 0),
        ("recordings", "allow_private", ["10.0.0.1/8"]),
        ("recordings", "allow_private", 5),
        ("log", "file", "relative.log"),
        ("log", "format", "xml"),
        ("log", "level", "INFO"),
    ],
)
def test_an_impossible_value_is_refused(section: str, key: str, value: Any) -> None:
    (mistake,) = mistakes({**LEAST, section: {**LEAST.get(section, {}), key: value}})
    assert mistake.startswith(f"{section}.{key}: should be ")
    assert repr(value) in mistake


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", 0),
        ("id", "x"),
        ("base_url", "http://example.kommo.com"),
        ("region", "us"),
        ("region", "XX"),
        ("region", ["US"]),
    ],
)
def test_an_impossible_value_of_an_account_is_refused(key: str, value: Any) -> None:
    (mistake,) = mistakes(with_account(**{key: value}))
    assert f".{key}: should be " in mistake


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_plain_http_is_for_loopback_addresses(host: str) -> None:
    settings = settings_of(accounts=[{**ACCOUNT, "base_url": f"http://{host}:9000/"}])
    assert settings.accounts[31337].base_url == f"http://{host}:9000"


@pytest.mark.parametrize(
    "secret",
    ["short", "long enough but ünprintable", "tab\tin it and long enough", "x" * 600, 12345678901234567890],
)
def test_a_secret_is_never_repeated(secret: Any) -> None:
    raw = with_account(voip={"generic": {"token": secret, "signing_secret": f"whsec_{secret}"}})
    found = mistakes({**raw, "admin": {"token": secret}})
    assert [mistake.split(":")[0] for mistake in found] == [
        "admin.token",
        "accounts.31337.voip.generic.token",
        "accounts.31337.voip.generic.signing_secret",
    ]
    assert not any(str(secret) in mistake for mistake in found)


@pytest.mark.parametrize("length", [23, 65])
def test_a_signing_secret_has_the_length_of_the_specification(length: int) -> None:
    weak = "whsec_" + base64.b64encode(b"k" * length).decode()
    (mistake,) = mistakes(with_account(voip={"generic": {"signing_secret": weak}}))
    assert "24 to 64 bytes" in mistake
    assert weak not in mistake


@pytest.mark.parametrize("secret", ["has a space", "", "nül"])
def test_a_token_for_a_header_can_stand_in_one(secret: str) -> None:
    (mistake,) = mistakes(with_account(access_token=secret))
    assert mistake.startswith("accounts.31337.access_token: should be a token of printable ASCII")
    assert not secret or secret not in mistake


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "admin").write_text(f"{SECRET}\n", encoding="utf-8")
    settings = settings_of(folder=tmp_path, admin={"token_file": "admin"})
    assert settings.admin.token == SECRET
    assert settings_of(folder=Path("/x"), admin={"token_file": str(tmp_path / "admin")}).admin.token == SECRET


def test_systemd_credentials_have_a_folder_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "kommo").write_text(SECRET, encoding="utf-8")
    settings = settings_of(
        environment={"CREDENTIALS_DIRECTORY": str(tmp_path)},
        accounts=[{**ACCOUNT, "access_token_file": "kommo"}],
    )
    assert settings.accounts[31337].access_token == SECRET


def test_a_secret_file_that_is_not_there_or_wrong_is_a_mistake(tmp_path: Path) -> None:
    (missing,) = mistakes({**LEAST, "admin": {"token_file": "gone"}}, folder=tmp_path)
    assert missing.startswith(f"admin.token_file: {tmp_path / 'gone'} cannot be read")
    (tmp_path / "short").write_text("sh0rt-s3cret", encoding="utf-8")
    (wrong,) = mistakes({**LEAST, "admin": {"token_file": "short"}}, folder=tmp_path)
    assert wrong.startswith("admin.token: should be 16 to 512")
    assert "sh0rt" not in wrong


def test_the_environment_goes_before_the_file() -> None:
    settings = settings_of(
        environment={
            "CALLLOGD_KOMMO__CLIENT_SECRET": SECRET,
            "CALLLOGD_KOMMO__RATE": "3",
            "CALLLOGD_HTTP__LISTEN": "[::1]:9000",
            "CALLLOGD_ACCOUNTS__31337__ACCESS_TOKEN": "from-the-environment",
            "CALLLOGD_ACCOUNTS__31337__VOIP__GENERIC__TOKEN": SECRET,
            "CALLLOGD_CONFIG": "/etc/calllogd/calllogd.toml",
            "HOME": "/root",
        },
        kommo={"client_secret": "from-the-file", "rate": 5},
        accounts=[{**ACCOUNT, "access_token": "from-the-file"}],
    )
    assert (settings.kommo.client_secret, settings.kommo.rate) == (SECRET, 3)
    assert settings.http.listen == ("::1", 9000)
    assert settings.accounts[31337].access_token == "from-the-environment"
    assert settings.accounts[31337].voip["generic"]["token"] == SECRET


def test_a_variable_that_sets_nothing_is_a_mistake() -> None:
    found = mistakes(LEAST, {"CALLLOGD_KOMMO__CLIENT_SECRT": SECRET, "CALLLOGD_POLICY__RESULT_WAIT": "soon"})
    assert len(found) == 2
    assert found[0].startswith("policy.result_wait: should be ")
    assert found[1].startswith("CALLLOGD_KOMMO__CLIENT_SECRT: sets nothing")
    assert not any(SECRET in mistake for mistake in found)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"[http\n", "is not TOML"), (b"\xff\xfe", "is not TOML"), (None, "there is no such file")],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "calllogd.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        load(file, {}, services=service_settings())


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {}, services=service_settings())


def test_settings_that_are_printed_show_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "calllogd.toml"
    file.write_text(CONTRACT.replace("[queue]", 'key = "' + "A" * 43 + '="\n[queue]'), encoding="utf-8")
    printed = repr(load(file, {}, services=service_settings()))
    assert "31337" in printed
    for secret in (SECRET, WHSEC, "A" * 43):
        assert secret not in printed


@pytest.mark.parametrize("region", ["AU", None])
def test_a_blocked_number_is_read_in_the_country_of_each_account(region: str | None) -> None:
    account = with_account() if region is None else with_account(region=region)
    settings = read({**account, "policy": {"blocked": ["0412 345 678"]}}, {}, folder=Path("/"), services={})
    assert settings.policy.blocked == (
        {"0412345678"} if region is None else spellings("+61 412 345 678", None)
    )
