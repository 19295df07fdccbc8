"""``lpa-validate`` for bundles that separate speech: a bundle and mixtures in, a report out."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from lpa_export.errors import LpaError
from lpa_export.formats.mixtures import load_mixtures
from lpa_export.formats.separation_bundle import SeparatorBundle, open_separator_bundle
from lpa_export.formats.task import SEPARATION
from lpa_export.runtimes import ArtifactError, Runner
from lpa_export.targets import target_named
from lpa_validate.checks import checks_of
from lpa_validate.reference import open_model
from lpa_validate.report import Data, Reference
from lpa_validate.separation.evaluation import SeparationValidation
from lpa_validate.separation.reference import SeparatorModel, TorchSeparator

__all__ = ["data_of", "identity_of", "open_separation"]


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
    """What was heard, by its samples where it was."""
    heard = validation.separated if "separated" in vars(validation) else []
    digest = hashlib.sha256("".join(item.digest for item in heard).encode()).hexdigest()
    seconds = sum(item.samples for item in heard) / validation.bundle.manifest.sample_rate
    return Data(name, digest, len(validation.places), None, seconds if heard else None)


def identity_of(bundle: SeparatorBundle, reference: SeparatorModel | None) -> Reference:
    """What parity compares with: the model, or its golden clips."""
    if reference is not None:
        return reference.identity
    made_from = bundle.manifest.checkpoint
    return Reference("golden", made_from.name, made_from.sha256)
