"""The learning curve of a run as a picture, drawn from its records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lpa_export.training.files import is_main_process, replace_file
from lpa_export.training.records import CURVE, read_log, read_steps

__all__ = ["draw_curve"]

POINTS = 1500  # more updates than the picture has columns are averaged


def draw_curve(folder: Path) -> Path | None:
    """Draw loss and WER over the updates to `folder`/learning_curve.png.

    Returns None, and draws nothing, before the first update or where matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    steps = read_steps(folder)
    if not steps or not is_main_process():
        return None
    figure = Figure(figsize=(7.5, 6), layout="constrained")
    FigureCanvasAgg(figure)
    losses, errors = figure.subplots(2, 1, sharex=True)
    _draw_losses(losses, steps)
    _draw_errors(errors, [line for line in read_log(folder) if "step" in line])
    errors.set_xlabel("update")
    replace_file(folder / CURVE, lambda path: figure.savefig(path, dpi=110, format="png"))
    return folder / CURVE


def _draw_losses(axes: Any, steps: list[dict[str, float]]) -> None:
    updates = np.array([row["step"] for row in steps])
    values = np.array([row["loss"] for row in steps])
    width = -(-len(values) // POINTS)
    starts = np.arange(0, len(values), width)
    counts = np.diff(np.append(starts, len(values)))
    axes.plot(
        np.add.reduceat(updates, starts) / counts, np.add.reduceat(values, starts) / counts, lw=0.8
    )
    axes.set_ylabel("training loss")
    axes.grid(alpha=0.3)


def _draw_errors(axes: Any, lines: list[dict[str, float]]) -> None:
    names = sorted({name for line in lines for name in line if name.endswith("wer")})
    for name in names:
        points = [(line["step"], line[name]) for line in lines if name in line]
        axes.plot(*zip(*points, strict=True), marker="o", ms=3, label=name)
    if names:
        axes.legend()
    axes.set_ylabel("held-out WER, %")
    axes.grid(alpha=0.3)
