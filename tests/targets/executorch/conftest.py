"""Programs of tiny checkpoints, made once: an export takes seconds."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.formats.golden import GoldenClip
from lpa_export.formats.schemes import scheme_named
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets import Job, Written
from lpa_export.targets.executorch.settings import ExecutorchSettings
from lpa_export.targets.executorch.target import ExecutorchTarget

Make = Callable[..., Any]


@dataclass(frozen=True)
class Exported:
    """A checkpoint, the folder that its export was written to, and what the target says of it."""

    checkpoint: Checkpoint
    folder: Path
    written: Written


@pytest.fixture(scope="session")
def job(speech: Make) -> Make:
    """`job(checkpoint, scheme, **settings)`: an export with two clips of noise."""

    def make(checkpoint: Checkpoint, scheme: str = "fp32", **settings: Any) -> Job:
        reference = TorchReference(checkpoint)
        clips = tuple(
            GoldenClip(name, "", waveform, reference.taps(waveform), "")
            for name, waveform in (("short", speech(9_000, 1)), ("long", speech(17_000)))
        )
        return Job(
            checkpoint,
            scheme_named(scheme),
            ExecutorchSettings(**settings),
            clips,
            lambda step: None,
        )

    return make


@pytest.fixture(scope="session")
def exported(
    make_checkpoint: Make, job: Make, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Exported]:
    """`exported(backend, scheme, norm, buckets)`: such a bundle, made at the first call."""

    @functools.cache
    def made(backend: str, scheme: str, norm: str, buckets: tuple[float, ...]) -> Exported:
        # Only XNNPACK is cut differently beside attention.
        layers = 2 if backend == "xnnpack" else 1
        checkpoint = make_checkpoint(norm, (0,), num_hidden_layers=layers)
        folder = tmp_path_factory.mktemp(f"{backend}-{scheme}")
        request = job(checkpoint, scheme, backend=backend, buckets=buckets)
        return Exported(checkpoint, folder, ExecutorchTarget().write(request, folder))

    def make(
        backend: str = "xnnpack",
        scheme: str = "fp32",
        norm: str = "post",
        buckets: tuple[float, ...] = (12.0,),
    ) -> Exported:
        return made(backend, scheme, norm, buckets)

    return make


@pytest.fixture(scope="session")
def noise() -> Callable[[int], np.ndarray]:
    """`noise(samples)`: float32 of unit variance."""

    def make(samples: int) -> np.ndarray:
        return np.random.default_rng(samples).standard_normal(samples).astype(np.float32)

    return make
