"""The hard form of LPA layers at any length: restarting sums and look-ups.

What depends on the utterances alone, not on their content, is made once for all layers: where the
rows of the sums lie, and the windows of teeth and shares.
"""

import copy
import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpa_export.layers.band import inside, relative_windows
from lpa_export.layers.controls import read_controls
from lpa_export.layers.lpa import LPA
from lpa_export.layers.restarting_sums import (
    Edges,
    Layout,
    edge_rows,
    layout,
    local_sums,
    restarting,
    restarting_sums,
    window_means,
)
from lpa_export.layers.windows import (
    clip_windows,
    positional_windows,
    tooth_numbers,
    tooth_windows,
)


class Fixed(NamedTuple):
    """Windows of one layer that no content moves, (B, W, H): all teeth of a tooth's pulses side by
    side, then the shares. starts, ends: where they are looked up; widths: float64. shares: starts
    and ends of the shares, (B, 1, K_s, H) each, whole numbers in the dtype of the layer.
    """

    starts: Edges
    ends: Edges
    widths: Tensor
    shares: tuple[Tensor, Tensor]


class Shared(NamedTuple):
    """What a layer knows of B utterances of T frames, the same for all layers but for `fixed`,
    its own. valid: (B, T) bool. frame: (T, 1, 1), its number; left: (B, T, 1, 1), frames from it
    to the end; in the dtype of the layers.
    """

    valid: Tensor
    frame: Tensor
    left: Tensor
    rows: Layout
    fixed: Fixed | None


