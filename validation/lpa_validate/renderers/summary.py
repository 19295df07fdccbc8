"""Several reports side by side: one row per target."""

from collections.abc import Sequence

from lpa_validate.renderers.text import figure_value
from lpa_validate.report import Report

__all__ = ["render_summary"]

# Heading, check, figure; the label of the figure that is there stands behind the row.
_COLUMNS = (
    ("WER", "wer", "WER, artifact"),
    ("difference", "wer-difference", "WER difference"),
    ("PSNR", "parity", "PSNR, all logits"),
    ("argmax", "parity", "argmax agreement"),
)


def render_summary(reports: Sequence[Report]) -> str:
    """A table of the reports' main figures, as text; "-" where a figure was not run."""
    head = ("target", "scheme", "size", *(title for title, _, _ in _COLUMNS), "how", "verdict")
    rows = [head, *(_row(report) for report in reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _row(report: Report) -> tuple[str, ...]:
    figures = [_figure(report, check, name) for _, check, name in _COLUMNS]
    labels = sorted({label for _, label in figures if label})
    return (
        report.target,
        report.scheme.name,
        f"{report.artifact_bytes / 1e6:.1f} MB",
        *(value for value, _ in figures),
        "+".join(labels) or "-",
        report.verdict.replace("_", " "),
    )


def _figure(report: Report, check: str, name: str) -> tuple[str, str]:
    """Value with unit, and label; ("-", "") when the check did not get that far."""
    try:
        figure = report.check(check).figure(name)
    except KeyError:
        return "-", ""
    return figure_value(figure), figure.label
