"""The configuration: every setting in `tables`, all mistakes in it at once."""

from calllogd.config.reader import load, read
from calllogd.config.settings import Account, Settings
from calllogd.config.tables import ACCOUNT, GENERIC, REQUIRED, SECTIONS, SERVICE, Setting

__all__ = [
    "ACCOUNT",
    "GENERIC",
    "REQUIRED",
    "SECTIONS",
    "SERVICE",
    "Account",
    "Setting",
    "Settings",
    "load",
    "read",
]
