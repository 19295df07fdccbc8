"""Activations against coremltools' constant folding, and scipy where it has none."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

Compute = Callable[..., Any]

quick = settings(max_examples=10, deadline=None)
close: dict[str, Any] = {"rtol": 2e-5, "atol": 2e-6}
VALUES = np.array([[-30, -6.5, -3, -1.2, -0.4, -1e-3], [0, 1e-3, 0.7, 2.3, 6.5, 30]], np.float32)

parameter = st.integers(1, 24).map(lambda number: number / 8)


@pytest.mark.parametrize("op", ["relu", "relu6", "sigmoid", "softplus", "softsign", "tanh"])
def test_without_parameters(compute: Compute, folded: Compute, op: str) -> None:
    np.testing.assert_allclose(compute(op, x=VALUES), folded(op, x=VALUES.copy()), **close)


def test_silu(compute: Compute) -> None:
    x = VALUES.astype(np.float64)
    np.testing.assert_allclose(compute("silu", x=VALUES), x * special.expit(x), **close)


@pytest.mark.parametrize("mode", ["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"])
def test_gelu(compute: Compute, folded: Compute, mode: str) -> None:
    # coremltools folds in float32, where 1 + erf cancels; double shows what is meant.
    expected = folded("gelu", x=VALUES, mode=mode)
    np.testing.assert_allclose(compute("gelu", x=VALUES, mode=mode), expected, rtol=1e-4, atol=1e-5)


def test_the_modes_of_gelu_differ(compute: Compute) -> None:
    modes = ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")
    exact, hyperbolic, logistic = (compute("gelu", x=VALUES, mode=mode) for mode in modes)
    assert 1e-5 < np.abs(exact - hyperbolic).max() < 1e-3 < np.abs(exact - logistic).max() < 0.03


@pytest.mark.parametrize("op", ["elu", "leaky_relu", "thresholded_relu"])
@quick
@given(alpha=parameter)
def test_with_alpha(compute: Compute, folded: Compute, op: str, alpha: float) -> None:
    expected = folded(op, x=VALUES.copy(), alpha=np.float32(alpha))
    np.testing.assert_allclose(compute(op, x=VALUES, alpha=alpha), expected, **close)


@pytest.mark.parametrize("op", ["clamped_relu", "linear_activation", "scaled_tanh", "sigmoid_hard"])
@quick
@given(alpha=parameter, beta=parameter)
def test_with_alpha_and_beta(
    compute: Compute, folded: Compute, op: str, alpha: float, beta: float
) -> None:
    expected = folded(op, x=VALUES, alpha=np.float32(alpha), beta=np.float32(beta))
    np.testing.assert_allclose(compute(op, x=VALUES, alpha=alpha, beta=beta), expected, **close)


def test_prelu_has_a_slope_per_channel(compute: Compute, folded: Compute) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 2)).astype(np.float32)
    alpha = np.array([0.1, 0.5, -2], np.float32)
    given = {"x": x, "alpha": alpha}
    np.testing.assert_allclose(compute("prelu", **given), folded("prelu", **given), **close)


def test_softplus_parametric_has_parameters_per_channel(compute: Compute, folded: Compute) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 2)).astype(np.float32)
    alpha, beta = np.array([0.1, 0.5, 2], np.float32), np.array([1, 0.25, 3], np.float32)
    given = {"x": x, "alpha": alpha, "beta": beta}
    expected = folded("softplus_parametric", **given)
    np.testing.assert_allclose(compute("softplus_parametric", **given), expected, **close)


@pytest.mark.parametrize("axis", [-1, 0, 1, -2])
def test_softmax(compute: Compute, folded: Compute, axis: int) -> None:
    x = 40 * np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    expected = folded("softmax", x=x, axis=axis)
    np.testing.assert_allclose(compute("softmax", x=x, axis=axis), expected, **close)
