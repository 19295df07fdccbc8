"""The hard form of LPA layers at any length: restarting sums and look-ups.

What depends on the utterances alone, not on their content, is made once for all layers: where the
rows of the sums lie, and the windows of teeth and shares. What needs the whole length of the values
comes next, their sums and the means of teeth and shares; what is left is the same for any piece of
the frames.
"""

import copy
import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpa_export.layers.band import relative_windows
from lpa_export.layers.config import LPAConfig
from lpa_export.layers.lpa import LPA
from lpa_export.layers.restarting_sums import (
    Layout,
    Sums,
    Windows,
    layout,
    local_sums,
    own_rows,
    restarting,
    restarting_sums,
    window_means,
    windows_of,
)
from lpa_export.layers.windows import (
    clip_windows,
    positional_windows,
    tooth_numbers,
    tooth_windows,
)


class Fixed(NamedTuple):
    """Windows of one layer that no content moves: all teeth of a tooth's pulses side by side, then
    the shares. windows: (1, B, W, H). before, ends: of the shares, (1, B, 1, K_s * H) each, the
    frame before the start and the end, whole numbers in the dtype of the layer.
    """

    windows: Windows
    before: Tensor
    ends: Tensor


class Frames(NamedTuple):
    """What a layer knows of n frames. frame: (n, 1), its number; left: (B, n, 1), frames from it to
    the end, 1 at padding; in the dtype of the layers. centre: (n, 1), its centre in float64. own:
    (B, n, 1) int64, of `own_rows`.
    """

    frame: Tensor
    left: Tensor
    centre: Tensor
    own: Tensor

    def at(self, places: Tensor) -> "Frames":
        """Those at places (n,)."""
        return Frames(*(part.index_select(part.dim() - 2, places) for part in self))


class Shared(NamedTuple):
    """What a layer knows of B utterances of T frames, the same for all layers but for `fixed`,
    its own. lengths: (B, 1) int64.
    """

    lengths: Tensor
    frames: Frames
    rows: Layout
    fixed: Fixed | None


class Means(NamedTuple):
    """Means of the fixed windows. table: (B * W * H, d), utterances begin at rows `first`
    (B, 1, 1). shares: (B, K_s * H, H * d), each head's in its own channels, else zeros.
    """

    table: Tensor
    first: Tensor
    shares: Tensor | None


class Collected(NamedTuple):
    """What a layer has to know of all frames before it can mix any."""

    sums: Sums
    means: Means | None


class Sharing(nn.Module):
    """Makes a `Shared` for each of some layers of one shape. Periods and shares are in float64.

    `in_pieces`: of `Restarting`.
    """

    teeth: Tensor
    shares: Tensor

    def __init__(self, layers: Sequence[LPA], *, in_pieces: bool = False) -> None:
        super().__init__()
        self.config = layers[0].config
        self.count = len(layers)
        # No edge is further from its frame than the band, nor one that is moved into the utterance.
        self.how = restarting(self.config.band + 1, in_pieces=in_pieces)
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
        number = torch.arange(hidden.shape[1], device=hidden.device)
        # An utterance without frames keeps the window (0, 1), so that an index stays in range.
        lengths = valid.sum(dim=1, keepdim=True).clamp_min(1)
        rows = layout(self.how, hidden, self.config.num_heads)
        frames = Frames(
            number[:, None].to(hidden.dtype),
            (lengths - number).clamp_min(1)[..., None].to(hidden.dtype),
            number[:, None].double() + 0.5,
            own_rows(rows, number),
        )
        fixed = self._fixed(rows, lengths[:, 0], hidden)
        return [Shared(lengths, frames, rows, own) for own in fixed]

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
        shares = starts.shape[2] - self.config.positional
        before, last = (
            edges[:, :, shares:].flatten(2)[:, :, None].to(hidden.dtype)
            for edges in (starts - 1, ends)
        )
        tables = (*windows_of(rows, starts, ends), before, last)
        return [
            Fixed(Windows(*made[:5]), *made[5:])
            for made in zip(*(table.split(1) for table in tables), strict=True)
        ]


