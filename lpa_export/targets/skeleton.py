"""One model = host x kit: the order of a speech encoder, written once for all targets.

A host says what a model is made of (`lpa_export.hosts.parts`), a kit says what stands for each
part in the layout of one target. What joins them is here and nowhere else: the order of the
stages, the residuals of a layer with norms before or behind its halves, where padding is
silenced, and the taps at which artifact and reference are compared.

    waveform -> normalise -> features -> projection -> embed -> layers -> decode -> logits

A target derives the program that it traces from `Skeleton` and writes its `forward`: what goes in
and out is the one thing about a model that a kit cannot say.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lpa_export.hosts.parts import (
    Adapter,
    Attention,
    FeatureLayer,
    FeedForward,
    Layer,
    LengthAdapter,
    Levelling,
    Parts,
    PositionalLayer,
)
from lpa_export.layers import LPA

__all__ = ["Kit", "Skeleton", "keeps_float"]


@dataclass(frozen=True)
class Kit:
    """What stands for each part of a host in one target's layout: builders of modules.

    Shapes are the target's own. Three things go along with the hidden states, and only the kit
    knows what they are: the *state* of the front end (lengths, say), the *mask* that it ends in,
    and the *context*, all that is prepared once for a length (masks, ramps, position bias).
    """

    normalise: Callable[[Levelling], nn.Module]
    """What takes so much out: (waveform, state) -> samples as the first convolution takes them,
    state."""
    convolution: Callable[[FeatureLayer], nn.Module]
    """A layer of the front end: (image, state) -> (image, state)."""
    frames: Callable[[], nn.Module]
    """(image, state) -> features in the layout of the encoder, mask."""
    linear: Callable[[nn.Linear], nn.Module]
    """hidden -> hidden."""
    norm: Callable[[nn.LayerNorm], nn.Module]
    """Over the channels: hidden -> hidden."""
    silence: Callable[[], nn.Module]
    """(hidden, mask) -> hidden with nothing at padding."""
    positional: Callable[[PositionalLayer], nn.Module]
    """Convolution (its length kept), norm and activation of a positional layer, not what scales
    its input: (hidden, mask) -> hidden."""
    prepare: Callable[[Parts], nn.Module]
    """(hidden, mask) -> context."""
    attention: Callable[[Attention], nn.Module]
    """(hidden, context) -> hidden."""
    lpa: Callable[[LPA], nn.Module]
    """(hidden, context) -> hidden."""
    shorten: Callable[[nn.Conv1d], nn.Module]
    """A convolution of a length adapter and its gated linear unit:
    (hidden, mask) -> (hidden, mask), silent at padding."""
    features: Callable[[Parts], nn.Module] | None = None
    """The whole front end, where it is another than `normalise`, each `convolution` and `frames`
    behind one another: (waveform, state) -> features in the layout of the encoder, mask, state."""
    feed_forward: Callable[[FeedForward], nn.Module] | None = None
    """Where it is another than two of `linear` and the activation between: hidden -> hidden."""
    layer: Callable[[Layer, Kit, bool], nn.Module] | None = None
    """A layer of the encoder, where it is another than `EncoderLayer`; of `norm_first` too:
    (hidden, context) -> hidden."""


class Skeleton(nn.Module):
    """The parts of a host in a kit's modules, all of them or one end of the model.

    `front_end`, `encoder`: whether `front` and `encode` can be called. Weights are copied, the
    caller's model stays as it is; nothing is to be trained.
    """

    def __init__(
        self, parts: Parts, kit: Kit, *, front_end: bool = True, encoder: bool = True
    ) -> None:
        super().__init__()
        self.norm_first = parts.norm_first
        if front_end:
            self.features = Features(parts, kit) if kit.features is None else kit.features(parts)
            self.projection = Projection(parts, kit)
        if encoder:
            self.silence = kit.silence()
            self.positional = positional(parts.positional, kit)
            self.norm = kit.norm(parts.norm)
            self.prepare = kit.prepare(parts)
            made = kit.layer or EncoderLayer
            self.layers = nn.ModuleList(
                made(layer, kit, parts.norm_first) for layer in parts.layers
            )
            adapter = parts.length_adapter
            self.length_adapter = None if adapter is None else Shortening(adapter, kit)
            self.head = kit.linear(parts.head)
        self.eval().requires_grad_(False)

    def front(self, waveform: Tensor, state: Any = None) -> tuple[Tensor, Tensor, Any, Any]:
        """Features, projected features, the mask of their frames, and the state behind them."""
        features, mask, state = self.features(waveform, state)
        return features, self.projection(features), mask, state

    def encode(self, projected: Tensor, mask: Any) -> list[Tensor]:
        """Logits, then the embedded input and the output of each layer."""
        hidden, context = self.start(projected, mask)
        taps = [hidden]
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden, self.own(context, index))
            taps.append(hidden)
        return [self.decode(hidden, mask), *taps]

    def start(self, projected: Tensor, mask: Any) -> tuple[Tensor, Any]:
        """The input of the first layer, and the context."""
        hidden = self.embed(projected, mask)
        return hidden, self.prepare(hidden, mask)

    def own(self, context: Any, index: int) -> Any:
        """What of the context layer `index` has to know."""
        return context

    def embed(self, projected: Tensor, mask: Any) -> Tensor:
        """The input of the first layer: the position embedding is added."""
        # Its convolutions look past the end: there must be nothing.
        hidden = self.silence(projected, mask)
        hidden = hidden + self.positional(hidden, mask)
        return hidden if self.norm_first else self.norm(hidden)

    def decode(self, hidden: Tensor, mask: Any) -> Tensor:
        """Logits from the output of the last layer."""
        if self.norm_first:
            hidden = self.norm(hidden)
        if self.length_adapter is not None:
            hidden = self.length_adapter(hidden, mask)
        logits: Tensor = self.head(hidden)
        return logits


# The head, which no later layer forgives, and what leads to window edges and gates of a position
# bias: an error there moves edges by whole frames. All of them are small.
_KEPT_IN_FLOAT = frozenset({"head", "context", "controls", "edges", "gate"})


def keeps_float(path: str) -> bool:
    """Whether the weights of the module at `path` stay as they are in every scheme.

    One rule for all targets; `path` as in `named_modules()`, the module's own name or one above.
    """
    return not _KEPT_IN_FLOAT.isdisjoint(path.split("."))


class Features(nn.Module):
    """The normalised waveform through the convolutions of the front end."""

    def __init__(self, parts: Parts, kit: Kit) -> None:
        super().__init__()
        self.normalise = kit.normalise(parts.levelling)
        self.layers = nn.ModuleList(kit.convolution(layer) for layer in parts.features)
        self.frames = kit.frames()

    def forward(self, waveform: Tensor, state: Any) -> tuple[Tensor, Any, Any]:
        """Features in the layout of the encoder, the mask of their frames, the last state."""
        image, state = self.normalise(waveform, state)
        for layer in self.layers:
            image, state = layer(image, state)
        features, mask = self.frames(image, state)
        return features, mask, state


class Projection(nn.Module):
    """Features to the width of the encoder."""

    def __init__(self, parts: Parts, kit: Kit) -> None:
        super().__init__()
        norm = parts.feature_norm
        self.layer_norm = None if norm is None else kit.norm(norm)
        self.projection = kit.linear(parts.projection)

    def forward(self, features: Tensor) -> Tensor:
        """Features -> hidden."""
        if self.layer_norm is not None:
            features = self.layer_norm(features)
        projected: Tensor = self.projection(features)
        return projected


def positional(layers: Sequence[PositionalLayer], kit: Kit) -> nn.Module:
    """The position embedding, (hidden, mask) -> what is added to hidden."""
    made = [
        kit.positional(layer) if layer.affine is None else ScaledPositional(layer, kit)
        for layer in layers
    ]
    return made[0] if len(made) == 1 else PositionalChain(made, kit)


class ScaledPositional(nn.Module):
    """A positional layer with a batch norm before its convolution (some HuBERT)."""

    def __init__(self, layer: PositionalLayer, kit: Kit) -> None:
        super().__init__()
        assert layer.affine is not None
        self.affine = kit.linear(_diagonal(*layer.affine))
        self.silence = kit.silence()
        self.layer = kit.positional(layer)

    def forward(self, hidden: Tensor, mask: Any) -> Tensor:
        """hidden, silent at padding -> the same shape, anything at padding."""
        # The shift must not be heard behind the end.
        embedded: Tensor = self.layer(self.silence(self.affine(hidden), mask), mask)
        return embedded


class PositionalChain(nn.Module):
    """Several positional layers in a row (Data2Vec), padding silenced between them."""

    def __init__(self, layers: Sequence[nn.Module], kit: Kit) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.silence = kit.silence()

    def forward(self, hidden: Tensor, mask: Any) -> Tensor:
        """hidden, silent at padding -> the same shape, anything at padding."""
        first, *others = self.layers
        embedded: Tensor = first(hidden, mask)
        for layer in others:
            embedded = layer(self.silence(embedded, mask), mask)
        return embedded


class EncoderLayer(nn.Module):
    """One layer, norms before (`norm_first`) or behind its two halves."""

    def __init__(self, layer: Layer, kit: Kit, norm_first: bool) -> None:
        super().__init__()
        self.lpa = None if layer.lpa is None else kit.lpa(layer.lpa)
        self.attention = None if layer.attention is None else kit.attention(layer.attention)
        self.norm_first = norm_first
        self.norm = kit.norm(layer.norm)
        part = layer.feed_forward
        self.feed_forward = (
            FeedForwardNetwork(part, kit) if kit.feed_forward is None else kit.feed_forward(part)
        )
        self.final_norm = kit.norm(layer.final_norm)
        self.adapter = None if layer.adapter is None else Bottleneck(layer.adapter, kit)

    def forward(self, hidden: Tensor, context: Any) -> Tensor:
        """hidden -> hidden, meaningless at padding."""
        # What takes the place of attention: LPA, or attention itself.
        mix = self.lpa if self.lpa is not None else self.attention
        assert mix is not None
        return self.finished(hidden, mix(self.heard(hidden), context))

    def heard(self, hidden: Tensor) -> Tensor:
        """What is mixed of hidden."""
        normed: Tensor = self.norm(hidden) if self.norm_first else hidden
        return normed

    def finished(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """The output of the layer for its input and what was mixed of it, frame by frame."""
        if self.norm_first:
            hidden = hidden + mixed
            hidden = hidden + self.feed_forward(self.final_norm(hidden))
        else:
            hidden = self.norm(hidden + mixed)
            hidden = self.final_norm(hidden + self.feed_forward(hidden))
        return hidden if self.adapter is None else hidden + self.adapter(hidden)


class FeedForwardNetwork(nn.Module):
    """Two linear maps and the activation between them."""

    def __init__(self, part: FeedForward, kit: Kit) -> None:
        super().__init__()
        self.intermediate_dense = kit.linear(part.expand)
        self.intermediate_act_fn = copy.deepcopy(part.activation)
        self.output_dense = kit.linear(part.contract)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden -> hidden."""
        contracted: Tensor = self.output_dense(
            self.intermediate_act_fn(self.intermediate_dense(hidden))
        )
        return contracted


