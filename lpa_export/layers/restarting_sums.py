"""Sums over windows from prefix sums that start anew every few frames, in the dtype of the values.

A window's sum is a difference of two prefix sums, and a difference keeps the rounding of what it
is taken from: one float32 sum over an hour loses three digits. Sums that start anew `reach` frames
before each block of `block` frames and run on for `reach` frames behind it hold every window that
lies within `reach` frames of a frame of that block. Rounding is then bounded by the length of a
block, whatever the length of the audio: with R = block + 2 reach rows, u the unit roundoff of the
dtype and V the largest value, each addition inside a window rounds a partial sum of at most R V, so
that

    |mean - exact mean| <= (R + 3) u V   to first order in u.

Longer windows (teeth, shares of the utterance) add what the blocks between their edges hold. Those
totals are few, so their sums are in float64.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lpa_export.layers.in_pieces import over_starts

MIN_BLOCK = 256


class Restarting(NamedTuple):
    """How sums restart: every `block` frames (a power of two), `reach` frames around each block.

    `in_pieces`: block after block, so that nothing lies in between the values and their sums; for
    runtimes that have loops.
    """

    block: int
    reach: int
    in_pieces: bool = False

    @property
    def rows(self) -> int:
        """Rows of one block in the table of sums, R."""
        return self.block + 2 * self.reach


def restarting(reach: int, *, in_pieces: bool = False) -> Restarting:
    """For windows whose edges are at most `reach` frames from their frame; a block is as long."""
    return Restarting(max(MIN_BLOCK, 1 << (reach - 1).bit_length()), reach, in_pieces)


class Layout(NamedTuple):
    """Where the rows of B utterances of T frames lie, for all layers: N = T // block + 1 blocks.

    The sums of block c of utterance b are number b * utterance + c * next_block in the tables of
    `Sums`. first: (N,) int64, the frame that a block begins at. number: (B, 1, 1) int64, that of
    each utterance.
    """

    how: Restarting
    heads: int
    first: Tensor
    number: Tensor

    @property
    def next_block(self) -> int:
        """By how much the numbers of two blocks of one utterance differ."""
        return self.number.shape[0] if self.how.in_pieces else 1

    @property
    def utterance(self) -> int:
        """By how much the numbers of two utterances differ."""
        return 1 if self.how.in_pieces else self.first.shape[0]


def layout(how: Restarting, like: Tensor, heads: int) -> Layout:
    """For hidden states shaped as `like` (B, T, ...)."""
    batch, frames = like.shape[:2]
    first = torch.arange(frames // how.block + 1, device=like.device) * how.block
    number = torch.arange(batch, device=like.device)[:, None, None]
    return Layout(how, heads, first, number)


def own_rows(rows: Layout, frames: Tensor) -> Tensor:
    """Where in `Sums.table` edges in front of frames (n,) are in the first head: (B, n, 1)."""
    table, _ = _rows(rows, frames[:, None])
    return table * rows.heads


def _rows(rows: Layout, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Of edges (..., B, W, any): rows in `Sums.table` and blocks in `Sums.before`, without heads.

    The block of an edge is that of the frame behind it.
    """
    how = rows.how
    block = edges // how.block
    place = edges - block * how.block + how.reach
    block = block * rows.next_block + rows.number * rows.utterance
    return block * how.rows + place, block


class Sums(NamedTuple):
    """Sums of values (B, T, H * d).

    table: (B * N * R * H, d), row r of block c the sum over the frames from c * block - reach - 1
    to c * block - reach - 1 + r, others in place of those outside of the utterance: the first of
    them is in all rows of its block, and so in no difference. before: (B * N * H, d),
    float64: with the row of an edge it adds up to the sum over all frames before the edge.
    """

    table: Tensor
    before: Tensor


def restarting_sums(
    values: Tensor, channels: int, rows: Layout, bias: Tensor | float = 0.0
) -> Sums:
    """Sums of values (B, T, H * d), d channels. Nothing behind a window's end is heard in it.

    bias: (H * d,), added to the values.
    """
    how, last = rows.how, values.shape[1] - 1
    place = torch.arange(how.rows, device=values.device) - how.reach - 1
    if how.in_pieces:

        def block(start: Tensor) -> tuple[Tensor]:
            picked = values.index_select(1, (start + place).abs().clamp_max(last))
            return ((picked + bias).cumsum(dim=1),)

        (table,) = over_starts(block, rows.first)
        along = 0
    else:
        heard = (rows.first[:, None] + place).abs().clamp_max(last)
        picked = values.index_select(1, heard.flatten()).unflatten(1, (-1, how.rows))
        table = (picked + bias).cumsum(dim=2)
        along = 1
    first = table[:, :, how.reach].double()
    totals = table[:, :, how.reach + how.block].double() - first
    before = totals.cumsum(dim=along) - totals - first
    return Sums(table.view(-1, channels), before.view(-1, channels))


def local_sums(sums: Sums, heads: int, own: Tensor, starts: Tensor, ends: Tensor) -> list[Tensor]:
    """Sums over windows near their frames: for each k of K a tensor (B, n, H, d).

    starts, ends: (B, n, K * H), edges relative to their frames, whole numbers in a float dtype,
    `reach` at most. own: (B, n, 1), of `own_rows`.
    One pulse after another, so that nothing is wider than the hidden states.
    """
    pulses = starts.shape[2] // heads
    head = torch.arange(heads, device=own.device).repeat(2 * pulses)
    index = torch.cat([starts, ends], dim=2).long() * heads + own + head
    # An embedding is a plain look-up of rows in every exporter.
    picked = [functional.embedding(part, sums.table) for part in index.split(heads, dim=2)]
    return [last - first for first, last in zip(picked[:pulses], picked[pulses:], strict=True)]


class Windows(NamedTuple):
    """Windows of any length, (..., B, W, H): the rows of their starts and ends in both tables of
    `Sums`, and their widths in float64.
    """

    starts: Tensor
    blocks_of_starts: Tensor
    ends: Tensor
    blocks_of_ends: Tensor
    widths: Tensor


def windows_of(rows: Layout, starts: Tensor, ends: Tensor) -> Windows:
    """Windows from their edges (..., B, W, H), int64, in 0 to T."""
    head = torch.arange(rows.heads, device=starts.device)
    (first, first_block), (last, last_block) = (
        [index * rows.heads + head for index in _rows(rows, edges)] for edges in (starts, ends)
    )
    return Windows(first, first_block, last, last_block, (ends - starts).double())


def window_means(sums: Sums, windows: Windows) -> Tensor:
    """Means (..., B, W, H, d) of windows."""
    # One edge after the other: in float64 both are as much as a hidden state.
    last = functional.embedding(windows.blocks_of_ends, sums.before)
    last = last + functional.embedding(windows.ends, sums.table)
    first = functional.embedding(windows.blocks_of_starts, sums.before)
    first = first + functional.embedding(windows.starts, sums.table)
    return ((last - first) / windows.widths[..., None]).to(sums.table.dtype)
