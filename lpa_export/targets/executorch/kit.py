"""The kit of one utterance of exact length, in operators that XNNPACK takes.

XNNPACK has no layer norm, no group norm, no slice of a dynamic axis and no odd reshape. A mean over
channels is a product with a constant here, heads are an axis of a batched product, and an uneven
padding is a padding of its own. Time is the only dynamic axis, and the last of an image
(1, C, 1, T) where there is a convolution, the first of a matrix (T, D) elsewhere.

A batch of one needs no padding, and so no mask: the state of the front end, the mask and the
context are all the same `Utterance`, made from the shape of the waveform before anything else.
"""

from __future__ import annotations

import copy
import math
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpa_export.formats.manifest import NORMALISATION_EPSILON
from lpa_export.hosts.parts import Attention, FeatureLayer, Levelling, Parts, PositionalLayer
from lpa_export.layers import LPA
from lpa_export.targets.executorch.prefix_sum import PrefixSumLPA
from lpa_export.targets.executorch.shapes import to_image, to_matrix
from lpa_export.targets.executorch.windows import Utterance
from lpa_export.targets.position_bias import gates_of_heads
from lpa_export.targets.rows import row_convolution
from lpa_export.targets.skeleton import Kit

__all__ = ["exact_kit", "group_size"]


class Waveform(nn.Module):
    """The waveform without its mean, or at unit variance too, cut into groups.

    In float64, outside any delegate: these sums run over the whole utterance. Both are taken of
    the input itself, so that they stand before the first delegate and cut nothing in two.
    """

    def __init__(self, levelling: Levelling, group: int) -> None:
        super().__init__()
        self.levelling = levelling
        self.group = group

    def forward(self, waveform: Tensor, utterance: Utterance) -> tuple[Tensor, Utterance]:
        """(1, samples) -> (1, group, 1, samples // group) float32.

        The last samples, fewer than a group, are in no frame.
        """
        samples = waveform.double()
        if self.levelling != "none":
            mean = samples.mean(dim=1, keepdim=True)
            centred = samples - mean
            if self.levelling == "mean and variance":
                variance = (samples * samples).mean(dim=1, keepdim=True) - mean * mean
                centred = centred * torch.rsqrt(variance.clamp_min(0.0) + NORMALISATION_EPSILON)
            samples = centred
        groups = samples.unfold(1, self.group, self.group)[0, ..., None, None]
        return groups.permute(2, 1, 3, 0).float(), utterance


def group_size(first: nn.Conv1d) -> int:
    """Samples that become channels of the first convolution.

    The greatest group that kernel and stride are multiples of: 80 for kernel 400, stride 160. A
    convolution of one channel is slow, and XNNPACK cannot quantise it.
    """
    return math.gcd(first.kernel_size[0], first.stride[0])


