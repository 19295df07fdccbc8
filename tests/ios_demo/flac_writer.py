"""A FLAC encoder for tests: every kind of frame that RFC 9639 knows, on demand.

An ordinary encoder chooses what packs best, so it never shows a decoder most of the format. Here
the caller chooses: the subframe of each channel, decorrelation, wasted bits, partitions, escapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["INDEPENDENT", "LEFT_SIDE", "MID_SIDE", "SIDE_RIGHT", "Subframe", "flac", "frame"]

INDEPENDENT, LEFT_SIDE, SIDE_RIGHT, MID_SIDE = 0, 8, 9, 10
_FIXED: tuple[list[int], ...] = ([], [1], [2, -1], [3, -3, 1], [4, -6, 4, -1])
_PRECISION = 12


@dataclass(frozen=True)
class Subframe:
    """How a channel of a frame is stored.

    ``kind``: constant, verbatim, fixed or lpc. ``order``: of the last two. ``partitions``: their
    exponent. ``escaped``: partitions whose residuals are stored plainly. ``method``: 1 for Rice
    parameters of five bits. ``wasted``: low bits that are zero in every sample.
    """

    kind: str = "verbatim"
    order: int = 0
    partitions: int = 0
    escaped: frozenset[int] = frozenset()
    method: int = 0
    wasted: int = 0


def flac(
    frames: Sequence[bytes],
    *,
    rate: int,
    depth: int,
    channels: int,
    samples: int,
    padding: int = 0,
) -> bytes:
    """A stream of frames made by :func:`frame`; ``samples`` 0: not known to the encoder."""
    bits = _Bits()
    for value, width in ((16, 16), (65535, 16), (0, 24), (0, 24), (rate, 20)):
        bits.put(value, width)
    for value, width in ((channels - 1, 3), (depth - 1, 5), (samples, 36), (0, 128)):
        bits.put(value, width)
    info = bits.bytes()
    blocks = [(0, info)] + ([(1, bytes(padding))] if padding else [])
    head = b"fLaC"
    for index, (kind, body) in enumerate(blocks):
        last = 0x80 if index == len(blocks) - 1 else 0
        head += bytes([last | kind]) + len(body).to_bytes(3, "big") + body
    return head + b"".join(frames)


def frame(
    channels: Sequence[Sequence[int]],
    subframes: Sequence[Subframe],
    *,
    depth: int,
    number: int,
    decorrelation: int = INDEPENDENT,
    variable: bool = False,
    rate_bits: tuple[int, int, int] = (0, 0, 0),
    depth_code: int = 0,
) -> bytes:
    """One frame of samples per channel. ``rate_bits``: code, field and width of the rate."""
    size = len(channels[0])
    size_code, size_width = (6, 8) if size <= 256 else (7, 16)
    bits = _Bits()
    bits.put(0x3FFE << 2 | variable, 16)
    bits.put(size_code, 4)
    bits.put(rate_bits[0], 4)
    bits.put(decorrelation or len(channels) - 1, 4)
    bits.put(depth_code, 3)
    bits.put(0, 1)
    for byte in _number(number):
        bits.put(byte, 8)
    bits.put(size - 1, size_width)
    bits.put(rate_bits[1], rate_bits[2])
    bits.put(_crc(bits.bytes(), 0x07, 8), 8)
    stored = _decorrelated(channels, decorrelation)
    for index, (samples, subframe) in enumerate(zip(stored, subframes, strict=True)):
        side = (decorrelation, index) in {(LEFT_SIDE, 1), (SIDE_RIGHT, 0), (MID_SIDE, 1)}
        _put_subframe(bits, samples, subframe, depth + side)
    bits.align()
    bits.put(_crc(bits.bytes(), 0x8005, 16), 16)
    return bits.bytes()


class _Bits:
    def __init__(self) -> None:
        self._digits: list[str] = []

    def put(self, value: int, width: int) -> None:
        """Two's complement of ``value`` in so many bits."""
        if width:
            self._digits.append(format(value & ((1 << width) - 1), f"0{width}b"))

    def unary(self, zeros: int) -> None:
        self._digits.append("0" * zeros + "1")

    def align(self) -> None:
        self._digits.append("0" * (-len("".join(self._digits)) % 8))

    def bytes(self) -> bytes:
        digits = "".join(self._digits)
        assert len(digits) % 8 == 0
        return int(digits, 2).to_bytes(len(digits) // 8, "big") if digits else b""


def _decorrelated(channels: Sequence[Sequence[int]], mode: int) -> list[list[int]]:
    plain = [[int(value) for value in samples] for samples in channels]
    if mode == INDEPENDENT:
        return plain
    left, right = plain
    side = [a - b for a, b in zip(left, right, strict=True)]
    if mode == LEFT_SIDE:
        return [left, side]
    if mode == SIDE_RIGHT:
        return [side, right]
    return [[(a + b) >> 1 for a, b in zip(left, right, strict=True)], side]


def _put_subframe(bits: _Bits, samples: list[int], how: Subframe, depth: int) -> None:
    kinds = {"constant": 0, "verbatim": 1, "fixed": 8 + how.order, "lpc": 31 + how.order}
    bits.put(0, 1)
    bits.put(kinds[how.kind], 6)
    bits.put(how.wasted > 0, 1)
    if how.wasted:
        bits.unary(how.wasted - 1)
        assert all(value % (1 << how.wasted) == 0 for value in samples)
        samples = [value >> how.wasted for value in samples]
        depth -= how.wasted
    if how.kind == "constant":
        assert len(set(samples)) == 1
        bits.put(samples[0], depth)
        return
    if how.kind == "verbatim":
        for value in samples:
            bits.put(value, depth)
        return
    for value in samples[: how.order]:
        bits.put(value, depth)
    coefficients, shift = list(_FIXED[how.order]) if how.kind == "fixed" else [], 0
    if how.kind == "lpc":
        coefficients, shift = _predictor(samples, how.order)
        bits.put(_PRECISION - 1, 4)
        bits.put(shift, 5)
        for coefficient in coefficients:
            bits.put(coefficient, _PRECISION)
    _put_residuals(bits, _residuals(samples, coefficients, shift), len(samples), how)


def _predictor(samples: list[int], order: int) -> tuple[list[int], int]:
    """Coefficients of least squares, as whole numbers of twelve bits with a shift."""
    signal = np.asarray(samples, np.float64)
    past = np.stack([signal[order - 1 - lag : -1 - lag or None] for lag in range(order)], axis=1)
    past = past[: len(signal) - order]
    exact = np.linalg.lstsq(past, signal[order:], rcond=1e-9)[0]
    largest = max(float(np.abs(exact).max()), 1e-9)
    shift = int(np.clip(np.floor(np.log2((2 ** (_PRECISION - 1) - 1) / largest)), 0, 15))
    limit = 2 ** (_PRECISION - 1)
    whole = np.clip(np.rint(exact * 2**shift), -limit, limit - 1)
    return [int(value) for value in whole], shift


def _residuals(samples: list[int], coefficients: list[int], shift: int) -> list[int]:
    order = len(coefficients)
    return [
        samples[at]
        - (sum(c * samples[at - 1 - lag] for lag, c in enumerate(coefficients)) >> shift)
        for at in range(order, len(samples))
    ]


def _put_residuals(bits: _Bits, residuals: list[int], size: int, how: Subframe) -> None:
    bits.put(how.method, 2)
    bits.put(how.partitions, 4)
    width = 5 if how.method else 4
    count = 1 << how.partitions
    assert size % count == 0 and size // count >= how.order
    start = 0
    for partition in range(count):
        end = start + size // count - (how.order if partition == 0 else 0)
        values = residuals[start:end]
        start = end
        if partition in how.escaped:
            raw = max((_signed_width(value) for value in values), default=0)
            bits.put((1 << width) - 1, width)
            bits.put(raw, 5)
            for value in values:
                bits.put(value, raw)
            continue
        mean = sum(map(abs, values)) / max(len(values), 1)
        parameter = min(max(int(mean).bit_length(), 0), (1 << width) - 2)
        bits.put(parameter, width)
        for value in values:
            folded = value << 1 if value >= 0 else (-value << 1) - 1
            bits.unary(folded >> parameter)
            bits.put(folded, parameter)


def _signed_width(value: int) -> int:
    """Bits of a number in two's complement; none for 0."""
    return 0 if value == 0 else (value if value > 0 else ~value).bit_length() + 1


def _number(value: int) -> bytes:
    """A frame's or sample's number, as UTF-8 would write it."""
    if value < 0x80:
        return bytes([value])
    for extra in range(1, 7):
        if value < 1 << (6 * extra + 6 - extra):
            lead = (0xFF << (7 - extra)) & 0xFF | value >> (6 * extra)
            rest = [0x80 | value >> (6 * k) & 0x3F for k in reversed(range(extra))]
            return bytes([lead, *rest])
    raise ValueError(value)


def _crc(data: bytes, polynomial: int, width: int) -> int:
    value = 0
    for byte in data:
        value ^= byte << (width - 8)
        for _ in range(8):
            value <<= 1
            if value >> width:
                value ^= 1 << width | polynomial
    return value
