"""Bundles: a folder that is written whole or not at all, and can prove that it is undamaged.

``manifest.json`` holds the SHA-256 and size of every other file. A bundle may come from anywhere,
so its paths are not trusted: none may lead out of its folder.
"""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from lpa_export.errors import LpaError
from lpa_export.formats.manifest import (
    MANIFEST,
    BundleManifest,
    FileEntry,
    Manifest,
    as_json,
    as_type,
    read_manifest,
    require_inside,
)

__all__ = [
    "BUILD",
    "REPORT",
    "UNFINISHED_REPORT",
    "AnyBundle",
    "Bundle",
    "OpenedBundle",
    "artifact_digest",
    "artifact_files",
    "artifacts_size",
    "damaged_files",
    "default_bundle",
    "manifest_place",
    "new_folder",
    "open_bundle",
    "replace_text",
    "require_sound",
    "write_manifest",
]

Section = TypeVar("Section")
Stated = TypeVar("Stated", bound=BundleManifest, covariant=True)

# Bytes: whoever stops for lack of room leaves less than this.
_NO_ROOM = 1 << 20

REPORT = "report.json"
UNFINISHED_REPORT = f".{REPORT}.new"
"""What a report is written as before it takes the place of the older one."""

BUILD = Path("build")
"""Where bundles go unless a command says otherwise: build/<model>/<target>."""


@dataclass(frozen=True)
class OpenedBundle(Generic[Stated]):
    """An opened bundle: its folder, and its manifest."""

    path: Path
    manifest: Stated

    def file(self, name: str) -> Path:
        """The path of a file of the bundle, ``name`` relative to its folder.

        Raises LpaError when ``name`` (or a link it names) leads out of the folder or nowhere.
        """
        require_inside(name, self.path / MANIFEST)
        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise LpaError(f"{path}: a link out of the bundle; put the file itself there")
        if not path.is_file():
            raise LpaError(f"{path}: missing from the bundle; export it again")
        return path

    def runtime_as(self, kind: type[Section]) -> Section:
        """The manifest's ``runtime`` as the struct that a target's runner reads it with.

        Raises LpaError when it is not what an export writes.
        """
        return as_type(self.manifest.runtime, kind, f"{self.path / MANIFEST}: 'runtime'")


Bundle = OpenedBundle[Manifest]
"""One that recognises speech."""

AnyBundle = OpenedBundle[BundleManifest]
"""One of any task."""


@contextmanager
def new_folder(final: Path | str, *, overwrite: bool, proof: str = MANIFEST) -> Iterator[Path]:
    """Give a temporary folder beside ``final`` that becomes ``final`` when the block succeeds.

    On any exception (Ctrl-C too) it is removed and what was there before stays. What a process
    that was killed outright left of the same folder is cleared first. With ``overwrite`` an older
    folder is replaced if it holds the file ``proof``, which shows that it is one of ours (a bundle
    by default); any other folder never is.

    Raises LpaError when ``final`` exists, cannot be written, or the disk is full.
    """
    final = Path(final)
    target = final.resolve()
    _clear_leftovers(target)
    _require_free(final, overwrite, proof)
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
    except BaseException as error:
        full = _is_full(error, temporary)
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in reversed(created):
            # Someone else may have put a file there meanwhile.
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError) and error.filename is None:
            # As of a write beyond `ulimit -f`: the folder at least is known.
            error.filename = str(final)
        if full:
            raise LpaError(
                f"{final}: the disk is full; nothing was written, make room or give a folder on "
                "another disk"
            ) from error
        raise


def write_manifest(folder: Path, manifest: BundleManifest) -> None:
    """Write ``manifest.json`` into ``folder``; call it last.

    Size and SHA-256 of every other file are put in. The same bundle gives the same bytes.
    """
    files = {
        name: FileEntry(bytes=path.stat().st_size, sha256=_sha256(path))
        for name, path in _files_of(folder).items()
        if name != MANIFEST
    }
    text = as_json(msgspec.structs.replace(manifest, files=files))
    (folder / MANIFEST).write_text(text, "utf-8", newline="\n")


