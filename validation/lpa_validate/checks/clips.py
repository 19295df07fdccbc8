"""A few clips of the data, and how far two answers to the same clips lie apart."""

from collections.abc import Sequence

import numpy as np

from lpa_export.measures.arrays import argmax_agreement, non_finite, psnr_db
from lpa_export.runtimes import Array
from lpa_validate.evaluation import Opened

__all__ = ["CLIPS", "spread_clips", "worst_agreement"]

CLIPS = 4
"""Clips tried, spread over the lengths in the data."""

# Enough to meet short and long clips without reading a whole test set.
_CANDIDATES = 16


def spread_clips(validation: Opened) -> list[Array]:
    """A few waveforms (samples,), shortest to longest; at most ``CLIPS``."""
    candidates = validation.first_waveforms(_CANDIDATES)
    candidates.sort(key=len)
    picks = np.unique(np.linspace(0, len(candidates) - 1, CLIPS).round().astype(int))
    return [candidates[index] for index in picks]


def worst_agreement(alone: Sequence[Array], found: Sequence[Array]) -> tuple[float, float, str]:
    """Lowest argmax agreement and PSNR over the clips, and what makes them incomparable."""
    agreement, psnr = 1.0, float("inf")
    for expected, other in zip(alone, found, strict=True):
        if expected.shape != other.shape:
            return 0.0, float("nan"), f"{len(other)} valid frames, alone {len(expected)}"
        if non_finite(other) or non_finite(expected):
            return 0.0, float("nan"), "logits are NaN or infinite"
        agreement = min(agreement, argmax_agreement(expected, other))
        psnr = min(psnr, psnr_db(expected, other))
    return agreement, psnr, ""
