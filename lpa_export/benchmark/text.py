"""Benchmarks as tables for readers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lpa_export.benchmark.result import Benchmark, Point, SideResult

__all__ = ["figures", "render_frame", "render_text", "sides_of", "where"]


def render_text(results: Sequence[Benchmark]) -> str:
    """Of one run: what ran, where, a table per side, the ratios, and what is not to be trusted."""
    return "\n".join(_lines(results)) + "\n"


def figures(result: Benchmark) -> dict[str, str]:
    """The bundle's figures in words, by what they are of: for a model card."""
    found = {}
    for point in result.ours.points:
        doubt = f" (not to be trusted: {point.unusable})" if point.unusable else ""
        found[f"{point.seconds:g} s of audio"] = (
            f"{_seconds(point.time)} ± {50 * point.spread:.1f} %, "
            f"{_megabytes(point.first_peak)} at most in a first run, "
            f"{_megabytes(point.third_peak)} after three{doubt}"
        )
    if result.ours.exponent is not None:
        found["time grows with"] = f"the length to the power of {result.ours.exponent:.2f}"
    for ratio in result.ratios:
        assert result.theirs is not None
        doubt = " (not to be trusted)" if ratio.unusable else ""
        found[f"{result.theirs.name}, {ratio.seconds:g} s"] = (
            f"{ratio.ratio:.2f} times as long ({ratio.low:.2f} to {ratio.high:.2f}){doubt}"
        )
    found["measured on"] = where(result)
    return found


def render_frame(runs: Sequence[Sequence[Benchmark]]) -> str:
    """Runs of the same bundles beside one baseline after another, in Markdown, a table for each
    bundle: how long it takes, and how many times as long each baseline takes."""
    return "".join(f"\n{line}" for results in zip(*runs, strict=True) for line in _frame(results))


def sides_of(results: Sequence[Benchmark]) -> list[SideResult]:
    """All that one run measured, what it was beside at the end."""
    theirs = results[0].theirs
    return [*(result.ours for result in results), *([] if theirs is None else [theirs])]


def where(result: Benchmark) -> str:
    """The machine and its settings in a line."""
    machine = result.machine
    sets = " ".join(machine.instructions) or "instruction sets not known"
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    return f"{machine.processor} ({sets}), {result.device}, {threads}"


def _frame(results: Sequence[Benchmark]) -> Iterator[str]:
    """A bundle's results, each beside another baseline."""
    ours = results[0].ours
    names = [result.theirs.name for result in results if result.theirs is not None]
    yield f"| audio | {' | '.join([ours.name, *names])} |"
    yield f"| ---: |{' ---: |' * (1 + len(names))}"
    for number, point in enumerate(ours.points):
        cells = [_seconds(point.time)]
        for result in results:
            if result.theirs is not None:
                ratio = result.ratios[number]
                doubt = ", UNUSABLE" if ratio.unusable else ""
                time = _seconds(result.theirs.points[number].time)
                cells.append(f"{time}: {ratio.ratio:.2f} times{doubt}")
        yield f"| {point.seconds:g} s | {' | '.join(cells)} |"
    yield ""


def _seconds(seconds: float) -> str:
    """Seconds with three digits: "1.23 s", "45.6 ms"."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _lines(results: Sequence[Benchmark]) -> Iterator[str]:
    run = results[0]
    tools = ", ".join(f"{name} {number}" for name, number in run.machine.tools.items())
    yield f"{run.target}: {where(run)}"
    yield f"{run.machine.system}; {tools}"
    yield f"each length in {run.rounds} processes a side, by turns; medians, warm-up left out"
    for side in sides_of(results):
        yield ""
        yield from _side_lines(side)
    for result in results:
        if result.theirs is not None:
            yield ""
            yield f"{result.theirs.name} takes, for each second of {result.ours.name}"
        for ratio in result.ratios:
            doubt = "  UNUSABLE" if ratio.unusable else ""
            yield (
                f"{ratio.seconds:>8g} s {ratio.ratio:>9.2f}   "
                f"95 % interval {ratio.low:.2f} to {ratio.high:.2f}{doubt}"
            )


def _side_lines(side: SideResult) -> Iterator[str]:
    what = ", ".join(filter(None, (side.model, side.scheme)))
    grows = "" if side.exponent is None else f": time grows with length to the {side.exponent:.2f}"
    yield f"{side.name} ({what}){grows}"
    yield f"{'audio':>10} {'time':>9} {'spread':>8} {'peak, first':>12} {'after three':>12}"
    for point in side.points:
        yield _point_line(point)


def _point_line(point: Point) -> str:
    doubt = f"  UNUSABLE: {point.unusable}" if point.unusable else ""
    return (
        f"{point.seconds:>8g} s {_seconds(point.time):>9} {100 * point.spread:>6.1f} % "
        f"{_megabytes(point.first_peak):>12} {_megabytes(point.third_peak):>12}{doubt}"
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
