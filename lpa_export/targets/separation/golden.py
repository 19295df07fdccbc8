"""Choosing golden clips of a separator: demo speech in generated noise, and what comes out."""

from __future__ import annotations

import math

import numpy as np

from lpa_export.formats.mixtures import demo_mixtures
from lpa_export.formats.separation_bundle import GoldenMixture
from lpa_export.formats.separator import Separator
from lpa_export.runtimes.separation.torch import SeparatorReference
from lpa_export.targets.golden import as_stored, edge_margins, require_finite

__all__ = ["golden_mixtures"]

_CLIPS = 3
_CANDIDATES = 8

# Taps of every frame weigh megabytes a second.
_SECONDS = 1.0
_QUIET = 0.1
"""Every other candidate is so much quieter: nothing levels what a separator hears."""


def golden_mixtures(separator: Separator, longest: int | None = None) -> tuple[GoldenMixture, ...]:
    """Of a second of some demo mixtures those whose window edges lie safest; by id.

    One of the three is 20 dB quieter. `longest`: samples that the artifact takes, None for any.
    Raises LpaError when the reference does not give finite sources.
    """
    config = separator.model.config
    reference = SeparatorReference(separator.model)
    places = demo_mixtures(sample_rate=config.sampling_rate, sources=config.sources)
    samples = max(round(_SECONDS * config.sampling_rate), config.kernel_size)
    samples = min(samples, longest or samples)
    loud: list[tuple[float, GoldenMixture]] = []
    quiet: list[tuple[float, GoldenMixture]] = []
    for number, place in enumerate(places[:_CANDIDATES]):
        mixture = place.read()
        # Behind the pause with which most recordings begin.
        start = max(0, (len(mixture.waveform) - samples) // 2)
        cut = slice(start, start + samples)
        gain = np.float32(_QUIET if number % 2 else 1.0)
        waveform = as_stored(gain * mixture.waveform[cut])
        with edge_margins(separator.model) as margins:
            taps = reference.taps(waveform)
        require_finite(taps, separator.name)
        clean = tuple(as_stored(gain * part[cut]) for part in mixture.clean)
        clip = GoldenMixture(place.id, waveform, clean, taps)
        (quiet if number % 2 else loud).append((min(margins, default=math.inf), clip))
    for found in (loud, quiet):
        found.sort(key=lambda candidate: -candidate[0])
    safest = [*loud[: _CLIPS - 1], *quiet[:1]]
    return tuple(sorted((clip for _, clip in safest), key=lambda clip: clip.id))
