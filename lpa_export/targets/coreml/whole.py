"""The whole model as one program per bucket: a zero-padded waveform and its samples in.

Norms over time hear the valid part only, so that an utterance gives the numbers it gives alone.
Sample counts and their masks are float32 in every artifact: float16 counts to 2,048.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.targets.coreml.channels_first import ChannelNorm, pointwise
from lpa_export.targets.coreml.convolutions import FoldedConv
from lpa_export.targets.coreml.encoder import Encoder
from lpa_export.targets.coreml.frontend import row_conv
from lpa_export.targets.rewrites import NORMALISATION_EPSILON

__all__ = ["MaskedNormalise", "MaskedTimeNorm", "ValidPositions", "WholeModel"]


class ValidPositions(nn.Module):
    """Lengths and masks behind each convolution, in float32."""

    def __init__(self, samples: int, arithmetic: FrameArithmetic) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        sizes = [samples]
        for kernel, stride in zip(arithmetic.kernels, arithmetic.strides, strict=True):
            sizes.append((sizes[-1] - kernel) // stride + 1)
        for index, size in enumerate(sizes):
            self.register_buffer(f"ramp_{index}", torch.arange(size, dtype=torch.float32))

    def forward(self, samples: Tensor) -> list[tuple[Tensor, Tensor]]:
        """samples (1,) -> per level, the samples first: length (1,), mask (S,)."""
        lengths = [samples]
        for kernel, stride in zip(self.arithmetic.kernels, self.arithmetic.strides, strict=True):
            # Half a sample off the whole quotients: a rounded reciprocal cannot floor them wrong.
            quotient = torch.floor((lengths[-1] - kernel + 0.5) * (1.0 / stride))
            lengths.append((quotient + 1.0).clamp_min(0.0))
        return [
            (length, (length - self.get_buffer(f"ramp_{index}")).clamp(0.0, 1.0))
            for index, length in enumerate(lengths)
        ]


class MaskedNormalise(nn.Module):
    """Zero mean and unit variance over the valid samples; zero behind them."""

    ones: Tensor

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.register_buffer("ones", torch.ones(samples, 1))

    def forward(self, waveform: Tensor, length: Tensor, mask: Tensor) -> Tensor:
        """waveform (1, N), length (1,), mask (N,) -> (1, N)."""
        count = length.clamp_min(1.0)
        centred = (waveform - (waveform * mask) @ self.ones / count) * mask
        variance = centred.square() @ self.ones / count
        return centred * torch.rsqrt(variance + NORMALISATION_EPSILON)


class MaskedTimeNorm(nn.Module):
    """GroupNorm with one channel a group, its statistics over valid frames only."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        if norm.num_groups != norm.num_channels:
            raise ValueError(f"expected one channel a group, found {norm.num_groups} groups")
        self.epsilon = norm.eps
        self.weight = nn.Parameter(
            norm.weight.detach().clone().view(1, -1, 1, 1), requires_grad=False
        )
        self.bias = nn.Parameter(norm.bias.detach().clone().view(1, -1, 1, 1), requires_grad=False)

    def forward(self, hidden: Tensor, length: Tensor, mask: Tensor) -> Tensor:
        """hidden (1, C, 1, S), finite at padding; length (1,), mask (S,) -> (1, C, 1, S)."""
        share = (mask / length.clamp_min(1.0))[:, None]
        centred = hidden - hidden @ share
        variance = centred.square() @ share
        return centred * (self.weight * torch.rsqrt(variance + self.epsilon)) + self.bias


class WholeModel(nn.Module):
    """Front end and encoder of a checkpoint for `frames` frames; see `Encoder` and `FrontEnd`.

    `samples`: those of exactly `frames` frames, a multiple of the first stride.
    """

    def __init__(self, checkpoint: Checkpoint, frames: int, samples: int) -> None:
        super().__init__()
        host = checkpoint.model.wav2vec2
        self.positions = ValidPositions(samples, FrameArithmetic.of(host.config))
        self.normalise = MaskedNormalise(samples) if checkpoint.do_normalize else None
        self.features = nn.ModuleList(
            MaskedConvLayer(layer) for layer in host.feature_extractor.conv_layers
        )
        self.norm = ChannelNorm(host.feature_projection.layer_norm)
        self.projection = pointwise(host.feature_projection.projection)
        self.encoder = Encoder(checkpoint, frames)
        self.eval().requires_grad_(False)

    def forward(self, waveform: Tensor, samples: Tensor) -> tuple[Tensor, ...]:
        """waveform (1, N), zero behind the valid samples; samples (1,) float32.

        Returns what `Encoder` returns, then the features and projected features (1, C, 1, T).
        """
        levels = self.positions(samples)
        if self.normalise is not None:
            waveform = self.normalise(waveform, *levels[0])
        features = waveform[:, None, None]
        for layer, level in zip(self.features, levels[1:], strict=True):
            features = layer(features, *level)
        projected = self.projection(self.norm(features))
        mask = levels[-1][1].view(1, 1, 1, -1)
        return *self.encoder(projected, mask), features, projected


class MaskedConvLayer(nn.Module):
    """A layer of the feature extractor in (1, C, 1, S); the first folds its row."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        first = layer.conv.in_channels == 1
        self.conv = FoldedConv(layer.conv) if first else row_conv(layer.conv)
        norm = getattr(layer, "layer_norm", None)
        self.time_norm = MaskedTimeNorm(norm) if isinstance(norm, nn.GroupNorm) else None
        self.channel_norm = ChannelNorm(norm) if isinstance(norm, nn.LayerNorm) else None
        self.activation: nn.Module = copy.deepcopy(layer.activation)

    def forward(self, hidden: Tensor, length: Tensor, mask: Tensor) -> Tensor:
        """hidden (1, C, 1, S); length (1,) and mask (S',) behind this layer."""
        hidden = self.conv(hidden)
        if self.time_norm is not None:
            hidden = self.time_norm(hidden, length, mask)
        if self.channel_norm is not None:
            hidden = self.channel_norm(hidden)
        activated: Tensor = self.activation(hidden)
        return activated
