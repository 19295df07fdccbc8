"""Figures that compare two arrays."""

import numpy as np
from numpy.typing import ArrayLike


def psnr(reference: ArrayLike, other: ArrayLike) -> float:
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
