"""Compressed constants, and quantisation at run time.

Integers of any width arrive unpacked, one per element, but for the packed bytes of iOS 16.
"""

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]

_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


def _affine_dequantize(call: Call) -> Tensor:
    data, axis = call.tensor("quantized_data"), call.integer("axis")
    scale, zero_point = (_along(call.tensor(name), data, axis) for name in ("scale", "zero_point"))
    return scale * (data.float() - zero_point)


def _cast(call: Call) -> Tensor:
    return call.tensor("source_val")


def _lut_to_dense(call: Call) -> Tensor:
    if call.has("shape"):
        shape, lut = call.integers("shape"), call.tensor("lut")
        width = (len(lut) - 1).bit_length()
        return lut[_unpacked(call.tensor("indices"), width, shape)]
    return _looked_up(call.tensor("indices"), call)


def _sparse_to_dense(call: Call) -> Tensor:
    data, mask = call.tensor("nonzero_data"), call.tensor("mask")
    if call.has("shape"):
        mask = _unpacked(mask, 1, call.integers("shape"))
    return _scattered(data, mask)


def _blockwise_shift_scale(call: Call) -> Tensor:
    return _shifted(call.tensor("data"), call)


def _lut_to_sparse(call: Call) -> tuple[Tensor, Tensor]:
    mask = call.tensor("indices_mask")
    dense = _looked_up(_scattered(call.tensor("indices_nonzero_data"), mask), call)
    width = call.tensor("lut").shape[-1]
    if width > 1:
        mask = mask.repeat_interleave(width, call.integer("vector_axis"))
    return mask, dense[mask != 0]


def _sparse_blockwise_shift_scale(call: Call) -> tuple[Tensor, Tensor]:
    mask = call.tensor("data_mask")
    dense = _shifted(_scattered(call.tensor("nonzero_data"), mask), call)
    return mask, dense[mask != 0]


def _quantize(call: Call) -> Tensor:
    values, scale, zero_point = _prepared(call)
    low, high = _RANGES[call.text("output_dtype")]
    return (torch.round(values / scale) + zero_point).clamp(low, high).to(torch.int32)


def _dequantize(call: Call) -> Tensor:
    values, scale, zero_point = _prepared(call)
    return scale * (values.float() - zero_point)


def _prepared(call: Call) -> tuple[Tensor, Tensor, Tensor | float]:
    values, axis = call.tensor("input"), call.integer("axis", 0)
    zero_point = call.optional("zero_point")
    return (
        values,
        _along(call.tensor("scale"), values, axis),
        0.0 if zero_point is None else _along(zero_point, values, axis),
    )


def _along(values: Tensor, data: Tensor, axis: int) -> Tensor:
    """A vector laid along one axis of ``data`` (a scalar goes with all of it)."""
    if values.ndim == 0:
        return values
    shape = [1] * data.ndim
    shape[axis] = -1
    return values.reshape(shape)


def _unpacked(packed: Tensor, width: int, shape: list[int]) -> Tensor:
    """Unsigned integers of ``width`` bits out of bytes, lowest bits first."""
    count = int(torch.tensor(shape).prod())
    bits = (packed.reshape(-1, 1) >> torch.arange(8)) & 1
    fields = bits.reshape(-1)[: count * width].reshape(count, width)
    return (fields << torch.arange(width)).sum(1).reshape(shape)


def _looked_up(indices: Tensor, call: Call) -> Tensor:
    """Palette entries: a palette per block of ``indices``, entries of one or more elements."""
    lut = call.tensor("lut")
    *blocks, entries, width = lut.shape
    which = torch.zeros((), dtype=torch.long)
    for axis, (size, count) in enumerate(zip(indices.shape, blocks, strict=True)):
        block = torch.arange(size) // (size // count)
        which = which * count + _along(block, indices, axis)
    found = lut.reshape(-1, width)[which * entries + indices]
    if width == 1:
        return found[..., 0]
    axis = call.integer("vector_axis") % indices.ndim
    return found.movedim(-1, axis + 1).flatten(axis, axis + 1)


def _scattered(values: Tensor, mask: Tensor) -> Tensor:
    dense = torch.zeros(mask.shape, dtype=values.dtype)
    dense[mask != 0] = values.reshape(-1)
    return dense


def _shifted(data: Tensor, call: Call) -> Tensor:
    """scale * (data - offset), a scale and an offset per block of ``data``."""
    scale, offset = call.tensor("scale"), call.optional("offset")
    values = data.float()
    if offset is not None:
        values = values - _spread(offset, data)
    return values * _spread(scale, data)


def _spread(values: Tensor, data: Tensor) -> Tensor:
    for axis, (size, count) in enumerate(zip(data.shape, values.shape, strict=True)):
        # One value for a whole axis broadcasts by itself.
        if 1 < count < size:
            values = values.repeat_interleave(size // count, axis)
    return values


TABLE: dict[str, Handler] = {
    "constexpr_affine_dequantize": _affine_dequantize,
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "constexpr_cast": _cast,
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_lut_to_sparse": _lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": _sparse_blockwise_shift_scale,
    "constexpr_sparse_to_dense": _sparse_to_dense,
    "dequantize": _dequantize,
    "quantize": _quantize,
}
