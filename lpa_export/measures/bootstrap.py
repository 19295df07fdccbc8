"""Bootstrap: how far could a WER, the difference of two, or a ratio of times be chance?

Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation"
(ICASSP 2004): utterances are drawn with replacement, both systems are scored on the same draw,
and the percentiles of the difference are its interval. With counts per speaker in place of
utterances (`by_group`) whole speakers are drawn, whose utterances err alike. Of few speakers that
gives no interval: `strata` draws the utterances of each by themselves, and what other speakers
would give is in none of it. Of times, whole processes are drawn, whose runs are alike, and then
runs within them.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "by_group", "mean_difference", "paired_difference", "ratio_of_medians"]

RESAMPLES = 2000
SEED = 20260
_BLOCK = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A 95 % interval in the unit of what was drawn (points of WER), and how it was drawn."""

    low: float
    high: float
    resamples: int
    seed: int


def _places(strata: Sequence[Hashable]) -> list[npt.NDArray[np.int64]]:
    """Where each stratum's utterances are."""
    found: dict[Hashable, list[int]] = {}
    for place, stratum in enumerate(strata):
        found.setdefault(stratum, []).append(place)
    return [np.array(places) for places in found.values()]


def by_group(counts: npt.ArrayLike, groups: Sequence[Hashable]) -> npt.NDArray[np.float64]:
    """Counts (utterances,) summed over each group, in the order in which groups first occur."""
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    index = [places[group] for group in groups]
    sums = np.bincount(index, np.asarray(counts, np.float64), len(places))
    return sums.astype(np.float64)


def paired_difference(
    errors: npt.ArrayLike,
    reference_errors: npt.ArrayLike,
    words: npt.ArrayLike,
    *,
    strata: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """95 % interval of WER(errors) - WER(reference_errors), in points.

    All three are counts per utterance (or speaker), shape (utterances,). `strata` (utterances,):
    as many of each are drawn as there are. Against errors that are
    all zero it is the interval of the WER itself. Draws without a single reference
    word do not count. Raises ValueError for shapes that differ or no word at all.
    """
    difference = np.asarray(errors, np.float64) - np.asarray(reference_errors, np.float64)
    weights = np.asarray(words, np.float64)
    if difference.ndim != 1 or difference.shape != weights.shape:
        raise ValueError(f"shapes {difference.shape} and {weights.shape} must be equal and 1-D")
    if not weights.sum() > 0:
        raise ValueError("a WER needs at least one reference word")
    generator = np.random.default_rng(seed)
    count = len(weights)
    within = _places([0] * count if strata is None else strata)
    if sum(map(len, within)) != count:
        raise ValueError(f"{count} utterances need a stratum each")
    drawn: list[npt.NDArray[np.float64]] = []
    left = resamples
    while left:
        # In blocks, so that a test set of thousands of utterances fits in memory.
        rows = min(left, max(1, _BLOCK // count))
        picks = np.concatenate(
            [places[generator.integers(0, len(places), (rows, len(places)))] for places in within],
            axis=1,
        )
        totals = weights[picks].sum(axis=1)
        kept = totals > 0
        drawn.append(100.0 * difference[picks].sum(axis=1)[kept] / totals[kept])
        left -= rows
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5])
    return Interval(float(low), float(high), resamples, seed)


def mean_difference(
    values: npt.ArrayLike,
    reference_values: npt.ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """95 % interval of mean(values) - mean(reference_values), each (utterances,), in their unit.

    Utterances are drawn as in `paired_difference`. Raises ValueError for shapes that differ or no
    utterance.
    """
    ours, theirs = (np.asarray(part, np.float64) / 100 for part in (values, reference_values))
    return paired_difference(ours, theirs, np.ones(ours.shape), resamples=resamples, seed=seed)


def ratio_of_medians(
    times: Sequence[Sequence[float]],
    reference_times: Sequence[Sequence[float]],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """95 % interval of median(times) / median(reference_times), by which the times differ.

    Both are groups of times, (processes) of (runs): groups are drawn with replacement, then runs
    in each. Raises ValueError where a side has no time.
    """
    if not all(times) or not all(reference_times) or not times or not reference_times:
        raise ValueError("a ratio of times needs times on both sides")
    generator = np.random.default_rng(seed)
    ratios = [
        _drawn_median(times, generator) / _drawn_median(reference_times, generator)
        for _ in range(resamples)
    ]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Interval(float(low), float(high), resamples, seed)


def _drawn_median(groups: Sequence[Sequence[float]], generator: np.random.Generator) -> float:
    picks = generator.integers(0, len(groups), len(groups))
    runs = [generator.choice(groups[pick], len(groups[pick])) for pick in picks]
    return float(np.median(np.concatenate(runs)))
