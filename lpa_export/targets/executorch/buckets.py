"""The hard model at a fixed length: padded waveform and its valid samples in, logits out.

LPA as local dense masks: no cumulative sum, no gather, and all that depends on the length alone is
stored, which accelerators with fixed shapes want.
"""

from __future__ import annotations

from torch import Tensor, nn

from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.hosts import lpa_layers
from lpa_export.layers.folding import fold
from lpa_export.layers.lpa import LPA
from lpa_export.targets.graph import HardModel

__all__ = ["BucketModel"]


class BucketModel(nn.Module):
    """waveform (1, samples) float32, lengths (1,) int32 -> logits (1, frames, V).

    Frames behind those of the valid samples mean nothing.
    """

    def __init__(self, checkpoint: Checkpoint, frames: int) -> None:
        super().__init__()
        self.model = HardModel(checkpoint)
        replaced = lpa_layers(checkpoint.model)
        for index, layer in enumerate(self.model.layers):
            if index in replaced:
                layer.lpa = _FloatMask(replaced[index], frames)
        self.eval().requires_grad_(False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.model(waveform, lengths)[0]
        return logits


class _FloatMask(nn.Module):
    """A folded layer that is given the valid frames as booleans."""

    def __init__(self, lpa: LPA, frames: int) -> None:
        super().__init__()
        self.folded = fold(lpa, form="local_dense_mask", frames=frames)

    def forward(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """(1, T, D), valid (1, T) bool -> (1, T, D)."""
        mixed: Tensor = self.folded(hidden, valid.to(hidden.dtype))
        return mixed
