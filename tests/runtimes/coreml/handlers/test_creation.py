"""Tensors made from shapes, ranges and positions against coremltools' constant folding."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Compute = Callable[..., Any]


@pytest.mark.parametrize("value", [2.5, np.int32(7), True])
def test_fills(compute: Compute, folded: Compute, value: Any) -> None:
    found = compute("fill", shape=[2, 3], value=value)
    expected = folded("fill", shape=[2, 3], value=value)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype.kind == np.asarray(value).dtype.kind
    like = compute("fill_like", ref_tensor=np.zeros((2, 3), np.int32), value=value)
    np.testing.assert_array_equal(like, expected)
    assert like.dtype == found.dtype


def test_a_fill_without_a_value_is_zero(compute: Compute) -> None:
    np.testing.assert_array_equal(compute("fill", shape=[3]), np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [(0, 7, 2), (5, -4, -3), (2, 2, 1), (0.5, 3.0, 0.25), (1.0, 0.0, -0.3)],
)
def test_ranges_leave_out_their_end(
    compute: Compute, folded: Compute, start: float, end: float, step: float
) -> None:
    kind = np.float32 if isinstance(step, float) else np.int32
    inputs = {"start": kind(start), "end": kind(end), "step": kind(step)}
    found = compute("range_1d", **inputs)
    np.testing.assert_allclose(found, folded("range_1d", **inputs), rtol=1e-6)
    assert found.dtype == kind


@pytest.mark.parametrize("axis", [-1, 0, 1, -2])
def test_one_hot_vectors(compute: Compute, axis: int) -> None:
    indices = np.array([[0, 3, 1], [2, 4, -1]], np.int32)
    found = compute(
        "one_hot", indices=indices, one_hot_vector_size=4, axis=axis, on_value=2.5, off_value=-1.0
    )
    expected = np.full((2, 3, 4), -1.0, np.float32)
    for place in np.ndindex(indices.shape):
        if 0 <= indices[place] < 4:
            expected[(*place, indices[place])] = 2.5
    np.testing.assert_array_equal(found, np.moveaxis(expected, -1, axis))


def test_one_hot_vectors_are_whole_numbers_by_default(compute: Compute) -> None:
    found = compute("one_hot", indices=np.array([1], np.int32), one_hot_vector_size=3)
    np.testing.assert_array_equal(found, np.array([[0, 1, 0]], np.int32))
    assert found.dtype == np.int32


def test_shapes_and_positions(compute: Compute, folded: Compute) -> None:
    x = np.array([[0, 2, 0], [1, 0, -3]], np.float32)
    np.testing.assert_array_equal(compute("shape", x=x), [2, 3])
    np.testing.assert_array_equal(compute("non_zero", x=x), folded("non_zero", x=x))


@pytest.mark.parametrize(("lower", "upper"), [(0, -1), (-1, 0), (0, 0), (1, 2), (-1, -1)])
def test_bands(compute: Compute, folded: Compute, lower: int, upper: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    inputs = {"x": x, "lower": np.int32(lower), "upper": np.int32(upper)}
    np.testing.assert_array_equal(compute("band_part", **inputs), folded("band_part", **inputs))
