"""The folder of a package, checked before any library opens it: it may come from anywhere."""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpa_export.formats.paths import names_a_file_inside
from lpa_export.runtimes.coreml.errors import PackageError, one_line

__all__ = ["Blob", "PackageFiles", "check_blobs", "package_files"]

_MANIFEST_LIMIT = 1 << 20
_WEIGHTS = "weights"

# MILBlob's storage format, version 2: a file header, then per blob a 64 byte record.
_HEADER = struct.Struct("<II")
_RECORD = struct.Struct("<IIQQ")
_VERSION = 2
_SENTINEL = 0xDEADBEEF


@dataclass(frozen=True)
class PackageFiles:
    """Where a package keeps its parts; ``size`` is that of all files, in bytes, and
    ``largest_file`` that of the largest file of weights."""

    model: Path
    weights: Path | None
    size: int
    largest_file: int


@dataclass(frozen=True)
class Blob:
    """A constant in a weight file: of which value, where, and how many bytes it must have."""

    value: str
    file: str
    offset: int
    size: int


def package_files(folder: Path) -> PackageFiles:
    """The parts of an .mlpackage.

    Raises PackageError when the folder is no package, has links in it, or its manifest leads
    outside of it.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise PackageError(f"{folder.name}: expected an .mlpackage folder, found {found}")
    try:
        paths = list(folder.rglob("*"))
        if any(path.is_symlink() for path in paths):
            raise PackageError(f"{folder.name}: expected plain files only, found a symbolic link")
        size = sum(path.stat().st_size for path in paths if path.is_file())
        items = _items(folder)
    except OSError as error:
        raise PackageError(f"{folder.name} cannot be read ({error.strerror})") from error
    root = folder / "Data"
    model = _inside(root, items["model"])
    if not model.is_file():
        raise PackageError(f"{folder.name}: Manifest.json names {items['model']}, no such file")
    weights = _inside(root, items[_WEIGHTS]) if _WEIGHTS in items else None
    if weights and not weights.is_dir():
        raise PackageError(f"{folder.name}: the weights are missing, no folder {weights.name}")
    blobs = [path.stat().st_size for path in weights.iterdir()] if weights else []
    return PackageFiles(model, weights, size, max(blobs, default=0))


def _items(folder: Path) -> dict[str, str]:
    """The paths under Data/ that the manifest gives: ``model``, and ``weights`` if there are."""
    manifest = folder / "Manifest.json"
    if not manifest.is_file() or manifest.stat().st_size > _MANIFEST_LIMIT:
        raise PackageError(f"{folder.name}: not an .mlpackage, no usable Manifest.json in it")
    try:
        read = json.loads(manifest.read_bytes())
        entries: dict[str, Any] = read["itemInfoEntries"]
        items = {"model": str(entries[read["rootModelIdentifier"]]["path"])}
        weights = [str(e["path"]) for e in entries.values() if e["name"] == _WEIGHTS]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise PackageError(
            f"{folder.name}: Manifest.json is damaged ({type(error).__name__}: {one_line(error)})"
        ) from error
    if weights:
        items[_WEIGHTS] = weights[0]
    return items


def _inside(root: Path, path: str) -> Path:
    # There are no links in a package: what the name says is where it leads.
    if not names_a_file_inside(path):
        raise PackageError(f"{root.parent.name}: Manifest.json leads outside of the package")
    return root / path


def check_blobs(weights: Path | None, blobs: Iterable[Blob]) -> None:
    """Hold the constants of a program against the weight files that they are read from.

    Raises PackageError for the first one that its file does not hold whole.
    """
    files: dict[str, list[Blob]] = {}
    for blob in blobs:
        files.setdefault(blob.file, []).append(blob)
    for name, wanted in files.items():
        path = weights / name if weights else None
        if path is None or not names_a_file_inside(name) or not path.is_file():
            named = name if len(name) < 80 else name[:80] + "..."
            raise PackageError(f"the weights are missing: no file {named!r} for {wanted[0].value}")
        _check_file(path, wanted)


def _check_file(path: Path, blobs: list[Blob]) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or _HEADER.unpack(header)[1] != _VERSION:
            raise PackageError(f"{path.name} is damaged: it does not start as a weight file does")
        for blob in blobs:
            if blob.offset + _RECORD.size > size:
                raise _truncated(path, blob, blob.offset + _RECORD.size, size)
            file.seek(blob.offset)
            sentinel, _, count, start = _RECORD.unpack(file.read(_RECORD.size))
            if sentinel != _SENTINEL or count != blob.size:
                raise PackageError(
                    f"{path.name} is damaged: expected {blob.size} bytes of {blob.value} "
                    f"at offset {blob.offset}, found something else"
                )
            if start + count > size:
                raise _truncated(path, blob, start + count, size)


def _truncated(path: Path, blob: Blob, wanted: int, size: int) -> PackageError:
    return PackageError(
        f"{path.name} is truncated: {blob.value} needs {wanted} bytes, the file has {size}"
    )
