"""The MSE sweep: how well an LPA can stand in for each attention layer, before any is replaced.

Per layer an LPA of the recipe's shape learns the output of the teacher's attention from its input,
all layers on the same batches of the same speech and the same budget. The figure is the normalised
MSE on held-out speech, error energy over the energy of the output's variance: 0 is the attention
itself, 1 knows its mean only. The frozen teacher runs once per batch and gives the inputs and
outputs of every layer, so memory is that of a single batch, however much speech there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import trange
from transformers import Wav2Vec2ForCTC

from lpa_export.errors import LpaError
from lpa_export.formats.recipe import SweepSettings
from lpa_export.layers import LPA, LPAConfig
from lpa_export.training.attention_profile import (
    Seen,
    attention_of,
    attention_profiles,
    capture,
)
from lpa_export.training.data import Batch, SpeechSet
from lpa_export.training.initialise import Initialisation, initial_lpa

__all__ = ["LayerFit", "easiest_first", "fit_layers"]

CLIP_NORM = 1.0


@dataclass(frozen=True)
class LayerFit:
    """Normalised MSE of a layer's LPA on held-out speech, with soft gates and with hard ones."""

    layer: int
    soft: float
    hard: float


def fit_layers(
    teacher: Wav2Vec2ForCTC,
    layers: Sequence[int],
    config: LPAConfig,
    fitted: SpeechSet,
    held_out: SpeechSet,
    settings: SweepSettings,
    initialise: Initialisation,
) -> tuple[LayerFit, ...]:
    """Fit an LPA to each of `layers` on `fitted`, easiest first by the error of its hard gates.

    A layer's figure does not depend on which others are fitted beside it. Raises LpaError when a
    loss stops being a number, and for attention of no known kind.
    """
    teacher.eval().requires_grad_(False)
    students = _students(teacher, layers, config, fitted, settings, initialise)
    _fit(teacher, students, fitted, settings)
    errors = _held_out_errors(teacher, students, held_out, settings)
    return easiest_first(
        LayerFit(layer, *(round(error, 6) for error in errors[layer])) for layer in layers
    )


def easiest_first(fits: Iterable[LayerFit]) -> tuple[LayerFit, ...]:
    """By the error with hard gates, which is what is deployed."""
    return tuple(sorted(fits, key=lambda fit: (fit.hard, fit.layer)))


def _students(
    teacher: Wav2Vec2ForCTC,
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
    teacher: Wav2Vec2ForCTC,
    students: Mapping[int, LPA],
    speech: SpeechSet,
    settings: SweepSettings,
) -> None:
    parameters = [parameter for lpa in students.values() for parameter in lpa.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps
    )
    batches = _endless(speech, settings)
    start, end = settings.temperature
    with capture(teacher, list(students)) as seen:
        for step in trange(settings.steps, desc="sweep", disable=None, leave=False):
            _run(teacher, next(batches))
            optimizer.zero_grad()
            for layer, lpa in students.items():
                lpa.temperature = start * (end / start) ** (step / max(1, settings.steps - 1))
                error, target = _difference(lpa, seen[layer])
                loss = error.square().mean() / target.var(0).mean()
                if not math.isfinite(loss.item()):
                    raise LpaError(
                        f"layer {layer}: the loss became {loss.item()} in step {step + 1}; lower "
                        "sweep.learning_rate in the recipe"
                    )
                loss.backward()
                nn.utils.clip_grad_norm_(lpa.parameters(), CLIP_NORM)
            optimizer.step()
            schedule.step()


@torch.no_grad()
def _held_out_errors(
    teacher: Wav2Vec2ForCTC,
    students: Mapping[int, LPA],
    speech: SpeechSet,
    settings: SweepSettings,
) -> dict[int, tuple[float, float]]:
    """Layer -> normalised MSE with soft and with hard gates, over all frames of `speech`."""
    sums = {layer: _Energies() for layer in students}
    with capture(teacher, list(students)) as seen:
        for batch in _epoch(speech, settings, 0):
            _run(teacher, batch)
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
def _run(teacher: Wav2Vec2ForCTC, batch: Batch) -> None:
    batch = batch.to(teacher.device)
    teacher(batch.waveforms, attention_mask=batch.mask)


def _endless(speech: SpeechSet, settings: SweepSettings) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from _epoch(speech, settings, epoch)
        epoch += 1


def _epoch(speech: SpeechSet, settings: SweepSettings, epoch: int) -> Iterator[Batch]:
    """The clips of `speech` in batches, as they are: no noise, no masking."""
    seed = settings.seed
    for index, members in enumerate(
        speech.plan(epoch, seed=seed, batch_seconds=settings.batch_seconds)
    ):
        yield speech.training_batch(members, seed=(seed, epoch, index), noise_share=0.0)
