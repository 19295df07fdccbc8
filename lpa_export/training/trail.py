"""How the word error rate moved with each layer replaced, and where the recipe said to stop."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lpa_export.errors import LpaError
from lpa_export.formats.recipe import ReplaceSettings
from lpa_export.training.files import replace_file

__all__ = ["TRAIL", "Step", "Trail", "read_trail"]

TRAIL = "layers.json"


@dataclass(frozen=True)
class Step:
    """One layer: WER in percent on dev with hard gates once it is replaced, and what it cost."""

    layer: int
    wer: float
    cost_points: float
    kept: bool = True


@dataclass(frozen=True)
class Trail:
    """The steps so far; `stopped` says why the last one was undone, empty when none was."""

    teacher_wer: float
    steps: tuple[Step, ...] = ()
    stopped: str = ""

    @property
    def kept(self) -> tuple[Step, ...]:
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

    def take(self, layer: int, wer: float, settings: ReplaceSettings) -> Trail:
        """The trail with `layer` replaced, or undone where it costs more than `settings` allow."""
        step = Step(layer, wer, wer - self.wer)
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
        """What a user is told."""
        told = [
            f"layer {step.layer}: WER {step.wer:.2f} % ({step.cost_points:+.2f} points)"
            for step in self.steps
        ]
        return [*told, f"stopped: {self.stopped}"] if self.stopped else told

    def write(self, folder: Path) -> None:
        """Write `layers.json` into the run's folder."""
        text = json.dumps(asdict(self), indent=1) + "\n"
        replace_file(folder / TRAIL, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_trail(folder: Path) -> Trail:
    """Read what `Trail.write` wrote; LpaError when it is not there or damaged."""
    path = folder / TRAIL
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Trail(**content | {"steps": tuple(Step(**step) for step in content["steps"])})
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise LpaError(
            f"{path}: not the file of a replacement ({type(error).__name__}: {error}); delete its "
            "folder and run lpa-train replace again"
        ) from error
