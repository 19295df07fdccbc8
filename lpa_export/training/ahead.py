"""Batches made ahead of their use by worker processes, so that a GPU does not wait for speech.

A batch depends on its place in the run and on nothing else, so it is the same whichever process
makes it, and a resumed run needs nothing but its place. Workers that lose their parent, however
it ended, end as well: torch's DataLoader sees to that.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lpa_export.errors import LpaError
from lpa_export.training.batches import AnyBatch, Members, Source

__all__ = ["Place", "batches", "default_workers"]

EACH_AHEAD = 4
MOST_WORKERS = 8


class Place(NamedTuple):
    """Which batch of a run: number `number` of `epoch`, and what its plan puts into it."""

    epoch: int
    number: int
    members: Members


def default_workers() -> int:
    """Beside a GPU all cores but one; without one the cores have enough to do."""
    if not torch.cuda.is_available():
        return 0
    return min(MOST_WORKERS, len(os.sched_getaffinity(0)) - 1)


def batches(
    source: Source, places: Iterable[Place], workers: int
) -> Generator[AnyBatch, None, None]:
    """The batches of `places`, in their order; `workers` processes make them ahead (0: this one).

    Raises LpaError for speech that cannot be read, and where the workers' memory gives out.
    """
    if workers == 0:
        yield from (source.batch(*place) for place in places)
        return
    loader: DataLoader[Any] = DataLoader(
        _Made(source),
        batch_size=None,
        sampler=_InOrder(places),
        num_workers=workers,
        prefetch_factor=EACH_AHEAD,
        collate_fn=_as_it_is,
        worker_init_fn=partial(_begin, source, workers),
        pin_memory=torch.cuda.is_available(),
        # Of its own: the run's generators are seeded batch by batch, and nobody else draws.
        generator=torch.Generator(),
    )
    try:
        for made in loader:
            if isinstance(made, LpaError):
                raise made
            yield made
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise LpaError(
            f"a process that prepares batches ended ({reason}); give fewer --workers, or this "
            "machine's container more shared memory (/dev/shm); the last saved state is still good"
        ) from error


@dataclass(frozen=True)
class _Made(Dataset[Any]):
    """A worker's view of the source: an error travels as a value, in one line."""

    source: Source

    def __getitem__(self, place: Place) -> AnyBatch | LpaError:
        try:
            return self.source.batch(*place)
        except LpaError as error:
            return error


@dataclass(frozen=True)
class _InOrder(Sampler[Any]):
    places: Iterable[Place]

    def __iter__(self) -> Iterator[Place]:
        return iter(self.places)


def _begin(source: Source, workers: int, _worker: int) -> None:
    source.in_worker(workers)


def _as_it_is(made: Any) -> Any:
    return made
