"""Whose request it is: the address that counts for limits and for who may see what.

A sender may write anything into X-Forwarded-For. Each proxy adds at its right end the address that it was
asked from, so the header is read from there, and only as far as proxies of our own have written it.
`Forwarded` (RFC 7239) is not read: two headers that may disagree are one too many.
"""

import ipaddress
from collections.abc import Sequence
from typing import TypeVar

from aiohttp import web

from calllogd.config.settings import Network

KEPT = 4096
"""Addresses and headers whose meaning is remembered."""

HOPS = 16
"""So many proxies in a row are believed, however long the header is."""

HEADER_MOST = 512
"""Characters of a header that is remembered: a longer one is read each time."""

_PORT_DIGITS = 5

Key = TypeVar("Key")
Value = TypeVar("Value")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxies:
    """The proxies in front of calllogd, by their networks: what they say of their clients is believed."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)
        self._peers: dict[str, tuple[str, bool]] = {}
        self._clients: dict[tuple[str, str], str] = {}

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the client's address: of a request from `peer` with these X-Forwarded-For headers."""
        near, believed = self._peers.get(peer) or self._judged(peer)
        if not forwarded or not believed:
            return near
        header = forwarded[0] if len(forwarded) == 1 else ",".join(forwarded)
        known = self._clients.get((near, header))
        return self._walked(near, header) if known is None else known

    def _judged(self, peer: str) -> tuple[str, bool]:
        address = read_address(peer)
        judged = (peer, False) if address is None else (str(address), self._has(address))
        _keep(self._peers, peer, judged)
        return judged

    def _walked(self, near: str, header: str) -> str:
        """Return the rightmost address that no proxy of ours has, or the last that can be read."""
        found = near
        for entry in reversed(header.rsplit(",", HOPS)[-HOPS:]):
            address = read_address(_without_port(entry.strip(" \t")))
            if address is None:
                break
            found = str(address)
            if not self._has(address):
                break
        if len(header) <= HEADER_MOST:
            _keep(self._clients, (near, header), found)
        return found

    def _has(self, address: _Address) -> bool:
        return is_within(address, self._networks)


def client_address(request: web.BaseRequest, trusted: TrustedProxies) -> str:
    """Return the address of whoever sent the request: its peer's, or what a trusted proxy says."""
    return trusted.client(request.remote or "", request.headers.getall("X-Forwarded-For", ()))


def read_address(text: str) -> _Address | None:
    """Return an address, an IPv4 one for an IPv6 one that stands for it; None if it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    # The zone is of no use to anybody but the machine itself, and could be anything.
    return address.ipv4_mapped or (ipaddress.IPv6Address(int(address)) if address.scope_id else address)


def is_within(address: _Address, networks: Sequence[Network]) -> bool:
    """Tell whether an address belongs to one of the networks."""
    return any(address in network for network in networks)


def _without_port(entry: str) -> str:
    """Return an entry without brackets and port; what is neither is left for the reader to refuse."""
    if entry.startswith("["):
        address, bracket, port = entry[1:].partition("]")
        right = bracket and ":" in address and (not port or (port[0] == ":" and _is_port(port[1:])))
        return address if right else ""
    address, colon, port = entry.partition(":")
    return address if colon and "." in address and _is_port(port) else entry


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _PORT_DIGITS


def _keep(known: dict[Key, Value], key: Key, value: Value) -> None:
    if len(known) >= KEPT:
        known.clear()
    known[key] = value
