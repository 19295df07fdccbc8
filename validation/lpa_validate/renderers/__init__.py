"""A report as text: one renderer per format, in a table."""

import json
from collections.abc import Callable, Sequence

from lpa_validate.renderers.as_json import render_json
from lpa_validate.renderers.github import render_github
from lpa_validate.renderers.summary import render_summary
from lpa_validate.renderers.text import render_text
from lpa_validate.report import Report

__all__ = ["RENDERERS", "render", "render_all"]

RENDERERS: dict[str, Callable[[Report, str], str]] = {
    "text": render_text,
    "json": render_json,
    "github": render_github,
}
"""Format -> renderer of (report, note); a note is one line beside the report, or empty."""


def render(report: Report, form: str, *, note: str = "") -> str:
    """``report`` in that format, ending in a line break. Raises KeyError for another format."""
    return RENDERERS[form](report, note)


def render_all(found: Sequence[tuple[Report, str]], form: str) -> str:
    """Reports of several targets with their notes; as text with a table of all at the end."""
    if form == "json":
        reports = [report.to_json() for report, _ in found]
        return json.dumps(reports, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    texts = [render(report, form, note=note) for report, note in found]
    if form == "text":
        texts.append(render_summary([report for report, _ in found]))
    return "\n".join(texts)
