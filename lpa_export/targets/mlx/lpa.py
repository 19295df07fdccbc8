"""The hard form of one LPA layer: window means from prefix sums, in float32.

The sums restart in every block of 64 frames, where they are a product with a triangle of ones, and
what lies before a block is added as a product of the blocks' totals with a smaller one: a
cumulative sum over the outer axis is what a GPU is slow at. A window is the difference of two rows.
Windows that depend on the length alone are tables of integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from lpa_export.targets.mlx.operators import Weights, silenced
from lpa_export.targets.mlx.windows import periodic_windows, positional_windows

__all__ = ["BLOCK", "SUMS", "Frames", "Means", "Window", "framed", "gathered", "mix", "prefix_sums"]

BLOCK = 64
"""Frames in which a sum restarts."""


class Frames(NamedTuple):
    """Frames of a batch: `number` with padding; `lengths` (B,) int32, `valid` (B, T), or None."""

    number: int
    lengths: mx.array | None
    valid: mx.array | None


def framed(count: int, lengths: mx.array | None) -> Frames:
    """So many frames with padding, of which `lengths` (B,) are valid; None: all."""
    if lengths is None:
        return Frames(count, None, None)
    return Frames(count, lengths, mx.arange(count) < lengths[:, None])


class Window(NamedTuple):
    """A pulse's windows: rows of the sums that they begin and end at, and what a sum counts.

    `first`, `last`: (B or 1, T or 1, H) int32; `weight`: (B, T, H) float32.
    """

    first: mx.array
    last: mx.array
    weight: mx.array


Means = Callable[[mx.array, Sequence[Window]], mx.array]
"""(B, rows, H, d) sums, one or more windows -> (B, T, H, d), the weighted sums of all of them."""


class _Pulse(NamedTuple):
    """One pulse: rows of the sums that its windows begin and end at, and how many frames they hold.

    `first`, `last`: (B or 1, Q, H) int32; `size`, float32: the same; `gate`, (B or 1, T, H): where
    the mean is given back, None: everywhere.
    """

    first: mx.array
    last: mx.array
    gate: mx.array | None


def mix(
    hidden: mx.array,
    place: str,
    layer: Mapping[str, Any],
    weights: Weights,
    frames: Frames,
    sums: str,
    means: Means | None = None,
) -> mx.array:
    """(B, T, D) -> (B, T, D). `layer`: its entry in the plain description; `sums` as in `SUMS`;
    `means`: `gathered` where it is None."""
    heads = layer["heads"]
    hidden = silenced(hidden, frames.valid)
    values = silenced(weights.linear(hidden, f"{place}.value"), frames.valid)
    batch, count, width = values.shape
    table = SUMS[sums](values.astype(mx.float32))
    table = table.reshape(batch, table.shape[1], heads, width // heads)
    logits = weights.linear(weights.depthwise(hidden, f"{place}.context"), f"{place}.controls")
    moving = heads * layer["aperiodic"]
    amplitudes = mx.sigmoid(logits[..., 2 * moving :]).reshape(batch, count, heads, -1)
    windows = []
    for number, pulse in enumerate(_pulses(logits[..., : 2 * moving], layer, frames)):
        weight = amplitudes[..., number] / (pulse.last - pulse.first)
        if pulse.gate is not None:
            weight = mx.where(pulse.gate, weight, 0.0)
        windows.append(Window(pulse.first, pulse.last, weight.astype(mx.float32)))
    mixed = (means or gathered)(table, windows)
    mixed = mixed.reshape(batch, count, width)
    return weights.linear(mixed, f"{place}.output")


def gathered(table: mx.array, windows: Sequence[Window]) -> mx.array:
    """The plain form of `Means`: two rows of the sums for each window, one minus the other."""
    batch, rows, heads, width = table.shape
    flat = table.reshape(batch * rows * heads, width)
    row, head = (mx.arange(batch) * rows)[:, None, None], mx.arange(heads)
    mixed = mx.zeros((), mx.float32)
    for window in windows:
        first, last = (
            mx.take(flat, (row + edge) * heads + head, axis=0)
            for edge in (window.first, window.last)
        )
        mixed = mixed + (last - first) * window.weight[..., None]
    return mixed


def prefix_sums(values: mx.array) -> mx.array:
    """(B, T, D) -> (B, at least T + 1, D): row i is the sum of the first i rows."""
    batch, frames, width = values.shape
    blocks = frames // BLOCK + 1
    padded = mx.pad(values, [(0, 0), (0, blocks * BLOCK - frames), (0, 0)])
    padded = padded.reshape(batch, blocks, BLOCK, width)
    inside = mx.tri(BLOCK, k=-1) @ padded
    before = mx.tri(blocks, k=-1) @ padded.sum(axis=2)
    return (inside + before[:, :, None]).reshape(batch, blocks * BLOCK, width)


def _cumulative(values: mx.array) -> mx.array:
    """The same by the backend's own cumulative sum."""
    return mx.pad(mx.cumsum(values, axis=1), [(0, 0), (1, 0), (0, 0)])


