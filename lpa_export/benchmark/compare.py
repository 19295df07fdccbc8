"""Whether two bundles do the same work: times of anything else say nothing beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.errors import LpaError
from lpa_export.formats.json_files import read_json
from lpa_export.formats.manifest import Manifest
from lpa_export.formats.separation_bundle import SeparationManifest
from lpa_export.formats.source import CONFIG
from lpa_export.formats.task import RECOGNITION, SEPARATION

if TYPE_CHECKING:
    from lpa_export.formats.bundle import AnyBundle

__all__ = ["require_comparable", "require_same_task"]


def require_comparable(one: AnyBundle, other: AnyBundle) -> None:
    """Raise LpaError, saying in what they differ, for bundles that solve another task.

    For recognition those are the sample rate, the frames of so many samples, and the tokens; for
    separation the rate and how many sources there are.
    """
    _require_equal(str(one.path), _declared(one), str(other.path), _declared(other))


def require_same_task(bundle: AnyBundle, checkpoint: Path) -> None:
    """The same of a bundle and the architecture of a checkpoint folder, by its config.json."""
    if not isinstance(bundle.manifest, Manifest):
        raise LpaError(f"{bundle.path}: baselines recognise speech; name another bundle")
    content = read_json(checkpoint / CONFIG, "")
    hop, tokens = math.prod(content.get("conv_stride", [])), content.get("vocab_size")
    ours = {
        "hop": _Said.of(bundle.manifest.frames.hop, "samples"),
        "vocabulary": _Said.of(bundle.manifest.vocabulary.size, "tokens"),
    }
    theirs = {"hop": _Said.of(hop, "samples"), "vocabulary": _Said.of(tokens, "tokens")}
    _require_equal(str(bundle.path), ours, str(checkpoint), theirs)


@dataclass(frozen=True)
class _Said:
    """What is compared, and the words for it."""

    value: Any
    words: str

    @classmethod
    def of(cls, value: Any, unit: str) -> _Said:
        return cls(value, f"{value} {unit}")


def _require_equal(
    name: str, ours: Mapping[str, _Said], other: str, theirs: Mapping[str, _Said]
) -> None:
    differing = [
        f"{what} ({mine.words} and {theirs[what].words})"
        for what, mine in ours.items()
        if what in theirs and mine.value != theirs[what].value
    ]
    if differing:
        raise LpaError(
            f"{name} and {other} cannot be compared: they differ in {'; '.join(differing)}"
        )


def _declared(bundle: AnyBundle) -> dict[str, _Said]:
    """What a task declares of itself, by name."""
    from lpa_export.formats.text import Vocabulary

    manifest = bundle.manifest
    rate = _Said.of(manifest.sample_rate, "Hz")
    if isinstance(manifest, SeparationManifest):
        return {
            "task": _Said(SEPARATION, SEPARATION),
            "sample rate": rate,
            "sources": _Said.of(manifest.sources, "sources"),
        }
    assert isinstance(manifest, Manifest)
    tokens = Vocabulary.read(bundle.file(manifest.vocabulary.file)).tokens
    first = ", ".join(map(repr, tokens[:4]))
    return {
        "task": _Said(RECOGNITION, RECOGNITION),
        "sample rate": rate,
        "hop": _Said.of(manifest.frames.hop, "samples"),
        "vocabulary": _Said(tokens, f"{len(tokens)} tokens, the first {first}"),
    }
