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
