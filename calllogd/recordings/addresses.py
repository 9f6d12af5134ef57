"""Addresses of the internet, told from those that lead into somebody's own network.

Source: IANA's registries of special-purpose addresses for IPv4 and IPv6. They are written out here because
what `ipaddress` calls global differs between versions of Python.
"""

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_CLOSED_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this host
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by a provider's customers (CGNAT)
            "127.0.0.0/8",
            "169.254.0.0/16",  # link-local, and the metadata service of clouds
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/3",  # multicast, reserved and broadcast
        ),
    )
)
_OPEN_V6 = ipaddress.IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocols, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "3fff::/20",  # documentation
        ),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_open(address: str, allowed: Sequence[Network]) -> bool:
    """Tell whether an address may be connected to: it is of the internet, or in an allowed network.

    An IPv6 address that stands for an IPv4 address is judged as that. What is no address is not open.
    """
    try:
        meant = _meant(ipaddress.ip_address(address))
    except ValueError:
        return False
    if any(meant in network for network in allowed):
        return True
    if isinstance(meant, ipaddress.IPv4Address):
        return not any(meant in network for network in _CLOSED_V4)
    return meant in _OPEN_V6 and not any(meant in network for network in _CLOSED_V6)


def _meant(address: Address) -> Address:
    """Return the address that is reached in the end."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address
