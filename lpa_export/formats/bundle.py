"""Bundles: a folder that is written whole or not at all, and can prove that it is undamaged.

``manifest.json`` holds the SHA-256 and size of every other file. A bundle may come from anywhere,
so its paths are not trusted: none may lead out of its folder.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lpa_export.errors import LpaError

__all__ = [
    "BUILD",
    "MANIFEST",
    "REPORT",
    "SCHEMA_VERSION",
    "Bundle",
    "artifact_digest",
    "artifact_files",
    "damaged_files",
    "default_bundle",
    "new_folder",
    "open_bundle",
    "write_manifest",
]

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
REPORT = "report.json"
BUILD = Path("build")
"""Where bundles go unless a command says otherwise: build/<model>/<target>."""

_MAX_MANIFEST_BYTES = 16 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What every target's manifest has; what only one target needs, its runner checks.
_REQUIRED: dict[str, type] = {
    "artifacts": list,
    "checkpoint": dict,
    "files": dict,
    "frames": dict,
    "gates": dict,
    "model": str,
    "precision": str,
    "sample_rate": int,
    "stages": list,
    "target": str,
    "vocabulary": dict,
}
_JSON_NAMES = {dict: "an object", list: "a list", str: "a string", int: "a whole number"}


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder, and the manifest as it stands in the file."""

    path: Path
    manifest: dict[str, Any]

    def file(self, name: str) -> Path:
        """The path of a file of the bundle, ``name`` relative to its folder.

        Raises LpaError when ``name`` (or a link it names) leads out of the folder or nowhere.
        """
        _require_inside(name, self.path / MANIFEST)
        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise LpaError(f"{path}: a link out of the bundle; put the file itself there")
        if not path.is_file():
            raise LpaError(f"{path}: missing from the bundle; export it again")
        return path


