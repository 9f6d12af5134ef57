"""Moments as they are typed on the command line."""

import argparse
import time
from datetime import datetime

UNITS = {"h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def moment(text: str) -> float:
    """Return Unix seconds of a date or time, or of so many hours, days or weeks ago.

    Without a zone it is the machine's. Raises argparse.ArgumentTypeError.
    """
    number, unit = text[:-1], text[-1:]
    if number.isdecimal() and unit in UNITS:
        return time.time() - int(number) * UNITS[unit]
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            "should be a date (2026-11-01), a time (2026-11-01T10:00, with +03:00 for a zone), or 12h, 7d, 2w"
        ) from None
