"""What the context says to the pulses of each frame: aperiodic edges and all amplitudes."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lpa_export.layers.config import LPAConfig

FIRST_OFFSETS = 8.0
FIRST_WIDTHS = (3.0, 12.0)
# Spread of the first content-dependent logits on a hidden state of unit variance: the windows
# move by a frame or two around their tiled start.
FIRST_LOGIT_SPREAD = 0.1


class Controls(NamedTuple):
    """Edges relative to the centre of frame t, in frames, and amplitudes in (0, 1).

    lower, upper: (B, T, H, K_a), of the pulses that move with their frame (none with anchor
    `utterance`); amplitudes: (B, T, H, K), aperiodic, periodic, positional.
    """

    lower: Tensor
    upper: Tensor
    amplitudes: Tensor


def read_controls(logits: Tensor, config: LPAConfig) -> Controls:
    """Control logits (B, T, `config.controls`) as edges and amplitudes.

    Offset c = R tanh(.), width w = w_min + (w_max - w_min) sigmoid(.); the edges are c -+ w/2.
    """
    per_family = config.num_heads * config.moving
    sizes = (per_family, per_family, config.num_heads * config.pulses)
    offset_logits, width_logits, amplitude_logits = logits.split(sizes, dim=-1)
    offset = config.max_offset * torch.tanh(offset_logits)
    span = (config.max_width - config.min_width) / 2
    half_width = config.min_width / 2 + span * torch.sigmoid(width_logits)
    return Controls(
        lower=(offset - half_width).unflatten(-1, (config.num_heads, config.moving)),
        upper=(offset + half_width).unflatten(-1, (config.num_heads, config.moving)),
        amplitudes=torch.sigmoid(amplitude_logits).unflatten(-1, (config.num_heads, config.pulses)),
    )


def initialise_controls(linear: nn.Linear, config: LPAConfig) -> None:
    """Make the first windows tile the neighbourhood of a frame, every amplitude one half.

    Offsets are spread evenly over the pulses of all heads, widths geometrically and in another
    order, so that near and far windows are both narrow and wide.
    """
    pulses = config.num_heads * config.moving
    reach = min(FIRST_OFFSETS, config.max_offset / 2)
    offsets = torch.linspace(-reach, reach, pulses) if pulses > 1 else torch.zeros(pulses)
    # Steps of the golden ratio visit the range evenly in an order unlike the offsets'.
    share = torch.arange(pulses) * 0.618034 % 1.0
    narrow, wide = (_inside(width, config.min_width, config.max_width) for width in FIRST_WIDTHS)
    widths = narrow * (wide / narrow) ** share
    width_share = (widths - config.min_width) / (config.max_width - config.min_width)
    with torch.no_grad():
        linear.weight.normal_(std=FIRST_LOGIT_SPREAD / math.sqrt(config.hidden_size))
        linear.bias.zero_()
        linear.bias[:pulses] = torch.atanh(offsets / config.max_offset)
        linear.bias[pulses : 2 * pulses] = torch.logit(width_share)


def _inside(value: float, low: float, high: float) -> float:
    margin = 0.05 * (high - low)
    return min(max(value, low + margin), high - margin)
