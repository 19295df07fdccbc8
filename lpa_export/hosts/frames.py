"""Frame arithmetic: how many frames the convolutions make of so many samples."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import receptive_field

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Wav2Vec2Config

    from lpa_export.targets.graph import HardModel

__all__ = ["FrameArithmetic", "check_frame_arithmetic"]

# Around one frame, and around a few hundred, where each stride has its remainders.
_CHECKED_FRAMES = (1, 2, 3, 150)


@dataclass(frozen=True)
class FrameArithmetic:
    """Convolutions without padding: repeated floor((n - kernel) / stride) + 1, in samples."""

    kernels: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, config: Wav2Vec2Config) -> FrameArithmetic:
        """The arithmetic of a wav2vec2's feature extractor."""
        return cls(tuple(config.conv_kernel), tuple(config.conv_stride))

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(self.strides)

    @property
    def receptive_field(self) -> int:
        """Samples under one frame: shorter audio gives none."""
        return receptive_field(self.kernels, self.strides)

    def frames(self, samples: int) -> int:
        """Frames of `samples` samples; 0 when they are too few."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = max((samples - kernel) // stride + 1, 0)
        return samples

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return {"hop": self.hop, "receptive_field": self.receptive_field, **asdict(self)}


def frames_after(lengths: Tensor, kernel: int, stride: int) -> Tensor:
    """The arithmetic of one convolution on a tensor of lengths, int64; 0 where they are too few.

    Lengths are clamped before the division: of a number that is not negative every runtime takes
    the same quotient, and the export needs no steps to imitate Python's.
    """
    import torch

    return torch.div((lengths - kernel + stride).clamp_min(0), stride, rounding_mode="trunc")


def check_frame_arithmetic(model: HardModel, frames: FrameArithmetic) -> None:
    """Compare the arithmetic with forward passes of the model, one sample to each side.

    Raises LpaError when the model makes another number of frames: then every time stamp, length
    and padding mask that an app derives from the manifest would be wrong.
    """
    import torch

    for wanted in _CHECKED_FRAMES:
        first = frames.receptive_field + (wanted - 1) * frames.hop
        for samples in (first, first + 1, first + frames.hop - 1):
            with torch.inference_mode():
                logits, lengths = model(torch.zeros(1, samples), torch.tensor([samples]))[:2]
            found = (logits.shape[1], int(lengths[0]), frames.frames(samples))
            if found != (wanted, wanted, wanted):
                raise LpaError(
                    f"frame arithmetic: {samples} samples must give {wanted} frames, but the "
                    f"model, its lengths and the manifest's formula give {found}; the feature "
                    "extractor is not one this tool knows"
                )
