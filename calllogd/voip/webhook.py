"""A request of a VoIP service, as it came, and what it is answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote, unquote_to_bytes

from calllogd.errors import InputRefused

FIELDS_MOST = 500
"""Fields of a form at most."""

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A request of a VoIP service.

    `url` is the address that the service has called, its query as it was written: what calllogd is reached
    under, not what it listens on. `rest` is what stands behind the account's id in its path, without a slash
    in front. `headers` are found in any case. `peer` is the address of whoever sent it.

    Bytes that are no UTF-8 are kept as lone surrogates, so that a signature is made of what was signed.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    rest: str = ""
    peer: str = ""

    @property
    def first_segment(self) -> str:
        """The first part of `rest`, decoded; empty if there is none."""
        return unquote(self.rest.lstrip("/").partition("/")[0], errors="surrogateescape")

    @cached_property
    def query(self) -> Pairs:
        """The fields of the address, decoded, in their order, empty ones too; raises InputRefused."""
        return read_fields(self.url.partition("?")[2])

    @cached_property
    def form(self) -> Pairs:
        """The fields of the body, likewise."""
        return read_fields(self.body.decode("utf-8", "surrogateescape"))

    @cached_property
    def fields(self) -> Mapping[str, str]:
        """The fields of address and body by their names, as `texts` has them."""
        return texts((*self.query, *self.form) if is_form(self) else self.query)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a VoIP service is answered."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)


EMPTY = Reply()
"""200 without a body, for services that would take one for an order."""


def read_fields(text: str) -> Pairs:
    """Return the fields of a query or form, decoded; raises InputRefused for more than FIELDS_MOST."""
    # As parse_qsl does, in half the time: most of what is sent has nothing in it that must be decoded.
    pairs = text.replace("+", " ").split("&", FIELDS_MOST)
    if len(pairs) > FIELDS_MOST:
        raise InputRefused("malformed", f"more than {FIELDS_MOST} fields")
    parted = [pair.partition("=") for pair in pairs if pair]
    return [
        (_decoded(name), _decoded(value)) if "%" in name or "%" in value else (name, value)
        for name, _, value in parted
    ]


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def texts(pairs: Pairs) -> Mapping[str, str]:
    """Return fields by their names, of several the last one, fit to be read: what is no UTF-8 is replaced."""
    known = dict(pairs)
    if all(map(str.isascii, known)) and all(map(str.isascii, known.values())):
        return known
    return {plain(name): plain(value) for name, value in pairs}


def is_form(webhook: Webhook) -> bool:
    """Tell whether the body says that it is a form."""
    return webhook.headers.get("Content-Type", "").lower().startswith("application/x-www-form-urlencoded")


def plain(text: str) -> str:
    """Return a text without lone surrogates."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def segments(rest: str) -> Sequence[str]:
    """Return the decoded parts of a path."""
    return [unquote(part, errors="surrogateescape") for part in rest.split("/") if part]
