"""The training loop: seeded per step, recorded, and resumable after a kill at any moment.

Dropout and SpecAugment draw from generators that are seeded anew for every batch, so nothing of
theirs has to be saved, and a resumed run sees what the killed one would have seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm
from transformers import Wav2Vec2ForCTC

from lpa_export.errors import LpaError
from lpa_export.training.averaging import WeightAverage
from lpa_export.training.curve import draw_curve
from lpa_export.training.data import SpeechSet
from lpa_export.training.evaluate import require_usable
from lpa_export.training.files import is_main_process, save_weights
from lpa_export.training.optimiser import Optimiser, OptimizerName
from lpa_export.training.records import RunLog
from lpa_export.training.state import STATE, EpochSums, Progress, restore, save
from lpa_export.training.step import Group, Loss, gradients, groups
from lpa_export.training.workers import Precision, accelerator, share_weights

__all__ = ["BEST", "STATE", "Loss", "Progress", "Settings", "optimise"]

SAVE_EVERY_SECONDS = 120.0
DRAW_EVERY_SECONDS = 60.0
BEST = "best.safetensors"
AVERAGE = "average.safetensors"

Evaluate = Callable[[], dict[str, float]]


@dataclass(frozen=True)
class Settings:
    """What the loop needs to know; the same for every stage of a recipe.

    `accumulate` batches (of each process) make one update; `precision` bf16 is mixed precision.
    """

    epochs: int
    learning_rate: float
    batch_seconds: float
    seed: int
    warmup_share: float = 0.1
    final_share: float = 0.02
    weight_decay: float = 0.01
    noise_share: float = 0.3
    clip_norm: float = 1.0
    evaluate_every: int = 2
    average_epochs: int = 0
    precision: Precision = "fp32"
    accumulate: int = 1
    optimizer: OptimizerName = "adamw"
    tensorboard: bool = False


def optimise(
    model: nn.Module,
    loss: Loss,
    speech: SpeechSet,
    settings: Settings,
    folder: Path,
    *,
    evaluate: Evaluate,
    dropout: bool = True,
) -> Progress:
    """Train `model` until the settings' epochs are done, from wherever `folder` says it stopped.

    `evaluate` returns figures of held-out speech with `wer` among them; the weights with the
    lowest one are kept in `best.safetensors`, the mean of the last `average_epochs` among them.
    Without `dropout` the model trains in eval mode, dropout and SpecAugment off.

    The model computes on the GPU where there is one, and is back where it was at the end; batches
    come on its device. Under accelerate's launcher every process calls this; the main one alone
    evaluates and writes. Raises LpaError, in one line, for speech that nothing can be learnt from,
    a loss or gradient that is no number, lack of memory, and a full disk: what was saved last is
    good in each case.
    """
    if isinstance(model, Wav2Vec2ForCTC):
        require_usable(model, speech)
    home = next(model.parameters()).device
    model.to(accelerator().device)
    try:
        return _Run(model, loss, speech, settings, folder, evaluate, dropout).train()
    finally:
        model.to(home)


def learning_rate_share(share: float, settings: Settings) -> float:
    """Linear warm-up, then half a cosine down to `final_share` of the peak."""
    if share < settings.warmup_share:
        return max(share / settings.warmup_share, 1e-3)
    position = (share - settings.warmup_share) / (1 - settings.warmup_share)
    low = settings.final_share
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * position))


class _Run:
    """One call of `optimise`: what stays the same from epoch to epoch, and how far it is."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        speech: SpeechSet,
        settings: Settings,
        folder: Path,
        evaluate: Evaluate,
        dropout: bool,
    ) -> None:
        self.model, self.loss, self.speech = model, loss, speech
        self.settings, self.folder = settings, folder
        self.evaluate, self.dropout = evaluate, dropout
        self.optimiser = Optimiser(
            {n: p for n, p in model.named_parameters() if p.requires_grad},
            settings.optimizer,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self.progress, self.sums = restore(folder, model, self.optimiser)
        share_weights(model)
        self.average = WeightAverage(folder / AVERAGE)
        self.log = RunLog(
            folder,
            epoch=self.progress.epoch,
            step=self.progress.step,
            tensorboard=settings.tensorboard,
        )
        self.saved = self.drawn = time.monotonic()

    def train(self) -> Progress:
        """All epochs that are left, then the mean of the last ones."""
        try:
            for epoch in range(self.progress.epoch, self.settings.epochs):
                self._epoch(epoch)
            self._try_average()
            draw_curve(self.folder)
        finally:
            self.log.close()
        return self.progress

    def _epoch(self, epoch: int) -> None:
        settings = self.settings
        plan = self.speech.plan(epoch, seed=settings.seed, batch_seconds=settings.batch_seconds)
        if not plan or not all(plan):
            raise LpaError(f"epoch {epoch + 1} has an empty batch; look at the data of the recipe")
        self.model.train(self.dropout)
        first = self.progress.batch
        with tqdm(
            total=len(plan),
            initial=first,
            desc=f"epoch {epoch + 1}/{settings.epochs}",
            disable=None if is_main_process() else True,
            leave=False,
        ) as bar:
            for group in groups(plan, epoch, first, settings.accumulate):
                self._step(group, (epoch + group.first / len(plan)) / settings.epochs)
                bar.update(len(group.batches))
                bar.set_postfix(loss=f"{self.sums.terms['loss'] / self.sums.steps:.3f}")
        self._finish(epoch)

    def _step(self, group: Group, share: float) -> None:
        started = time.monotonic()
        rate = self.settings.learning_rate * learning_rate_share(share, self.settings)
        terms = _update(
            self.model, self.loss, self.speech, group, self.optimiser, self.settings, share, rate
        )
        step, seconds = self.progress.step + 1, time.monotonic() - started
        norm = terms.pop("gradient_norm")
        self.sums.add(terms, seconds)
        self.progress = Progress(group.epoch, group.end, step, self.progress.best)
        row = {"step": step, "epoch": group.epoch + 1, "learning_rate": rate}
        self.log.step(row | {"gradient_norm": norm} | terms | {"seconds": round(seconds, 4)})
        if time.monotonic() - self.saved > SAVE_EVERY_SECONDS:
            self._save()

    def _finish(self, epoch: int) -> None:
        """Evaluate, keep what is best, and write the epoch down."""
        settings, step = self.settings, self.progress.step
        record: dict[str, float] = {"epoch": epoch + 1, "step": step} | self.sums.means()
        best = self.progress.best
        if (epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs:
            figures = self._figures()
            record |= figures
            best = self._keep(figures, best)
        if epoch >= settings.epochs - settings.average_epochs:
            self.average.add(self.model, epoch)
        # Before the state: a kill in between makes the epoch's line anew, and not twice.
        self.log.epoch(record, step)
        self.progress, self.sums = Progress(epoch + 1, 0, step, best), EpochSums()
        self._save()
        if time.monotonic() - self.drawn > DRAW_EVERY_SECONDS:
            draw_curve(self.folder)
            self.drawn = time.monotonic()

    def _try_average(self) -> None:
        accelerator().wait_for_everyone()
        if self.average.load_into(self.model):
            figures = self._figures()
            averaged = {"averaged_epochs": self.settings.average_epochs}
            self.log.epoch(averaged | figures, self.progress.step)
            self._keep(figures, self.progress.best)
        accelerator().wait_for_everyone()

    def _figures(self) -> dict[str, float]:
        """What `evaluate` says to the main process; the others wait, and are told the WER."""
        figures = self.evaluate() if is_main_process() else {"wer": 0.0}
        state = accelerator()
        if state.num_processes > 1:
            wer = torch.tensor([figures["wer"]], dtype=torch.float64, device=state.device)
            figures["wer"] = float(state.reduce(wer, reduction="sum"))
        return figures

    def _keep(self, figures: dict[str, float], best: float) -> float:
        if figures["wer"] > best:
            return best
        save_weights(self.folder / BEST, self.model)
        return figures["wer"]

    def _save(self) -> None:
        save(self.folder, self.model, self.optimiser, self.progress, self.sums)
        self.saved = time.monotonic()


def _update(
    model: nn.Module,
    loss: Loss,
    speech: SpeechSet,
    group: Group,
    optimiser: Optimiser,
    settings: Settings,
    share: float,
    rate: float,
) -> dict[str, float]:
    """One optimiser step; the terms of its loss as numbers, and the norm of the gradients."""
    optimiser.zero_grad()
    terms = gradients(
        model,
        loss,
        speech,
        group,
        share=share,
        seed=settings.seed,
        noise_share=settings.noise_share,
        precision=settings.precision,
    )
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm))
    if not math.isfinite(norm):
        raise LpaError(
            f"the gradients became {norm} in epoch {group.epoch + 1}, batch {group.first + 1}: "
            "lower learning_rate in the recipe; the last saved state is still good"
        )
    optimiser.step(rate)
    return terms | {"gradient_norm": norm}
