"""The kit of padded batches: plain torch in (B, T, D), an utterance untouched by its padding.

ONNX Runtime takes it at any batch and any length, and the fixed-length programs of ExecuTorch with
another LPA. What it adds to a host's own modules is the padding: an utterance in a padded batch
gives the numbers it gives alone, whatever lies behind its valid samples.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpa_export.formats.manifest import NORMALISATION_EPSILON
from lpa_export.hosts.frames import frames_after
from lpa_export.hosts.parts import (
    Attention,
    FeatureLayer,
    Layered,
    Levelling,
    Parts,
    PositionalLayer,
)
from lpa_export.layers.any_length import AnyLengthLPA, Shared, Sharing
from lpa_export.layers.in_pieces import places_of
from lpa_export.targets.position_bias import BiasByDistance, gates_of_heads
from lpa_export.targets.skeleton import Kit, Skeleton

__all__ = [
    "BATCHED",
    "MASKED_SCORE",
    "BatchedModel",
    "Context",
    "Convolution",
    "Preparation",
    "carried",
    "example_inputs",
    "levelled",
    "require_one_channel_a_group",
    "valid_positions",
]

# Not -inf: a row of nothing but -inf is NaN after the softmax, and fp16 delegates saturate it.
MASKED_SCORE = -1e4

_BLOCK = 512  # samples


class Pieces(NamedTuple):
    """Pieces of n frames that cover all: the first frame of each, (pieces,), 0 to n - 1, and where
    the frames are in the stacked pieces, (B, T).
    """

    starts: Tensor
    place: Tensor
    joined: Tensor


class Context(NamedTuple):
    """What the layers know of the frames: valid (B, T) bool; bias (B, 1, T), added to the scores
    of each key, 0 or `MASKED_SCORE`; by_distance (H, T, T), where the host has a position bias;
    shared, for each layer what it knows if it is LPA of any length; pieces, where layers run in
    pieces.
    """

    valid: Tensor
    bias: Tensor
    by_distance: Tensor | None
    shared: tuple[Shared | None, ...] = ()
    pieces: Pieces | None = None

    def own(self, index: int) -> Context:
        """The context with what one layer shares with others, in place of what each does."""
        return self._replace(shared=self.shared[index : index + 1])


class BatchedModel(Skeleton):
    """waveform (B, samples) and lengths (B,) -> logits, frame lengths, taps."""

    def __init__(self, parts: Parts, kit: Kit | None = None) -> None:
        super().__init__(parts, kit or BATCHED)
        self.width = parts.projection.out_features

    def own(self, context: Context, index: int) -> Context:
        """See `Context`."""
        return context.own(index)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """waveform (B, samples) float32; lengths (B,) int64, valid samples.

        Returns logits (B, frames, V), frame_lengths (B,) int64, and a (B, frames, width) tensor
        for each tap before the logits. Frames behind frame_lengths mean nothing.
        """
        features, projected, valid, frames = self.front(waveform, lengths)
        logits, *taps = self.encode(projected, valid)
        return logits, self.shortened(frames), features, projected, *taps

    def shortened(self, frames: Tensor) -> Tensor:
        """How many of (B,) valid frames a length adapter leaves."""
        if self.length_adapter is not None:
            for layer in self.length_adapter.layers:
                assert isinstance(layer, ShorteningConvolution)
                frames = layer.frames_after(frames)
        return frames


def example_inputs(samples: int) -> tuple[Tensor, Tensor]:
    """Two utterances for tracing, the second half as long: (2, samples) noise, lengths (2,)."""
    noise = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    return noise, torch.tensor([samples, samples // 2])


def valid_positions(like: Tensor, lengths: Tensor) -> Tensor:
    """(B, N) bool, True for the first `lengths[b]` places of `like` (B, N, ...)."""
    return torch.arange(like.shape[1], device=like.device) < lengths[:, None]


def levelled(waveform: Tensor, lengths: Tensor, levelling: Levelling) -> Tensor:
    """Without the mean, or at unit variance too, of each utterance's own samples; zero behind them.

    waveform: (B, samples); lengths: (B,) int64. The latter as `Wav2Vec2FeatureExtractor` in numpy.
    """
    valid = valid_positions(waveform, lengths)
    speech = waveform.masked_fill(~valid, 0.0)
    if levelling == "none":
        return speech
    count = lengths.clamp_min(1).to(waveform.dtype)[:, None]
    centred = (speech - _total(speech) / count).masked_fill(~valid, 0.0)
    if levelling == "mean":
        return centred
    variance = _total(centred.square()) / count
    return centred / (variance + NORMALISATION_EPSILON).sqrt()


def _total(values: Tensor) -> Tensor:
    """(B, N) -> (B, 1), in blocks where N is fixed.

    A runtime may add one number after another: of half a minute of samples that loses 2e-4.
    """
    count = values.shape[1]
    if isinstance(count, int):
        padded = functional.pad(values, (0, -count % _BLOCK))
        values = padded.unflatten(1, (-1, _BLOCK)).sum(2)
    return values.sum(1, keepdim=True)


class Normalisation(nn.Module):
    """The waveform as the first convolution takes it."""

    def __init__(self, levelling: Levelling) -> None:
        super().__init__()
        self.levelling = levelling

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, samples) -> (B, 1, samples), zero at padding; lengths (B,) as they are."""
        return levelled(waveform, lengths, self.levelling)[:, None], lengths


