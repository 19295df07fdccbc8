"""The front end over a few seconds at a time: its memory does not grow with the audio.

All of it is local but two things, which are computed first and in float64: mean and variance of
the waveform (`do_normalize`), and those of the first convolution's output where a GroupNorm
follows. The latter need no convolution. With w the windows that it sees, mu their mean and C their
covariance, its output W w has the mean W mu and the variance diag(W C W^T). In float32 that
variance would be wrong by up to 15 percent for filters that pass little; in float64 it is that of
the convolution to 1e-11. Scale and shift of the norm are then multiplied into the filters.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpa_export.formats.manifest import FRAMES_OF_A_PIECE, NORMALISATION_EPSILON
from lpa_export.hosts.frames import frames_after
from lpa_export.hosts.parts import FeatureLayer, Parts
from lpa_export.layers.in_pieces import joined, over_pieces, split
from lpa_export.targets.batched import (
    Convolution,
    require_one_channel_a_group,
    valid_positions,
)

__all__ = ["FeaturesInPieces"]

# Samples at a time of the sums in float64.
_SUMMED = 65_536


class Samples(NamedTuple):
    """A waveform (B, samples), its lengths (B,), and what its samples are shifted and divided by.

    mean, deviation: (B, 1).
    """

    waveform: Tensor
    lengths: Tensor
    mean: Tensor
    deviation: Tensor

    def at(self, places: Tensor) -> Tensor:
        """Samples at places (n,), normalised, zero behind the end: (B, n)."""
        last = self.waveform.shape[1] - 1
        picked = self.waveform.index_select(1, places.clamp_max(last))
        picked = (picked - self.mean) / self.deviation
        return picked.masked_fill(places >= self.lengths[:, None], 0.0)


class FeaturesInPieces(nn.Module):
    """What `skeleton.Features` gives, in pieces of at most `most` frames."""

    def __init__(self, parts: Parts, most: int = FRAMES_OF_A_PIECE) -> None:
        super().__init__()
        self.levelling = parts.levelling
        self.arithmetic = parts.front_end
        self.most = most
        first, *others = parts.features
        normed = isinstance(first.norm, nn.GroupNorm)
        self.first = FirstConvolution(first) if normed else None
        layers = others if normed else parts.features
        if any(isinstance(layer.norm, nn.GroupNorm) for layer in layers):
            raise ValueError("a norm over time behind the first convolution cannot be in pieces")
        self.layers = nn.ModuleList(Convolution(layer) for layer in layers)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """waveform (B, samples), anything at padding; lengths (B,) int64, valid samples.

        Returns features (B, T, C), valid (B, T) bool, and the valid frames (B,).
        """
        samples = self._normalised(waveform, lengths)
        filters = None if self.first is None else self.first.filters(samples)
        field, hop = self.arithmetic.receptive_field, self.arithmetic.hop
        total = waveform.shape[1]
        for kernel, stride in zip(self.arithmetic.kernels, self.arithmetic.strides, strict=True):
            total = (total - kernel) // stride + 1
            lengths = frames_after(lengths, kernel, stride)
        count, size = split(total, self.most)
        heard = torch.arange((size - 1) * hop + field, device=waveform.device)

        def piece(start: Tensor) -> tuple[Tensor]:
            image = samples.at(start * hop + heard)
            if self.first is None or filters is None:
                image = image[:, None]
            else:
                image = self.first(image, filters)
            for layer in self.layers:
                image, _ = layer(image, lengths)
            return (image.transpose(1, 2),)

        (features,) = over_pieces(piece, count, size)
        features = joined(features, total)
        return features, valid_positions(features, lengths), lengths

    def _normalised(self, waveform: Tensor, lengths: Tensor) -> Samples:
        """The samples as the first convolution takes them."""
        zeros = torch.zeros_like(waveform[:, :1])
        plain = Samples(waveform, lengths, zeros, zeros + 1.0)
        if self.levelling == "none":
            return plain
        count, size = split(waveform.shape[1], _SUMMED)
        places = torch.arange(size, device=waveform.device)

        def sums(start: Tensor) -> tuple[Tensor, Tensor]:
            picked = plain.at(start + places).double()
            # Zero where a sample was picked twice: the last piece may reach behind the end.
            return picked.sum(1, keepdim=True), picked.square().sum(1, keepdim=True)

        number = lengths.clamp_min(1)[:, None]
        first, second = (part.sum(0) / number for part in over_pieces(sums, count, size))
        mean = first.to(waveform.dtype)
        if self.levelling == "mean":
            return plain._replace(mean=mean)
        variance = (second - first.square()).clamp_min(0.0)
        deviation = (variance + NORMALISATION_EPSILON).sqrt().to(waveform.dtype)
        return plain._replace(mean=mean, deviation=deviation)


class FirstConvolution(nn.Module):
    """activation(norm(conv(.))) with a GroupNorm of one channel a group, statistics first."""

    def __init__(self, layer: FeatureLayer) -> None:
        super().__init__()
        assert isinstance(layer.norm, nn.GroupNorm)
        require_one_channel_a_group(layer.norm)
        self.kernel, self.stride = layer.conv.kernel_size[0], layer.conv.stride[0]
        self.weight = nn.Parameter(layer.conv.weight.detach()[:, 0].clone())
        self.scale = nn.Parameter(layer.norm.weight.detach().clone())
        self.shift = nn.Parameter(layer.norm.bias.detach().clone())
        self.epsilon = layer.norm.eps
        self.activation = copy.deepcopy(layer.activation)

    def filters(self, samples: Samples) -> Tensor:
        """The filters of each utterance, its norm multiplied in: (B, C, kernel + 1).

        The last of each is what is added to the sum of the others.
        """
        total = (samples.waveform.shape[1] - self.kernel) // self.stride + 1
        lengths = frames_after(samples.lengths, self.kernel, self.stride)
        count, size = split(total, max(1, _SUMMED // self.stride))
        device = samples.waveform.device
        heard = torch.arange((size - 1) * self.stride + self.kernel, device=device)
        place = torch.arange(size, device=device)

        def moments(start: Tensor) -> tuple[Tensor, Tensor]:
            windows = self._windows(samples.at(start * self.stride + heard).double())
            valid = start + place < lengths[:, None]
            windows = windows * valid.to(windows.dtype)[:, None]
            return windows.sum(2), windows @ windows.transpose(1, 2)

        number = lengths.clamp_min(1)[:, None]
        first, second = (part.sum(0) for part in over_pieces(moments, count, size))
        mean = first / number
        covariance = second / number[..., None] - mean[:, :, None] * mean[:, None]
        weight = self.weight.double()
        variance = ((weight @ covariance) * weight).sum(2).clamp_min(0.0)
        gain = self.scale.double() / (variance + self.epsilon).sqrt()
        shift = self.shift.double() - gain * (mean @ weight.T)
        filters = torch.cat([gain[..., None] * weight, shift[..., None]], dim=2)
        return filters.to(samples.waveform.dtype)

    def forward(self, samples: Tensor, filters: Tensor) -> Tensor:
        """samples (B, n), filters of `filters` -> (B, C, T')."""
        windows = functional.pad(self._windows(samples), (0, 0, 0, 1), value=1.0)
        activated: Tensor = self.activation(filters @ windows)
        return activated

    def _windows(self, samples: Tensor) -> Tensor:
        """(B, n) -> what each filter sees at each place, (B, kernel, T')."""
        places = (samples.shape[1] - self.kernel) // self.stride + 1
        first = torch.arange(places, device=samples.device) * self.stride
        index = torch.arange(self.kernel, device=samples.device)[:, None] + first
        picked = samples.index_select(1, index.flatten())
        return picked.view(samples.shape[0], self.kernel, places)
