"""The content-independent pulses: periodic teeth and positional basis windows."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lpa_export.layers.config import LPAConfig

FIRST_PERIODS = (8.0, 64.0)
FIRST_HALF_WIDTH = 0.15
MAX_HALF_WIDTH = 0.5


class Teeth(NamedTuple):
    """Periodic teeth in frames, each (H, K_p): tooth j covers [phase + jP, phase + jP + width)."""

    period: Tensor
    phase: Tensor
    width: Tensor


class Shares(NamedTuple):
    """Edges of basis windows as shares of the utterance, each (H, K_s): [lower n, upper n)."""

    lower: Tensor
    upper: Tensor


class PeriodicPulses(nn.Module):
    """Windows that repeat in time: period, phase and duty per head and pulse."""

    def __init__(self, config: LPAConfig) -> None:
        super().__init__()
        self.min_period = config.min_period
        self.max_period = config.max_period
        count = config.num_heads * config.periodic
        shape = (config.num_heads, config.periodic)
        share = (torch.arange(count) + 0.5) / count
        shortest, longest = (
            min(max(period, config.min_period), config.max_period) for period in FIRST_PERIODS
        )
        period = shortest * (longest / shortest) ** share
        self.log_period = nn.Parameter(period.log().view(shape))
        self.phase = nn.Parameter((period * (torch.arange(count) * 0.618034 % 1.0)).view(shape))
        self.duty = nn.Parameter(torch.zeros(shape))

    def teeth(self, dtype: torch.dtype) -> Teeth:
        """The teeth computed in `dtype`; width 1 + (P - 1) sigmoid(duty) is at least one frame."""
        period = self.log_period.to(dtype).exp().clamp(self.min_period, self.max_period)
        width = 1 + (period - 1) * torch.sigmoid(self.duty.to(dtype))
        return Teeth(period, self.phase.to(dtype), width)


class PositionalPulses(nn.Module):
    """Basis windows over the whole utterance: centre and half-width per head and pulse."""

    def __init__(self, config: LPAConfig) -> None:
        super().__init__()
        count = config.num_heads * config.positional
        shape = (config.num_heads, config.positional)
        share = (torch.arange(count) + 0.5) / count
        first = FIRST_HALF_WIDTH / MAX_HALF_WIDTH
        self.centre = nn.Parameter(torch.logit(share).view(shape))
        self.half_width = nn.Parameter(torch.full(shape, math.log(first / (1 - first))))

    def shares(self, dtype: torch.dtype) -> Shares:
        """The edges computed in `dtype`."""
        centre = torch.sigmoid(self.centre.to(dtype))
        half_width = MAX_HALF_WIDTH * torch.sigmoid(self.half_width.to(dtype))
        return Shares(centre - half_width, centre + half_width)