@contextmanager
def new_folder(final: Path | str, *, overwrite: bool, proof: str = MANIFEST) -> Iterator[Path]:
    """Give a temporary folder beside ``final`` that becomes ``final`` when the block succeeds.

    On any exception (Ctrl-C too) it is removed and what was there before stays. With
    ``overwrite`` an older folder is replaced if it holds the file ``proof``, which shows that it
    is one of ours (a bundle by default); any other folder never is.

    Raises LpaError when ``final`` exists, or cannot be written.
    """
    final = Path(final)
    _require_free(final, overwrite, proof)
    target = final.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    created = _make_parents(target, final)
    try:
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
        except OSError as error:
            raise _not_writable(final, error) from error
        yield temporary
        _require_free(final, overwrite, proof)
        _put_in_place(temporary, target, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in reversed(created):
            # Someone else may have put a file there meanwhile.
            with suppress(OSError):
                folder.rmdir()
        raise


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write ``manifest.json`` into ``folder``; call it last.

    Adds the schema version and ``files``: size and SHA-256 of every file but the manifest.
    Keys are sorted: the same bundle gives the same bytes.
    """
    files = {
        name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for name, path in _files_of(folder).items()
        if name != MANIFEST
    }
    complete = {"schema_version": SCHEMA_VERSION, **manifest, "files": files}
    text = json.dumps(complete, ensure_ascii=False, allow_nan=False, indent=1, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", "utf-8", newline="\n")


def open_bundle(path: Path | str) -> Bundle:
    """Open the bundle in folder ``path`` and check the form of its manifest (not its files).

    Raises LpaError for no folder, no or a damaged manifest, a newer schema, and file names that
    lead out of the folder.
    """
    path = Path(path)
    if not path.is_dir():
        raise LpaError(f"{path}: no such bundle folder; run lpa-export first, or check the path")
    place = path / MANIFEST
    if not place.is_file():
        raise LpaError(f"{path}: not a bundle, it has no {MANIFEST}; give a folder of lpa-export")
    manifest = _read_manifest(place)
    _require_schema(manifest, place)
    return Bundle(path, manifest)


def default_bundle(target: str) -> Path:
    """The one bundle of ``target`` under ``build/``. Raises LpaError when it is none or several."""
    found = sorted(path.parent for path in BUILD.glob(f"*/{target}/manifest.json"))
    if not found:
        raise LpaError(
            f"no bundle {BUILD}/*/{target}: run lpa-export --target {target} first, "
            "or name one with --bundle"
        )
    if len(found) > 1:
        raise LpaError(
            f"several bundles: {', '.join(map(str, found))}; name one of them with --bundle"
        )
    return found[0]


def artifact_digest(manifest: dict[str, Any], name: str) -> str:
    """SHA-256 of an artifact: a file's own; of a folder, that of its lines "path sha256"."""
    files = artifact_files(manifest, name)
    if name in files:
        return str(files[name]["sha256"])
    lines = "".join(f"{path} {entry['sha256']}\n" for path, entry in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def artifact_files(manifest: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """The listed files of an artifact: the file of that name, or all files in that folder."""
    return {
        path: entry
        for path, entry in manifest["files"].items()
        if path == name or path.startswith(f"{name}/")
    }


def damaged_files(bundle: Bundle) -> list[str]:
    """One line per missing, altered, truncated or unlisted file; empty for a sound bundle.

    ``report.json`` is written after export and may be there.
    """
    listed: dict[str, dict[str, Any]] = bundle.manifest["files"]
    present = _files_of(bundle.path)
    problems = {name: _damage(bundle, name, entry) for name, entry in listed.items()}
    unlisted = present.keys() - listed.keys() - {MANIFEST, REPORT}
    problems |= dict.fromkeys(unlisted, "not listed in the manifest")
    return [f"{name}: {problem}" for name, problem in sorted(problems.items()) if problem]


def _damage(bundle: Bundle, name: str, entry: dict[str, Any]) -> str:
    """What is wrong with a listed file, empty when it is as it was written."""
    try:
        path = bundle.file(name)
        size = path.stat().st_size
        if size != entry["bytes"]:
            kind = "truncated" if size < entry["bytes"] else "altered"
            return f"{kind}, {entry['bytes']} bytes expected, {size} found"
        digest = _sha256(path)
    except LpaError:
        return "a link out of the bundle" if (bundle.path / name).exists() else "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if digest != entry["sha256"]:
        return f"altered, SHA-256 {entry['sha256'][:12]} expected, {digest[:12]} found"
    return ""


def _require_free(final: Path, overwrite: bool, proof: str) -> None:
    if not final.exists():
        return
    if not final.is_dir():
        raise LpaError(f"{final}: a file is in the way; give another folder")
    if not overwrite:
        raise LpaError(f"{final}: already exists; pass --overwrite or give another folder")
    if not (final / proof).is_file():
        raise LpaError(
            f"{final}: holds no {proof}, so it was not written by this command and is not "
            "overwritten; remove it yourself or give another folder"
        )


def _make_parents(target: Path, final: Path) -> list[Path]:
    """Create the missing folders above ``target`` and return them, outermost first."""
    missing = [folder for folder in reversed(target.parents) if not folder.exists()]
    created: list[Path] = []
    try:
        for folder in missing:
            folder.mkdir(exist_ok=True)
            created.append(folder)
    except OSError as error:
        raise _not_writable(final, error) from error
    return created


def _put_in_place(temporary: Path, target: Path, final: Path) -> None:
    """Rename the finished folder to ``target``; an older one steps aside until that worked."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        if target.exists():
            target.rename(old)
        try:
            temporary.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    except OSError as error:
        raise _not_writable(final, error) from error
    shutil.rmtree(old, ignore_errors=True)


def _not_writable(final: Path, error: OSError) -> LpaError:
    return LpaError(f"{final}: cannot be written ({error.strerror}); give another folder")


def _read_manifest(place: Path) -> dict[str, Any]:
    try:
        if place.stat().st_size > _MAX_MANIFEST_BYTES:
            raise LpaError(f"{place}: too large for a manifest; export the bundle again")
        manifest = json.loads(place.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise LpaError(f"{place}: not JSON ({error}); export the bundle again") from error
    except OSError as error:
        raise LpaError(f"{place}: cannot be read ({error.strerror})") from error
    if not isinstance(manifest, dict):
        raise LpaError(f"{place}: expected a JSON object; export the bundle again")
    return manifest


def _require_schema(manifest: dict[str, Any], place: Path) -> None:
    version = manifest.get("schema_version")
    if type(version) is not int or version < 1:
        raise LpaError(f"{place}: no 'schema_version', not a manifest of lpa-export")
    if version > SCHEMA_VERSION:
        raise LpaError(
            f"{place}: schema version {version} is newer than {SCHEMA_VERSION}; update lpa-export"
        )
    for key, kind in _REQUIRED.items():
        if type(manifest.get(key)) is not kind:
            raise LpaError(f"{place}: {key!r} must be {_JSON_NAMES[kind]}; export it again")
    for name, entry in manifest["files"].items():
        _require_inside(name, place)
        if not _is_file_entry(entry):
            raise LpaError(f"{place}: files: {name!r} needs 'sha256' and 'bytes'; export it again")
    for name in manifest["artifacts"]:
        if not isinstance(name, str) or not artifact_files(manifest, name):
            raise LpaError(f"{place}: artifact {name!r} is not among 'files'; export it again")


def _is_file_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    size, digest = entry.get("bytes"), entry.get("sha256")
    return type(size) is int and isinstance(digest, str) and bool(_SHA256.fullmatch(digest))


def _require_inside(name: str, place: Path) -> None:
    """Refuse names that are absolute, go up, or mean another thing on another system."""
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or set(name) & set("\\:\0"):
        raise LpaError(f"{place}: {name!r} does not name a file inside the bundle; do not trust it")


def _files_of(folder: Path) -> dict[str, Path]:
    """Every file below ``folder`` by its relative POSIX name, sorted."""
    files = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return dict(sorted((path.relative_to(folder).as_posix(), path) for path in files))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
