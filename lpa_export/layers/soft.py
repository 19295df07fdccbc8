"""Soft gates for training: weighted means under differentiable windows.

A gate of temperature tau on a window [a, b) gives frame s the weight

    g = sigmoid((s + 1/2 - a) / tau) * sigmoid((b - s - 1/2) / tau)
      = [sigmoid((s + 1/2 - a) / tau) - sigmoid((s + 1/2 - b) / tau)] / (1 - exp(-(b - a) / tau)).

The divisor of the second line is the same for all frames, so it cancels in a weighted mean:
means are computed from the difference, whose gradient is cheaper than that of the product.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Only a window without valid frames, which belongs to a padding frame, has less weight.
MIN_WEIGHT = 1e-6
QUERY_BLOCK = 64
# Where periodic teeth begin to be faster with the frames they reach than with all of them;
# tests/layers/measure_soft_forms.py measures it.
DENSE_FRAMES = 700
# Temperatures beyond its edge at which a gate has fallen under the rounding of its sum.
REACH = {torch.float32: 20.0, torch.float64: 40.0}


def soft_gate(positions: Tensor, lower: Tensor, upper: Tensor, temperature: float) -> Tensor:
    """Weight of frame centres `positions` under windows [lower, upper); all in frames."""
    rising = torch.sigmoid((positions - lower) / temperature)
    return rising * torch.sigmoid((upper - positions) / temperature)


def clip_edges(
    lower: Tensor, upper: Tensor, lengths: Tensor, origin: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """Move soft edges just enough that a window holds the centre of a valid frame.

    a' = min(a, n - 1), b' = max(b, a' + 1, 1) with edges counted from `origin` (frames). This is
    the continuous twin of `folding.windows.clip_windows`: both agree as the temperature falls.
    """
    lower = torch.minimum(lower, lengths - 1.0 - origin)
    one = 1.0 - origin
    first = one if isinstance(one, Tensor) else torch.full_like(lower, one)
    return lower, torch.maximum(torch.maximum(upper, lower + 1.0), first)


def weighted_means(sums: Tensor) -> Tensor:
    """Means (..., d) of weighted sums (..., d + 1) whose last channel is the summed weight."""
    return sums[..., :-1] / sums[..., -1:].clamp_min(MIN_WEIGHT)


def aperiodic_means(
    values: Tensor, lower: Tensor, upper: Tensor, *, temperature: float, band: int
) -> Tensor:
    """Soft means of content-dependent windows.

    values: (B, H, T, d + 1), zero at padding, the last channel 1 at valid frames.
    lower, upper: (B, H, K, T), clipped edges relative to the centre of each frame.
    Returns (B, H, K, T, d). Frames farther than `band` from a window's own frame have no weight.
    Up to `QUERY_BLOCK` frames this is one dense block, and no longer clip is faster in one.
    """
    # A gate takes the strides of its edges, and a matmul needs keys innermost.
    edges = lower.contiguous(), upper.contiguous()
    sums = _BandSums.apply(*edges, values.contiguous(), temperature, band)
    return weighted_means(sums)


def periodic_means(
    values: Tensor, period: Tensor, phase: Tensor, width: Tensor, *, temperature: float
) -> Tensor:
    """Soft means of the tooth of each frame's own period.

    values: (B, H, T, d + 1) as above; period, phase, width: (H, K). Returns (B, H, K, T, d).

    All frames of a period share a tooth, so a mean is computed per tooth and repeated. Teeth do
    not depend on the content: one gate serves the whole batch. Up to `DENSE_FRAMES` every tooth
    weighs every frame, O(T * teeth); beyond, only the frames its gate reaches, O(T). The tooth of
    a valid frame starts at or before it, so the upper clip of its lower edge is never needed.
    """
    batch, heads, frames, channels = values.shape
    count = period.shape[1]
    index, first = tooth_index(period.detach(), phase.detach(), frames)
    steps = torch.arange(int(index.max()) + 1, device=values.device)
    lower = phase[..., None] + (first[..., None] + steps).to(values.dtype) * period[..., None]
    upper = (lower + width[..., None]).clamp_min(1.0)
    keys = values.permute(1, 2, 0, 3).reshape(heads, frames, batch * channels)
    sums = _all_frames if frames <= DENSE_FRAMES else _reached_frames
    means = weighted_means(sums(keys, lower, upper, temperature).view(-1, batch, channels))
    pairs = torch.arange(heads * count, device=values.device).view(heads, count, 1)
    rows = index + pairs * len(steps)
    picked = means.index_select(0, rows.flatten()).view(heads, count, frames, batch, channels - 1)
    return picked.permute(3, 0, 1, 2, 4)


def _all_frames(keys: Tensor, lower: Tensor, upper: Tensor, temperature: float) -> Tensor:
    """Weighted sums (H, K * teeth, C) of keys (H, T, C) under edges (H, K, teeth)."""
    centres = torch.arange(keys.shape[1], device=keys.device, dtype=keys.dtype) + 0.5
    gate = torch.sigmoid((centres - lower[..., None]) / temperature)
    gate = gate - torch.sigmoid((centres - upper[..., None]) / temperature)
    return torch.bmm(gate.flatten(1, 2), keys)


def _reached_frames(keys: Tensor, lower: Tensor, upper: Tensor, temperature: float) -> Tensor:
    """The same from the frames near each tooth: what lies farther has no weight in the dtype."""
    frames, channels = keys.shape[1:]
    reach = REACH[keys.dtype] * temperature
    sums = []
    # Periods differ, so each pulse has its own number of teeth and frames under them.
    for head, below, above in (
        (h, lower[h, k], upper[h, k]) for h in range(lower.shape[0]) for k in range(lower.shape[1])
    ):
        teeth = int((below.detach() < frames).sum())
        below, above = below[:teeth, None], above[:teeth, None]
        start = (below.detach() - reach).floor().long()
        span = int((above - below).detach().max() + 2 * reach) + 2
        frame = start + torch.arange(span, device=keys.device)
        centres = frame.to(keys.dtype) + 0.5
        gate = torch.sigmoid((centres - below) / temperature)
        gate = gate - torch.sigmoid((centres - above) / temperature)
        gate = gate * ((frame >= 0) & (frame < frames))
        near = keys[head].index_select(0, frame.clamp(0, frames - 1).flatten())
        own = torch.bmm(gate[:, None], near.view(teeth, span, channels))[:, 0]
        sums.append(nn.functional.pad(own, (0, 0, 0, lower.shape[2] - teeth)))
    return torch.stack(sums)


def tooth_index(period: Tensor, phase: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Which tooth each frame uses, counted from the first one in use.

    period, phase: (H, K). Returns the index (H, K, T) and the number j of tooth 0 (H, K), int64.
    In float64, as in the hard form: both must agree on the tooth.
    """
    centres = torch.arange(frames, device=period.device, dtype=torch.float64) + 0.5
    tooth = ((centres - phase.double()[..., None]) / period.double()[..., None]).floor().long()
    first = tooth[..., 0]
    return tooth - first[..., None], first


def positional_gates(
    lower: Tensor, upper: Tensor, lengths: Tensor, frames: int, temperature: float
) -> Tensor:
    """Soft gates (B, H, K, T) of the basis windows.

    lower, upper: (H, K), as a share of the utterance; lengths: (B,) valid frames.
    """
    length = lengths.to(lower.dtype)[:, None, None]
    clipped = clip_edges(lower * length, upper * length, length)
    centres = torch.arange(frames, device=lower.device, dtype=lower.dtype) + 0.5
    return soft_gate(centres, clipped[0][..., None], clipped[1][..., None], temperature)


class BandBlock(NamedTuple):
    """A block of Q queries and the S keys of its band."""

    queries: slice
    keys: slice
    offsets: Tensor
    """s - t, (Q, S)."""
    mask: Tensor
    """1 where |s - t| <= band, else 0, (Q, S)."""


def band_blocks(frames: int, band: int, like: Tensor) -> Iterator[BandBlock]:
    """The blocks that cover all queries; tensors in the dtype and on the device of `like`."""
    for start in range(0, frames, QUERY_BLOCK):
        queries = slice(start, min(start + QUERY_BLOCK, frames))
        keys = slice(max(0, start - band), min(frames, queries.stop + band))
        key = torch.arange(keys.start, keys.stop, device=like.device)
        query = torch.arange(queries.start, queries.stop, device=like.device)
        offsets = key[None, :] - query[:, None]
        mask = (offsets.abs() <= band).to(like.dtype)
        yield BandBlock(queries, keys, offsets.to(like.dtype), mask)


class _BandSums(torch.autograd.Function):
    """Weighted sums of windows inside a band, by blocks of queries.

    A block of queries sees only the keys of its band, so the cost is O(n L). The gates are
    computed again in the backward pass: they are far larger than anything else in the layer, and
    a block of them fits the cache.
    """

    @staticmethod
    def forward(
        ctx: Any, lower: Tensor, upper: Tensor, values: Tensor, temperature: float, band: int
    ) -> Tensor:
        ctx.save_for_backward(lower, upper, values)
        ctx.temperature, ctx.band = temperature, band
        batch, heads, pulses, frames = lower.shape
        channels = values.shape[-1]
        flat = values.reshape(batch * heads, frames, channels)
        sums = values.new_empty(batch * heads, pulses, frames, channels)
        for queries, keys, offsets, mask in band_blocks(frames, band, values):
            rising, falling = _edge_gates(lower, upper, queries, offsets, temperature)
            gate = rising.sub_(falling).mul_(mask)
            shape = (batch * heads, pulses * (queries.stop - queries.start), -1)
            block = torch.bmm(gate.view(shape), flat[:, keys])
            sums[:, :, queries] = block.view(batch * heads, pulses, -1, channels)
        return sums.view(batch, heads, pulses, frames, channels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sums: Tensor) -> tuple[Tensor | None, ...]:
        lower, upper, values = ctx.saved_tensors
        temperature = ctx.temperature
        batch, heads, pulses, frames = lower.shape
        channels = values.shape[-1]
        flat = values.reshape(batch * heads, frames, channels)
        grads = grad_sums.reshape(batch * heads, pulses, frames, channels)
        grad_lower, grad_upper = torch.empty_like(lower), torch.empty_like(upper)
        grad_values = torch.zeros_like(flat)
        for queries, keys, offsets, mask in band_blocks(frames, ctx.band, values):
            rising, falling = _edge_gates(lower, upper, queries, offsets, temperature)
            rows = pulses * (queries.stop - queries.start)
            block = grads[:, :, queries].reshape(batch * heads, rows, channels)
            gate = rising.sub(falling).mul_(mask).view(batch * heads, rows, -1)
            grad_values[:, keys].baddbmm_(gate.transpose(1, 2), block)
            grad_gate = torch.bmm(block, flat[:, keys].transpose(1, 2)).view_as(rising).mul_(mask)
            for grad, edge in ((grad_lower, rising), (grad_upper, falling)):
                slope = torch.ops.aten.sigmoid_backward(grad_gate, edge).sum(-1)
                grad[:, :, :, queries] = slope.view(batch, heads, pulses, -1)
        grad_lower.mul_(-1.0 / temperature)
        grad_upper.mul_(1.0 / temperature)
        return grad_lower, grad_upper, grad_values.view_as(values), None, None


def _edge_gates(
    lower: Tensor, upper: Tensor, queries: slice, offsets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """sigmoid((s - edge) / tau) for both edges, (B * H, K, Q, S)."""
    scaled = offsets / temperature
    rising, falling = (
        torch.sub(scaled, (edge[..., queries, None] / temperature)).sigmoid_().flatten(0, 1)
        for edge in (lower, upper)
    )
    return rising, falling