SUMS = {"blocks": prefix_sums, "cumsum": _cumulative}
"""How the sums are made, by the name in `config.json`."""


def _pulses(edges: mx.array, layer: Mapping[str, Any], frames: Frames) -> Iterator[_Pulse]:
    """Every pulse of the layer, aperiodic, periodic, positional."""
    total = frames.number if frames.lengths is None else frames.lengths[:, None, None]
    frame = mx.arange(frames.number)[None, :, None]
    yield from _aperiodic(edges, layer, frame, total)
    if layer["teeth"] is not None:
        starts, ends = periodic_windows(layer["teeth"], frames.number)
        for k in range(starts.shape[2]):
            yield _Pulse(
                *_clipped(mx.array(starts[None, ..., k]), mx.array(ends[None, ..., k]), total), None
            )
    if layer["shares"] is not None:
        for starts, ends in zip(*_shared(layer["shares"], frames), strict=True):
            yield _Pulse(starts, ends, (frame >= starts) & (frame < ends))


def _aperiodic(
    edges: mx.array, layer: Mapping[str, Any], frame: mx.array, total: Any
) -> Iterator[_Pulse]:
    """Windows around each frame; rounding is on the relative edge, which is exact at any frame."""
    heads, pulses = layer["heads"], layer["aperiodic"]
    offset, width = (
        part.reshape(*part.shape[:2], heads, pulses) for part in mx.split(edges, 2, axis=-1)
    )
    offset = layer["max_offset"] * mx.tanh(offset)
    half = layer["min_width"] / 2 + (layer["max_width"] - layer["min_width"]) / 2 * mx.sigmoid(
        width
    )
    for k in range(pulses):
        starts, ends = (
            frame + mx.ceil(edge[..., k]).astype(mx.int32)
            for edge in (offset - half, offset + half)
        )
        yield _Pulse(*_clipped(starts, ends, total), None)


def _clipped(starts: mx.array, ends: mx.array, total: Any) -> tuple[mx.array, mx.array]:
    """Whole windows inside of the utterance, at least one frame wide."""
    starts = mx.maximum(mx.minimum(starts, total - 1), 0)
    return starts, mx.maximum(mx.minimum(ends, total), starts + 1)


def _shared(shares: Any, frames: Frames) -> Iterator[list[mx.array]]:
    """Starts, then ends, one (B or 1, 1, H) for each pulse."""
    for table in positional_windows(shares, frames.number):
        if frames.lengths is None:
            edges = mx.array(table[-1:])
        else:
            edges = mx.take(mx.array(table), mx.maximum(frames.lengths - 1, 0), axis=0)
        yield [edges[:, None, :, k] for k in range(np.shape(table)[2])]
