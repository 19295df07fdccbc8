"""A separator in MLX's own runtime, in a process of its own."""

from collections.abc import Mapping

import numpy as np

from lpa_export.formats.manifest import Bucket
from lpa_export.formats.separation_bundle import SeparatorBundle
from lpa_export.runtimes import THREADS, Array, ArtifactError
from lpa_export.runtimes.mlx.opened import OpenFunctions
from lpa_export.runtimes.separation.bucketed import BucketedSeparatorRunner

__all__ = ["MlxSeparatorRunner"]


class MlxSeparatorRunner(OpenFunctions, BucketedSeparatorRunner):
    """The program of a bundle. Raises as `OpenFunctions` does."""

    def __init__(self, bundle: SeparatorBundle, *, threads: int = THREADS) -> None:
        OpenFunctions.__init__(self, bundle, threads=threads)
        BucketedSeparatorRunner.__init__(self, bundle.manifest)
        self._tensors = [tap.tensor for tap in self.manifest.taps]

    @property
    def values(self) -> frozenset[str]:
        """All taps can be read out."""
        return frozenset(self._tensors)

    def call(
        self, bucket: Bucket, padded: Array, samples: int, *, taps: bool
    ) -> Mapping[str, Array]:
        """See `BucketedSeparatorRunner`."""
        found = self.compute(padded, np.array([samples], np.int32), taps=taps)
        names = self._tensors if taps else ["sources"]
        if len(found) != len(names):
            raise ArtifactError(f"the program gives {len(found)} values, of {len(names)}")
        return dict(zip(names, found, strict=True))
