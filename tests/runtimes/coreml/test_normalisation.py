"""Normalisations against coremltools' folding where it has one, loops in float64 elsewhere."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Compute = Callable[..., Any]

close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


def normal(*shape: int) -> Any:
    return (3 + 2 * np.random.default_rng(len(shape)).normal(size=shape)).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_layer_norm_over_any_axes(compute: Compute, folded: Compute, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=4)))
    chosen = st.sets(st.integers(0, len(shape) - 1), min_size=1)
    axes = sorted(data.draw(chosen))
    sizes = [shape[axis] for axis in axes]
    axes = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    given = {"x": normal(*shape), "axes": axes, "epsilon": np.float32(1e-3)}
    if data.draw(st.booleans()):
        given |= {"gamma": normal(*sizes), "beta": normal(*sizes) - 1}
    np.testing.assert_allclose(
        compute("layer_norm", **given), folded("layer_norm", **given), **close
    )


def test_layer_norm_leaves_its_input_alone(compute: Compute) -> None:
    x = normal(2, 3, 1, 4)
    before = x.copy()
    compute("layer_norm", x=x, axes=[1])
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (1, 3, 2, 4, 2)])
@pytest.mark.parametrize("scaled", [True, False])
def test_batch_norm(compute: Compute, shape: tuple[int, ...], scaled: bool) -> None:
    x, mean, variance = normal(*shape), normal(3), normal(3) ** 2
    gamma = normal(3) if scaled else None
    beta = None if gamma is None else -gamma
    expected = np.empty(shape)
    for place in np.ndindex(*shape):
        c = place[1]
        value = (float(x[place]) - mean[c]) / np.sqrt(float(variance[c]) + 1e-3)
        expected[place] = value if gamma is None else value * gamma[c] - gamma[c]
    found = compute(
        "batch_norm", x=x, mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=1e-3
    )
    np.testing.assert_allclose(found, expected, **close)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (2, 3, 1)])
@pytest.mark.parametrize("scaled", [True, False])
def test_instance_norm(compute: Compute, shape: tuple[int, ...], scaled: bool) -> None:
    x = normal(*shape)
    gamma = normal(3) if scaled else None
    beta = None if gamma is None else -gamma
    expected = np.empty(shape)
    for n, c in np.ndindex(*shape[:2]):
        values = x[n, c].astype(np.float64)
        scale, shift = (1.0, 0.0) if gamma is None else (gamma[c], -gamma[c])
        expected[n, c] = scale * (values - values.mean()) / np.sqrt(values.var() + 1e-3) + shift
    found = compute("instance_norm", x=x, gamma=gamma, beta=beta, epsilon=1e-3)
    np.testing.assert_allclose(found, expected, **close)


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5), (2, 2, 3, 1, 5)])
def test_l2_norm(compute: Compute, folded: Compute, shape: tuple[int, ...]) -> None:
    given = {"x": normal(*shape), "epsilon": np.float32(1e-2)}
    np.testing.assert_allclose(compute("l2_norm", **given), folded("l2_norm", **given), **close)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_local_response_norm(compute: Compute, size: int) -> None:
    x, alpha, beta, k = normal(2, 6, 3, 2), 0.2, 0.6, 1.5
    expected = np.empty(x.shape)
    for n, c, *place in np.ndindex(x.shape):
        near = x[n, max(0, c - size // 2) : c + size // 2 + 1, *place].astype(np.float64)
        expected[n, c, *place] = x[n, c, *place] / (k + alpha / size * (near**2).sum()) ** beta
    given = {"x": x, "size": size, "alpha": alpha, "beta": beta, "k": k}
    np.testing.assert_allclose(compute("local_response_norm", **given), expected, **close)


def test_local_response_norm_of_rank_3_takes_its_window_over_the_first_axis(
    compute: Compute,
) -> None:
    """Expected values: coremltools 9.0, TestNormalizationLocalResponseNorm."""
    x = np.array([[[1, -7], [5, -6], [-3, -5]]], np.float32)
    found = compute("local_response_norm", x=x, size=3, alpha=1e-4, beta=0.75, k=1.0)
    expected = [[0.99997497, -6.99143696], [4.99687672, -5.99460602], [-2.99932504, -4.99687672]]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
