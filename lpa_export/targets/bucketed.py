"""One utterance padded to a bucket, in plain torch: for targets that trace it at fixed lengths."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from lpa_export.hosts.parts import Parts
from lpa_export.layers.folding import LocalDenseMaskLPA
from lpa_export.targets.batched import BATCHED, BatchedModel, Context, Preparation

__all__ = ["BucketModel", "TappedBucketModel"]


class BucketModel(nn.Module):
    """waveform (1, samples) float32, lengths (1,) int32 -> logits (1, frames, V).

    LPA as local dense masks: no cumulative sum, no gather, and all that depends on the length
    alone is stored, which accelerators with fixed shapes want. Frames behind those of the valid
    samples mean nothing.
    """

    def __init__(self, parts: Parts, frames: int) -> None:
        super().__init__()
        dense = replace(
            BATCHED,
            lpa=partial(DenseLPA, frames=frames),
            prepare=partial(Preparation, any_length=False),
        )
        self.model = BatchedModel(parts, dense)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.model(waveform, lengths)[0]
        return logits


class DenseLPA(LocalDenseMaskLPA):
    """A folded layer that is given the valid frames as booleans."""

    def forward(self, hidden: Tensor, context: Context) -> Tensor:  # type: ignore[override]
        """(1, T, D) -> (1, T, D)."""
        mixed: Tensor = super().forward(hidden, context.valid.to(hidden.dtype))
        return mixed


class TappedBucketModel(nn.Module):
    """The same model (the same weights) giving all taps in the order of `parts.taps`."""

    def __init__(self, model: BucketModel) -> None:
        super().__init__()
        self.model = model.model

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """As `BucketModel`, but (1, frames, width) of each tap; logits are the last."""
        logits, _, *taps = self.model(waveform, lengths)
        return *taps, logits
