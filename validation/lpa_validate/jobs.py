"""Utterances over several processes, here by joblib's own, or on a Dask cluster's machines.

The report is that of a single process, to the digit: an utterance is evaluated alone wherever that
is, every process runs with the same number of threads, and the answers are put in order. What
lies behind a path (bundle, checkpoint, audio) must be there on every machine.
"""

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from lpa_export.environment import quiet_libraries
from lpa_export.errors import LpaError, LpaWarning
from lpa_export.runtimes import THREADS, ArtifactError
from lpa_validate.evaluation import Evaluated
from lpa_validate.progress import progress

if TYPE_CHECKING:
    from lpa_export.formats.speech import Utterance

__all__ = ["Evaluator", "Jobs", "Work", "evaluate_over"]

_BATCHES_A_JOB = 8
"""So that one that is slow, or dies, holds up little."""

_MOST_IN_BATCH = 16
_WAIT_SECONDS = 30

# A worker of Dask may have several threads, a runner may be a process that answers one question.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Jobs:
    """Where utterances are evaluated: in `count` processes here, or on the `cluster` whose
    scheduler has that address (tcp://host:port; `count` None then: all of its workers)."""

    count: int | None = 1
    cluster: str | None = None

    @property
    def alone(self) -> bool:
        """Whether this process does all of it."""
        return self.cluster is None and self.count == 1


class Evaluator(Protocol):
    """What is opened in a process: a `Validation`, of which this is asked."""

    def evaluate(self, utterance: "Utterance") -> Evaluated: ...


@dataclass(frozen=True)
class Work:
    """What a process needs to evaluate by itself: a function that it imports, and its arguments."""

    open: Callable[..., Evaluator]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class _Answer:
    """What became of an utterance, and what was warned of."""

    evaluated: Evaluated | None
    error: ArtifactError | LpaError | None
    warned: tuple[str, ...]


def evaluate_over(jobs: Jobs, work: Work, utterances: Sequence["Utterance"]) -> list[Evaluated]:
    """Every utterance, in order. Raises what the first of them that fails raises alone.

    Raises LpaError for a cluster that cannot be reached, and where processes die: one of ours, or
    on a cluster several with the same utterances.
    """
    from joblib import Parallel, delayed

    with _backend(jobs) as count, _said_when_processes_die():
        size = min(max(len(utterances) // (_BATCHES_A_JOB * count), 1), _MOST_IN_BATCH)
        batches = [tuple(utterances[at : at + size]) for at in range(0, len(utterances), size)]
        answers = Parallel(n_jobs=count, return_as="generator", batch_size=1)(
            delayed(_evaluate)(work, batch) for batch in batches
        )
        found = []
        for utterance, answer in zip(
            progress(utterances, "transcribing"), _flat(answers), strict=True
        ):
            for text in answer.warned:
                warnings.warn(text, LpaWarning, stacklevel=2)
            if answer.error is not None:
                raise answer.error
            assert answer.evaluated is not None
            found.append(replace(answer.evaluated, utterance=utterance))
        return found


def _flat(answers: Iterable[list[_Answer]]) -> Iterator[_Answer]:
    for batch in answers:
        yield from batch


@contextmanager
def _backend(jobs: Jobs) -> Iterator[int]:
    """joblib set up for the block; how many processes there are."""
    from joblib import parallel_config

    with ExitStack() as stack:
        if jobs.cluster is None:
            count = jobs.count or 1
            stack.enter_context(parallel_config("loky", inner_max_num_threads=THREADS))
        else:
            client = stack.enter_context(_connected(jobs.cluster))
            count = jobs.count or max(len(client.scheduler_info()["workers"]), 1)
            stack.enter_context(parallel_config("dask", wait_for_workers_timeout=_WAIT_SECONDS))
        yield count


@contextmanager
def _said_when_processes_die() -> Iterator[None]:
    try:
        yield
    except BrokenExecutor as error:
        raise LpaError(
            "a process that evaluated utterances died; where memory ran out, give fewer --jobs"
        ) from error
    except Exception as error:
        # Dask's own type, which is there only where Dask is.
        if type(error).__name__ != "KilledWorker":
            raise
        raise LpaError(
            "workers of the cluster died again and again over the same utterances; their logs say "
            "why, mostly memory"
        ) from error


def _connected(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise LpaError(
            "--cluster needs Dask, which is not installed; run: pip install 'lpa-export[cluster]'"
        ) from error
    try:
        return Client(address, timeout=_WAIT_SECONDS)
    except (OSError, ValueError) as error:
        raise LpaError(
            f"no Dask scheduler at {address!r} ({type(error).__name__}); start one with "
            "dask scheduler, and workers with dask worker"
        ) from error


def _evaluate(work: Work, utterances: Sequence["Utterance"]) -> list[_Answer]:
    """In a worker: the answer of each."""
    with _ONE_AT_A_TIME:
        try:
            validation = _opened(work)
        except (ArtifactError, LpaError) as error:
            return [_Answer(None, error, ())] * len(utterances)
        return [_answer(validation, utterance) for utterance in utterances]


def _answer(validation: Evaluator, utterance: "Utterance") -> _Answer:
    evaluated, problem = None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LpaWarning)
        try:
            evaluated = validation.evaluate(utterance)
        except (ArtifactError, LpaError) as error:
            problem = error
    warned = (str(item.message) for item in caught if issubclass(item.category, LpaWarning))
    return _Answer(evaluated, problem, tuple(warned))


@lru_cache(maxsize=1)
def _opened(work: Work) -> Evaluator:
    """Opened once in a process, not for every batch."""
    quiet_libraries()
    return work.open(*work.arguments)
