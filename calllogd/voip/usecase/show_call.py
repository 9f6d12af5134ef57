"""A call as its manager sees it in Kommo's widget."""

from calllogd.domain.call import Call, CallKey
from calllogd.errors import InputRefused
from calllogd.ports import VoipCalls
from calllogd.voip.fields import checked_call_id
from calllogd.voip.widget import WidgetUser


class ShowCallUseCase:
    """Looks calls up for users of the widget."""

    def __init__(self, *, calls: VoipCalls) -> None:
        self._calls = calls

    async def execute(self, user: WidgetUser, call_id: str) -> Call:
        """Return a call of the user's account as it is known now.

        Raises InputRefused (`not_found`) for every other one: nobody learns of calls of other accounts.
        Raises StorageError.
        """
        call = await self._calls.get(CallKey(user.account_id, checked_call_id(call_id)))
        if call is None:
            raise InputRefused("not_found", "no such call is known")
        return call
