"""An LPA layer for a bucket of T frames in (B, C, 1, S): local dense masks, stored windows.

The same numbers as `layers.folding.LocalDenseMaskLPA`, laid out for the Neural Engine: means are
matmuls, the padding mask takes part in all of them, and no number is made from constants.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lpa_export.layers import LPA, LPAConfig
from lpa_export.layers.band import inside
from lpa_export.layers.windows import masks_by_pulse, positional_steps
from lpa_export.targets.coreml.band import band_mix, band_ramp
from lpa_export.targets.coreml.channels_first import (
    pointwise,
    sizes,
    split_heads,
)
from lpa_export.targets.coreml.convolutions import ShortConvs
from lpa_export.targets.coreml.limits import BLOCK
from lpa_export.targets.coreml.padding import Padding

__all__ = ["BandLPA"]


class BandLPA(nn.Module):
    """A copy of a hard LPA layer for exactly `frames` frames, a multiple of `limits.BLOCK`.

    Raises ValueError for other numbers of frames.
    """

    ramp: Tensor
    first: Tensor
    positions: Tensor
    start_steps: Tensor
    end_steps: Tensor

    def __init__(self, lpa: LPA, frames: int) -> None:
        super().__init__()
        if frames < BLOCK or frames % BLOCK:
            raise ValueError(f"expected a multiple of {BLOCK} frames, found {frames}")
        self.config = lpa.config
        self.value = pointwise(lpa.value)
        self.context = ShortConvs(lpa.context)
        self.controls = _controls(lpa)
        self.edges = _edges(lpa.config, lpa.value.weight.dtype) if lpa.config.aperiodic else None
        self.output = pointwise(lpa.output)
        for name, tensor in _stored(lpa, frames).items():
            self.register_buffer(name, tensor.to(lpa.value.weight))
        self.requires_grad_(False)

    def forward(self, hidden: Tensor, padding: Padding) -> Tensor:
        """hidden (1, D, 1, T), finite at padding -> (1, D, 1, T), meaningless at padding."""
        config, mask, left = self.config, padding.mask, padding.left
        hidden = hidden * mask
        values = split_heads(self.value(hidden) * mask, config.num_heads)
        logits = self.controls(self.context(hidden))
        edges = 2 * config.num_heads * config.aperiodic
        # One row (1, H, 1, T) per pulse, beside (1, H, d, T) values.
        amplitudes = torch.sigmoid(logits[:, edges:]).split(config.num_heads, dim=1)
        local = config.aperiodic + config.periodic
        parts = []
        if self.edges is not None:
            windows = self._windows(self.edges(torch.tanh(logits[:, :edges])), left)
            parts.append(band_mix(values, windows, amplitudes, self.ramp, config.band))
        parts += [
            amplitude * self._periodic(k, values, mask)
            for k, amplitude in enumerate(amplitudes[config.aperiodic : local])
        ]
        if config.positional:
            parts += self._positional(values, mask, amplitudes[local:])
        output: Tensor = self.output(sum(parts[1:], parts[0]).reshape(sizes(hidden)))
        return output

    def _windows(self, edges: Tensor, left: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Clipped windows of each aperiodic pulse, relative to their frame, each (1, H, 1, T).

        edges: (1, 2 H K, 1, T), first all lower ones; as `layers.band.relative_windows` does.
        """
        lower, upper = torch.ceil(edges).chunk(2, dim=1)
        starts = torch.minimum(torch.maximum(lower, self.first), left - 1.0)
        ends = torch.maximum(torch.minimum(upper, left), starts + 1.0)
        heads = self.config.num_heads
        return list(zip(starts.split(heads, dim=1), ends.split(heads, dim=1), strict=True))

    def _periodic(self, pulse: int, values: Tensor, mask: Tensor) -> Tensor:
        """(1, H, d, T): the mean of each tooth, given to all frames of its period."""
        shares, members = self.get_buffer(f"shares_{pulse}"), self.get_buffer(f"members_{pulse}")
        sums = (values * shares) @ members
        # A tooth with a valid frame holds at least the T-th part of itself.
        present = ((mask * shares) @ members).clamp_min(0.5 / sizes(mask)[-1])
        return (sums / present) @ self.get_buffer(f"teeth_{pulse}")

    def _positional(
        self, values: Tensor, mask: Tensor, amplitudes: Sequence[Tensor]
    ) -> list[Tensor]:
        """One term (1, H, d, T) per pulse: its mean, given back through the same gate."""
        heads = self.config.num_heads
        starts = (mask @ self.start_steps).transpose(1, 3).split(heads, dim=1)
        ends = (mask @ self.end_steps).transpose(1, 3).split(heads, dim=1)
        terms = []
        for start, end, amplitude in zip(starts, ends, amplitudes, strict=True):
            gates = inside(self.positions, start, end)
            # Divided before the sum: a sum over a whole utterance may leave the float16 range.
            means = values @ (gates / (end - start).clamp_min(1.0)).transpose(2, 3)
            terms.append(amplitude * gates * means)
        return terms


