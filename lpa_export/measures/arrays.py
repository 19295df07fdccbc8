"""Figures that compare two arrays of one shape, the reference first."""

import numpy as np
import numpy.typing as npt

__all__ = ["argmax_agreement", "max_difference", "non_finite", "psnr", "psnr_db"]

Array = npt.NDArray[np.float32]


def psnr(reference: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB: 20 log10(max |reference| / rms error).

    inf where both are equal, nan where either holds a nan. Raises ValueError for arrays of
    different shapes or without elements.
    """
    expected = np.asarray(reference, dtype=np.float64)
    found = np.asarray(other, dtype=np.float64)
    if expected.shape != found.shape or expected.size == 0:
        raise ValueError(
            f"expected two arrays of one shape with elements, found {expected.shape} and "
            f"{found.shape}"
        )
    rms = float(np.sqrt(np.mean(np.square(expected - found))))
    if rms == 0.0:
        return float("inf")
    with np.errstate(divide="ignore"):
        return float(20 * np.log10(np.abs(expected).max() / rms))


def psnr_db(expected: Array, found: Array) -> float:
    """Peak signal-to-noise ratio in dB; NaN as soon as either holds a NaN or an infinity."""
    if non_finite(expected) or non_finite(found):
        return float("nan")
    return psnr(expected, found)


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
