"""WER against the number of replaced layers, by order. matplotlib is imported when it draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lpa_export.training.files import replace_file
from lpa_export.training.study.settings import Order
from lpa_export.training.study.tables import Row, Table

__all__ = ["depths", "draw_depths"]

LABELS: dict[Order, str] = {"sweep": "easiest first (sweep)", "reverse": "hardest first"}


def depths(tables: Sequence[Table]) -> dict[Order, list[Row]]:
    """Order -> its rows by depth; only variants of which depth and order alone differ.

    Depth 0 is the teacher, where every order starts.
    """
    rows = {row.variant.name: row for table in tables for row in table.rows}
    plain = [row for row in rows.values() if row.variant.plain and row.variant.order]
    return {
        order: sorted(
            (row for row in plain if row.variant.order == order or not row.layers),
            key=lambda row: row.layers,
        )
        for order in LABELS
    }


def draw_depths(path: Path, name: str, curves: dict[Order, list[Row]]) -> None:
    """A PNG with a curve per order, with hard gates, and the 95 % interval of each point."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for shift, (order, rows) in zip((-0.04, 0.04), curves.items(), strict=True):
        if not rows:
            continue
        below = [row.hard - row.interval.low for row in rows]
        above = [row.interval.high - row.hard for row in rows]
        axes.errorbar(
            [row.layers + shift for row in rows],
            [row.hard for row in rows],
            yerr=[below, above],
            marker="o",
            ms=4,
            capsize=3,
            label=LABELS[order],
        )
    deepest = max(row.layers for rows in curves.values() for row in rows)
    axes.set_xticks(range(deepest + 1))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("layers replaced (0: the teacher)")
    axes.set_ylabel("WER on dev, hard gates, %")
    axes.set_title(f"{name}: attention layers replaced by LPA, 95 % over speakers", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    replace_file(
        path,
        lambda beside: figure.savefig(beside, dpi=150, format="png", metadata={"Software": None}),
    )
