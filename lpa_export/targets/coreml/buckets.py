"""Buckets: seconds asked for, as frames and samples of fixed-shape programs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.formats.manifest import Bucket
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.targets.coreml.limits import BLOCK, MAX_EXACT_FRAMES, MAX_FRAMES

__all__ = ["make_buckets"]


def make_buckets(
    seconds: Sequence[float], arithmetic: FrameArithmetic, *, exact: bool, half: bool
) -> tuple[Bucket, ...]:
    """The buckets, ascending, each with room for the `seconds` asked for.

    Frames are multiples of `BLOCK`.

    `exact`: its samples are those of its last frame and no more (a waveform of fixed width, layout
    whole); else as many as give no further frame. `half`: the encoder computes in float16.

    Raises LpaError for a bucket without a frame, too long a one, and two of the same frames.
    """
    buckets: dict[int, float] = {}
    for length in seconds:
        found = arithmetic.frames(math.floor(length * SAMPLE_RATE))
        if found < 1:
            raise LpaError(
                f"bucket {length:g} s holds no frame: one takes {arithmetic.receptive_field} "
                f"samples ({arithmetic.receptive_field / SAMPLE_RATE:g} s); give longer buckets"
            )
        frames = -(-found // BLOCK) * BLOCK
        if exact and _samples(frames, arithmetic) < length * SAMPLE_RATE:
            frames += BLOCK
        _require_short(length, frames, half=half)
        if frames in buckets:
            raise LpaError(
                f"buckets {buckets[frames]:g} and {length:g} s are both {frames} frames (a "
                f"multiple of {BLOCK}); leave one of them out"
            )
        buckets[frames] = length
    further = 0 if exact else arithmetic.hop - 1
    return tuple(
        Bucket.of(n, _samples(n, arithmetic) + further, SAMPLE_RATE) for n in sorted(buckets)
    )


def _samples(frames: int, arithmetic: FrameArithmetic) -> int:
    """The fewest samples of so many frames."""
    return arithmetic.receptive_field + (frames - 1) * arithmetic.hop


def _require_short(length: float, frames: int, *, half: bool) -> None:
    if half and frames > MAX_EXACT_FRAMES:
        raise LpaError(
            f"bucket {length:g} s is {frames} frames, but float16 counts frames exactly to "
            f"{MAX_EXACT_FRAMES} only; give shorter buckets, or --precision fp32"
        )
    if frames > MAX_FRAMES:
        raise LpaError(
            f"bucket {length:g} s is {frames} frames, more than the {MAX_FRAMES} that an axis of "
            "the Neural Engine has; give shorter buckets"
        )
