"""Arithmetic element by element against coremltools' constant folding (NumPy)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

Compute = Callable[..., Any]

FLOAT_BINARY = (
    "add sub mul real_div floor_div mod maximum minimum equal not_equal less less_equal greater "
    "greater_equal"
).split()
INTEGER_BINARY = [*FLOAT_BINARY, "pow"]
LOGICAL = ["logical_and", "logical_or", "logical_xor"]
ANYWHERE = "abs atan ceil cos cosh erf exp exp2 floor round sign sin sinh square tan tanh".split()
POSITIVE = ["log", "rsqrt", "inverse", "sqrt"]
WITHIN_ONE = ["acos", "asin", "atanh"]

quick = settings(max_examples=12, deadline=None)
shapes = arrays.mutually_broadcastable_shapes(num_shapes=2, min_dims=1, max_dims=3, max_side=4)
halves = st.integers(-9, 9).map(lambda number: number / 2)


def filled(data: st.DataObject, shape: tuple[int, ...], dtype: type, values: Any) -> Any:
    return data.draw(arrays.arrays(dtype, shape, elements=values))


@pytest.mark.parametrize("op", FLOAT_BINARY)
@quick
@given(data=st.data(), both=shapes)
def test_floats_broadcast_as_in_numpy(
    compute: Compute, folded: Compute, op: str, data: st.DataObject, both: Any
) -> None:
    x, y = (filled(data, shape, np.float32, halves) for shape in both.input_shapes)
    if op in ("real_div", "floor_div", "mod"):
        y = np.where(y == 0, np.float32(0.5), y)
    found, expected = compute(op, x=x, y=y), folded(op, x=x, y=y)
    assert found.shape == both.result_shape
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("op", INTEGER_BINARY)
@quick
@given(data=st.data(), both=shapes)
def test_whole_numbers_stay_whole(
    compute: Compute, folded: Compute, op: str, data: st.DataObject, both: Any
) -> None:
    x = filled(data, both.input_shapes[0], np.int32, st.integers(-9, 9))
    y = filled(data, both.input_shapes[1], np.int32, st.integers(1, 6))
    if op in ("real_div", "floor_div", "mod"):
        y = np.where(filled(data, y.shape, np.bool_, st.booleans()), y, -y)
    found = compute(op, x=x, y=y)
    assert found.dtype in (np.int32, np.bool_)
    np.testing.assert_array_equal(found, folded(op, x=x, y=y))


def test_a_negative_power_of_a_whole_number_is_cut_to_a_whole_number(compute: Compute) -> None:
    x, y = np.array([2, 1, -1, 5], np.int32), np.array([-1, -3, -3, 2], np.int32)
    np.testing.assert_array_equal(compute("pow", x=x, y=y), [0, 1, -1, 25])


def test_powers_of_floats(compute: Compute, folded: Compute) -> None:
    x, y = np.array([0.5, 2.0, 3.25], np.float32), np.array([[-1.5], [2.0]], np.float32)
    np.testing.assert_allclose(compute("pow", x=x, y=y), folded("pow", x=x, y=y), rtol=1e-6)


@pytest.mark.parametrize("op", LOGICAL)
def test_logic(compute: Compute, folded: Compute, op: str) -> None:
    x, y = np.array([True, True, False, False]), np.array([True, False, True, False])
    np.testing.assert_array_equal(compute(op, x=x, y=y), folded(op, x=x, y=y))
    np.testing.assert_array_equal(compute("logical_not", x=x), ~x)


@pytest.mark.parametrize(
    ("op", "low", "high"),
    [(op, -3.0, 3.0) for op in ANYWHERE]
    + [(op, 0.01, 50.0) for op in POSITIVE]
    + [(op, -0.99, 0.99) for op in WITHIN_ONE],
)
def test_functions_of_one_value(
    compute: Compute, folded: Compute, op: str, low: float, high: float
) -> None:
    x = np.random.default_rng(0).uniform(low, high, (5, 7)).astype(np.float32)
    np.testing.assert_allclose(compute(op, x=x), folded(op, x=x), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("op", ["abs", "sign", "square", "exp2"])
def test_functions_of_a_whole_number_give_whole_numbers(
    compute: Compute, folded: Compute, op: str
) -> None:
    x = np.array([-3, 0, 1, 8], np.int32)
    found = compute(op, x=x)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, folded(op, x=x).astype(np.int32))


def test_halves_are_rounded_to_the_even_neighbour(compute: Compute) -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
    np.testing.assert_array_equal(compute("round", x=x), [0, 2, 2, 0, -2])


@pytest.mark.parametrize("op", ["log", "rsqrt", "inverse"])
@pytest.mark.parametrize("epsilon", [0.0, 1e-3, 0.5])
def test_epsilon_is_added_before_the_function(
    compute: Compute, folded: Compute, op: str, epsilon: float
) -> None:
    x = np.array([0.001, 0.25, 4.0], np.float32)
    found = compute(op, x=x, epsilon=np.float32(epsilon))
    expected = folded(op, x=x, epsilon=np.float32(epsilon))
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@pytest.mark.parametrize("op", ["log", "rsqrt", "inverse"])
@pytest.mark.parametrize("declared", [torch.float16, torch.float32])
def test_a_missing_epsilon_has_the_precision_of_the_output(
    compute: Compute, folded: Compute, op: str, declared: torch.dtype
) -> None:
    dtype = np.float16 if declared is torch.float16 else np.float32
    x = np.array([0.0, 2.0], dtype)
    found = compute(op, x=x, declared=declared)
    np.testing.assert_allclose(found, folded(op, x=x), rtol=1e-3)


def test_clip_and_threshold(compute: Compute, folded: Compute) -> None:
    x = np.linspace(-3, 3, 13, dtype=np.float32)
    bounds = {"alpha": np.float32(-1.25), "beta": np.float32(2.0)}
    np.testing.assert_array_equal(compute("clip", x=x, **bounds), folded("clip", x=x, **bounds))
    low = {"alpha": np.float32(0.5)}
    np.testing.assert_array_equal(compute("threshold", x=x, **low), folded("threshold", x=x, **low))
    whole = np.array([-4, 4], np.int32)
    np.testing.assert_array_equal(compute("threshold", x=whole, alpha=np.int32(1)), [1, 4])


@pytest.mark.parametrize(
    ("target", "dtype"),
    [("iOS15", dtype) for dtype in ("fp16", "fp32", "int32", "bool")]
    + [("iOS17", dtype) for dtype in ("int8", "uint8", "int16", "uint16", "int32", "bool")],
)
@pytest.mark.parametrize("kind", [np.float32, np.int32, np.bool_])
def test_casts(compute: Compute, folded: Compute, target: str, dtype: str, kind: Any) -> None:
    x = np.array([0, 1, 2.75, 17, 126.9]).astype(kind)
    found = compute("cast", x=x, dtype=dtype)
    expected = folded("cast", target=target, x=x, dtype=dtype)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert (found.dtype == np.bool_) == (dtype == "bool")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
def test_casts_to_narrow_types_wrap_around(compute: Compute, dtype: str) -> None:
    x = np.array([-70000, -32769, -129, -128, -1, 127, 128, 255, 256, 65536, 2**31 - 1], np.int32)
    found, expected = compute("cast", x=x, dtype=dtype), x.astype(dtype)
    np.testing.assert_array_equal(found, expected)


def test_casts_of_floats_cut_towards_zero_and_stay_in_range(compute: Compute) -> None:
    x = np.array([-1.75, 1.75, -0.5, 3e9, -3e9, np.nan], np.float32)
    found = compute("cast", x=x, dtype="int32")
    np.testing.assert_array_equal(found, [-1, 1, 0, 2**31 - 1, -(2**31), 0])


def test_identity_changes_nothing(compute: Compute) -> None:
    x = np.array([[1.5, -2.0]], np.float32)
    np.testing.assert_array_equal(compute("identity", x=x), x)


def test_select_broadcasts_all_three(compute: Compute, folded: Compute) -> None:
    rng = np.random.default_rng(0)
    inputs = {
        "cond": np.array([[True], [False]]),
        "a": rng.normal(size=(1, 3)).astype(np.float32),
        "b": rng.normal(size=(4, 2, 3)).astype(np.float32),
    }
    np.testing.assert_array_equal(compute("select", **inputs), folded("select", **inputs))
