"""The one message of the queue: a ring of the bell for a call."""

import json
from dataclasses import dataclass
from typing import Self

from calllogd.domain.call import CallKey


@dataclass(frozen=True, slots=True)
class AddCallTask:
    """Names a call that may need work, and carries nothing else: what is to be done stands in the ledger."""

    account_id: int
    call_id: str

    @property
    def key(self) -> CallKey:
        """The call's identity."""
        return CallKey(self.account_id, self.call_id)

    def to_json(self) -> bytes:
        """Return the message as it stands in the queue."""
        return json.dumps({"account_id": self.account_id, "call_id": self.call_id}).encode()

    @classmethod
    def from_json(cls, message: bytes) -> Self:
        """Return the task of a message; raises ValueError for anything that is not one."""
        match json.loads(message):
            case {"account_id": int(account_id), "call_id": str(call_id)}:
                return cls(account_id, call_id)
            case _:
                raise ValueError("not an AddCallTask")