def require_one_channel_a_group(norm: nn.GroupNorm) -> None:
    """Raise ValueError for a norm over several channels."""
    if norm.num_groups != norm.num_channels:
        raise ValueError(f"expected one channel a group, found {norm.num_groups} groups")


class MaskedGroupNorm(nn.Module):
    """GroupNorm with one channel a group (wav2vec2-base's first layer) over valid frames only.

    GroupNorm takes its statistics over time: padding would change every frame.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        require_one_channel_a_group(norm)
        self.epsilon = norm.eps
        self.weight = nn.Parameter(norm.weight.detach().clone()[:, None])
        self.bias = nn.Parameter(norm.bias.detach().clone()[:, None])

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """hidden (B, C, T), finite at padding; lengths (B,) valid frames. Returns (B, C, T).

        Means are products with the mask: one pass over a tensor that is large (C times a tenth of
        the samples), and the variance is of centred values, so that no large sums cancel.
        """
        frame = torch.arange(hidden.shape[2], device=hidden.device)
        valid = (frame < lengths[:, None]).to(hidden.dtype)
        share = (valid / lengths.clamp_min(1).to(hidden.dtype)[:, None])[..., None]
        centred = hidden - hidden @ share
        variance = centred.square() @ share
        return centred * (self.weight * torch.rsqrt(variance + self.epsilon)) + self.bias


class Convolution(nn.Module):
    """A layer of the front end; only a norm over time needs to know of padding."""

    def __init__(self, layer: FeatureLayer) -> None:
        super().__init__()
        self.conv = copy.deepcopy(layer.conv)
        self.layer_norm = (
            MaskedGroupNorm(layer.norm)
            if isinstance(layer.norm, nn.GroupNorm)
            else copy.deepcopy(layer.norm)
        )
        self.activation = copy.deepcopy(layer.activation)

    def forward(self, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T), valid frames (B,) -> (B, C', T'), valid frames (B,)."""
        lengths = frames_after(lengths, self.conv.kernel_size[0], self.conv.stride[0])
        hidden = self.conv(hidden)
        if isinstance(self.layer_norm, MaskedGroupNorm):
            hidden = self.layer_norm(hidden, lengths)
        elif self.layer_norm is not None:
            hidden = self.layer_norm(hidden.transpose(-2, -1)).transpose(-2, -1)
        return self.activation(hidden), lengths


