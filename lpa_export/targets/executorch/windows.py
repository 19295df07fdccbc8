"""Windows that depend on the length of the utterance alone, for all LPA layers at once.

Computed before the first delegate, from the shape of the input: tensors of T x H numbers, which the
portable kernels make in no time. In float64, as the layer itself computes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lpa_export.layers.lpa import LPA

__all__ = ["Fixed", "FixedWindows", "Frames", "Utterance", "Window"]


class Frames(NamedTuple):
    """The frames of an utterance, (T, 1) float32 each, integers.

    `number`: 0 .. T - 1; `first`: -t, the offset of frame 0 from frame t; `left`: T - t.
    """

    number: Tensor
    first: Tensor
    left: Tensor


class Window(NamedTuple):
    """One fixed pulse: `start` and `end` (Q, H) float32, integers, and the rows of the prefix sums
    that they pick, `first` and `last` (Q * H,) int64. Q is T for a periodic pulse, 1 for a
    positional one.
    """

    start: Tensor
    end: Tensor
    first: Tensor
    last: Tensor


class Fixed(NamedTuple):
    """The fixed windows of one layer, one per pulse."""

    periodic: tuple[Window, ...]
    positional: tuple[Window, ...]


class Utterance(NamedTuple):
    """What depends on the length alone: the frames, the fixed windows of each LPA layer, and the
    host's position bias (H, T, T); None and empty where nothing asks for them.
    """

    frames: Frames | None
    fixed: Sequence[Fixed]
    by_distance: Tensor | None


class FixedWindows(nn.Module):
    """Periodic teeth and positional shares of all layers, stacked: (3 or 2, pulses, 1, H)."""

    teeth: Tensor
    shares: Tensor
    head: Tensor

    def __init__(self, layers: Sequence[LPA]) -> None:
        super().__init__()
        self.counts = [(layer.config.periodic, layer.config.positional) for layer in layers]
        windows = [layer.fixed_windows() for layer in layers]
        teeth = [torch.stack(teeth).mT for teeth, _ in windows if teeth is not None]
        shares = [torch.stack(shares).mT for _, shares in windows if shares is not None]
        for name, parts in (("teeth", teeth), ("shares", shares)):
            stacked = torch.cat(parts, dim=1)[:, :, None] if parts else torch.zeros(0)
            self.register_buffer(name, stacked.detach())
        heads = layers[0].config.num_heads
        self.register_buffer("head", torch.arange(heads, dtype=torch.float64))

    def forward(self, frames: int) -> tuple[Frames, list[Fixed]]:
        """For an utterance of `frames` frames: what layers share, and each layer's windows."""
        number = torch.arange(frames, dtype=torch.float64)[:, None]
        # The length as a tensor, from operators that every runtime has.
        total = torch.ones_like(number).sum(dim=0, keepdim=True)
        common = Frames(number.float(), (-number).float(), (total - number).float())
        periodic = self._periodic(number, total) if self.teeth.numel() else []
        positional = self._positional(total) if self.shares.numel() else []
        layers = []
        for teeth, shares in self.counts:
            layers.append(Fixed(tuple(periodic[:teeth]), tuple(positional[:shares])))
            periodic, positional = periodic[teeth:], positional[shares:]
        return common, layers

    def _periodic(self, number: Tensor, total: Tensor) -> list[Window]:
        period, phase, width = self.teeth.unbind()
        lower = phase + torch.floor((number + 0.5 - phase) / period) * period
        return self._clipped((lower - 0.5).ceil(), (lower + width - 0.5).ceil(), total)

    def _positional(self, total: Tensor) -> list[Window]:
        lower, upper = self.shares.unbind()
        return self._clipped((lower * total - 0.5).ceil(), (upper * total - 0.5).ceil(), total)

    def _clipped(self, starts: Tensor, ends: Tensor, total: Tensor) -> list[Window]:
        """Windows per pulse of edges (pulses, Q, H), clipped as `clip_windows` does.

        Everything is unstacked in types that XNNPACK leaves alone: it takes slices of a fixed size,
        and would be cut in two by them.
        """
        starts = torch.minimum(starts, total - 1.0).clamp_min(0.0)
        ends = torch.maximum(torch.minimum(ends, total), starts + 1.0)
        rows = [(edges * float(self.head.numel()) + self.head).long() for edges in (starts, ends)]
        return [
            Window(start.float(), end.float(), first.view(-1), last.view(-1))
            for start, end, first, last in zip(starts, ends, *rows, strict=True)
        ]
