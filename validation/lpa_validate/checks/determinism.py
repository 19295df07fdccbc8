"""The same input must give the same bits: twice in a session, and in a fresh one."""

from lpa_export.measures.arrays import max_difference
from lpa_export.runtimes import THREADS, Array, pad
from lpa_validate.evaluation import Opened
from lpa_validate.report import Check, Figure, judged, labelled

__all__ = ["OTHER_THREADS", "check_determinism"]

OTHER_THREADS = 1
"""Another number of threads splits sums elsewhere: reported, not judged."""

_CLIPS = 3


def check_determinism(validation: Opened) -> list[Check]:
    """Values that differ between runs (must be none), and between numbers of threads."""
    waveforms = validation.first_waveforms(_CLIPS)
    batch = pad(waveforms)
    first = validation.artifact.run(*batch)
    again = validation.artifact.run(*batch)
    fresh = validation.open_runner(THREADS).run(*batch)
    threaded = validation.open_runner(OTHER_THREADS).run(*batch)
    figures = [
        Figure("values that differ, second run", _unequal(first, again), gate=0, comparison="=="),
        Figure(
            "values that differ, fresh session", _unequal(first, fresh), gate=0, comparison="=="
        ),
        Figure(
            f"largest difference, {OTHER_THREADS} instead of {THREADS} threads",
            max(max_difference(a, b) for a, b in zip(first, threaded, strict=True)),
        ),
    ]
    details = {"clips": len(waveforms)}
    return [judged("determinism", labelled(validation.label, figures), details=details)]


def _unequal(first: list[Array], second: list[Array]) -> int:
    """Values whose bits differ (so that equal NaNs count as equal)."""
    if [a.shape for a in first] != [b.shape for b in second]:
        return max(sum(a.size for a in first), sum(b.size for b in second))
    return sum(
        int((a.view("u4") != b.view("u4")).sum()) for a, b in zip(first, second, strict=True)
    )
