"""Statistics over time: of the waveform, and of a front end that norms its channels, or all, so.

They are taken in float32 in every artifact: squares of quiet samples fall below float16, sums of
many leave it, and float16 counts samples to 2,048 only. Whatever must is a `ComputesInFloat32`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lpa_export.formats.manifest import NORMALISATION_EPSILON
from lpa_export.hosts.frames import FrameArithmetic

__all__ = [
    "Centring",
    "ComputesInFloat32",
    "InFloat32",
    "Level",
    "MaskedCentring",
    "MaskedNormalisation",
    "MaskedTimeNorm",
    "Normalisation",
    "TimeNorm",
    "ValidPositions",
]

Level = tuple[Tensor, Tensor]
"""Behind one convolution (the samples before the first): valid length (1,), mask (S,)."""


class ComputesInFloat32(nn.Module):
    """Modules whose operations stay in float32 whatever the artifact computes in."""


class InFloat32(ComputesInFloat32):
    """Any module, in float32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor:
        """As the module."""
        output: Tensor = self.module(*inputs)
        return output


class Centring(ComputesInFloat32):
    """Zero mean."""

    def forward(self, waveform: Tensor, _levels: Sequence[Level] | None) -> Tensor:
        """The exact samples of an utterance, (1, N) -> (1, N)."""
        return waveform - waveform.mean(dim=1, keepdim=True)


class Normalisation(Centring):
    """Zero mean and unit variance, as transformers' Wav2Vec2FeatureExtractor does."""

    def forward(self, waveform: Tensor, levels: Sequence[Level] | None) -> Tensor:
        """The exact samples of an utterance, (1, N) -> (1, N)."""
        centred = super().forward(waveform, levels)
        variance = centred.square().mean(dim=1, keepdim=True)
        return centred * torch.rsqrt(variance + NORMALISATION_EPSILON)


class MaskedCentring(ComputesInFloat32):
    """Zero mean over the valid samples of a padded waveform; zero behind them."""

    ones: Tensor

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.register_buffer("ones", torch.ones(samples, 1))

    def forward(self, waveform: Tensor, levels: Sequence[Level]) -> Tensor:
        """(1, N) -> (1, N)."""
        length, mask = levels[0]
        return (waveform - (waveform * mask) @ self.ones / length.clamp_min(1.0)) * mask


class MaskedNormalisation(MaskedCentring):
    """Zero mean and unit variance over the valid samples; zero behind them."""

    def forward(self, waveform: Tensor, levels: Sequence[Level]) -> Tensor:
        """(1, N) -> (1, N)."""
        centred = super().forward(waveform, levels)
        variance = centred.square() @ self.ones / levels[0][0].clamp_min(1.0)
        return centred * torch.rsqrt(variance + NORMALISATION_EPSILON)


class TimeNorm(ComputesInFloat32):
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

    def forward(self, hidden: Tensor, _level: Level | None = None) -> Tensor:
        """(1, C, 1, S) -> (1, C, 1, S)."""
        centred = hidden - hidden.mean(dim=3, keepdim=True)
        variance = centred.square().mean(dim=3, keepdim=True)
        return centred * (self.weight * torch.rsqrt(variance + self.epsilon)) + self.bias


class MaskedTimeNorm(TimeNorm):
    """The same with statistics over valid frames only."""

    def forward(self, hidden: Tensor, level: Level | None = None) -> Tensor:
        """hidden (1, C, 1, S), finite at padding -> (1, C, 1, S)."""
        assert level is not None
        length, mask = level
        share = (mask / length.clamp_min(1.0))[:, None]
        centred = hidden - hidden @ share
        variance = centred.square() @ share
        return centred * (self.weight * torch.rsqrt(variance + self.epsilon)) + self.bias


class ValidPositions(ComputesInFloat32):
    """Lengths and masks behind each convolution, in float32."""

    def __init__(self, samples: int, arithmetic: FrameArithmetic) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        sizes = [samples]
        for kernel, stride in zip(arithmetic.kernels, arithmetic.strides, strict=True):
            sizes.append((sizes[-1] - kernel) // stride + 1)
        for index, size in enumerate(sizes):
            self.register_buffer(f"ramp_{index}", torch.arange(size, dtype=torch.float32))

    def forward(self, samples: Tensor) -> list[Level]:
        """samples (1,) -> each level, that of the samples first."""
        lengths = [samples]
        for kernel, stride in zip(self.arithmetic.kernels, self.arithmetic.strides, strict=True):
            # Half a sample off the whole quotients: a rounded reciprocal cannot floor them wrong.
            quotient = torch.floor((lengths[-1] - kernel + 0.5) * (1.0 / stride))
            lengths.append((quotient + 1.0).clamp_min(0.0))
        return [
            (length, (length - self.get_buffer(f"ramp_{index}")).clamp(0.0, 1.0))
            for index, length in enumerate(lengths)
        ]
