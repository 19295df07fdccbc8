"""Converted programs on their way into packages."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpa_export.environment import quiet
from lpa_export.targets.coreml.compress import compress
from lpa_export.targets.coreml.convert import Program
from lpa_export.targets.coreml.package import finish_package, merge_functions

if TYPE_CHECKING:
    from lpa_export.formats.manifest import Compression
    from lpa_export.formats.schemes import Scheme

__all__ = ["Packing"]


class Packing:
    """Compresses programs, gathers those of a package, and writes the packages into `folder`.

    `scopes`: "package/function" -> name of each value -> the torch module it comes from.
    `compression`: what was counted of each package; its functions share their weights.
    """

    def __init__(
        self, folder: Path, deployment_target: str, scheme: Scheme, metadata: Mapping[str, str]
    ) -> None:
        self.scopes: dict[str, Mapping[str, str]] = {}
        self.compression: dict[str, Compression] = {}
        self._folder = folder
        self._deployment_target = deployment_target
        self._scheme = scheme
        self._metadata = metadata
        self._parts: dict[str, dict[str, Path]] = {}

    @property
    def open_packages(self) -> tuple[str, ...]:
        """Packages that are not finished yet."""
        return tuple(self._parts)

    def convert(self, make: Callable[..., Program], *arguments: Any) -> Program:
        """What `make` of `programs` gives for this deployment target and scheme."""
        with quiet():
            return make(
                *arguments,
                deployment_target=self._deployment_target,
                half=self._scheme.compute != "fp32",
            )

    def add(self, package: str, function: str, program: Program) -> None:
        """Make `program` a function of `package`, its weights compressed."""
        parts = self._parts.setdefault(package, {})
        part = self._folder / f".{package}.{function}.mlpackage"
        with quiet():
            compressed = compress(program, self._scheme, self._deployment_target)
            compressed.model.save(str(part))
        self.compression.setdefault(package, compressed.share)
        parts[function] = part
        self.scopes[f"{package}/{function}"] = program.scopes

    def finish(
        self, package: str, outputs: Collection[str], *, whole: Collection[str] = ()
    ) -> None:
        """Write `package` with these outputs; several functions share their weights.

        Functions among `whole` keep all of theirs.
        """
        parts = self._parts.pop(package)
        merged = next(iter(parts.values()))
        with quiet():
            if list(parts) != ["main"]:
                merged = self._folder / f".{package}.merged.mlpackage"
                merge_functions(parts, merged)
            finish_package(merged, self._folder / package, outputs, self._metadata, whole=whole)
        for part in parts.values():
            shutil.rmtree(part, ignore_errors=True)
