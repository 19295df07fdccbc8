"""The hard model as one graph: padded waveforms and their lengths in, logits and stages out.

Hugging Face's own modules (copied, the caller's model stays as it is) with the rewrites of
`lpa_export.targets.rewrites` and folded LPA layers between them. Every target lowers this module
or a part of it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lpa_export.errors import LpaError
from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.hosts import LPAAttention, encoder_layers, lpa_layers
from lpa_export.hosts.frames import frames_after
from lpa_export.layers.folding import fold
from lpa_export.runtimes.torch import tap_names
from lpa_export.targets.rewrites import (
    KeyMaskedAttention,
    MaskedGroupNorm,
    PlainPositionalEmbedding,
    key_bias,
    normalise_waveform,
    valid_positions,
)

__all__ = [
    "FeatureExtractor",
    "HardLayer",
    "HardModel",
    "example_inputs",
    "require_plain",
    "tap_kinds",
]


def require_plain(checkpoint: Checkpoint) -> None:
    """Raise LpaError for a wav2vec2 or LPA layers with parts that no target is written for."""
    config = checkpoint.model.config
    for setting in ("add_adapter", "adapter_attn_dim"):
        if getattr(config, setting, None):
            raise LpaError(
                f"{checkpoint.name}: {setting} is {getattr(config, setting)}, but adapters cannot "
                "be exported; merge them into the model, or use one without"
            )
    for index, lpa in lpa_layers(checkpoint.model).items():
        if lpa.config.anchor != "frame":
            raise LpaError(
                f"{checkpoint.name}: the aperiodic pulses of layer {index} are anchored to the "
                f"{lpa.config.anchor}, which no target can export; train with anchor: frame"
            )


def tap_kinds(checkpoint: Checkpoint) -> dict[str, str]:
    """Stage name -> frontend, lpa, attention or head, in the order of the model."""
    kinds = {
        f"encoder.layers.{index}": "lpa" if index in checkpoint.replaced else "attention"
        for index in range(len(encoder_layers(checkpoint.model)))
    } | {"logits": "head"}
    return {name: kinds.get(name, "frontend") for name in tap_names(len(kinds) - 1)}


class HardModel(nn.Module):
    """A checkpoint's model with hard gates, batched, independent of padding.

    Raises LpaError for a wav2vec2 with parts that this graph does not have (adapters).
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        host = checkpoint.model
        require_plain(checkpoint)
        encoder = host.wav2vec2.encoder
        self.normalise = checkpoint.do_normalize
        self.norm_first = bool(host.config.do_stable_layer_norm)
        self.features = FeatureExtractor(host.wav2vec2.feature_extractor)
        self.projection = copy.deepcopy(host.wav2vec2.feature_projection)
        self.positional = PlainPositionalEmbedding(encoder.pos_conv_embed)
        self.norm = copy.deepcopy(encoder.layer_norm)
        self.layers = nn.ModuleList(
            HardLayer(layer, norm_first=self.norm_first) for layer in encoder.layers
        )
        self.head = copy.deepcopy(host.lm_head)
        self.eval().requires_grad_(False)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stage tensors that `forward` returns behind its first two values."""
        return tap_names(len(self.layers))[:-1]

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """waveform (B, samples) float32 at 16 kHz; lengths (B,) int64, valid samples.

        Returns logits (B, frames, V), frame_lengths (B,) int64, and a (B, frames, width) tensor
        for each of `stages`. Frames behind frame_lengths mean nothing.
        """
        if self.normalise:
            waveform = normalise_waveform(waveform, lengths)
        else:
            waveform = waveform.masked_fill(~valid_positions(waveform, lengths), 0.0)
        features, frame_lengths = self.features(waveform, lengths)
        valid = valid_positions(features, frame_lengths)
        projected = self.projection(features)[0]
        # The positional convolution looks past the end: there must be nothing.
        hidden = projected.masked_fill(~valid[..., None], 0.0)
        hidden = hidden + self.positional(hidden)
        if not self.norm_first:
            hidden = self.norm(hidden)
        stages = [features, projected, hidden]
        bias = key_bias(valid, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, valid, bias)
            stages.append(hidden)
        if self.norm_first:
            hidden = self.norm(hidden)
        return self.head(hidden), frame_lengths, *stages


class FeatureExtractor(nn.Module):
    """The convolutions over the waveform; only a norm over time needs to know of padding."""

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.layers: nn.ModuleList = copy.deepcopy(extractor.conv_layers)
        for layer in self.layers:
            if isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm):
                layer.layer_norm = MaskedGroupNorm(layer.layer_norm)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """waveform (B, samples), zero at padding -> features (B, frames, C), frame lengths (B,)."""
        hidden = waveform[:, None]
        layer: Any
        for layer in self.layers:
            lengths = frames_after(lengths, layer.conv.kernel_size[0], layer.conv.stride[0])
            if isinstance(getattr(layer, "layer_norm", None), MaskedGroupNorm):
                hidden = layer.activation(layer.layer_norm(layer.conv(hidden), lengths))
            else:
                hidden = layer(hidden)
        return hidden.transpose(1, 2), lengths


class HardLayer(nn.Module):
    """One encoder layer, norms before (`norm_first`) or after its two halves."""

    def __init__(self, layer: Any, *, norm_first: bool) -> None:
        super().__init__()
        attention = layer.attention
        replaced = isinstance(attention, LPAAttention)
        self.lpa = fold(attention.lpa, form="prefix_sum") if replaced else None
        self.attention = None if replaced else KeyMaskedAttention(attention)
        self.norm_first = norm_first
        self.norm = copy.deepcopy(layer.layer_norm)
        self.feed_forward = copy.deepcopy(layer.feed_forward)
        self.final_norm = copy.deepcopy(layer.final_layer_norm)

    def forward(self, hidden: Tensor, valid: Tensor, bias: Tensor) -> Tensor:
        """hidden (B, T, D), valid (B, T) bool, bias (B, 1, T) of `key_bias` -> (B, T, D)."""
        if self.norm_first:
            hidden = hidden + self._mix(self.norm(hidden), valid, bias)
            return hidden + self.feed_forward(self.final_norm(hidden))
        hidden = self.norm(hidden + self._mix(hidden, valid, bias))
        return self.final_norm(hidden + self.feed_forward(hidden))

    def _mix(self, hidden: Tensor, valid: Tensor, bias: Tensor) -> Tensor:
        """What takes the place of attention: LPA over valid frames, or attention itself."""
        if self.lpa is not None:
            return self.lpa(hidden, valid)
        assert self.attention is not None
        return self.attention(hidden, bias)


def example_inputs(samples: int) -> tuple[Tensor, Tensor]:
    """Two utterances for tracing, the second half as long: (2, samples) noise, lengths (2,)."""
    noise = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    return noise, torch.tensor([samples, samples // 2])
