"""Pictures of hard windows over the spectrogram of a recording, and of how hard the gates are.

matplotlib is imported when a picture is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lpa_export.training.files import replace_file
from lpa_export.training.window_view import LayerView, Spans, View

__all__ = ["draw_hardness", "draw_windows"]

HEADS = 4  # what a row of panels holds; of more heads some, evenly chosen
SECONDS = 8.0  # of a longer recording the beginning is drawn
DPI = 100
GREYS = 10  # of the spectrogram: steps, not a gradient, make a small file
COLOURS = 128
FAMILIES = ("aperiodic", "periodic", "positional")


def draw_windows(path: Path, view: View, layer: LayerView, title: str) -> None:
    """A PNG, 1000 pixels wide, with the windows of each family of one layer."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [
        (name, spans)
        for name, spans in (
            ("aperiodic, one for the utterance", layer.anchored),
            ("periodic teeth", layer.teeth),
            ("positional bases", layer.bases),
        )
        if spans is not None
    ]
    heights = [2.7] * (layer.moving is not None) + [1.7] * len(panels)
    figure = Figure(figsize=(10, sum(heights) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(heights), HEADS, height_ratios=heights)
    first = 0
    if layer.moving is not None:
        _draw_moving(figure, grid, view, layer.moving)
        first = 1
    for row, (name, spans) in enumerate(panels, start=first):
        axes = figure.add_subplot(grid[row, :])
        _draw_bars(axes, view, spans, name)
        if row == len(heights) - 1:
            axes.set_xlabel("time, s")
    figure.suptitle(title, fontsize=11)
    _save(path, figure)


def draw_hardness(path: Path, layers: Sequence[LayerView], title: str) -> None:
    """A PNG with a bar per layer and family: gates that are neither open nor shut, in percent."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for shift, family in zip((-0.27, 0.0, 0.27), FAMILIES, strict=True):
        found = {
            place + shift: 100 * layer.soft[family]
            for place, layer in enumerate(layers)
            if family in layer.soft
        }
        if found:
            bars = axes.bar(list(found), list(found.values()), width=0.25, label=family)
            axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.set_xticks(range(len(layers)), [f"layer {layer.layer}" for layer in layers])
    axes.set_ylabel("gates between 0.05 and 0.95, %")
    axes.set_title(title, fontsize=11)
    axes.margins(y=0.15)
    axes.legend()
    _save(path, figure)


def _draw_moving(figure: Any, grid: Any, view: View, spans: Spans) -> None:
    """A panel per head: what the frame at each time (downwards) sees, as a band per pulse."""
    times = view.seconds(np.arange(view.frames) + 0.5)
    last = _last_second(view)
    for column, head in enumerate(_heads(spans.starts.shape[1])):
        axes = figure.add_subplot(grid[0, column])
        _draw_speech(axes, view, (last, 0.0))
        for pulse in range(spans.starts.shape[2]):
            edges = (view.seconds(part[:, head, pulse]) for part in (spans.starts, spans.ends))
            axes.fill_betweenx(
                times, *edges, color=f"C{pulse}", alpha=0.55, lw=0, label=f"pulse {pulse}"
            )
        axes.plot(times, times, color="black", lw=0.8, ls="--", label="the frame itself")
        axes.set_ylim(last, 0.0)
        axes.set_title(f"aperiodic, head {head}", fontsize=9)
        if column == 0:
            axes.set_ylabel("window of the frame at, s", fontsize=9)
            axes.legend(fontsize=7, loc="upper right")


def _draw_bars(axes: Any, view: View, spans: Spans, name: str) -> None:
    """A row per head and pulse, a bar per window; the heads apart by colour."""
    heads, pulses = spans.starts.shape[-2:]
    shown = _heads(heads)
    rows = [(head, pulse) for head in shown for pulse in range(pulses)]
    _draw_speech(axes, view, (len(rows), 0.0))
    for row, (head, pulse) in enumerate(rows):
        bars = list(_bars(view, spans, head, pulse))
        label = f"head {head}" if pulse == 0 else None
        colour = f"C{shown.index(head)}"
        axes.broken_barh(
            bars, (row + 0.15, 0.7), color=colour, alpha=0.55, ec="black", lw=0.5, label=label
        )
    axes.set_ylim(len(rows), 0)
    names = [f"{head}" if pulses == 1 else f"{head}, {pulse}" for head, pulse in rows]
    axes.set_yticks(np.arange(len(rows)) + 0.5, names, fontsize=8)
    axes.set_ylabel("head" if pulses == 1 else "head, pulse", fontsize=9)
    axes.set_title(name, fontsize=9)
    place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.1}
    axes.legend(fontsize=7, ncols=len(shown), frameon=False, **place)


def _bars(view: View, spans: Spans, head: int, pulse: int) -> Iterator[tuple[float, float]]:
    """(begin, length) in seconds of the windows of one pulse, each once."""
    starts, ends = (np.atleast_1d(part[..., head, pulse]) for part in (spans.starts, spans.ends))
    for start, end in sorted(set(zip(starts.tolist(), ends.tolist(), strict=True))):
        begin = float(view.seconds(start))
        yield begin, float(view.seconds(end)) - begin


def _draw_speech(axes: Any, view: View, vertical: tuple[float, float]) -> None:
    """The spectrogram in grey behind everything, low frequencies at the bottom."""
    from matplotlib import colormaps

    low, high = np.quantile(view.log_mel, [0.05, 0.995])
    axes.imshow(
        view.log_mel,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=colormaps["Greys"].resampled(GREYS),
        alpha=0.6,
        vmin=low,
        vmax=high,
        extent=(*view.mel_seconds, *vertical),
    )
    axes.set_xlim(0, _last_second(view))
    axes.tick_params(labelsize=8)


def _last_second(view: View) -> float:
    return min(SECONDS, view.mel_seconds[1])


def _heads(count: int) -> list[int]:
    return np.linspace(0, count - 1, min(HEADS, count)).round().astype(int).tolist()


def _save(path: Path, figure: Any) -> None:
    from PIL import Image

    raw = io.BytesIO()
    figure.savefig(raw, dpi=DPI, format="png", metadata={"Software": None})
    small = Image.open(raw).convert("RGB").quantize(COLOURS)
    replace_file(path, lambda beside: small.save(beside, format="PNG", optimize=True))
