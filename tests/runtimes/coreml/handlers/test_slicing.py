"""Slices, read and written, against NumPy and coremltools' constant folding."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Compute = Callable[..., Any]


def counted(*shape: int) -> Any:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), shape=st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_slices_are_those_of_numpy(compute: Compute, data: st.DataObject, shape: list[int]) -> None:
    rank = len(shape)
    bounds = st.lists(st.integers(-6, 6), min_size=rank, max_size=rank)
    masks = st.lists(st.booleans(), min_size=rank, max_size=rank)
    begin, end = data.draw(bounds), data.draw(bounds)
    stride = data.draw(st.lists(st.sampled_from([1, 2, 3, -1, -2]), min_size=rank, max_size=rank))
    begin_mask, end_mask = data.draw(masks), data.draw(masks)
    x = counted(*shape)
    found = compute(
        "slice_by_index",
        x=x,
        begin=begin,
        end=end,
        stride=stride,
        begin_mask=begin_mask,
        end_mask=end_mask,
    )
    slices = [
        slice(None if begin_mask[i] else begin[i], None if end_mask[i] else end[i], stride[i])
        for i in range(rank)
    ]
    np.testing.assert_array_equal(found, x[tuple(slices)])


@pytest.mark.parametrize(
    ("begin", "squeezed", "expected"),
    [
        ([1, 0, -1], [True, False, True], counted(2, 3, 4)[1, :, -1]),
        ([0, 2, 0], [False, True, False], counted(2, 3, 4)[:, 2]),
        ([-1, -3, 2], [True, True, True], counted(2, 3, 4)[-1, -3, 2]),
    ],
)
def test_squeezed_axes_are_indexed(
    compute: Compute, begin: Any, squeezed: Any, expected: Any
) -> None:
    found = compute(
        "slice_by_index",
        x=counted(2, 3, 4),
        begin=begin,
        end=[0, 0, 0],
        end_mask=[True, True, True],
        squeeze_mask=squeezed,
    )
    np.testing.assert_array_equal(found, expected)


def test_an_index_outside_the_axis_is_an_error(compute: Compute) -> None:
    with pytest.raises(IndexError, match="index 4 is outside an axis of 3"):
        compute("slice_by_index", x=counted(3), begin=[4], end=[5], squeeze_mask=[True])


def test_slices_by_size(compute: Compute, folded: Compute) -> None:
    for begin, size in (([0, 1, 2], [2, 2, 1]), ([1, -2, 0], [-1, 2, -1])):
        inputs = {
            "x": counted(2, 3, 4),
            "begin": np.array(begin, np.int32),
            "size": np.array(size, np.int32),
        }
        found, expected = (run("slice_by_size", **inputs) for run in (compute, folded))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("squeezed", [False, True])
def test_slices_are_replaced(compute: Compute, folded: Compute, squeezed: bool) -> None:
    inputs = {
        "x": counted(3, 4),
        "update": np.array([-1.0, -2.0], np.float32).reshape([2] if squeezed else [1, 2]),
        "begin": np.array([1, 3], np.int32),
        "end": np.array([2, 0], np.int32),
        "stride": np.array([1, -2], np.int32),
        "end_mask": [False, True],
        "squeeze_mask": [squeezed, False],
    }
    before = inputs["x"].copy()
    np.testing.assert_array_equal(
        compute("slice_update", **inputs), folded("slice_update", target="iOS18", **inputs)
    )
    np.testing.assert_array_equal(inputs["x"], before)