class Sharing(nn.Module):
    """Makes a `Shared` for each of some layers of one shape. Periods and shares are in float64."""

    teeth: Tensor
    shares: Tensor

    def __init__(self, layers: Sequence[LPA]) -> None:
        super().__init__()
        self.config = layers[0].config
        self.count = len(layers)
        windows = [layer.fixed_windows() for layer in layers]
        # (3 or 2, layers * K, H)
        teeth = [torch.stack(teeth).mT for teeth, _ in windows if teeth is not None]
        shares = [torch.stack(shares).mT for _, shares in windows if shares is not None]
        for name, parts in (("teeth", teeth), ("shares", shares)):
            stacked = torch.cat(parts, dim=1) if parts else torch.zeros(0, dtype=torch.float64)
            self.register_buffer(name, stacked.detach())
        self.shortest = max(1, math.floor(self.teeth[0].min())) if teeth else 1

    def forward(self, hidden: Tensor, valid: Tensor) -> list[Shared]:
        """hidden (B, T, ...) gives its shape and dtype; valid (B, T) bool."""
        frame = torch.arange(hidden.shape[1], device=hidden.device).to(hidden.dtype)[:, None, None]
        # An utterance without frames keeps the window (0, 1), so that an index stays in range.
        lengths = valid.sum(dim=1).clamp_min(1)
        left = lengths[:, None, None, None] - frame
        # As many frame centres as fit into the width, and one more for an edge that is rounded.
        how = restarting(math.ceil(self.config.max_width) + 1)
        rows = layout(how, hidden, self.config.num_heads)
        fixed = self._fixed(rows, lengths, hidden)
        return [Shared(valid, frame, left, rows, own) for own in fixed]

    def _fixed(self, rows: Layout, lengths: Tensor, hidden: Tensor) -> Sequence[Fixed | None]:
        """Of each layer. Teeth are those of all T frames, clipped to lengths (B,)."""
        windows = []
        if self.teeth.numel():
            period, phase, width = self.teeth
            # The tooth of frame T - 1 is at most (T - 1) / P + 1 behind that of frame 0.
            behind = torch.arange(hidden.shape[1] // self.shortest + 2, device=hidden.device)
            number = tooth_numbers(period, phase, 1) + behind[:, None, None]
            edges = tooth_windows(period, phase, width, number)
            clipped = clip_windows(*edges, lengths[:, None, None, None])
            windows.append(
                [part.unflatten(2, (self.count, -1)).transpose(1, 2) for part in clipped]
            )
        if self.shares.numel():
            lower, upper = self.shares
            clipped = positional_windows(lower, upper, lengths)
            windows.append([part.unflatten(1, (self.count, 1, -1)) for part in clipped])
        if not windows:
            return [None] * self.count
        # (layers, B, W, H)
        starts, ends = (
            torch.cat([part.flatten(2, 3) for part in parts], dim=2).transpose(0, 1)
            for parts in zip(*windows, strict=True)
        )
        first, last = edge_rows(rows, starts), edge_rows(rows, ends)
        shares = starts.shape[2] - self.config.positional
        whole = [edges[:, :, None, shares:].to(hidden.dtype) for edges in (starts, ends)]
        tables = (*first, *last, (ends - starts).double(), *whole)
        return [
            Fixed(Edges(*made[:2]), Edges(*made[2:4]), made[4], made[5:])
            for made in zip(*(table.unbind() for table in tables), strict=True)
        ]


class AnyLengthLPA(nn.Module):
    """One of the layers that a `Sharing` was made for."""

    teeth: Tensor

    def __init__(self, lpa: LPA) -> None:
        super().__init__()
        self.config = lpa.config
        self.value = copy.deepcopy(lpa.value)
        self.context = copy.deepcopy(lpa.context)
        self.controls = copy.deepcopy(lpa.controls)
        self.output = copy.deepcopy(lpa.output)
        teeth, _ = lpa.fixed_windows()
        if teeth is not None:
            period, phase = teeth.period.mT, teeth.phase.mT
            # Teeth are counted from that of frame 0, a row for each pulse and head.
            first = tooth_numbers(period, phase, 1)[0] * period.numel()
            own = torch.arange(period.numel()).view_as(period) - first
            self.register_buffer("teeth", torch.stack([period, phase, own]).detach())
        self.requires_grad_(False)

    def forward(self, hidden: Tensor, shared: Shared) -> Tensor:
        """(B, T, D) -> (B, T, D), anything at padding.

        Tensors are as wide as hidden at most, but for the sums, which overlap by their reach.
        """
        config, rows = self.config, shared.rows
        # Only the convolution looks past the end. No window does, so that values need no mask.
        silent = hidden.masked_fill(~shared.valid[..., None], 0.0)
        controls = read_controls(self._control_logits(silent), config)
        counts = (config.aperiodic, config.periodic, config.positional)
        aperiodic, periodic, positional = controls.amplitudes.split(counts, dim=-1)
        sums = restarting_sums(self.value(hidden), config.head_size, rows)
        terms: list[Tensor] = []
        if config.aperiodic:
            edges = (controls.lower, controls.upper, -shared.frame, shared.left)
            starts, ends = relative_windows(*edges)
            widths = ends - starts
            weights = (aperiodic / widths).split(1, dim=-1)
            picked = local_sums(sums, rows, starts + shared.frame, widths)
            terms.extend(part * weight for part, weight in zip(picked, weights, strict=True))
        means, fixed = None, shared.fixed
        if fixed is not None:
            means = window_means(sums, fixed.starts, fixed.ends, fixed.widths)
        if config.periodic:
            assert means is not None
            weights = periodic.split(1, dim=-1)
            own = self._own_teeth(means, shared)
            terms.extend(part * weight for part, weight in zip(own, weights, strict=True))
        mixed = [reduce(torch.add, terms).flatten(2)] if terms else []
        if config.positional:
            assert means is not None and fixed is not None
            weights = (positional.mT * inside(shared.frame, *fixed.shares)).flatten(2)
            mixed.append(weights @ _block_diagonal(means[:, -config.positional :]))
        output: Tensor = self.output(reduce(torch.add, mixed))
        return output

    def _control_logits(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, controls).

        The convolution as one of images: for those ONNX Runtime has a depthwise kernel that takes
        an eighth of the time, and reads and writes channels last.
        """
        image = hidden[:, None].permute(0, 3, 1, 2)
        kernel = self.context.weight[:, :, None]
        sides = (0, self.config.kernel_size // 2)
        context = functional.conv2d(image, kernel, padding=sides, groups=kernel.shape[0])
        logits: Tensor = self.controls(context.permute(0, 2, 3, 1).squeeze(1))
        return logits

    def _own_teeth(self, means: Tensor, shared: Shared) -> list[Tensor]:
        """For each periodic pulse the mean of each frame's own tooth, (B, T, H, d)."""
        period, phase, own = self.teeth
        number = ((shared.frame.double() + 0.5 - phase) / period).floor()
        rows = (number * float(period.numel()) + own).long()
        batch, windows, heads, _ = means.shape
        utterance = torch.arange(batch, device=means.device)[:, None, None, None]
        rows = rows + utterance * (windows * heads)
        table = means.flatten(0, 2)
        return [functional.embedding(rows[:, :, k], table) for k in range(self.config.periodic)]


class AnyLength(nn.Module):
    """One layer by itself."""

    def __init__(self, lpa: LPA) -> None:
        super().__init__()
        self.sharing = Sharing([lpa])
        self.layer = AnyLengthLPA(lpa)

    def forward(self, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """hidden (B, T, D), valid bool (B, T) or None for all -> (B, T, D), anything at padding."""
        if valid is None:
            valid = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        (shared,) = self.sharing(hidden, valid)
        mixed: Tensor = self.layer(hidden, shared)
        return mixed


def _block_diagonal(means: Tensor) -> Tensor:
    """(B, K, H, d) -> (B, K * H, H * d), each head's mean in its own channels, else zeros.

    A product with it takes the weights of all heads and pulses at once, and transposes nothing.
    """
    heads = means.shape[2]
    own = torch.eye(heads, dtype=means.dtype, device=means.device)[:, :, None]
    return (means[:, :, :, None] * own).flatten(3).flatten(1, 2)
