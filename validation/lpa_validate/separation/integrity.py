"""Is this the bundle that was exported, and do its parts agree?"""

from collections.abc import Callable
from typing import Any

from lpa_export.formats.gates import COMPRESSED_SHARE
from lpa_validate.checks.integrity import integrity, metadata_lines
from lpa_validate.report import Check
from lpa_validate.separation.evaluation import SeparationValidation

__all__ = ["check_integrity"]


def check_integrity(validation: SeparationValidation) -> list[Check]:
    """Hashes and sizes of all files, the artifact's own metadata, its taps, compressed bytes."""
    manifest = validation.bundle.manifest
    stated: dict[str, tuple[Callable[[str], Any], Any]] = {
        "task": (str, manifest.task),
        "sample_rate": (int, manifest.sample_rate),
        "hop": (int, manifest.frames.hop),
        "receptive_field": (int, manifest.frames.receptive_field),
        "chunk": (int, manifest.chunk),
        "sources": (int, manifest.sources),
    }
    share = COMPRESSED_SHARE if manifest.scheme.compresses else None
    return integrity(
        validation, lambda: metadata_lines(validation.artifact.metadata, stated), share
    )
