"""What kind of sound a file is, by its first bytes: what a sender says of it is not believed."""

from collections.abc import Sequence

HEAD_BYTES = 264
"""So much of a file's beginning tells what it is: eight frames of GSM, where it is declared."""

_MARKS: Sequence[tuple[int, bytes, str]] = (
    (0, b"ID3", "audio/mpeg"),
    (0, b"OggS", "audio/ogg"),
    (0, b"fLaC", "audio/flac"),
    (4, b"ftyp", "audio/mp4"),
    (0, b"#!AMR\n", "audio/amr"),
    (0, b"#!AMR-WB\n", "audio/amr-wb"),
    (0, b".snd", "audio/basic"),
    (0, b"\x1a\x45\xdf\xa3", "audio/webm"),
)
_GSM = ("audio/gsm", "audio/x-gsm")
_GSM_FRAME_BYTES = 33
_GSM_SIGN = 0b1101

_MPEG_SYNC, _AAC_SYNC = 0b111_1111_1111, 0b1111_1111_1111
_MPEG_LAYERS = (0b01, 0b10)
"""Layers III and II, as a frame numbers them; layer I is used by nobody, and looks like a text in UTF-16."""

_RESERVED_VERSION, _RESERVED_SAMPLING = 0b01, 0b11
_NO_RATES = (0b0000, 0b1111)
_AAC_SAMPLINGS = 13


def kind_of(head: bytes, *, declared: str | None) -> str | None:
    """Return the media type of what begins with `head`; None if that is no sound.

    `declared` is the type that the sender gives: only GSM, which has no mark of its own, needs it.
    """
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "audio/wav"
    for place, mark, kind in _MARKS:
        if head[place : place + len(mark)] == mark:
            return kind
    if _is_mpeg(head):
        return "audio/mpeg"
    if _is_aac(head):
        return "audio/aac"
    if declared in _GSM and _is_gsm(head):
        return "audio/gsm"
    return None


def _is_mpeg(head: bytes) -> bool:
    """Tell a frame of MPEG audio, layer II or III: the sync word, and no reserved value after it."""
    frame = int.from_bytes(head[:4], "big")
    return (
        frame >> 21 == _MPEG_SYNC
        and frame >> 19 & 0b11 != _RESERVED_VERSION
        and frame >> 17 & 0b11 in _MPEG_LAYERS
        and frame >> 12 & 0b1111 not in _NO_RATES
        and frame >> 10 & 0b11 != _RESERVED_SAMPLING
    )


def _is_aac(head: bytes) -> bool:
    """Tell a frame of ADTS: the sync word, layer 0, and a sampling rate that there is."""
    frame = int.from_bytes(head[:4], "big")
    return frame >> 20 == _AAC_SYNC and frame >> 17 & 0b11 == 0 and frame >> 10 & 0b1111 < _AAC_SAMPLINGS


def _is_gsm(head: bytes) -> bool:
    """Tell frames of GSM 06.10: each has 33 bytes, of which the first begins with 1101."""
    signs = {first >> 4 for first in head[::_GSM_FRAME_BYTES]}
    return len(head) >= _GSM_FRAME_BYTES and signs == {_GSM_SIGN}
