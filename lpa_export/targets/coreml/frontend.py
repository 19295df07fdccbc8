"""The front end: a waveform of any length in, projected features out.

It takes exactly the valid samples, so that norms over time hear no padding. Statistics are taken
in float32 in every artifact: squares of quiet samples fall below float16, and sums of many leave
it. The modules that hold them are named in `FLOAT32_MODULES`.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.targets.coreml.channels_first import ChannelNorm, pointwise
from lpa_export.targets.rewrites import NORMALISATION_EPSILON

__all__ = ["FLOAT32_MODULES", "FrontEnd", "NormaliseWaveform", "TimeNorm", "row_conv"]


class NormaliseWaveform(nn.Module):
    """Zero mean and unit variance, as transformers' Wav2Vec2FeatureExtractor does."""

    def forward(self, waveform: Tensor) -> Tensor:
        """(1, N) -> (1, N)."""
        centred = waveform - waveform.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        return centred * torch.rsqrt(variance + NORMALISATION_EPSILON)


class TimeNorm(nn.Module):
    """GroupNorm with one channel a group: a norm of each channel over time.

    Raises ValueError for groups of several channels.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        if norm.num_groups != norm.num_channels:
            raise ValueError(f"expected one channel a group, found {norm.num_groups} groups")
        self.epsilon = norm.eps
        self.weight = nn.Parameter(
            norm.weight.detach().clone().view(1, -1, 1, 1), requires_grad=False
        )
        self.bias = nn.Parameter(norm.bias.detach().clone().view(1, -1, 1, 1), requires_grad=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """(1, C, 1, S) -> (1, C, 1, S)."""
        centred = hidden - hidden.mean(dim=3, keepdim=True)
        variance = centred.square().mean(dim=3, keepdim=True)
        return centred * (self.weight * torch.rsqrt(variance + self.epsilon)) + self.bias


FLOAT32_MODULES = frozenset(
    {"NormaliseWaveform", "TimeNorm", "MaskedNormalise", "MaskedTimeNorm", "ValidPositions"}
)
"""Classes whose operations stay in float32 whatever the artifact computes in."""


class FrontEnd(nn.Module):
    """Normalisation, feature extractor and feature projection of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        host = checkpoint.model.wav2vec2
        self.normalise = NormaliseWaveform() if checkpoint.do_normalize else None
        self.layers = nn.ModuleList(
            ConvLayer(layer) for layer in host.feature_extractor.conv_layers
        )
        self.norm = ChannelNorm(host.feature_projection.layer_norm)
        self.projection = pointwise(host.feature_projection.projection)
        self.eval().requires_grad_(False)

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """waveform (1, N) -> projected (1, D, 1, frames), features (1, C, 1, frames)."""
        if self.normalise is not None:
            waveform = self.normalise(waveform)
        features = waveform[:, None, None]
        for layer in self.layers:
            features = layer(features)
        return self.project(features), features

    def project(self, features: Tensor) -> Tensor:
        """features (1, C, 1, frames) -> (1, D, 1, frames)."""
        projected: Tensor = self.projection(self.norm(features))
        return projected


class ConvLayer(nn.Module):
    """A layer of the feature extractor in (1, C, 1, S), with any of its norms."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.conv = row_conv(layer.conv)
        norm = getattr(layer, "layer_norm", None)
        self.norm = None if norm is None else _NORMS[type(norm)](norm)
        self.activation: nn.Module = copy.deepcopy(layer.activation)

    def forward(self, hidden: Tensor) -> Tensor:
        """(1, C, 1, S) -> (1, C', 1, S')."""
        hidden = self.conv(hidden)
        if self.norm is not None:
            hidden = self.norm(hidden)
        activated: Tensor = self.activation(hidden)
        return activated


_NORMS: dict[type, Any] = {nn.LayerNorm: ChannelNorm, nn.GroupNorm: TimeNorm}


def row_conv(conv: nn.Conv1d) -> nn.Conv2d:
    """A copy of a convolution over time that works on (B, C, 1, S)."""
    row = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (1, conv.kernel_size[0]),
        stride=(1, conv.stride[0]),
        groups=conv.groups,
        bias=conv.bias is not None,
        dtype=conv.weight.dtype,
    )
    with torch.no_grad():
        row.weight.copy_(conv.weight[:, :, None])
        if row.bias is not None and conv.bias is not None:
            row.bias.copy_(conv.bias)
    return row.requires_grad_(False)
