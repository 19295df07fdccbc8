"""Aperiodic windows over a local band, with as many operations at any number of frames.

`layers.band` walks over blocks of queries; here all blocks are one batched matmul. The values
are padded by the band at both ends, and the keys of all blocks come from shifted copies of them
that are cut into blocks: neighbouring blocks overlap, which no reshape alone could make.

Integers in the comparisons reach the number of frames: float16 is exact up to 2,048 (41 s).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lpa_export.layers.band import inside
from lpa_export.targets.coreml.channels_first import sizes
from lpa_export.targets.coreml.limits import BLOCK

__all__ = ["band_mix", "band_ramp", "key_blocks", "reach"]


def reach(band: int) -> int:
    """Frames that a block sees at each end: the band, made a multiple of half a block."""
    return -(-2 * band // BLOCK) * BLOCK // 2


def band_ramp(band: int) -> Tensor:
    """Offsets s - t of a block's keys (rows) and queries (columns), (BLOCK + 2 reach, BLOCK)."""
    keys = torch.arange(BLOCK + 2 * reach(band)) - reach(band)
    return keys[:, None] - torch.arange(BLOCK)


def key_blocks(values: Tensor, band: int) -> Tensor:
    """Values (1, H, d, T) as the keys of each block, (H, N, d, BLOCK + 2 reach), N = T / BLOCK."""
    _, heads, channels, frames = sizes(values)
    padded = functional.pad(values, (reach(band), reach(band)))
    copies = [
        padded[..., shift : shift + frames].reshape(heads, channels, frames // BLOCK, BLOCK)
        for shift in range(0, 2 * reach(band) + 1, BLOCK)
    ]
    return torch.cat(copies, dim=3).transpose(1, 2)


def band_mix(
    values: Tensor,
    windows: Sequence[tuple[Tensor, Tensor]],
    amplitudes: Sequence[Tensor],
    ramp: Tensor,
    band: int,
) -> Tensor:
    """Sum over pulses of amplitude times window mean, (1, H, d, T).

    values: (1, H, d, T), zero at padding. windows: starts and ends of each pulse, (1, H, 1, T),
    integers relative to their own frame, no farther than `band` where the frame is valid;
    amplitudes: (1, H, 1, T) for each of them. ramp: `band_ramp` in the dtype of values.
    """
    _, heads, _, frames = sizes(values)
    shape = (heads, frames // BLOCK, 1, BLOCK)
    weights = []
    for (starts, ends), amplitude in zip(windows, amplitudes, strict=False):
        share = (amplitude / (ends - starts)).reshape(shape)
        weights.append(share * inside(ramp, starts.reshape(shape), ends.reshape(shape)))
    mixed = key_blocks(values, band) @ sum(weights[1:], weights[0])
    return mixed.transpose(1, 2).reshape(sizes(values))
