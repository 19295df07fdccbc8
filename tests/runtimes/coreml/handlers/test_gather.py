"""Gathers and scatters against coremltools' constant folding and plain loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Compute = Callable[..., Any]

STEPS: dict[str, Callable[[Any, Any], Any]] = {
    "update": lambda old, new: new,
    "add": lambda old, new: old + new,
    "sub": lambda old, new: old - new,
    "mul": lambda old, new: old * new,
    "div": lambda old, new: old / new,
    "max": max,
    "min": min,
}


def normal(*shape: int) -> Any:
    return np.random.default_rng(0).normal(2.0, 1.0, shape).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("indices", [2, [0, 2, -1], [[1, 1], [0, 2]]])
def test_slices_along_an_axis(compute: Compute, folded: Compute, axis: int, indices: Any) -> None:
    inputs = {"x": normal(3, 4, 5), "indices": np.array(indices, np.int32), "axis": np.int32(axis)}
    found, expected = compute("gather", **inputs), folded("gather", **inputs)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("axis", "batch_dims"), [(1, 1), (2, 1), (2, 2), (-1, 1)])
def test_batches_are_gathered_together(
    compute: Compute, folded: Compute, axis: int, batch_dims: int
) -> None:
    indices = np.random.default_rng(1).integers(0, 3, (2, 3, 4)).astype(np.int32)
    inputs = {"x": normal(2, 3, 4, 5), "indices": indices, "batch_dims": np.int32(batch_dims)}
    found = compute("gather", axis=axis, **inputs)
    # coremltools folds positive axes only.
    expected = folded("gather", target="iOS16", axis=np.int32(axis % 4), **inputs)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_elements_along_an_axis(compute: Compute, folded: Compute, axis: int) -> None:
    x = normal(3, 4)
    shape = (2, 4) if axis == 0 else (3, 6)
    indices = np.random.default_rng(2).integers(-3, 3, shape).astype(np.int32)
    inputs = {"x": x, "indices": indices, "axis": np.int32(axis)}
    np.testing.assert_array_equal(
        compute("gather_along_axis", **inputs), folded("gather_along_axis", **inputs)
    )


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_slices_at_spelled_out_positions(compute: Compute, depth: int) -> None:
    x = normal(3, 4, 5)
    indices = np.random.default_rng(3).integers(0, 3, (2, 6, depth)).astype(np.int32)
    expected = np.stack([[x[tuple(place)] for place in row] for row in indices])
    np.testing.assert_array_equal(compute("gather_nd", x=x, indices=indices), expected)


def test_slices_at_spelled_out_positions_of_each_batch(compute: Compute) -> None:
    x = normal(2, 3, 4, 5)
    indices = np.random.default_rng(4).integers(0, 3, (2, 3, 6, 1)).astype(np.int32)
    found = compute("gather_nd", x=x, indices=indices, batch_dims=2)
    assert found.shape == (2, 3, 6, 5)
    for b, c, n in np.ndindex(2, 3, 6):
        np.testing.assert_array_equal(found[b, c, n], x[b, c, indices[b, c, n, 0]])


@pytest.mark.parametrize("op", ["gather", "gather_along_axis", "gather_nd"])
def test_positions_outside_are_an_error(compute: Compute, op: str) -> None:
    with pytest.raises(IndexError, match="index 3 is outside an axis of 3"):
        compute(op, x=normal(3, 1), indices=np.array([[3]], np.int32))


WRITES = {"scatter": (1,), "scatter_along_axis": (1, 1), "scatter_nd": (1, 1)}


@pytest.mark.parametrize("op", WRITES)
def test_validated_positions_must_not_be_negative(compute: Compute, op: str) -> None:
    """As the documentation of iOS17 has it; without validation they count from the end."""
    places = np.full(WRITES[op], -1, np.int32)
    inputs = {"data": normal(3, 1), "indices": places, "updates": normal(1, 1)}
    assert compute(op, **inputs).shape == (3, 1)
    assert compute(op, validate_indices=False, **inputs).shape == (3, 1)
    with pytest.raises(IndexError, match="index -1 is negative"):
        compute(op, validate_indices=True, **inputs)
    with pytest.raises(IndexError, match="index 3 is outside"):
        compute(op, validate_indices=True, **{**inputs, "indices": places + 4})


@pytest.mark.parametrize("mode", STEPS)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_slices_are_written_in_order(compute: Compute, mode: str, axis: int) -> None:
    data, indices = normal(3, 4, 2), np.array([1, 0, 1, -1], np.int32)
    shape = list(data.shape)
    shape[axis] = 4
    updates = normal(*shape) + 1
    found = compute("scatter", data=data, indices=indices, updates=updates, axis=axis, mode=mode)
    expected = np.moveaxis(data.astype(np.float64), axis, 0).copy()
    for index, update in zip(indices, np.moveaxis(updates, axis, 0), strict=True):
        expected[index] = np.vectorize(STEPS[mode])(expected[index], update)
    np.testing.assert_allclose(found, np.moveaxis(expected, 0, axis), rtol=1e-6)


@pytest.mark.parametrize("mode", STEPS)
def test_elements_are_written_in_order(compute: Compute, mode: str) -> None:
    data, updates = normal(3, 4), normal(3, 6) + 1
    indices = np.random.default_rng(5).integers(-4, 4, (3, 6)).astype(np.int32)
    inputs = {"data": data, "indices": indices, "updates": updates, "axis": 1, "mode": mode}
    expected = data.astype(np.float64)
    for row, column in np.ndindex(3, 6):
        place = row, indices[row, column]
        expected[place] = STEPS[mode](expected[place], updates[row, column])
    np.testing.assert_allclose(compute("scatter_along_axis", **inputs), expected, rtol=1e-6)


@pytest.mark.parametrize("mode", STEPS)
@pytest.mark.parametrize("depth", [1, 2])
def test_slices_are_written_at_spelled_out_positions(
    compute: Compute, mode: str, depth: int
) -> None:
    data = normal(3, 4, 2)
    indices = np.random.default_rng(6).integers(0, 3, (5, depth)).astype(np.int32)
    updates = normal(5, *data.shape[depth:]) + 1
    found = compute("scatter_nd", data=data, indices=indices, updates=updates, mode=mode)
    expected = data.astype(np.float64)
    for place, update in zip(indices, updates, strict=True):
        where = tuple(place)
        expected[where] = np.vectorize(STEPS[mode])(expected[where], update)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_whole_numbers_are_scattered_and_added_by_default(compute: Compute) -> None:
    data = np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    updates = np.array([[5, 6, 7], [8, 9, 10]], np.int32)
    found = compute("scatter", data=data, indices=np.array([1, 0], np.int32), updates=updates)
    np.testing.assert_array_equal(found, [[9, 11, 13], [9, 11, 13]])
    assert found.dtype == np.int32
