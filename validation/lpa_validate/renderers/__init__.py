"""A report as text: one renderer per format, in a table."""

from collections.abc import Callable

from lpa_validate.renderers.as_json import render_json
from lpa_validate.renderers.github import render_github
from lpa_validate.renderers.text import render_text
from lpa_validate.report import Report

__all__ = ["RENDERERS", "render"]

RENDERERS: dict[str, Callable[[Report, str], str]] = {
    "text": render_text,
    "json": render_json,
    "github": render_github,
}
"""Format -> renderer of (report, note); a note is one line beside the report, or empty."""


def render(report: Report, form: str, *, note: str = "") -> str:
    """``report`` in that format, ending in a line break. Raises KeyError for another format."""
    return RENDERERS[form](report, note)
