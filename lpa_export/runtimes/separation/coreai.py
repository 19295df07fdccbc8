"""A separator in Core AI's own interpreter, in a process of its own."""

from collections.abc import Mapping

import numpy as np

from lpa_export.formats.manifest import Bucket
from lpa_export.formats.separation_bundle import SeparatorBundle
from lpa_export.runtimes import THREADS, Array, ArtifactError
from lpa_export.runtimes.coreai.runner import WORKER
from lpa_export.runtimes.coreai.section import CoreaiRuntime, taps_of
from lpa_export.runtimes.process import Worker
from lpa_export.runtimes.separation.bucketed import BucketedSeparatorRunner

__all__ = ["CoreaiSeparatorRunner"]


class CoreaiSeparatorRunner(BucketedSeparatorRunner):
    """The program of a bundle. Raises ArtifactError when it does not open as what was written.

    ``threads`` are the interpreter's own: it has no setting for them.
    """

    def __init__(self, bundle: SeparatorBundle, *, threads: int = THREADS) -> None:
        super().__init__(bundle.manifest)
        program = bundle.runtime_as(CoreaiRuntime).program
        if program not in bundle.manifest.artifacts:
            raise ArtifactError(f"{program} is no artifact of the bundle; export it again")
        self._worker = Worker(WORKER)
        try:
            about, _ = self._worker.ask("open", path=str(bundle.path / program))
            wanted = {name for b in self._buckets for name in (b.program, taps_of(b))}
            if missing := sorted(wanted - set(about["functions"])):
                raise ArtifactError(f"it has no function {missing[0]}")
        except ArtifactError as error:
            raise ArtifactError(f"{program} does not open: {error}") from error
        self.metadata: Mapping[str, str] = about["metadata"]

    @property
    def values(self) -> frozenset[str]:
        """All taps can be read out."""
        return frozenset(tap.tensor for tap in self.manifest.taps)

    def call(
        self, bucket: Bucket, padded: Array, samples: int, *, taps: bool
    ) -> Mapping[str, Array]:
        """See `BucketedSeparatorRunner`."""
        function = taps_of(bucket) if taps else bucket.program
        outputs = [tap.tensor for tap in self.manifest.taps] if taps else ["sources"]
        given = [padded, np.array([samples], np.int32)]
        found = self._worker.ask("run", given, function=function, outputs=outputs)[1]
        return dict(zip(outputs, found, strict=True))
