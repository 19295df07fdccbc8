"""What a speech encoder with a CTC head is made of, whatever family it comes from.

Only names and numbers: nothing here knows of a target. The modules are the model's own unless a
line says that they are a copy; whoever changes one copies it first. All numbers are those of
inference: dropout, layer drop and masking have no part in it. B utterances, T frames, D channels.

Order: waveform, normalised when `do_normalize` -> `features` -> `feature_norm` -> `projection` ->
plus the chain of `positional` -> `norm` unless `norm_first` -> `layers` -> `norm` if `norm_first`
-> `length_adapter` -> `head`. An utterance in a padded batch must give the numbers it gives alone:
in front of *every* convolution (each of `positional`, behind its `affine`; each of
`length_adapter`) frames behind its end are zero, as an utterance alone is padded with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from lpa_export.hosts.frames import FrameArithmetic
from lpa_export.layers import LPA

__all__ = [
    "Adapter",
    "Attention",
    "BiasGate",
    "FeatureLayer",
    "FeedForward",
    "Layer",
    "Layered",
    "LengthAdapter",
    "Levelling",
    "Parts",
    "PositionBias",
    "PositionalLayer",
]


Levelling = Literal["none", "mean", "mean and variance"]
"""What is taken out of a waveform in front of the first convolution."""


@dataclass(frozen=True)
class FeatureLayer:
    """activation(norm(conv(.))) over the waveform, no padding.

    `norm`: a LayerNorm over the channels, a GroupNorm of one channel a group (its statistics run
    over the frames of the utterance), or none. In front of a GroupNorm `conv` has no bias.
    """

    conv: nn.Conv1d
    norm: nn.LayerNorm | nn.GroupNorm | None
    activation: nn.Module


@dataclass(frozen=True)
class PositionalLayer:
    """One convolution of the position embedding: activation(norm(conv(x * scale + shift))).

    `conv` is a copy, weight norm multiplied out, padded by half its kernel at both ends; the last
    `trim` frames of its output are dropped (1 for even kernels), so that the length stays.
    `affine`: scale and shift (D,) of each channel in front of it (HuBERT's batch norm at
    inference), else None. `norm`: over the channels, always with a weight and a bias.
    """

    conv: nn.Conv1d
    trim: int
    affine: tuple[Tensor, Tensor] | None
    norm: nn.LayerNorm | None
    activation: nn.Module


@dataclass(frozen=True)
class PositionBias:
    """WavLM's relative position bias, one of the whole model: `embedding` (buckets, heads)."""

    embedding: Tensor
    buckets: int
    max_distance: int

    def of_offsets(self, frames: int) -> Tensor:
        """(heads, 2 frames - 1): the bias of the offsets s - t = 1 - frames to frames - 1.

        Key s, query t. The bucket of an offset is exact up to a quarter of `buckets`, then
        logarithmic up to `max_distance`; float32 as in transformers, so that no edge moves.
        """
        offsets = torch.arange(1 - frames, frames, device=self.embedding.device)
        half = self.buckets // 2
        exact = half // 2
        distance = offsets.abs()
        far = torch.log(distance.float() / exact) / math.log(self.max_distance / exact)
        far = (exact + far * (half - exact)).to(torch.int64).clamp_max(half - 1)
        buckets = (offsets > 0) * half + torch.where(distance < exact, distance, far)
        return self.embedding[buckets].T.contiguous()

    def of_pairs(self, frames: int) -> Tensor:
        """(heads, frames, frames): the bias of query t (rows) and key s (columns)."""
        frame = torch.arange(frames, device=self.embedding.device)
        return self.of_offsets(frames)[:, frame[None, :] - frame[:, None] + frames - 1]


