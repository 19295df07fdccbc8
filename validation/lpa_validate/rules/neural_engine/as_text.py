"""What an examination of Core ML functions found, as lines for a person at a terminal.

Works on the JSON that stands in a report, so that old reports can be printed too.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["examination_lines", "lines"]

_ROWS = 8
"""Rows of a table shown; the rest is in report.json."""

_ORDER = ("fatal", "performance", "risk", "info")


def lines(details: Mapping[str, Any]) -> list[str]:
    """The tables among a check's ``details`` that are about the Neural Engine; may be none."""
    found: list[str] = []
    shown: Mapping[str, Any] | None = None
    for examined in details.get("neural_engine", ()):
        if shown is not None and _outline(shown) == _outline(examined):
            found.append(f"  {_title(examined)}")
            found.append(f"    findings and runs as in {shown['function']}")
        else:
            found += examination_lines(examined)
            shown = examined
    if "placement" in details:
        found += _placement_lines(details["placement"])
    for planned in details.get("compute_plan", ()):
        found += _plan_lines(planned)
    return found


def examination_lines(examined: Mapping[str, Any]) -> list[str]:
    """One function: its findings, gravest first, and what breaks its runs."""
    findings = sorted(examined["findings"], key=lambda found: _ORDER.index(found["severity"]))
    total = max(1, examined["macs"])
    cuts = [[_break(cut)] for cut in examined["breaks"]]
    return [
        f"  {_title(examined)}",
        *_table([_finding(found, total) for found in findings] or [["no finding"]]),
        *(["    runs are broken:", *_table(cuts)] if cuts else []),
    ]


def _title(examined: Mapping[str, Any]) -> str:
    package = f"{examined['package']} " if "package" in examined else ""
    runs = len(examined["segments"])
    work = f"{examined['ops']} ops, {examined['macs'] / 1e9:.3f} GMAC"
    return (
        f"{package}{examined['function']}: {work}, "
        f"{examined['free_of_fatal']['macs']:.1f} % of MACs stay, "
        f"in {runs} {'run' if runs == 1 else 'runs'} ({examined['label']})"
    )


def _outline(examined: Mapping[str, Any]) -> Any:
    """What makes two functions worth printing apart: not their sizes."""
    return (
        [(found["rule"], found["ops"]) for found in examined["findings"]],
        [(cut["op"], cut["module"]) for cut in examined["breaks"]],
    )


def _finding(found: Mapping[str, Any], total: int) -> list[str]:
    """What is met and where, and below it why that matters, what helps, who says so."""
    modules = found["modules"]
    more = f" and {len(modules) - 1} more" if len(modules) > 1 else ""
    confirm = "; confirm with MLComputePlan" if found["confirm"] else ""
    met = f"{found['ops']:>5} ops {100 * found['macs'] / total:6.2f} % of MACs"
    return [
        f"{found['severity']:<12}{found['rule']:<20}{met if found['ops'] else ' ' * len(met)}  "
        + ", ".join(found["evidence"][:2])
        + (f" in {modules[0]}{more}" if modules else ""),
        f"{'':<12}{found['why']}: {found['fix']} [{', '.join(found['sources'])}{confirm}]",
    ]


def _break(cut: Mapping[str, Any]) -> str:
    module = f" in {cut['module']}" if cut["module"] else ""
    why = ", ".join(cut["rules"])
    return f"after run {cut['after'] + 1}: {cut['op']} {cut['name']}{module} ({why})"


def _placement_lines(placement: Mapping[str, Any]) -> Iterator[str]:
    yield f"  placement on the Neural Engine: {placement['state']}"
    for name, title in (
        ("leaving", "newly off the Neural Engine"),
        ("joining", "newly on the Neural Engine"),
    ):
        rows = [
            f"{move['count']:>5} x {move['op']} in {move['module'] or '?'} of {move['function']} "
            f"({', '.join(move['rules'])})"
            for move in placement.get(name, ())
        ]
        if rows:
            yield f"  {title} (predicted):"
            yield from _table([[row] for row in rows])


def _plan_lines(planned: Mapping[str, Any]) -> Iterator[str]:
    yield f"  {planned['package']} {planned['function']}, planned by Core ML ({planned['units']}):"
    yield from _table(
        [
            [f"{device:<14}{share['ops']:>5} ops {100 * share['cost']:6.2f} % of estimated cost"]
            for device, share in planned["devices"].items()
        ]
    )
    grading = planned["grading"]
    yield (
        f"    rules against plan: {grading['stays_on_engine']} ops stay in both, "
        f"{grading['fatal_elsewhere']} off in both, {grading['stays_elsewhere']} off in the plan "
        f"alone, {grading['fatal_on_engine']} off by the rules alone"
    )


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of one or more lines each."""
    yield from (f"    {line}" for row in rows[:_ROWS] for line in row)
    if len(rows) > _ROWS:
        yield f"    and {len(rows) - _ROWS} more in report.json"
