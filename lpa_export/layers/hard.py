"""Hard gates for inference: means of integer windows from one prefix sum, O(n) at any length."""

import torch
from torch import Tensor

from lpa_export.layers.controls import Controls
from lpa_export.layers.fixed_pulses import Shares, Teeth
from lpa_export.layers.prefix_sum import prefix_sum, window_means
from lpa_export.layers.windows import (
    aperiodic_windows,
    clip_windows,
    periodic_windows,
    positional_windows,
    window_mask,
)


def hard_mix(
    values: Tensor,
    controls: Controls,
    lengths: Tensor,
    *,
    teeth: Teeth | None,
    shares: Shares | None,
) -> Tensor:
    """Mixture (B, T, H, d) of values (B, T, H, d) that are zero at padding.

    lengths: (B,) int64; teeth and shares: float64, None where a family has no pulse. No tensor
    here grows with the square of T, and nothing depends on data in Python: it exports as it is.
    """
    sums = prefix_sum(values)
    aperiodic = controls.lower.shape[-1]
    local = aperiodic + (0 if teeth is None else teeth.period.shape[-1])
    parts = []
    if local:
        windows = _local_windows(controls, lengths, teeth)
        means = window_means(sums, *windows).to(values.dtype)
        parts.append((controls.amplitudes[..., :local, None] * means).sum(3))
    if shares is not None:
        starts, ends = positional_windows(shares.lower, shares.upper, lengths)
        means = window_means(sums, starts[:, None], ends[:, None])[:, 0].to(values.dtype)
        gates = window_mask(starts, ends, values.shape[1]).to(values.dtype).permute(0, 3, 1, 2)
        weights = (controls.amplitudes[..., local:] * gates).transpose(1, 2)
        parts.append((weights @ means).transpose(1, 2))
    return sum(parts[1:], parts[0])


def _local_windows(
    controls: Controls, lengths: Tensor, teeth: Teeth | None
) -> tuple[Tensor, Tensor]:
    """Windows of the aperiodic, then the periodic pulses, (B, T, H, K_a + K_p)."""
    families = []
    if controls.lower.shape[-1]:
        families.append(aperiodic_windows(controls.lower, controls.upper, lengths))
    if teeth is not None:
        windows = periodic_windows(*teeth, frames=controls.lower.shape[1])
        families.append(clip_windows(*windows, lengths[:, None, None, None]))
    starts, ends = zip(*families, strict=True)
    return torch.cat(starts, dim=-1), torch.cat(ends, dim=-1)
