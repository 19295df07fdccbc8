"""Pooling, resizing and sampling of images against torch's own and plain loops."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

Compute = Callable[..., Any]

quick = settings(max_examples=25, deadline=None)


def normal(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@quick
@given(
    rank=st.integers(1, 3),
    size=st.integers(4, 7),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    pad=st.integers(0, 2),
    ceil=st.booleans(),
    excluded=st.booleans(),
)
def test_pooling_is_that_of_torch(
    compute: Compute,
    rank: int,
    size: int,
    kernel: int,
    stride: int,
    pad: int,
    ceil: bool,
    excluded: bool,
) -> None:
    assume(pad <= kernel // 2)
    # Without padding Core ML counts a last window that lies outside; torch drops it.
    assume(pad > 0 or not ceil or stride <= kernel)
    x = normal(2, 3, *[size + axis for axis in range(rank)])
    inputs = {
        "x": x,
        "kernel_sizes": [kernel] * rank,
        "strides": [stride] * rank,
        "pad_type": "custom",
        "pad": [pad] * 2 * rank,
        "ceil_mode": ceil,
    }
    average, largest = (getattr(F, f"{kind}_pool{rank}d") for kind in ("avg", "max"))
    tensor = torch.from_numpy(x)
    np.testing.assert_allclose(
        compute("max_pool", **inputs), largest(tensor, kernel, stride, pad, ceil_mode=ceil)
    )
    np.testing.assert_allclose(
        compute("avg_pool", exclude_padding_from_average=excluded, **inputs),
        average(tensor, kernel, stride, pad, ceil_mode=ceil, count_include_pad=not excluded),
        atol=1e-6,
    )
    if rank < 3 and not ceil:
        squares = average(tensor.square(), kernel, stride, pad) * kernel**rank
        np.testing.assert_allclose(compute("l2_pool", **inputs), squares.sqrt(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["same", "same_lower", "valid"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (6, 4, 1), (5, 2, 3), (6, 2, 2)])
def test_where_the_windows_lie(
    compute: Compute, kind: str, size: int, kernel: int, stride: int
) -> None:
    x = normal(1, 2, size)
    count = (size - kernel) // stride + 1 if kind == "valid" else math.ceil(size / stride)
    missing = max((count - 1) * stride + kernel - size, 0)
    before = {"valid": 0, "same": missing // 2, "same_lower": math.ceil(missing / 2)}[kind]
    expected = np.full((1, 2, count), -np.inf)
    for n, i in product(range(count), range(kernel)):
        if 0 <= n * stride + i - before < size:
            expected[..., n] = np.maximum(expected[..., n], x[..., n * stride + i - before])
    found = compute("max_pool", x=x, kernel_sizes=[kernel], strides=[stride], pad_type=kind)
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_padding_may_differ_at_the_two_ends(compute: Compute) -> None:
    x = np.array([[[1.0, 2.0, 3.0]]], np.float32)
    inputs = {"x": x, "kernel_sizes": [2], "pad_type": "custom", "pad": [1, 0]}
    np.testing.assert_allclose(compute("avg_pool", **inputs), [[[0.5, 1.5, 2.5]]])
    found = compute("avg_pool", exclude_padding_from_average=True, **inputs)
    np.testing.assert_allclose(found, [[[1.0, 1.5, 2.5]]])


EXAMPLES = [
    (5, "UNALIGN_CORNERS", [0, 0.1, 0.5, 0.9, 1]),
    (5, "STRICT_ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1]),
    (5, "ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1]),
    (5, "DEFAULT", [0, 0.4, 0.8, 1, 1]),
    (5, "OFFSET_CORNERS", [0.1, 0.3, 0.5, 0.7, 0.9]),
    (6, "UNALIGN_CORNERS", [0, 0, 1 / 3, 2 / 3, 1, 1]),
    (6, "DEFAULT", [0, 1 / 3, 2 / 3, 1, 1, 1]),
    (6, "OFFSET_CORNERS", [1 / 12, 0.25, 5 / 12, 7 / 12, 0.75, 11 / 12]),
    (1, "STRICT_ALIGN_CORNERS", [0]),
    (1, "ALIGN_CORNERS", [0.5]),
]


@pytest.mark.parametrize(("wanted", "mode", "grid"), EXAMPLES)
def test_sampling_grids_are_those_of_the_documentation(
    compute: Compute, wanted: int, mode: str, grid: list[float]
) -> None:
    x = np.array([[[0.0, 1.0]]], np.float32)
    sizes = {"target_size_height": 1, "target_size_width": wanted}
    found = compute("resize_bilinear", x=x, sampling_mode=mode, **sizes)
    np.testing.assert_allclose(found.ravel(), grid, atol=1e-6)
    again = compute("resize", x=x, shape=[0, wanted], resized_dims=2, sampling_mode=mode)
    np.testing.assert_allclose(again.ravel(), grid, atol=1e-6)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("factors", [(2.0, 3.0), (1.5, 0.7), (0.5, 1.0)])
def test_upsampling_is_that_of_torch(compute: Compute, aligned: bool, factors: Any) -> None:
    x = normal(2, 3, 6, 10)
    scales = dict(zip(("scale_factor_height", "scale_factor_width"), factors, strict=True))
    sizes = [
        math.floor(np.float32(f) * np.float32(n)) for f, n in zip(factors, (6, 10), strict=True)
    ]
    tensor = torch.from_numpy(x)
    np.testing.assert_allclose(
        compute("upsample_bilinear", x=x, align_corners=aligned, **scales),
        F.interpolate(tensor, sizes, mode="bilinear", align_corners=aligned),
        atol=1e-5,
    )
    nearest = F.interpolate(tensor, sizes, mode="nearest").numpy()
    np.testing.assert_array_equal(compute("upsample_nearest_neighbor", x=x, **scales), nearest)
    np.testing.assert_array_equal(
        compute(
            "resize_nearest_neighbor",
            x=x,
            target_size_height=sizes[0],
            target_size_width=sizes[1],
        ),
        F.interpolate(tensor, sizes, mode="nearest-exact"),
    )


# coremltools 9.0, TestResize.test_resize_nearest_neighbor; the index rule of its documentation.
@pytest.mark.parametrize(
    ("x", "height", "expected"),
    [
        ([-6.174, 9.371], 3, [-6.174, 9.371, 9.371]),
        ([0, 1, 2], 5, [0, 0, 1, 2, 2]),
        ([0, 1, 2, 3], 2, [1, 3]),
    ],
)
def test_the_nearest_element_is_the_one_under_the_centre(
    compute: Compute, x: list[float], height: int, expected: list[float]
) -> None:
    image = np.array(x, np.float32).reshape(1, 1, -1, 1)
    found = compute(
        "resize", x=image, shape=[height, 1], resized_dims=2, interpolation_mode="NEAREST_NEIGHBOR"
    )
    np.testing.assert_allclose(found.ravel(), expected)
    found = compute("resize_nearest_neighbor", x=image, target_size_height=height)
    np.testing.assert_allclose(found.ravel(), expected)


def test_a_nearest_pixel_at_a_tie_behind_the_mirror(compute: Compute) -> None:
    """Expected values: coremltools 9.0, TestResample.test_builder_to_backend_smoke."""
    found = compute(
        "resample",
        x=np.array([[[[11, 22], [33, 44]]]], np.float32),
        coordinates=np.array([[[[-1, -2], [-3.7, -1]], [[0, 0], [3.5, 1.2]]]], np.float32),
        sampling_mode="nearest",
        padding_mode="symmetric",
        padding_value=-1.0,
        coordinates_mode="normalized_zero_to_one",
        align_corners=False,
    )
    np.testing.assert_array_equal(found[0, 0], [[22, 33], [11, 33]])


BOXES = np.array([[0.1, 0.3, 1.3, 1.0], [0.5, 1.8, 1.0, 0.3], [0.0, 0.4, 0.6, 0.7]], np.float32)


def test_boxes_are_cut_out_and_brought_to_a_size(compute: Compute) -> None:
    """Expected values: coremltools 9.0, TestCropResize (iOS15 to iOS17)."""
    x = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    two: dict[str, Any] = {"target_height": 2, "target_width": 2}
    ends = {"sampling_mode": "ALIGN_CORNERS"}
    roi = np.array([1, 1, 2, 2], np.float32).reshape(1, 1, 4, 1, 1)
    found = compute("crop_resize", x=x, roi=roi, **two, **ends)
    assert found.shape == (1, 1, 1, 2, 2)
    np.testing.assert_allclose(found.ravel(), [6, 7, 10, 11])
    found = compute("crop_resize", x=x, roi=roi, **ends)
    np.testing.assert_allclose(found.ravel(), [8.5])
    found = compute(
        "crop_resize",
        x=x,
        roi=np.array([2, 2, 1, 1], np.float32).reshape(1, 1, 4, 1, 1),
        **two,
        **ends,
    )
    np.testing.assert_allclose(found.ravel(), [11, 10, 7, 6])
    expected = [3.1, 5.2, 10, 10, 10, 7.9, 10, 13.9, 2.2, 3.1, 9.4, 10.3]
    given = {"x": x, "normalized_coordinates": True, "pad_value": 10.0, **two, **ends}
    indices = np.zeros(3, np.int32)
    found = compute("crop_resize", boxes=BOXES, box_indices=indices, **given)
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5)
    with_image = np.concatenate([np.zeros((3, 1), np.float32), BOXES], 1).reshape(3, 1, 5, 1, 1)
    found = compute("crop_resize", roi=with_image, **given)
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "mode",
    ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"],
)
def test_a_box_around_the_whole_image_is_a_resize(compute: Compute, mode: str) -> None:
    """torch resizes; its grid for every mode stands in the documentation of resize_bilinear."""
    x = normal(2, 3, 5, 4)
    boxes = np.array([[0, 0, 4, 3], [0, 0, 4, 3]], np.float32)
    found = compute(
        "crop_resize",
        x=x,
        boxes=boxes,
        target_height=3,
        target_width=7,
        sampling_mode=mode,
    )
    grids = [documented_grid(size, wanted, mode) for size, wanted in ((5, 3), (4, 7))]
    inside = [(grid >= 0) & (grid <= size - 1) for grid, size in zip(grids, (5, 4), strict=True)]
    both = inside[0][:, None] & inside[1]
    scaled = [2 * g / (size - 1) - 1 for g, size in zip(grids, (5, 4), strict=True)]
    rows, columns = np.meshgrid(*scaled, indexing="ij")
    grid = torch.from_numpy(np.stack([columns, rows], -1)[None].repeat(2, 0).astype(np.float32))
    expected = F.grid_sample(torch.from_numpy(x), grid, align_corners=True).numpy()
    np.testing.assert_allclose(found, np.where(both, expected, 0), atol=1e-5)


def documented_grid(size: int, wanted: int, mode: str) -> Any:
    """Before it is clamped to the image."""
    steps = np.arange(wanted)
    return {
        "STRICT_ALIGN_CORNERS": steps * (size - 1) / (wanted - 1),
        "ALIGN_CORNERS": steps * (size - 1) / (wanted - 1),
        "DEFAULT": np.minimum(steps * size / wanted, size - 1),
        "OFFSET_CORNERS": (steps + 0.5) * max(1, size - 1) / wanted,
        "UNALIGN_CORNERS": (steps + 0.5) * size / wanted - 0.5,
    }[mode]


def test_boxes_may_be_centres_and_sizes_widths_first_and_scaled(compute: Compute) -> None:
    x = normal(2, 3, 6, 8)
    common: dict[str, Any] = {
        "x": x,
        "target_height": 3,
        "target_width": 2,
        "sampling_mode": "ALIGN_CORNERS",
    }
    corners = np.array([[1, 2, 4, 6], [0, 1, 2, 3]], np.float32)
    expected = compute("crop_resize", boxes=corners, **common)
    first, second = corners[:, :2], corners[:, 2:]
    centred = np.concatenate([(first + second) / 2, second - first], 1)
    found = compute(
        "crop_resize", boxes=centred, box_coordinate_mode="CENTER_SIZE_HEIGHT_FIRST", **common
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    found = compute(
        "crop_resize",
        boxes=corners[:, [1, 0, 3, 2]] * 4,
        spatial_scale=0.25,
        box_coordinate_mode="CORNERS_WIDTH_FIRST",
        **common,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    swapped = compute(
        "crop_resize", boxes=corners, box_indices=np.array([1, 0], np.int32), **common
    )
    again = compute("crop_resize", boxes=corners, **{**common, "x": x[::-1].copy()})
    np.testing.assert_allclose(swapped, again, rtol=1e-6)


def test_without_half_pixel_centres_the_grid_starts_at_the_first_pixel(compute: Compute) -> None:
    x = np.array([[[0.0, 1.0]]], np.float32)
    found = compute(
        "upsample_bilinear",
        x=x,
        scale_factor_width=2.0,
        align_corners=False,
        half_pixel_centers=False,
    )
    np.testing.assert_allclose(found.ravel(), [0, 0.5, 1, 1])


def test_the_nearest_pixel_to_half_pixel_centres(compute: Compute) -> None:
    x = normal(1, 2, 7, 5)
    found = compute(
        "resize",
        x=x,
        shape=[4, 9],
        resized_dims=2,
        interpolation_mode="NEAREST_NEIGHBOR",
        sampling_mode="UNALIGN_CORNERS",
    )
    expected = F.interpolate(torch.from_numpy(x), (4, 9), mode="nearest-exact")
    np.testing.assert_array_equal(found, expected)


def test_only_the_last_axes_are_resized(compute: Compute) -> None:
    x = normal(1, 2, 3, 4)
    found = compute("resize", x=x, shape=[9, 9, 8], resized_dims=1, sampling_mode="DEFAULT")
    assert found.shape == (1, 2, 3, 8)
    np.testing.assert_allclose(found[..., ::2], x, atol=1e-6)


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    ("padding", "theirs", "corners"),
    [
        ("constant", "zeros", True),
        ("constant", "zeros", False),
        ("border", "border", True),
        ("border", "border", False),
        ("reflection", "reflection", True),
        ("symmetric", "reflection", False),
    ],
)
def test_sampling_is_that_of_torch(
    compute: Compute, sampling: str, padding: str, theirs: str, corners: bool
) -> None:
    x = normal(2, 3, 5, 6)
    grid = np.random.default_rng(1).uniform(-1.7, 1.7, (2, 4, 7, 2)).astype(np.float32)
    expected = F.grid_sample(
        torch.from_numpy(x), torch.from_numpy(grid), sampling, theirs, align_corners=corners
    )
    inputs = {
        "x": x,
        "sampling_mode": sampling,
        "padding_mode": padding,
        "padding_value": 0.0,
        "align_corners": corners,
    }
    for mode, coordinates in (
        ("normalized_minus_one_to_one", grid),
        ("normalized_zero_to_one", (grid + 1) / 2),
    ):
        found = compute("resample", coordinates=coordinates, coordinates_mode=mode, **inputs)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pixels_by_their_own_coordinates(compute: Compute) -> None:
    x = normal(1, 1, 3, 4)
    places = np.array([[[[0, 0], [3, 2], [1, 1], [4, 0]]]], np.int32)
    found = compute(
        "resample",
        x=x,
        coordinates=places,
        sampling_mode="nearest",
        padding_mode="constant",
        padding_value=9.0,
        coordinates_mode="unnormalized",
        align_corners=True,
    )
    np.testing.assert_array_equal(found.ravel(), [x[0, 0, 0, 0], x[0, 0, 2, 3], x[0, 0, 1, 1], 9])


@pytest.mark.parametrize("matrices", [1, 2])
def test_affine_transforms_are_those_of_torch(compute: Compute, matrices: int) -> None:
    x = normal(2, 3, 5, 6)
    theta = np.random.default_rng(2).uniform(-1, 1, (matrices, 6)).astype(np.float32)
    found = compute(
        "affine",
        x=x,
        transform_matrix=theta,
        output_height=4,
        output_width=7,
        sampling_mode="bilinear",
        padding_mode="constant",
        padding_value=0.0,
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=True,
    )
    tensor = torch.from_numpy(theta).reshape(-1, 2, 3).expand(2, -1, -1)
    grid = F.affine_grid(tensor, [2, 3, 4, 7], align_corners=True)
    expected = F.grid_sample(torch.from_numpy(x), grid, align_corners=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
