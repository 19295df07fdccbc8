"""The hard model for one utterance of exact length: what the dynamic backends are given.

A batch of one needs no padding, and so no mask: the runner gives the valid samples and nothing
else. Time is dynamic, everything else is fixed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.hosts import LPAAttention
from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.runtimes.torch import tap_names
from lpa_export.targets.executorch.parts import (
    Attention,
    FeatureLayer,
    LayerNorm,
    PositionalConvolution,
    normalise,
    to_groups,
    to_matrix,
)
from lpa_export.targets.executorch.prefix_sum import PrefixSumLPA
from lpa_export.targets.executorch.windows import Fixed, FixedWindows, Frames
from lpa_export.targets.graph import require_plain

__all__ = ["ExactModel", "StagedModel"]


class ExactModel(nn.Module):
    """waveform (1, samples) float32 at 16 kHz -> logits (1, frames, V)."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        require_plain(checkpoint)
        host = checkpoint.model
        encoder = host.wav2vec2.encoder
        self.normalise = checkpoint.do_normalize
        self.norm_first = bool(host.config.do_stable_layer_norm)
        self.frames = FrameArithmetic.of(host.config)
        features = [FeatureLayer(layer) for layer in host.wav2vec2.feature_extractor.conv_layers]
        self.features = nn.ModuleList(features)
        self.group = features[0].group
        projection = host.wav2vec2.feature_projection
        self.projection = nn.Sequential(
            LayerNorm(projection.layer_norm), copy.deepcopy(projection.projection)
        )
        self.positional = PositionalConvolution(encoder.pos_conv_embed)
        self.norm = LayerNorm(encoder.layer_norm)
        self.layers = nn.ModuleList(
            Layer(layer, norm_first=self.norm_first) for layer in encoder.layers
        )
        replaced = [
            layer.attention.lpa
            for layer in encoder.layers
            if isinstance(layer.attention, LPAAttention)
        ]
        self.windows = FixedWindows(replaced) if replaced else None
        self.head = copy.deepcopy(host.lm_head)
        self.eval().requires_grad_(False)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of what `run` returns, in its order."""
        return tap_names(len(self.layers))

    def forward(self, waveform: Tensor) -> Tensor:
        """(1, samples) -> (1, frames, V)."""
        return self.run(waveform)[-1]

    def run(self, waveform: Tensor) -> list[Tensor]:
        """(1, samples) -> each of `stages`, (1, frames, width)."""
        frames, fixed = None, iter(())
        if self.windows is not None:
            frames, windows = self.windows(self._count(waveform))
            fixed = iter(windows)
        samples = waveform.double()
        if self.normalise:
            samples = normalise(samples)
        image = to_groups(samples, self.group)
        for layer in self.features:
            image = layer(image)
        features = to_matrix(image)
        projected = self.projection(features)
        hidden = projected + self.positional(projected)
        if not self.norm_first:
            hidden = self.norm(hidden)
        stages = [features, projected, hidden]
        for layer in self.layers:
            hidden = layer(hidden, frames, fixed)
            stages.append(hidden)
        if self.norm_first:
            hidden = self.norm(hidden)
        stages.append(self.head(hidden))
        return [stage.view(1, -1, stage.shape[1]) for stage in stages]

    def _count(self, waveform: Tensor) -> int:
        """Frames of the waveform from its shape, so that windows wait for no convolution."""
        # As `unfold` counts groups: the exporter proves no other formula equal to it.
        count, group = (waveform.shape[1] - self.group) // self.group + 1, self.group
        for kernel, stride in zip(self.frames.kernels, self.frames.strides, strict=True):
            count = (count - kernel // group) // (stride // group) + 1
            group = 1
        return count


class Layer(nn.Module):
    """One encoder layer, norms before (`norm_first`) or after its two halves."""

    def __init__(self, layer: Any, *, norm_first: bool) -> None:
        super().__init__()
        attention = layer.attention
        self.replaced = isinstance(attention, LPAAttention)
        self.mix = PrefixSumLPA(attention.lpa) if self.replaced else Attention(attention)
        self.norm_first = norm_first
        self.norm = LayerNorm(layer.layer_norm)
        self.feed_forward = copy.deepcopy(layer.feed_forward)
        self.final_norm = LayerNorm(layer.final_layer_norm)

    def forward(self, hidden: Tensor, frames: Frames | None, fixed: Iterator[Fixed]) -> Tensor:
        """hidden (T, D), the utterance's frames, the windows of LPA layers to come."""
        mixed = self.norm(hidden) if self.norm_first else hidden
        hidden = hidden + (
            self.mix(mixed, frames, next(fixed)) if self.replaced else self.mix(mixed)
        )
        if self.norm_first:
            return hidden + self.feed_forward(self.final_norm(hidden))
        hidden = self.norm(hidden)
        return self.final_norm(hidden + self.feed_forward(hidden))


class StagedModel(nn.Module):
    """The same model (the same weights) giving all stages, for validation."""

    def __init__(self, model: ExactModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Tensor) -> list[Tensor]:
        """(1, samples) -> the stages, each (1, frames, width)."""
        return self.model.run(waveform)
