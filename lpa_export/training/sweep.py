"""The MSE sweep: how well an LPA can stand in for each attention layer, before any is replaced.

Per layer an LPA of the recipe's shape learns the output of the teacher's attention from its input,
all layers on the same batches of the same speech and the same budget. The figure is the normalised
MSE on held-out speech, error energy over the energy of the output's variance: 0 is the attention
itself, 1 knows its mean only. The frozen teacher runs once per batch and gives the inputs and
outputs of every layer, so memory is that of a single batch, however much speech there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lpa_export.formats.recipe import SweepSettings
from lpa_export.layers import LPA, LPAConfig
from lpa_export.training.attention_profile import Seen, attention_of, attention_profiles, capture
from lpa_export.training.batches import Batch, FirstBatches, SpeechBatches, SpeechSet
from lpa_export.training.initialise import Initialisation, initial_lpa
from lpa_export.training.loop import Conduct, Settings, optimise
from lpa_export.training.ranking import LayerFit, easiest_first

__all__ = ["fit_layers"]


def fit_layers(
    teacher: Any,
    layers: Sequence[int],
    config: LPAConfig,
    fitted: SpeechSet,
    held_out: SpeechSet,
    settings: SweepSettings,
    initialise: Initialisation,
    folder: Path,
    conduct: Conduct | None = None,
) -> tuple[LayerFit, ...]:
    """Fit an LPA to each of `layers` on `fitted`, easiest first by the error of its hard gates.

    A layer's figure does not depend on which others are fitted beside it. The fit is a run in
    `folder`: one that was killed continues. Raises LpaError when a loss stops being a number, and
    for attention of no known kind.
    """
    teacher.eval().requires_grad_(False)
    students = _students(teacher, layers, config, fitted, settings, initialise)
    _fit(teacher, students, fitted, settings, folder, conduct)
    errors = _held_out_errors(teacher, students, held_out, settings)
    return easiest_first(
        LayerFit(layer, *(round(error, 6) for error in errors[layer])) for layer in layers
    )


def _students(
    teacher: Any,
    layers: Sequence[int],
    config: LPAConfig,
    speech: SpeechSet,
    settings: SweepSettings,
    initialise: Initialisation,
) -> dict[int, LPA]:
    profiles = {}
    if initialise == "attention":
        profiles = attention_profiles(teacher, layers, speech, reach=config.band)
    students = {}
    for layer in layers:
        torch.manual_seed(settings.seed + layer)
        lpa = initial_lpa(attention_of(teacher, layer), config, initialise, profiles.get(layer))
        students[layer] = lpa.to(teacher.device)
    return students


def _fit(
    teacher: Any,
    students: Mapping[int, LPA],
    speech: SpeechSet,
    settings: SweepSettings,
    folder: Path,
    conduct: Conduct | None,
) -> None:
    """All layers in one run of the loop, whose loss is the sum of theirs; each clips its own."""
    start, end = settings.temperature

    def loss(batch: Batch, share: float) -> dict[str, Tensor]:
        _run(teacher, batch)
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
    batches = SpeechBatches(speech, settings.batch_seconds, settings.seed)
    with capture(teacher, list(students)) as seen:
        optimise(
            nn.ModuleDict({str(layer): lpa for layer, lpa in students.items()}),
            loss,
            FirstBatches(batches, settings.steps),
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
    speech: SpeechSet,
    settings: SweepSettings,
) -> dict[int, tuple[float, float]]:
    """Layer -> normalised MSE with soft and with hard gates, over all frames of `speech`."""
    sums = {layer: _Energies() for layer in students}
    batches = SpeechBatches(speech, settings.batch_seconds, settings.seed)
    with capture(teacher, list(students)) as seen:
        for number, members in enumerate(batches.plan(0)):
            _run(teacher, batches.batch(0, number, members).to(teacher.device))
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


@torch.no_grad()
def _run(teacher: Any, batch: Batch) -> None:
    teacher(batch.waveforms, attention_mask=batch.mask)
