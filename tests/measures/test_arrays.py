"""PSNR on arrays whose figure is known."""

import math

import numpy as np
import pytest

from lpa_export.measures.arrays import psnr


def test_psnr_is_peak_over_rms_error_in_decibels() -> None:
    assert psnr([3.0, -10.0], [3.1, -9.9]) == pytest.approx(40.0)
    assert psnr(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(
        20 * math.log10(2**0.5)
    )


def test_equal_arrays_have_no_noise() -> None:
    assert psnr([1.0, 2.0], [1.0, 2.0]) == math.inf


def test_nan_is_never_a_good_figure() -> None:
    assert math.isnan(psnr([1.0, 2.0], [1.0, math.nan]))


def test_zero_reference_is_the_worst_figure() -> None:
    assert psnr([0.0], [1.0]) == -math.inf


def test_arrays_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        psnr([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="with elements"):
        psnr([], [])
