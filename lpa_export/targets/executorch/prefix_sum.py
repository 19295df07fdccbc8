"""LPA for one utterance by prefix sums, any length, one cut of the delegate per layer.

Edges, amplitudes and weighted sums are elementwise and stay with the delegate; the cumulative sum
and the rows picked from it are the work of the portable kernels. The sums are in float32: float64
took twice the time of the whole layer (23 against 11 ms at 10 s, wav2vec2-base), and on 105 s of
speech the shipped model's logits lie 144 dB from those with float64.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpa_export.layers.band import inside
from lpa_export.layers.lpa import LPA
from lpa_export.targets.executorch.controls import PulseControls
from lpa_export.targets.executorch.windows import Frames, Utterance, Window

__all__ = ["PrefixSumLPA"]


class PrefixSumLPA(nn.Module):
    """The hard form of one layer."""

    head: Tensor

    def __init__(self, lpa: LPA, number: int) -> None:
        """`number`: which of the LPA layers this is, the first is 0."""
        super().__init__()
        self.config = lpa.config
        self.number = number
        self.value, self.output = copy.deepcopy(lpa.value), copy.deepcopy(lpa.output)
        self.controls = PulseControls(lpa)
        self.register_buffer("head", torch.arange(lpa.config.num_heads, dtype=torch.float32))

    def forward(self, hidden: Tensor, utterance: Utterance) -> Tensor:
        """(T, D) -> (T, D)."""
        config, frames, fixed = self.config, utterance.frames, utterance.fixed[self.number]
        assert frames is not None
        # A row of zeros in front: row i of the sums is that of the first i frames.
        values = functional.pad(self.value(hidden), (0, 0, 1, 0))
        # Not -1: XNNPACK would take this view, and be cut in two by it.
        rows = values.shape[0] * config.num_heads
        sums = values.cumsum(dim=0).view(rows, config.head_size)
        edges, amplitudes = self.controls(hidden)
        aperiodic = [self._window(lower, upper, frames) for lower, upper in edges]
        windows = (*aperiodic, *fixed.periodic, *fixed.positional)
        local = len(aperiodic) + len(fixed.periodic)
        terms = []
        for position, (window, amplitude) in enumerate(zip(windows, amplitudes, strict=True)):
            gate = amplitude
            if position >= local:
                gate = amplitude * inside(frames.number, window.start, window.end)
            picked = sums.index_select(0, window.last) - sums.index_select(0, window.first)
            totals = picked.view(-1, config.num_heads, config.head_size)
            terms.append(totals * (gate / (window.end - window.start))[..., None])
        return self.output(sum(terms[1:], terms[0]).view(-1, config.hidden_size))

    def _window(self, lower: Tensor, upper: Tensor, frames: Frames) -> Window:
        """The hard window (T, H) of edges relative to each frame's centre: `clip_windows`."""
        starts = torch.minimum(torch.maximum(lower.ceil(), frames.first), frames.left - 1.0)
        ends = torch.maximum(torch.minimum(upper.ceil(), frames.left), starts + 1.0)
        starts, ends = starts + frames.number, ends + frames.number
        first, last = (
            (edges * float(self.config.num_heads) + self.head).view(-1).long()
            for edges in (starts, ends)
        )
        return Window(starts, ends, first, last)
