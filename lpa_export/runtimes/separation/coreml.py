"""A separator's Core ML packages through our evaluator: emulated, on any machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from lpa_export.errors import LpaError
from lpa_export.formats.separation_bundle import SeparatorBundle
from lpa_export.runtimes import THREADS, Array, Label
from lpa_export.runtimes.coreml.runner import torch_threads
from lpa_export.runtimes.separation.bucketed import BucketedSeparatorRunner

if TYPE_CHECKING:
    from lpa_export.formats.manifest import Bucket

__all__ = ["CoremlSeparatorRunner", "CoremlSeparatorRuntime"]


class CoremlSeparatorRuntime(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The manifest's ``runtime``: a package for each bucket, with one function."""

    deployment_target: str
    packages: tuple[str, ...]


class CoremlSeparatorRunner(BucketedSeparatorRunner):
    """The packages of a bundle, evaluated in float16 as the bundle's scheme asks, or float32.

    Raises ArtifactError for packages that do not open.
    """

    label: Label = "emulated"

    def __init__(self, bundle: SeparatorBundle, *, threads: int = THREADS) -> None:
        from lpa_export.runtimes.coreml import Arithmetic, Evaluator, load_package

        super().__init__(bundle.manifest)
        packages = bundle.runtime_as(CoremlSeparatorRuntime).packages
        if len(packages) != len(self._buckets) or {*packages} - {*bundle.manifest.artifacts}:
            raise LpaError(f"{bundle.path}: 'runtime' needs a package per bucket; export it again")
        exact = bundle.manifest.scheme.compute == "fp32"
        self._threads = threads
        self._packages = [load_package(bundle.path / name) for name in packages]
        self._evaluators = {
            bucket.samples: Evaluator(
                package, arithmetic=Arithmetic.FP32 if exact else Arithmetic.FP16
            )
            for bucket, package in zip(self._buckets, self._packages, strict=True)
        }

    @property
    def metadata(self) -> Mapping[str, str]:
        """What all packages say alike."""
        first, *others = [package.metadata for package in self._packages]
        return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}

    @property
    def values(self) -> frozenset[str]:
        """Values that every package has."""
        return frozenset.intersection(*(made.values for made in self._evaluators.values()))

    def call(
        self, bucket: Bucket, padded: Array, samples: int, *, taps: bool
    ) -> Mapping[str, Array]:
        """See `BucketedSeparatorRunner`."""
        evaluator = self._evaluators[bucket.samples]
        manifest = self.manifest
        frames = manifest.frames.count(samples)
        chunk = manifest.chunk
        every, own = (2 * ((count + chunk // 2) // chunk + 1) for count in (bucket.frames, frames))
        given = {
            "waveform": padded,
            "heard": _ones(samples, bucket.samples),
            "frames": _ones(frames, bucket.frames),
            "chunks": _ones(own, every),
        }
        wanted = [tap.tensor for tap in manifest.taps if tap.tensor in evaluator.values]
        with torch_threads(self._threads):
            return evaluator.run(given, taps=wanted if taps else [])


def _ones(valid: int, size: int) -> Array:
    """(1, size): ones, then zeros."""
    mask = np.zeros((1, size), np.float32)
    mask[:, :valid] = 1
    return mask