def replace_text(bundle: AnyBundle, name: str, text: str) -> None:
    """Put another text in the place of a listed file, and what the manifest says of that file.

    Both are written beside the folder first. What else lies there is not looked at, and stays
    damaged or unlisted where it was. Raises OSError where nothing can be written.
    """
    folder, content = bundle.path.resolve(), text.encode()
    entry = FileEntry(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    manifest = msgspec.structs.replace(
        bundle.manifest, files={**bundle.manifest.files, name: entry}
    )
    written = {name: content, MANIFEST: as_json(manifest).encode()}
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    new.mkdir()
    try:
        for file, raw in written.items():
            (new / file).parent.mkdir(parents=True, exist_ok=True)
            (new / file).write_bytes(raw)
        for file in written:
            (new / file).replace(folder / file)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def open_bundle(path: Path | str) -> Bundle:
    """Open the recogniser's bundle in folder ``path``; its manifest's form is checked, not files.

    Raises LpaError for no folder, no or a damaged manifest, another schema or task, and file names
    that lead out of the folder.
    """
    path = Path(path)
    return Bundle(path, read_manifest(manifest_place(path)))


def manifest_place(path: Path) -> Path:
    """The manifest in a bundle's folder. Raises LpaError where there is none."""
    if not path.is_dir():
        raise LpaError(f"{path}: no such bundle folder; run lpa-export first, or check the path")
    place = path / MANIFEST
    if not place.is_file():
        raise LpaError(f"{path}: not a bundle, it has no {MANIFEST}; give a folder of lpa-export")
    return place


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


def artifact_digest(manifest: BundleManifest, name: str) -> str:
    """SHA-256 of an artifact: a file's own; of a folder, that of its lines "path sha256"."""
    files = artifact_files(manifest, name)
    if name in files:
        return files[name].sha256
    lines = "".join(f"{path} {entry.sha256}\n" for path, entry in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def artifact_files(manifest: BundleManifest, name: str) -> dict[str, FileEntry]:
    """The listed files of an artifact: the file of that name, or all files in that folder."""
    return {
        path: entry
        for path, entry in manifest.files.items()
        if path == name or path.startswith(f"{name}/")
    }


def artifacts_size(manifest: BundleManifest) -> int:
    """Bytes of all artifacts together."""
    return sum(
        entry.bytes
        for name in manifest.artifacts
        for entry in artifact_files(manifest, name).values()
    )


def damaged_files(bundle: AnyBundle) -> list[str]:
    """One line per missing, altered, truncated or unlisted file; empty for a sound bundle.

    ``report.json`` is written after export and may be there.
    """
    listed = bundle.manifest.files
    present = _files_of(bundle.path)
    problems = {name: _damage(bundle, name, entry) for name, entry in listed.items()}
    unlisted = present.keys() - listed.keys() - {MANIFEST, REPORT, UNFINISHED_REPORT}
    problems |= dict.fromkeys(unlisted, "not listed in the manifest")
    return [f"{name}: {problem}" for name, problem in sorted(problems.items()) if problem]


def require_sound(bundle: AnyBundle, target: str) -> None:
    """Raise LpaError for a bundle of another target or with files that are not as exported."""
    found = bundle.manifest.target
    if found != target:
        raise LpaError(f"{bundle.path}: a bundle for target {found!r}, expected {target!r}")
    if damaged := damaged_files(bundle):
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise LpaError(f"{bundle.path}: damaged: {damaged[0]}{more}; export the bundle again")


def _damage(bundle: AnyBundle, name: str, entry: FileEntry) -> str:
    """What is wrong with a listed file, empty when it is as it was written."""
    try:
        path = bundle.file(name)
        size = path.stat().st_size
        if size != entry.bytes:
            kind = "truncated" if size < entry.bytes else "altered"
            return f"{kind}, {entry.bytes} bytes expected, {size} found"
        digest = _sha256(path)
    except LpaError:
        return "a link out of the bundle" if (bundle.path / name).exists() else "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if digest != entry.sha256:
        return f"altered, SHA-256 {entry.sha256[:12]} expected, {digest[:12]} found"
    return ""


def _clear_leftovers(target: Path) -> None:
    """Remove what processes that are gone left of ``target``; an older folder goes back first.

    A process that was killed between its two renames left the older folder aside and none in
    place.
    """
    left = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.(new|old)")
    with suppress(OSError):
        for path in target.parent.iterdir():
            found = left.fullmatch(path.name)
            if not found or _is_alive(int(found[1])):
                continue
            if found[2] == "old" and not target.exists():
                path.rename(target)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    """Whether a process of that number runs; where that cannot be asked without harm, yes."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _is_full(error: BaseException, folder: Path) -> bool:
    """Whether a disk without room is behind an error: libraries say it in words of their own."""
    if isinstance(error, LpaError) or not isinstance(error, Exception):
        return False
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    try:
        return shutil.disk_usage(folder).free < _NO_ROOM
    except OSError:
        return False


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


def _files_of(folder: Path) -> dict[str, Path]:
    """Every file below ``folder`` by its relative POSIX name, sorted."""
    files = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return dict(sorted((path.relative_to(folder).as_posix(), path) for path in files))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
