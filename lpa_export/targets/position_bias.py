"""WavLM's position bias in the words of a target: what queries say of it, for all heads at once."""

from __future__ import annotations

import torch
from torch import nn

from lpa_export.hosts.parts import Attention

__all__ = ["gates_of_heads"]


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
