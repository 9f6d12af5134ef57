"""What the beginning of a file says of its sound, and whether an MP3 is one from end to end."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calllogd.recordings.mp3 import Form, Frames, form_for
from calllogd.recordings.sound import SOUND_BYTES, Sound, sound_of
from tests.recordings.sounds import GSM, SOUNDS, riff, voice


def read(body: bytes) -> Sound | None:
    return sound_of(body[:SOUND_BYTES], len(body))


@pytest.mark.parametrize(
    ("body", "sound"),
    [
        (riff(1, 1, 8000, 16, bytes(16_000)), Sound("wav", 1, 8000, 1.0, plays=True)),
        (riff(1, 2, 16000, 16, bytes(96_000)), Sound("wav", 2, 16000, 1.5, plays=True)),
        (riff(1, 1, 8000, 8, bytes(8_000)), Sound("wav", 1, 8000, 1.0, plays=True)),
        (riff(1, 1, 48000, 24, bytes(144_000)), Sound("wav", 1, 48000, 1.0, plays=True)),
        (riff(3, 1, 8000, 32, bytes(32_000)), Sound("wav", 1, 8000, 1.0, plays=True)),
        (riff(6, 1, 8000, 8, bytes(8_000), byte_rate=1), Sound("wav", 1, 8000, 1.0, plays=True)),
        (riff(7, 2, 8000, 8, bytes(8_000)), Sound("wav", 2, 8000, 0.5, plays=True)),
        (riff(2, 1, 8000, 4, bytes(8_192), byte_rate=4096), Sound("wav", 1, 8000, 2.0, plays=False)),
        (riff(0x11, 1, 8000, 4, bytes(8_110), byte_rate=4055), Sound("wav", 1, 8000, 2.0, plays=False)),
        (riff(0x31, 1, 8000, 0, bytes(3_250), byte_rate=1625), Sound("wav", 1, 8000, 2.0, plays=False)),
        (GSM * 50, Sound("gsm", 1, 8000, 3.0, plays=False)),
    ],
)
def test_a_sound_is_read_off_its_beginning(body: bytes, sound: Sound) -> None:
    assert read(body) == sound


WAV = riff(1, 1, 8000, 16, bytes(160_000))
EXTENSIBLE = (
    struct.pack("<HHIIHHHHI", 0xFFFE, 1, 8000, 16000, 2, 16, 22, 16, 4) + struct.pack("<H", 1) + bytes(14)
)
EVEN = b"data" + struct.pack("<I", 160_000) + bytes(160_000)


@pytest.mark.parametrize(
    "body",
    [
        WAV[:40] + struct.pack("<I", 0) + WAV[44:],
        WAV[:40] + struct.pack("<I", 0xFFFF_FFFF) + WAV[44:],
        WAV[:40] + struct.pack("<I", 170_000) + WAV[44:],
        WAV + b"LIST" + struct.pack("<I", 4) + b"more",
        WAV[:36] + b"LIST" + struct.pack("<I", 3) + b"odd\0" + WAV[36:],
        b"RF64" + WAV[4:],
        WAV[:12] + b"fmt " + struct.pack("<I", len(EXTENSIBLE)) + EXTENSIBLE + EVEN,
    ],
    ids=["not said", "unknown", "cut", "more behind it", "more in front", "beyond 4 GB", "extensible"],
)
def test_a_header_may_be_written_in_other_ways(body: bytes) -> None:
    assert read(body) == Sound("wav", 1, 8000, 10.0, plays=True)


@pytest.mark.parametrize(
    "body",
    [
        riff(0x55, 1, 8000, 16, bytes(16_000)),
        riff(0x45, 1, 8000, 4, bytes(16_000)),
        riff(1, 3, 8000, 16, bytes(16_000)),
        riff(1, 0, 8000, 16, bytes(16_000)),
        riff(1, 1, 0, 16, bytes(16_000)),
        riff(1, 1, 3999, 16, bytes(16_000)),
        riff(1, 1, 192_001, 16, bytes(16_000)),
        riff(1, 1, 8000, 0, bytes(16_000)),
        riff(0x31, 1, 8000, 0, bytes(16_000)),
        WAV[:12] + EVEN,
        WAV[:36],
        WAV[:12] + b"fmt " + struct.pack("<I", 4) + WAV[20:24] + EVEN,
        WAV[:12] + b"LIST" + struct.pack("<I", SOUND_BYTES) + bytes(SOUND_BYTES) + WAV[12:],
        *(head for head, kind in SOUNDS.values() if kind != "audio/wav"),
        b"",
        b"<html>",
    ],
)
def test_what_is_not_for_us_is_left_alone(body: bytes) -> None:
    assert read(body) is None


@given(
    st.one_of(st.binary(max_size=100), st.binary(max_size=100).map(lambda more: WAV[:12] + more)),
    st.integers(0, 99),
)
def test_nothing_can_be_sent_that_breaks_it(head: bytes, more: int) -> None:
    for beginning in (head, WAV[:36] + head, WAV[:20] + head):
        sound = sound_of(beginning, len(beginning) + more)
        assert sound is None or sound.seconds >= 0


@pytest.mark.parametrize(
    ("rate", "best"),
    [
        (4000, 16000),
        (8000, 16000),
        (15999, 16000),
        (16000, 16000),
        (22050, 22050),
        (44100, 24000),
        (192_000, 24000),
    ],
)
def test_a_voice_needs_so_much(rate: int, best: int) -> None:
    assert form_for(rate, 1) == Form(best, 1, 32)
    assert form_for(rate, 2) == Form(best, 2, 64)


NARROW, WIDE = Form(16000, 1, 32), Form(24000, 2, 64)
NARROW_FRAME = b"\xff\xf3\x48\xc4".ljust(144, b"\x55")
WIDE_FRAME = b"\xff\xf3\x84\x44".ljust(192, b"\x55")
ODD = Form(22050, 1, 32)
ODD_FRAMES = b"\xff\xf3\x40\xc4".ljust(104, b"\x55") + b"\xff\xf3\x42\xc4".ljust(105, b"\x55")


@pytest.mark.parametrize(
    ("form", "body", "count"),
    [(NARROW, NARROW_FRAME * 125, 125), (WIDE, WIDE_FRAME * 50, 50), (ODD, ODD_FRAMES * 30, 60)],
)
@pytest.mark.parametrize("piece", [1, 3, 288, 1000, 100_000])
def test_frames_are_counted_however_they_come(form: Form, body: bytes, count: int, piece: int) -> None:
    frames = Frames(form)
    for place in range(0, len(body), piece):
        frames.feed(body[place : place + piece])
    assert frames.seconds == count * 576 / form.rate
    assert frames.is_whole


@pytest.mark.parametrize(
    "wrong",
    [
        b"ID3\x04" + bytes(140),
        bytes(144),
        b"RIFF" + bytes(140),
        WIDE_FRAME,
        b"\xff\xfb\x48\xc4".ljust(144, b"\x55"),
        b"\xff\xe3\x48\xc4".ljust(144, b"\x55"),
        b"\xff\xf5\x48\xc4".ljust(144, b"\x55"),
        b"\xff\xf3\x38\xc4".ljust(144, b"\x55"),
        b"\xff\xf3\x44\xc4".ljust(144, b"\x55"),
        b"\xff\xf3\x48\x44".ljust(144, b"\x55"),
        NARROW_FRAME[:-1],
        NARROW_FRAME + b"\xff",
    ],
    ids=[
        "a tag", "zeros", "WAV", "another rate", "MPEG 1", "MPEG 2.5", "layer II", "fewer bits", "24 kHz",
        "stereo", "too short", "too long",
    ],
)  # fmt: skip
def test_nothing_else_may_stand_between_them(wrong: bytes) -> None:
    for body in (wrong + NARROW_FRAME, NARROW_FRAME + wrong + NARROW_FRAME):
        with pytest.raises(ValueError, match="not a frame"):
            Frames(NARROW).feed(body)


def test_half_a_frame_is_none() -> None:
    for end in (1, 4, 100, 143):
        frames = Frames(NARROW)
        frames.feed(NARROW_FRAME + NARROW_FRAME[:end])
        assert frames.seconds == 576 / 16000
        assert not frames.is_whole


def test_a_voice_for_tests_is_one() -> None:
    assert read(voice(2, 16000, 2)) == Sound("wav", 2, 16000, 2.0, plays=True)
