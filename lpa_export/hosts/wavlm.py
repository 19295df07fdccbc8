"""WavLM: attention with a gated relative position bias, whose embedding belongs to layer 0.

transformers' layer 0 computes the bias of all pairs of frames and every layer hands it on; each
attention gates it by its own input. An LPA layer needs no bias, but hands it on, and in layer 0 it
keeps the embedding, under the name that it has always had.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lpa_export.hosts.attention import LPAAttention
from lpa_export.hosts.host import Host
from lpa_export.hosts.parts import BiasGate, PositionBias
from lpa_export.layers import LPA

__all__ = ["HOST"]


class _LPAAttention(LPAAttention):
    """Also takes the position bias of all layers and returns it, third."""

    def __init__(self, lpa: LPA, attention: Any) -> None:
        super().__init__(lpa)
        self.num_buckets: int = attention.num_buckets
        self.max_distance: int = attention.max_distance
        if hasattr(attention, "rel_attn_embed"):
            self.rel_attn_embed: nn.Embedding = attention.rel_attn_embed

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor | None, ...]:
        """(B, T, D) in and out; the bias (B heads, T, T) as it came, or made here in layer 0."""
        mixed = super().forward(hidden_states, attention_mask)
        if position_bias is None:
            batch, frames = hidden_states.shape[:2]
            position_bias = _position_bias(self).of_pairs(frames).repeat(batch, 1, 1)
        return *mixed, position_bias


def _position_bias(attention: Any) -> PositionBias:
    return PositionBias(
        attention.rel_attn_embed.weight, attention.num_buckets, attention.max_distance
    )


def _bias_of_layer_0(layers: nn.ModuleList) -> PositionBias:
    first: Any = layers[0]
    return _position_bias(first.attention)


def _gate(attention: Any) -> BiasGate:
    """The gate of one layer, its eight outputs summed four and four."""
    source: nn.Linear = attention.gru_rel_pos_linear
    linear = nn.Linear(source.in_features, 2, device="meta")
    weight, bias = source.weight.detach().double(), source.bias.detach().double()
    state = {"weight": weight.view(2, 4, -1).sum(1), "bias": bias.view(2, 4).sum(1)}
    linear.load_state_dict({n: t.to(source.weight.dtype) for n, t in state.items()}, assign=True)
    return BiasGate(linear.requires_grad_(False), attention.gru_rel_pos_const.detach()[0].clone())


HOST = Host(
    "wavlm",
    "WavLMForCTC",
    "WavLMConfig",
    backbone="wavlm",
    gate=_gate,
    position_bias=_bias_of_layer_0,
    replacement=_LPAAttention,
)
