"""The report as annotations of a GitHub workflow.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from collections.abc import Iterator

from lpa_validate.beside import Beside
from lpa_validate.renderers.text import figure_value, verdict_line
from lpa_validate.report import Check, Report

__all__ = ["render_github"]

_UNDECIDED = {"not_run": "not run", "unjudged": "not judged"}


def render_github(report: Report, beside: Beside) -> str:
    """::error for what failed, ::warning for what was not run or flagged, ::notice for the rest."""
    title = f"{report.model} {report.target} {report.scheme.name}"
    lines = [line for check in report.checks for line in _annotations(check, title)]
    if beside.note:
        lines.append(_command("warning", title, beside.note))
    level = "notice" if report.exit_code == 0 else "error"
    return "\n".join([*lines, _command(level, title, verdict_line(report))]) + "\n"


def _annotations(check: Check, title: str) -> Iterator[str]:
    title = f"{title}: {check.name}"
    if check.status == "fail":
        yield _command("error", title, check.reason)
    elif check.status in _UNDECIDED:
        yield _command("warning", title, f"{_UNDECIDED[check.status]}: {check.reason}")
    else:
        gated = [figure for figure in check.figures if figure.ok]
        held = ", ".join(f"{figure.name} {figure_value(figure)}" for figure in gated)
        yield _command("notice", title, held)
    for figure in check.figures:
        if figure.flag and figure.ok is False:
            text = f"{figure.name} {figure_value(figure)}, gate {figure.comparison} {figure.gate}"
            yield _command("warning", title, text)


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={_escape(title, ':,')}::{_escape(message)}"


def _escape(text: str, special: str = "") -> str:
    """Percent-encode what ends a workflow command, and in a property what ends the property."""
    for character in f"%\r\n{special}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
