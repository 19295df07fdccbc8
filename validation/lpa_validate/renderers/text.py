"""The report for a person at a terminal: one line per figure, gate and verdict beside it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from lpa_validate.beside import Beside
from lpa_validate.renderers.executorch import lines as delegation_lines
from lpa_validate.report import Check, Data, Figure, Report, Status
from lpa_validate.rules.neural_engine.as_text import lines as neural_engine_lines

__all__ = ["check_lines", "counted", "figure_value", "render_text", "verdict_line"]

_STATUS = {"pass": "PASS", "fail": "FAIL", "unjudged": "NOT JUDGED", "not_run": "NOT RUN"}
_VERDICT = {
    "pass": "every gate that was judged holds",
    "fail": "a gate does not hold",
    "unjudged": "too little speech to judge by; give more, or --allow-unjudged",
    "not_run": "could not run everything that was asked for",
}
_COUNTED: Mapping[Status, str] = {
    "pass": "passed",
    "fail": "failed",
    "unjudged": "not judged",
    "not_run": "not run",
}
_NAME, _VALUE, _GATE = 38, 18, 12
_LINES = 8
"""Rows of a table shown; the rest is in report.json."""

_LISTS = {
    "largest ranges": "ranges",
    "product sums beyond the accumulator": "accumulated",
    "values lost near zero": "underflow",
}
"""Title -> key of a check's details that holds lines."""

_TABLES: Mapping[str, Callable[[Mapping[str, Any]], Iterable[str]]] = {
    "neural_engine": neural_engine_lines,
    "compute_plan": neural_engine_lines,
    "delegates": delegation_lines,
    "language_model": lambda details: _language_model(details["language_model"]),
    "device_taps": lambda details: _device_taps(details["device_taps"]),
}
"""Key of a check's details -> what the checks of single targets have to show with it."""


def render_text(report: Report, beside: Beside) -> str:
    """Aligned sections, one per check, and the verdict as the last line."""
    lines = [*_header(report), ""]
    for check in report.checks:
        lines += [*_section(check), ""]
    if beside.note:
        lines.append(beside.note)
    lines.append(verdict_line(report))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def verdict_line(report: Report) -> str:
    """The verdict in one line: how many checks passed, failed, were not run or judged, and how many
    figures are flagged.
    """
    found = Counter(check.status for check in report.checks)
    counts = [
        f"{found[status]} {word}"
        for status, word in _COUNTED.items()
        if found[status] or status != "unjudged"
    ]
    if flagged := sum(_flagged(figure) for check in report.checks for figure in check.figures):
        counts.append(f"{flagged} {'figure' if flagged == 1 else 'figures'} flagged")
    return f"{_STATUS[report.verdict]}: {_VERDICT[report.verdict]} ({', '.join(counts)})"


def _flagged(figure: Figure) -> bool:
    return figure.ok is False and figure.flag


def figure_value(figure: Figure) -> str:
    """The figure's value with its unit."""
    return f"{_number(figure.value)} {figure.unit}".rstrip()


def _header(report: Report) -> Iterator[str]:
    yield f"{report.model} for {report.target}, {report.scheme.name}"
    if report.data is not None:
        data = report.data
        length = "" if data.seconds is None else f", {data.seconds:.1f} s"
        yield (f"  data        {data.name}: {counted(data)}{length}, sha256 {data.sha256[:12]}")
        if data.missing_seconds:
            names = ", ".join(data.missing_seconds)
            yield f"  cut off     {sum(data.missing_seconds.values()):.1f} s are missing: {names}"
        if report.normaliser is not None:
            yield f"  normaliser  {report.normaliser.name}/{report.normaliser.version}"
    if report.reference is not None:
        reference = report.reference
        yield f"  reference   {reference.kind} {reference.name}, sha256 {reference.sha256[:12]}"
    yield f"  tools       {', '.join(f'{k} {v}' for k, v in report.environment.items())}"


def counted(data: Data) -> str:
    """How much data there is, in words."""
    if data.words is None:
        return f"{data.utterances} mixtures"
    return f"{data.utterances} utterances, {data.words} words"


def _section(check: Check) -> Iterator[str]:
    yield f"{check.name:<{_NAME + 2}}{_STATUS[check.status]}"
    if check.reason:
        yield f"  {check.reason}"
    for figure in check.figures:
        yield _figure_line(figure)
    yield from check_lines(check)


def _figure_line(figure: Figure) -> str:
    gate = "" if figure.comparison is None else f"{figure.comparison} {_number(figure.gate)}"
    mark = {None: "", True: "ok", False: "flag" if figure.flag else "FAIL"}[figure.ok]
    return (
        f"  {figure.name:<{_NAME}}{figure_value(figure):>{_VALUE}}  "
        f"{gate:<{_GATE}}{mark:<6}{figure.label}"
    )


def check_lines(check: Check) -> Iterator[str]:
    """The tables among a check's details, as lines."""
    details = check.details
    yield from _rows(f"taps of {details.get('worst_utterance')}", _taps(details))
    yield from _rows("changed transcripts", _changed(details))
    yield from _rows("findings", list(details.get("findings", ())))
    for title, key in _LISTS.items():
        yield from _rows(title, list(details.get(key, ())))
    for key, lines in _TABLES.items():
        if key in details:
            yield from lines(details)
    for provider in details.get("providers", ()):
        title = f"{provider['provider']} leaves to the CPU"
        yield from _rows(title, _breakers(provider) or ["nothing"])
        yield from _rows("taken without checking", list(provider["unchecked"]))
        yield f"    list: {provider['source']}"


def _rows(title: str, rows: list[str]) -> Iterator[str]:
    if not rows:
        return
    yield f"  {title}:"
    yield from (f"    {row}" for row in rows[:_LINES])
    if len(rows) > _LINES:
        yield f"    and {len(rows) - _LINES} more in report.json"


def _taps(details: Mapping[str, Any]) -> list[str]:
    return [
        f"{tap['name']:<28}{tap['kind']:<12}{_number(tap['psnr_db'])} dB"
        for tap in details.get("taps", ())
    ]


def _language_model(used: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"  LM: {used['path']}, sha256 {used['sha256'][:12]}, weight {used['lm_weight']:g}, "
        f"word score {used['word_score']:g}, beam {used['beam']}"
    )


def _device_taps(taps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table for each runtime that replayed the golden clips."""
    for runtime, rows in groupby(taps, key=lambda tap: tap["runtime"]):
        yield from _rows(f"taps on {runtime}", [_device_tap(tap) for tap in rows])


def _device_tap(tap: Mapping[str, Any]) -> str:
    measured, emulated = tap["measured_db"], tap["emulated_db"]
    figure = "not reachable" if measured is None else f"{_number(measured)} dB measured"
    beside = "" if emulated is None else f", {_number(emulated)} dB emulated"
    return f"{tap['tap']:<28}{tap['kind']:<12}{figure}{beside}"


def _changed(details: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['id']}: {row['reference']!r} -> {row['artifact']!r}"
        for row in details.get("changed", ())
    ]


def _breakers(provider: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['nodes']:>5} x {row['op']:<34}{row['mac_share']:6.2f} % of MACs  {row['reason']}"
        for row in provider["breakers"]
    ]


def _number(value: Any) -> str:
    """Short, without losing a digit that a gate could turn on."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
