"""Which hosts may be shown the integration's secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from calllogd.errors import InputRefused
from calllogd.kommo.domains import Domains

DOMAINS = Domains(["kommo.com", "amocrm.com", "127.0.0.1:8090", "localhost:8091", "[::1]:8092"])


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("acme.kommo.com", "https://acme.kommo.com"),
        ("ACME.Kommo.com", "https://acme.kommo.com"),
        ("a.b-c.amocrm.com", "https://a.b-c.amocrm.com"),
        ("127.0.0.1:8090", "http://127.0.0.1:8090"),
        ("localhost:8091", "http://localhost:8091"),
        ("[::1]:8092", "http://[::1]:8092"),
    ],
)
def test_hosts_of_the_domains_have_an_address(host: str, url: str) -> None:
    assert DOMAINS.base_url_of(host) == url


@pytest.mark.parametrize(
    "host",
    [
        "",
        "kommo.com",
        ".kommo.com",
        "evil.com",
        "evilkommo.com",
        "acme.kommo.com.evil.com",
        "acme.kommo.com@evil.com",
        "evil.com#.kommo.com",
        "evil.com/.kommo.com",
        "evil.com\\.kommo.com",
        "evil.com?.kommo.com",
        "evil.com:80#.kommo.com",
        "acme.kommo.com:8080",
        "acme.kommo.com.",
        "acme..kommo.com",
        "-acme.kommo.com",
        "acme.kommo.com\r\nX: y",
        "acme.kommo.com\x00",
        " acme.kommo.com",
        "acmé.kommo.com",
        "\uff41cme.kommo.com",
        "a%2ekommo.com",
        "127.0.0.1",
        "127.0.0.1:8091",
        "127.0.0.2:8090",
        "x.127.0.0.1:8090",
        "x.localhost:8091",
        "None",
    ],
)
def test_no_other_host_has_one(host: str) -> None:
    with pytest.raises(InputRefused) as refused:
        DOMAINS.base_url_of(host)
    assert refused.value.code == "invalid"


PIECES = st.sampled_from(
    [
        "acme",
        "kommo.com",
        ".kommo.com",
        "evil.com",
        "@",
        "#",
        "?",
        "/",
        "\\",
        ":",
        "80",
        ".",
        "%",
        "\t",
        "\u0131",
        "\u212a",
    ]
)


@given(st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=40))
def test_whatever_is_accepted_leads_to_kommo(host: str) -> None:
    try:
        url = URL(DOMAINS.base_url_of(host))
    except InputRefused:
        return
    near = str(url.host) in {"127.0.0.1", "localhost", "::1"}
    assert near or str(url.host).endswith((".kommo.com", ".amocrm.com"))
    assert (url.user, url.password, url.path, url.query_string, url.fragment) == (None, None, "/", "", "")
