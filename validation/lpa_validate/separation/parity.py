"""Does the artifact give the waveforms of the original? Scale and sign count.

SI-SNR counts neither: an output upside down or twice as loud has the figures of the reference.
"""

import math
from collections.abc import Sequence

from lpa_export.errors import LpaError
from lpa_validate.checks.taps import TapComparison, compare_taps, first_diverging
from lpa_validate.report import Check, Figure, judged, labelled
from lpa_validate.separation.evaluation import Compared, SeparationValidation

__all__ = ["check_parity"]

# A tap below this is broken in any scheme.
_DIVERGES_DB = 40.0


def check_parity(validation: SeparationValidation) -> list[Check]:
    """SNR of the worst mixture and largest difference of level, against torch or golden clips."""
    reference = validation.reference
    if reference is None:
        try:
            found = validation.golden
        except LpaError as error:  # the bundle's own files are at fault, not the user's
            return [Check("parity", "fail", reason=str(error))]
    else:
        found = [item.against for item in validation.separated if item.against is not None]
    gates = validation.gates
    figures = [
        Figure("mixtures compared", len(found)),
        *labelled(
            validation.label,
            [
                Figure(
                    "outputs of another shape",
                    sum(item.shape != item.expected_shape for item in found),
                    gate=0,
                    comparison="==",
                ),
                Figure(
                    "samples NaN or infinite",
                    sum(item.non_finite for item in found),
                    gate=0,
                    comparison="==",
                ),
                Figure("SNR, worst mixture", _worst(found).snr_db, "dB", gates.snr_db, ">="),
                Figure(
                    "difference of level, largest",
                    max(found, key=_level).level_difference_db,
                    "dB",
                    gates.level_difference_db,
                    "<=",
                ),
            ],
        ),
    ]
    worst = _worst(found)
    taps = _taps(validation, worst)
    reason = ""
    if any(figure.failed for figure in figures):
        reason = _reason(figures, taps, worst)
    return [
        judged(
            "parity",
            figures,
            reason=reason,
            details={
                "reference": "torch" if reference is not None else "golden",
                "worst_utterance": worst.id,
                "taps": [tap.to_json() for tap in taps],
                "mixtures": [vars(item) for item in found],
            },
        )
    ]


def _taps(validation: SeparationValidation, worst: Compared) -> list[TapComparison]:
    """Of the worst mixture, where there is a reference to run again."""
    if validation.reference is None:
        return []
    place = next(place for place in validation.places if place.id == worst.id)
    waveform = place.read().waveform
    taps = validation.bundle.manifest.taps
    return compare_taps(
        taps, validation.artifact.taps(waveform), validation.reference.taps(waveform)
    )


def _worst(found: Sequence[Compared]) -> Compared:
    """NaN is worse than all."""
    return min(found, key=lambda item: -math.inf if math.isnan(item.snr_db) else item.snr_db)


def _level(item: Compared) -> float:
    """NaN is more than all."""
    level = item.level_difference_db
    return math.inf if math.isnan(level) else level


def _reason(figures: Sequence[Figure], taps: Sequence[TapComparison], worst: Compared) -> str:
    what = "; ".join(
        f"{figure.name} {figure.value:.4g} (must be {figure.comparison} {figure.gate})"
        for figure in figures
        if figure.failed and isinstance(figure.value, int | float)
    )
    first = first_diverging(taps, _DIVERGES_DB)
    if first is None:
        return f"{what}; worst on {worst.id!r}"
    return (
        f"{what}; first diverging tap: {first.name} ({first.kind}), PSNR {first.psnr_db:.1f} dB "
        f"on {worst.id!r}"
    )
