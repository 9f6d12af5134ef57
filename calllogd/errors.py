"""Every way in which something can go wrong, on one page.

    CalllogdError
    ├── ConfigError          the configuration or the database cannot be used: an operator mends it (exit 78)
    ├── InputRefused         what a sender sent is wrong: it gets a 4xx, nothing is stored
    ├── Overloaded           more is coming in than can be stored: 503, the sender comes again
    ├── StorageError         the ledger cannot be written (disk full, locked): 503, nothing was acknowledged
    ├── LeaseLost            another worker holds the call now: this one steps back, nothing was sent
    ├── NumberTaken          another call of the number is getting its incoming lead: this one waits
    └── KommoError           what Kommo, or the way to it, answered to a request
        ├── TransientError   nothing was done: the same request may be sent again later
        ├── AccountPaused    nothing was done: the account as a whole is not served (402, 403)
        │   └── TokenRefused     nothing was done: the token is wrong, over or revoked (401)
        ├── NobodyHasNumber  nothing was done: no contact or company has the number
        ├── PermanentError   nothing was done, and the same request will never work
        │   └── Gone         there is nothing at the address that the request speaks of
        └── OutcomeUnknown   the request left, its answer did not come: look before anything is repeated

The split below KommoError is by one question: is it certain that Kommo did nothing? It is made
once, in `calllogd.kommo`, and no other module looks at a status code.
"""

from collections.abc import Mapping
from typing import Any


class CalllogdError(Exception):
    """Root of all errors of calllogd; `code` is stable, for alerts and for problem documents."""

    code = "error"


class ConfigError(CalllogdError):
    """The configuration or the database cannot be used; `mistakes` lists everything that is wrong."""

    code = "config"

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class InputRefused(CalllogdError):
    """A message is malformed, unsigned or too large; `code` is one of `calllogd.web.problems`.

    `challenge` says how a sender may show who he is.
    """

    def __init__(self, code: str, detail: str, *, challenge: str = 'Bearer realm="calllogd"') -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.challenge = challenge


class Overloaded(CalllogdError):
    """Too many messages are waiting to be stored; the sender may come again after `retry_after_s`."""

    code = "overloaded"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many messages are waiting to be stored")
        self.retry_after_s = retry_after_s


class StorageError(CalllogdError):
    """The ledger could not be written or read; whatever was asked of it did not happen."""

    code = "storage"


class LeaseLost(CalllogdError):
    """The call is no longer held by this worker, or has changed under it; nothing was sent."""

    code = "lease_lost"


class NumberTaken(CalllogdError):
    """An incoming lead of the number is being created, or has been, for another call; nothing was sent."""

    code = "number_taken"


class KommoError(CalllogdError):
    """A request to Kommo did not bring what it was sent for; `request_id` is Kommo's own, if it gave one."""

    def __init__(self, reason: str, *, request_id: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.request_id = request_id


class TransientError(KommoError):
    """Nothing was done, and it is worth trying again, `retry_after_s` from now if Kommo named a time."""

    code = "transient"

    def __init__(
        self, reason: str, *, request_id: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason, request_id=request_id)
        self.retry_after_s = retry_after_s


class AccountPaused(KommoError):
    """Nothing was done, because Kommo does not serve this account now (token, payment, rights)."""

    code = "account_paused"


class TokenRefused(AccountPaused):
    """Nothing was done, because Kommo does not take the token that was shown."""

    code = "token_refused"


class NobodyHasNumber(KommoError):
    """Nothing was done: no contact and no company of the account has the call's number.

    `answer` is Kommo's, for requests with several calls, of which some may have been made all the same.
    """

    code = "nobody_has_number"

    def __init__(
        self, reason: str, *, request_id: str | None = None, answer: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(reason, request_id=request_id)
        self.answer = answer or {}


class PermanentError(KommoError):
    """Nothing was done, and sending the same again would be refused again."""

    code = "refused"


class Gone(PermanentError):
    """Nothing was done: what the request speaks of is not there, or no longer."""

    code = "gone"


class OutcomeUnknown(KommoError):
    """The request may have been carried out: its answer was lost, late or unreadable."""

    code = "outcome_unknown"