class Frames(nn.Module):
    """(B, C, T) and valid frames (B,) -> (B, T, C), valid (B, T) bool."""

    def forward(self, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        features = hidden.transpose(1, 2)
        return features, valid_positions(features, lengths)


class Silence(nn.Module):
    """(B, T, D) with zeros where `valid` (B, T) is False."""

    def forward(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """See the class."""
        return hidden.masked_fill(~valid[..., None], 0.0)


class Positional(nn.Module):
    """A layer of the convolutional position embedding."""

    def __init__(self, layer: PositionalLayer) -> None:
        super().__init__()
        self.conv = copy.deepcopy(layer.conv)
        self.trim = layer.trim
        self.norm = copy.deepcopy(layer.norm)
        self.activation = copy.deepcopy(layer.activation)

    def forward(self, hidden: Tensor, _valid: Tensor) -> Tensor:
        """hidden (B, T, D), zero at padding -> (B, T, D)."""
        embedded = self.conv(hidden.transpose(1, 2))
        if self.trim:
            embedded = embedded[:, :, : -self.trim]
        if self.norm is not None:
            embedded = self.norm(embedded.transpose(1, 2)).transpose(1, 2)
        activated: Tensor = self.activation(embedded)
        return activated.transpose(1, 2)


class Preparation(nn.Module):
    """valid (B, T) -> `Context`.

    `any_length`: whether the LPA layers are `FoldedLPA`; `most`: how many frames they mix at a
    time at most, all of them if 0.
    """

    def __init__(self, parts: Layered, *, any_length: bool = True, most: int = 0) -> None:
        super().__init__()
        bias = parts.position_bias
        self.by_distance = None if bias is None else BiasByDistance(bias)
        layers = [layer.lpa for layer in parts.layers]
        replaced = [lpa for lpa in layers if lpa is not None]
        self.most = most
        self.sharing = Sharing(replaced, in_pieces=bool(most)) if replaced and any_length else None
        self.replaced = tuple(lpa is not None for lpa in layers)

    def forward(self, hidden: Tensor, valid: Tensor) -> Context:
        """hidden (B, T, D) gives its dtype and length only."""
        bias = (~valid).to(hidden.dtype)[:, None] * MASKED_SCORE
        by_distance = None if self.by_distance is None else self.by_distance(hidden.shape[1])
        if self.sharing is None:
            return Context(valid, bias, by_distance)
        made = iter(self.sharing(hidden, valid))
        shared = tuple(next(made) if lpa else None for lpa in self.replaced)
        context = Context(valid, bias, by_distance, shared)
        if not self.most:
            return context
        (batch, total), device = valid.shape, hidden.device
        count = (total + self.most - 1) // self.most
        size = (total + count - 1) // count
        place = torch.arange(size, device=device)
        stacked = places_of(total, batch, size, device)
        pieces = Pieces(torch.arange(count, device=device) * size, place, stacked)
        return context._replace(pieces=pieces)


class KeyMaskedAttention(nn.Module):
    """A kept self-attention layer: head by head a matmul, a softmax, a matmul.

    Head by head, because T x T scores of one head at a time are all the memory that is needed.
    The mask takes part in the first matmul, which saves a pass over the scores: each query has one
    more channel that is always 1, and each key has its bias there. The scale 1 / sqrt(d) is
    multiplied into the query projection.
    """

    constant: Tensor

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads = attention.heads
        self.query = _query_with_a_one(attention)
        self.key = copy.deepcopy(attention.key)
        self.value = copy.deepcopy(attention.value)
        self.output = copy.deepcopy(attention.output)
        self.gate = None if attention.gate is None else gates_of_heads(attention)
        if attention.gate is not None:
            self.register_buffer("constant", attention.gate.constant.detach().flatten())

    def forward(self, hidden: Tensor, context: Context) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        gates = None
        if self.gate is not None:
            first, second = self.gate(hidden).sigmoid().chunk(2, dim=-1)
            gates = first * (second * self.constant - 1.0) + 2.0
        mixed = []
        projections = (self.query, self.key, self.value)
        heads = [projection(hidden).chunk(self.heads, dim=-1) for projection in projections]
        for head, (query, key, value) in enumerate(zip(*heads, strict=True)):
            # Of three axes each: a general product is lowered with copies that expand nothing.
            scores = torch.bmm(query, torch.cat([key.transpose(1, 2), context.bias], dim=1))
            if gates is not None and context.by_distance is not None:
                scores = scores + gates[:, :, head : head + 1] * context.by_distance[head]
            mixed.append(torch.bmm(scores.softmax(dim=-1), value))
        return self.output(torch.cat(mixed, dim=-1))


def _query_with_a_one(attention: Attention) -> nn.Linear:
    """The scaled query projection, D -> H (d + 1), the last channel of each head a constant 1."""
    source, heads = attention.query, attention.heads
    with torch.no_grad():
        weight = source.weight.view(heads, -1, source.in_features) * attention.scaling
        bias = source.bias.view(heads, -1) * attention.scaling
        linear = nn.Linear(source.in_features, heads * (weight.shape[1] + 1))
        linear.weight.copy_(functional.pad(weight, (0, 0, 0, 1)).flatten(0, 1))
        linear.bias.copy_(functional.pad(bias, (0, 1), value=1.0).flatten())
    return linear


class FoldedLPA(AnyLengthLPA):
    """The hard form of one layer, over valid frames."""

    def forward(self, hidden: Tensor, context: Context) -> Tensor:  # type: ignore[override]
        """(B, T, D) -> (B, T, D)."""
        (shared,) = context.shared
        assert shared is not None
        mixed: Tensor = super().forward(hidden, shared)
        return mixed


class ShorteningConvolution(nn.Module):
    """A convolution of a length adapter and its gated linear unit."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv = copy.deepcopy(conv)
        self.silence = Silence()

    def forward(self, hidden: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), zero at padding; valid (B, T) -> the same of fewer frames."""
        hidden = functional.glu(self.conv(hidden.transpose(1, 2)), dim=1).transpose(1, 2)
        valid = carried(valid, self.conv)
        return self.silence(hidden, valid), valid

    def frames_after(self, lengths: Tensor) -> Tensor:
        """How many of (B,) valid frames are left."""
        conv = self.conv
        return frames_after(lengths, conv.kernel_size[0], conv.stride[0], int(conv.padding[0]))


def carried(mask: Tensor, conv: nn.Conv1d) -> Tensor:
    """The mask of valid frames (..., T) behind a convolution with padding: entries of it.

    Frame i of the output is there when its last tap ahead of the padding behind the end is.
    """
    last = conv.kernel_size[0] - 2 * int(conv.padding[0]) - 1
    if last < 0:
        mask = functional.pad(mask, (-last, 0), value=1)
    return mask[..., max(last, 0) :: conv.stride[0]]


BATCHED = Kit(
    normalise=Normalisation,
    convolution=Convolution,
    frames=Frames,
    linear=copy.deepcopy,
    norm=copy.deepcopy,
    silence=Silence,
    positional=Positional,
    prepare=Preparation,
    attention=KeyMaskedAttention,
    lpa=FoldedLPA,
    shorten=ShorteningConvolution,
)
"""Any batch, any length."""
