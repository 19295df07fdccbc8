"""The report as the JSON that stands in ``report.json``."""

import json

from lpa_validate.beside import Beside
from lpa_validate.report import Report

__all__ = ["render_json"]


def render_json(report: Report, beside: Beside) -> str:
    """Strict JSON. What stands beside it is not part of it."""
    return json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
