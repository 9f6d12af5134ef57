"""The hosts that may be shown the integration's secret: names that others write are judged here."""

import re
from collections.abc import Sequence

from calllogd.errors import InputRefused

# Labels with hyphens at their third and fourth place stand for other alphabets (xn--): Kommo gives no such
# names, and readers of addresses differ about them.
_LABEL = r"(?!..--)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})+")


class Domains:
    """The domains of kommo.domains; an address of this machine stands for itself alone, with its port."""

    def __init__(self, domains: Sequence[str]) -> None:
        self._domains = tuple(domains)

    def base_url_of(self, host: str) -> str:
        """Return the address of an account's host; raises InputRefused (`invalid`) for any other host."""
        name = host.lower()
        if name in self._domains and _is_near(name):
            return f"http://{name}"
        below = any(name.endswith(f".{domain}") for domain in self._domains if not _is_near(domain))
        if below and _HOST.fullmatch(name):
            return f"https://{name}"
        raise InputRefused("invalid", f"the account's host should be below {' or '.join(self._domains)}")


def _is_near(name: str) -> bool:
    """Tell whether a name is one of this machine, as a stand-in of Kommo has it."""
    return name.partition(":")[0] == "localhost" or name.startswith(("127.", "[::1]"))
