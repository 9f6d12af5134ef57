"""Sessions of operators: what stands in the cookie, and how a form shows that it is ours.

The server keeps nothing of a session that is under way. It is signed with a key of the daemon's and the
admin token together, so that another token ends them all; those that were ended are remembered.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

SESSION_S = 12 * 3600
"""How long a session lasts, used or not."""

ENDED_MOST = 10_000
"""Ended sessions that are remembered; each took the admin token to begin."""

_PURPOSE = b"calllogd operator session 1\0"
_COOKIE = re.compile(r"([0-9a-f]{32})\.([0-9]{1,12})\.([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Session:
    """A session, until Unix second `until`."""

    id: str
    until: int


class Sessions:
    """Makes sessions and knows them again, for as long as key and admin token are the same."""

    def __init__(self, token: str, key: bytes) -> None:
        self._key = hmac.digest(key, _PURPOSE + token.encode(), hashlib.sha256)

    def begin(self, now: float) -> str:
        """Return what the cookie of a new session says."""
        said = f"{secrets.token_hex(16)}.{int(now) + SESSION_S}"
        return f"{said}.{self._mac('session', said)}"

    def read(self, cookie: str, now: float) -> Session | None:
        """Return the session of a cookie, None if it is not of ours or over."""
        match = _COOKIE.fullmatch(cookie)
        if match is None:
            return None
        name, until, mac = match.groups()
        if not hmac.compare_digest(self._mac("session", f"{name}.{until}").encode(), mac.encode()):
            return None
        # The other bound: a clock that was set back must not make sessions last.
        return Session(name, int(until)) if now < int(until) <= now + SESSION_S else None

    def csrf(self, session: Session) -> str:
        """Return what the forms of a session carry: pages of others cannot know it."""
        return self._mac("csrf", session.id)

    def is_csrf(self, session: Session, shown: str) -> bool:
        """Tell whether a form is the session's own."""
        return hmac.compare_digest(self.csrf(session).encode(), shown.encode("utf-8", "surrogatepass"))

    def _mac(self, purpose: str, said: str) -> str:
        return hmac.digest(self._key, f"{purpose}\0{said}".encode(), hashlib.sha256).hex()


class EndedSessions:
    """Sessions that were ended before their time, until that is over."""

    def __init__(self) -> None:
        self._until: dict[str, int] = {}

    def __contains__(self, session: Session) -> bool:
        return session.id in self._until

    def __len__(self) -> int:
        return len(self._until)

    def end(self, session: Session, now: float) -> None:
        """Remember that a session is over."""
        self._until = {name: until for name, until in self._until.items() if until > now}
        if len(self._until) >= ENDED_MOST:
            del self._until[min(self._until, key=self._until.__getitem__)]
        self._until[session.id] = session.until
