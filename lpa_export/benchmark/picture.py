"""Time and memory against seconds of audio, all sides in each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lpa_export.benchmark.result import Benchmark
from lpa_export.benchmark.text import sides_of, where
from lpa_export.errors import LpaError

__all__ = ["draw", "require_drawing", "require_matplotlib"]


def require_matplotlib() -> None:
    """Raise LpaError where it is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise LpaError(
            "pictures are drawn by matplotlib, which is not installed; "
            "run: pip install 'lpa-export[train]'"
        ) from error


def require_drawing(place: Path) -> None:
    """Raise LpaError where no picture could be drawn into that file: asked before the work."""
    require_matplotlib()
    if place.suffix not in (".svg", ".png", ".pdf"):
        raise LpaError(f"{place}: pictures are .svg, .png or .pdf; name it so")
    if not place.parent.is_dir():
        raise LpaError(f"{place.parent}: no such folder for the picture; make it first")


def draw(results: Sequence[Benchmark], place: Path) -> None:
    """Write the picture of one run; the same results give the same SVG."""
    import matplotlib

    settings: dict[Any, Any] = {"svg.hashsalt": "lpa-bench", "svg.fonttype": "none"}
    with matplotlib.rc_context(settings):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.0, 3.8), layout="constrained")
        time, memory = figure.subplots(1, 2)
        sides = sides_of(results)
        for side in sides:
            seconds = [point.seconds for point in side.points]
            grows = "" if side.exponent is None else f", length to the {side.exponent:.2f}"
            line = time.plot(
                seconds, [p.time for p in side.points], marker="o", label=f"{side.name}{grows}"
            )[0]
            doubtful = [p for p in side.points if p.unusable]
            time.plot(
                [p.seconds for p in doubtful],
                [p.time for p in doubtful],
                " ",
                marker="o",
                markerfacecolor="white",
                color=line.get_color(),
            )
            for kind, style in (("first_peak", "-"), ("third_peak", ":")):
                memory.plot(
                    seconds,
                    [getattr(point, kind) / 1e9 for point in side.points],
                    style,
                    marker="o",
                    color=line.get_color(),
                )
        time.set_ylabel("time of one run, s")
        memory.set_ylabel("peak memory, GB (dotted: after three runs)")
        for axes in (time, memory):
            axes.set_xlabel("audio, s")
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
        if any(point.unusable for side in sides for point in side.points):
            time.set_xlabel("audio, s (hollow: unusable)")
        time.legend(frameon=False)
        figure.suptitle(where(results[0]), fontsize=8)
        metadata = {"Date": None} if place.suffix == ".svg" else None
        figure.savefig(place, metadata=metadata)
