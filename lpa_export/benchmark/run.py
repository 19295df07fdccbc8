"""The sides in turn, length by length, each time in a process of its own; then the figures."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from lpa_export.benchmark.process import Answer, Request, measure_in_process
from lpa_export.benchmark.result import Benchmark, Machine, Point, Ratio, SideResult
from lpa_export.benchmark.sides import Side
from lpa_export.environment import installed_versions
from lpa_export.measures.bootstrap import ratio_of_medians
from lpa_export.measures.machine import ForeignLoad, instruction_sets, processor

__all__ = ["MOST_FOREIGN", "MOST_SPREAD", "Entrant", "Plan", "run_benchmark"]

MOST_SPREAD = 0.05
"""Between the quartiles, as a share of the median: more, and a time is not to be trusted."""

MOST_FOREIGN = 0.1
"""Cores that other processes may keep busy meanwhile: a quiet system's own work is below."""

_TOOLS = ("mlx", "numpy", "onnxruntime", "executorch", "torch", "transformers")


@dataclass(frozen=True)
class Entrant:
    """A side, and what the result says of it. `artifacts`: name to SHA-256."""

    side: Side
    model: str
    scheme: str
    artifacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is measured: `entrants`, each beside `against`. `seconds`: lengths of audio of `rate`
    samples a second; each side runs in `rounds` processes a length, and in each for at least
    `least_seconds` of timed runs."""

    target: str
    entrants: tuple[Entrant, ...]
    seconds: tuple[float, ...]
    threads: int
    rounds: int
    least_seconds: float
    rate: int
    device: str = "cpu"
    against: Entrant | None = None


@dataclass
class _Measured:
    """The answers of one side at one length, and how busy others kept the machine."""

    answers: list[Answer] = field(default_factory=list)
    foreign: float = 0.0

    def ask(self, request: Request) -> None:
        with ForeignLoad() as load:
            self.answers.append(measure_in_process(request))
        self.foreign = max(self.foreign, load.cores)

    @property
    def times(self) -> tuple[tuple[float, ...], ...]:
        return tuple(answer.times for answer in self.answers)


def run_benchmark(
    plan: Plan, announce: Callable[[str], None] = lambda step: None
) -> tuple[Benchmark, ...]:
    """Measure all that is planned: a result for each entrant. Raises LpaError where a side does
    not run.

    The sides take turns at every length, and who is first changes from round to round, so that a
    machine that grows slower is unfair to none.
    """
    entrants = plan.entrants if plan.against is None else (*plan.entrants, plan.against)
    columns: list[dict[float, _Measured]] = [{} for _ in entrants]
    # The longest first: what does not run at all is known before the rest is measured.
    for seconds in sorted(plan.seconds, reverse=True):
        for round_ in range(plan.rounds):
            order = list(range(len(entrants)))
            for index in order if round_ % 2 == 0 else reversed(order):
                side = entrants[index].side
                announce(f"{side.name}, {seconds:g} s of audio, {round_ + 1} of {plan.rounds}")
                request = Request(
                    side=side,
                    seconds=seconds,
                    rate=plan.rate,
                    threads=plan.threads,
                    least_seconds=plan.least_seconds,
                )
                columns[index].setdefault(seconds, _Measured()).ask(request)
    sides = [
        _side(entrant, [_point(s, column[s]) for s in sorted(column)])
        for entrant, column in zip(entrants, columns, strict=True)
    ]
    theirs = None if plan.against is None else sides.pop()
    machine = _machine()
    return tuple(
        Benchmark(
            target=plan.target,
            device=plan.device,
            threads=plan.threads,
            rounds=plan.rounds,
            machine=machine,
            ours=side,
            theirs=theirs,
            ratios=() if theirs is None else _ratios(side.points, theirs.points),
        )
        for side in sides
    )


def _point(seconds: float, measured: _Measured) -> Point:
    times = np.concatenate(measured.times)
    lower, middle, upper = np.percentile(times, [25, 50, 75])
    spread = float((upper - lower) / middle)
    faults = {
        f"other processes kept {measured.foreign:.1f} cores busy": measured.foreign > MOST_FOREIGN,
        f"spread {100 * spread:.0f} %": spread > MOST_SPREAD,
    }
    return Point(
        seconds=seconds,
        time=float(middle),
        spread=spread,
        times=measured.times,
        first_peak=round(median(answer.first_peak for answer in measured.answers)),
        third_peak=round(median(answer.third_peak for answer in measured.answers)),
        foreign_cores=measured.foreign,
        unusable="; ".join(fault for fault, found in faults.items() if found),
    )


def _side(entrant: Entrant, points: Sequence[Point]) -> SideResult:
    return SideResult(
        name=entrant.side.name,
        kind=entrant.side.kind,
        model=entrant.model,
        scheme=entrant.scheme,
        artifacts=dict(entrant.artifacts),
        exponent=_exponent(points),
        points=tuple(points),
    )


def _exponent(points: Sequence[Point]) -> float | None:
    """The slope of log time over log length, by least squares."""
    if len(points) < 2:
        return None
    lengths, times = (np.log([getattr(p, name) for p in points]) for name in ("seconds", "time"))
    return float(np.polyfit(lengths, times, 1)[0])


def _ratios(ours: Sequence[Point], theirs: Sequence[Point]) -> tuple[Ratio, ...]:
    found = []
    for mine, other in zip(ours, theirs, strict=True):
        interval = ratio_of_medians(other.times, mine.times)
        found.append(
            Ratio(
                seconds=mine.seconds,
                ratio=other.time / mine.time,
                low=interval.low,
                high=interval.high,
                unusable="; ".join(dict.fromkeys(filter(None, (mine.unusable, other.unusable)))),
            )
        )
    return tuple(found)


def _machine() -> Machine:
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=processor(),
        instructions=instruction_sets(),
        tools=installed_versions(_TOOLS),
    )
