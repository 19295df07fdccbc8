"""Compressed constants against coremltools' own decompression, over random layouts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

Compute = Callable[..., Any]

quick = settings(max_examples=15, deadline=None)


def generator(data: st.DataObject) -> np.random.Generator:
    return np.random.default_rng(data.draw(st.integers(0, 2**16)))


def both(compute: Compute, folded: Compute, op: str, target: str, **given: Any) -> None:
    found, expected = compute(op, **given), folded(op, target=target, **given)
    if not isinstance(expected, tuple):
        found, expected = [found], [expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def unsigned(bits: int) -> Any:
    """coremltools' own integer type of so many bits."""
    from coremltools.converters.mil.mil import types

    return types.nptype_from_builtin(types.string_to_builtin(f"uint{bits}"))


def signed(bits: int) -> Any:
    from coremltools.converters.mil.mil import types

    return types.nptype_from_builtin(types.string_to_builtin(f"int{bits}"))


@quick
@given(data=st.data())
def test_affine_dequantize(compute: Compute, folded: Compute, data: st.DataObject) -> None:
    random, axis = generator(data), data.draw(st.integers(-3, 2))
    kind = data.draw(st.sampled_from([np.int8, np.uint8]))
    limits = np.iinfo(kind)
    values = random.integers(limits.min, limits.max, (2, 3, 4), endpoint=True).astype(kind)
    size: Any = (values.shape[axis],) if data.draw(st.booleans()) else ()
    zero_point = random.integers(limits.min, limits.max, size, endpoint=True).astype(kind)
    scale = random.normal(size=size).astype(np.float32)
    both(
        compute, folded, "constexpr_affine_dequantize", "iOS16",
        quantized_data=values, zero_point=zero_point, scale=scale, axis=np.int32(axis),
    )  # fmt: skip


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_packed_palette(compute: Compute, folded: Compute, bits: int) -> None:
    random, shape = np.random.default_rng(bits), (3, 5, 2)
    packed = random.integers(0, 256, -(-30 * bits // 8)).astype(np.uint8)
    lut = random.normal(size=2**bits).astype(np.float32)
    both(
        compute, folded, "constexpr_lut_to_dense", "iOS16",
        indices=packed, lut=lut, shape=np.array(shape, np.uint32),
    )  # fmt: skip


def test_packed_mask(compute: Compute, folded: Compute) -> None:
    mask = np.random.default_rng(0).integers(0, 2, 15).astype(np.uint8)
    values = np.arange(1, mask.sum() + 1).astype(np.float32)
    both(
        compute, folded, "constexpr_sparse_to_dense", "iOS16",
        nonzero_data=values, mask=np.packbits(mask, bitorder="little"),
        shape=np.array([3, 5], np.uint32),
    )  # fmt: skip


def test_cast(compute: Compute, folded: Compute) -> None:
    values = np.array([1.5, -2, 6e-8], np.float16)
    both(compute, folded, "constexpr_cast", "iOS16", source_val=values, output_dtype="fp32")


def palette(random: np.random.Generator, data: st.DataObject) -> dict[str, Any]:
    """Indices with a palette per block, entries of one or more elements."""
    bits = data.draw(st.sampled_from([1, 2, 3, 4, 6, 8]))
    blocks = [data.draw(st.integers(1, 2)) for _ in range(3)]
    shape = [count * data.draw(st.integers(1, 3)) for count in blocks]
    width = data.draw(st.integers(1, 3))
    indices = random.integers(0, 2**bits, shape)
    given: dict[str, Any] = {
        "indices": indices.astype(unsigned(bits)),
        "lut": random.normal(size=(*blocks, 2**bits, width)).astype(np.float32),
    }
    if width > 1:
        given["vector_axis"] = np.int32(data.draw(st.integers(0, 2)))
    return given


@quick
@given(data=st.data())
def test_palettes_per_block(compute: Compute, folded: Compute, data: st.DataObject) -> None:
    given = palette(generator(data), data)
    both(compute, folded, "constexpr_lut_to_dense", "iOS18", **given)


@quick
@given(data=st.data())
def test_sparse_palettes(compute: Compute, folded: Compute, data: st.DataObject) -> None:
    random = generator(data)
    given = palette(random, data)
    indices = given.pop("indices")
    mask = random.integers(0, 2, indices.shape)
    both(
        compute, folded, "constexpr_lut_to_sparse", "iOS18",
        indices_mask=mask.astype(unsigned(1)), indices_nonzero_data=indices[mask != 0], **given,
    )  # fmt: skip


@quick
@given(data=st.data())
def test_block_scales(compute: Compute, folded: Compute, data: st.DataObject) -> None:
    random, given = generator(data), {}
    blocks = [data.draw(st.integers(1, 3)) for _ in range(3)]
    shape = [count * data.draw(st.integers(1, 3)) for count in blocks]
    bits = data.draw(st.sampled_from([4, 8]))
    limit = 2 ** (bits - 1)
    values = random.integers(-limit, limit, shape).astype(signed(bits))
    given["scale"] = random.normal(size=blocks).astype(np.float32)
    if data.draw(st.booleans()):
        given["offset"] = random.integers(-limit, limit, blocks).astype(signed(bits))
    both(compute, folded, "constexpr_blockwise_shift_scale", "iOS18", data=values, **given)
    mask = random.integers(0, 2, shape)
    both(
        compute, folded, "constexpr_sparse_blockwise_shift_scale", "iOS18",
        data_mask=mask.astype(unsigned(1)), nonzero_data=values[mask != 0], **given,
    )  # fmt: skip


def test_sparse_to_dense(compute: Compute, folded: Compute) -> None:
    mask = np.array([[1, 0, 1], [0, 1, 1]])
    both(
        compute, folded, "constexpr_sparse_to_dense", "iOS18",
        nonzero_data=np.array([5, -6, 7, 8], np.float32), mask=mask.astype(unsigned(1)),
    )  # fmt: skip


@quick
@given(data=st.data())
def test_quantising_and_back(compute: Compute, folded: Compute, data: st.DataObject) -> None:
    random, kind = generator(data), data.draw(st.sampled_from(["int8", "uint8"]))
    values = random.normal(size=(3, 4)).astype(np.float32) * 60
    given: dict[str, Any] = {"scale": np.float32(0.5)}
    size: Any = ()
    if data.draw(st.booleans()):
        given = {"scale": random.uniform(0.1, 1, 4).astype(np.float32), "axis": np.int32(1)}
        size = 4
    if data.draw(st.booleans()):
        given["zero_point"] = random.integers(0, 9, size).astype(kind)
    expected = folded("quantize", input=values, output_dtype=kind, **given)
    found = compute("quantize", input=values, output_dtype=kind, **given)
    np.testing.assert_array_equal(found, expected)
    both(compute, folded, "dequantize", "iOS17", input=expected, **given)
