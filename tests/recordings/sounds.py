"""Beginnings of sounds, and of what is none, as VoIP services send them."""

import array
import math
import struct
from collections.abc import AsyncIterator, Iterable

WAV = b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
SOUNDS = {
    "wav": (WAV + b"data\0\0\0\0", "audio/wav"),
    "wav beyond 4 GB": (b"RF64\xff\xff\xff\xffWAVEds64", "audio/wav"),
    "mp3 with tags": (b"ID3\x04\0\0\0\0\0\x23TSSE", "audio/mpeg"),
    "mp3, MPEG 1 layer III": (b"\xff\xfb\x90\x64" + bytes(40), "audio/mpeg"),
    "mp3, MPEG 2 layer III": (b"\xff\xf3\x48\xc4" + bytes(40), "audio/mpeg"),
    "mp3, MPEG 2.5": (b"\xff\xe3\x18\xc4" + bytes(40), "audio/mpeg"),
    "mp2": (b"\xff\xfd\x84\x00" + bytes(40), "audio/mpeg"),
    "aac": (b"\xff\xf1\x50\x80" + bytes(40), "audio/aac"),
    "ogg": (b"OggS\0\x02" + bytes(40), "audio/ogg"),
    "flac": (b"fLaC\0\0\0\x22", "audio/flac"),
    "m4a": (b"\0\0\0\x20ftypM4A \0\0\0\0", "audio/mp4"),
    "mp4": (b"\0\0\0\x18ftypmp42", "audio/mp4"),
    "amr": (b"#!AMR\n\x3c", "audio/amr"),
    "amr wide band": (b"#!AMR-WB\n\x04", "audio/amr-wb"),
    "au": (b".snd\0\0\0\x18", "audio/basic"),
    "webm": (b"\x1a\x45\xdf\xa3\x9f", "audio/webm"),
}
GSM = (b"\xd4" + bytes(32)) * 3
NO_SOUNDS = {
    "nothing": b"",
    "a page": b"<!DOCTYPE html><html><body>Please log in</body></html>",
    "a page in UTF-16": "<html>sign in</html>".encode("utf-16"),
    "JSON": b'{"error": "not found"}',
    "JSON in UTF-16": '{"error": "not found"}'.encode("utf-16"),
    "a picture": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "another picture": b"RIFF\0\0\0\0WEBPVP8 ",
    "a program": b"\x7fELF\x02\x01\x01",
    "an archive": b"PK\x03\x04",
    "a document": b"%PDF-1.7",
    "ones": b"\xff" * 200,
    "zeros": bytes(200),
    "GSM that does not say so": GSM,
    "only a mark's beginning": b"RIFF\0\0\0\0WAV",
}


def wav(size: int, filling: bytes = b"\x01") -> bytes:
    """Return a sound of `size` bytes."""
    return WAV + filling * (size - len(WAV))


def riff(coding: int, channels: int, rate: int, bits: int, body: bytes, *, byte_rate: int = 0) -> bytes:
    """Return a WAV of this form; `byte_rate` is what its coding needs a second, where it is not even."""
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", coding, channels, rate, byte_rate or rate * block, block, bits)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def voice(seconds: float, rate: int = 8000, channels: int = 1) -> bytes:
    """Return a WAV with a tone that is 100 Hz higher every second."""
    turns = (2 * math.pi * (300 + 100 * (n // rate % 20)) * n / rate for n in range(int(seconds * rate)))
    samples = array.array("h", (int(8000 * math.sin(turn)) for turn in turns for _ in range(channels)))
    return riff(1, channels, rate, 16, samples.tobytes())


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def torn(parts: Iterable[bytes], error: BaseException) -> AsyncIterator[bytes]:
    """Bring some parts, and then break."""
    for part in parts:
        yield part
    raise error
