"""The kit of padded batches in pieces: no tensor is wider than the hidden states, however long.

Beside the front end these are the position embedding, whose convolution hears a few neighbours,
and the layers with LPA. Of such a layer the values and their sums, a quarter longer, are there as
a whole, one after the other; from there to its output a piece of time is done at once.
Feed-forward networks run in pieces of their width, in kept layers for their memory, and in all
because products of one size were a twentieth faster.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from lpa_export.hosts.parts import FeedForward, PositionalLayer
from lpa_export.layers.any_length import AnyLengthLPA
from lpa_export.layers.in_pieces import over_starts, rows_in_pieces, taken
from lpa_export.targets.batched import BATCHED, Context, Preparation
from lpa_export.targets.front_in_pieces import FeaturesInPieces
from lpa_export.targets.skeleton import EncoderLayer

__all__ = ["EMBEDDED_FRAMES", "IN_PIECES", "PositionalInPieces"]

EMBEDDED_FRAMES = 1000
"""Frames whose position embedding is computed at a time at most."""

MIXED_FRAMES = 512
"""Frames that a layer with LPA takes at a time at most."""


class PositionalInPieces(nn.Module):
    """A layer of the convolutional position embedding."""

    def __init__(self, layer: PositionalLayer) -> None:
        super().__init__()
        self.conv = copy.deepcopy(layer.conv)
        before, kernel = int(self.conv.padding[0]), self.conv.kernel_size[0]
        self.around = before, kernel - 1 - before
        self.conv.padding = (0,)
        self.norm = copy.deepcopy(layer.norm)
        self.activation = copy.deepcopy(layer.activation)

    def forward(self, hidden: Tensor, _valid: Tensor) -> Tensor:
        """hidden (B, T, D), zero at padding -> (B, T, D)."""
        return rows_in_pieces(self._embedded, hidden, EMBEDDED_FRAMES, around=self.around)

    def _embedded(self, hidden: Tensor) -> Tensor:
        """(B, n + kernel - 1, D) -> (B, n, D)."""
        embedded = self.conv(hidden.transpose(1, 2))
        if self.norm is not None:
            embedded = self.norm(embedded.transpose(1, 2)).transpose(1, 2)
        activated: Tensor = self.activation(embedded)
        return activated.transpose(1, 2)


class FeedForwardInColumns(nn.Module):
    """A feed-forward network, as many of its inner channels at a time as hidden states have.

    Each of them by itself goes through the activation, and what they add to the output is summed.
    """

    def __init__(self, part: FeedForward) -> None:
        super().__init__()
        self.activation = copy.deepcopy(part.activation)
        columns = part.contract.out_features
        inner = part.expand.out_features
        self.expand, self.contract = nn.ModuleList(), nn.ModuleList()
        for first in range(0, inner, columns):
            chosen = slice(first, first + columns)
            bias = part.contract.bias if first == 0 else None
            self.expand.append(_linear(part.expand.weight[chosen], part.expand.bias[chosen]))
            self.contract.append(_linear(part.contract.weight[:, chosen], bias))

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden (B, T, D) -> (B, T, D)."""
        parts = [
            contract(self.activation(expand(hidden)))
            for expand, contract in zip(self.expand, self.contract, strict=True)
        ]
        summed: Tensor = sum(parts[1:], parts[0])
        return summed


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        made.weight.copy_(weight)
        if bias is not None:
            made.bias.copy_(bias)
    return made


class LayerInPieces(EncoderLayer):
    """A layer of the encoder; with LPA, what does not need the whole length is done in pieces."""

    def forward(self, hidden: Tensor, context: Context) -> Tensor:
        """(B, T, D) -> (B, T, D), meaningless at padding."""
        if self.lpa is None:
            return super().forward(hidden, context)
        lpa, (shared,), pieces = self.lpa, context.shared, context.pieces
        assert isinstance(lpa, AnyLengthLPA) and shared is not None and pieces is not None
        collected = lpa.collected(self.heard(hidden), shared)
        total, size = hidden.shape[1], pieces.place.shape[0]
        side = lpa.config.kernel_size // 2
        beside = torch.arange(size + 2 * side, device=hidden.device) - side

        def piece(start: Tensor) -> tuple[Tensor]:
            around = start + beside
            rows = hidden.index_select(1, around.clamp(0, total - 1))
            inside = (around >= 0) & (around < shared.lengths)
            heard = self.heard(rows) * inside[..., None].to(rows.dtype)
            frames = shared.frames.at((start + pieces.place).clamp_max(total - 1))
            mixed = lpa.mixed(heard, frames, shared.fixed, collected)
            return (self.finished(rows.narrow(1, side, size), mixed),)

        (made,) = over_starts(piece, pieces.starts)
        return taken(made, pieces.joined)


IN_PIECES = replace(
    BATCHED,
    features=FeaturesInPieces,
    positional=PositionalInPieces,
    prepare=partial(Preparation, most=MIXED_FRAMES),
    lpa=AnyLengthLPA,
    feed_forward=FeedForwardInColumns,
    layer=LayerInPieces,
)
"""Any batch, any length."""
