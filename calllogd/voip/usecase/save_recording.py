"""A recording that a VoIP service uploads, into the ledger; its sound goes to the files meanwhile."""

import re
from typing import Protocol

from calllogd.domain.call import CallKey, CallState, Recording, RecordingState
from calllogd.domain.merge import CallEvent
from calllogd.errors import InputRefused, StorageError
from calllogd.ports import Clock, Message, Recordings, VoipCalls
from calllogd.voip.provider import Provider
from calllogd.voip.webhook import Webhook

CALL_ID_MOST = 255

_WRONG = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class KeptRecordings(Recordings, Protocol):
    """The files of recordings, as an upload sees them."""

    async def find(self, key: CallKey) -> object | None:
        """Return the call's recording, None if there is none; raises StorageError."""
        ...


class SaveRecordingUseCase:
    """Takes uploaded recordings in.

    An upload takes minutes, and nothing may hold the ledger for so long. Whoever receives it therefore calls
    `admit` before the first byte, and `execute` when the file is kept.
    """

    def __init__(self, *, calls: VoipCalls, recordings: KeptRecordings, clock: Clock) -> None:
        self._calls = calls
        self._recordings = recordings
        self._clock = clock

    def admit(self, provider: Provider | None, webhook: Webhook, account_id: str, call_id: str) -> CallKey:
        """Return the call that an upload is for; raises InputRefused.

        `webhook` is the request without its body, which a signature would have to cover. None for the
        provider is an account that is not there, which the sender does not learn.
        """
        if provider is None or not self._is_known(provider, webhook):
            raise InputRefused(
                "unauthorized", "an upload needs the account's bearer token; a signature does not cover it"
            )
        if not 1 <= len(call_id) <= CALL_ID_MOST or _WRONG.search(call_id):
            raise InputRefused("invalid", "call_id should have 1 to 255 characters, no control characters")
        return CallKey(int(account_id), call_id)

    async def execute(
        self, name: str, key: CallKey, media_type: str
    ) -> tuple[CallState, RecordingState, bool]:
        """Tell the ledger of a recording that is kept.

        Return the call's state, the recording's, and whether it is the call's first; on disk by then.
        Idempotent. The file is deleted if the call's recording has been deleted already. Raises StorageError
        and Overloaded, and then the sender has to come again.
        """
        if await self._recordings.find(key) is None:
            raise StorageError("the recording has gone before it was entered in the ledger")
        before = await self._calls.get(key)
        event = CallEvent(key=key, recording=Recording(state=RecordingState.READY, media_type=media_type))
        message = Message(event=event, who=name, what="recording uploaded", body=b"")
        accepted = await self._calls.accept(message, self._clock.now())
        call = await self._calls.get(key)
        state = RecordingState.READY if call is None else call.recording.state
        if state is not RecordingState.READY:
            await self._recordings.delete(key)
        had_one = before is not None and before.recording.state is RecordingState.READY
        return accepted.state, state, state is RecordingState.READY and not had_one

    def _is_known(self, provider: Provider, webhook: Webhook) -> bool:
        try:
            provider.verify_upload(webhook, self._clock.now())
        except InputRefused:
            return False
        return True
