"""Recordings made up from their names: small, playable, and the same for the same name."""

import array
import io
import math
import struct
import sys
import wave
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final

WAV_RATE: Final = 8000
WAV_LOUDNESS: Final = 8000
LOWEST_HZ, RANGE_HZ = 300, 600

# MPEG 1 layer III, 64 kbit/s, 44.1 kHz, one channel; a frame of zeros behind its header is silence.
MP3_HEADER: Final = b"\xff\xfb\x50\xc0"
MP3_FRAME_BYTES: Final = 208
MP3_FRAME_S: Final = 1152 / 44100


def sound(name: str, seconds: float) -> tuple[str, bytes] | None:
    """Content type and bytes of the recording of this name; None when it ends in neither .wav nor .mp3."""
    maker = MAKERS.get(PurePosixPath(name).suffix)
    return None if maker is None else maker(name, seconds)


@lru_cache(maxsize=256)
def _wav(name: str, seconds: float) -> tuple[str, bytes]:
    turn = 2 * math.pi * (LOWEST_HZ + zlib.crc32(name.encode()) % RANGE_HZ) / WAV_RATE
    samples = array.array(
        "h", (int(WAV_LOUDNESS * math.sin(turn * n)) for n in range(int(seconds * WAV_RATE)))
    )
    if sys.byteorder == "big":
        samples.byteswap()
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(WAV_RATE)
        file.writeframes(samples.tobytes())
    return "audio/wav", out.getvalue()


@lru_cache(maxsize=256)
def _mp3(name: str, seconds: float) -> tuple[str, bytes]:
    frames = MP3_HEADER.ljust(MP3_FRAME_BYTES, b"\0") * math.ceil(seconds / MP3_FRAME_S)
    return "audio/mpeg", _id3(name) + frames


def _id3(title: str) -> bytes:
    """A tag with the title, so that recordings of the same length differ."""
    text = b"\x01" + title.encode("utf-16")
    frame = b"TIT2" + struct.pack(">IH", len(text), 0) + text
    # Seven bits a byte, so that no length looks like the beginning of a frame.
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + size + frame


MAKERS: Final[Mapping[str, Callable[[str, float], tuple[str, bytes]]]] = {".wav": _wav, ".mp3": _mp3}
