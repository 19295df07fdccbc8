"""Harden trained layers: switch to 0/1 gates and say how near to them training had come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lpa_export.layers.fixed_pulses import Shares
from lpa_export.layers.lpa import LPA
from lpa_export.layers.soft import band_blocks, positional_gates, soft_gate
from lpa_export.measures.arrays import psnr

SOFT_RANGE = (0.05, 0.95)

Inputs = Sequence[tuple[Tensor, Tensor | None]]
"""Batches of captured inputs of a layer: hidden (B, T, D), valid (B, T) or None."""


@dataclass(frozen=True)
class LayerHardness:
    """How near to 0/1 the gates of a layer are at its own temperature, on given inputs."""

    layer: int
    soft_share: float
    """Share of gate evaluations with 0.05 < g < 0.95; see `count_soft_gates`."""
    psnr_db: float
    """Hard output against soft output, valid frames; inf where equal."""


def harden(layers: Mapping[int, LPA], inputs: Mapping[int, Inputs]) -> tuple[LayerHardness, ...]:
    """Set each layer hard, and measure it on the inputs captured for it.

    Layers come back in ascending order. Raises ValueError for a layer without inputs.
    """
    figures = []
    for number in sorted(layers):
        if not inputs.get(number):
            raise ValueError(f"layer {number} has no captured inputs to measure its hardness on")
        figures.append(measure_hardness(number, layers[number], inputs[number]))
    for lpa in layers.values():
        lpa.hard = True
    return tuple(figures)


@torch.no_grad()
def measure_hardness(layer: int, lpa: LPA, inputs: Inputs) -> LayerHardness:
    """Hardness of one layer; its `hard` attribute is as before afterwards."""
    counts = [count_soft_gates(lpa, hidden, valid) for hidden, valid in inputs]
    before = lpa.hard
    outputs = []
    for hard in (False, True):
        lpa.hard = hard
        outputs.append(
            torch.cat([lpa(hidden, valid)[_valid(hidden, valid)] for hidden, valid in inputs])
        )
    lpa.hard = before
    soft, total = (sum(column) for column in zip(*counts, strict=True))
    return LayerHardness(layer, soft / total, psnr(outputs[0].cpu(), outputs[1].cpu()))


def count_soft_gates(lpa: LPA, hidden: Tensor, valid: Tensor | None) -> tuple[int, int]:
    """Gate evaluations with 0.05 < g < 0.95, and all of them; see `count_by_family`."""
    counts = count_by_family(lpa, hidden, valid).values()
    soft, total = (sum(column) for column in zip(*counts, strict=True))
    return soft, total


@torch.no_grad()
def count_by_family(lpa: LPA, hidden: Tensor, valid: Tensor | None) -> dict[str, tuple[int, int]]:
    """Family -> gate evaluations with 0.05 < g < 0.95, and all of them; families with pulses only.

    Counted are, per head and pulse: aperiodic, valid frames s in the band |s - t| <= L of each
    valid frame t, or each valid frame where the window is anchored to the utterance; periodic,
    each valid frame under the tooth of its own period; positional, each valid frame.
    """
    present = _valid(hidden, valid)
    hidden = hidden.masked_fill(~present[..., None], 0.0)
    lengths = present.sum(1)
    counts = {}
    if lpa.config.moving:
        counts["aperiodic"] = _count_moving(lpa, hidden, valid, present)
    anchored = lpa.utterance_shares(hidden, lengths)
    if anchored is not None:
        counts["aperiodic"] = _count_shares(lpa, anchored, present, lengths)
    if lpa.periodic is not None:
        counts["periodic"] = _count_teeth(lpa, present, hidden.dtype)
    if lpa.positional is not None:
        shares = lpa.positional.shares(hidden.dtype)
        counts["positional"] = _count_shares(lpa, shares, present, lengths)
    return counts


def _count_teeth(lpa: LPA, present: Tensor, dtype: torch.dtype) -> tuple[int, int]:
    assert lpa.periodic is not None
    centres = torch.arange(present.shape[1], device=present.device, dtype=dtype) + 0.5
    period, phase, width = (part[..., None] for part in lpa.periodic.teeth(dtype))
    lower = phase + ((centres - phase) / period).floor() * period
    gates = soft_gate(centres, lower, (lower + width).clamp_min(1.0), lpa.temperature)
    return _count(gates, present[:, None, None])


def _count_shares(lpa: LPA, shares: Shares, present: Tensor, lengths: Tensor) -> tuple[int, int]:
    gates = positional_gates(*shares, lengths, present.shape[1], lpa.temperature)
    return _count(gates, present[:, None, None])


def _count_moving(
    lpa: LPA, hidden: Tensor, valid: Tensor | None, present: Tensor
) -> tuple[int, int]:
    _, controls, lengths = lpa.read(hidden, valid)
    lower, upper = lpa.soft_edges(controls, lengths)
    soft = total = 0
    for block in band_blocks(hidden.shape[1], lpa.config.band, hidden):
        first, last = (edge[..., block.queries, None] for edge in (lower, upper))
        gates = soft_gate(block.offsets, first, last, lpa.temperature)
        pairs = present[:, block.queries, None] & present[:, None, block.keys] & block.mask.bool()
        counts = _count(gates, pairs[:, None, None])
        soft, total = soft + counts[0], total + counts[1]
    return soft, total


def _count(gates: Tensor, counted: Tensor) -> tuple[int, int]:
    """Soft gates and all gates among those counted; both broadcast to one shape."""
    low, high = SOFT_RANGE
    soft, counted = torch.broadcast_tensors((gates > low) & (gates < high), counted)
    return int((soft & counted).sum()), int(counted.sum())


def _valid(hidden: Tensor, valid: Tensor | None) -> Tensor:
    if valid is not None:
        return valid
    return torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
