"""Prefix sums that start anew every BLOCK frames, for devices that are slow at float64.

A window's sum is the difference inside of the blocks plus that of the blocks' own prefix sums, kept
as two float32 numbers each (the value, and what it lost): no difference of two large numbers is
left to round, at any length, and only the handful of blocks is summed in float64.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

__all__ = ["BLOCK", "BlockSums", "block_sums", "split_totals"]

BLOCK = 64
"""Frames after which a sum starts anew."""


class BlockSums(NamedTuple):
    """Prefix sums in blocks: S(i) = local(i) + high(i // BLOCK) + low(i // BLOCK), float32.

    local: (B, H, N * BLOCK, d), the sum from the block's beginning to before frame i; high, low:
    (B, H, N, d), the sum of all blocks before, and what its rounding to float32 left.
    N = T // BLOCK + 1, so that S(T) is there.
    """

    local: Tensor
    high: Tensor
    low: Tensor

    @property
    def blocks(self) -> int:
        """N."""
        return self.high.shape[2]


def block_sums(values: Tensor) -> BlockSums:
    """The prefix sums of values (B, T, H, d) along time, made the innermost axis."""
    frames = values.shape[1]
    blocks = frames // BLOCK + 1
    rows = functional.pad(values.permute(0, 2, 3, 1).float(), (0, blocks * BLOCK - frames))
    sums = rows.unflatten(-1, (blocks, BLOCK)).cumsum(dim=-1)
    local = functional.pad(sums, (1, 0))[..., :-1].flatten(-2)
    return BlockSums(local.transpose(2, 3).contiguous(), *split_totals(sums[..., -1]))


def split_totals(totals: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of all blocks before each, totals (B, H, d, N), as two float32 (B, H, N, d)."""
    before = functional.pad(totals.double().cumsum(dim=-1), (1, 0))[..., :-1].transpose(2, 3)
    high = before.float()
    return high.contiguous(), (before - high.double()).float().contiguous()
