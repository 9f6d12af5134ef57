"""Whose request it is, whatever is written into X-Forwarded-For."""

import ipaddress
from collections.abc import Sequence

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from calllogd.config.tables import LOOPBACK
from calllogd.web.client_address import HOPS, KEPT, TrustedProxies, client_address, read_address

TRUSTED = [*LOOPBACK, *(ipaddress.ip_network(one) for one in ("10.0.0.0/8", "2001:db8:ffff::/48"))]
PROXY, CLIENT = "127.0.0.1", "203.0.113.9"


def client(peer: str, *forwarded: str) -> str:
    return TrustedProxies(TRUSTED).client(peer, forwarded)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        (CLIENT, [], CLIENT),
        (CLIENT, ["1.2.3.4"], CLIENT),  # anybody can write that
        (CLIENT, ["127.0.0.1"], CLIENT),
        (PROXY, [], PROXY),
        (PROXY, [CLIENT], CLIENT),
        (PROXY, [f"1.2.3.4, {CLIENT}"], CLIENT),
        (PROXY, [f"127.0.0.1, {CLIENT}"], CLIENT),
        (PROXY, [f"1.2.3.4,{CLIENT} , 10.1.2.3"], CLIENT),
        (PROXY, ["1.2.3.4", CLIENT], CLIENT),  # several headers are one
        (PROXY, [f"1.2.3.4, {CLIENT}", "10.0.0.1", "10.0.0.2"], CLIENT),
        (PROXY, ["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        (PROXY, [""], PROXY),
        (PROXY, ["unknown"], PROXY),
        (PROXY, [f"{CLIENT}, unknown"], PROXY),
        (PROXY, [f"{CLIENT}, , 10.0.0.1"], "10.0.0.1"),
        (PROXY, [f"{CLIENT}, _hidden, 10.0.0.1"], "10.0.0.1"),
        (PROXY, [f"{CLIENT}:4711"], CLIENT),
        (PROXY, ["[2001:db8::9]:4711"], "2001:db8::9"),
        (PROXY, ["[2001:db8::9]"], "2001:db8::9"),
        (PROXY, ["2001:DB8:0::9"], "2001:db8::9"),
        (PROXY, ["2001:db8::9%eth0"], "2001:db8::9"),
        (PROXY, [f"{CLIENT}, 2001:db8:ffff::1"], CLIENT),
        (PROXY, [f"::ffff:{CLIENT}"], CLIENT),
        (PROXY, [f"{CLIENT}, [::ffff:10.0.0.1]:80"], CLIENT),
        ("::1", [CLIENT], CLIENT),
        (f"::ffff:{PROXY}", [CLIENT], CLIENT),
        (f"::ffff:{CLIENT}", ["1.2.3.4"], CLIENT),
        ("", [CLIENT], ""),
        (PROXY, [f"[{CLIENT}]"], PROXY),
        (PROXY, ["[2001:db8::9"], PROXY),
        (PROXY, ["[2001:db8::9]4711"], PROXY),
        (PROXY, [f"{CLIENT}:"], PROXY),
        (PROXY, [f"{CLIENT}:http"], PROXY),
        (PROXY, [f"{CLIENT}:123456"], PROXY),
        (PROXY, ["203.0.113.09"], PROXY),
        (PROXY, ["3405803785"], PROXY),
        (PROXY, ["²03.0.113.9"], PROXY),
        (PROXY, [f'"{CLIENT}"'], PROXY),
        (PROXY, [f"for={CLIENT}"], PROXY),
    ],
)
def test_the_client(peer: str, forwarded: Sequence[str], expected: str) -> None:
    proxies = TrustedProxies(TRUSTED)
    assert proxies.client(peer, forwarded) == expected
    assert proxies.client(peer, forwarded) == expected, "remembered wrongly"


def test_of_a_request() -> None:
    class Peer:
        def get_extra_info(self, name: str, default: object = None) -> object:
            return (PROXY, 1) if name == "peername" else default

        def is_closing(self) -> bool:
            return False

    headers = CIMultiDict(
        [("X-Forwarded-For", "1.2.3.4"), ("Forwarded", "for=198.51.100.1"), ("x-forwarded-for", CLIENT)]
    )
    request = make_mocked_request("GET", "/", headers=headers, transport=Peer())
    assert client_address(request, TrustedProxies(TRUSTED)) == CLIENT
    assert client_address(request, TrustedProxies()) == PROXY


def test_without_trusted_proxies_the_header_is_nothing() -> None:
    assert TrustedProxies().client(PROXY, [CLIENT]) == PROXY


ADDRESSES = st.ip_addresses().map(str)
OUR_OWN = st.integers(0, 2**24 - 1).map(lambda number: str(ipaddress.IPv4Address(0x0A000000 + number)))
STRANGERS = ADDRESSES.filter(
    lambda text: not any((read_address(text) or ipaddress.ip_address("::1")) in one for one in TRUSTED)
)
WRITTEN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=60) | ADDRESSES


@given(lies=st.lists(WRITTEN, max_size=4), real=STRANGERS, proxies=st.lists(OUR_OWN, max_size=HOPS - 1))
def test_whatever_a_client_writes_what_our_proxies_saw_counts(
    lies: Sequence[str], real: str, proxies: Sequence[str]
) -> None:
    assert client(PROXY, *lies, ", ".join([real, *proxies])) == str(read_address(real))


@given(peer=STRANGERS, header=WRITTEN)
def test_a_stranger_is_who_he_is(peer: str, header: str) -> None:
    assert client(peer, header) == str(read_address(peer))


@given(st.lists(WRITTEN, max_size=5))
def test_the_answer_is_always_an_address(headers: Sequence[str]) -> None:
    ipaddress.ip_address(client(PROXY, *headers))


def test_memory_is_bounded() -> None:
    proxies = TrustedProxies(TRUSTED)
    for number in range(3 * KEPT):
        proxies.client(PROXY, [f"203.0.113.9, {ipaddress.IPv4Address(number)}"])
        proxies.client(str(ipaddress.IPv4Address(number)), [])
    assert len(proxies._clients) <= KEPT
    assert len(proxies._peers) <= KEPT
    before = len(proxies._clients)
    assert proxies.client(PROXY, ["x" * 8000 + f", {CLIENT}"]) == CLIENT
    assert len(proxies._clients) == before, "a long header is not remembered"


def test_a_long_way_of_our_own_proxies_is_not_walked_to_its_end() -> None:
    assert client(PROXY, CLIENT + ", 10.0.0.1" * 5000) == "10.0.0.1"
    assert client(PROXY, CLIENT + ", 10.0.0.1" * (HOPS - 1)) == CLIENT
