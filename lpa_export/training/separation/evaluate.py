"""How well a separator does on held-out mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lpa_export.formats.mixing import Draw
from lpa_export.training.records import Figure
from lpa_export.training.separation.losses import si_snr
from lpa_export.training.separation.mixtures import Sounds

__all__ = ["IMPROVEMENT", "improvements", "summary"]

IMPROVEMENT = Figure("si_snri_db", "SI-SNRi", "dB", "dB", rises=True)

_CLIPS = 4


@torch.inference_mode()
def improvements(model: Any, sounds: Sounds, draws: Sequence[Draw]) -> np.ndarray:
    """SI-SNR of the estimate over that of the mixture, in dB, (mixtures,); enhancement only.

    The model's mode is put back afterwards.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    found = []
    for first in range(0, len(draws), _CLIPS):
        batch = sounds.batch(draws[first : first + _CLIPS]).to(device)
        speech = batch.sources[:, 0]
        gained = si_snr(model(batch.waveforms)[:, 0], speech) - si_snr(batch.waveforms, speech)
        found.append(gained.cpu().numpy())
    model.train(training)
    return np.concatenate(found)


def summary(gained: np.ndarray, draws: Sequence[Draw]) -> dict[str, float]:
    """The mean improvement, and that of each signal-to-noise ratio: `si_snri_db at -5 dB`."""
    by_ratio: dict[float, list[float]] = {}
    for draw, value in zip(draws, gained, strict=True):
        by_ratio.setdefault(draw.snr_db, []).append(float(value))
    name = IMPROVEMENT.name
    return {name: float(np.mean(gained))} | {
        f"{name} at {ratio:g} dB": float(np.mean(by_ratio[ratio])) for ratio in sorted(by_ratio)
    }
