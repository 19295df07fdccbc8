"""The programs of an utterance of exact length, and one of its taps."""

from __future__ import annotations

from torch import Tensor, nn

from lpa_export.hosts.parts import Parts
from lpa_export.targets.executorch.kit import exact_kit, group_size
from lpa_export.targets.executorch.windows import FixedWindows, Utterance
from lpa_export.targets.position_bias import BiasByDistance
from lpa_export.targets.skeleton import Skeleton

__all__ = ["ExactModel", "TappedModel"]


class ExactModel(Skeleton):
    """waveform (1, samples) float32 -> logits (1, frames, V). Time is dynamic, all else fixed."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts, exact_kit(parts))
        self.group = group_size(parts.features[0].conv)
        self.frames = parts.front_end
        replaced = [layer.lpa for layer in parts.layers if layer.lpa is not None]
        self.windows = FixedWindows(replaced) if replaced else None
        bias = parts.position_bias
        self.by_distance = None if bias is None else BiasByDistance(bias)
        self.eval().requires_grad_(False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(1, samples) -> (1, frames, V)."""
        return self.taps(waveform)[-1]

    def taps(self, waveform: Tensor) -> list[Tensor]:
        """(1, samples) -> every tap, the logits last, (1, frames, width) each."""
        features, projected, utterance, _ = self.front(waveform, self._utterance(waveform))
        logits, *inner = self.encode(projected, utterance)
        found = [features, projected, *inner, logits]
        return [tap.view(1, -1, tap.shape[1]) for tap in found]

    def _utterance(self, waveform: Tensor) -> Utterance:
        """What depends on the length alone, from the shape: it waits for no convolution."""
        frames, fixed, by_distance = None, [], None
        if self.windows is not None:
            frames, fixed = self.windows(self._count(waveform))
        if self.by_distance is not None:
            by_distance = self.by_distance(self._count(waveform))
        return Utterance(frames, fixed, by_distance)

    def _count(self, waveform: Tensor) -> int:
        """Frames of the front end."""
        # As `unfold` counts groups: the exporter proves no other formula equal to it.
        count, group = (waveform.shape[1] - self.group) // self.group + 1, self.group
        for kernel, stride in zip(self.frames.kernels, self.frames.strides, strict=True):
            count = (count - kernel // group) // (stride // group) + 1
            group = 1
        return count


class TappedModel(nn.Module):
    """The same model (the same weights) giving all taps, for validation."""

    def __init__(self, model: ExactModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Tensor) -> list[Tensor]:
        """(1, samples) -> the taps, each (1, frames, width)."""
        return self.model.taps(waveform)
