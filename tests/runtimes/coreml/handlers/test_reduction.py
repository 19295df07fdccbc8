"""Reductions, running sums and sorting against coremltools' constant folding and plain loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

Compute = Callable[..., Any]

OVER_AXES = "l1_norm l2_norm log_sum log_sum_exp max mean min prod sum sum_square".split()

quick = settings(max_examples=12, deadline=None)
small_shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@pytest.mark.parametrize("op", OVER_AXES)
@quick
@given(data=st.data(), shape=small_shapes, keep_dims=st.booleans())
def test_reductions_over_any_axes(
    compute: Compute, folded: Compute, op: str, data: st.DataObject, shape: Any, keep_dims: bool
) -> None:
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    axes = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    seed = data.draw(st.integers(0, 99))
    x = np.random.default_rng(seed).uniform(0.1, 2.0, shape).astype(np.float32)
    inputs = {"x": x, "axes": np.array(axes, np.int32), "keep_dims": keep_dims}
    found, expected = compute(f"reduce_{op}", **inputs), folded(f"reduce_{op}", **inputs)
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("op", OVER_AXES)
def test_without_axes_everything_is_reduced(compute: Compute, folded: Compute, op: str) -> None:
    x = np.random.default_rng(1).uniform(0.1, 2.0, (3, 2, 4)).astype(np.float32)
    found = compute(f"reduce_{op}", x=x)
    assert found.shape == ()
    np.testing.assert_allclose(found, folded(f"reduce_{op}", x=x), rtol=2e-5)


@pytest.mark.parametrize("op", sorted({*OVER_AXES} - {"log_sum_exp"}))
def test_reductions_of_whole_numbers_are_cut(compute: Compute, folded: Compute, op: str) -> None:
    x = np.array([[3, 4, 12], [1, 2, 3]], np.int32)
    inputs = {"x": x, "axes": np.array([1], np.int32)}
    found = compute(f"reduce_{op}", **inputs)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, folded(f"reduce_{op}", **inputs))


def test_log_sum_exp_holds_for_large_and_infinite_values(compute: Compute) -> None:
    x = np.array([[1000.0, 1001.0], [-np.inf, -np.inf], [-np.inf, 3.0]], np.float32)
    found = compute("reduce_log_sum_exp", x=x, axes=[1])
    np.testing.assert_allclose(found, [1001 + np.log1p(np.exp(-1)), -np.inf, 3.0], rtol=1e-6)


def in_float16(values: Any, step: Callable[[Any, Any], Any]) -> float:
    total = np.float16(values[0])
    for value in values[1:]:
        total = np.float16(step(np.float32(total), np.float32(np.float16(value))))
    return float(total)


def test_sequential_sums_are_rounded_to_float16_after_every_element(compute: Compute) -> None:
    x = np.random.default_rng(2).normal(0.5, 1.0, (3, 700)).astype(np.float16)
    given_ = {"x": x, "axes": [-1], "declared": torch.float16, "sequential": True}
    expected = [in_float16(row, np.add) for row in x]
    np.testing.assert_array_equal(compute("reduce_sum", **given_), expected)
    np.testing.assert_allclose(
        compute("reduce_mean", **given_), np.array(expected) / 700, rtol=1e-6
    )
    squares = [in_float16(np.float16(row) ** 2, np.add) for row in x]
    np.testing.assert_array_equal(compute("reduce_sum_square", **given_), squares)
    exact = x.astype(np.float64).sum(-1)
    assert np.abs(np.array(expected) - exact).max() > 0.1, "no rounding to be seen in this data"


def test_sequential_products_are_rounded_too(compute: Compute) -> None:
    x = np.random.default_rng(3).uniform(0.9, 1.12, (2, 90)).astype(np.float16)
    found = compute("reduce_prod", x=x, axes=[1], declared=torch.float16, sequential=True)
    np.testing.assert_array_equal(found, [in_float16(row, np.multiply) for row in x])


def test_sums_declared_float32_are_never_accumulated_in_float16(compute: Compute) -> None:
    x = np.full((1, 4000), 1.001, np.float32)
    found = compute("reduce_sum", x=x, axes=[1], declared=torch.float32, sequential=True)
    np.testing.assert_allclose(found, [4004.0], rtol=1e-5)


@pytest.mark.parametrize("op", ["reduce_argmax", "reduce_argmin"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("keep_dims", [False, True])
def test_positions_of_extremes(
    compute: Compute, folded: Compute, op: str, axis: int, keep_dims: bool
) -> None:
    x = np.random.default_rng(4).integers(-3, 3, (4, 5, 3)).astype(np.float32)
    inputs = {"x": x, "axis": np.int32(axis), "keep_dims": keep_dims}
    np.testing.assert_array_equal(compute(op, **inputs), folded(op, **inputs))


def slow_cumsum(x: Any, axis: int, exclusive: bool, reverse: bool) -> Any:
    rows = np.moveaxis(np.array(x, np.float64), axis, 0)
    out = np.zeros_like(rows)
    order = range(len(rows))[::-1] if reverse else range(len(rows))
    total = np.zeros_like(rows[0])
    for i in order:
        out[i] = total if exclusive else total + rows[i]
        total = total + rows[i]
    return np.moveaxis(out, 0, axis)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_running_sums(
    compute: Compute, exclusive: bool, reverse: bool, axis: int, dtype: Any
) -> None:
    x = np.random.default_rng(5).normal(0, 9, (3, 6, 2)).astype(dtype)
    found = compute("cumsum", x=x, axis=axis, exclusive=exclusive, reverse=reverse)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, slow_cumsum(x, axis, exclusive, reverse), rtol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_running_sums_in_float16_carry_every_rounding(compute: Compute, reverse: bool) -> None:
    x = np.random.default_rng(6).normal(1.0, 1.0, (2, 300)).astype(np.float16)
    found = compute("cumsum", x=x, axis=1, reverse=reverse, declared=torch.float16, sequential=True)
    ordered = x[:, ::-1] if reverse else x
    expected = np.array([[in_float16(row[: n + 1], np.add) for n in range(300)] for row in ordered])
    np.testing.assert_array_equal(found, expected[:, ::-1] if reverse else expected)


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("axis", [0, -1])
def test_sorting(compute: Compute, folded: Compute, ascending: bool, axis: int) -> None:
    x = np.random.default_rng(7).permutation(24).reshape(4, 6).astype(np.float32)
    inputs = {"x": x, "axis": np.int32(axis), "ascending": ascending}
    np.testing.assert_array_equal(compute("argsort", **inputs), folded("argsort", **inputs))


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_largest_and_smallest(
    compute: Compute, folded: Compute, ascending: bool, axis: int, dtype: Any
) -> None:
    x = np.random.default_rng(8).permutation(24).reshape(4, 6).astype(dtype)
    inputs = {"x": x, "k": np.int32(3), "axis": np.int32(axis), "ascending": ascending}
    for found, expected in zip(compute("topk", **inputs), folded("topk", **inputs), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_values_alone_and_all_of_them(compute: Compute, folded: Compute) -> None:
    x = np.random.default_rng(9).normal(size=(2, 5)).astype(np.float32)
    inputs: dict[str, Any] = {"x": x, "k": np.int32(2), "return_indices": False}
    np.testing.assert_array_equal(
        compute("topk", **inputs), folded("topk", target="iOS16", **inputs)
    )
    values, positions = compute("topk", x=x, k=-1, output_indices_dtype="uint16")
    np.testing.assert_array_equal(values, -np.sort(-x))
    np.testing.assert_array_equal(positions, np.argsort(-x))
