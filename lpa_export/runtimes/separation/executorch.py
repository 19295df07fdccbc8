"""A separator in ExecuTorch's own runtime, in a process of its own."""

from collections.abc import Mapping

import numpy as np

from lpa_export.formats.manifest import Bucket
from lpa_export.formats.separation_bundle import SeparatorBundle
from lpa_export.runtimes import THREADS, Array, ArtifactError
from lpa_export.runtimes.executorch.opened import OpenProgram
from lpa_export.runtimes.separation.bucketed import BucketedSeparatorRunner

__all__ = ["ExecutorchSeparatorRunner"]


class ExecutorchSeparatorRunner(OpenProgram, BucketedSeparatorRunner):
    """The ``.pte`` of a bundle. Raises as `OpenProgram` does."""

    def __init__(self, bundle: SeparatorBundle, *, threads: int = THREADS) -> None:
        OpenProgram.__init__(self, bundle, threads=threads)
        BucketedSeparatorRunner.__init__(self, bundle.manifest)
        self._taps = self.runtime.taps_method
        if self._taps is None:
            raise ArtifactError("it has no method that gives the taps; export the bundle again")
        self._tensors = [tap.tensor for tap in self.manifest.taps]
        if len(self.program.method(self._taps).outputs) != len(self._tensors):
            raise ArtifactError(f"{self._taps} does not give the taps that the manifest names")

    @property
    def values(self) -> frozenset[str]:
        """All taps can be read out."""
        return frozenset(self._tensors)

    def tapped(self, waveform: Array) -> Bucket:
        """The longest: one method gives taps."""
        self._fitting(waveform)  # it may be too long or too short
        return self._buckets[-1]

    def call(
        self, bucket: Bucket, padded: Array, samples: int, *, taps: bool
    ) -> Mapping[str, Array]:
        """See `BucketedSeparatorRunner`."""
        lengths = np.array([samples], self.manifest.inputs[1].dtype)
        if taps:
            assert self._taps is not None
            found = self.compute(self._taps, [padded, lengths])
            return dict(zip(self._tensors, found, strict=True))
        method = self.runtime.methods[self._buckets.index(bucket)]
        return {"sources": self.compute(method, [padded, lengths])[0]}