def grouped(source: nn.Conv1d) -> nn.Conv2d:
    """The first convolution over groups of samples as channels."""
    kernel, stride, group = source.kernel_size[0], source.stride[0], group_size(source)
    made = nn.Conv2d(
        group,
        source.out_channels,
        (1, kernel // group),
        stride=(1, stride // group),
        bias=source.bias is not None,
    )
    with torch.no_grad():
        made.weight.copy_(source.weight.view(-1, 1, kernel // group, group).permute(0, 3, 1, 2))
        if source.bias is not None and made.bias is not None:
            made.bias.copy_(source.bias)
    return made


class LayerNorm(nn.Module):
    """Layer norm over the channels of (T, D); the two means are products with a column of 1 / D."""

    share: Tensor

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        width = norm.normalized_shape[0]
        self.register_buffer("share", torch.full((1, width), 1.0 / width))
        self.weight, self.bias = copy.deepcopy(norm.weight), copy.deepcopy(norm.bias)
        self.epsilon = norm.eps

    def forward(self, hidden: Tensor) -> Tensor:
        """(T, D) -> (T, D)."""
        centred = hidden - functional.linear(hidden, self.share)
        variance = functional.linear(centred * centred, self.share)
        return centred * torch.rsqrt(variance + self.epsilon) * self.weight + self.bias


class ChannelNorm(LayerNorm):
    """Layer norm over the channels of an image (1, C, 1, T)."""

    def forward(self, image: Tensor) -> Tensor:
        """(1, C, 1, T) -> (1, C, 1, T)."""
        return to_image(super().forward(to_matrix(image)))


class TimeNorm(nn.Module):
    """GroupNorm with one channel a group (wav2vec2-base's first layer): statistics over time."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        if norm.num_groups != norm.num_channels:
            raise ValueError(f"expected one channel a group, found {norm.num_groups} groups")
        self.weight = nn.Parameter(norm.weight.detach().clone()[:, None, None])
        self.bias = nn.Parameter(norm.bias.detach().clone()[:, None, None])
        self.epsilon = norm.eps

    def forward(self, image: Tensor) -> Tensor:
        """(1, C, 1, T) -> (1, C, 1, T)."""
        centred = image - image.mean((2, 3), keepdim=True)
        variance = (centred * centred).mean((2, 3), keepdim=True)
        return centred * (torch.rsqrt(variance + self.epsilon) * self.weight) + self.bias


class Convolution(nn.Module):
    """One convolution of the front end with its norm, if it has one, and its activation."""

    def __init__(self, layer: FeatureLayer) -> None:
        super().__init__()
        first = layer.conv.in_channels == 1
        self.conv = grouped(layer.conv) if first else row_convolution(layer.conv)
        self.norm: nn.Module = nn.Identity()
        if isinstance(layer.norm, nn.GroupNorm):
            self.norm = TimeNorm(layer.norm)
        elif layer.norm is not None:
            self.norm = ChannelNorm(layer.norm)
        self.activation = copy.deepcopy(layer.activation)

    def forward(self, image: Tensor, utterance: Utterance) -> tuple[Tensor, Utterance]:
        """(1, C, 1, T) -> (1, C', 1, T')."""
        return self.activation(self.norm(self.conv(image))), utterance


class Features(nn.Module):
    """(1, C, 1, T) -> (T, C)."""

    def forward(self, image: Tensor, utterance: Utterance) -> tuple[Tensor, Utterance]:
        """See the class."""
        return to_matrix(image), utterance


class Everything(nn.Module):
    """Nothing is padding: hidden states stay as they are."""

    def forward(self, hidden: Tensor, _utterance: Utterance) -> Tensor:
        """See the class."""
        return hidden


class Prepared(nn.Module):
    """The context was made before the front end: `Utterance` as it is."""

    def __init__(self, _parts: Parts) -> None:
        super().__init__()

    def forward(self, _hidden: Tensor, utterance: Utterance) -> Utterance:
        """See the class."""
        return utterance


class Positional(nn.Module):
    """A layer of the convolutional position embedding.

    An even kernel pads one frame less on the right: Hugging Face drops the frame too many instead,
    which would be a slice of a dynamic axis.
    """

    def __init__(self, layer: PositionalLayer) -> None:
        super().__init__()
        reach = int(layer.conv.padding[0])
        self.conv = row_convolution(layer.conv)
        self.padding = (reach, reach - layer.trim)
        self.norm = None if layer.norm is None else ChannelNorm(layer.norm)
        self.activation = copy.deepcopy(layer.activation)

    def forward(self, hidden: Tensor, _utterance: Utterance) -> Tensor:
        """(T, D) -> (T, D)."""
        embedded = self.conv(functional.pad(to_image(hidden), self.padding))
        if self.norm is not None:
            embedded = self.norm(embedded)
        return to_matrix(self.activation(embedded))


class SelfAttention(nn.Module):
    """Self-attention over one utterance: heads are the batch of two products, nothing is masked."""

    constant: Tensor

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads = attention.heads
        self.query, self.key = copy.deepcopy(attention.query), copy.deepcopy(attention.key)
        self.value, self.output = copy.deepcopy(attention.value), copy.deepcopy(attention.output)
        with torch.no_grad():
            self.query.weight.mul_(attention.scaling)
            self.query.bias.mul_(attention.scaling)
        # Two maps, for XNNPACK does not cut a tensor of dynamic length.
        gates = None if attention.gate is None else gates_of_heads(attention)
        self.gate = None if gates is None else nn.ModuleList(_halves(gates))
        if attention.gate is not None:
            self.register_buffer("constant", attention.gate.constant.detach().view(1, -1))

    def forward(self, hidden: Tensor, utterance: Utterance) -> Tensor:
        """(T, D) -> (T, D)."""
        query, key, value = (
            projection(hidden).view(-1, self.heads, hidden.shape[1] // self.heads).permute(1, 0, 2)
            for projection in (self.query, self.key, self.value)
        )
        scores = torch.bmm(query, key.transpose(1, 2))
        if self.gate is not None and utterance.by_distance is not None:
            first, second = (torch.sigmoid(gate(hidden)) for gate in self.gate)
            gates = first * (second * self.constant - 1.0) + 2.0
            scores = scores + gates.permute(1, 0)[..., None] * utterance.by_distance
        mixed = torch.bmm(scores.softmax(dim=-1), value).permute(1, 0, 2)
        # `reshape` would ask whether there is one frame, and so exclude it.
        rows = mixed.clone(memory_format=torch.contiguous_format).view(-1, hidden.shape[1])
        return self.output(rows)


def _halves(gates: nn.Linear) -> list[nn.Linear]:
    """The map to all a, and that to all b."""
    halves = []
    for weight, bias in zip(gates.weight.chunk(2), gates.bias.chunk(2), strict=True):
        half = nn.Linear(weight.shape[1], weight.shape[0])
        half.load_state_dict({"weight": weight, "bias": bias})
        halves.append(half)
    return halves


class Shortening(nn.Module):
    """A convolution of a length adapter and its gated linear unit, as two convolutions."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        reach = int(conv.padding[0])
        self.padding = (reach, reach)
        self.halves = nn.ModuleList()
        assert conv.bias is not None
        for weight, bias in zip(conv.weight.chunk(2), conv.bias.chunk(2), strict=True):
            half = nn.Conv1d(
                conv.in_channels, weight.shape[0], conv.kernel_size[0], stride=conv.stride[0]
            )
            half.load_state_dict({"weight": weight, "bias": bias})
            self.halves.append(row_convolution(half))

    def forward(self, hidden: Tensor, utterance: Utterance) -> tuple[Tensor, Utterance]:
        """(T, D) -> (T', D), fewer frames; of the utterance nothing is asked any more."""
        image = functional.pad(to_image(hidden), self.padding)
        values, gates = (half(image) for half in self.halves)
        return to_matrix(values * torch.sigmoid(gates)), utterance


def exact_kit(parts: Parts) -> Kit:
    """The kit for a host whose first convolution is known: it decides how samples are grouped."""
    group = group_size(parts.features[0].conv)
    replaced = count()

    def lpa(layer: LPA) -> nn.Module:
        # Windows of fixed pulses are made for all layers at once; each picks its own.
        return PrefixSumLPA(layer, next(replaced))

    return Kit(
        normalise=lambda levelling: Waveform(levelling, group),
        convolution=Convolution,
        frames=Features,
        linear=copy.deepcopy,
        norm=LayerNorm,
        silence=Everything,
        positional=Positional,
        prepare=Prepared,
        attention=SelfAttention,
        lpa=lpa,
        shorten=Shortening,
    )
