"""Window means from prefix sums: (S(end) - S(start)) / (end - start), S(i) = sum over s < i."""

import torch
from torch import Tensor
from torch.nn import functional


def prefix_sum(values: Tensor) -> Tensor:
    """S of values (B, T, H, d): (B, T + 1, H, d) in float64, S(0) = 0.

    Float64 because a mean is a small difference of two large sums.
    """
    sums = values.double().cumsum(dim=1)
    return functional.pad(sums, (0, 0, 0, 0, 1, 0))


def window_means(sums: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Means of windows.

    sums: (B, T + 1, H, d) of `prefix_sum`; starts, ends: (B, Q, H, K), int64, start < end.
    Returns (B, Q, H, K, d) in the dtype of sums.

    Rows are picked by one flat index per edge: that exports as a plain gather of whole rows,
    where an expanded index would repeat it for every channel.
    """
    batch, rows, heads, channels = sums.shape
    table = sums.reshape(batch * rows * heads, channels)
    first_row = torch.arange(batch, device=sums.device)[:, None, None, None] * rows
    head = torch.arange(heads, device=sums.device)[:, None]

    def pick(edges: Tensor) -> Tensor:
        index = (first_row + edges) * heads + head
        return table.index_select(0, index.flatten()).view(*index.shape, channels)

    return (pick(ends) - pick(starts)) / (ends - starts)[..., None]


def block_window_means(values: Tensor, starts: Tensor, ends: Tensor, *, block: int) -> Tensor:
    """Means of short windows from prefix sums that restart every `block` frames.

    values: (B, T, H, d) in any float dtype; starts, ends: (B, Q, H, K), int64,
    1 <= end - start <= block. Returns (B, Q, H, K, d) in the dtype of values.

    No sum grows beyond `block` values, so the error does not grow with T: that is what a target
    without float64 (or float32) needs. A window touches two blocks at most: its sum is the
    difference of two local sums, plus the total of the first block if it ends in the second.
    """
    batch, frames, heads, channels = values.shape
    blocks = frames // block + 1
    padded = functional.pad(values, (0, 0, 0, 0, 0, blocks * block - frames))
    local = padded.view(batch, blocks, block, heads, channels).cumsum(dim=2)
    # Row i of a block is the sum of its first i frames; row `block` is its total.
    table = functional.pad(local, (0, 0, 0, 0, 1, 0)).reshape(-1, channels)
    first_row = torch.arange(batch, device=values.device)[:, None, None, None] * blocks
    head = torch.arange(heads, device=values.device)[:, None]

    def pick(number: Tensor, row: Tensor) -> Tensor:
        index = ((first_row + number) * (block + 1) + row) * heads + head
        return table.index_select(0, index.flatten()).view(*index.shape, channels)

    first, last = starts // block, ends // block
    crossed = (last > first)[..., None].to(values.dtype)
    # The tail of the first block comes before the head of the next: neither cancels.
    tail = crossed * pick(first, torch.full_like(first, block)) - pick(first, starts % block)
    return (tail + pick(last, ends % block)) / (ends - starts)[..., None].to(values.dtype)
