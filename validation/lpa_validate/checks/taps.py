"""Where two models part: their intermediate outputs compared in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lpa_export.formats.manifest import Tap
from lpa_export.measures.arrays import max_difference, non_finite, psnr_db
from lpa_export.runtimes import Array

__all__ = ["TapComparison", "compare_taps", "first_diverging"]


@dataclass(frozen=True)
class TapComparison:
    """One tap of one utterance; ``psnr_db`` is NaN where the two cannot be compared."""

    name: str
    kind: str
    psnr_db: float
    max_difference: float
    non_finite: int
    shape: tuple[int, ...]
    reference_shape: tuple[int, ...]

    def diverges(self, gate_db: float) -> bool:
        """Whether this tap is not the reference's within ``gate_db``. NaN diverges."""
        return self.shape != self.reference_shape or not self.psnr_db >= gate_db

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def compare_taps(
    taps: Sequence[Tap],
    found: Mapping[str, Array],
    expected: Mapping[str, Array],
) -> list[TapComparison]:
    """The manifest's ``taps`` that both sides have, in order; arrays are (frames, width)."""
    compared = []
    for tap in taps:
        if tap.name not in found or tap.name not in expected:
            continue
        ours, theirs = found[tap.name], expected[tap.name]
        same = ours.shape == theirs.shape
        compared.append(
            TapComparison(
                tap.name,
                tap.kind,
                psnr_db(theirs, ours) if same else float("nan"),
                max_difference(theirs, ours) if same else float("nan"),
                non_finite(ours),
                ours.shape,
                theirs.shape,
            )
        )
    return compared


def first_diverging(comparisons: Sequence[TapComparison], gate_db: float) -> TapComparison | None:
    """The first tap beyond the gate, or None when every tap holds."""
    return next((tap for tap in comparisons if tap.diverges(gate_db)), None)
