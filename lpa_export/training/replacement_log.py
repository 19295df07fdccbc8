"""How the figure moved with each layer replaced, and where the recipe said to stop."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lpa_export.formats.recipe import ReplacePhases
from lpa_export.training.files import read_json, write_json
from lpa_export.training.records import WER, Figure

__all__ = ["LAYERS", "ReplacedLayer", "ReplacementLog", "read_log_of_layers"]

LAYERS = "layers.json"


@dataclass(frozen=True)
class ReplacedLayer:
    """One layer: the figure on dev with hard gates once it is replaced, and what that cost."""

    layer: int
    value: float
    cost: float
    kept: bool = True


@dataclass(frozen=True)
class ReplacementLog:
    """The steps so far; `stopped` says why the last one was undone, empty when none was.

    `figure` and its values: WER in percent, or what else the task is judged by.
    """

    teacher: float
    figure: Figure = WER
    steps: tuple[ReplacedLayer, ...] = ()
    stopped: str = ""

    @property
    def kept(self) -> tuple[ReplacedLayer, ...]:
        """The steps that were not undone."""
        return tuple(step for step in self.steps if step.kept)

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that stay replaced, in their order."""
        return tuple(step.layer for step in self.kept)

    @property
    def value(self) -> float:
        """The figure with the layers that stay replaced."""
        return self.kept[-1].value if self.kept else self.teacher

    def take(self, layer: int, value: float, settings: ReplacePhases) -> ReplacementLog:
        """The log with `layer` replaced, or undone where it costs more than `settings` allow."""
        figure = self.figure
        step = ReplacedLayer(layer, value, figure.cost(value - self.value))
        costs = (step.cost, figure.cost(value - self.teacher))
        for (name, limit), cost in zip(settings.limits.items(), costs, strict=True):
            if limit is not None and cost > limit:
                kept = ", ".join(map(str, self.layers)) or "none"
                stopped = (
                    f"layer {layer} takes the {figure.title} from {self.value:.2f} to "
                    f"{value:.2f} {figure.unit} (teacher {self.teacher:.2f} {figure.unit}), more "
                    f"than replace.{name} {limit:g} allows; layers replaced: {kept}"
                )
                steps = (*self.steps, replace(step, kept=False))
                return replace(self, steps=steps, stopped=stopped)
        return replace(self, steps=(*self.steps, step))

    def lines(self) -> list[str]:
        """A line per layer, and why no other followed."""
        figure = self.figure
        lines = [
            f"layer {step.layer}: {figure.title} {step.value:.2f} {figure.unit} "
            f"({figure.cost(step.cost):+.2f} {figure.difference})"
            for step in self.steps
        ]
        return [*lines, f"stopped: {self.stopped}"] if self.stopped else lines

    def write(self, folder: Path) -> None:
        """Write `layers.json` into the run's folder."""
        write_json(folder / LAYERS, asdict(self))


def read_log_of_layers(folder: Path) -> ReplacementLog:
    """Read what `ReplacementLog.write` wrote; LpaError when it is not there or damaged."""
    return read_json(folder / LAYERS, _log, "the file of a replacement")


def _log(content: Any) -> ReplacementLog:
    steps = tuple(ReplacedLayer(**step) for step in content["steps"])
    figure = Figure(**content["figure"])
    return ReplacementLog(**content | {"steps": steps, "figure": figure})