@dataclass(frozen=True)
class BiasGate:
    """How much of the position bias each query takes, per head.

    With h (H, T, d) the input of the attention cut into heads, before any projection:
    a, b = sigmoid(linear(h)); gate = a (b constant - 1) + 2, (H, T, 1); scores += gate * bias.
    `linear` (d -> 2) is a copy: the original has eight outputs and sums them four and four.
    `constant`: (H, 1, 1).
    """

    linear: nn.Linear
    constant: Tensor


@dataclass(frozen=True)
class Attention:
    """Self-attention that was kept: softmax(scaling q k^T [+ gate * bias]) v, then `output`."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    heads: int
    scaling: float
    gate: BiasGate | None


@dataclass(frozen=True)
class FeedForward:
    """contract(activation(expand(.)))."""

    expand: nn.Linear
    activation: nn.Module
    contract: nn.Linear


@dataclass(frozen=True)
class Adapter:
    """A language adapter (MMS) behind a layer: x + up(activation(down(norm(x))))."""

    norm: nn.LayerNorm
    down: nn.Linear
    activation: nn.Module
    up: nn.Linear


@dataclass(frozen=True)
class Layer:
    """One encoder layer; exactly one of `attention` and `lpa` is there, called mix here.

    norms first: x += mix(norm(x)); x += feed_forward(final_norm(x)).
    norms last:  x = norm(x + mix(x)); x = final_norm(x + feed_forward(x)).
    Then the adapter, if there is one.
    """

    attention: Attention | None
    lpa: LPA | None
    norm: nn.LayerNorm
    feed_forward: FeedForward
    final_norm: nn.LayerNorm
    adapter: Adapter | None


class Layered(Protocol):
    """Layers that run over the same frames, and the position bias that they share, if any."""

    @property
    def layers(self) -> tuple[Layer, ...]: ...

    @property
    def position_bias(self) -> PositionBias | None: ...


@dataclass(frozen=True)
class LengthAdapter:
    """Convolutions with a stride behind the encoder (`add_adapter`): fewer frames come out.

    norm(projection(.)) where they are there, then of each convolution with its own zero padding
    glu over the channels: the first half times the sigmoid of the second.
    """

    projection: nn.Linear | None
    norm: nn.LayerNorm | None
    convolutions: tuple[nn.Conv1d, ...]


@dataclass(frozen=True)
class Parts:
    """A whole model; the module's docstring has the order. `position_bias`: WavLM only."""

    features: tuple[FeatureLayer, ...]
    feature_norm: nn.LayerNorm | None
    projection: nn.Linear
    positional: tuple[PositionalLayer, ...]
    norm: nn.LayerNorm
    norm_first: bool
    layers: tuple[Layer, ...]
    length_adapter: LengthAdapter | None
    head: nn.Linear
    position_bias: PositionBias | None
    do_normalize: bool

    @property
    def levelling(self) -> Levelling:
        """What an artifact takes out of the waveform: what the model does, or more.

        A norm over time behind the first convolution takes any constant out of a channel. So an
        offset of the waveform changes nothing, and is taken away before it can cost the digits of
        quiet speech in float32, and more of them in float16.
        """
        if self.do_normalize:
            return "mean and variance"
        return "mean" if isinstance(self.features[0].norm, nn.GroupNorm) else "none"

    @property
    def taps(self) -> dict[str, str]:
        """Each tap and what ends there (frontend, lpa, attention or head), in the model's order.

        Taps are the points at which an artifact is compared with the reference.
        """
        kinds = dict.fromkeys(("features", "projection", "encoder.embed"), "frontend")
        for index, layer in enumerate(self.layers):
            kinds[f"encoder.layers.{index}"] = "attention" if layer.lpa is None else "lpa"
        return kinds | {"logits": "head"}

    @property
    def front_end(self) -> FrameArithmetic:
        """How many frames the encoder sees of so many samples; a length adapter makes fewer."""
        convolutions = [layer.conv for layer in self.features]
        return FrameArithmetic(
            tuple(conv.kernel_size[0] for conv in convolutions),
            tuple(conv.stride[0] for conv in convolutions),
        )
