"""What stands beside a report and is no part of it: other bundles of the model, its benchmark.

Both lie in the folder that holds the bundle. Nothing there is needed, and nothing is trusted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lpa_export.benchmark.result import RESULTS, Benchmark, read_results
from lpa_export.benchmark.text import figures
from lpa_export.errors import LpaError
from lpa_export.formats.bundle import artifact_digest, artifacts_size, open_bundle
from lpa_export.formats.manifest import Manifest

__all__ = ["Beside", "Sibling", "look_beside"]


@dataclass(frozen=True)
class Sibling:
    """A bundle of the same model in the same folder; ``size`` of its artifacts in bytes."""

    folder: str
    target: str
    scheme: str
    size: int
    own: bool
    """Whether it is the bundle that the report is about."""


@dataclass(frozen=True)
class Beside:
    """``note``: a line about the printing. ``unmeasured``: why there are no ``timings``.

    ``timings``: time and memory in words, by what they are of.
    """

    note: str = ""
    siblings: tuple[Sibling, ...] = ()
    timings: Mapping[str, str] = field(default_factory=dict)
    unmeasured: str = "not measured"


def look_beside(bundle: Path, note: str = "") -> Beside:
    """Siblings in the order of their names, the bundle itself among them, and its timings."""
    bundle = bundle.resolve()
    found = {path: manifest for path in _folders(bundle.parent) if (manifest := _manifest(path))}
    model = found[bundle].model if bundle in found else None
    siblings = tuple(
        Sibling(
            path.name,
            manifest.target,
            manifest.scheme.name,
            artifacts_size(manifest),
            path == bundle,
        )
        for path, manifest in found.items()
        if manifest.model == model
    )
    timings, unmeasured = _timings(bundle, found.get(bundle))
    return Beside(note, siblings, timings, unmeasured)


def _folders(above: Path) -> list[Path]:
    return sorted(path for path in above.iterdir() if path.is_dir() and path.name[0] != ".")


def _manifest(folder: Path) -> Manifest | None:
    try:
        return open_bundle(folder).manifest
    except LpaError:
        return None


def _timings(bundle: Path, manifest: Manifest | None) -> tuple[Mapping[str, str], str]:
    try:
        results = read_results(bundle.parent / RESULTS)
    except LpaError as error:
        return {}, f"not measured: {error}"
    found = results.get(bundle.name)
    if found is None:
        said = f": {RESULTS} says nothing of {bundle.name}" if results else ""
        return {}, f"not measured{said}"
    if manifest is not None and not _is_of(found, manifest):
        return {}, f"not measured: {RESULTS} is of another artifact"
    return figures(found), ""


def _is_of(result: Benchmark, manifest: Manifest) -> bool:
    return result.ours.artifacts == {
        name: artifact_digest(manifest, name) for name in manifest.artifacts
    }
