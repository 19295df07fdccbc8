"""Packages on disk: functions merged, taps hidden, metadata set, the same bytes each time."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

__all__ = ["finish_package", "merge_functions"]

_DATA = Path("Data/com.apple.CoreML")
_SPECIFICATION = _DATA / "model.mlmodel"
_MANIFEST = "Manifest.json"
# Only to derive names from: a package's own identifiers are random.
_NAMESPACE = uuid.UUID("6f1a9d5e-7d6b-4c7e-9f0e-6c7061657870")


def merge_functions(packages: Mapping[str, Path], merged: Path) -> None:
    """One package of several functions, {function: package with `main`}; equal weights are shared.

    The first function is the default one. iOS 18 and later. Call within `quiet`.
    """
    from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction

    descriptor = MultiFunctionDescriptor()
    for function, package in packages.items():
        descriptor.add_function(str(package), "main", function)
    descriptor.default_function_name = next(iter(packages))
    save_multifunction(descriptor, str(merged))


def finish_package(
    package: Path,
    final: Path,
    outputs: Collection[str],
    metadata: Mapping[str, str],
    *,
    whole: Collection[str] = (),
) -> None:
    """Move `package` to `final` with no outputs but `outputs` and with `metadata`.

    Hidden outputs stay in the program as values; functions among `whole` hide none. What
    coremltools says of the moment and the machine (dates, versions, random identifiers) goes; maps
    are written in sorted order.
    """
    import coremltools

    specification = coremltools.utils.load_spec(str(package))
    description = specification.description
    for described in (description, *description.functions):
        if getattr(described, "name", "") in whole:
            continue
        kept = [output for output in described.output if output.name in outputs]
        del described.output[:]
        described.output.extend(kept)
    for name, function in specification.mlProgram.functions.items():
        if name in whole:
            continue
        for block in function.block_specializations.values():
            block.outputs[:] = [output for output in block.outputs if output in outputs]
    description.metadata.userDefined.clear()
    description.metadata.userDefined.update(metadata)
    (final / _DATA).mkdir(parents=True)
    (final / _SPECIFICATION).write_bytes(specification.SerializeToString(deterministic=True))
    if (package / _DATA / "weights").is_dir():
        shutil.move(package / _DATA / "weights", final / _DATA / "weights")
    manifest = json.loads((package / _MANIFEST).read_text("utf-8"))
    # Just as coremltools writes it: it writes the file anew whenever it opens a package, and the
    # hash in the manifest of the bundle must hold after that.
    text = json.dumps(_named_by_path(manifest), indent=4, sort_keys=True)
    (final / _MANIFEST).write_text(text + "\n", "utf-8", newline="\n")
    shutil.rmtree(package)


def _named_by_path(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a package with identifiers that depend on nothing but the paths."""
    entries = manifest["itemInfoEntries"]
    names = {
        old: str(uuid.uuid5(_NAMESPACE, entry["path"])).upper() for old, entry in entries.items()
    }
    return manifest | {
        "itemInfoEntries": {names[old]: entry for old, entry in entries.items()},
        "rootModelIdentifier": names[manifest["rootModelIdentifier"]],
    }
