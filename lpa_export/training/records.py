"""What a run writes down of itself: a line per epoch, a row per update, TensorBoard, a picture.

`log.jsonl` has a line per epoch, with the figures of held-out speech; `steps.csv` a row per update.
A run that continues drops what stands there beyond the state it continues from, so that a killed
run leaves the same records as one that was not.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lpa_export.errors import LpaError
from lpa_export.training.distributed import is_main_process
from lpa_export.training.files import replace_file

__all__ = [
    "CURVE",
    "EVENTS",
    "LOG",
    "STEPS",
    "WER",
    "Figure",
    "RunLog",
    "draw_curve",
    "read_log",
    "read_steps",
]

LOG = "log.jsonl"
STEPS = "steps.csv"
CURVE = "learning_curve.png"
EVENTS = "tensorboard"

POINTS = 1500  # more updates than the picture has columns are averaged


@dataclass(frozen=True)
class Figure:
    """A figure of held-out speech by which weights are chosen.

    `name` in logs, `title` and `unit` for people, `difference`: the unit of how far two are apart.
    """

    name: str
    title: str
    unit: str
    difference: str
    rises: bool = False

    @property
    def label(self) -> str:
        """Of an axis."""
        return f"held-out {self.title}, {self.unit}"

    def cost(self, value: float) -> float:
        """What should be low: the figure, or its negative where a better model has a higher one.

        The cost of a cost is the figure again.
        """
        return -value if self.rises else value


WER = Figure("wer", "WER", "%", "points")


def read_log(folder: Path) -> list[dict[str, float]]:
    """The lines of a run's log; a line that a kill cut short is left out."""
    path = folder / LOG
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def read_steps(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's updates; a row that a kill cut short is left out."""
    path = folder / STEPS
    if not path.is_file():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    rows = csv.DictReader(whole.splitlines())
    return [{name: float(value) for name, value in row.items()} for row in rows]


class RunLog:
    """The records of one run folder; processes beside the main one of a group write nothing."""

    def __init__(
        self, folder: Path, *, epoch: int, step: int, tensorboard: bool, announce: bool = True
    ) -> None:
        """Go on behind `epoch` whole epochs and `step` updates; `announce` prints the epochs.

        Raises LpaError without the tensorboard package.
        """
        self._folder = folder
        self._announce = announce
        self._events = _event_writer(folder / EVENTS, step) if tensorboard else None
        lines = [line for line in read_log(folder) if line.get("epoch", epoch + 1) <= epoch]
        rows = [row for row in read_steps(folder) if row["step"] <= step]
        replace_file(folder / LOG, lambda path: path.write_text("".join(map(_line, lines))))
        replace_file(folder / STEPS, lambda path: path.write_text("".join(_csv(rows))))
        self._columns = list(rows[0]) if rows else []

    def step(self, row: Mapping[str, float]) -> None:
        """Add the row of an update, `step` among its values; the first one names the columns."""
        if not is_main_process():
            return
        new, self._columns = not self._columns, self._columns or list(row)
        values = {name: row.get(name, math.nan) for name in self._columns}
        self._append(STEPS, "".join(_csv([values], header=new)))
        self._plot("train", row, int(row["step"]))

    def epoch(self, record: Mapping[str, float], step: int) -> None:
        """Add the line of an epoch."""
        if not is_main_process():
            return
        line = _line({name: round(value, 5) for name, value in record.items()})
        self._append(LOG, line)
        self._plot("epoch", record, step)
        if self._events is not None:
            self._events.flush()
        if self._announce:
            tqdm.write(line.rstrip())

    def close(self) -> None:
        """Write out what TensorBoard's writer holds back."""
        if self._events is not None:
            self._events.close()

    def _append(self, name: str, text: str) -> None:
        try:
            with (self._folder / name).open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise LpaError(
                f"{self._folder / name}: cannot be written ({error.strerror}); the last saved "
                "state is still good: make room, then give the same command again"
            ) from error

    def _plot(self, group: str, values: Mapping[str, float], step: int) -> None:
        if self._events is None:
            return
        for name, value in values.items():
            if name not in ("epoch", "step"):
                self._events.add_scalar(f"{group}/{name}", value, step)


def _line(record: Mapping[str, float]) -> str:
    return json.dumps(record) + "\n"


def _csv(rows: list[Any], *, header: bool = True) -> Iterator[str]:
    """Comma separated lines; whole numbers stay whole, others are written to the last bit."""
    if rows and header:
        yield ",".join(rows[0]) + "\n"
    for row in rows:
        yield (
            ",".join(f"{v:.0f}" if float(v).is_integer() else repr(v) for v in row.values()) + "\n"
        )


def _event_writer(folder: Path, step: int) -> Any:
    """TensorBoard's writer; events of updates after `step`, from before a kill, are hidden."""
    if not is_main_process():
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise LpaError(
            "the recipe asks for TensorBoard files: pip install tensorboard, or set tensorboard: "
            "false in its 'training' section"
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def draw_curve(folder: Path, figure: Figure = WER) -> Path | None:
    """Draw loss and held-out `figure` over the updates to `folder`/learning_curve.png.

    Returns None, and draws nothing, before the first update or where matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        return None
    steps = read_steps(folder)
    if not steps or not is_main_process():
        return None
    picture = Canvas(figsize=(7.5, 6), layout="constrained")
    FigureCanvasAgg(picture)
    losses, held_out = picture.subplots(2, 1, sharex=True)
    _draw_losses(losses, steps)
    _draw_held_out(held_out, [line for line in read_log(folder) if "step" in line], figure)
    held_out.set_xlabel("update")
    replace_file(folder / CURVE, lambda path: picture.savefig(path, dpi=110, format="png"))
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


def _draw_held_out(axes: Any, lines: list[dict[str, float]], figure: Figure) -> None:
    names = sorted({name for line in lines for name in line if name.endswith(figure.name)})
    for name in names:
        points = [(line["step"], line[name]) for line in lines if name in line]
        axes.plot(*zip(*points, strict=True), marker="o", ms=3, label=name)
    if names:
        axes.legend()
    axes.set_ylabel(figure.label)
    axes.grid(alpha=0.3)
