"""Is this the bundle that was exported, do its parts agree, are its weights as small as it says?

A compressor that skips what it cannot take (a group size that does not divide the channels) leaves
an artifact that is labelled and gated as compressed, and is not.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from lpa_export.formats.bundle import damaged_files
from lpa_export.formats.manifest import Manifest
from lpa_validate.evaluation import Opened, Validation
from lpa_validate.report import Check, Figure, gated, judged, labelled

__all__ = ["check_integrity", "integrity", "metadata_lines"]

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
    """Hashes and sizes of all files, the artifact's own metadata, its taps, compressed bytes."""
    share = validation.gates.compressed_share
    return integrity(validation, lambda: _disagreements(validation), share)


def integrity(
    validation: Opened, contradictions: Callable[[], list[str]], compressed_share: float | None
) -> list[Check]:
    """The check for a bundle of any task. `contradictions`: lines about an artifact that opened."""
    damaged = damaged_files(validation.bundle)
    opened = validation.runner is not None
    disagreements = contradictions() if opened else []
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
    compressed = _compressed(validation, compressed_share)
    figures += compressed
    problems = [*damaged, *disagreements, *missing]
    problems += [
        f"{item.name}: {item.value}, {item.gate} must be" for item in compressed if item.failed
    ]
    if not opened:
        problems.append(validation.runner_problem)
    return [
        judged("integrity", figures, reason="; ".join(problems), details={"problems": problems})
    ]


def _compressed(validation: Opened, gate: float | None) -> list[Figure]:
    """Bytes that really are in fewer bits, as they were counted when the artifact was made."""
    manifest, counted = validation.bundle.manifest, validation.bundle.manifest.compression
    if not manifest.scheme.compresses:
        return []
    if counted is None:
        return [gated("share of weights compressed", None, gate, ">=")]
    whole = counted.compressed / counted.total if counted.total else 0.0
    figures = [
        gated("share of weights compressed", counted.share, gate, ">="),
        Figure("share of all weights", whole),
        Figure("weights, as floats", counted.total, "bytes"),
    ]
    return labelled("stated", figures)


def _disagreements(validation: Validation) -> list[str]:
    """One line per statement of the artifact about itself that the manifest contradicts."""
    manifest, tokens = validation.bundle.manifest, list(validation.vocabulary.tokens)
    wanted = {
        key: (parse, expected(manifest, tokens)) for key, (parse, expected) in _METADATA.items()
    }
    lines = metadata_lines(validation.artifact.metadata, wanted)
    size = manifest.vocabulary.size
    if size != len(tokens):
        lines.append(f"tokens.json has {len(tokens)} tokens, the manifest says {size}")
    return lines


def metadata_lines(
    metadata: Mapping[str, str], stated: Mapping[str, tuple[Callable[[str], Any], Any]]
) -> list[str]:
    """One line per value of `stated` (how its text is read, what it must be) that is another."""
    lines = []
    for key, (parse, wanted) in stated.items():
        try:
            found = parse(metadata[key])
        except KeyError:
            lines.append(f"the artifact has no metadata {key!r}")
        except ValueError:
            lines.append(f"metadata {key!r} cannot be read: {metadata[key][:40]!r}")
        else:
            if found != wanted:
                lines.append(f"metadata {key!r}: {_difference(found, wanted)}")
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


def _missing_taps(validation: Opened) -> list[str]:
    values = validation.artifact.values
    return [
        f"tap {tap.name!r}: no tensor {tap.tensor!r} in the artifact"
        for tap in validation.bundle.manifest.taps
        if tap.tensor not in values
    ]
