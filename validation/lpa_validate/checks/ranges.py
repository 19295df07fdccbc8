"""Do the numbers on the way stay where float16 can hold them?

A few clips are watched operation by operation: what is NaN, infinite or saturated fails; what
comes near the limits, or vanishes below the smallest normal number, is shown.
"""

from lpa_export.runtimes.coreml.monitor import (
    ACCUMULATOR_LIMIT,
    Monitor,
    OpRecord,
    beyond,
    worst_ranges,
)
from lpa_export.runtimes.coreml.runner import CoremlRunner
from lpa_validate.checks.clips import spread_clips
from lpa_validate.evaluation import Validation
from lpa_validate.report import Check, Figure, judged, labelled

__all__ = ["check_range"]

_SHOWN = 5

# Share of an operation's values lost below the smallest normal float16 that is worth a line.
_UNDERFLOW = 0.01


def check_range(validation: Validation) -> list[Check]:
    """NaN, infinities and saturation anywhere, the largest magnitudes, and what underflows."""
    runner = validation.artifact
    assert isinstance(runner, CoremlRunner)
    clips = spread_clips(validation)
    monitors = {step.place: Monitor() for step in runner.steps}
    for clip in clips:
        runner.watch(clip, monitors)
    records = [(place, record) for place, monitor in monitors.items() for record in monitor.records]
    every = [record for _, record in records]
    places = {id(record): place for place, record in records}
    broken = [r for r in every if r.nan or r.infinite]
    saturated = [r for r in every if r.saturated and r.dtype == "float16"]
    accumulated = [r for r in every if r.beyond_accumulator]
    figures = [
        Figure("outputs watched", len(every)),
        Figure("outputs with NaN or infinities", len(broken), gate=0, comparison="=="),
        Figure("outputs that saturate", len(saturated), gate=0, comparison="=="),
        Figure(
            f"product sums beyond {ACCUMULATOR_LIMIT:g}",
            len(accumulated),
            gate=0,
            comparison="==",
            flag=True,
        ),
        Figure("largest magnitude", max((r.largest for r in every), default=0.0)),
    ]
    named = [_line(places[id(r)], r) for r in [*broken, *saturated][:_SHOWN]]
    details = {
        "clips": len(clips),
        "ranges": [_line(places[id(r)], r) for r in worst_ranges(every, _SHOWN)],
        "accumulated": [_line(places[id(r)], r) for r in accumulated],
        "underflow": [
            f"{_line(places[id(r)], r)}, {100 * r.underflow:.1f} % below 6.1e-5"
            for r in every
            if r.underflow > _UNDERFLOW
        ],
        "beyond_float16": [_line(places[id(r)], r) for r in beyond(every, 65504.0)],
    }
    figures = labelled(validation.label, figures)
    return [judged("range", figures, reason="; ".join(named), details=details)]


def _line(place: str, record: OpRecord) -> str:
    low, high = record.minimum, record.maximum
    span = "no finite value" if low is None or high is None else f"{low:.4g} to {high:.4g}"
    return f"{place}: {record.op_type} {record.output}: {span}"
