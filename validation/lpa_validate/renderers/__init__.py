"""A report as text: one renderer per format, in a table."""

import json
from collections.abc import Callable, Sequence

from lpa_validate.beside import Beside
from lpa_validate.renderers.as_json import render_json
from lpa_validate.renderers.github import render_github
from lpa_validate.renderers.html import render_html, render_pages
from lpa_validate.renderers.summary import render_summary
from lpa_validate.renderers.text import render_text
from lpa_validate.report import Report

__all__ = ["RENDERERS", "render", "render_all"]

_ALONE = Beside()

RENDERERS: dict[str, Callable[[Report, Beside], str]] = {
    "text": render_text,
    "json": render_json,
    "github": render_github,
    "html": render_html,
}
"""Format -> renderer of a report and what stands beside it."""


def render(report: Report, form: str, beside: Beside = _ALONE) -> str:
    """``report`` in that format, ending in a line break. Raises KeyError for another format."""
    return RENDERERS[form](report, beside)


def render_all(found: Sequence[tuple[Report, Beside]], form: str) -> str:
    """Reports of several targets; as text with a table of all at the end, as HTML on one page."""
    if form == "html":
        return render_pages(found)
    if form == "json":
        reports = [report.to_json() for report, _ in found]
        return json.dumps(reports, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    texts = [render(report, form, beside) for report, beside in found]
    if form == "text":
        texts.append(render_summary([report for report, _ in found]))
    return "\n".join(texts)
