"""Float16 as emulated against numpy's own float16, operation by operation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpa_export.runtimes.coreml import Arithmetic, Evaluator, Package
from lpa_export.runtimes.coreml.arithmetic import round_to_half, round_to_half_

Saved = Callable[..., Package]


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_rounding_is_that_of_numpy(values: list[float]) -> None:
    array = np.array(values, np.float32)
    with np.errstate(over="ignore"):
        expected = array.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(round_to_half(torch.from_numpy(array)).numpy(), expected)
    np.testing.assert_array_equal(round_to_half_(torch.from_numpy(array.copy())).numpy(), expected)


def test_ties_limits_and_small_values() -> None:
    ties = [1 + 2**-11, 1 + 3 * 2**-11, 65519.9, 65520, -65520, 2**-25, 2**-25 * 1.01, 2**-24, 0.0]
    found = round_to_half_(torch.tensor(ties)).tolist()
    largest, inf = 65504, float("inf")
    assert found == [1, 1 + 2**-9, largest, inf, -inf, 0, 2**-24, 2**-24, 0]


def test_rounding_of_parts_of_a_tensor() -> None:
    whole = torch.full((4, 6), 1.0001)
    round_to_half_(whole.T[1:3])
    assert whole[:, 1:3].eq(1).all()
    assert whole[:, 3:].eq(1.0001).all()


def body(mb: Any, x: Any, y: Any) -> Any:
    """Each step takes rounded values: sums and products whose exact values do not fit."""
    total = mb.add(x=x, y=y, name="total")
    product = mb.mul(x=total, y=x, name="product")
    moved = mb.transpose(x=product, perm=[1, 0], name="moved")
    ratio = mb.real_div(x=moved, y=np.float16(3), name="ratio")
    return mb.sub(x=ratio, y=np.float16(0.1), name="y")


SPECS = {"x": ((5, 7), "fp16"), "y": ((5, 7), "fp16")}


def inputs(scale: float) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {name: (scale * random.normal(size=(5, 7))).astype(np.float16) for name in "xy"}


@pytest.mark.parametrize("scale", [1.0, 250.0, 1e-4])
def test_float16_programs_compute_as_numpy_float16_does(package: Saved, scale: float) -> None:
    given = inputs(scale)
    x, y = given["x"], given["y"]
    with np.errstate(over="ignore", invalid="ignore"):
        expected = {"total": x + y, "product": (x + y) * x}
        expected["ratio"] = expected["product"].T / np.float16(3)
        expected["y"] = expected["ratio"] - np.float16(0.1)
    assert all(array.dtype == np.float16 for array in expected.values())
    taps = ("total", "product", "ratio")
    found = Evaluator(package(body, SPECS)).run(given, taps=taps)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values.astype(np.float32), err_msg=name)


def test_without_rounding_values_are_those_of_float32(package: Saved) -> None:
    given = inputs(1.0)
    x, y = (given[name].astype(np.float64) for name in "xy")
    found = Evaluator(package(body, SPECS), arithmetic=Arithmetic.FP32).run(given)["y"]
    # The constant is a float16 of the program: it stays one.
    expected = ((x + y) * x).T / 3 - float(np.float16(0.1))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_float32_parts_of_a_mixed_program_are_not_rounded(package: Saved) -> None:
    def mixed(mb: Any, x: Any) -> Any:
        precise = mb.mul(x=x, y=np.float32(1 / 3), name="precise")
        half = mb.cast(x=precise, dtype="fp16", name="half")
        return mb.cast(x=half, dtype="fp32", name="y")

    x = np.array([1, 1000.3, 7e4], np.float32)
    evaluator = Evaluator(package(mixed, {"x": ((3,), "fp32")}))
    found = evaluator.run({"x": x}, taps=("precise",))
    np.testing.assert_array_equal(found["precise"], x * np.float32(1 / 3))
    np.testing.assert_array_equal(found["y"], found["precise"].astype(np.float16))
    assert found["y"][0] != found["precise"][0]


def test_sums_inside_an_operation_are_wide(package: Saved) -> None:
    ones = np.ones((1, 4096), np.float16)
    evaluator = Evaluator(
        package(lambda mb, x: mb.linear(x=x, weight=ones, name="y"), {"x": ((1, 4096), "fp16")})
    )
    x = np.full((1, 4096), 0.7, np.float16)
    exact = float(x.astype(np.float64).sum())
    assert evaluator.run({"x": x})["y"].item() == np.float16(exact)


@pytest.mark.parametrize("op", ["reduce_sum", "cumsum"])
def test_sequential_sums_are_those_of_a_loop_in_float16(package: Saved, op: str) -> None:
    def summed(mb: Any, x: Any) -> Any:
        if op == "cumsum":
            return mb.cumsum(x=x, axis=1, name="y")
        return mb.reduce_sum(x=x, axes=[1], keep_dims=False, name="y")

    x = np.random.default_rng(0).uniform(0, 1, (3, 900)).astype(np.float16)
    loaded = package(summed, {"x": ((3, 900), "fp16")})
    expected = np.zeros((3, 900), np.float16)
    for row, values in enumerate(x):
        total = np.float16(0)
        for place, value in enumerate(values):
            total = np.float16(total + value)
            expected[row, place] = total
    wanted = expected if op == "cumsum" else expected[:, -1]
    found = {
        arithmetic.name: Evaluator(loaded, arithmetic=arithmetic).run({"x": x})["y"]
        for arithmetic in (Arithmetic.FP16, Arithmetic.FP16_SEQUENTIAL)
    }
    np.testing.assert_array_equal(found["fp16-sequential"], wanted)
    wide = x.astype(np.float64).cumsum(1)
    np.testing.assert_allclose(found["fp16"], wide if op == "cumsum" else wide[:, -1], rtol=1e-3)
    assert np.abs(found["fp16"] - wanted).max() > 0


def test_compressed_weights_are_what_the_program_declares(package: Saved) -> None:
    data = np.arange(-128, 128).astype(np.int8).reshape(16, 16)
    scale = np.float16(0.0371)

    def body(mb: Any, x: Any) -> Any:
        weight = mb.constexpr_affine_dequantize(
            quantized_data=data, zero_point=np.int8(3), scale=scale, axis=0
        )
        return mb.linear(x=x, weight=weight, name="y")

    loaded = package(body, {"x": ((16, 16), "fp16")})
    weights = (data.astype(np.float32) - 3) * np.float32(scale)
    for arithmetic in (Arithmetic.FP32, Arithmetic.FP16):
        found = Evaluator(loaded, arithmetic=arithmetic).run({"x": np.eye(16, dtype=np.float16)})
        np.testing.assert_array_equal(found["y"].T, weights.astype(np.float16))