class AnyLengthLPA(nn.Module):
    """One of the layers that a `Sharing` was made for."""

    scale: Tensor
    shift: Tensor
    period: Tensor
    phase: Tensor
    own_tooth: Tensor

    def __init__(self, lpa: LPA) -> None:
        super().__init__()
        self.config = lpa.config
        self.value = copy.deepcopy(lpa.value)
        self.context = copy.deepcopy(lpa.context)
        self.controls = _by_pulse(lpa.controls, lpa.config)
        scale, shift = _scale_and_shift(lpa.config)
        self.register_buffer("scale", scale.to(lpa.value.weight))
        self.register_buffer("shift", shift.to(lpa.value.weight))
        self.output = copy.deepcopy(lpa.output)
        teeth, _ = lpa.fixed_windows()
        if teeth is not None:
            period, phase = teeth.period.mT, teeth.phase.mT
            # Teeth are counted from that of frame 0, a row for each pulse and head.
            first = tooth_numbers(period, phase, 1)[0] * period.numel()
            own = torch.arange(period.numel()).view_as(period) - first
            for name, numbers in (("period", period), ("phase", phase), ("own_tooth", own)):
                self.register_buffer(name, numbers.flatten().detach().clone())
        self.requires_grad_(False)

    def forward(self, hidden: Tensor, shared: Shared) -> Tensor:
        """(B, T, D) -> (B, T, D), anything at padding.

        Tensors are as wide as hidden at most, but for the sums, which overlap by their reach.
        """
        number = torch.arange(hidden.shape[1], device=hidden.device)
        # Only the convolution looks past the end. No window does, so that values need no mask.
        heard = hidden.masked_fill((number >= shared.lengths)[..., None], 0.0)
        collected = self.collected(hidden, shared)
        side = self.config.kernel_size // 2
        return self.mixed(heard, shared.frames, shared.fixed, collected, padding=side)

    def collected(self, hidden: Tensor, shared: Shared) -> Collected:
        """What is known of all frames (B, T, D) before any is mixed."""
        config, rows, fixed = self.config, shared.rows, shared.fixed
        # The bias joins the values where they are summed: it would be one more pass over all.
        values = functional.linear(hidden, self.value.weight)
        sums = restarting_sums(values, config.head_size, rows, self.value.bias)
        if fixed is None:
            return Collected(sums, None)
        (means,) = window_means(sums, fixed.windows)
        shares = _block_diagonal(means[:, -config.positional :]) if config.positional else None
        first = rows.number * (means.shape[1] * means.shape[2])
        return Collected(sums, Means(means.flatten(0, 2), first, shares))

    def mixed(
        self,
        heard: Tensor,
        frames: Frames,
        fixed: Fixed | None,
        collected: Collected,
        *,
        padding: int = 0,
    ) -> Tensor:
        """The output (B, n, D) at n frames.

        heard: (B, n + kernel - 1 - 2 padding, D), hidden states at and around them, zero outside
        of the utterance; beyond their two ends are `padding` zeros.
        """
        config, heads, means = self.config, self.config.num_heads, collected.means
        moving, periodic = heads * config.aperiodic, heads * config.periodic
        controls = torch.sigmoid(self.controls(self._context(heard, padding)))
        sizes = (moving, moving, moving, periodic, heads * config.positional)
        offset, half_width, *amplitudes = (controls * self.scale + self.shift).split(sizes, dim=-1)
        terms: list[Tensor] = []
        weights: list[Tensor] = []
        if config.aperiodic:
            edges = offset - half_width, offset + half_width
            starts, ends = relative_windows(*edges, -frames.frame, frames.left)
            terms.extend(local_sums(collected.sums, heads, frames.own, starts, ends))
            weights.extend((amplitudes[0] / (ends - starts)).split(heads, dim=-1))
        if config.periodic:
            assert means is not None
            rows = (self._own_teeth(frames) + means.first).split(heads, dim=-1)
            terms.extend(functional.embedding(row, means.table) for row in rows)
            weights.extend(amplitudes[1].split(heads, dim=-1))
        mixed = [term * weight[..., None] for term, weight in zip(terms, weights, strict=True)]
        parts = [reduce(torch.add, mixed).flatten(2)] if mixed else []
        if config.positional:
            assert means is not None and means.shares is not None and fixed is not None
            (behind,), (left,) = frames.frame - fixed.before, fixed.ends - frames.frame
            inside = torch.minimum(behind, left).clamp(0, 1)
            parts.append((amplitudes[2] * inside) @ means.shares)
        output: Tensor = self.output(reduce(torch.add, parts))
        return output

    def _context(self, heard: Tensor, padding: int) -> Tensor:
        """(B, n + kernel - 1 - 2 padding, D) -> (B, n, D).

        The convolution as one of images: for those ONNX Runtime has a depthwise kernel that takes
        an eighth of the time, and reads and writes channels last.
        """
        image = heard[:, None].permute(0, 3, 1, 2)
        kernel = self.context.weight[:, :, None]
        context = functional.conv2d(image, kernel, padding=(0, padding), groups=kernel.shape[0])
        return context.permute(0, 2, 3, 1).squeeze(1)

    def _own_teeth(self, frames: Frames) -> Tensor:
        """In the means of an utterance the rows of the teeth that frames use, (n, K_p * H)."""
        number = ((frames.centre - self.phase) / self.period).floor()
        return (number * float(self.period.numel()) + self.own_tooth).long()


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


def _by_pulse(controls: nn.Linear, config: LPAConfig) -> nn.Linear:
    """The same logits pulse by pulse, (K, H) of each kind and not (H, K), those of offsets doubled.

    A sigmoid of twice as much is what a hyperbolic tangent is, but for a factor and a constant.
    """
    heads = config.num_heads
    number = torch.arange(config.controls)
    kinds = number.split([heads * count for count in (config.moving, config.moving, config.pulses)])
    order = torch.cat([kind.unflatten(0, (heads, -1)).mT.flatten() for kind in kinds])
    factor = torch.where(number < heads * config.moving, 2.0, 1.0)[:, None]
    made = copy.deepcopy(controls)
    with torch.no_grad():
        made.weight.copy_(controls.weight[order] * factor)
        made.bias.copy_(controls.bias[order] * factor[:, 0])
    return made


def _scale_and_shift(config: LPAConfig) -> tuple[Tensor, Tensor]:
    """What makes offsets, half widths and amplitudes of sigmoids: a factor and a constant each."""
    moving = config.num_heads * config.moving
    span = (config.max_width - config.min_width) / 2
    scale = torch.ones(config.controls, dtype=torch.float64)
    shift = torch.zeros_like(scale)
    scale[:moving], shift[:moving] = 2 * config.max_offset, -config.max_offset
    scale[moving : 2 * moving], shift[moving : 2 * moving] = span, config.min_width / 2
    return scale, shift
