"""Choosing golden clips of a separator: demo speech in generated noise, and what comes out."""

from __future__ import annotations

import math

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


def golden_mixtures(separator: Separator) -> tuple[GoldenMixture, ...]:
    """Of a second of some demo mixtures those whose window edges lie safest; by id.

    Raises LpaError when the reference does not give finite sources.
    """
    config = separator.model.config
    reference = SeparatorReference(separator.model)
    places = demo_mixtures(sample_rate=config.sampling_rate, sources=config.sources)
    samples = max(round(_SECONDS * config.sampling_rate), config.kernel_size)
    candidates = []
    for place in places[:_CANDIDATES]:
        mixture = place.read()
        # Behind the pause with which most recordings begin.
        start = max(0, (len(mixture.waveform) - samples) // 2)
        cut = slice(start, start + samples)
        waveform = as_stored(mixture.waveform[cut])
        with edge_margins(separator.model) as margins:
            taps = reference.taps(waveform)
        require_finite(taps, separator.name)
        clean = tuple(as_stored(part[cut]) for part in mixture.clean)
        clip = GoldenMixture(place.id, waveform, clean, taps)
        candidates.append((min(margins, default=math.inf), clip))
    safest = sorted(candidates, key=lambda candidate: -candidate[0])[:_CLIPS]
    return tuple(sorted((clip for _, clip in safest), key=lambda clip: clip.id))
