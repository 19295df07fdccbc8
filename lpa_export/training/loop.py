"""The training loop: seeded per step, logged, and resumable after a kill at any moment.

The state of a run is one safetensors file (never pickle), written beside the old one and renamed
over it. Dropout and SpecAugment draw from generators that are seeded anew for every
step, so nothing of theirs has to be saved, and a resumed run sees what the killed one would have.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import nn
from tqdm import tqdm

from lpa_export.errors import LpaError
from lpa_export.training.averaging import WeightAverage
from lpa_export.training.data import Batch, SpeechSet
from lpa_export.training.files import save_weights, write_tensors

__all__ = ["BEST", "STATE", "Progress", "Settings", "optimise"]

SAVE_EVERY_SECONDS = 120.0
STATE = "state.safetensors"
BEST = "best.safetensors"
AVERAGE = "average.safetensors"

Loss = Callable[[Batch, float], dict[str, torch.Tensor]]
"""(batch, share of the run done in [0, 1]) -> named terms; `loss` is the one to minimise."""


@dataclass(frozen=True)
class Settings:
    """What the loop needs to know; the same for every stage of a recipe."""

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


@dataclass(frozen=True)
class Progress:
    """How far a run is: the next batch is number `batch` of `epoch`; `step` updates are done."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = math.inf


def optimise(
    model: nn.Module,
    loss: Loss,
    speech: SpeechSet,
    settings: Settings,
    folder: Path,
    *,
    evaluate: Callable[[], dict[str, float]],
    dropout: bool = True,
) -> Progress:
    """Train `model` until the settings' epochs are done, from wherever `folder` says it stopped.

    `evaluate` returns figures of held-out speech with `wer` among them; the weights with the
    lowest one are kept in `best.safetensors`, the mean of the last `average_epochs` among them.
    Without `dropout` the model trains in eval mode,
    dropout and SpecAugment off. Raises LpaError when the loss stops being a number.
    """
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(_groups(parameters, settings), lr=settings.learning_rate)
    progress = _resume(folder, model, optimizer, parameters)
    average = WeightAverage(folder / AVERAGE)
    saved = time.monotonic()
    for epoch in range(progress.epoch, settings.epochs):
        plan = speech.plan(epoch, seed=settings.seed, batch_seconds=settings.batch_seconds)
        first = progress.batch if epoch == progress.epoch else 0
        started, sums = time.monotonic(), dict[str, float]()
        bar = tqdm(plan, desc=f"epoch {epoch + 1}/{settings.epochs}", disable=None, leave=False)
        model.train(dropout)
        for index in range(len(plan)):
            bar.update()
            if index < first:
                continue
            share = (epoch + index / len(plan)) / settings.epochs
            batch_seed = (settings.seed, epoch, index)
            batch = speech.training_batch(
                plan[index], seed=batch_seed, noise_share=settings.noise_share
            )
            terms = _update(model, loss, batch, optimizer, share, settings, batch_seed)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value
            progress = Progress(epoch, index + 1, progress.step + 1, progress.best)
            if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                _save(folder, model, optimizer, parameters, progress)
                saved = time.monotonic()
        bar.close()
        record: dict[str, float] = {"epoch": epoch + 1, "step": progress.step}
        record |= {name: value / max(1, len(plan) - first) for name, value in sums.items()}
        record["seconds"] = time.monotonic() - started
        best = progress.best
        if (epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs:
            figures = evaluate()
            record |= figures
            if figures["wer"] <= best:
                best = figures["wer"]
                save_weights(folder / BEST, model)
        if epoch >= settings.epochs - settings.average_epochs:
            average.add(model, epoch)
        progress = Progress(epoch + 1, 0, progress.step, best)
        _save(folder, model, optimizer, parameters, progress)
        _log(folder, record)
    if average.load_into(model):
        figures = evaluate()
        _log(folder, {"averaged_epochs": settings.average_epochs, **figures})
        if figures["wer"] <= progress.best:
            save_weights(folder / BEST, model)
    return progress


def learning_rate_share(share: float, settings: Settings) -> float:
    """Linear warm-up, then half a cosine down to `final_share` of the peak."""
    if share < settings.warmup_share:
        return max(share / settings.warmup_share, 1e-3)
    position = (share - settings.warmup_share) / (1 - settings.warmup_share)
    low = settings.final_share
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * position))


def _update(
    model: nn.Module,
    loss: Loss,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    share: float,
    settings: Settings,
    seed: tuple[int, int, int],
) -> dict[str, float]:
    """One optimiser step; the terms of its loss as numbers."""
    # Hugging Face draws SpecAugment's masks from numpy's global generator.
    mixed = np.random.SeedSequence(seed).generate_state(2)
    torch.manual_seed(int(mixed[0]))
    np.random.seed(int(mixed[1]))
    terms = loss(batch, share)
    value = float(terms["loss"].detach())
    if not math.isfinite(value):
        raise LpaError(
            f"the loss became {value} in epoch {seed[1] + 1}, batch {seed[2] + 1}: lower "
            "learning_rate in the recipe; the last saved state is still good"
        )
    optimizer.zero_grad()
    terms["loss"].backward()
    nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * learning_rate_share(share, settings)
    optimizer.step()
    return {name: float(term.detach()) for name, term in terms.items()}


def _groups(parameters: dict[str, nn.Parameter], settings: Settings) -> Iterator[dict[str, object]]:
    """Weight decay for matrices and filters only, not for biases and norms."""
    for decays in (True, False):
        chosen = [p for p in parameters.values() if (p.dim() > 1) == decays]
        yield {"params": chosen, "weight_decay": settings.weight_decay if decays else 0.0}


def _save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    parameters: dict[str, nn.Parameter],
    progress: Progress,
) -> None:
    """Write the state of the run: weights, Adam's moments and the progress in one file."""
    tensors = {f"model:{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {
        f"{kind}:{name}": optimizer.state[parameter][kind]
        for name, parameter in parameters.items()
        for kind in ("exp_avg", "exp_avg_sq", "step")
        if parameter in optimizer.state
    }
    write_tensors(folder / STATE, tensors, {"progress": json.dumps(asdict(progress))})


def _resume(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    parameters: dict[str, nn.Parameter],
) -> Progress:
    if not (folder / STATE).is_file():
        return Progress()
    with safe_open(folder / STATE, framework="pt") as state:
        progress = Progress(**json.loads(state.metadata()["progress"]))
        weights = {}
        for key in state.keys():  # noqa: SIM118 - not a dict
            kind, name = key.split(":", 1)
            if kind == "model":
                weights[name] = state.get_tensor(key)
            else:
                optimizer.state[parameters[name]][kind] = state.get_tensor(key)
    model.load_state_dict(weights)
    return progress


def _log(folder: Path, record: dict[str, float]) -> None:
    line = json.dumps({name: round(value, 5) for name, value in record.items()})
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(line + "\n")
    tqdm.write(line)