class Bottleneck(nn.Module):
    """The adapter behind a layer (MMS has one for each language)."""

    def __init__(self, part: Adapter, kit: Kit) -> None:
        super().__init__()
        self.norm = kit.norm(part.norm)
        self.down, self.up = kit.linear(part.down), kit.linear(part.up)
        self.activation = copy.deepcopy(part.activation)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden -> what is added to it."""
        added: Tensor = self.up(self.activation(self.down(self.norm(hidden))))
        return added


class Shortening(nn.Module):
    """The adapter behind the encoder: strided convolutions, fewer frames."""

    def __init__(self, part: LengthAdapter, kit: Kit) -> None:
        super().__init__()
        self.projection = None if part.projection is None else kit.linear(part.projection)
        self.norm = None if part.norm is None else kit.norm(part.norm)
        self.silence = kit.silence()
        self.layers = nn.ModuleList(kit.shorten(convolution) for convolution in part.convolutions)

    def forward(self, hidden: Tensor, mask: Any) -> Tensor:
        """hidden -> hidden of fewer frames."""
        if self.projection is not None:
            hidden = self.projection(hidden)
        if self.norm is not None:
            hidden = self.norm(hidden)
        hidden = self.silence(hidden, mask)
        for layer in self.layers:
            hidden, mask = layer(hidden, mask)
        return hidden


def _diagonal(scale: Tensor, shift: Tensor) -> nn.Linear:
    """The linear map that scales and shifts each channel."""
    made = nn.Linear(len(scale), len(scale))
    with torch.no_grad():
        made.weight.copy_(torch.diag(scale))
        made.bias.copy_(shift)
    return made
