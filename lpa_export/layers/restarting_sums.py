"""Sums over windows from prefix sums that start anew every few frames, in the dtype of the values.

A window's sum is a difference of two prefix sums, and a difference keeps the rounding of what it
is taken from: one float32 sum over an hour loses three digits. Sums that start anew every `block`
frames and run on for `reach` frames more hold every window that starts in their block and is at
most `reach` frames long. Rounding is then bounded by the length of a block, whatever the length of
the audio: with R = block + reach rows, u the unit roundoff of the dtype and V the largest value,
each addition inside a window rounds a partial sum of at most R V, so that

    |mean - exact mean| <= (R + 3) u V   to first order in u.

Longer windows (teeth, shares of the utterance) add what the blocks between their edges hold. Those
totals are few, so their sums are in float64.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

MIN_BLOCK = 256


class Restarting(NamedTuple):
    """How sums restart: every `block` frames (a power of two), and run on for `reach` more."""

    block: int
    reach: int

    @property
    def rows(self) -> int:
        """Rows of one block in the table of sums, R."""
        return self.block + self.reach


def restarting(longest: int) -> Restarting:
    """For windows of at most `longest` frames. The block is at least as long as they are."""
    return Restarting(max(MIN_BLOCK, 1 << (longest - 1).bit_length()), longest)


class Layout(NamedTuple):
    """Where the rows of B utterances of T frames lie, for all layers: N = T // block + 1 blocks.

    frames: (B, N, R) int64, the frame (of B * T) that row r of block c adds, c * block - 1 + r,
    clipped into the utterance. table, before: (B, 1, H) int64, the first row of each utterance and
    head in the tables of `Sums`.
    """

    how: Restarting
    frames: Tensor
    table: Tensor
    before: Tensor


def layout(how: Restarting, like: Tensor, heads: int) -> Layout:
    """For hidden states shaped as `like` (B, T, ...)."""
    batch, frames = like.shape[:2]
    blocks = frames // how.block + 1
    starts = torch.arange(blocks, device=like.device) * how.block
    row = starts[:, None] + (torch.arange(how.rows, device=like.device) - 1)
    number = torch.arange(batch, device=like.device)[:, None, None]
    head = torch.arange(heads, device=like.device)
    before = number * (blocks * heads)
    return Layout(
        how, row.clamp(0, frames - 1) + number * frames, before * how.rows + head, before + head
    )


class Sums(NamedTuple):
    """Sums of values (B, T, H * d).

    table: (B * N * R * H, d), row r of block c the sum over frames c * block - 1 to
    c * block - 1 + r: the first of them is in all rows of its block, and so in no difference.
    before: (B * N * H, d), float64: with the row of an edge it adds up to the sum over all frames
    before the edge.
    """

    table: Tensor
    before: Tensor


def restarting_sums(values: Tensor, channels: int, rows: Layout) -> Sums:
    """Sums of values (B, T, H * d), d channels. Nothing behind a window's end is heard in it."""
    # An embedding is a plain look-up of rows in every exporter.
    table = functional.embedding(rows.frames, values.flatten(0, 1)).cumsum(dim=2)
    first = table[:, :, 0].double()
    totals = table[:, :, rows.how.block].double() - first
    before = totals.cumsum(dim=1) - totals - first
    return Sums(table.view(-1, channels), before.view(-1, channels))


def local_sums(sums: Sums, rows: Layout, starts: Tensor, widths: Tensor) -> list[Tensor]:
    """Sums over windows of at most `reach` frames: for each k of K a tensor (B, T, H, d).

    starts, widths: (B, T, H, K), whole numbers in a float dtype, exact below 2^24 in float32.
    One pulse after another, so that nothing is wider than the hidden states.
    """
    heads = starts.shape[2]
    # A power of two: the quotient is exact.
    block = (starts * (1.0 / rows.how.block)).floor()
    first = (starts + block * float(rows.how.reach)).long() * heads + rows.table[..., None]
    last = first + widths.long() * heads
    return [
        functional.embedding(last[..., k], sums.table)
        - functional.embedding(first[..., k], sums.table)
        for k in range(starts.shape[3])
    ]


class Edges(NamedTuple):
    """Where edges of windows of any length are looked up: rows of both tables of `Sums`."""

    table: Tensor
    before: Tensor


def edge_rows(rows: Layout, edges: Tensor) -> Edges:
    """The rows of edges (..., B, W, H), int64, in 0 to T."""
    heads = edges.shape[-1]
    block = edges // rows.how.block
    table = (edges + block * rows.how.reach) * heads + rows.table
    return Edges(table, block * heads + rows.before)


def window_means(sums: Sums, starts: Edges, ends: Edges, widths: Tensor) -> Tensor:
    """Means (B, W, H, d) of windows of any length; rows and widths, float64: (B, W, H)."""
    last, first = (
        functional.embedding(edges.before, sums.before)
        + functional.embedding(edges.table, sums.table)
        for edges in (ends, starts)
    )
    return ((last - first) / widths[..., None]).to(sums.table.dtype)
