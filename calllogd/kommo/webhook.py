"""Kommo's own webhooks: what their forms say, and the secret in their address. Pure.

Kommo signs nothing, so only who knows the address can tell us something; and what is told is no more than a
reason to look: whether a number has a contact is asked of Kommo again.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote_plus

from calllogd.domain.call import LeadState
from calllogd.voip.usecase.hear_kommo import LeadSorted, News, NumberAppeared

KEY_BYTES_LEAST = 16
NAME_MOST = 300
"""Characters of a form's name, as it is sent."""

PHONE_MOST = 64
UID_MOST = 255

_ACCOUNT_ID = re.compile("[1-9][0-9]{0,15}")

_CARDS = (b"contacts", b"companies")
"""Companies come among the contacts, too, told apart by a `type` that makes no difference here."""

_APPEARED = ("add", "update")
_SORTED = {"accept": LeadState.ACCEPTED, "decline": LeadState.DECLINED}
_PHONE = "PHONE"

Path = tuple[str, ...]
"""The parts of a name: `contacts[add][0][id]` has four."""


class WebhookSecrets:
    """Makes and knows the secrets that stand in the addresses which Kommo calls.

    The secret of an account is the same until `key` is another. Raises ValueError for a short key.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES_LEAST:
            raise ValueError(f"the key of webhook secrets should have {KEY_BYTES_LEAST} bytes or more")
        self._key = key

    def secret(self, account_id: int) -> str:
        """Return the secret of an account: 64 hexadecimal digits."""
        return hmac.new(self._key, f"kommo-webhook:{account_id}".encode(), hashlib.sha256).hexdigest()

    def account_of(self, account_id: str, secret: str) -> int | None:
        """Return the account that an address is for; None if the secret is not its own."""
        if _ACCOUNT_ID.fullmatch(account_id) is None:
            return None
        right = self.secret(int(account_id)).encode()
        shown = secret.encode("utf-8", "surrogatepass")
        return int(account_id) if hmac.compare_digest(right, shown) else None


def parse(body: bytes) -> Sequence[News]:
    """Return what a form tells that matters here; all else, and what cannot be read, is passed over.

    Names are PHP's: `contacts[add][0][custom_fields][0][code]=PHONE`. Of two fields with the same name the
    later one counts. Source: developers.kommo.com/docs/webhooks-general, as of reference/kommo-api.md 9.
    """
    cards: dict[Path, str] = {}
    leads: dict[Path, str] = {}
    for item in body.split(b"&"):
        if item.startswith(_CARDS):
            _keep(cards, item)
        elif item.startswith(b"unsorted"):
            _keep(leads, item)
    return [*_sorted(leads), *_appeared(cards)]


def _keep(fields: dict[Path, str], item: bytes) -> None:
    name, _, value = item.partition(b"=")
    if len(name) <= NAME_MOST:
        fields[tuple(_text(name).replace("]", "").split("["))] = _text(value)


def _text(raw: bytes) -> str:
    return unquote_plus(raw.decode("utf-8", "replace"), errors="replace")


def _appeared(fields: Mapping[Path, str]) -> Sequence[NumberAppeared]:
    """Return the numbers of cards: the values of their custom fields with the code PHONE."""
    phones: list[NumberAppeared] = []
    for path, value in fields.items():
        match path:
            case (kind, action, card, "custom_fields", field, "values", _, *rest) if rest in ([], ["value"]):
                code = fields.get((kind, action, card, "custom_fields", field, "code"))
                phone = value.strip()
                if action in _APPEARED and code == _PHONE and 0 < len(phone) <= PHONE_MOST:
                    phones.append(NumberAppeared(phone))
            case _:
                pass
    return phones


def _sorted(fields: Mapping[Path, str]) -> Sequence[LeadSorted]:
    """Return the incoming leads that are there no longer, and what became of them.

    That is as Kommo names it, else as the leads tell that came of it.
    """
    uids: dict[str, str] = {}
    actions: dict[str, str] = {}
    results: dict[str, set[LeadState]] = {}
    for path, value in fields.items():
        match path:
            case (_, "delete", place, "uid"):
                uids[place] = value
            case (_, "delete", place, "action"):
                actions[place] = value
            case (_, "delete", place, "accept_result" | "decline_result" as word, *_) if value:
                results.setdefault(place, set()).add(_SORTED[word.removesuffix("_result")])
            case _:
                pass
    leads: list[LeadSorted] = []
    for place, uid in uids.items():
        said = {_SORTED.get(actions[place])} if place in actions else results.get(place, set())
        state = next(iter(said)) if len(said) == 1 else None
        if state is not None and 0 < len(uid) <= UID_MOST and uid.isprintable():
            leads.append(LeadSorted(uid, state))
    return leads
