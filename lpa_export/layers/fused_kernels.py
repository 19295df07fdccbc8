"""Triton's kernels of the accelerated hard mixture: the scan in blocks, and the mixture itself.

They run on a GPU, and in Triton's interpreter (TRITON_INTERPRET=1), which is how they are tested
where there is none. Values are summed in float32 after the load, whatever they are stored in.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lpa_export.layers.block_sums import BLOCK, BlockSums, split_totals
from lpa_export.layers.controls import Controls

__all__ = ["mix_local", "scan_blocks"]

FRAMES = 32
"""Frames of one program of the mixture."""


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _scan(  # type: ignore[no-untyped-def]
    values,
    local,
    totals,
    frames,
    heads,
    blocks,
    batch_stride,
    frame_stride,
    head_stride,
    channel_stride,
    channels: tl.constexpr,
    width: tl.constexpr,
    block: tl.constexpr,
):
    """A block of one head: sums before each frame, and the sum of all."""
    row, number = tl.program_id(0), tl.program_id(1)
    batch, head = (row // heads).to(tl.int64), row % heads
    frame = number * block + tl.arange(0, block)
    channel = tl.arange(0, width)
    inside = channel[None, :] < channels
    place = (
        batch * batch_stride
        + frame[:, None].to(tl.int64) * frame_stride
        + head * head_stride
        + channel[None, :] * channel_stride
    )
    given = tl.load(values + place, mask=(frame[:, None] < frames) & inside, other=0.0)
    given = given.to(tl.float32)
    sums = tl.cumsum(given, axis=0)
    first = (row.to(tl.int64) * blocks + number) * block
    rows = (first + tl.arange(0, block)[:, None]) * channels + channel[None, :]
    tl.store(local + rows, sums - given, mask=inside)
    total = tl.sum(given, axis=0)
    tl.store(
        totals + (row.to(tl.int64) * blocks + number) * channels + channel,
        total,
        mask=channel < channels,
    )


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _window_mean(  # type: ignore[no-untyped-def]
    local,
    high,
    low,
    row,
    blocks,
    starts,
    ends,
    channel,
    mask,
    channels: tl.constexpr,
    block: tl.constexpr,
):
    """Means (frames, channels) of windows starts, ends (frames,) of one head."""
    base = row.to(tl.int64) * blocks
    begin = ((base * block + starts)[:, None]) * channels + channel[None, :]
    end = ((base * block + ends)[:, None]) * channels + channel[None, :]
    sums = tl.load(local + end, mask=mask, other=0.0) - tl.load(local + begin, mask=mask, other=0.0)
    first = ((base + starts // block)[:, None]) * channels + channel[None, :]
    last = ((base + ends // block)[:, None]) * channels + channel[None, :]
    above = tl.load(high + last, mask=mask, other=0.0) - tl.load(high + first, mask=mask, other=0.0)
    below = tl.load(low + last, mask=mask, other=0.0) - tl.load(low + first, mask=mask, other=0.0)
    return (sums + (above + below)) / (ends - starts)[:, None].to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _mix(  # type: ignore[no-untyped-def]
    local,
    high,
    low,
    lower,
    upper,
    amplitudes,
    fixed_starts,
    fixed_ends,
    lengths,
    mixed,
    frames,
    heads,
    blocks,
    aperiodic: tl.constexpr,
    periodic: tl.constexpr,
    pulses: tl.constexpr,
    channels: tl.constexpr,
    width: tl.constexpr,
    block: tl.constexpr,
    tile: tl.constexpr,
):
    """Some frames of one head: edges, means and amplitudes of all its local pulses."""
    row = tl.program_id(0)
    batch, head = (row // heads).to(tl.int64), row % heads
    frame = tl.program_id(1) * tile + tl.arange(0, tile)
    channel = tl.arange(0, width)
    here = frame < frames
    mask = here[:, None] & (channel[None, :] < channels)
    length = tl.load(lengths + batch).to(tl.int32)
    cell = (batch * frames + frame) * heads + head
    sum_of_pulses = tl.zeros((tile, width), tl.float32)
    for pulse in tl.static_range(aperiodic + periodic):
        if pulse < aperiodic:
            place = cell * aperiodic + pulse
            starts = frame + tl.ceil(tl.load(lower + place, mask=here, other=0.0)).to(tl.int32)
            ends = frame + tl.ceil(tl.load(upper + place, mask=here, other=1.0)).to(tl.int32)
        else:
            tooth = (frame * heads + head) * periodic + (pulse - aperiodic)
            starts = tl.load(fixed_starts + tooth, mask=here, other=0)
            ends = tl.load(fixed_ends + tooth, mask=here, other=1)
        starts = tl.maximum(tl.minimum(starts, length - 1), 0)
        ends = tl.maximum(tl.minimum(ends, length), starts + 1)
        means = _window_mean(
            local, high, low, row, blocks, starts, ends, channel, mask, channels, block
        )
        amplitude = tl.load(amplitudes + cell * pulses + pulse, mask=here, other=0.0)
        sum_of_pulses += amplitude[:, None].to(tl.float32) * means
    rows = (row.to(tl.int64) * frames + frame)[:, None] * channels + channel[None, :]
    tl.store(mixed + rows, sum_of_pulses, mask=mask)


def scan_blocks(values: Tensor) -> BlockSums:
    """`block_sums` of values (B, T, H, d) by one kernel."""
    batch, frames, heads, channels = values.shape
    blocks = frames // BLOCK + 1
    local = values.new_empty((batch, heads, blocks * BLOCK, channels), dtype=torch.float32)
    totals = values.new_empty((batch, heads, blocks, channels), dtype=torch.float32)
    _scan[(batch * heads, blocks)](
        values,
        local,
        totals,
        frames,
        heads,
        blocks,
        *values.stride(),
        channels=channels,
        width=triton.next_power_of_2(channels),
        block=BLOCK,
    )
    return BlockSums(local, *split_totals(totals.transpose(2, 3)))


def mix_local(
    sums: BlockSums, controls: Controls, lengths: Tensor, fixed: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Part (B, H, T, d) of the aperiodic and periodic pulses; `fixed` as in plain torch."""
    batch, frames, heads, aperiodic = controls.lower.shape
    channels = sums.local.shape[-1]
    if fixed is None:
        empty = torch.empty(0, dtype=torch.int32, device=lengths.device)
        fixed, periodic = (empty, empty), 0
    else:
        periodic = fixed[0].shape[-1]
        fixed = fixed[0].int().contiguous(), fixed[1].int().contiguous()
    mixed = torch.empty(batch, heads, frames, channels, device=lengths.device)
    grid = (batch * heads, triton.cdiv(frames, FRAMES))
    _mix[grid](
        *sums,
        controls.lower.float().contiguous(),
        controls.upper.float().contiguous(),
        controls.amplitudes.contiguous(),
        *fixed,
        lengths,
        mixed,
        frames,
        heads,
        sums.blocks,
        aperiodic=aperiodic,
        periodic=periodic,
        pulses=controls.amplitudes.shape[-1],
        channels=channels,
        width=triton.next_power_of_2(channels),
        block=BLOCK,
        tile=FRAMES,
    )
    return mixed
