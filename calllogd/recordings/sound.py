"""How a WAV or GSM file sounds, by its beginning: what has to be known to make another file of it."""

import struct
from typing import NamedTuple

from calllogd.recordings.audio import kind_of

SOUND_BYTES = 64 * 1024
"""So much of a file's beginning has its header."""

CHANNELS_MOST = 2
LOWEST_RATE, HIGHEST_RATE = 4000, 192_000

_GSM_FRAME_BYTES, _GSM_FRAME_S, _GSM_RATE = 33, 0.02, 8000

_PCM, _MS_ADPCM, _FLOAT, _A_LAW, _MU_LAW, _IMA_ADPCM, _MS_GSM = 0x01, 0x02, 0x03, 0x06, 0x07, 0x11, 0x31
_EXTENSIBLE = 0xFFFE
_EVEN = frozenset({_PCM, _FLOAT, _A_LAW, _MU_LAW})
"""Codings that have as many bytes for each sample; they are also those that browsers play."""

_KNOWN = _EVEN | {_MS_ADPCM, _IMA_ADPCM, _MS_GSM}
_FIRST_CHUNK, _CHUNK_HEAD_BYTES, _FORMAT_BYTES = 12, 8, 16
_SUBFORMAT = 24
_UNKNOWN_SIZES = (0, 0xFFFF_FFFF)
"""Written where a file grows and nobody comes back to say how long it became."""


class Sound(NamedTuple):
    """A sound: its `form` as ffmpeg calls it, and whether browsers play it; `rate` is in hertz."""

    form: str
    channels: int
    rate: int
    seconds: float
    plays: bool


def sound_of(head: bytes, size: int) -> Sound | None:
    """Return how a file of `size` bytes sounds that begins with `head`; None if it is not for us to say."""
    kind = kind_of(head, declared="audio/gsm")
    if kind == "audio/gsm":
        return Sound("gsm", 1, _GSM_RATE, size // _GSM_FRAME_BYTES * _GSM_FRAME_S, plays=False)
    return _wav(head, size) if kind == "audio/wav" else None


def _wav(head: bytes, size: int) -> Sound | None:
    form: tuple[int, ...] | None = None
    place = _FIRST_CHUNK
    while place + _CHUNK_HEAD_BYTES <= len(head):
        name, length = struct.unpack_from("<4sI", head, place)
        place += _CHUNK_HEAD_BYTES
        if name == b"fmt " and length >= _FORMAT_BYTES and place + _FORMAT_BYTES <= len(head):
            form = struct.unpack_from("<HHIIHH", head, place)
            if form[0] == _EXTENSIBLE and place + _SUBFORMAT + 2 <= len(head):
                form = (*struct.unpack_from("<H", head, place + _SUBFORMAT), *form[1:])
        if name == b"data":
            there = max(size - place, 0)
            return (
                None
                if form is None
                else _of_format(form, there if length in _UNKNOWN_SIZES else length, there)
            )
        place += length + length % 2
    return None


def _of_format(form: tuple[int, ...], told: int, there: int) -> Sound | None:
    coding, channels, rate, bytes_a_second, _, bits = form
    if coding in _EVEN:
        bytes_a_second = rate * channels * bits // 8
    if coding not in _KNOWN or not 1 <= channels <= CHANNELS_MOST or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        return None
    if bytes_a_second == 0:
        return None
    return Sound("wav", channels, rate, min(told, there) / bytes_a_second, plays=coding in _EVEN)
