"""Matrix products against numpy in float64 and coremltools' own folding."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

Compute = Callable[..., Any]

quick = settings(max_examples=20, deadline=None)


def normal(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
@pytest.mark.parametrize("biased", [True, False])
def test_linear(compute: Compute, shape: tuple[int, ...], biased: bool) -> None:
    x, weight, bias = normal(*shape), normal(4, 5), normal(4) if biased else None
    expected = np.einsum("...i,oi->...o", x.astype(float), weight) + (0 if bias is None else bias)
    found = compute("linear", x=x, weight=weight, bias=bias)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("whole_first", [True, False])
def test_whole_numbers_meet_floating_point_ones(compute: Compute, whole_first: bool) -> None:
    """From iOS17 on they may; the sum is that of NumPy in float64."""
    whole = np.arange(-6, 6, dtype=np.int32).reshape(3, 4)
    x, y = (whole, normal(4, 5)) if whole_first else (normal(5, 3), whole)
    np.testing.assert_allclose(compute("matmul", x=x, y=y), x.astype(float) @ y, rtol=1e-5)
    found = compute("linear", x=x, weight=np.ascontiguousarray(y.T), bias=normal(y.shape[1]))
    np.testing.assert_allclose(found, x.astype(float) @ y + normal(y.shape[1]), rtol=1e-5)


def test_linear_of_integers(compute: Compute, folded: Compute) -> None:
    x = np.array([[1, -2], [3, 4]], np.int32)
    weight, bias = np.array([[5, 6]], np.int32), np.array([-7], np.int32)
    given = {"x": x, "weight": weight, "bias": bias}
    np.testing.assert_array_equal(compute("linear", **given), folded("linear", **given))


@quick
@given(
    batches=arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3),
    sides=st.tuples(*[st.integers(1, 4)] * 3),
    transposed=st.tuples(st.booleans(), st.booleans()),
)
def test_matmul_broadcasts_and_transposes(
    compute: Compute,
    folded: Compute,
    batches: Any,
    sides: tuple[int, int, int],
    transposed: tuple[bool, bool],
) -> None:
    rows, inner, columns = sides
    left, right = (rows, inner), (inner, columns)
    x = normal(*batches.input_shapes[0], *(left[::-1] if transposed[0] else left))
    y = normal(*batches.input_shapes[1], *(right[::-1] if transposed[1] else right))
    given = {"x": x, "y": y, "transpose_x": transposed[0], "transpose_y": transposed[1]}
    expected = folded("matmul", **given)
    assert expected.shape == (*batches.result_shape, rows, columns)
    np.testing.assert_allclose(compute("matmul", **given), expected, rtol=1e-4, atol=1e-6)


def test_matmul_of_vectors(compute: Compute) -> None:
    for left, right in (((4,), (4,)), ((4,), (3, 4, 2)), ((3, 2, 4), (4,))):
        x, y = normal(*left), normal(*right)
        found = compute("matmul", x=x, y=y, transpose_x=False, transpose_y=False)
        np.testing.assert_allclose(found, np.matmul(x, y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("equation", "left", "right"),
    [
        ("nchw,nwhu->nchu", (2, 3, 4, 5), (2, 5, 4, 6)),
        ("nchw,nwhu->nchu", (1, 3, 4, 5), (2, 5, 1, 6)),
        ("chw,whr->chr", (3, 4, 5), (5, 1, 2)),
    ],
)
def test_einsum(compute: Compute, folded: Compute, equation: str, left: Any, right: Any) -> None:
    values = (normal(*left), normal(*right))
    found = compute("einsum", values=values, equation=equation)
    expected = folded("einsum", values=values, equation=equation)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