def _controls(lpa: LPA) -> nn.Conv2d:
    """The control logits as a 1x1 convolution whose channels are ordered pulse by pulse.

    Offsets of all heads for each pulse, widths, amplitudes. The logit of a width is halved:
    sigmoid(x) is (1 + tanh(x / 2)) / 2, and then one tanh serves offsets and widths.
    """
    config = lpa.config
    counts = (config.aperiodic, config.aperiodic, config.pulses)
    channel = torch.arange(config.controls)
    families = channel.split([config.num_heads * count for count in counts])
    order = torch.cat(
        [
            family.view(config.num_heads, count).T.flatten()
            for family, count in zip(families, counts, strict=True)
        ]
    )
    widths = slice(len(families[0]), 2 * len(families[0]))
    conv = pointwise(lpa.controls)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(parameter[order])
            parameter[widths].mul_(0.5)
    return conv


def _edges(config: LPAConfig, dtype: torch.dtype) -> nn.Conv2d:
    """Lower and upper edges from the tanh of offset and width logits, as a 1x1 convolution.

    c -+ w/2 with c = R o and w/2 = (w_min + w_max) / 4 + (w_max - w_min) / 4 q. One convolution
    rounds once, where five operations would each round to float16.
    """
    pulses = config.num_heads * config.aperiodic
    conv = nn.Conv2d(2 * pulses, 2 * pulses, 1, dtype=dtype)
    assert conv.bias is not None
    offset = config.max_offset * torch.eye(pulses)
    half_width = (config.max_width - config.min_width) / 4 * torch.eye(pulses)
    middle = (config.max_width + config.min_width) / 4
    weight = torch.cat(
        [torch.cat([offset, -half_width], dim=1), torch.cat([offset, half_width], dim=1)]
    )
    with torch.no_grad():
        conv.weight.copy_(weight[:, :, None, None])
        conv.bias[:pulses], conv.bias[pulses:] = -middle, middle
    return conv


def _stored(lpa: LPA, frames: int) -> dict[str, Tensor]:
    """All that depends on time but not on the content."""
    config = lpa.config
    ramp = torch.arange(frames)
    stored = {}
    if config.aperiodic:
        stored["ramp"] = band_ramp(config.band)
        stored["first"] = (-ramp).clamp_min(-config.band).view(1, 1, 1, -1)
    teeth, shares = lpa.fixed_windows()
    with torch.no_grad():
        for k, (masks, members) in enumerate(masks_by_pulse(teeth, frames)):
            # (1, H, T, J); a tooth lies among its members, so one row of shares is all of it.
            stored[f"members_{k}"] = members[None, :, 0]
            # Stored once more the other way round: each is then packed into one bit, which a
            # constant that is read both ways cannot be.
            stored[f"teeth_{k}"] = members[None, :, 0].transpose(2, 3)
            # A head with fewer teeth than another has rows left over, without members.
            used = masks * members.amax(dim=2)[..., None]
            widths = used.sum(dim=3, keepdim=True).clamp_min(1)
            # (H, 1, J, T) -> (1, H, 1, T)
            stored[f"shares_{k}"] = (used / widths).sum(dim=2).transpose(0, 1)[:, :, None]
        if shares is not None:
            starts, ends = positional_steps(*shares, frames)
            stored["positions"] = ramp.view(1, 1, 1, -1)
            stored["start_steps"], stored["end_steps"] = (
                _pulse_by_pulse(steps, config) for steps in (starts, ends)
            )
    return stored


def _pulse_by_pulse(steps: Tensor, config: LPAConfig) -> Tensor:
    """(T, H K) -> (1, 1, T, K H)."""
    by_head = steps.view(-1, config.num_heads, config.positional)
    return by_head.transpose(1, 2).flatten(1)[None, None]
