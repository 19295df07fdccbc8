"""Silence must give finite samples: every norm of the model divides by a deviation of nothing."""

import numpy as np

from lpa_validate.report import Check, Figure, judged, labelled
from lpa_validate.separation.evaluation import SeparationValidation

__all__ = ["check_silence"]


def check_silence(validation: SeparationValidation) -> list[Check]:
    """A second of zeros, or as near to it as the artifact takes."""
    runner, rate = validation.artifact, validation.bundle.manifest.sample_rate
    samples = max(rate, runner.min_samples)
    waveform = np.zeros(min(samples, runner.max_samples or samples), np.float32)
    found = validation.separate(waveform)
    bad = int(found.size - np.isfinite(found).sum())
    figures = [
        Figure("samples NaN or infinite", bad, gate=0, comparison="=="),
        Figure("loudest sample", float(np.abs(found).max())),
    ]
    return [judged("silence", labelled(validation.label, figures))]
