"""Average, maximum and L2 pooling over one to three spatial axes (x is (N, C, ...))."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]


@dataclass(frozen=True)
class _Axis:
    """How the windows lie along one spatial axis."""

    kernel: int
    stride: int
    before: int
    after: int
    extension: int
    """Elements behind the padding that the last window of ceil mode reaches into."""


def _axes(call: Call, sizes: torch.Size) -> list[_Axis]:
    kernels = call.integers("kernel_sizes")
    strides = call.integers("strides", [1] * len(sizes))
    padding = call.integers("pad", [0] * 2 * len(sizes))
    kind = call.text("pad_type").lower()
    axes = []
    for i, (size, kernel, stride) in enumerate(zip(sizes, kernels, strides, strict=True)):
        before, after = _PADDING[kind](size, kernel, stride, (padding[2 * i], padding[2 * i + 1]))
        extension = 0
        if call.flag("ceil_mode", False):
            count = _ceiled(size, kernel, stride, before, after)
            extension = max((count - 1) * stride + kernel - size - before - after, 0)
        axes.append(_Axis(kernel, stride, before, after, extension))
    return axes


def _ceiled(size: int, kernel: int, stride: int, before: int, after: int) -> int:
    """Windows in ceil mode: the last may hang over, but starts before the padding behind."""
    count = (size + before + after - kernel + stride - 1) // stride + 1
    late = (count - 1) * stride >= size + before and before + after > 0
    return count - 1 if late else count


def _missing(size: int, kernel: int, stride: int) -> int:
    """Padding with which as many windows fit as strides do ('same')."""
    return max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)


def _same(size: int, kernel: int, stride: int, custom: tuple[int, int]) -> tuple[int, int]:
    missing = _missing(size, kernel, stride)
    return missing // 2, missing - missing // 2


def _same_lower(size: int, kernel: int, stride: int, custom: tuple[int, int]) -> tuple[int, int]:
    missing = _missing(size, kernel, stride)
    return missing - missing // 2, missing // 2


_PADDING: dict[str, Callable[[int, int, int, tuple[int, int]], tuple[int, int]]] = {
    "custom": lambda size, kernel, stride, custom: custom,
    "same": _same,
    "same_lower": _same_lower,
    "valid": lambda size, kernel, stride, custom: (0, 0),
}


def _padded(x: Tensor, pairs: list[tuple[int, int]], value: float) -> Tensor:
    return F.pad(x, list(chain.from_iterable(reversed(pairs))), value=value)


def _windows(x: Tensor, axes: list[_Axis], fill: float) -> Tensor:
    """(N, C, windows..., kernel...) of ``x`` padded with ``fill``."""
    padded = _padded(x, [(axis.before, axis.after + axis.extension) for axis in axes], fill)
    for i, axis in enumerate(axes, 2):
        padded = padded.unfold(i, axis.kernel, axis.stride)
    return padded


def _sums(x: Tensor, axes: list[_Axis]) -> Tensor:
    return _windows(x, axes, 0.0).sum(list(range(-len(axes), 0)))


def _max_pool(call: Call) -> Tensor:
    x = call.tensor("x")
    axes = _axes(call, x.shape[2:])
    return _windows(x, axes, -math.inf).amax(list(range(-len(axes), 0)))


def _l2_pool(call: Call) -> Tensor:
    x = call.tensor("x")
    return _sums(x.square(), _axes(call, x.shape[2:])).sqrt()


def _avg_pool(call: Call) -> Tensor:
    """Padding counts as zeros unless it is excluded; what hangs over in ceil mode never counts."""
    x = call.tensor("x")
    axes = _axes(call, x.shape[2:])
    counted = torch.ones(1, 1, *x.shape[2:])
    counts_padding = 0.0 if call.flag("exclude_padding_from_average", False) else 1.0
    counted = _padded(counted, [(axis.before, axis.after) for axis in axes], counts_padding)
    bare = [_Axis(axis.kernel, axis.stride, 0, 0, axis.extension) for axis in axes]
    return _sums(x, axes) / _sums(counted, bare).clamp(min=1.0)


TABLE: dict[str, Handler] = {"avg_pool": _avg_pool, "l2_pool": _l2_pool, "max_pool": _max_pool}
