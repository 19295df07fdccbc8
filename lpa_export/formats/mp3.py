"""The length of an MP3 that does not state it.

An MP3 of variable bit rate states its number of frames in a first frame without sound ("Xing" or
"Info"). Where that is missing (a recorded stream), libsndfile divides the size of the file by the
bit rate of its beginning and reads no further than that; of files put one behind the other it reads
the first.
"""

from __future__ import annotations

import math

__all__ = ["with_stated_length"]

_ID3 = 10
_BIT_RATES = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s of layer III, by MPEG version (2.5 counts as 2) and index."""

_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Hz by the header's two bits of version, and index."""


def with_stated_length(data: bytes) -> bytes:
    """The file with its number of frames stated in front, as it is where they are stated rightly.

    Frames are counted header by header, to the end or to the first place that holds none.
    """
    start = _start(data)
    count, place = 0, start
    while (length := _length(data, place)) is not None and place + length <= len(data):
        count, place = count + 1, place + length
    first = data[start : start + (_length(data, start) or 0)]
    if count == 0 or _stated(first) >= count - 1:
        return data
    return data[:start] + _info_frame(first[:4], count) + data[start:]


def _stated(frame: bytes) -> float:
    """Frames that a first frame says follow it; 0 where it says nothing."""
    if b"VBRI" in frame:
        return math.inf  # another form, which encoders write with care
    for name in (b"Xing", b"Info"):
        place = frame.find(name) + 4
        if place >= 4 and frame[place + 3] & 1:
            return int.from_bytes(frame[place + 4 : place + 8], "big")
    return 0


def _start(data: bytes) -> int:
    """Where the first frame lies: behind an ID3 tag, if there is one."""
    if data[:3] != b"ID3" or len(data) < _ID3:
        return 0
    return _ID3 + sum(byte << 7 * (3 - place) for place, byte in enumerate(data[6:_ID3]))


def _length(data: bytes, place: int) -> int | None:
    """Bytes of the layer III frame whose header lies there; None where there is none."""
    header = int.from_bytes(data[place : place + 4], "big")
    version, layer = header >> 19 & 3, header >> 17 & 3
    bits, rate = header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or layer != 1 or version == 1 or bits in (0, 15) or rate == 3:
        return None
    full = version == 3
    bit_rate = 1000 * _BIT_RATES[1 if full else 2][bits]
    return (144 if full else 72) * bit_rate // _RATES[version][rate] + (header >> 9 & 1)


def _info_frame(header: bytes, count: int) -> bytes:
    """A frame without sound that says how many follow, like the one with this header."""
    fields = int.from_bytes(header, "big")
    full, mono = fields >> 19 & 3 == 3, fields >> 6 & 3 == 3
    side = (17 if mono else 32) if full else (9 if mono else 17)
    needed = 4 + side + 12
    for bits in range(1, 15):
        # Without a checksum and without padding.
        named = (fields & ~(0xF << 12) & ~(1 << 9) | 1 << 16) | bits << 12
        frame = named.to_bytes(4, "big")
        length = _length(frame, 0)
        if length is not None and length >= needed:
            break
    else:
        raise ValueError("no layer III frame holds 48 bytes")
    content = frame + bytes(side) + b"Info" + (1).to_bytes(4, "big") + count.to_bytes(4, "big")
    return content.ljust(length, b"\0")
