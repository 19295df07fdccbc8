"""Long mixtures in segments that overlap and are faded into one another.

It is another computation than one pass: norms and attention across chunks see a segment only.
Segments are as long as each other, the last one begins earlier instead, so that no model hears a
shorter one than it has to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import permutations

import numpy as np

from lpa_export.errors import LpaError
from lpa_export.runtimes import Array

__all__ = ["OVERLAP_SECONDS", "SEGMENT_SECONDS", "cut_segments", "joined_segments"]

SEGMENT_SECONDS = 10.0
"""What is longer is cut into segments of so many seconds."""

OVERLAP_SECONDS = 1.0
"""Of a segment with the one before it, over which one fades into the other."""


def cut_segments(total: int, longest: int, overlap: int) -> tuple[tuple[int, int], ...]:
    """(first, end) of segments of `longest` samples that cover `total`, overlapping by `overlap`
    at least; one segment where all fits.

    Raises LpaError where the overlap leaves no room.
    """
    if total <= longest:
        return ((0, total),)
    if longest < 2 * overlap or longest < 1:
        raise LpaError(
            f"segments of {longest} samples are too short for overlaps of {overlap} on both sides"
        )
    step = longest - overlap
    starts = [*range(0, total - longest, step), total - longest]
    return tuple((start, start + longest) for start in starts)


def joined_segments(
    waveform: Array,
    segments: Iterable[tuple[int, int]],
    overlap: int,
    separate: Callable[[Array], Array],
) -> Array:
    """(samples, sources) of a mixture (samples,), of which `separate` hears a segment at a time.

    Sources of a segment come in the order that differs least from the segment before it.
    """
    total = len(waveform)
    summed: Array | None = None
    weights = np.zeros((total, 1), np.float32)
    for first, end in segments:
        made = separate(waveform[first:end])
        fade = _fade(end - first, overlap, rises=first > 0, falls=end < total)
        if summed is None:
            summed = np.zeros((total, made.shape[1]), np.float32)
        known = weights[first:end, 0] > 0
        if made.shape[1] > 1 and known.any():
            before = summed[first:end][known] / weights[first:end][known]
            made = made[:, _order(before, made[known])]
        summed[first:end] += made * fade
        weights[first:end] += fade
    assert summed is not None
    return summed / weights


def _fade(samples: int, overlap: int, *, rises: bool, falls: bool) -> Array:
    """(samples, 1): 1 but for ramps at the ends that have a neighbour, never 0."""
    weights = np.ones(samples, np.float32)
    ramp = (np.arange(overlap, dtype=np.float32) + 0.5) / max(overlap, 1)
    if rises:
        weights[:overlap] *= ramp
    if falls and overlap:
        weights[-overlap:] *= ramp[::-1]
    return weights[:, None]


def _order(before: Array, made: Array) -> tuple[int, ...]:
    columns = range(made.shape[1])
    return min(
        permutations(columns), key=lambda order: float(np.square(before - made[:, order]).sum())
    )
