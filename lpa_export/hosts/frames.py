"""Frame arithmetic: how many frames the convolutions make of so many samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig

__all__ = ["FrameArithmetic", "check_frame_arithmetic"]

# Around one frame, and around a few hundred, where each stride has its remainders.
_CHECKED_FRAMES = (1, 2, 3, 150)
_ADAPTER_PADDING = 1  # written into transformers' Wav2Vec2AdapterLayer, whatever its kernel


@dataclass(frozen=True)
class FrameArithmetic:
    """Convolutions one behind the other: floor((n + 2 padding - kernel) / stride) + 1 of each.

    `paddings` may be left out: the convolutions of a front end have none. Those of an `add_adapter`
    behind the encoder have, and follow here.
    """

    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    paddings: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.paddings:
            object.__setattr__(self, "paddings", (0,) * len(self.kernels))

    @classmethod
    def of(cls, config: PretrainedConfig) -> FrameArithmetic:
        """The arithmetic of a model: its feature extractor, then its `add_adapter`."""
        settings: Any = config
        kernels, strides = tuple(settings.conv_kernel), tuple(settings.conv_stride)
        behind = settings.num_adapter_layers if getattr(config, "add_adapter", False) else 0
        if not behind:
            return cls(kernels, strides)
        return cls(
            kernels + (settings.adapter_kernel_size,) * behind,
            strides + (settings.adapter_stride,) * behind,
            (0,) * len(kernels) + (_ADAPTER_PADDING,) * behind,
        )

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(self.strides)

    @property
    def receptive_field(self) -> int:
        """The fewest samples that give a frame; without paddings, the samples under one frame."""
        samples = 1
        for kernel, stride, padding in reversed(self._convolutions()):
            samples = max((samples - 1) * stride + kernel - 2 * padding, 1)
        return samples

    def frames(self, samples: int) -> int:
        """Frames of `samples` samples; 0 when they are too few."""
        for kernel, stride, padding in self._convolutions():
            if not samples:
                return 0
            samples = max((samples + 2 * padding - kernel) // stride + 1, 0)
        return samples

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest; `paddings` only where there are some."""
        content: dict[str, Any] = {
            "hop": self.hop,
            "receptive_field": self.receptive_field,
            "kernels": self.kernels,
            "strides": self.strides,
        }
        return content | ({"paddings": self.paddings} if any(self.paddings) else {})

    def _convolutions(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(zip(self.kernels, self.strides, self.paddings, strict=True))


def frames_after(lengths: Tensor, kernel: int, stride: int, padding: int = 0) -> Tensor:
    """The arithmetic of one convolution on a tensor of lengths, int64; 0 where they are too few.

    Lengths are clamped before the division: of a number that is not negative every runtime takes
    the same quotient. In whole numbers, which `torch.div` leaves when it is exported: floats are
    exact for 17 minutes of audio only.
    """
    room = lengths - (kernel - 2 * padding) + stride
    return room.clamp_min(0).floor_divide(stride)


def check_frame_arithmetic(
    model: Callable[[Tensor, Tensor], tuple[Tensor, ...]], frames: FrameArithmetic
) -> None:
    """Compare the arithmetic with forward passes of the model, one sample to each side.

    `model`: waveform (B, samples) and lengths (B,) -> logits (B, frames, V), frame lengths (B,).
    Raises LpaError when the model makes another number of frames: then every time stamp, length
    and padding mask that an app derives from the manifest would be wrong.
    """
    import torch

    for wanted in _CHECKED_FRAMES:
        first = frames.receptive_field + (wanted - 1) * frames.hop
        for samples in (first, first + 1, first + frames.hop - 1):
            with torch.inference_mode():
                logits, lengths = model(torch.zeros(1, samples), torch.tensor([samples]))[:2]
            said = frames.frames(samples)
            found = (logits.shape[1], int(lengths[0]), said)
            if found != (said, said, said) or said < wanted:
                raise LpaError(
                    f"frame arithmetic: {samples} samples must give at least {wanted} frames, but "
                    f"the model, its lengths and the manifest's formula give {found}; the feature "
                    "extractor is not one this tool knows"
                )
