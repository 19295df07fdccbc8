"""The MSE sweep: how well an LPA can stand in for each attention layer, before any is replaced.

Per layer an LPA of the recipe's shape learns the output of the teacher's attention from its input,
all layers on the same batches of the same audio and the same budget. The figure is the normalised
MSE on held-out audio, error energy over the energy of the output's variance: 0 is the attention
itself, 1 knows its mean only. The frozen teacher runs once per batch and gives the inputs and
outputs of every layer, so memory is that of a single batch, however much audio there is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lpa_export.formats.recipe import SweepFit
from lpa_export.layers import LPA, LPAConfig
from lpa_export.training.attention_profile import AttentionProfile, Seen, attention_of, capture
from lpa_export.training.batches import FirstBatches, Source
from lpa_export.training.distributed import accelerator
from lpa_export.training.initialise import Initialisation, initial_lpa
from lpa_export.training.loop import STATE, Conduct, Settings, optimise
from lpa_export.training.ranking import (
    SWEEP,
    LayerFit,
    Ranking,
    draw_sweep,
    easiest_first,
    read_ranking,
    write_ranking,
)

__all__ = ["Heard", "fit_layers", "ranking_of"]


class Heard(Protocol):
    """What the sweep of a task hears."""

    @property
    def fitted(self) -> Source:
        """What LPAs are fitted on."""
        ...

    @property
    def held_out(self) -> Source:
        """What the figures are of: the first epoch of it."""
        ...

    def run(self, teacher: Any, batch: Any) -> None:
        """A forward pass, for what layers see in it."""
        ...

    def profiles(
        self, teacher: Any, layers: Sequence[int], reach: int
    ) -> dict[int, AttentionProfile]:
        """Layer -> what its attention looks at, up to `reach` frames."""
        ...


def ranking_of(
    folder: Path, layers: Sequence[int], rank: Callable[[Sequence[int], Path], Ranking]
) -> Ranking:
    """The ranking in `folder`, of `layers` at least: sweep.json and sweep.png there.

    Layers that it holds figures of already are not fitted again; `rank` fits the others, as a run
    in a folder of its own.
    """
    path, picture = folder / SWEEP, (folder / SWEEP).with_suffix(".png")
    known = read_ranking(path).fits if path.is_file() else ()
    missing = [layer for layer in layers if layer not in {fit.layer for fit in known}]
    if missing:
        name = hashlib.sha256(str(missing).encode()).hexdigest()[:8]
        made = rank(missing, folder / f"fit-{name}")
        write_ranking(path, replace(made, fits=easiest_first((*known, *made.fits))))
        accelerator().wait_for_everyone()
        for state in folder.glob(f"fit-*/{STATE}"):
            state.unlink(missing_ok=True)
    ranking = read_ranking(path)
    if missing or not picture.is_file():
        draw_sweep(picture, ranking)
    return ranking


def fit_layers(
    teacher: Any,
    layers: Sequence[int],
    config: LPAConfig,
    heard: Heard,
    settings: SweepFit,
    initialise: Initialisation,
    folder: Path,
    conduct: Conduct | None = None,
) -> tuple[LayerFit, ...]:
    """Fit an LPA to each of `layers`, easiest first by the error of its hard gates.

    A layer's figure does not depend on which others are fitted beside it. The fit is a run in
    `folder`: one that was killed continues. Raises LpaError when a loss stops being a number, and
    for attention of no known kind.
    """
    teacher.eval().requires_grad_(False)
    students = _students(teacher, layers, config, heard, settings, initialise)
    _fit(teacher, students, heard, settings, folder, conduct)
    errors = _held_out_errors(teacher, students, heard)
    return easiest_first(
        LayerFit(layer, *(round(error, 6) for error in errors[layer])) for layer in layers
    )


def _students(
    teacher: Any,
    layers: Sequence[int],
    config: LPAConfig,
    heard: Heard,
    settings: SweepFit,
    initialise: Initialisation,
) -> dict[int, LPA]:
    profiles: dict[int, AttentionProfile] = {}
    if initialise == "attention":
        profiles = heard.profiles(teacher, layers, config.band)
    students = {}
    for layer in layers:
        torch.manual_seed(settings.seed + layer)
        lpa = initial_lpa(attention_of(teacher, layer), config, initialise, profiles.get(layer))
        students[layer] = lpa.to(_device(teacher))
    return students


def _fit(
    teacher: Any,
    students: Mapping[int, LPA],
    heard: Heard,
    settings: SweepFit,
    folder: Path,
    conduct: Conduct | None,
) -> None:
    """All layers in one run of the loop, whose loss is the sum of theirs; each clips its own."""
    start, end = settings.temperature

    def loss(batch: Any, share: float) -> dict[str, Tensor]:
        with torch.no_grad():
            heard.run(teacher, batch)
        terms = {}
        for layer, lpa in students.items():
            lpa.temperature = start * (end / start) ** share
            error, target = _difference(lpa, seen[layer])
            terms[f"layer_{layer}"] = error.square().mean() / target.var(0).mean()
        parts = {name: term.detach() for name, term in terms.items()}
        return {"loss": torch.stack(list(terms.values())).sum(), **parts}

    loop = Settings(
        epochs=1,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        warmup_share=0.3,
        final_share=0.0,
        clip_each=True,
        rate_key="sweep.learning_rate",
    )
    with capture(teacher, list(students)) as seen:
        optimise(
            nn.ModuleDict({str(layer): lpa for layer, lpa in students.items()}),
            loss,
            FirstBatches(heard.fitted, settings.steps),
            loop,
            folder,
            conduct=conduct,
        )
    for lpa in students.values():
        lpa.temperature = end


@torch.no_grad()
def _held_out_errors(
    teacher: Any,
    students: Mapping[int, LPA],
    heard: Heard,
) -> dict[int, tuple[float, float]]:
    """Layer -> normalised MSE with soft and with hard gates, over all frames held out."""
    sums = {layer: _Energies() for layer in students}
    batches = heard.held_out
    with capture(teacher, list(students)) as seen:
        for number, members in enumerate(batches.plan(0)):
            heard.run(teacher, batches.batch(0, number, members).to(_device(teacher)))
            for layer, lpa in students.items():
                for hard in (False, True):
                    lpa.hard = hard
                    error, target = _difference(lpa, seen[layer])
                    sums[layer].add_error(error, hard)
                sums[layer].add_target(target)
    return {layer: total.normalised() for layer, total in sums.items()}


class _Energies:
    """Error energies, and the target's first and second moments per channel, float64."""

    def __init__(self) -> None:
        self.errors = [0.0, 0.0]
        self.frames = 0
        self.sum: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add_error(self, error: Tensor, hard: bool) -> None:
        self.errors[hard] += float(error.double().square().sum())

    def add_target(self, target: Tensor) -> None:
        target = target.double()
        self.frames += len(target)
        self.sum = self.sum + target.sum(0)
        self.squares = self.squares + target.square().sum(0)

    def normalised(self) -> tuple[float, float]:
        energy = torch.as_tensor(self.squares - torch.as_tensor(self.sum) ** 2 / self.frames)
        soft, hard = (error / max(float(energy.sum()), 1e-30) for error in self.errors)
        return soft, hard


def _difference(lpa: LPA, seen: Seen) -> tuple[Tensor, Tensor]:
    """The LPA's error and the attention's output at valid frames, each (frames, D)."""
    error = lpa(seen.hidden, seen.valid) - seen.output
    if seen.valid is None:
        return error.flatten(0, 1), seen.output.flatten(0, 1)
    return error[seen.valid], seen.output[seen.valid]


def _device(teacher: Any) -> torch.device:
    found: torch.device = next(teacher.parameters()).device
    return found
