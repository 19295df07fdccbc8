"""One update of the weights from one batch or several, and what is said when it cannot be done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lpa_export.errors import LpaError
from lpa_export.formats.audio import SAMPLE_RATE
from lpa_export.training.data import Batch, SpeechSet
from lpa_export.training.workers import Precision, accelerator, in_precision, share_gradients

__all__ = ["Group", "Loss", "gradients", "groups"]

Loss = Callable[[Batch, float], dict[str, torch.Tensor]]
"""(batch, share of the run done in [0, 1]) -> named terms; `loss` is the one to minimise."""

Members = Sequence[tuple[int, int]]


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

    def own(self) -> Iterator[tuple[int, Members, float]]:
        """Number, members and weight of this process's batches.

        An utterance counts as much as in one batch of them all.
        """
        state = accelerator()
        utterances = sum(map(len, self.batches))
        for place in range(state.process_index, len(self.batches), state.num_processes):
            members = self.batches[place]
            yield self.first + place, members, len(members) / utterances


def groups(plan: Sequence[Members], epoch: int, first: int, accumulate: int) -> Iterator[Group]:
    """The updates of an epoch from batch number `first` on."""
    size = accumulate * accelerator().num_processes
    for start in range(first, len(plan), size):
        yield Group(epoch, start, tuple(plan[start : start + size]))


def gradients(
    model: nn.Module,
    loss: Loss,
    speech: SpeechSet,
    group: Group,
    *,
    share: float,
    seed: int,
    noise_share: float,
    precision: Precision = "fp32",
) -> dict[str, float]:
    """Leave the gradients of a group's mean loss in the parameters; the terms of it as numbers.

    Raises LpaError, naming the utterances, for a loss that is no number and for lack of memory.
    """
    state = accelerator()
    sums: dict[str, torch.Tensor] = {}
    for number, members, weight in group.own():
        batch_seed = (seed, group.epoch, number)
        batch = speech.training_batch(members, seed=batch_seed, noise_share=noise_share)
        _seed_generators(batch_seed)
        with _told_out_of_memory(batch, _names(speech, members)):
            with in_precision(precision, state.device.type):
                terms = loss(batch.to(state.device), share)
            value = float(terms["loss"].detach())
            if not math.isfinite(value):
                place = f"epoch {group.epoch + 1}, batch {number + 1}"
                raise LpaError(
                    f"the loss became {value} in {place} ({_names(speech, members)}): lower "
                    f"learning_rate{_OR_FP32[precision]} in the recipe, or look at that speech; "
                    "the last saved state is still good"
                )
            state.backward(terms["loss"] * weight)
        for name, term in terms.items():
            part = term.detach().double() * weight
            sums[name] = sums[name] + part if name in sums else part
    share_gradients(p for p in model.parameters() if p.requires_grad)
    return _over_processes(sums)


_OR_FP32 = {"fp32": "", "bf16": " or give precision: fp32"}


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
        sums = dict(zip(sums, total, strict=False))
    return {name: float(value) for name, value in sums.items()}


@contextmanager
def _told_out_of_memory(batch: Batch, names: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        clips, samples = batch.waveforms.shape
        raise LpaError(
            f"out of memory on {clips} clips of {samples / SAMPLE_RATE:.1f} s ({names}): lower "
            "batch_seconds in the recipe (training: accumulate keeps what an update sees), or "
            "leave out the longest recordings; the last saved state is still good"
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    """The CPU's allocator raises a plain RuntimeError."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "DefaultCPUAllocator" in str(error)


def _names(speech: SpeechSet, members: Members) -> str:
    """The first utterances of a batch by their ids."""
    names = [speech.utterances[index].id for index, _ in members[:4]]
    more = f" and {len(members) - 4} more" if len(members) > 4 else ""
    return f"utterances {', '.join(names)}{more}"
