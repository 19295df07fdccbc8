"""Fold a layer for inference: its hard form with all that is constant computed and stored."""

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from lpa_export.layers.any_length import AnyLength
from lpa_export.layers.band import band_mix, band_offsets, inside, relative_windows
from lpa_export.layers.controls import read_controls
from lpa_export.layers.lpa import LPA
from lpa_export.layers.windows import masks_by_pulse, positional_steps

Form = Literal["prefix_sum", "local_dense_mask"]
BAND_BLOCK = 64


def fold(lpa: LPA, *, form: Form, frames: int | None = None) -> nn.Module:
    """A copy of the layer that holds its hard form only; `lpa` itself stays as it is.

    `prefix_sum` takes any length; `local_dense_mask` takes exactly `frames` frames, padding
    included. Raises ValueError for another form, when `frames` is missing or has no use, and for
    pulses that are anchored to the utterance.
    Cast the layer before folding: stored windows of `prefix_sum` must stay in float64.
    """
    if lpa.config.anchor != "frame":
        raise ValueError(f"pulses anchored to the {lpa.config.anchor} have no folded form")
    if form == "prefix_sum" and frames is None:
        return AnyLength(lpa)
    if form == "local_dense_mask" and frames is not None and frames >= 1:
        return LocalDenseMaskLPA(lpa, frames)
    raise ValueError(
        "expected form='prefix_sum' without frames, or form='local_dense_mask' with frames >= 1; "
        f"found form={form!r}, frames={frames}"
    )


class LocalDenseMaskLPA(nn.Module):
    """Fixed length T (a bucket): masks and ramps stored, means by matmul, padding by a mask.

    Its graph makes no number from constants (no arange, floor, cos or comparison). Integers reach
    T, so float16 is exact up to T = 2,048 frames (41 s).
    """

    ones: Tensor
    ramp: Tensor
    first: Tensor
    offsets: Tensor
    start_steps: Tensor
    end_steps: Tensor

    def __init__(self, lpa: LPA, frames: int) -> None:
        super().__init__()
        self.config = config = lpa.config
        self.value = copy.deepcopy(lpa.value)
        self.context = copy.deepcopy(lpa.context)
        self.controls = copy.deepcopy(lpa.controls)
        self.output = copy.deepcopy(lpa.output)
        self.requires_grad_(False)
        self.frames = frames
        ramp = torch.arange(frames)
        stored = {
            "ones": torch.ones(frames, 1),
            "ramp": ramp,
            "first": (-ramp).clamp_min(-config.band)[:, None],
            # A block longer than the bucket would only store a longer ramp.
            "offsets": band_offsets(config.band, min(BAND_BLOCK, frames)),
        }
        teeth, shares = lpa.fixed_windows()
        with torch.no_grad():
            for k, (masks, members) in enumerate(masks_by_pulse(teeth, frames)):
                stored[f"teeth_{k}"], stored[f"members_{k}"] = masks[:, 0], members[:, 0]
            if shares is not None:
                stored["start_steps"], stored["end_steps"] = positional_steps(*shares, frames)
        for name, tensor in stored.items():
            self.register_buffer(name, tensor.to(lpa.value.weight))

    def forward(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """hidden (B, T, D), valid (B, T) 1 or 0 in the dtype of hidden -> (B, T, D).

        hidden must be finite at padding. Raises ValueError for another T.
        """
        if hidden.shape[1] != self.frames:
            raise ValueError(f"folded for {self.frames} frames, found {hidden.shape[1]}")
        config = self.config
        hidden = hidden * valid[..., None]
        values = (self.value(hidden) * valid[..., None]).unflatten(-1, (config.num_heads, -1))
        values = values.transpose(1, 2)
        context = self.context(hidden.transpose(1, 2)).transpose(1, 2)
        controls = read_controls(self.controls(context), config)
        lower, upper, amplitudes = (part.transpose(1, 2) for part in controls)
        counts = (config.aperiodic, config.periodic, config.positional)
        aperiodic, periodic, positional = amplitudes.split(counts, dim=-1)
        parts = []
        if config.aperiodic:
            left = (valid @ self.ones - self.ramp)[:, None, :, None]
            windows = relative_windows(lower, upper, self.first, left)
            parts.append(band_mix(values, *windows, aperiodic, self.offsets))
        if config.periodic:
            parts.extend(self._periodic(values, valid, periodic))
        if config.positional:
            parts.append(self._positional(values, valid, positional))
        mixed = sum(parts[1:], parts[0])
        return self.output(mixed.transpose(1, 2).flatten(2)) * valid[..., None]

    def _periodic(self, values: Tensor, valid: Tensor, amplitudes: Tensor) -> list[Tensor]:
        """One term (B, H, T, d) per pulse: mean of each tooth, repeated over its frames."""
        terms = []
        for k in range(amplitudes.shape[3]):
            teeth, members = self.get_buffer(f"teeth_{k}"), self.get_buffer(f"members_{k}")
            frames_inside = teeth @ valid[:, None, :, None]
            means = teeth @ values / frames_inside.clamp_min(1.0)
            terms.append(amplitudes[..., k : k + 1] * (members @ means))
        return terms

    def _positional(self, values: Tensor, valid: Tensor, amplitudes: Tensor) -> Tensor:
        """(B, H, T, d): means over the utterance, given back through the same gate."""
        shape = (-1, amplitudes.shape[1], amplitudes.shape[3], 1)
        starts = (valid @ self.start_steps).view(shape)
        ends = (valid @ self.end_steps).view(shape)
        gates = inside(self.ramp, starts, ends)
        means = gates @ values / (ends - starts).clamp_min(1.0)
        return (amplitudes * gates.transpose(2, 3)) @ means
