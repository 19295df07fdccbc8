"""WavLM's position bias in the words of a target: at any length, and what queries say of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lpa_export.hosts.parts import Attention, PositionBias

__all__ = ["BiasByDistance", "gates_of_heads"]


class BiasByDistance(nn.Module):
    """The position bias at any length, stored by distance up to the one from which it stays.

    No runtime's logarithm can then put a distance into its neighbour's bucket.
    """

    table: Tensor

    def __init__(self, bias: PositionBias) -> None:
        super().__init__()
        self.reach = bias.max_distance
        table = bias.of_offsets(bias.max_distance + 1).detach().T
        self.register_buffer("table", table.contiguous())

    def forward(self, frames: int) -> Tensor:
        """(H, T, T) for T frames: rows are queries, columns keys."""
        number = torch.arange(frames, device=self.table.device)
        distance = (number[None, :] - number[:, None]).clamp(-self.reach, self.reach)
        rows = self.table.index_select(0, (distance + self.reach).view(-1))
        return rows.view(frames, frames, self.table.shape[1]).permute(2, 0, 1)


def gates_of_heads(attention: Attention) -> nn.Linear:
    """The gate of each head as one map of the hidden states, D -> 2 H: all a, then all b.

    The host cuts the hidden states into heads and maps each by itself; a map with zeros between
    the heads needs no cut. Raises ValueError for an attention without a gate.
    """
    if attention.gate is None:
        raise ValueError("this attention has no position bias")
    source, heads = attention.gate.linear, attention.heads
    made = nn.Linear(heads * source.in_features, 2 * heads)
    with torch.no_grad():
        first, second = (torch.block_diag(*[row[None]] * heads) for row in source.weight)
        made.weight.copy_(torch.cat([first, second]))
        made.bias.copy_(source.bias.repeat_interleave(heads))
    return made
