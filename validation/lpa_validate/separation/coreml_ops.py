"""Ops of a separator's Core ML packages: what the rules let stay on the Neural Engine (predicted).

Nothing of it is a gate but that the evaluator knows every operation: the norm of the audio is
computed in float32, which the Neural Engine does not have, and the attention that is kept is shaped
as it is trained.
"""

from lpa_export.runtimes.coreml import load_package
from lpa_export.runtimes.coreml.runner import Step
from lpa_export.runtimes.separation.coreml import CoremlSeparatorRuntime
from lpa_validate.checks.coreml_ops import examined_step, placement_figures, without_handler
from lpa_validate.report import Check, Figure, judged
from lpa_validate.separation.evaluation import SeparationValidation

__all__ = ["check_ops"]


def check_ops(validation: SeparationValidation) -> list[Check]:
    """The rules on the package of every bucket, and ops that the evaluator lacks.

    Raises ArtifactError for a package that does not open.
    """
    bundle = validation.bundle
    names = bundle.runtime_as(CoremlSeparatorRuntime).packages
    packages = {name: load_package(bundle.path / name) for name in names}
    examined = [
        examined_step(packages[name], Step(name, "main", bucket.samples, bucket.frames), {})
        for name, bucket in zip(names, bundle.manifest.buckets or (), strict=False)
    ]
    missing = without_handler(packages, examined)
    figures = [
        Figure("ops the evaluator lacks", len(missing), gate=0, comparison="=="),
        *placement_figures("programs", examined),
    ]
    details = {
        "neural_engine": [item.to_json() for item in examined],
        "missing_kernels": missing,
    }
    return [judged("ops", figures, reason="; ".join(missing), details=details)]
