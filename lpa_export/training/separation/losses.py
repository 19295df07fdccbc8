"""What a separator learns from: the signal-to-noise ratio of its best assignment, in dB."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from lpa_export.training.separation.mixtures import Mixtures

__all__ = ["separation_loss", "si_snr"]

# Powers of audio whose full scale is 1: far below what 16 bits tell apart.
_QUIET = 1e-10


def si_snr(estimate: Tensor, source: Tensor) -> Tensor:
    """(..., samples) -> (...) in dB: what of the estimate is the source, over what is not.

    Both without their mean; the source is scaled to what of it is in the estimate (Le Roux et al.
    2019, "SDR - half-baked or well done?"). Of a silent estimate it is 0 dB.
    """
    estimate = estimate - estimate.mean(-1, keepdim=True)
    source = source - source.mean(-1, keepdim=True)
    power = source.square().mean(-1, keepdim=True) + _QUIET
    target = (estimate * source).mean(-1, keepdim=True) / power * source
    wanted = target.square().mean(-1) + _QUIET
    unwanted = (estimate - target).square().mean(-1) + _QUIET
    return 10 * torch.log10(wanted / unwanted)


def separation_loss(model: Any, batch: Mixtures, level_weight: float) -> dict[str, Tensor]:
    """Negative SI-SNR of the assignment of outputs to sources that has the most of it.

    Permutation-invariant training (Yu et al. 2017). SI-SNR counts no level: `level_weight` is what
    a dB of difference costs.
    """
    sources = batch.sources
    # Under autocast a model may answer in bfloat16, whose powers are a percent wrong.
    estimates = model(batch.waveforms).to(sources.dtype)
    ratios = si_snr(estimates[:, :, None], sources[:, None])
    orders = list(permutations(range(sources.shape[1])))
    rows = torch.arange(sources.shape[1])
    means = torch.stack([ratios[:, list(order), rows].mean(-1) for order in orders], -1)
    best, chosen = means.max(-1)
    order = torch.tensor(orders, device=chosen.device)[chosen]
    matched = estimates.gather(1, order[..., None].expand_as(estimates))
    level = (_level(matched) - _level(sources)).abs().mean()
    ratio = best.mean()
    loss = level_weight * level - ratio
    return {"loss": loss, "si_snr_db": ratio.detach(), "level_db": level.detach()}


def _level(waveforms: Tensor) -> Tensor:
    return 10 * torch.log10(waveforms.square().mean(-1) + _QUIET)
