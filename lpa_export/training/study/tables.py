"""The study's figures: WER of each variant with its interval, and the difference to a reference.

Intervals are bootstraps over the speakers of dev, whose utterances err alike, or over the
utterances of each speaker, where there are few (`drawn` of the study); both variants of a
difference are scored on the same draw. Several seeds of a variant count as the mean of their errors
in each utterance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpa_export.errors import LpaError
from lpa_export.measures.bootstrap import Interval, by_group, paired_difference
from lpa_export.training.study.run import UtteranceErrors, VariantResult, result_of
from lpa_export.training.study.settings import Drawn, Study, Variant

__all__ = ["DRAWS", "SEED", "Row", "Speech", "Table", "tabulate"]

DRAWS = 10_000
SEED = 20260


@dataclass(frozen=True)
class Row:
    """One variant, in percent and points of WER on dev; seeds that have not run are left out.

    `before_joint`: hard WER before the joint phase, the mean over seeds; None for the teacher.
    `soft_interval` and `interval` are those of the soft and the hard WER. `difference` of the hard
    WER to the table's reference, with its own interval; None for the reference itself and where
    that has not run. `spread`: the lowest and the highest hard WER of several seeds. `joint`: how
    much the joint phase of the first seed was. `by_speaker`: the difference for each speaker of
    dev, in points; empty where there is none.
    """

    variant: Variant
    seeds: tuple[int, ...]
    layers: int
    before_joint: float | None
    soft: float
    hard: float
    soft_interval: Interval
    interval: Interval
    difference: float | None
    difference_interval: Interval | None
    spread: tuple[float, float] | None
    seconds: float
    joint: Mapping[str, Any]
    by_speaker: Mapping[str, float]


@dataclass(frozen=True)
class Speech:
    """What all results were measured on, and what intervals are drawn from."""

    utterances: int
    words: int
    speakers: int
    teacher_sha256: str
    drawn: Drawn


@dataclass(frozen=True)
class Table:
    """One group: its rows, the reference first, and the names of what has not run."""

    title: str
    reference: str
    rows: tuple[Row, ...]
    not_run: tuple[str, ...]


@dataclass(frozen=True)
class _Counts:
    """Errors per utterance, the mean over seeds, beside words and speakers."""

    utterances: tuple[UtteranceErrors, ...]
    soft: np.ndarray
    hard: np.ndarray
    drawn: Drawn

    @property
    def speakers(self) -> list[str]:
        """Where a speaker is not known an utterance stands for itself."""
        return [item.speaker or item.id for item in self.utterances]

    @property
    def words(self) -> list[int]:
        return [item.words for item in self.utterances]

    def wer(self, errors: np.ndarray) -> float:
        return 100.0 * float(errors.sum()) / sum(self.words)

    def interval(self, errors: np.ndarray) -> Interval:
        """95 % interval of errors (utterances,) over words, in points."""
        how: dict[str, Any] = {"resamples": DRAWS, "seed": SEED}
        if self.drawn == "utterances":
            none = np.zeros_like(errors)
            return paired_difference(errors, none, self.words, strata=self.speakers, **how)
        ours, words = (by_group(part, self.speakers) for part in (errors, self.words))
        return paired_difference(ours, np.zeros_like(ours), words, **how)

    def by_speaker(self, errors: np.ndarray) -> dict[str, float]:
        """Errors (utterances,) over words, in points, for each speaker who says any."""
        ours, words = (by_group(part, self.speakers) for part in (errors, self.words))
        people = dict.fromkeys(self.speakers)
        return {who: 100 * o / w for who, o, w in zip(people, ours, words, strict=True) if w}


def tabulate(study: Study, out: Path) -> tuple[tuple[Table, ...], Speech | None]:
    """A table per group from what has run in `out`, and what it was measured on.

    Raises LpaError for damaged results, and for results of different speech or teachers.
    """
    found: dict[str, list[VariantResult]] = {}
    for variant in study.variants:
        results = (result_of(out, variant, seed) for seed in variant.seeds)
        found[variant.name] = [result for result in results if result is not None]
    every = [result for results in found.values() for result in results]
    speech = _same_speech(every, study.drawn)
    tables = []
    for name, group in study.groups.items():
        members = [v for v in study.variants if name == v.group or v.name == group.reference]
        members.sort(key=lambda variant: variant.name != group.reference)
        counts = {v.name: _counts(found[v.name], study.drawn) for v in members}
        rows = [_row(v, found[v.name], counts, group.reference) for v in members]
        missing = tuple(
            f"{variant.name} (seed {seed})" if len(variant.seeds) > 1 else variant.name
            for variant in members
            for seed in variant.seeds
            if seed not in {result.seed for result in found[variant.name]}
        )
        kept = tuple(row for row in rows if row is not None)
        tables.append(Table(group.title, group.reference, kept, missing))
    return tuple(tables), speech


def _same_speech(results: Sequence[VariantResult], drawn: Drawn) -> Speech | None:
    if not results:
        return None
    first = results[0]
    for result in results:
        if _spoken(result) != _spoken(first) or result.teacher_sha256 != first.teacher_sha256:
            raise LpaError(
                f"{result.variant} and {first.variant} were measured on different dev speech or "
                "with different teachers; run the study again in another folder"
            )
    counts = _Counts(first.utterances, np.zeros(0), np.zeros(0), drawn)
    speakers = len(set(counts.speakers))
    return Speech(len(counts.words), sum(counts.words), speakers, first.teacher_sha256, drawn)


def _spoken(result: VariantResult) -> list[tuple[str, str | None, int]]:
    return [(item.id, item.speaker, item.words) for item in result.utterances]


def _counts(results: Sequence[VariantResult], drawn: Drawn) -> _Counts | None:
    if not results:
        return None
    soft, hard = (
        np.mean([[getattr(item, who) for item in result.utterances] for result in results], axis=0)
        for who in ("soft", "hard")
    )
    return _Counts(results[0].utterances, soft, hard, drawn)


def _row(
    variant: Variant,
    results: Sequence[VariantResult],
    found: Mapping[str, _Counts | None],
    name: str,
) -> Row | None:
    counts, reference = found[variant.name], found[name]
    if counts is None:
        return None
    difference = interval = None
    by_speaker: dict[str, float] = {}
    if reference is not None and variant.name != name:
        moved = counts.hard - reference.hard
        difference, interval = counts.wer(moved), counts.interval(moved)
        by_speaker = counts.by_speaker(moved)
    before = [result.layer_wer[-1] for result in results if result.layer_wer]
    each = [result.hard_wer for result in results]
    return Row(
        variant=variant,
        seeds=tuple(result.seed for result in results),
        layers=len(results[0].layers),
        before_joint=sum(before) / len(before) if before else None,
        soft=counts.wer(counts.soft),
        hard=counts.wer(counts.hard),
        soft_interval=counts.interval(counts.soft),
        interval=counts.interval(counts.hard),
        difference=difference,
        difference_interval=interval,
        spread=(min(each), max(each)) if len(each) > 1 else None,
        seconds=sum(result.seconds for result in results),
        joint=results[0].joint,
        by_speaker=by_speaker,
    )
