"""Does exporting cost quality: SI-SNR over that of the mixture, and outputs that are gone?

SI-SNR calls silence 0 dB, so that an output far below its input is counted as a failure of its own.
"""

from collections.abc import Sequence

import numpy as np

from lpa_validate.report import Check, Figure, judged, labelled
from lpa_validate.separation.evaluation import Separated, SeparationValidation

__all__ = ["check_separation"]


def check_separation(validation: SeparationValidation) -> list[Check]:
    """SI-SNRi of the artifact and of the reference, by signal-to-noise ratio too."""
    found = validation.separated
    ours = _mean([item.si_snri_db for item in found])
    figures = [
        *labelled(
            validation.label,
            [
                Figure("SI-SNRi, artifact", ours, "dB"),
                *_by_ratio(found),
                Figure(
                    "outputs 30 dB below their input",
                    sum(item.silenced for item in found),
                    gate=validation.gates.silenced,
                    comparison="<=",
                ),
            ],
        )
    ]
    theirs = [item.reference_si_snri_db for item in found if item.reference_si_snri_db is not None]
    if len(theirs) == len(found):
        gate = validation.gates.si_snri_difference_db
        difference = abs(ours - _mean(theirs))
        figures += [
            Figure("SI-SNRi, reference", _mean(theirs), "dB"),
            *labelled(
                validation.label,
                [Figure("difference of SI-SNRi", difference, "dB", gate, "<=")],
            ),
        ]
    details = {
        "mixtures": [
            {
                "id": item.place.id,
                "snr_db": item.place.snr_db,
                "si_snri_db": item.si_snri_db,
                "reference_si_snri_db": item.reference_si_snri_db,
                "silenced": item.silenced,
            }
            for item in found
        ],
        "not compared": "" if theirs else validation.reference_problem,
    }
    return [judged("separation", figures, details=details)]


def _by_ratio(found: Sequence[Separated]) -> list[Figure]:
    ratios = sorted({item.place.snr_db for item in found if item.place.snr_db is not None})
    return [
        Figure(
            f"SI-SNRi, mixtures at {ratio:g} dB",
            _mean([item.si_snri_db for item in found if item.place.snr_db == ratio]),
            "dB",
        )
        for ratio in ratios
    ]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
