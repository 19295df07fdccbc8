"""Aperiodic pulses anchored to the utterance: a few content-dependent windows for all its frames.

The form that `LPAConfig.anchor` calls `utterance`. Where a pulse of the other form lies near its
own frame and moves with it, here the context, averaged over the valid frames, says where in the
utterance each window lies and how wide it is. Its mean is collected once and given back to every
frame through the amplitude of that frame: y(t) += a_k(t) m_k. Windows are shares of the utterance
as those of the positional family, with the same soft gates, rounding and clipping.
"""

import math

import torch
from torch import Tensor, nn

from lpa_export.layers.config import LPAConfig
from lpa_export.layers.controls import FIRST_LOGIT_SPREAD
from lpa_export.layers.fixed_pulses import FIRST_HALF_WIDTH, MAX_HALF_WIDTH, Shares
from lpa_export.layers.prefix_sum import prefix_sum, window_means
from lpa_export.layers.soft import positional_gates, weighted_means
from lpa_export.layers.windows import positional_windows


class UtterancePulses(nn.Module):
    """What the mean context says of the windows: centre and half-width, per head and pulse."""

    def __init__(self, config: LPAConfig) -> None:
        super().__init__()
        self.shape = (2, config.num_heads, config.aperiodic)
        count = config.num_heads * config.aperiodic
        self.windows = nn.Linear(config.hidden_size, 2 * count)
        first = FIRST_HALF_WIDTH / MAX_HALF_WIDTH
        with torch.no_grad():
            self.windows.weight.normal_(std=FIRST_LOGIT_SPREAD / math.sqrt(config.hidden_size))
            self.windows.bias[:count] = torch.logit((torch.arange(count) + 0.5) / count)
            self.windows.bias[count:] = math.log(first / (1 - first))

    def shares(self, context: Tensor, lengths: Tensor) -> Shares:
        """Edges (B, H, K_a) as shares of each utterance, from context (B, T, D)."""
        frame = torch.arange(context.shape[1], device=context.device)
        present = (frame < lengths[:, None]).to(context.dtype)
        # A matmul, so that padding (zero times finite) adds nothing at any length.
        mean = (present[:, None] @ context)[:, 0] / lengths.clamp_min(1)[:, None]
        centre, half_width = self.windows(mean).sigmoid().unflatten(-1, self.shape).unbind(1)
        return Shares(centre - MAX_HALF_WIDTH * half_width, centre + MAX_HALF_WIDTH * half_width)


def soft_utterance_means(
    values: Tensor, shares: Shares, lengths: Tensor, temperature: float
) -> Tensor:
    """Means (B, H, K_a, d) under soft gates of values (B, T, H, d) that are zero at padding."""
    frames = values.shape[1]
    gates = positional_gates(*shares, lengths, frames, temperature)
    present = torch.arange(frames, device=values.device) < lengths[:, None]
    gates = gates * present[:, None, None]
    sums = gates @ values.transpose(1, 2)
    return weighted_means(torch.cat([sums, gates.sum(-1, keepdim=True)], dim=-1))


def hard_utterance_means(values: Tensor, shares: Shares, lengths: Tensor) -> Tensor:
    """Means (B, H, K_a, d) of the integer windows of values (B, T, H, d), zero at padding."""
    starts, ends = positional_windows(shares.lower.double(), shares.upper.double(), lengths)
    means = window_means(prefix_sum(values), starts[:, None], ends[:, None])[:, 0]
    return means.to(values.dtype)
