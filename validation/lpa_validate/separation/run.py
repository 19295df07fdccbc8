"""``lpa-validate`` for bundles that separate speech: a bundle and mixtures in, a report out."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.mixtures import load_mixtures
from lpa_export.formats.separation_bundle import open_separator_bundle
from lpa_export.formats.task import SEPARATION
from lpa_export.runtimes import ArtifactError, Runner
from lpa_export.targets import target_named
from lpa_validate.checks import checks_of
from lpa_validate.reference import open_model
from lpa_validate.report import Data
from lpa_validate.separation.evaluation import SeparationValidation
from lpa_validate.separation.reference import SeparatorModel, TorchSeparator

__all__ = ["data_of", "open_separation"]


def open_separation(
    folder: Path,
    *,
    data: Path | None,
    checkpoint: str | Path | None,
    limit: int | None,
    names: Sequence[str],
    load: Callable[..., SeparatorModel] = TorchSeparator,
) -> SeparationValidation:
    """Everything the checks of these names need; an artifact that does not open leaves ``runner``
    None.

    Raises LpaError for data, checkpoint or runtime that cannot be used.
    """
    bundle = open_separator_bundle(folder)
    manifest = bundle.manifest
    runner_class = target_named(manifest.target).runner_class(separates=True)
    known = checks_of(manifest.target, SEPARATION)
    places = []
    reference, problem = None, ""
    if any(known[name].needs_speech for name in names):
        places = load_mixtures(
            data, sample_rate=manifest.sample_rate, sources=manifest.sources, limit=limit
        )
        reference, problem = open_model(bundle, checkpoint, load)
    runner: Runner | None = None
    runner_problem = ""
    try:
        runner = runner_class(bundle)
    except (ArtifactError, LpaError) as error:  # the bundle is damaged: integrity says how
        runner_problem = str(error)
    return SeparationValidation(
        bundle=bundle,
        runner=runner,
        runner_problem=runner_problem,
        open_runner=lambda threads: runner_class(bundle, threads=threads),
        reference=reference,
        reference_problem=problem,
        places=places,
    )


def data_of(validation: SeparationValidation, name: str) -> Data:
    """The mixtures, by their samples and those of their sources."""
    digest, samples = hashlib.sha256(), 0
    for place in validation.places:
        mixture = place.read()
        samples += len(mixture.waveform)
        digest.update(place.id.encode())
        for part in (mixture.waveform, *mixture.clean):
            digest.update(np.ascontiguousarray(part, np.float32).tobytes())
    seconds = samples / validation.bundle.manifest.sample_rate
    return Data(name, digest.hexdigest(), len(validation.places), None, seconds)
