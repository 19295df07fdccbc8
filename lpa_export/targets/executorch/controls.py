"""What the context says to the pulses, one small product per pulse.

One product for all of them would have to be cut into pulses afterwards, and XNNPACK does not slice
a tensor of dynamic length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpa_export.layers.lpa import LPA
from lpa_export.targets.executorch.shapes import to_image, to_matrix
from lpa_export.targets.rows import row_convolution

__all__ = ["PulseControls"]


class PulseControls(nn.Module):
    """The context and the controls of one layer; the same numbers as `read_controls`."""

    def __init__(self, lpa: LPA) -> None:
        super().__init__()
        config = lpa.config
        self.config = config
        self.context = row_convolution(lpa.context)
        self.reach = config.kernel_size // 2
        heads, aperiodic = config.num_heads, config.aperiodic
        sizes = (heads * aperiodic, heads * aperiodic, heads * config.pulses)
        parts = zip(
            lpa.controls.weight.detach().split(sizes),
            lpa.controls.bias.detach().split(sizes),
            strict=True,
        )
        self.offsets, self.widths, self.amplitudes = (
            _per_pulse(weight, bias, heads) for weight, bias in parts
        )

    def forward(self, hidden: Tensor) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
        """(T, D) -> lower and upper edges of each aperiodic pulse, and every pulse's amplitude.

        All are (T, H); edges are relative to the centre of the frame, in frames.
        """
        image = functional.pad(to_image(hidden), (self.reach, self.reach))
        context = to_matrix(self.context(image))
        config = self.config
        span = (config.max_width - config.min_width) / 2
        edges = []
        for to_offset, to_width in zip(self.offsets, self.widths, strict=True):
            offset = config.max_offset * torch.tanh(to_offset(context))
            half = config.min_width / 2 + span * torch.sigmoid(to_width(context))
            edges.append((offset - half, offset + half))
        return edges, [torch.sigmoid(linear(context)) for linear in self.amplitudes]


def _per_pulse(weight: Tensor, bias: Tensor, heads: int) -> nn.ModuleList:
    """One linear map to H outputs per pulse; a head's pulses lie side by side in `weight`."""
    pulses = weight.shape[0] // heads
    maps = nn.ModuleList()
    for k in range(pulses):
        linear = nn.Linear(weight.shape[1], heads)
        linear.load_state_dict({"weight": weight[k::pulses], "bias": bias[k::pulses]})
        maps.append(linear)
    return maps
