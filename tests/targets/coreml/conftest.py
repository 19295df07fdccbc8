"""Core ML bundles of a tiny model, made once each: a conversion takes seconds."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
import pytest
import torch

from lpa_export.formats.checkpoint import Checkpoint
from lpa_export.formats.golden import GoldenClip
from lpa_export.formats.schemes import scheme_named
from lpa_export.runtimes.torch import TorchReference
from lpa_export.targets import Job, Written
from lpa_export.targets.coreml.settings import CoremlSettings
from lpa_export.targets.coreml.target import CoremlTarget

Make = Callable[..., Any]
SHORT, LONG = 1.2, 2.4
"""Seconds of the tiny model's buckets: 64 and 128 frames."""


@dataclass(frozen=True)
class Exported:
    """What the target wrote for a checkpoint."""

    checkpoint: Checkpoint
    folder: Path
    written: Written

    def specification(self, package: str) -> Any:
        """The model protobuf of a package."""
        return coremltools.utils.load_spec(str(self.folder / package))


@pytest.fixture(scope="session")
def golden(speech: Make) -> Callable[[Checkpoint], tuple[GoldenClip, ...]]:
    """One clip of 0.9 s with the reference's stages."""

    def make(checkpoint: Checkpoint) -> tuple[GoldenClip, ...]:
        waveform = speech(14_400)
        return (GoldenClip("clip", "", waveform, TorchReference(checkpoint).taps(waveform), ""),)

    return make


@pytest.fixture(scope="session")
def write_coreml(golden: Make) -> Callable[..., Exported]:
    """`write_coreml(checkpoint, folder, scheme, **settings)`: the target's own files."""

    def write(checkpoint: Checkpoint, folder: Path, scheme: str, **settings: Any) -> Exported:
        job = Job(
            checkpoint,
            scheme_named(scheme),
            CoremlSettings(**settings),
            golden(checkpoint),
            lambda _: None,
        )
        return Exported(checkpoint, folder, CoremlTarget().write(job, folder))

    return write


@pytest.fixture(scope="session")
def exported(
    make_checkpoint: Make, write_coreml: Make, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Exported]:
    """`exported(norm, scheme, **settings)`: such a bundle, made at the first call."""

    @functools.cache
    def made(norm: str, scheme: str, settings: tuple[tuple[str, Any], ...]) -> Exported:
        folder = tmp_path_factory.mktemp("coreml")
        result: Exported = write_coreml(make_checkpoint(norm), folder, scheme, **dict(settings))
        return result

    def make(norm: str = "pre", scheme: str = "fp16", **settings: Any) -> Exported:
        return made(norm, scheme, tuple(sorted(({"buckets": (SHORT, LONG)} | settings).items())))

    return make


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    state = torch.get_rng_state()
    torch.manual_seed(5)
    np.random.seed(5)
    yield
    torch.set_rng_state(state)
