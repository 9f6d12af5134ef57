"""What telephone systems of the company's own have in common: their extensions, and a folder of recordings.

No file is looked at here: whether it is there, and what it is, is found out by whoever opens it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from calllogd.config import Setting
from calllogd.config.values import number, path
from calllogd.domain.call import NO_RECORDING, Recording, RecordingState
from calllogd.domain.phone import EXTENSION_DIGITS, Kind, read
from calllogd.voip.errand import ErrandFailed, LocalFile
from calllogd.voip.provider.generic import is_safe

INBOUND, OUTBOUND, INTERNAL = "inbound", "outbound", "internal"

DIRECTIONS: Mapping[str, str] = MappingProxyType(
    {
        "in": INBOUND,
        "inbound": INBOUND,
        "incoming": INBOUND,
        "out": OUTBOUND,
        "outbound": OUTBOUND,
        "outgoing": OUTBOUND,
        "internal": INTERNAL,
        "local": INTERNAL,
    }
)
"""Words with which a dialplan says who called whom."""

_PLACE_MOST = 1000
"""Characters of a recording's path or address."""

_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def names(value: Any) -> tuple[str, ...]:
    """Return the names of a list."""
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one.strip() for one in value):
        raise ValueError('a list of names, such as ["from-trunk"]')
    return tuple(one.strip() for one in value)


ON_PREMISES: Mapping[str, Setting] = {
    "extension_digits": Setting(
        number(2, 9, whole=True), EXTENSION_DIGITS, "digits of the company's extensions at most"
    ),
    "recordings": Setting(
        path,
        None,
        "folder of the recordings on this machine; absent: only those are taken that have an address",
        show='"/…"',
    ),
}
"""Settings of every telephone system that stands on the company's own ground."""


def is_inside(text: str, digits_most: int) -> bool:
    """Tell whether a text names somebody of the company, by an extension, a code or a name."""
    kind, known = read(text)
    return len(known.removeprefix("+")) <= digits_most if known else kind is Kind.INTERNAL


def is_extension(text: str, digits_most: int) -> bool:
    """Tell whether a text is an extension's number, and nothing else."""
    return text.isascii() and text.isdigit() and is_inside(text, digits_most)


def recording_of(service: str, folder: Path | None, told: str) -> Recording:
    """Return the recording that a telephone system names: a file of its folder, or an address.

    Nothing, if it is neither: what is outside of the folder is none of calllogd's business.
    """
    if not told:
        return NO_RECORDING
    inner = None if folder is None else _inside(folder, told)
    if told.startswith(("https://", "http://")):
        url = told if len(told) <= _PLACE_MOST and is_safe(told) else None
    else:
        url = None if inner is None else f"{service}:{inner}"
    return NO_RECORDING if url is None else Recording(state=RecordingState.EXPECTED, url=url)


def file_of(folder: Path | None, reference: str) -> LocalFile:
    """Return the file that a reference means; raises ErrandFailed for one that is not in the folder."""
    if folder is None:
        raise ErrandFailed("recordings is not set, so no file can be taken", is_final=True)
    inner = None if reference.startswith("/") else _inside(folder, reference)
    if inner is None:
        raise ErrandFailed("the recording's file is not in the folder of recordings", is_final=True)
    return LocalFile(path=folder / inner, folder=folder)


def _inside(folder: Path, told: str) -> str | None:
    """Return a path as seen from the folder, None if it leads elsewhere."""
    if len(told) > _PLACE_MOST or _UNFIT.search(told):
        return None
    parts = [part for part in told.split("/") if part not in ("", ".")]
    if told.startswith("/"):
        above = list(folder.parts[1:])
        if parts[: len(above)] != above:
            return None
        del parts[: len(above)]
    return "/".join(parts) if parts and ".." not in parts else None
