"""Figures of two arrays of the same shape, reference first."""

import numpy as np
import numpy.typing as npt

from lpa_export.metrics import psnr
from lpa_validate.runners import Array

__all__ = ["argmax_agreement", "max_difference", "non_finite", "psnr_db"]


def psnr_db(expected: Array, found: Array) -> float:
    """Peak signal-to-noise ratio in dB; NaN as soon as either holds a NaN or an infinity."""
    if non_finite(expected) or non_finite(found):
        return float("nan")
    return float(psnr(expected, found))


def max_difference(expected: Array, found: Array) -> float:
    """The largest absolute difference (NaN where a value is NaN)."""
    with np.errstate(invalid="ignore"):
        difference: npt.NDArray[np.float64] = np.abs(np.subtract(expected, found, dtype=np.float64))
    return float(difference.max(initial=0.0))


def argmax_agreement(expected: Array, found: Array) -> float:
    """Share of frames of (frames, vocabulary) with the same best token."""
    return float(np.mean(expected.argmax(axis=-1) == found.argmax(axis=-1)))


def non_finite(values: Array) -> int:
    """How many values are NaN or infinite."""
    return int(values.size - np.count_nonzero(np.isfinite(values)))
