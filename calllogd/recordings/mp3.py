"""MP3 as calllogd has it made: which form suits a sound, and whether what came is of that form.

It is always MPEG 2, layer III (ISO/IEC 13818-3): lower sampling rates than its are a custom, not a standard.
"""

from typing import NamedTuple

_RATES = (16000, 22050, 24000)
"""Sampling rates. 24 kHz are enough for any voice."""

_KBITS_A_CHANNEL = 32
_KBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64)
"""Bit rates by the numbers that frames have for them."""

_SAMPLINGS = {22050: 0, 24000: 1, 16000: 2}
_SYNC = 0b111_1111_1111_10_01
"""Eleven bits that begin a frame, then those of MPEG 2 and of layer III."""

_ALONE = 0b11

_HEAD_BYTES = 4
_FRAME_SAMPLES = 576


class Form(NamedTuple):
    """A form of MP3: `rate` in hertz, bits a second."""

    rate: int
    channels: int
    kbits: int


def form_for(rate: int, channels: int) -> Form:
    """Return the form for a voice of this sampling rate."""
    return Form(
        max((one for one in _RATES if one <= rate), default=_RATES[0]), channels, _KBITS_A_CHANNEL * channels
    )


class Frames:
    """Counts the frames of an MP3 as it comes; there may be nothing else, before, between or after them."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._waiting = bytearray()
        self._count = 0

    @property
    def seconds(self) -> float:
        """How long the whole frames are that have come."""
        return self._count * _FRAME_SAMPLES / self._form.rate

    @property
    def is_whole(self) -> bool:
        """The last frame has come to its end."""
        return not self._waiting

    def feed(self, piece: bytes) -> None:
        """Take what comes next; raises ValueError for anything but frames of the form."""
        self._waiting += piece
        place = 0
        while len(self._waiting) - place >= _HEAD_BYTES:
            length = self._length(int.from_bytes(self._waiting[place : place + _HEAD_BYTES], "big"))
            if len(self._waiting) - place < length:
                break
            place += length
            self._count += 1
        del self._waiting[:place]

    def _length(self, head: int) -> int:
        """Return the bytes of the frame with this head."""
        form = self._form
        right = (
            _SYNC,
            _KBITS.index(form.kbits),
            _SAMPLINGS[form.rate],
            form.channels == 1,
        )
        if (head >> 17, head >> 12 & 0b1111, head >> 10 & 0b11, head >> 6 & 0b11 == _ALONE) != right:
            raise ValueError("not a frame of the form that was ordered")
        return _FRAME_SAMPLES // 8 * form.kbits * 1000 // form.rate + (head >> 9 & 1)
