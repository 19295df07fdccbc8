"""Is this the bundle that was exported, and do its parts agree with one another?"""

import json
from collections.abc import Callable
from typing import Any

from lpa_export.formats.bundle import damaged_files
from lpa_export.formats.manifest import Manifest
from lpa_validate.evaluation import Validation
from lpa_validate.report import Check, Figure, judged

__all__ = ["check_integrity"]

# Metadata key -> (how its text is read, what the manifest and tokens.json say it must be).
_METADATA: dict[str, tuple[Callable[[str], Any], Callable[[Manifest, list[str]], Any]]] = {
    "vocabulary": (json.loads, lambda manifest, tokens: tokens),
    "blank_id": (int, lambda manifest, tokens: manifest.vocabulary.blank_id),
    "word_delimiter": (str, lambda manifest, tokens: manifest.vocabulary.word_delimiter or ""),
    "sample_rate": (int, lambda manifest, tokens: manifest.sample_rate),
    "hop": (int, lambda manifest, tokens: manifest.frames.hop),
    "receptive_field": (int, lambda manifest, tokens: manifest.frames.receptive_field),
}


def check_integrity(validation: Validation) -> list[Check]:
    """Hashes and sizes of all files, the artifact's own metadata, its tap tensors."""
    damaged = damaged_files(validation.bundle)
    opened = validation.runner is not None
    disagreements = _disagreements(validation) if opened else []
    missing = _missing_taps(validation) if opened else []
    figures = [
        Figure("damaged files", len(damaged), gate=0, comparison="=="),
        Figure("artifact opens", int(opened), gate=1, comparison="=="),
    ]
    if opened:
        figures += [
            Figure("metadata that disagrees", len(disagreements), gate=0, comparison="=="),
            Figure("missing tap tensors", len(missing), gate=0, comparison="=="),
        ]
    problems = [*damaged, *disagreements, *missing]
    if not opened:
        problems.append(validation.runner_problem)
    return [
        judged("integrity", figures, reason="; ".join(problems), details={"problems": problems})
    ]


def _disagreements(validation: Validation) -> list[str]:
    """One line per statement of the artifact about itself that the manifest contradicts."""
    manifest, tokens = validation.bundle.manifest, list(validation.vocabulary.tokens)
    metadata = validation.artifact.metadata
    lines = []
    for key, (parse, expected) in _METADATA.items():
        wanted = expected(manifest, tokens)
        try:
            found = parse(metadata[key])
        except KeyError:
            lines.append(f"the artifact has no metadata {key!r}")
        except ValueError:
            lines.append(f"metadata {key!r} cannot be read: {metadata[key][:40]!r}")
        else:
            if found != wanted:
                lines.append(f"metadata {key!r}: {_difference(found, wanted)}")
    size = manifest.vocabulary.size
    if size != len(tokens):
        lines.append(f"tokens.json has {len(tokens)} tokens, the manifest says {size}")
    return lines


def _difference(found: Any, wanted: Any) -> str:
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        index = next(
            i for i, pair in enumerate(zip(found, wanted, strict=True)) if pair[0] != pair[1]
        )
        return (
            f"token {index} is {found[index]!r} in the artifact, {wanted[index]!r} in tokens.json"
        )
    return f"{str(found)[:60]!r} in the artifact, {str(wanted)[:60]!r} in the bundle"


def _missing_taps(validation: Validation) -> list[str]:
    values = validation.artifact.values
    return [
        f"tap {tap.name!r}: no tensor {tap.tensor!r} in the artifact"
        for tap in validation.bundle.manifest.taps
        if tap.tensor not in values
    ]
