"""Accounts that Kommo does not serve now: held back, and tried now and then."""

import sqlite3

from calllogd.errors import AccountPaused
from calllogd.ports import Pause

PROBE_FIRST_S = 5.0
PROBE_LONGEST_S = 900.0


def write_pause(
    connection: sqlite3.Connection, account_id: int, cause: AccountPaused, now: float
) -> tuple[Pause, bool]:
    """Hold back an account's calls; return the pause, and whether it is news.

    The time until one of them is tried doubles from 5 s to 15 min. Refusals that come while the account is
    paused already are of requests that were under way. Like the rest here inside the caller's transaction.
    """
    row = connection.execute(
        "SELECT since, tried_at, probes FROM pauses WHERE account_id = ?", (account_id,)
    ).fetchone()
    since, tried_at, probes = (now, now, 1) if row is None else row
    news = row is None or now >= tried_at + _probe_s(probes)
    if row is not None and news:
        tried_at, probes = now, probes + 1
    pause = Pause(account_id, cause.code, cause.reason, since, tried_at + _probe_s(probes))
    connection.execute(
        "INSERT OR REPLACE INTO pauses (account_id, code, reason, since, tried_at, probe_at, probes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (account_id, cause.code, cause.reason, since, tried_at, pause.probe_at, probes),
    )
    return pause, news


def _probe_s(probes: int) -> float:
    """Return how long a paused account waits after it was tried for the so-many-th time."""
    return min(PROBE_LONGEST_S, PROBE_FIRST_S * 2.0 ** min(probes - 1, 10))


def may_be_tried(connection: sqlite3.Connection, account_id: int, now: float, until: float) -> bool:
    """Tell whether a call of the account may be worked on; of a paused account one may, now and then."""
    row = connection.execute("SELECT probe_at FROM pauses WHERE account_id = ?", (account_id,)).fetchone()
    if row is None:
        return True
    if row[0] > now:
        return False
    connection.execute("UPDATE pauses SET probe_at = ? WHERE account_id = ?", (until, account_id))
    return True


def end_pause(connection: sqlite3.Connection, account_id: int) -> bool:
    """Let an account's calls go on; return whether they were held back."""
    return connection.execute("DELETE FROM pauses WHERE account_id = ?", (account_id,)).rowcount > 0
