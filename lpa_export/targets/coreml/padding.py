"""What the layers of a bucket know of padding, computed once for all of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lpa_export.hosts.parts import Parts
from lpa_export.targets.batched import MASKED_SCORE

__all__ = ["Padding", "Preparation", "Silence", "frames_left", "key_bias"]


class Padding(NamedTuple):
    """For T frames, each (1, 1, 1, T) but the last.

    `mask`: 1 at valid frames, else 0; `bias`: added to the scores of each key; `left`: n - t;
    `by_distance`: the host's position bias (1, H, T, T), where it has one.
    """

    mask: Tensor
    bias: Tensor
    left: Tensor
    by_distance: Tensor | None


class Preparation(nn.Module):
    """The mask of a bucket of `frames` frames -> `Padding`."""

    ones: Tensor
    ramp: Tensor
    by_distance: Tensor | None

    def __init__(self, parts: Parts, frames: int) -> None:
        super().__init__()
        self.register_buffer("ones", torch.ones(frames, 1))
        self.register_buffer("ramp", torch.arange(frames, dtype=torch.float32).view(1, 1, 1, -1))
        bias = parts.position_bias
        stored = None if bias is None else bias.of_pairs(frames).detach()[None]
        self.register_buffer("by_distance", stored)

    def forward(self, _hidden: Tensor, mask: Tensor) -> Padding:
        """mask: (1, 1, 1, T), 1 or 0."""
        left = frames_left(mask, self.ones, self.ramp)
        return Padding(mask, key_bias(mask), left, self.by_distance)


class Silence(nn.Module):
    """(1, D, 1, T) times the mask."""

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        return hidden * mask


def key_bias(mask: Tensor) -> Tensor:
    """(1, 1, 1, S): what is added to the scores of each key, 0 or `MASKED_SCORE`."""
    return (mask - 1.0) * -MASKED_SCORE


def frames_left(mask: Tensor, ones: Tensor, ramp: Tensor) -> Tensor:
    """n - t for each frame t of (1, 1, 1, T): valid frames from t on, negative behind them.

    mask: (1, 1, 1, T); ones: (T, 1); ramp: 0, 1, ... (1, 1, 1, T).
    """
    return mask @ ones - ramp
