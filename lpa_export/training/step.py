"""One update of the weights from one batch or several, and what is said when it cannot be done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from lpa_export.errors import LpaError
from lpa_export.training.ahead import Place
from lpa_export.training.batches import AnyBatch, Members
from lpa_export.training.distributed import Precision, accelerator, in_precision, share_gradients

__all__ = ["Group", "Loss", "Sums", "gradients", "groups"]

Loss = Callable[[Any, float], dict[str, torch.Tensor]]
"""(batch, share of the run done in [0, 1]) -> named terms; `loss` is the one to minimise."""


@dataclass(frozen=True)
class Group:
    """The batches of one update, over all processes: numbers `first` to `end` - 1 of an epoch."""

    epoch: int
    first: int
    batches: tuple[Members, ...]

    @property
    def end(self) -> int:
        """Number of the batch that comes next."""
        return self.first + len(self.batches)

    def own(self) -> Iterator[Place]:
        """This process's batches."""
        state = accelerator()
        for place in range(state.process_index, len(self.batches), state.num_processes):
            yield Place(self.epoch, self.first + place, self.batches[place])

    def weight(self, place: Place) -> float:
        """Of a batch: an utterance counts as much as in one batch of them all."""
        return len(place.members) / sum(map(len, self.batches))


def groups(plan: Sequence[Members], epoch: int, first: int, accumulate: int) -> Iterator[Group]:
    """The updates of an epoch from batch number `first` on."""
    size = accumulate * accelerator().num_processes
    for start in range(first, len(plan), size):
        yield Group(epoch, start, tuple(plan[start : start + size]))


@dataclass(frozen=True)
class Sums:
    """What the batches of an update came to, over all processes.

    `terms` of the mean loss, `audio` seconds of speech; `waited` seconds for this process's own
    batches.
    """

    terms: dict[str, float]
    audio: float
    waited: float


def gradients(
    model: nn.Module,
    loss: Loss,
    made: Iterator[AnyBatch],
    group: Group,
    *,
    share: float,
    seed: int,
    names: Callable[[Members], str],
    precision: Precision = "fp32",
    rate_key: str = "learning_rate",
) -> Sums:
    """Leave the gradients of a group's mean loss in the parameters.

    `made` gives this process's batches in their order. Raises LpaError, naming the utterances,
    for a loss that is no number and for lack of memory.
    """
    state = accelerator()
    sums: dict[str, torch.Tensor] = {}
    waited = 0.0
    for place in group.own():
        asked = time.monotonic()
        batch = next(made)
        waited += time.monotonic() - asked
        _seed_generators((seed, place.epoch, place.number))
        with _out_of_memory_explained(batch, partial(names, place.members)):
            with in_precision(precision, state.device.type):
                terms = loss(batch.to(state.device), share)
            if not math.isfinite(float(terms["loss"].detach())):
                where = f"epoch {place.epoch + 1}, batch {place.number + 1}"
                raise LpaError(
                    f"{_not_finite(terms)} in {where} ({names(place.members)}): lower {rate_key}"
                    f"{_OR_FP32[precision]} in the recipe, or look at that speech; the last saved "
                    "state is still good"
                )
            state.backward(terms["loss"] * group.weight(place))
        parts = {name: term.detach().double() * group.weight(place) for name, term in terms.items()}
        parts[_AUDIO] = torch.tensor(batch.seconds, dtype=torch.float64, device=state.device)
        sums = {name: sums[name] + part if sums else part for name, part in parts.items()}
    share_gradients(p for p in model.parameters() if p.requires_grad)
    found = _over_processes(sums)
    audio = found.pop(_AUDIO)
    return Sums(found, audio, waited)


_AUDIO = "audio seconds"
_OR_FP32 = {"fp32": "", "bf16": " or give precision: fp32"}


def _not_finite(terms: dict[str, torch.Tensor]) -> str:
    """`the loss became nan (layer 1)`: the parts of the loss that are no numbers, by name."""
    value = float(terms["loss"].detach())
    culprits = [
        name.replace("_", " ")
        for name, term in terms.items()
        if name != "loss" and not math.isfinite(float(term.detach()))
    ]
    return f"the loss became {value}" + (f" ({', '.join(culprits)})" if culprits else "")


def _seed_generators(seed: tuple[int, int, int]) -> None:
    """Dropout draws from torch's generator, Hugging Face's SpecAugment from numpy's global one."""
    mixed = np.random.SeedSequence(seed).generate_state(2)
    torch.manual_seed(int(mixed[0]))
    np.random.seed(int(mixed[1]))


def _over_processes(sums: dict[str, torch.Tensor]) -> dict[str, float]:
    state = accelerator()
    if state.num_processes > 1:
        # A process without a batch knows no terms: the main one always has a batch.
        size = state.reduce(torch.tensor([len(sums)], device=state.device), reduction="max")
        own = torch.zeros(int(size), dtype=torch.float64, device=state.device)
        if sums:
            own[:] = torch.stack(list(sums.values()))
        total = state.reduce(own, reduction="sum")
        names: Iterable[str] = sums or [*map(str, range(int(size) - 1)), _AUDIO]
        sums = dict(zip(names, total, strict=True))
    return {name: float(value) for name, value in sums.items()}


@contextmanager
def _out_of_memory_explained(batch: AnyBatch, names: Callable[[], str]) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        clips, seconds = batch.shape
        raise LpaError(
            f"out of memory on {clips} clips of {seconds:.1f} s ({names()}): lower "
            "batch_seconds in the recipe (training: accumulate keeps what an update sees), or "
            "leave out the longest recordings; the last saved state is still good"
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    """The CPU's allocator raises a plain RuntimeError."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "DefaultCPUAllocator" in str(error)
