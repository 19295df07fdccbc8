"""Sums and products that are accumulated in float16, one element or one tile after the other.

The pessimistic arithmetic: what a processor without a wide accumulator would do.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from lpa_export.runtimes.coreml.arithmetic import round_to_half
from lpa_export.runtimes.coreml.call import Call

__all__ = ["added", "running", "sequential", "tiles"]

_STEPS = {"sum": np.add, "product": np.multiply}


def sequential(call: Call) -> bool:
    """Whether this operation accumulates in float16: asked for, and declared float16."""
    return call.sequential_fp16 and call.output_types[0] is torch.float16


def running(x: Tensor, axis: int, step: str = "sum") -> Tensor:
    """Running sum or product of ``x`` along ``axis``, rounded to float16 after every element.

    Every other axis is done at the same time. Returns float32 values that float16 holds; what
    leaves its range becomes infinite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        halves = x.numpy().astype(np.float16)
        values = _STEPS[step].accumulate(halves, axis=axis, dtype=np.float16)
    return torch.from_numpy(values.astype(np.float32))


def tiles(count: int, size: int) -> list[slice]:
    """``count`` terms in tiles of ``size`` (one, where that is less than one)."""
    size = max(size, 1)
    return [slice(start, start + size) for start in range(0, count, size)]


def added(parts: Iterable[Tensor]) -> Tensor:
    """The sum of the parts, rounded to float16 after each."""
    total: Tensor | None = None
    for part in parts:
        total = round_to_half(part if total is None else total + part)
    assert total is not None
    return total
