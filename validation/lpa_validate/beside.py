"""What stands beside a report and is no part of it: other bundles of the model, its benchmark.

Both lie in the folder that holds the bundle. Nothing there is needed, and nothing is trusted.
"""

from dataclasses import dataclass
from pathlib import Path

from lpa_export.errors import LpaError
from lpa_export.formats.bundle import artifacts_size, open_bundle
from lpa_export.formats.manifest import Manifest, as_type, read_json
from lpa_validate.schema import FigureEntry

__all__ = ["BENCH", "Beside", "Sibling", "look_beside"]

BENCH = "bench.json"
"""A benchmark's result: {name of a bundle's folder: its figures, in the form of a report's}."""


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
    """``note``: a line about the printing. ``unmeasured``: why there are no ``timings``."""

    note: str = ""
    siblings: tuple[Sibling, ...] = ()
    timings: tuple[FigureEntry, ...] = ()
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
    timings, unmeasured = _timings(bundle)
    return Beside(note, siblings, timings, unmeasured)


def _folders(above: Path) -> list[Path]:
    return sorted(path for path in above.iterdir() if path.is_dir() and path.name[0] != ".")


def _manifest(folder: Path) -> Manifest | None:
    try:
        return open_bundle(folder).manifest
    except LpaError:
        return None


def _timings(bundle: Path) -> tuple[tuple[FigureEntry, ...], str]:
    place = bundle.parent / BENCH
    if not place.is_file():
        return (), "not measured"
    try:
        results = as_type(
            read_json(place, "benchmark"), dict[str, tuple[FigureEntry, ...]], str(place)
        )
    except LpaError as error:
        return (), f"not measured: {error}"
    timings = results.get(bundle.name, ())
    return timings, "" if timings else f"not measured: {BENCH} says nothing of {bundle.name}"
