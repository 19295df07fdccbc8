"""Writes the stored list of test mixtures, which `lpa_export.formats.mixing` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lpa_export.formats.mixing import DRAWN, RATE, Draw
from lpa_export.training.files import replace_file

__all__ = ["write_draws"]


def write_draws(
    path: Path, draws: Sequence[Draw], speech: Sequence[str], noise: Sequence[str], rate: int
) -> None:
    """Write mixtures of the recordings with these ids, cut at samples of this rate."""
    ids = dict(zip(DRAWN, (speech, noise), strict=True))
    lines = []
    for draw in draws:
        row = asdict(draw) | {RATE: rate}
        lines.append(json.dumps(row | {name: ids[name][row[name]] for name in DRAWN}) + "\n")
    replace_file(path, lambda beside: beside.write_text("".join(lines), encoding="utf-8"))
