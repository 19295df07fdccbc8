"""Parts of a wav2vec2 for one utterance of exact length, in operators that XNNPACK takes.

XNNPACK has no layer norm, no group norm, no slice of a dynamic axis and no odd reshape. A mean over
channels is a product with a constant here, heads are an axis of a batched product, and an uneven
padding is a padding of its own. Time is the only dynamic axis, and the last of an image
(1, C, 1, T) where there is a convolution, the first of a matrix (T, D) elsewhere.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2Attention,
    Wav2Vec2PositionalConvEmbedding,
)

from lpa_export.targets.rewrites import NORMALISATION_EPSILON, PlainPositionalEmbedding

__all__ = [
    "Attention",
    "ChannelNorm",
    "FeatureLayer",
    "LayerNorm",
    "PositionalConvolution",
    "TimeNorm",
    "convolution",
    "grouped",
    "normalise",
    "to_groups",
    "to_image",
    "to_matrix",
]


def normalise(waveform: Tensor) -> Tensor:
    """(1, samples) float64 at zero mean and unit variance, as `Wav2Vec2FeatureExtractor` does.

    In float64, outside any delegate: these sums run over the whole utterance. Both are taken of
    the input itself, so that they stand before the first delegate and cut nothing in two.
    """
    mean = waveform.mean(dim=1, keepdim=True)
    variance = (waveform * waveform).mean(dim=1, keepdim=True) - mean * mean
    return (waveform - mean) * torch.rsqrt(variance.clamp_min(0.0) + NORMALISATION_EPSILON)


def to_groups(waveform: Tensor, group: int) -> Tensor:
    """(1, samples) float64 -> (1, group, 1, samples // group) float32, for `grouped`.

    The last samples, fewer than a group, are in no frame.
    """
    return waveform.unfold(1, group, group)[0, ..., None, None].permute(2, 1, 3, 0).float()


def to_image(hidden: Tensor) -> Tensor:
    """(T, D) -> (1, D, 1, T). Axes are added behind: XNNPACK adds them nowhere else."""
    return hidden[..., None, None].permute(2, 1, 3, 0)


def to_matrix(image: Tensor) -> Tensor:
    """(1, D, 1, T) -> (T, D)."""
    return image.permute(0, 2, 3, 1).view(-1, image.shape[1])


def convolution(source: nn.Conv1d) -> nn.Conv2d:
    """The same convolution over the last axis of an image one row high, without its padding."""
    made = nn.Conv2d(
        source.in_channels,
        source.out_channels,
        (1, source.kernel_size[0]),
        stride=(1, source.stride[0]),
        groups=source.groups,
        bias=source.bias is not None,
    )
    with torch.no_grad():
        made.weight.copy_(source.weight[:, :, None])
        if source.bias is not None and made.bias is not None:
            made.bias.copy_(source.bias)
    return made


def grouped(source: nn.Conv1d) -> tuple[nn.Conv2d, int]:
    """The first convolution over groups of samples as channels, and the size of a group.

    The greatest group that kernel and stride are multiples of: 80 for kernel 400, stride 160. A
    convolution of one channel is slow, and XNNPACK cannot quantise it.
    """
    kernel, stride = source.kernel_size[0], source.stride[0]
    group = math.gcd(kernel, stride)
    made = nn.Conv2d(
        group,
        source.out_channels,
        (1, kernel // group),
        stride=(1, stride // group),
        bias=source.bias is not None,
    )
    with torch.no_grad():
        made.weight.copy_(source.weight.view(-1, 1, kernel // group, group).permute(0, 3, 1, 2))
        if source.bias is not None and made.bias is not None:
            made.bias.copy_(source.bias)
    return made, group


class LayerNorm(nn.Module):
    """Layer norm over the channels of (T, D); the two means are products with a column of 1 / D."""

    share: Tensor

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        width = norm.normalized_shape[0]
        self.register_buffer("share", torch.full((1, width), 1.0 / width))
        self.weight, self.bias = copy.deepcopy(norm.weight), copy.deepcopy(norm.bias)
        self.epsilon = norm.eps

    def forward(self, hidden: Tensor) -> Tensor:
        """(T, D) -> (T, D)."""
        centred = hidden - functional.linear(hidden, self.share)
        variance = functional.linear(centred * centred, self.share)
        return centred * torch.rsqrt(variance + self.epsilon) * self.weight + self.bias


class ChannelNorm(LayerNorm):
    """Layer norm over the channels of an image (1, C, 1, T)."""

    def forward(self, image: Tensor) -> Tensor:
        """(1, C, 1, T) -> (1, C, 1, T)."""
        return to_image(super().forward(to_matrix(image)))


class TimeNorm(nn.Module):
    """GroupNorm with one channel a group (wav2vec2-base's first layer): statistics over time."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        if norm.num_groups != norm.num_channels:
            raise ValueError(f"expected one channel a group, found {norm.num_groups} groups")
        self.weight = nn.Parameter(norm.weight.detach().clone()[:, None, None])
        self.bias = nn.Parameter(norm.bias.detach().clone()[:, None, None])
        self.epsilon = norm.eps

    def forward(self, image: Tensor) -> Tensor:
        """(1, C, 1, T) -> (1, C, 1, T)."""
        centred = image - image.mean((2, 3), keepdim=True)
        variance = (centred * centred).mean((2, 3), keepdim=True)
        return centred * (torch.rsqrt(variance + self.epsilon) * self.weight) + self.bias


class FeatureLayer(nn.Module):
    """One convolution of the front end with its norm, if it has one, and its activation."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        norm = getattr(layer, "layer_norm", None)
        first = layer.conv.in_channels == 1
        self.conv, self.group = grouped(layer.conv) if first else (convolution(layer.conv), 1)
        self.norm: nn.Module = nn.Identity()
        if isinstance(norm, nn.GroupNorm):
            self.norm = TimeNorm(norm)
        elif norm is not None:
            self.norm = ChannelNorm(norm)
        self.activation = copy.deepcopy(layer.activation)

    def forward(self, image: Tensor) -> Tensor:
        """(1, C, 1, T) -> (1, C', 1, T')."""
        return self.activation(self.norm(self.conv(image)))


class PositionalConvolution(nn.Module):
    """The convolutional position embedding, its weight norm multiplied out.

    An even kernel pads one frame less on the right: Hugging Face drops the frame too many instead,
    which would be a slice of a dynamic axis.
    """

    def __init__(self, embedding: Wav2Vec2PositionalConvEmbedding) -> None:
        super().__init__()
        plain = PlainPositionalEmbedding(embedding)
        kernel = plain.conv.kernel_size[0]
        self.conv = convolution(plain.conv)
        self.padding = (kernel // 2, kernel // 2 - (1 - kernel % 2))
        self.activation = plain.activation

    def forward(self, hidden: Tensor) -> Tensor:
        """(T, D) -> (T, D)."""
        return to_matrix(self.activation(self.conv(functional.pad(to_image(hidden), self.padding))))


class Attention(nn.Module):
    """Self-attention over one utterance: heads are the batch of two products, nothing is masked."""

    def __init__(self, attention: Wav2Vec2Attention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.query, self.key = copy.deepcopy(attention.q_proj), copy.deepcopy(attention.k_proj)
        self.value, self.output = copy.deepcopy(attention.v_proj), copy.deepcopy(attention.out_proj)
        with torch.no_grad():
            self.query.weight.mul_(attention.scaling)
            self.query.bias.mul_(attention.scaling)

    def forward(self, hidden: Tensor) -> Tensor:
        """(T, D) -> (T, D)."""
        query, key, value = (
            projection(hidden).view(-1, self.heads, hidden.shape[1] // self.heads).permute(1, 0, 2)
            for projection in (self.query, self.key, self.value)
        )
        scores = torch.bmm(query, key.transpose(1, 2))
        mixed = torch.bmm(scores.softmax(dim=-1), value).permute(1, 0, 2)
        # `reshape` would ask whether there is one frame, and so exclude it.
        rows = mixed.clone(memory_format=torch.contiguous_format).view(-1, hidden.shape[1])
        return self.output(rows)
