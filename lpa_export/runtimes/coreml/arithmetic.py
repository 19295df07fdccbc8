"""How floating-point results are kept: as computed, or on the grid of float16."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

__all__ = ["HALF_LIMIT", "Arithmetic", "round_to_half", "round_to_half_"]

HALF_LIMIT = 65504.0
"""The largest finite float16."""

# Small enough that a piece and its float16 copy stay in the cache between the two conversions.
_PIECE = 1 << 16


@dataclass(frozen=True)
class Arithmetic:
    """What happens to values that a program declares float16; float32 values stay as they are.

    ``rounds``: every float16 result is rounded to the nearest float16 (ties to even, beyond
    65504 to infinity) after it was computed in float32. That emulates the Neural Engine as far as
    it is documented: wide accumulation inside an operation, float16 between operations.
    ``sequential``: sums over an axis (cumsum, reduce_*) accumulate one by one in float16 besides,
    the worst that an implementation may do. ``tile``: product sums (conv, linear, matmul) add up in
    float16 after every so many terms (0: never). ``tables``: sigmoid, silu, gelu, tanh and softmax
    come from tables as coarse as those that the Neural Engine is reported to have.
    """

    name: str
    rounds: bool
    sequential: bool = False
    tile: int = 0
    tables: bool = False

    FP32: ClassVar["Arithmetic"]
    FP16: ClassVar["Arithmetic"]
    FP16_SEQUENTIAL: ClassVar["Arithmetic"]
    FP16_PESSIMISTIC: ClassVar["Arithmetic"]


Arithmetic.FP32 = Arithmetic("fp32", rounds=False)
Arithmetic.FP16 = Arithmetic("fp16", rounds=True)
Arithmetic.FP16_SEQUENTIAL = Arithmetic("fp16-sequential", rounds=True, sequential=True)
Arithmetic.FP16_PESSIMISTIC = Arithmetic(
    "fp16-pessimistic", rounds=True, sequential=True, tile=64, tables=True
)


def round_to_half(values: Tensor) -> Tensor:
    """A float32 tensor with each value rounded to the nearest float16."""
    return values.half().float()


def round_to_half_(values: Tensor) -> Tensor:
    """The same in place, without a second tensor of full size."""
    if not values.is_contiguous():
        return values.copy_(values.half())
    for piece in values.view(-1).split(_PIECE):
        piece.copy_(piece.to(torch.float16))
    return values
