"""Tensors made from shapes, ranges, positions and masks."""

import math

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]


def _fill(call: Call) -> Tensor:
    return _value(call, "value", 0.0).expand(call.integers("shape")).clone()


def _fill_like(call: Call) -> Tensor:
    """The shape of ``ref_tensor``, the type of ``value``."""
    return _value(call, "value", 0.0).expand(call.tensor("ref_tensor").shape).clone()


def _value(call: Call, name: str, default: float) -> Tensor:
    value = call.optional(name)
    return torch.tensor(default) if value is None else value.reshape(())


def _range(call: Call) -> Tensor:
    """start, start + step, ... up to ``end``, which is left out."""
    start, step = call.tensor("start"), call.tensor("step")
    length = math.ceil((call.number("end") - float(start)) / float(step))
    steps = torch.arange(max(length, 0), dtype=torch.float64)
    return (start.double() + steps * step.double()).reshape(-1).to(start.dtype)


def _one_hot(call: Call) -> Tensor:
    """A position outside the vector makes a vector of ``off_value`` only."""
    indices, size = call.tensor("indices"), call.integer("one_hot_vector_size")
    axis = call.integer("axis", -1) % (indices.dim() + 1)
    positions = torch.arange(size, dtype=torch.int32)
    positions = positions.reshape([-1 if i == axis else 1 for i in range(indices.dim() + 1)])
    hot = indices.unsqueeze(axis) == positions
    on, off = call.optional("on_value"), call.optional("off_value")
    one, zero = torch.tensor(1, dtype=torch.int32), torch.tensor(0, dtype=torch.int32)
    return torch.where(hot, one if on is None else on, zero if off is None else off)


def _shape(call: Call) -> Tensor:
    return torch.tensor(call.tensor("x").shape, dtype=torch.int32)


def _non_zero(call: Call) -> Tensor:
    """Positions (N, rank) in row-major order."""
    return call.tensor("x").nonzero().to(torch.int32)


def _band_part(call: Call) -> Tensor:
    """Zeros outside the band of the innermost matrices; a negative width keeps all of a side."""
    x = call.tensor("x")
    rows, columns = torch.arange(x.shape[-2])[:, None], torch.arange(x.shape[-1])
    lower, upper = call.integer("lower", -1), call.integer("upper", -1)
    inside = torch.ones(x.shape[-2:], dtype=torch.bool)
    if lower >= 0:
        inside &= rows - columns <= lower
    if upper >= 0:
        inside &= columns - rows <= upper
    return torch.where(inside, x, torch.zeros_like(x))


TABLE: dict[str, Handler] = {
    "band_part": _band_part,
    "fill": _fill,
    "fill_like": _fill_like,
    "non_zero": _non_zero,
    "one_hot": _one_hot,
    "range_1d": _range,
    "shape": _shape,
}
