"""How the word error rate moved with each layer replaced, and where the recipe said to stop."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lpa_export.formats.recipe import ReplaceSettings
from lpa_export.training.files import read_json, write_json

__all__ = ["LAYERS", "ReplacedLayer", "ReplacementLog", "read_log_of_layers"]

LAYERS = "layers.json"


@dataclass(frozen=True)
class ReplacedLayer:
    """One layer: WER in percent on dev with hard gates once it is replaced, and what it cost."""

    layer: int
    wer: float
    cost_points: float
    kept: bool = True


@dataclass(frozen=True)
class ReplacementLog:
    """The steps so far; `stopped` says why the last one was undone, empty when none was."""

    teacher_wer: float
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
    def wer(self) -> float:
        """WER in percent with the layers that stay replaced."""
        return self.kept[-1].wer if self.kept else self.teacher_wer

    def take(self, layer: int, wer: float, settings: ReplaceSettings) -> ReplacementLog:
        """The log with `layer` replaced, or undone where it costs more than `settings` allow."""
        step = ReplacedLayer(layer, wer, wer - self.wer)
        limits = {
            "max_wer_points_per_layer": (settings.max_wer_points_per_layer, step.cost_points),
            "max_wer_points": (settings.max_wer_points, wer - self.teacher_wer),
        }
        for name, (limit, cost) in limits.items():
            if limit is not None and cost > limit:
                kept = ", ".join(map(str, self.layers)) or "none"
                stopped = (
                    f"layer {layer} takes the WER from {self.wer:.2f} to {wer:.2f} % (teacher "
                    f"{self.teacher_wer:.2f} %), more than replace.{name} {limit:g} allows; "
                    f"layers replaced: {kept}"
                )
                steps = (*self.steps, replace(step, kept=False))
                return replace(self, steps=steps, stopped=stopped)
        return replace(self, steps=(*self.steps, step))

    def lines(self) -> list[str]:
        """A line per layer, and why no other followed."""
        lines = [
            f"layer {step.layer}: WER {step.wer:.2f} % ({step.cost_points:+.2f} points)"
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
    return ReplacementLog(**content | {"steps": steps})
