"""The report as the JSON that stands in ``report.json``."""

import json

from lpa_validate.report import Report

__all__ = ["render_json"]


def render_json(report: Report, note: str = "") -> str:
    """Strict JSON. A ``note`` is about the printing, not the report, and stays out."""
    return json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
