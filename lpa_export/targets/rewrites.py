"""Parts of a wav2vec2 written anew for export; each is equal to the Hugging Face part it replaces.

What they add is the padding: an utterance in a padded batch gives the numbers it gives alone,
whatever lies behind its valid samples. Weights are copied, never shared with the caller's model.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2Attention,
    Wav2Vec2PositionalConvEmbedding,
)

__all__ = [
    "NORMALISATION_EPSILON",
    "KeyMaskedAttention",
    "MaskedGroupNorm",
    "PlainPositionalEmbedding",
    "key_bias",
    "normalise_waveform",
    "valid_positions",
]

NORMALISATION_EPSILON = 1e-7
"""Added to the variance of a waveform, as in transformers' Wav2Vec2FeatureExtractor."""

# Not -inf: a row of nothing but -inf is NaN after the softmax, and fp16 delegates saturate it.
MASKED_SCORE = -1e4


def valid_positions(like: Tensor, lengths: Tensor) -> Tensor:
    """(B, N) bool, True for the first `lengths[b]` places of `like` (B, N, ...)."""
    return torch.arange(like.shape[1], device=like.device) < lengths[:, None]


def normalise_waveform(waveform: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance over each utterance's own samples; zero behind them.

    waveform: (B, samples); lengths: (B,) int64. As `Wav2Vec2FeatureExtractor` does in numpy.
    """
    valid = valid_positions(waveform, lengths)
    count = lengths.clamp_min(1).to(waveform.dtype)[:, None]
    speech = waveform.masked_fill(~valid, 0.0)
    centred = (speech - speech.sum(1, keepdim=True) / count).masked_fill(~valid, 0.0)
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / (variance + NORMALISATION_EPSILON).sqrt()


class MaskedGroupNorm(nn.Module):
    """GroupNorm with one channel a group (wav2vec2-base's first layer) over valid frames only.

    GroupNorm takes its statistics over time: padding would change every frame.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        if norm.num_groups != norm.num_channels:
            raise ValueError(f"expected one channel a group, found {norm.num_groups} groups")
        self.epsilon = norm.eps
        self.weight = nn.Parameter(norm.weight.detach().clone()[:, None])
        self.bias = nn.Parameter(norm.bias.detach().clone()[:, None])

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """hidden (B, C, T), finite at padding; lengths (B,) valid frames. Returns (B, C, T).

        Means are products with the mask: one pass over a tensor that is large (C times a tenth of
        the samples), and the variance is of centred values, so that no large sums cancel.
        """
        frame = torch.arange(hidden.shape[2], device=hidden.device)
        valid = (frame < lengths[:, None]).to(hidden.dtype)
        share = (valid / lengths.clamp_min(1).to(hidden.dtype)[:, None])[..., None]
        centred = hidden - hidden @ share
        variance = centred.square() @ share
        return centred * (self.weight * torch.rsqrt(variance + self.epsilon)) + self.bias


class PlainPositionalEmbedding(nn.Module):
    """The convolutional position embedding with its weight norm multiplied out.

    The convolution is built anew: a copy of the original one shares its generated class, and
    removing the parametrisation there would take it from the caller's model too.
    """

    def __init__(self, embedding: Wav2Vec2PositionalConvEmbedding) -> None:
        super().__init__()
        source = embedding.conv
        self.conv = nn.Conv1d(
            source.in_channels,
            source.out_channels,
            source.kernel_size[0],
            padding=source.padding[0],
            groups=source.groups,
        )
        self.conv.load_state_dict({"weight": source.weight, "bias": source.bias})
        self.same_length = copy.deepcopy(embedding.padding)
        self.activation = copy.deepcopy(embedding.activation)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden (B, T, D), zero at padding -> (B, T, D)."""
        embedded = self.same_length(self.conv(hidden.transpose(1, 2)))
        return self.activation(embedded).transpose(1, 2)


def key_bias(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 1, T): what is added to the scores of each key, 0 or `MASKED_SCORE`."""
    return (~valid).to(dtype)[:, None] * MASKED_SCORE


class KeyMaskedAttention(nn.Module):
    """A kept self-attention layer: head by head a matmul, a softmax, a matmul.

    Head by head, because T x T scores of one head at a time are all the memory that is needed.
    The mask takes part in the first matmul, which saves a pass over the scores: each query has one
    more channel that is always 1, and each key has its bias there. The scale 1 / sqrt(d) is
    multiplied into the query projection.
    """

    def __init__(self, attention: Wav2Vec2Attention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.query = _query_with_a_one(attention)
        self.key = copy.deepcopy(attention.k_proj)
        self.value = copy.deepcopy(attention.v_proj)
        self.output = copy.deepcopy(attention.out_proj)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """hidden (B, T, D), bias (B, 1, T) of `key_bias` -> (B, T, D)."""
        mixed = []
        for query, key, value in zip(
            self.query(hidden).chunk(self.heads, dim=-1),
            self.key(hidden).chunk(self.heads, dim=-1),
            self.value(hidden).chunk(self.heads, dim=-1),
            strict=True,
        ):
            scores = query @ torch.cat([key.transpose(1, 2), bias], dim=1)
            mixed.append(scores.softmax(dim=-1) @ value)
        return self.output(torch.cat(mixed, dim=-1))


def _query_with_a_one(attention: Wav2Vec2Attention) -> nn.Linear:
    """The scaled query projection, D -> H (d + 1), the last channel of each head a constant 1."""
    source, heads = attention.q_proj, attention.num_heads
    with torch.no_grad():
        weight = source.weight.view(heads, -1, source.in_features) * attention.scaling
        bias = source.bias.view(heads, -1) * attention.scaling
        linear = nn.Linear(source.in_features, heads * (weight.shape[1] + 1))
        linear.weight.copy_(nn.functional.pad(weight, (0, 0, 0, 1)).flatten(0, 1))
        linear.bias.copy_(nn.functional.pad(bias, (0, 1), value=1.0).flatten())
    return linear
