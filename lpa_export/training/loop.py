"""The training loop: seeded per batch, recorded, and resumable after a kill at any moment.

Every stage trains here: the teacher, its front end, the sweep's layers, the replacement. Dropout
and SpecAugment draw from generators that are seeded anew for every batch, so nothing of theirs has
to be saved, and a resumed run sees what the killed one would have seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from lpa_export.errors import LpaError
from lpa_export.training.ahead import Place, batches
from lpa_export.training.batches import AnyBatch, Members, Source
from lpa_export.training.distributed import (
    Precision,
    accelerator,
    is_main_process,
    share_weights,
)
from lpa_export.training.files import save_weights
from lpa_export.training.optimiser import Optimiser, OptimizerName
from lpa_export.training.records import WER, Figure, RunLog, draw_curve
from lpa_export.training.state import (
    STATE,
    EpochSums,
    Progress,
    WeightAverage,
    restore,
    save,
)
from lpa_export.training.step import Group, Loss, gradients, groups

__all__ = [
    "BEST",
    "STATE",
    "Conduct",
    "Loss",
    "Progress",
    "Settings",
    "cycles_of",
    "optimise",
]

DRAW_EVERY_SECONDS = 60.0
BEST = "best.safetensors"
AVERAGE = "average.safetensors"

Evaluate = Callable[[], dict[str, float]]


@dataclass(frozen=True)
class Settings:
    """What the numbers of a run depend on, beside its model, loss and batches.

    `accumulate` batches (of each process) make one update; `precision` bf16 is mixed precision.
    `clip_each`: the gradients of each child of the model are clipped by their own norm.
    `rate_key`: what the recipe calls `learning_rate`, for messages.
    """

    epochs: int
    learning_rate: float
    seed: int
    warmup_share: float = 0.1
    final_share: float = 0.02
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    clip_each: bool = False
    evaluate_every: int = 2
    average_epochs: int = 0
    precision: Precision = "fp32"
    accumulate: int = 1
    optimizer: OptimizerName = "adamw"
    rate_key: str = "learning_rate"


@dataclass(frozen=True)
class Conduct:
    """How a run goes about its work, which changes none of its numbers.

    `workers` processes make batches ahead, 0: the run's own. The state is saved every
    `save_seconds` and at the end of each epoch. `after_update` is called with how far the run is;
    what it raises ends the run as a kill would. `tensorboard`: event files beside the records.
    """

    workers: int = 0
    save_seconds: float = 120.0
    after_update: Callable[[Progress], None] | None = None
    tensorboard: bool = False


def optimise(
    model: nn.Module,
    loss: Loss,
    source: Source,
    settings: Settings,
    folder: Path,
    *,
    evaluate: Evaluate | None = None,
    figure: Figure = WER,
    dropout: bool = True,
    conduct: Conduct | None = None,
) -> Progress:
    """Train `model` until the settings' epochs are done, from wherever `folder` says it stopped.

    `evaluate` returns figures of held-out speech with `figure` among them; the weights with the
    best one are kept in `best.safetensors`, the mean of the last `average_epochs` among them.
    Without it the last weights are the result, and no epoch is announced. Without `dropout` the
    model trains in eval mode, dropout and SpecAugment off.

    The model computes on the GPU where there is one, and is back where it was at the end; batches
    come on its device. Under a launcher every process calls this; the main one alone evaluates,
    writes and prints. Raises LpaError, in one line, for a loss or gradient that is no number, lack
    of memory, and a full disk: what was saved last is good in each case.
    """
    home = next(model.parameters()).device
    model.to(accelerator().device)
    run = _Run(
        model, loss, source, settings, folder, evaluate, figure, dropout, conduct or Conduct()
    )
    try:
        return run.train()
    finally:
        model.to(home)


def cycles_of(
    name: str, cycles: Sequence[int] | None, count: int, *, started: bool
) -> Sequence[int]:
    """The `cycles` of a teacher's training, all `count` of its recipe for None.

    They are `teacher`, from scratch, and those of `refine`. `started`: there is a model to train
    on. Raises LpaError for cycles that the recipe does not have, or that begin with another model.
    """
    chosen = range(count) if cycles is None else cycles
    following = list(chosen) == list(range(chosen[0], chosen[-1] + 1))
    if not following or chosen[0] < 0 or chosen[-1] >= count:
        raise LpaError(
            f"{name}: has cycles 0 to {count - 1} (0 is 'teacher'), found "
            f"{', '.join(map(str, chosen))}; name those that follow each other, as 1,2"
        )
    if not started and chosen[0] > 0:
        raise LpaError(
            f"cycle {chosen[0]} trains a teacher on: give that with --checkpoint, or begin with "
            "cycle 0"
        )
    if started and chosen[0] == 0:
        raise LpaError("cycle 0 trains from scratch, so it takes no --checkpoint")
    return chosen


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
        source: Source,
        settings: Settings,
        folder: Path,
        evaluate: Evaluate | None,
        figure: Figure,
        dropout: bool,
        conduct: Conduct,
    ) -> None:
        self.model, self.loss, self.source = model, loss, source
        self.settings, self.folder, self.conduct = settings, folder, conduct
        self.evaluate, self.figure, self.dropout = evaluate, figure, dropout
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
            tensorboard=conduct.tensorboard,
            announce=evaluate is not None,
        )
        self.saved = self.drawn = time.monotonic()

    def train(self) -> Progress:
        """All epochs that are left, then the mean of the last ones."""
        try:
            with closing(batches(self.source, self._places(), self.conduct.workers)) as made:
                for epoch in range(self.progress.epoch, self.settings.epochs):
                    self._epoch(epoch, made)
            self._try_average()
            draw_curve(self.folder, self.figure)
        finally:
            self.log.close()
        return self.progress

    def _plan(self, epoch: int) -> list[Members]:
        plan = list(self.source.plan(epoch))
        if not plan or not all(plan):
            raise LpaError(f"epoch {epoch + 1} has an empty batch; look at the data of the recipe")
        return plan

    def _groups(self, epoch: int, first: int) -> Iterator[Group]:
        return groups(self._plan(epoch), epoch, first, self.settings.accumulate)

    def _places(self) -> Iterator[Place]:
        """This process's batches from where the run stands to its end."""
        start = self.progress
        for epoch in range(start.epoch, self.settings.epochs):
            for group in self._groups(epoch, start.batch if epoch == start.epoch else 0):
                yield from group.own()

    def _epoch(self, epoch: int, made: Iterator[AnyBatch]) -> None:
        settings, first = self.settings, self.progress.batch
        count = len(self._plan(epoch))
        self.model.train(self.dropout)
        with tqdm(
            total=count,
            initial=first,
            desc=f"{self.folder.name}, epoch {epoch + 1}/{settings.epochs}",
            disable=None if is_main_process() else True,
            leave=False,
        ) as bar:
            for group in self._groups(epoch, first):
                self._step(group, (epoch + group.first / count) / settings.epochs, made)
                bar.update(len(group.batches))
                bar.set_postfix(loss=f"{self.sums.terms['loss'] / self.sums.steps:.3f}")
        self._finish(epoch)

    def _step(self, group: Group, share: float, made: Iterator[AnyBatch]) -> None:
        """One update of the weights."""
        settings, started = self.settings, time.monotonic()
        rate = settings.learning_rate * learning_rate_share(share, settings)
        self.optimiser.zero_grad()
        found = gradients(
            self.model,
            self.loss,
            made,
            group,
            share=share,
            seed=settings.seed,
            names=self.source.names,
            precision=settings.precision,
            rate_key=settings.rate_key,
        )
        norm = self._clip(group)
        self.optimiser.step(rate)
        seconds = time.monotonic() - started
        self.sums.add(found.terms, seconds=seconds, waited=found.waited, audio=found.audio)
        step = self.progress.step + 1
        self.progress = Progress(group.epoch, group.end, step, self.progress.best)
        row = {"step": step, "epoch": group.epoch + 1, "learning_rate": rate}
        self.log.step(row | {"gradient_norm": norm} | found.terms | {"seconds": round(seconds, 4)})
        if time.monotonic() - self.saved > self.conduct.save_seconds:
            self._save()
        if self.conduct.after_update is not None:
            self.conduct.after_update(self.progress)

    def _clip(self, group: Group) -> float:
        """Bound the gradients; their norm before."""
        parts = list(self.model.children()) if self.settings.clip_each else [self.model]
        clip = self.settings.clip_norm
        norms = [float(nn.utils.clip_grad_norm_(part.parameters(), clip)) for part in parts]
        norm = math.hypot(*norms)
        if not math.isfinite(norm):
            raise LpaError(
                f"the gradients became {norm} in epoch {group.epoch + 1}, batch "
                f"{group.first + 1}: lower {self.settings.rate_key} in the recipe; the last saved "
                "state is still good"
            )
        return norm

    def _finish(self, epoch: int) -> None:
        """Evaluate, keep what is best, and write the epoch down."""
        settings, step = self.settings, self.progress.step
        record: dict[str, float] = {"epoch": epoch + 1, "step": step} | self.sums.means()
        best = self.progress.best
        looks = (epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs
        if self.evaluate is not None and looks:
            figures = self._figures(self.evaluate)
            record |= figures
            best = self._keep(figures, best)
        if epoch >= settings.epochs - settings.average_epochs:
            self.average.add(self.model, epoch)
        # Before the state: a kill in between makes the epoch's line anew, and not twice.
        self.log.epoch(record, step)
        self.progress, self.sums = Progress(epoch + 1, 0, step, best), EpochSums()
        self._save()
        if time.monotonic() - self.drawn > DRAW_EVERY_SECONDS:
            draw_curve(self.folder, self.figure)
            self.drawn = time.monotonic()

    def _try_average(self) -> None:
        accelerator().wait_for_everyone()
        if self.evaluate is not None and self.average.load_into(self.model):
            figures = self._figures(self.evaluate)
            averaged = {"averaged_epochs": self.settings.average_epochs}
            self.log.epoch(averaged | figures, self.progress.step)
            self._keep(figures, self.progress.best)
        accelerator().wait_for_everyone()

    def _figures(self, evaluate: Evaluate) -> dict[str, float]:
        """What `evaluate` says to the main process; the others wait, and learn the one figure."""
        name = self.figure.name
        figures = evaluate() if is_main_process() else {name: 0.0}
        state = accelerator()
        if state.num_processes > 1:
            value = torch.tensor([figures[name]], dtype=torch.float64, device=state.device)
            figures[name] = float(state.reduce(value, reduction="sum"))
        return figures

    def _keep(self, figures: dict[str, float], best: float) -> float:
        cost = self.figure.cost(figures[self.figure.name])
        if cost > best:
            return best
        save_weights(self.folder / BEST, self.model)
        return cost

    def _save(self) -> None:
        save(self.folder, self.model, self.optimiser, self.progress, self.sums)
        self.saved = time.monotonic()
