"""Does exporting cost quality: SI-SNR over that of the mixture, and outputs that are gone?

SI-SNR counts no level, so that an output far below its input is a failure of its own.
"""

from collections.abc import Sequence

import numpy as np

from lpa_validate.report import Check, Figure, judged, labelled, not_run
from lpa_validate.separation.evaluation import Separated, SeparationValidation

__all__ = ["check_separation"]


def check_separation(validation: SeparationValidation) -> list[Check]:
    """SI-SNRi of the artifact and of the reference, by signal-to-noise ratio too."""
    found = validation.separated
    measured = [item for item in found if item.si_snri_db is not None]
    if not measured:
        return [not_run("separation", "no mixture has both a source and something beside it")]
    ours = _mean([item.si_snri_db for item in measured])
    figures = [
        *labelled(
            validation.label,
            [
                Figure("SI-SNRi, artifact", ours, "dB"),
                *_by_ratio(measured),
                Figure(
                    "outputs 30 dB below their input",
                    sum(item.silenced for item in found),
                    gate=validation.gates.silenced,
                    comparison="<=",
                ),
            ],
        )
    ]
    if len(measured) < len(found):
        left_out = len(found) - len(measured)
        figures.append(Figure("mixtures of a silent source, or of nothing beside it", left_out))
    if validation.reference is not None:
        theirs = [item.reference_si_snri_db for item in measured]
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
        "not compared": validation.reference_problem if validation.reference is None else "",
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


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean(np.array(values, np.float64)))
