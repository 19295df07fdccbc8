"""Where two models part: their intermediate outputs compared in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lpa_export.measures.arrays import max_difference, non_finite, psnr_db
from lpa_export.runtimes import Array

__all__ = ["StageComparison", "compare_stages", "first_diverging"]


@dataclass(frozen=True)
class StageComparison:
    """One stage of one utterance; ``psnr_db`` is NaN where the two cannot be compared."""

    name: str
    kind: str
    psnr_db: float
    max_difference: float
    non_finite: int
    shape: tuple[int, ...]
    reference_shape: tuple[int, ...]

    def diverges(self, gate_db: float) -> bool:
        """Whether this stage is not the reference's within ``gate_db``. NaN diverges."""
        return self.shape != self.reference_shape or not self.psnr_db >= gate_db

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def compare_stages(
    stages: Sequence[Mapping[str, str]],
    found: Mapping[str, Array],
    expected: Mapping[str, Array],
) -> list[StageComparison]:
    """The manifest's ``stages`` that both sides have, in order; arrays are (frames, width)."""
    compared = []
    for stage in stages:
        name = stage["name"]
        if name not in found or name not in expected:
            continue
        ours, theirs = found[name], expected[name]
        same = ours.shape == theirs.shape
        compared.append(
            StageComparison(
                name,
                stage["kind"],
                psnr_db(theirs, ours) if same else float("nan"),
                max_difference(theirs, ours) if same else float("nan"),
                non_finite(ours),
                ours.shape,
                theirs.shape,
            )
        )
    return compared


def first_diverging(
    comparisons: Sequence[StageComparison], gate_db: float
) -> StageComparison | None:
    """The first stage beyond the gate, or None when every stage holds."""
    return next((stage for stage in comparisons if stage.diverges(gate_db)), None)
