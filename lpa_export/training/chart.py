"""The sweep as a picture. matplotlib is imported when a picture is drawn."""

from __future__ import annotations

from pathlib import Path

from lpa_export.training.files import replace_file
from lpa_export.training.ranking import Ranking

__all__ = ["draw_sweep"]

# Errors farther apart than this factor are drawn on a logarithmic scale.
WIDE = 10.0


def draw_sweep(path: Path, ranking: Ranking) -> None:
    """A PNG with two bars per layer, soft and hard gates, and the layer's place in the order."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fits = sorted(ranking.fits, key=lambda fit: fit.layer)
    figure = Figure(figsize=(max(4.8, 0.55 * len(fits) + 2), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for shift, name in ((-0.2, "soft"), (0.2, "hard")):
        heights = [getattr(fit, name) for fit in fits]
        places = [place + shift for place in range(len(fits))]
        axes.bar(places, heights, width=0.4, label=f"{name} gates")
    for place, fit in enumerate(fits):
        number = f"{ranking.order.index(fit.layer) + 1}."
        axes.annotate(
            number,
            (place, max(fit.soft, fit.hard)),
            (0, 2),
            textcoords="offset points",
            ha="center",
        )
    axes.set_xticks(range(len(fits)), [str(fit.layer) for fit in fits])
    errors = [error for fit in fits for error in (fit.soft, fit.hard)]
    if max(errors) > WIDE * min(errors):
        axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.set_xlabel("layer (above its bars: its place, easiest first)")
    axes.set_ylabel("normalised MSE, held-out speech")
    axes.set_title(f"{ranking.recipe}: an LPA in place of each attention layer", fontsize=10)
    axes.legend()
    replace_file(
        path,
        lambda beside: figure.savefig(beside, dpi=150, format="png", metadata={"Software": None}),
    )
