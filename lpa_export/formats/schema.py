"""Writes the JSON Schemas of what a bundle holds: ``python -m lpa_export.formats.schema``."""

from pathlib import Path

from lpa_export.formats.golden import GoldenEntry
from lpa_export.formats.manifest import Manifest, json_schema
from lpa_export.formats.separation_bundle import GoldenMixtureEntry, SeparationManifest

__all__ = ["schemas"]


def schemas() -> dict[Path, str]:
    """The files beside this one, and what they must hold."""
    folder = Path(__file__).parent
    return {
        folder / "manifest.schema.json": json_schema(Manifest),
        folder / "golden.schema.json": json_schema(tuple[GoldenEntry, ...]),
        folder / "separation_manifest.schema.json": json_schema(SeparationManifest),
        folder / "separation_golden.schema.json": json_schema(tuple[GoldenMixtureEntry, ...]),
    }


if __name__ == "__main__":
    for path, text in schemas().items():
        path.write_text(text, "utf-8", newline="\n")
