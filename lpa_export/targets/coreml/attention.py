"""Self-attention that was kept, in (B, C, 1, S), head by head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lpa_export.targets.coreml.channels_first import pointwise, sizes, split_heads
from lpa_export.targets.rewrites import MASKED_SCORE

if TYPE_CHECKING:
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2Attention

__all__ = ["ChannelsFirstAttention", "key_bias"]


def key_bias(mask: Tensor) -> Tensor:
    """(1, 1, 1, S): what is added to the scores of each key, 0 or `MASKED_SCORE`."""
    return (mask - 1.0) * -MASKED_SCORE


class ChannelsFirstAttention(nn.Module):
    """Per head a product of queries and keys, a softmax over the keys, a product with the values.

    The matmuls take their operands as the convolutions leave them, (d, S), and say which is to be
    read transposed. The scale 1 / sqrt(d) is multiplied into the query projection.
    """

    def __init__(self, attention: Wav2Vec2Attention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.query = pointwise(attention.q_proj)
        with torch.no_grad():
            for parameter in self.query.parameters():
                parameter.mul_(attention.scaling)
        self.key = pointwise(attention.k_proj)
        self.value = pointwise(attention.v_proj)
        self.output = pointwise(attention.out_proj)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """hidden (1, D, 1, S), bias (1, 1, 1, S) of `key_bias` -> (1, D, 1, S)."""
        parts = (self.query, self.key, self.value)
        mixed = []
        for query, key, value in zip(
            *(split_heads(part(hidden), self.heads).split(1, dim=1) for part in parts), strict=True
        ):
            scores = query.transpose(2, 3) @ key + bias
            mixed.append(value @ scores.softmax(dim=-1).transpose(2, 3))
        output: Tensor = self.output(torch.cat(mixed, dim=1).reshape(sizes(hidden)))
        return output
