"""Reshapes, joins, blocks and padding against constant folding and plain loops."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

Compute = Callable[..., Any]


def counted(*shape: int, dtype: Any = np.float32) -> Any:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


@pytest.mark.parametrize(
    ("target", "shape", "wanted"),
    [
        ("iOS15", (2, 3, 4), [6, -1]),
        ("iOS15", (2, 3, 4), [0, -1, 2]),
        ("iOS15", (2, 3, 4), [-1]),
        ("iOS15", (4, 3), [0, 0]),
        ("iOS17", (2, 50), [1, 0, -1, 0]),
        ("iOS17", (4, 3, 2), [-1, 0]),
        ("iOS17", (4, 3, 2), [12, 0]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_zeros_and_minus_one_in_reshapes(
    compute: Compute, folded: Compute, target: str, shape: Any, wanted: Any, dtype: Any
) -> None:
    inputs = {"x": counted(*shape, dtype=dtype), "shape": np.array(wanted, np.int32)}
    expected = folded("reshape", target=target, **inputs)
    found = compute("reshape", **inputs)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == dtype


def test_reshape_like_takes_slices_of_other_shapes(compute: Compute) -> None:
    found = compute(
        "reshape_like",
        x=counted(5, 36),
        ref_tensors=(counted(2, 3, 4), counted(1, 5, 6)),
        begins=(0, 1),
        ends=(2, 0),
        end_masks=(False, True),
    )
    np.testing.assert_array_equal(found, counted(5, 36).reshape(2, 3, 5, 6))


@pytest.mark.parametrize("axes", [[0], [-1], [0, 2], [-1, 0, 2], [4, 1]])
def test_new_axes_are_counted_in_the_result(compute: Compute, folded: Compute, axes: Any) -> None:
    inputs = {"x": counted(2, 3, 4), "axes": np.array(axes, np.int32)}
    np.testing.assert_array_equal(compute("expand_dims", **inputs), folded("expand_dims", **inputs))


def test_squeezing(compute: Compute, folded: Compute) -> None:
    x = counted(1, 3, 1, 2)
    for axes in ([0], [-2], [0, 2]):
        inputs = {"x": x, "axes": np.array(axes, np.int32)}
        np.testing.assert_array_equal(compute("squeeze", **inputs), folded("squeeze", **inputs))
    assert compute("squeeze", x=x).shape == (3, 2)
    assert compute("squeeze", x=x, axes=[0, 1]).shape == (3, 1, 2), "a longer axis stays"


@pytest.mark.parametrize("perm", [[2, 0, 1], [-1, 0, -2], [0, 1, 2]])
def test_transposing(compute: Compute, folded: Compute, perm: Any) -> None:
    inputs = {"x": counted(2, 3, 4), "perm": np.array(perm, np.int32)}
    np.testing.assert_array_equal(compute("transpose", **inputs), folded("transpose", **inputs))


@pytest.mark.parametrize(
    ("shape", "axis", "flat"),
    [
        ((3,), -1, (1, 3)),
        ((3,), 1, (3, 1)),
        ((4, 3), -1, (4, 3)),
        ((2, 3, 2), -1, (6, 2)),
        ((5, 5, 2), 1, (5, 10)),
    ],
)
def test_flattening_as_documented(compute: Compute, shape: Any, axis: int, flat: Any) -> None:
    found = compute("flatten2d", x=counted(*shape), axis=axis)
    np.testing.assert_array_equal(found, counted(*flat))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_joining(compute: Compute, folded: Compute, axis: int) -> None:
    values = (counted(2, 3), counted(2, 3) + 10, counted(2, 3) - 5)
    for op in ("stack", "concat"):
        found, expected = (run(op, values=values, axis=axis) for run in (compute, folded))
        np.testing.assert_array_equal(found, expected)


def test_joining_scalars_makes_a_vector(compute: Compute) -> None:
    found = compute("concat", values=(np.int32(3), np.int32(4)), axis=0)
    np.testing.assert_array_equal(found, np.array([3, 4], np.int32))


def test_interleaving_takes_turns(compute: Compute) -> None:
    first, second = counted(3, 2), counted(3, 2) + 100
    rows = compute("concat", values=(first, second), axis=0, interleave=True)
    np.testing.assert_array_equal(rows[0::2], first)
    np.testing.assert_array_equal(rows[1::2], second)
    columns = compute("concat", values=(first, second), axis=-1, interleave=True)
    np.testing.assert_array_equal(columns[:, 1::2], second)


@pytest.mark.parametrize(
    "how", [{"num_splits": 3}, {"split_sizes": [1, 4, 1]}, {"num_splits": 2, "split_sizes": [2, 4]}]
)
def test_splitting(compute: Compute, how: dict[str, Any]) -> None:
    x = counted(2, 6)
    sizes = how.get("split_sizes") or [2, 2, 2]
    expected = np.split(x, np.cumsum(sizes)[:-1], axis=1)
    for found, part in zip(compute("split", x=x, axis=-1, **how), expected, strict=True):
        np.testing.assert_array_equal(found, part)


def test_repeating_and_reversing(compute: Compute, folded: Compute) -> None:
    x = counted(2, 3)
    for op, inputs in (
        ("tile", {"reps": np.array([3, 2], np.int32)}),
        ("reverse", {"axes": np.array([-1], np.int32)}),
        ("reverse", {}),
    ):
        np.testing.assert_array_equal(compute(op, x=x, **inputs), folded(op, x=x, **inputs))


@pytest.mark.parametrize(("sequence", "batch"), [(1, 0), (0, 1), (-1, 0)])
def test_sequences_are_reversed_up_to_their_length(
    compute: Compute, sequence: int, batch: int
) -> None:
    x = counted(3, 3, 3)
    lengths = np.array([0, 2, 3], np.int32)
    found = compute("reverse_sequence", x=x, lengths=lengths, seq_axis=sequence, batch_axis=batch)
    expected = np.moveaxis(x.copy(), (batch, sequence), (0, 1))
    for row, length in zip(expected, lengths, strict=True):
        row[:length] = row[:length][::-1].copy()
    np.testing.assert_array_equal(found, np.moveaxis(expected, (0, 1), (batch, sequence)))


@pytest.mark.parametrize(("axis", "size", "stride"), [(1, 3, 1), (-1, 2, 2), (0, 1, 1)])
def test_windows_stand_behind_their_axis(
    compute: Compute, axis: int, size: int, stride: int
) -> None:
    x = counted(2, 5, 4)
    found = compute("sliding_windows", x=x, axis=axis, size=size, stride=stride)
    starts = range(0, x.shape[axis] - size + 1, stride)
    expected = np.stack([x.take(range(n, n + size), axis) for n in starts], axis % 3)
    np.testing.assert_array_equal(found, expected)


def test_pixels_are_shuffled_as_torch_documents_it(compute: Compute) -> None:
    x = counted(2, 12, 3, 2)
    found = compute("pixel_shuffle", x=x, upscale_factor=2)
    for n, c, h, w in product(range(2), range(3), range(6), range(4)):
        assert found[n, c, h, w] == x[n, c * 4 + (h % 2) * 2 + w % 2, h // 2, w // 2]
    np.testing.assert_array_equal(compute("pixel_unshuffle", x=found, downscale_factor=2), x)


def test_depth_goes_to_space_block_by_block(compute: Compute) -> None:
    x = counted(2, 12, 3, 2)
    found = compute("depth_to_space", x=x, block_size=2)
    for n, c, h, w in product(range(2), range(3), range(6), range(4)):
        assert found[n, c, h, w] == x[n, ((h % 2) * 2 + w % 2) * 3 + c, h // 2, w // 2]
    np.testing.assert_array_equal(compute("space_to_depth", x=found, block_size=2), x)


def test_space_goes_to_batch_block_by_block(compute: Compute) -> None:
    x = counted(2, 3, 3, 5)
    paddings = np.array([[1, 0], [0, 1]], np.int32)
    found = compute("space_to_batch", x=x, block_shape=[2, 3], paddings=paddings)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 0), (0, 1)])
    for i, j, n in product(range(2), range(3), range(2)):
        np.testing.assert_array_equal(found[(i * 3 + j) * 2 + n], padded[n, :, i::2, j::3])
    np.testing.assert_array_equal(
        compute("batch_to_space", x=found, block_shape=[2, 3], crops=paddings), x
    )


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
@pytest.mark.parametrize("amounts", [[1, 2], [0, 1, 2, 0], [1, 0, 0, 2, 3, 1], [0, 0]])
def test_padding_covers_the_last_axes(
    compute: Compute, folded: Compute, mode: str, amounts: list[int]
) -> None:
    inputs = {
        "x": counted(2, 3, 4),
        "pad": np.array(amounts, np.int32),
        "mode": mode,
        "constant_val": np.float32(-7.0),
    }
    np.testing.assert_array_equal(compute("pad", **inputs), folded("pad", **inputs))


def test_cropping(compute: Compute) -> None:
    x = counted(2, 5, 6)
    found = compute("crop", x=x, crop_height=[1, 0], crop_width=[2, 1])
    np.testing.assert_array_equal(found, x[:, 1:, 2:5])
